"""Incomplete factors without fill, computed by levels."""

from __future__ import annotations

import numpy as np

from krylearn.kernels.parallel import jit, parallel_for
from krylearn.kernels.schedule import Schedule
from krylearn.kernels.sweep import finish, sweep, take, wait
from krylearn.kernels.triangular import Part, scale_rows

GRAIN = 16384


@jit
def _cholesky(lo, hi, counters, first, last, rows, tasks, levels, indptr, columns, values, a,
              least, d, failed):  # fmt: skip
    """Rows of ``w = L D`` and of D, where ``A = L D L^H`` on the pattern; Saad 2003, section 10.3.

    Columns are positions, so that row t of the factor is complete when row s > t meets it.
    """
    one = np.uint64(1)
    for phase in range(first, last):
        wait(counters, levels, phase)
        while True:
            task = take(counters, levels, phase, lo)
            if task < 0:
                break
            for s in range(np.uint64(tasks[task]), np.uint64(tasks[task + 1])):
                pivot = a[rows[s]]
                start = np.uint64(indptr[s])
                for k in range(start, np.uint64(indptr[s + one])):
                    t = np.uint64(columns[k])
                    total = values[k]
                    # The columns that rows s and t share: both ascend.
                    p, q, end = start, np.uint64(indptr[t]), np.uint64(indptr[t + one])
                    while p < k and q < end:
                        if columns[p] == columns[q]:
                            total -= values[p] * np.conj(values[q]) / d[rows[columns[p]]]
                            p += one
                            q += one
                        elif columns[p] < columns[q]:
                            p += one
                        else:
                            q += one
                    values[k] = total
                    pivot -= (total.real * total.real + total.imag * total.imag) / d[rows[t]]
                d[rows[s]] = pivot
                if not pivot > least * a[rows[s]]:
                    failed[0] = 1
            finish(counters, phase)


@jit
def _adjoint_values(lo, hi, lptr, lcol, lval, uptr, ucol, uval):
    """Copy ``conj(lower[t, s])`` to ``upper[s, t]``."""
    one = np.uint64(1)
    for s in range(np.uint64(lo), np.uint64(hi)):
        for k in range(uptr[s], uptr[s + one]):
            t = np.uint64(ucol[k])
            for m in range(lptr[t], lptr[t + one]):
                if lcol[m] == s:
                    uval[k] = np.conj(lval[m])
                    break


def incomplete_cholesky(plan: Schedule, lower: Part, upper: Part, diagonal: np.ndarray,
                        ) -> np.ndarray | None:  # fmt: skip
    """Factorise a Hermitian matrix without fill, ``A = L D L^H`` on the pattern.

    Parameters
    ----------
    plan : Schedule
    lower, upper : Part
        Of A, numbered by positions. Overwritten: row i of `lower` by that of ``inv(D) L D``,
        `upper` by ``L^H``.
    diagonal : (n,) real array
        Of A.

    Returns
    -------
    d : (n,) real array, or None where a pivot is not positive but for rounding
        The diagonal of D.
    """
    least = diagonal.dtype.type(10 * np.finfo(diagonal.dtype).eps)
    d, failed = np.empty_like(diagonal), np.zeros(1, np.int64)
    sweep(_cholesky, plan, True, False, *lower, diagonal, least, d, failed)
    if failed[0]:
        return None
    parallel_for(_adjoint_values, d.shape[0], GRAIN, *lower, *upper)
    inverse = 1 / d
    scale_rows(upper, plan, inverse)
    scale_rows(lower, plan, inverse)
    return d


@jit
def _lu(lo, hi, counters, first, last, rows, tasks, levels, lptr, lcol, lval, uptr, ucol, uval,
        a, d):  # fmt: skip
    """Rows of L (unit diagonal), D and U where ``A = L (D + U)`` on the pattern (IKJ).

    Saad 2003, Algorithm 10.4. Columns are positions.
    """
    one = np.uint64(1)
    for phase in range(first, last):
        wait(counters, levels, phase)
        while True:
            task = take(counters, levels, phase, lo)
            if task < 0:
                break
            for s in range(np.uint64(tasks[task]), np.uint64(tasks[task + 1])):
                pivot = a[rows[s]]
                below, end = np.uint64(lptr[s]), np.uint64(lptr[s + one])
                for k in range(below, end):
                    t = np.uint64(lcol[k])
                    factor = lval[k] / d[rows[t]]
                    lval[k] = factor
                    p, q, stop = k + one, np.uint64(uptr[s]), np.uint64(uptr[s + one])
                    for m in range(uptr[t], uptr[t + one]):
                        column = ucol[m]
                        if column < s:
                            while p < end and lcol[p] < column:
                                p += one
                            if p < end and lcol[p] == column:
                                lval[p] -= factor * uval[m]
                        elif column == s:
                            pivot -= factor * uval[m]
                        else:
                            while q < stop and ucol[q] < column:
                                q += one
                            if q < stop and ucol[q] == column:
                                uval[q] -= factor * uval[m]
                d[rows[s]] = pivot
            finish(counters, phase)


@jit
def _scale_columns(lo, hi, rows, scale, indptr, columns, values):
    for k in range(np.uint64(lo), np.uint64(hi)):
        values[k] *= scale[rows[columns[k]]]


def incomplete_lu(plan: Schedule, lower: Part, upper: Part, diagonal: np.ndarray) -> np.ndarray:
    """Factorise without fill, ``A = L D (I + N)`` on the pattern.

    Parameters
    ----------
    plan : Schedule
    lower, upper : Part
        Of A, numbered by positions. Overwritten: `lower` by the strict lower triangle of
        ``inv(D) L D``, `upper` by N.
    diagonal : (n,) array
        Of A.

    Returns
    -------
    d : (n,) array
        The diagonal of D, with zeros or NaN where a pivot vanished.
    """
    d = np.empty_like(diagonal)
    sweep(_lu, plan, True, False, *lower, *upper, diagonal, d)
    with np.errstate(all="ignore"):
        inverse = 1 / d
    scale_rows(upper, plan, inverse)
    scale_rows(lower, plan, inverse)
    parallel_for(_scale_columns, lower.columns.shape[0], GRAIN, plan.rows, d, *lower)
    return d
