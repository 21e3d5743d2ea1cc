"""Set-up of algebraic multigrid: strength, aggregation, interpolation, Galerkin product.

All matrices are CSR triples ``(indptr, indices, data)`` with unsigned 32-bit indices. Kernels that
fill rows come in pairs, one that counts and one that writes, so that rows can be shared out.
"""

from __future__ import annotations

import numpy as np

from krylearn.kernels.parallel import get_num_threads, jit, parallel_for

GRAIN = 8192


# -- strength of connection --------------------------------------------------------------------


@jit
def _strong_symmetric(lo, hi, theta2, indptr, indices, data, size, strong):
    """Mark ``|a_ij|^2 > theta^2 |a_ii a_jj|`` (Vanek, Mandel and Brezina 1996, eq. 4.1)."""
    one = np.uint64(1)
    for i in range(np.uint64(lo), np.uint64(hi)):
        for k in range(indptr[i], indptr[i + one]):
            j = np.uint64(indices[k])
            a = data[k]
            square = a.real * a.real + a.imag * a.imag
            strong[k] = j != i and square > theta2 * size[i] * size[j]


# -- aggregation -------------------------------------------------------------------------------


@jit
def _aggregate(indptr, indices, strong, aggregate):
    """Greedy aggregation in three passes (Vanek, Mandel and Brezina 1996, Algorithm 5.1)."""
    one = np.uint64(1)
    n = np.uint64(aggregate.shape[0])
    count = np.int32(0)
    for i in range(n):
        aggregate[i] = -1
    # Pass 1: a root whose whole strong neighbourhood is free.
    for i in range(n):
        if aggregate[i] >= 0:
            continue
        free, any_strong = True, False
        for k in range(indptr[i], indptr[i + one]):
            if strong[k]:
                any_strong = True
                if aggregate[np.uint64(indices[k])] >= 0:
                    free = False
                    break
        if free and any_strong:
            aggregate[i] = count
            for k in range(indptr[i], indptr[i + one]):
                if strong[k]:
                    aggregate[np.uint64(indices[k])] = count
            count += np.int32(1)
    # Pass 2: the rest joins the aggregate that it is tied to most strongly, marked so that
    # joiners do not attract others.
    for i in range(n):
        if aggregate[i] != -1:
            continue
        for k in range(indptr[i], indptr[i + one]):
            if strong[k]:
                owner = aggregate[np.uint64(indices[k])]
                if owner >= 0:
                    aggregate[i] = -3 - owner
                    break
    # Pass 3: what is left makes aggregates of its own; isolated points stay out.
    for i in range(n):
        if aggregate[i] <= -3:
            aggregate[i] = -3 - aggregate[i]
        elif aggregate[i] == -1:
            any_strong = False
            for k in range(indptr[i], indptr[i + one]):
                if strong[k]:
                    any_strong = True
                    j = np.uint64(indices[k])
                    if aggregate[j] == -1:
                        aggregate[j] = count
            if any_strong:
                aggregate[i] = count
                count += np.int32(1)
    return count


# -- sparse products ---------------------------------------------------------------------------


@jit
def _product_count(lo, hi, Ap, Aj, Bp, Bj, columns, counts):
    one = np.uint64(1)
    marker = np.full(columns, -1, np.int64)
    for i in range(np.uint64(lo), np.uint64(hi)):
        found = 0
        for k in range(Ap[i], Ap[i + one]):
            j = np.uint64(Aj[k])
            for m in range(Bp[j], Bp[j + one]):
                c = np.uint64(Bj[m])
                if marker[c] != np.int64(i):
                    marker[c] = np.int64(i)
                    found += 1
        counts[i] = found


@jit
def _product_fill(lo, hi, Ap, Aj, Ax, Bp, Bj, Bx, columns, Cp, Cj, Cx):
    one = np.uint64(1)
    place = np.full(columns, -1, np.int64)
    for i in range(np.uint64(lo), np.uint64(hi)):
        start = np.int64(Cp[i])
        end = start
        for k in range(Ap[i], Ap[i + one]):
            j = np.uint64(Aj[k])
            a = Ax[k]
            for m in range(Bp[j], Bp[j + one]):
                c = np.uint64(Bj[m])
                p = place[c]
                if p < start:
                    place[c] = end
                    Cj[np.uint64(end)] = Bj[m]
                    Cx[np.uint64(end)] = a * Bx[m]
                    end += 1
                else:
                    Cx[np.uint64(p)] += a * Bx[m]


@jit
def _transpose(rows, Ap, Aj, Ax, Tp, Tj, Tx):
    one = np.uint64(1)
    for k in range(np.uint64(Ap[rows])):
        Tp[np.uint64(Aj[k]) + one] += np.uint32(1)
    for c in range(np.uint64(1), np.uint64(Tp.shape[0])):
        Tp[c] += Tp[c - one]
    for i in range(np.uint64(rows)):
        for k in range(Ap[i], Ap[i + one]):
            c = np.uint64(Aj[k])
            place = np.uint64(Tp[c])
            Tj[place] = np.uint32(i)
            Tx[place] = np.conj(Ax[k])
            Tp[c] += np.uint32(1)
    for c in range(Tp.shape[0] - 1, 0, -1):
        Tp[np.uint64(c)] = Tp[np.uint64(c - 1)]
    Tp[0] = 0


def product(A: tuple, B: tuple, columns: int) -> tuple:
    """Return the CSR triple of ``A @ B``; indices within a row come in no order.

    Parameters
    ----------
    A, B : CSR triples
    columns : int
        Columns of B.
    """
    rows = A[0].shape[0] - 1
    counts = np.zeros(rows + 1, np.int64)
    # Each share allocates a marker of all columns: no more shares than threads.
    grain = max(GRAIN, -(-rows // get_num_threads()) - 1)
    parallel_for(_product_count, rows, grain, A[0], A[1], B[0], B[1], columns, counts[1:])
    indptr = np.cumsum(counts)
    nnz = int(indptr[-1])
    if nnz >= 2**32:
        raise MemoryError(f"a coarse operator would have {nnz} entries")
    indptr = indptr.astype(np.uint32)
    indices, data = np.empty(nnz, np.uint32), np.empty(nnz, np.result_type(A[2], B[2]))
    parallel_for(_product_fill, rows, grain, *A, *B, columns, indptr, indices, data)
    return indptr, indices, data


def adjoint(A: tuple, columns: int) -> tuple:
    """Return the CSR triple of the conjugate transpose, rows sorted."""
    rows = A[0].shape[0] - 1
    indptr = np.zeros(columns + 1, np.uint32)
    indices, data = np.empty_like(A[1]), np.empty_like(A[2])
    _transpose(rows, *A, indptr, indices, data)
    return indptr, indices, data
