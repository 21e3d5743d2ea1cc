"""The levels of a box for the kernels of `krylearn.kernels.cuda.box`: sizes, offsets, tables.

They depend on the grid and on which axes are coarsened, not on the systems.

The tables of an axis of n points and m coarse ones, whole numbers and weights alike in one array
each: parents (2 x n), children (6 x m), shares of control volumes (6 x m), fine links along a
coarse one (5 x m; of the weights then whether they cross, 5 x m), and the fine links between the
first (last) coarse point and its side (2 x 3; of the weights then how much longer the way to the
side is, 2). Threads side by side read what lies side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from krylearn.grid import Grid
from krylearn.kernels.cuda import box
from krylearn.solvers.multigrid.axis import Transfer, coarsen, identity
from krylearn.solvers.multigrid.hierarchy import STRONG
from krylearn.solvers.multigrid.levels import axes_of


@dataclass(frozen=True, eq=False)
class Levels:
    """What the kernels read of a hierarchy.

    Attributes
    ----------
    geo : (levels, FIELDS) uint32 array
    ints, floats : uint32 and float32 arrays
        The tables.
    vectors, coefs, ties : int
        Values of a vector over all levels, of the coefficients, and of the ties to sides.
    """

    geo: np.ndarray
    ints: np.ndarray
    floats: np.ndarray
    vectors: int
    coefs: int
    ties: int


@lru_cache(maxsize=64)
def levels_of(grid: Grid, strengths: tuple[float, ...], threads: int) -> Levels:
    """Return the levels of a grid down to a single point.

    Parameters
    ----------
    grid : Grid
    strengths : tuple of float
        How strongly neighbours along each axis are coupled: logarithms to the base 2.
    threads : int
        Of a block.
    """
    axes, strong = axes_of(grid, False), np.array(strengths, float)
    rows, ints, floats = [], Tables(np.uint32), Tables(np.float32)
    vectors = coefs = ties = 0
    while True:
        able = np.array([axis.coarsens for axis in axes])
        transfers: list[Transfer | None] = [None] * len(axes)
        if able.any():
            chosen = able & (strong >= strong[able].max() + np.log2(STRONG))
            # A link twice as long is half as strong; beside, two lie in parallel.
            strong = strong + chosen.sum() - 2 * chosen
            made = [coarsen(axis) if yes else (axis, None) for axis, yes in zip(axes, chosen)]
            coarser = [axis for axis, _ in made]
            transfers = [transfer for _, transfer in made]
        n = [1] * (3 - len(axes)) + [axis.n for axis in axes]
        row = np.zeros(box.FIELDS, np.int64)
        row[:3], row[box.VECTOR], row[box.COEF], row[box.TIES] = n, vectors, coefs, ties
        row[box.ODD] = sum(
            4 >> (3 - len(axes) + d) for d, axis in enumerate(axes) if axis.period and axis.n % 2
        )
        row[box.FAST] = row[box.ODD] == 0
        row[box.POINTS], row[box.PAIRS] = _wide(n[2], threads), _wide(-(-n[2] // 2), threads)
        if able.any():
            for slot, size in enumerate(n):
                transfer = transfers[slot - 3] if slot >= 3 - len(axes) else None
                row[box.INTS + slot], row[box.FLOATS + slot] = ints.length, floats.length
                tabulate(transfer or identity(size), ints, floats, row, slot)
        rows.append(row)
        vectors += int(np.prod(n))
        coefs += (1 + len(axes)) * int(np.prod(n))
        ties += 2 * (n[0] * n[1] + n[0] * n[2] + n[1] * n[2])
        if not able.any():
            break
        axes = coarser
    if max(vectors, coefs, ties) >= 2**32:
        raise ValueError(f"a grid of {grid.size:,} points is too large for this")
    return Levels(np.array(rows, np.uint32), ints.array(), floats.array(), vectors, coefs + 3, ties)


class Tables:
    """Collects tables."""

    def __init__(self, dtype: type) -> None:
        self.dtype, self.parts, self.length = dtype, list[np.ndarray](), 0

    def add(self, *tables: np.ndarray) -> None:
        for table in tables:
            self.parts.append(np.asarray(table, self.dtype).ravel())
            self.length += table.size

    def array(self) -> np.ndarray:
        return np.concatenate([*self.parts, np.zeros(1, self.dtype)])


def tabulate(transfer: Transfer, ints: Tables, floats: Tables, row: np.ndarray,
              slot: int) -> None:  # fmt: skip
    """Write the tables of an axis, and into `row` how many entries of them are in use."""
    points, shares, links, parts, cross = transfer.tables
    used = [
        (box.PARENTS, transfer.weights), (box.CHILDREN, transfer.back),
        (box.SHARES, shares.reshape(-1, box.SIX)), (box.LINKS, parts.reshape(-1, box.FIVE)),
    ]  # fmt: skip
    for field, weights in used:
        row[field + slot] = np.flatnonzero(weights.any(axis=0)).max(initial=0) + 1
    places, ways = np.zeros((2, box.WAYS), np.int64), np.zeros((2, box.WAYS))
    for side, way in enumerate(transfer.sides):
        found = np.flatnonzero(way)
        assert len(found) <= box.WAYS
        places[side, : len(found)], ways[side, : len(found)] = found, way[found]
    points, shares = points.reshape(-1, box.SIX), shares.reshape(-1, box.SIX)
    links, parts, cross = (a.reshape(-1, box.FIVE) for a in (links, parts, cross))
    ints.add(transfer.parents.T, transfer.children.T, points.T, links.T, places)
    floats.add(transfer.weights.T, transfer.back.T, shares.T, parts.T, cross.T, ways,
               np.array(transfer.stretch))


def _wide(points: int, threads: int) -> int:
    """Return the power of two that covers a line, or all threads, as its exponent."""
    return min(max(0, (points - 1).bit_length()), threads.bit_length() - 1)


def sides_of(grid: Grid) -> tuple[int, int]:
    """Return as bits, of x first: Dirichlet sides, two an axis; axes that close on themselves."""
    held = wraps = 0
    for axis, pair in enumerate(reversed(grid.boundary)):
        for side, condition in enumerate(pair):
            held |= (condition == "dirichlet") << (2 * axis + side)
        wraps |= (pair[0] == "periodic") << axis
    return held, wraps


def shares_of(grid: Grid) -> np.ndarray:
    """Return the shares of control volumes along z, y and x, one array behind the other."""
    parts = [np.ones(1)] * (3 - grid.ndim)
    for n, pair in zip(grid.shape, grid.boundary):
        share = np.ones(n)
        for side, condition in enumerate(pair):
            if grid.centering == "node" and condition == "neumann":
                share[-side] *= 0.5
        parts.append(share)
    return np.concatenate(parts)


