"""Sweeps over the rows of a matrix, colour by colour: the twins of `krylearn.kernels.triangular`.

Rows of a colour are not coupled, so that threads relax them at once. They are stored in slices of
as many rows as a warp has threads, entry beside entry (sliced ELLPACK: Monakov, Lokhmotov and
Avetisyan 2010, Automatically tuning sparse matrix-vector multiplication for GPU architectures):
what neighbouring threads read lies side by side.
"""

from __future__ import annotations

import math

import numpy as np
from numba import cuda

from krylearn.kernels.cuda.launch import BLOCKS, SIMULATED, THREADS, device, jit, launch
from krylearn.kernels.cuda.stencil import after, before, end_of

SLICE = 4 if SIMULATED else 32


@device
def _row(place, base, columns, values, x, total):
    """Return `total` less the products of a row; there are no columns behind its last."""
    s, n = place // SLICE, np.uint32(x.shape[0])
    k, end = np.uint32(base[s] + place % SLICE), base[s + 1]
    while k < end:
        j = columns[k]
        if j < n:
            total -= values[k] * x[j]
        k = np.uint32(k + SLICE)
    return total


@jit
def _relax(log, first, last, keep, adds, lower, upper, rows, scale, below, below_columns,
           below_values, above, above_columns, above_values, b, x):  # fmt: skip
    if log[0] != 0.0:
        return
    n, stride = np.uint32(x.shape[0]), np.uint32(cuda.gridsize(1))
    place, end = np.uint32(first * SLICE + cuda.grid(1)), np.uint32(last * SLICE)
    while place < end:
        i = rows[place]
        if i < n:
            total = x.dtype.type(0)
            if keep != 0.0:
                total = x.dtype.type(keep) * x[i]
            if adds:
                total += scale[place] * b[i]
            if lower:
                total = _row(place, below, below_columns, below_values, x, total)
            if upper:
                total = _row(place, above, above_columns, above_values, x, total)
            x[i] = total
        place = np.uint32(place + stride)


def relax(log, first: int, last: int, keep: float, scale, lower: bool, upper: bool, rows, below,
          above, b, x) -> None:  # fmt: skip
    """Do ``x = keep * x + scale * b - lower - upper products`` for the rows of slices.

    `scale` None leaves b out.
    """
    blocks = max(1, min(BLOCKS, math.ceil((last - first) * SLICE / THREADS)))
    launch(_relax, blocks, THREADS, log, first, last, keep, scale is not None, lower, upper, rows,
           below[2] if scale is None else scale, *below, *above, b, x)  # fmt: skip


# -- grids: red and black points, nothing stored -------------------------------------------------


@device
def _point(place, colour, nz, ny, nx):
    """Return the coordinates of a point of a colour, by pairs along x; i may lie past the end."""
    half = np.uint32((nx + 1) // 2)
    row = np.uint32(place // half)
    k = np.uint32(row // ny)
    j = np.uint32(row - k * ny)
    i = np.uint32(2 * np.uint32(place - row * half) + ((k + j + colour) & 1))
    return k, j, i


@device
def _relaxed(keep, first, around, d, value, b, x):
    """Return ``keep x + first b / d - around value / d``; what is multiplied by 0 is not read."""
    total = x.dtype.type(0)
    if first != 0.0:
        total += x.dtype.type(first) * b[0]
    if around != 0.0:
        total -= x.dtype.type(around) * value
    total = total / d
    if keep != 0.0:
        total += x.dtype.type(keep) * x[0]
    return total


@jit
def _relax_constant(log, colour, keep, first, around, nz, ny, nx, wz, wy, wx, table, b, x):
    if log[0] != 0.0:
        return
    nz, ny, nx = np.uint32(nz), np.uint32(ny), np.uint32(nx)
    size, one = np.uint32(nx * ny), np.uint32(1)
    place, many = np.uint32(cuda.grid(1)), np.uint32(nz * ny * ((nx + 1) // 2))
    while place < many:
        k, j, i = _point(place, np.uint32(colour), nz, ny, nx)
        if i < nx:
            at = np.uint32((k * ny + j) * nx + i)
            c = table[end_of(k, nz), end_of(j, ny), end_of(i, nx)]
            value = x.dtype.type(0)
            if around != 0.0:
                if i > 0 or wx != 0:
                    value += c[6] * x[before(at, i, nx, one, wx)]
                if i + 1 < nx or wx != 0:
                    value += c[3] * x[after(at, i, nx, one, wx)]
                if j > 0 or wy != 0:
                    value += c[5] * x[before(at, j, ny, nx, wy)]
                if j + 1 < ny or wy != 0:
                    value += c[2] * x[after(at, j, ny, nx, wy)]
                if k > 0 or wz != 0:
                    value += c[4] * x[before(at, k, nz, size, wz)]
                if k + 1 < nz or wz != 0:
                    value += c[1] * x[after(at, k, nz, size, wz)]
            x[at] = _relaxed(keep, first, around, c[0], value, b[at:], x[at:])
        place = np.uint32(place + cuda.gridsize(1))


@jit
def _relax_variable(log, colour, keep, first, around, nz, ny, nx, wz, wy, wx, rows, shared,
                    coefficients, b, x):  # fmt: skip
    # Lower couplings as in `stencil._variable`.
    if log[0] != 0.0:
        return
    nz, ny, nx = np.uint32(nz), np.uint32(ny), np.uint32(nx)
    size, one = np.uint32(nx * ny), np.uint32(1)
    diagonal = coefficients[0]
    zu, yu, xu = coefficients[rows[0]], coefficients[rows[1]], coefficients[rows[2]]
    zl, yl, xl = coefficients[rows[3]], coefficients[rows[4]], coefficients[rows[5]]
    place, many = np.uint32(cuda.grid(1)), np.uint32(nz * ny * ((nx + 1) // 2))
    while place < many:
        k, j, i = _point(place, np.uint32(colour), nz, ny, nx)
        if i < nx:
            at = np.uint32((k * ny + j) * nx + i)
            value = x.dtype.type(0)
            if around != 0.0:
                west, east = before(at, i, nx, one, wx), after(at, i, nx, one, wx)
                south, north = before(at, j, ny, nx, wy), after(at, j, ny, nx, wy)
                below, above = before(at, k, nz, size, wz), after(at, k, nz, size, wz)
                if i > 0 or wx != 0:
                    value += np.conj(xl[west if shared else at]) * x[west]
                if i + 1 < nx or wx != 0:
                    value += xu[at] * x[east]
                if j > 0 or wy != 0:
                    value += np.conj(yl[south if shared else at]) * x[south]
                if j + 1 < ny or wy != 0:
                    value += yu[at] * x[north]
                if k > 0 or wz != 0:
                    value += np.conj(zl[below if shared else at]) * x[below]
                if k + 1 < nz or wz != 0:
                    value += zu[at] * x[above]
            x[at] = _relaxed(keep, first, around, diagonal[at], value, b[at:], x[at:])
        place = np.uint32(place + cuda.gridsize(1))


def relax_grid(log, colour: int, keep: float, first: float, around: float, geometry: tuple,
               arrays: tuple, b, x) -> None:  # fmt: skip
    """Do ``x = keep x + first b / d - around (A - d) x / d`` at the points of a colour."""
    kernel = _relax_constant if len(arrays) == 1 else _relax_variable
    points = geometry[0] * geometry[1] * ((geometry[2] + 1) // 2)
    blocks = max(1, min(BLOCKS, math.ceil(points / THREADS)))
    launch(kernel, blocks, THREADS, log, colour, keep, first, around, *geometry, *arrays, b, x)
