"""Incomplete LU without fill."""

from __future__ import annotations

import numpy as np

from krylearn.kernels import incomplete, triangular
from krylearn.solvers.relaxation.splitting import SplittingPreconditioner, make_schedule
from krylearn.solvers.relaxation.stationary import iterate

__all__ = ["ILU0", "ilu0"]


class ILU0(SplittingPreconditioner):
    """The inverse of ``L U``, which agrees with A on A's pattern, without fill.

    Parameters
    ----------
    A : {sparse array, ndarray, GridOperator}, shape (n, n)
        Without zeros on the diagonal.
    order : {'natural', 'multicolour'}
        The order of the rows: as numbered, or colour by colour of a greedy colouring, which is
        red-black on 5- and 7-point stencils.

    Attributes
    ----------
    symmetric, positive_definite : bool or None
        False and None: not known, even where A is Hermitian; `IC0` is meant for that.
    setup_seconds : float
        What making it, or its last update, cost.

    Raises
    ------
    TypeError
        If A gives products only.
    ValueError
        If A is not square, or its diagonal holds a zero, or an option is unknown.
    ArithmeticError
        If a pivot vanishes; the message names its row.

    References
    ----------
    Meijerink and van der Vorst (1977), Mathematics of Computation 31, 148-162.
    Saad (2003), Iterative Methods for Sparse Linear Systems, Algorithm 10.4.

    Examples
    --------
    >>> import numpy as np, krylearn as kl
    >>> A = np.array([[4.0, 1.0, 0.0], [1.0, 4.0, 1.0], [0.0, 1.0, 4.0]])
    >>> M = kl.ILU0(A)
    >>> (M @ np.ones(3)).round(4).tolist()
    [0.2143, 0.1429, 0.2143]
    >>> x, info = kl.gmres(A, np.ones(3), M=M)
    """

    name = "ilu0"

    def __init__(self, A, order="natural"):
        self.order = order
        super().__init__(A)

    def _symbolic(self, A):
        self._plan = make_schedule(self._pattern, self.order)
        self._parts = None

    def _numeric(self, A):
        d = self._diagonal(A)
        parts = triangular.split(*self._pattern, A.data, self._plan, self._parts)
        pivots = incomplete.incomplete_lu(self._plan, *parts, d)
        # A pivot this small against its row is zero but for rounding.
        tiny = 10 * np.finfo(d.dtype).eps * np.abs(d)
        bad = np.flatnonzero(~(np.abs(pivots) > tiny))
        if len(bad):
            raise ArithmeticError(
                f"ilu0: the pivot of row {bad[0]} vanishes; add to the diagonal, renumber the "
                "rows, or use another preconditioner"
            )
        for part in parts:
            triangular.number_by_rows(part, self._plan)
        self._parts = parts
        self._scale = (1 / pivots).astype(self.dtype)

    def apply(self, r, out):
        """Write ``inv(L U) @ r`` into `out`."""
        return triangular.solve(self._plan, *self._parts, self._scale, r, out)

    def in_kernels(self):
        return triangular.Sweeps(self._plan, *self._parts, self._scale, True)


def ilu0(A, b, x0=None, *, rtol=1e-5, atol=0.0, maxiter=None, M=None, callback=None,
         order="natural"):  # fmt: skip
    """Solve ``A x = b`` by refinement with an incomplete LU factorisation.

    Parameters
    ----------
    A : {sparse array, ndarray, GridOperator}, shape (n, n)
        The iteration converges for M-matrices; in general use ``gmres(A, b, M="ilu0")``.
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
        If A is not square, or its diagonal holds a zero, or an option is unknown.
    ArithmeticError
        If a pivot vanishes; the message names its row.

    References
    ----------
    Meijerink and van der Vorst (1977), Mathematics of Computation 31, 148-162, Theorem 2.3.
    Saad (2003), Iterative Methods for Sparse Linear Systems, Algorithm 10.4.

    Examples
    --------
    >>> import numpy as np, krylearn as kl
    >>> A = np.array([[4.0, 1.0, 0.0], [1.0, 4.0, 1.0], [0.0, 1.0, 4.0]])
    >>> x, info = kl.ilu0(A, np.ones(3), rtol=1e-8)
    >>> bool(info == 0), x.round(6).tolist()
    (True, [0.214286, 0.142857, 0.214286])
    """
    return iterate(
        lambda A: ILU0(A, order), "ilu0", A, b, x0, M, rtol=rtol, atol=atol,
        maxiter=maxiter, callback=callback,
    )  # fmt: skip
