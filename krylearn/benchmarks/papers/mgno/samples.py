"""Samples that no shipped model was trained on, made to the recipe that its card names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import krylearn as kl
from krylearn.data.plan import recipes
from krylearn.grid import Grid

# Seeds from here on are in no training set.
HELD_OUT = 50000


def recipe_of(card: dict[str, Any]) -> dict[str, Any]:
    """Return the recipe of the data that a model was trained on, at the size that it took."""
    recipe = recipes()[Path(card["config"]["data"]).stem]
    if [-(-n // recipe["stride"]) for n in recipe["grid"]] == card["grid"]:
        return recipe
    return recipe | {"grid": [recipe["stride"] * (n - 1) + 1 for n in card["grid"]]}


def draw(recipe: dict[str, Any], count: int, first: int = 0, grid: Any = None) -> np.ndarray:
    """Return coefficients on the recipe's fine grid, or another, (count, n, ...)."""
    shape = tuple(recipe["grid"] if grid is None else grid)
    return np.stack([
        kl.problems.darcy(shape, seed=HELD_OUT + first + k, **recipe["options"]).params[
            "coefficient"]
        for k in range(count)
    ])  # fmt: skip


def device() -> str:
    """Return where networks run."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def solve(a: np.ndarray, rtol: float = 1e-8, where: str = "cpu") -> np.ndarray:
    """Return the solutions for a constant source of one, on the grid of the coefficients.

    Raises
    ------
    ArithmeticError
        If one does not converge.
    """
    grid = Grid(a.shape[1:], centering="cell")
    X, infos = kl.solve_batch(a, np.ones(grid.size), grid=grid, rtol=rtol, device=where)
    if not all(info.converged for info in infos):
        raise ArithmeticError(f"a sample was not solved to {rtol:g}")
    return X.reshape(a.shape)


def thinned(fields: np.ndarray, stride: int) -> np.ndarray:
    """Return every stride-th point along each axis, as data sets keep them."""
    points: Any = (slice(None), *(slice(None, None, stride),) * (fields.ndim - 1))
    return np.ascontiguousarray(fields[points])


def pairs(recipe: dict[str, Any], count: int, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return coefficients and solutions, solved on the fine grid and thinned out."""
    fine = draw(recipe, count, first)
    return thinned(fine, recipe["stride"]), thinned(solve(fine), recipe["stride"])
