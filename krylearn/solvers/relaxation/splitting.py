"""Preconditioners made from the entries of a matrix, and those among them that sweep."""

from __future__ import annotations

import math
import threading
import time
from typing import Any

import numpy as np
import scipy.sparse as sp

from krylearn.interface import Reason
from krylearn.kernels import relaxation, triangular
from krylearn.kernels.schedule import Schedule, colouring, properly_coloured, schedule
from krylearn.operators import Preconditioner, canonical_csr, matrix_like, unsigned_indices
from krylearn.petsc.library import in_petsc
from krylearn.solvers.relaxation.spectrum import jacobi_radius, youngs_omega

_DTYPES = (np.float32, np.float64, np.complex64, np.complex128)


def working_dtype(*operands: Any) -> np.dtype:
    """Return the one of the four floating dtypes that holds the operands."""
    kinds = [
        np.dtype(o.dtype) if getattr(o, "dtype", None) is not None else np.asarray(o).dtype
        for o in operands
        if o is not None and not isinstance(o, str)
    ]
    dtype = np.result_type(np.float32, *(kind for kind in kinds if kind.kind in "biufc"))
    if dtype in _DTYPES:
        return dtype
    return np.dtype(np.complex128 if dtype.kind == "c" else np.float64)


def square_csr(A: Any, name: str, dtype: Any = None) -> Any:
    """Return the entries of a square `A` as canonical CSR in a working dtype.

    Raises
    ------
    TypeError
        If `A` gives products only, or holds no numbers.
    ValueError
        If `A` is not square.
    """
    if in_petsc(A):
        A = matrix_like(A)
    if not sp.issparse(A) and not hasattr(A, "tocsr"):
        if getattr(A, "over_ranks", False):
            raise TypeError(
                f"{name} needs the entries of A in one process; over ranks make it a part of the "
                "solver, as kl.petsc.pc(ksp.getPC(), ...) does, or name it: M=\"multigrid\""
            )
        if hasattr(A, "matvec"):
            raise TypeError(
                f"{name} needs the entries of A: a sparse matrix, an array, or an operator with "
                f"tocsr(), not {type(A).__name__}"
            )
        A = np.asarray(A)
    if len(A.shape) != 2 or A.shape[0] != A.shape[1]:
        raise ValueError(f"{name} needs a square matrix, not one of shape {tuple(A.shape)}")
    if A.dtype.kind not in "biufc":
        raise TypeError(f"A holds {A.dtype} elements; numbers are needed")
    A = canonical_csr(A)
    dtype = working_dtype(A) if dtype is None else np.dtype(dtype)
    return A if A.dtype == dtype else A.astype(dtype)


def all_finite(A: Any) -> bool:
    """Return whether a CSR matrix holds neither NaN nor Inf."""
    return bool(np.isfinite(A.data).all())


class SplittingPreconditioner(Preconditioner):
    """Base of what is made from the entries of a matrix; subclasses fill in `_numeric`."""

    name = "splitting"

    def __init__(self, A: Any) -> None:
        started = time.perf_counter()
        A = self._entries(A)
        super().__init__(A.shape, A.dtype)
        self._pattern = unsigned_indices(A)
        self._symbolic(A)
        self._numeric(A)
        self.setup_seconds = time.perf_counter() - started

    def update(self, A: Any) -> Any:
        """Take new values on the same pattern, reusing what depends on the pattern alone.

        Parameters
        ----------
        A : {sparse array, ndarray, GridOperator}, shape (n, n)

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the pattern differs.
        """
        started = time.perf_counter()
        A = self._entries(A, self.dtype)
        pattern = unsigned_indices(A)
        if A.shape != self.shape or not all(map(np.array_equal, pattern, self._pattern)):
            raise ValueError(
                f"update needs the pattern that this {type(self).__name__} was made for; "
                "make a new one"
            )
        self._numeric(A)
        self.setup_seconds = time.perf_counter() - started
        return self

    def _entries(self, A: Any, dtype: Any = None) -> Any:
        A = square_csr(A, self.name, dtype)
        if not all_finite(A):
            raise ValueError(f"{self.name}: A holds NaN or Inf")
        return self._prepare(A)

    def _prepare(self, A: Any) -> Any:
        """Return `A` with the pattern that is wanted."""
        return A

    def _symbolic(self, A: Any) -> None:
        """Make what depends on the pattern alone."""

    def _numeric(self, A: Any) -> None:
        raise NotImplementedError

    def _diagonal(self, A: Any) -> np.ndarray:
        d = relaxation.diagonal(*self._pattern, A.data)
        zero = np.flatnonzero(d == 0)
        if len(zero):
            raise ValueError(f"{self.name} divides by the diagonal, which is zero in row {zero[0]}")
        return d

    def _matvec(self, x):
        # scipy hands over what its caller has; a complex vector has two real parts.
        if np.iscomplexobj(x) and self.dtype.kind != "c":
            return self._matvec(x.real) + 1j * self._matvec(x.imag)
        return super()._matvec(x)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of shape {self.shape}, dtype {self.dtype}>"


def make_schedule(pattern: tuple, order: str) -> Schedule:
    """Return the schedule of sweeps in the given order.

    Raises
    ------
    ValueError
        If the order is neither 'natural' nor 'multicolour'.
    """
    if order == "natural":
        return schedule(*pattern)
    if order != "multicolour":
        raise ValueError(f"order must be 'natural' or 'multicolour', not {order!r}")
    indptr, indices = pattern
    colours = colouring(*pattern)
    if not properly_coloured(indptr, indices, colours):
        # The greedy colours saw an edge from one side only: colour the symmetric pattern.
        n = indptr.shape[0] - 1
        signed = indices.dtype.str.replace("u", "i")
        ones = np.ones(indices.shape[0], bool)
        half = sp.csr_array((ones, indices.view(signed), indptr.view(signed)), shape=(n, n))
        colours = colouring(*unsigned_indices(canonical_csr(half + half.T)))
    return schedule(indptr, indices, colours)


class Sweeps(SplittingPreconditioner):
    """Base of Gauss-Seidel, SOR and SSOR: sweeps over the rows, starting from zero.

    Parameters
    ----------
    A : {sparse array, ndarray, GridOperator}, shape (n, n)
    omega : float, 'young' or policy
    order : {'natural', 'multicolour'}
    sweeps : int
    direction : {'forward', 'backward', 'symmetric'}

    Attributes
    ----------
    policy : policy or None
        What chooses omega at every update.
    """

    def __init__(self, A: Any, omega: Any, order: str, sweeps: int, direction: str,
                 context: Any = None) -> None:  # fmt: skip
        if direction not in ("forward", "backward", "symmetric"):
            raise ValueError(
                f"direction must be 'forward', 'backward' or 'symmetric', not {direction!r}"
            )
        if sweeps != int(sweeps) or sweeps < 1:
            raise ValueError(f"sweeps must be an integer >= 1, not {sweeps!r}")
        self.order, self.direction, self.sweeps = order, direction, int(sweeps)
        # NumPy scalars have a method `choose` of their own.
        self.policy = omega if hasattr(omega, "observe") else None
        self._untold = False
        self._young = isinstance(omega, str)
        self.omega = omega
        if self.policy is not None:
            self._ask(context)
        elif not self._young:
            self.omega = self._checked(omega)
        elif omega != "young":
            raise ValueError(f"omega must be a number, 'young' or a policy, not {omega!r}")
        super().__init__(A)

    @staticmethod
    def _checked(omega: Any) -> float:
        omega = float(omega)
        if not 0 < omega < 2:
            raise ValueError(f"omega must lie between 0 and 2, not be {omega}")
        return omega

    def _ask(self, context: Any) -> None:
        if self.policy is not None:
            self.omega = self._checked(self.policy.choose(context))
            self._untold = True

    def update(self, A: Any, context: Any = None) -> Any:
        """Take new values on the same pattern; a policy chooses anew.

        Parameters
        ----------
        A : {sparse array, ndarray, GridOperator}, shape (n, n)
        context : object, optional
            What a policy's ``choose`` is told about this system.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the pattern differs.
        """
        self._ask(context)
        return super().update(A)

    def observe(self, info: Any) -> None:
        """Tell the policy, once a choice, what a solve with it has cost."""
        if self.policy is None or not self._untold:
            return
        self._untold = False
        if not info.converged and info.reason is not Reason.STOPPED:
            self.policy.observe(math.inf)
        elif getattr(self.policy, "loss", "iterations") == "seconds":
            self.policy.observe(info.setup_seconds + info.solve_seconds)
        else:
            self.policy.observe(info.iterations)

    def _symbolic(self, A):
        self._plan = make_schedule(self._pattern, self.order)
        self._parts = None

    def _numeric(self, A):
        d = self._diagonal(A)
        hermitian = relaxation.is_hermitian(*self._pattern, A.data)
        if self._young:
            self.omega = self._youngs_omega(A, d, hermitian)
        self._scale = (self.omega / d).astype(self.dtype)
        self._parts = triangular.split(*self._pattern, A.data, self._plan, self._parts)
        for part in self._parts:
            triangular.number_by_rows(part, self._plan)
            triangular.scale_rows(part, self._plan, self._scale)
        self._first = self._scale
        if self.direction == "symmetric":
            # (2 - omega) omega inv(D + omega U) D inv(D + omega L), factors of D gathered in front.
            self._first = self._scale * self._scale.dtype.type(2 - self.omega)
        self.symmetric = hermitian and self.direction == "symmetric"
        self.positive_definite = None
        if self.symmetric and np.any(d.real < 0):
            self.positive_definite = False
        elif self.symmetric and self.sweeps == 1:
            self.positive_definite = True

    def _youngs_omega(self, A, d, hermitian):
        if self.direction != "symmetric":
            return youngs_omega(jacobi_radius(A, d, hermitian))
        # There and back relaxes the last colour twice on end, so that over-relaxation brings
        # nothing: 1 is best on model problems.
        if self.order == "multicolour":
            return 1.0
        # In the natural order omega matters little here: a rough estimate will do.
        return youngs_omega(jacobi_radius(A, d, hermitian, settled=0.1))

    def apply(self, r, out):
        """Write what the sweeps make of zero, for the right-hand side `r`, into `out`."""
        assert self._parts is not None
        forward, backward = self.direction != "backward", self.direction != "forward"
        if self.sweeps > 1 and np.may_share_memory(r, out):
            r = r.copy()
        if not forward:
            r_scaled = relaxation.times(self._first, r, out)
            triangular.solve(self._plan, *self._parts, self._first, r_scaled, out, False, True)
        else:
            triangular.solve(self._plan, *self._parts, self._first, r, out, True, backward)
        for _ in range(self.sweeps - 1):
            self.sweep(r, out)
        return out

    def to(self, device: str) -> Any:
        """Return the preconditioner on another device: 'cuda', or 'cpu', where it lies.

        Raises
        ------
        ValueError
            If the order is not 'multicolour', which alone has a counterpart on CUDA.
        """
        from krylearn.cuda.preconditioners import moved

        return moved(self, device)

    def in_kernels(self):
        if self.sweeps > 1 or self.direction == "backward":
            return None
        both = self.direction == "symmetric"
        return triangular.Sweeps(self._plan, *self._parts, self._first, both)

    def sweep(self, b, x):
        """Sweep once over `x` in place; return the norm of the residuals met in passing."""
        assert self._parts is not None
        forward, backward = self.direction != "backward", self.direction != "forward"
        return relaxation.relax(
            self._plan, *self._parts, self._scale, self.omega, b, x, forward, backward
        )


class Workspace(threading.local):
    """Work arrays of one thread; they stay behind when their owner is pickled."""

    def get(self, count: int, n: int, dtype: Any) -> np.ndarray:
        """Return a (count, n) array with arbitrary contents."""
        held = self.__dict__.get("held")
        if held is None or held.shape != (count, n) or held.dtype != dtype:
            held = self.__dict__["held"] = np.empty((count, n), dtype)
        return held

    def __reduce__(self):
        return Workspace, ()
