"""Incomplete Cholesky without fill."""

from __future__ import annotations

import numpy as np

from krylearn.kernels import incomplete, relaxation, triangular
from krylearn.solvers.relaxation.splitting import SplittingPreconditioner, make_schedule
from krylearn.solvers.relaxation.stationary import iterate

__all__ = ["IC0", "ic0"]

# The first shift that is tried where a pivot is not positive; then it doubles.
SHIFT = 1e-3


class IC0(SplittingPreconditioner):
    """The inverse of ``L D L^H``, which agrees with A on A's pattern, without fill.

    Parameters
    ----------
    A : {sparse array, ndarray, GridOperator}, shape (n, n)
        Hermitian, with a positive diagonal.
    order : {'natural', 'multicolour'}
        The order of the rows: as numbered, or colour by colour of a greedy colouring, which is
        red-black on 5- and 7-point stencils.

    Attributes
    ----------
    shift : float
        What the diagonal was multiplied by, less one, until all pivots were positive: 0 where
        the factors exist, which is certain for M-matrices.
    symmetric, positive_definite : bool
        True.
    setup_seconds : float
        What making it, or its last update, cost.

    Raises
    ------
    TypeError
        If A gives products only.
    ValueError
        If A is not square or not Hermitian, its diagonal is not positive, or an option is
        unknown.

    References
    ----------
    Meijerink and van der Vorst (1977), Mathematics of Computation 31, 148-162.
    Manteuffel (1980), Mathematics of Computation 34, 473-497, on the shift.
    Saad (2003), Iterative Methods for Sparse Linear Systems, section 10.3.2.

    Examples
    --------
    >>> import numpy as np, krylearn as kl
    >>> A = np.array([[4.0, 1.0, 0.0], [1.0, 4.0, 1.0], [0.0, 1.0, 4.0]])
    >>> M = kl.IC0(A)
    >>> (M @ np.ones(3)).round(4).tolist()
    [0.2143, 0.1429, 0.2143]
    >>> x, info = kl.cg(A, np.ones(3), M=M)
    """

    name = "ic0"
    symmetric = True
    positive_definite = True

    def __init__(self, A, order="natural"):
        self.order = order
        super().__init__(A)

    def _prepare(self, A):
        # A stored zero whose mirror image is not stored would break the symmetry of the factors.
        if np.any(A.data == 0):
            mirrored = A.T.tocsr()
            mirrored.sort_indices()
            if not np.array_equal(A.indices, mirrored.indices) or not np.array_equal(
                A.indptr, mirrored.indptr
            ):
                A = A.copy()
                A.eliminate_zeros()
        return A

    def _symbolic(self, A):
        self._plan = make_schedule(self._pattern, self.order)
        self._parts = None

    def _numeric(self, A):
        if not relaxation.is_hermitian(*self._pattern, A.data):
            raise ValueError("ic0 needs a Hermitian matrix; use ilu0")
        d = relaxation.diagonal(*self._pattern, A.data).real.copy()
        negative = np.flatnonzero(~(d > 0))
        if len(negative):
            raise ValueError(f"ic0 needs a positive diagonal; row {negative[0]} has none")
        self.shift = 0.0
        unit = _unit(d)
        data = A.data if unit == 1 else A.data * unit
        while True:
            parts = triangular.split(*self._pattern, data, self._plan, self._parts)
            shifted = d * unit * d.dtype.type(1 + self.shift)
            pivots = incomplete.incomplete_cholesky(self._plan, *parts, shifted)
            if pivots is not None:
                break
            self.shift = max(2 * self.shift, SHIFT)
            if not self.shift < 1e10:
                raise ArithmeticError("ic0: no shift of the diagonal makes the pivots positive")
        for part in parts:
            triangular.number_by_rows(part, self._plan)
        self._parts = parts
        self._scale = (unit / pivots).astype(self.dtype)

    def apply(self, r, out):
        """Write ``inv(L D L^H) @ r`` into `out`."""
        return triangular.solve(self._plan, *self._parts, self._scale, r, out)

    def in_kernels(self):
        return triangular.Sweeps(self._plan, *self._parts, self._scale, True)


def _unit(d):
    """Return a power of two by which to multiply, lest squares of entries over- or underflow."""
    _, exponent = np.frexp(d.max(initial=0))
    safe = np.finfo(d.dtype).maxexp // 4
    return d.dtype.type(1 if abs(exponent) <= safe else np.ldexp(1.0, -int(exponent)))


def ic0(A, b, x0=None, *, rtol=1e-5, atol=0.0, maxiter=None, M=None, callback=None,
        order="natural"):  # fmt: skip
    """Solve ``A x = b`` by refinement with an incomplete Cholesky factorisation.

    Parameters
    ----------
    A : {sparse array, ndarray, GridOperator}, shape (n, n)
        Hermitian positive definite. The iteration converges for M-matrices; in general use
        ``cg(A, b, M="ic0")``.
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
        If A is not square or not Hermitian, its diagonal is not positive, or an option is
        unknown.

    References
    ----------
    Meijerink and van der Vorst (1977), Mathematics of Computation 31, 148-162, Theorem 2.3.
    Saad (2003), Iterative Methods for Sparse Linear Systems, section 10.3.2.

    Examples
    --------
    >>> import numpy as np, krylearn as kl
    >>> A = np.array([[4.0, 1.0, 0.0], [1.0, 4.0, 1.0], [0.0, 1.0, 4.0]])
    >>> x, info = kl.ic0(A, np.ones(3), rtol=1e-8)
    >>> bool(info == 0), x.round(6).tolist()
    (True, [0.214286, 0.142857, 0.214286])
    """
    return iterate(
        lambda A: IC0(A, order), "ic0", A, b, x0, M, rtol=rtol, atol=atol,
        maxiter=maxiter, callback=callback,
    )  # fmt: skip
