"""The coefficients of a multigrid hierarchy, made by the whole device level by level.

What `krylearn.solvers.multigrid.packed` and the masks of `krylearn.solvers.multigrid.levels` do on
the CPU. A level is a row of numbers as in `box`, always with three axes; tables lie as in
`krylearn.cuda.levels`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda

from krylearn.kernels.cuda import coarsening
from krylearn.kernels.cuda.box import (
    FLOATS,
    INTS,
    NX,
    NY,
    NZ,
    PARENTS,
    POINTS,
    SHARES,
    SIX,
    west_of,
)
from krylearn.kernels.cuda.coarsening import NOTHING, seat_among
from krylearn.kernels.cuda.launch import BLOCKS, THREADS, block_sum, blocks_for, device, jit, launch

# What `look` counts: entries that are no numbers, diagonals that are not positive, couplings that
# are, links next to each other that differ by a jump, solid points in thin walls, and solid points.
NONFINITE, INDEFINITE, POSITIVE, JUMPS, THIN, SOLID, COUNTS = range(7)


@device
def _stride(axis, ny, nx):
    """Return how far apart neighbours along z, y or x lie."""
    return np.uint32(1) if axis == 2 else (nx if axis == 1 else np.uint32(ny * nx))


@jit
def _look(nz, ny, nx, rows, masked, jump, A, mask, sums):
    n, at = np.uint32(nz * ny * nx), np.uint32(cuda.grid(1))
    step, nx, ny = np.uint32(cuda.gridsize(1)), np.uint32(nx), np.uint32(ny)
    bad, low, above, jumps, thin, solid = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    while at < n:
        row = np.uint32(at // nx)
        k = np.uint32(row // ny)
        d = A[at]
        if not abs(d) < math.inf:
            bad += 1.0
        if not d > 0:
            low += 1.0
        closed, between = masked != 0 and mask[at] == 0, False
        for axis in range(3):
            if rows[axis] == 0:
                continue
            size = np.uint32(nz if axis == 0 else (ny if axis == 1 else nx))
            here = np.uint32(k if axis == 0 else (row - k * ny if axis == 1 else at - row * nx))
            stride = _stride(axis, ny, nx)
            c = A[rows[axis] * n :]
            ahead = -c[at]
            if not abs(ahead) < math.inf:
                bad += 1.0
            if ahead < 0:
                above += 1.0
            if here > 0 and here + 1 < size:
                behind = -c[np.uint32(at - stride)]
                open_ = ahead > 0 and behind > 0
                if open_ and max(ahead, behind) > jump * min(ahead, behind):
                    jumps += 1.0
            if closed:
                west = west_of(here, size, at, stride)
                east = np.uint32(at + stride)
                if here + 1 == size:
                    east = np.uint32(at - stride * (size - 1))
                between = between or (mask[west] != 0 and mask[east] != 0)
        if closed:
            solid += 1.0
            if between:
                thin += 1.0
        at = np.uint32(at + step)
    t, block = cuda.threadIdx.x, cuda.blockIdx.x
    block_sum(bad, t, sums[NONFINITE, block:])
    block_sum(low, t, sums[INDEFINITE, block:])
    block_sum(above, t, sums[POSITIVE, block:])
    block_sum(jumps, t, sums[JUMPS, block:])
    block_sum(thin, t, sums[THIN, block:])
    block_sum(solid, t, sums[SOLID, block:])


@jit
def _finest(level, rows, masked, eps, unit, A, mask, c, excess):
    # The couplings of A are negative, and its rows are in another order.
    nz, ny, nx = level[NZ], level[NY], level[NX]
    n = np.uint32(nz * ny * nx)
    first, row, wide, high = seat_among(level[POINTS], cuda.blockIdx.x, cuda.gridDim.x)
    while row < nz * ny:
        k = np.uint32(row // ny)
        j, i = np.uint32(row - k * ny), first
        while i < nx:
            at = np.uint32(row * nx + i)
            d = A[at]
            rest = d
            for axis in range(3):
                place = np.uint32((3 - axis) * n + at)
                if rows[axis] == 0:
                    c[place] = 0.0
                    continue
                size = nz if axis == 0 else (ny if axis == 1 else nx)
                here = k if axis == 0 else (j if axis == 1 else i)
                base = np.uint32(rows[axis] * n)
                link = -A[np.uint32(base + at)]
                west = west_of(here, size, at, _stride(axis, ny, nx))
                rest -= abs(link) + abs(A[np.uint32(base + west)])
                c[place] = link * unit
            held = abs(rest) > eps * d and rest > 0.0
            if masked != 0:
                held = held and mask[at] != 0
            excess[at] = rest * unit if held else 0.0
            v = d * unit
            c[at] = 1.0 / v if v > 0.0 else NOTHING
            i = np.uint32(i + wide)
        row = np.uint32(row + high)


@jit
def _split_sides(level, held, excess, ties):
    coarsening.split_sides(3, level, held, excess, ties, cuda.blockIdx.x, cuda.gridDim.x)


@jit
def _coarsen(level, coarse, held, ip, fp, c, excess, coarse_c, coarse_excess, ties):
    block, blocks = cuda.blockIdx.x, cuda.gridDim.x
    coarsening.coarsen(3, level, coarse, ip, fp, c, excess, coarse_c, coarse_excess, block, blocks)
    coarsening.coarsen_sides(3, level, coarse, held, ip, fp, c, ties, block, blocks)


@jit
def _diagonal(level, held, excess, ties, c):
    coarsening.diagonal(3, level, held, excess, ties, c, cuda.blockIdx.x, cuda.gridDim.x)


@jit
def _coarsen_mask(level, coarse, ip, fp, mask, out):
    # A coarse point is active if any part of it is.
    nz, ny, nx = level[NZ], level[NY], level[NX]
    mz, my, mx = coarse[NZ], coarse[NY], coarse[NX]
    iz, wz = _shares(level, 0, nz, mz)
    iy, wy = _shares(level, 1, ny, my)
    ix, wx = _shares(level, 2, nx, mx)
    first, row, wide, high = seat_among(coarse[POINTS], cuda.blockIdx.x, cuda.gridDim.x)
    while row < mz * my:
        K = np.uint32(row // my)
        J, I = np.uint32(row - K * my), first
        while I < mx:
            active = False
            for a in range(level[SHARES]):
                z = np.uint32(a * mz + K)
                for b in range(level[SHARES + 1]):
                    y = np.uint32(b * my + J)
                    v = fp[np.uint32(wz + z)] * fp[np.uint32(wy + y)]
                    line = np.uint32((ip[np.uint32(iz + z)] * ny + ip[np.uint32(iy + y)]) * nx)
                    for s in range(level[SHARES + 2]):
                        x = np.uint32(s * mx + I)
                        if v * fp[np.uint32(wx + x)] != 0:
                            here = mask[np.uint32(line + ip[np.uint32(ix + x)])]
                            active = active or here != 0
            out[np.uint32(row * mx + I)] = 1 if active else 0
            I = np.uint32(I + wide)
        row = np.uint32(row + high)


@device
def _shares(level, slot, n, m):
    """Return where the shares of an axis lie, and their weights."""
    return (
        np.uint32(level[INTS + slot] + 2 * n + SIX * m),
        np.uint32(level[FLOATS + slot] + 2 * n + SIX * m),
    )


@jit
def _pass(level, coarse, ip, fp, masked, mask, coarse_mask, out):
    # What interpolated values are multiplied by: coarse points that hold none take no part.
    nz, ny, nx = level[NZ], level[NY], level[NX]
    my, mx = coarse[NY], coarse[NX]
    first, row, wide, high = seat_among(level[POINTS], cuda.blockIdx.x, cuda.gridDim.x)
    while row < nz * ny:
        k = np.uint32(row // ny)
        j, i = np.uint32(row - k * ny), first
        while i < nx:
            at = np.uint32(row * nx + i)
            one = out.dtype.type(1)
            all_, some = one * 0, one * 0
            for a in range(level[PARENTS]):
                z = np.uint32(a * nz + k)
                for b in range(level[PARENTS + 1]):
                    y = np.uint32(b * ny + j)
                    v = fp[np.uint32(level[FLOATS] + z)] * fp[np.uint32(level[FLOATS + 1] + y)]
                    line = np.uint32(
                        (ip[np.uint32(level[INTS] + z)] * my + ip[np.uint32(level[INTS + 1] + y)])
                        * mx
                    )
                    for s in range(level[PARENTS + 2]):
                        x = np.uint32(s * nx + i)
                        w = v * fp[np.uint32(level[FLOATS + 2] + x)]
                        all_ += w
                        parent = np.uint32(line + ip[np.uint32(level[INTS + 2] + x)])
                        if masked == 0 or coarse_mask[parent] != 0:
                            some += w
            out[at] = all_ / some if some > 0 and mask[at] != 0 else one * 0
            i = np.uint32(i + wide)
        row = np.uint32(row + high)


# -- what `krylearn.cuda.hierarchy` calls ----------------------------------------------------------


def wide(points: int) -> int:
    """Return how many threads of a block stand along x, as an exponent of 2."""
    return min(max(0, (points - 1).bit_length()), THREADS.bit_length() - 1)


def _blocks(shape: tuple[int, int, int]) -> int:
    lines = THREADS >> wide(shape[2])
    return max(1, min(16 * BLOCKS, math.ceil(shape[0] * shape[1] / lines)))


def look(shape: tuple[int, int, int], rows: Any, mask: Any, jump: float, A: Any,
         sums: Any) -> None:  # fmt: skip
    """Count into the rows of `sums`, an element a block, what a hierarchy must know of A.

    `rows` are those of the couplings along z, y and x in A, 0 where there is no such axis.
    """
    launch(_look, sums.shape[1], THREADS, *shape, rows, int(mask is not None), jump, A,
           rows if mask is None else mask, sums)  # fmt: skip


def look_blocks(n: int) -> int:
    """Return the blocks that `look` takes."""
    return blocks_for(n)


def finest(shape: tuple[int, int, int], level: Any, rows: Any, mask: Any, held: int, eps: float,
           unit: float, A: Any, c: Any, excess: Any, ties: Any) -> None:  # fmt: skip
    """Pack the operator, times `unit`, what its diagonal has beyond links, and ties to sides."""
    launch(_finest, _blocks(shape), THREADS, level, rows, int(mask is not None), eps, unit, A,
           rows if mask is None else mask, c, excess)  # fmt: skip
    if held:
        launch(_split_sides, _blocks(shape), THREADS, level, held, excess, ties)


def coarsen(shape: tuple[int, int, int], level: Any, coarse: Any, held: int, ip: Any, fp: Any,
            c: Any, excess: Any, coarse_c: Any, coarse_excess: Any, ties: Any) -> None:  # fmt: skip
    """Write the coefficients of the coarse level, which is of `shape`."""
    launch(_coarsen, _blocks(shape), THREADS, level, coarse, held, ip, fp, c, excess, coarse_c,
           coarse_excess, ties)  # fmt: skip
    launch(_diagonal, _blocks(shape), THREADS, coarse, held, coarse_excess, ties, coarse_c)


def coarsen_mask(shape: tuple[int, int, int], level: Any, coarse: Any, ip: Any, fp: Any, mask: Any,
                 out: Any) -> None:  # fmt: skip
    """Write the mask of the coarse level, which is of `shape`."""
    launch(_coarsen_mask, _blocks(shape), THREADS, level, coarse, ip, fp, mask, out)


def pass_(shape: tuple[int, int, int], level: Any, coarse: Any, ip: Any, fp: Any, mask: Any,
          coarse_mask: Any, out: Any) -> None:  # fmt: skip
    """Write what interpolated values of a level of `shape` are multiplied by."""
    launch(_pass, _blocks(shape), THREADS, level, coarse, ip, fp, int(coarse_mask is not None),
           mask, mask if coarse_mask is None else coarse_mask, out)  # fmt: skip
