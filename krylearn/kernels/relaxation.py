"""Relaxation: sweeps in place, and what a splitting asks of a matrix."""

from __future__ import annotations

import math

import numpy as np

from krylearn.kernels.parallel import jit, parallel_for, parallel_sum
from krylearn.kernels.schedule import Schedule
from krylearn.kernels.sweep import finish, sweep, take, wait
from krylearn.kernels.triangular import Part
from krylearn.kernels.vector import CHUNK

GRAIN = 16384


@jit
def _diagonal(lo, hi, indptr, indices, data, d):
    one = np.uint64(1)
    for i in range(np.uint64(lo), np.uint64(hi)):
        d[i] = 0
        for k in range(indptr[i], indptr[i + one]):
            if indices[k] == i:
                d[i] = data[k]


def diagonal(indptr, indices, data) -> np.ndarray:
    """Return the diagonal of a square CSR matrix."""
    d = np.empty(indptr.shape[0] - 1, data.dtype)
    parallel_for(_diagonal, d.shape[0], GRAIN, indptr, indices, data, d)
    return d


@jit
def _asymmetry(lo, hi, indptr, indices, data, worst):
    """Note the largest ``|a_ij - conj(a_ji)|`` and the largest ``|a_ij|`` of each chunk."""
    one = np.uint64(1)
    chunk = lo // CHUNK
    for i in range(np.uint64(lo), np.uint64(hi)):
        for k in range(indptr[i], indptr[i + one]):
            j = np.uint64(indices[k])
            partner = data.dtype.type(0)
            # Columns ascend: bisection would be slower on the few entries of a row.
            for m in range(indptr[j], indptr[j + one]):
                if indices[m] == i:
                    partner = np.conj(data[m])
                    break
            worst[chunk, 0] = max(worst[chunk, 0], abs(data[k] - partner))
            worst[chunk, 1] = max(worst[chunk, 1], abs(data[k]))
    return 0


def is_hermitian(indptr, indices, data) -> bool:
    """Return whether a square CSR matrix is Hermitian up to what its assembly may have rounded."""
    n = indptr.shape[0] - 1
    worst = np.zeros((n // CHUNK + 1, 2), data.real.dtype)
    parallel_sum(_asymmetry, n, CHUNK, indptr, indices, data, worst)
    difference, largest = worst.max(axis=0)
    eps = np.finfo(worst.dtype).eps
    return bool(difference <= max(100 * eps, eps**0.75) * largest)


@jit
def _times(lo, hi, scale, r, out):
    for i in range(np.uint64(lo), np.uint64(hi)):
        out[i] = scale[i] * r[i]


def times(scale: np.ndarray, r: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Do ``out = scale * r``; return out."""
    parallel_for(_times, r.shape[0], CHUNK, scale, r, out)
    return out


@jit
def _normalise(lo, hi, factor, v, scale, q):
    f = v.real.dtype.type(factor)
    for i in range(np.uint64(lo), np.uint64(hi)):
        v[i] *= f
        q[i] = scale[i] * v[i]


def normalise(length: float, v: np.ndarray, scale: np.ndarray, q: np.ndarray) -> None:
    """Do ``v /= length; q = scale * v``."""
    parallel_for(_normalise, v.shape[0], CHUNK, 1 / length, v, scale, q)


@jit
def _lanczos_project(lo, hi, scale, beta, previous, v, w):
    b = v.real.dtype.type(beta)
    total = v[:1].real[0] * 0
    for i in range(np.uint64(lo), np.uint64(hi)):
        t = scale[i] * w[i] - b * previous[i]
        w[i] = t
        total += v[i].real * t.real + v[i].imag * t.imag
    return total


def lanczos_project(scale: np.ndarray, beta: float, previous: np.ndarray, v: np.ndarray,
                    w: np.ndarray) -> float:  # fmt: skip
    """Do ``w = scale * w - beta * previous``; return the real part of ``conj(v) @ w``."""
    return float(parallel_sum(_lanczos_project, v.shape[0], CHUNK, scale, beta, previous, v, w))


@jit
def _relax(lo, hi, counters, first, last, rows, tasks, levels, lptr, lcol, lval, uptr, ucol,
           uval, scale, keep, b, x, moved):  # fmt: skip
    one = np.uint64(1)
    deep = levels.shape[0] - 1
    for phase in range(first, last):
        wait(counters, levels, phase)
        while True:
            task = take(counters, levels, phase, lo)
            if task < 0:
                break
            ahead = phase < deep
            start, stop = np.uint64(tasks[task]), np.uint64(tasks[task + 1])
            norm2 = x[:1].real[0] * 0
            for m in range(start, stop):
                s = m if ahead else stop - one - (m - start)
                i = np.uint64(rows[s])
                old = x[i]
                total = scale[i] * b[i] + keep * old
                # Last comes what was written last, and takes longest to arrive.
                if ahead:
                    for k in range(uptr[s], uptr[s + one]):
                        total -= uval[k] * x[ucol[k]]
                    for k in range(lptr[s], lptr[s + one]):
                        total -= lval[k] * x[lcol[k]]
                else:
                    for k in range(lptr[s], lptr[s + one]):
                        total -= lval[k] * x[lcol[k]]
                    k = np.uint64(uptr[s + one])
                    while k > uptr[s]:
                        k -= one
                        total -= uval[k] * x[ucol[k]]
                x[i] = total
                change = (total - old) / scale[i]
                norm2 += change.real * change.real + change.imag * change.imag
            moved[task] = norm2
            finish(counters, phase)


def relax(plan: Schedule, lower: Part, upper: Part, scale: np.ndarray, omega: float,
          b: np.ndarray, x: np.ndarray, forward: bool = True, backward: bool = False,
          ) -> float:  # fmt: skip
    """Sweep over `x` in place; return the norm of the residuals that the rows met in passing.

    Parameters
    ----------
    plan : Schedule
    lower, upper : Part
        Numbered by rows, row i multiplied by ``scale[i]``.
    scale : (n,) array
        ``omega / diagonal``.
    omega : float
    b, x : (n,) arrays
    forward, backward : bool
        Sweep in the order of the plan, or against it, or both.
    """
    moved = np.zeros(plan.tasks.shape[0] - 1, x.real.dtype)
    keep = x.dtype.type(1 - omega)
    sweep(_relax, plan, forward, backward, *lower, *upper, scale, keep, b, x, moved)
    return math.sqrt(float(moved.sum()))


@jit
def _blocks(lo, hi, size, indptr, indices, data, blocks):
    one = np.uint64(1)
    size = np.uint64(size)
    for i in range(np.uint64(lo), np.uint64(hi)):
        for k in range(indptr[i], indptr[i + one]):
            j = np.uint64(indices[k])
            if j // size == i // size:
                blocks[i // size, i % size, j % size] = data[k]


def diagonal_blocks(indptr, indices, data, size: int) -> np.ndarray:
    """Return the dense (blocks, size, size) diagonal blocks, the last filled up by identity."""
    n = indptr.shape[0] - 1
    count = -(-n // size)
    blocks = np.zeros((count, size, size), data.dtype)
    parallel_for(_blocks, n, GRAIN, size, indptr, indices, data, blocks)
    for k in range(n - (count - 1) * size, size) if count else ():
        blocks[-1, k, k] = 1
    return blocks


@jit
def _multiply_blocks(lo, hi, blocks, r, out):
    size, n = blocks.shape[1], r.shape[0]
    for block in range(lo, hi):
        start = block * size
        count = min(size, n - start)
        part, y = r[start : start + count], out[start : start + count]
        for i in range(count):
            row = blocks[block, i, :count]
            total = out.dtype.type(0)
            for j in range(count):
                total += row[j] * part[j]
            y[i] = total


def multiply_blocks(blocks: np.ndarray, r: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Do ``out = B r`` for the block diagonal matrix B; return out, which is not r."""
    grain = max(1, 4 * GRAIN // blocks.shape[1] ** 2)
    parallel_for(_multiply_blocks, blocks.shape[0], grain, blocks, r, out)
    return out


@jit
def _chebyshev_start(lo, hi, gain, scale, b, r, d, x):
    g = x.real.dtype.type(gain)
    for i in range(np.uint64(lo), np.uint64(hi)):
        t = b[i]
        r[i] = t
        e = g * scale[i] * t
        d[i] = e
        x[i] = e


def chebyshev_start(gain: float, scale: np.ndarray, b: np.ndarray, r: np.ndarray, d: np.ndarray,
                    x: np.ndarray) -> None:  # fmt: skip
    """Do ``r = b; d = gain * scale * b; x = d``; x may be b."""
    parallel_for(_chebyshev_start, b.shape[0], CHUNK, gain, scale, b, r, d, x)


@jit
def _chebyshev_step(lo, hi, keep, gain, scale, q, r, d, x):
    a, g = x.real.dtype.type(keep), x.real.dtype.type(gain)
    total = x[:1].real[0] * 0
    for i in range(np.uint64(lo), np.uint64(hi)):
        t = r[i] - q[i]
        r[i] = t
        total += t.real * t.real + t.imag * t.imag
        e = a * d[i] + g * scale[i] * t
        d[i] = e
        x[i] += e
    return total


def chebyshev_step(keep: float, gain: float, scale: np.ndarray, q: np.ndarray, r: np.ndarray,
                   d: np.ndarray, x: np.ndarray) -> float:  # fmt: skip
    """Do ``r -= q; d = keep * d + gain * scale * r; x += d``; return the norm of r."""
    return math.sqrt(parallel_sum(_chebyshev_step, r.shape[0], CHUNK, keep, gain, scale, q, r,
                                  d, x))  # fmt: skip


@jit
def _difference_norm2(lo, hi, x, y):
    total = x[:1].real[0] * 0
    for i in range(np.uint64(lo), np.uint64(hi)):
        t = x[i] - y[i]
        total += t.real * t.real + t.imag * t.imag
    return total


def difference_norm(x: np.ndarray, y: np.ndarray) -> float:
    """Return the norm of ``x - y``."""
    return math.sqrt(parallel_sum(_difference_norm2, x.shape[0], CHUNK, x, y))
