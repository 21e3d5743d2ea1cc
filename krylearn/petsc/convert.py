"""PETSc's matrices and vectors as this library's, and back, without copies where that is safe."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from krylearn.petsc import library
from krylearn.petsc.library import petsc


class Entries:
    """The entries of a rank's own rows and columns, read again whenever a matrix has changed.

    Values are views of PETSc's memory. The pattern is copied when it is new, since PETSc may change
    it in place, and kept as long as PETSc says that it is the same.

    Parameters
    ----------
    matrix : petsc4py.PETSc.Mat
        On several ranks the diagonal block counts.
    """

    def __init__(self, matrix: Any) -> None:
        self.matrix: Any = None
        self._pattern: tuple | None = None
        self.state = -1
        self.read(matrix)

    def read(self, matrix: Any) -> Entries:
        """Take over what a matrix holds now, a new matrix or the same with new values."""
        block, copied = _sequential(matrix)
        state = library.pattern_state(block)
        same = not copied and self._block_is(block) and state == self.state
        self.matrix, self.block, self.state = matrix, block, state
        self.shape = block.getSize()
        indptr, indices, self.data = library.sequential_arrays(
            library.handle(block), self.shape[0], block
        )
        if not same:
            self._pattern = (indptr.copy(), indices.copy())
        return self

    def _block_is(self, block: Any) -> bool:
        return self.matrix is not None and self.block.handle == block.handle

    @property
    def stale(self) -> bool:
        """Whether the memory that is viewed may not be the matrix's any more."""
        return library.pattern_state(self.block) != self.state

    def csr(self) -> sp.csr_array:
        """Return the matrix; its values are PETSc's."""
        assert self._pattern is not None
        indptr, indices = self._pattern
        A = sp.csr_array((self.data, indices, indptr), shape=self.shape)
        A.has_sorted_indices = A.has_canonical_format = True  # AIJ is
        return A


def as_aij(matrix: Any) -> Any:
    """Return a matrix with entries in AIJ format, itself where it is.

    Raises
    ------
    TypeError
        If it gives products only.
    """
    kind = matrix.getType()
    if kind.startswith(("mpiaij", "seqaij")):
        return matrix
    try:
        if kind in ("shell", "python", "mffd"):  # PETSc would take n products
            raise petsc().Error(56)
        return matrix.convert("aij", petsc().Mat())
    except petsc().Error:
        raise TypeError(
            f"a matrix of type {kind} gives products only: give KSPSetOperators a matrix of type "
            "aij for the preconditioner"
        ) from None


def _sequential(matrix: Any) -> tuple[Any, bool]:
    """Return the diagonal block as a sequential AIJ matrix, and whether that took a copy."""
    entries = as_aij(matrix)
    copied = entries is not matrix
    if entries.getType().startswith("mpiaij"):
        return entries.getDiagonalBlock(), copied
    return entries, copied


class PetscMatrix:
    """A matrix of PETSc in the place of A, where its parts lie on several ranks.

    Attributes
    ----------
    matrix : petsc4py.PETSc.Mat
    shape : (int, int)
        Of all of it.
    held_columns : int
        Length of this rank's part of the vectors that it takes, with at least one entry.
    dtype : dtype
    solve_class : type or None
        Of the `DistributedSolve` to solve with, where it is another.
    """

    solve_class: Any = None

    def __init__(self, matrix: Any) -> None:
        self.matrix = matrix
        self.shape = tuple(int(n) for n in matrix.getSize())
        self.held_columns = max(1, int(matrix.getLocalSize()[1]))
        self.dtype = np.dtype(petsc().ScalarType)

    @property
    def over_ranks(self) -> bool:
        """Whether no rank has all of it."""
        return self.matrix.getComm().getSize() > 1

    def matvec(self, x: Any) -> Any:
        """Raise TypeError: methods reach the parts through `solve_petsc`."""
        raise TypeError("the parts of a PETSc matrix lie on several ranks")


def as_matrix(matrix: Any) -> Any:
    """Return a Mat as CSR on one rank, where its entries are to be had, else as `PetscMatrix`.

    Raises
    ------
    TypeError
        If it is no matrix of PETSc.
    """
    if not isinstance(matrix, petsc().Mat):
        raise TypeError(f"A is a {type(matrix).__name__} of PETSc; a Mat is needed")
    if matrix.getComm().getSize() == 1:
        try:
            return to_csr(matrix)
        except TypeError:
            return PetscMatrix(matrix)
    return PetscMatrix(matrix)


def to_csr(matrix: Any) -> sp.csr_array:
    """Return the entries that a rank holds in its own rows and columns.

    Parameters
    ----------
    matrix : petsc4py.PETSc.Mat
        On one rank that is all of it. The result views its values.
    """
    return Entries(matrix).csr()


def grid_operator(matrix: Any, dm: Any = None) -> Any:
    """Return a matrix on a DMDA as a matrix-free operator on a grid; on one rank.

    Parameters
    ----------
    matrix : petsc4py.PETSc.Mat
    dm : petsc4py.PETSc.DMDA, optional
        By default the matrix's own.

    Returns
    -------
    A : GridOperator

    Raises
    ------
    ValueError
        If there is no DMDA with one unknown a point, the matrix couples other points than nearest
        neighbours, or it lies on several ranks.
    """
    from krylearn.solvers.multigrid.structured import as_grid_operator

    dm = matrix.getDM() if dm is None else dm
    if dm is None or not dm.handle or dm.getType() != "da" or dm.getDof() != 1:
        raise ValueError("the matrix has no DMDA with one unknown a point")
    if matrix.getComm().getSize() > 1:
        raise ValueError("a grid operator lies on one rank; krylearn.petsc.Multigrid on several")
    return as_grid_operator(to_csr(matrix), "grid_operator")


def from_csr(A: Any, comm: Any = None) -> Any:
    """Return a matrix of PETSc whose rows are shared out evenly among the ranks.

    Parameters
    ----------
    A : sparse array
        All of it on each rank; only a rank's own rows are looked at.
    comm : petsc4py.PETSc.Comm, optional
        ``PETSc.COMM_WORLD`` by default.
    """
    PETSc = petsc()
    comm = PETSc.COMM_WORLD if comm is None else comm
    A = A.tocsr()
    n, ranks, rank = A.shape[0], comm.getSize(), comm.getRank()
    first, last = n * rank // ranks, n * (rank + 1) // ranks
    rows = A if ranks == 1 else A[first:last]
    pattern = (rows.indptr.astype(PETSc.IntType), rows.indices.astype(PETSc.IntType))
    columns = PETSc.DECIDE if A.shape[1] != n else last - first
    matrix = PETSc.Mat().createAIJ(
        ((last - first, n), (columns, A.shape[1])), csr=(*pattern, rows.data), comm=comm
    )
    matrix.assemble()
    return matrix


def whole(vector: Any) -> np.ndarray:
    """Return all entries of a vector, a copy on each rank."""
    if vector.getComm().getSize() == 1:
        return vector.getArray(readonly=True).copy()
    scatter, everything = petsc().Scatter.toAll(vector)
    scatter.scatter(vector, everything)
    return everything.getArray().copy()
