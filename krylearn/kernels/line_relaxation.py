"""Zebra relaxation: whole lines of a grid at once, every second one, by a batched Thomas algorithm.

Levels and coefficients are as in `multigrid`, given by arrays. Lines of a colour touch lines of the
other one only. `WIDTH` of them go through the recurrence side by side, which hides its latency.
"""

from __future__ import annotations

import numpy as np

from krylearn.kernels.parallel import jit

ZERO, ONE, TWO, THREE = (np.uint64(i) for i in range(4))
WIDTH = np.uint64(16)


@jit
def _axes(axis, geo):
    """Return the size and the stride of an axis, of the one across batches, and of the third."""
    nz, ny, nx = geo[0], geo[1], geo[2]
    z, y, x = (nz, ny * nx, THREE), (ny, nx, TWO), (nx, ONE, ONE)
    if axis == 0:
        return z, x, y
    if axis == 1:
        return y, x, z
    return (x, y, z) if ny > ONE else (x, z, y)


@jit
def batches(axis, geo):
    """Return the number of batches of lines along an axis."""
    _, across, third = _axes(axis, geo)
    return third[0] * ((across[0] + TWO * WIDTH - ONE) // (TWO * WIDTH))


@jit(noalias=True, inline=True)
def _right_hand_side(count, at, step, coef, f, u, low, high, row, first, size, ahead, behind, side,
                     v, here):  # fmt: skip
    """Write what the lines of a batch have on the right at one of their points."""
    for m in range(count):
        p = at + m * step
        total = f[p]
        place = first + TWO * m
        if place + ONE < size:
            total += coef[low + p] * u[p + high]
        if place > ZERO:
            total += np.conj(coef[low + p - high]) * u[p - high]
        if ahead:
            total += coef[row + p] * u[p + side]
        if behind:
            total += np.conj(coef[row + p - side]) * u[p - side]
        v[here + m] = total


@jit
def zebra(lo, hi, axis, colour, geo, coef, f, u):
    """Solve for the values on the lines of a colour along an axis, all others being as they are.

    References
    ----------
    Trottenberg, Oosterlee and Schueller (2001), Multigrid, section 5.1.3.
    """
    along, across, third = _axes(axis, geo)
    n, stride, row = along
    size, step, cross_row = across
    total = geo[0] * geo[1] * geo[2]
    chunks = (size + TWO * WIDTH - ONE) // (TWO * WIDTH)
    eps = u.real.dtype.type(1e-6)
    ratio = np.empty(np.int64(n * WIDTH), u.dtype)
    value = np.empty(np.int64(n * WIDTH), u.dtype)
    for batch in range(np.uint64(lo), np.uint64(hi)):
        place = batch // chunks
        first = (batch - place * chunks) * TWO * WIDTH + ((place + np.uint64(colour)) & ONE)
        if first >= size:
            continue
        count = min(WIDTH, (size - first + ONE) // TWO)
        start = place * third[1] + first * step
        for t in range(n):
            at, here = start + t * stride, t * WIDTH
            _right_hand_side(
                count, at, TWO * step, coef, f, u, cross_row * total, step, third[2] * total,
                first, size, place + ONE < third[0], place > ZERO, third[1], value,
                here,
            )  # fmt: skip
            for m in range(count):
                p = at + m * TWO * step
                pivot = diagonal = ONE / coef[p]
                if t > ZERO:
                    link = np.conj(coef[row * total + p - stride])
                    pivot -= link * ratio[here - WIDTH + m]
                    value[here + m] += link * value[here - WIDTH + m]
                # A line that nothing holds is singular.
                if abs(pivot) < eps * abs(diagonal):
                    pivot = diagonal
                ratio[here + m] = coef[row * total + p] / pivot
                value[here + m] /= pivot
        for back in range(n):
            t = n - ONE - back
            at, here = start + t * stride, t * WIDTH
            for m in range(count):
                if back > ZERO:
                    value[here + m] += ratio[here + m] * value[here + WIDTH + m]
                u[at + m * TWO * step] = value[here + m]
