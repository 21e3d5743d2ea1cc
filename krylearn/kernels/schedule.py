"""Orders in which the rows of a matrix may be swept by several threads.

Gauss-Seidel, SSOR and the triangular solves of incomplete factors visit the rows one after the
other, each row needing those of its neighbours that come earlier. `schedule` sorts the rows into
levels that may run at once (level scheduling, Saad 2003, section 11.6): colours, or, in the
natural order, runs of consecutive rows. On a three-dimensional grid a run is a strip of grid
lines of one plane; one strip of each of some successive planes make a level.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from krylearn.kernels.parallel import jit, parallel_sum
from krylearn.kernels.vector import CHUNK

# Rows in a run, to be tried in turn, and how many runs should be ready at once on the average.
# Long runs are swept without a pause and leave rows in the cache of the thread that wrote them.
LONGEST = (8192, 4096, 2048, 1024)
ABREAST = 3
# Rows in a task: some microseconds of work, against a fraction of one to take it (an atomic
# operation drains the pipeline of the core).
TASK = 1024
# Rows of a matrix below which one thread is as quick.
SMALL = 16384


class Schedule(NamedTuple):
    """An order of the rows, cut into tasks.

    Attributes
    ----------
    rows : (n,) unsigned array
        The rows in the order of storage; position s holds row ``rows[s]``.
    position : (n,) unsigned array
        The inverse of `rows`.
    tasks : (t + 1,) int64 array
        Task k is the positions ``tasks[k] <= s < tasks[k + 1]``, to be done one after the other.
    levels : (l + 1,) int64 array
        Level k is the tasks ``levels[k] <= t < levels[k + 1]``, which may run at once. Phase k of
        a sweep does level k; the phases after that, those of the sweep backwards, go down again.
    """

    rows: np.ndarray
    position: np.ndarray
    tasks: np.ndarray
    levels: np.ndarray


@jit
def _lines(indptr, indices, line):
    """Number the lines: a row joins the line of the row before it when they are coupled."""
    one = np.uint64(1)
    count = 0
    for i in range(np.uint64(0), np.uint64(line.shape[0])):
        joined = False
        if i > 0:
            for k in range(indptr[i], indptr[i + one]):
                joined = joined or indices[k] == i - one
            for k in range(indptr[i - one], indptr[i]):
                joined = joined or indices[k] == i
        if not joined:
            count += 1
        line[i] = count - 1
    return count


@jit
def _runs(indptr, indices, line, longest, run):
    """Number the runs: a line joins the run of the line before it when they are coupled.

    A run is closed before it gets longer than `longest` rows.
    """
    one = np.uint64(1)
    n = np.uint64(line.shape[0])
    count, length = 0, 0
    start, previous = np.uint64(0), np.uint64(0)
    while start < n:
        stop = start
        joined = False
        while stop < n and line[stop] == line[start]:
            for k in range(indptr[stop], indptr[stop + one]):
                j = np.uint64(indices[k])
                joined = joined or (previous <= j and j < start)
            stop += one
        for k in range(indptr[previous], indptr[start]):
            j = np.uint64(indices[k])
            joined = joined or (start <= j and j < stop)
        length += np.int64(stop - start)
        if not joined or length > longest:
            count += 1
            length = np.int64(stop - start)
        run[start:stop] = count - 1
        start, previous = stop, start
    return count


@jit
def _levels(indptr, indices, run, level):
    """Give each run a level above all earlier runs it is coupled to, in either direction."""
    one = np.uint64(1)
    n = np.uint64(run.shape[0])
    deepest = 0
    start = np.uint64(0)
    while start < n:
        own = run[start]
        mine = level[own]
        stop = start
        while stop < n and run[stop] == own:
            for k in range(indptr[stop], indptr[stop + one]):
                j = np.uint64(indices[k])
                if j < start:
                    mine = max(mine, level[run[j]] + 1)
            stop += one
        level[own] = mine
        deepest = max(deepest, mine)
        for k in range(indptr[start], indptr[stop]):
            j = np.uint64(indices[k])
            if j >= stop:
                level[run[j]] = max(level[run[j]], mine + 1)
        start = stop
    return deepest + 1


@jit
def _sort_rows(group, run, first, rows):
    """Counting sort of the rows by the group of their run; `first` starts each group."""
    for i in range(run.shape[0]):
        first[group[run[i]] + 1] += 1
    for g in range(first.shape[0] - 1):
        first[g + 1] += first[g]
    place = first.copy()
    for i in range(run.shape[0]):
        g = group[run[i]]
        rows[place[g]] = i
        place[g] += 1


@jit
def _cut_tasks(rows, run, first, task, tasks, level):
    """Cut each level, between runs, into tasks of about `task` rows; return their number."""
    count = 0
    for g in range(first.shape[0] - 1):
        start = first[g]
        for s in range(first[g], first[g + 1]):
            if s - start >= task and run[rows[s]] != run[rows[s - 1]]:
                tasks[count], level[count] = start, g
                count += 1
                start = s
        tasks[count], level[count] = start, g
        count += 1
    tasks[count] = rows.shape[0]
    return count


def _wavefronts(indptr: np.ndarray, indices: np.ndarray, run: np.ndarray) -> tuple:
    """Cut the rows into runs, numbered in `run`; return a level for each and how many there are.

    The runs are as long as leaves `ABREAST` of them in a level; one run for all where the levels
    would be too narrow for threads.
    """
    n = run.shape[0]
    if n >= SMALL:
        line = np.empty_like(run)
        _lines(indptr, indices, line)
        for longest in LONGEST:
            level = np.zeros(_runs(indptr, indices, line, longest, run), np.int32)
            levels = _levels(indptr, indices, run, level)
            if n >= ABREAST * longest * levels:
                return level, levels
    run[:] = 0
    return np.zeros(1, np.int32), min(n, 1)


def schedule(indptr: np.ndarray, indices: np.ndarray, colours: np.ndarray | None = None,
             ) -> Schedule:  # fmt: skip
    """Return the `Schedule` of a square CSR pattern.

    Parameters
    ----------
    indptr, indices : unsigned integer arrays
    colours : (n,) int32 array, optional
        Sweep colour by colour instead of in the natural order. Coupled rows must differ.
    """
    n = indptr.shape[0] - 1
    run = np.empty(n, np.int32)
    if colours is None:
        level, levels = _wavefronts(indptr, indices, run)
    else:
        run[:] = np.arange(n, dtype=np.int32)
        level, levels = colours, int(colours.max()) + 1 if n else 0
    first = np.zeros(levels + 1, np.int64)
    rows = np.empty(n, indices.dtype)
    _sort_rows(level, run, first, rows)
    position = np.empty_like(rows)
    position[rows] = np.arange(n, dtype=rows.dtype)
    tasks, which = np.empty(n + 1, np.int64), np.empty(n, np.int64)
    count = _cut_tasks(rows, run, first, TASK if colours is None else 4 * TASK, tasks, which)
    level_of = which[:count]
    return Schedule(
        rows, position, tasks[: count + 1].copy(),
        np.searchsorted(level_of, np.arange(levels + 1)).astype(np.int64),
    )  # fmt: skip


# -- colours -----------------------------------------------------------------------------------


@jit
def _colour(indptr, indices, colour, taken):
    """Give each row the least colour that no coloured neighbour has (Saad 2003, Algorithm 3.6)."""
    one = np.uint64(1)
    n = np.uint64(colour.shape[0])
    for i in range(np.uint64(0), n):
        for k in range(indptr[i], indptr[i + one]):
            c = colour[indices[k]]
            if c >= 0:
                taken[c] = np.int64(i)
        c = 0
        while taken[c] == np.int64(i):
            c += 1
        colour[i] = c


def colouring(indptr: Any, indices: Any) -> np.ndarray:
    """Return a colour for each row so that coupled rows differ; the pattern is symmetric.

    5- and 7-point stencils get two: red and black.
    """
    n = indptr.shape[0] - 1
    colour = np.full(n, -1, np.int32)
    widest = int(np.diff(indptr).max(initial=0))
    _colour(indptr, indices, colour, np.full(widest + 2, n, np.int64))
    return colour


@jit
def _clashes(lo, hi, indptr, indices, colour):
    one = np.uint64(1)
    clashes = 0
    for i in range(np.uint64(lo), np.uint64(hi)):
        for k in range(indptr[i], indptr[i + one]):
            j = np.uint64(indices[k])
            if j != i and colour[j] == colour[i]:
                clashes += 1
    return clashes


def properly_coloured(indptr: Any, indices: Any, colour: np.ndarray) -> bool:
    """Return whether no coupled rows share a colour."""
    return parallel_sum(_clashes, colour.shape[0], CHUNK, indptr, indices, colour) == 0
