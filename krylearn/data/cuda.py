"""Shards that are drawn, solved and verified on a CUDA device, and written meanwhile.

What the device does not draw itself is drawn and verified on the host, as there, and solved here.

A sample's bytes depend on its seed and on the kind of device. Its random numbers are not those of
the CPU: they are drawn on the device, by a generator of which a place can be asked for by itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import scipy.fft
import scipy.sparse as sp

import krylearn
from krylearn.choose import is_hermitian
from krylearn.cuda import arrays
from krylearn.data.layout import Layout
from krylearn.data.make import Maker, Outcome, moments
from krylearn.data.plan import Plan
from krylearn.data.store import Store
from krylearn.grid import Grid
from krylearn.problems import Problem
from krylearn.problems.fields import amplitudes

GENERATOR = "Philox 4x32-10"
# Streams of random numbers of a seed.
FIELD, SOURCE = 0, 1
# Most samples that a thread writes at a time, and shards that wait to be written.
WRITTEN, WAITING = 32, 3
# Fields of Darcy coefficients: tau, and what they become.
KINDS = {"lognormal": (3.0, "EXP"), "piecewise": (3.0, "TWO_VALUES"), "rough": (5.0, "TWO_VALUES")}


def check(plan: Plan) -> None:
    """Refuse what has no way over the device.

    Raises
    ------
    ValueError
        The message says what has, and what solves this one.
    NoCUDA
        If there is no device.
    """
    if plan.solver not in ("auto", "batch"):
        raise ValueError(f"on CUDA the solver is batch, not {plan.solver!r}; leave device out to "
                         "make it on the CPU")  # fmt: skip
    if not draws(plan):
        for P in plan.systems(0):
            _require_batched(plan.family, P.A)
    arrays.require_cuda()


def draws(plan: Plan) -> bool:
    """Return whether samples are drawn on the device, and not on the host."""
    options = plan.options
    return (plan.family == "darcy"
            and options.get("coefficient", "piecewise") in (*KINDS, "trigonometric")
            and options.get("rhs", "constant") in ("constant", "random")
            and options.get("variant", "conservative") == "conservative"
            and options.get("modes") is None)  # fmt: skip


def _require_batched(family: str, A: Any) -> None:
    """Refuse an operator that `solve_batch` does not take on the device."""
    if sp.issparse(A):
        why, solver = "a matrix in rows", "solve" if is_hermitian(A) else "direct"
    elif A.mask is not None:
        why, solver = "a grid with a mask", "batch" if A.symmetric else "direct"
    elif A.dtype.kind == "c" or not A.symmetric or (
        A.positive_definite is False and A.nullspace is None
    ):
        why, solver = "an operator that is complex, indefinite or not symmetric", "direct"
    else:
        return
    raise ValueError(f"{family} with these options has no way over CUDA, where real, symmetric, "
                     f"definite operators on whole grids have: it makes {why}; leave device out "
                     f"and take the solver {solver}")  # fmt: skip


def device_name(plan: Plan) -> str:
    """Return on what the bytes depend."""
    drawn = f"; {GENERATOR}" if draws(plan) else "; drawn on the CPU"
    if arrays.simulated():
        return f"Numba's simulator{drawn}"
    import importlib.metadata

    import torch

    found = torch.cuda.get_device_properties(torch.cuda.current_device()).name
    compiler = importlib.metadata.version("numba-cuda")
    return f"{found}; CUDA {torch.version.cuda}, numba-cuda {compiler}{drawn}"


def shard_of(plan: Plan) -> int:
    """Return how many samples are made together: enough for the device, some gigabytes at most."""
    size, most = int(np.prod(plan.grid or (1,))), 1024
    if not draws(plan):  # operators of a shard lie on the host, too
        size, most = 20 * sum(P.A.shape[0] for P in plan.systems(0)), 256
    return max(1, min(most, 2 * 10**8 // size, plan.samples))


def on_device(problems: list[Problem], rtol: float) -> list[np.ndarray]:
    """Solve systems that were drawn on the host: those on one grid together."""
    X, _ = krylearn.solve_batch([P.A for P in problems], np.stack([P.b for P in problems]),
                                rtol=rtol, device="cuda")  # fmt: skip
    return list(X)


class CudaMaker:
    """Makes shards of a plan on the device.

    Parameters
    ----------
    plan : Plan
        One that the device `draws`.
    layout : Layout
    """

    def __init__(self, plan: Plan, layout: Layout) -> None:
        self.plan, self.layout = plan, layout
        assert plan.grid is not None
        self.grid = Grid(plan.grid, centering="cell")
        self._kind = plan.options.get("coefficient", "piecewise")
        self._random = plan.options.get("rhs", "constant") == "random"
        if self._kind in KINDS:
            tau = KINDS[self._kind][0]
            self._amplitudes = arrays.upload(amplitudes(self.grid.shape, 2.0, tau).ravel())
            self._cosines = [
                arrays.upload(scipy.fft.idct(np.eye(n), norm="ortho", axis=0).T)
                for n in self.grid.shape
            ]
        self._repair = Maker(plan, layout, "batch")

    def draw(self, first: int, count: int) -> tuple[Any, Any]:
        """Return coefficients and right-hand sides of samples, (count, n) and (count or 1, n)."""
        from krylearn.kernels.cuda import fields

        grid, seed = self.grid, self.plan.seed + first
        c = arrays.empty((count, grid.size), np.float64, "the coefficients")
        if self._kind == "trigonometric":
            x, y = (arrays.upload(grid.coordinates(axis)) for axis in range(2))
            fields.trigonometric(seed, FIELD, 6, x, y, c)
        else:
            other = arrays.empty(c.shape, np.float64, "the fields")
            fields.normals(seed, FIELD, c)
            fields.scale(self._amplitudes, c)
            for axis, Q in enumerate(self._cosines):
                after = int(np.prod(grid.shape[axis + 1 :]))
                fields.transform(Q, after, c, other)
                c, other = other, c
            fields.turn(getattr(fields, KINDS[self._kind][1]), 3.0, 12.0, c)
        if not self._random:
            return c, arrays.upload(np.ones((1, grid.size)))
        b = arrays.empty(c.shape, np.float64, "the right-hand sides")
        fields.normals(seed, SOURCE, b)
        return c, b

    def make(self, shard: int) -> tuple[Outcome, Any]:
        """Make a shard; return what became of it, and what `write` takes."""
        from krylearn.cuda.batched import relative_residuals, solve_batch

        members = self.plan.members(shard)
        c, b = self.draw(members[0], len(members))
        X, _ = solve_batch(c, b, self.grid, self.plan.rtol, 0.0, 200, 1)
        residual = relative_residuals(c, b, X, self.grid)
        ready = None
        if not arrays.simulated():
            import torch

            ready = torch.cuda.Event()
            ready.record()
        c, b, X = map(arrays.shared, (c, b, X))
        return Outcome(shard, len(members)), (members[0], c, b, X, residual, ready)

    def write(self, made: Any, lo: int, hi: int, outcome: Outcome, store: Store) -> None:
        """Bring samples [lo, hi) of a shard to the host, and write them."""
        first, c, b, X, residual, ready = made
        shape = (hi - lo, *self.grid.shape)
        c, x = (_fetched(values[lo:hi], ready).reshape(shape) for values in (c, X))
        inputs = {"coefficient": c}
        if self._random:
            inputs["source"] = _fetched(b[lo:hi], ready).reshape(shape)
        kept: Any = (slice(None), *(slice(None, None, self.plan.stride),) * self.grid.ndim)
        rows: dict[str, Any] = {
            "seed": np.arange(self.plan.seed + first + lo, self.plan.seed + first + hi),
            "residual": residual[lo:hi].copy(), "valid": np.ones(hi - lo, np.uint8),
            "solution": x[kept].copy(),
        }  # fmt: skip
        rows |= {a.name: inputs[a.name.removeprefix("inputs/")][kept].copy()
                 for a in self.layout.inputs}  # fmt: skip
        for a in (*self.layout.inputs, self.layout.solution):
            name = f"statistics/{a.name.removeprefix('inputs/')}"
            rows[name] = np.array([moments(values) for values in rows[a.name]])
        for i in np.flatnonzero(~(rows["residual"] <= self.plan.rtol)):
            fields = {name: values[i] for name, values in inputs.items()}
            row = self._again(first + lo + int(i), fields, x[i], outcome)
            for name, value in row.items():
                rows[name][i] = value
        store.write(first + lo, rows)

    def _again(self, i: int, fields: dict[str, np.ndarray], x: np.ndarray,
               outcome: Outcome) -> dict[str, Any]:  # fmt: skip
        """Give a sample its second chance, on the CPU."""
        from krylearn.problems import darcy

        P = darcy(self.plan.grid, coefficient=fields["coefficient"],
                  rhs=fields.get("source", "constant"))  # fmt: skip
        return self._repair.row(i, [P], {id(P): x.ravel()}, outcome)


def _fetched(values: Any, ready: Any) -> np.ndarray:
    """Return a part of an array on the host, while the device goes on with its work."""
    if arrays.simulated():
        return np.array(values)
    import torch

    side = torch.cuda.Stream()
    side.wait_event(ready)
    with torch.cuda.stream(side):
        return values.cpu().numpy()


def run_shards(maker: CudaMaker, store: Store, shards: Iterable[int],
               threads: int) -> Iterator[Outcome]:  # fmt: skip
    """Make shards, write them in threads meanwhile, and yield what became of each.

    Raises
    ------
    OSError
        If a shard cannot be written: what was yielded is on the disk.
    """
    waiting: deque[tuple[Outcome, list[Future]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for shard in shards:
            outcome, made = maker.make(shard)
            waiting.append((outcome, [
                pool.submit(maker.write, made, lo, min(lo + WRITTEN, outcome.count), outcome, store)
                for lo in range(0, outcome.count, WRITTEN)
            ]))  # fmt: skip
            del made
            while len(waiting) > WAITING:
                yield _written(*waiting.popleft())
        while waiting:
            yield _written(*waiting.popleft())


def _written(outcome: Outcome, tasks: list[Future]) -> Outcome:
    for task in tasks:
        task.result()
    return outcome
