"""Compiled kernels launched by the driver itself.

Numba looks its arguments up, wraps and converts them at each launch, which takes some 0.1 ms for
the kernels of a multigrid cycle: as long as the device takes for one at 128^3. What it makes of
them depends on their types and, for an array, on where it lies. So a kernel that Numba has
launched once is launched by ``cuLaunchKernel`` from then on, and an array keeps what stands for
it. Whatever is not known here, or fails, is left to Numba.
"""

from __future__ import annotations

import ctypes
import functools
import struct
from array import array
from collections.abc import Callable
from typing import Any

import numpy as np

# How a number goes into the eight bytes that each parameter gets here; integers as they are.
_FORMATS = {float: "<d", np.float64: "<d", np.float32: "<fxxxx"}
_INTEGERS = (bool, int, np.int32, np.uint32, np.int64)

# For each kernel, the driver's handle by device and types of arguments.
_handles: dict[Any, dict[tuple, int]] = {}


class Unknown(TypeError):
    """An argument is none that is known here."""


def words(value: Any) -> tuple[Any, tuple[int, ...]]:
    """Return what stands for an argument's type, and its parameters as 64-bit words.

    Raises
    ------
    Unknown
    """
    kind = type(value)
    if kind in _INTEGERS:
        number = int(value)
        if not -(2**63) <= number < 2**63:  # of another type to Numba
            raise Unknown(kind.__name__)
        return kind, (number,)
    if kind in _FORMATS:
        return kind, struct.unpack("<q", struct.pack(_FORMATS[kind], value))
    if kind is tuple:
        parts = [words(part) for part in value]
        return tuple(part[0] for part in parts), tuple(w for part in parts for w in part[1])
    try:
        return value._as_words
    except AttributeError:
        pass
    if not hasattr(value, "_numba_type_") or not hasattr(value, "device_ctypes_pointer"):
        raise Unknown(kind.__name__)
    pointer = value.device_ctypes_pointer.value or 0
    # No owner and no parent; then Numba's order.
    found = (0, 0, value.size, value.dtype.itemsize, pointer, *value.shape, *value.strides)
    value._as_words = str(value._numba_type_), tuple(map(int, found))
    return value._as_words


@functools.cache
def _driver() -> Callable | None:
    try:
        function = ctypes.CDLL("libcuda.so.1").cuLaunchKernel
    except (OSError, AttributeError):
        return None
    function.argtypes = [ctypes.c_void_p, *[ctypes.c_uint] * 7, *[ctypes.c_void_p] * 3]
    return function


def _three(size: Any) -> tuple[int, ...]:
    size = size if isinstance(size, tuple) else (size,)
    return (*map(int, size), 1, 1)[:3]


def launch(kernel: Any, blocks: Any, threads: Any, stream: int, device: int, args: tuple) -> bool:
    """Queue a kernel that has been launched with such arguments; return whether that was done."""
    handles = _handles.get(kernel)
    if handles is None:
        return False
    try:
        given = [words(value) for value in args]
    except Unknown:
        return False
    handle = handles.get((device, *(part[0] for part in given)), 0)
    if handle == 0:
        return False
    values = array("q", [word for part in given for word in part[1]])
    first = values.buffer_info()[0]
    places = array("q", range(first, first + 8 * len(values), 8))
    queue: Any = _driver()
    # Where the driver refuses, as in a thread without a context, Numba sees to it or says why.
    return queue(handle, *_three(blocks), *_three(threads), 0, stream,
                 places.buffer_info()[0], None) == 0  # fmt: skip


def learn(kernel: Any, device: int, args: tuple) -> None:
    """Note what Numba compiled for such arguments, which it has just launched."""
    if _driver() is None:
        return
    try:
        key = (device, *(words(value)[0] for value in args))
    except Unknown:
        return
    handles = _handles.setdefault(kernel, {})
    if key in handles:
        return
    handle = 0
    try:
        compiled = kernel.overloads[tuple(kernel.typeof_pyval(value) for value in args)]
        plain = not (compiled.cooperative or compiled.debug or compiled.extensions)
        if plain and not getattr(compiled, "launch_config_sensitive", False):
            handle = int(compiled._codelibrary.get_cufunc().handle)
    except (AttributeError, KeyError, TypeError, ValueError):  # another version of Numba
        pass
    handles[key] = handle
