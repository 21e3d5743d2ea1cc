"""Set-up of classical algebraic multigrid: strength, splitting, interpolation.

A matrix is a CSR triple ``(indptr, indices, data)`` with unsigned indices; the strong connections
are marked entry by entry in a bool array.
"""

from __future__ import annotations

import numpy as np

from krylearn.kernels.amg_product import Gapped, adjoint, compact, pointers
from krylearn.kernels.parallel import get_num_threads, jit, parallel_for

GRAIN = 8192
# States of a point while the splitting is made.
UNDECIDED, FINE, COARSE = -1, 0, 1


# -- strength of connection --------------------------------------------------------------------


@jit
def _strong(lo, hi, theta, signed, indptr, indices, data, strong):
    one = np.uint64(1)
    for i in range(np.uint64(lo), np.uint64(hi)):
        own = data.dtype.type(0)
        for k in range(indptr[i], indptr[i + one]):
            if indices[k] == i:
                own += data[k]
        if own != 0:
            own /= abs(own)
        most = data.real.dtype.type(0)
        for k in range(indptr[i], indptr[i + one]):
            if indices[k] != i:
                a = data[k]
                size = -(a.real * own.real + a.imag * own.imag) if signed else abs(a)
                most = max(most, size)
        bound = theta * most
        for k in range(indptr[i], indptr[i + one]):
            a = data[k]
            size = -(a.real * own.real + a.imag * own.imag) if signed else abs(a)
            strong[k] = indices[k] != i and size >= bound and size > 0


def strong_classical(A: tuple, theta: float, signed: bool = True) -> np.ndarray:
    """Mark ``-a_ij >= theta max_k -a_ik`` (Ruge and Stueben 1987), or ``|a_ij|`` unsigned."""
    strong = np.empty(A[1].shape[0], np.bool_)
    n = A[0].shape[0] - 1
    parallel_for(_strong, n, GRAIN, A[2].real.dtype.type(theta), signed, *A, strong)
    return strong


@jit
def _coupling_spread(lo, hi, cuts, indptr, indices, data, found):
    one = np.uint64(1)
    for part in range(lo, hi):
        low, high = data.real.dtype.type(np.inf), data.real.dtype.type(0)
        for i in range(np.uint64(cuts[part]), np.uint64(cuts[part + 1])):
            own = data.dtype.type(0)
            for k in range(indptr[i], indptr[i + one]):
                if indices[k] == i:
                    own += data[k]
            for k in range(indptr[i], indptr[i + one]):
                a = data[k]
                if indices[k] != i and a != 0:
                    size = abs(a)
                    # A coupling of the diagonal's sign counts as out of all bounds.
                    if a.real * own.real + a.imag * own.imag > 0:
                        size = size * 0
                    low = min(low, size)
                    high = max(high, abs(a))
        found[part, 0], found[part, 1] = low, high


def coupling_spread(A: tuple) -> tuple[float, float]:
    """Return the least and the largest magnitude off the diagonal; 0 for least if signs vary."""
    parts = 64
    cuts = np.arange(parts + 1) * (A[0].shape[0] - 1) // parts
    found = np.empty((parts, 2), A[2].real.dtype)
    grain = parts // 2 if A[2].shape[0] > 100_000 else parts
    parallel_for(_coupling_spread, parts, grain, cuts, *A, found)
    return float(np.nanmin(found[:, 0])), float(np.nanmax(found[:, 1]))


@jit
def _count_strong(lo, hi, indptr, strong, counts):
    one = np.uint64(1)
    for i in range(np.uint64(lo), np.uint64(hi)):
        found = 0
        for k in range(indptr[i], indptr[i + one]):
            if strong[k]:
                found += 1
        counts[i] = found


@jit
def _fill_strong(lo, hi, indptr, indices, strong, Sp, Sj):
    one = np.uint64(1)
    for i in range(np.uint64(lo), np.uint64(hi)):
        end = np.uint64(Sp[i])
        for k in range(indptr[i], indptr[i + one]):
            if strong[k]:
                Sj[end] = indices[k]
                end += one


def marked(A: tuple, mark: np.ndarray) -> tuple:
    """Return ``(indptr, indices)`` of the marked entries."""
    n = A[0].shape[0] - 1
    counts = np.zeros(n, np.int64)
    parallel_for(_count_strong, n, GRAIN, A[0], mark, counts)
    indptr = pointers(np.zeros(n, np.int64), counts)
    indices = np.empty(int(indptr[-1]), A[1].dtype)
    parallel_for(_fill_strong, n, GRAIN, A[0], A[1], mark, indptr, indices)
    return indptr, indices


def strong_pattern(A: tuple, strong: np.ndarray) -> tuple[tuple, tuple]:
    """Return ``(indptr, indices)`` of the strong connections and of their transpose."""
    S = marked(A, strong)
    T = adjoint((*S, np.empty(S[1].shape[0], np.uint8)), S[0].shape[0] - 1)
    return S, T[:2]


# -- splitting ---------------------------------------------------------------------------------


@jit
def _unlink(i, value, head, after, before):
    if before[i] >= 0:
        after[before[i]] = after[i]
    else:
        head[value] = after[i]
    if after[i] >= 0:
        before[after[i]] = before[i]


@jit
def _link(i, value, head, after, before):
    after[i] = head[value]
    before[i] = -1
    if head[value] >= 0:
        before[head[value]] = i
    head[value] = i


@jit
def ruge_stueben(Sp, Sj, Tp, Tj, state):
    """First pass of Ruge and Stueben (1987, section 4.1): most influential points first.

    `state` becomes COARSE or FINE; S holds the strong connections, T their transpose.
    """
    one = np.uint64(1)
    n = state.shape[0]
    widest = 0
    measure = np.empty(n, np.int32)
    for i in range(n):
        measure[i] = np.int32(Tp[np.uint64(i) + one] - Tp[np.uint64(i)])
        widest = max(widest, np.int64(measure[i]))
    head = np.full(2 * widest + 2, -1, np.int32)
    after, before = np.empty(n, np.int32), np.empty(n, np.int32)
    for back in range(n):
        i = n - 1 - back
        state[i] = UNDECIDED
        if measure[i] == 0:
            state[i] = FINE
        else:
            _link(i, measure[i], head, after, before)
    top = widest
    while top > 0:
        c = head[top]
        if c < 0:
            top -= 1
            continue
        _unlink(c, top, head, after, before)
        state[c] = COARSE
        for k in range(Tp[np.uint64(c)], Tp[np.uint64(c) + one]):
            f = np.int64(Tj[k])
            if state[f] != UNDECIDED:
                continue
            state[f] = FINE
            _unlink(f, measure[f], head, after, before)
            # What a new fine point depends on would serve it as a coarse point.
            for m in range(Sp[np.uint64(f)], Sp[np.uint64(f) + one]):
                j = np.int64(Sj[m])
                if state[j] == UNDECIDED:
                    _unlink(j, measure[j], head, after, before)
                    measure[j] += np.int32(1)
                    _link(j, measure[j], head, after, before)
                    top = max(top, np.int64(measure[j]))
        for k in range(Sp[np.uint64(c)], Sp[np.uint64(c) + one]):
            j = np.int64(Sj[k])
            if state[j] == UNDECIDED:
                _unlink(j, measure[j], head, after, before)
                measure[j] -= np.int32(1)
                if measure[j] > 0:
                    _link(j, measure[j], head, after, before)
                else:
                    state[j] = FINE


@jit
def _scatter(x):
    """Hash a 64-bit integer (the finaliser of SplitMix64)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@jit
def _measure(lo, hi, Sp, Tp, state, measure):
    one = np.uint64(1)
    for i in range(np.uint64(lo), np.uint64(hi)):
        noise = _scatter((i + one) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)
        influences = np.uint64(Tp[i + one] - Tp[i])
        measure[i] = (influences << np.uint64(24)) | noise
        state[i] = UNDECIDED if influences > 0 else FINE


@jit
def _chosen(lo, hi, Sp, Sj, Tp, Tj, measure, state, chosen):
    """Mark the undecided points that outweigh all undecided neighbours."""
    one = np.uint64(1)
    for i in range(np.uint64(lo), np.uint64(hi)):
        chosen[i] = False
        if state[i] != UNDECIDED:
            continue
        wins = True
        for k in range(Sp[i], Sp[i + one]):
            j = np.uint64(Sj[k])
            if state[j] == UNDECIDED and (
                measure[j] > measure[i] or (measure[j] == measure[i] and j > i)
            ):
                wins = False
                break
        if wins:
            for k in range(Tp[i], Tp[i + one]):
                j = np.uint64(Tj[k])
                if state[j] == UNDECIDED and (
                    measure[j] > measure[i] or (measure[j] == measure[i] and j > i)
                ):
                    wins = False
                    break
        chosen[i] = wins


@jit
def _decide(lo, hi, Sp, Sj, chosen, state, left):
    one = np.uint64(1)
    count = 0
    for i in range(np.uint64(lo), np.uint64(hi)):
        if state[i] != UNDECIDED:
            continue
        if chosen[i]:
            state[i] = COARSE
            continue
        for k in range(Sp[i], Sp[i + one]):
            if chosen[Sj[k]]:
                state[i] = FINE
                break
        if state[i] == UNDECIDED:
            count += 1
    if count:
        left[0] = 1


def pmis(S: tuple, T: tuple) -> np.ndarray:
    """Split by parallel maximal independent sets (De Sterck, Yang and Heys 2006, section 4)."""
    n = S[0].shape[0] - 1
    state, measure = np.empty(n, np.int8), np.empty(n, np.uint64)
    chosen, left = np.empty(n, np.bool_), np.ones(1, np.int64)
    parallel_for(_measure, n, GRAIN, S[0], T[0], state, measure)
    while left[0]:
        left[0] = 0
        parallel_for(_chosen, n, GRAIN, *S, *T, measure, state, chosen)
        parallel_for(_decide, n, GRAIN, *S, chosen, state, left)
    return state


def split(S: tuple, T: tuple, how: str) -> np.ndarray:
    """Return COARSE or FINE for each point."""
    if how == "pmis":
        return pmis(S, T)
    state = np.empty(S[0].shape[0] - 1, np.int8)
    ruge_stueben(*S, *T, state)
    return state


# -- interpolation -----------------------------------------------------------------------------


@jit
def _truncate(count, most, share, columns, weights):
    """Keep the `most` largest weights, not below a share of the largest; keep their sum."""
    largest = weights.real.dtype.type(0)
    total = weights.dtype.type(0)
    for m in range(count):
        largest = max(largest, abs(weights[m]))
        total += weights[m]
    bound = share * largest
    # The size of the last weight that is kept, by striking out the largest ones.
    if count > most:
        size = np.empty(count, weights.real.dtype)
        for m in range(count):
            size[m] = abs(weights[m])
        size.sort()
        bound = max(bound, size[count - most])
    kept = 0
    rest = weights.dtype.type(0)
    for m in range(count):
        if kept < most and abs(weights[m]) >= bound and weights[m] != 0:
            columns[kept] = columns[m]
            weights[kept] = weights[m]
            rest += weights[m]
            kept += 1
    if abs(rest) > 0.1 * abs(total):
        for m in range(kept):
            weights[m] *= total / rest
    return kept


@jit
def _select(count, columns, weights, number, start, end, kept):
    """Keep the weights whose coarse points are among ``kept[start:end]``; keep their sum."""
    total, rest = weights.dtype.type(0), weights.dtype.type(0)
    found = 0
    for m in range(count):
        total += weights[m]
        for k in range(start, end):
            if np.int64(kept[k]) == np.int64(number[columns[m]]):
                columns[found] = columns[m]
                weights[found] = weights[m]
                rest += weights[m]
                found += 1
                break
    if abs(rest) > 0.1 * abs(total):
        for m in range(found):
            weights[m] *= total / rest
    return found


@jit
def _mark_coarse(lo, hi, indices, strong, number, mark):
    for k in range(np.uint64(lo), np.uint64(hi)):
        mark[k] = strong[k] and number[indices[k]] >= 0


@jit
def _extended(first, last, cuts, widest, most, share, Kp, Kj, indptr, indices, data, d, strong,
              number, Cp, Cj, Ps, Pe, Pj, Px):  # fmt: skip
    """Extended+i interpolation (De Sterck, Falgout, Nolting and Yang 2008, eq. 4.10).

    C has the strong coarse connections of each point; ``place`` says where in the row's list a
    coarse point is, counted from 1, and is -1 for the row itself.
    """
    one = np.uint64(1)
    place = np.zeros(number.shape[0], np.int32)
    columns, weights = np.empty(1024, np.uint64), np.empty(1024, data.dtype)
    met, passed = np.empty(widest, np.int32), np.empty(widest, data.dtype)
    for part in range(first, last):
        for i in range(np.uint64(cuts[part]), np.uint64(cuts[part + 1])):
            start = i * np.uint64(most)
            Ps[i] = start
            Pe[i] = start
            if number[i] >= 0:
                Pj[start] = np.uint32(number[i])
                Px[start] = 1
                Pe[i] = start + one
                continue
            # The coarse points within reach: own ones and those of strong fine neighbours.
            reach = np.int64(0)
            for k in range(indptr[i], indptr[i + one]):
                j = np.uint64(indices[k])
                if strong[k]:
                    reach += 1 + np.int64(Cp[j + one]) - np.int64(Cp[j])
            if reach > columns.shape[0]:
                columns, weights = np.empty(2 * reach, np.uint64), np.empty(2 * reach, data.dtype)
            count = 0
            for m in range(Cp[i], Cp[i + one]):
                columns[count] = Cj[m]
                weights[count] = 0
                count += 1
                place[Cj[m]] = count
            for k in range(indptr[i], indptr[i + one]):
                j = np.uint64(indices[k])
                if strong[k] and number[j] < 0:
                    for m in range(Cp[j], Cp[j + one]):
                        if place[Cj[m]] == 0:
                            columns[count] = Cj[m]
                            weights[count] = 0
                            count += 1
                            place[Cj[m]] = count
            place[i] = -1
            own = data.dtype.type(0)
            for k in range(indptr[i], indptr[i + one]):
                j = np.uint64(indices[k])
                a = data[k]
                if place[j] > 0:
                    weights[place[j] - 1] += a
                elif not strong[k] or number[j] >= 0:
                    own += a
                else:
                    # What a strong fine neighbour passes on, to coarse points and back to i.
                    pivot = d[j]
                    total = data.dtype.type(0)
                    hits = 0
                    for m in range(indptr[j], indptr[j + one]):
                        p = place[indices[m]]
                        c = data[m]
                        if p != 0 and c.real * pivot.real + c.imag * pivot.imag < 0:
                            total += c
                            met[hits] = p
                            passed[hits] = c
                            hits += 1
                    if total == 0:
                        own += a
                        continue
                    a /= total
                    for m in range(hits):
                        if met[m] > 0:
                            weights[met[m] - 1] += a * passed[m]
                        else:
                            own += a * passed[m]
            place[i] = 0
            for m in range(count):
                place[columns[m]] = 0
                weights[m] = -weights[m] / own if own != 0 else own
            if Kp.shape[0] > 1:
                kept = _select(count, columns, weights, number, Kp[i], Kp[i + one], Kj)
            else:
                kept = _truncate(count, most, share, columns, weights)
            end = start
            for m in range(kept):
                Pj[end] = np.uint32(number[columns[m]])
                Px[end] = weights[m]
                end += one
            Pe[i] = end


def interpolate(A: tuple, d: np.ndarray, strong: np.ndarray, state: np.ndarray, most: int,
                share: float, like: tuple | None = None) -> tuple[int, tuple]:  # fmt: skip
    """Return the number of coarse points and the interpolation as a CSR triple.

    Parameters
    ----------
    A : CSR triple
    d : (n,) array
        Its diagonal.
    strong : bool array
    state : (n,) int8 array
        COARSE or FINE.
    most : int
        Weights a row that are kept, the largest.
    share : float
        Weights below this share of the largest are dropped; the others make up for them.
    like : CSR triple, optional
        Keep the weights that this one has, instead.
    """
    n = state.shape[0]
    coarse = state == COARSE
    number = np.cumsum(coarse, dtype=np.int32)
    count = int(number[-1]) if n else 0
    number = np.where(coarse, number - 1, -1).astype(np.int32)
    start, end = np.empty(n, np.uint64), np.empty(n, np.uint64)
    indices, data = np.empty(n * most, A[1].dtype), np.empty(n * most, A[2].dtype)
    kept = (np.zeros(1, start.dtype), indices[:0]) if like is None else like[:2]
    kept = kept[0].astype(start.dtype, copy=False), kept[1]
    shares = get_num_threads() if n > GRAIN else 1
    cuts = np.arange(shares + 1) * n // shares
    mark = np.empty_like(strong)
    parallel_for(_mark_coarse, mark.shape[0], 8 * GRAIN, A[1], strong, number, mark)
    C = marked(A, mark)
    widest = int(np.diff(A[0]).max(initial=0))
    parallel_for(_extended, shares, 1, cuts, widest, most, A[2].real.dtype.type(share), *kept, *A,
                 d, strong, number, *C, start, end, indices, data)  # fmt: skip
    return count, compact(Gapped(start, end, indices, data))
