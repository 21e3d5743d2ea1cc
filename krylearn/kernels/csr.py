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


@jit
def _apply_rows(lo, hi, indptr, indices, data, X, Y):
    for k in range(lo, hi):
        _apply(0, Y.shape[1], indptr, indices, data, X[k], Y[k])


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


def apply_rows(indptr, indices, data, X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """Do ``Y[k] = A @ X[k]`` for vectors by rows, each on one thread; return Y."""
    grain = -(-4 * GRAIN // Y.shape[1])
    parallel_for(_apply_rows, Y.shape[0], grain, indptr, indices, data, X, Y)
    return Y


@jit
def small_diagonals(indptr, indices, data, offsets, values):
    """Write a square matrix by diagonals; return how many there are, 0 where it has too many.

    Parameters
    ----------
    indptr, indices, data : arrays
        The matrix in CSR form.
    offsets : (most,) int64 array
        Column minus row of each diagonal found.
    values : (most, n) array of zeros
        ``values[d, i]`` is the entry in row i.
    """
    one = np.uint64(1)
    count = 0
    for i in range(np.uint64(0), np.uint64(values.shape[1])):
        for k in range(indptr[i], indptr[i + one]):
            offset = np.int64(indices[k]) - np.int64(i)
            d = 0
            while d < count and offsets[d] != offset:
                d += 1
            if d == offsets.shape[0]:
                return 0
            if d == count:
                offsets[d] = offset
                count += 1
            values[d, i] += data[k]
    return count


@jit
def cg_steps(count, tolerance, indptr, indices, data, offsets, values, x, r, p, q, rr, norms):
    """Do up to `count` iterations of conjugate gradients; return how many, r.r and the last p.Ap.

    For matrices so small that a call from Python costs as much as the arithmetic. The product is
    by diagonals where `offsets` has any. Writes the residual norms into `norms`; stops before the
    step where p.Ap is not positive.
    """
    one = np.uint64(1)
    n = np.int64(x.shape[0])
    pq = rr
    for done in range(count):
        pq = rr * 0
        if offsets.shape[0] > 0:
            q[:] = 0
            for d in range(offsets.shape[0]):
                first, last = max(0, -offsets[d]), min(n, n - offsets[d])
                part, a = q[first:last], values[d, first:last]
                shifted = p[first + offsets[d] : last + offsets[d]]
                for i in range(part.shape[0]):
                    part[i] += a[i] * shifted[i]
        else:
            for i in range(np.uint64(0), np.uint64(n)):
                total = x.dtype.type(0)
                for k in range(indptr[i], indptr[i + one]):
                    total += data[k] * p[indices[k]]
                q[i] = total
        for i in range(n):
            pq += (np.conj(p[i]) * q[i]).real
        if not pq > 0.0:
            return done, rr, pq
        alpha = x.dtype.type(rr / pq)
        previous = rr
        rr = pq * 0
        for i in range(n):
            x[i] += alpha * p[i]
            t = r[i] - alpha * q[i]
            r[i] = t
            rr += t.real * t.real + t.imag * t.imag
        beta = x.dtype.type(rr / previous)
        for i in range(n):
            p[i] = r[i] + beta * p[i]
        norms[done] = np.sqrt(rr)
        if not norms[done] > tolerance:
            return done + 1, rr, pq
    return count, rr, pq
