"""Pressure projections of a smoke plume that flows around moving obstacles."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.ndimage import map_coordinates

from krylearn.grid import Grid, GridOperator
from krylearn.problems.problem import Problem


def smoke(shape=(32, 32, 32), *, steps: int = 10, seed: int = 0, obstacles: int = 2,
          open_top: bool = False, dt: float = 0.05) -> Iterator[Problem]:  # fmt: skip
    """Yield the pressure systems of an incompressible flow with buoyant smoke.

    Parameters
    ----------
    shape : tuple of int
        Cells along 2 or 3 axes; the last points up. Velocities live on the faces.
    steps : int
    seed : int
        Draws the obstacles, spheres that move along straight lines and bounce.
    obstacles : int
    open_top : bool
        Whether air outside holds the pressure at the top (Dirichlet); otherwise the box is closed
        and the system singular, its right-hand side without what is in the null space.
    dt : float
        Time step.

    Yields
    ------
    P : Problem
        ``-Laplace(p) = -div(u*)`` in the fluid cells, Neumann at walls and obstacles.
        ``P.params`` holds the mask of fluid cells, the smoke and the pressure before, a starting
        guess. Cells inside obstacles are inactive (rows of the identity, zero in b). The flow is
        advanced with a pressure of relative residual 1e-8, so that the sequence is the same
        whatever solver is tried on it.

    Raises
    ------
    ValueError
        If there are not 2 or 3 axes, or `obstacles` is negative.

    References
    ----------
    Bridson (2015), Fluid Simulation for Computer Graphics, chapters 3 to 6.

    Examples
    --------
    >>> import krylearn as kl
    >>> masks = [P.params["mask"] for P in kl.problems.smoke((12, 12, 12), steps=4, seed=1)]
    >>> bool((masks[0] != masks[3]).any())
    True
    """
    from krylearn.solvers.krylov.cg import cg

    top = ("neumann", "dirichlet" if open_top else "neumann")
    ndim = np.size(shape)
    if ndim not in (2, 3):
        raise ValueError(f"smoke has 2 or 3 axes, not {ndim}")
    if obstacles < 0:
        raise ValueError(f"obstacles must not be negative: {obstacles}")
    longest = max(shape)
    grid = Grid(shape, lengths=[n / longest for n in shape], centering="cell",
                boundary=[*["neumann"] * (ndim - 1), top])  # fmt: skip
    rng = np.random.default_rng(seed)
    flow = _Flow(grid, _Spheres(grid, obstacles, rng), open_top)
    pressure = np.zeros(grid.size)
    for _ in range(steps):
        fluid = flow.advance(dt)
        A = GridOperator.diffusion(grid, mask=fluid)
        b = np.where(fluid, -flow.divergence(), 0.0).ravel()
        if A.nullspace is not None:
            b -= A.nullspace @ (A.nullspace.T @ b)
        previous = np.where(fluid.ravel(), pressure, 0.0)
        params = {"mask": fluid, "smoke": flow.smoke.copy(), "previous": previous}
        yield Problem(A, b, params, grid, name="smoke", seed=seed)
        pressure, _ = cg(A, b, x0=previous, rtol=1e-8)
        flow.project(pressure.reshape(grid.shape), fluid)


class _Spheres:
    """Balls that move along straight lines and bounce off the walls."""

    def __init__(self, grid: Grid, count: int, rng: np.random.Generator) -> None:
        edges = np.array(grid.lengths)
        self.grid, self.edges = grid, edges
        self.radius = rng.uniform(0.08, 0.16, count) * edges.min()
        self.centre = rng.uniform(0.3, 0.7, (count, grid.ndim)) * edges
        self.velocity = rng.uniform(-0.5, 0.5, (count, grid.ndim))

    def advance(self, dt: float) -> None:
        self.centre = self.centre + dt * self.velocity
        out = (self.centre < 0.1 * self.edges) | (self.centre > 0.9 * self.edges)
        self.velocity = np.where(out, -self.velocity, self.velocity)
        self.centre = np.clip(self.centre, 0.1 * self.edges, 0.9 * self.edges)

    def covering(self) -> np.ndarray:
        """Return for each cell the number of the ball that covers it, -1 where none does."""
        owner = np.full(self.grid.shape, -1)
        for k, (centre, radius) in enumerate(zip(self.centre, self.radius)):
            square = sum((p - c) ** 2 for p, c in zip(self.grid.points(), centre))
            owner[square < radius**2] = k
        return owner


class _Flow:
    """Velocities on the faces, smoke in the cells."""

    def __init__(self, grid: Grid, spheres: _Spheres, open_top: bool) -> None:
        self.grid, self.spheres, self.open_top = grid, spheres, open_top
        self.h = grid.spacing[0]
        ndim = grid.ndim
        self.u = [
            np.zeros([n + (d == axis) for d, n in enumerate(grid.shape)]) for axis in range(ndim)
        ]
        self.smoke = np.zeros(grid.shape)
        middle = [p - length / 2 for p, length in zip(grid.points()[:-1], grid.lengths)]
        height = grid.points()[-1]
        away = sum(m**2 for m in middle)
        self.inlet = (away < 0.15**2) & (height < 0.15 * grid.lengths[-1])

    def advance(self, dt: float) -> np.ndarray:
        """Move obstacles, velocities and smoke by a step; return the mask of fluid cells."""
        self.spheres.advance(dt)
        owner = self.spheres.covering()
        carried = [self._carried(self.u[d], d, dt) for d in range(self.grid.ndim)]
        self.smoke = self._carried(self.smoke, None, dt)
        self.smoke[self.inlet] = 1.0
        self.u = carried
        up = self.grid.ndim - 1
        inner = (slice(None),) * up + (slice(1, -1),)
        low, high = self.smoke[..., :-1], self.smoke[..., 1:]
        self.u[up][inner] += dt * 4.0 * (low + high) / 2  # buoyancy
        self._hold(owner)
        return owner < 0

    def _hold(self, owner: np.ndarray) -> None:
        """Give faces at walls the velocity zero, and those of obstacles theirs."""
        up = self.grid.ndim - 1
        for d, u in enumerate(self.u):
            ends = np.moveaxis(u, d, 0)
            ends[0] = 0.0
            if not (self.open_top and d == up):
                ends[-1] = 0.0
            inside = np.moveaxis(owner, d, 0)
            ball = np.maximum(inside[:-1], inside[1:])
            speed = np.append(self.spheres.velocity[:, d], 0.0)  # the last: no ball, number -1
            ends[1:-1] = np.where(ball >= 0, speed[ball], ends[1:-1])

    def _carried(self, values: np.ndarray, face: int | None, dt: float) -> np.ndarray:
        """Return what the flow has carried to each point: semi-Lagrangian, linear."""
        if not any(u.any() for u in self.u):
            return values.copy()  # at rest, where large grids need not wait
        index = np.asarray(np.indices(values.shape), dtype=float)
        position = index + 0.5
        if face is not None:
            position[face] -= 0.5
        back = np.stack([self._sample(self.u[d], d, position) for d in range(self.grid.ndim)])
        return map_coordinates(values, index - dt / self.h * back, order=1, mode="nearest")

    def _sample(self, u: np.ndarray, d: int, position: np.ndarray) -> np.ndarray:
        place = position - 0.5
        place[d] += 0.5
        return map_coordinates(u, place, order=1, mode="nearest")

    def divergence(self) -> np.ndarray:
        return np.asarray(sum(np.diff(u, axis=d) for d, u in enumerate(self.u)) / self.h)

    def project(self, p: np.ndarray, fluid: np.ndarray) -> None:
        """Subtract the pressure's gradient at the faces between fluid cells."""
        for d, u in enumerate(self.u):
            both = np.moveaxis(fluid, d, 0)
            open_ = both[:-1] & both[1:]
            faces = np.moveaxis(u, d, 0)
            faces[1:-1] -= np.where(open_, np.diff(np.moveaxis(p, d, 0), axis=0) / self.h, 0.0)
            if self.open_top and d == self.grid.ndim - 1:
                last = np.moveaxis(p, d, 0)[-1]
                faces[-1] -= np.where(both[-1], -2 * last / self.h, 0.0)
