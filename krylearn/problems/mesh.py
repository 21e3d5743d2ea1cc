"""Diffusion on an unstructured mesh, by linear finite elements."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.spatial import Delaunay

from krylearn.problems.problem import Problem


def mesh(shape=(32, 32), *, seed: int = 0, contrast: float = 1e3, grading: float = 1.0,
         rhs: str = "random") -> Problem:  # fmt: skip
    """Make ``-div(c grad u) = f`` on triangles or tetrahedra in the unit box, u zero on its sides.

    Parameters
    ----------
    shape : tuple of int
        Nodes inside along each of 2 or 3 axes, before they are moved about and joined anew.
    seed : int
        Draws the mesh and the medium.
    contrast : float
        c jumps between 1 and this from element to element, across the level sets of a few waves.
    grading : float
        Coordinates are raised to this power: beyond 1 elements are small towards the origin.
    rhs : {'random', 'constant', 'manufactured'}
        Nodal white noise; one; or that of ``prod sin(pi x)`` for a contrast of one.

    Returns
    -------
    P : Problem
        A is CSR, and numbered at random, as meshes from generators may be. ``P.params`` holds the
        coefficient of each element and the coordinates of the nodes inside.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    References
    ----------
    Hughes (2000), The Finite Element Method, section 3.I.

    Examples
    --------
    >>> import krylearn as kl
    >>> P = kl.problems.mesh((12, 12), contrast=1e4)
    >>> P.A.shape, sorted(set(P.params["coefficient"].tolist()))
    ((144, 144), [1.0, 10000.0])
    """
    if np.ndim(shape) != 1 or len(shape) not in (2, 3) or min(shape) < 1:
        raise ValueError(f"mesh has 2 or 3 axes, not the shape {shape!r}")
    if not (0 < contrast < np.inf and 0 < grading < np.inf):
        raise ValueError("contrast and grading must be positive")
    if rhs not in ("random", "constant", "manufactured"):
        raise ValueError(f"rhs must be 'random', 'constant' or 'manufactured', not {rhs!r}")
    if rhs == "manufactured" and contrast != 1.0:
        raise ValueError("the manufactured solution is that of a uniform medium: contrast=1.0")
    rng = np.random.default_rng(seed)
    points, inside = _points(shape, grading, rng)
    simplices, gradients, volume = _elements(points)
    c = np.where(_waves(points[simplices].mean(axis=1), rng) > 0, float(contrast), 1.0)
    local = (c * volume)[:, None, None] * (gradients @ gradients.transpose(0, 2, 1))
    corners = simplices.shape[1]
    rows = np.repeat(simplices, corners, axis=1).ravel()
    columns = np.tile(simplices, (1, corners)).ravel()
    A = sp.coo_array((local.ravel(), (rows, columns)), shape=(len(points),) * 2).tocsr()
    free = np.flatnonzero(inside)
    A = sp.csr_array(A[free][:, free])
    A = sp.csr_array((A + A.T) / 2)  # sums in another order differ in the last digit
    A.sort_indices()
    share = np.bincount(simplices.ravel(), np.repeat(volume / corners, corners), len(points))[free]
    x = points[free]
    exact: Any = None
    b: Any
    if rhs == "random":
        b = rng.standard_normal(len(free))
    elif rhs == "constant":
        b = share
    else:
        exact = np.sin(np.pi * x).prod(axis=1)
        b = share * len(shape) * np.pi**2 * exact
    return Problem(A, b, {"coefficient": c, "points": x}, None, exact, name="mesh", seed=seed)


def _points(shape: Any, grading: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes at random places near a lattice, in random order, and which lie inside."""
    lattice = np.stack(
        np.meshgrid(*(np.arange(n + 2) for n in shape), indexing="ij"), axis=-1
    ).reshape(-1, len(shape))
    last = np.array(shape) + 1
    # On the sides nodes move along them; the corners stay.
    moved = lattice + np.where((lattice == 0) | (lattice == last), 0.0,
                               rng.uniform(-0.3, 0.3, lattice.shape))  # fmt: skip
    inside = np.all((lattice > 0) & (lattice < last), axis=1)
    order = rng.permutation(len(lattice))
    return ((moved / last) ** grading)[order], inside[order]


def _elements(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the simplices, the gradients of their shape functions, and their volumes."""
    simplices: Any = Delaunay(points).simplices
    edges = points[simplices[:, 1:]] - points[simplices[:, :1]]
    volume = np.abs(np.linalg.det(edges)) / math.factorial(points.shape[1])
    solid = volume > 1e-9 * volume.max()  # not flat along a side
    edges, simplices = edges[solid], simplices[solid]
    inner = np.linalg.inv(edges).transpose(0, 2, 1)
    first = -inner.sum(axis=1, keepdims=True)
    return simplices, np.concatenate([first, inner], axis=1), volume[solid]


def _waves(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a smooth random function at the rows of x, of either sign."""
    found = np.zeros(len(x))
    for _ in range(8):
        k, phase = rng.integers(-6, 7, x.shape[1]), rng.uniform(0, 2 * np.pi)
        found += rng.standard_normal() * np.cos(np.pi * (x @ k) + phase)
    return found
