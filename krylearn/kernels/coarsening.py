"""Coarse operators of grids whose coefficients are given point by point; lanes as in `multigrid`.

Coefficients are rows over all points: the (inverse) diagonal, and the links along x, y and z. A
coarse link takes fine ones in series along it and in parallel beside it.
"""

from __future__ import annotations

import numpy as np

from krylearn.kernels.multigrid import ONE, THREE, TWO, _offset
from krylearn.kernels.parallel import jit

# Entries of the tables of shares and of links.
SHARES, LINKS = 6, 5


@jit
def interleave(lo, hi, lane, lanes, sign, values, out):
    """Write the values of a system where those of its lane are."""
    for i in range(np.uint64(lo), np.uint64(hi)):
        out[i * lanes + np.uint64(lane)] = sign * values[i]


@jit
def _add_links(k, j, geo, coef, sign, out):
    """Add ``sign * abs`` of all links of a line, upper and lower, to `out`."""
    nz, ny, nx, lanes = geo[0], geo[1], geo[2], geo[18]
    n = nz * ny * nx
    line = (k * ny + j) * nx
    c = coef[n + line : n + line + nx]
    for i in range(nx):
        out[i] += sign * abs(c[i])
    for i in range(lanes, nx):
        out[i] += sign * abs(c[i - lanes])
    if geo[5] != 0:
        for m in range(lanes):
            out[m] += sign * abs(c[nx - lanes + m])
    for axis in range(2):
        at, size, stride, base, wraps = k, nz, ny * nx, THREE * n, geo[3]
        if axis == 1:
            at, size, stride, base, wraps = j, ny, nx, TWO * n, geo[4]
        base += line
        c = coef[base : base + nx]
        for i in range(nx):
            out[i] += sign * abs(c[i])
        if at > 0 or wraps != 0:
            base += _offset(at, size, stride, False, wraps)
            c = coef[base : base + nx]
            for i in range(nx):
                out[i] += sign * abs(c[i])


@jit
def finest(lo, hi, eps, nothing, geo, A, unit, coef, excess):
    """Pack the operator of the finest level, times `unit`, and what its diagonal has beyond links.

    `unit` has one number for each point of a line.
    """
    nz, ny, nx = geo[0], geo[1], geo[2]
    n = nz * ny * nx
    total = np.empty(nx, A.dtype)
    for k in range(np.uint64(lo), np.uint64(hi)):
        for j in range(ny):
            line = (k * ny + j) * nx
            d, q, e = A[line : line + nx], coef[line : line + nx], excess[line : line + nx]
            for i in range(nx):
                total[i] = d[i]
            _add_links(k, j, geo, A, -1.0, total)
            for i in range(nx):
                v = total[i] if abs(total[i]) > eps * d[i] else 0.0
                e[i] = max(v, 0.0) * unit[i]
                v = d[i] * unit[i]
                q[i] = 1.0 / v if v > 0.0 else nothing
            for row in range(ONE, np.uint64(4)):
                c, out = A[row * n + line : row * n + line + nx], coef[row * n + line :]
                for i in range(nx):
                    out[i] = c[i] * unit[i]


@jit
def _series(base, stride, index, part, cross, row, nx, coef, out):
    """Write the fine links along an axis in series, for a line."""
    for i in range(nx):
        out[i] = 0
    for s in range(row * np.uint64(LINKS), (row + ONE) * np.uint64(LINKS)):
        if part[s] != 0:
            start = base + np.uint64(index[s]) * stride
            c = coef[start : start + nx]
            w = out.dtype.type(part[s])
            for i in range(nx):
                out[i] += w / c[i] if c[i] > 0 else out.dtype.type(0)
    for i in range(nx):
        out[i] = out.dtype.type(1) / out[i] if out[i] > 0 else out.dtype.type(0)
    for s in range(row * np.uint64(LINKS), (row + ONE) * np.uint64(LINKS)):
        # A closed link between coarse points closes theirs; one within them does not.
        if cross[s] != 0:
            start = base + np.uint64(index[s]) * stride
            c = coef[start : start + nx]
            for i in range(nx):
                out[i] = out[i] if c[i] > 0 else out.dtype.type(0)


@jit
def _share_line(weight, lanes, index, part, fine, out):
    """Add the shares of a line along x to `out`."""
    m = np.uint64(out.shape[0]) // lanes
    for i in range(m):
        for s in range(i * np.uint64(SHARES), (i + ONE) * np.uint64(SHARES)):
            if part[s] != 0:
                w = out.dtype.type(weight * part[s])
                source = np.uint64(index[s]) * lanes
                for l in range(lanes):
                    out[i * lanes + l] += w * fine[source + l]


@jit
def _links_line(weight, lanes, index, part, cross, fine, resistance, out):
    """Add the links of a line along x to `out`, the fine ones in series."""
    nx = np.uint64(fine.shape[0])
    m = np.uint64(out.shape[0]) // lanes
    for i in range(nx):
        resistance[i] = out.dtype.type(1) / fine[i] if fine[i] > 0 else out.dtype.type(0)
    for i in range(m):
        for l in range(lanes):
            total, closed = out.dtype.type(0), False
            for s in range(i * np.uint64(LINKS), (i + ONE) * np.uint64(LINKS)):
                r = resistance[np.uint64(index[s]) * lanes + l]
                total += out.dtype.type(part[s]) * r
                closed = closed or (cross[s] != 0 and r == 0)
            if total > 0 and not closed:
                out[i * lanes + l] += out.dtype.type(weight) / total


@jit
def coarsen(lo, hi, geo, size, sz, wz, lz, pz, cz, sy, wy, ly, py, cy, sx, wx, lx, px, cx, coef,
            excess, coarse, coarse_excess):  # fmt: skip
    """Write the links and the excess of coarse planes [lo, hi).

    The tables of each axis: points and their shares, links, their parts, and whether they cross.
    """
    nz, ny, nx, lanes = geo[0], geo[1], geo[2], geo[18]
    my, mx = size[1], size[2]
    n, m = nz * ny * nx, size[0] * my * mx
    plane = ny * nx
    line, scratch = np.empty(nx, coef.dtype), np.empty(nx, coef.dtype)
    six = np.uint64(SHARES)
    for K in range(np.uint64(lo), np.uint64(hi)):
        for J in range(my):
            at = (K * my + J) * mx
            rest = coarse_excess[at : at + mx]
            along_x = coarse[m + at : m + at + mx]
            along_y = coarse[TWO * m + at : TWO * m + at + mx]
            along_z = coarse[THREE * m + at : THREE * m + at + mx]
            for i in range(mx):
                rest[i] = along_x[i] = along_y[i] = along_z[i] = 0
            for b in range(J * six, (J + ONE) * six):
                if nz > ONE and wy[b] != 0:
                    base = THREE * n + np.uint64(sy[b]) * nx
                    _series(base, plane, lz, pz, cz, K, nx, coef, line)
                    _share_line(wy[b], lanes, sx, wx, line, along_z)
            for a in range(K * six, (K + ONE) * six):
                if wz[a] == 0:
                    continue
                if ny > ONE:
                    base = TWO * n + np.uint64(sz[a]) * plane
                    _series(base, nx, ly, py, cy, J, nx, coef, line)
                    _share_line(wz[a], lanes, sx, wx, line, along_y)
                for b in range(J * six, (J + ONE) * six):
                    if wy[b] == 0:
                        continue
                    w = wz[a] * wy[b]
                    start = (np.uint64(sz[a]) * ny + np.uint64(sy[b])) * nx
                    if nx > lanes:
                        fine = coef[n + start : n + start + nx]
                        _links_line(w, lanes, lx, px, cx, fine, scratch, along_x)
                    _share_line(w, lanes, sx, wx, excess[start : start + nx], rest)


@jit
def diagonal(lo, hi, nothing, geo, excess, coef):
    """Write the inverse diagonal from links and `excess`, sides included."""
    ny, nx = geo[1], geo[2]
    total = np.empty(nx, coef.dtype)
    for k in range(np.uint64(lo), np.uint64(hi)):
        for j in range(ny):
            line = (k * ny + j) * nx
            e, q = excess[line : line + nx], coef[line : line + nx]
            for i in range(nx):
                total[i] = e[i]
            _add_links(k, j, geo, coef, 1.0, total)
            for i in range(nx):
                q[i] = 1 / total[i] if total[i] > 0 else nothing
