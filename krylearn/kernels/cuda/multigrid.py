"""The steps of a multigrid cycle on structured grids: the twins of `krylearn.kernels.multigrid`.

The same numbers describe a level, and the same lists of steps a cycle. `step` does one of them on
the whole device, `run` a list of them on small levels in one block, without coming back. What
makes V(1, 1) quick on large levels stands in `multigrid_fused`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda

from krylearn.kernels.cuda.launch import (
    SIMULATED,
    THREADS,
    blocks_for,
    device,
    jit,
    jit_for,
    launch,
)
from krylearn.kernels.cuda.stencil import after, before
from krylearn.kernels.multigrid import (
    CLEAR,
    PROLONG,
    RELAX,
    RESIDUAL,
    RESTRICT,
    SOLVE,
    START,
    UPDATE,
)

# A restriction is two steps here: the residual of all points, then what coarse points take of it.
DEFECT, GATHER = 10, 11
CHILDREN = 6
# Threads of the block that works on small levels.
ALONE = 4 if SIMULATED else 512


@device
def _place(at, ny, nx):
    """Return the point that lies at a place: its numbers along x, y and z."""
    row = np.uint32(at // nx)
    return np.uint32(at - row * nx), np.uint32(row % ny), np.uint32(row // ny)


@device
def _last(i, n):
    """Return the number of the point before i on a ring."""
    return np.uint32(i - 1) if i > 0 else np.uint32(n - 1)


@device
def _couplings(i, j, k, at, g, fp, coef, u):
    """Return the sum of the neighbours' values times their links."""
    nz, ny, nx = g[0], g[1], g[2]
    size = np.uint32(ny * nx)
    west, east = before(at, i, nx, np.uint32(1), g[5]), after(at, i, nx, np.uint32(1), g[5])
    south, north = before(at, j, ny, nx, g[4]), after(at, j, ny, nx, g[4])
    under, over = before(at, k, nz, size, g[3]), after(at, k, nz, size, g[3])
    if g[6] != 0:
        n = np.uint32(nz * size)
        zero = u.dtype.type(0)
        x, y, z = coef[n:], coef[np.uint32(n + n) :], coef[np.uint32(n + n + n) :]
        t = (x[at] if i + 1 < nx or g[5] != 0 else zero) * u[east]
        t += (np.conj(x[west]) if i > 0 or g[5] != 0 else zero) * u[west]
        t += (y[at] if j + 1 < ny or g[4] != 0 else zero) * u[north]
        t += (np.conj(y[south]) if j > 0 or g[4] != 0 else zero) * u[south]
        t += (z[at] if k + 1 < nz or g[3] != 0 else zero) * u[over]
        t += (np.conj(z[under]) if k > 0 or g[3] != 0 else zero) * u[under]
        return t
    # Links across an end that does not wrap are zero.
    x, y, z = fp[g[13] :], fp[g[12] :], fp[g[11] :]
    wx, wy, wz = x[np.uint32(nx + i)], y[np.uint32(ny + j)], z[np.uint32(nz + k)]
    t = wy * wz * (x[_last(i, nx)] * u[west] + x[i] * u[east])
    t += wx * wz * (y[_last(j, ny)] * u[south] + y[j] * u[north])
    return t + wx * wy * (z[_last(k, nz)] * u[under] + z[k] * u[over])


@device
def _inverse(i, j, k, at, g, fp, coef):
    """Return the inverse of the diagonal."""
    nz, ny, nx = g[0], g[1], g[2]
    if g[6] != 0:
        return coef[at]
    x, y, z = fp[g[13] :], fp[g[12] :], fp[g[11] :]
    wx, wy, wz = x[np.uint32(nx + i)], y[np.uint32(ny + j)], z[np.uint32(nz + k)]
    d = wy * wz * (x[np.uint32(nx + nx + i)] + fp[g[17]] * wx)
    d += wx * (wz * y[np.uint32(ny + ny + j)] + wy * z[np.uint32(nz + nz + k)])
    return coef.dtype.type(fp.dtype.type(1) / d)


@device
def _within(i, j, k, box, g):
    """Say whether a point is of a box: see `kernels.multigrid._relax`."""
    here = True
    if g[5] != 0 and g[2] & 1 and g[2] > 1:
        here = here and (i + 1 == g[2]) == (box & 1 != 0)
    if g[4] != 0 and g[1] & 1 and g[1] > 1:
        here = here and (j + 1 == g[1]) == (box & 2 != 0)
    if g[3] != 0 and g[0] & 1 and g[0] > 1:
        here = here and (k + 1 == g[0]) == (box & 4 != 0)
    return here


@device
def _gathered(I, J, K, g, fp, ip, t):
    """Return what a coarse point takes of the residuals."""
    nz, ny, nx = g[0], g[1], g[2]
    bx, by, bz = fp[g[13] + 5 * nx :], fp[g[12] + 5 * ny :], fp[g[11] + 5 * nz :]
    cx, cy, cz = ip[g[16] + 2 * nx :], ip[g[15] + 2 * ny :], ip[g[14] + 2 * nz :]
    total = t.dtype.type(0)
    for c in range(CHILDREN):
        vz = bz[np.uint32(CHILDREN * K + c)]
        if vz != 0:
            for b in range(CHILDREN):
                v = vz * by[np.uint32(CHILDREN * J + b)]
                if v != 0:
                    row = np.uint32(cz[np.uint32(CHILDREN * K + c)] * ny)
                    row = np.uint32((row + cy[np.uint32(CHILDREN * J + b)]) * nx)
                    part = t.dtype.type(0)
                    for a in range(CHILDREN):
                        w = bx[np.uint32(CHILDREN * I + a)]
                        if w != 0:
                            part += w * t[np.uint32(row + cx[np.uint32(CHILDREN * I + a)])]
                    total += v * part
    return total


@device
def _interpolated(i, j, k, g, fp, ip, coarse):
    """Return the coarse values' interpolation at a point."""
    nz, ny, nx, my, mx = g[0], g[1], g[2], g[9], g[10]
    px, py, pz = ip[g[16] :], ip[g[15] :], ip[g[14] :]
    wx, wy, wz = fp[g[13] + 3 * nx :], fp[g[12] + 3 * ny :], fp[g[11] + 3 * nz :]
    low, high = px[np.uint32(i + i)], px[np.uint32(i + i + 1)]
    u, v = wx[np.uint32(i + i)], wx[np.uint32(i + i + 1)]
    total = coarse.dtype.type(0)
    for c in range(2):
        K, vz = pz[np.uint32(k + k + c)], wz[np.uint32(k + k + c)]
        for b in range(2):
            w = vz * wy[np.uint32(j + j + b)]
            row = np.uint32((K * my + py[np.uint32(j + j + b)]) * mx)
            total += w * (u * coarse[np.uint32(row + low)] + v * coarse[np.uint32(row + high)])
    return total


@device
def _do(op, colour, box, alpha, beta, g, fp, ip, coef, f, u, t, d, coarse_f, coarse_u, dense,
        begin, stride):  # fmt: skip
    """Do a thread's part of a step: the points `begin`, ``begin + stride``, ..."""
    nz, ny, nx, mz, my, mx = g[0], g[1], g[2], g[8], g[9], g[10]
    n = np.uint32(mz * my * mx) if op == GATHER else np.uint32(nz * ny * nx)
    at = np.uint32(begin)
    while at < n:
        if op == CLEAR:
            u[at] = 0
        elif op == UPDATE:
            v = fp.dtype.type(alpha) * t[at]
            if beta != 0:
                v += fp.dtype.type(beta) * d[at]
            d[at] = v
            u[at] += v
        elif op == SOLVE:
            v = u.dtype.type(0)
            for m in range(n):
                v += dense[np.uint32(at * n + m)] * f[m]
            u[at] = v
        elif op == GATHER:
            i, j, k = _place(at, my, mx)
            coarse_f[at] = _gathered(i, j, k, g, fp, ip, t)
        else:
            i, j, k = _place(at, ny, nx)
            red = (i + j + k) & 1 == 0
            if op == PROLONG:
                v = _interpolated(i, j, k, g, fp, ip, coarse_u)
                if g[7] != 0:
                    v *= coef[np.uint32(4 * n + at)].real
                u[at] += v
            elif op == START:
                u[at] = f[at] * _inverse(i, j, k, at, g, fp, coef) if red else u.dtype.type(0)
            elif op == RELAX:
                if red == (colour == 0) and _within(i, j, k, box, g):
                    v = f[at] + _couplings(i, j, k, at, g, fp, coef, u)
                    u[at] = v * _inverse(i, j, k, at, g, fp, coef)
            else:
                v = f[at] + _couplings(i, j, k, at, g, fp, coef, u)
                inverse = _inverse(i, j, k, at, g, fp, coef)
                if op == RESIDUAL:
                    t[at] = v * inverse - u[at]
                else:  # DEFECT
                    v -= u[at] / inverse
                    if g[7] != 0:
                        v *= coef[np.uint32(4 * n + at)].real
                    t[at] = v
        at = np.uint32(at + stride)


@jit
def _step(log, op, colour, box, alpha, beta, level, geos, places, fp, ip, coef, f, u, t, d,
          dense):  # fmt: skip
    if log[0] != 0.0:
        return
    here, there, own = places[level, 0], places[level + 1, 0], places[level, 1]
    _do(op, colour, box, alpha, beta, geos[level], fp, ip, coef[places[level, 2] :], f[here:],
        u[here:], t[own:], d[own:], f[there:], u[there:], dense, cuda.grid(1), cuda.gridsize(1)
        )  # fmt: skip


@jit_for(ALONE)
def _run(log, steps, factors, geos, places, fp, ip, coef, f, u, t, d, dense):
    if log[0] != 0.0:
        return
    for s in range(steps.shape[0]):
        level = steps[s, 1]
        here, there, own = places[level, 0], places[level + 1, 0], places[level, 1]
        _do(steps[s, 0], steps[s, 2], steps[s, 3], factors[s, 0], factors[s, 1], geos[level], fp,
            ip, coef[places[level, 2] :], f[here:], u[here:], t[own:], d[own:], f[there:],
            u[there:], dense, cuda.threadIdx.x, cuda.blockDim.x)  # fmt: skip
        cuda.syncthreads()


def step(n: int, log: Any, entry: tuple, *arrays: Any) -> None:
    """Do a step on a level of n unknowns."""
    op, level, colour, box, alpha, beta = entry
    if op == RESTRICT:
        for part in (DEFECT, GATHER):
            step(n, log, (part, *entry[1:]), *arrays)
        return
    launch(_step, blocks_for(n), THREADS, log, op, colour, box, alpha, beta, level, *arrays)


def run(log: Any, steps: Any, factors: Any, *arrays: Any) -> None:
    """Do a list of steps in one block."""
    launch(_run, 1, ALONE, log, steps, factors, *arrays)


def in_two(listed: list) -> list:
    """Return a list of steps with its restrictions as the two steps that they are here."""
    parts: list = []
    for entry in listed:
        ops = (DEFECT, GATHER) if entry[0] == RESTRICT else (entry[0],)
        parts += [(op, *entry[1:]) for op in ops]
    return parts
