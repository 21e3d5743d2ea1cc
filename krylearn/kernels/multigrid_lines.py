"""What a step of a multigrid cycle does with a line of a grid.

A level is a row of numbers `geo`, parameters of its axes `fp` and `ip`, coefficients `coef`, and
its parts of the work vectors. Its operator couples nearest neighbours. It is separable (sums of
products of one-dimensional arrays: nothing is read but vectors) or given by arrays.

Systems that are solved together are lanes: a line holds the values of all of them at its first
point, then at its second. Neighbours along it are `lanes` apart and everything else is the same.
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
