"""The steps of a multigrid cycle on structured grids.

The unit of work is a plane across the first axis; a grid of two axes has planes of one line. A
red-black sweep computes all points of a line, which vectorises, and keeps those of one colour.
What happens on a line is in `multigrid_lines`, with what a level is; the two halves of V(1, 1) in
one pass each are in `multigrid_window`.

A cycle is a list of steps; `run` does a list of them on small levels in ONE call.
"""

from __future__ import annotations

import numpy as np

from krylearn.kernels.line_relaxation import batches, zebra

# What a level is, for those who make one.
from krylearn.kernels.multigrid_lines import (  # noqa: F401
    COARSE,
    FIELDS,
    FIRST,
    FLOATS,
    INTS,
    LANES,
    ONE,
    REACTION,
    REGULAR,
    SCALED,
    SIZES,
    THREE,
    TWO,
    VARIABLE,
    WRAPS,
    ZERO,
    _correct_line,
    _first_line,
    _mask_start,
    _offset,
    _relaxed_line,
    _residual_line,
    _restrict_line,
    _scatter,
    add_neighbours,
)
from krylearn.kernels.multigrid_window import DOWN, SOLVE, UP, down, solve_coarsest, up
from krylearn.kernels.parallel import jit

# Steps; those of fused cycles have numbers of their own.
START, RELAX, RESTRICT, PROLONG, CLEAR, RESIDUAL, UPDATE, LINES, BLEND = 0, 1, 2, 3, 5, 6, 7, 10, 11


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
def _blend(lo, hi, alpha, beta, geo, t, u):
    """Do ``t = u = alpha u + beta t``."""
    size = geo[1] * geo[2]
    a, b = t.real.dtype.type(alpha), t.real.dtype.type(beta)
    for i in range(np.uint64(lo) * size, np.uint64(hi) * size):
        v = a * u[i]
        if b != 0:
            v += b * t[i]
        t[i] = u[i] = v


@jit
def step(lo, hi, op, colour, box, alpha, beta, geo, fp, ip, coef, f, u, t, d, coarse_f, coarse_u):
    """Do planes [lo, hi) of one step; coarse planes where it restricts, or batches of lines."""
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
    elif op == LINES:
        zebra(lo, hi, box, colour, geo, coef, f, u)
    elif op == BLEND:
        _blend(lo, hi, alpha, beta, geo, t, u)


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
            solve_coarsest(geos[level, LANES], dense, f[first:last], u[first:last])
            t[first:last] = u[first:last]
            continue
        low, high = places[level + 1, 0], places[level + 1, 1]
        geo = geos[level]
        coefficients = coef[places[level, 2] : places[level, 3]]
        planes = np.int64(geo[COARSE] if op == RESTRICT or op == DOWN else geo[SIZES])
        if op == LINES:
            planes = np.int64(batches(box, geo))
        if op == DOWN:
            down(np.int64(0), planes, 1.0, geo, fp, ip, coefficients, f[first:last], f[low:high],
                 d[first:])  # fmt: skip
        elif op == UP:
            up(np.int64(0), planes, 1.0, 1.0, geo, fp, ip, coefficients, f[first:last],
               t[low:high], t[first:last], d[:0], d[first:])  # fmt: skip
        else:
            step(
                np.int64(0), planes, op, colour, box, factors[s, 0], factors[s, 1], geo, fp, ip,
                coefficients,
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
