"""A hierarchy of coarser and coarser matrices, and the cycle over it."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from krylearn.kernels import relaxation
from krylearn.kernels.amg_cycle import GaussSeidel, cast, multiply, multiply_add, residual
from krylearn.kernels.amg_product import (
    adjoint,
    compact_parts,
    diagonal_at,
    diagonal_places,
    drop_rounding,
    product,
    product_again,
    rounding,
    spread,
)  # fmt: skip
from krylearn.kernels.vector import norm
from krylearn.solvers.relaxation.splitting import SplittingPreconditioner

CYCLES = ("V", "W", "F")
PRECISIONS = ("auto", "single", "double")
# Unknowns from which single precision pays, and the spread of the entries that it may stand.
LARGE, SPREAD = 100_000, 1e4
# The most unknowns of a dense coarsest matrix.
DENSE = 1000


class Level:
    """One matrix of the hierarchy, and the way to the next.

    Attributes
    ----------
    A : CSR triple
        In each row what is left of the diagonal comes first, what is right of it last.
    middle : (n,) array
        Where the diagonal entries stand.
    d : (n,) array
        The diagonal.
    P, R : CSR triple
        Prolongation from the next level and its adjoint; None on the coarsest.
    smoother : GaussSeidel
        It has the matrix in the precision of the cycle.
    kept : dict
        What a set-up with new values uses again.
    """

    P: tuple | None = None
    R: tuple | None = None
    smoother: Any = None

    def __init__(self, A: tuple, middle: np.ndarray) -> None:
        self.A, self.middle = A, middle
        self.d = diagonal_at(A, middle)
        self.n, self.nnz = middle.shape[0], A[1].shape[0]
        self.kept: dict[str, Any] = {}


class AlgebraicMultigrid(SplittingPreconditioner):
    """Base of algebraic multigrid; subclasses say how a level is coarsened."""

    name = "multigrid"
    # Why this one was chosen, where `multigrid` did.
    choice = ""

    def __init__(self, A: Any, *, cycle: str, sweeps: int, precision: str, max_levels: int,
                 max_coarse: int) -> None:  # fmt: skip
        for what, value, known in (("cycle", cycle, CYCLES), ("precision", precision, PRECISIONS)):
            if value not in known:
                raise ValueError(f"{what} must be one of {', '.join(known)}, not {value!r}")
        for what, number in (("sweeps", sweeps), ("max_levels", max_levels),
                             ("max_coarse", max_coarse)):  # fmt: skip
            if number != int(number) or number < 1:
                raise ValueError(f"{what} must be an integer >= 1, not {number!r}")
        self.cycle, self.sweeps, self.precision = cycle, int(sweeps), precision
        self.max_levels, self.max_coarse = int(max_levels), int(max_coarse)
        self.levels: list[Level] = []
        self._work = Vectors()
        super().__init__(A)

    # -- set-up ----------------------------------------------------------------------------

    def _numeric(self, A):
        triple = (*self._pattern, A.data)
        self._hermitian = relaxation.is_hermitian(*triple)
        # An F-cycle is not its own adjoint.
        self.symmetric = self._hermitian and self.cycle != "F"
        self.positive_definite = True if self.symmetric else None
        smallest, largest = spread(A.data)
        # The power of two that brings the entries to the order of one.
        self._unit = float(np.ldexp(1.0, -int(np.frexp(largest)[1]))) if largest > 0 else 1.0
        self.cycle_dtype = self._cycle_dtype(largest <= SPREAD * smallest)
        old = self.levels
        self.levels = [Level(triple, diagonal_places(triple))]
        if old:
            self.levels[0].kept = old[0].kept
        while len(self.levels) < self.max_levels and self.levels[-1].n > self.max_coarse:
            if not self._add_level(old):
                break
        self._inverse = self._factorise(self.levels[-1])
        for level in self.levels:
            self._finish(level)

    def _add_level(self, old: list[Level]) -> bool:
        """Make the next level, if there is one; `old` is the hierarchy of the last values."""
        depth = len(self.levels) - 1
        level = self.levels[-1]
        found = self._prolongation(level, depth)
        if found is None:
            return False
        coarse, level.P = found
        level.R = adjoint(level.P, coarse)
        floor = rounding(level.R, level.d)
        AP = product(level.A, level.P, coarse)
        before = old[depth] if depth + 1 < len(old) else None
        same = before and before.P and all(map(np.array_equal, before.P[:2], level.P[:2]))
        if same:
            pattern = old[depth + 1].A
            A = (*pattern[:2], np.empty(pattern[1].shape[0], self.dtype))
            middle = old[depth + 1].middle
            product_again(level.R, AP, coarse, A)
            drop_rounding(A, middle, floor)
            self.levels.append(Level(A, middle))
            self.levels[-1].kept = old[depth + 1].kept
        else:
            del old[depth + 1 :]
            self.levels.append(Level(*compact_parts(product(level.R, AP, coarse), floor)))
        return True

    def _prolongation(self, level: Level, depth: int) -> tuple[int, tuple] | None:
        """Return the number of coarse unknowns and the prolongation; None to stop here."""
        raise NotImplementedError

    def _cycle_dtype(self, even: bool) -> np.dtype:
        """Return the dtype of the cycle; `even` says that the entries are of similar size."""
        single = self.precision == "single" or (
            self.precision == "auto" and even and self.shape[0] >= LARGE
        )
        if not single:
            return self.dtype
        return np.dtype(np.complex64 if self.dtype.kind == "c" else np.float32)

    def _finish(self, level: Level) -> None:
        """Give a level what the cycle needs, in the precision of the cycle."""
        level.A = self._in_cycle(level.A, self._unit)
        level.d = diagonal_at(level.A, level.middle)
        if level.P is not None:
            level.P, level.R = self._in_cycle(level.P), self._in_cycle(level.R)
        level.smoother = self._smoother(level)

    def _smoother(self, level: Level) -> Any:
        sweeps = self.sweeps
        return GaussSeidel(level.A, level.middle, self._hermitian, (True,) * sweeps,
                           (False,) * sweeps)  # fmt: skip

    def _in_cycle(self, A: Any, unit: float = 1.0) -> tuple:
        if A[2].dtype == self.cycle_dtype:
            return A
        data = np.empty(A[2].shape[0], self.cycle_dtype)
        cast(A[2], data, unit)
        return A[0], A[1], data

    def _factorise(self, level: Level) -> np.ndarray | None:
        """Invert the coarsest matrix, singular or not; None where it is too large for that."""
        if level.n > max(self.max_coarse, DENSE):
            return None
        dense = np.zeros((level.n, level.n), np.result_type(self.dtype, np.float64))
        rows = np.repeat(np.arange(level.n), np.diff(level.A[0].astype(np.int64)))
        dense[rows, level.A[1]] = level.A[2]
        unit = 1.0 if self.cycle_dtype == self.dtype else self._unit
        double = np.finfo(self.dtype).eps < 1e-10
        inverse = pseudo_inverse(dense * unit, self._hermitian, 1e-12 if double else 1e-4)
        return inverse.astype(self.cycle_dtype)

    # -- the cycle -------------------------------------------------------------------------

    def apply(self, r, out):
        """Write what one cycle from zero makes of the right-hand side `r` into `out`."""
        vectors = self._work.get(self.levels, self.cycle_dtype)
        b, x, _ = vectors[0]
        if self.cycle_dtype != self.dtype:
            # Scaled, since single precision has few exponents.
            size = float(norm(r))
            scale = np.ldexp(1.0, -int(np.frexp(size)[1])) if 0 < size < np.inf else 1.0
            cast(r, b, scale)
            self._descend(0, vectors, self.cycle)
            cast(x, out, self._unit / scale)
            return out
        vectors[0][:2] = (r.copy() if np.may_share_memory(r, out) else r), out
        self._descend(0, vectors, self.cycle)
        vectors[0][:2] = b, x
        return out

    def _descend(self, depth: int, vectors: list, cycle: str) -> None:
        level = self.levels[depth]
        b, x, r = vectors[depth]
        if level.P is None or level.R is None:
            self._coarsest(level, b, x, r)
            return
        level.smoother.before(b, x, r)
        below = vectors[depth + 1]
        multiply(level.R, r, below[0])
        self._descend(depth + 1, vectors, cycle)
        multiply_add(level.P, below[1], x)
        if cycle != "V" and self.levels[depth + 1].P is not None:
            residual(self.levels[depth + 1].A, *below)
            below[0], below[2] = below[2], below[0]
            self._descend(depth + 1, vectors, "V" if cycle == "F" else cycle)
            multiply_add(level.P, below[1], x)
        level.smoother.after(b, x, r)

    def _coarsest(self, level: Level, b: np.ndarray, x: np.ndarray, r: np.ndarray) -> None:
        if self._inverse is not None:
            np.dot(self._inverse, b, out=x)
            return
        level.smoother.before(b, x, r)
        level.smoother.after(b, x, r)

    def to(self, device: str) -> Any:
        """Return the preconditioner on another device: 'cuda', or 'cpu', where it lies.

        On CUDA the cycle smooths by Chebyshev polynomials in place of Gauss-Seidel.
        """
        from krylearn.cuda.preconditioners import moved

        return moved(self, device)

    # -- what it tells ---------------------------------------------------------------------

    @property
    def grid_complexity(self) -> float:
        """Unknowns of all levels over those of the finest."""
        return sum(level.n for level in self.levels) / max(1, self.levels[0].n)

    @property
    def operator_complexity(self) -> float:
        """Entries of all matrices over those of the finest."""
        return sum(level.nnz for level in self.levels) / max(1, self.levels[0].nnz)

    def __repr__(self) -> str:
        n, dtype = self.shape[0], np.dtype(self.dtype)
        inside = "" if self.cycle_dtype == dtype else f", {self.cycle_dtype} inside"
        lines = [
            f"<{type(self).__name__} of shape ({n}, {n}), dtype {dtype}{inside}: "
            f"{self.cycle}({self.sweeps},{self.sweeps})-cycle, "
            f"grid complexity {self.grid_complexity:.2f}, "
            f"operator complexity {self.operator_complexity:.2f}",
            "  level   unknowns     entries   a row",
        ]
        for depth, level in enumerate(self.levels):
            lines.append(
                f"  {depth:5d} {level.n:10d} {level.nnz:11d} {level.nnz / max(1, level.n):7.1f}"
            )
        if self.choice:
            lines.append(f"chosen because {self.choice}")
        return "\n".join(lines) + ">"

    __str__ = __repr__


def pseudo_inverse(dense: np.ndarray, hermitian: bool, bound: float) -> np.ndarray:
    """Return the inverse on the range; for a Hermitian matrix that of its absolute value.

    The matrix is scaled to a unit diagonal first, so that what is null does not depend on units;
    `bound` is the share of the largest eigenvalue below which one counts as zero.
    """
    n = dense.shape[0]
    if n == 0:
        return dense
    d = np.abs(np.diagonal(dense))
    scale = 1 / np.sqrt(np.where(d > 0, d, 1))
    dense = dense * np.outer(scale, scale)
    if hermitian:
        values, vectors = np.linalg.eigh((dense + dense.conj().T) / 2)
        size = np.abs(values)
        keep = size > bound * size.max()
        gain = np.where(keep, 1 / np.where(keep, size, 1), 0)
        inverse = (vectors * gain) @ vectors.conj().T
    else:
        inverse = np.linalg.pinv(dense, rcond=bound)
    return np.ascontiguousarray(inverse * np.outer(scale, scale))


class Vectors(threading.local):
    """Work vectors of one thread, b, x and r for each level; they are not pickled."""

    def get(self, levels: list[Level], dtype: Any) -> list[list]:
        key = ([level.n for level in levels], np.dtype(dtype))
        if self.__dict__.get("key") != key:
            self.__dict__["key"] = key
            self.__dict__["held"] = [list(np.empty((3, n), dtype)) for n in key[0]]
        return self.__dict__["held"]

    def __reduce__(self):
        return Vectors, ()
