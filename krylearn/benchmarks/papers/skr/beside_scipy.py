"""`gcrodr` beside scipy's `gcrotmk`: the same systems, tolerance and M."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator, gcrotmk

import krylearn as kl
from krylearn import registry
from krylearn.benchmarks.papers.skr.cases import KEPT, Family
from krylearn.benchmarks.papers.skr.race import MOST, RESTART

CASES = (
    ("darcy, published", None), ("darcy, published", "ilu0"), ("darcy", None), ("darcy", "ilu0"),
    ("helmholtz", "ilu0"), ("convection", None), ("convection", "jacobi"), ("convection", "ilu0"),
    ("damped waves in 3-D", None), ("damped waves in 3-D", "ilu0"),
)  # fmt: skip
# Rounds in which the two take turns; applications of M that are timed.
ROUNDS, APPLIES = 5, 50


def run(known: dict[str, Family], count: int, say: Callable[[str], None]) -> list[dict]:
    """Return rows of both with the median seconds a solve, of which M takes ``seconds_in_M``.

    The first system, which has nothing to recycle, is left out of all figures. What M takes is
    the number of its applications times the seconds of one that is called by itself.
    """
    rows = []
    for name, M in CASES:
        family = known[name]
        rtol = family.tolerances[-1]
        systems = [(P.A.tocsr(), P.b) for P in family.make(count)]
        held = [registry.preconditioner(M, A) if M else None for A, _ in systems]
        each = median(_seconds_of(M, b) for (_, b), M in zip(systems, held))
        kl.gcrodr(*systems[0], rtol=rtol, M=held[0], maxiter=45)  # compiled before the clock runs
        theirs = _scipys(systems, held, rtol, counted=True)
        runs: dict[str, list[dict]] = {"gcrodr": [], "scipy gcrotmk": []}
        for _ in range(ROUNDS):  # in turns, so that both see the same machine
            runs["gcrodr"].append(_ours(systems, held, rtol))
            runs["scipy gcrotmk"].append(_scipys(systems, held, rtol))
        for label, found in runs.items():
            counts = found[0] if label == "gcrodr" else theirs
            rows.append({
                "family": name, "rtol": rtol, "M": M or "none", "entrant": label,
                "n": len(systems[0][1]), **found[0],
                "matvecs": counts["matvecs"], "applies": counts["applies"],
                "seconds": median(run["seconds"] for run in found),
                "rounds": [run["seconds"] for run in found],
                "seconds_in_M": each * counts["applies"],
            })  # fmt: skip
        say(f"scipy: {name}, {M or 'none'}")
    return rows


def _seconds_of(M: Any, b: np.ndarray) -> float:
    if M is None:
        return 0.0
    seconds = []
    for _ in range(APPLIES):
        started = time.perf_counter()
        M.matvec(b)
        seconds.append(time.perf_counter() - started)
    return median(seconds)


def _ours(systems: list, held: list, rtol: float) -> dict[str, Any]:
    space = kl.RecycleSpace()

    def solve(A: Any, b: Any, M: Any) -> tuple[np.ndarray, int, int]:
        x, info = kl.gcrodr(A, b, rtol=rtol, restart=RESTART, k=KEPT, M=M, recycle=space)
        return x, info.matvecs, info.precond_applies

    return _timed(solve, systems, held, rtol)


def _scipys(systems: list, held: list, rtol: float, counted: bool = False) -> dict[str, Any]:
    """Solve all; `counted` also tells products and applications, for which scipy is slower."""
    kept: list = []

    def solve(A: Any, b: Any, M: Any) -> tuple[np.ndarray, int, int]:
        products, applies = [0], [0]
        if counted:
            A, M = _counting(A, products), None if M is None else _counting(M, applies)
        options = dict(rtol=rtol, m=20, k=KEPT, discard_C=True, maxiter=MOST // 20, M=M)
        try:
            x = gcrotmk(A, b, CU=kept, **options)[0]
        except ValueError:  # a vector of zeros among those kept makes NaN of the rest
            kept.clear()
            x = gcrotmk(A, b, **options)[0]
        return x, products[0], applies[0]

    return _timed(solve, systems, held, rtol)


def _counting(A: Any, calls: list[int]) -> LinearOperator:
    def matvec(x: np.ndarray) -> np.ndarray:
        calls[0] += 1
        return A @ x

    return LinearOperator(A.shape, matvec=matvec, dtype=A.dtype)


def _timed(solve: Callable, systems: list, held: list, rtol: float) -> dict[str, Any]:
    seconds, products, applies, converged = [], [], [], 0
    for (A, b), M in zip(systems, held):
        started = time.perf_counter()
        x, matvecs, times = solve(A, b, M)
        seconds.append(time.perf_counter() - started)
        products.append(matvecs)
        applies.append(times)
        converged += bool(np.linalg.norm(b - A @ x) <= 1.001 * rtol * np.linalg.norm(b))
    return {
        "systems": len(systems), "converged": converged, "seconds": median(seconds[1:]),
        "matvecs": float(np.mean(products[1:])), "applies": float(np.mean(applies[1:])),
    }  # fmt: skip
