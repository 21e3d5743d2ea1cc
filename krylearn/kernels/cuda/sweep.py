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
