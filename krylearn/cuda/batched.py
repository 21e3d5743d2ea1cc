"""`krylearn.solve_batch` on the device."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from krylearn.cuda import arrays
from krylearn.cuda.arrays import download, empty, lies_on_cuda, upload, zeros
from krylearn.cuda.levels import Levels, levels_of, shares_of, sides_of
from krylearn.grid import Grid, GridOperator
from krylearn.interface import Reason, SolveInfo
from krylearn.kernels.cuda import batched as kernels

# Axes are coarsened by how strong links along them are, in powers of two: so a system's levels do
# not depend on its company, and few systems of a batch have levels of their own.
EPS = 64 * float(np.finfo(float).eps)
REASONS = {
    kernels.CONVERGED: Reason.CONVERGED,
    kernels.MAXITER: Reason.MAXITER,
    kernels.STAGNATED: Reason.STAGNATED,
    kernels.INDEFINITE: Reason.INDEFINITE,
    kernels.INDEFINITE_M: Reason.INDEFINITE_M,
    kernels.NONFINITE: Reason.OVERFLOW,
}


class Records(Sequence):
    """The outcomes of a batch, each made when it is looked at.

    Attributes
    ----------
    iterations, residual : (m,) arrays
        Of all systems.
    converged : (m,) bool array
    seconds : float
        That the batch took, set-up included.
    """

    def __init__(self, outcome: np.ndarray, history: np.ndarray, seconds: float,
                 reasons: dict[int, Reason]) -> None:  # fmt: skip
        state = outcome[:, kernels.STATE].astype(int)
        self.converged = state == kernels.CONVERGED
        self.iterations = outcome[:, kernels.COUNT].astype(int)
        self.residual = outcome[:, kernels.NORM]
        self.seconds = seconds
        self._state, self._history, self._reasons = state, history, reasons

    def __len__(self) -> int:
        return len(self._state)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        i = range(len(self))[i]
        count = int(self.iterations[i])
        return SolveInfo(
            self._reasons.get(i, REASONS[int(self._state[i])]), iterations=count,
            matvecs=count + 1, precond_applies=count,
            residuals=self._history[i, : count + 1].copy(), residual=float(self.residual[i]),
            setup_seconds=0.0, solve_seconds=self.seconds / len(self), method="solve_batch",
        )  # fmt: skip

    def __iter__(self) -> Iterator[SolveInfo]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"<{len(self)} systems, {int(self.converged.sum())} converged>"


@arrays.naming_bytes()
def solve_batch(A: Any, b: Any, grid: Grid | None, rtol: float, atol: float, maxiter: int,
                sweeps: int) -> tuple[Any, Records]:  # fmt: skip
    """Do what `krylearn.solve_batch` does; its arguments are checked there.

    Raises
    ------
    NoCUDA
        If there is no device.
    """
    started = time.perf_counter()
    arrays.require_cuda()
    kind, grid, given = _operands(A, grid)
    m, n = given.shape[0], grid.size
    from_host = not lies_on_cuda(b)
    rhs = _rows(b, "b", m, n)
    X = empty((m, n), np.float64, "the solutions")
    outcome = empty((m, kernels.OUTCOMES), np.float64)
    history = empty((m, maxiter + 1), np.float64, "the histories of residuals (see maxiter)")
    held, wraps = sides_of(grid)
    common = (held, wraps, _nearer(grid), _squares(grid), upload(shares_of(grid)))
    for members, strengths in _alike(kind, grid, given, common):
        levels = levels_of(grid, strengths, kernels.SIZE)
        every = len(members) == m
        part: list[Any] = [given, rhs, X, outcome, history]
        if not every:
            part = [_take(a, members) if len(a) == m else a for a in (given, rhs)]
            part += [empty((len(members), a.shape[1]), np.float64) for a in (X, outcome, history)]
        _run(kind, grid, levels, common, part, rtol, atol, maxiter, sweeps)
        if not every:
            for whole, some in zip((X, outcome, history), part[2:]):
                _put(whole, members, some)
    ended = download(outcome)
    last = int(ended[:, kernels.COUNT].max(initial=0)) + 1
    past = arrays.shared(history)[:, :last]
    past = np.array(past) if arrays.simulated() else past.cpu().numpy()
    failed = np.flatnonzero(ended[:, kernels.STATE] == kernels.NONFINITE)
    reasons = {int(i): _diagnose(given[i], rhs[min(i, len(rhs) - 1)]) for i in failed}
    records = Records(ended, past, time.perf_counter() - started, reasons)
    if from_host:
        return download(X), records
    return arrays.in_the_kind_of(X, b), records


def relative_residuals(c: Any, b: Any, X: Any, grid: Grid) -> np.ndarray:
    """Return ``norm(b - A x) / norm(b)`` of each system, recomputed from its coefficient.

    Parameters
    ----------
    c, X : (m, n) arrays on the device
    b : (m, n) or (1, n) array on the device
    grid : Grid
    """
    m = c.shape[0]
    blocks = min(m, _blocks())
    held, wraps = sides_of(grid)
    levels = levels_of(grid, (0.0,) * grid.ndim, kernels.SIZE)
    room, out = empty((blocks, (4 + grid.ndim) * grid.size), float), empty((m, 2), float)
    kernels.run(
        kernels.residuals, blocks, kernels.COEFFICIENT, grid.ndim, _whole(levels.geo), held, wraps,
        _nearer(grid), _squares(grid), upload(shares_of(grid)), c, b, X, room, out,
    )  # fmt: skip
    norms = download(out)
    with np.errstate(all="ignore"):
        relative = norms[:, 0] / np.where(norms[:, 1] > 0, norms[:, 1], 1.0)
    return np.where(np.isfinite(relative), relative, np.inf)


def _nearer(grid: Grid) -> float:
    """Return how much nearer than a point a Dirichlet side is."""
    return 2.0 if grid.centering == "cell" else 1.0


def _operands(A: Any, grid: Grid | None) -> tuple[int, Grid, Any]:
    """Return what the values are, the grid, and the values of each system as a row."""
    if not isinstance(A, list | tuple) and hasattr(A, "shape") and hasattr(A, "dtype"):
        if grid is None:
            raise ValueError("coefficients need a grid")
        if tuple(A.shape[1:]) not in (grid.shape, (grid.size,)) or len(A.shape) < 2:
            raise ValueError(f"coefficients have shape {tuple(A.shape)}; (m, *{grid.shape}) is "
                             "needed")  # fmt: skip
        return kernels.COEFFICIENT, grid, _rows(A, "coefficients", len(A), grid.size, True)
    operators = [getattr(operator, "wrapped", operator) for operator in A]
    for operator in operators:
        if not isinstance(operator, GridOperator):
            raise TypeError(
                f"solve_batch takes operators on a grid, not {type(operator).__name__}"
            )
        grid = operator.grid if grid is None else grid
        if operator.grid != grid:
            raise ValueError("solve_batch needs operators on one grid")
        if operator.dtype.kind == "c" or not operator.symmetric:
            raise ValueError("solve_batch needs real symmetric operators; use solve for others")
        if operator.mask is not None:
            raise ValueError("solve_batch on CUDA takes no masks: leave device out")
    if grid is None:
        raise ValueError("no operator and no grid are given")
    rows = np.empty((len(operators), (1 + grid.ndim) * grid.size))
    for row, operator in zip(rows, operators):
        # Diagonal, then x before y before z.
        stack = operator._points()
        row.reshape(1 + grid.ndim, -1)[:] = np.concatenate([stack[:1], stack[:0:-1]]).reshape(
            1 + grid.ndim, -1
        )
    return kernels.ROWS, grid, upload(rows, what="the operators")


def _rows(values: Any, name: str, m: int, n: int, single: bool = False) -> Any:
    """Return an operand as rows of n on the device, in double precision or, if it may, single."""
    dtype = arrays.dtype_of(values) if hasattr(values, "dtype") else np.dtype(float)
    on_device = lies_on_cuda(values) and not arrays.simulated()
    if not on_device:
        values = getattr(values, "_ary", values)
        values = np.asarray(values)
        dtype = values.dtype
    if dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold real numbers, not {dtype}")
    wanted = np.dtype(np.float32 if single and dtype == np.float32 else np.float64)
    size = int(np.prod(values.shape))
    if size not in (n, m * n):
        raise ValueError(f"{name} has shape {tuple(values.shape)}; ({m}, {n}) is needed")
    shape = (size // n, n)
    if not on_device:
        return upload(values.reshape(shape).astype(wanted, copy=False))
    tensor = arrays.as_tensor(values).reshape(shape)
    return arrays.view(tensor.to(arrays.torch_dtype(wanted)).contiguous())


def _squares(grid: Grid) -> Any:
    return upload(np.array([1.0] * (3 - grid.ndim) + [h**2 for h in grid.spacing]))


def _alike(kind: int, grid: Grid, given: Any, common: tuple
           ) -> Iterator[tuple[np.ndarray, tuple[float, ...]]]:  # fmt: skip
    """Yield the systems whose axes are coupled alike, and how strongly."""
    m = given.shape[0]
    if grid.ndim == 1 or m == 0:
        if m:
            yield np.arange(m), (0.0,) * grid.ndim
        return
    levels = levels_of(grid, (0.0,) * grid.ndim, kernels.SIZE)
    blocks = min(m, _blocks())
    room = empty((blocks, (4 + grid.ndim) * grid.size), np.float64)
    out = empty((m, grid.ndim), np.float64)
    kernels.run(kernels.strengths, blocks, kind, grid.ndim, _whole(levels.geo), *common, given,
                room, out)  # fmt: skip
    strong = download(out)[:, ::-1]
    strong = np.clip(np.where(np.isfinite(strong), strong, -1e3), -1e3, 1e3)
    strong = np.round(strong - strong.max(axis=1, keepdims=True))
    kinds, which = np.unique(strong, axis=0, return_inverse=True)
    for number, row in enumerate(kinds):
        yield np.flatnonzero(which.ravel() == number), tuple(map(float, row))


def _run(kind: int, grid: Grid, levels: Levels, common: tuple, operands: list, rtol: float,
         atol: float, maxiter: int, sweeps: int) -> None:  # fmt: skip
    """Queue the solution of systems with the same levels."""
    given, rhs, X, outcome, history = operands
    n = grid.size
    blocks = min(given.shape[0], _blocks())
    what = "the room for the systems that are solved at a time"
    double = empty((blocks, (4 + grid.ndim) * n), np.float64, what)
    single = empty((blocks, 2 * levels.vectors + n + levels.coefs + levels.ties), np.float32, what)
    held, wraps, nearer, squares, shares = common
    kernels.run(
        kernels.solve_all, blocks, kind, grid.ndim, _whole(levels.geo), sweeps, held, wraps,
        nearer, squares, shares, EPS, _whole(levels.ints), upload(levels.floats), given, rhs, X,
        double, single, zeros(1, np.int64), rtol, atol, maxiter, outcome, history,
    )  # fmt: skip


def _blocks() -> int:
    """Return how many blocks the device has at work at a time."""
    if arrays.simulated():
        return 2
    import torch

    device = torch.cuda.get_device_properties(torch.cuda.current_device())
    return device.multi_processor_count * kernels.RESIDENT


def _whole(numbers: np.ndarray) -> Any:
    return upload(numbers.view(np.int32)).view(np.uint32)


def _take(array: Any, members: np.ndarray) -> Any:
    if arrays.simulated():
        return upload(array._ary[members])
    import torch

    return arrays.view(arrays.tensor_of(array)[torch.from_numpy(members).cuda()].contiguous())


def _put(array: Any, members: np.ndarray, values: Any) -> None:
    if arrays.simulated():
        array._ary[members] = values._ary
        return
    import torch

    arrays.tensor_of(array)[torch.from_numpy(members).cuda()] = arrays.tensor_of(values)


def _diagnose(values: Any, rhs: Any) -> Reason:
    """Return what was not finite."""
    if not np.isfinite(download(rhs)).all():
        return Reason.NONFINITE_RHS
    if not np.isfinite(download(values)).all():
        return Reason.NONFINITE_OPERATOR
    return Reason.OVERFLOW
