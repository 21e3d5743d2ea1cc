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
