"""Induced dimension reduction."""

from __future__ import annotations

import numpy as np

from krylearn.interface import Solve, solve_with
from krylearn.kernels.vector import axpby, axpy, axpy_norm, combine, dot, dots, norm, scale

# Below this cosine of the angle between r and A r the step is lengthened: Sleijpen and van der
# Vorst (1995), "maintaining convergence".
KAPPA = 0.7


def idrs(A, b, x0=None, *, s=4, rtol=1e-5, atol=0.0, maxiter=None, M=None, callback=None):
    """Solve ``A x = b`` for any square A by IDR(s) with biorthogonal directions.

    Parameters
    ----------
    A, b, x0, rtol, atol, callback
        As for `cg`; A is any square matrix.
    s : int
        Dimension of the shadow space. More converges in fewer products, up to GMRES's number,
        and holds ``3 s`` vectors.
    maxiter : int, optional
        Most iterations, ``10 n`` by default; each takes one product with A.
    M : {LinearOperator, Preconditioner, sparse array, ndarray}, optional
        Approximates the inverse of A: linear. It is applied from the right.

    Returns
    -------
    x : array
    info : SolveInfo

    Raises
    ------
    TypeError, ValueError
        On operands that are no numbers, do not fit, or an M that is not linear.

    References
    ----------
    van Gijzen and Sonneveld (2011), Algorithm 913: An elegant IDR(s) variant that efficiently
    exploits biorthogonality properties, figure 2.

    Examples
    --------
    >>> import numpy as np, krylearn as kl
    >>> A = np.array([[2.0, 1.0], [0.0, 1.0]])
    >>> x, info = kl.idrs(A, np.array([3.0, 1.0]), rtol=1e-10)
    >>> np.allclose(x, 1.0), info == 0
    (True, True)
    """
    if s != int(s) or s < 1:
        raise ValueError(f"s must be an integer >= 1, not {s!r}")
    return solve_with(
        lambda solve: _idrs(solve, int(s)), A, b, x0, method="idrs", rtol=rtol, atol=atol,
        maxiter=maxiter, M=M, callback=callback, needs=("linear",),
    )  # fmt: skip


def _shadow_space(s: Solve, size: int) -> np.ndarray:
    """Return `size` random orthonormal rows, the same for every call."""
    rng = np.random.default_rng(913)
    P = s.empty(size, s.n)
    P[:] = s.random_rows(rng, size)
    if s.dtype.kind == "c":
        P += 1j * s.random_rows(rng, size)
    for k in range(size):
        for _ in range(2):
            combine(P[:k], -dots(P[:k], k, P[k]), P[k])
        scale(1 / norm(P[k]), P[k], P[k])
    return P


def _idrs(s: Solve, size: int) -> None:
    size = min(size, s.unknowns)
    P = _shadow_space(s, size)
    x, G, U = s.x, s.empty(size, s.n), s.empty(size, s.n)
    v, t, buffer, direction = s.empty(), s.empty(), s.empty(), s.empty()
    accurate = np.result_type(s.dtype, np.float64)
    eps = float(np.finfo(s.dtype).eps)
    while s.unsolved():
        r, rnorm = s.r, s.rnorm
        G[:] = U[:] = 0
        PG = np.eye(size, dtype=accurate)  # P^H G, lower triangular
        omega: complex = 1.0
        useful = True
        while useful and s.running(rnorm):
            f = dots(P, size, r).astype(accurate)
            for k in range(size):
                # v is r, made orthogonal to P[k:] by G[k:]; the new u is in G_j's preimage.
                c = np.linalg.solve(PG[k:, k:], f[k:]) if np.all(np.diag(PG)) else f[k:] * np.nan
                v[:] = r
                combine(G[k:], -c, v)
                z = s.precondition(v, buffer)
                scale(omega, z, direction)
                combine(U[k:], c, direction)
                g = s.matvec(direction, t)
                h = dots(P, size, g).astype(accurate)
                a = np.linalg.solve(PG[:k, :k], h[:k])
                combine(G[:k], -a, g)
                combine(U[:k], -a, direction)
                G[k], U[k] = g, direction
                PG[k:, k] = h[k:] - PG[k:, :k] @ a
                if not abs(PG[k, k]) > eps * norm(g):
                    s.near_breakdown(PG[k, k])
                    useful = False
                    break
                beta = f[k] / PG[k, k]
                axpy(beta, direction, x)
                rnorm = axpy_norm(-beta, g, r)
                f[k + 1 :] -= beta * PG[k + 1 :, k]
                s.step(rnorm)
                if not s.running(rnorm):
                    break
            if not (useful and s.running(rnorm)):
                break
            z = s.precondition(r, buffer)
            s.matvec(z, t)
            tnorm, tr = norm(t), dot(t, r)
            cosine = abs(tr) / (tnorm * rnorm) if tnorm > 0 else 0.0
            if not cosine > eps:
                s.near_breakdown(tr, tnorm)
                break
            omega = tr / tnorm**2 * (1.0 if cosine > KAPPA else KAPPA / cosine)
            axpby(omega, z, 1.0, x)
            rnorm = axpy_norm(-omega, t, r)
            s.step(rnorm)
