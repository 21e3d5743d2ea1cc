"""Levels whose coefficients are packed for the kernels from the start, and coarsened by them.

For real coefficients given point by point, without a mask: those of one operator, or of many that
lie side by side as lanes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from krylearn.grid.box import end
from krylearn.kernels import coarsening, multigrid
from krylearn.kernels.parallel import parallel_for
from krylearn.solvers.multigrid.axis import Axis, Transfer, identity
from krylearn.solvers.multigrid.levels import axes_of, split_sides, typical

SLOTS = {1: (2,), 2: (0, 2), 3: (0, 1, 2)}
# The inverse diagonal of a point that holds no value.
NOTHING = 1e-30
# Values that show what is typical.
SAMPLE = 4096
GRAIN = 16384


@dataclass
class Packed:
    """A level: rows of coefficients over all points, lanes last.

    Attributes
    ----------
    axes : list of Axis
    lanes : int
    coef : flat array
        The inverse diagonal, and the links along x, y and z.
    excess : flat array
        What the diagonal has beyond the links and the sides.
    sides : dict of (axis, side) to array
        What ties the points next to a Dirichlet side to it.
    scale : array or None
        Of the finest level: what the operator was divided by.
    """

    axes: list[Axis]
    lanes: int
    coef: np.ndarray
    excess: np.ndarray
    sides: dict[tuple[int, int], np.ndarray]
    scale: Any = None
    mask: None = field(default=None, init=False)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(axis.n for axis in self.axes)

    @property
    def geo(self) -> np.ndarray:
        """Sizes and wrapping axes, as the kernels want them."""
        geo = np.zeros(multigrid.FIELDS, np.uint64)
        geo[:3], geo[multigrid.LANES] = 1, self.lanes
        for axis, slot in zip(self.axes, SLOTS[len(self.axes)]):
            geo[slot], geo[multigrid.WRAPS + slot] = axis.n, bool(axis.period)
        geo[2] *= np.uint64(self.lanes)
        return geo

    @property
    def links(self) -> list[np.ndarray]:
        """The links along each axis."""
        rows = self.coef.reshape(4, *self.shape, self.lanes)
        return [rows[3 - slot] for slot in SLOTS[len(self.axes)]]

    def full_diagonal(self) -> np.ndarray:
        """Return the diagonal, in double precision: a singular operator stays singular."""
        diagonal = self.excess.reshape(*self.shape, self.lanes).astype(float)
        for d, k in enumerate(self.links):
            diagonal += k
            diagonal += np.roll(k, 1, d)
        for (d, side), tie in self.sides.items():
            diagonal[end(d, side)] += tie
        return diagonal

    def strengths(self) -> list[float]:
        """Return how strongly neighbours along each axis are typically coupled."""
        return [typical(values) for values in self.samples()]

    def samples(self) -> list[np.ndarray]:
        """Return for each axis some of the links along it and of the ties to its sides."""
        found = []
        for d, k in enumerate(self.links):
            step = stride_of(k.size)
            sides = [tie for (axis, _), tie in self.sides.items() if axis == d]
            found.append(np.concatenate([values.ravel()[::step] for values in (k, *sides)]))
        return found

    def rows(self) -> list[np.ndarray]:
        """Return the coefficients of the level, which lie behind each other."""
        return [self.coef]

    def rows_in(self, dtype: np.dtype) -> list[np.ndarray]:
        """Return the coefficients in a higher precision: the diagonal is the sum of the rest."""
        coef, diagonal = self.coef.astype(dtype), self.full_diagonal().ravel()
        coef[: diagonal.size] = np.divide(
            1, diagonal, out=np.full(diagonal.size, NOTHING), where=diagonal > 0
        )
        return [coef]

    def coarsen(self, axes: list[Axis], transfers: list[Transfer | None]) -> Packed:
        """Return the level on the coarse `axes`; None stands for an axis that stays."""
        n = self.lanes * int(np.prod([axis.n for axis in axes]))
        coef, excess = np.zeros(4 * n, self.coef.dtype), np.empty(n, self.coef.dtype)
        coarse = Packed(axes, self.lanes, coef, excess, {})
        geo = coarse.geo
        slots = SLOTS[len(axes)]
        tables: list[np.ndarray] = []
        for slot in range(3):
            if slot in slots:
                d = slots.index(slot)
                transfer = transfers[d]
                tables += (transfer or identity(axes[d].n)).tables
            else:
                tables += identity(1).tables
        self._share(coarsening.coarsen, int(geo[0]), geo, self.geo, geo[:3], *tables, self.coef,
                    self.excess, coef, excess)  # fmt: skip
        for (d, side), tie in self.sides.items():
            coarse.sides[d, side] = self._side(d, side, tie, transfers)
        held = excess.copy()
        view = held.reshape(*coarse.shape, self.lanes)
        for (d, side), tie in coarse.sides.items():
            view[end(d, side)] += tie
        self._share(coarsening.diagonal, int(geo[0]), geo, NOTHING, geo, held, coef)
        return coarse

    def _share(self, kernel: Any, planes: int, geo: np.ndarray, *arguments: Any) -> None:
        if self.lanes > 1:  # one of many groups that threads share
            kernel(0, planes, *arguments)
        else:
            grain = max(1, GRAIN // int(geo[1] * geo[2]))
            parallel_for(kernel, planes, grain, *arguments)

    def _side(self, axis: int, side: int, tie: np.ndarray, transfers: list) -> np.ndarray:
        """Return what ties the coarse points next to a side to it."""
        held = tie > 0
        resistance = np.divide(1, tie, out=np.zeros_like(tie), where=held)
        transfer = transfers[axis]
        if transfer is not None:
            way, links = transfer.sides[side], self.links[axis]
            resistance *= tie.dtype.type(transfer.stretch[side])
            for m in np.flatnonzero(way):
                layer = links[(slice(None),) * axis + (slice(m, m + 1),)]
                resistance += np.divide(way[m], layer, out=np.zeros_like(layer), where=layer > 0)
        total = np.divide(1, resistance, out=np.zeros_like(tie), where=held)
        for d, other in enumerate(transfers):
            if d != axis and other is not None:
                points, shares = (a.reshape(-1, 6) for a in other.tables[:2])
                total = np.moveaxis(total, d, 0)
                added = np.zeros((len(points), *total.shape[1:]), total.dtype)
                for s in range(points.shape[1]):
                    weight = shares[:, s].astype(total.dtype)
                    added += weight.reshape(-1, *(1,) * (total.ndim - 1)) * total[points[:, s]]
                total = np.moveaxis(added, 0, d)
        return total


def stride_of(n: int) -> int:
    """Return how many values are passed over between two of a sample; odd."""
    return max(1, n // SAMPLE | 1)


def packed(grid: Any, A: np.ndarray, lanes: int, dtype: Any, jumps: bool = False) -> Packed:
    """Return the finest level of operators on a grid.

    Parameters
    ----------
    grid : Grid
    A : flat array
        Rows as in `Packed`, but for the diagonal, which is itself; lanes last.
    lanes : int
    dtype : dtype
        Of the result.
    jumps : bool
        As in `Axis`.
    """
    n = lanes * grid.size
    axes = axes_of(grid, False, jumps)
    level = Packed(axes, lanes, np.empty(4 * n, dtype), np.empty(n, dtype), {})
    geo = level.geo
    diagonal = A[:n].reshape(-1, lanes)
    largest = diagonal.max(axis=0) if lanes > 1 else np.array([diagonal.max()])
    level.scale = np.where(largest > 0, largest, 1.0)
    unit = np.resize(1 / level.scale, int(geo[2]))
    eps = 64 * float(np.finfo(A.dtype).eps)
    level._share(coarsening.finest, int(geo[0]), geo, eps, NOTHING, geo, A, unit, level.coef,
                 level.excess)  # fmt: skip
    level.sides = split_sides(grid, level.excess.reshape(*grid.shape, lanes))
    return level


def rows_of(A: Any, out: np.ndarray, lane: int, lanes: int) -> None:
    """Write the entries of a grid operator into the lane of `out` that is its own."""
    stack = A._points()
    n = A.grid.size
    rows = out.reshape(4, -1)
    slots = SLOTS[A.grid.ndim]
    for row, values in zip((0, *(3 - slot for slot in slots)), stack):
        sign = float(1 if row == 0 else -1)
        coarsening.interleave(0, n, lane, lanes, sign, values.ravel(), rows[row])
