"""Conductances between the points of a grid and their neighbours."""

from __future__ import annotations

import numpy as np

from krylearn.kernels.parallel import jit

ZERO, ONE = np.uint64(0), np.uint64(1)


@jit
def _mean(a, b):
    """Return the harmonic mean: the flux is continuous across a jump at the face."""
    s = a + b
    return 2 * a * b / s if s != 0 else s


@jit
def diffusion(lo, hi, sizes, rows, areas, sides, c, stack):
    """Write the couplings of lines [lo, hi), and add them and the sides to the diagonal.

    Parameters
    ----------
    sizes : uint64 array
        Points along the three axes.
    rows : int64 array
        The rows of `stack` for couplings along them; 0 for an axis that the grid has not.
    areas, sides : arrays
        What faces along each axis, and points at both ends of it, are multiplied by.
    c : (n,) array
    stack : (rows, n) array
    """
    ny, nx = sizes[1], sizes[2]
    for line in range(np.uint64(lo), np.uint64(hi)):
        start = line * nx
        own, d = c[start : start + nx], stack[0, start : start + nx]
        for axis in range(2):
            if rows[axis] == 0:
                continue
            at, stride = (line // ny, ny * nx) if axis == 0 else (line % ny, nx)
            out, area = stack[rows[axis], start : start + nx], areas[axis]
            if at + ONE < sizes[axis]:
                other = c[start + stride : start + stride + nx]
                for i in range(nx):
                    v = _mean(own[i], other[i]) * area
                    out[i] = -v
                    d[i] += v
            else:
                for i in range(nx):
                    out[i] = 0
                    d[i] += sides[2 * axis + 1] * own[i]
            if at > ZERO:
                other = c[start - stride : start - stride + nx]
                for i in range(nx):
                    d[i] += _mean(own[i], other[i]) * area
            else:
                for i in range(nx):
                    d[i] += sides[2 * axis] * own[i]
        out, area = stack[rows[2], start : start + nx], areas[2]
        for i in range(ZERO, nx - ONE):
            out[i] = -(_mean(own[i], own[i + ONE]) * area)
        out[nx - ONE] = 0
        for i in range(ZERO, nx - ONE):
            d[i] -= out[i]
        for i in range(ONE, nx):
            d[i] -= out[i - ONE]
        d[0] += sides[4] * own[0]
        d[nx - ONE] += sides[5] * own[nx - ONE]
