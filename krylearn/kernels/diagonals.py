"""Products with a matrix whose entries lie on few diagonals, as those of structured grids do.

Without column indices a 7-point matrix is read in 8 bytes an entry instead of 12, and the inner
loop has no gather.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from krylearn.kernels.parallel import jit, parallel_for, parallel_sum
from krylearn.kernels.vector import CHUNK

# More diagonals than a 27-point stencil has are a sign of no structure.
MOST = 27
GRAIN = 16384
# Rows that stay in the first-level cache while the diagonals are passed over.
_BLOCK = 1024


@jit
def _extract(lo, hi, indptr, indices, data, offsets, values, missing):
    one = np.uint64(1)
    size = np.uint64(_BLOCK)
    count = offsets.shape[0]
    for i in range(np.uint64(lo), np.uint64(hi)):
        d = 0
        for k in range(indptr[i], indptr[i + one]):
            offset = np.int64(indices[k]) - np.int64(i)
            tried = 0
            while offsets[d] != offset:
                d = d + 1 if d + 1 < count else 0
                tried += 1
                if tried > count:
                    missing[0] = 1
                    return
            values[i // size, d, i % size] += data[k]


@jit
def _apply(lo, hi, offsets, values, x, y):
    n = np.int64(x.shape[0])
    for block in range(lo // _BLOCK, (hi + _BLOCK - 1) // _BLOCK):
        start = block * _BLOCK
        stop = min(start + _BLOCK, n)
        y[start:stop] = 0
        for d in range(offsets.shape[0]):
            offset = offsets[d]
            first = max(start, -offset)
            last = min(stop, n - offset)
            if first < last:
                part, z = y[first:last], x[first + offset : last + offset]
                a = values[block, d, first - start : last - start]
                for i in range(part.shape[0]):
                    part[i] += a[i] * z[i]


@jit
def _apply_blocks(lo, hi, offsets, values, x, y):
    _apply(lo * _BLOCK, min(hi * _BLOCK, x.shape[0]), offsets, values, x, y)


@jit
def _apply_dot(lo, hi, offsets, values, x, y):
    _apply(lo, hi, offsets, values, x, y)
    total = y.dtype.type(0)
    for i in range(np.uint64(lo), np.uint64(hi)):
        total += np.conj(x[i]) * y[i]
    return total


def from_csr(indptr, indices, data, shape: tuple[int, int]) -> tuple | None:
    """Return ``(offsets, values)`` of a square CSR matrix, or None where it has no such form.

    Parameters
    ----------
    indptr, indices : unsigned integer arrays
    data : (nnz,) array
    shape : (n, n)

    Returns
    -------
    offsets : (d,) int64 array
        Column minus row of each diagonal, ascending, at most `MOST`.
    values : (blocks, d, rows a block) array
        ``values[i // rows, k, i % rows]`` multiplies ``x[i + offsets[k]]`` in row i: one stream
        through memory instead of d.
    """
    n = shape[0]
    if n != shape[1] or n == 0 or data.shape[0] < n:
        return None
    found: set[int] = set()
    for i in np.linspace(0, n - 1, min(n, 64)).astype(np.int64).tolist():
        row = indices[int(indptr[i]) : int(indptr[i + 1])].astype(np.int64) - i
        found.update(row.tolist())
        if len(found) > MOST:
            return None
    # Half-empty diagonals would cost more bytes than the indices that they save.
    if len(found) * n * 2 > data.shape[0] * 3:
        return None
    offsets = np.array(sorted(found), np.int64)
    values = np.zeros((-(-n // _BLOCK), len(offsets), _BLOCK), data.dtype)
    missing = np.zeros(1, np.int64)
    parallel_for(_extract, n, GRAIN, indptr, indices, data, offsets, values, missing)
    return None if missing[0] else (offsets, values)


def apply(offsets, values, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Do ``y = A @ x``; return y."""
    parallel_for(_apply_blocks, values.shape[0], GRAIN // _BLOCK, offsets, values, x, y)
    return y


def apply_dot(offsets, values, x: np.ndarray, y: np.ndarray) -> Any:
    """Do ``y = A @ x``; return ``conj(x) @ y``."""
    return parallel_sum(_apply_dot, y.shape[0], CHUNK, offsets, values, x, y)
