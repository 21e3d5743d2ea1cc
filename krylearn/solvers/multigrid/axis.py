"""Coarsening along one axis: which points stay, how values pass, how conductances add up.

A grid is coarsened as a tensor product of its axes, so that everything here has one dimension.
Axes may have any number of points: a cell that is left over at an end stays alone, and what is
left over between vertices makes the last interval shorter or longer than the others.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np
import scipy.sparse as sp

# Most fine points that a coarse one takes values from.
CHILDREN = 6
# Most fine links that a coarse one runs along.
LINKS = 5


@dataclass(frozen=True, eq=False)
class Axis:
    """Points along an axis.

    Attributes
    ----------
    position : (n,) array
        In units of the finest spacing, ascending.
    width : (n,) array
        Lengths of the control volumes.
    zeros : (float or None, float or None)
        Where the solution vanishes below and above: a Dirichlet side. None elsewhere.
    period : float
        Length of an axis that closes on itself, else 0.
    cells : bool
        Coarse points are joined neighbours; otherwise every second point.
    jumps : bool
        Coefficients jump: joined cells share one value, and only the links between them count.
    """

    position: np.ndarray
    width: np.ndarray
    zeros: tuple[float | None, float | None]
    period: float
    cells: bool
    jumps: bool = False

    @property
    def n(self) -> int:
        """Number of points."""
        return len(self.position)

    @cached_property
    def key(self) -> tuple:
        """What equal axes have in common."""
        return (self.position.tobytes(), self.width.tobytes(), self.zeros, self.period, self.cells,
                self.jumps)  # fmt: skip

    @property
    def coarsens(self) -> bool:
        """Whether there are fewer points on a coarser level."""
        return self.n > 1

    def _vertices(self) -> np.ndarray:
        """Return the points that stay, every second one."""
        if self.period:
            return np.arange(0, self.n - self.n % 2, 2)
        return np.arange(0 if self.zeros[0] is None else 1, self.n, 2)


@dataclass(frozen=True, eq=False)
class Transfer:
    """How an axis and its coarse companion exchange values.

    Attributes
    ----------
    parents, weights : (n, 2) arrays
        Interpolation: the coarse points at both sides, and their weights.
    children, back : (m, CHILDREN) arrays
        Its transpose: fine points and weights, filled up with weight 0.
    share : (m, n) sparse array
        Which part of each fine control volume belongs to a coarse one.
    along : (m, n) sparse array
        The part of each fine link (i, i + 1) that the coarse link (j, j + 1) runs along.
    crossing : (m, n) sparse array
        Ones for the fine links that lie between two coarse points' own volumes.
    sides : pair of (n,) arrays
        The part of each fine link that lies between the first (last) coarse point and the side.
    stretch : pair of float
        What the way from the first (last) point to the side is longer by than that within `sides`.
    """

    parents: np.ndarray
    weights: np.ndarray
    children: np.ndarray
    back: np.ndarray
    share: sp.csr_array
    along: sp.csr_array
    crossing: sp.csr_array
    sides: tuple[np.ndarray, np.ndarray]
    stretch: tuple[float, float] = (1.0, 1.0)
    _lanes: dict = field(default_factory=dict, repr=False)

    @cached_property
    def tables(self) -> tuple[np.ndarray, ...]:
        """Return as flat arrays: points and their shares, links, their parts, which cross."""
        points, shares = _table(self.share, CHILDREN)
        links, parts = _table(self.along, LINKS)
        crossing = np.asarray(self.crossing.toarray() != 0)
        cross = crossing[np.arange(len(links))[:, None], links] & (parts != 0)
        return tuple(a.ravel() for a in (points, shares, links, parts, cross.astype(float)))

    @cached_property
    def regular(self) -> tuple[int, int, np.ndarray]:
        """How many intervals between coarse points are alike from the low end on.

        The first number is the first point between the first two coarse ones; the weights are
        those of its two points.
        """
        n, nothing = len(self.parents), (0, 0, np.zeros((2, 2)))
        first = int(np.argmax(self.parents[:, 1] == 1))
        if self.parents[first, 0] != 0 or first + 2 > n:
            return nothing
        weights, count = self.weights[first : first + 2], (n - first) // 2
        pairs = slice(first, first + 2 * count)
        own = np.arange(count)[:, None] + np.array([0, 1, 0, 1])
        alike = np.all(self.parents[pairs].reshape(count, 4) == own, axis=1)
        gaps = np.abs(self.weights[pairs].reshape(count, 4) - weights.ravel())
        alike &= gaps.max(axis=1) < 1e-12
        return first, int(np.argmin(np.append(alike, False))), weights

    def for_lanes(self, lanes: int) -> tuple[np.ndarray, np.ndarray]:
        """Return weights and indices of both directions as flat arrays, for `lanes` systems."""
        if lanes not in self._lanes:
            weights = [np.repeat(a, lanes, 0).ravel() for a in (self.weights, self.back)]
            own = np.arange(lanes)[:, None]
            indices = [(lanes * a[:, None] + own).ravel() for a in (self.parents, self.children)]
            self._lanes[lanes] = np.concatenate(weights), np.concatenate(indices)
        return self._lanes[lanes]

    def matrix(self) -> sp.csr_array:
        """Return the interpolation as an (n, m) matrix."""
        n, m = len(self.parents), len(self.children)
        rows = np.repeat(np.arange(n), 2)
        return sp.csr_array(
            sp.coo_array((self.weights.ravel(), (rows, self.parents.ravel())), shape=(n, m))
        )


# What was made for an axis serves the next operator on the same grid.
_known: dict[tuple, tuple[Axis, Transfer]] = {}
KNOWN = 256


def coarsen(axis: Axis) -> tuple[Axis, Transfer]:
    """Return the next coarser axis, and the transfer between the two."""
    key = axis.key
    found = _known.get(key)
    if found is None:
        if len(_known) >= KNOWN:
            _known.clear()
        found = _known[key] = _coarsen(axis)
    return found


def _coarsen(axis: Axis) -> tuple[Axis, Transfer]:
    x, n, period = axis.position, axis.n, axis.period
    if axis.cells:
        group = np.arange(n) // 2
        width = np.bincount(group, axis.width)
        X = np.bincount(group, axis.width * x) / width
    else:
        X = x[axis._vertices()]
    m = len(X)
    parents, weights = _interpolation(axis, X)
    if axis.jumps:
        weights = np.asarray(parents == group[:, None], float)
        weights[parents[:, 0] == parents[:, 1], 1] = 0
    if axis.cells:
        share = sp.csr_array((np.ones(n), (group, np.arange(n))), shape=(m, n))
    else:
        rows = np.repeat(np.arange(n), 2)
        share = sp.csr_array(
            sp.coo_array((weights.ravel(), (parents.ravel(), rows)), shape=(m, n))
        )
        width = share @ axis.width
    coarse = Axis(X, width, axis.zeros, period, axis.cells, axis.jumps)
    children, back = _transpose(parents, weights, m)
    along = _along(x, X, period)
    crossing = along.copy()
    if axis.cells:
        owner = np.append(group, m if not period else 0)
        between = owner[1:] != owner[:-1]
        links = np.flatnonzero(between[: n if period else n - 1])
        if m == 1:
            links = links[:0]
        crossing = sp.csr_array((np.ones(len(links)), (group[links], links)), shape=(m, n))
    # Of the part between the end points and the sides; the link behind the last point is none.
    end = np.append(x[1:], x[-1])
    length = np.where(end > x, end - x, 1)
    sides = (
        np.clip(np.minimum(X[0], end) - x, 0, None) / length,
        np.clip(end - np.maximum(X[-1], x), 0, None) / length,
    )
    stretch = (1.0, 1.0)
    if axis.jumps:
        # As long as the way between the coarse points, as strong as the link that crosses.
        far = np.append(X[1:], X[0] + period) - X
        length[-1] = x[0] + period - x[-1] if period else 1
        along = sp.csr_array(sp.diags_array(far) @ crossing @ sp.diags_array(1 / length))
        sides = (np.zeros(n), np.zeros(n))
        low, high = (
            1.0 if zero is None else float((X[i] - zero) / (x[i] - zero))
            for i, zero in zip((0, -1), axis.zeros)
        )
        stretch = low, high
    return coarse, Transfer(parents, weights, children, back, share, along, crossing, sides,
                            stretch)  # fmt: skip


def _table(matrix: sp.csr_array, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the entries of each row, filled up with zeros."""
    m = matrix.shape[0]
    matrix.sum_duplicates()
    counts = np.diff(matrix.indptr)
    columns, values = np.zeros((m, width), np.int64), np.zeros((m, width))
    rows = np.repeat(np.arange(m), counts)
    place = np.arange(len(rows)) - np.repeat(matrix.indptr[:-1], counts)
    columns[rows, place], values[rows, place] = matrix.indices, matrix.data
    return columns, values


@lru_cache
def identity(n: int) -> Transfer:
    """Return the transfer of an axis of n points that is not coarsened."""
    own = np.arange(n)
    ones = sp.csr_array(sp.eye_array(n))
    children = np.repeat(own[:, None], CHILDREN, axis=1)
    back = np.zeros((n, CHILDREN))
    back[:, 0] = 1
    weights = np.column_stack([np.ones(n), np.zeros(n)])
    nothing = np.zeros(n)
    return Transfer(np.column_stack([own, own]), weights, children, back, ones, ones, ones,
                    (nothing, nothing))  # fmt: skip


def _interpolation(axis: Axis, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each point the coarse points at its sides, and the weights of linear values."""
    x, m, period = axis.position, len(X), axis.period
    j = np.searchsorted(X, x, side="right") - 1
    low, high = np.clip(j, 0, m - 1), np.clip(j + 1, 0, m - 1)
    before, after = j < 0, j == m - 1
    gap = np.where(high > low, X[high] - X[low], 1)
    theta = (x - X[low]) / gap
    weights = np.column_stack([1 - theta, theta])
    if period:
        seam = before | after
        low[seam], high[seam] = m - 1, 0
        start = np.where(before, X[-1] - period, X[-1])
        theta = ((x - start) / (X[0] + period - X[-1]))[seam]
        weights[seam] = np.column_stack([1 - theta, theta])
    else:
        for outside, zero, first in ((before, axis.zeros[0], X[0]), (after, axis.zeros[1], X[-1])):
            # Towards a side that holds the value zero, or with slope zero.
            part = np.ones(outside.sum()) if zero is None else (x[outside] - zero) / (first - zero)
            weights[outside] = np.column_stack([part, np.zeros_like(part)])
            high[outside] = low[outside]
    return np.column_stack([low, high]), weights


def _transpose(parents: np.ndarray, weights: np.ndarray, m: int) -> tuple[np.ndarray, np.ndarray]:
    child = np.repeat(np.arange(len(parents)), 2)
    parent, weight = parents.ravel(), weights.ravel()
    order = np.argsort(parent, kind="stable")
    order = order[weight[order] != 0]
    parent = parent[order]
    place = np.arange(len(parent)) - np.searchsorted(parent, parent)
    assert place.max(initial=0) < CHILDREN
    children = np.repeat(child[order[np.searchsorted(parent, np.arange(m))]][:, None], CHILDREN, 1)
    back = np.zeros((m, CHILDREN))
    children[parent, place], back[parent, place] = child[order], weight[order]
    return children, back


def _along(x: np.ndarray, X: np.ndarray, period: float) -> sp.csr_array:
    n, m = len(x), len(X)
    far = np.concatenate([x, x + period, [np.inf]]) if period else np.append(x, np.inf)
    start = X if period else X[:-1]
    stop = np.append(X[1:], X[0] + period) if period else X[1:]
    first = np.searchsorted(x, start, side="right") - 1
    rows, columns, values = [], [], []
    for s in range(LINKS):
        link = np.minimum(first + s, len(far) - 2)
        part = np.minimum(stop, far[link + 1]) - np.maximum(start, far[link])
        here = (part > 0) & (first + s == link)
        length = far[link + 1] - far[link]
        rows.append(np.flatnonzero(here))
        columns.append(link[here] % n)
        values.append(part[here] / length[here])
    entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    if m == 1:  # a ring of one point: its link leads back to it
        return sp.csr_array((m, n))
    return sp.csr_array(sp.coo_array(entries, shape=(m, n)))
