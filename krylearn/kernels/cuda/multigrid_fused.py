"""The two halves of V(1, 1) with red-black sweeps, each in one pass over memory.

With zero to start from, the red points are ``f / diagonal`` and the black ones follow from these:
what a sweep makes of f need not be kept, since `up` makes it again from f. So `down` reads f and
writes the restricted residual, `up` reads f and the coarse correction and writes the result: no
other vector of the level passes through memory.

A block covers a tile of a plane, with two points beyond it on each side, and marches along the
first axis two planes a step. The last planes of its values are a ring in shared memory. Of two
planes a column has one red point and one black, so that all threads do the same at a time: with
plane a the first of the two where its point is red, a thread fills in the red point of plane a,
relaxes the black one of plane a - 3, and sums up the neighbours of the red one of plane a - 6.
What these take was complete before the one barrier of the step.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from numba import cuda

from krylearn.kernels.cuda.launch import SIMULATED, device, jit_for

# Bytes of a plane in shared memory: 1024 values in single precision.
PLANE = 4096
# Values of a plane under the simulator, where each is a thread of Python.
FEW = 81
# Planes that a march passes over and writes nothing.
BEFORE_AND_BEHIND = 10


def tile_of(itemsize: int, ny: int) -> tuple[int, int]:
    """Return the sides of a tile along x and y; a grid of two axes has planes of one line."""
    if SIMULATED:
        return (9, 9) if ny > 1 else (16, 1)
    cells = PLANE // itemsize
    wide = 32 if cells >= 512 else 16
    return (wide, cells // wide) if ny > 1 else (cells, 1)


@device
def _count(table, start):
    """Return how many of a coarse point's weights there are: the last ones of six are zero."""
    count = 0
    while count < 6 and table[np.uint32(start + count)] != 0:
        count += 1
    return count


@device
def _ring(at, length):
    """Return a place in a ring that may have been left downwards."""
    return np.uint32(min(np.uint32(at), np.uint32(at + length)))


@device
def _sum_by_tables(q, i, j, g, X, Y, Z, west, east, south, north, below, above):
    """Return the sum of the neighbours' values times their links, wherever the point lies."""
    nz, ny, nx = g[0], g[1], g[2]
    wx, wy, wz = X[np.uint32(nx + i)], Y[np.uint32(ny + j)], Z[np.uint32(nz + q)]
    r = wy * wz * (X[np.uint32(i - 1 if i > 0 else nx - 1)] * west + X[i] * east)
    r += wx * wz * (Y[np.uint32(j - 1 if j > 0 else ny - 1)] * south + Y[j] * north)
    return r + wx * wy * (Z[np.uint32(q - 1 if q > 0 else nz - 1)] * below + Z[q] * above)


@device
def _inverse_by_tables(q, i, j, g, X, Y, Z, cut):
    """Return the inverse of the diagonal."""
    nz, ny, nx = g[0], g[1], g[2]
    wx, wy, wz = X[np.uint32(nx + i)], Y[np.uint32(ny + j)], Z[np.uint32(nz + q)]
    d = wy * wz * (X[np.uint32(nx + nx + i)] + cut * wx)
    d += wx * (wz * Y[np.uint32(ny + ny + j)] + wy * Z[np.uint32(nz + nz + q)])
    return Z.dtype.type(1) / d


@device
def _sum_by_links(at, n, i, j, q, nx, plane, coef, west, east, south, north, below, above):
    """Return the sum of the neighbours' values times their links, which are read from arrays."""
    x, y, z = coef[n:], coef[np.uint32(n + n) :], coef[np.uint32(n + n + n) :]
    r = x[at] * east + y[at] * north + z[at] * above
    if i > 0:
        r += np.conj(x[np.uint32(at - 1)]) * west
    if j > 0:
        r += np.conj(y[np.uint32(at - nx)]) * south
    if q > 0:
        r += np.conj(z[np.uint32(at - plane)]) * below
    return r


@functools.cache
def kernels(variable: bool, wide: int, high: int) -> tuple[Callable, Callable]:
    """Return `down` and `up` for tiles of such sides.

    Parameters
    ----------
    variable : bool
        Coefficients are read from arrays; otherwise the operator is separable.
    wide, high : int
    """
    cells, flat = wide * high, high == 1
    pad = 1 if flat else wide  # neighbours of a tile's edge are read, and do not matter
    ring = 9 * cells
    room, pages = ring + 2 * pad, 2 * cells + 4 * (4 if flat else wide)

    @jit_for(cells)
    def down(log, scales, level, first, span, geos, fp, ip, coefs, start, tiles, xs, ys, zs, f,
             coarse):  # fmt: skip
        if log[0] != 0.0:
            return
        U = cuda.shared.array(room, coarse.dtype)
        R = cuda.shared.array(pages, coarse.dtype)
        real, zero = fp.dtype.type, coarse.dtype.type(0)
        g, unit = geos[level], real(scales[0].real)
        nz, ny, nx, my, mx = g[0], g[1], g[2], g[9], g[10]
        me = np.uint32(cuda.threadIdx.y * wide + cuda.threadIdx.x)
        xs = np.uint32(xs + 4 * cuda.blockIdx.x)
        ys = np.uint32(ys + 4 * cuda.blockIdx.y)
        zs = np.uint32(zs + 4 * cuda.blockIdx.z)
        x0, y0 = np.uint32(tiles[np.uint32(xs + 2)]), np.uint32(tiles[np.uint32(ys + 2)])
        i, j = np.uint32(x0 + cuda.threadIdx.x), np.uint32(y0 + cuda.threadIdx.y)
        inside = i < nx and j < ny
        i, j = np.uint32(min(i, nx - 1)), np.uint32(min(j, ny - 1))
        # A plane q is there where q < limit, all numbers being unsigned; it is like the others,
        # and its links need not be read, where q - first < span.
        limit = nz if inside else np.uint32(0)
        first, span = np.uint32(first), np.uint32(span) if inside else np.uint32(0)
        X, Y, Z, cut = fp[g[13] :], fp[g[12] :], fp[g[11] :], fp[g[17]]
        plane, two = np.uint32(ny * nx), np.uint32(2 * ny * nx)
        sheet = np.uint32(nz * plane)
        coef = coefs[start:]
        to_west, to_east, to_south, to_north = cut, cut, cut, cut
        upwards, inverse = cut, cut
        if not variable:
            wx, wy, wz = X[np.uint32(nx + i)], Y[np.uint32(ny + j)], Z[np.uint32(nz + first)]
            to_west = wy * wz * X[np.uint32(i - 1 if i > 0 else nx - 1)]
            to_south = wx * wz * Y[np.uint32(j - 1 if j > 0 else ny - 1)]
            to_east, to_north, upwards = wy * wz * X[i], wx * wz * Y[j], wx * wy * Z[first]
            inverse = _inverse_by_tables(first, i, j, g, X, Y, Z, cut)
        # The coarse point of this thread, and the fine ones that it takes from.
        own, regular = False, False
        coarse_at, line, count_x, count_y, turn = np.uint32(0), 0, 0, 0, np.uint32(0)
        back_x, back_y = np.uint32(0), np.uint32(0)
        a0, a1, a2, a3 = real(0), real(0), real(0), real(0)
        b0, b1, b2, b3 = real(0), real(0), real(0), real(0)
        across = np.uint32(tiles[np.uint32(xs + 1)] - tiles[xs])
        if me < across * np.uint32(tiles[np.uint32(ys + 1)] - tiles[ys]):
            own = True
            J = np.uint32(me // across)
            I = np.uint32(me - J * across + tiles[xs])
            J = np.uint32(J + tiles[ys])
            coarse_at = np.uint32(J * mx + I)
            back_x, back_y = np.uint32(5 * nx + 6 * I), np.uint32(5 * ny + 6 * J)
            count_x, count_y = _count(X, back_x), _count(Y, back_y)
            x1 = np.uint32(ip[np.uint32(g[16] + 2 * nx + 6 * I)])
            y1 = np.uint32(ip[np.uint32(g[15] + 2 * ny + 6 * J)])
            line, turn = int(np.uint32((y1 - y0) * wide + x1 - x0)), np.uint32((x1 + y1) & 1)
            regular = count_x <= 4 and count_y <= 4
            if regular:  # weights past the last one are zero
                a0, a1 = X[back_x], X[np.uint32(back_x + 1)]
                a2, a3 = X[np.uint32(back_x + 2)], X[np.uint32(back_x + 3)]
                b0, b1 = Y[back_y], Y[np.uint32(back_y + 1)]
                b2, b3 = Y[np.uint32(back_y + 2)], Y[np.uint32(back_y + 3)]
        parents, shares = np.uint32(g[14]), np.uint32(3 * nz)
        K0, K1 = np.int32(tiles[zs]), np.int32(tiles[np.uint32(zs + 1)])
        begin, end = np.int32(tiles[np.uint32(zs + 2)]), np.int32(tiles[np.uint32(zs + 3)])
        K = np.int32(ip[np.uint32(parents + 2 * begin)])
        gathered, ahead = zero, zero
        for m in range(9):
            U[np.uint32(m * cells + pad + me)] = zero
        R[me], R[np.uint32(cells + me)] = zero, zero
        if me < pad:
            U[me], U[np.uint32(ring + pad + me)] = zero, zero
        if me < pages - 2 * cells:
            R[np.uint32(2 * cells + me)] = zero
        A = np.int32(begin - 2)
        a = np.uint32(A + ((i + j + np.uint32(A)) & 1))
        at = np.uint32(a * plane + j * nx + i)
        here = np.uint32(((i + j + np.uint32(A)) & 1) * cells + pad + me)
        page = np.uint32(0)
        red = coarse.dtype.type(unit * f[at]) if a < limit else zero
        black = zero
        q = np.uint32(a - 3)
        if q < limit:
            black = coarse.dtype.type(unit * f[np.uint32(at - two - plane)])
        while A < end + 8:
            coming, beneath = zero, zero
            if np.uint32(a + 2) < limit:
                coming = coarse.dtype.type(unit * f[np.uint32(at + two)])
            if np.uint32(a - 1) < limit:
                beneath = coarse.dtype.type(unit * f[np.uint32(at - plane)])
            cuda.syncthreads()
            # Red.
            v = zero
            if variable:
                if a < limit:
                    v = red * coef[at]
            elif np.uint32(a - first) < span:
                v = red * inverse
            elif a < limit:
                v = red * _inverse_by_tables(a, i, j, g, X, Y, Z, cut)
            U[here] = v
            # Black.
            q = np.uint32(a - 3)
            u2, u3 = _ring(here - 2 * cells - pad, ring), _ring(here - 3 * cells - pad, ring)
            u4 = _ring(here - 4 * cells - pad, ring)
            west, east = U[np.uint32(u3 + pad - 1)], U[np.uint32(u3 + pad + 1)]
            south = zero if flat else U[u3]
            north = zero if flat else U[np.uint32(u3 + 2 * pad)]
            above, below = U[np.uint32(u2 + pad)], U[np.uint32(u4 + pad)]
            v = zero
            if variable:
                if q < limit:
                    place = np.uint32(at - two - plane)
                    v = _sum_by_links(place, sheet, i, j, q, nx, plane, coef, west, east, south,
                                      north, below, above)  # fmt: skip
                    v = (black + v) * coef[place]
            elif np.uint32(q - first) < span:
                v = to_west * west + to_east * east + to_south * south + to_north * north
                v = (black + (v + upwards * (below + above))) * inverse
            elif q < limit:
                v = _sum_by_tables(q, i, j, g, X, Y, Z, west, east, south, north, below, above)
                v = (black + v) * _inverse_by_tables(q, i, j, g, X, Y, Z, cut)
            # What is left at the next red point below; at black ones it is nothing.
            q = np.uint32(a - 6)
            u5, u6 = _ring(u4 - cells, ring), _ring(u4 - 2 * cells, ring)
            u7 = _ring(u4 - 3 * cells, ring)
            west, east = U[np.uint32(u6 + pad - 1)], U[np.uint32(u6 + pad + 1)]
            south = zero if flat else U[u6]
            north = zero if flat else U[np.uint32(u6 + 2 * pad)]
            above, below = U[np.uint32(u5 + pad)], U[np.uint32(u7 + pad)]
            r = zero
            if variable:
                if q < limit:
                    place = np.uint32(at - two - two - two)
                    r = _sum_by_links(place, sheet, i, j, q, nx, plane, coef, west, east, south,
                                      north, below, above)  # fmt: skip
                    if g[7] != 0:
                        r *= coef[np.uint32(4 * sheet + place)].real
            elif np.uint32(q - first) < span:
                r = to_west * west + to_east * east + to_south * south + to_north * north
                r += upwards * (below + above)
            elif q < limit:
                r = _sum_by_tables(q, i, j, g, X, Y, Z, west, east, south, north, below, above)
            U[np.uint32(u3 + pad)] = v
            R[np.uint32(page + me)] = r
            page = np.uint32(cells - page)
            if own:
                # Points of one colour in the chequerboard are of plane A - 8, the others of A - 7.
                even, odd = zero, zero
                if regular:
                    s = np.uint32(page + line)
                    even += b0 * (a0 * R[s] + a2 * R[np.uint32(s + 2)])
                    odd += b0 * (a1 * R[np.uint32(s + 1)] + a3 * R[np.uint32(s + 3)])
                    if not flat:
                        s = np.uint32(s + wide)
                        odd += b1 * (a0 * R[s] + a2 * R[np.uint32(s + 2)])
                        even += b1 * (a1 * R[np.uint32(s + 1)] + a3 * R[np.uint32(s + 3)])
                        s = np.uint32(s + wide)
                        even += b2 * (a0 * R[s] + a2 * R[np.uint32(s + 2)])
                        odd += b2 * (a1 * R[np.uint32(s + 1)] + a3 * R[np.uint32(s + 3)])
                        s = np.uint32(s + wide)
                        odd += b3 * (a0 * R[s] + a2 * R[np.uint32(s + 2)])
                        even += b3 * (a1 * R[np.uint32(s + 1)] + a3 * R[np.uint32(s + 3)])
                else:
                    for b in range(count_y):
                        for c in range(count_x):
                            v = X[np.uint32(back_x + c)] * R[np.uint32(page + line + b * wide + c)]
                            v *= Y[np.uint32(back_y + b)]
                            if (b + c) & 1:
                                odd += v
                            else:
                                even += v
                if (np.uint32(A) + turn) & 1:
                    even, odd = odd, even
                for half in range(2):
                    p = np.int32(A - 8 + half)
                    if p >= begin and p < end:
                        part = odd if half == 1 else even
                        low = np.int32(ip[np.uint32(parents + 2 * p)])
                        while K < low:
                            if K >= K0 and K < K1:
                                coarse[np.uint32(K * my * mx + coarse_at)] = gathered
                            gathered, ahead = ahead, zero
                            K = np.int32(K + 1)
                        gathered += Z[np.uint32(shares + 2 * p)] * part
                        if np.int32(ip[np.uint32(parents + 2 * p + 1)]) != low:
                            ahead += Z[np.uint32(shares + 2 * p + 1)] * part
            A, a, at = np.int32(A + 2), np.uint32(a + 2), np.uint32(at + two)
            here = np.uint32(here + 2 * cells)
            if here >= ring + pad:
                here = np.uint32(here - ring)
            red, black = coming, beneath
        if own:
            while K < K1:
                if K >= K0:
                    coarse[np.uint32(K * my * mx + coarse_at)] = gathered
                gathered, ahead = ahead, zero
                K = np.int32(K + 1)

    @jit_for(cells)
    def up(log, scales, level, first, span, geos, fp, ip, coefs, start, tiles, xs, ys, zs, f,
           coarse, out, wanted, sums):  # fmt: skip
        if log[0] != 0.0:
            return
        U = cuda.shared.array(room, coarse.dtype)
        real, zero = fp.dtype.type, coarse.dtype.type(0)
        g, unit, gain = geos[level], real(scales[0].real), out.real.dtype.type(scales[1].real)
        nz, ny, nx, my, mx = g[0], g[1], g[2], g[9], g[10]
        me = np.uint32(cuda.threadIdx.y * wide + cuda.threadIdx.x)
        xs = np.uint32(xs + 4 * cuda.blockIdx.x)
        ys = np.uint32(ys + 4 * cuda.blockIdx.y)
        zs = np.uint32(zs + 4 * cuda.blockIdx.z)
        i = np.uint32(tiles[np.uint32(xs + 2)] + cuda.threadIdx.x)
        j = np.uint32(tiles[np.uint32(ys + 2)] + cuda.threadIdx.y)
        inside = i < nx and j < ny
        own = inside and i >= tiles[xs] and i < tiles[np.uint32(xs + 1)]
        own = own and j >= tiles[ys] and j < tiles[np.uint32(ys + 1)]
        i, j = np.uint32(min(i, nx - 1)), np.uint32(min(j, ny - 1))
        limit = nz if inside else np.uint32(0)
        first, span = np.uint32(first), np.uint32(span) if inside else np.uint32(0)
        X, Y, Z, cut = fp[g[13] :], fp[g[12] :], fp[g[11] :], fp[g[17]]
        plane, two = np.uint32(ny * nx), np.uint32(2 * ny * nx)
        sheet = np.uint32(nz * plane)
        coef = coefs[start:]
        to_west, to_east, to_south, to_north = cut, cut, cut, cut
        upwards, inverse = cut, cut
        if not variable:
            wx, wy, wz = X[np.uint32(nx + i)], Y[np.uint32(ny + j)], Z[np.uint32(nz + first)]
            to_west = wy * wz * X[np.uint32(i - 1 if i > 0 else nx - 1)]
            to_south = wx * wz * Y[np.uint32(j - 1 if j > 0 else ny - 1)]
            to_east, to_north, upwards = wy * wz * X[i], wx * wz * Y[j], wx * wy * Z[first]
            inverse = _inverse_by_tables(first, i, j, g, X, Y, Z, cut)
        # The four columns of coarse values beside this one, and what each counts.
        share_x, share_y = np.uint32(3 * nx + i + i), np.uint32(3 * ny + j + j)
        w00, w01 = Y[share_y] * X[share_x], Y[share_y] * X[np.uint32(share_x + 1)]
        w10 = Y[np.uint32(share_y + 1)] * X[share_x]
        w11 = Y[np.uint32(share_y + 1)] * X[np.uint32(share_x + 1)]
        low, next_ = ip[np.uint32(g[16] + i + i)], ip[np.uint32(g[16] + i + i + 1)]
        c00 = np.uint32(ip[np.uint32(g[15] + j + j)] * mx + low)
        c10 = np.uint32(ip[np.uint32(g[15] + j + j + 1)] * mx + low)
        east_of = np.uint32(next_ - low)
        parents, shares = np.uint32(g[14]), np.uint32(3 * nz)
        sheet_c = np.uint32(my * mx)
        L = np.int32(-1)
        at_K, at_L = zero, zero
        begin, end = np.int32(tiles[zs]), np.int32(tiles[np.uint32(zs + 1)])
        for m in range(9):
            U[np.uint32(m * cells + pad + me)] = zero
        if me < pad:
            U[me], U[np.uint32(ring + pad + me)] = zero, zero
        value = 0.0
        A = np.int32(begin - 2)
        e = np.uint32((i + j + np.uint32(A)) & 1)
        a = np.uint32(A + e)
        at = np.uint32(a * plane + j * nx + i)
        here = np.uint32(e * cells + pad + me)
        red = coarse.dtype.type(unit * f[at]) if a < limit else zero
        red1, red2, red3 = zero, zero, zero
        black = zero
        q = np.uint32(a - 3)
        if q < limit:
            black = coarse.dtype.type(unit * f[np.uint32(at - two - plane)])
        while A < end + 6:
            coming, beneath = zero, zero
            if np.uint32(a + 2) < limit:
                coming = coarse.dtype.type(unit * f[np.uint32(at + two)])
            if np.uint32(a - 1) < limit:
                beneath = coarse.dtype.type(unit * f[np.uint32(at - plane)])
            v = zero
            if a < limit:
                K, M = ip[np.uint32(parents + a + a)], ip[np.uint32(parents + a + a + 1)]
                if K == L:
                    at_K = at_L
                else:
                    row = np.uint32(np.uint32(K) * sheet_c)
                    s, t = np.uint32(row + c00), np.uint32(row + c10)
                    at_K = w00 * coarse[s] + w01 * coarse[np.uint32(s + east_of)]
                    at_K += w10 * coarse[t] + w11 * coarse[np.uint32(t + east_of)]
                if M != L:
                    L = np.int32(M)
                    row = np.uint32(np.uint32(M) * sheet_c)
                    s, t = np.uint32(row + c00), np.uint32(row + c10)
                    at_L = w00 * coarse[s] + w01 * coarse[np.uint32(s + east_of)]
                    at_L += w10 * coarse[t] + w11 * coarse[np.uint32(t + east_of)]
                v = Z[np.uint32(shares + a + a)] * at_K + Z[np.uint32(shares + a + a + 1)] * at_L
                if variable and g[7] != 0:
                    v *= coef[np.uint32(4 * sheet + at)].real
            cuda.syncthreads()
            # Red, with the correction.
            if variable:
                if a < limit:
                    v += red * coef[at]
            elif np.uint32(a - first) < span:
                v += red * inverse
            elif a < limit:
                v += red * _inverse_by_tables(a, i, j, g, X, Y, Z, cut)
            U[here] = v
            # Black.
            q = np.uint32(a - 3)
            u2, u3 = _ring(here - 2 * cells - pad, ring), _ring(here - 3 * cells - pad, ring)
            u4 = _ring(here - 4 * cells - pad, ring)
            west, east = U[np.uint32(u3 + pad - 1)], U[np.uint32(u3 + pad + 1)]
            south = zero if flat else U[u3]
            north = zero if flat else U[np.uint32(u3 + 2 * pad)]
            above, below = U[np.uint32(u2 + pad)], U[np.uint32(u4 + pad)]
            v = zero
            if variable:
                if q < limit:
                    place = np.uint32(at - two - plane)
                    v = _sum_by_links(place, sheet, i, j, q, nx, plane, coef, west, east, south,
                                      north, below, above)  # fmt: skip
                    v = (black + v) * coef[place]
            elif np.uint32(q - first) < span:
                v = to_west * west + to_east * east + to_south * south + to_north * north
                v = (black + (v + upwards * (below + above))) * inverse
            elif q < limit:
                v = _sum_by_tables(q, i, j, g, X, Y, Z, west, east, south, north, below, above)
                v = (black + v) * _inverse_by_tables(q, i, j, g, X, Y, Z, cut)
            if wanted and own and np.int32(q) >= begin and np.int32(q) < end:
                value += (np.conj(black) * v).real
            # Red once more.
            q = np.uint32(a - 6)
            u5, u6 = _ring(u4 - cells, ring), _ring(u4 - 2 * cells, ring)
            u7 = _ring(u4 - 3 * cells, ring)
            west, east = U[np.uint32(u6 + pad - 1)], U[np.uint32(u6 + pad + 1)]
            south = zero if flat else U[u6]
            north = zero if flat else U[np.uint32(u6 + 2 * pad)]
            above, below = U[np.uint32(u5 + pad)], U[np.uint32(u7 + pad)]
            r = zero
            if variable:
                if q < limit:
                    place = np.uint32(at - two - two - two)
                    r = _sum_by_links(place, sheet, i, j, q, nx, plane, coef, west, east, south,
                                      north, below, above)  # fmt: skip
                    r = (red3 + r) * coef[place]
            elif np.uint32(q - first) < span:
                r = to_west * west + to_east * east + to_south * south + to_north * north
                r = (red3 + (r + upwards * (below + above))) * inverse
            elif q < limit:
                r = _sum_by_tables(q, i, j, g, X, Y, Z, west, east, south, north, below, above)
                r = (red3 + r) * _inverse_by_tables(q, i, j, g, X, Y, Z, cut)
            U[np.uint32(u3 + pad)] = v
            if own:
                # Red and black together, so that lines of memory are written whole.
                p = np.int32(q)
                if p >= begin and p < end:
                    out[np.uint32(at - two - two - two)] = gain * r
                    if wanted:
                        value += (np.conj(red3) * r).real
                p = np.int32(A - 5 - e)
                if p >= begin and p < end:
                    other = below if e == 1 else above
                    further = np.uint32(at - two - two - plane)
                    out[np.uint32(further - e * two)] = gain * other
            A, a, at = np.int32(A + 2), np.uint32(a + 2), np.uint32(at + two)
            here = np.uint32(here + 2 * cells)
            if here >= ring + pad:
                here = np.uint32(here - ring)
            red3, red2, red1, red = red2, red1, red, coming
            black = beneath
        if wanted:
            _sum(value, me, cells, U, sums)

    return down, up


@device
def _sum(value, me, threads, room, sums):
    """Leave the sum of `value` over a block as this block's element of `sums`."""
    # In single precision where the cycle is: each sum is of a few thousand terms.
    cuda.syncthreads()
    room[me] = value
    cuda.syncthreads()
    half = 1
    while half < threads:
        half += half
    half //= 2
    while half > 0:
        if me < half and me + half < threads:
            room[me] += room[np.uint32(me + half)]
        cuda.syncthreads()
        half //= 2
    if me == 0:
        block = (cuda.blockIdx.z * cuda.gridDim.y + cuda.blockIdx.y) * cuda.gridDim.x
        sums[block + cuda.blockIdx.x] = room[0].real
