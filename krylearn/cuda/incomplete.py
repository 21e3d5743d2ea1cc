"""Incomplete Cholesky on the device, for grid operators: red and black points, nothing waits."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from krylearn.cuda import arrays
from krylearn.cuda.arrays import shared, upload
from krylearn.cuda.operators import CudaGridOperator, CudaOperator
from krylearn.cuda.sweeps import two_colours
from krylearn.kernels.cuda import sweep
from krylearn.solvers.factorized.ic0 import SHIFT


class CudaIC0(CudaOperator):
    """The twin of ``krylearn.IC0(A, order="multicolour")``: two half sweeps over the pivots.

    Without fill the factors have the couplings of A, and only the pivots are new: those of red
    points are the diagonal, those of black ones are less by what the red neighbours take.

    Parameters
    ----------
    A : CudaGridOperator
        Hermitian, with a positive diagonal.

    Attributes
    ----------
    shift : float
        What the diagonal was multiplied by, less one, until all pivots were positive.

    Raises
    ------
    ValueError
        If A is not Hermitian, its diagonal is not positive, or its points are not red and black.

    References
    ----------
    Meijerink and van der Vorst (1977), Mathematics of Computation 31, 148-162; Saad (2003),
    Iterative Methods for Sparse Linear Systems, sections 10.3.2 and 12.4.
    """

    symmetric = positive_definite = True

    def __init__(self, A: CudaGridOperator) -> None:
        started = time.perf_counter()
        super().__init__(A.shape, A.dtype)
        if not A.symmetric:
            raise ValueError("ic0 needs a Hermitian matrix")
        self._A, grid = A, A.grid
        if any(wraps and n <= 2 for n, wraps in zip(grid.shape, grid.periodic)):
            raise ValueError("ic0 on CUDA needs more than two points along a periodic axis")
        stack = _stack(A)
        self._pivots(stack)
        slots = 3 - grid.ndim
        rows = np.zeros(6, np.int32)
        rows[slots:3] = rows[3 + slots :] = np.arange(1, 1 + grid.ndim)
        flat = stack.reshape(1 + grid.ndim, -1)
        values = upload(flat) if arrays.simulated() else arrays.view(flat.contiguous())
        self._arrays = (upload(rows), 1, values)
        self.setup_seconds = time.perf_counter() - started

    def _pivots(self, stack: Any) -> None:
        """Put the pivots in the place of the diagonal."""
        library, grid = _library(), self._A.grid
        d = stack[0].real if self.dtype.kind == "c" else stack[0]
        if not bool((d > 0).all()):
            raise ValueError("ic0 needs a positive diagonal")
        taken = 0 * d
        places: Any = 0
        for axis, n in enumerate(grid.shape):
            square = abs(stack[1 + axis]) ** 2
            if not grid.periodic[axis]:
                square[(slice(None),) * axis + (n - 1,)] = 0
            taken += square / library.roll(d, -1, axis) + library.roll(square / d, 1, axis)
            along = [1] * grid.ndim
            along[axis] = n
            places = places + library.arange(n).reshape(along)
        red = (places % 2 == 0) if library is np else (places % 2 == 0).to(d.device)
        self.shift = 0.0
        while True:
            grown = 1 + self.shift
            pivots = library.where(red, grown * d, grown * d - taken / grown)
            if bool((pivots > 0).all()):
                break
            self.shift = max(2 * self.shift, SHIFT)
            if not self.shift < 1e10:
                raise ArithmeticError("ic0: no shift of the diagonal makes the pivots positive")
        stack[0] = pivots

    def apply(self, log, x, out):
        geometry = self._A._geometry
        # Forward: red points see nothing before them; backward: black ones nothing behind them.
        sweep.relax_grid(log, 0, 0.0, 1.0, 0.0, geometry, self._arrays, x, out)
        sweep.relax_grid(log, 1, 0.0, 1.0, 1.0, geometry, self._arrays, x, out)
        sweep.relax_grid(log, 0, 1.0, 0.0, 1.0, geometry, self._arrays, x, out)

    def astype(self, dtype):
        return self if np.dtype(dtype) == self.dtype else CudaIC0(self._A.astype(dtype))


def ic0(A: CudaOperator) -> CudaIC0:
    """Return incomplete Cholesky for a grid operator on the device.

    Raises
    ------
    TypeError
        If A is another matrix; the message says what to use.
    """
    if not isinstance(A, CudaGridOperator) or not two_colours(A):
        raise TypeError("ic0 on CUDA takes a grid operator whose points are red and black; for "
                        "other matrices use M='ssor' or 'smoothed_aggregation'")  # fmt: skip
    return CudaIC0(A)


def _library() -> Any:
    if arrays.simulated():
        return np
    import torch

    return torch


def _stack(A: CudaGridOperator) -> Any:
    """Return a copy of the diagonal and the upper couplings: a tensor, or NumPy's array."""
    ndim, shape = A.grid.ndim, A.grid.shape
    if A.fuses:
        values = np.ascontiguousarray(A.wrapped._points()[: 1 + ndim].astype(A.dtype))
        return values if arrays.simulated() else shared(upload(values))
    stack = shared(A._arrays[2]).reshape(-1, *shape)[: 1 + ndim]
    return stack.copy() if arrays.simulated() else stack.clone()
