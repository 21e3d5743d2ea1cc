"""The bound of memory: what each kernel must move, and how fast it moves it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from krylearn.benchmarks.cases import stencil
from krylearn.kernels import csr, diagonals, vector
from krylearn.operators import unsigned_indices


def measure_kernels(side: int = 128, runs: int = 7) -> list[dict[str, Any]]:
    """Time the kernels on vectors and the 7-point matrix of a cube.

    Bytes are the least that must cross the memory bus, as STREAM counts them: each array read
    once and written once, vectors of a product from cache when read again.

    Parameters
    ----------
    side : int
        Points along an edge; float64.
    runs : int
        The fastest counts.

    Returns
    -------
    list of dict
        With kernel, bytes, seconds and bytes_per_second.
    """
    A = stencil([side] * 3)
    n, word = A.shape[0], 8
    rng = np.random.default_rng(0)
    p, q, x, r = (rng.standard_normal(n) for _ in range(4))
    arrays = (*unsigned_indices(A), A.data)
    matrix = A.nnz * (word + arrays[1].itemsize) + (n + 1) * arrays[0].itemsize
    tests: list[tuple[str, int, Callable[[], Any]]] = [
        ("dot", 2 * n * word, lambda: vector.dot(p, q)),
        ("norm", n * word, lambda: vector.norm(p)),
        ("axpy", 3 * n * word, lambda: vector.axpy(1e-9, p, x)),
        ("axpby", 3 * n * word, lambda: vector.axpby(1.0, p, 0.5, x)),
        ("step", 6 * n * word, lambda: vector.step(1e-9, p, q, x, r)),
        ("subtract", 3 * n * word, lambda: vector.subtract(p, q, r)),
        ("csr apply", matrix + 2 * n * word, lambda: csr.apply(*arrays, p, q)),
        ("csr apply_dot", matrix + 2 * n * word, lambda: csr.apply_dot(*arrays, p, q)),
    ]
    banded = diagonals.from_csr(*arrays, A.shape)
    if banded is not None:
        moved = banded[1].nbytes + 2 * n * word
        tests += [
            ("diagonals apply", moved, lambda: diagonals.apply(*banded, p, q)),
            ("diagonals apply_dot", moved, lambda: diagonals.apply_dot(*banded, p, q)),
        ]
    tests += _grid_tests(side, p, q)
    rows = []
    for name, moved, call in tests:
        call()
        best = min(_timed(call) for _ in range(runs))
        rows.append({"kernel": name, "bytes": moved, "seconds": best,
                     "bytes_per_second": moved / best})  # fmt: skip
    return rows


def _grid_tests(side: int, p: np.ndarray, q: np.ndarray) -> list[tuple[str, int, Callable]]:
    """Return the matrix-free stencil's tests, or none where the grid operator is not there."""
    try:
        from krylearn import problems

        G: Any = problems.poisson(shape=(side,) * 3, seed=0).A
    except (ImportError, AttributeError):
        return []
    if not hasattr(G, "apply_dot"):
        return []
    moved = 2 * p.nbytes
    return [
        ("grid apply", moved, lambda: G.apply(p, q)),
        ("grid apply_dot", moved, lambda: G.apply_dot(p, q)),
    ]


def _timed(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
