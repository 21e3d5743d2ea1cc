"""Iterations of a relaxation for many omegas at once, on constant 5-point stencils: no solutions.

The chain of dependent operations in a sweep leaves a processor idle most of the time: the chains
of `LANES` omegas, whose values lie next to each other, take hardly longer than one.
"""

from __future__ import annotations

import numpy as np

from krylearn.kernels.parallel import jit

# Omegas that are swept together.
LANES = 4
# Unsigned, so that no index is tested for being negative.
ONE = np.uint64(1)


@jit
def sor_counts(lo, hi, b, diagonal, omegas, tolerance, most, counts):
    """Count the SOR sweeps that ``diagonal x - (sum of the 4 neighbours) = b`` takes from x = 0.

    `b` is (m, m), `omegas` and `counts` are (groups, LANES); groups lo to hi are done. A count is
    `most` where the residual norm has not come down to `tolerance`.
    """
    end = np.uint64(b.shape[0] + 1)
    f, x = _spread(b), _spread(b)
    norms = np.empty(LANES)
    for group in range(np.uint64(lo), np.uint64(hi)):
        x[:] = 0.0
        counts[group] = most
        keep, scale = 1 - omegas[group], omegas[group] / diagonal
        for sweep in range(1, most + 1):
            for i in range(ONE, end):
                for j in range(ONE, end):
                    for a in range(LANES):
                        around = x[i - ONE, j, a] + x[i + ONE, j, a] + x[i, j + ONE, a]
                        known = keep[a] * x[i, j, a] + scale[a] * (f[i, j, a] + around)
                        # The chain, as short as can be.
                        x[i, j, a] = known + scale[a] * x[i, j - ONE, a]
            norms[:] = 0.0
            for i in range(ONE, end):
                for j in range(ONE, end):
                    for a in range(LANES):
                        around = x[i - ONE, j, a] + x[i + ONE, j, a]
                        around += x[i, j - ONE, a] + x[i, j + ONE, a]
                        norms[a] += (f[i, j, a] + around - diagonal * x[i, j, a]) ** 2
            if _all_done(norms, tolerance, sweep, most, counts[group]):
                break


@jit
def ssor_cg_counts(lo, hi, r0, diagonal, off, omegas, tolerance, most, counts):
    """Count the iterations of SSOR-CG for ``diagonal x - off (sum of the 4 neighbours)``.

    `r0` is the first residual, (m, m); the rest is as for `sor_counts`. Only what the residuals
    need is kept.
    """
    start = _spread(r0)
    r, z, p, q = start.copy(), start.copy(), start.copy(), start.copy()
    norms, rz, before, pq = np.zeros((4, LANES))
    for group in range(np.uint64(lo), np.uint64(hi)):
        r[:], z[:], p[:], q[:] = start, 0.0, 0.0, 0.0
        counts[group] = most
        scale, step = omegas[group] / diagonal, np.zeros(LANES)
        chain = off * scale
        for k in range(most):
            _forward(r, z, q, step, scale, chain, off, norms)
            if _all_done(norms, tolerance, k, most, counts[group]):
                break
            before[:] = rz
            _backward(r, z, scale, chain, diagonal, off, rz)
            _turn(z, p, rz / before if k else np.zeros(LANES), q, diagonal, off, pq)
            step = rz / pq


@jit
def _spread(values):
    """Return (m, m) values in all lanes, zeros around."""
    m = values.shape[0]
    spread = np.zeros((m + 2, m + 2, LANES))
    for a in range(LANES):
        spread[1 : m + 1, 1 : m + 1, a] = values
    return spread


@jit
def _all_done(norms, tolerance, iterations, most, counts):
    """Note the lanes whose squared residual norms have come down; return whether all have."""
    left = 0
    for a in range(LANES):
        if counts[a] == most and norms[a] <= tolerance * tolerance:
            counts[a] = iterations
        left += counts[a] == most
    return left == 0


@jit
def _forward(r, z, q, step, scale, chain, off, norms):
    """``r -= step q``, then ``(D / omega + L) z = r``; write the squared norms of r."""
    norms[:] = 0.0
    for i in range(ONE, np.uint64(r.shape[0]) - ONE):
        for j in range(ONE, np.uint64(r.shape[1]) - ONE):
            for a in range(LANES):
                value = r[i, j, a] - step[a] * q[i, j, a]
                r[i, j, a] = value
                norms[a] += value * value
                known = scale[a] * (value + off * z[i - ONE, j, a])
                z[i, j, a] = known + chain[a] * z[i, j - ONE, a]


@jit
def _backward(r, z, scale, chain, diagonal, off, rz):
    """``(D / omega + U) z = D z``; write the dot products of r and z."""
    rz[:] = 0.0
    rows, columns = np.uint64(r.shape[0]) - ONE, np.uint64(r.shape[1]) - ONE
    for south in range(ONE, rows):
        i = rows - south
        for east in range(ONE, columns):
            j = columns - east
            for a in range(LANES):
                known = scale[a] * (diagonal * z[i, j, a] + off * z[i + ONE, j, a])
                value = known + chain[a] * z[i, j + ONE, a]
                z[i, j, a] = value
                rz[a] += r[i, j, a] * value


@jit
def _turn(z, p, turn, q, diagonal, off, pq):
    """``p = z + turn p``, ``q = A p``; write the dot products of p and q."""
    pq[:] = 0.0
    end = np.uint64(z.shape[1]) - ONE
    for i in range(ONE, np.uint64(z.shape[0])):
        for j in range(ONE, end):
            for a in range(LANES):
                p[i, j, a] = z[i, j, a] + turn[a] * p[i, j, a]
        if i > ONE:
            h = i - ONE
            for j in range(ONE, end):
                for a in range(LANES):
                    around = p[h - ONE, j, a] + p[i, j, a] + p[h, j - ONE, a] + p[h, j + ONE, a]
                    value = diagonal * p[h, j, a] - off * around
                    q[h, j, a] = value
                    pq[a] += p[h, j, a] * value
