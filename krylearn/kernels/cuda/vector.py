"""Vector operations of Krylov loops: the twins of `krylearn.kernels.vector`.

A coefficient is the name of a slot of `S`, an array of scalars on the device. What a reduction
leaves is an array of sums, one a block, that a kernel of `scalars` takes up.
"""

from __future__ import annotations

import numpy as np
from numba import cuda

from krylearn.kernels.cuda.launch import (
    SIMULATED,
    THREADS,
    block_sum,
    blocks_for,
    device,
    jit,
    launch,
)

# Rows of a basis that are passed over together, in sums and in combinations.
ROWS, FEW = 8, 4
# Coefficients of a combination that are kept near.
NEAR = 2 if SIMULATED else 256


@device
def _square(t):
    return t.real * t.real + t.imag * t.imag


@jit
def _dot(log, x, y, sums):
    if log[0] != 0.0:
        return
    n, stride = np.uint32(x.shape[0]), np.uint32(cuda.gridsize(1))
    i = np.uint32(cuda.grid(1))
    value = sums.dtype.type(0)
    while i < n:
        value += np.conj(x[i]) * y[i]
        i = np.uint32(i + stride)
    block_sum(value, cuda.threadIdx.x, sums[cuda.blockIdx.x :])


@jit
def _dot_norm2(log, x, y, sums):
    if log[0] != 0.0:
        return
    n, stride = np.uint32(x.shape[0]), np.uint32(cuda.gridsize(1))
    i = np.uint32(cuda.grid(1))
    value, square = sums.dtype.type(0), sums.dtype.type(0)
    while i < n:
        value += np.conj(x[i]) * y[i]
        square += _square(x[i])
        i = np.uint32(i + stride)
    block_sum(value, cuda.threadIdx.x, sums[0, cuda.blockIdx.x :])
    block_sum(square, cuda.threadIdx.x, sums[1, cuda.blockIdx.x :])


@jit
def _axpy(log, S, alpha, x, y):
    if log[0] != 0.0:
        return
    n, stride = np.uint32(x.shape[0]), np.uint32(cuda.gridsize(1))
    i = np.uint32(cuda.grid(1))
    a = x.dtype.type(S[alpha])
    while i < n:
        y[i] += a * x[i]
        i = np.uint32(i + stride)


@jit
def _scale(log, S, alpha, x, y):
    if log[0] != 0.0:
        return
    n, stride = np.uint32(x.shape[0]), np.uint32(cuda.gridsize(1))
    i = np.uint32(cuda.grid(1))
    a = x.dtype.type(S[alpha])
    while i < n:
        y[i] = a * x[i]
        i = np.uint32(i + stride)


@jit
def _cast(log, S, alpha, x, y):
    if log[0] != 0.0:
        return
    n, stride = np.uint32(x.shape[0]), np.uint32(cuda.gridsize(1))
    i = np.uint32(cuda.grid(1))
    a = S[alpha]
    while i < n:
        y[i] = y.dtype.type(a * x[i])
        i = np.uint32(i + stride)


@jit
def _copy(log, x, y):
    if log[0] != 0.0:
        return
    n, stride = np.uint32(x.shape[0]), np.uint32(cuda.gridsize(1))
    i = np.uint32(cuda.grid(1))
    while i < n:
        y[i] = x[i]
        i = np.uint32(i + stride)


@jit
def _copy_if(log, S, wanted, x, y):
    if log[0] != 0.0 or S[wanted].real == 0.0:
        return
    n, stride = np.uint32(x.shape[0]), np.uint32(cuda.gridsize(1))
    i = np.uint32(cuda.grid(1))
    while i < n:
        y[i] = x[i]
        i = np.uint32(i + stride)


@jit
def _xpby(log, S, x, beta, y):
    if log[0] != 0.0:
        return
    n, stride = np.uint32(x.shape[0]), np.uint32(cuda.gridsize(1))
    i = np.uint32(cuda.grid(1))
    b = x.dtype.type(S[beta])
    while i < n:
        y[i] = x[i] + b * y[i]
        i = np.uint32(i + stride)


@jit
def _axpbypcz(log, S, alpha, x, beta, y, gamma, z, sums):
    if log[0] != 0.0:
        return
    n, stride = np.uint32(x.shape[0]), np.uint32(cuda.gridsize(1))
    i = np.uint32(cuda.grid(1))
    a, b, c = x.dtype.type(S[alpha]), x.dtype.type(S[beta]), x.dtype.type(S[gamma])
    value = sums.dtype.type(0)
    while i < n:
        t = a * x[i] + b * y[i] + c * z[i]
        z[i] = t
        value += _square(t)
        i = np.uint32(i + stride)
    block_sum(value, cuda.threadIdx.x, sums[cuda.blockIdx.x :])


@jit
def _axpby_norm2(log, S, alpha, x, beta, y, sums):
    if log[0] != 0.0:
        return
    n, stride = np.uint32(x.shape[0]), np.uint32(cuda.gridsize(1))
    i = np.uint32(cuda.grid(1))
    a, b = x.dtype.type(S[alpha]), x.dtype.type(S[beta])
    value = sums.dtype.type(0)
    while i < n:
        t = a * x[i] + b * y[i]
        y[i] = t
        value += _square(t)
        i = np.uint32(i + stride)
    block_sum(value, cuda.threadIdx.x, sums[cuda.blockIdx.x :])


@jit
def _axpy_norm2_dot(log, S, alpha, x, y, shadow, sums):
    if log[0] != 0.0:
        return
    n, stride = np.uint32(x.shape[0]), np.uint32(cuda.gridsize(1))
    i = np.uint32(cuda.grid(1))
    a = x.dtype.type(S[alpha])
    value, square = sums.dtype.type(0), sums.dtype.type(0)
    while i < n:
        t = y[i] + a * x[i]
        y[i] = t
        value += np.conj(shadow[i]) * t
        square += _square(t)
        i = np.uint32(i + stride)
    block_sum(value, cuda.threadIdx.x, sums[0, cuda.blockIdx.x :])
    block_sum(square, cuda.threadIdx.x, sums[1, cuda.blockIdx.x :])


@jit
def _step(log, S, alpha, p, q, x, r, sums):
    if log[0] != 0.0:
        return
    n, stride = np.uint32(x.shape[0]), np.uint32(cuda.gridsize(1))
    i = np.uint32(cuda.grid(1))
    a = x.dtype.type(S[alpha])
    value = sums.dtype.type(0)
    while i < n:
        x[i] += a * p[i]
        t = r[i] - a * q[i]
        r[i] = t
        value += _square(t)
        i = np.uint32(i + stride)
    block_sum(value, cuda.threadIdx.x, sums[cuda.blockIdx.x :])


@jit
def _lanczos_step(log, S, alpha, z, beta, w, gamma, w_last, phi, x):
    if log[0] != 0.0:
        return
    n, stride = np.uint32(x.shape[0]), np.uint32(cuda.gridsize(1))
    i = np.uint32(cuda.grid(1))
    a, b, c = x.dtype.type(S[alpha]), x.dtype.type(S[beta]), x.dtype.type(S[gamma])
    f = x.dtype.type(S[phi])
    while i < n:
        t = a * z[i] + b * w[i] + c * w_last[i]
        w_last[i] = t
        x[i] += f * t
        i = np.uint32(i + stride)


@jit
def _subtract(log, b, q, r, sums):
    if log[0] != 0.0:
        return
    n, stride = np.uint32(r.shape[0]), np.uint32(cuda.gridsize(1))
    i = np.uint32(cuda.grid(1))
    value = sums.dtype.type(0)
    while i < n:
        t = b[i] - q[i]
        r[i] = t
        value += _square(t)
        i = np.uint32(i + stride)
    block_sum(value, cuda.threadIdx.x, sums[cuda.blockIdx.x :])


@jit
def _times(log, scale, r, out):
    if log[0] != 0.0:
        return
    n, stride = np.uint32(r.shape[0]), np.uint32(cuda.gridsize(1))
    i = np.uint32(cuda.grid(1))
    while i < n:
        out[i] = scale[i] * r[i]
        i = np.uint32(i + stride)


@jit
def _chebyshev_start(log, gain, scale, r, rest, d, out, adds):
    if log[0] != 0.0:
        return
    n, stride = np.uint32(r.shape[0]), np.uint32(cuda.gridsize(1))
    i = np.uint32(cuda.grid(1))
    g = r.dtype.type(gain)
    while i < n:
        rest[i] = r[i]
        t = g * scale[i] * r[i]
        d[i] = t
        out[i] = out[i] + t if adds else t
        i = np.uint32(i + stride)


@jit
def _chebyshev_step(log, keep, gain, scale, q, rest, d, out):
    if log[0] != 0.0:
        return
    n, stride = np.uint32(rest.shape[0]), np.uint32(cuda.gridsize(1))
    i = np.uint32(cuda.grid(1))
    k, g = rest.dtype.type(keep), rest.dtype.type(gain)
    while i < n:
        left = rest[i] - q[i]
        rest[i] = left
        t = k * d[i] + g * scale[i] * left
        d[i] = t
        out[i] += t
        i = np.uint32(i + stride)


@jit
def _chebyshev_step_by(log, S, keep, gain, scale, q, rest, d, out):
    if log[0] != 0.0:
        return
    n, stride = np.uint32(rest.shape[0]), np.uint32(cuda.gridsize(1))
    i = np.uint32(cuda.grid(1))
    k, g = rest.dtype.type(S[keep]), rest.dtype.type(S[gain])
    while i < n:
        left = rest[i] - q[i]
        rest[i] = left
        t = k * d[i] + g * scale[i] * left
        d[i] = t
        out[i] += t
        i = np.uint32(i + stride)


@jit
def _dots(log, S, wanted, V, rows, w, sums):
    """Write the sums of ``conj(V[k]) w``, k < rows, and after them those of ``conj(w) w``.

    `rows` below zero means as many as there are iterations, and one more.
    """
    if log[0] != 0.0 or S[wanted].real == 0.0:
        return
    count = rows if rows >= 0 else int(log[1]) + 1
    n, stride = np.uint32(w.shape[0]), np.uint32(cuda.gridsize(1))
    t, block = cuda.threadIdx.x, cuda.blockIdx.x
    held = cuda.local.array(ROWS, sums.dtype)
    # Eight rows a pass over w, and all loads on their way together: rows past the last stand for
    # it, and what they bring is thrown away. Every pass leaves the square of w.
    for top in range(0, count, ROWS):
        square = sums.dtype.type(0)
        for m in range(ROWS):
            held[m] = square
        i = np.uint32(cuda.grid(1))
        while i < n:
            element = w[i]
            square += _square(element)
            for m in range(ROWS):
                held[m] += np.conj(V[min(top + m, count - 1), i]) * element
            i = np.uint32(i + stride)
        for m in range(ROWS):
            if top + m < count:
                block_sum(held[m], t, sums[top + m, block:])
        block_sum(square, t, sums[count, block:])


@jit
def _dots_and_gram(log, V, w, sums, gram):
    """Do what `_dots` does for the rows in use; and the sums of ``conj(V[k]) V[j]``, j the last.

    The last row is read for its own sake: the second lot costs no pass over memory.
    """
    if log[0] != 0.0:
        return
    count = int(log[1]) + 1
    n, stride = np.uint32(w.shape[0]), np.uint32(cuda.gridsize(1))
    t, block = cuda.threadIdx.x, cuda.blockIdx.x
    held = cuda.local.array(ROWS, sums.dtype)
    lacks = cuda.local.array(ROWS, sums.dtype)
    for top in range(0, count, ROWS):
        square = sums.dtype.type(0)
        for m in range(ROWS):
            held[m] = square
            lacks[m] = square
        i = np.uint32(cuda.grid(1))
        while i < n:
            element, last = w[i], V[count - 1, i]
            square += _square(element)
            for m in range(ROWS):
                row = np.conj(V[min(top + m, count - 1), i])
                held[m] += row * element
                lacks[m] += row * last
            i = np.uint32(i + stride)
        for m in range(ROWS):
            if top + m < count:
                block_sum(held[m], t, sums[top + m, block:])
                block_sum(lacks[m], t, gram[top + m, block:])
        block_sum(square, t, sums[count, block:])


@device
def _combined(V, y, sign, skip, count, i, start):
    """Return ``start + sign * y @ V[:count, i]``, leaving row `skip` out; eight rows at a time."""
    value, zero = start, start * 0
    for top in range(0, count, ROWS):
        for m in range(ROWS):
            k = min(top + m, count - 1)
            counts = top + m < count and k != skip
            element = V[k, i]
            factor = V.dtype.type(y[k] * sign) if counts else zero
            value += factor * element
    return value


@jit
def _project(log, S, wanted, V, h, w, sums):
    """Do ``w -= h @ V[:j + 1]``, j being the iterations so far; sum the squares of w."""
    if log[0] != 0.0 or S[wanted].real == 0.0:
        return
    # Coefficients in shared memory, or, where there are very many, where they are.
    near = cuda.shared.array(NEAR, h.dtype)
    count = int(log[1]) + 1
    k = cuda.threadIdx.x
    while k < min(count, NEAR):
        near[k] = h[k]
        k += THREADS
    cuda.syncthreads()
    n, stride = np.uint32(w.shape[0]), np.uint32(cuda.gridsize(1))
    i = np.uint32(cuda.grid(1))
    value = sums.dtype.type(0)
    while i < n:
        t = w[i]
        k = 0
        while k + FEW <= min(count, NEAR):
            for m in range(FEW):
                t -= V.dtype.type(near[k + m]) * V[k + m, i]
            k += FEW
        while k < count:
            t -= V.dtype.type(near[k] if k < NEAR else h[k]) * V[k, i]
            k += 1
        w[i] = t
        value += _square(t)
        i = np.uint32(i + stride)
    block_sum(value, cuda.threadIdx.x, sums[cuda.blockIdx.x :])


@jit
def _keep(log, S, alpha, w, v, V):
    """Do ``v = V[j] = alpha * w``, j being the iterations so far."""
    if log[0] != 0.0:
        return
    n, stride = np.uint32(w.shape[0]), np.uint32(cuda.gridsize(1))
    i = np.uint32(cuda.grid(1))
    a, j = w.dtype.type(S[alpha]), int(log[1])
    while i < n:
        t = a * w[i]
        v[i] = t
        V[j, i] = t
        i = np.uint32(i + stride)


@jit
def _combine(log, V, y, skip, x, out):
    """Do ``out = x + y @ V[:len(y)]``, leaving row `skip` out."""
    if log[0] != 0.0:
        return
    n, stride = np.uint32(x.shape[0]), np.uint32(cuda.gridsize(1))
    i = np.uint32(cuda.grid(1))
    while i < n:
        out[i] = _combined(V, y, 1.0, skip, y.shape[0], i, x[i])
        i = np.uint32(i + stride)


def _over(kernel, n, *args):
    launch(kernel, blocks_for(n), THREADS, *args)


def dot(log, x, y, sums):
    """Sum ``conj(x) @ y``."""
    _over(_dot, x.shape[0], log, x, y, sums)


def dot_norm2(log, x, y, sums):
    """Sum ``conj(x) @ y`` and ``conj(x) @ x``, the two rows of `sums`."""
    _over(_dot_norm2, x.shape[0], log, x, y, sums)


def axpy(log, S, alpha, x, y):
    """Do ``y += alpha * x``."""
    _over(_axpy, x.shape[0], log, S, alpha, x, y)


def scale(log, S, alpha, x, y):
    """Do ``y = alpha * x``."""
    _over(_scale, x.shape[0], log, S, alpha, x, y)


def cast(log, S, alpha, x, y):
    """Do ``y = alpha * x``, y being of another precision."""
    _over(_cast, x.shape[0], log, S, alpha, x, y)


def copy(log, x, y):
    """Do ``y = x``."""
    _over(_copy, x.shape[0], log, x, y)


def copy_if(log, S, wanted, x, y):
    """Do ``y = x`` where the scalar `wanted` is not zero."""
    _over(_copy_if, x.shape[0], log, S, wanted, x, y)


def xpby(log, S, x, beta, y):
    """Do ``y = x + beta * y``."""
    _over(_xpby, x.shape[0], log, S, x, beta, y)


def axpby_norm2(log, S, alpha, x, beta, y, sums):
    """Do ``y = alpha * x + beta * y``; sum the squares of y."""
    _over(_axpby_norm2, x.shape[0], log, S, alpha, x, beta, y, sums)


def axpbypcz(log, S, alpha, x, beta, y, gamma, z, sums):
    """Do ``z = alpha * x + beta * y + gamma * z``; sum the squares of z."""
    _over(_axpbypcz, x.shape[0], log, S, alpha, x, beta, y, gamma, z, sums)


def axpy_norm2_dot(log, S, alpha, x, y, shadow, sums):
    """Do ``y += alpha * x``; sum ``conj(shadow) @ y`` and the squares of y."""
    _over(_axpy_norm2_dot, x.shape[0], log, S, alpha, x, y, shadow, sums)


def step(log, S, alpha, p, q, x, r, sums):
    """Do ``x += alpha * p; r -= alpha * q``; sum the squares of r."""
    _over(_step, x.shape[0], log, S, alpha, p, q, x, r, sums)


def lanczos_step(log, S, alpha, z, beta, w, gamma, w_last, phi, x):
    """Do ``w_last = alpha * z + beta * w + gamma * w_last; x += phi * w_last``."""
    _over(_lanczos_step, x.shape[0], log, S, alpha, z, beta, w, gamma, w_last, phi, x)


def subtract(log, b, q, r, sums):
    """Do ``r = b - q``; sum the squares of r."""
    _over(_subtract, r.shape[0], log, b, q, r, sums)


def times(log, scale, r, out):
    """Do ``out = scale * r``, element by element."""
    _over(_times, r.shape[0], log, scale, r, out)


def chebyshev_start(log, gain, scale, r, rest, d, out, add=False):
    """Do ``rest = r; d = out = gain * scale * r``, or add that to `out`."""
    _over(_chebyshev_start, r.shape[0], log, gain, scale, r, rest, d, out, add)


def chebyshev_step(log, keep, gain, scale, q, rest, d, out):
    """Do ``rest -= q; d = keep * d + gain * scale * rest; out += d``."""
    _over(_chebyshev_step, rest.shape[0], log, keep, gain, scale, q, rest, d, out)


def chebyshev_step_by(log, S, keep, gain, scale, q, rest, d, out):
    """Do what `chebyshev_step` does, by scalars on the device."""
    _over(_chebyshev_step_by, rest.shape[0], log, S, keep, gain, scale, q, rest, d, out)


def dots(log, S, wanted, V, rows, w, sums):
    """Sum ``conj(V[:rows]) @ w`` and the squares of w, a row each; rows < 0: those in use."""
    _over(_dots, w.shape[0], log, S, wanted, V, rows, w, sums)


def dots_and_gram(log, V, w, sums, gram):
    """Sum ``conj(V) @ w`` over the rows in use, and ``conj(V) @ V[j]``, j being the last."""
    _over(_dots_and_gram, w.shape[0], log, V, w, sums, gram)


def project(log, S, wanted, V, h, w, sums):
    """Do ``w -= h @ V`` over the rows in use; sum the squares of w."""
    _over(_project, w.shape[0], log, S, wanted, V, h, w, sums)


def keep(log, S, alpha, w, v, V):
    """Do ``v = alpha * w`` and keep it as the next row of V."""
    _over(_keep, w.shape[0], log, S, alpha, w, v, V)


def combine(log, V, y, skip, x, out):
    """Do ``out = x + y @ V[:len(y)]`` without row `skip` (-1: all)."""
    _over(_combine, x.shape[0], log, V, y, skip, x, out)
