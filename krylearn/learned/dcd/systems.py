"""Training systems: pressure projections past random obstacles, and their Ritz vectors.

The Lanczos process works on tensors, so that it runs where the network does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.ndimage import label
from torch import Tensor

from krylearn.grid import Grid, GridOperator

__all__ = ["lanczos", "obstacles", "pressure_operator", "ritz_basis"]


def obstacles(shape: Sequence[int], seed: Any, most: int = 5) -> np.ndarray:
    """Draw a mask of fluid cells: balls, boxes and plates at random places are solid."""
    rng = np.random.default_rng(seed)
    edge = min(shape)
    points = np.meshgrid(*[np.arange(n) + 0.5 for n in shape], indexing="ij", sparse=True)
    fluid = np.ones(shape, bool)
    for kind in rng.integers(0, 3, rng.integers(0, most + 1)):
        centre = rng.uniform(0.1, 0.9, len(shape)) * np.array(shape)
        away = [p - c for p, c in zip(points, centre)]
        half = rng.uniform(0.05, 0.18, len(shape)) * edge
        if kind == 0:
            solid = sum(d**2 for d in away) < half[0] ** 2
        else:
            if kind == 2:  # a plate, one to three cells thick
                half[rng.integers(len(shape))] = rng.uniform(0.5, 1.5)
            solid = np.ones(shape, bool)
            for d, h in zip(away, half):
                solid = solid & (np.abs(d) < h)
        fluid &= ~solid
    # One region: a closed box has then one constant in its null space.
    regions, count = label(fluid)
    if count > 1:
        fluid = regions == np.argmax(np.bincount(regions.ravel())[1:]) + 1
    return fluid


def pressure_operator(fluid: np.ndarray, open_top: bool = True) -> GridOperator:
    """Return the pressure matrix of a box whose top is open, or a wall as the others are."""
    top = ("neumann", "dirichlet" if open_top else "neumann")
    grid = Grid(fluid.shape, lengths=[float(n) for n in fluid.shape], centering="cell",
                boundary=[*["neumann"] * (fluid.ndim - 1), top])  # fmt: skip
    return GridOperator.diffusion(grid, mask=fluid)


def lanczos(apply: Any, start: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Run the Lanczos process with full reorthogonalisation, twice at each step.

    Parameters
    ----------
    apply : callable
        The product of the matrix with an (n,) tensor.
    start : (n,) tensor
    count : int

    Returns
    -------
    V : (m, n) tensor
        Orthonormal Lanczos vectors; fewer than `count` where the Krylov space ends.
    alpha, beta : (m,) and (m - 1,) tensors of float64, on the host
        The tridiagonal matrix ``V A V'``.

    References
    ----------
    Saad (2011), Numerical Methods for Large Eigenvalue Problems, section 6.6.
    """
    V = start.new_zeros(count, len(start))
    alpha, beta = (torch.zeros(count, dtype=torch.float64, device=start.device) for _ in range(2))
    v = start / start.norm()
    for k in range(count):
        V[k] = v
        w = apply(v)
        alpha[k] = torch.dot(w.double(), v.double())
        for _ in range(2):
            w = w - V[: k + 1].T @ (V[: k + 1] @ w)
        beta[k] = w.norm()
        v = w / beta[k].clamp_min(1e-30)
    # The host looks once: at the first step after which nothing was left.
    alpha, beta = alpha.cpu(), beta.cpu()
    ends = torch.nonzero(beta <= 1e-5 * alpha.abs().max())
    m = int(ends[0]) + 1 if len(ends) else count
    return V[:m], alpha[:m], beta[: m - 1]


def ritz_basis(alpha: Tensor, beta: Tensor, boost: float = 9.0,
               share: float = 0.55) -> Tensor:  # fmt: skip
    """Return what turns normally distributed numbers into coefficients of Lanczos vectors.

    Parameters
    ----------
    alpha, beta : tensors
        The tridiagonal matrix.
    boost, share : float
        Ritz vectors of the lowest `share` of the spectrum count `boost` times.

    Returns
    -------
    Y : (m, m) float32 tensor
        A row z of normal numbers gives ``z @ Y @ V``, a random combination of Ritz vectors; those
        of Ritz values below 1e-8 of the largest are left out.

    References
    ----------
    Kaneda et al. (2023), section 5.
    """
    T = torch.diag(alpha) + torch.diag(beta, 1) + torch.diag(beta, -1)
    values, vectors = torch.linalg.eigh(T)
    m = len(values)
    factors = torch.ones_like(values)
    factors[: round(share * m)] = boost
    factors[values < 1e-8 * values[-1]] = 0.0
    return (vectors * factors).T.float()
