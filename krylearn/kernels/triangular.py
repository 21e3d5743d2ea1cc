"""Triangular solves: the parts of a matrix below and above its diagonal, swept by levels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from krylearn.kernels.parallel import jit, parallel_for
from krylearn.kernels.schedule import Schedule
from krylearn.kernels.sweep import finish, sweep, take, wait

GRAIN = 16384


class Part(NamedTuple):
    """Rows of a triangle without its diagonal, in the order of a schedule.

    ``columns`` are rows of the matrix while the part is swept, and positions of the schedule
    while it is factorised; both ascend along the order of the sweep.
    """

    indptr: np.ndarray
    columns: np.ndarray
    values: np.ndarray


class Sweeps(NamedTuple):
    """The arguments of `solve`, which always goes forwards."""

    plan: Schedule
    lower: Part
    upper: Part
    scale: np.ndarray
    backward: bool


@jit
def _count_parts(lo, hi, indptr, indices, rows, position, lower, upper):
    one = np.uint64(1)
    for s in range(np.uint64(lo), np.uint64(hi)):
        i = np.uint64(rows[s])
        below, above = 0, 0
        for k in range(indptr[i], indptr[i + one]):
            t = np.uint64(position[indices[k]])
            if t < s:
                below += 1
            elif t > s:
                above += 1
        lower[s + one] = below
        upper[s + one] = above


@jit
def _place(columns, values, start, end, t, a):
    """Insert into a sorted row that so far ends at `end`."""
    one = np.uint64(1)
    k = end
    while k > start and columns[k - one] > t:
        columns[k] = columns[k - one]
        values[k] = values[k - one]
        k -= one
    columns[k] = t
    values[k] = a


@jit
def _fill_parts(lo, hi, indptr, indices, data, rows, position, lptr, lcol, lval, uptr, ucol, uval):
    one = np.uint64(1)
    for s in range(np.uint64(lo), np.uint64(hi)):
        i = np.uint64(rows[s])
        below, above = np.uint64(lptr[s]), np.uint64(uptr[s])
        for k in range(indptr[i], indptr[i + one]):
            t = np.uint64(position[indices[k]])
            if t < s:
                _place(lcol, lval, np.uint64(lptr[s]), below, t, data[k])
                below += one
            elif t > s:
                _place(ucol, uval, np.uint64(uptr[s]), above, t, data[k])
                above += one


def split(indptr, indices, data, plan: Schedule, like: tuple[Part, Part] | None = None,
          ) -> tuple[Part, Part]:  # fmt: skip
    """Return the strictly lower and upper `Part` of a CSR matrix, columns as positions.

    `like` are parts of an earlier matrix of the same pattern: row pointers are shared.
    """
    n = plan.rows.shape[0]
    if like is None:
        pointers = np.zeros((2, n + 1), indptr.dtype)
        parallel_for(_count_parts, n, GRAIN, indptr, indices, plan.rows, plan.position, *pointers)
        lptr, uptr = (np.cumsum(p, dtype=p.dtype) for p in pointers)
    else:
        lptr, uptr = like[0].indptr, like[1].indptr
    lower, upper = (
        Part(p, np.empty(int(p[-1]), indices.dtype), np.empty(int(p[-1]), data.dtype))
        for p in (lptr, uptr)
    )
    parallel_for(_fill_parts, n, GRAIN, indptr, indices, data, plan.rows, plan.position, *lower,
                 *upper)  # fmt: skip
    return lower, upper


@jit
def _to_rows(lo, hi, rows, columns):
    for k in range(np.uint64(lo), np.uint64(hi)):
        columns[k] = rows[columns[k]]


def number_by_rows(part: Part, plan: Schedule) -> None:
    """Turn the columns of a part from positions into rows of the matrix."""
    parallel_for(_to_rows, part.columns.shape[0], 4 * GRAIN, plan.rows, part.columns)


@jit
def _scale_rows(lo, hi, rows, scale, indptr, values):
    one = np.uint64(1)
    for s in range(np.uint64(lo), np.uint64(hi)):
        a = scale[rows[s]]
        for k in range(indptr[s], indptr[s + one]):
            values[k] *= a


def scale_rows(part: Part, plan: Schedule, scale: np.ndarray) -> None:
    """Multiply row i of a part by ``scale[i]``."""
    parallel_for(_scale_rows, plan.rows.shape[0], GRAIN, plan.rows, scale, part.indptr,
                 part.values)  # fmt: skip


# -- solves ------------------------------------------------------------------------------------


@jit
def _solve(lo, hi, counters, first, last, rows, tasks, levels, lptr, lcol, lval, uptr, ucol,
           uval, scale, r, out):  # fmt: skip
    """Solve with the lower part in the phases forwards, with the upper in those backwards.

    The row before this one in the sweep, of number `before`, has just been written. Taken from
    memory its value would arrive some ten cycles later, most of the time of a row; so it is kept
    in `known`. It can only be the last column of a lower row, the first of an upper one. (Helper
    functions for that would count references to the arrays once a row, at tenfold the cost.)
    """
    one = np.uint64(1)
    deep = levels.shape[0] - 1
    for phase in range(first, last):
        wait(counters, levels, phase)
        while True:
            task = take(counters, levels, phase, lo)
            if task < 0:
                break
            if phase < deep:
                start = np.uint64(tasks[task])
                before = np.uint64(rows[start])
                known = out[before]
                for s in range(start, np.uint64(tasks[task + 1])):
                    i = np.uint64(rows[s])
                    total = scale[i] * r[i]
                    k, end = np.uint64(lptr[s]), np.uint64(lptr[s + one])
                    if k < end:
                        end -= one
                        while k < end:
                            total -= lval[k] * out[lcol[k]]
                            k += one
                        j = np.uint64(lcol[end])
                        if j == before:
                            total -= lval[end] * known
                        else:
                            total -= lval[end] * out[j]
                    out[i] = total
                    before, known = i, total
            else:
                start, s = np.uint64(tasks[task]), np.uint64(tasks[task + 1])
                before = np.uint64(rows[s - one])
                known = out[before]
                while s > start:
                    s -= one
                    i = np.uint64(rows[s])
                    total = out[i]
                    leftmost, k = np.uint64(uptr[s]), np.uint64(uptr[s + one])
                    if leftmost < k:
                        k -= one
                        while k > leftmost:
                            total -= uval[k] * out[ucol[k]]
                            k -= one
                        j = np.uint64(ucol[k])
                        if j == before:
                            total -= uval[k] * known
                        else:
                            total -= uval[k] * out[j]
                    out[i] = total
                    before, known = i, total
            finish(counters, phase)


def solve(plan: Schedule, lower: Part, upper: Part, scale: np.ndarray, r: np.ndarray,
          out: np.ndarray, forward: bool = True, backward: bool = True) -> np.ndarray:  # fmt: skip
    """Do ``out = inv(I + upper) @ inv(I + lower) @ (scale * r)``; return out, which may be r.

    Parameters
    ----------
    plan : Schedule
    lower, upper : Part
        Numbered by rows.
    scale, r, out : (n,) arrays
    forward, backward : bool
        Leave out ``scale`` and ``lower``, `out` being what `upper` is to be solved for; or
        ``upper``.
    """
    sweep(_solve, plan, forward, backward, *lower, *upper, scale, r, out)
    return out
