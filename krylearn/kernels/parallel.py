"""How kernels are compiled and how their work is shared among threads.

A kernel is a compiled function ``kernel(lo, hi, *args)`` that does the items ``lo <= i < hi``
and releases the GIL. The same machine code serves one thread or many: a pool of Python threads
calls it on disjoint ranges. Numba's own ``prange`` is not used, because its thread layers abort
when two threads enter them (workqueue) or kill a forked child (GNU OpenMP), and because a
parallel twin of each kernel would double the compile time of the first call.

In a kernel, loop over ``range(np.uint64(lo), np.uint64(hi))`` or over slices ``x[lo:hi]``: a signed
start that Numba cannot prove positive keeps the test for negative indices in the loop, and a
reduction then runs six times slower.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
from llvmlite.binding import Linkage
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.compiler import Compiler

# Keeps NaN and Inf meaningful (unlike fastmath=True) and still lets reductions vectorise.
_FASTMATH = {"reassoc", "contract"}


class _Cache(FunctionCache):
    """Numba's cache on disk; a directory that is full or has gone costs time, not the answer.

    What was compiled is stale once any file has changed that holds a kernel it calls.
    """

    def __init__(self, function: Callable, sources: set[str]) -> None:
        super().__init__(function)
        stamps = [self._impl.locator.get_source_stamp()]
        for path in filter(os.path.exists, sorted(sources)):
            status = os.stat(path)
            stamps.append((os.path.basename(path), status.st_mtime, status.st_size))
        name = self._impl.filename_base
        self._cache_file = IndexDataCacheFile(self._cache_path, name, tuple(stamps))

    def load_overload(self, sig, target_context):
        try:
            return super().load_overload(sig, target_context)
        except OSError:
            return None

    def save_overload(self, sig, data):
        with contextlib.suppress(OSError):
            super().save_overload(sig, data)


class _SelfContained(Compiler):
    """Compiles functions whose callees are their own copies, whatever else the process has loaded.

    Numba lets the copies that several kernels hold of one function go by one name, and all kernels
    take that which was loaded first. Copies are optimised each in its place and may differ in a
    rounding, so that a result would depend on what was called before, and on whether the cache
    was warm.
    """

    def compile_extra(self, func):
        library = self.state.targetctx.codegen().create_library(func.__qualname__)
        library.enable_object_caching()
        _keep_copies(library)
        self.state.library = library
        return super().compile_extra(func)


def _keep_copies(library: Any) -> None:
    finalise = library._finalize_final_module

    def keep_and_finalise() -> None:
        module = library._final_module
        shared = module.clone()  # what other kernels take their copies from, as Numba makes it
        for function in shared.functions:
            if not function.is_declaration and function.linkage == Linkage.external:
                function.linkage = "linkonce_odr"
        library._shared_module = shared
        for function in module.functions:
            if not function.is_declaration and function.linkage == Linkage.linkonce_odr:
                function.linkage = "internal"
        finalise()

    library._finalize_final_module = keep_and_finalise


class _NoAlias(_SelfContained):
    """Compiles functions whose array arguments share no memory that is written."""

    def __init__(self, typingctx, targetctx, library, args, return_type, flags, locals):
        flags = flags.copy()
        flags.noalias = True
        super().__init__(typingctx, targetctx, library, args, return_type, flags, locals)


# The files of kernels that a kernel's module imports, and theirs.
_sources: dict[str, set[str]] = {}


def _sources_of(function: Callable) -> set[str]:
    """Return the files in which kernels are that `function` may call, but for its own."""
    sources: set[str] = set()
    for value in function.__globals__.values():
        module = getattr(getattr(value, "py_func", None), "__module__", function.__module__)
        if module != function.__module__:
            sources |= _sources.get(module, set())
    own = _sources.setdefault(function.__module__, {function.__code__.co_filename})
    own |= sources
    return own - {function.__code__.co_filename}


def jit(function: Callable | None = None, *, noalias: bool = False, inline: bool = False
        ) -> Callable:  # fmt: skip
    """Compile a kernel: no GIL, cached on disk where the cache directory can be written.

    `noalias` promises that no array argument overlaps another one that is written. Without it a
    loop over many arrays is full of tests for overlap, or not vectorised. `inline` puts the text of
    a short function where it is called, and counts no references to arrays: both take longer than
    a short loop. Such a function makes no arrays.
    """
    if function is None:
        return functools.partial(jit, noalias=noalias, inline=inline)
    options: dict[str, Any] = {"pipeline_class": _NoAlias if noalias else _SelfContained}
    if inline:
        options |= {"forceinline": True, "_nrt": False}
    dispatcher = numba.njit(
        nogil=True, fastmath=_FASTMATH, error_model="numpy", **options
    )(function)  # fmt: skip
    sources = _sources_of(function)
    with contextlib.suppress(RuntimeError):  # numba: "cannot cache function: no locator available"
        dispatcher._cache = _Cache(function, sources)  # type: ignore[attr-defined]
    return dispatcher


class _Pool:
    """Threads that are made at first use and again in a forked child."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self._executor: ThreadPoolExecutor | None = None
        self._size = 0
        self._lock = threading.Lock()

    def submit(self, size: int, function: Callable, *args: Any):
        with self._lock:
            if self._executor is None or self._size < size:
                self._executor = ThreadPoolExecutor(size, thread_name_prefix="krylearn")
                self._size = size
            return self._executor.submit(function, *args)


_pool = _Pool()
os.register_at_fork(after_in_child=_pool.forget)


def _default_threads() -> int:
    named = os.environ.get("KRYLEARN_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS")
    if named and named.isdigit() and int(named) > 0:
        return int(named)
    # One thread a rank under MPI: the ranks already fill the cores.
    if "OMPI_COMM_WORLD_SIZE" in os.environ or "PMI_SIZE" in os.environ:
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_threads = _default_threads()


def get_num_threads() -> int:
    """Return the number of threads that kernels may use."""
    return _threads


def set_num_threads(count: int) -> None:
    """Let kernels use `count` threads. Results do not depend on it.

    Parameters
    ----------
    count : int
        At least 1. The initial value is ``KRYLEARN_NUM_THREADS``, else ``OMP_NUM_THREADS``, else
        1 under MPI, else the number of cores this process may use.

    Raises
    ------
    ValueError
        If `count` is less than 1.
    """
    global _threads
    if count < 1:
        raise ValueError(f"the number of threads must be at least 1, not {count}")
    _threads = int(count)


def parallel_for(kernel: Callable, n: int, grain: int, *args: Any) -> None:
    """Call ``kernel(lo, hi, *args)`` over ranges that cover ``[0, n)``.

    `grain` is the least number of items worth a thread of its own: a hand-over costs some
    20 microseconds, so that small work stays on the caller's thread; and so does what is called
    from within such a range: threads that wait for each other's ranges would wait for ever.
    """
    parts = min(_threads, n // grain) if n >= 2 * grain else 1
    if parts <= 1 or getattr(_within, "range", False):
        kernel(0, n, *args)
        return
    cuts = [n * k // parts for k in range(parts + 1)]
    waiting = [
        _pool.submit(parts - 1, _call, kernel, cuts[k], cuts[k + 1], *args)
        for k in range(1, parts)
    ]
    _call(kernel, 0, cuts[1], *args)
    for task in waiting:
        task.result()


_within = threading.local()


def _call(kernel: Callable, lo: int, hi: int, *args: Any) -> None:
    _within.range = True
    try:
        kernel(lo, hi, *args)
    finally:
        _within.range = False


_spread = threading.local()


@contextlib.contextmanager
def spread_over(ranks: Any) -> Iterator[None]:
    """Let the sums of this thread be those of vectors whose parts lie in several processes.

    Parameters
    ----------
    ranks : object or None
        Has ``sum(value)`` and ``max(value)`` over the processes; None: vectors are whole again.
    """
    before = getattr(_spread, "ranks", None)
    _spread.ranks = ranks
    try:
        yield
    finally:
        _spread.ranks = before


def over_ranks() -> Any:
    """Return what `spread_over` was given; None where vectors are whole."""
    return getattr(_spread, "ranks", None)


def everywhere(total: Any) -> Any:
    """Return a sum over all processes, `total` being that of this one."""
    ranks = getattr(_spread, "ranks", None)
    return total if ranks is None else ranks.sum(total)


def parallel_sum(kernel: Callable, n: int, chunk: int, *args: Any) -> Any:
    """Sum ``kernel(lo, hi, *args)`` over fixed chunks of ``[0, n)``, in order.

    The chunks depend on `n` alone, so the result is the same for any number of threads.
    """
    if n <= chunk:
        return _scalar(everywhere(kernel(0, n, *args)))
    cuts = list(range(0, n, chunk)) + [n]
    count = len(cuts) - 1
    parts = min(_threads, count)

    def share(first: int, last: int) -> list:
        return [kernel(cuts[k], cuts[k + 1], *args) for k in range(first, last)]

    if parts == 1:
        sums = share(0, count)
    else:
        ends = [count * k // parts for k in range(parts + 1)]
        waiting = [
            _pool.submit(parts - 1, share, ends[k], ends[k + 1]) for k in range(1, parts)
        ]
        sums = share(0, ends[1])
        for task in waiting:
            sums += task.result()
    total = sums[0]
    for value in sums[1:]:
        total += value
    return _scalar(everywhere(total))


def _scalar(value: Any) -> Any:
    """Return NumPy's scalar for Python's, which raises where it overflows or divides by zero."""
    if isinstance(value, float):
        return np.float64(value)
    return np.complex128(value) if isinstance(value, complex) else value
