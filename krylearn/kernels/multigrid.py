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
LANES, FIRST, REGULAR = 18, 19, 20
FIELDS = 21
CHILDREN = 6
# A signed constant would turn unsigned arithmetic into floating point.
ZERO, ONE, TWO, THREE, FOUR, FIVE, SIX = (np.uint64(i) for i in range(7))
# Steps.
START, RELAX, RESTRICT, PROLONG, SOLVE, CLEAR, RESIDUAL, UPDATE, DOWN, UP = range(10)


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
def _separable_line(k, j, geo, fp, rhs, u, base, below, above, out):
    """Write into `out` the values of a line that satisfy its equations, neighbours as they are.

    The line begins at `base` in u, whose planes lie `below` and `above`; `rhs` and `out` begin
    with it.
    """
    nz, ny, nx = geo[0], geo[1], geo[2]
    fz, fy, fx = geo[11], geo[12], geo[13]
    kx, wx, dx = fp[fx : fx + nx], fp[fx + nx : fx + TWO * nx], fp[fx + TWO * nx : fx + THREE * nx]
    wy, wz = fp[fy + ny + j], fp[fz + nz + k]
    left, right = _offset(j, ny, nx, False, geo[4]), _offset(j, ny, nx, True, geo[4])
    a = wy * wz
    yu, zu = fp[fy + j] * wz, fp[fz + k] * wy
    yl = fp[fy + (j - ONE if j > 0 else ny - ONE)] * wz
    zl = fp[fz + (k - ONE if k > 0 else nz - ONE)] * wy
    rest = fp[fy + TWO * ny + j] * wz + fp[fz + TWO * nz + k] * wy + fp[geo[17]] * a
    one = fp.dtype.type(1)
    # The last two links and volumes may differ from those inside.
    stop = nx - TWO if nx > TWO else ZERO
    if stop > ONE:
        v = wx[1]
        d = one / (a * dx[1] + v * rest)
        c, yl1, yu1, zl1, zu1 = a * kx[1] * d, v * yl * d, v * yu * d, v * zl * d, v * zu * d
        for i in range(ONE, stop):
            m = base + i
            out[i] = (
                d * rhs[i] + c * (u[m - ONE] + u[m + ONE])
                + (yl1 * u[m + left] + yu1 * u[m + right])
                + (zl1 * u[m + below] + zu1 * u[m + above])
            )  # fmt: skip
    for e in range(min(3, nx)):
        i = ZERO if e == 0 else nx - np.uint64(e)
        if (e == 0) or (i > 0 and i >= stop):
            m = base + i
            v = wx[i]
            lower = kx[i - ONE] if i > 0 else (kx[nx - ONE] if geo[5] != 0 else kx[0] * 0)
            s = rhs[i] + v * (yl * u[m + left] + yu * u[m + right])
            s += v * (zl * u[m + below] + zu * u[m + above])
            s += a * (
                lower * u[m + _offset(i, nx, ONE, False, geo[5])]
                + kx[i] * u[m + _offset(i, nx, ONE, True, geo[5])]
            )
            out[i] = s * (one / (a * dx[i] + v * rest))


@jit
def _diagonal_line(k, j, geo, fp, out):
    """Write the diagonal of a line of a separable operator; return that of its inside."""
    nz, ny, nx = geo[0], geo[1], geo[2]
    fz, fy, fx = geo[11], geo[12], geo[13]
    wx, dx = fp[fx + nx : fx + TWO * nx], fp[fx + TWO * nx : fx + THREE * nx]
    wy, wz = fp[fy + ny + j], fp[fz + nz + k]
    a = wy * wz
    rest = fp[fy + TWO * ny + j] * wz + fp[fz + TWO * nz + k] * wy + fp[geo[17]] * a
    for i in range(nx):
        out[i] = a * dx[i] + wx[i] * rest
    return out[min(ONE, nx - ONE)]


@jit
def add_neighbours(k, j, geo, coef, u, base, below, above, out):
    """Add what neighbours bring to a line to `out`, for coefficients in arrays.

    They are: the inverse diagonal, the upper links along x, y and z.
    """
    nz, ny, nx, lanes = geo[0], geo[1], geo[2], geo[18]
    n = nz * ny * nx
    line = (k * ny + j) * nx
    cx = coef[n + line : n + line + nx]
    here = u[base : base + nx]
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
        at, size, stride, start, wraps, down, up = k, nz, ny * nx, THREE * n, geo[3], below, above
        if axis == 1:
            at, size, stride, start, wraps = j, ny, nx, TWO * n, geo[4]
            down, up = _offset(j, ny, nx, False, wraps), _offset(j, ny, nx, True, wraps)
        start += line
        if at + ONE < size or wraps != 0:
            c, v = coef[start : start + nx], u[base + up : base + up + nx]
            for i in range(nx):
                out[i] += c[i] * v[i]
        if at > 0 or wraps != 0:
            start += _offset(at, size, stride, False, wraps)
            c, v = coef[start : start + nx], u[base + down : base + down + nx]
            for i in range(nx):
                out[i] += np.conj(c[i]) * v[i]


@jit
def _relaxed_line(k, j, geo, fp, coef, rhs, u, base, below, above, out):
    """As `_separable_line`, for any operator."""
    if geo[6] != 0:
        nx = geo[2]
        line = (k * geo[1] + j) * nx
        q = coef[line : line + nx]
        for i in range(nx):
            out[i] = rhs[i]
        add_neighbours(k, j, geo, coef, u, base, below, above, out)
        for i in range(nx):
            out[i] *= q[i]
    else:
        _separable_line(k, j, geo, fp, rhs, u, base, below, above, out)


@jit
def _residual_line(k, j, geo, fp, coef, here, out, scratch):
    """Turn the relaxed values of a line in `out` into its residuals, `here` being its values."""
    nx = geo[2]
    line = (k * geo[1] + j) * nx
    if geo[6] != 0:
        q = coef[line : line + nx]
        for i in range(nx):
            out[i] = (out[i] - here[i]) / q[i]
        if geo[7] != 0:
            start = FOUR * geo[0] * geo[1] * nx + line
            s = coef[start : start + nx]
            for i in range(nx):
                out[i] *= s[i].real
    else:
        _diagonal_line(k, j, geo, fp, scratch)
        for i in range(nx):
            out[i] = (out[i] - here[i]) * scratch[i]


@jit
def _mask_start(colour, k, j, geo):
    """Return where in `fp` the mask of a line begins that is 1 at the points of a colour."""
    return geo[17] + FIVE + ((k + j + np.uint64(colour)) & ONE) * geo[18]


@jit
def _first_line(k, j, geo, fp, coef, rhs, here, scratch):
    """Relax the red points of a line, all values being zero before."""
    nx = geo[2]
    place = _mask_start(0, k, j, geo)
    mask = fp[place : place + nx]
    if geo[6] != 0:
        line = (k * geo[1] + j) * nx
        q = coef[line : line + nx]
        for i in range(nx):
            here[i] = rhs[i] * q[i] * mask[i]
    else:
        inside = fp.dtype.type(1) / _diagonal_line(k, j, geo, fp, scratch)
        stop = nx - TWO if nx > TWO else ZERO
        for i in range(ONE, stop):
            here[i] = rhs[i] * inside * mask[i]
        for e in range(min(3, nx)):
            i = ZERO if e == 0 else nx - np.uint64(e)
            here[i] = rhs[i] / scratch[i] * mask[i]


@jit
def _restrict_line(geo, fp, ip, fine, out):
    """Write the restriction of a line along x."""
    nx, mx, lanes = geo[2], geo[10], geo[18]
    if mx == nx:
        for i in range(nx):
            out[i] = fine[i]
        return
    children, back = geo[16] + TWO * nx, geo[13] + FIVE * nx
    first, last = mx, mx
    if geo[20] > TWO:
        a0, a1 = fp[geo[17] + ONE], fp[geo[17] + TWO]
        b0, b1 = fp[geo[17] + THREE], fp[geo[17] + FOUR]
        first, last = lanes, lanes * geo[20]
        if lanes == ONE:
            start = geo[19] - TWO
            for i in range(first, last):
                m = start + TWO * i
                out[i] = (a1 * fine[m] + b1 * fine[m + ONE]) + (
                    a0 * fine[m + TWO] + b0 * fine[m + THREE]
                )
        else:
            for i in range(first, last, lanes):
                m = (geo[19] - TWO) * lanes + TWO * i
                for e in range(8):
                    l = np.uint64(e)
                    out[i + l] = (a1 * fine[m + l] + b1 * fine[m + lanes + l]) + (
                        a0 * fine[m + TWO * lanes + l] + b0 * fine[m + THREE * lanes + l]
                    )
    for part in range(2):
        for i in range(ZERO if part == 0 else last, first if part == 0 else mx):
            total = out.dtype.type(0)
            for s in range(i * SIX, i * SIX + SIX):
                total += fp[back + s] * fine[np.uint64(ip[children + s])]
            out[i] = total


@jit
def _interpolate_line(geo, fp, ip, coarse, out):
    """Write the interpolation of a line along x."""
    nx, mx, lanes = geo[2], geo[10], geo[18]
    if mx == nx:
        for i in range(nx):
            out[i] = coarse[i]
        return
    px, wx = geo[16], geo[13] + THREE * nx
    first, last = nx, nx
    if geo[20] > TWO:
        a0, a1 = fp[geo[17] + ONE], fp[geo[17] + TWO]
        b0, b1 = fp[geo[17] + THREE], fp[geo[17] + FOUR]
        first, last = geo[19] * lanes, (geo[19] + TWO * geo[20]) * lanes
        if lanes == ONE:
            for i in range(geo[20]):
                m = first + TWO * i
                out[m] = a0 * coarse[i] + a1 * coarse[i + ONE]
                out[m + ONE] = b0 * coarse[i] + b1 * coarse[i + ONE]
        else:
            for i in range(ZERO, lanes * geo[20], lanes):
                m = first + TWO * i
                for e in range(8):
                    l = np.uint64(e)
                    out[m + l] = a0 * coarse[i + l] + a1 * coarse[i + lanes + l]
                    out[m + lanes + l] = b0 * coarse[i + l] + b1 * coarse[i + lanes + l]
    for part in range(2):
        for i in range(ZERO if part == 0 else last, first if part == 0 else nx):
            out[i] = (
                fp[wx + TWO * i] * coarse[np.uint64(ip[px + TWO * i])]
                + fp[wx + TWO * i + ONE] * coarse[np.uint64(ip[px + TWO * i + ONE])]
            )


@jit
def _scatter(lo, hi, k, j, geo, fp, ip, line_c, coarse):
    """Add the restriction of a line to the coarse planes [lo, hi)."""
    nz, ny, my, mx = geo[0], geo[1], geo[9], geo[10]
    py, pz = geo[15] + TWO * j, geo[14] + TWO * k
    wy, wz = geo[12] + THREE * ny + TWO * j, geo[11] + THREE * nz + TWO * k
    for a in range(TWO):
        K, vz = ip[pz + a], fp[wz + a]
        if lo <= K < hi and vz != 0:
            for b in range(TWO):
                v = vz * fp[wy + b]
                if v != 0:
                    at = (np.uint64(K) * my + np.uint64(ip[py + b])) * mx
                    target = coarse[at : at + mx]
                    for i in range(mx):
                        target[i] += v * line_c[i]


@jit
def _correct_line(k, j, geo, fp, ip, coef, coarse, line_c, out, here):
    """Add the interpolated correction to the line `here`."""
    nz, ny, nx, my, mx = geo[0], geo[1], geo[2], geo[9], geo[10]
    py, pz = geo[15] + TWO * j, geo[14] + TWO * k
    wy, wz = geo[12] + THREE * ny + TWO * j, geo[11] + THREE * nz + TWO * k
    for i in range(mx):
        line_c[i] = 0
    for a in range(TWO):
        for b in range(TWO):
            v = fp[wz + a] * fp[wy + b]
            if v != 0:
                at = (np.uint64(ip[pz + a]) * my + np.uint64(ip[py + b])) * mx
                source = coarse[at : at + mx]
                for i in range(mx):
                    line_c[i] += v * source[i]
    _interpolate_line(geo, fp, ip, line_c, out)
    if geo[7] != 0:
        start = FOUR * nz * ny * nx + (k * ny + j) * nx
        s = coef[start : start + nx]
        for i in range(nx):
            here[i] += s[i].real * out[i]
    else:
        for i in range(nx):
            here[i] += out[i]


# -- steps over whole levels -------------------------------------------------------------------


@jit
def _start(lo, hi, geo, fp, coef, f, u, scratch):
    """Relax the red points, all values being zero before."""
    ny, nx = geo[1], geo[2]
    for k in range(np.uint64(lo), np.uint64(hi)):
        for j in range(ny):
            line = (k * ny + j) * nx
            _first_line(k, j, geo, fp, coef, f[line : line + nx], u[line : line + nx], scratch)


@jit
def _relax(lo, hi, colour, box, geo, fp, coef, f, u, out):
    """Relax the points of a colour within a box.

    Around a ring of odd length two colours do not do: its last points are a box of their own
    (bit set in `box`), and the others one (bit not set).
    """
    nz, ny, nx, lanes = geo[0], geo[1], geo[2], geo[18]
    first, last = ZERO, nx
    if geo[5] != 0 and (nx // lanes) & ONE and nx > lanes:
        first, last = (nx - lanes, nx) if box & 1 else (first, nx - lanes)
    for k in range(np.uint64(lo), np.uint64(hi)):
        if geo[3] != 0 and nz & ONE and nz > ONE and (k == nz - ONE) != ((box & 4) != 0):
            continue
        below = _offset(k, nz, ny * nx, False, geo[3])
        above = _offset(k, nz, ny * nx, True, geo[3])
        for j in range(ny):
            if geo[4] != 0 and ny & ONE and ny > ONE and (j == ny - ONE) != ((box & 2) != 0):
                continue
            line = (k * ny + j) * nx
            _relaxed_line(k, j, geo, fp, coef, f[line : line + nx], u, line, below, above, out)
            place = _mask_start(colour, k, j, geo)
            mask, here = fp[place : place + nx], u[line : line + nx]
            for i in range(first, last):
                here[i] += mask[i] * (out[i] - here[i])


@jit
def _restrict(lo, hi, geo, fp, ip, coef, f, u, coarse, out, scratch):
    """Write the restricted residual into coarse planes [lo, hi)."""
    nz, ny, nx, my, mx = geo[0], geo[1], geo[2], geo[9], geo[10]
    line_c = np.empty(mx, u.dtype)
    coarse[np.uint64(lo) * my * mx : np.uint64(hi) * my * mx] = 0
    for k in range(nz):
        parents = (ip[geo[14] + TWO * k], ip[geo[14] + TWO * k + ONE])
        if not (lo <= parents[0] < hi or lo <= parents[1] < hi):
            continue
        below = _offset(k, nz, ny * nx, False, geo[3])
        above = _offset(k, nz, ny * nx, True, geo[3])
        for j in range(ny):
            line = (k * ny + j) * nx
            _relaxed_line(k, j, geo, fp, coef, f[line : line + nx], u, line, below, above, out)
            _residual_line(k, j, geo, fp, coef, u[line : line + nx], out, scratch)
            _restrict_line(geo, fp, ip, out, line_c)
            _scatter(lo, hi, k, j, geo, fp, ip, line_c, coarse)


@jit
def _prolong(lo, hi, geo, fp, ip, coef, coarse, u, out):
    """Add the interpolated correction to planes [lo, hi)."""
    ny, nx = geo[1], geo[2]
    line_c = np.empty(geo[10], u.dtype)
    for k in range(np.uint64(lo), np.uint64(hi)):
        for j in range(ny):
            line = (k * ny + j) * nx
            _correct_line(k, j, geo, fp, ip, coef, coarse, line_c, out, u[line : line + nx])


# -- the two halves of V(1, 1), each in one pass over memory -------------------------------------


@jit
def down(lo, hi, unit, geo, fp, ip, coef, f, u, coarse, ring):
    """Relax red and black from zero; write the restricted residual into coarse planes [lo, hi).

    A window of four planes passes over the level: while the foremost gets its red points, the one
    behind gets its black ones, and the residual of the third is final. Shares recompute some planes
    at their ends, and write none but their own.
    """
    nz, ny, nx, my, mx = geo[0], geo[1], geo[2], geo[9], geo[10]
    plane = ny * nx
    rhs, out, scratch = np.empty(nx, u.dtype), np.empty(nx, u.dtype), np.empty(nx, fp.dtype)
    line_c = np.empty(mx, u.dtype)
    scale = fp.dtype.type(unit)
    coarse[np.uint64(lo) * my * mx : np.uint64(hi) * my * mx] = 0
    first, last, own, own_end = nz, ZERO, nz, ZERO
    for k in range(nz):
        a, b = ip[geo[14] + TWO * k], ip[geo[14] + TWO * k + ONE]
        if lo <= a < hi or lo <= b < hi:
            first, last = min(first, k), max(last, k + ONE)
        if lo <= a < hi:
            own, own_end = min(own, k), max(own_end, k + ONE)
    window = ring[own * plane : (own + FOUR) * plane]
    begin, end = (first - TWO if first > TWO else ZERO), min(last + TWO, nz)
    black, black_end = (first - ONE if first > 0 else ZERO), min(last + ONE, nz)
    for front in range(begin, end + TWO):
        if front < end:
            k = front
            for j in range(ny):
                line, base = (k * ny + j) * nx, (k & THREE) * plane + j * nx
                for i in range(nx):
                    rhs[i] = scale * f[line + i]
                _first_line(k, j, geo, fp, coef, rhs, window[base : base + nx], scratch)
        k = front - ONE
        if front > 0 and black <= k < black_end:
            below = _window_offset(k, nz, plane, False)
            above = _window_offset(k, nz, plane, True)
            for j in range(ny):
                line, base = (k * ny + j) * nx, (k & THREE) * plane + j * nx
                for i in range(nx):
                    rhs[i] = scale * f[line + i]
                _relaxed_line(k, j, geo, fp, coef, rhs, window, base, below, above, out)
                place = _mask_start(1, k, j, geo)
                mask, here = fp[place : place + nx], window[base : base + nx]
                for i in range(nx):
                    here[i] += mask[i] * (out[i] - here[i])
        k = front - TWO
        if front > ONE and first <= k < last:
            below = _window_offset(k, nz, plane, False)
            above = _window_offset(k, nz, plane, True)
            for j in range(ny):
                line, base = (k * ny + j) * nx, (k & THREE) * plane + j * nx
                for i in range(nx):
                    rhs[i] = scale * f[line + i]
                here = window[base : base + nx]
                _relaxed_line(k, j, geo, fp, coef, rhs, window, base, below, above, out)
                _residual_line(k, j, geo, fp, coef, here, out, scratch)
                _restrict_line(geo, fp, ip, out, line_c)
                _scatter(lo, hi, k, j, geo, fp, ip, line_c, coarse)
                if own <= k < own_end:
                    there = u[line : line + nx]
                    for i in range(nx):
                        there[i] = here[i]


@jit
def _window_offset(k, nz, plane, upward):
    """Return where the plane above or below lies in a window of four, 0 where there is none."""
    if upward:
        return ((k + ONE) & THREE) * plane - (k & THREE) * plane if k + ONE < nz else ZERO
    return ((k - ONE) & THREE) * plane - (k & THREE) * plane if k > 0 else ZERO


@jit
def up(lo, hi, unit, gain, geo, fp, ip, coef, f, u, coarse, result, ring):
    """Add the correction, relax black and red, and write ``gain`` times it all into `result`.

    A window of four planes, as in `down`.
    """
    nz, ny, nx = geo[0], geo[1], geo[2]
    plane = ny * nx
    rhs, out, line_c = np.empty(nx, u.dtype), np.empty(nx, u.dtype), np.empty(geo[10], u.dtype)
    scale = fp.dtype.type(unit)
    factor = result.real.dtype.type(gain)
    first, last = np.uint64(lo), np.uint64(hi)
    window = ring[first * plane : (first + FOUR) * plane]
    begin, end = (first - TWO if first > TWO else ZERO), min(last + TWO, nz)
    black, black_end = (first - ONE if first > 0 else ZERO), min(last + ONE, nz)
    for front in range(begin, end + TWO):
        if front < end:
            k = front
            for j in range(ny):
                line, base = (k * ny + j) * nx, (k & THREE) * plane + j * nx
                here = window[base : base + nx]
                for i in range(nx):
                    here[i] = u[line + i]
                _correct_line(k, j, geo, fp, ip, coef, coarse, line_c, out, here)
        for colour in range(1, -1, -1):
            # Black behind the front, red one plane further.
            behind = ONE if colour else TWO
            k = front - behind
            if front < behind or not (
                black <= k < black_end if colour else first <= k < last
            ):
                continue
            below = _window_offset(k, nz, plane, False)
            above = _window_offset(k, nz, plane, True)
            for j in range(ny):
                line, base = (k * ny + j) * nx, (k & THREE) * plane + j * nx
                for i in range(nx):
                    rhs[i] = scale * f[line + i]
                _relaxed_line(k, j, geo, fp, coef, rhs, window, base, below, above, out)
                place = _mask_start(colour, k, j, geo)
                mask, here = fp[place : place + nx], window[base : base + nx]
                if colour:
                    for i in range(nx):
                        here[i] += mask[i] * (out[i] - here[i])
                else:
                    there = result[line : line + nx]
                    for i in range(nx):
                        there[i] = factor * (here[i] + mask[i] * (out[i] - here[i]))


# -- other smoothers -----------------------------------------------------------------------------


@jit
def _residual(lo, hi, geo, fp, coef, f, u, t, out):
    """Write the residual over the diagonal into t."""
    nz, ny, nx = geo[0], geo[1], geo[2]
    for k in range(np.uint64(lo), np.uint64(hi)):
        below = _offset(k, nz, ny * nx, False, geo[3])
        above = _offset(k, nz, ny * nx, True, geo[3])
        for j in range(ny):
            line = (k * ny + j) * nx
            _relaxed_line(k, j, geo, fp, coef, f[line : line + nx], u, line, below, above, out)
            here, there = u[line : line + nx], t[line : line + nx]
            for i in range(nx):
                there[i] = out[i] - here[i]


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
    """Do planes [lo, hi) of one step; of coarse planes where it restricts."""
    out, scratch = np.empty(geo[2], u.dtype), np.empty(geo[2], fp.dtype)
    if op == START:
        _start(lo, hi, geo, fp, coef, f, u, scratch)
    elif op == RELAX:
        _relax(lo, hi, colour, box, geo, fp, coef, f, u, out)
    elif op == RESTRICT:
        _restrict(lo, hi, geo, fp, ip, coef, f, u, coarse_f, out, scratch)
    elif op == PROLONG:
        _prolong(lo, hi, geo, fp, ip, coef, coarse_u, u, out)
    elif op == CLEAR:
        size = geo[1] * geo[2]
        u[np.uint64(lo) * size : np.uint64(hi) * size] = 0
    elif op == RESIDUAL:
        _residual(lo, hi, geo, fp, coef, f, u, t, out)
    elif op == UPDATE:
        _update(lo, hi, alpha, beta, geo, t, d, u)


@jit
def run(steps, factors, geos, places, fp, ip, coef, f, u, t, d, dense):
    """Do a list of steps.

    `places` says for each level where its part of the vectors and of `coef` begins and ends. What
    `up` makes is in t, where the `up` of the level above looks for it.
    """
    for s in range(steps.shape[0]):
        op, level, colour, box = steps[s, 0], steps[s, 1], steps[s, 2], steps[s, 3]
        first, last = places[level, 0], places[level, 1]
        if op == SOLVE:
            _solve(geos[level, LANES], dense, f[first:last], u[first:last])
            t[first:last] = u[first:last]
            continue
        low, high = places[level + 1, 0], places[level + 1, 1]
        geo = geos[level]
        coefficients = coef[places[level, 2] : places[level, 3]]
        planes = np.int64(geo[COARSE] if op == RESTRICT or op == DOWN else geo[SIZES])
        if op == DOWN:
            down(0, planes, 1.0, geo, fp, ip, coefficients, f[first:last], u[first:last],
                 f[low:high], d[first:])  # fmt: skip
        elif op == UP:
            up(0, planes, 1.0, 1.0, geo, fp, ip, coefficients, f[first:last], u[first:last],
               t[low:high], t[first:last], d[first:])  # fmt: skip
        else:
            step(
                0, planes, op, colour, box, factors[s, 0], factors[s, 1], geo, fp, ip, coefficients,
                f[first:last], u[first:last], t[first:last], d[first:last], f[low:high],
                u[low:high],
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
