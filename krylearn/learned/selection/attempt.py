"""One configuration at work on one system, watched: time, progress, and whether it is true."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import scipy.sparse as sp

from krylearn import registry
from krylearn.interface import Reason, SolveInfo, time_limit
from krylearn.kernels.bandits import sums
from krylearn.kernels.vector import root
from krylearn.learned.selection.arms import Arm
from krylearn.learned.selection.held import Workshop
from krylearn.record import info_from

# Methods that carry a subspace.
_RECYCLING = ("gcrodr", "recycled_cg")
# Below this the rounding of sums is all there is of a dominance.
LEAST_DOMINANCE = 1e-5
# Unknowns of the system on which kernels are compiled before they are timed, and points along an
# axis; with multigrid, which must have levels.
_SMALL, _SMALL_AXES = 200, {1: 100, 2: 9, 3: 9}
_LARGER, _LARGER_AXES = 1500, {1: 1000, 2: 40, 3: 18}
_warmed: set[tuple] = set()
# Shares of a solve at which its course is noted.
POINTS = np.linspace(0.0, 1.0, 21)


class System:
    """A system to be solved, and what is known of it.

    Attributes
    ----------
    mark : tuple
        The same for the same A: sums over its entries, or of a product with it.
    dominance : float
        Logarithm of the share of the diagonal that is not made up for by the rest of a row, over
        all of A: what the smallest eigenvalue is near, where the entries off the diagonal are
        negative.
    """

    def __init__(self, A: Any, b: np.ndarray, x0: Any, settings: dict[str, Any],
                 solutions: list[np.ndarray]) -> None:  # fmt: skip
        self.A, self.b, self.settings = A, b, settings
        self.x0 = None if x0 is None else np.asarray(x0)
        self._solutions = solutions
        shape = b.shape if b.ndim == 1 or b.shape[1] > 1 else b.shape[:1]
        self._past = [x for x in solutions if x.shape == shape]

    @property
    def array(self) -> np.ndarray | None:
        """The array that A is made of, where there is one."""
        held = self.A.data if sp.issparse(self.A) else getattr(self.A, "_stack", self.A)
        return held if isinstance(held, np.ndarray) else None

    @property
    def entries(self) -> np.ndarray | None:
        """The numbers that A is made of, where they are to be had."""
        return None if self.array is None else self.array.ravel()

    @property
    def _varying(self) -> bool:
        """Whether A is a real stencil whose coefficients vary."""
        stack = getattr(self.A, "_stack", None)
        return (isinstance(stack, np.ndarray) and stack.dtype.kind == "f"
                and not self.A._constant)  # fmt: skip

    @cached_property
    def _rows(self) -> list[tuple[float, float]]:
        """Sums of squares, and sums, of each coefficient of a stencil over all points."""
        return [sums_of(row.ravel()) for row in self.A._stack]

    @cached_property
    def mark(self) -> tuple:
        with np.errstate(all="ignore"):
            if self._varying:
                squares, totals = zip(*self._rows)
                return (sum(squares), *totals)
            if self.entries is None:
                return sums_of(self.product(np.cos(np.arange(self.A.shape[1]))))
            where: tuple = ()
            if sp.issparse(self.A) and self.A.nnz:
                indices = self.A.indices
                where = (self.A.nnz, int(indices[-1]), int(indices[len(indices) // 2]))
            return (*sums_of(self.entries), *where)

    @cached_property
    def dominance(self) -> float:
        if hasattr(self.A, "grid"):
            if self._varying:
                each = [abs(total) for _, total in self._rows]
            else:
                stack = self.A._stack
                if self.A._constant:  # of a point that is not at a side
                    stack = stack[(slice(None), *(size // 2 for size in stack.shape[1:]))]
                each = [abs(float(row.sum().real)) for row in stack]
            twice = 2.0 if len(each) == self.A.grid.ndim + 1 else 1.0
            share = (each[0] - twice * sum(each[1:])) / (each[0] or 1.0)
        elif self.entries is None:
            return 0.0
        else:
            squared, total = self.mark[:2]
            share = abs(total) / (math.sqrt(squared * self.A.shape[0]) or 1.0)
        return math.log(max(abs(share), LEAST_DOMINANCE)) if math.isfinite(share) else 0.0

    def product(self, x: np.ndarray) -> np.ndarray:
        """Return ``A @ x``."""
        if sp.issparse(self.A) or isinstance(self.A, np.ndarray) or hasattr(self.A, "__matmul__"):
            return self.A @ x
        if x.ndim == 1:
            return np.asarray(self.A.matvec(x)).reshape(-1)
        return np.stack([np.asarray(self.A.matvec(c)).reshape(-1) for c in x.T], axis=1)

    def product_seconds(self) -> float:
        """Return what a product with A takes."""
        x = np.ones(self.A.shape[1], self.b.dtype if self.b.dtype.kind in "fc" else float)
        times = []
        for _ in range(3):
            began = time.perf_counter()
            self.product(x)
            times.append(time.perf_counter() - began)
        return min(times)

    @cached_property
    def norm(self) -> float:
        return _norm(self.b.ravel())

    def residual(self, x: np.ndarray) -> float:
        """Return the largest residual of a column over its tolerance; infinity where no number."""
        b = self.b.reshape(self.A.shape[0], -1)
        try:
            r = b - self.product(np.asarray(x)).reshape(b.shape)
        except (ValueError, TypeError):
            return math.inf
        with np.errstate(all="ignore"):
            # Squares of very small or large numbers would vanish, or be no numbers.
            unit = np.max(np.abs(b), axis=0, initial=0.0)
            unit = np.where(unit > 0, unit, 1.0)
            sizes = np.linalg.norm(r / unit, axis=0)
            bounds = np.maximum(self.settings["rtol"] * np.linalg.norm(b / unit, axis=0),
                                self.settings["atol"] / unit)  # fmt: skip
        if not np.isfinite(sizes).all():
            return math.inf
        return float(np.max(sizes / np.maximum(bounds, 1e-300), initial=0.0))

    def start(self, arm: Arm) -> Any:
        """Return the starting guess of an arm."""
        if arm.start == "given" or not self._past:
            return self.x0
        if arm.start == "previous" or len(self._past) < 2:
            return self._past[-1]
        return 2 * self._past[-1] - self._past[-2]

    def starts(self) -> list[str]:
        """Return the kinds of starting guess that there are."""
        return ["given", "previous", "extrapolated"][: 1 + len(self._past)]

    def start_norm(self, arm: Arm) -> float:
        """Return the residual norm of an arm's starting guess."""
        x0 = self.start(arm)
        if x0 is None:
            return self.norm
        r = self.b.reshape(-1) - np.asarray(self.product(x0)).reshape(-1)
        return _norm(r)


def _norm(values: np.ndarray) -> float:
    """Return the Euclidean norm, safe at all scales; BLAS would wake threads."""
    if values.dtype.char not in "fdFD":
        values = values.astype(complex if values.dtype.kind == "c" else float)
    return float(root(sums_of(values)[0], values))


def sums_of(values: np.ndarray) -> tuple[float, float]:
    """Return the sum of squares and the sum, of real and imaginary parts alike."""
    values = values.view(values.real.dtype) if values.dtype.kind == "c" else values
    if values.dtype.char not in "fd":
        values = values.astype(float)
    total, squared = sums(values)
    return squared, total


@dataclass
class Attempt:
    """What became of one attempt.

    Attributes
    ----------
    solved : bool
        The solution is there and true.
    undecided : bool
        It was stopped by the time limit.
    refused, indefinite : bool
        The method or the preconditioner does not take such systems; because A is indefinite.
    progress : float
        How far the logarithm of the residual had come towards the tolerance, from 0 to 1.
    start : str
        As in `Arm`.
    """

    arm: Arm
    x: np.ndarray | None = None
    info: SolveInfo | None = None
    setup_seconds: float = 0.0
    solve_seconds: float = 0.0
    solved: bool = False
    undecided: bool = False
    refused: bool = False
    indefinite: bool = False
    rnorm: float = math.inf
    progress: float = 0.0
    note: str = ""
    start: str = "given"

    @property
    def seconds(self) -> float:
        return self.setup_seconds + self.solve_seconds


def attempt(arm: Arm, system: System, workshop: Workshop, x0: Any, limit: float,
            pace: Sequence[float] | None = None) -> Attempt:  # fmt: skip
    """Let an arm work on a system for `limit` seconds at most, less if it lags as by `pace`."""
    one = Attempt(arm)
    began = time.perf_counter()
    try:
        options = dict(arm.options)
        if arm.precond:
            options["M"], _ = workshop.preconditioner(arm, system)
        if arm.method in _RECYCLING:
            options["recycle"] = workshop.space(arm)
        function = arm.call or registry.find("method", arm.method).load()
        one.setup_seconds = time.perf_counter() - began
        began = time.perf_counter()
        with time_limit(limit, pace), np.errstate(all="ignore"):
            x, info = function(system.A, system.b, x0=x0, **system.settings, **options)
        one.solve_seconds = time.perf_counter() - began
        _judge(one, system, x, info)
    except Exception as error:  # whatever an arm raises, the system will be solved by another
        spent = time.perf_counter() - began
        if one.setup_seconds:
            one.solve_seconds = spent
        else:
            one.setup_seconds = spent
        one.note = f"{type(error).__name__}: {error}".splitlines()[0][:80]
        one.refused = isinstance(error, (TypeError, ValueError, ImportError))
        workshop.forget(arm)
        return one
    if not (one.solved or one.undecided):
        workshop.forget(arm)
    return one


def _judge(one: Attempt, system: System, x: Any, info: Any) -> None:
    """Find out whether an answer is one."""
    ours = isinstance(info, SolveInfo) and one.arm.call is None
    if ours:
        one.x, one.info, one.rnorm = x, info, float(info.residual)
        one.solved = info.converged and info.reason is Reason.CONVERGED
        one.undecided = info.reason is Reason.TIME_LIMIT
        one.indefinite = info.reason is Reason.INDEFINITE
        one.note = info.reason.name.lower().replace("_", " ")
        first = float(info.residuals[0])
        goal = system.settings["rtol"] * system.norm
        least = float(info.residuals.min()) if one.undecided else 0.0
        if first > goal > 0 and 0 < least < first:
            one.progress = math.log(first / least) / math.log(first / goal)
        return
    x = np.asarray(x)
    shape = system.b.shape if system.b.ndim == 1 or system.b.shape[1] > 1 else system.b.shape[:1]
    if x.size != system.b.size or x.dtype.kind not in "biufc":
        one.note = "the answer is no vector of numbers"
        return
    one.x = np.array(x.reshape(shape))
    over = system.residual(one.x)
    one.rnorm = math.inf
    if math.isfinite(over):
        one.rnorm = _norm(system.b.ravel() - system.product(one.x).ravel())
    one.solved = over <= 1.0
    claimed = isinstance(info, (int, np.integer)) and info == 0
    one.note = "" if one.solved else "a wrong answer" if claimed else f"not converged ({info})"
    iterations = max(int(getattr(info, "iterations", 0)), 0)
    one.info = SolveInfo(
        Reason.CONVERGED if one.solved else Reason.MAXITER, iterations=iterations,
        matvecs=int(getattr(info, "matvecs", iterations)), precond_applies=0,
        residuals=np.array([one.rnorm]), residual=one.rnorm, setup_seconds=0.0,
        solve_seconds=one.solve_seconds, method=one.arm.method,
    )  # fmt: skip


def course_of(one: Attempt, goal: float) -> np.ndarray | None:
    """Return how far the logarithm of the least residual had come at each of the `POINTS`.

    None of a solve of few iterations, which has no course to speak of.
    """
    residuals = one.info.residuals if one.info is not None else np.empty(0)
    if len(residuals) <= len(POINTS) // 2 or not residuals[0] > goal > 0:
        return None
    least = np.maximum(np.minimum.accumulate(residuals), goal)
    done = np.log(residuals[0] / least) / math.log(residuals[0] / goal)
    return np.interp(POINTS * (len(residuals) - 1), np.arange(len(residuals)), done)


def join(tries: list[Attempt], why: str) -> SolveInfo:
    """Return one record of the attempts at a system, that of the last with everybody's work."""
    last = tries[-1]
    assert last.info is not None
    infos = [one.info for one in tries if one.info is not None]
    record = dict(last.info.__dict__)
    for count in ("iterations", "matvecs", "precond_applies"):
        record[count] = sum(getattr(info, count) for info in infos)
    if len(infos) > 1:
        histories = [info.residuals[:-1] for info in infos[:-1]]
        record["residuals"] = np.concatenate([*histories, last.info.residuals])
    record.update(
        setup_seconds=sum(one.setup_seconds for one in tries),
        solve_seconds=sum(one.solve_seconds for one in tries),
        method=_name(last.arm, last.start), choice=why,
    )  # fmt: skip
    return info_from(record)


@lru_cache(maxsize=256)
def _name(arm: Arm, start: str) -> str:
    return str(replace(arm, start=start))


def warm(arm: Arm, system: System) -> None:
    """Compile what an arm needs on a small system of the same kind, so as not to time that."""
    A, b = system.A, system.b
    levels = arm.precond in ("geometric_multigrid", "smoothed_aggregation", "classical_amg")
    kind = (getattr(A, "_constant", None), getattr(A, "symmetric", None))
    key = (arm.method, arm.precond, arm.options, type(A), *kind, A.dtype, b.dtype, b.shape[1:])
    if key in _warmed or arm.call is not None:
        return
    _warmed.add(key)
    if hasattr(A, "grid"):
        from krylearn.grid import Grid, GridOperator

        along = (_LARGER_AXES if levels else _SMALL_AXES)[A.grid.ndim]
        grid = Grid((along,) * A.grid.ndim)
        coefficient: Any = 1.0 if A._constant else np.linspace(1, 2, grid.size).reshape(grid.shape)
        small: Any = GridOperator.diffusion(grid, coefficient, dtype=A.dtype)
        if not A.symmetric:
            small = small + GridOperator.convection(grid, (1.0,) * A.grid.ndim, dtype=A.dtype)
    elif sp.issparse(A) or isinstance(A, np.ndarray):
        few = _LARGER if levels and sp.issparse(A) else _SMALL
        small = A[:few, :few]
    else:
        return
    with contextlib.suppress(Exception), np.errstate(all="ignore"), time_limit(5.0):
        options = dict(arm.options)
        if arm.precond:
            options["M"] = registry.preconditioner(arm.precond, small, **dict(arm.precond_options))
        rhs = np.ones((small.shape[0], *b.shape[1:]), b.dtype)
        registry.find("method", arm.method).load()(small, rhs, maxiter=5, **options)
        if arm.precond:
            options["M"].update(small)
