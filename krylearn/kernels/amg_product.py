"""Sparse products for the set-up of algebraic multigrid.

A matrix is a CSR triple ``(indptr, indices, data)`` with unsigned indices. A product is made in
one pass: each thread fills the rows of its share one after the other into room for as many
entries as there could be, pages that are never touched costing nothing. So rows of a fresh product
have a start and an end each, `Gapped`, until `compact` closes the gaps.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from krylearn.kernels.parallel import get_num_threads, jit, parallel_for

GRAIN = 8192


class Gapped(NamedTuple):
    """A matrix whose row i has the entries ``start[i] <= k < end[i]``."""

    start: np.ndarray
    end: np.ndarray
    indices: np.ndarray
    data: np.ndarray


def gapped(A: tuple) -> Gapped:
    """Return a CSR triple as what it also is."""
    return Gapped(A[0][:-1], A[0][1:], A[1], A[2])


@jit
def _most(lo, hi, Ap, Aj, Bs, Be, most):
    """Count the products of each row: an upper bound for its entries."""
    one = np.uint64(1)
    for i in range(np.uint64(lo), np.uint64(hi)):
        total = 0
        for k in range(Ap[i], Ap[i + one]):
            j = np.uint64(Aj[k])
            total += np.int64(Be[j]) - np.int64(Bs[j])
        most[i] = total


@jit
def _multiply(first, last, cuts, room, place, Ap, Aj, Ax, Bs, Be, Bj, Bx, Cs, Ce, Cj, Cx):
    one = np.uint64(1)
    for share in range(first, last):
        base = np.uint64(room[share])
        end = base
        own = place[share]
        for i in range(np.uint64(cuts[share]), np.uint64(cuts[share + 1])):
            # Places are counted from 1 in each share, so that 0 is before every row.
            start = np.int64(end - base)
            Cs[i] = end
            for k in range(Ap[i], Ap[i + one]):
                j = np.uint64(Aj[k])
                a = Ax[k]
                for m in range(Bs[j], Be[j]):
                    c = np.uint64(Bj[m])
                    p = np.int64(own[c])
                    if p <= start:
                        Cj[end] = Bj[m]
                        Cx[end] = a * Bx[m]
                        end += one
                        own[c] = end - base
                    else:
                        Cx[base + np.uint64(p - 1)] += a * Bx[m]
            Ce[i] = end


def product(A: tuple, B: tuple | Gapped, columns: int) -> Gapped:
    """Return ``A @ B``; entries within a row come in the order they are met.

    Parameters
    ----------
    A : CSR triple
    B : CSR triple or Gapped
    columns : int
        Columns of B.
    """
    B = B if isinstance(B, Gapped) else gapped(B)
    rows = A[0].shape[0] - 1
    most = np.empty(rows, np.int64)
    parallel_for(_most, rows, GRAIN, A[0], A[1], B.start, B.end, most)
    total = np.cumsum(most)
    size = int(total[-1]) if rows else 0
    # Each share has a marker of all columns: no more shares than threads.
    shares = get_num_threads() if size > 100_000 else 1
    cuts = np.searchsorted(total, np.arange(1, shares) * (size // shares), "right")
    cuts = np.concatenate([[0], cuts, [rows]]).astype(np.int64)
    room = np.where(cuts > 0, total[np.maximum(cuts, 1) - 1], 0) if rows else np.zeros_like(cuts)
    pointer = np.uint32 if size < 2**32 else np.uint64
    start, end = np.empty(rows, pointer), np.empty(rows, pointer)
    indices, data = np.empty(size, B.indices.dtype), np.empty(size, np.result_type(A[2], B.data))
    place = np.zeros((shares, columns), np.int32 if size < 2**31 else np.int64)
    parallel_for(_multiply, shares, 1, cuts, room, place, *A, *B, start, end, indices, data)
    return Gapped(start, end, indices, data)


@jit
def _multiply_again(lo, hi, columns, Ap, Aj, Ax, Bs, Be, Bj, Bx, Cs, Ce, Cj, Cx):
    one = np.uint64(1)
    place = np.zeros(columns, np.int64)
    for i in range(np.uint64(lo), np.uint64(hi)):
        for m in range(Cs[i], Ce[i]):
            place[Cj[m]] = np.int64(m)
            Cx[m] = 0
        for k in range(Ap[i], Ap[i + one]):
            j = np.uint64(Aj[k])
            a = Ax[k]
            for m in range(Bs[j], Be[j]):
                Cx[np.uint64(place[Bj[m]])] += a * Bx[m]


def product_again(A: tuple, B: tuple | Gapped, columns: int, C: tuple | Gapped) -> None:
    """Write the values of ``A @ B`` into C, which has its pattern."""
    B = B if isinstance(B, Gapped) else gapped(B)
    C = C if isinstance(C, Gapped) else gapped(C)
    rows = A[0].shape[0] - 1
    grain = max(GRAIN, rows // get_num_threads())
    parallel_for(_multiply_again, rows, grain, columns, *A, *B, *C)


@jit
def _lengths(lo, hi, start, end, lengths):
    for i in range(np.uint64(lo), np.uint64(hi)):
        lengths[i] = end[i] - start[i]


@jit
def _compact_parts(lo, hi, floor, start, end, indices, data, Cp, Cj, Cx, middle):
    """Copy rows: entries left of the diagonal, the diagonal, those right of it.

    Each entry is written to both places that it may have: a branch would mostly be mispredicted.
    """
    one = np.uint64(1)
    for i in range(np.uint64(lo), np.uint64(hi)):
        front = np.uint64(Cp[i])
        back = np.uint64(Cp[i + one]) - one
        found = False
        value = Cx.dtype.type(0)
        for k in range(start[i], end[i]):
            j = np.uint64(indices[k])
            if j == i:
                found = True
                value = data[k]
                continue
            Cj[front] = indices[k]
            Cx[front] = data[k]
            Cj[back] = indices[k]
            Cx[back] = data[k]
            left = np.uint64(j < i)
            front += left
            back -= one - left
        middle[i] = front
        if found:
            Cj[front] = np.uint32(i)
            Cx[front] = value if abs(value) > floor[i] else value * 0


@jit
def _compact(lo, hi, start, end, indices, data, Cp, Cj, Cx):
    for i in range(np.uint64(lo), np.uint64(hi)):
        front = np.uint64(Cp[i])
        for k in range(start[i], end[i]):
            Cj[front] = indices[k]
            Cx[front] = data[k]
            front += np.uint64(1)


def pointers(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return the row pointers once the gaps are closed."""
    rows = start.shape[0]
    lengths = np.zeros(rows + 1, np.int64)
    parallel_for(_lengths, rows, GRAIN, start, end, lengths[1:])
    total = np.cumsum(lengths)
    return total.astype(np.uint32 if total[-1] < 2**32 else np.uint64)


def _room(C: Gapped) -> tuple:
    indptr = pointers(C.start, C.end)
    size = int(indptr[-1])
    return indptr, np.empty(size, C.indices.dtype), np.empty(size, C.data.dtype)


def compact(C: Gapped) -> tuple:
    """Return a CSR triple without gaps."""
    A = _room(C)
    parallel_for(_compact, C.start.shape[0], GRAIN, *C, *A)
    return A


def compact_parts(C: Gapped, floor: np.ndarray) -> tuple[tuple, np.ndarray]:
    """Return a square matrix as a CSR triple without gaps, and where each diagonal entry stands.

    A row has its entries left of the diagonal first and those right of it last. Where it has no
    diagonal entry, the place is that of the first entry right of it. A diagonal entry that is not
    larger than its `floor` becomes zero.
    """
    A = _room(C)
    middle = np.empty(C.start.shape[0], A[0].dtype)
    parallel_for(_compact_parts, C.start.shape[0], GRAIN, floor, *C, *A, middle)
    return A, middle


@jit
def _middle(lo, hi, indptr, indices, middle):
    for i in range(np.uint64(lo), np.uint64(hi)):
        k = np.uint64(indptr[i])
        while k < indptr[i + np.uint64(1)] and indices[k] < i:
            k += np.uint64(1)
        middle[i] = k


def diagonal_places(A: tuple) -> np.ndarray:
    """Return where the diagonal entries of a matrix stand, columns in each row ascending."""
    middle = np.empty(A[0].shape[0] - 1, A[0].dtype)
    parallel_for(_middle, middle.shape[0], GRAIN, A[0], A[1], middle)
    return middle


@jit
def _rounding(lo, hi, eps, Rp, Rj, Rx, size, floor):
    one = np.uint64(1)
    for c in range(np.uint64(lo), np.uint64(hi)):
        total = floor.dtype.type(0)
        for k in range(Rp[c], Rp[c + one]):
            r = Rx[k]
            total += (r.real * r.real + r.imag * r.imag) * size[Rj[k]]
        floor[c] = eps * total


def rounding(R: tuple, d: np.ndarray) -> np.ndarray:
    """Return what may be rounding in the diagonal of ``R A R^H``: a share of ``R |D| R^H``.

    An aggregate that is a whole component of a singular matrix has zero there in exact arithmetic.
    """
    floor = np.empty(R[0].shape[0] - 1, R[2].real.dtype)
    eps = floor.dtype.type(1000 * np.finfo(floor.dtype).eps)
    parallel_for(_rounding, floor.shape[0], GRAIN, eps, *R, np.abs(d), floor)
    return floor


@jit
def _gather_diagonal(lo, hi, middle, indices, data, d):
    for i in range(np.uint64(lo), np.uint64(hi)):
        m = np.uint64(middle[i])
        d[i] = data[m] if m < indices.shape[0] and indices[m] == i else 0


def diagonal_at(A: tuple, middle: np.ndarray) -> np.ndarray:
    """Return the diagonal, given where its entries stand."""
    d = np.empty(middle.shape[0], A[2].dtype)
    parallel_for(_gather_diagonal, d.shape[0], GRAIN, middle, A[1], A[2], d)
    return d


@jit
def _drop_rounding(lo, hi, middle, indices, floor, data):
    for i in range(np.uint64(lo), np.uint64(hi)):
        m = np.uint64(middle[i])
        if m < indices.shape[0] and indices[m] == i and abs(data[m]) <= floor[i]:
            data[m] = 0


def drop_rounding(A: tuple, middle: np.ndarray, floor: np.ndarray) -> None:
    """Zero the diagonal entries that are not larger than their floor."""
    parallel_for(_drop_rounding, middle.shape[0], GRAIN, middle, A[1], floor, A[2])


@jit
def _spread(lo, hi, data, found):
    size = data.shape[0]
    for part in range(lo, hi):
        low, high = data.real.dtype.type(np.inf), data.real.dtype.type(0)
        for k in range(np.uint64(size * part // 64), np.uint64(size * (part + 1) // 64)):
            a = abs(data[k])
            if a > 0:
                low = min(low, a)
                high = max(high, a)
        found[part, 0], found[part, 1] = low, high


def spread(data: np.ndarray) -> tuple[float, float]:
    """Return the smallest and the largest magnitude of the entries that are not zero."""
    found = np.empty((64, 2), data.real.dtype)
    parallel_for(_spread, 64, 32 if data.shape[0] > 100_000 else 64, data, found)
    return float(found[:, 0].min()), float(found[:, 1].max())


# -- transposes --------------------------------------------------------------------------------


@jit
def _count_columns(first, last, cuts, Ap, Aj, counts):
    for share in range(first, last):
        own = counts[share]
        for k in range(Ap[np.uint64(cuts[share])], Ap[np.uint64(cuts[share + 1])]):
            own[Aj[k]] += np.uint32(1)


@jit
def _offsets(lo, hi, Tp, counts):
    """Turn the counts of each share into the places where it starts within each row."""
    for c in range(np.uint64(lo), np.uint64(hi)):
        place = Tp[c]
        for share in range(np.uint64(0), np.uint64(counts.shape[0])):
            size = counts[share, c]
            counts[share, c] = place
            place += size


@jit
def _fill_columns(first, last, cuts, Ap, Aj, Ax, places, Tj, Tx):
    one = np.uint64(1)
    for share in range(first, last):
        own = places[share]
        for i in range(np.uint64(cuts[share]), np.uint64(cuts[share + 1])):
            for k in range(Ap[i], Ap[i + one]):
                c = np.uint64(Aj[k])
                place = np.uint64(own[c])
                Tj[place] = np.uint32(i)
                Tx[place] = np.conj(Ax[k])
                own[c] += np.uint32(1)


def adjoint(A: tuple, columns: int) -> tuple:
    """Return the CSR triple of the conjugate transpose, columns in each row ascending."""
    rows = A[0].shape[0] - 1
    nnz = int(A[0][-1])
    shares = get_num_threads() if nnz > 200_000 else 1
    cuts = np.searchsorted(A[0], np.arange(shares + 1) * (nnz // shares)).astype(np.int64)
    cuts[0], cuts[-1] = 0, rows
    counts = np.zeros((shares, columns), np.uint32)
    parallel_for(_count_columns, shares, 1, cuts, A[0], A[1], counts)
    indptr = np.zeros(columns + 1, A[0].dtype)
    np.cumsum(counts.sum(axis=0, dtype=np.int64), out=indptr[1:], dtype=indptr.dtype)
    parallel_for(_offsets, columns, GRAIN, indptr, counts)
    indices, data = np.empty(nnz, A[1].dtype), np.empty(nnz, A[2].dtype)
    parallel_for(_fill_columns, shares, 1, cuts, *A, counts, indices, data)
    return indptr, indices, data
