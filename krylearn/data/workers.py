"""Processes that make shards; a file's bytes do not depend on how many there are."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np

from krylearn.data.make import Maker, Outcome
from krylearn.data.solvers import residual
from krylearn.data.store import Store
from krylearn.kernels.parallel import get_num_threads, set_num_threads

# Points an axis of the samples that kernels are compiled with.
SMALL = 24


def usable_cores() -> int:
    """Return how many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def keep_memory() -> None:
    """Let this process keep the memory that arrays give back.

    By default glibc returns it at once, and every large array begins with page faults: a third
    of the time of a shard.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            tune = ctypes.CDLL(None).mallopt
            tune(-3, 2**30)  # M_MMAP_THRESHOLD
            tune(-1, 2**30)  # M_TRIM_THRESHOLD


def run_shards(maker: Maker, store: Store, shards: Iterable[int], workers: int,
               threads: int) -> Iterator[Outcome]:  # fmt: skip
    """Make shards, in this process or in several, and yield what became of each.

    Raises
    ------
    OSError
        If a shard cannot be written: what was yielded is on the disk.
    RuntimeError
        If a process ends by itself.
    """
    if workers > 1:
        compile_for(maker)
        yield from _run_processes(maker, store, list(shards), workers, threads)
        return
    before = get_num_threads()
    set_num_threads(threads)
    try:
        for shard in shards:
            yield maker.make(shard, store)
    finally:
        set_num_threads(before)


def compile_for(maker: Maker) -> None:
    """Solve small samples of a plan, in this thread: what is forked after that has its kernels.

    Where no cache holds them, each process would compile them for itself, all at the same time.
    """
    if maker.plan.grid is None:
        return
    small = replace(maker.plan, grid=tuple(min(n, SMALL) for n in maker.plan.grid))
    before = get_num_threads()
    set_num_threads(1)
    try:
        # As many as a solver takes together, for it may have other kernels for fewer.
        problems = [P for i in range(min(small.samples, small.shard, 8)) for P in small.systems(i)]
        maker.solve(problems, small.rtol)
        for P in problems[:1]:
            residual(P, P.b)
    except (ValueError, TypeError, ArithmeticError, MemoryError, np.linalg.LinAlgError):
        pass  # too small for this family: the processes will tell what is wrong, if anything is
    finally:
        set_num_threads(before)


def _run_processes(maker: Maker, store: Store, shards: list[int], workers: int,
                   threads: int) -> Iterator[Outcome]:  # fmt: skip
    # A fork has what is imported and compiled already. Elsewhere processes start anew.
    context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    processes: dict[Connection, Any] = {}
    waiting = list(reversed(shards))
    try:
        for _ in range(min(workers, len(shards))):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_work, args=(theirs, maker, store, threads, os.getpid()), daemon=True
            )
            process.start()
            theirs.close()
            processes[ours] = process
            ours.send(waiting.pop())
        busy = set(processes)
        while busy:
            for ours in wait(list(busy)):
                assert isinstance(ours, Connection)
                try:
                    answer = ours.recv()
                except (EOFError, ConnectionError):
                    processes[ours].join(1)
                    code = processes[ours].exitcode
                    why = " (out of memory?)" if code == -signal.SIGKILL else ""
                    raise RuntimeError(f"a worker process ended with status {code}{why}") from None
                if isinstance(answer, BaseException):
                    raise answer
                if waiting:
                    ours.send(waiting.pop())
                else:
                    busy.discard(ours)
                yield answer
    finally:
        for ours, process in processes.items():
            ours.close()
            process.terminate()
            process.join()


def _work(pipe: Connection, maker: Maker, store: Store, threads: int, parent: int) -> None:
    _die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
    store.reopen()
    keep_memory()
    set_num_threads(threads)
    while True:
        try:
            shard = pipe.recv()
        except (EOFError, ConnectionError):
            return
        try:
            pipe.send(maker.make(shard, store))
        except BaseException as error:  # whatever it is, the parent tells it
            pipe.send(error)
            return


def _die_with_parent(parent: int) -> None:
    """Let Linux end this process when its parent is killed."""
    if sys.platform == "linux":
        try:
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        except (OSError, AttributeError):
            return
        if os.getppid() != parent:  # killed before that
            os._exit(1)
