"""Tiny systems that make Numba compile every registered method and preconditioner."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from krylearn import registry
from krylearn.benchmarks.systems import stencil

Task = tuple[str, Callable[[], Any]]


def tasks() -> list[Task]:
    """Return a name and a call for each method and preconditioner, in float64 and float32."""
    found: list[Task] = []
    for dtype in (np.float64, np.float32):
        tiny = stencil([12, 12]).astype(dtype)
        for entry in registry.entries("method"):
            found.append((f"{entry.name} {np.dtype(dtype)}", _solve(entry.name, tiny)))
        for entry in registry.entries("preconditioner"):
            found.append((f"M={entry.name} {np.dtype(dtype)}", _precondition(entry.name, tiny)))
        # Banded matrices of this size are multiplied by diagonals.
        found.append((f"cg, banded {np.dtype(dtype)}", _solve("cg", stencil([300, 300]), dtype)))
    found.append(("cg, matrix-free 2-D", _grid((12, 12))))
    found.append(("cg, matrix-free 3-D", _grid((12, 12, 12))))
    # From 4096 unknowns on multigrid works in single precision.
    found.append(("cg, M=multigrid on a grid", _cycle("poisson")))
    found.append(("cg, M=multigrid on jumps in space", _cycle("diffusion")))
    return found


def _call(name: str, A: Any, dtype: Any = None, **options: Any) -> None:
    b = np.ones(A.shape[0], dtype or A.dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        registry.find("method", name).load()(A, b, rtol=1e-3, maxiter=10, **options)


def _solve(name: str, A: Any, dtype: Any = None) -> Callable[[], Any]:
    return lambda: _call(name, A if dtype is None else A.astype(dtype))


def _precondition(name: str, A: Any) -> Callable[[], Any]:
    return lambda: _call("fgmres", A, M=registry.preconditioner(name, A))


def _grid(shape: tuple[int, ...]) -> Callable[[], Any]:
    def run() -> None:
        family: Any = registry.find("problem", "poisson").load()
        _call("cg", family(shape=shape, seed=0).A)

    return run


def _cycle(family: str) -> Callable[[], Any]:
    def run() -> None:
        problem: Any = registry.find("problem", family).load()
        A = problem(shape=(18, 18, 18), seed=0).A
        _call("cg", A, M=registry.preconditioner("multigrid", A))

    return run
