"""Waves in the frequency domain."""

from __future__ import annotations

from typing import Any

import numpy as np

from krylearn.grid import Grid, GridOperator, boundary_rhs
from krylearn.problems.fields import gaussian_random_field
from krylearn.problems.problem import Problem, right_side, sine_product, source


def helmholtz(shape=(64, 64), *, seed: int = 0, wavenumber: float = 20.0, damping: float = 0.0,
              roughness: float = 0.0, rhs: Any = "random", boundary: str = "dirichlet",
              medium: str = "gaussian") -> Problem:  # fmt: skip
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
    rhs : {'random', 'smooth', 'constant', 'manufactured', 'flux'} or array
        f; 'manufactured' is that of ``prod sin(pi x)``, for Dirichlet sides. 'flux': f is zero,
        and ``du/dn`` is one on the middle of a Neumann side, from 0.35 to 0.65 (two axes).
    boundary : {'dirichlet', 'neumann'}
        u, or its normal derivative, is zero at the sides.
    medium : {'gaussian', 'bounded'}
        k is the wave number times ``exp(roughness g / std(g))``, tau being 5; or over
        ``1 + roughness tanh(g)``, tau being 3, g the random field.

    Returns
    -------
    P : Problem
        ``P.params["wavenumber"]`` is the field k.

    Raises
    ------
    ValueError
        If a parameter is negative or unknown, or rhs does not fit the sides.

    References
    ----------
    Erlangga, Oosterlee and Vuik (2006), A novel multigrid based preconditioner for heterogeneous
    Helmholtz problems, whose attenuative medium this is. De Hoop, Huang, Qian and Stuart (2022),
    The cost-accuracy trade-off in operator learning with neural networks, section 4.2 ('bounded').

    Examples
    --------
    >>> import krylearn as kl
    >>> P = kl.problems.helmholtz((40, 40), wavenumber=10.0)
    >>> P.A.symmetric, P.A.positive_definite is True
    (True, False)
    """
    if not all(value >= 0 for value in (wavenumber, damping, roughness)):
        raise ValueError("wavenumber, damping and roughness must not be negative")
    if boundary not in ("dirichlet", "neumann"):
        raise ValueError(f"boundary must be 'dirichlet' or 'neumann', not {boundary!r}")
    if medium not in ("gaussian", "bounded"):
        raise ValueError(f"medium must be 'gaussian' or 'bounded', not {medium!r}")
    grid = Grid(shape, boundary=boundary)
    rng = np.random.default_rng(seed)
    k = np.full(grid.shape, float(wavenumber))
    if roughness and medium == "bounded":
        k /= 1 + roughness * np.tanh(gaussian_random_field(grid.shape, tau=3.0, seed=rng))
    elif roughness:
        field = gaussian_random_field(grid.shape, tau=5.0, seed=rng)
        k *= np.exp(roughness * field / field.std())
    factor = -(1 + 1j * damping) if damping else -1.0
    shift = factor * (k**2 if roughness else float(wavenumber) ** 2)
    A = GridOperator.diffusion(grid, reaction=shift)
    params, exact = {"wavenumber": k}, None
    if isinstance(rhs, str) and rhs == "flux":
        if boundary != "neumann" or grid.ndim != 2:
            raise ValueError("the flux of helmholtz enters through a Neumann side of two axes")
        x = grid.coordinates(1)
        b = boundary_rhs(grid, {(0, 1): ((x >= 0.35) & (x <= 0.65)).astype(float)})
        return Problem(A, b.astype(A.dtype), params, grid, name="helmholtz", seed=seed)
    if isinstance(rhs, str) and rhs == "manufactured":
        if boundary != "dirichlet":
            raise ValueError("the manufactured solution of helmholtz is zero at Dirichlet sides")
        u, eigenvalue = sine_product(grid)
        f, exact = (eigenvalue + shift) * u, u.ravel()
    else:
        f = source(rhs, grid, rng)
    b = right_side(grid.weights() * f, A)
    params["source"] = f
    return Problem(A, b, params, grid, exact, name="helmholtz", seed=seed)
