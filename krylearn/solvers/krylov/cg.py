"""Conjugate gradients."""

from __future__ import annotations

import numpy as np

from krylearn.interface import Reason, Solve, solve_with
from krylearn.kernels.csr import cg_steps, small_diagonals
from krylearn.kernels.stencil import Stencil
from krylearn.kernels.vector import axpby, axpy, step
from krylearn.operators import CSROperator, GridAdapter

# Below this many unknowns a call from Python costs as much as an iteration's arithmetic.
SMALL = 16384
# A 3-D 7-point matrix has 7; with more, zeros fill much of them.
MOST_DIAGONALS = 9


def cg(A, b, x0=None, *, rtol=1e-5, atol=0.0, maxiter=None, M=None, callback=None):
    """Solve ``A x = b`` for Hermitian positive definite A by conjugate gradients.

    Parameters
    ----------
    A : {sparse array, ndarray, LinearOperator, GridOperator}, shape (n, n)
        Hermitian positive definite.
    b : array, shape (n,), (n, 1) or (n, k)
        Right-hand side, or k of them that advance together.
    x0 : array, optional
        Starting guess; 'Mb' means ``M @ b``. Zero by default. Never changed.
    rtol, atol : float
        Converged when the recomputed ``norm(b - A @ x) <= max(rtol * norm(b), atol)``.
    maxiter : int, optional
        Most iterations, ``10 n`` by default.
    M : {LinearOperator, Preconditioner, sparse array, ndarray}, optional
        Approximates the inverse of A: linear, Hermitian positive definite.
    callback : callable, optional
        Called as ``callback(xk)`` after each iteration with a read-only view of the iterate.
        Raise StopIteration in it to end the solve.

    Returns
    -------
    x : array
        Shaped like b; (n,) where b is (n, 1), as in scipy.
    info : SolveInfo
        An int: 0 converged, >0 not converged, <0 breakdown; it carries the record.

    Raises
    ------
    TypeError, ValueError
        On operands that are no numbers, do not fit, or an M that lacks a needed trait.

    References
    ----------
    Hestenes and Stiefel (1952); Saad (2003), Iterative Methods for Sparse Linear Systems,
    Algorithm 9.1.

    Examples
    --------
    >>> import numpy as np, krylearn as kl
    >>> A = np.array([[4.0, 1.0], [1.0, 3.0]])
    >>> x, info = kl.cg(A, np.array([1.0, 2.0]), rtol=1e-10)
    >>> info == 0, info.iterations
    (True, 2)
    """
    return solve_with(
        _cg, A, b, x0, method="cg", rtol=rtol, atol=atol, maxiter=maxiter, M=M, callback=callback,
        needs=("linear", "symmetric", "positive_definite"),
    )  # fmt: skip


def _cg(s: Solve) -> None:
    if s.on_cuda:
        from krylearn.solvers.krylov import device

        return device.cg(s)
    if isinstance(s.A, CSROperator) and s.M.identity and s.n <= SMALL:
        return _cg_small(s, s.A)
    if isinstance(s.A, GridAdapter) and s.A.stencil and s.A.stencil.fuses:
        return _cg_fused(s, s.A.stencil)
    # A p and M r take turns in q: neither is wanted any more once the other is made.
    x, q, p = s.x, s.empty(), s.empty()
    while s.unsolved():
        r, rnorm = s.r, s.rnorm
        z, rz = s.precondition_dot(r, rnorm, q)
        p[:] = z
        while s.running(rnorm):
            pq = s.matvec_dot(p, q).real
            if not rz > 0.0:
                s.breakdown(Reason.INDEFINITE_M, rz)
                break
            if not pq > 0.0:
                s.breakdown(Reason.INDEFINITE, pq)
                break
            rnorm = step(rz / pq, p, q, x, r)
            s.step(rnorm)
            if not s.running(rnorm):
                break
            previous = rz
            z, rz = s.precondition_dot(r, rnorm, q)
            axpby(1.0, z, rz / previous, p)


def _cg_small(s: Solve, A: CSROperator) -> None:
    """The loop of `_cg` without M, many iterations a call."""
    # One at a time where somebody watches; the arithmetic is the same.
    most = 1 if s.callback is not None else 64
    q, p, norms = s.empty(), s.empty(), np.empty(most)
    offsets, values = np.empty(MOST_DIAGONALS, np.int64), np.zeros((MOST_DIAGONALS, s.n), s.dtype)
    found = small_diagonals(*A.arrays, offsets, values)
    diagonals = offsets[:found], values[:found]
    while s.unsolved():
        rnorm, rr = s.rnorm, s.rnorm**2
        p[:] = s.r
        while s.running(rnorm):
            count, rr, pq = cg_steps(
                min(most, s.maxiter - s.iterations), s.tolerance, *A.arrays, *diagonals, s.x, s.r,
                p, q, rr, norms,
            )  # fmt: skip
            s.matvecs += count
            for rnorm in norms[:count].tolist():
                s.count(rnorm)
            s.show()
            if not pq > 0.0:
                s.matvecs += 1
                s.breakdown(Reason.INDEFINITE, pq)


def _cg_fused(s: Solve, A: Stencil) -> None:
    """The loop of `_cg`, in two passes over memory an iteration beside M; x lags by a step."""
    x, p = s.x, s.empty()
    buffer = p if s.M.identity else s.empty()
    while s.unsolved():
        r, rnorm = s.r, s.rnorm
        z, rz = s.precondition_dot(r, rnorm, buffer)
        p[:] = 0
        alpha = beta = 0.0
        while s.running(rnorm):
            pq = A.direction(alpha, beta, z, p, x).real
            alpha = 0.0
            s.matvecs += 1
            if not rz > 0.0:
                s.breakdown(Reason.INDEFINITE_M, rz)
                break
            if not pq > 0.0:
                s.breakdown(Reason.INDEFINITE, pq)
                break
            alpha = rz / pq
            rnorm = A.descend(alpha, p, r)
            if s.callback is not None:
                axpy(alpha, p, x)
                alpha = 0.0
            s.step(rnorm)
            if not s.running(rnorm):
                break
            previous = rz
            z, rz = s.precondition_dot(r, rnorm, buffer)
            beta = rz / previous
        axpy(alpha, p, x)
