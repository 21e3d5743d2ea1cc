"""The solve phase of algebraic multigrid on the device; the set-up is the host's."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import scipy.sparse as sp

from krylearn.cuda import arrays
from krylearn.cuda.arrays import empty, upload, zeros
from krylearn.cuda.operators import CudaDense, CudaOperator
from krylearn.kernels.cuda import csr, scalars, vector
from krylearn.kernels.cuda.launch import accumulator, blocks_for
from krylearn.solvers.relaxation.chebyshev import UPPER, recurrence
from krylearn.solvers.relaxation.spectrum import lanczos_bounds

# The smoother: degree of the polynomial, and its upper bound over its lower. A sweep of the host's
# Gauss-Seidel is a product with A and so is each degree but the first.
DEGREE, RATIO = 2, 4.0


class _Matrix:
    """A matrix of the hierarchy, square or not."""

    def __init__(self, triple: tuple) -> None:
        indptr, indices, data = triple
        narrow = [upload(part.astype(np.int32)).view(np.uint32) for part in (indptr, indices)]
        self._arrays = narrow[0], narrow[1], upload(data)
        self._lanes = csr.lanes_for(len(indptr) - 1, len(data))

    def times(self, log: Any, x: Any, out: Any) -> None:
        csr.product(log, self._lanes, *self._arrays, x, out)

    def add(self, log: Any, x: Any, out: Any) -> None:
        csr.add(log, self._lanes, *self._arrays, x, out)

    def residual(self, log: Any, b: Any, x: Any, out: Any) -> None:
        csr.residual(log, self._lanes, *self._arrays, b, x, out)


class _Level:
    def __init__(self, level: Any) -> None:
        self.n = level.n
        self.A = _Matrix(level.A)
        self.P = None if level.P is None else _Matrix(level.P)
        self.R = None if level.R is None else _Matrix(level.R)
        n, data = level.n, level.A[2]
        signed = [part.astype(np.int32) for part in level.A[:2]]
        A = sp.csr_array((data, signed[1], signed[0]), shape=(n, n))
        d = A.diagonal().real
        if not np.all(d > 0):
            raise ValueError("on CUDA multigrid needs a positive diagonal on all levels")
        self.scale = upload((1 / d).astype(data.dtype))
        high = UPPER * lanczos_bounds(A, d, steps=20, settled=0.1)[1]
        steps = recurrence((high / RATIO, high))
        self.steps = [next(steps) for _ in range(DEGREE)]


class CudaMultigrid(CudaOperator):
    """A cycle of algebraic multigrid, smoothed by Chebyshev polynomials.

    Gauss-Seidel, the host's smoother, has no counterpart here: it would wait for itself.

    Parameters
    ----------
    M : AlgebraicMultigrid
        Of a Hermitian matrix.
    """

    def __init__(self, M: Any) -> None:
        super().__init__(M.shape, M.dtype)
        if not M._hermitian:
            raise ValueError("multigrid on CUDA needs a Hermitian matrix; solve on the CPU")
        self.symmetric, self.positive_definite = M.symmetric, M.positive_definite
        self._cycle, self._inside = M.cycle, np.dtype(M.cycle_dtype)
        self._unit = M._unit
        self._levels = [_Level(level) for level in M.levels]
        self._inverse = None
        if M._inverse is not None:
            inverse = upload(M._inverse.astype(self._inside))
            on_device = inverse if arrays.simulated() else arrays.tensor_of(inverse)
            self._inverse = CudaDense(on_device)
        self.setup_seconds = M.setup_seconds
        self._allocate()

    def _allocate(self) -> None:
        # b, x, what is left of b, the last correction, and a product, for each level.
        self._work = [[empty(level.n, self._inside) for _ in range(5)] for level in self._levels]
        accurate = accumulator(self.dtype)
        self._T, self._squares = zeros(2, accurate), zeros(blocks_for(self.shape[0]), accurate)

    def fresh(self):
        new = copy.copy(self)
        new._allocate()
        return new

    def apply(self, log, x, out):
        b, y, *_ = self._work[0]
        if self._inside == self.dtype:
            vector.copy(log, x, b)
            self._descend(log, 0, self._cycle)
            vector.copy(log, y, out)
            return
        # Scaled, since single precision has few exponents.
        vector.dot(log, x, x, self._squares)
        scalars.run(scalars.scale_to_one, log, self._T, self._unit, self._squares)
        vector.cast(log, self._T, 0, x, b)
        self._descend(log, 0, self._cycle)
        vector.cast(log, self._T, 1, y, out)

    def _descend(self, log: Any, depth: int, cycle: str) -> None:
        level, work = self._levels[depth], self._work[depth]
        b, x, rest, d, q = work
        if level.P is None or level.R is None:
            if self._inverse is not None:
                self._inverse.apply(log, b, x)
                return
            self._smooth(log, depth, from_zero=True)
            self._smooth(log, depth, from_zero=False)
            return
        self._smooth(log, depth, from_zero=True)
        level.A.residual(log, rest, d, q)
        below = self._work[depth + 1]
        level.R.times(log, q, below[0])
        self._descend(log, depth + 1, cycle)
        level.P.add(log, below[1], x)
        if cycle != "V" and self._levels[depth + 1].P is not None:
            self._levels[depth + 1].A.residual(log, below[0], below[1], below[4])
            below[0], below[4] = below[4], below[0]
            self._descend(log, depth + 1, "V" if cycle == "F" else cycle)
            level.P.add(log, below[1], x)
        self._smooth(log, depth, from_zero=False)

    def _smooth(self, log: Any, depth: int, from_zero: bool) -> None:
        """Let the polynomial work on x; leave what is left of b before the last correction."""
        level = self._levels[depth]
        b, x, rest, d, q = self._work[depth]
        (_, gain), *steps = level.steps
        if from_zero:
            vector.chebyshev_start(log, gain, level.scale, b, rest, d, x)
        else:
            level.A.residual(log, b, x, rest)
            vector.chebyshev_start(log, gain, level.scale, rest, rest, d, x, add=True)
        for keep, gain in steps:
            level.A.times(log, d, q)
            vector.chebyshev_step(log, keep, gain, level.scale, q, rest, d, x)

    def astype(self, dtype):
        if np.dtype(dtype) == self.dtype:
            return self
        raise TypeError(f"this multigrid is of {self.dtype}; make one of a {dtype} matrix")
