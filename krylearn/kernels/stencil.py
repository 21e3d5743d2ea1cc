"""Products with a nearest-neighbour stencil on a structured grid of one to three axes.

A grid of fewer axes gets axes of one point. The unit of work is a segment: a line along
the last axis, or a part of one where lines are long. Neighbours outside a line are reached by
unsigned offsets that wrap around, so that the inner loops hold no test and vectorise.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from krylearn.kernels.parallel import jit, parallel_for, parallel_sum
from krylearn.kernels.vector import CHUNK, root

GRAIN = 16384
# Points of a line that stay in the first-level cache while the coefficients are passed over.
_SEGMENT = 2048


@jit
def _offset(i, n, stride, upward, wraps):
    """Return where the neighbour along an axis lies, 0 where there is none."""
    one, back = np.uint64(1), np.uint64(0) - stride
    if upward:
        if i + one < n:
            return stride
        return back * (n - one) if wraps else back * np.uint64(0)
    if i > np.uint64(0):
        return back
    return stride * (n - one) if wraps else back * np.uint64(0)


@jit
def _segment(item, geometry):
    """Return the line, and the first and last point, of an item of work."""
    nx, segments = geometry[2], geometry[3]
    line = item // segments
    first = line * nx + (item - line * segments) * np.uint64(_SEGMENT)
    return line, first, min(first + np.uint64(_SEGMENT), line * nx + nx)


@jit
def _product(line, first, last, geometry, table, x, out):
    """Write the product at the points of a segment into `out`, which begins at `first`."""
    nz, ny, nx = geometry[0], geometry[1], geometry[2]
    one = np.uint64(1)
    k = line // ny
    j = line - k * ny
    # 0 at the low end of an axis, 2 at its high end, 1 between.
    ends = table[
        0 if k == 0 else (1 if k + one < nz else 2), 0 if j == 0 else (1 if j + one < ny else 2)
    ]
    below = _offset(k, nz, ny * nx, False, geometry[5])
    above = _offset(k, nz, ny * nx, True, geometry[5])
    left = _offset(j, ny, nx, False, geometry[6])
    right = _offset(j, ny, nx, True, geometry[6])
    start = line * nx
    stop = start + nx
    c = ends[1]
    d, xu, yu, zu, xl, yl, zl = c[0], c[3], c[2], c[1], c[6], c[5], c[4]
    for i in range(max(first, start + one), min(last, stop - one)):
        out[i - first] = (
            d * x[i] + (xl * x[i - one] + xu * x[i + one])
            + (yl * x[i + left] + yu * x[i + right])
            + (zl * x[i + below] + zu * x[i + above])
        )  # fmt: skip
    for side in range(0, 3, 2):
        if (side == 0 and first == start) or (side == 2 and last == stop and nx > one):
            c = ends[side]
            i = start if side == 0 else stop - one
            at = i - start
            v = c[0] * x[i] + c[1] * x[i + above] + c[2] * x[i + right]
            v += c[4] * x[i + below] + c[5] * x[i + left]
            v += c[3] * x[i + _offset(at, nx, one, True, geometry[7])]
            v += c[6] * x[i + _offset(at, nx, one, False, geometry[7])]
            out[i - first] = v


@jit
def _constant(lo, hi, geometry, table, x, y):
    total = y.dtype.type(0)
    for item in range(np.uint64(lo), np.uint64(hi)):
        line, first, last = _segment(item, geometry)
        _product(line, first, last, geometry, table, x, y[first:last])
        for i in range(first, last):
            total += np.conj(x[i]) * y[i]
    return total


@jit
def _plane_dot(k, geometry, table, p, line_of_q):
    """Return ``conj(p) @ (A @ p)`` over the points of plane k."""
    per_plane = geometry[1] * geometry[3]
    total = p.dtype.type(0)
    for item in range(k * per_plane, (k + np.uint64(1)) * per_plane):
        line, first, last = _segment(item, geometry)
        _product(line, first, last, geometry, table, p, line_of_q)
        part = p[first:last]
        for i in range(part.shape[0]):
            total += np.conj(part[i]) * line_of_q[i]
    return total


@jit
def _direction(lo, hi, geometry, table, alpha, beta, r, p, x):
    # A plane of p is new before the products of the plane behind it are taken, while it is in
    # cache. The products of a chunk's first and last plane wait for the neighbouring chunks.
    one, size = np.uint64(1), geometry[1] * geometry[2]
    a, b = p.dtype.type(alpha), p.dtype.type(beta)
    line_of_q = np.empty(min(geometry[2], np.uint64(_SEGMENT)), p.dtype)
    total = p.dtype.type(0)
    for k in range(np.uint64(lo), np.uint64(hi)):
        for i in range(k * size, (k + one) * size):
            last = p[i]
            x[i] += a * last
            p[i] = r[i] + b * last
        if k >= np.uint64(lo) + np.uint64(2):
            total += _plane_dot(k - one, geometry, table, p, line_of_q)
    return total


@jit
def _direction_ends(lo, hi, planes, geometry, table, p):
    one = np.uint64(1)
    line_of_q = np.empty(min(geometry[2], np.uint64(_SEGMENT)), p.dtype)
    total = p.dtype.type(0)
    for chunk in range(np.uint64(lo), np.uint64(hi)):
        first = chunk * np.uint64(planes)
        last = min(first + np.uint64(planes), geometry[0]) - one
        total += _plane_dot(first, geometry, table, p, line_of_q)
        if last > first:
            total += _plane_dot(last, geometry, table, p, line_of_q)
    return total


@jit
def _descend(lo, hi, geometry, table, alpha, p, r):
    a = r.dtype.type(alpha)
    line_of_q = np.empty(min(geometry[2], np.uint64(_SEGMENT)), p.dtype)
    total = r[:1].real[0] * 0
    for item in range(np.uint64(lo), np.uint64(hi)):
        line, first, last = _segment(item, geometry)
        _product(line, first, last, geometry, table, p, line_of_q)
        part = r[first:last]
        for i in range(part.shape[0]):
            t = part[i] - a * line_of_q[i]
            part[i] = t
            total += t.real * t.real + t.imag * t.imag
    return total


@jit
def _variable(lo, hi, geometry, rows, coefficients, x, y):
    # Stored lower couplings are conjugated; where the matrix is its own adjoint in them
    # (`shared`), they are the upper ones of the neighbour.
    nz, ny, nx, segments, shared = geometry[0], geometry[1], geometry[2], geometry[3], geometry[4]
    one, size = np.uint64(1), np.uint64(_SEGMENT)
    total = y.dtype.type(0)
    diagonal, xu, xl = coefficients[0], coefficients[rows[2]], coefficients[rows[5]]
    for item in range(np.uint64(lo), np.uint64(hi)):
        line = item // segments
        k = line // ny
        start = line * nx
        stop = start + nx
        first = start + (item - line * segments) * size
        last = min(first + size, stop)
        for i in range(max(first, start + one), min(last, stop - one)):
            y[i] = (
                diagonal[i] * x[i] + xu[i] * x[i + one] + np.conj(xl[i - shared]) * x[i - one]
            )
        for side in range(2):
            if (side == 0 and first == start) or (side == 1 and last == stop and nx > one):
                i = start if side == 0 else stop - one
                up = _offset(i - start, nx, one, True, geometry[7])
                down = _offset(i - start, nx, one, False, geometry[7])
                v = diagonal[i] * x[i]
                if i + one < stop or geometry[7] != 0:
                    v += xu[i] * x[i + up]
                if i > start or geometry[7] != 0:
                    v += np.conj(xl[i + down * shared]) * x[i + down]
                y[i] = v
        # One neighbour a pass: more streams than LLVM tests for overlap would keep the loop from
        # vectorising, and the segment of y stays in cache.
        for axis in range(2):
            at, n, stride = k, nz, ny * nx
            if axis == 1:
                at, n, stride = line - k * ny, ny, nx
            wraps = geometry[5 + axis]
            if at + one < n or wraps != 0:
                upper = coefficients[rows[axis]]
                offset = _offset(at, n, stride, True, wraps)
                for i in range(first, last):
                    y[i] += upper[i] * x[i + offset]
            if at > 0 or wraps != 0:
                lower = coefficients[rows[3 + axis]]
                offset = _offset(at, n, stride, False, wraps)
                shift = offset * shared
                for i in range(first, last):
                    y[i] += np.conj(lower[i + shift]) * x[i + offset]
        for i in range(first, last):
            total += np.conj(x[i]) * y[i]
    return total


class Stencil:
    """A stencil of one dtype, ready to be applied.

    Parameters
    ----------
    shape : tuple of int
        Points along each axis.
    periodic : tuple of bool
        Whether each axis closes on itself.
    coefficients : (1 + ndim or 1 + 2 ndim, ...) array
        The diagonal; for each axis ``A[i, i + e]``; and for each axis ``conj(A[i, i - e])``, left
        out where that is ``A[i - e, i]``. Zero where there is no such neighbour.
    constant : bool
        The coefficients are given for at most three points along each axis, which stand for the
        low end, all points between, and the high end; the lower couplings are among them.
        Otherwise they are given for all points.
    """

    def __init__(self, shape: tuple[int, ...], periodic: tuple[bool, ...],
                 coefficients: np.ndarray, constant: bool) -> None:  # fmt: skip
        ndim = len(shape)
        # A plane across the first axis is a set of lines: one of them in two dimensions.
        slots = {1: [2], 2: [0, 2], 3: [0, 1, 2]}[ndim]
        full, wraps = [1, 1, 1], [False] * 3
        for slot, n, wrap in zip(slots, shape, periodic):
            full[slot], wraps[slot] = n, wrap
        segments = -(-full[2] // _SEGMENT)
        shared = len(coefficients) == 1 + ndim
        geometry = np.array([*full, segments, shared, *wraps], np.uint64)
        self._arrays: tuple
        self._items = full[0] * full[1] * segments
        self._length = min(full[2], _SEGMENT)
        self._planes, self._plane = full[0], full[1] * full[2]
        self.constant = constant
        if constant:
            table = np.zeros((3, 3, 3, 7), coefficients.dtype)
            places = np.ix_(*[([0], [0, 2], [0, 1, 2])[min(n, 3) - 1] for n in full])
            values = coefficients.reshape(-1, *[min(n, 3) for n in full])
            table[..., 0][places] = values[0]
            for axis, slot in enumerate(slots):
                table[..., 1 + slot][places] = values[1 + axis]
                table[..., 4 + slot][places] = np.conj(values[1 + ndim + axis])
            self._kernel, self._arrays = _constant, (geometry, table)
            return
        rows = np.zeros(6, np.int64)
        for axis, slot in enumerate(slots):
            rows[slot] = 1 + axis
            rows[3 + slot] = rows[slot] + (0 if shared else ndim)
        flat = coefficients.reshape(len(coefficients), -1)
        self._kernel, self._arrays = _variable, (geometry, rows.view(np.uint64), flat)

    def apply(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Do ``y = A @ x``; return y."""
        grain = max(1, GRAIN // self._length)
        parallel_for(self._kernel, self._items, grain, *self._arrays, x, y)
        return y

    def apply_dot(self, x: np.ndarray, y: np.ndarray) -> Any:
        """Do ``y = A @ x``; return ``conj(x) @ y``."""
        chunk = max(1, CHUNK // self._length)
        return parallel_sum(self._kernel, self._items, chunk, *self._arrays, x, y)

    @property
    def arrays(self) -> tuple:
        """The geometry and the coefficients, for the twin on the CUDA device."""
        return self._arrays

    @property
    def fuses(self) -> bool:
        """Whether `direction` and `descend` pay: many planes, some of which fit in cache."""
        return self.constant and self._planes >= 16 and CHUNK // 16 <= self._plane * 16 <= 2**22

    def direction(self, alpha: Any, beta: Any, r: np.ndarray, p: np.ndarray,
                  x: np.ndarray) -> Any:  # fmt: skip
        """Do ``x += alpha * p; p = r + beta * p``; return ``conj(p) @ (A @ p)``.

        With `descend`, an iteration of conjugate gradients that passes eight vectors through
        memory where separate operations pass eleven: ``A @ p`` is formed twice and never stored.
        """
        # A chunk's end planes are read twice: few chunks, yet their number is fixed.
        planes = max(4, -(-self._planes // 16))
        chunks = -(-self._planes // planes)
        inside = parallel_sum(
            _direction, self._planes, planes, *self._arrays, alpha, beta, r, p, x
        )
        return inside + parallel_sum(_direction_ends, chunks, 1, planes, *self._arrays, p)

    def descend(self, alpha: Any, p: np.ndarray, r: np.ndarray) -> float:
        """Do ``r -= alpha * (A @ p)``; return the norm of r."""
        chunk = max(1, CHUNK // self._length)
        return root(parallel_sum(_descend, self._items, chunk, *self._arrays, alpha, p, r), r)
