"""Flow through a porous medium: the standard family of neural-operator papers."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from krylearn.grid import Grid, GridOperator
from krylearn.problems.fields import gaussian_random_field, piecewise, trigonometric
from krylearn.problems.problem import Problem, source

COEFFICIENTS = ("lognormal", "piecewise", "rough", "trigonometric")


def darcy(shape=(64, 64), *, seed: int = 0, coefficient: Any = "piecewise", rhs: Any = "constant",
          modes: int | None = None, variant: str = "conservative") -> Problem:  # fmt: skip
    """Make ``-div(a grad u) = f`` on the unit box, u zero at its sides, a drawn at random.

    Parameters
    ----------
    shape : tuple of int
        Cells along 1 to 3 axes.
    seed : int
    coefficient : {'lognormal', 'piecewise', 'rough', 'trigonometric'} or array of `shape`
        a: exp of a Gaussian random field of alpha 2 and tau 3; 12 or 3 by its sign; the same with
        tau 5; a product of waves at six scales (two axes).
    rhs : {'constant', 'random', 'smooth'} or array
        f.
    modes : int, optional
        As for `gaussian_random_field`: the same medium at every resolution.
    variant : {'conservative', 'published'}
        'published' assembles ``-Laplace(a u)`` as the generator of the recycling paper does: a
        nonsymmetric CSR matrix that does not conserve flux. For comparison only. (That
        generator's error of two in an array slice is left out.)

    Returns
    -------
    P : Problem
        ``P.params["coefficient"]`` is a.

    Raises
    ------
    ValueError
        If `coefficient` or `variant` is unknown.

    References
    ----------
    Li et al. (2021), Fourier neural operator for parametric PDEs, section 5.2 ('piecewise');
    He, Liu and Xu (2024), MgNO, section 5 ('rough', 'trigonometric'); Wang et al. (2024),
    Accelerating data generation for neural operators via Krylov subspace recycling ('published').

    Examples
    --------
    >>> import krylearn as kl
    >>> P = kl.problems.darcy((32, 32), seed=3)
    >>> sorted({float(a) for a in P.params["coefficient"].ravel()})
    [3.0, 12.0]
    """
    if variant not in ("conservative", "published"):
        raise ValueError(f"variant must be 'conservative' or 'published', not {variant!r}")
    grid = Grid(shape, centering="cell")
    rng = np.random.default_rng(seed)
    a = _coefficient(coefficient, grid, rng, modes)
    f = source(rhs, grid, rng)
    A: Any = GridOperator.diffusion(grid, a)
    if variant == "published":
        A = GridOperator.diffusion(grid).tocsr() @ sp.diags_array(a.ravel()).tocsr()
    return Problem(A, f.ravel(), {"coefficient": a, "source": f}, grid, name="darcy", seed=seed)


def _coefficient(kind: Any, grid: Grid, rng: np.random.Generator, modes: int | None) -> np.ndarray:
    if not isinstance(kind, str):
        a = np.asarray(kind, dtype=float)
        if a.shape != grid.shape or not np.all(a > 0):
            raise ValueError(f"coefficient must be positive and of shape {grid.shape}")
        return a
    if kind not in COEFFICIENTS:
        raise ValueError(f"coefficient must be one of {', '.join(COEFFICIENTS)}, not {kind!r}")
    if kind == "trigonometric":
        if grid.ndim != 2:
            raise ValueError("the trigonometric coefficient has two axes")
        return trigonometric(grid.points(), rng)
    tau = 5.0 if kind == "rough" else 3.0
    field = gaussian_random_field(grid.shape, alpha=2.0, tau=tau, modes=modes, seed=rng)
    return np.exp(field) if kind == "lognormal" else piecewise(field)
