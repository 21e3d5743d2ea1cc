"""Random fields, drawn and transformed on the device: the twins of `krylearn.problems.fields`.

Random numbers are a function of a system's seed and of the place (Salmon et al. 2011, Parallel
random numbers: as easy as 1, 2, 3: Philox 4x32-10), so that they depend on no other system and on
no launch. Sums have a fixed order.
"""

from __future__ import annotations

import math

import numpy as np
from numba import cuda

from krylearn.kernels.cuda.launch import SIMULATED, device, jit, launch

SIZE = 4 if SIMULATED else 256
MOST_BLOCKS = 2 if SIMULATED else 4096
# What a field becomes.
PLAIN, EXP, TWO_VALUES = range(3)
_LOW = np.uint64(0xFFFFFFFF)


@device
def philox(place, stream, seed):
    """Return 128 random bits, in two numbers of 64, for a place in a stream of a seed."""
    half = np.uint64(32)
    a, b = np.uint64(place) & _LOW, np.uint64(place) >> half
    c, d = np.uint64(stream) & _LOW, np.uint64(stream) >> half
    k, l = np.uint64(seed) & _LOW, np.uint64(seed) >> half
    for _ in range(10):
        p, q = np.uint64(0xD2511F53) * a, np.uint64(0xCD9E8D57) * c
        a, b, c, d = (q >> half) ^ b ^ k, q & _LOW, (p >> half) ^ d ^ l, p & _LOW
        k, l = (k + np.uint64(0x9E3779B9)) & _LOW, (l + np.uint64(0xBB67AE85)) & _LOW
    return a | (b << half), c | (d << half)


@device
def _unit(bits):
    """Return a number between 0 and 1, neither of them."""
    return (float(bits >> np.uint64(11)) + 0.5) * 2.0**-53


@jit
def _normals(seed, stream, out):
    n, system = out.shape[1], cuda.blockIdx.x
    while system < out.shape[0]:
        pair = cuda.threadIdx.x
        while 2 * pair < n:
            x, y = philox(pair, stream, seed + system)
            # Box and Muller (1958).
            radius, angle = math.sqrt(-2.0 * math.log(_unit(x))), 2.0 * math.pi * _unit(y)
            out[system, 2 * pair] = radius * math.cos(angle)
            if 2 * pair + 1 < n:
                out[system, 2 * pair + 1] = radius * math.sin(angle)
            pair += cuda.blockDim.x
        system += cuda.gridDim.x


@jit
def _scaled(amplitude, out):
    system = cuda.blockIdx.x
    while system < out.shape[0]:
        i = cuda.threadIdx.x
        while i < out.shape[1]:
            out[system, i] *= amplitude[i]
            i += cuda.blockDim.x
        system += cuda.gridDim.x


@jit
def _transformed(Q, after, x, out):
    # The sum for a point runs over its line; neighbours in it read what lies side by side.
    n, size, system = np.uint32(Q.shape[0]), np.uint32(x.shape[1]), cuda.blockIdx.x
    step = np.uint32(after)
    while system < out.shape[0]:
        i, given = np.uint32(cuda.threadIdx.x), x[system]
        while i < size:
            j = np.uint32(i // step % n)
            at = np.uint32(i - j * step)
            total = 0.0
            for k in range(n):
                total += Q[k, j] * given[np.uint32(at + np.uint32(k) * step)]
            out[system, at + j * step] = total
            i = np.uint32(i + cuda.blockDim.x)
        system += cuda.gridDim.x


@jit
def _turned(what, low, high, x):
    system = cuda.blockIdx.x
    while system < x.shape[0]:
        i = cuda.threadIdx.x
        while i < x.shape[1]:
            value = x[system, i]
            if what == EXP:
                x[system, i] = math.exp(value)
            elif what == TWO_VALUES:
                x[system, i] = high if value >= 0.0 else low
            i += cuda.blockDim.x
        system += cuda.gridDim.x


@jit
def _trigonometric(seed, stream, scales, xs, ys, out):
    width, system = ys.shape[0], cuda.blockIdx.x
    while system < out.shape[0]:
        i = cuda.threadIdx.x
        while i < out.shape[1]:
            x, y = xs[i // width], ys[i % width]
            a = 1.0
            for k in range(scales):
                bits, _ = philox(k, stream, seed + system)
                frequency = math.ldexp(1.0 + 0.5 * _unit(bits), k) * math.pi
                a *= 1.0 + math.cos(frequency * (x + y)) / 2.0
                a *= 1.0 + math.sin(frequency * (y - 3.0 * x)) / 2.0
            out[system, i] = a
            i += cuda.blockDim.x
        system += cuda.gridDim.x


def _over(kernel, m, *args):
    launch(kernel, max(1, min(MOST_BLOCKS, m)), SIZE, *args)


def normals(seed: int, stream: int, out) -> None:
    """Draw independent normal numbers for each row, which has the seed ``seed + row``."""
    _over(_normals, out.shape[0], seed, stream, out)


def scale(amplitude, out) -> None:
    """Multiply each row by `amplitude`."""
    _over(_scaled, out.shape[0], amplitude, out)


def transform(Q, after: int, x, out) -> None:
    """Multiply the lines of each row along an axis by the transpose of Q.

    `after` is the number of points that pass between two along the axis.
    """
    _over(_transformed, out.shape[0], Q, after, x, out)


def turn(what: int, low: float, high: float, x) -> None:
    """Make each value its exponential, or `high` where it is not negative and `low` where it is."""
    _over(_turned, x.shape[0], what, low, high, x)


def trigonometric(seed: int, stream: int, scales: int, xs, ys, out) -> None:
    """Draw a product of waves: see `krylearn.problems.fields.trigonometric`."""
    _over(_trigonometric, out.shape[0], seed, stream, scales, xs, ys, out)
