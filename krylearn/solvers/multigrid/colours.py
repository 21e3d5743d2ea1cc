"""Multigrid-CG on one plane grid, in the cache of a core: see `kernels.multigrid_colours`."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from krylearn.grid import Grid, GridOperator
from krylearn.interface import Reason, SolveInfo
from krylearn.kernels import multigrid_colours as kernels
from krylearn.kernels.simd import LANES
from krylearn.solvers.multigrid.axis import Axis, Transfer, coarsen, identity
from krylearn.solvers.multigrid.hierarchy import STRONG
from krylearn.solvers.multigrid.levels import axes_of

# Unknowns that are left to a dense inverse.
COARSEST = 16
# What the diagonal has beyond the couplings and is smaller is their rounding.
ROUNDING = 64 * float(np.finfo(float).eps)
_REASONS = {kernels.CONVERGED: Reason.CONVERGED, kernels.MAXITER: Reason.MAXITER}


@dataclass(frozen=True, eq=False)
class Colours:
    """Levels of a plane grid and their transfers.

    Attributes
    ----------
    levels : int64 array
        Columns as in the kernels.
    table : float32 array
    held : bool array
        Whether a side is a Dirichlet side; its number is 2 axis + side.
    size : int
        Length of a work vector.
    line : int
        Length of a scratch line.
    """

    levels: np.ndarray
    table: np.ndarray
    held: np.ndarray
    size: int
    line: int


@lru_cache(maxsize=64)
def colours(grid: Grid) -> Colours | None:
    """Return the levels of a grid; None where these kernels do not suit it."""
    if grid.ndim != 2 or any(grid.periodic):
        return None
    axes = axes_of(grid, False)
    levels: list[np.ndarray] = []
    tables: list[np.ndarray] = []
    start = length = 0
    while True:
        ny, nx = (axis.n for axis in axes)
        level = np.zeros(kernels.COLUMNS, np.int64)
        half = -(-nx // 2)
        width = LANES * (half // LANES + 1)
        plane = (ny + 2) * width
        level[[kernels.NY, kernels.NX, kernels.WIDTH, kernels.PLANE]] = ny, nx, width, plane
        level[kernels.START], level[kernels.STOP] = start + LANES, LANES * -(-half // LANES)
        start += (kernels.PLANES if levels else kernels.PLANES_FINEST) * plane
        levels.append(level)
        if ny * nx <= COARSEST:
            break
        for d, column in ((0, kernels.TABLE_Y), (1, kernels.TABLE_X)):
            axis = axes[d]
            axes[d], transfer = coarsen(axis) if axis.coarsens else (axis, identity(axis.n))
            table = _table(axis, transfer)
            if table is None:
                return None
            level[column] = length
            tables.append(table)
            length += len(table)
    held = [side == "dirichlet" for pair in grid.boundary for side in pair]
    return Colours(np.array(levels), np.concatenate([*tables, np.zeros(1, np.float32)]),
                   np.array(held), start + 2 * LANES, kernels.stride_of(grid.shape[1]))  # fmt: skip


def _table(axis: Axis, transfer: Transfer) -> np.ndarray | None:
    """Return the rows of an axis; None where it does not pair its points two by two."""
    n = axis.n
    rows = np.zeros((kernels.ROWS, kernels.stride_of(n)), np.float32)
    inside = rows[:, kernels.MARGIN :]
    for matrix, first in ((transfer.matrix(), kernels.WEIGHTS),
                          (transfer.share.T, kernels.SHARES)):  # fmt: skip
        entries = matrix.tocoo()
        for i, m, value in zip(entries.row, entries.col, entries.data):
            place = m - i // 2 + 1 - i % 2
            if value and place not in (0, 1):
                return None
            if value:
                inside[first + 2 * (i % 2) + place, i // 2] += value
    if n > 1:
        entries = transfer.along.tocoo()
        for m, link, value in zip(entries.row, entries.col, entries.data):
            place = link - 2 * m
            if value and not 0 <= place < 4:
                return None
            if value:
                inside[kernels.PARTS + place, m] = value
    for side, way in enumerate(transfer.sides):
        end = 0 if side == 0 else n - 2
        if np.any(np.delete(way, end)) if n > 1 else np.any(way):
            return None
        inside[kernels.WAYS, side] = way[end] if n > 1 else 0
    return rows.ravel()


class _Room(threading.local):
    """Work arrays of a thread, from one system to the next."""

    plan: Colours | None = None

    def get(self, plan: Colours) -> tuple[np.ndarray, ...]:
        if self.plan is not plan:
            self.plan = plan
            ny, nx = (int(n) for n in plan.levels[0, :2])
            self.arrays = (
                _aligned(plan.size), _aligned(5 * plan.line + 2 * kernels.MARGIN),
                np.zeros((2, 4, max(ny, nx)), np.float32), np.zeros(COARSEST**2, np.float32),
            )  # fmt: skip
        return self.arrays

    def clear(self) -> None:
        """Forget NaN, which padding must not hold."""
        for array in self.arrays:
            array.fill(0)


_room = _Room()


def _aligned(n: int) -> np.ndarray:
    """Return zeros that begin where a line of the cache does."""
    held = np.zeros(n + 16, np.float32)
    start = -held.ctypes.data % 64 // 4
    return held[start : start + n]


def solve_one(A: GridOperator, b: np.ndarray, x: np.ndarray, rtol: float, atol: float,
              maxiter: int) -> SolveInfo | None:  # fmt: skip
    """Solve ``A x = b`` into x; return None where that did not work, and another method must.

    Parameters
    ----------
    A : GridOperator
        Real and symmetric, on a grid that `colours` takes.
    b, x : (n,) arrays
        x is a contiguous float64 array.
    rtol, atol, maxiter
        As for `solve_batch`.
    """
    if A.mask is not None:
        return None
    started = time.perf_counter()
    plan = colours(A.grid)
    assert plan is not None
    entries = _plain(A._points()).reshape(3, -1)
    b = _plain(b)
    a, lines, ties, dense = _room.get(plan)
    scale = kernels.prepare(plan.levels, plan.table, *entries, a, lines, ties, dense, plan.held,
                            ROUNDING, STRONG)  # fmt: skip
    setup = time.perf_counter() - started
    state, count, checks = kernels.FAILED, 0, 0
    if scale > 0:
        history = np.empty(maxiter + 1)
        state, count, checks = kernels.solve(
            plan.levels, plan.table, scale, *entries, b, x, a, lines, dense, rtol, atol, maxiter,
            history,
        )  # fmt: skip
    if state == kernels.FAILED:
        _room.clear()
        return None
    return SolveInfo(
        _REASONS[state], iterations=count, matvecs=count + checks, precond_applies=count,
        residuals=history[: count + 1].copy(), residual=float(history[count]),
        setup_seconds=setup, solve_seconds=0.0, method="solve_batch",
    )  # fmt: skip


def _plain(values: np.ndarray) -> np.ndarray:
    """Return an array as the kernels are compiled for: float64, contiguous, writeable."""
    return np.require(values, np.float64, ("C", "W"))
