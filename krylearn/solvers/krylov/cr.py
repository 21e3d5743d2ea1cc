"""Conjugate residuals."""

from __future__ import annotations

from krylearn.interface import Reason, Solve, solve_with
from krylearn.kernels.vector import axpby, axpy, dot, norm, step


def cr(A, b, x0=None, *, rtol=1e-5, atol=0.0, maxiter=None, M=None, callback=None):
    """Solve ``A x = b`` for Hermitian A by conjugate residuals.

    Minimises the residual in the norm that M defines. Where A is indefinite, `minres` does the
    same and cannot break down.

    Parameters
    ----------
    A, b, x0, rtol, atol, maxiter, callback
        As for `cg`; A is Hermitian.
    M : {LinearOperator, Preconditioner, sparse array, ndarray}, optional
        Approximates the inverse of A: linear, Hermitian positive definite.

    Returns
    -------
    x : array
    info : SolveInfo

    Raises
    ------
    TypeError, ValueError
        On operands that are no numbers, do not fit, or an M that lacks a needed trait.

    References
    ----------
    Stiefel (1955); Saad (2003), Iterative Methods for Sparse Linear Systems, Algorithm 6.20.

    Examples
    --------
    >>> import numpy as np, krylearn as kl
    >>> A = np.array([[4.0, 1.0], [1.0, 3.0]])
    >>> x, info = kl.cr(A, np.array([5.0, 4.0]), rtol=1e-10)
    >>> np.allclose(x, 1.0), info.iterations
    (True, 2)
    """
    return solve_with(
        _cr, A, b, x0, method="cr", rtol=rtol, atol=atol, maxiter=maxiter, M=M,
        callback=callback, needs=("linear", "symmetric", "positive_definite"),
    )  # fmt: skip


def _cr(s: Solve) -> None:
    x, p, q, w = s.x, s.empty(), s.empty(), s.empty()
    z_buffer, u_buffer = s.empty(), s.empty()
    while s.unsolved():
        r, rnorm = s.r, s.rnorm
        z = s.precondition(r, z_buffer)  # z = M r,  w = A z,  q = A p,  u = M q
        zw = s.matvec_dot(z, w).real
        p[:] = z
        q[:] = w
        while s.running(rnorm):
            u = s.precondition(q, u_buffer)
            qu = norm(q) ** 2 if u is q else dot(q, u).real
            if not qu > 0.0:
                # u is q: A p vanished, though p did not.
                s.breakdown(Reason.SINGULAR if u is q else Reason.INDEFINITE_M, qu, zw)
                break
            if zw == 0.0:
                s.near_breakdown(zw)
                break
            alpha = zw / qu
            rnorm = step(alpha, p, q, x, r)
            if z is not r:
                axpy(-alpha, u, z)
            zw, previous = s.matvec_dot(z, w).real, zw
            axpby(1.0, z, zw / previous, p)
            axpby(1.0, w, zw / previous, q)
            s.step(rnorm)
