"""Facts about the machine, so that a table of times can be read a year later."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import threading
import time
from typing import Any

import numpy as np

from krylearn.kernels.parallel import get_num_threads, jit, parallel_for, set_num_threads

PACKAGES = ("krylearn", "numpy", "scipy", "numba", "pyamg", "torch", "petsc4py", "cupy",
            "matplotlib")  # fmt: skip


@jit
def _triad(lo, hi, a, b, c, scale):
    for i in range(np.uint64(lo), np.uint64(hi)):
        a[i] = b[i] + scale * c[i]


def triad(threads: int | None = None, megabytes: int = 128, runs: int = 5) -> float:
    """Measure the STREAM triad ``a = b + s * c``: bytes a second, 24 an element.

    Parameters
    ----------
    threads : int, optional
        All that krylearn uses by default.
    megabytes : int
        Size of each of the three arrays.
    runs : int
        The fastest counts.
    """
    n, before = megabytes * 2**17, get_num_threads()
    a, b, c = np.zeros(n), np.ones(n), np.ones(n)
    try:
        set_num_threads(threads or before)
        parallel_for(_triad, n, 65536, a, b, c, 2.0)
        best = min(_timed(parallel_for, _triad, n, 65536, a, b, c, 2.0) for _ in range(runs))
    finally:
        set_num_threads(before)
    return 24 * n / best


def matrix_flops(n: int = 1024, runs: int = 5) -> float:
    """Measure a product of dense matrices: flops a second, the roof over what computes most."""
    a = np.ones((n, n))
    return 2 * n**3 / min(_timed(np.matmul, a, a) for _ in range(runs))


def _timed(function: Any, *args: Any) -> float:
    started = time.perf_counter()
    function(*args)
    return time.perf_counter() - started


def cpu_model() -> str:
    """Return the processor's name."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith(("model name", "Model")):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def memory_bytes() -> int | None:
    """Return the machine's memory, or None where that cannot be told."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def held_bytes(owner: Any) -> int:
    """Return the bytes of all arrays that an object holds, each counted once.

    Work arrays of threads (`threading.local`) are not looked for.
    """
    arrays: dict[int, int] = {}
    seen: set[int] = set()
    left = [owner]
    while left:
        value = left.pop()
        if isinstance(value, np.ndarray):
            while isinstance(value.base, np.ndarray):
                value = value.base
            arrays[id(value)] = value.nbytes
        if id(value) in seen or isinstance(value, threading.local | type):
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            left += value.values()
        elif isinstance(value, list | tuple | set):
            left += value
        elif not callable(value) or hasattr(value, "shape"):
            left.append(getattr(value, "__dict__", {}))
            left += [getattr(value, name, None) for name in getattr(type(value), "__slots__", ())]
    return sum(arrays.values())


def versions() -> dict[str, str | None]:
    """Return the versions of Python and of what krylearn uses or is compared with."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            # Conda and CUDA builds go by other distribution names (cupy-cuda12x).
            found[name] = "unknown version" if importlib.util.find_spec(name) else None
    return found


def cache_directory() -> tuple[str | None, bool]:
    """Return where compiled kernels are kept, and whether that can be written."""
    from krylearn.kernels import vector

    path = getattr(getattr(vector._dot, "_cache", None), "cache_path", None)
    if path is None:
        return None, False
    nearest = path
    while not os.path.isdir(nearest) and os.path.dirname(nearest) != nearest:
        nearest = os.path.dirname(nearest)
    return path, os.access(nearest, os.W_OK)


def cuda_devices() -> tuple[list[str], str]:
    """Return the names of the CUDA devices that Numba sees, and a reason where there are none."""
    try:
        from numba import cuda

        if not cuda.is_available():
            return [], "no CUDA driver or device is found"
        names = []
        for device in cuda.gpus:
            name = device.name
            names.append(name.decode() if isinstance(name, bytes) else str(name))
        return names, ""
    except Exception as error:  # a driver that does not fit raises anything
        return [], f"numba.cuda does not start: {error}".splitlines()[0]


def machine_facts(bandwidth: bool = True) -> dict[str, Any]:
    """Return what a table of times depends on.

    Parameters
    ----------
    bandwidth : bool
        Whether to measure the triad, on one thread and on all, and a dense product (about a
        second).
    """
    threads = get_num_threads()
    affinity = getattr(os, "sched_getaffinity", None)
    facts: dict[str, Any] = {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "usable_cores": len(affinity(0)) if affinity else os.cpu_count(),
        "threads": threads,
        "memory_bytes": memory_bytes(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "versions": versions(),
        "triad_1_thread": None,
        "triad_all_threads": None,
        "matrix_flops": None,
    }
    if bandwidth:
        facts["triad_1_thread"] = triad(1)
        facts["triad_all_threads"] = triad(threads) if threads > 1 else facts["triad_1_thread"]
        facts["matrix_flops"] = matrix_flops()
    return facts
