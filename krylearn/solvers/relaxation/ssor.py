"""Symmetric successive over-relaxation."""

from __future__ import annotations

from krylearn.solvers.relaxation.splitting import Sweeps
from krylearn.solvers.relaxation.stationary import iterate, sweep_in_place

__all__ = ["SSOR", "ssor"]


class SSOR(Sweeps):
    """Over-relaxed sweeps from zero, there and back.

    Parameters
    ----------
    A : {sparse array, ndarray, GridOperator}, shape (n, n)
        Without zeros on the diagonal.
    omega : float, 'young' or policy
        Relaxation, between 0 and 2. 'young' estimates the spectral radius of Jacobi and takes
        Young's formula; in the order 'multicolour' it is 1, the best there and back through
        colours. A policy has ``choose(context)``, which returns omega; it is asked at every
        update and told, by ``observe(loss)``, what the first solve after that has cost.
    order : {'natural', 'multicolour'}
        The order of the rows: as numbered, or colour by colour of a greedy colouring, which is
        red-black on 5- and 7-point stencils.
    sweeps : int
        Sweeps in one application.
    context : object, optional
        What a policy's ``choose`` is told about this system.

    Attributes
    ----------
    omega : float
        What was given, estimated or chosen.
    symmetric, positive_definite : bool or None
        Symmetric with Hermitian A, and then positive definite with a positive diagonal (None,
        not known, after more than one sweep).
    setup_seconds : float
        What making it, or its last update, cost.

    Raises
    ------
    TypeError
        If A gives products only.
    ValueError
        If A is not square, `omega` does not lie between 0 and 2, an option is unknown, or the
        diagonal holds a zero; the message names the first such row.

    References
    ----------
    Axelsson (1972), A generalized SSOR method, BIT 12, on omega with conjugate gradients.
    Saad (2003), Iterative Methods for Sparse Linear Systems, section 10.2.

    Examples
    --------
    >>> import numpy as np, krylearn as kl
    >>> A = np.array([[4.0, 1.0, 0.0], [1.0, 4.0, 1.0], [0.0, 1.0, 4.0]])
    >>> M = kl.SSOR(A, omega=1.0)
    >>> (M @ np.ones(3)).round(4).tolist()
    [0.2158, 0.1367, 0.2031]
    >>> x, info = kl.cg(A, np.ones(3), M=M)
    """

    name = "ssor"

    def __init__(self, A, omega="young", order="natural", sweeps=1, context=None):
        super().__init__(A, omega, order, sweeps, "symmetric", context)


def ssor(A, b, x0=None, *, rtol=1e-5, atol=0.0, maxiter=None, M=None, callback=None,
         omega="young", order="natural", context=None):  # fmt: skip
    """Solve ``A x = b`` by symmetric successive over-relaxation.

    Parameters
    ----------
    A : {sparse array, ndarray, GridOperator}, shape (n, n)
        Hermitian positive definite; or diagonally dominant with ``omega <= 1``.
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
    omega : float, 'young' or policy
        Relaxation, between 0 and 2. 'young' estimates the spectral radius of Jacobi and takes
        Young's formula; in the order 'multicolour' it is 1, the best there and back through
        colours. A policy has ``choose(context)``, which returns omega, and
        ``observe(loss)``, which is told the iterations; the seconds where the policy's `loss` is
        'seconds'; infinity where the solve has failed.
    order : {'natural', 'multicolour'}
        The order of the rows: as numbered, or colour by colour of a greedy colouring, which is
        red-black on 5- and 7-point stencils.
    context : object, optional
        What a policy's ``choose`` is told about this system.

    Returns
    -------
    x : array
        Shaped like b; (n,) where b is (n, 1), as in scipy.
    info : SolveInfo
        An int: 0 converged, >0 not converged, <0 breakdown; it carries the record. Its
        ``reason`` is ``Reason.DIVERGED`` where the residual has grown a million times.

    Notes
    -----
    Between the first and the last iterations the history holds estimates: the norm of the
    residuals that the rows met in passing, scaled to the true one now and then.

    Raises
    ------
    TypeError
        If A gives products only, or an operand is no array of numbers.
    ValueError
        If A is not square, `omega` does not lie between 0 and 2, an option is unknown, or the
        diagonal holds a zero; the message names the first such row.

    References
    ----------
    Axelsson (1972), A generalized SSOR method, BIT 12.
    Saad (2003), Iterative Methods for Sparse Linear Systems, section 4.1.

    Examples
    --------
    >>> import numpy as np, krylearn as kl
    >>> A = np.array([[4.0, 1.0, 0.0], [1.0, 4.0, 1.0], [0.0, 1.0, 4.0]])
    >>> x, info = kl.ssor(A, np.ones(3), rtol=1e-8)
    >>> bool(info == 0), x.round(6).tolist()
    (True, [0.214286, 0.142857, 0.214286])
    """
    return iterate(
        lambda A: SSOR(A, omega, order, context=context), "ssor", A, b, x0, M, rtol=rtol, atol=atol,
        maxiter=maxiter, callback=callback, loop=sweep_in_place,
    )  # fmt: skip
