"""Sparse LU that keeps its ordering from matrix to matrix."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse as sp
import scipy.sparse.linalg as sla

from krylearn.interface import Reason, Solve, solve_with
from krylearn.kernels import relaxation
from krylearn.operators import as_operator
from krylearn.solvers.direct.refinement import negligible, refine
from krylearn.solvers.relaxation.splitting import (
    SplittingPreconditioner,
    all_finite,
    square_csr,
    working_dtype,
)

__all__ = ["SparseDirect", "direct"]

_ORDERINGS = {"amd": "MMD_AT_PLUS_A", "colamd": "COLAMD", "natural": "NATURAL"}
# Of the diagonal of a singular matrix, relative to its largest entry, in rounding errors.
SHIFT = 1e4


# Share of entries from which LAPACK is quicker than SuperLU, and unknowns up to which it is used.
FULL, MOST = 0.2, 8000


class _Dense:
    """Factors of a matrix that is nearly full, by LAPACK."""

    def __init__(self, A: Any) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a zero pivot, which is looked for here
            self.factors = scipy.linalg.lu_factor(A.toarray(), overwrite_a=True, check_finite=False)
        zero = np.flatnonzero(self.factors[0].diagonal() == 0)
        if len(zero):
            raise RuntimeError(f"pivot {zero[0]} is zero")
        self.nnz = A.shape[0] ** 2

    def solve(self, b: np.ndarray) -> np.ndarray:
        return scipy.linalg.lu_solve(self.factors, b, check_finite=False)


class Singular(np.linalg.LinAlgError):
    """The matrix has no inverse, or none in this precision."""


class SparseDirect(SplittingPreconditioner):
    """The inverse of A by a sparse LU factorisation.

    Parameters
    ----------
    A : {sparse array, ndarray, GridOperator}, shape (n, n)
    ordering : {'auto', 'amd', 'colamd', 'natural'}
        Which unknown is eliminated when: by minimum degree of the pattern of ``A + A^T``, of
        ``A^T A``, or as numbered. 'auto' takes 'amd' where the pattern is symmetric.

    Attributes
    ----------
    symmetric : bool
        A is Hermitian.
    positive_definite : bool or None
        None: a factorisation does not tell, but for a negative diagonal.
    condition : float
        What the inverse was seen to do to a random vector, times the norm of A: a lower bound
        of the condition number, and mostly near it.
    nnz : int
        Entries of the factors.
    setup_seconds : float
        What making it, or its last update, cost. An update finds no new ordering.

    Raises
    ------
    TypeError
        If A gives products only.
    ValueError
        If A is not square, is singular, or holds NaN or Inf, or the ordering is unknown.

    Notes
    -----
    Hermitian matrices with a positive diagonal are factorised without pivoting, which keeps fill
    low and is stable where they are definite; if it turns out not to be, pivots are sought.
    Matrices of at most 8000 rows of which a fifth is not zero are factorised by LAPACK.

    References
    ----------
    Demmel, Eisenstat, Gilbert, Li and Liu (1999), A supernodal approach to sparse partial
    pivoting, SIAM Journal on Matrix Analysis and Applications 20, 720-755 (SuperLU).

    Examples
    --------
    >>> import numpy as np, krylearn as kl
    >>> A = np.array([[4.0, 1.0, 0.0], [2.0, 4.0, 1.0], [0.0, 1.0, 4.0]])
    >>> M = kl.SparseDirect(A)
    >>> (M @ (A @ np.array([1.0, 2.0, 3.0]))).round(12).tolist()
    [1.0, 2.0, 3.0]
    """

    name = "direct"

    def __init__(self, A, ordering="auto"):
        if ordering != "auto" and ordering not in _ORDERINGS:
            names = ", ".join(_ORDERINGS)
            raise ValueError(f"ordering must be auto, {names}, not {ordering!r}")
        self.ordering = ordering
        super().__init__(A)

    def _symbolic(self, A):
        n = self.shape[0]
        # The numbers of the entries stand for them: where each goes, and which lie on the diagonal.
        numbers = sp.csr_array((np.arange(1.0, A.nnz + 1), A.indices, A.indptr), shape=A.shape)
        columns = numbers.tocsc()
        rows = numbers.T.tocsc()  # A's own rows
        same = np.array_equal(columns.indptr, rows.indptr) and np.array_equal(
            columns.indices, rows.indices
        )
        kind = self.ordering if self.ordering != "auto" else "amd" if same else "colamd"
        self._mates = same
        kind = "natural" if A.nnz >= FULL * n**2 else kind
        self._order = np.arange(n)
        if kind != "natural":
            self._order = _order(columns, _ORDERINGS[kind])
        placed = sp.csc_array(columns[self._order][:, self._order])
        placed.sort_indices()
        self._place = (placed.data - 1).astype(np.int64)
        self._columns = placed.indices.astype(np.intc), placed.indptr.astype(np.intc)

    def _numeric(self, A):
        hermitian = relaxation.is_hermitian(*self._pattern, A.data)
        d = relaxation.diagonal(*self._pattern, A.data).real
        self._values = A.data[self._place]
        self._full = A.nnz >= FULL * A.shape[0] ** 2 and A.shape[0] <= MOST
        pivoting = self._full or not (hermitian and self._mates and np.all(d > 0))
        self._norm = _one_norm(A)
        self._factorise(pivoting)
        self.symmetric = hermitian
        self.positive_definite = None if hermitian and np.all(d > 0) else False

    def _factorise(self, pivoting: bool) -> None:
        """Factorise, seeking pivots off the diagonal or not; if that fails, with."""
        matrix = sp.csc_array((self._values, *self._columns), shape=self.shape)
        options: dict[str, Any] = {} if pivoting else dict(
            diag_pivot_thresh=0.0, options=dict(SymmetricMode=True)
        )  # fmt: skip
        self._pivoting = pivoting
        try:
            self._factors = (
                _Dense(matrix) if self._full
                else sla.splu(matrix, permc_spec="NATURAL", **options)
            )  # fmt: skip
        except RuntimeError as error:
            if not pivoting:
                return self._factorise(True)
            raise Singular(
                f"direct: A is singular: {error}; use lsmr for least squares"
            ) from None
        self.nnz = int(self._factors.nnz)
        probe = np.random.default_rng(0).choice([-1.0, 1.0], self.shape[0]).astype(self.dtype)
        with np.errstate(all="ignore"):
            z = self._factors.solve(probe)
            size = float(np.abs(z).sum())
            r = np.abs(matrix @ z - probe).max(initial=0.0)
            backward = r / (self._norm * np.abs(z).max(initial=0.0) + 1)
        self.condition = self._norm * size / max(1, self.shape[0])
        eps = np.finfo(self.dtype).eps
        if not backward <= np.sqrt(eps) and not pivoting:
            return self._factorise(True)
        if not self.condition <= 0.1 / eps:
            raise Singular(
                f"direct: A is singular in this precision (condition {self.condition:.1e}); use "
                "lsmr for least squares"
            )

    def apply(self, r, out):
        """Write the solution for the right-hand side `r` into `out`."""
        out[self._order] = self._factors.solve(np.ascontiguousarray(r[self._order]))
        return out

    def _matmat(self, X):
        if np.iscomplexobj(X) and self.dtype.kind != "c":
            return self._matmat(X.real) + 1j * self._matmat(X.imag)
        X = np.asarray(X, dtype=self.dtype)
        out = np.empty(X.shape, self.dtype)
        out[self._order] = self._factors.solve(np.asfortranarray(X[self._order]))
        return out

    def __getstate__(self):
        # SuperLU's factors cannot be written; they are made anew.
        return {name: value for name, value in self.__dict__.items() if name != "_factors"}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._factorise(self._pivoting)


def _order(A: Any, kind: str) -> np.ndarray:
    """Return the order of elimination that SuperLU finds for a pattern.

    An incomplete factorisation that drops everything stops soon after it.
    """
    n = A.shape[0]
    dominant = sp.csc_array(
        sp.csc_array((np.full(A.nnz, -1e-3 / max(1, n)), A.indices, A.indptr), shape=A.shape)
        + sp.eye_array(n, format="csc")
    )
    factors = sla.spilu(dominant, drop_tol=1.0, fill_factor=1.0, permc_spec=kind,
                        options=dict(SymmetricMode=kind == "MMD_AT_PLUS_A"))  # fmt: skip
    return np.argsort(factors.perm_c)


def _one_norm(A: Any) -> float:
    sums = np.bincount(A.indices, weights=np.abs(A.data), minlength=A.shape[1])
    return float(sums.max(initial=0.0))


def direct(A, b, x0=None, *, rtol=1e-5, atol=0.0, maxiter=None, M=None, callback=None,
           ordering="auto"):  # fmt: skip
    """Solve ``A x = b`` by sparse LU and iterative refinement.

    Parameters
    ----------
    A : {sparse array, ndarray, GridOperator}, shape (n, n)
        Of any kind. Where it is singular and b lies in its range, a solution is found; elsewhere
        the reason says that it is singular.
    b : array, shape (n,), (n, 1) or (n, k)
        Right-hand side, or k of them, for which the factors are passed over together.
    x0 : array, optional
        Starting guess, zero by default. Never changed.
    rtol, atol : float
        Converged when the recomputed ``norm(b - A @ x) <= max(rtol * norm(b), atol)``.
    maxiter : int, optional
        Most corrections, ``10 n`` by default. One or two reach rounding level.
    M : {None, SparseDirect}
        Factors of A, or of a matrix near it, that were made before.
    callback : callable, optional
        Called as ``callback(xk)`` after each correction with a read-only view of the iterate.
        Raise StopIteration in it to end the solve.
    ordering : {'auto', 'amd', 'colamd', 'natural'}
        As for `SparseDirect`.

    Returns
    -------
    x : array
        Shaped like b; (n,) where b is (n, 1), as in scipy.
    info : SolveInfo
        An int: 0 converged, >0 not converged, <0 breakdown; it carries the record. Its
        ``reason`` is ``Reason.SINGULAR`` where A is singular and b is not in its range.

    Raises
    ------
    TypeError
        If A gives products only, or an operand is no array of numbers.
    ValueError
        If A is not square, or the ordering is unknown.

    References
    ----------
    Demmel et al. (1999), SIAM Journal on Matrix Analysis and Applications 20, 720-755.
    Higham (2002), Accuracy and Stability of Numerical Algorithms, section 12.1, on refinement.

    Examples
    --------
    >>> import numpy as np, krylearn as kl
    >>> A = np.array([[4.0, 1.0, 0.0], [2.0, 4.0, 1.0], [0.0, 1.0, 4.0]])
    >>> x, info = kl.direct(A, np.array([1.0, 4.0, 9.0]), rtol=1e-12)
    >>> info == 0, x.round(6).tolist()
    (True, [0.153846, 0.384615, 2.153846])
    """
    settings = dict(rtol=rtol, atol=atol, maxiter=maxiter, callback=callback)
    if M is not None:
        if not isinstance(M, SparseDirect):
            raise ValueError("direct takes factors made by SparseDirect for M, and no other")
        return solve_with(refine, A, b, x0, method="direct", M=M, **settings)
    entries = square_csr(A, "direct", working_dtype(A, b, x0))
    if not all_finite(entries):
        # The first product with A brings it to light, and the record says so.
        return solve_with(refine, A, b, x0, method="direct", **settings)
    try:
        P, singular = SparseDirect(entries, ordering), False
    except Singular:
        P, singular = _near(entries, ordering), True
    if P is None:
        return solve_with(_give_up, A, b, x0, method="direct", **settings)

    def loop(s: Solve) -> None:
        refine(s, singular)
        if not singular and s.reason is Reason.STAGNATED and not negligible(s):
            # Singular but for rounding.
            other = _near(entries, ordering)
            if other is not None:
                s.M, s.reason, s.rnorm = as_operator(other, s.dtype), None, np.inf
                refine(s, True)

    return solve_with(loop, A, b, x0, method="direct", M=P, **settings)


def _near(A: Any, ordering: str) -> SparseDirect | None:
    """Return factors of a matrix near A, which is singular, or None where there are none.

    Corrections by ``inv(A + e I)`` shrink what lies in the range of a semi-definite A by
    ``e / (lambda + e)``.
    """
    shift = SHIFT * float(np.finfo(A.dtype).eps) * (float(np.abs(A.data).max(initial=0.0)) or 1.0)
    shifted = A + sp.csr_array(shift * sp.eye_array(A.shape[0], dtype=A.dtype))
    try:
        return SparseDirect(sp.csr_array(shifted), ordering)
    except Singular:
        return None


def _give_up(s: Solve) -> None:
    if s.unsolved():
        s.breakdown(Reason.SINGULAR)
