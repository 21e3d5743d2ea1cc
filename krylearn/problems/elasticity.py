"""Plane strain, by bilinear finite elements."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from krylearn.problems.fields import gaussian_random_field
from krylearn.problems.problem import Problem


def elasticity(shape=(32, 32), *, seed: int = 0, young: float = 1.0, poisson_ratio: float = 0.3,
               roughness: float = 0.0, clamped: str = "left", rhs: str = "random",
               lengths=(1.0, 1.0)) -> Problem:  # fmt: skip
    """Make ``-div sigma(u) = f`` for the displacement u of a plate, in plane strain.

    Parameters
    ----------
    shape : tuple of int
        Elements along 2 axes.
    seed : int
    young : float
        Young's modulus, in units of the load.
    poisson_ratio : float
        Poisson's ratio, below 1/2: towards it the system gets hard.
    roughness : float
        The modulus is multiplied by exp of a Gaussian random field with this deviation.
    clamped : {'left', 'all'}
        Sides where u is zero; the others are free.
    rhs : {'random', 'constant', 'manufactured'}
        Nodal forces: white noise; gravity; or those of the displacement
        ``(sin(pi x) sin(pi y), x (1 - x) y (1 - y))`` in the unit box (clamped on all sides,
        uniform modulus).
    lengths : tuple of float
        Edges of the plate.

    Returns
    -------
    P : Problem
        A is CSR, two unknowns a node: (n, 2) in C order, the held ones left out.
        ``P.nullspace`` has the three rigid motions as columns; ``P.params`` the modulus of each
        element and the (n, 2) coordinates of the nodes.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    References
    ----------
    Hughes (2000), The Finite Element Method, section 2.7 and 3.10.

    Examples
    --------
    >>> import krylearn as kl
    >>> P = kl.problems.elasticity((8, 8))
    >>> P.A.shape, P.nullspace.shape
    ((144, 144), (144, 3))
    """
    if np.shape(shape) != (2,) or min(shape) < 1:
        raise ValueError(f"elasticity has two axes, not the shape {shape!r}")
    if not (0 <= poisson_ratio < 0.5 and young > 0):
        raise ValueError("young must be positive and poisson_ratio in [0, 1/2)")
    if np.shape(lengths) != (2,) or not min(lengths) > 0:
        raise ValueError(f"lengths must be two positive numbers, not {lengths!r}")
    if clamped not in ("left", "all"):
        raise ValueError(f"clamped must be 'left' or 'all', not {clamped!r}")
    rng = np.random.default_rng(seed)
    E = np.full(shape, float(young))
    if roughness:
        field = gaussian_random_field(shape, tau=5.0, seed=rng)
        E *= np.exp(roughness * field / field.std())
    (nx, ny), h = shape, np.array(lengths) / np.array(shape)
    element, mass = _element(poisson_ratio, h)
    node = np.arange((nx + 1) * (ny + 1)).reshape(nx + 1, ny + 1)
    corners = np.stack([node[:-1, :-1], node[1:, :-1], node[1:, 1:], node[:-1, 1:]], axis=-1)
    dofs = (2 * corners[..., None] + np.arange(2)).reshape(-1, 8)
    values = E.reshape(-1, 1, 1) * element
    rows = np.broadcast_to(dofs[:, :, None], values.shape).ravel()
    columns = np.broadcast_to(dofs[:, None, :], values.shape).ravel()
    size = 2 * node.size
    A = sp.coo_array((values.ravel(), (rows, columns)), shape=(size, size)).tocsr()
    x, y = (np.linspace(0, length, n + 1) for length, n in zip(lengths, shape))
    points = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).reshape(-1, 2)
    held = np.zeros((nx + 1, ny + 1), bool)
    held[0] = True
    if clamped == "all":
        held[-1] = held[:, 0] = held[:, -1] = True
    free = np.repeat(~held.ravel(), 2)
    exact: Any = None
    if rhs == "random":
        b = rng.standard_normal(size)
    elif rhs == "constant":
        b = np.tile([0.0, -1.0], node.size) * h.prod()
    elif rhs == "manufactured":
        if clamped != "all" or roughness or tuple(lengths) != (1.0, 1.0):
            raise ValueError("the manufactured displacement is that of a uniform unit plate, "
                             "clamped on all sides")  # fmt: skip
        u, f = _manufactured(points, young, poisson_ratio)
        pair = sp.coo_array(
            (np.broadcast_to(mass, values.shape).ravel(), (rows, columns)), shape=(size, size)
        ).tocsr()
        b, exact = pair @ f.ravel(), u.ravel()[free]
    else:
        raise ValueError(f"rhs must be 'random', 'constant' or 'manufactured', not {rhs!r}")
    middle = points - points.mean(axis=0)
    rigid = np.zeros((size, 3))
    rigid[0::2, 0] = rigid[1::2, 1] = 1.0
    rigid[0::2, 2], rigid[1::2, 2] = -middle[:, 1], middle[:, 0]
    A = sp.csr_array(A[free][:, free])
    A.sort_indices()
    params = {"modulus": E, "points": points[~held.ravel()]}
    return Problem(A, b[free], params, None, exact, rigid[free], name="elasticity", seed=seed)


def _element(nu: float, h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the (8, 8) stiffness of an element of modulus 1, and its mass matrix."""
    D = np.array([[1 - nu, nu, 0], [nu, 1 - nu, 0], [0, 0, (1 - 2 * nu) / 2]])
    D /= (1 + nu) * (1 - 2 * nu)
    signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    K, M = np.zeros((8, 8)), np.zeros((8, 8))
    for s in (-1, 1):
        for t in (-1, 1):
            at = np.array([s, t]) / np.sqrt(3)  # Gauss points, each of weight 1
            factors = 1 + signs * at
            N = factors.prod(axis=1) / 4
            slope = signs * factors[:, ::-1] / 4 * (2 / h)
            B = np.zeros((3, 8))
            B[0, 0::2], B[1, 1::2] = slope[:, 0], slope[:, 1]
            B[2, 0::2], B[2, 1::2] = slope[:, 1], slope[:, 0]
            weight = h.prod() / 4
            K += weight * B.T @ D @ B
            M += weight * np.kron(np.outer(N, N), np.eye(2))
    return K, M


def _manufactured(points: np.ndarray, E: float, nu: float) -> tuple[np.ndarray, np.ndarray]:
    """Return a displacement that vanishes on the sides of the unit box, and its force."""
    x, y = points.T
    lam, mu = E * nu / ((1 + nu) * (1 - 2 * nu)), E / (2 * (1 + nu))
    s, c, pi = np.sin, np.cos, np.pi
    u = np.stack([s(pi * x) * s(pi * y), x * (1 - x) * y * (1 - y)], axis=1)
    laplace = np.stack([-2 * pi**2 * u[:, 0], -2 * y * (1 - y) - 2 * x * (1 - x)], axis=1)
    # Gradient of the divergence u_x + v_y.
    div_x = -(pi**2) * u[:, 0] + (1 - 2 * x) * (1 - 2 * y)
    div_y = pi**2 * c(pi * x) * c(pi * y) - 2 * x * (1 - x)
    return u, -(mu * laplace + (lam + mu) * np.stack([div_x, div_y], axis=1))
