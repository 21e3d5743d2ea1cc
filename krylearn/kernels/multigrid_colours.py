"""Multigrid-CG on one plane grid at a time, all of it in a core's own cache.

Points are kept by colour, red (i + j even) and black, each a plane of its own: of line j a colour
has the points 2 m + s, s being 0 or 1 by turns, at m. A red-black half-sweep thus reads and
writes neighbouring numbers only, and as a line's even points are one colour's and its odd ones the
other's, so do the transfers between levels. Lines end with padding, and planes begin and end with
a line of it: zeros, which stand for neighbours that are not there.

A level has the planes below, two of each. Its numbers are a row of `levels`; what its axes need to
pass values on is in the table `t`: see `solvers.multigrid.colours`, which makes both.

A cycle is V(1, 1): red, black, the coarse correction, black, red. Two things make it cheap. Sweeps
begin from zero, so that after them the residuals of black points are zero and those of red points
what their neighbours bring; and the black sweep after the correction overwrites the black points,
so that only red ones need the correction.
"""

from __future__ import annotations

import numpy as np

from krylearn.kernels.parallel import jit
from krylearn.kernels.simd import (
    above,
    double,
    eight,
    evens,
    first,
    last,
    load,
    odds,
    reciprocal,
    single,
    store,
    total,
)

# Planes: inverse diagonal, links to the next point of a line and to the next line, right-hand
# side, values; on the finest level also diagonal, direction, its product, and the solution.
INVERSE, EAST, NORTH, RHS, VALUES, PLANES = 0, 2, 4, 6, 8, 10
DIAGONAL, DIRECTION, PRODUCT, SOLUTION, PLANES_FINEST = 10, 12, 14, 16, 18
# Columns of `levels`: sizes, length of a padded line and of a plane, where planes begin, points
# of a colour in a line up to a multiple of eight, where the tables of the axes begin.
NY, NX, WIDTH, PLANE, START, STOP, TABLE_Y, TABLE_X, COLUMNS = range(9)
# Rows of an axis's table: weights of interpolation, of even points to m - 1 and m and of odd ones
# to m and m + 1; the same of the shares of control volumes; parts of the links 2 m .. 2 m + 3 along
# a coarse one. Last the parts of the outermost links between coarse points and the sides.
WEIGHTS, SHARES, PARTS, WAYS, ROWS = 0, 4, 8, 12, 13
# What is left over at the ends of a row of a table, and of a scratch line.
MARGIN = 8
CONVERGED, MAXITER, FAILED = range(3)
# A segment of iterations in single precision ends when the residual has shrunk by this.
SHRINK = 1e-2


@jit
def stride_of(n):
    """Return the length of a row of the table of an axis, and of a scratch line."""
    return MARGIN + (n // 2 // 8 + 1) * 8 + 3 * 8


# -- the hierarchy ---------------------------------------------------------------------------------


@jit
def _scale(ny, nx, diagonal, north, east, strong):
    """Return the mean of the diagonal, or 0 where the operator does not suit.

    All points must be coupled to all their neighbours, along both axes about equally strongly.
    """
    d, y, x = 0.0, 0.0, 0.0
    bad, open_y, open_x = 0, 0, 0
    for i in range(diagonal.shape[0]):
        d += diagonal[i]
        y -= north[i]
        x -= east[i]
        bad += not (diagonal[i] > 0)
        open_y += not (north[i] < 0)
        open_x += not (east[i] < 0)
    if bad > 0 or open_y != nx or open_x != ny or not np.isfinite(d + y + x):
        return 0.0
    if ny > 1 and nx > 1:
        y, x = y / (nx * (ny - 1)), x / (ny * (nx - 1))
        if min(x, y) < strong * max(x, y):
            return 0.0
    return d / diagonal.shape[0]


@jit
def _rest_of(at, nx, diagonal, north, east):
    """Return what the diagonal has beyond the couplings, for eight points."""
    v = load(diagonal, at) + load(east, at - 1) + load(east, at)
    return v + load(north, at - nx) + load(north, at)


@jit
def _finest(level, diagonal, north, east, a, ties, held, eps, strong):
    """Write the planes of the finest level; return what the operator was divided by.

    Values are what the diagonal has beyond the couplings, but for what ties points to the sides:
    that is in `ties`. Returns 0 where the operator does not suit.
    """
    ny, nx, width, plane = level[NY], level[NX], level[WIDTH], level[PLANE]
    scale = _scale(ny, nx, diagonal, north, east, strong)
    if not scale > 0:
        return 0.0
    factor, minus, limit = eight(1 / scale), eight(-1 / scale), eight(eps)
    for j in range(ny):
        row = level[START] + (j + 1) * width
        even, odd = row + (j & 1) * plane, row + (1 - (j & 1)) * plane
        whole = nx // 16 * 16 if 0 < j < ny - 1 else 0
        for i in range(0, whole, 16):
            at, m = j * nx + i, i // 2
            low, high = load(diagonal, at), load(diagonal, at + 8)
            u = above(_rest_of(at, nx, diagonal, north, east), limit * low)
            v = above(_rest_of(at + 8, nx, diagonal, north, east), limit * high)
            _put(a, even + m, odd + m, VALUES * plane, factor, u, v)
            _put(a, even + m, odd + m, DIAGONAL * plane, factor, low, high)
            _put(a, even + m, odd + m, EAST * plane, minus, load(east, at), load(east, at + 8))
            _put(a, even + m, odd + m, NORTH * plane, minus, load(north, at), load(north, at + 8))
        for i in range(whole, nx):
            at, m = j * nx + i, (odd if i & 1 else even) + (i >> 1)
            v = diagonal[at] + east[at] + north[at]
            v += east[at - 1] if i > 0 else 0.0
            v += north[at - nx] if j > 0 else 0.0
            a[m + VALUES * plane] = v / scale if v > eps * diagonal[at] else 0.0
            a[m + DIAGONAL * plane] = diagonal[at] / scale
            a[m + EAST * plane] = -east[at] / scale
            a[m + NORTH * plane] = -north[at] / scale
    _split_sides(level, a, ties, held)
    for m in range(level[START], level[START] + 2 * plane, 8):
        store(a, m, reciprocal(load(a, m + DIAGONAL * plane)))
    return scale


@jit
def _put(a, even, odd, plane, factor, low, high):
    """Write sixteen numbers of a line, times a factor."""
    one, two = single(factor * low), single(factor * high)
    store(a, even + plane, evens(one, two))
    store(a, odd + plane, odds(one, two))


@jit
def _at_side(level, axis, side, i, depth):
    """Return the point of a side, or one at a depth below it, as its two indices."""
    n = level[NY] if axis == 0 else level[NX]
    across = n - 1 - depth if side else depth
    return (across, i) if axis == 0 else (i, across)


@jit
def _split_sides(level, a, ties, held):
    """Take out of the rest of the diagonal what ties points to Dirichlet sides.

    What the next layer inwards has too is reaction. Sides are numbered 2 axis + side.
    """
    for k in range(4):
        n = level[NX] if k < 2 else level[NY]
        for i in range(n):
            j, l = _at_side(level, k // 2, k & 1, i, 0)
            ties[k, i] = a[_place(level, VALUES, j, l)] if held[k] else np.float32(0)
    for k in range(4):
        if held[k]:
            deep = (level[NY] if k < 2 else level[NX]) > 2
            for i in range(level[NX] if k < 2 else level[NY]):
                j, l = _at_side(level, k // 2, k & 1, i, 0)
                at, inner = _place(level, VALUES, j, l), np.float32(0)
                if deep:
                    j, l = _at_side(level, k // 2, k & 1, i, 1)
                    inner = a[_place(level, VALUES, j, l)]
                a[at] = min(a[at], inner)
    for k in range(4):
        if held[k]:
            other = 2 - 2 * (k // 2)
            n = level[NX] if k < 2 else level[NY]
            both = 2 if (level[NY] if k < 2 else level[NX]) == 1 and held[k ^ 1] else 1
            for i in range(n):
                j, l = _at_side(level, k // 2, k & 1, i, 0)
                count = 1 + (i == 0 and held[other]) + (i == n - 1 and held[other + 1])
                ties[k, i] = (ties[k, i] - a[_place(level, VALUES, j, l)]) / (count * both)


@jit
def _share(source, even, odd, t, table, stride, stop, weight, lines, out):
    """Add the shares of a line, its even and its odd points, to a coarse line."""
    e0, e1 = table + SHARES * stride + MARGIN, table + (SHARES + 1) * stride + MARGIN
    o0, o1 = e1 + stride, e1 + 2 * stride
    factor = eight(weight)
    for i in range(0, stop, 8):
        v = load(t, e1 + i) * load(source, even + i)
        v = v + load(t, e0 + i + 1) * load(source, even + i + 1)
        v = v + load(t, o0 + i) * load(source, odd + i)
        v = v + load(t, o1 + i - 1) * load(source, odd + i - 1)
        store(lines, out + i, load(lines, out + i) + factor * v)


@jit
def _share_of(t, table, stride, s, m):
    """Return the share of the fine point 2 m - 1 + s in the coarse point m."""
    row = 3 if s == 0 else (1 if s == 1 else (2 if s == 2 else 0))
    at = m - 1 if s == 0 else (m + 1 if s == 3 else m)
    return t[table + (SHARES + row) * stride + MARGIN + at]


@jit
def _coarsen(level, coarse, a, t, lines, ties, coarse_ties, held):
    """Write the planes of a coarse level.

    A coarse link takes fine ones in series along it and in parallel beside it.
    """
    ny, width, plane, stop = level[NY], level[WIDTH], level[PLANE], level[STOP]
    sx, sy = stride_of(level[NX]), stride_of(ny)
    even, odd, along, rest, across = (
        MARGIN, MARGIN + sx, MARGIN + 2 * sx, MARGIN + 3 * sx, MARGIN + 4 * sx
    )  # fmt: skip
    parts = level[TABLE_X] + PARTS * sx + MARGIN
    _clear(lines, even, sx)
    _clear(lines, odd, sx)
    for J in range(coarse[NY]):
        _clear(lines, along, sx)
        _clear(lines, rest, sx)
        _clear(lines, across, sx)
        for s in range(4):
            j = 2 * J - 1 + s
            if j < 0 or j >= ny:
                continue
            weight = _share_of(t, level[TABLE_Y], sy, s, J)
            if weight == 0:
                continue
            row = level[START] + (j + 1) * width
            e, o = row + (j & 1) * plane, row + (1 - (j & 1)) * plane
            for i in range(0, stop, 8):
                store(lines, even + i, reciprocal(load(a, e + i + EAST * plane)))
                store(lines, odd + i, reciprocal(load(a, o + i + EAST * plane)))
            factor = eight(weight)
            for i in range(0, stop, 8):
                v = load(t, parts + i) * load(lines, even + i)
                v = v + load(t, parts + sx + i) * load(lines, odd + i)
                v = v + load(t, parts + 2 * sx + i) * load(lines, even + i + 1)
                v = v + load(t, parts + 3 * sx + i) * load(lines, odd + i + 1)
                store(lines, along + i, load(lines, along + i) + factor * reciprocal(v))
            _share(a, e + VALUES * plane, o + VALUES * plane, t, level[TABLE_X], sx, stop, weight,
                   lines, rest)  # fmt: skip
        if J + 1 < coarse[NY]:
            _clear(lines, even, sx)
            _clear(lines, odd, sx)
            for s in range(4):
                j = 2 * J + s
                part = t[level[TABLE_Y] + (PARTS + s) * sy + MARGIN + J]
                if part != 0:
                    row = level[START] + (j + 1) * width + NORTH * plane
                    e, o = row + (j & 1) * plane, row + (1 - (j & 1)) * plane
                    factor = eight(part)
                    for i in range(0, stop, 8):
                        v = factor * reciprocal(load(a, e + i))
                        store(lines, even + i, load(lines, even + i) + v)
                        v = factor * reciprocal(load(a, o + i))
                        store(lines, odd + i, load(lines, odd + i) + v)
            for i in range(0, stop, 8):
                store(lines, even + i, reciprocal(load(lines, even + i)))
                store(lines, odd + i, reciprocal(load(lines, odd + i)))
            _share(lines, even, odd, t, level[TABLE_X], sx, stop, np.float32(1), lines, across)
        _split(coarse, a, EAST, J, lines, along)
        _split(coarse, a, VALUES, J, lines, rest)
        _split(coarse, a, NORTH, J, lines, across)
    _coarsen_ties(level, coarse, a, t, ties, coarse_ties, held)
    _invert_diagonal(coarse, a, coarse_ties, held)


@jit
def _coarsen_ties(level, coarse, a, t, ties, coarse_ties, held):
    """Write what ties coarse points to the sides; what the fine ones had is lost."""
    for k in range(4):
        if not held[k]:
            continue
        axis, side = k // 2, k & 1
        table, n = (level[TABLE_Y], level[NY]) if axis == 0 else (level[TABLE_X], level[NX])
        way = t[table + WAYS * stride_of(n) + MARGIN + side]
        other, length = (level[TABLE_X], level[NX]) if axis == 0 else (level[TABLE_Y], level[NY])
        stride = stride_of(length)
        if way > 0:
            quantity = NORTH if axis == 0 else EAST
            for i in range(length):
                # The link that ends at the outermost point, or begins there.
                j, l = _at_side(level, axis, side, i, side)
                if ties[k, i] > 0:
                    r = 1 / ties[k, i] + way / a[_place(level, quantity, j, l)]
                    ties[k, i] = 1 / r
        for m in range(coarse[NX] if axis == 0 else coarse[NY]):
            v = np.float32(0)
            for s in range(4):
                i = 2 * m - 1 + s
                if 0 <= i < length:
                    v += _share_of(t, other, stride, s, m) * ties[k, i]
            coarse_ties[k, m] = v


@jit
def _invert_diagonal(level, a, ties, held):
    """Write the inverse diagonal from the links, the values, which are the rest, and the sides."""
    ny, width, plane = level[NY], level[WIDTH], level[PLANE]
    for j in range(ny):
        row = level[START] + (j + 1) * width
        for colour in range(2):
            own, other, east = colour * plane, (1 - colour) * plane, (j + colour) & 1
            for m in range(row, row + level[STOP], 8):
                v = load(a, m + VALUES * plane + own)
                v = v + load(a, m + EAST * plane + own)
                v = v + load(a, m + EAST * plane + other + east - 1)
                v = v + load(a, m + NORTH * plane + own)
                v = v + load(a, m + NORTH * plane + other - width)
                store(a, m + own, v)
    for k in range(4):
        if held[k]:
            for i in range(level[NX] if k < 2 else level[NY]):
                j, l = _at_side(level, k // 2, k & 1, i, 0)
                a[_place(level, INVERSE, j, l)] += ties[k, i]
    for m in range(level[START], level[START] + 2 * plane, 8):
        store(a, m, reciprocal(load(a, m)))


@jit
def _invert(level, a, ties, held, dense):
    """Write the inverse of the coarsest operator, by sweeps; dependent points are left out.

    References
    ----------
    Goodnight (1979), A tutorial on the SWEEP operator.
    """
    ny, nx = level[NY], level[NX]
    n = ny * nx
    A = np.zeros((n, n))
    for p in range(n):
        j, i = p // nx, p % nx
        A[p, p] += a[_place(level, VALUES, j, i)]
        for k in range(4):
            end_y, end_x = _at_side(level, k // 2, k & 1, i if k < 2 else j, 0)
            if held[k] and end_y == j and end_x == i:
                A[p, p] += ties[k, i if k < 2 else j]
        for axis in range(2):
            q = p + (nx if axis == 0 else 1)
            if (j + 1 < ny) if axis == 0 else (i + 1 < nx):
                v = a[_place(level, NORTH if axis == 0 else EAST, j, i)]
                A[p, p] += v
                A[q, q] += v
                A[p, q] -= v
                A[q, p] -= v
    whole = np.empty(n)
    for p in range(n):
        whole[p] = A[p, p]
    swept = np.zeros(n, np.bool_)
    for p in range(n):
        pivot = A[p, p]
        if not pivot > 1e-9 * whole[p]:
            continue
        swept[p] = True
        for r in range(n):
            if r != p:
                factor = A[r, p] / pivot
                for c in range(n):
                    if c != p:
                        A[r, c] -= factor * A[p, c]
        for r in range(n):
            if r != p:
                A[r, p] /= pivot
                A[p, r] /= pivot
        A[p, p] = -1 / pivot
    for r in range(n):
        for c in range(n):
            dense[r * n + c] = -A[r, c] if swept[r] and swept[c] else 0.0


# -- the cycle -----------------------------------------------------------------------------------


@jit
def _around(a, m, plane, width, quantity, colour, east):
    """Return what the neighbours of eight points of a colour bring to them.

    `m` is where the first of them lies in the planes of red points.
    """
    other = 1 - colour
    there = m + (quantity + other) * plane
    west_links = load(a, m + (EAST + other) * plane + east - 1)
    south_links = load(a, m + (NORTH + other) * plane - width)
    return (
        load(a, m + (EAST + colour) * plane) * load(a, there + east)
        + west_links * load(a, there + east - 1)
    ) + (
        load(a, m + (NORTH + colour) * plane) * load(a, there + width)
        + south_links * load(a, there - width)
    )


@jit
def _relax(level, a, j, colour):
    """Relax the points of a colour in a line."""
    width, plane = level[WIDTH], level[PLANE]
    row = level[START] + (j + 1) * width
    for m in range(row, row + level[STOP], 8):
        v = load(a, m + (RHS + colour) * plane)
        v = v + _around(a, m, plane, width, VALUES, colour, (j + colour) & 1)
        store(a, m + (VALUES + colour) * plane, load(a, m + (INVERSE + colour) * plane) * v)


@jit
def _split(level, a, quantity, j, lines, line):
    """Write a line of values in their natural order into the planes of a quantity."""
    row = level[START] + (j + 1) * level[WIDTH]
    even = row + (quantity + (j & 1)) * level[PLANE]
    odd = row + (quantity + 1 - (j & 1)) * level[PLANE]
    for m in range(0, level[STOP], 8):
        low, high = load(lines, line + 2 * m), load(lines, line + 2 * m + 8)
        store(a, even + m, evens(low, high))
        store(a, odd + m, odds(low, high))


@jit
def _merge(level, a, quantity, j, lines, line):
    """Write a line of the planes of a quantity in its natural order."""
    row = level[START] + (j + 1) * level[WIDTH]
    even = row + (quantity + (j & 1)) * level[PLANE]
    odd = row + (quantity + 1 - (j & 1)) * level[PLANE]
    for m in range(0, level[STOP], 8):
        low, high = load(a, even + m), load(a, odd + m)
        store(lines, line + 2 * m, first(low, high))
        store(lines, line + 2 * m + 8, last(low, high))


@jit
def _clear(lines, line, stride):
    for i in range(line - MARGIN, line - MARGIN + stride, 8):
        store(lines, i, eight(np.float32(0)))


@jit
def _down(level, coarse, a, t, lines):
    """Relax red and black from zero; restrict the residual to the coarse right-hand side.

    While the foremost line gets its red points, the one behind gets its black ones, and the
    residual of the third is final.
    """
    ny, width, plane, stop = level[NY], level[WIDTH], level[PLANE], level[STOP]
    sx, sy = stride_of(level[NX]), stride_of(ny)
    residual = MARGIN
    _clear(lines, residual + sx, 2 * sx)
    for front in range(ny + 2):
        if front < ny:
            row = level[START] + (front + 1) * width
            for m in range(row, row + stop, 8):
                store(a, m + VALUES * plane, load(a, m) * load(a, m + RHS * plane))
        j = front - 1
        if 0 <= j < ny:
            _relax(level, a, j, 1)
        j = front - 2
        if j >= 0:
            side = j & 1
            row = level[START] + (j + 1) * width
            for m in range(0, stop, 8):
                store(lines, residual + m, _around(a, row + m, plane, width, VALUES, 0, side))
            # An even point gives to the coarse points m - 1 and m, an odd one to m and m + 1.
            m = j >> 1
            low = m - 1 + side
            rows = level[TABLE_Y] + (WEIGHTS + 2 * side) * sy + MARGIN + m
            one, two = eight(t[rows]), eight(t[rows + sy])
            own = level[TABLE_X] + (WEIGHTS + 1 + side) * sx + MARGIN
            next_ = level[TABLE_X] + (WEIGHTS + 3 * side) * sx + MARGIN
            step = 1 - 2 * side
            before = residual + sx * (1 + (low & 1))
            after = residual + sx * (1 + (low + 1 & 1))
            for i in range(0, stop, 8):
                v = load(t, own + i) * load(lines, residual + i)
                v = v + load(t, next_ + i + step) * load(lines, residual + i + step)
                store(lines, before + i, load(lines, before + i) + one * v)
                store(lines, after + i, load(lines, after + i) + two * v)
            if side == 0 and low >= 0:
                _split(coarse, a, RHS, low, lines, before)
            if side == 0:
                _clear(lines, before, sx)
            if j == ny - 1 and m < coarse[NY]:
                _split(coarse, a, RHS, m, lines, residual + sx * (1 + (m & 1)))


@jit
def _up(level, coarse, a, t, lines):
    """Add the coarse correction to the red points; relax black and red."""
    ny, width, plane, stop = level[NY], level[WIDTH], level[PLANE], level[STOP]
    sx, sy = stride_of(level[NX]), stride_of(ny)
    line = MARGIN
    _clear(lines, line, 3 * sx)
    for front in range(ny + 2):
        if front < ny:
            j, side = front, front & 1
            m = j >> 1
            low = m - 1 + side
            if (side == 1 or j == 0) and low + 1 < coarse[NY]:
                _merge(coarse, a, VALUES, low + 1, lines, line + sx * (1 + (low + 1 & 1)))
            rows = level[TABLE_Y] + (WEIGHTS + 2 * side) * sy + MARGIN + m
            one, two = eight(t[rows]), eight(t[rows + sy])
            before, after = line + sx * (1 + (low & 1)), line + sx * (1 + (low + 1 & 1))
            for i in range(0, stop, 8):
                v = one * load(lines, before + i) + two * load(lines, after + i)
                store(lines, line + i, v)
            row = level[START] + (j + 1) * width + VALUES * plane
            lower = level[TABLE_X] + (WEIGHTS + 2 * side) * sx + MARGIN
            for i in range(0, stop, 8):
                v = load(t, lower + i) * load(lines, line + i - 1 + side)
                v = v + load(t, lower + sx + i) * load(lines, line + i + side)
                store(a, row + i, load(a, row + i) + v)
        j = front - 1
        if 0 <= j < ny:
            _relax(level, a, j, 1)
        j = front - 2
        if j >= 0:
            _relax(level, a, j, 0)


@jit
def _place(level, quantity, j, i):
    """Return where the value of a point lies."""
    colour = quantity + (i + j & 1)
    return level[START] + colour * level[PLANE] + (j + 1) * level[WIDTH] + (i >> 1)


@jit
def _coarsest(level, a, dense):
    """Multiply by the inverse of the coarsest operator."""
    ny, nx = level[NY], level[NX]
    n = ny * nx
    for r in range(n):
        v = np.float32(0)
        for c in range(n):
            v += dense[r * n + c] * a[_place(level, RHS, c // nx, c % nx)]
        a[_place(level, VALUES, r // nx, r % nx)] = v


@jit
def _cycle(levels, a, t, lines, dense):
    deepest = levels.shape[0] - 1
    for l in range(deepest):
        _down(levels[l], levels[l + 1], a, t, lines)
    _coarsest(levels[deepest], a, dense)
    for l in range(deepest - 1, -1, -1):
        _up(levels[l], levels[l + 1], a, t, lines)


# -- conjugate gradients ---------------------------------------------------------------------------


@jit
def _advance(level, alpha, a):
    """Do ``x += alpha p; r -= alpha q``; return the squared norm of r."""
    plane = level[PLANE]
    step, norm = eight(np.float32(alpha)), eight(0.0)
    for m in range(level[START], level[START] + 2 * plane, 8):
        x = load(a, m + SOLUTION * plane) + step * load(a, m + DIRECTION * plane)
        store(a, m + SOLUTION * plane, x)
        r = load(a, m + RHS * plane) - step * load(a, m + PRODUCT * plane)
        store(a, m + RHS * plane, r)
        norm = norm + double(r) * double(r)
    return total(norm)


@jit
def _inner(level, quantity, a):
    """Return the inner product of a quantity and the preconditioned residual."""
    plane, s = level[PLANE], eight(0.0)
    for m in range(level[START], level[START] + 2 * plane, 8):
        s = s + double(load(a, m + quantity * plane)) * double(load(a, m + VALUES * plane))
    return total(s)


@jit
def _direct(level, beta, a):
    """Do ``p = z + beta p; q = A p``; return their inner product."""
    ny, width, plane, stop = level[NY], level[WIDTH], level[PLANE], level[STOP]
    factor, s = eight(np.float32(beta)), eight(0.0)
    for front in range(ny + 1):
        if front < ny:
            row = level[START] + (front + 1) * width
            for colour in range(2):
                for m in range(row + colour * plane, row + colour * plane + stop, 8):
                    p = load(a, m + VALUES * plane) + factor * load(a, m + DIRECTION * plane)
                    store(a, m + DIRECTION * plane, p)
        j = front - 1
        if j >= 0:
            row = level[START] + (j + 1) * width
            for colour in range(2):
                east = (j + colour) & 1
                for m in range(row, row + stop, 8):
                    p = load(a, m + (DIRECTION + colour) * plane)
                    q = load(a, m + (DIAGONAL + colour) * plane) * p
                    q = q - _around(a, m, plane, width, DIRECTION, colour, east)
                    store(a, m + (PRODUCT + colour) * plane, q)
                    s = s + double(p) * double(q)
    return total(s)


@jit
def _collect(level, scale, a, x):
    """Do ``x += scale`` times the solution in single precision, and clear that."""
    ny, nx, width, plane = level[NY], level[NX], level[WIDTH], level[PLANE]
    factor = eight(scale)
    whole = nx // 16 * 16
    for j in range(ny):
        row = level[START] + (j + 1) * width
        even, odd = row + (SOLUTION + (j & 1)) * plane, row + (SOLUTION + 1 - (j & 1)) * plane
        base = j * nx
        for i in range(0, whole, 16):
            low, high = load(a, even + i // 2), load(a, odd + i // 2)
            at = base + i
            store(x, at, load(x, at) + factor * double(first(low, high)))
            store(x, at + 8, load(x, at + 8) + factor * double(last(low, high)))
        for i in range(whole, nx):
            x[base + i] += scale * a[(odd if i & 1 else even) + (i >> 1)]
    begin = level[START] + SOLUTION * plane
    for m in range(begin, begin + 2 * plane, 8):
        store(a, m, eight(np.float32(0)))


@jit
def _residual_at(at, j, i, ny, nx, diagonal, north, east, b, x):
    v = b[at] - diagonal[at] * x[at]
    if i > 0:
        v -= east[at - 1] * x[at - 1]
    if i + 1 < nx:
        v -= east[at] * x[at + 1]
    if j > 0:
        v -= north[at - nx] * x[at - nx]
    if j + 1 < ny:
        v -= north[at] * x[at + nx]
    return v


@jit
def _residual_of(at, nx, diagonal, north, east, b, x):
    """Return the residuals of eight points; across ends of lines entries are zero."""
    v = load(b, at) - load(diagonal, at) * load(x, at)
    v = v - load(east, at - 1) * load(x, at - 1) - load(east, at) * load(x, at + 1)
    return v - load(north, at - nx) * load(x, at - nx) - load(north, at) * load(x, at + nx)


@jit
def _residual(level, unit, diagonal, north, east, b, x, a):
    """Write ``unit (b - A x)``, from double precision; return the squared norm of b - A x."""
    ny, nx, width, plane = level[NY], level[NX], level[WIDTH], level[PLANE]
    norm, rest, factor = eight(0.0), 0.0, eight(unit)
    for j in range(ny):
        row = level[START] + (j + 1) * width
        even, odd = row + (RHS + (j & 1)) * plane, row + (RHS + 1 - (j & 1)) * plane
        base = j * nx
        whole = nx // 16 * 16 if 0 < j < ny - 1 else 0
        for i in range(0, whole, 16):
            low = _residual_of(base + i, nx, diagonal, north, east, b, x)
            high = _residual_of(base + i + 8, nx, diagonal, north, east, b, x)
            norm = norm + (low * low + high * high)
            one, two = single(factor * low), single(factor * high)
            store(a, even + i // 2, evens(one, two))
            store(a, odd + i // 2, odds(one, two))
        for i in range(whole, nx):
            v = _residual_at(base + i, j, i, ny, nx, diagonal, north, east, b, x)
            rest += v * v
            a[(odd if i & 1 else even) + (i >> 1)] = unit * v
    return total(norm) + rest


@jit
def prepare(levels, t, diagonal, north, east, a, lines, ties, dense, held, eps, strong):
    """Write the planes of all levels; return what the operator was divided by.

    The entries of the operator are its diagonal and its couplings to the next line and to the next
    point. Returns 0 where it does not suit: see `_scale`.
    """
    scale = _finest(levels[0], diagonal, north, east, a, ties[0], held, eps, strong)
    if not scale > 0:
        return 0.0
    deepest = levels.shape[0] - 1
    for l in range(deepest):
        _coarsen(levels[l], levels[l + 1], a, t, lines, ties[l & 1], ties[l + 1 & 1], held)
    _invert(levels[deepest], a, ties[deepest & 1], held, dense)
    return scale


@jit
def solve(levels, t, scale, diagonal, north, east, b, x, a, lines, dense, rtol, atol, maxiter,
          history):  # fmt: skip
    """Solve ``A x = b``; return the outcome, the iterations, and the number of true residuals.

    Iterations run in single precision, in units of the residual. When that has shrunk by `SHRINK`,
    what they found is added to x, and the residual recomputed in double precision takes the place
    of the recursive one. The last direction is kept, so that little is lost; what was rounded off
    meanwhile, on large grids much, has left the two residuals apart, and the next direction is made
    conjugate to the last by its product instead of by them. Only a recomputed residual decides on
    convergence. ``history[i]`` is the norm of the residual after i iterations.

    References
    ----------
    Saad (2003), Iterative Methods for Sparse Linear Systems, Algorithm 9.1; Sleijpen and van der
    Vorst (1996), Reliable updated residuals in hybrid Bi-CG methods, section 3.
    """
    level = levels[0]
    norm = 0.0
    for i in range(b.shape[0]):
        x[i] = 0.0
        norm += b[i] * b[i]
    norm = np.sqrt(norm)
    tolerance = max(rtol * norm, atol)
    for m in range(level[START] + DIRECTION * level[PLANE],
                   level[START] + PLANES_FINEST * level[PLANE], 8):  # fmt: skip
        store(a, m, eight(np.float32(0)))
    previous, rz, curvature, iteration, checks = np.inf, 1.0, 1.0, 0, 0
    while np.isfinite(norm):
        unit = 2.0 ** -np.floor(np.log2(norm)) if norm > 0 else 1.0
        norm = np.sqrt(_residual(level, unit, diagonal, north, east, b, x, a))
        history[iteration] = norm
        checks += 1
        if norm <= tolerance:
            return CONVERGED, iteration, checks
        if iteration >= maxiter:
            return MAXITER, iteration, checks
        if not norm < 0.5 * previous:
            break
        previous, replaced = norm, True
        goal = max(SHRINK * norm, min(0.9 * tolerance, 0.3 * norm))
        while norm > goal and iteration < maxiter:
            _cycle(levels, a, t, lines, dense)
            new = _inner(level, RHS, a)
            beta = -_inner(level, PRODUCT, a) / curvature if replaced else new / rz
            replaced = False
            curvature = _direct(level, beta, a)
            if not (new > 0 and curvature > 0):
                return FAILED, iteration, checks
            rz = new
            norm = np.sqrt(_advance(level, rz / curvature, a)) / unit
            iteration += 1
            history[iteration] = norm
        _collect(level, 1.0 / (unit * scale), a, x)
    return FAILED, iteration, checks
