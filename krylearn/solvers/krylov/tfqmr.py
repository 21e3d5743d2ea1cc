"""Transpose-free quasi-minimal residuals."""

from __future__ import annotations

import math

import numpy as np

from krylearn.interface import Solve, print_history, solve_with
from krylearn.kernels.vector import axpby, axpy, axpy_norm, dot, norm


def tfqmr(A, b, x0=None, *, rtol=1e-5, atol=0.0, maxiter=None, M=None, callback=None, show=False):
    """Solve ``A x = b`` for any square A by transpose-free QMR, preconditioned from the right.

    Parameters
    ----------
    A, b, x0, rtol, atol, callback
        As for `cg`; A is any square matrix.
    maxiter : int, optional
        Most iterations, ``10 n`` by default; each takes one product with A.
    M : {LinearOperator, Preconditioner, sparse array, ndarray}, optional
        Approximates the inverse of A: linear.
    show : bool
        Print the history of the residual.

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
    Freund (1993), A transpose-free quasi-minimal residual algorithm for non-Hermitian linear
    systems, Algorithm 5.1. The residual's own norm is kept beside Freund's bound of it.

    Examples
    --------
    >>> import numpy as np, krylearn as kl
    >>> A = np.array([[2.0, 1.0], [0.0, 1.0]])
    >>> x, info = kl.tfqmr(A, np.array([3.0, 1.0]), rtol=1e-10)
    >>> np.allclose(x, 1.0), info == 0
    (True, True)
    """
    x, info = solve_with(
        _tfqmr, A, b, x0, method="tfqmr", rtol=rtol, atol=atol, maxiter=maxiter, M=M,
        callback=callback, needs=("linear",),
    )  # fmt: skip
    if show:
        print_history(info)
    return x, info


def _tfqmr(s: Solve) -> None:
    x, shadow, buffer = s.x, s.empty(), s.empty()
    # y, u = A M y: the direction of a half-step; d, Ad: that of x and what it does to r.
    w, y, u, v, d, Ad = (s.empty() for _ in range(6))
    eps = float(np.finfo(s.dtype).eps)
    while s.unsolved():
        r, rnorm = s.r, s.rnorm
        shadow[:] = w[:] = y[:] = r
        d[:] = Ad[:] = 0
        z = s.precondition(y, buffer)
        v[:] = s.matvec(z, u)
        start = tau = rnorm
        theta, eta, rho, half = 0.0, 0.0, rnorm**2, 0
        alpha = 1.0
        while s.running(rnorm):
            if half % 2 == 0:
                sigma = dot(shadow, v)
                if not abs(sigma) > eps * start * norm(v):
                    s.near_breakdown(sigma)
                    break
                # What the last half-step kept of the direction refers to its own alpha.
                alpha = rho / sigma
            wnorm = axpy_norm(-alpha, u, w)
            carried = theta**2 * eta / alpha
            axpby(1.0, z, carried, d)
            axpby(1.0, u, carried, Ad)
            theta = wnorm / tau
            cosine = 1 / math.hypot(1.0, theta)
            tau *= theta * cosine
            eta = cosine**2 * alpha
            axpy(eta, d, x)
            rnorm = axpy_norm(-eta, Ad, r)
            s.step(rnorm)
            if not s.running(rnorm):
                break
            if half % 2 == 0:
                axpy(-alpha, v, y)
            else:
                rho, previous = dot(shadow, w), rho
                if not abs(rho) > eps * start * wnorm:
                    s.near_breakdown(rho)
                    break
                beta = rho / previous
                axpby(1.0, w, beta, y)
                axpby(beta, u, beta**2, v)
            z = s.precondition(y, buffer)
            s.matvec(z, u)
            if half % 2 == 1:
                axpy(1.0, u, v)
            half += 1
