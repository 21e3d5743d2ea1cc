"""Coefficients of the levels of a box, by one block of threads (see `box`) or by many.

The twins of `krylearn.kernels.coarsening`, point by point: a coarse link takes fine ones in series
along it and in parallel beside it. `block` is this one's number among the `blocks` that share a
level.
"""

from __future__ import annotations

import numpy as np
from numba import cuda

from krylearn.kernels.cuda.box import (
    FIVE,
    FLOATS,
    INTS,
    LINKS,
    NX,
    NY,
    NZ,
    POINTS,
    SHARES,
    SIX,
    TIES,
    WAYS,
    seat,
    west_of,
)
from krylearn.kernels.cuda.launch import device

# The inverse diagonal of a point that holds no value.
NOTHING = 1e-30


@device
def seat_among(shift, block, blocks):
    """Return what `seat` does, for one of several blocks."""
    first, row, wide, high = seat(shift)
    return first, np.uint32(row + block * high), wide, np.uint32(high * blocks)


@device
def _size_of_links(dims, nz, ny, nx, c, k, j, i, at):
    """Return the sum of the absolute values of all links of a point."""
    n = np.uint32(nz * ny * nx)
    total = abs(c[np.uint32(n + at)]) + abs(c[np.uint32(n + west_of(i, nx, at, np.uint32(1)))])
    if dims > 1:
        base = np.uint32(2 * n)
        total += abs(c[np.uint32(base + at)]) + abs(c[np.uint32(base + west_of(j, ny, at, nx))])
    if dims > 2:
        base, plane = np.uint32(3 * n), np.uint32(ny * nx)
        total += abs(c[np.uint32(base + at)]) + abs(c[np.uint32(base + west_of(k, nz, at, plane))])
    return total


@device
def finest(dims, level, eps, unit, A, c, excess, block, blocks):
    """Pack the operator, times `unit`, and what its diagonal has beyond its couplings."""
    nz, ny, nx = level[NZ], level[NY], level[NX]
    n = np.uint32(nz * ny * nx)
    first, row, wide, high = seat_among(level[POINTS], block, blocks)
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
def split_sides(dims, level, held, excess, ties, block, blocks):
    """Take out of the excess what ties points to Dirichlet sides; reaction stays.

    What the next points inwards have too is reaction, the rest is the sides', in equal parts.
    """
    nz, ny, nx = level[NZ], level[NY], level[NX]
    first, row, wide, high = seat_among(level[POINTS], block, blocks)
    while row < nz * ny:
        k = np.uint32(row // ny)
        j, i = np.uint32(row - k * ny), first
        while i < nx:
            at = np.uint32(row * nx + i)
            count, thick = 0, True
            # Steps inwards along x, y and z.
            step_x, step_y, step_z = np.int64(0), np.int64(0), np.int64(0)
            stride = np.uint32(1)
            for axis in range(dims):
                n = level[NX] if axis == 0 else (level[NY] if axis == 1 else level[NZ])
                low = _on_side(level, held, axis, 0, k, j, i)
                top = _on_side(level, held, axis, 1, k, j, i)
                count += (1 if low else 0) + (1 if top else 0)
                step = np.int64(stride) if low else (-np.int64(stride) if top else np.int64(0))
                thick = thick and (n > 2 or not (low or top))
                if axis == 0:
                    step_x = step
                elif axis == 1:
                    step_y = step
                else:
                    step_z = step
                stride = np.uint32(stride * n)
            if count > 0:
                # Others may have been here before: what they leave is among these values.
                whole = excess[at]
                kept = whole if thick else whole * 0
                for way in range(1, 8 if thick else 1):
                    inner = np.int64(at)
                    if way & 1:
                        inner += step_x
                    if way & 2:
                        inner += step_y
                    if way & 4:
                        inner += step_z
                    kept = min(kept, excess[np.uint32(inner)])
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
def coarsen(dims, level, coarse, ip, fp, c, excess, coarse_c, coarse_excess, block, blocks):
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
    first, row, wide, high = seat_among(coarse[POINTS], block, blocks)
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
    resistance = fp[np.uint32(ways[1] + 2 * WAYS + side)] / tie
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
def coarsen_sides(dims, level, coarse, held, ip, fp, c, ties, block, blocks):
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
            place = np.uint32(block * cuda.blockDim.x + cuda.threadIdx.x)
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
                place = np.uint32(place + cuda.blockDim.x * blocks)


@device
def diagonal(dims, level, held, excess, ties, c, block, blocks):
    """Write the inverse diagonal: excess, links and ties together."""
    nz, ny, nx = level[NZ], level[NY], level[NX]
    first, row, wide, high = seat_among(level[POINTS], block, blocks)
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
