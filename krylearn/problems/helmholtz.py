"""Waves in the frequency domain."""

from __future__ import annotations

from typing import Any

import numpy as np

from krylearn.grid import Grid, GridOperator
from krylearn.problems.fields import gaussian_random_field
from krylearn.problems.problem import Problem, right_side, sine_product, source


def helmholtz(shape=(64, 64), *, seed: int = 0, wavenumber: float = 20.0, damping: float = 0.0,
              roughness: float = 0.0, rhs: Any = "random") -> Problem:  # fmt: skip
    """Make ``-Laplace(u) - k^2 (1 + i damping) u = f`` on the unit box, u zero at its sides.

    Parameters
    ----------
    shape : tuple of int
        Ten points a wave take ``n > 10 k / (2 pi)`` along an axis.
    seed : int
    wavenumber : float
        k where the medium is uniform.
    damping : float
        0 gives a real symmetric indefinite system; more a complex symmetric one, that gets easier.
    roughness : float
        Relative variation of k by a Gaussian random field.
    rhs : {'random', 'smooth', 'constant', 'manufactured'} or array
        f; 'manufactured' is that of ``prod sin(pi x)``.

    Returns
    -------
    P : Problem
        ``P.params["wavenumber"]`` is the field k.

    Raises
    ------
    ValueError
        If a parameter is negative.

    References
    ----------
    Erlangga, Oosterlee and Vuik (2006), A novel multigrid based preconditioner for heterogeneous
    Helmholtz problems, whose attenuative medium this is.

    Examples
    --------
    >>> import krylearn as kl
    >>> P = kl.problems.helmholtz((40, 40), wavenumber=10.0)
    >>> P.A.symmetric, P.A.positive_definite is True
    (True, False)
    """
    if not all(value >= 0 for value in (wavenumber, damping, roughness)):
        raise ValueError("wavenumber, damping and roughness must not be negative")
    grid = Grid(shape)
    rng = np.random.default_rng(seed)
    k = np.full(grid.shape, float(wavenumber))
    if roughness:
        field = gaussian_random_field(grid.shape, tau=5.0, seed=rng)
        k *= np.exp(roughness * field / field.std())
    factor = -(1 + 1j * damping) if damping else -1.0
    shift = factor * (k**2 if roughness else float(wavenumber) ** 2)
    A = GridOperator.diffusion(grid, reaction=shift)
    exact = None
    if isinstance(rhs, str) and rhs == "manufactured":
        u, eigenvalue = sine_product(grid)
        f, exact = (eigenvalue + shift) * u, u.ravel()
    else:
        f = source(rhs, grid, rng)
    params = {"wavenumber": k, "source": f}
    return Problem(A, right_side(f, A), params, grid, exact, name="helmholtz", seed=seed)
