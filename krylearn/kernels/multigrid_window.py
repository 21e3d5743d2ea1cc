"""The two halves of V(1, 1) with red-black sweeps, each in one pass over memory.

A window of four planes passes over a level. In it a line holds the even points of a grid line
before the odd ones, so that the points of one colour are contiguous, and so are their neighbours:
along y and z at the same place of the next line, along x in the other half. Halves are filled up
with zeros to whole blocks; one of these zeros is the neighbour that an end point does not have.

Three facts save most of the work. From zero, the first red sweep is the right-hand side over the
diagonal. After the black sweep the residual is zero at black points, and at red ones it is what
the black neighbours bring. The black values need not be kept: the way up relaxes them first, from
the red ones, which are known without them. So nothing is stored but the coarse right-hand side.

Numbers of a level, steps and lanes are as in `multigrid`, but coefficients lie as the lines of the
window do (`lay_out`), without a block of zeros where none is needed.
"""

from __future__ import annotations

import numpy as np

from krylearn.kernels.parallel import jit
from krylearn.kernels.window_lines import (
    add_multiple,
    add_product,
    blend,
    bring_constant,
    bring_variable,
    correct,
    divide,
    inner,
    merge,
    multiply,
    set_multiple,
    set_product,
    split,
)

ZERO, ONE, TWO, THREE, FOUR, FIVE, SIX = (np.uint64(i) for i in range(7))
# Steps.
SOLVE, DOWN, UP = 4, 8, 9
# Half lines are filled up to whole registers, so that loops leave nothing over.
BLOCK = np.uint64(16)


# -- the layout of a line ------------------------------------------------------------------------


@jit(inline=True)
def _blocks(count):
    """Return a number of values, filled up to whole blocks."""
    return (count + BLOCK - ONE) // BLOCK * BLOCK


@jit(inline=True)
def _halves(geo):
    """Return the lengths of a half line in a window, which ends in a zero, and in coefficients."""
    even = (geo[2] // geo[18] + ONE) // TWO
    return _blocks((even + ONE) * geo[18]), _blocks(even * geo[18])


@jit(inline=True)
def _own(parity, geo):
    """Return how many values the points of a parity are."""
    return (geo[2] // geo[18] + ONE - parity) // TWO * geo[18]


@jit(inline=True)
def window_length(planes, geo):
    """Return the length of a window of some planes, of what it keeps, and of a line of zeros."""
    half = _halves(geo)[0]
    return np.uint64(planes) * geo[1] * THREE * half + half


@jit
def coefficient_length(geo):
    """Return the length of a line of coefficients."""
    return TWO * _halves(geo)[1]


@jit
def lay_out(lo, hi, geo, natural, out):
    """Write lines [lo, hi) of coefficients as the window wants them."""
    nx, half = geo[2], _halves(geo)[1]
    ones = np.ones(np.int64(TWO * half), out.dtype)
    for line in range(np.uint64(lo), np.uint64(hi)):
        at = TWO * half * line
        out[at : at + TWO * half] = 0
        split(geo[18], nx, 1.0, natural, nx * line, out, at, at + half, ones, ZERO, ZERO)


@jit
def _tables(geo, fp, ip):
    """Return numbers of the points of the last axis in the order of the window, row after row.

    Lower and upper links, widths and diagonals (of a separable operator); the weights of the
    restriction; those of the interpolation.
    """
    nx, mx, lanes = geo[2], geo[10], geo[18]
    n, m, half, wide = nx // lanes, mx // lanes, _halves(geo)[0], _blocks(mx)
    fx, child, back = geo[13], geo[16] + TWO * nx, geo[13] + FIVE * nx
    row = TWO * half
    links = np.zeros(np.int64(FOUR * row), fp.dtype)
    forth = np.zeros(np.int64(TWO * row), fp.dtype)
    rest = np.zeros(np.int64(FOUR * wide), fp.dtype)
    for i in range(n):
        at = (i & ONE) * half + (i >> ONE) * lanes
        for l in range(lanes):
            here = fx + i * lanes + l
            if m == n:
                forth[at + l] = 1
            if geo[6] == 0:
                links[at + l] = fp[here - lanes] if i > ZERO else fp[fx] * 0
                links[row + at + l] = fp[here] if i + ONE < n else fp[fx] * 0
                links[TWO * row + at + l] = fp[here + nx]
                links[THREE * row + at + l] = fp[here + TWO * nx]
    for i in range(m if m < n else ZERO):
        for s in range(i * lanes * SIX, i * lanes * SIX + SIX):
            fine = np.uint64(ip[child + s]) // lanes
            odd = fine & ONE
            if fp[back + s] != 0:
                # An even point has coarse ones t - 1 and t at its sides, an odd one t and t + 1.
                second = np.uint64(fine >> ONE != i) ^ odd
                at = odd * half + (fine >> ONE) * lanes
                for l in range(lanes):
                    rest[(TWO * odd + second) * wide + i * lanes + l] = fp[back + s]
                    forth[(ONE - second) * row + at + l] = fp[back + s]
    return links, rest, forth


# -- steps on a line -----------------------------------------------------------------------------


@jit(inline=True)
def _renew(k, j, half, geo, fp, links, q):
    nz, ny, fz, fy = geo[0], geo[1], geo[11], geo[12]
    wy, wz = fp[fy + ny + j], fp[fz + nz + k]
    a = wy * wz
    rest = fp[fy + TWO * ny + j] * wz + fp[fz + TWO * nz + k] * wy + fp[geo[17]] * a
    for parity in range(TWO):
        start = parity * half
        divide(_own(parity, geo), a, rest, links, FOUR * half + start, SIX * half + start, q,
                start)  # fmt: skip


@jit(inline=True)
def _inverse(k, j, half, geo, fp, links, alike, q):
    """Write the inverse diagonal of a line of a separable operator, unless it is there.

    `alike` says for each j, then for each k, which is the first of those like it that follow
    each other; and of which line q is.
    """
    nz, ny = geo[0], geo[1]
    if alike[ny + k] * ny + alike[j] != alike[ny + nz]:
        alike[ny + nz] = alike[ny + k] * ny + alike[j]
        _renew(k, j, half, geo, fp, links, q)


@jit
def _alike(geo, fp):
    """Return what `_inverse` wants to know."""
    nz, ny = geo[0], geo[1]
    alike = np.zeros(np.int64(nz + ny + ONE), np.uint64)
    alike[ny + nz] = nz * ny
    for axis in range(2):
        n, at, base = (ny, geo[12], ZERO) if axis == 0 else (nz, geo[11], ny)
        for i in range(ONE, n):
            same = fp[at + n + i] == fp[at + n + i - ONE]
            same &= fp[at + TWO * n + i] == fp[at + TWO * n + i - ONE]
            alike[base + i] = alike[base + i - ONE] if same else i
    return alike


@jit(inline=True)
def _of_line(row, k, j, parity, half, short, geo):
    """Return where numbers of a half line begin: those of each point, or of a separable operator.
    """
    if geo[6] == 0:
        return parity * half
    return (((row * geo[0] + k) * geo[1] + j) * TWO + parity) * short


@jit(inline=True)
def _bring(k, j, parity, half, short, geo, fp, coef, links, w, below, plane, above, nothing, out,
           at):  # fmt: skip
    """Write into `out` what links bring to the points of a parity of a line from their neighbours.

    Its plane and those next to it begin in w at `below`, `plane` and `above`. Where there is no
    neighbour, there are the zeros at `nothing`, behind the window.
    """
    nz, ny, lanes = geo[0], geo[1], geo[18]
    length = TWO * half
    base = plane + j * length
    here = base + parity * half
    before = base if parity else base + half - lanes
    low = here - length if j > ZERO else nothing
    high = here + length if j + ONE < ny else nothing
    under = below + j * length + parity * half if k > ZERO else nothing
    over = above + j * length + parity * half if k + ONE < nz else nothing
    if geo[6] == 0:
        fz, fy = geo[11], geo[12]
        wy, wz = fp[fy + ny + j], fp[fz + nz + k]
        own = parity * half
        bring_constant(
            short, wy * wz, fp[fy + (j - ONE if j > ZERO else ny - ONE)] * wz, fp[fy + j] * wz,
            fp[fz + (k - ONE if k > ZERO else nz - ONE)] * wy, fp[fz + k] * wy,
            links, own, length + own, TWO * length + own, w, before, before + lanes, low, high,
            under, over, out, at,
        )  # fmt: skip
    else:
        line = TWO * short
        n = nz * ny * line
        own = (k * ny + j) * line + parity * short
        # The lower link of an even point is the odd one's before it; of an odd one, the even one's.
        xl = n + (own - short if parity else own + short - lanes)
        yl = TWO * n + (own - line if j > ZERO else own)
        zl = THREE * n + (own - ny * line if k > ZERO else own)
        bring_variable(
            short, coef, xl, n + own, yl, TWO * n + own, zl, THREE * n + own, w, before,
            before + lanes, low, high, under, over, out, at,
        )  # fmt: skip


@jit(inline=True)
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
                    add_multiple(mx, v, line_c, ZERO, coarse, at)


@jit(inline=True)
def _gather(k, j, geo, fp, ip, coarse, target, at):
    """Write the coarse values at a line."""
    nz, ny, my, mx = geo[0], geo[1], geo[9], geo[10]
    py, pz = geo[15] + TWO * j, geo[14] + TWO * k
    wy, wz = geo[12] + THREE * ny + TWO * j, geo[11] + THREE * nz + TWO * k
    first = True
    for a in range(TWO):
        for b in range(TWO):
            v = fp[wz + a] * fp[wy + b]
            if v != 0 or (a == ONE and b == ONE and first):
                source = (np.uint64(ip[pz + a]) * my + np.uint64(ip[py + b])) * mx
                if first:
                    set_multiple(mx, v, coarse, source, target, at)
                else:
                    add_multiple(mx, v, coarse, source, target, at)
                first = False


@jit(inline=True)
def _three(k, plane):
    """Return where a plane lies in a window of four, after the one below it and before the next."""
    return ((k - ONE) & THREE) * plane, (k & THREE) * plane, ((k + ONE) & THREE) * plane


@jit(inline=True)
def _load(k, half, short, geo, fp, scale, links, alike, q, f, w, plane):
    """Write a plane of ``scale * f`` over the diagonal into the window."""
    ny, nx = geo[1], geo[2]
    for j in range(ny):
        if geo[6] == 0:
            _inverse(k, j, half, geo, fp, links, alike, q)
        base = (k & THREE) * plane + j * TWO * half
        split(geo[18], nx, scale, f, (k * ny + j) * nx, w, base, base + half, q,
               _of_line(ZERO, k, j, ZERO, half, short, geo),
               _of_line(ZERO, k, j, ONE, half, short, geo))  # fmt: skip


@jit(inline=True)
def _black(k, half, short, geo, fp, coef, links, alike, q, w, plane, out):
    """Relax the black points of a plane."""
    ny = geo[1]
    below, here, above = _three(k, plane)
    for j in range(ny):
        black = (k + j + ONE) & ONE
        if geo[6] == 0:
            _inverse(k, j, half, geo, fp, links, alike, q)
        _bring(k, j, black, half, short, geo, fp, coef, links, w, below, here, above, FOUR * plane,
               out, ZERO)  # fmt: skip
        add_product(short, q, _of_line(ZERO, k, j, black, half, short, geo), out, ZERO, w,
                     here + (j * TWO + black) * half)  # fmt: skip


@jit(inline=True)
def _restrict(lo, hi, k, half, short, geo, fp, ip, coef, links, rest, w, below, plane, above,
              nothing, padded, pair, line_c, coarse):  # fmt: skip
    """Restrict what black points bring to the red ones of a plane, into coarse planes [lo, hi)."""
    ny, mx, lanes = geo[1], geo[10], geo[18]
    wide, one = _blocks(mx), fp.dtype.type(1)
    for j in range(ny):
        red = (k + j) & ONE
        _bring(k, j, red, half, short, geo, fp, coef, links, w, below, plane, above, nothing,
               padded, BLOCK)  # fmt: skip
        if geo[7] != 0:
            multiply(short, coef, _of_line(FOUR, k, j, red, half, short, geo), padded, BLOCK)
        for i in range(lanes):
            padded[BLOCK - ONE - i] = 0
        for i in range(BLOCK + _own(red, geo), BLOCK + half):
            padded[i] = 0
        if mx == geo[2]:
            set_multiple(half, one, padded, BLOCK, pair, red * half)
            for i in range((ONE - red) * half, (TWO - red) * half):
                pair[i] = 0
            merge(lanes, mx, one, pair, ZERO, half, line_c, ZERO)
        else:
            a = BLOCK - lanes * red
            blend(wide, rest, TWO * red * wide, (TWO * red + ONE) * wide, padded, a, a + lanes,
                  line_c)  # fmt: skip
        _scatter(lo, hi, k, j, geo, fp, ip, line_c, coarse)


# -- the two halves of a cycle -------------------------------------------------------------------


@jit
def down(lo, hi, unit, geo, fp, ip, coef, f, coarse, ring):
    """Relax red and black from zero; write the restricted residual into coarse planes [lo, hi).

    While the foremost plane of the window gets its red points, the one behind gets its black
    ones, and the residual of the third is final. Shares recompute some planes at their ends.
    """
    nz, ny, my, mx = geo[0], geo[1], geo[9], geo[10]
    half, short = _halves(geo)
    plane, wide = ny * TWO * half, _blocks(mx)
    links, rest, _ = _tables(geo, fp, ip)
    alike = _alike(geo, fp)
    q = coef if geo[6] != 0 else np.zeros(np.int64(TWO * half), coarse.dtype)
    # A half line with zeros at its sides, the same beside zeros, and a coarse line.
    padded = np.zeros(np.int64(TWO * BLOCK + max(half, wide)), coarse.dtype)
    pair = np.zeros(np.int64(TWO * half), coarse.dtype)
    line_c = np.zeros(np.int64(wide), coarse.dtype)
    scale = fp.dtype.type(unit)
    coarse[np.uint64(lo) * my * mx : np.uint64(hi) * my * mx] = 0
    first, last, own = nz, ZERO, nz
    for k in range(nz):
        a, b = ip[geo[14] + TWO * k], ip[geo[14] + TWO * k + ONE]
        if lo <= a < hi or lo <= b < hi:
            first, last = min(first, k), max(last, k + ONE)
        if lo <= a < hi:
            own = min(own, k)
    start = window_length(own, geo)
    w = ring[start : start + FOUR * plane + half]
    w[:] = 0
    begin, end = (first - TWO if first > TWO else ZERO), min(last + TWO, nz)
    black, black_end = (first - ONE if first > 0 else ZERO), min(last + ONE, nz)
    for front in range(begin, end + TWO):
        if front < end:
            _load(front, half, short, geo, fp, scale, links, alike, q, f, w, plane)
        if front > 0 and black <= front - ONE < black_end:
            _black(front - ONE, half, short, geo, fp, coef, links, alike, q, w, plane, padded)
        k = front - TWO
        if front > ONE and first <= k < last:
            below, here, above = _three(k, plane)
            _restrict(lo, hi, k, half, short, geo, fp, ip, coef, links, rest, w, below, here, above,
                      FOUR * plane, padded, pair, line_c, coarse)  # fmt: skip


@jit
def up(lo, hi, unit, gain, geo, fp, ip, coef, f, coarse, result, sums, ring):
    """Add the correction, relax black and red, and write ``gain`` times it all into `result`.

    The sum of ``conj(f) * result`` over each plane goes into `sums`, if that has room.
    """
    nz, ny, nx, mx, lanes = geo[0], geo[1], geo[2], geo[10], geo[18]
    half, short = _halves(geo)
    plane, wide = ny * TWO * half, _blocks(mx)
    links, _, forth = _tables(geo, fp, ip)
    alike = _alike(geo, fp)
    q = coef if geo[6] != 0 else np.zeros(np.int64(TWO * half), coarse.dtype)
    ones = np.ones(np.int64(TWO * half), coarse.dtype)
    mask = coef if geo[7] != 0 else ones
    out, pair = np.zeros(np.int64(half), coarse.dtype), np.zeros(np.int64(TWO * half), coarse.dtype)
    line_c = np.zeros(np.int64(TWO * BLOCK + max(half, wide)), coarse.dtype)
    scale, one = fp.dtype.type(unit), fp.dtype.type(1)
    factor = result.real.dtype.type(gain)
    first, last = np.uint64(lo), np.uint64(hi)
    start = window_length(first, geo)
    w = ring[start : start + FOUR * plane + half]
    # Red values from before the correction.
    kept = ring[start + FOUR * plane + half : start + SIX * plane + half]
    w[:] = 0
    begin, end = (first - TWO if first > TWO else ZERO), min(last + TWO, nz)
    black, black_end = (first - ONE if first > 0 else ZERO), min(last + ONE, nz)
    for front in range(begin, end + TWO):
        if front < end:
            k = front
            _load(k, half, short, geo, fp, scale, links, alike, q, f, w, plane)
            for j in range(ny):
                red = (k + j) & ONE
                _gather(k, j, geo, fp, ip, coarse, line_c, BLOCK)
                at = ((k & THREE) * ny + j) * half
                here = (k & THREE) * plane + (j * TWO + red) * half
                own = red * half
                passing = _of_line(FOUR, k, j, red, half, short, geo) if geo[7] != 0 else ZERO
                if mx == nx:
                    split(lanes, nx, one, line_c, BLOCK, pair, ZERO, half, ones, ZERO, ZERO)
                    correct(short, mask, passing, forth, own, TWO * half + own, pair, own, own,
                             kept, at, w, here)  # fmt: skip
                else:
                    a = BLOCK - lanes * (ONE - red)
                    correct(short, mask, passing, forth, own, TWO * half + own, line_c, a,
                             a + lanes, kept, at, w, here)  # fmt: skip
        if front > 0 and black <= front - ONE < black_end:
            _black(front - ONE, half, short, geo, fp, coef, links, alike, q, w, plane, out)
        k = front - TWO
        if front > ONE and first <= k < last:
            below, here, above = _three(k, plane)
            total = sums.dtype.type(0)
            for j in range(ny):
                line, red = (k * ny + j) * nx, (k + j) & ONE
                base = here + j * TWO * half
                if geo[6] == 0:
                    _inverse(k, j, half, geo, fp, links, alike, q)
                _bring(k, j, red, half, short, geo, fp, coef, links, w, below, here, above,
                       FOUR * plane, out, ZERO)  # fmt: skip
                set_product(short, q, _of_line(ZERO, k, j, red, half, short, geo), out, ZERO, kept,
                             ((k & THREE) * ny + j) * half, w, base + red * half)  # fmt: skip
                merge(lanes, nx, factor, w, base, base + half, result, line)
                if sums.shape[0]:
                    total += inner(nx, f, line, result, line)
            if sums.shape[0]:
                sums[k] = total


@jit
def solve_coarsest(lanes, inverse, f, u):
    """Do ``u = inverse @ f`` for each lane."""
    n = np.uint64(f.shape[0])
    for i in range(ZERO, n, lanes):
        for m in range(lanes):
            u[i + m] = 0
        for j in range(ZERO, n, lanes):
            at = i // lanes * n + j
            for m in range(lanes):
                u[i + m] += inverse[at + m] * f[j + m]


@jit
def run(steps, geos, places, fp, ip, coef, f, t, d, dense):
    """Do a list of steps of a fused cycle; see `multigrid.run`, which knows others too."""
    for s in range(steps.shape[0]):
        op, level = steps[s, 0], steps[s, 1]
        first, last = places[level, 0], places[level, 1]
        low, high = places[level + 1, 0], places[level + 1, 1]
        geo = geos[level]
        coefficients = coef[places[level, 2] : places[level, 3]]
        if op == SOLVE:
            solve_coarsest(geo[18], dense, f[first:last], t[first:last])
        elif op == DOWN:
            down(np.int64(0), np.int64(geo[8]), 1.0, geo, fp, ip, coefficients, f[first:last],
                 f[low:high], d)  # fmt: skip
        else:
            up(np.int64(0), np.int64(geo[0]), 1.0, 1.0, geo, fp, ip, coefficients, f[first:last],
               t[low:high], t[first:last], d[:0], d)  # fmt: skip
