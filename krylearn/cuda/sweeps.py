"""Gauss-Seidel, SOR and SSOR on the device, through colours; what they need is made on the host."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from krylearn.cuda.arrays import download, upload
from krylearn.cuda.operators import CudaGridOperator, CudaOperator, as_cuda_matrix
from krylearn.interface import SolveInfo, solve_with
from krylearn.kernels.cuda import sweep
from krylearn.solvers.relaxation.splitting import all_finite, square_csr


class CudaSweeps(CudaOperator):
    """Sweeps from zero: see `krylearn.GaussSeidel`, `krylearn.SOR` and `krylearn.SSOR`.

    Parameters
    ----------
    M : GaussSeidel, SOR or SSOR

    Raises
    ------
    ValueError
        If its order is not 'multicolour'.
    """

    def __init__(self, M: Any) -> None:
        super().__init__(M.shape, M.dtype)
        if M.order != "multicolour":
            raise ValueError(
                f"{M.name} in the natural order has no counterpart on CUDA, where rows wait for "
                "none: give order='multicolour'"
            )
        self.symmetric, self.positive_definite = M.symmetric, M.positive_definite
        self.setup_seconds, self._omega, self._sweeps = M.setup_seconds, M.omega, M.sweeps
        self._forward, self._backward = M.direction != "backward", M.direction != "forward"
        plan, slices = M._plan, _Slices(M._plan)
        self._colours = slices.colours
        self._rows = _unsigned(slices.rows)
        self._below, self._above = (slices.stored(part) for part in M._parts)
        self._scale, self._first = (
            upload(slices.spread(values[plan.rows.astype(np.int64)]))
            for values in (M._scale, M._first)
        )

    def apply(self, log, x, out):
        if self._forward:
            for colour in self._colours:
                self._relax(log, colour, 0.0, self._first, True, False, x, out)
        if self._backward:
            for colour in reversed(self._colours):
                if self._forward:
                    self._relax(log, colour, 1.0, None, False, True, x, out)
                else:
                    self._relax(log, colour, 0.0, self._first, False, True, x, out)
        for _ in range(self._sweeps - 1):
            self.sweep(log, x, out)

    def sweep(self, log: Any, b: Any, x: Any) -> None:
        """Queue a sweep over x."""
        keep = 1.0 - self._omega
        ways = [self._colours] * self._forward + [self._colours[::-1]] * self._backward
        for way in ways:
            for colour in way:
                self._relax(log, colour, keep, self._scale, True, True, b, x)

    def astype(self, dtype):
        if np.dtype(dtype) == self.dtype:
            return self
        new = copy.copy(self)
        new.dtype = np.dtype(dtype)
        for name in ("_scale", "_first"):
            setattr(new, name, upload(download(getattr(self, name)).astype(dtype)))
        for name in ("_below", "_above"):
            base, columns, values = getattr(self, name)
            setattr(new, name, (base, columns, upload(download(values).astype(dtype))))
        return new

    def _relax(self, log: Any, colour: tuple[int, int], keep: float, scale: Any, lower: bool,
               upper: bool, b: Any, x: Any) -> None:  # fmt: skip
        sweep.relax(log, *colour, keep, scale, lower, upper, self._rows, self._below, self._above,
                    b, x)  # fmt: skip


class CudaGridSweeps(CudaOperator):
    """Sweeps over red and black points of a grid, from the operator's own coefficients.

    Parameters
    ----------
    M : GaussSeidel, SOR or SSOR
        Of the operator's matrix.
    A : CudaGridOperator
        One that `two_colours` lets pass.
    """

    def __init__(self, M: Any, A: CudaGridOperator) -> None:
        super().__init__(A.shape, A.dtype)
        self._A, self._omega, self._sweeps = A, M.omega, M.sweeps
        self.symmetric, self.positive_definite = M.symmetric, M.positive_definite
        self.setup_seconds = M.setup_seconds
        self._forward, self._backward = M.direction != "backward", M.direction != "forward"

    def apply(self, log, x, out):
        omega = self._omega
        # Factors of the diagonal are gathered in front, as on the CPU.
        first = omega * (2.0 - omega) if self._forward and self._backward else omega
        # The first colour has no neighbours that are not zero.
        start, other = (0, 1) if self._forward else (1, 0)
        self._relax(log, start, 0.0, first, 0.0, x, out)
        self._relax(log, other, 0.0, first, omega, x, out)
        if self._forward and self._backward:
            self._relax(log, 0, 1.0, 0.0, omega, x, out)
        for _ in range(self._sweeps - 1):
            self.sweep(log, x, out)

    def sweep(self, log: Any, b: Any, x: Any) -> None:
        """Queue a sweep over x."""
        ways = [(0, 1)] * self._forward + [(1, 0)] * self._backward
        for way in ways:
            for colour in way:
                self._relax(log, colour, 1.0 - self._omega, self._omega, self._omega, b, x)

    def _relax(self, log: Any, colour: int, keep: float, first: float, around: float, b: Any,
               x: Any) -> None:  # fmt: skip
        sweep.relax_grid(log, colour, keep, first, around, self._A._geometry, self._A._arrays, b,
                         x)  # fmt: skip

    def astype(self, dtype):
        if np.dtype(dtype) == self.dtype:
            return self
        new = copy.copy(self)
        new.dtype, new._A = np.dtype(dtype), self._A.astype(dtype)
        return new


def two_colours(A: Any) -> bool:
    """Return whether A is a grid operator for which red and black do."""
    return isinstance(A, CudaGridOperator) and not any(
        periodic and n % 2 for n, periodic in zip(A.grid.shape, A.grid.periodic)
    )


def on_device(M: Any, A: Any) -> Any:
    """Return the twin of a preconditioner of the operator A."""
    if hasattr(M, "sweep") and M.order == "multicolour" and two_colours(A):
        return CudaGridSweeps(M, A)
    return M.to("cuda")


class _Slices:
    """How the rows of a schedule are cut into slices, none of which holds two colours."""

    def __init__(self, plan: Any) -> None:
        n, wide = len(plan.rows), sweep.SLICE
        ends = plan.tasks[plan.levels]
        place = np.empty(n, np.int64)
        self.colours: list[tuple[int, int]] = []
        at = 0
        for lo, hi in zip(ends[:-1], ends[1:]):
            place[lo:hi] = at * wide + np.arange(hi - lo)
            self.colours.append((at, at + -(-int(hi - lo) // wide)))
            at = self.colours[-1][1]
        self._place, self._count = place, at
        self.rows = np.full(at * wide, n, np.int64)
        self.rows[place] = plan.rows

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Return values of rows in the order of storage, zero where there is no row."""
        out = np.zeros(self._count * sweep.SLICE, values.dtype)
        out[self._place] = values
        return out

    def stored(self, part: Any) -> tuple[Any, Any, Any]:
        """Return where slices begin, and the columns and values of a triangle, on the device."""
        wide = sweep.SLICE
        start = part.indptr.astype(np.int64)
        lengths = np.diff(start)
        widths = np.zeros(self._count, np.int64)
        np.maximum.at(widths, self._place // wide, lengths)
        base = np.append(0, np.cumsum(widths * wide))
        if base[-1] >= 2**32:
            raise ValueError("the matrix has more entries than 32-bit indices reach")
        row = np.repeat(self._place, lengths)
        entry = np.arange(len(row)) - np.repeat(start[:-1], lengths)
        to = base[row // wide] + entry * wide + row % wide
        columns = np.full(max(1, base[-1]), len(lengths), np.int64)
        values = np.zeros(max(1, base[-1]), part.values.dtype)
        columns[to], values[to] = part.columns, part.values
        return _unsigned(base), _unsigned(columns), upload(values)


def _unsigned(numbers: np.ndarray) -> Any:
    return upload(numbers.astype(np.uint32).view(np.int32)).view(np.uint32)


def iterate(make: Callable[[Any], Any], name: str, A: Any, b: Any, x0: Any, loop: Callable | None,
            settings: dict[str, Any]) -> tuple[Any, SolveInfo]:  # fmt: skip
    """Do what `solvers.relaxation.stationary.iterate` does, for operands on the device."""
    from krylearn.cuda import arrays
    from krylearn.interface import solve_dtype
    from krylearn.solvers.relaxation import device

    arrays.require_cuda()
    if not arrays.lies_on_cuda(A):
        raise TypeError("b lies on the CUDA device, A does not: take kl.to_cuda(A)")
    A = as_cuda_matrix(A)
    if not hasattr(A, "to"):
        raise TypeError(f"{name} on CUDA needs a sparse matrix or a grid operator")
    given = [arrays.dtype_of(operand) for operand in (b, x0) if hasattr(operand, "dtype")]
    entries = square_csr(A.to("cpu"), name, solve_dtype(A.dtype, *given))
    if not all_finite(entries):
        return solve_with(device.correct, A, b, x0, method=name, **settings)
    P = make(entries)
    x, info = solve_with(device.loop_of(loop, P), A, b, x0, method=name, M=on_device(P, A),
                         **settings)  # fmt: skip
    P.observe(info)
    return x, info
