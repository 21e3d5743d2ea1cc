"""Steps of Arnoldi's process, compiled as one for matrices that a call from Python outweighs.

Every thread calls the kernel once for many steps. A phase of a step is a set of blocks of rows,
which the threads claim from a counter; whoever finishes the last one does the scalar work of the
phase and opens the next. Since nobody waits for a thread that has not begun, no number of
threads can block the steps; and since sums go block by block, in order, over blocks that depend
on the size alone, the result does not depend on their number.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from krylearn.kernels.dense import rotate
from krylearn.kernels.parallel import get_num_threads, jit, parallel_for
from krylearn.kernels.sweep import _fetch_add, _give_way, _load, wait
from krylearn.kernels.triangular import Sweeps, _solve
from krylearn.kernels.vector import CHUNK, _block_combine, _block_dots

# Rows of a matrix from which a second thread is worth waking, and of a block.
SHARED, BLOCK = 4096, 1024
# Roundings that the inner products of two rows of a basis may amount to.
ROUNDINGS = 2048
# Counters of a phase, which have a cache line to themselves: blocks claimed in all, from the
# front, from the back; blocks done; whether the phase is complete.
_CLAIMED, _FRONT, _BACK, _DONE, _OPEN, _LINE = 0, 1, 2, 3, 4, 8
# Phases of a step: M times v; A times that, and its inner products with the basis; three times the
# projection; the division by the norm.
_APPLY, _PRODUCT, _PROJECT, _NORMALISE, _PHASES = 0, 1, 2, 5, 6


@jit
def _claim(counters, phase, blocks, thread):
    """Return the next block of a phase for a thread, -1 when none is left.

    Every other thread takes from the back, and every other phase begins where the one before it
    has ended, with the rows that are still in cache.
    """
    line, half = phase * _LINE, blocks // 2
    if _fetch_add(counters, line + _CLAIMED, 1) >= blocks:
        return -1
    front = thread % 2 == 0
    block = _fetch_add(counters, line + (_FRONT if front else _BACK), 1)
    block = block if front else blocks - 1 - block
    if phase % 2 == 0:
        return half - 1 - block if block < half else blocks - 1 - (block - half)
    return block


@jit
def _last(counters, phase, blocks):
    """Count a block as done; return whether it was the last of its phase."""
    return _fetch_add(counters, phase * _LINE + _DONE, 1) == blocks - 1


@jit
def _open(counters, phase):
    _fetch_add(counters, phase * _LINE + _OPEN, 1)


@jit
def _await(counters, phase):
    """Return once a phase is complete and its scalar work done."""
    spins = 0
    while _load(counters, phase * _LINE + _OPEN) == 0:
        spins += 1
        if spins > 4096:
            _give_way()


@jit
def _rows(block, blocks, n):
    """Return the first row of a block and the one after its last."""
    return n * block // blocks, n * (block + 1) // blocks


@jit
def _product(start, stop, j, indptr, indices, data, z, W, part):
    """Write rows of ``A @ z`` into ``W[j]``, their inner products with the basis into part."""
    one = np.uint64(1)
    w = W[j]
    total = w[:1].real[0] * 0
    for i in range(np.uint64(start), np.uint64(stop)):
        t = w.dtype.type(0)
        for k in range(indptr[i], indptr[i + one]):
            t += data[k] * z[indices[k]]
        w[i] = t
        total += t.real * t.real + t.imag * t.imag
    part[: j + 1] = 0
    _block_dots(W, j, start, stop, w[start:stop], part)
    part[j] = total


@jit
def _project(start, stop, j, minus, again, W, part):
    """Add ``minus @ W[:j]`` to ``W[j]``, in some rows; leave in part what `_product` does."""
    w = W[j, start:stop]
    _block_combine(W, j, start, stop, minus, w)
    part[: j + 1] = 0
    if again:
        _block_dots(W, j, start, stop, w, part)
    total = w[:1].real[0] * 0
    for i in range(w.shape[0]):
        total += w[i].real * w[i].real + w[i].imag * w[i].imag
    part[j] = total


@jit
def _sum(partial, j, out):
    """Write into out the sums over the blocks."""
    out[: j + 1] = 0
    for block in range(partial.shape[0]):
        for i in range(j + 1):
            out[i] += partial[block, i]


@jit
def _length(x, j):
    total = 0.0
    for i in range(j):
        total += x[i].real * x[i].real + x[i].imag * x[i].imag
    return np.sqrt(total)


@jit
def _foresee(loss, j, h, size, eps, row):
    """Bound the inner products with ``W[:j]`` that one projection leaves; return their norm.

    With ``E = W W^H - I`` they are ``E h`` and a rounding of w.
    """
    total, small = 0.0, eps * size
    row[:j] = small
    for k in range(j):
        along = abs(h[k])
        for i in range(j):
            row[i] += loss[k, i] * along
    for i in range(j):
        total += row[i] * row[i]
    return np.sqrt(total)


@jit
def _remember(loss, j, row, scale):
    for i in range(j):
        loss[i, j] = loss[j, i] = row[i] * scale
    loss[j, j] = 0.0


@jit
def _safe(square):
    """Return whether the sum of squares has neither over- nor underflowed."""
    return 1e-290 < square and square < 1e290


@jit
def _begin_projection(last, partial, sums, h, minus, loss, row, eps, most):
    """After the product: take its coefficients; return its norm, and whether to look again."""
    j = last + 1
    _sum(partial, j, sums)
    square = sums[j].real
    size = np.sqrt(square)
    for i in range(j):
        h[i] = sums[i]
        minus[i] = -sums[i]
    along = _length(h, j)
    below = np.sqrt(max(square - along * along, 0.0))
    # By Pythagoras, to a digit or so unless it is so small that it must be looked at again.
    again = not (below > 1e-4 * size and _foresee(loss, j, h, size, eps, row) <= most * below)
    return size, again


@jit
def _end_projection(last, again, passes, partial, sums, h, minus, loss, row, eps, most):
    """After a projection: return the norm of what is left, and whether to project once more."""
    j = last + 1
    _sum(partial, j, sums)
    below = np.sqrt(sums[j].real)
    if again:
        left = _length(sums, j)
        once_more = passes < 2 and left > most * below
        for i in range(j):
            row[i] = abs(sums[i]) + 2 * eps * below
            if once_more:
                h[i] += sums[i]
                minus[i] = -sums[i]
        if once_more:
            return below, True
    _remember(loss, j, row, 1.0 / below if below > 0.0 else 0.0)
    return below, False


@jit
def _finish(last, kept, below, G, H, cs, sn, g, h):
    """Append the column of a step to G and to the triangular factor; return the residual norm."""
    j = last - kept
    for i in range(last + 1):
        G[last, i] = h[i]
    G[last, last + 1] = below
    for i in range(j + 2):
        H[j, i] = G[last, kept + i]
    return rotate(H[j], j, cs, sn, g)


@jit
def _steps(lo, hi, counters, verdict, norms, blocks, first, count, kept, tolerance, eps, most,
           indptr, indices, data, diagonal, sweeps, turns, W, Z, G, H, cs, sn, g, loss,
           partial, sums, h, minus, row):  # fmt: skip
    """Make up to `count` steps, from ``W[first]`` on.

    verdict : (count, 5) array of zeros
        Of each step: whether to look at the inner products that a projection leaves; the
        projections made; whether to leave before the step is done (1) or after it (2); the norm
        of w and the factor that normalises what is left of it.
    """
    n = W.shape[1]
    for step in range(count):
        last = first + step
        base = step * _PHASES
        j = last - kept
        v = W[last]
        z = v
        if diagonal is not None:
            z = Z[j]
            while True:
                block = _claim(counters, base + _APPLY, blocks, lo)
                if block < 0:
                    break
                start, stop = _rows(block, blocks, n)
                for i in range(np.uint64(start), np.uint64(stop)):
                    z[i] = diagonal[i] * v[i]
                if _last(counters, base + _APPLY, blocks):
                    _open(counters, base + _APPLY)
            _await(counters, base + _APPLY)
        if sweeps is not None:
            z = Z[j]
            plan, lower, upper, scale = sweeps
            phases = turns.shape[1] // _LINE
            _solve(lo, hi, turns[step], 0, phases, plan[0], plan[2], plan[3], lower[0], lower[1],
                   lower[2], upper[0], upper[1], upper[2], scale, v, z)  # fmt: skip
            wait(turns[step], plan[3], phases)
        while True:
            block = _claim(counters, base + _PRODUCT, blocks, lo)
            if block < 0:
                break
            start, stop = _rows(block, blocks, n)
            _product(start, stop, last + 1, indptr, indices, data, z, W, partial[block])
            if _last(counters, base + _PRODUCT, blocks):
                size, again = _begin_projection(last, partial, sums, h, minus, loss, row, eps, most)
                verdict[step, 0] = 1.0 if again else 0.0
                verdict[step, 3] = size
                if not _safe(size * size):
                    verdict[step, 2] = 1.0
                _open(counters, base + _PRODUCT)
        _await(counters, base + _PRODUCT)
        if verdict[step, 2] == 1.0:
            return
        for turn in range(3):
            phase = base + _PROJECT + turn
            while True:
                block = _claim(counters, phase, blocks, lo)
                if block < 0:
                    break
                start, stop = _rows(block, blocks, n)
                _project(start, stop, last + 1, minus, verdict[step, 0] > 0.0, W, partial[block])
                if _last(counters, phase, blocks):
                    size = verdict[step, 3]
                    below, once_more = _end_projection(
                        last, verdict[step, 0] > 0.0, turn, partial, sums, h, minus, loss, row,
                        eps, most,
                    )  # fmt: skip
                    if not once_more:
                        verdict[step, 1] = turn + 1
                        if not (below > eps * size and _safe(below * below)):
                            verdict[step, 2] = 1.0
                        else:
                            verdict[step, 4] = 1.0 / below
                            rnorm = _finish(last, kept, below, G, H, cs, sn, g, h)
                            norms[step] = rnorm
                            if not rnorm > tolerance:
                                verdict[step, 2] = 2.0
                    _open(counters, phase)
            _await(counters, phase)
            if verdict[step, 1] == turn + 1:
                break
        if verdict[step, 2] == 1.0:
            return
        while True:
            block = _claim(counters, base + _NORMALISE, blocks, lo)
            if block < 0:
                break
            start, stop = _rows(block, blocks, n)
            w = W[last + 1, start:stop]
            alpha = verdict[step, 4]
            for i in range(w.shape[0]):
                w[i] *= alpha
            if _last(counters, base + _NORMALISE, blocks):
                _open(counters, base + _NORMALISE)
        _await(counters, base + _NORMALISE)
        if verdict[step, 2] == 2.0:
            return


class Steps:
    """Makes steps of the decomposition ``A [U Z] = W G`` whose arrays a method holds.

    Parameters
    ----------
    csr : tuple of arrays
        ``indptr, indices, data`` of A.
    M : None, array or Sweeps
        Nothing, the diagonal of M, or triangles.
    W, Z, G, H, cs, sn, g : arrays
        As `gcrodr` holds them: bases by rows, G and its triangular factor H by columns.
    """

    def __init__(self, csr: tuple, M: Any, W: np.ndarray, Z: np.ndarray | None, G: np.ndarray,
                 H: np.ndarray, cs: np.ndarray, sn: np.ndarray, g: np.ndarray) -> None:  # fmt: skip
        m, n = W.shape[0], W.shape[1]
        self.csr, self.basis = csr, (W, W if Z is None else Z, G, H, cs, sn, g)
        self.diagonal = M if isinstance(M, np.ndarray) else None
        self.sweeps = tuple(map(tuple, M[:3])) + (M.scale,) if isinstance(M, Sweeps) else None
        deep = M.plan.levels.shape[0] - 1 if isinstance(M, Sweeps) else 0
        self.turns = deep * (2 if deep and M.backward else 1) * _LINE
        # An even number of blocks, of one size but for a row.
        self.blocks = 2 * -(-n // (2 * BLOCK)) if n > BLOCK else 1
        self.threads = min(get_num_threads(), self.blocks // 2) if n >= SHARED else 1
        self.eps = float(np.finfo(W.dtype).eps)
        self.loss = np.zeros((m, m))
        self.work = (
            np.empty((self.blocks, m + 1), W.dtype), *(np.empty(m + 1, W.dtype) for _ in range(3)),
            np.empty(m + 1),
        )  # fmt: skip

    @staticmethod
    def suit(dtype: np.dtype, n: int) -> bool:
        """Return whether steps of this size are dominated by calls from Python."""
        return dtype in (np.float64, np.complex128) and n < CHUNK

    def begin(self, rows: int) -> None:
        """Take note that the first rows of W are new, and orthonormal to a few roundings."""
        self.loss[:rows, :rows] = 4 * self.eps

    def __call__(self, first: int, count: int, kept: int, tolerance: float) -> np.ndarray:
        """Make up to `count` steps from ``W[first]`` on; return the residual norms.

        They end when the norm is within `tolerance`, or before a step that is not safe: where W
        is closed under A, a norm is zero or nearly so, or not finite.
        """
        counters = np.zeros(count * _PHASES * _LINE, np.int64)
        turns = np.zeros((count, self.turns), np.int64)
        verdict, norms = np.zeros((count, 5)), np.full(count, -1.0)
        parallel_for(
            _steps, self.threads, 1, counters, verdict, norms, self.blocks, first, count, kept,
            tolerance, self.eps, ROUNDINGS * self.eps, *self.csr, self.diagonal, self.sweeps,
            turns, *self.basis, self.loss, *self.work,
        )  # fmt: skip
        return norms[norms >= 0]
