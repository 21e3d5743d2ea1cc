"""The two halves of a cycle with several red-black sweeps, each in one pass over memory.

As in `multigrid_window`, whose lines and steps these are, but the window is as deep as there are
half-sweeps: each is a plane behind the one before it.

On the way down only what a half-sweep changes is in the window. What the points of one colour
change by is what the changes of the other one bring, and the residual that is left is what the last
ones bring: sums of positive numbers, which lose nothing in single precision however much links
differ. Of the values themselves the way up needs the red ones, which are kept: half a vector.

The visits of a level are steps of Chebyshev's iteration: the way up of each scales its result and
writes the residual that it leaves, from which the next one starts and adds its own. That residual
is a difference of large numbers. So coarse levels, which are small, may be in double precision
below a finest one in single.
"""

from __future__ import annotations

import numpy as np

from krylearn.kernels.multigrid_window import (
    BLOCK,
    DOWN,
    ONE,
    SOLVE,
    THREE,
    TWO,
    ZERO,
    _alike,
    _blocks,
    _bring,
    _gather,
    _halves,
    _inverse,
    _of_line,
    _restrict,
    _tables,
    solve_coarsest,
    window_length,
)
from krylearn.kernels.parallel import jit
from krylearn.kernels.window_lines import (
    add_multiple,
    add_product,
    corrected,
    inner,
    merge,
    residual,
    scaled_right,
    set_changes,
    set_product,
    split,
)

# What a visit is, as bits: right-hand side in `left`, result added, residual left for another one.
SWAPPED, ADDED, MORE = 1, 2, 4


@jit
def kept_length(geo):
    """Return how many values are kept of a level on its way down."""
    return geo[0] * geo[1] * _halves(geo)[1]


@jit
def planes_of(sweeps):
    """Return the planes of a window, for some sweeps and a residual after them."""
    return TWO * np.uint64(sweeps) + THREE


@jit
def room(geo, sweeps):
    """Return the length of windows that begin where `window_length` of a share's planes ends."""
    plane = geo[1] * TWO * _halves(geo)[0]
    return window_length(geo[0], geo) + TWO * (planes_of(sweeps) + ONE) * plane


@jit(inline=True)
def _around(k, planes, plane):
    """Return where a plane lies in a window, after the one below it and before the next."""
    return (k + planes - ONE) % planes * plane, k % planes * plane, (k + ONE) % planes * plane


@jit
def down(lo, hi, sweeps, unit, geo, fp, ip, coef, f, coarse, kept, ring):
    """Relax red and black from zero, some times; restrict the residual to coarse planes [lo, hi).

    Red values go into `kept`. Shares recompute some planes at their ends.
    """
    nz, ny, my, mx = geo[0], geo[1], geo[9], geo[10]
    half, short = _halves(geo)
    plane, wide = ny * TWO * half, _blocks(mx)
    links, rest, _ = _tables(geo, fp, ip)
    alike = _alike(geo, fp)
    q = coef if geo[6] != 0 else np.zeros(np.int64(TWO * half), ring.dtype)
    # A half line with zeros at its sides, the same beside zeros, and a coarse line.
    padded = np.zeros(np.int64(TWO * BLOCK + max(half, wide)), ring.dtype)
    pair = np.zeros(np.int64(TWO * half), ring.dtype)
    line_c = np.zeros(np.int64(wide), ring.dtype)
    scale = fp.dtype.type(unit)
    coarse[np.uint64(lo) * my * mx : np.uint64(hi) * my * mx] = 0
    # Planes that have a part in the coarse ones, and those that are kept by this share.
    first, last, own, own_end = nz, ZERO, nz, ZERO
    for k in range(nz):
        a, b = ip[geo[14] + TWO * k], ip[geo[14] + TWO * k + ONE]
        if lo <= a < hi or lo <= b < hi:
            first, last = min(first, k), max(last, k + ONE)
        if lo <= a < hi:
            own, own_end = min(own, k), max(own_end, k + ONE)
    depth, planes = TWO * np.uint64(sweeps), planes_of(sweeps)
    start, nothing = window_length(own, geo), planes * plane
    w = ring[start : start + nothing + half]
    w[:] = 0
    for front in range(first - depth if first > depth else ZERO, last + depth):
        for stage in range(min(depth, front) + ONE):
            # A stage needs the one before it on a plane more at each end.
            k, more = front - stage, depth - stage
            if k + more < first or k >= min(last + more, nz):
                continue
            below, here, above = _around(k, planes, plane)
            if stage == depth:
                _restrict(lo, hi, k, half, short, geo, fp, ip, coef, links, rest, w, below, here,
                          above, nothing, padded, pair, line_c, coarse)  # fmt: skip
                continue
            for j in range(ny):
                if geo[6] == 0:
                    _inverse(k, j, half, geo, fp, links, alike, q)
                base = here + j * TWO * half
                if stage == ZERO:
                    split(geo[18], geo[2], scale, f, (k * ny + j) * geo[2], w, base, base + half, q,
                          _of_line(ZERO, k, j, ZERO, half, short, geo),
                          _of_line(ZERO, k, j, ONE, half, short, geo))  # fmt: skip
                    continue
                colour = (k + j + stage) & ONE
                _bring(k, j, colour, half, short, geo, fp, coef, links, w, below, here, above,
                       nothing, padded, ZERO)  # fmt: skip
                at, inverse = base + colour * half, _of_line(ZERO, k, j, colour, half, short, geo)
                if stage == ONE:
                    add_product(short, q, inverse, padded, ZERO, w, at)
                else:
                    # Black values are not kept: the place of a line's red ones takes the sum.
                    keep = stage & ONE == ZERO and own <= k < own_end
                    set_changes(short, q, inverse, padded, w, at, stage == TWO, keep, kept,
                                (k * ny + j) * short)  # fmt: skip


@jit
def up(lo, hi, sweeps, visit, unit, gain, geo, fp, ip, coef, f, coarse, kept, result, left, sums,
       ring):  # fmt: skip
    """Add the correction, relax black and red, some times, and write ``gain`` times it all.

    A visit that another one follows writes the residual into `left`, and one that follows another
    one adds to `result`. The sum of ``conj(f) * result`` over each plane goes into `sums`, if that
    has room.
    """
    nz, ny, nx, mx, lanes = geo[0], geo[1], geo[2], geo[10], geo[18]
    half, short = _halves(geo)
    plane, wide = ny * TWO * half, _blocks(mx)
    links, _, forth = _tables(geo, fp, ip)
    alike = _alike(geo, fp)
    q = coef if geo[6] != 0 else np.zeros(np.int64(TWO * half), ring.dtype)
    ones = np.ones(np.int64(TWO * half), ring.dtype)
    mask = coef if geo[7] != 0 else ones
    out, pair = np.zeros(np.int64(half), ring.dtype), np.zeros(np.int64(TWO * half), ring.dtype)
    line_c = np.zeros(np.int64(TWO * BLOCK + max(half, wide)), ring.dtype)
    halves = np.zeros(np.int64(TWO * half), ring.dtype)
    line = np.zeros(np.int64(nx), result.dtype)
    scale, one = fp.dtype.type(unit), fp.dtype.type(1)
    factor, weight = result.real.dtype.type(gain), fp.dtype.type(gain)
    first, last = np.uint64(lo), np.uint64(hi)
    final, planes = TWO * np.uint64(sweeps), planes_of(sweeps)
    depth = final + ONE if visit & MORE else final
    start, nothing = window_length(first, geo), planes * plane
    w = ring[start : start + nothing + half]
    # What the points would be but for their neighbours: right-hand sides over the diagonal.
    alone = ring[start + nothing + half : start + TWO * nothing + half]
    # Filled-up lines end in zeros.
    ring[start : start + TWO * nothing + half] = 0
    for front in range(first - depth if first > depth else ZERO, last + depth):
        for stage in range(min(depth, front) + ONE):
            k, more = front - stage, depth - stage
            if k + more < first or k >= min(last + more, nz):
                continue
            below, here, above = _around(k, planes, plane)
            total = sums.dtype.type(0)
            for j in range(ny):
                if geo[6] == 0:
                    _inverse(k, j, half, geo, fp, links, alike, q)
                place, base = (k * ny + j) * nx, here + j * TWO * half
                # After the last half-sweep residuals are left at black points.
                colour = (k + j + stage) & ONE
                at, inverse = base + colour * half, _of_line(ZERO, k, j, colour, half, short, geo)
                if stage == ZERO:
                    split(lanes, nx, scale, f, place, alone, base, base + half, q,
                          _of_line(ZERO, k, j, ZERO, half, short, geo),
                          _of_line(ZERO, k, j, ONE, half, short, geo))  # fmt: skip
                    _gather(k, j, geo, fp, ip, coarse, line_c, BLOCK)
                    own = colour * half
                    passing = _of_line(THREE + ONE, k, j, colour, half, short, geo)
                    passing = passing if geo[7] != 0 else ZERO
                    before, begin = (kept, (k * ny + j) * short) if sweeps > 1 else (alone, at)
                    if mx == nx:
                        split(lanes, nx, one, line_c, BLOCK, pair, ZERO, half, ones, ZERO, ZERO)
                        corrected(short, mask, passing, forth, own, TWO * half + own, pair, own,
                                  own, before, begin, w, at)  # fmt: skip
                    else:
                        a = BLOCK - lanes * (ONE - colour)
                        corrected(short, mask, passing, forth, own, TWO * half + own, line_c, a,
                                  a + lanes, before, begin, w, at)  # fmt: skip
                    continue
                _bring(k, j, colour, half, short, geo, fp, coef, links, w, below, here, above,
                       nothing, out, ZERO)  # fmt: skip
                if stage <= final:
                    set_product(short, q, inverse, out, ZERO, alone, at, w, at)
                if stage == final and first <= k < last:
                    merge(lanes, nx, factor, w, base, base + half, line, ZERO)
                    if visit & ADDED:
                        add_multiple(nx, result.real.dtype.type(1), line, ZERO, result, place)
                    else:
                        result[place : place + nx] = line
                    if sums.shape[0]:
                        total += inner(nx, f, place, result, place)
                if stage > final:
                    red = half - colour * half
                    residual(short, weight, q, inverse, out, alone, w, at, halves,
                             colour * half)  # fmt: skip
                    scaled_right(short, one - weight, q,
                                 _of_line(ZERO, k, j, ONE - colour, half, short, geo), alone,
                                 base + red, halves, red)  # fmt: skip
                    merge(lanes, nx, one, halves, ZERO, half, left, place)
            if stage == final and sums.shape[0] and first <= k < last:
                sums[k] = total


@jit
def run(steps, factors, geos, places, stores, fp, ip, coef, f, left, t, kept, d, dense):
    """Do a list of steps: see `multigrid.run`.

    Right-hand sides are in f, those of second visits in `left`; `stores` says where a level's part
    of `kept` begins.
    """
    for s in range(steps.shape[0]):
        op, level, sweeps, visit = steps[s, 0], steps[s, 1], steps[s, 2], steps[s, 3]
        first, last = places[level, 0], places[level, 1]
        rhs, other = f[first:last], left[first:last]
        if visit & SWAPPED:
            rhs, other = other, rhs
        if op == SOLVE:
            solve_coarsest(geos[level, 18], dense, rhs, t[first:last])
            continue
        low, high = places[level + 1, 0], places[level + 1, 1]
        geo = geos[level]
        coefficients = coef[places[level, 2] : places[level, 3]]
        own = kept[stores[level] : stores[level + 1]]
        if op == DOWN:
            down(np.int64(0), np.int64(geo[8]), sweeps, 1.0, geo, fp, ip, coefficients, rhs,
                 f[low:high], own, d)  # fmt: skip
        else:
            up(np.int64(0), np.int64(geo[0]), sweeps, visit, 1.0, factors[s, 0], geo, fp, ip,
               coefficients, rhs, t[low:high], own, t[first:last], other, d[:0],
               d)  # fmt: skip
