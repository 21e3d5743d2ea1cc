"""How CUDA kernels are compiled, launched and summed up; the only file that knows the simulator.

A kernel takes as its first argument a `log`, and does nothing once ``log[0]`` is not zero: a loop
that was queued on the device ends there by itself, at the iteration where it should, and what is
still queued behind it passes in microseconds. ``log[1]`` counts iterations and the rest of the
log, a ring, keeps their residual norms for the host.

Numba promotes all integer arithmetic to 64 bits, which halves the speed of float32 stencils:
kernels cast each index back by ``np.uint32``. Unsigned, it also needs no test for negative values.
Sums are made in double precision, by a fixed number of threads in a fixed order.

Numba's cache does not see an edit of this file in the kernels of others: touch them after one.
"""

from __future__ import annotations

import contextlib
import functools
import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import config, cuda

from krylearn.kernels.cuda import ready, simulator

SIMULATED = bool(getattr(config, "ENABLE_CUDASIM", False))
# A simulated thread is a thread of Python: few of them, and sums of more terms each.
THREADS = 4 if SIMULATED else 256
BLOCKS = 2 if SIMULATED else 1024
# Of a multiprocessor.
REGISTERS = 65536
if SIMULATED:
    simulator.repair()
else:  # a kernel of one block is often what is wanted here
    with contextlib.suppress(ImportError):
        from numba.cuda.core import config as _settings

        _settings.CUDA_LOW_OCCUPANCY_WARNINGS = 0
# The head of a log: why the loop ended (0: it goes on), iterations; then the ring of norms.
STOP, COUNT, HEAD, RING = 0, 1, 2, 254
# Why a loop ended: what the host makes of it stands in the method's loop.
LOOP, INDEFINITE, INDEFINITE_M, BREAKDOWN, HALFWAY, USELESS, SINGULAR, INVARIANT = range(1, 9)


def _compile(function: Callable, **options: Any) -> Callable:
    if not SIMULATED:
        with contextlib.suppress(RuntimeError):  # no directory for the cache can be written
            return cuda.jit(function, cache=True, **options)
        return cuda.jit(function, **options)
    return cuda.jit(function)


def jit(function: Callable) -> Callable:
    """Compile a kernel."""
    return _compile(function)


def with_registers(count: int) -> Callable[[Callable], Callable]:
    """Compile a kernel whose threads have so many registers, that more of them fit."""
    return functools.partial(_compile, max_registers=count)


def jit_for(threads: int) -> Callable[[Callable], Callable]:
    """Compile a kernel for blocks of so many threads, with registers enough for one at a time."""
    return with_registers(min(255, REGISTERS // threads))


def device(function: Callable) -> Callable:
    """Compile a function that kernels call."""
    if not SIMULATED:
        return cuda.jit(function, device=True)
    return simulator.device(function)


@functools.cache
def _stream(handle: int) -> Any:
    return cuda.external_stream(handle) if handle else cuda.default_stream()


def launch(kernel: Callable, blocks: Any, threads: Any, *args: Any) -> None:
    """Queue a kernel."""
    if SIMULATED:
        kernel[blocks, threads, 0](*args)  # type: ignore[index]
        return
    current = sys.modules["torch"].cuda.current_stream()
    if ready.launch(kernel, blocks, threads, current.cuda_stream, current.device_index, args):
        return
    kernel[blocks, threads, _stream(current.cuda_stream)](*args)  # type: ignore[index]
    ready.learn(kernel, current.device_index, args)


def blocks_for(n: int) -> int:
    """Return how many blocks pass over n elements; it depends on n alone, and so do sums."""
    return max(1, min(BLOCKS, math.ceil(n / THREADS)))


@device
def block_sum(value, t, sums):
    """Write the sum of `value` over a block of `THREADS` threads, this one being t, to `sums`.

    `sums` has an element a block, given here from its own on.
    """
    shared = cuda.shared.array(THREADS, sums.dtype)
    shared[t] = value
    cuda.syncthreads()
    half = THREADS // 2
    while half > 0:
        if t < half:
            shared[t] += shared[t + half]
        cuda.syncthreads()
        half //= 2
    if t == 0:
        sums[0] = shared[0]
    cuda.syncthreads()


@device
def total(sums):
    """Return the sum of an array, to all threads of a block that is alone with it."""
    shared = cuda.shared.array(THREADS, sums.dtype)
    t = cuda.threadIdx.x
    value = sums.dtype.type(0)
    for i in range(t, sums.shape[0], THREADS):
        value += sums[i]
    shared[t] = value
    cuda.syncthreads()
    half = THREADS // 2
    while half > 0:
        if t < half:
            shared[t] += shared[t + half]
        cuda.syncthreads()
        half //= 2
    value = shared[0]
    cuda.syncthreads()
    return value


@device
def note(rnorm, log, control):
    """Count an iteration and its residual norm; say whether the loop is to end.

    `control` holds the tolerance, the norm beyond which there is no hope, and the iterations that
    are left.
    """
    count = int(log[COUNT])
    log[HEAD + count % RING] = rnorm
    log[COUNT] = count + 1
    if not (rnorm > control[0] and rnorm < math.inf):
        log[STOP] = LOOP
    elif rnorm > control[1] or count + 1 >= control[2]:
        log[STOP] = LOOP


def accumulator(dtype: Any) -> np.dtype:
    """Return the type in which sums and scalars are kept."""
    return np.dtype(np.complex128 if np.dtype(dtype).kind == "c" else np.float64)
