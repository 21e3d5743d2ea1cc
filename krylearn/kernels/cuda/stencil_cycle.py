"""The learned stencil cycle on the device: the twins of `krylearn.kernels.stencil_cycle`.

A thread does one cell. Row 0 of the tables, which most cells share, stays in the first-level
cache; the row of each cell stands in ``index``.
"""

from __future__ import annotations

import numpy as np
from numba import cuda

from krylearn.kernels.cuda.launch import SIMULATED, jit, launch

# A block covers whole coarse cells. Shared memory holds what a block restricts.
BZ, BY, BX = (2, 2, 2) if SIMULATED else (2, 4, 32)


@jit
def _down(log, nz, ny, nx, index, smooth, restrict, r, t, below):
    if log[0] != 0.0:
        return
    shared = cuda.shared.array((BZ, BY, BX), r.dtype)
    tx, ty, tz = cuda.threadIdx.x, cuda.threadIdx.y, cuda.threadIdx.z
    i = np.int32(cuda.blockIdx.x * BX + tx)
    j = np.int32(cuda.blockIdx.y * BY + ty)
    k = np.int32(cuda.blockIdx.z * BZ + tz)
    a = r.dtype.type(0)
    b = r.dtype.type(0)
    if i < nx and j < ny and k < nz:
        at = np.int32((k * ny + j) * nx + i)
        row = index[at]
        for dk in range(-1, 2):
            if not 0 <= k + dk < nz:
                continue
            for dj in range(-1, 2):
                if not 0 <= j + dj < ny:
                    continue
                for di in range(-1, 2):
                    if 0 <= i + di < nx:
                        place = np.int32(9 * dk + 3 * dj + di + 13)
                        v = r[np.int32(at + (dk * ny + dj) * nx + di)]
                        a += smooth[row, place] * v
                        b += restrict[row, place] * v
        t[at] = a
    shared[tz, ty, tx] = b
    cuda.syncthreads()
    if tx % 2 == 0 and ty % 2 == 0 and tz % 2 == 0 and i < nx and j < ny and k < nz:
        total = r.dtype.type(0)
        for dk in range(2):
            for dj in range(2):
                total += shared[tz + dk, ty + dj, tx] + shared[tz + dk, ty + dj, tx + 1]
        mx, my = (nx + 1) // 2, (ny + 1) // 2
        below[np.int32(((k // 2) * my + j // 2) * mx + i // 2)] = total


@jit
def _up(log, nz, ny, nx, index, scale, smooth, prolong, r, t, e, out):
    if log[0] != 0.0:
        return
    i = np.int32(cuda.blockIdx.x * BX + cuda.threadIdx.x)
    j = np.int32(cuda.blockIdx.y * BY + cuda.threadIdx.y)
    k = np.int32(cuda.blockIdx.z * BZ + cuda.threadIdx.z)
    if not (i < nx and j < ny and k < nz):
        return
    mx, my = np.int32((nx + 1) // 2), np.int32((ny + 1) // 2)
    at = np.int32((k * ny + j) * nx + i)
    row = index[at]
    a = scale[row] * r[at]
    for dk in range(-1, 2):
        if not 0 <= k + dk < nz:
            continue
        for dj in range(-1, 2):
            if not 0 <= j + dj < ny:
                continue
            line = np.int32((((k + dk) // 2) * my + (j + dj) // 2) * mx)
            for di in range(-1, 2):
                if 0 <= i + di < nx:
                    place = np.int32(9 * dk + 3 * dj + di + 13)
                    a += smooth[row, place] * t[np.int32(at + (dk * ny + dj) * nx + di)]
                    a += prolong[row, place] * e[np.int32(line + (i + di) // 2)]
    out[at] = a


def _blocks(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    nz, ny, nx = shape
    return -(-nx // BX), -(-ny // BY), -(-nz // BZ)


def down(log, level, r, t, below) -> None:
    """Queue ``t = S r`` and ``below = P' R r``."""
    launch(_down, _blocks(level.shape), (BX, BY, BZ), log, *map(np.int32, level.shape),
           level.index, level.smooth, level.restrict, r, t, below)  # fmt: skip


def up(log, level, r, t, e, out) -> None:
    """Queue ``out = scale r + S t + W P e``."""
    launch(_up, _blocks(level.shape), (BX, BY, BZ), log, *map(np.int32, level.shape),
           level.index, level.scale, level.smooth_up, level.prolong, r, t, e, out)  # fmt: skip
