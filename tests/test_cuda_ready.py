"""What the driver is told of a kernel's arguments."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from krylearn.kernels.cuda import ready


class OnDevice:
    """What Numba's view of an array on the device has."""

    def __init__(self, values, name):
        self.shape, self.strides, self.size = values.shape, values.strides, values.size
        self.dtype, self._numba_type_ = values.dtype, name
        self.device_ctypes_pointer = ctypes.c_void_p(values.ctypes.data if values.size else None)


class Compiled:
    cooperative = debug = False
    extensions = ()

    class _codelibrary:
        @staticmethod
        def get_cufunc():
            return type("Function", (), {"handle": 77})


class Kernel:
    def __init__(self):
        self.overloads = {}

    def typeof_pyval(self, value):
        return getattr(value, "_numba_type_", type(value))


@pytest.fixture
def queued(monkeypatch):
    """Launches as a driver would see them: it reads each parameter where it is told."""
    seen = []

    def queue(handle, *rest):
        places = (ctypes.c_void_p * queue.count).from_address(rest[8])
        seen.append((handle, rest[:8], [ctypes.string_at(place, 8) for place in places]))
        return queue.status

    queue.count = queue.status = 0
    monkeypatch.setattr(ready, "_driver", lambda: queue)
    monkeypatch.setattr(ready, "_handles", {})
    return seen, queue


def test_parameters_stand_where_a_kernel_reads_them(queued):
    seen, queue = queued
    kernel, values = Kernel(), np.zeros((3, 4), np.float32)[:, ::2]
    args = (-5, 2.5, True, np.uint32(2**32 - 1), np.float32(0.25), (7, -0.0),
            OnDevice(values, "float32, 2-D, A"))  # fmt: skip
    kernel.overloads[tuple(map(kernel.typeof_pyval, args))] = Compiled
    assert not ready.launch(kernel, 3, (32, 4), 9, 0, args)  # Numba is first
    ready.learn(kernel, 0, args)
    queue.count = 7 + 9
    assert ready.launch(kernel, 3, (32, 4), 9, 0, args)
    handle, shape, found = seen[0]
    assert handle == 77 and shape == (3, 1, 1, 32, 4, 1, 0, 9)
    read = [np.frombuffer(word, kind)[0] for word, kind in zip(
        found, ["i8", "f8", "?", "u4", "f4", "i8", "f8"] + 9 * ["i8"])]  # fmt: skip
    assert read[:7] == [-5, 2.5, True, 2**32 - 1, 0.25, 7, 0.0] and np.signbit(read[6])
    assert read[7:] == [0, 0, 6, 4, values.ctypes.data, 3, 2, 16, 8]


def test_other_types_devices_and_refusals_are_numbas(queued):
    seen, queue = queued
    kernel = Kernel()
    kernel.overloads[int,] = Compiled
    ready.learn(kernel, 0, (1,))
    ready.learn(kernel, 0, (1j,))  # nothing that is known
    queue.count = 1
    assert ready.launch(kernel, 1, 1, 0, 0, (2,))
    assert not ready.launch(kernel, 1, 1, 0, 1, (2,))
    assert not ready.launch(kernel, 1, 1, 0, 0, (2.0,))
    assert not ready.launch(kernel, 1, 1, 0, 0, (1j,))
    assert not ready.launch(kernel, 1, 1, 0, 0, (2**63,))
    assert not ready.launch(Kernel(), 1, 1, 0, 0, (2,))
    queue.status = 201  # no context in this thread
    assert not ready.launch(kernel, 1, 1, 0, 0, (2,))


def test_a_kernel_whose_handle_is_not_found_stays_with_numba(queued):
    kernel = Kernel()
    ready.learn(kernel, 0, (1,))
    assert not ready.launch(kernel, 1, 1, 0, 0, (1,))
    assert not queued[0]


def test_an_empty_array_has_no_place():
    assert ready.words(OnDevice(np.zeros(0), "float64"))[1][4] == 0
