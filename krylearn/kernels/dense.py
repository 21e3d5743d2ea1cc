"""Small dense arithmetic inside Krylov methods."""

from __future__ import annotations

import numpy as np

from krylearn.kernels.parallel import jit


@jit
def rotate(h, j, cs, sn, g):
    """Extend the QR factorisation of a Hessenberg matrix by column `j`; return ``|g[j + 1]|``.

    Parameters
    ----------
    h : (m + 1,) array
        Column j, entries 0 to j + 1; becomes that of the triangular factor.
    j : int
    cs : (m,) float array
    sn : (m,) array
        The Givens rotations so far; those of column j are appended.
    g : (m + 1,) array
        The rotated right-hand side.
    """
    for i in range(j):
        upper = cs[i] * h[i] + sn[i] * h[i + 1]
        h[i + 1] = cs[i] * h[i + 1] - np.conj(sn[i]) * h[i]
        h[i] = upper
    size, below = abs(h[j]), abs(h[j + 1])
    length = np.hypot(size, below)
    if length == 0.0:
        cs[j], sn[j] = 1.0, 0.0
    elif size == 0.0:
        cs[j], sn[j] = 0.0, 1.0
        h[j] = h[j + 1]
    else:
        phase = h[j] / size
        cs[j] = size / length
        sn[j] = phase * np.conj(h[j + 1]) / length
        h[j] = phase * length
    h[j + 1] = 0.0
    g[j + 1] = -np.conj(sn[j]) * g[j]
    g[j] = cs[j] * g[j]
    return abs(g[j + 1])


@jit
def solve_upper(R, B):
    """Overwrite the columns of `B` by ``inv(R) @ B``, R being upper triangular; return B.

    LAPACK would wake the threads of BLAS for that.
    """
    s = R.shape[0]
    for step in range(s):
        i = s - 1 - step
        for c in range(B.shape[1]):
            total = B[i, c]
            for k in range(i + 1, s):
                total -= R[i, k] * B[k, c]
            B[i, c] = total / R[i, i]
    return B


@jit
def harmonic_matrix(kept, j, unit, G, H, cs, sn, S, R, E):
    """Write ``E = Q^H S inv(R)`` for ``Q R = [D B; 0 K]``, K being upper Hessenberg.

    Parameters
    ----------
    kept, j : int
        Orders of the diagonal D and of K.
    unit : (kept,) array
        D.
    G, H : arrays, one column a row
        B is in the rows of G from `kept` on, the triangular factor of K in those of H.
    cs, sn : arrays
        The rotations of `rotate`, which make it.
    S : (kept + j + 1, kept + j) array
        Overwritten.
    R, E : (kept + j, kept + j) arrays
        Overwritten, R[c] by column c.
    """
    total = kept + j
    R[:] = 0
    for c in range(kept):
        R[c, c] = unit[c]
    for c in range(kept, total):
        for i in range(kept):
            R[c, i] = G[c, i]
        for i in range(c - kept + 1):
            R[c, kept + i] = H[c - kept, i]
    for i in range(j):
        a, b = S[kept + i], S[kept + i + 1]
        for c in range(total):
            upper = cs[i] * a[c] + sn[i] * b[c]
            b[c] = cs[i] * b[c] - np.conj(sn[i]) * a[c]
            a[c] = upper
    for r in range(total):
        e = E[r]
        for c in range(total):
            value = S[r, c]
            for i in range(c):
                value -= e[i] * R[c, i]
            e[c] = value / R[c, c]


@jit
def harmonic_vectors(kept, j, cs, sn, R, T, Y, P):
    """Write ``Y = Q T`` and ``P = inv(R) T``, with Q and R as in `harmonic_matrix`.

    Parameters
    ----------
    T, P : (kept + j, count) arrays
    Y : (kept + j + 1, count) array
    """
    total, count = T.shape
    Y[:total] = T
    Y[total] = 0
    for step in range(j):
        i = j - 1 - step
        a, b = Y[kept + i], Y[kept + i + 1]
        for c in range(count):
            upper = cs[i] * a[c] - sn[i] * b[c]
            b[c] = np.conj(sn[i]) * a[c] + cs[i] * b[c]
            a[c] = upper
    for step in range(total):
        r = total - 1 - step
        p = P[r]
        for c in range(count):
            p[c] = T[r, c]
        for k in range(r + 1, total):
            q, above = P[k], R[k, r]
            for c in range(count):
                p[c] -= above * q[c]
        for c in range(count):
            p[c] /= R[r, r]
