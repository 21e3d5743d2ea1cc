"""One level of a multigrid hierarchy on a box, in the hands of one block of threads.

The hierarchies of `batched` are small enough that a block of threads goes through all levels of a
system by itself; between two passes over a level its threads wait for each other, and nothing
else. A level is a row of numbers (`FIELDS`); its coefficients are rows over all points: the
inverse diagonal and the links along x, y and z. What is made of them on the CPU, and why, stands
in `krylearn.kernels.coarsening` and `krylearn.kernels.multigrid`.

A link across an end that is not periodic is zero, so that neighbours may be taken around the end
without a test. Of two axes there is no z, of one no y.
"""

from __future__ import annotations

import numpy as np
from numba import cuda

from krylearn.kernels.cuda.launch import device

# A level: sizes; where its vectors, coefficients and ties to sides begin; whether two colours do;
# which wrapping axes have an odd size; threads along x over points and over pairs of points, as
# powers of two; then of the axes z, y, x where their tables begin, and how many entries of them
# are in use: parents, children, shares, links.
(NZ, NY, NX, VECTOR, COEF, TIES, FAST, ODD, POINTS, PAIRS, INTS, FLOATS, PARENTS, CHILDREN, SHARES,
 LINKS, FIELDS) = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 16, 19, 22, 25, 28)  # fmt: skip
# Widths of the tables.
SIX, FIVE, WAYS = 6, 5, 3
# The inverse diagonal of a point that holds no value.
NOTHING = 1e-30


@device
def _west(i, n, at, stride):
    """Return the point before i along an axis, around its end."""
    return np.uint32(at - stride) if i > 0 else np.uint32(at + stride * (n - 1))


@device
def _east(i, n, at, stride):
    """Return the point after i along an axis, around its end."""
    return np.uint32(at + stride) if i + 1 < n else np.uint32(at - stride * (n - 1))


@device
def pull(dims, nz, ny, nx, c, x, k, j, i, at):
    """Return the sum of links times the neighbours' values; `c` are rows, the links from 1 on."""
    n = np.uint32(nz * ny * nx)
    one, plane = np.uint32(1), np.uint32(ny * nx)
    west, east = _west(i, nx, at, one), _east(i, nx, at, one)
    total = c[np.uint32(n + west)] * x[west] + c[np.uint32(n + at)] * x[east]
    if dims > 1:
        base = np.uint32(2 * n)
        west, east = _west(j, ny, at, nx), _east(j, ny, at, nx)
        total += c[np.uint32(base + west)] * x[west] + c[np.uint32(base + at)] * x[east]
    if dims > 2:
        base = np.uint32(3 * n)
        west, east = _west(k, nz, at, plane), _east(k, nz, at, plane)
        total += c[np.uint32(base + west)] * x[west] + c[np.uint32(base + at)] * x[east]
    return total


@device
def _size_of_links(dims, nz, ny, nx, c, k, j, i, at):
    """Return the sum of the absolute values of all links of a point."""
    n = np.uint32(nz * ny * nx)
    total = abs(c[np.uint32(n + at)]) + abs(c[np.uint32(n + _west(i, nx, at, np.uint32(1)))])
    if dims > 1:
        base = np.uint32(2 * n)
        total += abs(c[np.uint32(base + at)]) + abs(c[np.uint32(base + _west(j, ny, at, nx))])
    if dims > 2:
        base, plane = np.uint32(3 * n), np.uint32(ny * nx)
        total += abs(c[np.uint32(base + at)]) + abs(c[np.uint32(base + _west(k, nz, at, plane))])
    return total


@device
def seat(shift):
    """Return this thread's first point along x and first line, and the steps along both."""
    t, wide = np.uint32(cuda.threadIdx.x), np.uint32(1 << shift)
    return np.uint32(t & (wide - 1)), np.uint32(t >> shift), wide, np.uint32(
        cuda.blockDim.x >> shift
    )


# -- set-up --------------------------------------------------------------------------------------


@device
def finest(dims, level, eps, unit, A, c, excess):
    """Pack the operator, times `unit`, and what its diagonal has beyond its couplings."""
    nz, ny, nx = level[NZ], level[NY], level[NX]
    n = np.uint32(nz * ny * nx)
    first, row, wide, high = seat(level[POINTS])
    while row < nz * ny:
        k = np.uint32(row // ny)
        j, i = np.uint32(row - k * ny), first
        while i < nx:
            at = np.uint32(row * nx + i)
            d = A[at]
            rest = d - _size_of_links(dims, nz, ny, nx, A, k, j, i, at)
            held = abs(rest) > eps * d and rest > 0.0
            excess[at] = rest * unit if held else 0.0
            v = d * unit
            c[at] = 1.0 / v if v > 0.0 else NOTHING
            for axis in range(1, dims + 1):
                place = np.uint32(axis * n + at)
                c[place] = -A[place] * unit
            i = np.uint32(i + wide)
        row = np.uint32(row + high)


@device
def _tie_place(level, axis, side, k, j, i):
    """Return where the tie of a point to a side lies; axes are numbered x, y, z."""
    nz, ny, nx = level[NZ], level[NY], level[NX]
    if axis == 0:
        return np.uint32(level[TIES] + (side * nz + k) * ny + j)
    base = np.uint32(level[TIES] + 2 * nz * ny)
    if axis == 1:
        return np.uint32(base + (side * nz + k) * nx + i)
    return np.uint32(base + 2 * nz * nx + (side * ny + j) * nx + i)


@device
def _on_side(level, held, axis, side, k, j, i):
    """Return whether a point lies at a Dirichlet side."""
    n, i = (level[NX], i) if axis == 0 else ((level[NY], j) if axis == 1 else (level[NZ], k))
    end = i + 1 == n if side else i == 0
    return end and (held >> (2 * axis + side)) & 1 != 0


@device
def split_sides(dims, level, held, excess, ties):
    """Take out of the excess what ties points to Dirichlet sides; reaction stays.

    What the next point inwards has too is reaction, the rest is the sides', in equal parts.
    """
    nz, ny, nx = level[NZ], level[NY], level[NX]
    first, row, wide, high = seat(level[POINTS])
    while row < nz * ny:
        k = np.uint32(row // ny)
        j, i = np.uint32(row - k * ny), first
        while i < nx:
            at = np.uint32(row * nx + i)
            inner, count, thick = at, 0, True
            stride = np.uint32(1)
            for axis in range(dims):
                n = level[NX] if axis == 0 else (level[NY] if axis == 1 else level[NZ])
                low = _on_side(level, held, axis, 0, k, j, i)
                top = _on_side(level, held, axis, 1, k, j, i)
                count += (1 if low else 0) + (1 if top else 0)
                if low and n > 2:
                    inner = np.uint32(inner + stride)
                elif top and n > 2:
                    inner = np.uint32(inner - stride)
                elif low or top:
                    thick = False
                stride = np.uint32(stride * n)
            if count > 0:
                whole = excess[at]
                kept = min(whole, excess[inner]) if thick else whole * 0
                excess[at] = kept
                share = (whole - kept) / excess.dtype.type(count)
                for axis in range(dims):
                    for side in range(2):
                        if _on_side(level, held, axis, side, k, j, i):
                            ties[_tie_place(level, axis, side, k, j, i)] = share
            i = np.uint32(i + wide)
        row = np.uint32(row + high)


@device
def _series(count, base, stride, row, size, ip, links, fp, parts, c):
    """Return fine links along an axis in series; `parts` of `size` rows, then who crosses."""
    total, closed = c.dtype.type(0), False
    crosses = np.uint32(parts + FIVE * size)
    for s in range(count):
        entry = np.uint32(s * size + row)
        part = fp[np.uint32(parts + entry)]
        if part != 0:
            value = c[np.uint32(base + ip[np.uint32(links + entry)] * stride)]
            if value > 0:
                total += part / value
            elif fp[np.uint32(crosses + entry)] != 0:
                closed = True
    one = c.dtype.type(1)
    return one / total if total > 0 and not closed else one * 0


@device
def coarsen(dims, level, coarse, ip, fp, c, excess, coarse_c, coarse_excess):
    """Write links and excess of the coarse level: in series along a link, in parallel beside."""
    nz, ny, nx = level[NZ], level[NY], level[NX]
    mz, my, mx = coarse[NZ], coarse[NY], coarse[NX]
    n, m, plane = np.uint32(nz * ny * nx), np.uint32(mz * my * mx), np.uint32(ny * nx)
    # Tables: see `krylearn.cuda.levels`.
    iz, iy, ix = (
        np.uint32(level[INTS] + 2 * nz + SIX * mz),
        np.uint32(level[INTS + 1] + 2 * ny + SIX * my),
        np.uint32(level[INTS + 2] + 2 * nx + SIX * mx),
    )
    wz, wy, wx = (
        np.uint32(level[FLOATS] + 2 * nz + SIX * mz),
        np.uint32(level[FLOATS + 1] + 2 * ny + SIX * my),
        np.uint32(level[FLOATS + 2] + 2 * nx + SIX * mx),
    )
    lz, ly, lx = np.uint32(iz + SIX * mz), np.uint32(iy + SIX * my), np.uint32(ix + SIX * mx)
    pz, py, px = np.uint32(wz + SIX * mz), np.uint32(wy + SIX * my), np.uint32(wx + SIX * mx)
    one = np.uint32(1)
    first, row, wide, high = seat(coarse[POINTS])
    while row < mz * my:
        K = np.uint32(row // my)
        J, I = np.uint32(row - K * my), first
        while I < mx:
            zero = c.dtype.type(0)
            rest, along_x, along_y, along_z = zero, zero, zero, zero
            for a in range(level[SHARES]):
                va, ka = fp[np.uint32(wz + a * mz + K)], ip[np.uint32(iz + a * mz + K)]
                for b in range(level[SHARES + 1]):
                    v = va * fp[np.uint32(wy + b * my + J)]
                    if v != 0:
                        line = np.uint32((ka * ny + ip[np.uint32(iy + b * my + J)]) * nx)
                        along_x += v * _series(level[LINKS + 2], np.uint32(n + line), one, I, mx,
                                               ip, lx, fp, px, c)  # fmt: skip
                        for s in range(level[SHARES + 2]):
                            entry = np.uint32(s * mx + I)
                            rest += v * fp[np.uint32(wx + entry)] * excess[
                                np.uint32(line + ip[np.uint32(ix + entry)])
                            ]
                if dims > 1 and va != 0:
                    for s in range(level[SHARES + 2]):
                        entry = np.uint32(s * mx + I)
                        v = va * fp[np.uint32(wx + entry)]
                        if v != 0:
                            base = np.uint32(2 * n + ka * plane + ip[np.uint32(ix + entry)])
                            along_y += v * _series(level[LINKS + 1], base, nx, J, my, ip, ly, fp,
                                                   py, c)  # fmt: skip
            if dims > 2:
                for b in range(level[SHARES + 1]):
                    vb, jb = fp[np.uint32(wy + b * my + J)], ip[np.uint32(iy + b * my + J)]
                    for s in range(level[SHARES + 2]):
                        entry = np.uint32(s * mx + I)
                        v = vb * fp[np.uint32(wx + entry)]
                        if v != 0:
                            base = np.uint32(3 * n + jb * nx + ip[np.uint32(ix + entry)])
                            along_z += v * _series(level[LINKS], base, plane, K, mz, ip, lz, fp,
                                                   pz, c)  # fmt: skip
            at = np.uint32(row * mx + I)
            coarse_excess[at] = rest
            coarse_c[np.uint32(m + at)] = along_x
            if dims > 1:
                coarse_c[np.uint32(2 * m + at)] = along_y
            if dims > 2:
                coarse_c[np.uint32(3 * m + at)] = along_z
            I = np.uint32(I + wide)
        row = np.uint32(row + high)


@device
def _tie(level, ways, axis, side, k, j, i, ip, fp, c, ties):
    """Return what ties a coarse point's part of a fine layer to its side."""
    nz, ny, nx = level[NZ], level[NY], level[NX]
    tie = ties[_tie_place(level, axis, side, k, j, i)]
    one = c.dtype.type(1)
    if not tie > 0:
        return one * 0
    resistance = one / tie
    n, line = np.uint32(nz * ny * nx), np.uint32((k * ny + j) * nx + i)
    stride = np.uint32(1) if axis == 0 else (nx if axis == 1 else np.uint32(ny * nx))
    size = nx if axis == 0 else (ny if axis == 1 else nz)
    here = i if axis == 0 else (j if axis == 1 else k)
    m = np.uint32(np.uint32(axis + 1) * n + line - here * stride)
    # The ways stand at the ends of the tables: see `krylearn.cuda.levels`.
    for s in range(WAYS):
        part = fp[np.uint32(ways[1] + side * WAYS + s)]
        if part != 0 and size > 1:
            value = c[np.uint32(m + ip[np.uint32(ways[0] + side * WAYS + s)] * stride)]
            if value > 0:
                resistance += part / value
    return one / resistance


@device
def coarsen_sides(dims, level, coarse, held, ip, fp, c, ties):
    """Write what ties the coarse points next to sides to them."""
    for axis in range(dims):
        a = 2 - axis
        n = level[NX] if axis == 0 else (level[NY] if axis == 1 else level[NZ])
        m = coarse[NX] if axis == 0 else (coarse[NY] if axis == 1 else coarse[NZ])
        ways = (
            np.uint32(level[INTS + a] + 2 * n + (2 * SIX + FIVE) * m),
            np.uint32(level[FLOATS + a] + 2 * n + 2 * (SIX + FIVE) * m),
        )
        # The other two axes, u the faster one.
        if axis == 0:
            slow, fast, many, few = 0, 1, coarse[NZ], coarse[NY]
            ns, nf = level[NZ], level[NY]
        elif axis == 1:
            slow, fast, many, few = 0, 2, coarse[NZ], coarse[NX]
            ns, nf = level[NZ], level[NX]
        else:
            slow, fast, many, few = 1, 2, coarse[NY], coarse[NX]
            ns, nf = level[NY], level[NX]
        islow = np.uint32(level[INTS + slow] + 2 * ns + SIX * many)
        wslow = np.uint32(level[FLOATS + slow] + 2 * ns + SIX * many)
        ifast = np.uint32(level[INTS + fast] + 2 * nf + SIX * few)
        wfast = np.uint32(level[FLOATS + fast] + 2 * nf + SIX * few)
        for side in range(2):
            here = np.uint32(0) if side == 0 else np.uint32(n - 1)
            there = np.uint32(0) if side == 0 else np.uint32(m - 1)
            place = np.uint32(cuda.threadIdx.x)
            if (held >> (2 * axis + side)) & 1 == 0:
                place = np.uint32(many * few)
            while place < many * few:
                S = np.uint32(place // few)
                F = np.uint32(place - S * few)
                total = c.dtype.type(0)
                for p in range(level[SHARES + slow]):
                    for q in range(level[SHARES + fast]):
                        v = fp[np.uint32(wslow + p * many + S)] * fp[np.uint32(wfast + q * few + F)]
                        if v != 0:
                            s = ip[np.uint32(islow + p * many + S)]
                            f = ip[np.uint32(ifast + q * few + F)]
                            k = here if axis == 2 else s
                            j = here if axis == 1 else (f if axis == 0 else s)
                            i = here if axis == 0 else f
                            total += v * _tie(level, ways, axis, side, k, j, i, ip, fp, c, ties)
                k = there if axis == 2 else S
                j = there if axis == 1 else (F if axis == 0 else S)
                i = there if axis == 0 else F
                ties[_tie_place(coarse, axis, side, k, j, i)] = total
                place = np.uint32(place + cuda.blockDim.x)


@device
def diagonal(dims, level, held, excess, ties, c):
    """Write the inverse diagonal: excess, links and ties together."""
    nz, ny, nx = level[NZ], level[NY], level[NX]
    first, row, wide, high = seat(level[POINTS])
    while row < nz * ny:
        k = np.uint32(row // ny)
        j, i = np.uint32(row - k * ny), first
        while i < nx:
            at = np.uint32(row * nx + i)
            total = excess[at] + _size_of_links(dims, nz, ny, nx, c, k, j, i, at)
            for axis in range(dims):
                for side in range(2):
                    if _on_side(level, held, axis, side, k, j, i):
                        total += ties[_tie_place(level, axis, side, k, j, i)]
            one = c.dtype.type(1)
            c[at] = one / total if total > 0 else c.dtype.type(NOTHING)
            i = np.uint32(i + wide)
        row = np.uint32(row + high)


# -- the cycle -----------------------------------------------------------------------------------


@device
def first(dims, level, c, f, u):
    """Relax the red points, all values being zero before, then the black ones, in one pass."""
    nz, ny, nx = level[NZ], level[NY], level[NX]
    n, one, plane = np.uint32(nz * ny * nx), np.uint32(1), np.uint32(ny * nx)
    start, row, wide, high = seat(level[PAIRS])
    while row < nz * ny:
        k = np.uint32(row // ny) if dims > 2 else np.uint32(0)
        j, pair = np.uint32(row - k * ny), start
        odd = np.uint32((k + j) & 1)
        while 2 * pair < nx:
            i = np.uint32(2 * pair + odd)
            if i < nx:
                at = np.uint32(row * nx + i)
                u[at] = c[at] * f[at]
            i = np.uint32(2 * pair + 1 - odd)
            if i < nx:
                at = np.uint32(row * nx + i)
                # The red neighbours' values once more, so that no thread waits for them.
                west, east = _west(i, nx, at, one), _east(i, nx, at, one)
                total = f[at] + c[np.uint32(n + west)] * (c[west] * f[west])
                total += c[np.uint32(n + at)] * (c[east] * f[east])
                if dims > 1:
                    base = np.uint32(2 * n)
                    west, east = _west(j, ny, at, nx), _east(j, ny, at, nx)
                    total += c[np.uint32(base + west)] * (c[west] * f[west])
                    total += c[np.uint32(base + at)] * (c[east] * f[east])
                if dims > 2:
                    base = np.uint32(3 * n)
                    west, east = _west(k, nz, at, plane), _east(k, nz, at, plane)
                    total += c[np.uint32(base + west)] * (c[west] * f[west])
                    total += c[np.uint32(base + at)] * (c[east] * f[east])
                u[at] = c[at] * total
            pair = np.uint32(pair + wide)
        row = np.uint32(row + high)


@device
def residual(dims, level, red_only, c, f, u, t):
    """Write the residual into t; with `red_only` right after `first`, which leaves black none."""
    nz, ny, nx = level[NZ], level[NY], level[NX]
    start, row, wide, high = seat(level[PAIRS])
    while row < nz * ny:
        k = np.uint32(row // ny) if dims > 2 else np.uint32(0)
        j, pair = np.uint32(row - k * ny), start
        odd = np.uint32((k + j) & 1)
        while 2 * pair < nx:
            for colour in range(2):
                i = np.uint32(2 * pair + ((odd + colour) & 1))
                if i < nx:
                    at = np.uint32(row * nx + i)
                    if red_only:
                        # From zero a red point's own equation holds but for its neighbours.
                        t[at] = (
                            pull(dims, nz, ny, nx, c, u, k, j, i, at) if colour == 0
                            else t.dtype.type(0)
                        )  # fmt: skip
                    else:
                        rest = f[at] + pull(dims, nz, ny, nx, c, u, k, j, i, at)
                        t[at] = rest - u[at] / c[at]
            pair = np.uint32(pair + wide)
        row = np.uint32(row + high)


@device
def restrict(level, coarse, ip, fp, t, out):
    """Write the restriction of t, the adjoint of the interpolation."""
    nz, ny, nx = level[NZ], level[NY], level[NX]
    mz, my, mx = coarse[NZ], coarse[NY], coarse[NX]
    iz, iy, ix = (
        np.uint32(level[INTS] + 2 * nz), np.uint32(level[INTS + 1] + 2 * ny),
        np.uint32(level[INTS + 2] + 2 * nx),
    )  # fmt: skip
    wz, wy, wx = (
        np.uint32(level[FLOATS] + 2 * nz), np.uint32(level[FLOATS + 1] + 2 * ny),
        np.uint32(level[FLOATS + 2] + 2 * nx),
    )  # fmt: skip
    start, row, wide, high = seat(coarse[POINTS])
    while row < mz * my:
        K = np.uint32(row // my)
        J, I = np.uint32(row - K * my), start
        while I < mx:
            total = t.dtype.type(0)
            for a in range(level[CHILDREN]):
                va, ka = fp[np.uint32(wz + a * mz + K)], ip[np.uint32(iz + a * mz + K)]
                for b in range(level[CHILDREN + 1]):
                    v = va * fp[np.uint32(wy + b * my + J)]
                    line = np.uint32((ka * ny + ip[np.uint32(iy + b * my + J)]) * nx)
                    part = t.dtype.type(0)
                    for s in range(level[CHILDREN + 2]):
                        entry = np.uint32(s * mx + I)
                        part += fp[np.uint32(wx + entry)] * t[
                            np.uint32(line + ip[np.uint32(ix + entry)])
                        ]
                    total += v * part
            out[np.uint32(row * mx + I)] = total
            I = np.uint32(I + wide)
        row = np.uint32(row + high)


@device
def prolong(level, coarse, red_only, ip, fp, correction, u):
    """Add the interpolated correction; to red points only where black ones are relaxed next."""
    nz, ny, nx = level[NZ], level[NY], level[NX]
    my, mx = coarse[NY], coarse[NX]
    start, row, wide, high = seat(level[PAIRS])
    while row < nz * ny:
        k = np.uint32(row // ny)
        j, pair = np.uint32(row - k * ny), start
        odd = np.uint32((k + j) & 1)
        while 2 * pair < nx:
            for colour in range(1 if red_only else 2):
                i = np.uint32(2 * pair + ((odd + colour) & 1))
                if i < nx:
                    total = u.dtype.type(0)
                    for a in range(level[PARENTS]):
                        entry = np.uint32(a * nz + k)
                        K = ip[np.uint32(level[INTS] + entry)]
                        va = fp[np.uint32(level[FLOATS] + entry)]
                        for b in range(level[PARENTS + 1]):
                            entry = np.uint32(b * ny + j)
                            v = va * fp[np.uint32(level[FLOATS + 1] + entry)]
                            J = ip[np.uint32(level[INTS + 1] + entry)]
                            line = np.uint32((K * my + J) * mx)
                            for s in range(level[PARENTS + 2]):
                                entry = np.uint32(s * nx + i)
                                w = v * fp[np.uint32(level[FLOATS + 2] + entry)]
                                I = ip[np.uint32(level[INTS + 2] + entry)]
                                total += w * correction[np.uint32(line + I)]
                    u[np.uint32(row * nx + i)] += total
            pair = np.uint32(pair + wide)
        row = np.uint32(row + high)


@device
def relax(dims, level, colour, box, c, f, u):
    """Relax the points of a colour; return this thread's part of the sum of f u over all points.

    The sum is that of the values after this pass. Around a ring of odd size two colours do not
    do: its last points are a box of their own (bit set in `box`), and the others one.
    """
    nz, ny, nx = level[NZ], level[NY], level[NX]
    odd_rings = level[ODD]
    start, row, wide, high = seat(level[PAIRS])
    value = 0.0
    while row < nz * ny:
        k = np.uint32(row // ny) if dims > 2 else np.uint32(0)
        j, pair = np.uint32(row - k * ny), start
        odd = np.uint32((k + j + colour) & 1)
        here = not (odd_rings & 4 and (k + 1 == nz) != (box & 4 != 0))
        here = here and not (odd_rings & 2 and (j + 1 == ny) != (box & 2 != 0))
        while 2 * pair < nx:
            i = np.uint32(2 * pair + odd)
            at = np.uint32(row * nx + i)
            if i < nx:
                mine = f[at]
                new = u[at]
                if here and not (odd_rings & 1 and (i + 1 == nx) != (box & 1 != 0)):
                    new = c[at] * (mine + pull(dims, nz, ny, nx, c, u, k, j, i, at))
                    u[at] = new
                value += mine * new
            i = np.uint32(2 * pair + 1 - odd)
            if i < nx:
                at = np.uint32(row * nx + i)
                value += f[at] * u[at]
            pair = np.uint32(pair + wide)
        row = np.uint32(row + high)
    return value
