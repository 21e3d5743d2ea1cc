"""How the systems of a shard are solved, by name, and which name is fastest.

A solver here takes a list of problems and returns as many solutions. It may share work among
them, but keeps nothing from one call to the next that could change a bit of a later result: a
shard's bytes depend on the shard alone.
"""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp

import krylearn
from krylearn import registry
from krylearn.choose import is_hermitian
from krylearn.data.layout import same_matrices, same_matrix
from krylearn.kernels.vector import norm
from krylearn.problems import Problem

# What a solver does: problems and a tolerance in, solutions out, None for one that it refuses.
Solver = Callable[[list[Problem], float], list[Any]]

SHARED = {
    "batch": "multigrid-CG on all systems of a shard together (kl.solve_batch)",
    "recycle": "GCRO-DR that carries a deflation space along the sorted shard "
    "(kl.solve_sequence); recycle+ilu0 with a preconditioner",
    "solve": "what kl.solve chooses for each system",
}
# Iterations (cycles of the restarted methods) before a system counts as too hard for a method.
_LIMITS = {"gmres": 200, "fgmres": 200}
_LIMIT = 5000
# Samples that solvers are tried on; of large systems those that share nothing get fewer, until
# they have so many unknowns.
TRIAL, TRIAL_UNKNOWNS = 8, 2**19
# How much slower than the best a candidate may be on one system, to be tried on more: what is
# shared among systems does not save more than this.
HOPELESS = 8
# Operations a second that no sparse factorisation reaches on a core.
FASTEST = 2e10
# Unknowns up to which a factorisation is tried, but for grids of three axes.
DIRECT_LIMIT, DIRECT_LIMIT_3D = 400_000, 40_000


def find_solver(name: str) -> Solver:
    """Return the solver of a name: one of `SHARED`, or a method ``cg`` or ``cg+ic0``.

    Raises
    ------
    ValueError
        If there is no such method or preconditioner, or this installation lacks it.
    """
    if name == "batch":
        return _batch(_available("solve_batch", name))
    if name == "solve":
        return _each(krylearn.solve, {})
    match = re.fullmatch(r"(\w+)(?:\+(\w+))?", name)
    if match is None:
        raise ValueError(f"a solver is auto, {', '.join(SHARED)}, or METHOD+PRECONDITIONER; "
                         f"not {name!r}")  # fmt: skip
    method, precond = match.groups()
    if precond is not None:
        registry.find("preconditioner", precond)
    if method == "recycle":
        return _recycle(_available("solve_sequence", name), precond)
    try:
        function = registry.find("method", method).load()
    except ValueError as error:
        raise ValueError(f"{error}; or auto, {', '.join(SHARED)}") from None
    if precond is None and registry.find("method", method).direct:
        return Kept(method)
    settings: dict[str, Any] = {"maxiter": _LIMITS.get(method, _LIMIT)}
    if precond is not None:
        settings["M"] = precond
    return _each(function, settings)


def configuration(name: str) -> dict[str, Any]:
    """Return what there is to say about a solver, for the file."""
    method = name.split("+")[0]
    if method in SHARED:
        return {"what": SHARED[method], "sorted": method == "recycle"}
    if registry.find("method", method).direct:
        return {"what": f"kl.{method} and a step of refinement; a matrix that stays is kept"}
    return {"what": f"kl.{method} on each system", "maxiter": _LIMITS.get(method, _LIMIT)}


def shard_step(name: str) -> int:
    """Return the number of samples that a solver likes to have a multiple of."""
    return 8 if name == "batch" else 1  # systems that lie side by side in a register


def candidates(P: Problem) -> list[str]:
    """Return the solvers worth trying on problems like `P`, the likeliest first."""
    A = P.A
    if sp.issparse(A):
        symmetric = is_hermitian(A)
        definite = symmetric and bool(np.all(A.diagonal().real > 0))
    else:
        symmetric = bool(A.symmetric)
        definite = symmetric and A.positive_definite is not False
    if definite:
        names = ["fast_poisson", "batch", "direct", "solve", "cg+ic0"]
    elif symmetric and getattr(A, "nullspace", None) is not None:
        names = ["fast_poisson", "batch", "solve", "cg+ic0", "minres", "direct"]
    else:
        names = ["fast_poisson", "direct", "recycle+ilu0", "recycle", "solve", "gmres+ilu0"]
    if not factorable(P):
        names.remove("direct")
    if A.shape[0] > DIRECT_LIMIT:
        names = [name for name in names if name not in ("cg+ic0", "gmres+ilu0")]
    return names


def factorable(P: Problem) -> bool:
    """Return whether a sparse factorisation is worth trying."""
    deep = P.grid is not None and P.grid.ndim == 3
    return P.A.shape[0] <= (DIRECT_LIMIT_3D if deep else DIRECT_LIMIT)


def choose(problems: list[Problem], rtol: float, job: float = np.inf,
           say: Callable[[str], Any] = str) -> tuple[str, dict[str, float]]:  # fmt: skip
    """Return the name of the fastest solver, and the seconds a system of all that solved them.

    A later candidate must be a fifth faster than an earlier one, so that the choice does not
    hang on the noise of a clock. Trials end when they have cost a tenth of what the best so far
    would take for the whole job, `job` systems for each process; a candidate whose first system
    takes more than what is left of that is given up.
    """
    seconds: dict[str, float] = {}
    best, cost = "", 0.0
    for name in candidates(problems[0]):
        if best and cost > 0.1 * job * seconds[best]:
            break
        if best and _least(name, problems) > seconds[best]:
            continue
        say(f"trying {name}")
        try:
            solver = find_solver(name)
            tried = problems[:1]
            taken, _ = _timed(solver, tried, rtol)  # compiles; a factor that can be kept is
            if best and cost + taken > 0.1 * job * seconds[best]:
                cost += taken
                continue
            taken, xs = _timed(solver, tried, rtol)
            cost += 2 * taken
            if not best or taken < HOPELESS * seconds[best]:
                few = max(1, TRIAL_UNKNOWNS // problems[0].A.shape[0])
                tried = problems if name.split("+")[0] in ("batch", "recycle") else problems[:few]
                taken, xs = _timed(solver, tried, rtol)
                cost += taken * len(tried)
        except (ValueError, TypeError, ArithmeticError, MemoryError, RuntimeError):
            continue
        if all(residual(P, x) <= rtol for P, x in zip(tried, xs)):
            seconds[name] = taken
            if not best or taken < 0.8 * seconds[best]:
                best = name
    return best or "solve", seconds


def _least(name: str, problems: list[Problem]) -> float:
    """Return a bound from below of the seconds a system, where there is one.

    To factor the matrix of a plane grid of n points takes 829/84 n^(3/2) operations in the best of
    orderings (George, 1973, Nested dissection of a regular finite element mesh).
    """
    P = problems[0]
    if name != "direct" or P.grid is None or P.grid.ndim != 2:
        return 0.0
    if same_matrices(problems):
        return 0.0
    return 829 / 84 * P.A.shape[0] ** 1.5 / FASTEST


def _timed(solver: Solver, problems: list[Problem], rtol: float) -> tuple[float, list[Any]]:
    """Return the seconds a system, and the solutions."""
    started = time.perf_counter()
    xs = solver(problems, rtol)
    return (time.perf_counter() - started) / len(problems), xs


def residual(P: Problem, x: Any) -> float:
    """Return ``norm(b - A x) / norm(b)`` in float64; infinite where there is no x."""
    if x is None:
        return np.inf
    A, b = P.A, np.asarray(P.b)
    wide = np.result_type(A.dtype, b.dtype, x.dtype, np.float64)
    if A.dtype != np.result_type(A.dtype, np.float64):
        A = A.astype(np.result_type(A.dtype, np.float64))
    with np.errstate(all="ignore"):
        b = b.astype(wide, copy=False)
        r = b - A @ x.astype(wide, copy=False)
        scale = norm(b)
        value = float(norm(r) / scale if scale else norm(r))
    return value if np.isfinite(value) else np.inf


class Kept:
    """A direct solver with a step of iterative refinement.

    The inverse of the last matrix is kept: for the same matrix it is used again, and for another
    of the same pattern it is updated, which gives the bits that a new one would have.
    """

    def __init__(self, name: str) -> None:
        self._method = registry.find("method", name).load()
        self._make = registry.find("preconditioner", name).load()
        self._A: Any = None
        self._inverse: Any = None

    def __call__(self, problems: list[Problem], rtol: float) -> list[Any]:
        return [self._solve(P, rtol) for P in problems]

    def _solve(self, P: Problem, rtol: float) -> Any:
        A = P.A
        try:
            if self._A is None or not same_matrix(self._A, A):
                self._invert(A)
            with np.errstate(all="ignore"):
                x = self._inverse @ P.b
                return x + self._inverse @ (P.b - A @ x)
        except np.linalg.LinAlgError:  # singular: the method itself may know what to do
            return self._method(A, P.b, rtol=rtol)[0]

    def _invert(self, A: Any) -> None:
        old, self._A, self._inverse = self._inverse, None, None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                self._inverse = self._make(A) if old is None else old.update(A)
            except (ValueError, ArithmeticError):
                if old is None:
                    raise
                self._inverse = self._make(A)
        self._A = A


def _each(function: Callable, settings: dict[str, Any]) -> Solver:
    """Return a solver that calls a method for each system."""

    def run(problems: list[Problem], rtol: float) -> list[Any]:
        xs: list[Any] = []
        for P in problems:
            start = P.params.get("previous")
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    xs.append(function(P.A, P.b, start, rtol=rtol, **settings)[0])
            except (ValueError, ArithmeticError, np.linalg.LinAlgError):
                xs.append(None)
        return xs

    return run


def _batch(solve_batch: Callable) -> Solver:
    def run(problems: list[Problem], rtol: float) -> list[Any]:
        X, _ = solve_batch([P.A for P in problems], [P.b for P in problems], rtol=rtol)
        return list(X)

    return run


def _recycle(solve_sequence: Callable, precond: str | None) -> Solver:
    """Return a solver that begins each shard with an empty space."""

    def run(problems: list[Problem], rtol: float) -> list[Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            solved = solve_sequence(problems, method="gcrodr", sort=len(problems) > 1, rtol=rtol,
                                    M=precond, maxiter=_LIMIT)  # fmt: skip
            return [x for x, _ in solved]

    return run


def _available(name: str, solver: str) -> Callable:
    function = getattr(krylearn, name, None)
    if function is None:
        raise ValueError(f"the solver {solver!r} needs kl.{name}, which this version has not")
    return function
