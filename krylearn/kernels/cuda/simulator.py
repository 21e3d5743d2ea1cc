"""Numba's simulator of a CUDA device, made fit for kernels that share memory among threads.

A simulated thread is a thread of Python. Three things of the simulator do not bear that: threads
poll for each other and hold the interpreter while they do, two of them may both allocate what
they should share, and a device function's `cuda` is put into its module for the time of each call.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np
from numba.core import types
from numba.np import numpy_support

_lock = threading.Lock()


def _array(self: Any, shape: int, dtype: Any) -> np.ndarray:
    """Return the shared array that the line of the caller stands for."""
    frame = sys._getframe(1)
    line = frame.f_code.co_filename, frame.f_lineno
    if isinstance(dtype, types.Type):
        dtype = numpy_support.as_dtype(dtype)
    with _lock:
        if line not in self._allocations:
            self._allocations[line] = np.empty(shape, dtype)
        return self._allocations[line]


def repair() -> None:
    """Let threads give way quickly, and share what they allocate."""
    from numba.cuda.simulator.kernelapi import FakeCUDAShared

    FakeCUDAShared.array = _array  # type: ignore[method-assign]
    sys.setswitchinterval(1e-6)


def device(function: Callable) -> Callable:
    """Return a function for kernels to call, with the `cuda` that their module has just now."""

    @functools.wraps(function)
    def simulated(*args: Any) -> Any:
        given = {**function.__globals__, "cuda": sys._getframe(1).f_globals["cuda"]}
        return FunctionType(function.__code__, given)(*args)

    return simulated
