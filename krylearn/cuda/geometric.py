"""Geometric multigrid on the device: the levels are the host's, and so are the cycles.

V(1, 1) with red-black sweeps takes two kernels a level, which read the residual twice and write
the correction once (see `krylearn.kernels.cuda.multigrid_fused`); what other cycles and smoothers
do is done step by step. Small levels are worked off by one block in one kernel.
"""

from __future__ import annotations

import copy
import functools
import math
from typing import Any

import numpy as np

from krylearn.cuda import arrays
from krylearn.cuda.arrays import empty, lies_on_cuda, upload, zeros
from krylearn.cuda.operators import CudaOperator
from krylearn.kernels import multigrid as host
from krylearn.kernels.cuda import multigrid as kernels
from krylearn.kernels.cuda import multigrid_fused as fused
from krylearn.kernels.cuda import scalars, vector
from krylearn.kernels.cuda.launch import SIMULATED, accumulator, blocks_for, launch
from krylearn.solvers.multigrid import cycle as cycles
from krylearn.solvers.multigrid.hierarchy import boxes_of

# Unknowns of a level up to which one block does all of its steps.
SMALL = 32 if SIMULATED else 512


class CudaGeometricMultigrid(CudaOperator):
    """A cycle of geometric multigrid: see `krylearn.GeometricMultigrid`.

    Parameters
    ----------
    M : GeometricMultigrid
    """

    def __init__(self, M: Any) -> None:
        super().__init__(M.shape, M.dtype)
        self.symmetric, self.positive_definite = M.symmetric, M.positive_definite
        self.setup_seconds, self.choice = M.setup_seconds, M.choice
        h = M._hierarchy
        self.inside = np.dtype(M.working)
        self.unit = 1 / float(np.ravel(h.scale)[0])
        self._sizes = [math.prod(shape) for shape in h.shapes]
        count = len(self._sizes)
        if 5 * self._sizes[0] >= 2**32 and h.variable:
            raise ValueError(f"{self._sizes[0]:,} points with coefficients need 64-bit indices")
        self._halves: list[_Halves] = []
        # The polynomial of AMLI has no twin here: V(1, 1) stands for it, or one visit a level.
        one = M.cycle == "AMLI" or (M.cycle == "V" and M.pre == M.post == 1)
        plain = one and M.smoother == "red_black"
        if plain and self._sizes[0] > SMALL:
            large = next(level for level in range(count) if self._sizes[level] <= SMALL)
            halves = [_Halves.fit(h, level, self.inside) for level in range(large)]
            self._halves = [half for half in halves if half is not None]
            if len(self._halves) < large:
                self._halves = []
        self._text = repr(M).replace(f"{M._lower} and ", "", 1)
        if M.cycle == "AMLI":
            sweeps = "1,1" if self._halves else f"{M.pre},{M.post}"
            self._text = self._text.replace(f"AMLI({M.pre},{M.post})", f"V({sweeps})", 1)
        # Whether `apply_inside` is there: vectors in the cycle's precision come and go.
        self.fuses_with_cg = bool(self._halves)
        self._levels(h)
        first = len(self._halves)
        if first:
            boxes = [boxes_of(geo) for geo in h.geo[first:]]
            listed = cycles.steps("V", count - first, cycles.red_black(1, boxes))
            listed = [(entry[0], entry[1] + first, *entry[2:]) for entry in listed]
        else:
            listed = M._listed("V" if M.cycle == "AMLI" else "")
        self._schedule(listed)
        self._f: Any = None

    def _levels(self, h: Any) -> None:
        """Bring what kernels read to the device."""
        first = len(self._halves)
        # A fused level keeps nothing but what it gets and gives; the finest one not even that.
        kept = [0 if first and level == 0 else n for level, n in enumerate(self._sizes)]
        own = [0 if level < first else n for level, n in enumerate(self._sizes)]
        places = np.zeros((len(kept) + 1, 3), np.int64)
        places[1:, 0], places[1:, 1] = np.cumsum(kept), np.cumsum(own)
        places[:, 2] = h.places[:, 2]
        self._places, self._room = places, (int(places[-1, 0]), int(places[-1, 1]))
        self._geos = upload(h.geo.astype(np.int32)).view(np.uint32)
        self._numbers = (
            upload(h.fp), upload(h.ip.astype(np.int32)),
            h.coef if lies_on_cuda(h.coef) else upload(
                h.coef, what="the coefficients of the levels"),
        )  # fmt: skip
        self._on_device = upload(places), upload(h.dense)
        end, rows = 0, []
        for half in self._halves:
            end = half.place(end)
            rows += [row for part in half.tiles for row in part]
        self._tiles = upload(np.array(rows or [(0,) * 4], np.int32).ravel())

    def _schedule(self, listed: list) -> None:
        """Write the cycle down: steps on large levels one by one, runs of them on small ones."""
        self._parts: list[Any] = []
        small: list[Any] = []

        def end() -> None:
            if small:
                steps, factors = cycles.as_arrays(kernels.in_two(small))
                self._parts.append((upload(steps.astype(np.int32)),
                                    upload(factors.astype(self._real))))  # fmt: skip
                small.clear()

        for entry in listed:
            if self._sizes[entry[1]] <= SMALL or entry[0] == host.SOLVE:
                small.append(entry)
                continue
            end()
            self._parts.append(entry)
        end()

    @property
    def _real(self) -> np.dtype:
        return np.empty(0, self.inside).real.dtype

    def _allocate(self) -> None:
        accurate, (kept, own) = accumulator(self.inside), self._room
        what = "a work vector of all levels"
        self._f, self._u = (empty(max(1, kept), self.inside, what) for _ in range(2))
        self._t, self._d = (empty(max(1, own), self.inside, what) for _ in range(2))
        ends = self._places[:, 0].tolist()
        self._f_of, self._u_of = (
            [array[low:high] for low, high in zip(ends, ends[1:])] for array in (self._f, self._u)
        )
        self._ones = upload(np.ones(2, accurate))
        self._T, self._squares = zeros(2, accurate), zeros(blocks_for(self.shape[0]), accurate)
        self._products = zeros(self._halves[0].count if self._halves else 1, np.float64)

    def fresh(self):
        new = copy.copy(self)
        new._allocate()
        return new

    def apply(self, log, x, out):
        if self._f is None:  # a solve has one of its own, and this has not been used yet
            self._allocate()
        # Scaled, since single precision has few exponents.
        vector.dot(log, x, x, self._squares)
        scalars.run(scalars.scale_to_one, log, self._T, self.unit, self._squares)
        if self._halves:
            self._cycle(log, self._T, x, out, False)
            return
        vector.cast(log, self._T, 0, x, self._f[: self.shape[0]])
        self._work(log)
        vector.cast(log, self._T, 1, self._u[: self.shape[0]], out)

    def apply_inside(self, log: Any, r: Any, z: Any) -> Any:
        """Queue ``z = M @ r / unit`` in the cycle's precision; return the sums of ``r @ z``."""
        self._cycle(log, self._ones, r, z, True)
        return self._products

    def _cycle(self, log: Any, scales: Any, r: Any, z: Any, wanted: bool) -> None:
        last = len(self._halves) - 1
        for level, half in enumerate(self._halves):
            f, factors = (self._f_of[level], self._ones) if level else (r, scales)
            half.down(log, factors, self._geos, self._numbers, self._tiles, f,
                      self._f_of[level + 1])  # fmt: skip
        self._work(log)
        for level in range(last, -1, -1):
            f, factors = (self._f_of[level], self._ones) if level else (r, scales)
            out = self._u_of[level] if level else z
            self._halves[level].up(log, factors, self._geos, self._numbers, self._tiles, f,
                                   self._u_of[level + 1], out, wanted and level == 0,
                                   self._products)  # fmt: skip

    def _work(self, log: Any) -> None:
        """Do the steps that are written down."""
        places, dense = self._on_device
        everything = (self._geos, places, *self._numbers, self._f, self._u, self._t, self._d,
                      dense)  # fmt: skip
        for part in self._parts:
            if isinstance(part[0], int):
                kernels.step(self._sizes[part[1]], log, part, *everything)
            else:
                kernels.run(log, *part, *everything)

    def astype(self, dtype):
        dtype = np.dtype(dtype)
        if dtype == self.dtype:
            return self
        if dtype.kind != self.dtype.kind:
            return CudaParts(self, dtype)
        new = copy.copy(self)
        new.dtype = dtype
        return new

    def __repr__(self) -> str:
        return self._text.replace("GeometricMultigrid", type(self).__name__, 1)


class _Halves:
    """The two fused kernels of a level, and how its planes are cut into tiles.

    Attributes
    ----------
    tiles : list of lists of tuples
        For x, y and z of `down`, and of `up`.
    count : int
        Blocks of `up`: sums that it leaves.
    """

    def __init__(self, level: int, start: int, pair: tuple, threads: tuple[int, int],
                 alike: tuple[int, int], tiles: list[list[tuple]]) -> None:  # fmt: skip
        self._level, self._start, self._threads, self._alike = level, start, threads, alike
        self._down, self._up = pair
        self.tiles = tiles
        lengths = [len(rows) for rows in tiles]
        self._blocks = tuple(lengths[:3]), tuple(lengths[3:])
        self._at: Any = None
        self.count = math.prod(self._blocks[1])

    def place(self, at: int) -> int:
        """Note where the tiles begin in an array of all; return where they end."""
        ends = at + 4 * np.cumsum([0] + [len(rows) for rows in self.tiles])
        self._at = tuple(ends[:3].tolist()), tuple(ends[3:6].tolist())
        return int(ends[6])

    @classmethod
    def fit(cls, h: Any, level: int, dtype: np.dtype) -> Any:
        """Return the halves for a level, or None where it does not lend itself to them."""
        geo = h.geo[level].astype(np.int64)
        ny, mz = int(geo[1]), int(geo[host.COARSE])
        if any(geo[host.WRAPS : host.WRAPS + 3]):  # windows must not close on themselves
            return None
        wide, high = fused.tile_of(dtype.itemsize, ny)
        tables = tuple(_tables_of(h, geo, slot) for slot in range(3))
        tiles = _tiles(tuple(geo[:3].tolist()), mz, tables, wide, high)
        if tiles is None:
            return None
        variable = bool(geo[host.VARIABLE])
        alike = (0, 0) if variable else _alike(h, geo)
        return cls(level, int(h.places[level, 2]), fused.kernels(variable, wide, high),
                   (wide, high), alike, tiles)  # fmt: skip

    def down(self, log: Any, scales: Any, geos: Any, numbers: tuple, tiles: Any, f: Any,
             coarse: Any) -> None:  # fmt: skip
        """Sweep from zero and write the restricted residual into `coarse`."""
        launch(self._down, self._blocks[0], self._threads, log, scales, self._level, *self._alike,
               geos, *numbers, self._start, tiles, *self._at[0], f, coarse)  # fmt: skip

    def up(self, log: Any, scales: Any, geos: Any, numbers: tuple, tiles: Any, f: Any,
           coarse: Any, out: Any, wanted: bool, sums: Any) -> None:  # fmt: skip
        """Sweep as before, add the correction, sweep again and write the result into `out`."""
        launch(self._up, self._blocks[1], self._threads, log, scales, self._level, *self._alike,
               geos, *numbers, self._start, tiles, *self._at[1], f, coarse, out, wanted,
               sums)  # fmt: skip


def _alike(h: Any, geo: np.ndarray) -> tuple[int, int]:
    """Return the first of the planes in the middle that have the same links, and their number."""
    n, at = int(geo[0]), int(geo[host.FLOATS])
    k, w, d = (h.fp[at + m * n : at + (m + 1) * n] for m in range(3))
    middle = n // 2
    same = (w == w[middle]) & (d == d[middle]) & (k == k[middle]) & (np.roll(k, 1) == k[middle])
    if not same[middle]:
        return middle, 0
    other = np.flatnonzero(~same)
    below, above = other[other < middle], other[other > middle]
    first = int(below[-1]) + 1 if len(below) else 0
    return first, (int(above[0]) if len(above) else n) - first


def _tables_of(h: Any, geo: np.ndarray, slot: int) -> tuple[bytes, bytes]:
    """Return the indices of an axis, and which of the coarse points' weights are not zero."""
    n, m = int(geo[slot]), int(geo[host.COARSE + slot])
    at, back = int(geo[host.INTS + slot]), int(geo[host.FLOATS + slot]) + 5 * n
    width = kernels.CHILDREN * m
    held = h.fp[back : back + width] != 0
    return h.ip[at : at + 2 * n + width].astype(np.int64).tobytes(), held.tobytes()


# What was made for a grid serves the next operator on it.
@functools.lru_cache(maxsize=256)
def _tiles(shape: tuple[int, ...], coarse_planes: int, tables: tuple, wide: int, high: int
           ) -> list[list[tuple]] | None:  # fmt: skip
    """Return the tiles along x, y and z of `down` and of `up`; None where there are none."""
    nz, ny, nx = shape
    along_z, along_y, along_x = (_span(n, *table) for n, table in zip(shape, tables))
    parents = np.frombuffer(tables[0][0], np.int64)[: 2 * nz].reshape(nz, 2)
    steps = parents[:, 1] - parents[:, 0]
    marches = np.all(np.diff(parents[:, 0]) >= 0) and np.all((steps == 0) | (steps == 1))
    if not marches or along_z is None or along_y is None or along_x is None:
        return None
    xs, ys = _covering(*along_x, nx, wide), _covering(*along_y, ny, high)
    if xs is None or ys is None:
        return None
    first, last = along_z
    cuts = _marches(coarse_planes, 2, len(xs) * len(ys))
    tiles = [xs, ys, [(lo, hi, first[lo], last[hi - 1] + 1) for lo, hi in cuts]]
    xs, ys = _cover(nx, wide), _cover(ny, high)
    cuts = _marches(nz, 1, len(xs) * len(ys))
    return [*tiles, xs, ys, [(lo, hi, 0, 0) for lo, hi in cuts]]


def _span(n: int, indices: bytes, held: bytes) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the first and the last point that each coarse one takes from; None: with gaps."""
    width = kernels.CHILDREN
    children = np.frombuffer(indices, np.int64)[2 * n :].reshape(-1, width)
    taken = np.frombuffer(held, bool).reshape(-1, width)
    count = taken.sum(axis=1)
    here = np.arange(width) < count[:, None]
    near = children[:, :1] + np.arange(width)
    if np.any(taken != here) or np.any(count == 0) or np.any((children != near) & here):
        return None
    return children[:, 0], children[:, 0] + count - 1


def _covering(first: np.ndarray, last: np.ndarray, n: int, room: int) -> list[tuple] | None:
    """Cut coarse points into tiles that hold what they take from and two more at each side."""
    rows, m = [], len(first)
    low = 0
    while low < m:
        start, high = max(int(first[low]) - 2, 0), low
        while high < m and min(int(last[high]) + 2, n - 1) - start < room:
            high += 1
        if high == low:
            return None
        rows.append((low, high, start, 0))
        low = high
    return rows


def _cover(n: int, room: int) -> list[tuple]:
    """Cut points into tiles that hold two more at each side."""
    rows = []
    low = 0
    while low < n:
        start = max(low - 2, 0)
        high = n if n - start <= room else start + room - 2
        rows.append((low, high, start, 0))
        low = high
    return rows


@functools.cache
def _marches(planes: int, fine: int, tiles: int) -> list[tuple[int, int]]:
    """Cut planes into marches, so that all multiprocessors end about together.

    A plane here stands for `fine` planes that a march passes over.
    """
    at_once = 2
    if not arrays.simulated():
        import torch

        at_once = torch.cuda.get_device_properties(0).multi_processor_count
    best, cuts = math.inf, 1
    for count in range(1, min(planes, 64) + 1):
        longest = math.ceil(planes / count)
        cost = math.ceil(tiles * count / at_once) * (fine * longest + fused.BEFORE_AND_BEHIND)
        if cost < best:
            best, cuts = cost, count
    longest = math.ceil(planes / cuts)
    return [(low, min(low + longest, planes)) for low in range(0, planes, longest)]


class CudaParts(CudaOperator):
    """A real operator for complex vectors: it works on both parts."""

    def __init__(self, M: CudaOperator, dtype: Any) -> None:
        super().__init__(M.shape, dtype)
        self.symmetric, self.positive_definite = M.symmetric, M.positive_definite
        self.setup_seconds, self._M = M.setup_seconds, M
        self._room = [empty(M.shape[0], M.dtype) for _ in range(2)]

    def apply(self, log, x, out):
        part, result = self._room
        for name in ("real", "imag"):
            arrays.shared(part)[...] = getattr(arrays.shared(x), name)
            self._M.apply(log, part, result)
            getattr(arrays.shared(out), name)[...] = arrays.shared(result)

    def fresh(self):
        return CudaParts(self._M.fresh(), self.dtype)
