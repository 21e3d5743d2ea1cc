"""The steps of a multigrid cycle on structured grids.

A level is a row of numbers `geo`, parameters of its axes `fp` and `ip`, coefficients `coef`, and
its parts of the work vectors. Its operator couples nearest neighbours. It is separable (sums of
products of one-dimensional arrays: nothing is read but vectors) or given by arrays.

Systems that are solved together are lanes: a line holds the values of all of them at its first
point, then at its second. Neighbours along it are `lanes` apart and everything else is the same.

The unit of work is a plane across the first axis; a grid of two axes has planes of one line. A
red-black sweep computes all points of a line, which vectorises, and keeps those of one colour.

A cycle is a list of steps; `run` does a list of them on small levels in ONE call.
"""

from __future__ import annotations

import numpy as np

from krylearn.kernels.parallel import jit

# Fields of `geo`: sizes, wrapping axes, coarse sizes, where an axis's numbers begin.
SIZES, WRAPS, VARIABLE, SCALED, COARSE, FLOATS, INTS, REACTION = 0, 3, 6, 7, 8, 11, 14, 17
LANES = 18
FIELDS = 19
CHILDREN = 6
# A signed constant would turn unsigned arithmetic into floating point.
ZERO, ONE, TWO, THREE, FOUR, SIX = (np.uint64(i) for i in (0, 1, 2, 3, 4, 6))
# Steps.
START, RELAX, RESTRICT, PROLONG, SOLVE, CLEAR, RESIDUAL, UPDATE = range(8)


@jit
def _offset(i, n, stride, upward, wraps):
    """Return where the neighbour along an axis lies, 0 where there is none."""
    back = ZERO - stride
    if upward:
        if i + ONE < n:
            return stride
        return back * (n - ONE) if wraps else back * ZERO
    if i > ZERO:
        return back
    return stride * (n - ONE) if wraps else back * ZERO


@jit
def _separable_line(k, j, geo, fp, f, u, out, inverse):
    """Write ``f + (what neighbours bring)`` of a line into `out`, 1 / diagonal into `inverse`."""
    nz, ny, nx = geo[0], geo[1], geo[2]
    fz, fy, fx = geo[11], geo[12], geo[13]
    kx, wx, dx = fp[fx : fx + nx], fp[fx + nx : fx + TWO * nx], fp[fx + TWO * nx : fx + THREE * nx]
    wy, wz = fp[fy + ny + j], fp[fz + nz + k]
    left, right = _offset(j, ny, nx, False, geo[4]), _offset(j, ny, nx, True, geo[4])
    below, above = _offset(k, nz, ny * nx, False, geo[3]), _offset(k, nz, ny * nx, True, geo[3])
    a = wy * wz
    yu, zu = fp[fy + j] * wz, fp[fz + k] * wy
    yl = fp[fy + (j - ONE if j > 0 else ny - ONE)] * wz
    zl = fp[fz + (k - ONE if k > 0 else nz - ONE)] * wy
    rest = fp[fy + TWO * ny + j] * wz + fp[fz + TWO * nz + k] * wy + fp[geo[17]] * a
    line = (k * ny + j) * nx
    # The last TWO links and volumes may differ from those inside.
    stop = nx - TWO if nx > TWO else ZERO
    if stop > ONE:
        v = wx[1]
        yl1, yu1, zl1, zu1 = v * yl, v * yu, v * zl, v * zu
        c = a * kx[1]
        d = fp.dtype.type(1) / (a * dx[1] + v * rest)
        for i in range(line + ONE, line + stop):
            out[i - line] = (
                f[i] + c * (u[i - ONE] + u[i + ONE]) + (yl1 * u[i + left] + yu1 * u[i + right])
                + (zl1 * u[i + below] + zu1 * u[i + above])
            )  # fmt: skip
        for i in range(ONE, stop):
            inverse[i] = d
    for m in range(min(3, nx)):
        at = ZERO if m == 0 else nx - np.uint64(m)
        if (m == 0) or (at > 0 and at >= stop):
            i = line + at
            v = wx[at]
            lower = kx[at - ONE] if at > 0 else (kx[nx - ONE] if geo[5] != 0 else kx[0] * 0)
            s = f[i] + v * (yl * u[i + left] + yu * u[i + right])
            s += v * (zl * u[i + below] + zu * u[i + above])
            s += a * (
                lower * u[i + _offset(at, nx, ONE, False, geo[5])]
                + kx[at] * u[i + _offset(at, nx, ONE, True, geo[5])]
            )
            out[at] = s
            inverse[at] = fp.dtype.type(1) / (a * dx[at] + v * rest)


@jit
def _neighbours(k, j, geo, coef, u, out):
    """Add what neighbours bring to a line to `out`, for coefficients in arrays.

    They are: the inverse diagonal, the upper links along x, y and z.
    """
    nz, ny, nx, lanes = geo[0], geo[1], geo[2], geo[18]
    n = nz * ny * nx
    line = (k * ny + j) * nx
    cx = coef[n + line : n + line + nx]
    here = u[line : line + nx]
    for i in range(lanes, nx - lanes):
        out[i] += cx[i] * here[i + lanes] + np.conj(cx[i - lanes]) * here[i - lanes]
    for m in range(lanes):
        last = nx - lanes + m
        if nx > lanes:
            out[m] += cx[m] * here[m + lanes]
            out[last] += np.conj(cx[last - lanes]) * here[last - lanes]
        if geo[5] != 0:
            out[m] += np.conj(cx[last]) * here[last]
            out[last] += cx[last] * here[m]
    for axis in range(2):
        at, size, stride, base, wraps = k, nz, ny * nx, THREE * n, geo[3]
        if axis == 1:
            at, size, stride, base, wraps = j, ny, nx, TWO * n, geo[4]
        if at + ONE < size or wraps != 0:
            c = coef[base + line : base + line + nx]
            other = line + _offset(at, size, stride, True, wraps)
            v = u[other : other + nx]
            for i in range(nx):
                out[i] += c[i] * v[i]
        if at > 0 or wraps != 0:
            other = line + _offset(at, size, stride, False, wraps)
            c = coef[base + other : base + other + nx]
            v = u[other : other + nx]
            for i in range(nx):
                out[i] += np.conj(c[i]) * v[i]


@jit
def _line(k, j, geo, fp, coef, f, u, out, inverse):
    if geo[6] != 0:
        line = (k * geo[1] + j) * geo[2]
        rhs, q = f[line : line + geo[2]], coef[line : line + geo[2]]
        for i in range(geo[2]):
            out[i] = rhs[i]
        _neighbours(k, j, geo, coef, u, out)
        for i in range(geo[2]):
            inverse[i] = q[i]
    else:
        _separable_line(k, j, geo, fp, f, u, out, inverse)


@jit
def _start(lo, hi, geo, fp, coef, f, u, out, inverse):
    """Relax the red points, all values being zero before."""
    ny, nx = geo[1], geo[2]
    for k in range(np.uint64(lo), np.uint64(hi)):
        for j in range(ny):
            line = (k * ny + j) * nx
            place = geo[17] + ONE + ((k + j) & ONE) * geo[18]
            mask = fp[place : place + nx]
            here, rhs = u[line : line + nx], f[line : line + nx]
            if geo[6] != 0:
                q = coef[line : line + nx]
                for i in range(nx):
                    here[i] = rhs[i] * q[i] if mask[i] != 0 else u.dtype.type(0)
            else:
                _diagonal_line(k, j, geo, fp, inverse)
                for i in range(nx):
                    here[i] = rhs[i] * inverse[i] if mask[i] != 0 else u.dtype.type(0)


@jit
def _diagonal_line(k, j, geo, fp, inverse):
    nz, ny, nx = geo[0], geo[1], geo[2]
    fz, fy, fx = geo[11], geo[12], geo[13]
    wx, dx = fp[fx + nx : fx + TWO * nx], fp[fx + TWO * nx : fx + THREE * nx]
    wy, wz = fp[fy + ny + j], fp[fz + nz + k]
    a = wy * wz
    rest = fp[fy + TWO * ny + j] * wz + fp[fz + TWO * nz + k] * wy + fp[geo[17]] * a
    for i in range(nx):
        inverse[i] = fp.dtype.type(1) / (a * dx[i] + wx[i] * rest)


@jit
def _relax(lo, hi, colour, box, geo, fp, coef, f, u, out, inverse):
    """Relax the points of a colour within a box.

    Around a ring of odd length two colours do not do: its last points are a box of their own
    (bit set in `box`), and the others ONE (bit not set).
    """
    nz, ny, nx, lanes = geo[0], geo[1], geo[2], geo[18]
    first, last = ZERO, nx
    if geo[5] != 0 and (nx // lanes) & ONE and nx > lanes:
        first, last = (nx - lanes, nx) if box & 1 else (first, nx - lanes)
    for k in range(np.uint64(lo), np.uint64(hi)):
        if geo[3] != 0 and nz & ONE and nz > ONE and (k == nz - ONE) != ((box & 4) != 0):
            continue
        for j in range(ny):
            if geo[4] != 0 and ny & ONE and ny > ONE and (j == ny - ONE) != ((box & 2) != 0):
                continue
            _line(k, j, geo, fp, coef, f, u, out, inverse)
            line = (k * ny + j) * nx
            place = geo[17] + ONE + ((k + j + np.uint64(colour)) & ONE) * lanes
            mask, here = fp[place : place + nx], u[line : line + nx]
            for i in range(first, last):
                here[i] = out[i] * inverse[i] if mask[i] != 0 else here[i]


@jit
def _restrict(lo, hi, geo, fp, ip, coef, f, u, coarse, out, inverse):
    """Write the restricted residual into coarse planes [lo, hi)."""
    nz, ny, nx = geo[0], geo[1], geo[2]
    my, mx = geo[9], geo[10]
    n = nz * ny * nx
    zero = u.dtype.type(0)
    px, py, pz = geo[16], geo[15], geo[14]
    wx, wy, wz = geo[13] + THREE * nx, geo[12] + THREE * ny, geo[11] + THREE * nz
    line_c = np.empty(mx, u.dtype)
    for i in range(np.uint64(lo) * my * mx, np.uint64(hi) * my * mx):
        coarse[i] = zero
    for k in range(nz):
        parents = (ip[pz + TWO * k], ip[pz + TWO * k + ONE])
        if not (lo <= parents[0] < hi or lo <= parents[1] < hi):
            continue
        for j in range(ny):
            _line(k, j, geo, fp, coef, f, u, out, inverse)
            line = (k * ny + j) * nx
            here = u[line : line + nx]
            if geo[7] != 0:
                s = coef[FOUR * n + line : FOUR * n + line + nx]
                for i in range(nx):
                    out[i] = (out[i] - here[i] / inverse[i]) * s[i].real
            else:
                for i in range(nx):
                    out[i] = out[i] - here[i] / inverse[i]
            if mx == nx:
                line_c[:] = out[:nx]
            else:
                _restrict_line(nx, mx, ip, px, fp, wx, out, line_c)
            for a in range(TWO):
                K, vz = parents[a], fp[wz + TWO * k + a]
                if lo <= K < hi and vz != 0:
                    for b in range(TWO):
                        J, v = ip[py + TWO * j + b], vz * fp[wy + TWO * j + b]
                        if v != 0:
                            at = (np.uint64(K) * my + np.uint64(J)) * mx
                            target = coarse[at : at + mx]
                            for i in range(mx):
                                target[i] += v * line_c[i]


@jit
def _restrict_line(nx, mx, ip, px, fp, wx, fine, out):
    children, back = px + TWO * nx, wx + TWO * nx
    for i in range(mx):
        total = out.dtype.type(0)
        for s in range(i * SIX, i * SIX + SIX):
            total += fp[back + s] * fine[np.uint64(ip[children + s])]
        out[i] = total


@jit
def _prolong(lo, hi, geo, fp, ip, coef, coarse, u):
    """Add the interpolated correction to planes [lo, hi)."""
    nz, ny, nx = geo[0], geo[1], geo[2]
    my, mx = geo[9], geo[10]
    n = nz * ny * nx
    px, py, pz = geo[16], geo[15], geo[14]
    wx, wy, wz = geo[13] + THREE * nx, geo[12] + THREE * ny, geo[11] + THREE * nz
    line_c = np.empty(mx, u.dtype)
    for k in range(np.uint64(lo), np.uint64(hi)):
        for j in range(ny):
            line_c[:] = 0
            for a in range(TWO):
                vz = fp[wz + TWO * k + a]
                for b in range(TWO):
                    v = vz * fp[wy + TWO * j + b]
                    if v != 0:
                        K, J = np.uint64(ip[pz + TWO * k + a]), np.uint64(ip[py + TWO * j + b])
                        source = coarse[(K * my + J) * mx : (K * my + J) * mx + mx]
                        for i in range(mx):
                            line_c[i] += v * source[i]
            line = (k * ny + j) * nx
            here = u[line : line + nx]
            if geo[7] != 0:
                s = coef[FOUR * n + line : FOUR * n + line + nx]
                for i in range(nx):
                    v = fp[wx + TWO * i] * line_c[np.uint64(ip[px + TWO * i])]
                    v += fp[wx + TWO * i + ONE] * line_c[np.uint64(ip[px + TWO * i + ONE])]
                    here[i] += s[i].real * v
            elif mx == nx:
                for i in range(nx):
                    here[i] += line_c[i]
            else:
                for i in range(nx):
                    here[i] += (
                        fp[wx + TWO * i] * line_c[np.uint64(ip[px + TWO * i])]
                        + fp[wx + TWO * i + ONE] * line_c[np.uint64(ip[px + TWO * i + ONE])]
                    )


@jit
def _residual(lo, hi, geo, fp, coef, f, u, t, out, inverse):
    """Write the residual over the diagonal into t."""
    ny, nx = geo[1], geo[2]
    for k in range(np.uint64(lo), np.uint64(hi)):
        for j in range(ny):
            _line(k, j, geo, fp, coef, f, u, out, inverse)
            line = (k * ny + j) * nx
            here, there = u[line : line + nx], t[line : line + nx]
            for i in range(nx):
                there[i] = out[i] * inverse[i] - here[i]


@jit
def _update(lo, hi, alpha, beta, geo, t, d, u):
    """Do ``d = alpha t + beta d; u += d``."""
    size = geo[1] * geo[2]
    a, b = t.real.dtype.type(alpha), t.real.dtype.type(beta)
    for i in range(np.uint64(lo) * size, np.uint64(hi) * size):
        v = a * t[i]
        if b != 0:
            v += b * d[i]
        d[i] = v
        u[i] += v


@jit
def _solve(lanes, inverse, f, u):
    n = np.uint64(f.shape[0])
    for i in range(ZERO, n, lanes):
        for m in range(lanes):
            u[i + m] = 0
        for j in range(ZERO, n, lanes):
            at = i // lanes * n + j
            for m in range(lanes):
                u[i + m] += inverse[at + m] * f[j + m]


@jit
def step(lo, hi, op, colour, box, alpha, beta, geo, fp, ip, coef, f, u, t, d, coarse_f, coarse_u):
    """Do planes [lo, hi) of ONE step; of coarse planes where it restricts."""
    out, inverse = np.empty(geo[2], u.dtype), np.empty(geo[2], coef.dtype)
    if op == START:
        _start(lo, hi, geo, fp, coef, f, u, out, inverse)
    elif op == RELAX:
        _relax(lo, hi, colour, box, geo, fp, coef, f, u, out, inverse)
    elif op == RESTRICT:
        _restrict(lo, hi, geo, fp, ip, coef, f, u, coarse_f, out, inverse)
    elif op == PROLONG:
        _prolong(lo, hi, geo, fp, ip, coef, coarse_u, u)
    elif op == CLEAR:
        size = geo[1] * geo[2]
        u[np.uint64(lo) * size : np.uint64(hi) * size] = 0
    elif op == RESIDUAL:
        _residual(lo, hi, geo, fp, coef, f, u, t, out, inverse)
    elif op == UPDATE:
        _update(lo, hi, alpha, beta, geo, t, d, u)


@jit
def run(steps, factors, geos, places, fp, ip, coef, f, u, t, d, dense):
    """Do a list of steps.

    `places` says for each level where its part of the vectors and of `coef` begins and ends.
    """
    for s in range(steps.shape[0]):
        op, level, colour, box = steps[s, 0], steps[s, 1], steps[s, 2], steps[s, 3]
        first, last = places[level, 0], places[level, 1]
        if op == SOLVE:
            _solve(geos[level, LANES], dense, f[first:last], u[first:last])
            continue
        down, end = places[level + 1, 0], places[level + 1, 1]
        planes = geos[level, COARSE] if op == RESTRICT else geos[level, SIZES]
        step(
            0, np.int64(planes), op, colour, box, factors[s, 0], factors[s, 1], geos[level], fp, ip,
            coef[places[level, 2] : places[level, 3]], f[first:last], u[first:last], t[first:last],
            d[first:last], f[down:end], u[down:end],
        )  # fmt: skip


@jit
def load(lo, hi, scale, r, f):
    """Do ``f = scale * r`` in the precision of f."""
    for i in range(np.uint64(lo), np.uint64(hi)):
        f[i] = scale * r[i]


@jit
def store(lo, hi, scale, u, out):
    """Do ``out = scale * u`` in the precision of out."""
    s = out.real.dtype.type(scale)
    for i in range(np.uint64(lo), np.uint64(hi)):
        out[i] = s * u[i]
