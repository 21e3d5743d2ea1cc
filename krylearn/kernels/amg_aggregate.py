"""Set-up of smoothed aggregation: strength, aggregates, prolongation.

A matrix is a CSR triple ``(indptr, indices, data)`` with unsigned indices. With `size` unknowns
a node, the graph is that of the nodes.
"""

from __future__ import annotations

import numpy as np

from krylearn.kernels.amg_product import pointers
from krylearn.kernels.parallel import jit, parallel_for

GRAIN = 8192
# Off-diagonal entries of this share of the diagonal in all leave a row to the smoother.
DOMINANT = 0.1
# The share of its diagonal that a row keeps when its weak entries are added to that.
LEAST = 0.25


# -- strength of connection --------------------------------------------------------------------


@jit
def _strong(lo, hi, theta, indptr, indices, data, root, strong):
    one = np.uint64(1)
    for i in range(np.uint64(lo), np.uint64(hi)):
        bound = theta * root[i]
        for k in range(indptr[i], indptr[i + one]):
            j = np.uint64(indices[k])
            strong[k] = j != i and abs(data[k]) > bound * root[j]


@jit
def _mend(lo, hi, indptr, indices, data, strong):
    """Let no row be cut off, or lose its diagonal by lumping, because all it has is weak."""
    one = np.uint64(1)
    for i in range(np.uint64(lo), np.uint64(hi)):
        own, weak = data.dtype.type(0), data.dtype.type(0)
        total, most = data.real.dtype.type(0), data.real.dtype.type(0)
        any_strong = False
        for k in range(indptr[i], indptr[i + one]):
            if indices[k] == i:
                own += data[k]
                continue
            if strong[k]:
                any_strong = True
            else:
                weak += data[k]
            total += abs(data[k])
            most = max(most, abs(data[k]))
        size = abs(own)
        if total > DOMINANT * size and (not any_strong or abs(own + weak) < LEAST * size):
            bound = 0 if any_strong else most / 2
            for k in range(indptr[i], indptr[i + one]):
                if indices[k] != i and abs(data[k]) > bound:
                    strong[k] = True


def strong_symmetric(A: tuple, d: np.ndarray, theta: float) -> np.ndarray:
    """Mark ``|a_ij| > theta sqrt(|a_ii a_jj|)`` (Vanek, Mandel and Brezina 1996, eq. 4.1).

    A row of weak connections only keeps its strongest ones, unless its diagonal dominates.
    """
    strong = np.empty(A[1].shape[0], np.bool_)
    root = np.sqrt(np.abs(d))
    parallel_for(_strong, d.shape[0], GRAIN, root.dtype.type(theta), *A, root, strong)
    parallel_for(_mend, d.shape[0], GRAIN, *A, strong)
    return strong


# -- nodes of several unknowns -----------------------------------------------------------------


@jit
def _nodes_count(lo, hi, size, nodes, indptr, indices, counts):
    one = np.uint64(1)
    size = np.uint64(size)
    marker = np.full(nodes, -1, np.int64)
    for node in range(np.uint64(lo), np.uint64(hi)):
        found = 0
        for k in range(indptr[node * size], indptr[(node + one) * size]):
            other = np.uint64(indices[k]) // size
            if marker[other] != np.int64(node):
                marker[other] = np.int64(node)
                found += 1
        counts[node] = found


@jit
def _nodes_fill(lo, hi, size, nodes, indptr, indices, data, Np, Nj, Nx):
    one = np.uint64(1)
    size = np.uint64(size)
    place = np.full(nodes, -1, np.int64)
    for node in range(np.uint64(lo), np.uint64(hi)):
        start = np.int64(Np[node])
        end = np.uint64(start)
        for k in range(indptr[node * size], indptr[(node + one) * size]):
            other = np.uint64(indices[k]) // size
            p = place[other]
            if p < start:
                place[other] = np.int64(end)
                Nj[end] = np.uint32(other)
                Nx[end] = abs(data[k])
                end += one
            else:
                Nx[np.uint64(p)] += abs(data[k])


def node_norms(A: tuple, size: int) -> tuple:
    """Return the sums of magnitudes in the ``size`` by ``size`` blocks of A, a matrix of nodes."""
    nodes = (A[0].shape[0] - 1) // size
    counts = np.zeros(nodes + 1, np.int64)
    # Each share has a marker of all nodes.
    grain = max(GRAIN, nodes // 4)
    parallel_for(_nodes_count, nodes, grain, size, nodes, A[0], A[1], counts[1:])
    indptr = np.cumsum(counts).astype(A[0].dtype)
    indices = np.empty(int(indptr[-1]), A[1].dtype)
    norms = np.empty(int(indptr[-1]), A[2].real.dtype)
    parallel_for(_nodes_fill, nodes, grain, size, nodes, *A, indptr, indices, norms)
    return indptr, indices, norms


# -- aggregation -------------------------------------------------------------------------------


@jit
def aggregate(indptr, indices, data, strong, owner):
    """Greedy aggregation in three passes; return the number of aggregates.

    Vanek, Mandel and Brezina (1996), Algorithm 5.1. `owner` becomes the aggregate of each node,
    -1 for one without strong connections. What is left after the first pass joins the aggregate
    that it is tied to most strongly.
    """
    one = np.uint64(1)
    n = np.uint64(owner.shape[0])
    count = np.int32(0)
    for i in range(np.uint64(0), n):
        owner[i] = -1
    # A root whose whole strong neighbourhood is free takes all of it.
    for i in range(np.uint64(0), n):
        if owner[i] >= 0:
            continue
        free, any_strong = True, False
        for k in range(indptr[i], indptr[i + one]):
            if strong[k]:
                any_strong = True
                if owner[indices[k]] >= 0:
                    free = False
                    break
        if free and any_strong:
            owner[i] = count
            for k in range(indptr[i], indptr[i + one]):
                if strong[k]:
                    owner[indices[k]] = count
            count += np.int32(1)
    # Joiners are marked, so that they do not attract others.
    for i in range(np.uint64(0), n):
        if owner[i] != -1:
            continue
        most = data.real.dtype.type(0)
        for k in range(indptr[i], indptr[i + one]):
            if strong[k]:
                home = owner[indices[k]]
                if home >= 0 and abs(data[k]) > most:
                    most = abs(data[k])
                    owner[i] = -3 - home
    # What still is free makes aggregates of its own.
    for i in range(np.uint64(0), n):
        if owner[i] <= -3:
            owner[i] = -3 - owner[i]
        elif owner[i] == -1:
            any_strong = False
            for k in range(indptr[i], indptr[i + one]):
                if strong[k]:
                    any_strong = True
                    if owner[indices[k]] == -1:
                        owner[indices[k]] = count
            if any_strong:
                owner[i] = count
                count += np.int32(1)
    return count


# -- tentative prolongation --------------------------------------------------------------------


@jit
def sort_by_aggregate(owner, first, members):
    """List the nodes of each aggregate: ``members[first[a]:first[a + 1]]``."""
    first[:] = 0
    for i in range(owner.shape[0]):
        if owner[i] >= 0:
            first[owner[i] + 1] += 1
    for a in range(first.shape[0] - 1):
        first[a + 1] += first[a]
    for i in range(owner.shape[0]):
        if owner[i] >= 0:
            members[first[owner[i]]] = i
            first[owner[i]] += 1
    for a in range(first.shape[0] - 1, 0, -1):
        first[a] = first[a - 1]
    first[0] = 0


@jit
def _orthonormalise(lo, hi, size, first, members, B, Q, R):
    """Gram-Schmidt, twice, of the columns of B within each aggregate: ``B = Q R``.

    A column that depends on those before it becomes zero.
    """
    columns = B.shape[1]
    for a in range(lo, hi):
        for c in range(columns):
            whole = B.real.dtype.type(0)
            for m in range(first[a], first[a + 1]):
                for row in range(members[m] * size, (members[m] + 1) * size):
                    v = B[row, c]
                    Q[row, c] = v
                    whole += v.real * v.real + v.imag * v.imag
            for _ in range(2):
                for before in range(c):
                    overlap = Q.dtype.type(0)
                    for m in range(first[a], first[a + 1]):
                        for row in range(members[m] * size, (members[m] + 1) * size):
                            overlap += np.conj(Q[row, before]) * Q[row, c]
                    for m in range(first[a], first[a + 1]):
                        for row in range(members[m] * size, (members[m] + 1) * size):
                            Q[row, c] -= overlap * Q[row, before]
                    R[a * columns + before, c] += overlap
            length = whole * 0
            for m in range(first[a], first[a + 1]):
                for row in range(members[m] * size, (members[m] + 1) * size):
                    v = Q[row, c]
                    length += v.real * v.real + v.imag * v.imag
            independent = length > 1e-10 * whole
            length = np.sqrt(length)
            if independent:
                R[a * columns + c, c] = length
            for m in range(first[a], first[a + 1]):
                for row in range(members[m] * size, (members[m] + 1) * size):
                    if independent:
                        Q[row, c] /= length
                    else:
                        Q[row, c] = 0


def tentative(owner: np.ndarray, count: int, size: int, B: np.ndarray) -> tuple:
    """Return orthonormal columns on each aggregate and what B is in terms of them.

    Parameters
    ----------
    owner : (nodes,) int32 array
        The aggregate of each node.
    count, size : int
        Aggregates; unknowns a node.
    B : (n, k) array
        Near-nullspace vectors.

    Returns
    -------
    Q : (n, k) array
        Row i of the tentative prolongation, whose columns are those of the node's aggregate.
    coarse : (count k, k) array
        ``B = T @ coarse`` on aggregated nodes.
    """
    k = B.shape[1]
    first, members = np.empty(count + 1, np.int64), np.empty(owner.shape[0], np.int64)
    sort_by_aggregate(owner, first, members)
    Q, coarse = np.zeros_like(B), np.zeros((count * k, k), B.dtype)
    parallel_for(_orthonormalise, count, 1024, size, first, members, B, Q, coarse)
    return Q, coarse


# -- prolongation ------------------------------------------------------------------------------


@jit
def _filtered_diagonal(lo, hi, indptr, indices, data, strong, smooth, d):
    """Add the weak entries of a row to its diagonal, unless that all but takes it away."""
    one = np.uint64(1)
    for i in range(np.uint64(lo), np.uint64(hi)):
        own, weak = data.dtype.type(0), data.dtype.type(0)
        for k in range(indptr[i], indptr[i + one]):
            if indices[k] == i:
                own += data[k]
            elif not strong[k]:
                weak += data[k] * smooth[indices[k]]
        total = own + weak / smooth[i] if smooth[i] != 0 else own
        d[i] = total if abs(total) >= LEAST * abs(own) else own


@jit
def _row_sums(lo, hi, indptr, indices, data, strong, d, sums):
    """Sum ``|a_ij / d_i|`` over the diagonal and what is strong: a bound of the spectral radius."""
    one = np.uint64(1)
    for i in range(np.uint64(lo), np.uint64(hi)):
        total = sums.dtype.type(0)
        for k in range(indptr[i], indptr[i + one]):
            if strong[k] and indices[k] != i:
                total += abs(data[k])
        size = abs(d[i])
        sums[i] = 1 + total / size if size > 0 else 0


@jit
def _smooth_count(lo, hi, size, indptr, indices, strong, owner, counts):
    one = np.uint64(1)
    size = np.uint64(size)
    seen = np.empty(4096, np.int32)
    for i in range(np.uint64(lo), np.uint64(hi)):
        found = np.uint64(0)
        home = owner[i // size]
        if home >= 0:
            seen[0] = home
            found = one
        for k in range(indptr[i], indptr[i + one]):
            if not strong[k]:
                continue
            a = owner[np.uint64(indices[k]) // size]
            if a < 0:
                continue
            m = np.uint64(0)
            while m < found and seen[m] != a:
                m += one
            if m == found:
                if found == np.uint64(seen.shape[0]):
                    longer = np.empty(2 * seen.shape[0], np.int32)
                    longer[: seen.shape[0]] = seen
                    seen = longer
                seen[found] = a
                found += one
        counts[i] = found


@jit
def _smooth_fill(lo, hi, size, omega, indptr, indices, data, strong, d, owner, Q, Pp, Pj, Px):
    """Do ``P = (I - omega inv(D) A_F) T``, row by row; Px holds zeros."""
    one = np.uint64(1)
    size = np.uint64(size)
    columns = np.uint64(Q.shape[1])
    for i in range(np.uint64(lo), np.uint64(hi)):
        start = np.uint64(Pp[i])
        end = start
        home = owner[i // size]
        # A row without a diagonal keeps its tentative interpolation.
        scale = omega / d[i] if d[i] != 0 else d[i] * 0
        if home >= 0:
            own = 1 - scale * d[i]
            for c in range(columns):
                Pj[end + c] = np.uint32(home) * np.uint32(columns) + np.uint32(c)
                Px[end + c] = own * Q[i, c]
            end += columns
        for k in range(indptr[i], indptr[i + one]):
            j = np.uint64(indices[k])
            if not strong[k] or j == i:
                continue
            a = owner[j // size]
            if a < 0:
                continue
            weight = scale * data[k]
            column = np.uint32(a) * np.uint32(columns)
            m = start
            while m < end and Pj[m] != column:
                m += columns
            if m == end:
                for c in range(columns):
                    Pj[end + c] = column + np.uint32(c)
                    Px[end + c] = 0
                end += columns
            for c in range(columns):
                Px[m + c] -= weight * Q[j, c]


def filtered_diagonal(A: tuple, strong: np.ndarray, smooth: np.ndarray) -> np.ndarray:
    """Return the diagonal of the filtered matrix A_F, which keeps what is strong.

    ``A_F @ smooth`` is ``A @ smooth``; for ones that is eq. 4.2 of Vanek, Mandel and Brezina
    (1996).
    """
    d = np.empty(A[0].shape[0] - 1, A[2].dtype)
    parallel_for(_filtered_diagonal, d.shape[0], GRAIN, *A, strong, smooth, d)
    return d


def radius_bound(A: tuple, strong: np.ndarray, d: np.ndarray) -> float:
    """Return Gershgorin's bound for the spectral radius of ``inv(D) A_F``."""
    sums = np.empty(d.shape[0], d.real.dtype)
    parallel_for(_row_sums, d.shape[0], GRAIN, *A, strong, d, sums)
    return float(sums.max(initial=0))


def smoothed(A: tuple, strong: np.ndarray, d: np.ndarray, omega: float, owner: np.ndarray,
             size: int, Q: np.ndarray) -> tuple:  # fmt: skip
    """Return the prolongation ``(I - omega inv(D) A_F) T`` as a CSR triple.

    Parameters
    ----------
    A : CSR triple
    strong : bool array
        Which entries, the diagonal aside, A_F keeps.
    d : (n,) array
        The diagonal of A_F.
    omega : float
    owner, size, Q
        The tentative prolongation T, as `tentative` has it.
    """
    n, k = Q.shape
    counts = np.zeros(n, np.int64)
    parallel_for(_smooth_count, n, GRAIN, size, A[0], A[1], strong, owner, counts)
    indptr = pointers(np.zeros(n, np.int64), counts * k)
    indices, data = np.empty(int(indptr[-1]), A[1].dtype), np.empty(int(indptr[-1]), A[2].dtype)
    parallel_for(_smooth_fill, n, GRAIN, size, d.real.dtype.type(omega), *A, strong, d, owner, Q,
                 indptr, indices, data)  # fmt: skip
    return indptr, indices, data
