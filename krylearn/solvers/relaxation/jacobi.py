"""Damped Jacobi."""

from __future__ import annotations

import numpy as np

from krylearn.kernels.relaxation import times
from krylearn.solvers.relaxation.splitting import SplittingPreconditioner
from krylearn.solvers.relaxation.stationary import iterate

__all__ = ["Jacobi", "jacobi"]


class Jacobi(SplittingPreconditioner):
    """The inverse of the diagonal, ``omega * inv(D)``.

    Parameters
    ----------
    A : {sparse array, ndarray, GridOperator}, shape (n, n)
        Without zeros on the diagonal.
    omega : float
        Damping: 1 is plain Jacobi; 2/3 smooths best on model problems.

    Attributes
    ----------
    symmetric, positive_definite : bool
        Whether the diagonal is real, and real and positive.
    setup_seconds : float
        What making it, or its last update, cost.

    Raises
    ------
    TypeError
        If A gives products only.
    ValueError
        If A is not square, or its diagonal holds a zero; the message names the first such row.

    References
    ----------
    Saad (2003), Iterative Methods for Sparse Linear Systems, section 4.1.

    Examples
    --------
    >>> import numpy as np, krylearn as kl
    >>> A = np.array([[4.0, 1.0, 0.0], [1.0, 4.0, 1.0], [0.0, 1.0, 4.0]])
    >>> M = kl.Jacobi(A)
    >>> (M @ np.ones(3)).round(4).tolist()
    [0.25, 0.25, 0.25]
    >>> x, info = kl.cg(A, np.ones(3), M=M)
    """

    name = "jacobi"

    def __init__(self, A, omega=1.0):
        self.omega = float(omega)
        super().__init__(A)

    def _numeric(self, A):
        d = self._diagonal(A)
        if np.all(np.abs(d.imag) <= 100 * np.finfo(self.dtype).eps * np.abs(d)):
            d = d.real  # of a Hermitian matrix, but for rounding
        self._scale = (self.omega / d).astype(self.dtype)
        self.symmetric = not np.any(self._scale.imag)
        self.positive_definite = bool(self.symmetric and np.all(self._scale.real > 0))

    def apply(self, r, out):
        """Write ``omega * inv(D) @ r`` into `out`."""
        return times(self._scale, r, out)

    def in_kernels(self):
        return self._scale

    def to(self, device: str):
        """Return the preconditioner on another device: 'cuda', or 'cpu', where it lies."""
        from krylearn.cuda.preconditioners import moved

        return moved(self, device)


def jacobi(A, b, x0=None, *, rtol=1e-5, atol=0.0, maxiter=None, M=None, callback=None,
           omega=1.0):  # fmt: skip
    """Solve ``A x = b`` by damped Jacobi, ``x += omega * inv(D) (b - A x)``.

    Parameters
    ----------
    A : {sparse array, ndarray, GridOperator}, shape (n, n)
        Strictly diagonally dominant, or SPD with a small enough `omega`.
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
    omega : float
        Damping: 1 is plain Jacobi; 2/3 smooths best on model problems.

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
        If A is not square, or its diagonal holds a zero; the message names the first such row.

    References
    ----------
    Saad (2003), Iterative Methods for Sparse Linear Systems, section 4.1.

    Examples
    --------
    >>> import numpy as np, krylearn as kl
    >>> A = np.array([[4.0, 1.0, 0.0], [1.0, 4.0, 1.0], [0.0, 1.0, 4.0]])
    >>> x, info = kl.jacobi(A, np.ones(3), rtol=1e-8)
    >>> bool(info == 0), x.round(6).tolist()
    (True, [0.214286, 0.142857, 0.214286])
    """
    return iterate(
        lambda A: Jacobi(A, omega), "jacobi", A, b, x0, M, rtol=rtol, atol=atol,
        maxiter=maxiter, callback=callback,
    )  # fmt: skip
