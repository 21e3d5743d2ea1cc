"""Short paths through a set of points."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from krylearn.learned.recycling.features import features

# From so many systems on the greedy path, whose cost is quadratic, gives way to a curve.
LONG = 1000
# Frequencies an axis, and principal components, that the curve looks at.
MODES, COMPONENTS = 4, 4
# Cells of the curve along an axis: 2 to this power.
BITS = 10


def order(params: Iterable[Any]) -> np.ndarray:
    """Return an order in which neighbours have similar parameters, starting at the first system.

    Greedy for short lists; for long ones the low Fourier modes of the fields, their principal
    components and a Hilbert curve through those, at a cost near linear in the number of systems.

    Parameters
    ----------
    params : iterable
        As for `features`.

    Returns
    -------
    order : (systems,) int array

    Raises
    ------
    ValueError
        If the systems have no parameters in common.

    References
    ----------
    Wang et al. (2024), Accelerating data generation for neural operators via Krylov subspace
    recycling, ICLR, Algorithm 1 and appendix B.

    Examples
    --------
    >>> order([0.0, 5.0, 1.0, 4.0, 2.0]).tolist()
    [0, 2, 4, 3, 1]
    """
    params = list(params)
    if len(params) < LONG:
        return greedy_order(features(params))
    return hilbert_order(features(params, modes=MODES))


def greedy_order(points: np.ndarray) -> np.ndarray:
    """Return the path that goes from each point to the nearest one left, from the first point on.

    Parameters
    ----------
    points : (systems, features) array

    Examples
    --------
    >>> greedy_order(np.array([[0.0], [3.0], [1.0]])).tolist()
    [0, 2, 1]
    """
    points = np.asarray(points)
    count = len(points)
    if count == 0:
        return np.zeros(0, int)
    squares = np.einsum("ij,ij->i", points, points)
    left = np.full(count, True)
    path = np.zeros(count, int)
    for step in range(1, count):
        here = path[step - 1]
        left[here] = False
        distances = squares - 2.0 * (points @ points[here])
        distances[~left] = np.inf
        path[step] = int(np.argmin(distances))
    return path


def hilbert_order(points: np.ndarray, components: int = COMPONENTS, bits: int = BITS) -> np.ndarray:
    """Return the order of points along a Hilbert curve through their principal components.

    The path is turned so that it starts at the first point.

    Parameters
    ----------
    points : (systems, features) array
    components : int
    bits : int
        The curve has ``2**bits`` cells along an axis, which spans the same length on all axes.

    References
    ----------
    Skilling (2004), Programming the Hilbert curve, AIP Conference Proceedings 707, 381-387.

    Examples
    --------
    >>> hilbert_order(np.array([[0.0], [3.0], [1.0]])).tolist()
    [0, 2, 1]
    """
    points = np.asarray(points, dtype=float)
    if len(points) == 0:
        return np.zeros(0, int)
    centred = points - points.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    low = centred @ axes[:, ::-1][:, :components]
    extent = np.ptp(low, axis=0).max() or 1.0
    cells = ((low - low.min(axis=0)) / extent * (2**bits - 1)).astype(np.int64)
    path = np.argsort(hilbert_index(cells, bits), kind="stable")
    return np.roll(path, -int(np.flatnonzero(path == 0)[0]))


def hilbert_index(cells: np.ndarray, bits: int) -> np.ndarray:
    """Return the position along the Hilbert curve of cells, (count, axes) integers below 2**bits.

    Examples
    --------
    >>> hilbert_index(np.array([[0, 0], [0, 1], [1, 1], [1, 0]]), 1).tolist()
    [0, 1, 2, 3]
    """
    x = np.array(cells, dtype=np.int64).T
    axes = len(x)
    high = 1 << (bits - 1)
    # Skilling's transform of the axes to the transposed index: undo the excess work, ...
    q = high
    while q > 1:
        low = q - 1
        for i in range(axes):
            turned = (x[i] & q) != 0
            swap = np.where(turned, 0, (x[0] ^ x[i]) & low)
            x[0] = np.where(turned, x[0] ^ low, x[0] ^ swap)
            x[i] ^= swap
        q >>= 1
    # ... encode by Gray, ...
    for i in range(1, axes):
        x[i] ^= x[i - 1]
    flip = np.zeros_like(x[0])
    q = high
    while q > 1:
        flip = np.where((x[axes - 1] & q) != 0, flip ^ (q - 1), flip)
        q >>= 1
    x ^= flip
    # ... and interleave the bits.
    index = np.zeros(x.shape[1], dtype=np.int64)
    for bit in range(bits - 1, -1, -1):
        for i in range(axes):
            index = (index << 1) | ((x[i] >> bit) & 1)
    return index
