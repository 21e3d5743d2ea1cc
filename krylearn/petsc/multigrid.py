"""Algebraic multigrid over ranks: each coarsens its own rows, all share the coarse matrix."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import scipy.sparse as sp

from krylearn.kernels.amg_cycle import HEAVY, SLACK, cast, multiply, multiply_add
from krylearn.operators import Preconditioner
from krylearn.petsc import library
from krylearn.petsc.convert import Entries, as_aij
from krylearn.petsc.dmda import gather_all
from krylearn.petsc.hooks import report
from krylearn.petsc.library import petsc
from krylearn.petsc.ranks import Ranks
from krylearn.solvers.multigrid.aggregation import SmoothedAggregation
from krylearn.solvers.multigrid.algebraic_multigrid import couplings_are_even
from krylearn.solvers.multigrid.classical import ClassicalAMG


class _Finest:
    """Keeps the prolongation and the Galerkin product of a rank's block in full precision."""

    def _finish(self, level):
        if level.P is not None:
            self.P = _scipy(level.P, len(level.R[0]) - 1)
        else:
            self.galerkin = _scipy(level.A, level.n)
            if level is self.levels[0]:  # it was not coarsened
                self.P = sp.eye_array(level.n, format="csr", dtype=level.A[2].dtype)
                own = np.arange(level.n + 1, dtype=level.A[0].dtype)
                ones = np.ones(level.n, level.A[2].dtype)
                level.P = level.R = (own, own[:-1].astype(level.A[1].dtype), ones)
        super()._finish(level)  # type: ignore[misc]

    def _factorise(self, level):
        return None


class _Aggregation(_Finest, SmoothedAggregation):
    pass


class _Classical(_Finest, ClassicalAMG):
    pass


class DistributedMultigrid(Preconditioner):
    """Multigrid for a matrix whose rows lie on several ranks.

    Aggregates and interpolation do not cross the borders of ranks. Gauss-Seidel runs within a rank
    and takes the others' values as they were. The coarse matrix is the Galerkin product, borders
    and all; every rank has a copy and runs the same cycle on it, so that
    the coarse levels cost the same however many ranks there are: this is for tens of ranks.

    Parameters
    ----------
    matrix : petsc4py.PETSc.Mat
        Of type mpiaij.
    ranks : Ranks
    coarsening : {'auto', 'aggregation', 'classical'}
        'auto' is aggregation where all couplings are of similar size.
    **options
        Of `SmoothedAggregation` or `ClassicalAMG`, on all levels.

    References
    ----------
    Tuminaro and Tong (2000), Parallel smoothed aggregation multigrid: aggregation strategies on
    massively parallel machines (uncoupled aggregation); Baker, Falgout, Kolev and Yang (2011),
    Multigrid smoothers for ultraparallel computing, section 5.
    """

    together = True

    def __init__(self, matrix: Any, ranks: Ranks, coarsening: str = "auto",
                 **options: Any) -> None:  # fmt: skip
        started = time.perf_counter()
        self.ranks, self.options = ranks, options
        self.kind = coarsening
        self._held: list[Any] = []
        self._local: Any = None
        self._entries: Entries | None = None
        self._set_up(matrix)
        local: Any = self._local
        super().__init__(local.shape, local.dtype)
        self.setup_seconds = time.perf_counter() - started

    def update(self, matrix):
        """Take new values on the same pattern."""
        started = time.perf_counter()
        self._set_up(matrix)
        self.setup_seconds = time.perf_counter() - started
        return self

    # -- set-up ----------------------------------------------------------------------------

    def _set_up(self, matrix: Any) -> None:
        matrix = as_aij(matrix)
        failure: Exception | None = None
        try:
            self._make_local(matrix)
        except Exception as error:
            failure = error
        if self.ranks.any(failure is not None):
            raise failure or ValueError("the set-up has failed on another rank")
        try:
            self._connect(matrix)
        except Exception as error:  # the other ranks wait for this one
            report(error, type(self).__name__, self.ranks.rank)
            library.abort()

    def _make_local(self, matrix: Any) -> None:
        """Coarsen this rank's block; nothing here talks to other ranks."""
        if self._entries is not None:
            self._local.update(self._entries.read(matrix).csr())
            return
        entries = Entries(matrix)
        A = entries.csr()
        if not A.shape[0]:
            raise ValueError("multigrid over ranks needs rows on every rank; use fewer ranks")
        if self.kind == "auto":
            even = "B" in self.options or couplings_are_even(A)
            self.kind = "aggregation" if even else "classical"
        make: Any = _Aggregation if self.kind == "aggregation" else _Classical
        self._local = make(A, **{**self.options, "max_levels": 2, "max_coarse": 1})
        self._entries = entries
        self.symmetric, self.linear = bool(self._local.symmetric), True
        self.positive_definite = self._local.positive_definite

    def _connect(self, matrix: Any) -> None:
        """Exchange what lies across borders, and share out the coarse matrix."""
        self.close()
        PETSc, local = petsc(), self._local
        n = local.shape[0]
        _, outside, columns = library.parallel_parts(matrix)
        columns = columns.copy()
        parts = library.sequential_arrays(outside, n, matrix)
        across = sp.csr_array((parts[2].copy(), parts[1].copy(), parts[0].copy()),
                              shape=(n, len(columns)))  # fmt: skip
        self._touched = np.flatnonzero(np.diff(across.indptr))
        self._across = across[self._touched]
        self._damp(abs(self._across).sum(axis=1))
        # Values of neighbouring ranks.
        self._own, _ = matrix.createVecs()
        where = PETSc.IS().createGeneral(columns, comm=PETSc.COMM_SELF)
        self._ghosts = PETSc.Vec().createSeq(len(columns), comm=PETSc.COMM_SELF)
        self._exchange = PETSc.Scatter().create(self._own, where, self._ghosts, None)
        self._held = [self._own, self._ghosts, self._exchange]
        where.destroy()
        self._share_coarse(columns)
        width = local.cycle_dtype
        self._b, self._x, self._r = np.empty((3, n), width)
        self._rc = np.empty(self._counts[1], width)

    def _damp(self, outside: np.ndarray) -> None:
        """Raise the diagonal of rows that other ranks outweigh, as within a rank's blocks."""
        smoother, unit = self._local.levels[0].smoother, self._local._unit
        if self._local.cycle_dtype == self._local.dtype:
            unit = 1.0
        gain = smoother.gain[self._touched]
        raised = ((1 + SLACK) / np.abs(gain) + unit * outside) / 2
        factor = np.maximum(raised * np.abs(gain), 1.0)
        smoother.gain[self._touched] = gain / factor
        smoother.kind[self._touched] |= np.where(factor > 1, HEAVY, 0).astype(smoother.kind.dtype)

    def _share_coarse(self, columns: np.ndarray) -> None:
        PETSc, local, comm = petsc(), self._local, self.ranks.comm
        P = local.P
        n, m = P.shape
        counts = self.ranks.gather(np.array([m], PETSc.ScalarType))[:, 0].real.astype(int)
        first, total = int(counts[: self.ranks.rank].sum()), int(counts.sum())
        self._counts = (first, m, total)
        integer = PETSc.IntType
        border, near = P[self._touched], P
        if local._hermitian:
            # Others want the rows that touch theirs, and no more.
            lengths = np.zeros(n + 1, integer)
            lengths[self._touched + 1] = np.diff(border.indptr)
            near = sp.csr_array((border.data, border.indices, np.cumsum(lengths)), shape=P.shape)
        spread = PETSc.Mat().createAIJ(
            ((n, None), (m, total)), comm=comm,
            csr=(near.indptr.astype(integer), (near.indices + first).astype(integer), near.data),
        )  # fmt: skip
        everything = PETSc.IS().createStride(total, 0, 1, comm=PETSc.COMM_SELF)
        wanted = PETSc.IS().createGeneral(columns, comm=PETSc.COMM_SELF)
        (theirs,) = spread.createSubMatrices([wanted], [everything])
        beyond = border.T.tocsr() @ (self._across @ Entries(theirs).csr())
        inside = local.galerkin
        rows = sp.csr_array((inside.data, inside.indices + first, inside.indptr),
                            shape=(m, total)) + beyond  # fmt: skip
        rows.sort_indices()
        lengths, indices = (gather_all(self.ranks, part).real.astype(integer)
                            for part in (np.diff(rows.indptr), rows.indices))  # fmt: skip
        A = sp.csr_array((gather_all(self.ranks, rows.data), indices,
                          np.concatenate([[0], np.cumsum(lengths)]).astype(integer)),
                         shape=(total, total))  # fmt: skip
        self._rhs = PETSc.Vec().createMPI((m, total), comm=comm)
        self._gather, self._all = PETSc.Scatter.toAll(self._rhs)
        self._held += [self._rhs, self._gather, self._all]
        options = dict(self.options)
        if options.pop("B", None) is not None:
            options["B"] = np.stack([self._everywhere(v).copy() for v in local._B.T], axis=1)
            options["block_size"] = local._B.shape[1]
        # As within one hierarchy, where it is the finest matrix that decides.
        if not self.ranks.any(local.cycle_dtype == local.dtype):
            options["precision"] = "single"
        make: Any = SmoothedAggregation if self.kind == "aggregation" else ClassicalAMG
        self.coarse = make(A, **options)
        self._correction = np.empty(total, self.coarse.dtype)
        for thing in (spread, everything, wanted, theirs):
            thing.destroy()

    # -- application -----------------------------------------------------------------------

    def apply(self, r, out):
        """Write what one cycle from zero makes of this rank's part of `r` into `out`."""
        local, level = self._local, self._local.levels[0]
        size = self.ranks.max(float(np.abs(r).max(initial=0.0)))
        if not 0 < size < np.inf:
            out[:] = 0 if size == 0 else np.nan
            return out
        single = local.cycle_dtype != local.dtype
        scale = float(np.ldexp(1.0, -int(np.frexp(size)[1]))) if single else 1.0
        unit = local._unit if single else 1.0
        b, x, rest = self._b, self._x, self._r
        cast(r, b, scale)
        level.smoother.before(b, x, rest)
        rest[self._touched] -= self._beyond(x, unit)
        first, m, _ = self._counts
        multiply(level.R, rest, self._rc)
        # Every rank solves the same; the matrix here is `unit` times the coarse one there.
        self.coarse.apply(self._everywhere(self._rc), self._correction)
        self._rc[:] = self._correction[first : first + m] / unit
        multiply_add(level.P, self._rc, x)
        b[self._touched] -= self._beyond(x, unit)
        level.smoother.after(b, x, rest)
        cast(x, out, unit / scale)
        return out

    def _beyond(self, x: np.ndarray, unit: float) -> np.ndarray:
        """Return what the values of other ranks contribute to the rows that touch them."""
        self._own.setArray(x)
        self._exchange.scatter(self._own, self._ghosts)
        return unit * (self._across @ self._ghosts.getArray())

    def _everywhere(self, part: np.ndarray) -> np.ndarray:
        """Return a coarse vector, all of it, of which this rank has a part."""
        self._rhs.setArray(part)
        self._gather.scatter(self._rhs, self._all)
        return self._all.getArray()

    def close(self) -> None:
        """Give back what PETSc holds for this, on all ranks together."""
        for thing in self._held:
            thing.destroy()
        self._held = []

    def __repr__(self) -> str:
        first, m, total = self._counts if self._held else (0, 0, 0)
        return (f"<DistributedMultigrid: {self.kind}, {self.shape[0]} rows here, {total} coarse "
                f"unknowns on every rank>\n{self.coarse!r}")  # fmt: skip


def _scipy(A: tuple, columns: int) -> sp.csr_array:
    """Return a CSR triple of unsigned indices as a sparse array."""
    indptr, indices, data = A
    signed = "i" + indices.dtype.str[2:]
    return sp.csr_array((data, indices.view(signed), indptr.view("i" + indptr.dtype.str[2:])),
                        shape=(len(indptr) - 1, columns))  # fmt: skip
