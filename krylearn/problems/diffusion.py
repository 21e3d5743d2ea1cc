"""Diffusion that is hard on solvers: anisotropic, rotated, jumping, walled."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from krylearn.grid import Grid, GridOperator
from krylearn.problems.problem import Problem, sine_product, source

KINDS = ("anisotropic", "rotated", "inclusions", "walls")


def diffusion(shape=(64, 64), *, seed: int = 0, kind: str = "inclusions", contrast: float = 1e4,
              angle: float = np.pi / 6, density: float = 0.02,
              rhs: Any = "random") -> Problem:  # fmt: skip
    """Make ``-div(K grad u) = f`` on the unit box.

    Parameters
    ----------
    shape : tuple of int
    seed : int
    kind : {'inclusions', 'anisotropic', 'rotated', 'walls'}
        Random boxes where the coefficient is `contrast` among ones; `contrast` times more
        diffusion along the last axis; the same along a direction at `angle` (two axes; the matrix
        has nine diagonals); thin walls that let nothing through, a singular system.
    contrast : float
        Of coefficients, such as 1e3 or 1e6.
    angle : float
        Of the direction of strong diffusion against the first axis, in radians.
    density : float
        Inclusions: share of the box that each covers. Walls: how many, as a share of the lines.
    rhs : {'random', 'smooth', 'constant', 'manufactured'} or array
        f; 'manufactured' is that of ``prod sin(pi x)`` ('anisotropic' and 'rotated').

    Returns
    -------
    P : Problem
        ``P.params`` holds the coefficient or the mask.

    Raises
    ------
    ValueError
        If `kind` is unknown or parameters do not fit it.

    References
    ----------
    Trottenberg, Oosterlee and Schueller (2001), Multigrid, chapters 5 (anisotropy) and 7 (mixed
    derivatives, jumps); Alcouffe, Brandt, Dendy and Painter (1981), The multi-grid method for the
    diffusion equation with strongly discontinuous coefficients.

    Examples
    --------
    >>> import krylearn as kl
    >>> P = kl.problems.diffusion((32, 32), contrast=1e6, seed=5)
    >>> float(P.params["coefficient"].max())
    1000000.0
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
    if not 0 < contrast < np.inf:
        raise ValueError(f"contrast must be positive, not {contrast!r}")
    if not 0 < density < 1:
        raise ValueError(f"density must be between 0 and 1, not {density!r}")
    rng = np.random.default_rng(seed)
    manufactured = isinstance(rhs, str) and rhs == "manufactured"
    if manufactured and kind not in ("anisotropic", "rotated"):
        raise ValueError(f"{kind} has no manufactured solution")
    if kind in ("inclusions", "walls"):
        return _cells(shape, seed, kind, contrast, density, rhs, rng)
    grid = Grid(shape)
    f = np.zeros(grid.shape) if manufactured else source(rhs, grid, rng)
    exact = None
    if kind == "anisotropic":
        weights = [1.0] * (grid.ndim - 1) + [float(contrast)]
        A: Any = GridOperator.diffusion(grid, weights)
        params: dict = {"coefficient": np.array(weights)}
        if manufactured:
            u, _ = sine_product(grid)
            f, exact = np.pi**2 * sum(weights) * u, u.ravel()
    else:
        if grid.ndim != 2:
            raise ValueError("rotated diffusion has two axes")
        K = _rotated(contrast, angle)
        A, params = _nine_points(grid, K), {"coefficient": K}
        if manufactured:
            u, _ = sine_product(grid)
            x, y = grid.points()
            mixed = np.pi**2 * np.cos(np.pi * x) * np.cos(np.pi * y)
            f = np.pi**2 * (K[0, 0] + K[1, 1]) * u - 2 * K[0, 1] * mixed
            exact = u.ravel()
    params["source"] = f
    return Problem(A, f.ravel(), params, grid, exact, name="diffusion", seed=seed)


def _rotated(contrast: float, angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    Q = np.array([[c, -s], [s, c]])
    return Q @ np.diag([float(contrast), 1.0]) @ Q.T


def _nine_points(grid: Grid, K: np.ndarray) -> sp.csr_array:
    """Return ``-div(K grad u)`` for constant K by central differences: positive definite."""
    second, first = [], []
    for n, h in zip(grid.shape, grid.spacing):
        ones = np.ones(n - 1)
        second.append(sp.diags_array([-ones, np.full(n, 2.0), -ones], offsets=[-1, 0, 1]) / h**2)
        first.append(sp.diags_array([-ones, ones], offsets=[-1, 1], shape=(n, n)) / (2 * h))
    eye = [sp.eye_array(n) for n in grid.shape]
    A = K[0, 0] * sp.kron(second[0], eye[1]) + K[1, 1] * sp.kron(eye[0], second[1])
    return sp.csr_array(A - 2 * K[0, 1] * sp.kron(first[0], first[1]))


def _cells(shape, seed, kind, contrast, density, rhs, rng) -> Problem:
    grid = Grid(shape, centering="cell", boundary="neumann" if kind == "walls" else "dirichlet")
    f = source(rhs, grid, rng)
    if kind == "inclusions":
        c = np.ones(grid.shape)
        edge = density ** (1 / grid.ndim)
        for _ in range(max(1, round(0.3 / density))):
            size = [max(1, round(edge * n * rng.uniform(0.5, 1.5))) for n in grid.shape]
            low = [rng.integers(0, max(1, n - s + 1)) for n, s in zip(grid.shape, size)]
            c[tuple(slice(i, i + s) for i, s in zip(low, size))] = contrast
        A = GridOperator.diffusion(grid, c)
        params = {"coefficient": c, "source": f}
        return Problem(A, f.ravel(), params, grid, name="diffusion", seed=seed)
    if min(grid.shape) < 3:
        raise ValueError(f"walls stand between cells: {grid.shape} has no room for them")
    mask = np.ones(grid.shape, bool)
    for _ in range(max(2, round(density * sum(grid.shape)))):
        axis = int(rng.integers(grid.ndim))
        wall = [slice(None)] * grid.ndim
        wall[axis] = slice((at := int(rng.integers(1, grid.shape[axis] - 1))), at + 1)
        for other in set(range(grid.ndim)) - {axis}:
            n = grid.shape[other]
            length = int(rng.integers(max(1, n // 4), max(2, 3 * n // 4)))
            start = int(rng.integers(0, n - length + 1))
            wall[other] = slice(start, start + length)
        mask[tuple(wall)] = False
    A = GridOperator.diffusion(grid, mask=mask)
    b = np.where(mask, f, 0.0).ravel()
    if A.nullspace is not None:
        b -= A.nullspace @ (A.nullspace.T @ b)
    return Problem(A, b, {"mask": mask, "source": f}, grid, name="diffusion", seed=seed)
