"""Flow through a porous medium: the standard family of neural-operator papers."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from krylearn.grid import Grid, GridOperator
from krylearn.problems.fields import gaussian_random_field, piecewise, trigonometric
from krylearn.problems.problem import Problem, source

COEFFICIENTS = ("lognormal", "piecewise", "rough", "trigonometric")


def darcy(shape=(64, 64), *, seed: int = 0, coefficient: Any = None, rhs: Any = "constant",
          modes: int | None = None, variant: str = "conservative") -> Problem:  # fmt: skip
    """Make ``-div(a grad u) = f`` on the unit box, u zero at its sides, a drawn at random.

    Parameters
    ----------
    shape : tuple of int
        Cells along 1 to 3 axes.
    seed : int
    coefficient : {'lognormal', 'piecewise', 'rough', 'trigonometric'} or array of `shape`
        a: exp of a Gaussian random field of alpha 2 and tau 3; 12 or 3 by its sign (the default);
        the same with tau 5; a product of waves at six scales (two axes).
    rhs : {'constant', 'random', 'smooth'} or array
        f.
    modes : int, optional
        As for `gaussian_random_field`: the same medium at every resolution.
    variant : {'conservative', 'published'}
        'published' gives the matrices of the recycling paper's generator (two axes; a is then
        exp of a periodic field of alpha 2.5 and tau 7 by default). It assembles ``-Laplace(a u)``
        and takes the coefficient of the upper neighbour two columns off: a nonsymmetric, slightly
        indefinite CSR matrix of no differential equation. For comparison only.

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
    published = variant == "published"
    if published and np.size(shape) != 2:
        raise ValueError("the published variant has two axes")
    grid = Grid(shape, centering="node" if published else "cell")
    rng = np.random.default_rng(seed)
    frame = None
    if published and coefficient is None:
        sizes = tuple(n + 2 for n in grid.shape)
        frame = np.exp(gaussian_random_field(sizes, alpha=2.5, tau=7.0, boundary="periodic",
                                             modes=modes, seed=rng))  # fmt: skip
        coefficient = frame[1:-1, 1:-1].copy()
    a = _coefficient("piecewise" if coefficient is None else coefficient, grid, rng, modes)
    f = source(rhs, grid, rng)
    A: Any = published_matrix(a, frame) if published else GridOperator.diffusion(grid, a)
    return Problem(A, f.ravel(), {"coefficient": a, "source": f}, grid, name="darcy", seed=seed)


def published_matrix(a: np.ndarray, frame: np.ndarray | None = None) -> sp.csr_array:
    """Return the recycling paper's matrix, ``-h^2 Laplace(a u)`` but for a slip in one diagonal.

    The entry in the row of a point for the neighbour before it along the first axis ought to be
    minus the coefficient there; it is that of the point two places earlier. `frame` is a with the
    values around it, two of which are met at the start.
    """
    rows, columns = a.shape
    before = np.concatenate([a.ravel()[:2] if frame is None else frame[0, -3:-1], a.ravel()])
    left, right = a.copy(), a.copy()
    left[:, -1], right[:, 0] = 0.0, 0.0  # no neighbour across the end of a row
    diagonals = {
        -columns: -before[: a.size - columns], -1: -left.ravel()[:-1], 0: 4 * a.ravel(),
        1: -right.ravel()[1:], columns: -a.ravel()[columns:],
    }  # fmt: skip
    return sp.csr_array(sp.diags_array(list(diagonals.values()), offsets=list(diagonals)))


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
