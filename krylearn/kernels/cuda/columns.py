"""What stands in `vector` and `scalars`, on several columns at once: a row of blocks each.

Arrays have the columns as their first axis, logs too, so that each column ends by itself.
"""

from __future__ import annotations

import math

import numpy as np
from numba import cuda

from krylearn.kernels.cuda import scalars, vector
from krylearn.kernels.cuda.csr import STAGE
from krylearn.kernels.cuda.launch import (
    BLOCKS,
    SIMULATED,
    THREADS,
    block_sum,
    blocks_for,
    device,
    jit,
    launch,
)

# Columns that a pass over a matrix serves.
TOGETHER = 2 if SIMULATED else 8
_TURNS = STAGE // THREADS


def _body(kernel):
    """Return what a kernel does as a function for others to call."""
    return device(kernel.fn if SIMULATED else kernel.py_func)


_one_dot, _one_step, _one_xpby, _one_copy = map(
    _body, (vector._dot, vector._step, vector._xpby, vector._copy)
)
_one_store, _one_curvature, _one_residual, _one_beta = map(
    _body, (scalars.store, scalars.cg_curvature, scalars.cg_residual, scalars.cg_beta)
)


@jit
def _dot(log, x, y, sums):
    c = cuda.blockIdx.y
    _one_dot(log[c], x[c], y[c], sums[c])


@jit
def _copy(log, x, y):
    c = cuda.blockIdx.y
    _one_copy(log[c], x[c], y[c])


@jit
def _step(log, S, alpha, p, q, x, r, sums):
    c = cuda.blockIdx.y
    _one_step(log[c], S[c], alpha, p[c], q[c], x[c], r[c], sums[c])


@jit
def _xpby(log, S, x, beta, y):
    c = cuda.blockIdx.y
    _one_xpby(log[c], S[c], x[c], beta, y[c])


@jit
def store(log, S, slot, sums):
    c = cuda.blockIdx.y
    _one_store(log[c], S[c], slot, sums[c])


@jit
def cg_curvature(log, S, sums):
    c = cuda.blockIdx.y
    _one_curvature(log[c], S[c], sums[c])


@jit
def cg_residual(log, control, S, plain, sums):
    c = cuda.blockIdx.y
    _one_residual(log[c], control[c], S[c], plain, sums[c])


@jit
def cg_beta(log, S, sums):
    c = cuda.blockIdx.y
    _one_beta(log[c], S[c], scalars.ONE, sums[c])


@jit
def _csr(log, lanes, indptr, indices, data, x, y, sums):
    # As `csr._apply`; what was read of the matrix is used for all columns before more is read.
    products = cuda.shared.array(STAGE, y.dtype)
    entries = cuda.local.array(_TURNS, y.dtype)
    columns = cuda.local.array(_TURNS, np.uint32)
    values = cuda.local.array(TOGETHER, y.dtype)
    xy = cuda.local.array(TOGETHER, sums.dtype)
    t = cuda.threadIdx.x
    zero, none = y.dtype.type(0), sums.dtype.type(0)
    n, rows, many = np.uint32(y.shape[1]), np.uint32(THREADS // lanes), y.shape[0]
    mine, lane = t // lanes, t % lanes
    for c in range(TOGETHER):
        xy[c] = none
    top = np.uint32(cuda.blockIdx.x * rows)
    while top < n:
        row = np.uint32(top + mine)
        begin, end = indptr[min(row, n)], indptr[min(np.uint32(row + 1), n)]
        base, stop = indptr[top], indptr[min(np.uint32(top + rows), n)]
        for c in range(TOGETHER):
            values[c] = zero
        while base < stop:
            for m in range(_TURNS):
                k = np.uint32(min(base + t + m * THREADS, stop - 1))
                entries[m], columns[m] = data[k], indices[k]
            for c in range(many):
                for m in range(_TURNS):
                    products[t + m * THREADS] = entries[m] * x[c, columns[m]]
                cuda.syncthreads()
                k, past = np.uint32(max(begin, base) + lane), min(end, np.uint32(base + STAGE))
                value = values[c]
                while k < past:
                    value += products[np.uint32(k - base)]
                    k = np.uint32(k + lanes)
                values[c] = value
                cuda.syncthreads()
            base = np.uint32(base + STAGE)
        for c in range(many):
            value = values[c]
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
            if lane == 0 and row < n and log[c, 0] == 0.0:
                y[c, row] = value
                xy[c] += np.conj(x[c, row]) * value
        top = np.uint32(top + cuda.gridDim.x * rows)
    for c in range(many):
        block_sum(xy[c], t, sums[c, cuda.blockIdx.x :])


def _over(kernel, like, *args):
    launch(kernel, (blocks_for(like.shape[1]), like.shape[0]), THREADS, *args)


def dot(log, x, y, sums) -> None:
    """Sum ``conj(x) @ y``."""
    _over(_dot, x, log, x, y, sums)


def copy(log, x, y) -> None:
    """Do ``y = x``."""
    _over(_copy, x, log, x, y)


def step(log, S, alpha, p, q, x, r, sums) -> None:
    """Do ``x += alpha * p; r -= alpha * q``; sum the squares of r."""
    _over(_step, x, log, S, alpha, p, q, x, r, sums)


def xpby(log, S, x, beta, y) -> None:
    """Do ``y = x + beta * y``."""
    _over(_xpby, x, log, S, x, beta, y)


def run(kernel, log, *args) -> None:
    """Queue one of the kernels of one block a column."""
    launch(kernel, (1, log.shape[0]), THREADS, log, *args)


def csr(log, lanes, matrix, x, y, sums) -> None:
    """Do ``y = A @ x`` for all columns, A being its three arrays; sum ``conj(x) @ y``."""
    blocks = max(1, min(BLOCKS, math.ceil(y.shape[1] * lanes / THREADS)))
    for c in range(0, y.shape[0], TOGETHER):
        group = slice(c, c + TOGETHER)
        launch(_csr, blocks, THREADS, log[group], lanes, *matrix, x[group], y[group],
               sums[group])  # fmt: skip
