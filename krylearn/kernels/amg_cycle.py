"""The parts of a multigrid cycle: hybrid Gauss-Seidel, residual, transfer.

Rows are cut into blocks, as many as the size of the matrix asks for whatever the number of
threads. Gauss-Seidel runs within a block and takes what lies outside as it was before the sweep
(Baker, Falgout, Kolev and Yang 2011, section 5). A sweep backwards is the adjoint of one forwards.

A row of the matrix has its entries left of the diagonal first, the last of them before
``middle[i]``, and those right of it last. ``kind[i]`` is the sum of LEFT and RIGHT, where the row
has entries outside its block on that side, and HEAVY, where its diagonal was raised.
"""

from __future__ import annotations

import numpy as np

from krylearn.kernels.parallel import jit, parallel_for

GRAIN = 8192
# Rows a block at least, and the most blocks.
BLOCK, BLOCKS = 16384, 16
LEFT, RIGHT, HEAVY = 1, 2, 4
# The entries outside its block that a row may have, as a share of its diagonal, before that is
# raised.
SLACK = 0.5


def cut(n: int) -> np.ndarray:
    """Return the ends of the blocks of n rows."""
    blocks = max(1, min(BLOCKS, n // BLOCK))
    return np.array([n * k // blocks for k in range(blocks + 1)], np.int64)


@jit
def _prepare(first, last, cuts, hermitian, indptr, indices, data, kind, gain):
    one = np.uint64(1)
    for block in range(first, last):
        start, stop = np.uint64(cuts[block]), np.uint64(cuts[block + 1])
        for i in range(start, stop):
            outside, total = data.real.dtype.type(0), data.real.dtype.type(0)
            what = 0
            own = data.dtype.type(0)
            for k in range(indptr[i], indptr[i + one]):
                j = np.uint64(indices[k])
                total += abs(data[k])
                if j < start:
                    what |= LEFT
                    outside += abs(data[k])
                elif j >= stop:
                    what |= RIGHT
                    outside += abs(data[k])
                elif j == i:
                    own += data[k]
            size = abs(own)
            # The sweep converges where M + M^H - A is positive definite, M = D' + L: so it is.
            raised = max(size, ((1 + SLACK) * size + outside) / 2)
            if size == 0:
                raised = total if total > 0 else total + 1
            diagonal = data.dtype.type(raised)
            if not hermitian and size > 0:
                diagonal *= own / size
            if raised > size or (hermitian and own.real < 0):
                what |= HEAVY
            kind[i] = what
            gain[i] = 1 / diagonal


def prepare(cuts: np.ndarray, hermitian: bool, A: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Return the kind and the gain, the inverse of its possibly raised diagonal, of each row."""
    n = A[0].shape[0] - 1
    kind, gain = np.empty(n, np.uint8), np.empty(n, A[2].dtype)
    parallel_for(_prepare, cuts.shape[0] - 1, 1, cuts, hermitian, *A, kind, gain)
    return kind, gain


@jit
def _forward_zero(first, last, cuts, indptr, indices, data, middle, gain, b, x):
    for block in range(first, last):
        start = np.uint64(cuts[block])
        for i in range(start, np.uint64(cuts[block + 1])):
            total = b[i]
            for k in range(indptr[i], middle[i]):
                j = np.uint64(indices[k])
                if j >= start:
                    total -= data[k] * x[j]
            x[i] = total * gain[i]


@jit
def _forward(first, last, cuts, indptr, indices, data, kind, gain, b, old, x):
    one = np.uint64(1)
    for block in range(first, last):
        start, stop = np.uint64(cuts[block]), np.uint64(cuts[block + 1])
        for i in range(start, stop):
            total = b[i]
            if kind[i] & (LEFT + RIGHT) == 0:
                for k in range(indptr[i], indptr[i + one]):
                    total -= data[k] * x[indices[k]]
            else:
                for k in range(indptr[i], indptr[i + one]):
                    j = np.uint64(indices[k])
                    total -= data[k] * (x[j] if start <= j and j < stop else old[j])
            x[i] += total * gain[i]


@jit
def _backward(first, last, cuts, indptr, indices, data, kind, gain, b, old, x):
    one = np.uint64(1)
    for block in range(first, last):
        start, stop = np.uint64(cuts[block]), np.uint64(cuts[block + 1])
        i = stop
        while i > start:
            i -= one
            total = b[i]
            if kind[i] & (LEFT + RIGHT) == 0:
                for k in range(indptr[i], indptr[i + one]):
                    total -= data[k] * x[indices[k]]
            else:
                for k in range(indptr[i], indptr[i + one]):
                    j = np.uint64(indices[k])
                    total -= data[k] * (x[j] if start <= j and j < stop else old[j])
            x[i] += total * gain[i]


@jit
def _residual(lo, hi, indptr, indices, data, b, x, r):
    one = np.uint64(1)
    for i in range(np.uint64(lo), np.uint64(hi)):
        total = b[i]
        for k in range(indptr[i], indptr[i + one]):
            total -= data[k] * x[indices[k]]
        r[i] = total


@jit
def _residual_swept(lo, hi, indptr, indices, data, middle, kind, b, x, r):
    """The residual after one sweep forwards from zero: that of the entries not yet seen."""
    one = np.uint64(1)
    for i in range(np.uint64(lo), np.uint64(hi)):
        if kind[i] & (LEFT + HEAVY) == 0:
            total = b[i] * 0
            for k in range(middle[i] + one, indptr[i + one]):
                total -= data[k] * x[indices[k]]
        else:
            total = b[i]
            for k in range(indptr[i], indptr[i + one]):
                total -= data[k] * x[indices[k]]
        r[i] = total


@jit
def _multiply(lo, hi, indptr, indices, data, x, y):
    one = np.uint64(1)
    for i in range(np.uint64(lo), np.uint64(hi)):
        total = y.dtype.type(0)
        for k in range(indptr[i], indptr[i + one]):
            total += data[k] * x[indices[k]]
        y[i] = total


@jit
def _multiply_add(lo, hi, indptr, indices, data, x, y):
    one = np.uint64(1)
    for i in range(np.uint64(lo), np.uint64(hi)):
        total = y[i]
        for k in range(indptr[i], indptr[i + one]):
            total += data[k] * x[indices[k]]
        y[i] = total


@jit
def _cast(lo, hi, scale, x, y):
    for i in range(np.uint64(lo), np.uint64(hi)):
        y[i] = x[i] * scale


def residual(A: tuple, b: np.ndarray, x: np.ndarray, r: np.ndarray) -> None:
    """Do ``r = b - A @ x``."""
    parallel_for(_residual, r.shape[0], GRAIN, *A, b, x, r)


def multiply(A: tuple, x: np.ndarray, y: np.ndarray) -> None:
    """Do ``y = A @ x``."""
    parallel_for(_multiply, y.shape[0], GRAIN, *A, x, y)


def multiply_add(A: tuple, x: np.ndarray, y: np.ndarray) -> None:
    """Do ``y += A @ x``."""
    parallel_for(_multiply_add, y.shape[0], GRAIN, *A, x, y)


def cast(x: np.ndarray, y: np.ndarray, scale: float = 1.0) -> None:
    """Do ``y = scale * x`` in another precision."""
    wide = np.result_type(x.real.dtype, y.real.dtype).type
    parallel_for(_cast, y.shape[0], 4 * GRAIN, wide(scale), x, y)


# -- smoothers ---------------------------------------------------------------------------------


class GaussSeidel:
    """Hybrid Gauss-Seidel on one level, before and after the coarse correction.

    Parameters
    ----------
    A : CSR triple
        Rows in parts.
    middle : (n,) array
    hermitian : bool
    ahead, back : tuple of bool
        The sweeps before and those after: True forwards, False backwards.
    omega : float
        Over-relaxation.
    """

    def __init__(self, A: tuple, middle: np.ndarray, hermitian: bool, ahead: tuple = (True,),
                 back: tuple = (False,), omega: float = 1.0) -> None:  # fmt: skip
        self.A, self.middle, self.ahead, self.back, self.omega = A, middle, ahead, back, omega
        self.cuts = cut(middle.shape[0])
        self.kind, self.gain = prepare(self.cuts, hermitian, A)
        if omega != 1:
            self.gain *= self.gain.dtype.type(omega)

    def before(self, b: np.ndarray, x: np.ndarray, r: np.ndarray) -> None:
        """Relax from zero; write the iterate into x and its residual into r."""
        first = self.ahead[:1] == (True,)
        if first:
            blocks = self.cuts.shape[0] - 1
            parallel_for(_forward_zero, blocks, 1, self.cuts, *self.A, self.middle, self.gain, b, x)
        else:
            x[:] = 0
        for forwards in self.ahead[first:]:
            self._sweep(forwards, b, x, r)
        if self.ahead == (True,) and self.omega == 1:
            parallel_for(_residual_swept, r.shape[0], GRAIN, *self.A, self.middle, self.kind,
                         b, x, r)  # fmt: skip
        else:
            residual(self.A, b, x, r)

    def after(self, b: np.ndarray, x: np.ndarray, r: np.ndarray) -> None:
        """Relax x; r is room to work in."""
        for forwards in self.back:
            self._sweep(forwards, b, x, r)

    def _sweep(self, forwards: bool, b: np.ndarray, x: np.ndarray, r: np.ndarray) -> None:
        blocks = self.cuts.shape[0] - 1
        if blocks > 1:
            cast(x, r)
        kernel = _forward if forwards else _backward
        parallel_for(kernel, blocks, 1, self.cuts, *self.A, self.kind, self.gain, b, r, x)


@jit
def _add_scaled(lo, hi, gain, r, x):
    for i in range(np.uint64(lo), np.uint64(hi)):
        x[i] += gain[i] * r[i]


@jit
def _polynomial_step(lo, hi, a, r, q, h):
    for i in range(np.uint64(lo), np.uint64(hi)):
        h[i] = a * r[i] + q[i]


class Jacobi:
    """Damped Jacobi on one level, some sweeps before and some after the coarse correction."""

    def __init__(self, A: tuple, d: np.ndarray, omega: float, ahead: int, back: int) -> None:
        self.A, self.omega, self.ahead, self.back = A, omega, ahead, back
        self.gain = (omega / np.where(d != 0, d, np.inf)).astype(A[2].dtype)

    def before(self, b: np.ndarray, x: np.ndarray, r: np.ndarray) -> None:
        """Relax from zero; write the iterate into x and its residual into r."""
        x[:] = 0
        self._relax(self.ahead, b, x, r)
        residual(self.A, b, x, r)

    def after(self, b: np.ndarray, x: np.ndarray, r: np.ndarray) -> None:
        """Relax x; r is room to work in."""
        self._relax(self.back, b, x, r)

    def _relax(self, sweeps: int, b: np.ndarray, x: np.ndarray, r: np.ndarray) -> None:
        for _ in range(sweeps):
            residual(self.A, b, x, r)
            parallel_for(_add_scaled, x.shape[0], GRAIN, self.gain, r, x)


class Polynomial:
    """``x += p(A) r`` on one level, some times before and after the coarse correction.

    `coefficients` are those of p, the highest power first.
    """

    def __init__(self, A: tuple, coefficients: np.ndarray, ahead: int, back: int) -> None:
        self.A, self.coefficients, self.ahead, self.back = A, coefficients, ahead, back

    def before(self, b: np.ndarray, x: np.ndarray, r: np.ndarray) -> None:
        """Relax from zero; write the iterate into x and its residual into r."""
        x[:] = 0
        self._relax(self.ahead, b, x, r)
        residual(self.A, b, x, r)

    def after(self, b: np.ndarray, x: np.ndarray, r: np.ndarray) -> None:
        """Relax x; r is room to work in."""
        self._relax(self.back, b, x, r)

    def _relax(self, times: int, b: np.ndarray, x: np.ndarray, r: np.ndarray) -> None:
        for _ in range(times):
            residual(self.A, b, x, r)
            # Horner's rule.
            h, q = np.zeros_like(r), np.zeros_like(r)
            for a in self.coefficients.astype(r.dtype):
                multiply(self.A, h, q)
                parallel_for(_polynomial_step, r.shape[0], GRAIN, a, r, q, h)
            x += h
