"""Loops over lines of the windows of `multigrid_window`.

Arrays come whole, with the places where a line begins: a slice costs more than the loop. No array
that is written overlaps another one.
"""

from __future__ import annotations

import numpy as np

from krylearn.kernels.parallel import jit

ZERO, ONE, TWO, EIGHT = (np.uint64(i) for i in (0, 1, 2, 8))


@jit(noalias=True, inline=True)
def bring_constant(count, a, yl, yu, zl, zu, links, lower, upper, width, w, before, after, low,
                    high, under, over, out, at):  # fmt: skip
    for i in range(count):
        out[at + i] = a * (
            links[lower + i] * w[before + i] + links[upper + i] * w[after + i]
        ) + links[width + i] * (
            (yl * w[low + i] + yu * w[high + i]) + (zl * w[under + i] + zu * w[over + i])
        )


@jit(noalias=True, inline=True)
def bring_variable(count, coef, xl, xu, yl, yu, zl, zu, w, before, after, low, high, under, over,
                    out, at):  # fmt: skip
    for i in range(count):
        out[at + i] = (
            (np.conj(coef[xl + i]) * w[before + i] + coef[xu + i] * w[after + i])
            + (np.conj(coef[yl + i]) * w[low + i] + coef[yu + i] * w[high + i])
            + (np.conj(coef[zl + i]) * w[under + i] + coef[zu + i] * w[over + i])
        )


@jit(noalias=True, inline=True)
def add_product(count, q, first, v, second, here, at):
    for i in range(count):
        here[at + i] += q[first + i] * v[second + i]


@jit(noalias=True, inline=True)
def set_product(count, q, first, v, second, kept, third, here, at):
    for i in range(count):
        here[at + i] = kept[third + i] + q[first + i] * v[second + i]


@jit(noalias=True, inline=True)
def multiply(count, q, first, here, at):
    for i in range(count):
        here[at + i] *= q[first + i].real


@jit(noalias=True, inline=True)
def divide(count, a, rest, links, width, diagonal, out, at):
    one = out.dtype.type(1)
    for i in range(count):
        out[at + i] = one / (a * links[diagonal + i] + links[width + i] * rest)


@jit(noalias=True, inline=True)
def split(lanes, count, scale, f, at, w, even, odd, q, q_even, q_odd):
    """Write the points of a line, times `scale` and q, into its halves."""
    if lanes == ONE:
        for i in range(count // TWO):
            w[even + i] = scale * f[at + TWO * i]
            w[odd + i] = scale * f[at + TWO * i + ONE]
            w[even + i] *= q[q_even + i]
            w[odd + i] *= q[q_odd + i]
        if count & ONE:
            i = count // TWO
            w[even + i] = scale * f[at + count - ONE]
            w[even + i] *= q[q_even + i]
    else:
        for i in range(ZERO, count // (TWO * EIGHT) * EIGHT, EIGHT):
            for e in range(8):
                l = i + np.uint64(e)
                w[even + l] = scale * f[at + i + l]
                w[odd + l] = scale * f[at + i + EIGHT + l]
                w[even + l] *= q[q_even + l]
                w[odd + l] *= q[q_odd + l]
        if count & EIGHT:
            i = count // (TWO * EIGHT) * EIGHT
            for e in range(8):
                l = i + np.uint64(e)
                w[even + l] = scale * f[at + i + l]
                w[even + l] *= q[q_even + l]


@jit(noalias=True, inline=True)
def merge(lanes, count, factor, w, even, odd, there, at):
    """Write the two halves of a line, times `factor`, in the order of its points."""
    if lanes == ONE:
        for i in range(count // TWO):
            there[at + TWO * i] = factor * w[even + i]
            there[at + TWO * i + ONE] = factor * w[odd + i]
        if count & ONE:
            there[at + count - ONE] = factor * w[even + count // TWO]
    else:
        for i in range(ZERO, count // (TWO * EIGHT) * EIGHT, EIGHT):
            for e in range(8):
                l = i + np.uint64(e)
                there[at + i + l] = factor * w[even + l]
                there[at + i + EIGHT + l] = factor * w[odd + l]
        if count & EIGHT:
            i = count // (TWO * EIGHT) * EIGHT
            for e in range(8):
                l = i + np.uint64(e)
                there[at + i + l] = factor * w[even + l]


@jit(noalias=True, inline=True)
def blend(count, rest, first, second, v, a, b, out):
    """Write the restriction along the line of a half line."""
    for i in range(count):
        out[i] = rest[first + i] * v[a + i] + rest[second + i] * v[b + i]


@jit(noalias=True, inline=True)
def correct(count, mask, passing, forth, first, second, v, a, b, kept, third, here, at):
    """Keep a half line, and add to it what is interpolated."""
    for i in range(count):
        value = here[at + i]
        kept[third + i] = value
        here[at + i] = value + mask[passing + i].real * (
            forth[first + i] * v[a + i] + forth[second + i] * v[b + i]
        )


@jit(noalias=True, inline=True)
def corrected(count, mask, passing, forth, first, second, v, a, b, before, third, here, at):
    """Write what was before, and what is interpolated."""
    for i in range(count):
        here[at + i] = before[third + i] + mask[passing + i].real * (
            forth[first + i] * v[a + i] + forth[second + i] * v[b + i]
        )


@jit(noalias=True, inline=True)
def set_changes(count, q, first, v, here, at, new, keep, kept, third):
    """Write the changes of a half line, and their sum with those before into `kept`."""
    if keep and new:
        for i in range(count):
            value = q[first + i] * v[i]
            kept[third + i] = here[at + i] + value
            here[at + i] = value
    elif keep:
        for i in range(count):
            value = q[first + i] * v[i]
            kept[third + i] += value
            here[at + i] = value
    else:
        for i in range(count):
            here[at + i] = q[first + i] * v[i]


@jit(noalias=True, inline=True)
def residual(count, weight, q, first, v, alone, here, at, out, start):
    """Write the residual of ``weight * here``, v being what neighbours bring."""
    for i in range(count):
        out[start + i] = (alone[at + i] - weight * here[at + i]) / q[first + i] + weight * v[i]


@jit(noalias=True, inline=True)
def scaled_right(count, factor, q, first, alone, at, out, start):
    """Write the right-hand side, times a factor."""
    for i in range(count):
        out[start + i] = factor * alone[at + i] / q[first + i]


@jit(noalias=True, inline=True)
def add_multiple(count, weight, source, first, target, at):
    for i in range(count):
        target[at + i] += weight * source[first + i]


@jit(noalias=True, inline=True)
def set_multiple(count, weight, source, first, target, at):
    for i in range(count):
        target[at + i] = weight * source[first + i]


@jit(inline=True)
def inner(count, x, first, y, second):
    total = x.dtype.type(0)
    for i in range(count):
        total += np.conj(x[first + i]) * y[second + i]
    return total
