"""Steady heat in an irregular domain with varying boundary temperatures."""

from __future__ import annotations

from typing import Any

import numpy as np

from krylearn.grid import Grid, GridOperator
from krylearn.problems.fields import gaussian_random_field
from krylearn.problems.problem import Problem


def thermal(shape=(64, 64), *, seed: int = 0, domain_seed: int | None = None,
            boundary: str = "random") -> Problem:  # fmt: skip
    """Make ``-Laplace(u) = 0`` in a random domain, u given on its boundary.

    Parameters
    ----------
    shape : tuple of int
        Nodes inside the box around the domain, along 2 axes.
    seed : int
        Draws the temperatures on the boundary.
    domain_seed : int, optional
        Draws the domain, a disc with a wavy rim: the same one for all seeds by default, so that
        a sequence changes the right-hand side alone.
    boundary : {'random', 'manufactured'}
        A few random waves; or the harmonic function ``exp(x) sin(y)``, which is then the solution.

    Returns
    -------
    P : Problem
        ``P.params`` holds the mask and the temperatures, the latter with a frame of one node
        around: the sides of the box. Nodes outside the domain are inactive (rows of the
        identity), and hold their temperature in b.

    Raises
    ------
    ValueError
        If `boundary` is unknown or the grid is not two-dimensional.

    References
    ----------
    Wang et al. (2024), Accelerating data generation for neural operators via Krylov subspace
    recycling, whose thermal problem has such a domain and such data.

    Examples
    --------
    >>> import krylearn as kl
    >>> P = kl.problems.thermal((40, 40), seed=2)
    >>> x, info = kl.cg(P.A, P.b, rtol=1e-8)
    >>> inside = P.params["mask"].ravel()
    >>> bool(x[inside].max() <= P.params["temperature"].max())
    True
    """
    grid = Grid(shape)
    if grid.ndim != 2:
        raise ValueError(f"thermal has two axes, not {grid.ndim}")
    mask = _disc(grid, np.random.default_rng(0 if domain_seed is None else domain_seed))
    A = GridOperator.diffusion(grid, mask=mask, solid="dirichlet")
    # Temperatures on all nodes, the sides of the box included: a frame of one node around.
    x, y = (np.linspace(0, 1, n + 2) for n in grid.shape)
    frame = np.broadcast_arrays(x[:, None], y[None, :])
    if boundary == "manufactured":
        g = np.exp(frame[0]) * np.sin(frame[1])
    elif boundary == "random":
        rng = np.random.default_rng(seed)
        g = gaussian_random_field(frame[0].shape, alpha=3.0, tau=4.0, modes=12, seed=rng)
    else:
        raise ValueError(f"boundary must be 'random' or 'manufactured', not {boundary!r}")
    held = np.pad(~mask, 1, constant_values=True)
    b = np.zeros(grid.shape)
    for axis, h in enumerate(grid.spacing):
        for step in (-1, 1):
            neighbour = np.roll(np.where(held, g, 0.0), step, axis)[1:-1, 1:-1]
            b += neighbour / h**2
    inner = g[1:-1, 1:-1]
    b = np.where(mask, b, inner)
    exact = inner.ravel() if boundary == "manufactured" else None
    params: dict[str, Any] = {"mask": mask, "temperature": g}
    return Problem(A, b.ravel(), params, grid, exact, name="thermal", seed=seed)


def _disc(grid: Grid, rng: np.random.Generator) -> np.ndarray:
    x, y = (p - 0.5 for p in grid.points())
    angle, radius = np.arctan2(y, x), np.hypot(x, y)
    rim = np.full(grid.shape, 0.4)
    for k in range(2, 7):
        rim = rim + rng.uniform(-0.15, 0.15) / k * np.cos(k * angle + rng.uniform(0, 2 * np.pi))
    mask = radius < rim
    mask[tuple(n // 2 for n in grid.shape)] = True
    return mask
