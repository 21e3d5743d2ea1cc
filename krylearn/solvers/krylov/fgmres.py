"""Flexible GMRES."""

from __future__ import annotations

from krylearn.solvers.krylov.arnoldi import solve_by_arnoldi


def fgmres(A, b, x0=None, *, rtol=1e-5, atol=0.0, restart=None, maxiter=None, M=None,
           callback=None, callback_type=None):  # fmt: skip
    """Solve ``A x = b`` by GMRES whose preconditioner may change from step to step.

    Parameters
    ----------
    A, b, x0, rtol, atol, restart, maxiter, callback, callback_type
        As for `gmres`. Memory grows by two vectors a step where M is given.
    M : {LinearOperator, Preconditioner, sparse array, ndarray}, optional
        Approximates the inverse of A: any map, such as a network or an inner solver.

    Returns
    -------
    x : array
    info : SolveInfo

    Raises
    ------
    TypeError, ValueError
        On operands that are no numbers or do not fit.

    References
    ----------
    Saad (1993), A flexible inner-outer preconditioned GMRES algorithm; Saad (2003), Iterative
    Methods for Sparse Linear Systems, Algorithm 9.6.

    Examples
    --------
    >>> import numpy as np, krylearn as kl
    >>> A = np.array([[2.0, 1.0], [0.0, 1.0]])
    >>> M = kl.Jacobi(A)
    >>> x, info = kl.fgmres(A, np.array([3.0, 1.0]), rtol=1e-10, M=M)
    >>> np.allclose(x, 1.0), info.iterations
    (True, 2)
    """
    return solve_by_arnoldi(
        A, b, x0, method="fgmres", flexible=True, restart=restart, maxiter=maxiter, M=M,
        rtol=rtol, atol=atol, callback=callback, callback_type=callback_type,
    )  # fmt: skip
