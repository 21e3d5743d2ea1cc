"""Vector operations that Krylov loops call by name, fused so that memory is passed over once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from krylearn.kernels.parallel import jit, over_ranks, parallel_for, parallel_sum

# Elements a chunk of a reduction. Fixed, so that a sum never depends on the number of threads.
CHUNK = 65536


@jit
def _dot(lo, hi, x, y):
    total = x.dtype.type(0) * y.dtype.type(0)
    for i in range(np.uint64(lo), np.uint64(hi)):
        total += np.conj(x[i]) * y[i]
    return total


@jit
def _norm2(lo, hi, x):
    total = x[:1].real[0] * 0
    for i in range(np.uint64(lo), np.uint64(hi)):
        total += x[i].real * x[i].real + x[i].imag * x[i].imag
    return total


@jit
def _axpy(lo, hi, alpha, x, y):
    a = x.dtype.type(alpha)
    for i in range(np.uint64(lo), np.uint64(hi)):
        y[i] += a * x[i]


@jit
def _scale(lo, hi, alpha, x, y):
    a = x.dtype.type(alpha)
    for i in range(np.uint64(lo), np.uint64(hi)):
        y[i] = a * x[i]


@jit
def _axpby(lo, hi, alpha, x, beta, y):
    a, b = x.dtype.type(alpha), x.dtype.type(beta)
    for i in range(np.uint64(lo), np.uint64(hi)):
        y[i] = a * x[i] + b * y[i]


@jit
def _step(lo, hi, alpha, p, q, x, r):
    a = x.dtype.type(alpha)
    total = x[:1].real[0] * 0
    for i in range(np.uint64(lo), np.uint64(hi)):
        x[i] += a * p[i]
        t = r[i] - a * q[i]
        r[i] = t
        total += t.real * t.real + t.imag * t.imag
    return total


@jit
def _axpy_norm2(lo, hi, alpha, x, y):
    a = x.dtype.type(alpha)
    total = x[:1].real[0] * 0
    for i in range(np.uint64(lo), np.uint64(hi)):
        t = y[i] + a * x[i]
        y[i] = t
        total += t.real * t.real + t.imag * t.imag
    return total


@jit
def _axpbypcz(lo, hi, alpha, x, beta, y, gamma, z):
    a, b, c = x.dtype.type(alpha), x.dtype.type(beta), x.dtype.type(gamma)
    for i in range(np.uint64(lo), np.uint64(hi)):
        z[i] = a * x[i] + b * y[i] + c * z[i]


@jit
def _subtract(lo, hi, b, q, r):
    total = b[:1].real[0] * 0
    for i in range(np.uint64(lo), np.uint64(hi)):
        t = b[i] - q[i]
        r[i] = t
        total += t.real * t.real + t.imag * t.imag
    return total


def dot(x: np.ndarray, y: np.ndarray) -> Any:
    """Return the inner product ``conj(x) @ y``."""
    return parallel_sum(_dot, x.shape[0], CHUNK, x, y)


def norm(x: np.ndarray) -> float:
    """Return the Euclidean norm, safe where the squares over- or underflow."""
    square = parallel_sum(_norm2, x.shape[0], CHUNK, x)
    return root(square, x)


def root(square: float, x: np.ndarray) -> float:
    """Return the norm of x, `square` being the plain sum of its squares."""
    # Near the ends of the exponent range the plain sum of squares is 0 or Inf: scale and redo.
    tiny, huge = (1e-290, 1e290) if x.real.dtype == np.float64 else (1e-30, 1e30)
    if tiny < square < huge or square != square or x.shape[0] == 0:
        return np.sqrt(square)
    largest, ranks = float(np.max(np.abs(x))), over_ranks()
    if ranks is not None:
        largest = ranks.max(largest)
    if largest == 0.0 or not math.isfinite(largest):
        return np.float64(largest)
    scaled = np.float64(np.linalg.norm(x / x.real.dtype.type(largest)))
    return largest * (scaled if ranks is None else np.sqrt(ranks.sum(scaled**2)))


def axpy(alpha: Any, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Do ``y += alpha * x``; return y."""
    parallel_for(_axpy, x.shape[0], CHUNK, alpha, x, y)
    return y


def scale(alpha: Any, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Do ``y = alpha * x``, whatever y held; return y."""
    parallel_for(_scale, x.shape[0], CHUNK, alpha, x, y)
    return y


def axpby(alpha: Any, x: np.ndarray, beta: Any, y: np.ndarray) -> np.ndarray:
    """Do ``y = alpha * x + beta * y``; return y."""
    parallel_for(_axpby, x.shape[0], CHUNK, alpha, x, beta, y)
    return y


def axpy_norm(alpha: Any, x: np.ndarray, y: np.ndarray) -> float:
    """Do ``y += alpha * x``; return the norm of y."""
    return root(parallel_sum(_axpy_norm2, x.shape[0], CHUNK, alpha, x, y), y)


def axpbypcz(alpha: Any, x: np.ndarray, beta: Any, y: np.ndarray, gamma: Any,
             z: np.ndarray) -> np.ndarray:  # fmt: skip
    """Do ``z = alpha * x + beta * y + gamma * z``; return z."""
    parallel_for(_axpbypcz, x.shape[0], CHUNK, alpha, x, beta, y, gamma, z)
    return z


def step(alpha: Any, p: np.ndarray, q: np.ndarray, x: np.ndarray, r: np.ndarray) -> float:
    """Do ``x += alpha * p; r -= alpha * q``; return the norm of r."""
    return root(parallel_sum(_step, x.shape[0], CHUNK, alpha, p, q, x, r), r)


def subtract(b: np.ndarray, q: np.ndarray, r: np.ndarray) -> float:
    """Do ``r = b - q``; return the norm of r."""
    return root(parallel_sum(_subtract, b.shape[0], CHUNK, b, q, r), r)


# Elements of w that stay in cache with those of all rows of a basis while both are passed over.
_BLOCK = 1024


@jit
def _block_dots(V, j, start, stop, part, h):
    """Add ``conj(V[:j, start:stop]) @ part`` to h; four rows a pass over `part`."""
    k = 0
    while k + 4 <= j:
        a, b = V[k, start:stop], V[k + 1, start:stop]
        c, d = V[k + 2, start:stop], V[k + 3, start:stop]
        ha = hb = hc = hd = part.dtype.type(0)
        for i in range(part.shape[0]):
            t = part[i]
            ha += np.conj(a[i]) * t
            hb += np.conj(b[i]) * t
            hc += np.conj(c[i]) * t
            hd += np.conj(d[i]) * t
        h[k] += ha
        h[k + 1] += hb
        h[k + 2] += hc
        h[k + 3] += hd
        k += 4
    while k < j:
        a = V[k, start:stop]
        ha = part.dtype.type(0)
        for i in range(part.shape[0]):
            ha += np.conj(a[i]) * part[i]
        h[k] += ha
        k += 1


@jit
def _block_combine(V, j, start, stop, y, part):
    """Add ``y @ V[:j, start:stop]`` to `part`; four rows a pass over it."""
    k = 0
    while k + 4 <= j:
        a, b = V[k, start:stop], V[k + 1, start:stop]
        c, d = V[k + 2, start:stop], V[k + 3, start:stop]
        ya, yb, yc, yd = y[k], y[k + 1], y[k + 2], y[k + 3]
        for i in range(part.shape[0]):
            part[i] += (ya * a[i] + yb * b[i]) + (yc * c[i] + yd * d[i])
        k += 4
    while k < j:
        a, ya = V[k, start:stop], y[k]
        for i in range(part.shape[0]):
            part[i] += ya * a[i]
        k += 1


@jit
def _dots(lo, hi, V, j, w):
    h = np.zeros(j, w.dtype)
    for start in range(lo, hi, _BLOCK):
        stop = min(start + _BLOCK, hi)
        _block_dots(V, j, start, stop, w[start:stop], h)
    return h


@jit
def _combine(lo, hi, V, y, x):
    for start in range(lo, hi, _BLOCK):
        stop = min(start + _BLOCK, hi)
        _block_combine(V, y.shape[0], start, stop, y, x[start:stop])


@jit
def _project(lo, hi, V, minus_h, w):
    """Do ``w += minus_h @ V``; return ``conj(V) @ w`` and, last, the square of the norm of w."""
    j = minus_h.shape[0]
    left = np.zeros(j + 1, w.dtype)
    for start in range(lo, hi, _BLOCK):
        stop = min(start + _BLOCK, hi)
        part = w[start:stop]
        _block_combine(V, j, start, stop, minus_h, part)
        _block_dots(V, j, start, stop, part, left)
        total = w[:1].real[0] * 0
        for i in range(part.shape[0]):
            total += part[i].real * part[i].real + part[i].imag * part[i].imag
        left[j] += total
    return left


def dots(V: np.ndarray, j: int, w: np.ndarray) -> np.ndarray:
    """Return the inner products ``conj(V[:j]) @ w``."""
    return parallel_sum(_dots, w.shape[0], CHUNK, V, j, w)


def combine(V: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Do ``x += y @ V[:len(y)]``; return x."""
    parallel_for(_combine, x.shape[0], CHUNK, V, y.astype(x.dtype, copy=False), x)
    return x


def orthogonalise(V: np.ndarray, j: int, w: np.ndarray) -> tuple[np.ndarray, float]:
    """Make `w` orthogonal to the first `j` rows of `V`, by classical Gram-Schmidt.

    The pass that subtracts the projection measures what is left of it, block by block while the
    rows are in cache. It is done again where that exceeds 256 roundings: as a rule memory is
    passed over twice, and thrice where one pass of Gram-Schmidt loses digits.

    Parameters
    ----------
    V : (m, n) array with orthonormal rows
    j : int
        How many rows count.
    w : (n,) array
        Overwritten by its orthogonal part, not normalised.

    Returns
    -------
    h : (j,) array
        The coefficients: w was ``h @ V[:j]`` plus what is left.
    norm : float
        Norm of what is left.

    References
    ----------
    Daniel, Gragg, Kaufman and Stewart (1976); Parlett (1980): "twice is enough" (Kahan).
    """
    h = correction = dots(V, j, w)
    rounding = 256 * np.finfo(w.dtype).eps
    for _ in range(3):
        left = parallel_sum(_project, w.shape[0], CHUNK, V, -correction, w)
        after, correction = root(left[j].real, w), left[:j]
        if not np.linalg.norm(correction) > rounding * after:
            break
        h = h + correction
    return h, after


def all_finite(X: np.ndarray) -> bool:
    """Return whether an array, all parts of it, holds neither NaN nor Inf."""
    finite, ranks = bool(np.all(np.isfinite(X))), over_ranks()
    return finite if ranks is None else not ranks.max(float(not finite))
