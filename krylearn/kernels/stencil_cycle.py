"""The learned stencil cycle: stencils with 3^d points that most cells share, and few have own ones.

A level is a box of nz x ny x nx cells, nz = 1 in two dimensions. Its stencils are tables: row 0
serves all cells far from sides and obstacles, each other cell has a row of its own, and ``cells``
holds the flat numbers of these in ascending order, those of line l being
``cells[first[l]:first[l + 1]]``. In the kernels, the gaps between them are loops that vectorise.
Both halves of the cycle work on the lines of a coarse cell, so that threads never share a result.
"""

from __future__ import annotations

import numpy as np

from krylearn.kernels.parallel import jit, parallel_for

# Coarse lines of so many cells are worth a thread of their own.
GRAIN = 4096


@jit(noalias=True)
def _add(c, x, start, stop, shift, y):
    """Do ``y[i] += c[0] x[i + shift - 1] + c[1] x[i + shift] + c[2] x[i + shift + 1]``."""
    one = np.uint64(1)
    a, b, d = c[0], c[1], c[2]
    s = np.uint64(shift)
    for i in range(np.uint64(start), np.uint64(stop)):
        k = i + s
        y[i] += a * x[k - one] + b * x[k] + d * x[k + one]


@jit(noalias=True)
def _down(lo, hi, shape, first, cells, smooth, restrict, r, t, below, q):
    """Write ``t = S r`` and ``below = P' R r`` for the coarse lines from lo to hi."""
    nz, ny, nx = shape[0], shape[1], shape[2]
    my, mx = (ny + 1) // 2, (nx + 1) // 2
    zero = r.dtype.type(0)
    for item in range(lo, hi):
        K = item // my
        J = item - K * my
        out = below[item * mx : item * mx + mx]
        out[:] = zero
        for k in range(2 * K, min(2 * K + 2, nz)):
            for j in range(2 * J, min(2 * J + 2, ny)):
                number = k * ny + j
                base = number * nx
                own = t[base : base + nx]
                q[:nx] = zero
                own[:] = zero
                begin, end = first[number], first[number + 1]
                start = 0
                for c in range(begin, end + 1):
                    stop = cells[c] - base if c < end else nx
                    if stop > start:
                        for dk in range(-1, 2):
                            if not 0 <= k + dk < nz:
                                continue
                            for dj in range(-1, 2):
                                place = 9 * (dk + 1) + 3 * (dj + 1)
                                shift = base + (dk * ny + dj) * nx
                                _add(smooth[0, place : place + 3], r, start, stop, shift, own)
                                _add(restrict[0, place : place + 3], r, start, stop, shift, q)
                    start = stop + 1
                    if c < end:
                        i = stop
                        a = b = zero
                        for dk in range(-1, 2):
                            for dj in range(-1, 2):
                                if not (0 <= k + dk < nz and 0 <= j + dj < ny):
                                    continue
                                place = 9 * (dk + 1) + 3 * (dj + 1) + 1
                                at = base + (dk * ny + dj) * nx + i
                                for di in range(-1 if i > 0 else 0, 2 if i + 1 < nx else 1):
                                    v = r[at + di]
                                    a += smooth[c + 1, place + di] * v
                                    b += restrict[c + 1, place + di] * v
                        own[i] = a
                        q[i] = b
                for i in range(nx):
                    out[i // 2] += q[i]


@jit(noalias=True)
def _up(lo, hi, shape, first, cells, scale, smooth, prolong, r, t, e, out, wide):
    """Write ``scale r + S t + W P e`` into `out`, for the coarse lines from lo to hi."""
    nz, ny, nx = shape[0], shape[1], shape[2]
    mz, my, mx = (nz + 1) // 2, (ny + 1) // 2, (nx + 1) // 2
    zero = r.dtype.type(0)
    near = np.empty(3, r.dtype)
    for item in range(lo, hi):
        K = item // my
        J = item - K * my
        for dK in range(-1, 2):
            for dJ in range(-1, 2):
                if 0 <= K + dK < mz and 0 <= J + dJ < my:
                    source = ((K + dK) * my + J + dJ) * mx
                    target = wide[dK + 1, dJ + 1]
                    for i in range(nx):
                        target[i] = e[source + i // 2]
        for k in range(2 * K, min(2 * K + 2, nz)):
            for j in range(2 * J, min(2 * J + 2, ny)):
                number = k * ny + j
                base = number * nx
                own = out[base : base + nx]
                begin, end = first[number], first[number + 1]
                for i in range(nx):
                    own[i] = scale[0] * r[base + i]
                start = 0
                for c in range(begin, end + 1):
                    stop = cells[c] - base if c < end else nx
                    if stop > start:
                        for dk in range(-1, 2):
                            if not 0 <= k + dk < nz:
                                continue
                            for dj in range(-1, 2):
                                place = 9 * (dk + 1) + 3 * (dj + 1)
                                shift = base + (dk * ny + dj) * nx
                                _add(smooth[0, place : place + 3], t, start, stop, shift, own)
                        # Fine lines that were joined have one line of e.
                        for dK in range(2):
                            for dJ in range(2):
                                near[:] = zero
                                for dk in range(-1, 2):
                                    for dj in range(-1, 2):
                                        up, aside = (k + dk + 2) // 2 - K, (j + dj + 2) // 2 - J
                                        if up == dK + k % 2 and aside == dJ + j % 2:
                                            place = 9 * (dk + 1) + 3 * (dj + 1)
                                            near += prolong[0, place : place + 3]
                                if 0 <= K - 1 + dK + k % 2 < mz:
                                    _add(near, wide[dK + k % 2, dJ + j % 2], start, stop, 0, own)
                    start = stop + 1
                    if c < end:
                        i = stop
                        a = scale[c + 1] * r[base + i]
                        for dk in range(-1, 2):
                            for dj in range(-1, 2):
                                if not (0 <= k + dk < nz and 0 <= j + dj < ny):
                                    continue
                                place = 9 * (dk + 1) + 3 * (dj + 1) + 1
                                at = base + (dk * ny + dj) * nx + i
                                up, aside = (k + dk + 2) // 2 - K, (j + dj + 2) // 2 - J
                                for di in range(-1 if i > 0 else 0, 2 if i + 1 < nx else 1):
                                    a += smooth[c + 1, place + di] * t[at + di]
                                    a += prolong[c + 1, place + di] * wide[up, aside, i + di]
                        own[i] = a


def down(level, r: np.ndarray, t: np.ndarray, below: np.ndarray) -> None:
    """Do the half of a level that leads down: ``t = S r``, ``below = P' R r``."""
    nz, ny, nx = level.shape

    def share(lo, hi):
        _down(lo, hi, level.shape, level.first, level.cells, level.smooth, level.restrict,
              r, t, below, np.empty(nx, r.dtype))  # fmt: skip

    parallel_for(share, ((nz + 1) // 2) * ((ny + 1) // 2), max(1, GRAIN // nx))


def up(level, r: np.ndarray, t: np.ndarray, e: np.ndarray, out: np.ndarray) -> None:
    """Do the half that leads up: ``out = scale r + S t + W P e``."""
    nz, ny, nx = level.shape

    def share(lo, hi):
        _up(lo, hi, level.shape, level.first, level.cells, level.scale, level.smooth_up,
            level.prolong, r, t, e, out, np.empty((3, 3, nx), r.dtype))  # fmt: skip

    parallel_for(share, ((nz + 1) // 2) * ((ny + 1) // 2), max(1, GRAIN // nx))
