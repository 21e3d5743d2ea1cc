"""The bound of memory: what each kernel must move, and how fast it moves it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from krylearn import registry
from krylearn.benchmarks.systems import stencil
from krylearn.kernels import csr, diagonals, vector
from krylearn.operators import unsigned_indices

# Name, bytes to move, multiplications and additions, the call.
Test = tuple[str, int, int, Callable[[], Any]]
_WORD = 8


def measure_kernels(side: int = 128, runs: int = 7) -> list[dict[str, Any]]:
    """Time the kernels on vectors and the 7-point matrix of a cube.

    Bytes are the least that must cross the memory bus, as STREAM counts them: each array read
    once and written once, vectors of a product from cache when read again. Flops are
    multiplications, additions and divisions of the textbook's operation: two for an entry of the
    matrix, stored or not.

    Parameters
    ----------
    side : int
        Points along an edge; float64.
    runs : int
        The fastest counts.

    Returns
    -------
    list of dict
        With kernel, bytes, flops, seconds and bytes_per_second.
    """
    A = stencil([side] * 3)
    rng = np.random.default_rng(0)
    p, q, x, r = (rng.standard_normal(A.shape[0]) for _ in range(4))
    # A cache as large as some servers' would else hold the arrays from one run to the next.
    others = np.zeros(2**25 if side >= 32 else 0)
    rows = []
    for make in (_vector_tests, _product_tests, _grid_tests, _sweep_tests):
        for name, moved, flops, call in make(A, p, q, x, r):
            call()
            best = min(_timed(call, others) for _ in range(runs))
            rows.append({"kernel": name, "bytes": moved, "flops": flops, "seconds": best,
                         "bytes_per_second": moved / best})  # fmt: skip
    return rows


def _vector_tests(A: Any, p: Any, q: Any, x: Any, r: Any) -> list[Test]:
    n = A.shape[0]
    moved = n * _WORD
    V = np.random.default_rng(1).standard_normal((8, A.shape[0])) / np.sqrt(n)
    return [
        ("dot", 2 * moved, 2 * n, lambda: vector.dot(p, q)),
        ("norm", moved, 2 * n, lambda: vector.norm(p)),
        ("axpy", 3 * moved, 2 * n, lambda: vector.axpy(1e-9, p, x)),
        ("axpby", 3 * moved, 3 * n, lambda: vector.axpby(1.0, p, 0.5, x)),
        ("axpbypcz", 4 * moved, 5 * n, lambda: vector.axpbypcz(1e-9, p, 1e-9, q, 1.0, x)),
        ("step of cg", 6 * moved, 6 * n, lambda: vector.step(1e-9, p, q, x, r)),
        ("subtract", 3 * moved, n, lambda: vector.subtract(p, q, r)),
        ("dots, 8 vectors", 9 * moved, 16 * n, lambda: vector.dots(V, 8, q)),
        ("combine, 8 vectors", 10 * moved, 16 * n,
         lambda: vector.combine(V, np.full(8, 1e-9), x)),
    ]


def _product_tests(A: Any, p: Any, q: Any, x: Any, r: Any) -> list[Test]:
    arrays = (*unsigned_indices(A), A.data)
    moved = sum(array.nbytes for array in arrays) + 2 * p.nbytes
    flops, dot = 2 * A.nnz, 2 * p.size
    tests: list[Test] = [
        ("csr apply", moved, flops, lambda: csr.apply(*arrays, p, q)),
        ("csr apply_dot", moved, flops + dot, lambda: csr.apply_dot(*arrays, p, q)),
    ]
    banded = diagonals.from_csr(*arrays, A.shape)
    if banded is not None:
        offsets, values = banded
        moved = values.nbytes + 2 * p.nbytes
        tests += [
            ("diagonals apply", moved, flops,
             lambda: diagonals.apply(offsets, values, p, q)),
            ("diagonals apply_dot", moved, flops + dot,
             lambda: diagonals.apply_dot(offsets, values, p, q)),
        ]
    return tests


def _grid_tests(A: Any, p: Any, q: Any, x: Any, r: Any) -> list[Test]:
    side = round(A.shape[0] ** (1 / 3))
    G = registry.find("problem", "poisson").load()(shape=(side,) * 3, seed=0).A
    moved, flops = 2 * p.nbytes, 2 * A.nnz
    return [
        ("grid apply", moved, flops, lambda: G.apply(p, q)),
        ("grid apply_dot", moved, flops + 2 * p.size, lambda: G.apply_dot(p, q)),
    ]


def _sweep_tests(A: Any, p: Any, q: Any, x: Any, r: Any) -> list[Test]:
    """Return preconditioners, which read half of the matrix on the way there, half on the way back.

    The right-hand side and the diagonal are read once; the result is written on each way.
    """
    off = A.nnz - A.shape[0]
    half = off // 2 * (_WORD + unsigned_indices(A)[1].itemsize)
    tests: list[Test] = []
    for name, ways in (("gauss_seidel", 1), ("ssor", 2), ("ic0", 2), ("ilu0", 2)):
        moved = ways * half + (3 if ways == 1 else 5) * p.nbytes
        flops = ways * (off + p.size)  # half of the matrix twice, and the diagonal, on each way
        for order in ("natural", "multicolour"):
            M = registry.preconditioner(name, A, order=order)
            tests.append((f"{name}, {order}", moved, flops, _apply(M, p, q)))
    return tests


def _apply(M: Any, p: np.ndarray, q: np.ndarray) -> Callable[[], Any]:
    return lambda: M.apply(p, q)


def _timed(call: Callable[[], Any], others: np.ndarray) -> float:
    others += 1.0  # turns the caches over
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
