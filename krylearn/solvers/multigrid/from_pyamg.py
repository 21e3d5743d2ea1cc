"""Hierarchies that pyamg built, run by the kernels of this library."""

from __future__ import annotations

from typing import Any

import numpy as np

from krylearn.kernels.amg_cycle import GaussSeidel, Jacobi, Polynomial
from krylearn.kernels.amg_product import (
    compact_parts,
    diagonal_places,
    product,
    spread,
)
from krylearn.operators import canonical_csr, unsigned_indices
from krylearn.solvers.multigrid.algebraic import DENSE, AlgebraicMultigrid, Level
from krylearn.solvers.relaxation.splitting import working_dtype

__all__ = ["PyAMGHierarchy", "from_pyamg"]

SWEEPS = {"forward": (True,), "backward": (False,), "symmetric": (True, False)}
# Smoothers that pyamg has and we do not, and what stands in for them.
NEAREST = {
    "block_gauss_seidel": "gauss_seidel", "block_jacobi": "jacobi", "cf_jacobi": "jacobi",
    "fc_jacobi": "jacobi", "cf_block_jacobi": "jacobi", "fc_block_jacobi": "jacobi",
}  # fmt: skip


class _Given:
    """What a level of pyamg gives: matrices, and how it relaxes before and after."""

    P: tuple | None = None
    R: tuple | None = None

    def __init__(self, level: Any, dtype: Any, notes: list[str]) -> None:
        self.matrix: Any = canonical_csr(level.A).astype(dtype, copy=False)
        if getattr(level, "P", None) is None:
            return
        P, R = (canonical_csr(X).astype(dtype, copy=False) for X in (level.P, level.R))
        self.P, self.R = ((*unsigned_indices(X), X.data) for X in (P, R))
        difference = abs(R - P.conj().T)
        adjoint = difference.nnz == 0 or difference.max() <= 1e-5 * abs(P).max()
        self.first = _Smoother(level, "presmoother", notes)
        self.second = _Smoother(level, "postsmoother", notes)
        self.alike = self.first.like(self.second)
        self.symmetric = adjoint and self.alike and self.first.reversed() == self.second.steps

    def smoother(self, level: Level, hermitian: bool) -> Any:
        """Make the smoother of a level whose matrix is in the precision of the cycle."""
        first, second = self.first, self.second
        if self.alike:
            return first.make(level, hermitian, first.steps, second.steps)
        return Pair(first.make(level, hermitian, first.steps, first.none),
                    second.make(level, hermitian, second.none, second.steps))  # fmt: skip


class _Smoother:
    """What a smoother of pyamg does, read from its function.

    `kind` is 'gauss_seidel', 'jacobi' or 'polynomial'; `steps` are the directions of the sweeps
    of the first, the number of steps of the others.
    """

    kind = "gauss_seidel"
    omega = 1.0
    coefficients: Any = None
    size = 0.0

    def __init__(self, level: Any, side: str, notes: list[str]) -> None:
        function = getattr(level, side)
        self.name = name = getattr(function, "__name__", type(function).__name__)
        settings: dict[str, Any] = dict(getattr(function, "keywords", {}))
        code, cells = getattr(function, "__code__", None), getattr(function, "__closure__", None)
        if code is not None and cells:
            settings.update(zip(code.co_freevars, (cell.cell_contents for cell in cells)))
        times = int(settings.get("iterations", 1))
        known = NEAREST.get(name, name)
        if name in NEAREST and _blocks(settings) > 1 or name.startswith(("cf_", "fc_")):
            _note(notes, name, known)
        if name == "sor":  # which damps whole sweeps there
            _note(notes, name, "successive over-relaxation row by row")
        if known in ("gauss_seidel", "sor"):
            self.omega = float(settings.get("omega", 1.0))
            self.steps: Any = SWEEPS[settings.get("sweep", "forward")] * times
        elif known == "jacobi":
            self.kind, self.steps = "jacobi", times
            self.omega = float(settings.get("omega", 1.0))
        elif name in ("chebyshev", "richardson"):
            self.kind, self.steps = "polynomial", times
            given: Any = settings.get("coefficients", settings.get("omega"))
            self.coefficients = np.atleast_1d(given)
            self.size = spread(np.ravel(level.A.data))[1]
        elif name in ("none", "unity", "zero") or function is None:
            self.steps = ()
        else:
            _note(notes, name, "symmetric gauss_seidel")
            self.steps = SWEEPS["symmetric"] * times


    @property
    def none(self) -> Any:
        """No steps."""
        return () if self.kind == "gauss_seidel" else 0

    def like(self, other: _Smoother) -> bool:
        """Return whether another differs in its steps at most."""
        return (self.kind, self.omega) == (other.kind, other.omega) and np.array_equal(
            np.atleast_1d(self.coefficients), np.atleast_1d(other.coefficients)
        )

    def reversed(self) -> Any:
        """Return the steps of the adjoint."""
        if self.kind == "gauss_seidel":
            return tuple(not forwards for forwards in self.steps[::-1])
        return self.steps

    def make(self, level: Level, hermitian: bool, ahead: Any, back: Any) -> Any:
        """Return a smoother of ours."""
        if self.kind == "jacobi":
            return Jacobi(level.A, level.d, self.omega, ahead, back)
        if self.kind == "polynomial":
            # In other units, or after an update, the spectrum is another one.
            ratio = spread(level.A[2])[1] / self.size
            powers = np.arange(len(self.coefficients), 0, -1)
            return Polynomial(level.A, self.coefficients / ratio**powers, ahead, back)
        return GaussSeidel(level.A, level.middle, hermitian, ahead, back, self.omega)


class Pair:
    """One smoother before the coarse correction and another after it."""

    def __init__(self, first: Any, second: Any) -> None:
        self.first, self.second = first, second

    def before(self, b: np.ndarray, x: np.ndarray, r: np.ndarray) -> None:
        """Relax from zero; write the iterate into x and its residual into r."""
        self.first.before(b, x, r)

    def after(self, b: np.ndarray, x: np.ndarray, r: np.ndarray) -> None:
        """Relax x; r is room to work in."""
        self.second.after(b, x, r)


def _blocks(settings: dict) -> int:
    inverses: Any = settings.get("Dinv")
    return int(settings.get("blocksize") or (np.shape(inverses) or (1,))[-1])


def _note(notes: list[str], name: str, instead: str) -> None:
    note = f"{instead} in place of {name}"
    if note not in notes:
        notes.append(note)


def from_pyamg(ml, *, cycle="V", precision="double"):
    """Return the cycle of a hierarchy that pyamg built, as a preconditioner of this library.

    Parameters
    ----------
    ml : pyamg.multilevel.MultilevelSolver
        Of any method: its matrices and transfers are taken as they are, its smoothers where we
        have them (Gauss-Seidel, SOR, Jacobi, Richardson, Chebyshev); another one is replaced by
        the nearest, which `notes` and the printed table say.
    cycle : {'V', 'W', 'F'}
    precision : {'auto', 'single', 'double'}
        As for `ClassicalAMG`.

    Returns
    -------
    M : PyAMGHierarchy

    Raises
    ------
    TypeError
        If `ml` is no hierarchy of pyamg.

    Examples
    --------
    >>> import numpy as np, krylearn as kl
    >>> from types import SimpleNamespace as Namespace
    >>> import pyamg
    >>> A = pyamg.gallery.poisson((60, 60), format="csr")
    >>> M = kl.from_pyamg(pyamg.ruge_stuben_solver(A))
    >>> x, info = kl.cg(A, np.ones(3600), M=M, rtol=1e-8)
    >>> info.converged, M.notes
    (True, [])
    """
    return PyAMGHierarchy(ml, cycle=cycle, precision=precision)


class PyAMGHierarchy(AlgebraicMultigrid):
    """What `from_pyamg` returns.

    Attributes
    ----------
    notes : list of str
        Which smoothers were replaced by which.
    symmetric : bool
        Whether A is Hermitian, restriction is the adjoint of prolongation, and the smoothers
        after the coarse correction are the adjoints of those before.
    positive_definite : bool or None
        True where that is so by construction (Gauss-Seidel); None where it depends.
    """

    name = "from_pyamg"

    def __init__(self, ml: Any, *, cycle: str, precision: str) -> None:
        levels = getattr(ml, "levels", None)
        if not levels or not hasattr(levels[0], "A") or not hasattr(ml, "coarse_solver"):
            raise TypeError(f"a hierarchy of pyamg is needed, not a {type(ml).__name__}")
        self.notes: list[str] = []
        dtype = working_dtype(*(level.A for level in levels))
        self._given = [_Given(level, dtype, self.notes) for level in levels]
        super().__init__(self._given[0].matrix, cycle=cycle, sweeps=1, precision=precision,
                         max_levels=len(levels), max_coarse=1)  # fmt: skip
        for given in self._given:
            given.matrix = None

    def _numeric(self, A):
        super()._numeric(A)
        transfers = [given for given in self._given if given.P is not None]
        self.symmetric = self.symmetric and all(given.symmetric for given in transfers)
        definite = self.symmetric and all(
            given.first.kind == "gauss_seidel" and given.first.steps and 0 < given.first.omega <= 1
            for given in transfers
        )
        self.positive_definite = True if definite else None

    def _add_level(self, old):
        given = self._given[len(self.levels) - 1]
        if given.P is None:
            return False
        level = self.levels[-1]
        level.P, level.R = given.P, given.R
        following = self._given[len(self.levels)].matrix
        if following is not None:
            triple = (*unsigned_indices(following), following.data)
            self.levels.append(Level(triple, diagonal_places(triple)))
        else:
            coarse = given.R[0].shape[0] - 1
            AP = product(level.A, level.P, coarse)
            floor = np.zeros(coarse, self.dtype.type(0).real.dtype)
            self.levels.append(Level(*compact_parts(product(level.R, AP, coarse), floor)))
        return True

    def _smoother(self, level):
        depth = self.levels.index(level)
        given = self._given[depth]
        if given.P is None:
            return GaussSeidel(level.A, level.middle, self._hermitian)
        return given.smoother(level, self._hermitian)

    def _factorise(self, level):
        if level.n > DENSE:
            self.notes.append(f"a sweep of Gauss-Seidel in place of a solve with {level.n} rows")
        return super()._factorise(level)

    def __repr__(self) -> str:
        return "\n".join([super().__repr__()[:-1], *(f"  note: {n}" for n in self.notes)]) + ">"

    __str__ = __repr__
