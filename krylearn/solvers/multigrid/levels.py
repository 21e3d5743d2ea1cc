"""The operator of a grid level as conductances, and the same on the next coarser level.

A coarse link takes the fine ones that it runs along in series, and those beside them in
parallel: harmonic means along a flux, arithmetic across. On a uniform grid this is the
discretisation with twice the spacing, times the volume.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from krylearn.grid.box import end, weights
from krylearn.grid.discretise import few, with_lower
from krylearn.solvers.multigrid.axis import Axis, Transfer


@dataclass
class Separable:
    """Links, volumes and sides of each axis; the operator is made of their products.

    ``sum over axes of K_d x W x W + reaction W x W x W``, K_d being one-dimensional.

    Attributes
    ----------
    axes : list of Axis
    links : list of (n,) arrays
        Between i and i + 1; the last one around a ring, or 0.
    ends : list of (low, high)
        What ties the end points to a Dirichlet side.
    reaction : float
    """

    axes: list[Axis]
    links: list[np.ndarray]
    ends: list[tuple[float, float]]
    reaction: float
    lanes: int = 1

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(axis.n for axis in self.axes)

    def _first_alike(self) -> list[int]:
        """Return for each axis the first one that has the same links, ends and widths."""
        return [
            next(c for c in range(d + 1) if self.links[c] is self.links[d]
                 and self.ends[c] == self.ends[d] and self.axes[c] is self.axes[d])
            for d in range(len(self.axes))
        ]  # fmt: skip

    def _for_each(self, of: Callable[[int], Any]) -> list[Any]:
        """Return what `of` gives for each axis; it is asked once for axes that are alike."""
        found: list[Any] = []
        for d, c in enumerate(self._first_alike()):
            found.append(of(d) if c == d else found[c])
        return found

    def strengths(self) -> list[float]:
        """Return how strongly neighbours along each axis are coupled, but for a common factor."""
        return self._for_each(lambda d: typical(np.append(self.links[d], self.ends[d]))
                              / _median(self.axes[d].width))  # fmt: skip

    def volume(self, skip: int = -1) -> np.ndarray:
        """Return the products of the widths of all axes, or of all but one."""
        product = np.ones(self.shape)
        for d, axis in enumerate(self.axes):
            if d != skip:
                product *= shaped(axis.width, d, len(self.axes))
        return product

    def diagonals(self) -> list[np.ndarray]:
        """Return the diagonal of each K_d."""
        def diagonal(d: int) -> np.ndarray:
            k, e = self.links[d], self.ends[d]
            return _diagonal(k, e) if len(k) > 1 else np.array([float(sum(e))])

        return self._for_each(diagonal)

    def coarsen(self, axes: list[Axis], transfers: list[Transfer | None]) -> Separable:
        """Return the level on the coarse `axes`; None stands for an axis that stays."""
        def coarse(d: int) -> tuple[np.ndarray, tuple[float, float]]:
            k, e, transfer = self.links[d], self.ends[d], transfers[d]
            if transfer is None:
                return k, e
            resistance = _inverse(k)
            low, high = (
                1 / (1 / value + side @ resistance) if value else 0.0
                for value, side in zip(e, transfer.sides)
            )
            return _inverse(transfer.along @ resistance), (low, high)

        # Axes that are alike are coarsened alike, or not at all, unless a pattern says otherwise.
        same = all(transfers[d] is transfers[c] for d, c in enumerate(self._first_alike()))
        made = self._for_each(coarse) if same else [coarse(d) for d in range(len(axes))]
        return Separable(axes, [k for k, _ in made], [e for _, e in made], self.reaction)


@dataclass
class Variable:
    """Links and diagonals given point by point.

    Attributes
    ----------
    axes : list of Axis
    links : list of arrays of the level's shape, or with one more axis of lanes
        ``-A[i, i + e]`` for each axis.
    reaction : array
        What the diagonal has beyond the links and the sides.
    sides : dict of (axis, side) to array
        What ties the points next to a Dirichlet side to it.
    mask : bool array or None
    diagonal : array, optional
        That of the finest level, where it is not the sum of the rest.
    lanes : int
        Systems that lie side by side.
    """

    axes: list[Axis]
    links: list[np.ndarray]
    reaction: np.ndarray
    sides: dict[tuple[int, int], np.ndarray]
    mask: np.ndarray | None = None
    diagonal: np.ndarray | None = None
    lanes: int = 1

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(axis.n for axis in self.axes)

    def strengths(self) -> list[float]:
        """Return how strongly neighbours along each axis are typically coupled."""
        strong = []
        for d, k in enumerate(self.links):
            ties = [self.sides[key].ravel() for key in self.sides if key[0] == d]
            strong.append(typical(np.concatenate([np.abs(k).ravel(), *ties])))
        return strong

    def full_diagonal(self) -> np.ndarray:
        """Return the diagonal, zero at points that hold no value."""
        if self.diagonal is not None:
            return self.diagonal
        diagonal = self.reaction.copy()
        for d, k in enumerate(self.links):
            if self.axes[d].n > 1:
                diagonal += np.abs(k)
                diagonal += np.abs(np.roll(k, 1, d))
        for (axis, side), tie in self.sides.items():
            diagonal[end(axis, side)] += tie
        return diagonal

    def coarsen(self, axes: list[Axis], transfers: list[Transfer | None]) -> Variable:
        """Return the level on the coarse `axes`; None stands for an axis that stays."""
        def total(values: np.ndarray, skip: int = -1) -> np.ndarray:
            for d, transfer in enumerate(transfers):
                if transfer is not None and d != skip:
                    values = along(transfer.share, values, d)
            return values

        links: list[np.ndarray] = []
        sides: dict[tuple[int, int], np.ndarray] = {}
        for d, (k, transfer) in enumerate(zip(self.links, transfers)):
            k = np.abs(k)
            if transfer is not None:
                resistance = _inverse(k)
                for side in (0, 1):
                    if (d, side) in self.sides:
                        tie = self.sides[d, side]
                        way = along(sp.csr_array(transfer.sides[side][None]), resistance, d)
                        series = transfer.stretch[side] * _inverse(tie) + way
                        # What is not tied on the fine level is not on the coarse one.
                        sides[d, side] = total(np.where(tie > 0, _inverse(series), 0), d)
                series = along(transfer.along, resistance, d)
                # A closed link between coarse points closes theirs; one within them does not.
                closed = along(transfer.crossing, np.asarray(k == 0, k.dtype), d)
                k = np.where(closed == 0, _inverse(series), 0)
            else:
                sides.update({
                    (d, side): total(self.sides[d, side], d)
                    for side in (0, 1) if (d, side) in self.sides
                })  # fmt: skip
            links.append(total(k, d))
        mask = None
        if self.mask is not None:
            mask = total(self.mask.astype(links[0].dtype)) > 0
            mask = None if mask.all() else mask
        return Variable(axes, links, total(self.reaction), sides, mask, None, self.lanes)


def along(matrix: Any, values: np.ndarray, axis: int) -> np.ndarray:
    """Return the product of a sparse matrix with `values` along an axis."""
    matrix = matrix.astype(values.real.dtype)
    if axis == 0:
        return (matrix @ values.reshape(len(values), -1)).reshape(-1, *values.shape[1:])
    moved = np.moveaxis(values, axis, 0)
    product = matrix @ np.ascontiguousarray(moved).reshape(len(moved), -1)
    shape = (matrix.shape[0], *moved.shape[1:])
    return np.ascontiguousarray(np.moveaxis(product.reshape(shape), 0, axis))


def typical(values: np.ndarray) -> float:
    """Return the median of the positive values, 0 where there are none."""
    values = values[values > 0]
    return _median(values) if len(values) else 0.0


def _median(values: np.ndarray) -> float:
    """Return the median of finite values, in a tenth of the time that NumPy's takes for a few."""
    low, high = (len(values) - 1) // 2, len(values) // 2
    parted = np.partition(values, (low, high))
    return float((parted[low] + parted[high]) / 2)


def _inverse(values: np.ndarray) -> np.ndarray:
    """Return 1 / values, 0 where there is nothing."""
    return np.divide(1, values, out=np.zeros_like(values), where=values != 0)


def _diagonal(links: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    diagonal = links + np.roll(links, 1)
    diagonal[0] += ends[0]
    diagonal[-1] += ends[1]
    return diagonal


# -- from a grid operator ----------------------------------------------------------------------


def _axes(grid: Any, zeros: list[tuple[float | None, float | None]], widths: list[np.ndarray],
          masked: bool, jumps: bool = False) -> list[Axis]:  # fmt: skip
    # Joined cells need no lattice of vertices that walls would hit.
    cells = grid.centering == "cell" or masked or jumps
    return [
        Axis(np.arange(float(n)), width, zero, float(n) if periodic else 0.0, cells, jumps)
        for n, zero, width, periodic in zip(grid.shape, zeros, widths, grid.periodic)
    ]


def separable(A: Any) -> Separable | None:
    """Return the finest level of an operator with constant coefficients, if it is separable."""
    grid, ndim, stack = A.grid, A.grid.ndim, A._stack
    shape = few(grid.shape)
    if len(stack) > 1 + ndim or any(n == 1 and p for n, p in zip(grid.shape, grid.periodic)):
        return None
    middle = tuple(min(1, n - 1) for n in shape)
    scale = float(np.abs(stack[0]).max())
    # What the diagonal has beyond the couplings: reaction, and ties to Dirichlet sides.
    excess = stack[0] + with_lower(stack, ndim)[1:].sum(axis=0)
    excess[np.abs(excess) < 1e-12 * scale] = 0
    shares = [weights(grid, shape, skip=d) for d in range(ndim)]
    volume = weights(grid, shape)
    reaction = float(excess[middle] / volume[middle]) if min(shape) == 3 else 0.0
    links: list[np.ndarray] = []
    ends: list[tuple[float, float]] = []
    model: np.ndarray = reaction * volume
    coupled: list[np.ndarray] = []
    for d, n in enumerate(grid.shape):
        k = float(-stack[1 + d][_at(middle, d, 0)] / shares[d][_at(middle, d, 0)])
        row = np.full(shape[d], k)
        if not grid.periodic[d]:
            row[-1] = 0
        coupled.append(-shaped(row, d, ndim) * shares[d])
        links.append(np.where((np.arange(n) == n - 1) & (not grid.periodic[d]), 0, k))
        both = [0.0, 0.0]
        for side in (0, 1):
            if grid.boundary[d][side] == "dirichlet":
                at = _at(middle, d, -side)
                tie = float((excess[at] - reaction * volume[at]) / shares[d][at])
                both[side] = tie / (2 if n == 1 else 1)
            model[end(d, side)] += both[side] * shares[d][end(d, side)]
        ends.append((both[0], both[1]))
    fits = np.allclose(stack[1:], coupled, rtol=1e-12, atol=0)
    fits = fits and np.allclose(model, excess, rtol=0, atol=1e-11 * scale)
    if not fits or min(reaction, *(k.min() for k in links), *(min(e) for e in ends)) < 0:
        return None
    zeros: list[tuple[float | None, float | None]] = []
    widths = []
    for d, (n, e) in enumerate(zip(grid.shape, ends)):
        wide = np.ones(n)
        for side in (0, 1):
            if grid.centering == "node" and grid.boundary[d][side] == "neumann":
                wide[-side] = 0.5
        widths.append(wide)
        unit = float(links[d][0]) or max(e) or 1.0
        # Linear values meet zero as far behind an end point as its tie is weak.
        zeros.append((-unit / e[0] if e[0] else None, n - 1 + unit / e[1] if e[1] else None))
    axes = _axes(grid, zeros, widths, False)
    for d in range(ndim):  # what is alike is the same
        for c in range(d):
            if axes[c].key == axes[d].key and np.array_equal(links[c], links[d]):
                axes[d], links[d] = axes[c], links[c]
    return Separable(axes, links, ends, reaction)


def _at(index: tuple[int, ...], axis: int, place: int) -> tuple[int, ...]:
    return (*index[:axis], place, *index[axis + 1 :])


def shaped(values: np.ndarray, axis: int, ndim: int) -> np.ndarray:
    """Return a one-dimensional array along an axis of `ndim`."""
    return values.reshape([-1 if d == axis else 1 for d in range(ndim)])


def pointwise(grid: Any, stack: np.ndarray, mask: np.ndarray | None, lanes: int = 1,
              jumps: bool = False) -> Variable:  # fmt: skip
    """Return the finest level of operators that are given point by point.

    Parameters
    ----------
    grid : Grid
    stack : (1 + ndim, ...) array
        The diagonal and the upper couplings; with lanes in its last axis.
    mask : bool array or None
    lanes : int
    jumps : bool
        As in `Axis`.
    """
    ndim = grid.ndim
    links = [-stack[1 + d] for d in range(ndim)]
    diagonal = stack[0].real.copy()
    excess = diagonal.copy()
    for d, k in enumerate(links):
        size = np.abs(k)
        excess -= size
        excess -= np.roll(size, 1, d)
    if mask is not None:
        excess[~mask] = 0
    excess[np.abs(excess) < 64 * np.finfo(stack.dtype).eps * diagonal] = 0
    reaction = np.maximum(excess, 0)
    sides = split_sides(grid, reaction)
    axes = axes_of(grid, mask is not None, jumps)
    return Variable(axes, links, reaction, sides, mask, diagonal, lanes)


def axes_of(grid: Any, masked: bool, jumps: bool = False) -> list[Axis]:
    """Return the axes of a grid, its Dirichlet sides being zeros."""
    nearer = 0.5 if grid.centering == "cell" else 1.0
    zeros = [
        (-nearer if low == "dirichlet" else None, n - 1 + nearer if high == "dirichlet" else None)
        for n, (low, high) in zip(grid.shape, grid.boundary)
    ]
    return _axes(grid, zeros, [np.ones(n) for n in grid.shape], masked, jumps)


def split_sides(grid: Any, excess: np.ndarray) -> dict[tuple[int, int], np.ndarray]:
    """Take out of the excess of the diagonal, in place, what ties points to Dirichlet sides.

    What the next layer inwards has too is reaction, the rest is the side's.
    """
    held = [
        (d, s) for d, pair in enumerate(grid.boundary) for s in (0, 1) if pair[s] == "dirichlet"
    ]
    whole = {(d, side): excess[end(d, side)].copy() for d, side in held}
    for d, side in held:
        at = end(d, side)
        if grid.shape[d] > 2:
            inner = (slice(None),) * d + (slice(-2, -1) if side else slice(1, 2),)
            excess[at] = np.minimum(excess[at], excess[inner])
        else:
            excess[at] = 0
    sides = {}
    for d, side in held:
        shape = whole[d, side].shape
        count = np.ones(shape)
        for e, other in held:
            if e != d:
                count[end(e, other)] += 1
        both = 2 if grid.shape[d] == 1 and (d, 1 - side) in whole else 1
        sides[d, side] = ((whole[d, side] - excess[end(d, side)]) / (count * both)).astype(
            excess.dtype
        )
    return sides
