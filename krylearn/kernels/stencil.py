"""Products with a nearest-neighbour stencil on a structured grid of one to three axes.

A grid of fewer axes gets axes of one point in front. The unit of work is a segment: a line along
the last axis, or a part of one where lines are long. Neighbours outside a line are reached by
unsigned offsets that wrap around, so that the inner loops hold no test and vectorise.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from krylearn.kernels.parallel import jit, parallel_for, parallel_sum
from krylearn.kernels.vector import CHUNK

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
def _constant(lo, hi, geometry, table, x, y):
    nz, ny, nx, segments = geometry[0], geometry[1], geometry[2], geometry[3]
    one, size = np.uint64(1), np.uint64(_SEGMENT)
    total = y.dtype.type(0)
    for item in range(np.uint64(lo), np.uint64(hi)):
        line = item // segments
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
        first = start + (item - line * segments) * size
        last = min(first + size, stop)
        c = ends[1]
        d, xu, yu, zu, xl, yl, zl = c[0], c[3], c[2], c[1], c[6], c[5], c[4]
        for i in range(max(first, start + one), min(last, stop - one)):
            v = (
                d * x[i] + (xl * x[i - one] + xu * x[i + one])
                + (yl * x[i + left] + yu * x[i + right])
                + (zl * x[i + below] + zu * x[i + above])
            )  # fmt: skip
            y[i] = v
            total += np.conj(x[i]) * v
        for side in range(0, 3, 2):
            if (side == 0 and first == start) or (side == 2 and last == stop and nx > one):
                c = ends[side]
                i = start if side == 0 else stop - one
                at = i - start
                v = c[0] * x[i] + c[1] * x[i + above] + c[2] * x[i + right]
                v += c[4] * x[i + below] + c[5] * x[i + left]
                v += c[3] * x[i + _offset(at, nx, one, True, geometry[7])]
                v += c[6] * x[i + _offset(at, nx, one, False, geometry[7])]
                y[i] = v
                total += np.conj(x[i]) * v
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
        ndim, front = len(shape), 3 - len(shape)
        full = (1,) * front + tuple(shape)
        segments = -(-full[2] // _SEGMENT)
        shared = len(coefficients) == 1 + ndim
        wraps = (False,) * front + tuple(periodic)
        geometry = np.array([*full, segments, shared, *wraps], np.uint64)
        self._items = full[0] * full[1] * segments
        self._length = min(full[2], _SEGMENT)
        if constant:
            table = np.zeros((3, 3, 3, 7), coefficients.dtype)
            places = np.ix_(*[([0], [0, 2], [0, 1, 2])[min(n, 3) - 1] for n in full])
            values = coefficients.reshape(-1, *[min(n, 3) for n in full])
            table[..., 0][places] = values[0]
            for axis in range(ndim):
                table[..., 1 + front + axis][places] = values[1 + axis]
                table[..., 4 + front + axis][places] = np.conj(values[1 + ndim + axis])
            self._kernel, self._arrays = _constant, (geometry, table)
            return
        rows = np.zeros(6, np.int64)
        rows[front:3] = np.arange(1, 1 + ndim)
        rows[3 + front :] = rows[front:3] + (0 if shared else ndim)
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
