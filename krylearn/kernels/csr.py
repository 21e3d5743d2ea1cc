"""Products with a matrix in compressed sparse row form.

Index arrays are passed as unsigned views: Numba then leaves out the test for negative indices,
which would halve the speed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from krylearn.kernels.parallel import jit, parallel_for, parallel_sum
from krylearn.kernels.vector import CHUNK

# Rows worth a thread of their own.
GRAIN = 16384


@jit
def _apply(lo, hi, indptr, indices, data, x, y):
    one = np.uint64(1)
    for i in range(np.uint64(lo), np.uint64(hi)):
        total = y.dtype.type(0)
        for k in range(indptr[i], indptr[i + one]):
            total += data[k] * x[indices[k]]
        y[i] = total


@jit
def _apply_dot(lo, hi, indptr, indices, data, x, y):
    one = np.uint64(1)
    xy = y.dtype.type(0)
    for i in range(np.uint64(lo), np.uint64(hi)):
        total = y.dtype.type(0)
        for k in range(indptr[i], indptr[i + one]):
            total += data[k] * x[indices[k]]
        y[i] = total
        xy += np.conj(x[i]) * total
    return xy


@jit
def _apply_block(lo, hi, indptr, indices, data, X, Y):
    one = np.uint64(1)
    columns = X.shape[1]
    for i in range(np.uint64(lo), np.uint64(hi)):
        for c in range(columns):
            Y[i, c] = 0
        for k in range(indptr[i], indptr[i + one]):
            a = data[k]
            j = indices[k]
            for c in range(columns):
                Y[i, c] += a * X[j, c]


def apply(indptr, indices, data, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Do ``y = A @ x``; return y."""
    parallel_for(_apply, y.shape[0], GRAIN, indptr, indices, data, x, y)
    return y


def apply_dot(indptr, indices, data, x: np.ndarray, y: np.ndarray) -> Any:
    """Do ``y = A @ x``; return ``conj(x) @ y``. A is square."""
    return parallel_sum(_apply_dot, y.shape[0], CHUNK, indptr, indices, data, x, y)


def apply_block(indptr, indices, data, X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """Do ``Y = A @ X`` for (n, k) blocks in C order; return Y."""
    parallel_for(_apply_block, Y.shape[0], GRAIN, indptr, indices, data, X, Y)
    return Y
