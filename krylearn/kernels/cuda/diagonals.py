"""Products with a matrix of few diagonals, as those of structured grids have: no column indices."""

from __future__ import annotations

import numpy as np
from numba import cuda

from krylearn.kernels.cuda.launch import THREADS, block_sum, blocks_for, jit, launch

# Diagonals whose entries are on their way from memory together.
TOGETHER = 8


@jit
def _apply(log, offsets, values, x, y, sums):
    if log[0] != 0.0:
        return
    n, stride = np.uint32(y.shape[0]), np.uint32(cuda.gridsize(1))
    i = np.uint32(cuda.grid(1))
    count = offsets.shape[0]
    xy = sums.dtype.type(0)
    while i < n:
        t = y.dtype.type(0)
        for top in range(0, count, TOGETHER):
            # Diagonals past the last stand for it, and what they bring is thrown away; so is what
            # lies across an end, where entries are zero but x may be none.
            for m in range(TOGETHER):
                d = min(top + m, count - 1)
                j = int(i) + offsets[d]
                counts = top + m < count and j >= 0 and j < int(n)
                element = values[d, i] * x[np.uint32(j if counts else int(i))]
                t += element if counts else y.dtype.type(0)
        y[i] = t
        xy += np.conj(x[i]) * t
        i = np.uint32(i + stride)
    block_sum(xy, cuda.threadIdx.x, sums[cuda.blockIdx.x :])


def apply(log, offsets, values, x, y, sums):
    """Do ``y = A @ x``; sum ``conj(x) @ y``."""
    launch(_apply, blocks_for(y.shape[0]), THREADS, log, offsets, values, x, y, sums)
