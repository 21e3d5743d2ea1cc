"""Products with a nearest-neighbour stencil: the twins of `krylearn.kernels.stencil`.

A block of threads covers a tile of a plane and marches along the first axis with the values of
three planes in registers (2.5-D blocking: Micikevicius 2009, 3D finite difference computation on
GPUs using CUDA); neighbours in the plane come out of the first-level cache.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda

from krylearn.kernels.cuda.launch import SIMULATED, THREADS, block_sum, device, jit, launch

# Planes that a block marches through, and how many blocks keep the device busy (twice as many
# where an element has four bytes). All measured on an H100.
SHORTEST = 2 if SIMULATED else 4
LONGEST = 64
ENOUGH = 2 if SIMULATED else 1024
# Points along a line of a tile.
WIDE = 2 if SIMULATED else 64


@device
def before(i, at, n, stride, wraps):
    """Return the point before i along an axis, i itself where there is none."""
    if at > 0:
        return np.uint32(i - stride)
    return np.uint32(i + stride * (n - 1)) if wraps != 0 else np.uint32(i)


@device
def after(i, at, n, stride, wraps):
    """Return the point after i along an axis, i itself where there is none."""
    if at + 1 < n:
        return np.uint32(i + stride)
    return np.uint32(i - stride * (n - 1)) if wraps != 0 else np.uint32(i)


@device
def end_of(at, n):
    """Return 0 at the low end of an axis, 2 at its high end, 1 between."""
    if at == 0:
        return 0
    return 1 if at + 1 < n else 2


@device
def _block():
    """Return the number of this block, and of this thread in it."""
    block = (cuda.blockIdx.z * cuda.gridDim.y + cuda.blockIdx.y) * cuda.gridDim.x + cuda.blockIdx.x
    return block, cuda.threadIdx.y * cuda.blockDim.x + cuda.threadIdx.x


@jit
def _constant(log, nz, ny, nx, wz, wy, wx, planes, table, x, y, sums):
    if log[0] != 0.0:
        return
    nz, ny, nx = np.uint32(nz), np.uint32(ny), np.uint32(nx)
    i = np.uint32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
    j = np.uint32(cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y)
    first = np.uint32(cuda.blockIdx.z * planes)
    last = np.uint32(min(first + planes, nz))
    size = np.uint32(nx * ny)
    value = sums.dtype.type(0)
    if i < nx and j < ny:
        at = np.uint32((first * ny + j) * nx + i)
        west = before(at, i, nx, np.uint32(1), wx)
        east = after(at, i, nx, np.uint32(1), wx)
        south = before(at, j, ny, nx, wy)
        north = after(at, j, ny, nx, wy)
        c = table[end_of(first, nz), end_of(j, ny), end_of(i, nx)]
        d, zu, yu, xu, zl, yl, xl = c[0], c[1], c[2], c[3], c[4], c[5], c[6]
        below, here = x[before(at, first, nz, size, wz)], x[at]
        k = first
        while k < last:
            if k == 1 or k + 1 == nz:
                c = table[end_of(k, nz), end_of(j, ny), end_of(i, nx)]
                d, zu, yu, xu, zl, yl, xl = c[0], c[1], c[2], c[3], c[4], c[5], c[6]
            above = x[after(at, k, nz, size, wz)]
            t = d * here + (xl * x[west] + xu * x[east])
            t += (yl * x[south] + yu * x[north]) + (zl * below + zu * above)
            y[at] = t
            value += np.conj(here) * t
            below, here = here, above
            at, west, east = np.uint32(at + size), np.uint32(west + size), np.uint32(east + size)
            south, north = np.uint32(south + size), np.uint32(north + size)
            k = np.uint32(k + 1)
    block, t = _block()
    block_sum(value, t, sums[block:])


@jit
def _direction(log, S, alpha, beta, gain, nz, ny, nx, wz, wy, wx, planes, table, r, p, x, p_new,
               sums):  # fmt: skip
    # The new p at a point's neighbours is made again from r and the old p, so that nothing
    # waits for another block; hence the second array for it. r may be of lower precision.
    if log[0] != 0.0:
        return
    nz, ny, nx = np.uint32(nz), np.uint32(ny), np.uint32(nx)
    a, b, g = p.dtype.type(S[alpha]), p.dtype.type(S[beta]), p.dtype.type(S[gain])
    i = np.uint32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
    j = np.uint32(cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y)
    first = np.uint32(cuda.blockIdx.z * planes)
    last = np.uint32(min(first + planes, nz))
    size = np.uint32(nx * ny)
    value = sums.dtype.type(0)
    if i < nx and j < ny:
        at = np.uint32((first * ny + j) * nx + i)
        west = before(at, i, nx, np.uint32(1), wx)
        east = after(at, i, nx, np.uint32(1), wx)
        south = before(at, j, ny, nx, wy)
        north = after(at, j, ny, nx, wy)
        c = table[end_of(first, nz), end_of(j, ny), end_of(i, nx)]
        d, zu, yu, xu, zl, yl, xl = c[0], c[1], c[2], c[3], c[4], c[5], c[6]
        under = before(at, first, nz, size, wz)
        old = p[at]
        below, here = g * r[under] + b * p[under], g * r[at] + b * old
        k = first
        while k < last:
            if k == 1 or k + 1 == nz:
                c = table[end_of(k, nz), end_of(j, ny), end_of(i, nx)]
                d, zu, yu, xu, zl, yl, xl = c[0], c[1], c[2], c[3], c[4], c[5], c[6]
            over = after(at, k, nz, size, wz)
            old_above = p[over]
            above = g * r[over] + b * old_above
            w, e = g * r[west] + b * p[west], g * r[east] + b * p[east]
            s, n = g * r[south] + b * p[south], g * r[north] + b * p[north]
            x[at] += a * old
            p_new[at] = here
            t = d * here + (xl * w + xu * e) + (yl * s + yu * n) + (zl * below + zu * above)
            value += np.conj(here) * t
            below, here, old = here, above, old_above
            at, west, east = np.uint32(at + size), np.uint32(west + size), np.uint32(east + size)
            south, north = np.uint32(south + size), np.uint32(north + size)
            k = np.uint32(k + 1)
    block, t = _block()
    block_sum(value, t, sums[block:])


@jit
def _descend(log, S, alpha, scale, nz, ny, nx, wz, wy, wx, planes, table, p, r, low, sums):
    # Where `scale` names a scalar, low gets that times r, in its own precision.
    if log[0] != 0.0:
        return
    nz, ny, nx = np.uint32(nz), np.uint32(ny), np.uint32(nx)
    a, factor = p.dtype.type(S[alpha]), p.dtype.type(S[max(scale, 0)])
    i = np.uint32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
    j = np.uint32(cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y)
    first = np.uint32(cuda.blockIdx.z * planes)
    last = np.uint32(min(first + planes, nz))
    size = np.uint32(nx * ny)
    value = sums.dtype.type(0)
    if i < nx and j < ny:
        at = np.uint32((first * ny + j) * nx + i)
        west = before(at, i, nx, np.uint32(1), wx)
        east = after(at, i, nx, np.uint32(1), wx)
        south = before(at, j, ny, nx, wy)
        north = after(at, j, ny, nx, wy)
        c = table[end_of(first, nz), end_of(j, ny), end_of(i, nx)]
        d, zu, yu, xu, zl, yl, xl = c[0], c[1], c[2], c[3], c[4], c[5], c[6]
        below, here = p[before(at, first, nz, size, wz)], p[at]
        k = first
        while k < last:
            if k == 1 or k + 1 == nz:
                c = table[end_of(k, nz), end_of(j, ny), end_of(i, nx)]
                d, zu, yu, xu, zl, yl, xl = c[0], c[1], c[2], c[3], c[4], c[5], c[6]
            above = p[after(at, k, nz, size, wz)]
            t = d * here + (xl * p[west] + xu * p[east])
            t += (yl * p[south] + yu * p[north]) + (zl * below + zu * above)
            t = r[at] - a * t
            r[at] = t
            if scale >= 0:
                low[at] = factor * t
            value += t.real * t.real + t.imag * t.imag
            below, here = here, above
            at, west, east = np.uint32(at + size), np.uint32(west + size), np.uint32(east + size)
            south, north = np.uint32(south + size), np.uint32(north + size)
            k = np.uint32(k + 1)
    block, t = _block()
    block_sum(value, t, sums[block:])


@jit
def _variable(log, nz, ny, nx, wz, wy, wx, planes, rows, shared, coefficients, x, y, sums):
    # As on the CPU: stored lower couplings are conjugated; where the matrix is its own adjoint
    # in them (`shared`), they are the upper ones of the neighbour.
    if log[0] != 0.0:
        return
    nz, ny, nx = np.uint32(nz), np.uint32(ny), np.uint32(nx)
    i = np.uint32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
    j = np.uint32(cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y)
    first = np.uint32(cuda.blockIdx.z * planes)
    last = np.uint32(min(first + planes, nz))
    size = np.uint32(nx * ny)
    value, zero = sums.dtype.type(0), x.dtype.type(0)
    if i < nx and j < ny:
        diagonal, zu, yu, xu = (
            coefficients[0], coefficients[rows[0]], coefficients[rows[1]], coefficients[rows[2]]
        )  # fmt: skip
        zl, yl, xl = coefficients[rows[3]], coefficients[rows[4]], coefficients[rows[5]]
        at = np.uint32((first * ny + j) * nx + i)
        west = before(at, i, nx, np.uint32(1), wx)
        east = after(at, i, nx, np.uint32(1), wx)
        south = before(at, j, ny, nx, wy)
        north = after(at, j, ny, nx, wy)
        under = before(at, first, nz, size, wz)
        below, here = x[under], x[at]
        k = first
        while k < last:
            over = after(at, k, nz, size, wz)
            above = x[over]
            # All loads first, so that they are on their way together; then what counts of them.
            cw, ce = np.conj(xl[west if shared else at]), xu[at]
            cs, cn = np.conj(yl[south if shared else at]), yu[at]
            cb, ca = np.conj(zl[under if shared else at]), zu[at]
            t = diagonal[at] * here
            t += (cw if i > 0 or wx != 0 else zero) * x[west]
            t += (ce if i + 1 < nx or wx != 0 else zero) * x[east]
            t += (cs if j > 0 or wy != 0 else zero) * x[south]
            t += (cn if j + 1 < ny or wy != 0 else zero) * x[north]
            t += (cb if k > 0 or wz != 0 else zero) * below
            t += (ca if k + 1 < nz or wz != 0 else zero) * above
            y[at] = t
            value += np.conj(here) * t
            below, here, under = here, above, at
            at, west, east = np.uint32(at + size), np.uint32(west + size), np.uint32(east + size)
            south, north = np.uint32(south + size), np.uint32(north + size)
            k = np.uint32(k + 1)
    block, t = _block()
    block_sum(value, t, sums[block:])


class Launch:
    """How a grid is cut into tiles and marches.

    Attributes
    ----------
    blocks, threads : tuple of int
    planes : int
        That a block marches through.
    count : int
        Blocks in all: sums that a kernel leaves.
    """

    def __init__(self, nz: int, ny: int, nx: int, itemsize: int) -> None:
        # Wide tiles, so that lines of memory are used whole; square ones, where there is room.
        wide = WIDE if ny > 1 else THREADS
        high = THREADS // wide
        across, along = math.ceil(nx / wide), math.ceil(ny / high)
        enough = ENOUGH * max(1, 8 // itemsize)
        marches = max(1, math.ceil(enough / (across * along)))
        self.planes = min(LONGEST, max(SHORTEST, math.ceil(nz / marches)), nz)
        self.blocks = (across, along, math.ceil(nz / self.planes))
        self.threads = (wide, high)
        self.count = math.prod(self.blocks)


def apply(plan: Launch, log: Any, geometry: tuple, arrays: tuple, x, y, sums) -> None:
    """Do ``y = A @ x``; sum ``conj(x) @ y``."""
    kernel = _constant if len(arrays) == 1 else _variable
    launch(kernel, plan.blocks, plan.threads, log, *geometry, plan.planes, *arrays, x, y, sums)


def direction(plan: Launch, log: Any, S, alpha: int, beta: int, gain: int, geometry: tuple, table,
              r, p, x, p_new, sums) -> None:  # fmt: skip
    """Do ``x += alpha * p; p_new = gain * r + beta * p``; sum ``conj(p_new) @ (A @ p_new)``."""
    launch(_direction, plan.blocks, plan.threads, log, S, alpha, beta, gain, *geometry,
           plan.planes, table, r, p, x, p_new, sums)  # fmt: skip


def descend(plan: Launch, log: Any, S, alpha: int, geometry: tuple, table, p, r, sums,
            scale: int = -1, low: Any = None) -> None:  # fmt: skip
    """Do ``r -= alpha * (A @ p)`` and, with a `low`, ``low = scale * r``; sum the squares of r."""
    launch(_descend, plan.blocks, plan.threads, log, S, alpha, scale, *geometry, plan.planes,
           table, p, r, r if low is None else low, sums)  # fmt: skip
