"""Restarted generalised minimal residuals."""

from __future__ import annotations

from krylearn.solvers.krylov.arnoldi import solve_by_arnoldi


def gmres(A, b, x0=None, *, rtol=1e-5, atol=0.0, restart=None, maxiter=None, M=None,
          callback=None, callback_type=None):  # fmt: skip
    """Solve ``A x = b`` for any square A by restarted GMRES, preconditioned from the right.

    The residual that is minimised and reported is therefore that of ``A x = b`` itself,
    whatever M is (scipy preconditions from the left).

    Parameters
    ----------
    A, b, x0, rtol, atol
        As for `cg`; A is any square matrix.
    restart : int, optional
        Steps between restarts, 20 by default. Memory grows by one vector a step.
    maxiter : int, optional
        Most cycles of `restart` steps, ``10 n`` by default; most steps where a callback of type
        'legacy' is given, as in scipy.
    M : {LinearOperator, Preconditioner, sparse array, ndarray}, optional
        Approximates the inverse of A: linear.
    callback : callable, optional
        Called as `callback_type` says. Raise StopIteration in it to end the solve.
    callback_type : {'pr_norm', 'x', 'legacy'}, optional
        'pr_norm' and 'legacy': after each step, with the relative residual norm as a float;
        'x': after each cycle, with a read-only view of the iterate.

    Returns
    -------
    x : array
    info : SolveInfo
        ``info.iterations`` counts steps, not cycles.

    Raises
    ------
    TypeError, ValueError
        On operands that are no numbers, do not fit, or an M that is not linear.

    References
    ----------
    Saad and Schultz (1986); Saad (2003), Iterative Methods for Sparse Linear Systems,
    Algorithm 9.5. Orthogonalisation by classical Gram-Schmidt, twice where needed.

    Examples
    --------
    >>> import numpy as np, krylearn as kl
    >>> A = np.array([[2.0, 1.0], [0.0, 1.0]])
    >>> x, info = kl.gmres(A, np.array([3.0, 1.0]), rtol=1e-10)
    >>> np.allclose(x, 1.0), info.iterations
    (True, 2)
    """
    return solve_by_arnoldi(
        A, b, x0, method="gmres", flexible=False, restart=restart, maxiter=maxiter, M=M,
        rtol=rtol, atol=atol, callback=callback, callback_type=callback_type, needs=("linear",),
    )  # fmt: skip
