"""Dense algebra on small bases: bases are arrays with one vector a row."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from scipy.linalg.lapack import get_lapack_funcs

from krylearn.kernels.dense import solve_upper
from krylearn.kernels.tall import gram, row_norms, transform


def accurate(dtype: np.dtype) -> np.dtype:
    """Return the double-precision relative of a dtype, for small matrices."""
    return np.result_type(dtype, np.float64)


def orthonormalise(X: np.ndarray, drop: float | None = None, out: np.ndarray | None = None,
                   ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Orthonormalise rows by a rank-revealing Cholesky QR, which drops dependent ones.

    Parameters
    ----------
    X : (k, n) array
    drop : float, optional
        A row is dropped where less than this share of it is left by the rows before it; ten roots
        of the rounding error by default, the least that the normal equations can tell from zero.
    out : (k, n) array, optional
        Receives Q in its first rows.

    Returns
    -------
    Q : (r, n) array
        Orthonormal rows, ``Q = F @ X[kept]``.
    F : (r, r) array
    kept : (r,) int array

    References
    ----------
    Fukaya, Nakatsukasa, Yanagisawa and Yamamoto (2014), CholeskyQR2; Higham (2002), Accuracy and
    Stability of Numerical Algorithms, section 10.3 (pivoted Cholesky).
    """
    wide = accurate(X.dtype)
    limits = np.finfo(X.dtype)
    eps = float(limits.eps)
    drop = 10 * eps**0.5 if drop is None else drop
    size = row_norms(X)
    with np.errstate(all="ignore"):
        usable = np.flatnonzero((size > 0) & np.isfinite(size))
    if not len(usable):
        return X[:0].copy(), np.zeros((0, 0), wide), usable
    size = size[usable]
    rows, unit = (X if len(usable) == len(X) else X[usable]), 1 / size
    extreme = size.min() < float(limits.tiny) ** 0.25 or size.max() > float(limits.max) ** 0.25
    if extreme:  # inner products would over- or underflow
        rows = rows / size[:, None].astype(X.real.dtype)
        unit = np.ones(len(rows))
    inner = gram(rows, rows).astype(wide) * np.outer(unit, unit)
    R, pivots, rank, _ = _lapack("pstrf", wide)(inner, lower=0, tol=drop**2)
    kept = pivots[:rank] - 1
    R = np.triu(R[:rank, :rank])
    # Rows: X = R^T Q, so that Q is inv(R)^T times X.
    F = np.zeros((rank, len(rows)), wide)
    F[:, kept] = solve_upper(R, np.eye(rank, dtype=wide)).T * unit[kept]
    Q = transform(F, rows, out)
    for _ in range(2):
        inner = gram(Q, Q).astype(wide)
        if np.abs(inner - np.eye(rank)).max() <= 10 * rank * eps:
            break
        R = np.linalg.cholesky(inner).conj().T
        step = solve_upper(R, np.eye(rank, dtype=wide)).T
        Q[:], F = transform(step, Q), step @ F
    if extreme:
        F = F / size
    return Q, F[:, kept], usable[kept]


@functools.cache
def _lapack(name: str, dtype: np.dtype) -> Callable:
    return get_lapack_funcs(name, dtype=dtype)


def dominant_subspace(E: np.ndarray, k: int) -> np.ndarray | None:
    """Return orthonormal columns that span the invariant subspace of the largest eigenvalues.

    A conjugate pair is kept or left together, so that there may be ``k - 1`` columns. The Schur
    form is that of LAPACK's gees, whose balancing only permutes. None where it fails.
    """
    s = E.shape[0]
    if s <= k:
        return np.eye(s, dtype=E.dtype)
    found = _lapack("gees", E.dtype)(lambda *_: None, E)
    T, Z, failed = found[0], found[-3], found[-1]
    if failed:
        return None
    square = np.abs(np.diag(T)) ** 2
    pairs = np.zeros(0, int)
    if E.dtype.kind != "c":
        # A pair is a block [a b; c a] with b c < 0: its modulus is that of a^2 - b c.
        below = np.diag(T, -1)
        pairs = np.flatnonzero(below)
        modulus = square[pairs] - np.diag(T, 1)[pairs] * below[pairs]
        square[pairs] = square[pairs + 1] = modulus
    chosen = np.zeros(s, np.int32)
    chosen[np.argsort(-square, kind="stable")[:k]] = 1
    for first in pairs:
        chosen[first : first + 2] = min(chosen[first : first + 2])
    count = int(chosen.sum())
    if count == 0:
        return None
    found = _lapack("trsen", E.dtype)(chosen, T, Z, job="N", lwork=s)
    return None if found[-1] < 0 else found[1][:, :count]


def conjugate_rows(G: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """Return F and the rows `kept` of a basis U that make ``F @ U[kept]`` conjugate.

    `G` holds the inner products ``U^H A U`` for a Hermitian positive definite A; conjugate means
    ``W^H A W = I``. Rows that depend on others, or along which A is not positive, are dropped.
    """
    wide = accurate(G.dtype)
    G = (G.astype(wide) + G.conj().T) / 2
    size = np.diag(G).real
    usable = np.flatnonzero((size > 0) & np.isfinite(G).all(axis=0))
    if not len(usable):
        return np.zeros((0, 0), wide), usable
    unit = 1 / np.sqrt(size[usable])
    inner = G[np.ix_(usable, usable)] * np.outer(unit, unit)
    R, pivots, rank, _ = _lapack("pstrf", wide)(inner, lower=0, tol=100 * eps)
    kept = pivots[:rank] - 1
    # Rows: W = conj(inv(R))^... of U: U = R^T W.
    F = solve_upper(np.triu(R[:rank, :rank]), np.eye(rank, dtype=wide)).T
    return F * unit[kept], usable[kept]
