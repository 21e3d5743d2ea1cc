"""Products with a matrix in compressed sparse row form: the twins of `krylearn.kernels.csr`."""

from __future__ import annotations

import math

import numpy as np
from numba import cuda

from krylearn.kernels.cuda.launch import BLOCKS, SIMULATED, THREADS, block_sum, jit, launch

# Products that a block holds at a time.
STAGE = 16 if SIMULATED else 2048
_TURNS = STAGE // THREADS
# What becomes of a product.
DOT, PRODUCT, ADD, RESIDUAL = range(4)


@jit
def _apply(log, lanes, mode, indptr, indices, data, x, b, y, sums):
    # Rows are short: were each read by a thread of its own, neighbouring threads would read far
    # apart. The block reads entries in their order into shared memory, where rows are summed
    # (Greathouse and Daga 2014, Efficient sparse matrix-vector multiplication on GPUs using the
    # CSR storage format); `lanes` threads share a row.
    if log[0] != 0.0:
        return
    products = cuda.shared.array(STAGE, y.dtype)
    entries = cuda.local.array(_TURNS, y.dtype)
    columns = cuda.local.array(_TURNS, np.uint32)
    t = cuda.threadIdx.x
    n, rows = np.uint32(y.shape[0]), np.uint32(THREADS // lanes)
    mine, lane = t // lanes, t % lanes
    xy = sums.dtype.type(0)
    top = np.uint32(cuda.blockIdx.x * rows)
    while top < n:
        row = np.uint32(top + mine)
        begin, end = indptr[min(row, n)], indptr[min(np.uint32(row + 1), n)]
        base, stop = indptr[top], indptr[min(np.uint32(top + rows), n)]
        value = y.dtype.type(0)
        while base < stop:
            # All loads on their way before the first is waited for; hence no test, and past the
            # end the last entry once more.
            for m in range(_TURNS):
                k = np.uint32(min(base + t + m * THREADS, stop - 1))
                entries[m], columns[m] = data[k], indices[k]
            for m in range(_TURNS):
                entries[m] *= x[columns[m]]
            for m in range(_TURNS):
                products[t + m * THREADS] = entries[m]
            cuda.syncthreads()
            k, past = np.uint32(max(begin, base) + lane), min(end, np.uint32(base + STAGE))
            while k < past:
                value += products[np.uint32(k - base)]
                k = np.uint32(k + lanes)
            cuda.syncthreads()
            base = np.uint32(base + STAGE)
        if lanes > 1:
            products[t] = value
            cuda.syncthreads()
            half = lanes // 2
            while half > 0:
                if lane < half:
                    products[t] += products[t + half]
                cuda.syncthreads()
                half //= 2
            value = products[t]
            cuda.syncthreads()
        if lane == 0 and row < n:
            if mode == ADD:
                y[row] += value
            elif mode == RESIDUAL:
                y[row] = b[row] - value
            else:
                y[row] = value
            if mode == DOT:
                xy += np.conj(x[row]) * value
        top = np.uint32(top + cuda.gridDim.x * rows)
    if mode == DOT:
        block_sum(xy, cuda.threadIdx.x, sums[cuda.blockIdx.x :])


@jit
def _diagonal(log, indptr, indices, data, d):
    if log[0] != 0.0:
        return
    n, i = np.uint32(d.shape[0]), np.uint32(cuda.grid(1))
    stride = np.uint32(cuda.gridsize(1))
    while i < n:
        value = d.dtype.type(0)
        for k in range(indptr[i], indptr[i + 1]):
            if indices[k] == i:
                value += data[k]
        d[i] = value
        i = np.uint32(i + stride)


def lanes_for(n: int, entries: int) -> int:
    """Return how many threads share a row, a power of two."""
    mean = entries / max(1, n)
    lanes = 1
    while lanes < THREADS and mean > STAGE // THREADS * 2 * lanes:
        lanes *= 2
    return lanes


def blocks_for(n: int, lanes: int) -> int:
    """Return how many blocks a product takes: sums that it leaves."""
    return max(1, min(BLOCKS, math.ceil(n * lanes / THREADS)))


def apply(log, lanes, indptr, indices, data, x, y, sums):
    """Do ``y = A @ x`` for a square A; sum ``conj(x) @ y``."""
    launch(_apply, blocks_for(y.shape[0], lanes), THREADS, log, lanes, DOT, indptr, indices, data,
           x, y, y, sums)  # fmt: skip


def product(log, lanes, indptr, indices, data, x, y):
    """Do ``y = A @ x``; A need not be square."""
    _queue(log, lanes, PRODUCT, indptr, indices, data, x, y, y)


def add(log, lanes, indptr, indices, data, x, y):
    """Do ``y += A @ x``."""
    _queue(log, lanes, ADD, indptr, indices, data, x, y, y)


def residual(log, lanes, indptr, indices, data, b, x, r):
    """Do ``r = b - A @ x``."""
    _queue(log, lanes, RESIDUAL, indptr, indices, data, x, b, r)


def _queue(log, lanes, mode, indptr, indices, data, x, b, y):
    launch(_apply, blocks_for(y.shape[0], lanes), THREADS, log, lanes, mode, indptr, indices, data,
           x, b, y, log)  # fmt: skip


def diagonal(log, indptr, indices, data, d):
    """Write the diagonal of a square A into `d`."""
    launch(_diagonal, max(1, min(BLOCKS, math.ceil(d.shape[0] / THREADS))), THREADS, log, indptr,
           indices, data, d)  # fmt: skip
