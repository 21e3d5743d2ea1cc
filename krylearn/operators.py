"""The operators that a method sees: one small protocol over every kind of matrix.

A method calls ``A.apply(x, out)`` and ``A.apply_dot(x, out)`` on contiguous vectors of the
solve's dtype and knows nothing else about A. A preconditioner is a `Preconditioner`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from krylearn.cuda.arrays import lies_on_cuda
from krylearn.kernels import csr, diagonals
from krylearn.kernels.vector import CHUNK, dot
from krylearn.petsc.library import in_petsc


class Operator:
    """A linear map on vectors of one dtype, with the result written into a given array."""

    identity = False

    def __init__(self, shape: tuple[int, int], dtype: Any) -> None:
        self.shape = (int(shape[0]), int(shape[1]))
        self.dtype = np.dtype(dtype)

    def apply(self, x: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Write ``A @ x`` into `out` and return it."""
        raise NotImplementedError

    def apply_dot(self, x: np.ndarray, out: np.ndarray) -> Any:
        """Write ``A @ x`` into `out` and return ``conj(x) @ out``."""
        return dot(x, self.apply(x, out))

    def apply_block(self, X: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Write ``A @ X`` into `out`, both (n, k) in C order, and return it."""
        for column in range(X.shape[1]):
            y = np.empty(self.shape[0], self.dtype)
            out[:, column] = self.apply(np.ascontiguousarray(X[:, column]), y)
        return out

    def apply_rows(self, X: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Write A times each row of `X` into the rows of `out`, and return it."""
        for x, y in zip(X, out):
            self.apply(x, y)
        return out

    def adjoint(self, x: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Write ``A.conj().T @ x`` into `out` and return it."""
        raise TypeError("this operator does not give its adjoint (rmatvec)")


class CSROperator(Operator):
    """A matrix in compressed sparse row form; its arrays are viewed, never changed.

    A large matrix that turns out to be banded like a structured grid's is copied by diagonals
    once `PATIENCE` products have shown that this pays.
    """

    PATIENCE = 6

    def __init__(self, A: Any, dtype: Any) -> None:
        super().__init__(A.shape, dtype)
        unsigned = unsigned_indices(A)
        self.arrays = (*unsigned, np.ascontiguousarray(A.data, dtype=self.dtype))
        self._matrix = A
        self._adjoint: tuple | None = None
        self._products = 0
        self._diagonals: tuple | None = None

    def apply(self, x, out):
        if self._by_diagonals():
            return diagonals.apply(*self._diagonals, x, out)
        return csr.apply(*self.arrays, x, out)

    def apply_dot(self, x, out):
        if self._by_diagonals():
            return diagonals.apply_dot(*self._diagonals, x, out)
        return csr.apply_dot(*self.arrays, x, out)

    def _by_diagonals(self) -> bool:
        self._products += 1
        if self._products == self.PATIENCE and self.shape[0] >= CHUNK:
            self._diagonals = diagonals.from_csr(*self.arrays, self.shape)
        return self._diagonals is not None

    def apply_block(self, X, out):
        return csr.apply_block(*self.arrays, X, out)

    def apply_rows(self, X, out):
        # A block costs more to transpose than the matrix, which stays in cache, to read again.
        if self.shape[0] >= CHUNK:
            return super().apply_rows(X, out)
        return csr.apply_rows(*self.arrays, X, out)

    def adjoint(self, x, out):
        if self._adjoint is None:
            self._adjoint = CSROperator(self._matrix.conj().T.tocsr(), self.dtype).arrays
        return csr.apply(*self._adjoint, x, out)


class DenseOperator(Operator):
    """A dense matrix, applied by BLAS."""

    def __init__(self, A: np.ndarray, dtype: Any) -> None:
        super().__init__(A.shape, dtype)
        self.matrix = np.asarray(A, dtype=self.dtype)

    def apply(self, x, out):
        return np.dot(self.matrix, x, out=out)

    def apply_block(self, X, out):
        return np.matmul(self.matrix, X, out=out)

    def apply_rows(self, X, out):
        return np.matmul(X, self.matrix.T, out=out)

    def adjoint(self, x, out):
        out[:] = np.conj(np.conj(x) @ self.matrix)
        return out


class WrappedOperator(Operator):
    """Anything with ``shape`` and ``matvec``; the caller's code sees a copy it may keep."""

    def __init__(self, A: Any, dtype: Any) -> None:
        super().__init__(A.shape, dtype)
        self.wrapped = A

    def apply(self, x, out):
        out[:] = self._product(self.wrapped.matvec(x.copy())).reshape(-1)
        return out

    def apply_block(self, X, out):
        if not hasattr(self.wrapped, "matmat"):
            return super().apply_block(X, out)
        out[:] = self._product(self.wrapped.matmat(X.copy()))
        return out

    def apply_rows(self, X, out):
        out[:] = self.apply_block(np.ascontiguousarray(X.T), np.empty_like(X.T, order="C")).T
        return out

    def adjoint(self, x, out):
        out[:] = self._product(self.wrapped.rmatvec(x.copy())).reshape(-1)
        return out

    def _product(self, y: Any) -> np.ndarray:
        """Return a product as an array; its imaginary part may be rounding where A is real."""
        y = np.asarray(y)
        if y.dtype.kind == "c" and self.dtype.kind == "f":
            real, imag = np.linalg.norm(y.real), np.linalg.norm(y.imag)
            # A NaN in the real part is the solver's to find; one in the other is no rounding.
            if np.isfinite(real) and not imag <= np.finfo(self.dtype).eps ** 0.5 * real:
                said = np.dtype(getattr(self.wrapped, "dtype", self.dtype))
                raise TypeError(
                    f"{type(self.wrapped).__name__} says that its dtype is {said}, but its "
                    "products are complex"
                )
            y = y.real
        return y


class Identity(Operator):
    """No preconditioner: `apply` hands back its argument."""

    identity = True

    def apply(self, x, out):
        return x

    def apply_dot(self, x, out):
        return dot(x, x)

    def adjoint(self, x, out):
        return x


class Preconditioner(LinearOperator):
    """Base of every preconditioner: a `LinearOperator` with traits and `update`.

    Subclasses implement ``apply(r, out)``: write the correction for the residual `r` into `out`
    and return it.

    Attributes
    ----------
    linear : bool
        The map is linear and the same at every call.
    symmetric : bool
        The map is Hermitian in exact arithmetic (where the matrix is).
    positive_definite : bool or None
        None where it depends on the matrix and is not known.
    setup_seconds : float
        What making it cost.
    """

    linear: bool = True
    symmetric: bool = False
    positive_definite: bool | None = None
    setup_seconds: float = 0.0

    def __init__(self, shape: tuple[int, int], dtype: Any) -> None:
        super().__init__(np.dtype(dtype), (int(shape[0]), int(shape[1])))

    def apply(self, r: np.ndarray, out: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def apply_dot(self, r: np.ndarray, out: np.ndarray) -> Any:
        """Do as `apply`, and return ``conj(r) @ out``."""
        return dot(r, self.apply(r, out))

    def update(self, A: Any) -> Preconditioner:
        """Take new values on the same pattern, reusing what depends on the pattern alone."""
        raise NotImplementedError

    def observe(self, info: Any) -> None:
        """Learn from a solve that this preconditioner has served; most have nothing to learn."""

    def in_kernels(self) -> Any:
        """Return what compiled loops use in place of `apply`: a diagonal, `Sweeps`, or None."""
        return None

    def _matvec(self, x):
        x = np.ascontiguousarray(x, dtype=self.dtype).reshape(-1)
        return self.apply(x, np.empty(self.shape[0], self.dtype))

    def _matmat(self, X):
        return np.stack([self._matvec(X[:, j]) for j in range(X.shape[1])], axis=1)

    def _rmatvec(self, x):
        if not self.symmetric:
            raise NotImplementedError(f"{type(self).__name__} does not give its adjoint")
        return self._matvec(x)


class PreconditionerOperator(Operator):
    """A `Preconditioner` of the solve's own dtype: writes in place, no copies."""

    def __init__(self, M: Any, dtype: Any) -> None:
        super().__init__(M.shape, dtype)
        self.wrapped = M

    def apply(self, x, out):
        return self.wrapped.apply(x, out)

    def apply_dot(self, x, out):
        return self.wrapped.apply_dot(x, out)

    def apply_block(self, X, out):
        out[:] = self.wrapped.matmat(X)
        return out

    def adjoint(self, x, out):
        out[:] = self.wrapped.rmatvec(x)
        return out


def kernel_form(M: Operator) -> Any:
    """Return what compiled loops use in place of ``M.apply``; None where they must call that."""
    if not isinstance(M, PreconditionerOperator) or "apply" in vars(M.wrapped):
        return None
    wrapped = M.wrapped
    # A subclass with an `apply` of its own has not said what it is to kernels.
    owner = next(c for c in type(wrapped).__mro__ if "in_kernels" in vars(c))
    return wrapped.in_kernels() if type(wrapped).apply is vars(owner).get("apply") else None


def unsigned_indices(A: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return ``indptr`` and ``indices`` of a CSR matrix as unsigned views of one width."""
    small = max(A.nnz, *A.shape) < 2**31
    signed, unsigned = (np.int32, np.uint32) if small else (np.int64, np.uint64)
    return (
        np.ascontiguousarray(A.indptr, dtype=signed).view(unsigned),
        np.ascontiguousarray(A.indices, dtype=signed).view(unsigned),
    )


def canonical_csr(A: Any) -> Any:
    """Return `A` in CSR form with sorted, unique indices; a copy wherever that takes a change."""
    A = A.tocsr() if hasattr(A, "tocsr") else sp.csr_array(np.asarray(A))
    if not A.has_canonical_format:
        A = A.copy()
        A.sum_duplicates()
    return A


def matrix_like(A: Any, name: str = "A") -> Any:
    """Return `A` as CSR, ndarray or an object with ``shape``, ``dtype`` and ``matvec``.

    Raises
    ------
    TypeError
        If `A` is none of these, or its elements are no numbers.
    ValueError
        If `A` is not two-dimensional.
    """
    if in_petsc(A):
        from krylearn.petsc.convert import as_matrix

        return as_matrix(A)
    if lies_on_cuda(A):
        from krylearn.cuda.operators import as_cuda_matrix

        return as_cuda_matrix(A, name)
    if sp.issparse(A):
        if A.ndim != 2:
            raise ValueError(f"{name} must be two-dimensional, not of shape {A.shape}")
        A = A.tocsr()
    elif hasattr(A, "matvec") and hasattr(A, "shape"):
        if len(A.shape) != 2:
            raise ValueError(f"{name} must be two-dimensional, not of shape {A.shape}")
        # scipy finds out a missing dtype by one product; so do we.
        return A if getattr(A, "dtype", None) is not None else aslinearoperator(A)
    else:
        A = np.asarray(A)
        if A.ndim != 2:
            raise ValueError(
                f"{name} must be a matrix, a sparse matrix, a LinearOperator or an object with "
                f".shape and .matvec; got something of shape {A.shape}"
            )
    if A.dtype.kind not in "biufc":
        raise TypeError(f"{name} holds {A.dtype} elements; numbers are needed")
    return A


def as_operator(A: Any, dtype: Any) -> Operator:
    """Return `A`, as `matrix_like` gave it, as an `Operator` of the given dtype."""
    if sp.issparse(A):
        return CSROperator(A, dtype)
    if isinstance(A, np.ndarray):
        return DenseOperator(A, dtype)
    if isinstance(A, Preconditioner):
        same = np.dtype(A.dtype) == dtype
        return PreconditionerOperator(A, dtype) if same else WrappedOperator(A, dtype)
    if hasattr(A, "apply_dot"):  # a grid operator
        return GridAdapter(A.astype(dtype), dtype)
    return WrappedOperator(A, dtype)


class GridAdapter(Operator):
    """A grid operator: matrix-free, written in place."""

    def __init__(self, A: Any, dtype: Any) -> None:
        super().__init__(A.shape, dtype)
        self.wrapped = A
        # Of a third party's grid operator the products are enough.
        self.stencil = getattr(A, "_stencil", None)
        self.apply, self.apply_dot = A.apply, A.apply_dot  # type: ignore[method-assign]

    def adjoint(self, x, out):
        out[:] = self.wrapped.rmatvec(x)
        return out
