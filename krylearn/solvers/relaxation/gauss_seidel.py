"""Gauss-Seidel."""

from __future__ import annotations

from krylearn.solvers.relaxation.splitting import Sweeps
from krylearn.solvers.relaxation.stationary import iterate, sweep_in_place

__all__ = ["GaussSeidel", "gauss_seidel"]


class GaussSeidel(Sweeps):
    """Gauss-Seidel sweeps from zero; one forwards is ``inv(D + L)``.

    Parameters
    ----------
    A : {sparse array, ndarray, GridOperator}, shape (n, n)
        Without zeros on the diagonal.
    order : {'natural', 'multicolour'}
        The order of the rows: as numbered, or colour by colour of a greedy colouring, which is
        red-black on 5- and 7-point stencils.
    direction : {'forward', 'backward', 'symmetric'}
        Sweep in the order, against it, or there and back.
    sweeps : int
        Sweeps in one application.

    Attributes
    ----------
    symmetric, positive_definite : bool or None
        Symmetric only there and back with Hermitian A.
    setup_seconds : float
        What making it, or its last update, cost.

    Raises
    ------
    TypeError
        If A gives products only.
    ValueError
        If A is not square, an option is unknown, or the diagonal
        holds a zero; the message names the first such row.

    References
    ----------
    Saad (2003), Iterative Methods for Sparse Linear Systems, section 4.1, equation 4.7.

    Examples
    --------
    >>> import numpy as np, krylearn as kl
    >>> A = np.array([[4.0, 1.0, 0.0], [1.0, 4.0, 1.0], [0.0, 1.0, 4.0]])
    >>> M = kl.GaussSeidel(A)
    >>> (M @ np.ones(3)).round(4).tolist()
    [0.25, 0.1875, 0.2031]
    >>> x, info = kl.gmres(A, np.ones(3), M=M)
    """

    name = "gauss_seidel"

    def __init__(self, A, order="natural", direction="forward", sweeps=1):
        super().__init__(A, 1.0, order, sweeps, direction)


def gauss_seidel(A, b, x0=None, *, rtol=1e-5, atol=0.0, maxiter=None, M=None, callback=None,
                 order="natural", direction="forward"):  # fmt: skip
    """Solve ``A x = b`` by Gauss-Seidel.

    Parameters
    ----------
    A : {sparse array, ndarray, GridOperator}, shape (n, n)
        Strictly diagonally dominant, or Hermitian positive definite.
    b : array, shape (n,), (n, 1) or (n, k)
        Right-hand side, or k of them.
    x0 : array, optional
        Starting guess, zero by default. Never changed.
    rtol, atol : float
        Converged when the recomputed ``norm(b - A @ x) <= max(rtol * norm(b), atol)``.
    maxiter : int, optional
        Most iterations, ``10 n`` by default.
    M : None
        A splitting takes no other preconditioner.
    callback : callable, optional
        Called as ``callback(xk)`` after each iteration with a read-only view of the iterate.
        Raise StopIteration in it to end the solve.
    order : {'natural', 'multicolour'}
        The order of the rows: as numbered, or colour by colour of a greedy colouring, which is
        red-black on 5- and 7-point stencils.
    direction : {'forward', 'backward', 'symmetric'}
        Sweep in the order, against it, or there and back.

    Returns
    -------
    x : array
        Shaped like b; (n,) where b is (n, 1), as in scipy.
    info : SolveInfo
        An int: 0 converged, >0 not converged, <0 breakdown; it carries the record. Its
        ``reason`` is ``Reason.DIVERGED`` where the residual has grown a million times.

    Raises
    ------
    TypeError
        If A gives products only, or an operand is no array of numbers.
    ValueError
        If A is not square, an option is unknown, or the diagonal
        holds a zero; the message names the first such row.

    Notes
    -----
    Between the first and the last iterations the history holds estimates: the norm of the
    residuals that the rows met in passing, scaled to the true one now and then.

    References
    ----------
    Saad (2003), Iterative Methods for Sparse Linear Systems, section 4.1;
    Theorem 4.10 on convergence.

    Examples
    --------
    >>> import numpy as np, krylearn as kl
    >>> A = np.array([[4.0, 1.0, 0.0], [1.0, 4.0, 1.0], [0.0, 1.0, 4.0]])
    >>> x, info = kl.gauss_seidel(A, np.ones(3), rtol=1e-8)
    >>> bool(info == 0), x.round(6).tolist()
    (True, [0.214286, 0.142857, 0.214286])
    """
    return iterate(
        lambda A: GaussSeidel(A, order, direction), "gauss_seidel", A, b, x0, M, rtol=rtol,
        atol=atol, maxiter=maxiter, callback=callback, loop=sweep_in_place,
    )  # fmt: skip
