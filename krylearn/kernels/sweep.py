"""How threads share a sweep over the rows of a matrix.

A sweep is one call of a kernel by every thread. The threads take the next task from a counter
and wait, spinning, until the level before it is complete. Since a task is only waited for when a
running thread holds it, no number of threads can block the sweep, and the result does not depend
on their number.

Kernels elsewhere call `wait`, `take` and `finish`; Numba's cache does not see that these have
changed: touch those files after an edit here.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from krylearn.kernels.parallel import get_num_threads, jit, parallel_for
from krylearn.kernels.schedule import SMALL, Schedule


def _element(context, builder, signature, args):
    array = context.make_array(signature.args[0])(context, builder, args[0])
    return cgutils.get_item_pointer(
        context, builder, signature.args[0], array, [args[1]], wraparound=False
    )


@intrinsic
def _fetch_add(typingctx, array, index, value):
    """Add to ``array[index]``, an int64, and return what was there."""

    def codegen(context, builder, signature, args):
        return builder.atomic_rmw("add", _element(context, builder, signature, args), args[2],
                                  "acq_rel")  # fmt: skip

    return types.int64(array, types.int64, types.int64), codegen


@intrinsic
def _load(typingctx, array, index):
    """Return ``array[index]``, an int64, as it is in memory now."""

    def codegen(context, builder, signature, args):
        pointer = _element(context, builder, signature, args)
        return builder.load_atomic(pointer, "acquire", 8)

    return types.int64(array, types.int64), codegen


@intrinsic
def _give_way(typingctx):
    """Let another thread have this core."""

    def codegen(context, builder, signature, args):
        if os.name == "posix":
            function = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(ir.IntType(32), []), "sched_yield"
            )
            builder.call(function, [])
        return context.get_dummy_value()

    return types.none(), codegen


# Counters of a phase, which have a cache line to themselves: tasks taken from the front, from the
# back, in all, and done.
_FRONT, _BACK, _TAKEN, _DONE, _LINE = 0, 1, 2, 3, 8


@jit
def wait(counters, levels, phase):
    """Return once all tasks of the phase before are done."""
    if phase == 0:
        return
    deep = levels.shape[0] - 1
    level = phase - 1 if phase <= deep else 2 * deep - phase
    size = levels[level + 1] - levels[level]
    spins = 0
    while _load(counters, (phase - 1) * _LINE + _DONE) < size:
        spins += 1
        if spins > 4096:
            _give_way()


@jit
def take(counters, levels, phase, thread):
    """Return the next task of a phase for a thread, -1 when none is left.

    Every other thread takes from the back, so that a thread meets in the next level the rows
    that it has in its own cache.
    """
    deep = levels.shape[0] - 1
    level = phase if phase < deep else 2 * deep - 1 - phase
    if _fetch_add(counters, phase * _LINE + _TAKEN, 1) >= levels[level + 1] - levels[level]:
        return -1
    if thread % 2 == 0:
        return levels[level] + _fetch_add(counters, phase * _LINE + _FRONT, 1)
    return levels[level + 1] - 1 - _fetch_add(counters, phase * _LINE + _BACK, 1)


@jit
def finish(counters, phase):
    _fetch_add(counters, phase * _LINE + _DONE, 1)


def sweep(kernel: Any, plan: Schedule, forward: bool, backward: bool, *args: Any) -> None:
    """Let every thread call ``kernel(lo, hi, counters, first, last, *plan, *args)``, lo its number.

    `first` and `last` are the phases to do.
    """
    count, deep = plan.tasks.shape[0] - 1, plan.levels.shape[0] - 1
    first, last = 0 if forward else deep, 2 * deep if backward else deep
    counters = np.zeros(2 * deep * _LINE, np.int64)
    if not forward and deep:
        counters[(deep - 1) * _LINE + _DONE] = plan.levels[-1] - plan.levels[-2]
    threads = min(get_num_threads(), count) if plan.rows.shape[0] >= SMALL else 1
    parallel_for(kernel, threads, 1, counters, first, last, plan.rows, plan.tasks, plan.levels,
                 *args)  # fmt: skip
