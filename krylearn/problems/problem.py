"""What a problem family yields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from krylearn.grid import Grid
from krylearn.problems.fields import gaussian_random_field


@dataclass(frozen=True)
class Problem:
    """A linear system ``A x = b`` and where it comes from.

    Attributes
    ----------
    A : GridOperator or sparse array, shape (n, n)
        Positive definite families keep A positive (``-div(c grad u)``).
    b : (n,) array
    params : dict of str to array or number
        What was drawn: the fields are arrays of ``grid.shape``.
    grid : Grid or None
    exact : (n,) array or None
        Where known: the solution of the differential equation at the points, from which the
        solution of the system differs by the discretisation error; for `heat` and
        `matrix_market` that of the system itself.
    nullspace : (n, k) array or None
        Near-nullspace vectors for algebraic multigrid, where they are not constants.
    name : str
        The family.
    seed : int or None
        What the random numbers started from.
    """

    A: Any
    b: np.ndarray
    params: dict
    grid: Grid | None = None
    exact: np.ndarray | None = None
    nullspace: np.ndarray | None = None
    name: str = ""
    seed: int | None = None

    def __repr__(self) -> str:
        drawn = ", ".join(self.params)
        return f"<{self.name} {'x'.join(map(str, self.A.shape))}, seed {self.seed}: {drawn}>"


def source(kind: Any, grid: Grid, rng: np.random.Generator) -> np.ndarray:
    """Return a source term f at the points of a grid, an array of its shape.

    Parameters
    ----------
    kind : {'random', 'smooth', 'constant'} or array
        White noise of variance 1, which excites all frequencies alike; a Gaussian random field;
        one; or the values themselves.
    """
    if isinstance(kind, str):
        if kind == "random":
            return rng.standard_normal(grid.shape)
        if kind == "constant":
            return np.ones(grid.shape)
        if kind == "smooth":
            return gaussian_random_field(grid.shape, lengths=grid.lengths, seed=rng)
        raise ValueError(f"rhs must be 'random', 'smooth', 'constant' or an array, not {kind!r}")
    values = np.asarray(kind)
    if values.size != grid.size:
        raise ValueError(f"rhs has shape {values.shape}; the grid needs {grid.shape}")
    return values.reshape(grid.shape)


def sine_product(grid: Grid) -> tuple[np.ndarray, float]:
    """Return ``prod sin(pi x / L)``, zero at all sides, and its eigenvalue of minus Laplace."""
    u = np.ones(grid.shape)
    for x, length in zip(grid.points(), grid.lengths):
        u = u * np.sin(np.pi * x / length)
    return u, sum((np.pi / length) ** 2 for length in grid.lengths)
