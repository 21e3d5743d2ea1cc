"""Heat conduction in time: a sequence of systems whose conditioning comes and goes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.fft

from krylearn.grid import Grid, GridOperator
from krylearn.problems.problem import Problem


def heat(shape=(100, 100), *, steps: int = 100, dt: float = 1e-3, seed: int = 0,
         manufactured: bool = False) -> Iterator[Problem]:  # fmt: skip
    """Yield the systems of a Crank-Nicolson integration of ``u_t = kappa(t) Laplace(u) + f``.

    Parameters
    ----------
    shape : tuple of int
        Nodes along 2 axes of the unit box, u zero at its sides.
    steps : int
    dt : float
    seed : int
        Draws the starting phase of the heated spot.
    manufactured : bool
        Without the spot: f makes ``cos(2 pi t) prod sin(pi x)`` the solution.

    Yields
    ------
    P : Problem
        ``(I + dt/2 kappa L) u_new = (I - dt/2 kappa_old L) u_old + dt f``, L being minus the
        Laplacian; kappa(t) = max(sin(2 pi t) / 10, -10 sin(2 pi t)); f is a spot of radius 1/8
        that circles. ``P.params`` holds the time, kappa and the old u, a good starting guess;
        ``P.exact`` the solution of the system itself (by a sine transform, so that the sequence
        is the same whatever solver is tried on it).

    Raises
    ------
    ValueError
        If there are not 2 axes, or a step is not positive.

    References
    ----------
    Khodak et al. (2024), Learning to relax, section 5.2.

    Examples
    --------
    >>> import krylearn as kl
    >>> for P in kl.problems.heat((20, 20), steps=3):
    ...     x, info = kl.cg(P.A, P.b, x0=P.params["previous"], rtol=1e-8)
    >>> bool(abs(x - P.exact).max() < 1e-7 * abs(x).max())
    True
    """
    grid = Grid(shape)
    if grid.ndim != 2:
        raise ValueError(f"heat has two axes, not {grid.ndim}")
    if not dt > 0:
        raise ValueError(f"dt must be positive, not {dt!r}")
    L = GridOperator.diffusion(grid)
    identity = GridOperator(grid, 1.0, (0.0, 0.0))
    frequencies = [
        (2 - 2 * np.cos(np.pi * np.arange(1, n + 1) / (n + 1))) / h**2
        for n, h in zip(grid.shape, grid.spacing)
    ]
    eigenvalues = frequencies[0][:, None] + frequencies[1][None, :]
    x, y = grid.points()
    mode = np.sin(np.pi * x) * np.sin(np.pi * y)
    phase = np.random.default_rng(seed).uniform(0, 2 * np.pi)

    def force(t: float) -> np.ndarray:
        if manufactured:
            rate = -2 * np.pi * np.sin(2 * np.pi * t)
            return (rate + 2 * np.pi**2 * kappa(t) * np.cos(2 * np.pi * t)) * mode
        around = 2 * np.pi * t + phase
        near = np.hypot(x - 0.5 - 0.25 * np.cos(around), y - 0.5 - 0.25 * np.sin(around)) < 1 / 8
        return 10.0 * near

    u = mode.copy() if manufactured else np.zeros(grid.shape)
    for step in range(steps):
        old, new = step * dt, (step + 1) * dt
        A = identity + (dt / 2 * kappa(new)) * L
        b = u - dt / 2 * kappa(old) * (L @ u.ravel()).reshape(grid.shape)
        b += dt / 2 * (force(old) + force(new))
        previous = u.ravel()
        waves = scipy.fft.dstn(b, type=1, norm="ortho") / (1 + dt / 2 * kappa(new) * eigenvalues)
        u = scipy.fft.idstn(waves, type=1, norm="ortho")
        params = {"time": new, "kappa": kappa(new), "previous": previous}
        yield Problem(A, b.ravel(), params, grid, u.ravel(), name="heat", seed=seed)


def kappa(t: float) -> float:
    """Return the conductivity at time t.

    Examples
    --------
    >>> from krylearn.problems.heat import kappa
    >>> round(kappa(0.25), 12), round(kappa(0.75), 12)
    (0.1, 10.0)
    """
    return float(max(0.1 * np.sin(2 * np.pi * t), -10 * np.sin(2 * np.pi * t)))
