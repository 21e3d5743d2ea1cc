"""Stabilised biconjugate gradients."""

from __future__ import annotations

import numpy as np

from krylearn.interface import Solve, solve_with
from krylearn.kernels.vector import axpbypcz, axpy, axpy_norm, dot, norm


def bicgstab(A, b, x0=None, *, rtol=1e-5, atol=0.0, maxiter=None, M=None, callback=None):
    """Solve ``A x = b`` for any square A by BiCGSTAB, preconditioned from the right.

    Parameters
    ----------
    A, b, x0, rtol, atol, maxiter, callback
        As for `cg`; A is any square matrix. An iteration takes two products with A.
    M : {LinearOperator, Preconditioner, sparse array, ndarray}, optional
        Approximates the inverse of A: linear.

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
    van der Vorst (1992); Saad (2003), Iterative Methods for Sparse Linear Systems,
    Algorithm 7.7. Near a breakdown the method starts again with a new shadow residual.

    Examples
    --------
    >>> import numpy as np, krylearn as kl
    >>> A = np.array([[2.0, 1.0], [0.0, 1.0]])
    >>> x, info = kl.bicgstab(A, np.array([3.0, 1.0]), rtol=1e-10)
    >>> np.allclose(x, 1.0), info == 0
    (True, True)
    """
    return solve_with(
        _bicgstab, A, b, x0, method="bicgstab", rtol=rtol, atol=atol, maxiter=maxiter, M=M,
        callback=callback, needs=("linear",),
    )  # fmt: skip


def _bicgstab(s: Solve) -> None:
    if s.on_cuda:
        from krylearn.solvers.krylov import device

        return device.bicgstab(s)
    x, shadow, p, v, t = s.x, s.empty(), s.empty(), s.empty(), s.empty()
    p_buffer, r_buffer = s.empty(), s.empty()
    eps = float(np.finfo(s.dtype).eps)
    while s.unsolved():
        r, rnorm = s.r, s.rnorm
        shadow[:] = r
        p[:] = r
        start, rho = rnorm, rnorm**2
        while s.running(rnorm):
            y = s.precondition(p, p_buffer)
            s.matvec(y, v)
            sigma = dot(shadow, v)
            # A scalar product that is all rounding error carries no information.
            if not (abs(rho) > eps * start * rnorm and abs(sigma) > eps * start * norm(v)):
                s.near_breakdown(rho, sigma)
                break
            alpha = rho / sigma
            rnorm = axpy_norm(-alpha, v, r)
            if not s.running(rnorm):
                axpy(alpha, y, x)
                s.step(rnorm)
                break
            z = s.precondition(r, r_buffer)
            s.matvec(z, t)
            tnorm = norm(t)
            omega = dot(t, r) / tnorm**2 if tnorm > 0 else 0.0
            if not abs(omega) * tnorm > eps * rnorm:
                axpy(alpha, y, x)
                if rnorm < s.rnorm:
                    s.step(rnorm)
                s.near_breakdown(omega)
                break
            axpbypcz(alpha, y, omega, z, 1.0, x)
            rnorm = axpy_norm(-omega, t, r)
            rho, previous = dot(shadow, r), rho
            beta = (rho / previous) * (alpha / omega)
            axpbypcz(1.0, r, -beta * omega, v, beta, p)
            s.step(rnorm)
