"""A hierarchy of grid levels, packed for the kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from krylearn.kernels import multigrid as kernels
from krylearn.kernels.multigrid_window import coefficient_length, lay_out, window_length
from krylearn.kernels.parallel import parallel_for
from krylearn.solvers.multigrid import cycle as cycles
from krylearn.solvers.multigrid.axis import Axis, Transfer, coarsen, identity
from krylearn.solvers.multigrid.levels import Separable, Variable, along, shaped
from krylearn.solvers.multigrid.packed import NOTHING, SLOTS, Packed

# An axis is coarsened where neighbours along it are at least that strongly coupled, relative to the
# strongest axis. Coarsening takes a factor of 4.
STRONG = 0.3
# Unknowns that are left to a dense inverse.
COARSEST = 32


@dataclass
class Hierarchy:
    """What the kernels read.

    Attributes
    ----------
    shapes : list of tuple of int
    geo, places : integer arrays, a row for each level
    fp, ip, coef : flat arrays
        Numbers of axes, indices, coefficients (point by point).
    dense : flat array
        Pseudo-inverse of the coarsest operator.
    scale : array
        The operator is ``scale`` times the one here; one number for each lane.
    first : pair of arrays, optional
        `fp` and laid out `coef` of the finest level, where these are in a lower precision.
    """

    shapes: list[tuple[int, ...]]
    geo: np.ndarray
    places: np.ndarray
    fp: np.ndarray
    ip: np.ndarray
    _coef: np.ndarray | None
    dense: np.ndarray
    scale: Any
    variable: bool
    _windows: tuple[np.ndarray, np.ndarray] | None = None
    first: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def coef(self) -> np.ndarray:
        """Coefficients of all levels; made again where only `laid_out` ones are kept."""
        if self._coef is not None:
            return self._coef
        assert self._windows is not None
        places, coef = self._windows
        levels = [coef[a:b] for a, b in places[:-1, 2:].astype(int)]
        if self.first is not None:
            levels[0] = self.first[1].astype(coef.dtype)
        return np.concatenate([_in_order(level, geo) for level, geo in zip(levels, self.geo)])

    def laid_out(self, fused: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return `places` and `coef`, for a fused cycle as its windows want them."""
        if not (fused and self.variable):
            return self.places, self.coef
        if self._windows is None:
            levels = [self.coef[a:b] for a, b in self.places[:-1, 2:].astype(int)]
            self._windows = _for_windows(levels, self.geo, self.places)
            self._coef = None
        return self._windows

    @property
    def total(self) -> int:
        """Values of a work vector: unknowns of all levels, and a window of planes."""
        return int(self.places[-1, 0]) + max(int(window_length(5, geo)) for geo in self.geo)


# For each level, which axes are coarsened.
Pattern = tuple[tuple[bool, ...], ...]


def strong_axes(axes: list[Axis], strength: Sequence[float], strong: float = STRONG
                ) -> tuple[bool, ...]:  # fmt: skip
    """Return which axes to coarsen: those that can be and are about as strong as any."""
    most = max((s for s, axis in zip(strength, axes) if axis.coarsens), default=0.0)
    return tuple(axis.coarsens and s >= strong * most for s, axis in zip(strength, axes))


def pattern_of(axes: list[Axis], strength: Sequence[float], coarsest: int) -> Pattern:
    """Return the axes to coarsen on all levels, from how strong they are on the finest.

    Coarsening an axis takes a factor of 4 from its strength relative to the others.
    """
    found = []
    strength = list(strength)
    while np.prod([axis.n for axis in axes]) > coarsest and any(a.coarsens for a in axes):
        chosen = strong_axes(axes, strength)
        axes = [coarsen(a)[0] if c else a for a, c in zip(axes, chosen)]
        strength = [s / 4 if c else s for s, c in zip(strength, chosen)]
        found.append(chosen)
    return tuple(found)


def coarser(level: Any, strong: float = STRONG, chosen: tuple[bool, ...] | None = None
            ) -> tuple[Any, list[Transfer | None]] | None:  # fmt: skip
    """Return the next level and the transfers; None where no axis is left to coarsen.

    `chosen` says which axes are coarsened, by default the strong ones.
    """
    if not any(axis.coarsens for axis in level.axes):
        return None
    axes: list[Axis] = []
    transfers: list[Transfer | None] = []
    chosen = chosen or strong_axes(level.axes, level.strengths(), strong)
    for axis, yes in zip(level.axes, chosen):
        if yes:
            coarse, transfer = coarsen(axis)
            axes.append(coarse)
            transfers.append(transfer)
        else:
            axes.append(axis)
            transfers.append(None)
    return level.coarsen(axes, transfers), transfers


def build(level: Any, dtype: np.dtype, coarsest: int = COARSEST, strong: float = STRONG,
          pattern: Pattern | None = None, fused: bool = False,
          lower: np.dtype | None = None) -> Hierarchy:  # fmt: skip
    """Return the hierarchy below the finest level, in a working precision.

    That of a `fused` cycle keeps coefficients as its windows want them from the start; those of the
    finest level, point by point, may then be in a `lower` precision.
    """
    packing = _Packing(dtype, level.lanes, lower)
    while True:
        transfers: list[Transfer | None] = [None] * len(level.axes)
        more = None
        if np.prod(level.shape) > coarsest:
            more = coarser(level, strong, pattern[len(packing.shapes)] if pattern else None)
        if more is not None:
            transfers = more[1]
        packing.add(level, transfers, None if more is None else more[0])
        if more is None:
            return packing.finish(level, fused)
        level = more[0]


def _for_windows(levels: list[np.ndarray], geos: np.ndarray, places: np.ndarray
                 ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Return places and coefficients of all levels as windows want them; use the levels up."""
    lines = [len(level) // int(geo[2]) for level, geo in zip(levels, geos)]
    length = [int(coefficient_length(geo)) for geo in geos]
    ends = np.cumsum([0] + [a * b for a, b in zip(lines, length)])
    out, places = np.empty(ends[-1], levels[0].dtype), places.copy()
    for row, geo, count, first, last in zip(places, geos, lines, ends, ends[1:]):
        row[2:] = first, last
        level = levels.pop(0)
        # Groups of lanes are shared among threads already, and a thread must not wait for its own.
        grain = max(1, 16384 // int(geo[2])) if geo[kernels.LANES] == 1 else count
        parallel_for(lay_out, count, grain, geo, level, out[first:last])
    return places, out


def _in_order(windowed: np.ndarray, geo: np.ndarray) -> np.ndarray:
    """Return coefficients of a level in the order of points."""
    nx, lanes = int(geo[2]), int(geo[kernels.LANES])
    n = nx // lanes
    halves = windowed.reshape(-1, 2, int(coefficient_length(geo)) // 2)
    out = np.empty((len(halves), n, lanes), windowed.dtype)
    for parity in (0, 1):
        count = (n + 1 - parity) // 2
        out[:, parity::2] = halves[:, parity, : count * lanes].reshape(-1, count, lanes)
    return out.ravel()


class _Packing:
    """Collects levels."""

    def __init__(self, dtype: np.dtype, lanes: int = 1, lower: np.dtype | None = None) -> None:
        self.dtype, self.lanes, self.lower = dtype, lanes, lower
        self.real = np.empty(0, dtype).real.dtype
        self.shapes: list[tuple[int, ...]] = []
        self.geo: list[np.ndarray] = []
        self.fp: list[np.ndarray] = []
        self.ip: list[np.ndarray] = []
        self.coef: list[np.ndarray] = []
        self.scale: Any = None
        self.variable = False
        self.starts: list[tuple[int, int, int]] = []
        self.lengths = [0, 0, 0]  # of fp, ip, coef

    def add(self, level: Any, transfers: list[Transfer | None], coarse: Any) -> None:
        """Pack a level and the transfers to the coarse one."""
        shape = level.shape
        slots = SLOTS[len(shape)]
        geo = np.zeros(kernels.FIELDS, np.uint64)
        geo[kernels.SIZES : kernels.SIZES + 3] = 1
        geo[kernels.COARSE : kernels.COARSE + 3] = 1
        variable = not isinstance(level, Separable)
        if self.scale is None:
            self.variable = variable
            self.scale = getattr(level, "scale", None)
            if self.scale is None:
                largest = _largest(level)
                self.scale = np.where(largest > 0, largest, 1.0)
        diagonals = None if variable else level.diagonals()
        for slot in range(3):
            if slot in slots:
                d = slots.index(slot)
                axis, transfer = level.axes[d], transfers[d]
                numbers = (level.links[d], axis.width, diagonals[d]) if diagonals else None
                geo[kernels.WRAPS + slot] = bool(axis.period)
                n, m = axis.n, coarse.axes[d].n if coarse is not None else 1
            else:
                n = m = 1
                transfer = None
                numbers = None if variable else (np.zeros(1), np.ones(1), np.zeros(1))
            lanes = self.lanes if slot == 2 else 1
            geo[kernels.SIZES + slot], geo[kernels.COARSE + slot] = lanes * n, lanes * m
            geo[kernels.FLOATS + slot], geo[kernels.INTS + slot] = self.lengths[:2]
            if numbers is None:
                numbers = (np.zeros(n * lanes),) * 3
                self._floats(*numbers)
            else:
                k, w, diagonal = numbers
                self._floats(k / self.scale, w, diagonal / self.scale)
            if coarse is not None:
                weights, indices = (transfer or identity(n)).for_lanes(lanes)
                self._floats(weights)
                self._ints(indices)
        geo[kernels.REACTION] = self.lengths[0]
        reaction = 0.0 if variable else level.reaction / self.scale
        points = int(geo[kernels.SIZES + 2]) // self.lanes + 1
        last = transfers[-1]
        nothing = (0, 0, np.zeros((2, 2)))
        geo[kernels.FIRST], geo[kernels.REGULAR], regular = last.regular if last else nothing
        self._floats(np.array([reaction]), regular)
        self._floats(np.repeat(np.arange(points) % 2 == 0, self.lanes))
        geo[kernels.LANES] = self.lanes
        geo[kernels.VARIABLE] = variable
        first = self.lengths[2]
        if variable:
            geo[kernels.SCALED] = level.mask is not None and coarse is not None
            if isinstance(level, Packed):
                raised = self.lower is not None and len(self.starts) > 0
                rows = level.rows_in(self.dtype) if raised else level.rows()
                self.coef += rows
                self.lengths[2] += sum(part.size for part in rows)
            else:
                self._coefficients(level, transfers, coarse, slots)
        self.starts.append((self.lanes * int(np.prod(shape)), first, self.lengths[2]))
        self.shapes.append(shape)
        self.geo.append(geo)

    def _floats(self, *arrays: np.ndarray) -> None:
        for a in arrays:
            self.fp.append(np.asarray(a, self.real).ravel())
            self.lengths[0] += a.size

    def _ints(self, *arrays: np.ndarray) -> None:
        for a in arrays:
            self.ip.append(np.asarray(a, np.int64).ravel())
            self.lengths[1] += a.size

    def _coefficients(self, level: Variable, transfers: list, coarse: Any, slots: tuple) -> None:
        n = self.lanes * int(np.prod(level.shape))
        dtype = self.dtype if self.lower is None or self.starts else self.lower
        rows = np.zeros((5 if level.mask is not None and coarse is not None else 4, n), dtype)
        diagonal = (level.full_diagonal() / self.scale).ravel()
        rows[0] = np.divide(1, diagonal, out=np.full(n, NOTHING), where=diagonal > 0)
        for d, slot in enumerate(slots):
            # x, y, z follow the inverse diagonal.
            rows[3 - slot] = (level.links[d] / self.scale).ravel()
        if len(rows) == 5:
            rows[4] = _passing(level, transfers, coarse).ravel()
        self.coef.append(rows.ravel())
        self.lengths[2] += rows.size

    def finish(self, coarsest: Any, fused: bool = False) -> Hierarchy:
        """Return the hierarchy."""
        count = len(self.starts)
        places = np.zeros((count + 1, 4), np.uint64)
        at = 0
        for row, (n, first, last) in zip(places, self.starts):
            row[:] = at, at + n, first, last
            at += n
        places[count, :2] = at
        geo, coef, windows = np.array(self.geo), None, None
        dense = _pseudo_inverse(coarsest, self.scale, self.dtype)
        wraps = geo[:, kernels.WRAPS : kernels.WRAPS + 3].any()
        fp, finest = np.concatenate(self.fp), None
        if fused and self.variable and count > 1 and not wraps:
            if self.lower is not None:
                _, alone = _for_windows([self.coef.pop(0)], geo[:1], places[:1])
                finest = (fp.astype(alone.real.dtype), alone)
                own, below = _for_windows(self.coef, geo[1:], places[1:])
                windows = np.concatenate([places[:1], own]), below
                windows[0][0, 2:] = 0
            else:
                windows = _for_windows(self.coef, geo, places)
        else:
            join = getattr(coarsest, "join", np.concatenate)  # where they lie
            coef = join(self.coef or [np.zeros(1, self.dtype)])
        return Hierarchy(
            self.shapes, geo, places, fp, np.concatenate([*self.ip, np.zeros(1, np.int64)]), coef,
            dense, self.scale, self.variable, windows, finest,
        )  # fmt: skip


def _largest(level: Any) -> Any:
    """Return a bound of the diagonal, for each lane."""
    if isinstance(level, Variable):
        return level.full_diagonal().max(axis=tuple(range(len(level.shape))))
    wide = [float(axis.width.max()) for axis in level.axes]
    volume = float(np.prod(wide))
    parts = zip(level.diagonals(), wide)
    return level.reaction * volume + sum(part.max() * volume / w for part, w in parts)


def _diagonal_of(level: Any) -> np.ndarray:
    if not isinstance(level, Separable):
        return level.full_diagonal()
    diagonal = level.reaction * level.volume()
    for d, part in enumerate(level.diagonals()):
        diagonal = diagonal + shaped(part, d, len(level.shape)) * level.volume(d)
    return diagonal


def _passing(level: Variable, transfers: list, coarse: Variable) -> np.ndarray:
    """Return for each point what its interpolated value is multiplied by.

    Coarse points that hold no value take no part; the others share their weights.
    """
    some = np.ones_like(coarse.reaction) if coarse.mask is None else coarse.mask.astype(float)
    held = np.ones_like(some)
    for d, transfer in enumerate(transfers):
        if transfer is not None:
            P = transfer.matrix()
            held, some = along(P, held, d), along(P, some, d)
    passing = np.divide(held, some, out=np.zeros_like(held), where=some > 0)
    return passing if level.mask is None else np.where(level.mask, passing, 0)


def _pseudo_inverse(level: Any, scale: Any, dtype: np.dtype) -> np.ndarray:
    """Return the pseudo-inverse of the coarsest operator, scaled, as a flat array; lanes last."""
    shape, lanes = level.shape, level.lanes
    n = int(np.prod(shape))
    number = np.arange(n).reshape(shape)
    A = np.zeros((lanes, n, n), np.result_type(dtype, np.float64))
    A[:, np.arange(n), np.arange(n)] = _diagonal_of(level).reshape(n, lanes).T
    for d, axis in enumerate(level.axes):
        if axis.n == 1:
            continue
        k = level.links[d]
        if isinstance(level, Separable):
            k = shaped(k, d, len(shape)) * level.volume(d)
        k = k.reshape(n, lanes).T
        rows, columns = number.ravel(), np.roll(number, -1, d).ravel()
        # A ring of two points has two links between them, each of its own start.
        A[:, rows, columns] -= k
        A[:, columns, rows] -= np.conj(k)
    if not isinstance(level, Packed):  # which is scaled
        A /= np.reshape(scale, (-1, 1, 1))
    finite = np.asarray(np.isfinite(A).all(axis=(1, 2)))
    values, vectors = np.linalg.eigh(np.where(finite[:, None, None], A, 0))
    kept = values > 16 * n * np.finfo(float).eps * np.maximum(values[:, -1:], 1e-300)
    inverse = np.divide(1, values, out=np.zeros_like(values), where=kept)
    inverse[~finite] = np.nan
    product = (vectors * inverse[:, None]) @ vectors.conj().transpose(0, 2, 1)
    return np.ascontiguousarray(product.transpose(1, 2, 0), dtype).ravel()


def v_cycle(h: Hierarchy, sweeps: int) -> list[cycles.Step]:
    """Return the steps of a V-cycle with red-black sweeps."""
    if sweeps == 1 and fits_windows(h):
        return cycles.fused(len(h.shapes))
    boxes = [boxes_of(geo) for geo in h.geo]
    return cycles.steps("V", len(h.shapes), cycles.red_black(sweeps, boxes))


def fits_windows(h: Hierarchy) -> bool:
    """Return whether windows may pass over planes: these must not close on themselves."""
    return not any(geo[kernels.WRAPS] or len(boxes_of(geo)) > 1 for geo in h.geo)


def boxes_of(geo: np.ndarray) -> list[int]:
    """Return the boxes that two colours do for, as bits of the axes whose ends they hold."""
    size = geo[:3].astype(int)
    size[2] //= int(geo[kernels.LANES])
    odd = [
        bit for slot, bit in ((2, 1), (1, 2), (0, 4))
        if geo[kernels.WRAPS + slot] and size[slot] % 2 and size[slot] > 1
    ]  # fmt: skip
    boxes = [0]
    for bit in odd:
        boxes += [box | bit for box in boxes]
    return boxes
