"""Products of small matrices with bases: arrays of few long rows, one vector each.

BLAS would wake its threads for them, which takes longer than the work and then gets in the way of
ours, and packs its operands, which here are as large as the work. Blocks of columns stay in cache.
"""

from __future__ import annotations

import numpy as np

from krylearn.kernels.parallel import everywhere, jit, parallel_for
from krylearn.kernels.vector import _block_combine, _block_dots, _norm2, root

# Columns of a block, blocks worth a thread of its own, blocks summed on their own.
_BLOCK, _GRAIN, _GROUP = 256, 10, 8


@jit(noalias=True)
def _four_into_two(a, b, x0, x1, x2, x3, p, q):
    p0, p1, p2, p3, q0, q1, q2, q3 = p[0], p[1], p[2], p[3], q[0], q[1], q[2], q[3]
    for i in range(a.shape[0]):
        t0, t1, t2, t3 = x0[i], x1[i], x2[i], x3[i]
        a[i] += (p0 * t0 + p1 * t1) + (p2 * t2 + p3 * t3)
        b[i] += (q0 * t0 + q1 * t1) + (q2 * t2 + q3 * t3)


@jit(noalias=True)
def _one_into_two(a, b, x, p, q):
    for i in range(a.shape[0]):
        a[i] += p * x[i]
        b[i] += q * x[i]


@jit(noalias=True)
def _four_with_two(x0, x1, x2, x3, y, z, g, h):
    zero = y.dtype.type(0)
    g0 = g1 = g2 = g3 = h0 = h1 = h2 = h3 = zero
    for i in range(y.shape[0]):
        s, t = y[i], z[i]
        u0, u1, u2, u3 = np.conj(x0[i]), np.conj(x1[i]), np.conj(x2[i]), np.conj(x3[i])
        g0 += u0 * s
        g1 += u1 * s
        g2 += u2 * s
        g3 += u3 * s
        h0 += u0 * t
        h1 += u1 * t
        h2 += u2 * t
        h3 += u3 * t
    g[0] += g0
    g[1] += g1
    g[2] += g2
    g[3] += g3
    h[0] += h0
    h[1] += h1
    h[2] += h2
    h[3] += h3


@jit
def _add(P, X, start, stop, out):
    """Add ``P @ X[:, start:stop]`` to the first columns of out; two rows, four terms a pass."""
    s, r = X.shape[0], 0
    while r + 2 <= P.shape[0]:
        a, b, p, q = out[r, : stop - start], out[r + 1, : stop - start], P[r], P[r + 1]
        k = 0
        while k + 4 <= s:
            _four_into_two(
                a, b, X[k, start:stop], X[k + 1, start:stop], X[k + 2, start:stop],
                X[k + 3, start:stop], p[k : k + 4], q[k : k + 4],
            )  # fmt: skip
            k += 4
        while k < s:
            _one_into_two(a, b, X[k, start:stop], p[k], q[k])
            k += 1
        r += 2
    if r < P.shape[0]:
        _block_combine(X, s, start, stop, P[r], out[r, : stop - start])


@jit
def _put(new, start, stop, out):
    for r in range(new.shape[0]):
        row, to = new[r], out[r, start:stop]
        for i in range(to.shape[0]):
            to[i] = row[i]


@jit
def _recombine(lo, hi, P, U, Q, Z, out, Y, W):
    n = Z.shape[1]
    new = np.empty((max(P.shape[0], Y.shape[0]), _BLOCK), Z.dtype)
    for start in range(lo * _BLOCK, min(hi * _BLOCK, n), _BLOCK):
        stop = min(start + _BLOCK, n)
        new[:] = 0
        _add(P, U, start, stop, new)
        _add(Q, Z, start, stop, new)
        _put(new[: P.shape[0]], start, stop, out)
        if Y.shape[0] > 0:
            new[:] = 0
            _add(Y, W, start, stop, new)
            _put(new[: Y.shape[0]], start, stop, W)


@jit
def _gram(lo, hi, X, Y, partial):
    rows, n = X.shape[0], X.shape[1]
    for start in range(lo * _BLOCK, min(hi * _BLOCK, n), _BLOCK):
        stop = min(start + _BLOCK, n)
        total = partial[start // (_BLOCK * _GROUP)]
        c = 0
        while c + 2 <= Y.shape[0]:
            y, z, g, h = Y[c, start:stop], Y[c + 1, start:stop], total[c], total[c + 1]
            k = 0
            while k + 4 <= rows:
                _four_with_two(
                    X[k, start:stop], X[k + 1, start:stop], X[k + 2, start:stop],
                    X[k + 3, start:stop], y, z, g[k : k + 4], h[k : k + 4],
                )  # fmt: skip
                k += 4
            if k < rows:
                _block_dots(X[k:], rows - k, start, stop, y, g[k:])
                _block_dots(X[k:], rows - k, start, stop, z, h[k:])
            c += 2
        if c < Y.shape[0]:
            _block_dots(X, rows, start, stop, Y[c, start:stop], total[c])


@jit
def _row_norms2(lo, hi, X, squares):
    for k in range(lo, hi):
        squares[k] = _norm2(0, X.shape[1], X[k])


def transform(P: np.ndarray, V: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Return ``P @ V``, the rows that a small matrix makes of a basis, in V's precision."""
    return recombine(P, V[:0], V, out=out)


def recombine(P: np.ndarray, U: np.ndarray, Z: np.ndarray, Y: np.ndarray | None = None,
              W: np.ndarray | None = None, out: np.ndarray | None = None,
              ) -> np.ndarray:  # fmt: skip
    """Return the rows ``P @ [U; Z]``; where Y is given, let the first rows of W be ``Y @ W``.

    Z may be rows of W. `out`, where given, receives the rows that are returned.
    """
    n, dtype = Z.shape[1], Z.dtype
    first, second = (np.ascontiguousarray(p, dtype=dtype) for p in np.hsplit(P, [len(U)]))
    if Y is None or W is None:
        Y, W = np.empty((0, 0), dtype), Z[:0]
    Y = np.ascontiguousarray(Y, dtype=dtype)
    out = np.empty((P.shape[0], n), dtype) if out is None else out[: P.shape[0]]
    blocks = -(-n // _BLOCK)
    parallel_for(_recombine, blocks, _GRAIN, first, U, second, Z, out, Y, W)
    return out


def gram(X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """Return the inner products ``conj(X) @ Y.T`` of the rows of two bases."""
    blocks = -(-X.shape[1] // _BLOCK)
    groups = -(-blocks // _GROUP)
    partial = np.zeros((groups, Y.shape[0], X.shape[0]), X.dtype)

    def several(lo: int, hi: int) -> None:
        _gram(lo * _GROUP, min(hi * _GROUP, blocks), X, Y, partial)

    parallel_for(several, groups, 2)
    return everywhere(partial.sum(axis=0)).T


def row_norms(X: np.ndarray) -> np.ndarray:
    """Return the Euclidean norms of the rows."""
    squares = np.empty(len(X), X.real.dtype)
    parallel_for(_row_norms2, len(X), -(-(2**18) // max(X.shape[1], 1)), X, squares)
    return np.array([float(root(square, x)) for square, x in zip(everywhere(squares), X)])
