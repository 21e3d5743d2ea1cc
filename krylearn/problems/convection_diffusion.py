"""Convection and diffusion."""

from __future__ import annotations

from typing import Any

import numpy as np

from krylearn.grid import Grid, GridOperator
from krylearn.problems.problem import Problem, sine_product, source


def convection_diffusion(shape=(64, 64), *, seed: int = 0, diffusivity: float = 1e-2,
                         velocity: Any = "recirculating", scheme: str = "upwind",
                         rhs: Any = "random") -> Problem:  # fmt: skip
    """Make ``-eps Laplace(u) + v . grad u = f`` on the unit box, u zero at its sides.

    Parameters
    ----------
    shape : tuple of int
    seed : int
        Draws f, and the direction of a constant wind.
    diffusivity : float
        eps; the cell Peclet number is ``|v| h / eps``.
    velocity : {'recirculating', 'constant'} or sequence of number or array
        v: the double-glazing wind ``(2y(1 - x^2), -2x(1 - y^2))`` mapped to the unit box, which
        has two axes (with one or three, 'recirculating' is 'constant'); a random unit vector; or
        its components, one for each axis.
    scheme : {'upwind', 'central'}
    rhs : {'random', 'smooth', 'constant', 'manufactured'} or array
        f; 'manufactured' is that of ``prod sin(pi x)``.

    Returns
    -------
    P : Problem
        ``P.params["velocity"]`` is v. A is not symmetric.

    Raises
    ------
    ValueError
        If a name is unknown, or a parameter makes no sense.

    References
    ----------
    Elman, Silvester and Wathen (2014), Finite Elements and Fast Iterative Solvers, example 6.1.4.

    Examples
    --------
    >>> import krylearn as kl
    >>> P = kl.problems.convection_diffusion((32, 32))
    >>> P.A.symmetric, kl.gmres(P.A, P.b, rtol=1e-6, restart=30)[1].converged
    (False, True)
    """
    if not diffusivity > 0:
        raise ValueError(f"diffusivity must be positive, not {diffusivity!r}")
    grid = Grid(shape)
    rng = np.random.default_rng(seed)
    v = _velocity(velocity, grid, rng)
    A = diffusivity * GridOperator.diffusion(grid) + GridOperator.convection(grid, v, scheme)
    exact = None
    if isinstance(rhs, str) and rhs == "manufactured":
        u, eigenvalue = sine_product(grid)
        f = diffusivity * eigenvalue * u
        for d, (x, component) in enumerate(zip(grid.points(), v)):
            slope = np.pi * np.cos(np.pi * x)
            for other, y in enumerate(grid.points()):
                slope = slope * np.sin(np.pi * y) if other != d else slope
            f = f + component * slope
        exact = u.ravel()
    else:
        f = source(rhs, grid, rng)
    params = {"velocity": v, "source": f}
    return Problem(A, f.ravel(), params, grid, exact, name="convection_diffusion", seed=seed)


def _velocity(kind: Any, grid: Grid, rng: np.random.Generator) -> tuple:
    if not isinstance(kind, str):
        if np.ndim(kind) == 0 and not hasattr(kind, "__len__"):
            kind = (kind,)
        return tuple(kind)
    if kind == "recirculating" and grid.ndim == 2:
        x, y = (2 * p - 1 for p in grid.points())
        return 2 * y * (1 - x**2), -2 * x * (1 - y**2)
    if kind in ("constant", "recirculating"):
        v = rng.standard_normal(grid.ndim)
        return tuple(float(c) for c in v / np.linalg.norm(v))
    raise ValueError(f"velocity must be 'recirculating', 'constant' or numbers, not {kind!r}")
