"""The loops of the methods on vectors whose parts lie on the ranks of PETSc."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from krylearn import registry
from krylearn.interface import (
    Reason,
    Solve,
    SolveInfo,
    check_preconditioner,
    check_traits,
    not_negative,
    run_loop,
)
from krylearn.kernels.parallel import spread_over
from krylearn.kernels.vector import all_finite
from krylearn.operators import Identity, Operator, Preconditioner
from krylearn.petsc.convert import PetscMatrix, as_matrix
from krylearn.petsc.library import in_petsc, petsc, writable
from krylearn.petsc.ranks import Ranks

# Their loops have nothing but the vector operations that add up over ranks.
OVER_RANKS = ("cg", "recycled_cg", "fcg", "cr", "minres", "gmres", "fgmres", "gcrodr", "bicgstab",
              "idrs", "tfqmr", "lsmr")  # fmt: skip


class MatOperator(Operator):
    """Products with a matrix of PETSc: this rank's part of the vectors in, and out.

    A rank that owns nothing has vectors of one zero.
    """

    def __init__(self, matrix: Any) -> None:
        self.rows, self.columns = (int(n) for n in matrix.getLocalSize())
        super().__init__((max(1, self.rows), max(1, self.columns)), petsc().ScalarType)
        self.matrix = matrix
        self.right, self.left = matrix.createVecs()

    def apply(self, x, out):
        return self._between(self.matrix.mult, self.right, self.left, x, out)

    def adjoint(self, x, out):
        return self._between(self.matrix.multHermitian, self.left, self.right, x, out)

    def _between(self, function: Callable, source: Any, target: Any, x: Any, out: Any) -> Any:
        n, m = source.getLocalSize(), target.getLocalSize()
        out[m:] = 0
        source.placeArray(x[:n])
        target.placeArray(out[:m])
        try:
            # What PETSc calls has whole vectors of its own.
            with spread_over(None):
                function(source, target)
        finally:
            source.resetArray()
            target.resetArray()
        return out

    def close(self) -> None:
        """Give the work vectors back."""
        self.right.destroy()
        self.left.destroy()


class PCOperator(MatOperator):
    """A preconditioner of PETSc; what it makes of a vector is made orthogonal to a null space."""

    def __init__(self, pc: Any) -> None:
        matrix = pc.getOperators()[0]
        super().__init__(matrix)
        space = matrix.getNullSpace()
        self.pc, self.nullspace = pc, space if space.handle else None

    def apply(self, x, out):
        return self._between(self._applied, self.left, self.right, x, out)

    def _applied(self, source: Any, target: Any) -> None:
        self.pc.apply(source, target)
        if self.nullspace is not None:
            self.nullspace.remove(target)


class LocalPreconditioner(Operator):
    """A preconditioner of this library for each rank's own block."""

    def __init__(self, M: Any) -> None:
        super().__init__(M.shape, M.dtype)
        self.wrapped = M

    def apply(self, x, out):
        with spread_over(None):
            return self.wrapped.apply(x, out)


class DistributedSolve(Solve):
    """A `Solve` whose vectors are this rank's parts; every rank comes to the same decisions."""

    def __init__(self, *arguments: Any, ranks: Ranks, unknowns: int, **settings: Any) -> None:
        self.ranks, self._unknowns = ranks, unknowns
        super().__init__(*arguments, **settings)

    @property
    def unknowns(self) -> int:
        return self._unknowns

    def random_rows(self, rng, count):
        # Every rank draws them all and keeps its part: they are those of one rank.
        operator: Any = self.A
        first, last = operator.matrix.getOwnershipRangeColumn()
        rows = np.zeros((count, self.n))
        for row in rows:
            row[: last - first] = rng.standard_normal(self._unknowns)[first:last]
        return rows

    def running(self, rnorm):
        # The clocks differ.
        before, late = self.deadline, False
        if before < np.inf and rnorm > self.tolerance and self.reason is None:
            late = self.ranks.any(time.perf_counter() > before)
        self.deadline = np.inf
        goes_on = super().running(rnorm)
        self.deadline = before
        if late and self.reason is None:
            self.reason = Reason.TIME_LIMIT
            return False
        return goes_on

    def call_back(self, value):
        before = self.reason
        super().call_back(value)
        if self.callback is not None and self.ranks.any(self.reason is not before):
            self.reason = self.reason or Reason.STOPPED

    def _is_zero(self, x):
        return not self.ranks.any(bool(np.any(x)))

    def _diagnose(self):
        if not all_finite(self.b):
            return Reason.NONFINITE_RHS
        if self._passes <= 1 and not all_finite(self.x):
            return Reason.NONFINITE_START
        with np.errstate(all="ignore"):
            ones, product = np.ones(self.n, self.dtype), self.empty(self.A.shape[0])
            if not all_finite(self.A.apply(ones, product)):
                return Reason.NONFINITE_OPERATOR
            if not self.M.identity:
                if not all_finite(self.M.apply(ones, self.empty())):
                    return Reason.NONFINITE_PRECONDITIONER
        return Reason.OVERFLOW


def solve_petsc(loop: Callable, A: Any, b: Any, x0: Any, *, method: str, rtol: float = 1e-5,
                atol: float = 0.0, maxiter: int | None = None, M: Any = None,
                callback: Callable | None = None, needs: tuple[str, ...] = (), limit: int = 10,
                **rest: Any) -> tuple[Any, SolveInfo]:  # fmt: skip
    """Run a method's loop on PETSc's operands; as `krylearn.interface.solve_with`, which calls it.

    Parameters
    ----------
    A : petsc4py.PETSc.Mat or what `as_matrix` has made of one
    b, x0 : petsc4py.PETSc.Vec; on one rank arrays too
    M : petsc4py.PETSc.PC, name of a registered preconditioner, or, on one rank, as for `cg`

    Returns
    -------
    x : petsc4py.PETSc.Vec
        An array where b is one.
    info : SolveInfo
    """
    from krylearn.interface import solve_with

    settings = dict(method=method, rtol=rtol, atol=atol, maxiter=maxiter, callback=callback,
                    needs=needs, limit=limit, **rest)  # fmt: skip
    A = as_matrix(A) if in_petsc(A) else A
    if not isinstance(A, PetscMatrix):
        M = _Wrapped(PCOperator(M)) if in_petsc(M) else M
        x, info = solve_with(loop, A, _array(b), _array(x0), M=M, **settings)
        return _like(b, x), info
    return _over_ranks(loop, A, b, x0, M, settings)


def on_one_rank(function: Callable, A: Any, b: Any, x0: Any, **settings: Any) -> tuple[Any, Any]:
    """Call a function of this library with PETSc's operands; x is what b is.

    Raises
    ------
    ValueError
        If A lies on several ranks.
    """
    A = as_matrix(A) if in_petsc(A) else A
    if isinstance(A, PetscMatrix):
        raise ValueError(
            "solve chooses among methods for entries on one rank; over ranks call a method, such "
            'as kl.cg(A, b, M="multigrid"), or krylearn.petsc.Auto'
        )
    x, info = function(A, _array(b), _array(x0), **settings)
    return _like(b, x), info


class _Wrapped(Preconditioner):
    """A PETSc preconditioner where this library's own loop runs on one rank."""

    linear = None  # type: ignore[assignment]
    symmetric = None  # type: ignore[assignment]

    def __init__(self, operator: PCOperator) -> None:
        super().__init__(operator.shape, operator.dtype)
        self.operator = operator

    def apply(self, r, out):
        return self.operator.apply(r, out)


def _over_ranks(loop: Callable, A: PetscMatrix, b: Any, x0: Any, M: Any,
                settings: dict[str, Any]) -> tuple[Any, SolveInfo]:  # fmt: skip
    started, method = time.perf_counter(), settings["method"]
    ranks = Ranks(A.matrix.getComm())
    if method not in OVER_RANKS and ranks.size > 1:
        raise ValueError(f"{method} does not run over ranks; {', '.join(OVER_RANKS)} do")
    if not in_petsc(b) or (x0 is not None and not in_petsc(x0)):
        raise TypeError("with a matrix over several ranks, b and x0 must be vectors of PETSc")
    not_negative(rtol=settings["rtol"], atol=settings["atol"])
    n = A.shape[0]
    maxiter = settings["limit"] * n if settings["maxiter"] is None else int(settings["maxiter"])
    operator = MatOperator(A.matrix)
    preconditioner, setup = _preconditioner(M, A, method, settings["needs"], operator)
    rhs, x = _part(b, operator.shape[0]), _part(x0, operator.shape[1])
    try:
        with spread_over(ranks), np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            solve = (A.solve_class or DistributedSolve)(
                operator, rhs, x, preconditioner, rtol=settings["rtol"], atol=settings["atol"],
                maxiter=maxiter, callback=settings["callback"], ranks=ranks, unknowns=n,
            )  # fmt: skip
            run_loop(loop, solve)
    finally:
        operator.close()
        if isinstance(preconditioner, MatOperator):
            preconditioner.close()
        ranks.close()
    info = solve.info(method, setup, time.perf_counter() - started)
    return _like(A.matrix.createVecRight(), solve.x[: operator.columns]), info


def _preconditioner(M: Any, A: PetscMatrix, method: str, needs: tuple[str, ...],
                    operator: Operator) -> tuple[Operator, float]:  # fmt: skip
    if M is None:
        return Identity(operator.shape, operator.dtype), 0.0
    if isinstance(M, str):
        from krylearn.petsc import pc

        registry.find("preconditioner", M)
        made = petsc().PC().create(A.matrix.getComm())
        made.setOperators(A.matrix)
        context = pc(made, M)
        made.setUp()
        if context.failed:
            raise ValueError(f"the preconditioner {M!r} could not be set up; see the message above")
        return _suited(PCOperator(made), method, needs), context.M.setup_seconds
    if in_petsc(M):
        return _suited(PCOperator(M), method, needs), 0.0
    M = check_preconditioner(M, operator.shape[1], method, needs)
    return LocalPreconditioner(M), float(getattr(M, "setup_seconds", 0.0))


def _suited(operator: PCOperator, method: str, needs: tuple[str, ...]) -> PCOperator:
    """Return a preconditioner of PETSc, unless it is one of this library's that does not suit."""
    context = operator.pc.getPythonContext() if operator.pc.getType() == "python" else None
    M = getattr(context, "M", None)
    if M is not None:
        check_traits(M, method, needs)
    return operator


def _array(value: Any) -> Any:
    return writable(value.getArray(readonly=True)) if in_petsc(value) else value


def _part(vector: Any, n: int) -> np.ndarray:
    """Return a copy of this rank's part, of at least one entry."""
    part = np.zeros(n, petsc().ScalarType)
    if vector is not None:
        values = vector.getArray(readonly=True)  # KSPSolve locks its right-hand side
        part[: len(values)] = values
    return part


def _like(b: Any, x: np.ndarray) -> Any:
    """Return x as what b is; a vector `b` has the layout of x."""
    if not in_petsc(b):
        return x
    vector = b.duplicate()
    vector.setArray(x)
    return vector


def true_residual(A: Any, b: Any, x: Any) -> float:
    """Return ``norm(b - A x)`` of PETSc's operands."""
    r = b.duplicate()
    A.mult(x, r)
    r.aypx(-1.0, b)
    size = float(r.norm())
    r.destroy()
    return size


