"""Poisson's equation."""

from __future__ import annotations

from typing import Any

import numpy as np

from krylearn.grid import Grid, GridOperator
from krylearn.problems.problem import Problem, right_side, sine_product, source


def poisson(shape=(64, 64), *, seed: int = 0, rhs: Any = "random", boundary: Any = "dirichlet",
            centering: str = "node", lengths: Any = 1.0, dtype: Any = None) -> Problem:  # fmt: skip
    """Make ``-Laplace(u) = f`` on a box of 1 to 3 axes.

    Parameters
    ----------
    shape : int or tuple of int
    seed : int
    rhs : {'random', 'smooth', 'constant', 'manufactured'} or array
        f; 'manufactured' is that of ``prod sin(pi x / L)``, for Dirichlet sides.
    boundary, centering, lengths
        As for `Grid`.
    dtype : dtype, optional
        float64 by default.

    Returns
    -------
    P : Problem
        ``P.params`` holds f. Where nothing holds the solution (Neumann or periodic sides alone)
        f loses what is in the null space.

    Raises
    ------
    ValueError
        If the grid or rhs make no sense.

    References
    ----------
    LeVeque (2007), Finite Difference Methods for Ordinary and Partial Differential Equations,
    chapter 3.

    Examples
    --------
    >>> import krylearn as kl
    >>> P = kl.problems.poisson(shape=(48, 48), seed=77)
    >>> x, info = kl.cg(P.A, P.b, rtol=1e-8)
    >>> info.converged
    True
    """
    grid = Grid(shape, lengths, boundary, centering)
    A = GridOperator.diffusion(grid, dtype=dtype)
    exact = None
    if isinstance(rhs, str) and rhs == "manufactured":
        if any(condition != "dirichlet" for pair in grid.boundary for condition in pair):
            raise ValueError("the manufactured solution of poisson is zero at Dirichlet sides")
        u, eigenvalue = sine_product(grid)
        f, exact = eigenvalue * u, u.ravel()
    else:
        f = source(rhs, grid, np.random.default_rng(seed))
    b = right_side(grid.weights() * f, A)
    if A.nullspace is not None:
        b -= A.nullspace @ (A.nullspace.T @ b)
    return Problem(A, b, {"source": f}, grid, exact, name="poisson", seed=seed)
