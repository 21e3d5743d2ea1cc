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


@device
def west_of(i, n, at, stride):
    """Return the point before i along an axis, around its end."""
    return np.uint32(at - stride) if i > 0 else np.uint32(at + stride * (n - 1))


@device
def east_of(i, n, at, stride):
    """Return the point after i along an axis, around its end."""
    return np.uint32(at + stride) if i + 1 < n else np.uint32(at - stride * (n - 1))


@device
def pull(dims, nz, ny, nx, c, x, k, j, i, at):
    """Return the sum of links times the neighbours' values; `c` are rows, the links from 1 on."""
    n = np.uint32(nz * ny * nx)
    one, plane = np.uint32(1), np.uint32(ny * nx)
    west, east = west_of(i, nx, at, one), east_of(i, nx, at, one)
    total = c[np.uint32(n + west)] * x[west] + c[np.uint32(n + at)] * x[east]
    if dims > 1:
        base = np.uint32(2 * n)
        west, east = west_of(j, ny, at, nx), east_of(j, ny, at, nx)
        total += c[np.uint32(base + west)] * x[west] + c[np.uint32(base + at)] * x[east]
    if dims > 2:
        base = np.uint32(3 * n)
        west, east = west_of(k, nz, at, plane), east_of(k, nz, at, plane)
        total += c[np.uint32(base + west)] * x[west] + c[np.uint32(base + at)] * x[east]
    return total


@device
def seat(shift):
    """Return this thread's first point along x and first line, and the steps along both."""
    t, wide = np.uint32(cuda.threadIdx.x), np.uint32(1 << shift)
    return np.uint32(t & (wide - 1)), np.uint32(t >> shift), wide, np.uint32(
        cuda.blockDim.x >> shift
    )


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
                west, east = west_of(i, nx, at, one), east_of(i, nx, at, one)
                total = f[at] + c[np.uint32(n + west)] * (c[west] * f[west])
                total += c[np.uint32(n + at)] * (c[east] * f[east])
                if dims > 1:
                    base = np.uint32(2 * n)
                    west, east = west_of(j, ny, at, nx), east_of(j, ny, at, nx)
                    total += c[np.uint32(base + west)] * (c[west] * f[west])
                    total += c[np.uint32(base + at)] * (c[east] * f[east])
                if dims > 2:
                    base = np.uint32(3 * n)
                    west, east = west_of(k, nz, at, plane), east_of(k, nz, at, plane)
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
