"""Grids found in matrices: which box of points and their neighbours the entries are those of."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def box_of(A: Any) -> tuple[int, ...] | None:
    """Return the shape of the box whose neighbours a CSR matrix may couple, or None.

    The first row tells the distances, the number of entries whether they can be right.
    """
    n = A.shape[0]
    steps = [int(k) for k in A.indices[: A.indptr[min(1, n)]] if k > 0]
    ends = [*steps[1:], n]
    if len(steps) > 3 or (steps and steps[0] != 1) or any(b % a for a, b in zip(steps, ends)):
        return None
    sizes = [b // a for a, b in zip(steps, ends)] or [n]
    entries = n + sum(2 * (size - 1) * (n // size) for size in sizes if steps)
    return tuple(reversed(sizes)) if A.nnz == entries else None


def sparse_box_of(A: Any) -> tuple[int, ...] | None:
    """Return the shape of the box as `box_of` does, where some neighbours may not be coupled."""
    n = A.shape[0]
    offsets = np.unique(A.indices - np.repeat(np.arange(n), np.diff(A.indptr)))
    ahead = [int(k) for k in offsets if k > 0]
    # Strides of the axes, the last being 1.
    strides = sorted({1, *ahead}, reverse=True)
    sizes = [n, *strides[:-1]]
    few = len(ahead) <= 3 and len(offsets) - len(ahead) <= 4 and len(strides) <= 3
    if not few or any(a % b for a, b in zip(sizes, strides)):
        return None
    return tuple(a // b for a, b in zip(sizes, strides))


def stencil_on(A: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return the entries of a CSR matrix on a box, None where others than neighbours are coupled.

    Parameters
    ----------
    A : sparse array
        Without entries that are zero.
    shape : tuple of int

    Returns
    -------
    stack : (1 + 2 ndim, ...) array or None
        The diagonal; for each axis ``A[i, i + e]``; for each axis ``conj(A[i, i - e])``.
    """
    n, ndim = A.shape[0], len(shape)
    stack = np.zeros((1 + 2 * ndim, *shape), A.dtype)
    flat = stack.reshape(1 + 2 * ndim, n)
    flat[0] = A.diagonal()
    for d in range(ndim):
        step = math.prod(shape[d + 1 :])
        if step < n:
            flat[1 + d, : n - step] = A.diagonal(step)
            flat[1 + ndim + d, step:] = np.conj(A.diagonal(-step))
        # What couples across the end of a line belongs to no box.
        if np.any(np.take(stack[1 + d], -1, d)) or np.any(np.take(stack[1 + ndim + d], 0, d)):
            return None
    return stack if np.count_nonzero(stack) == np.count_nonzero(A.data) else None
