"""Experiment (a): SOR on shifted Laplacians, section 2.3 of the paper."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from krylearn.benchmarks.papers.relax.race import Counter, Race, averaged, lanes, marks, policies
from krylearn.kernels.counting import sor_counts
from krylearn.learned.relaxation import Young

RTOL, MOST = 1e-8, 10000
LAWS = {"Beta(2, 6)": (2.0, 6.0), "Beta(0.5, 1.5)": (0.5, 1.5)}
INTERVAL = (-0.15, 0.45)


def systems(steps: int, law: tuple[float, float], seed: int, size: int = 10,
            ) -> Iterator[tuple[float, Counter]]:  # fmt: skip
    """Yield ``(c, counter)`` for SOR on ``L + c I``, L the 5-point matrix, 4 on its diagonal."""
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        c = INTERVAL[0] + (INTERVAL[1] - INTERVAL[0]) * rng.beta(*law)
        b = rng.standard_normal((size, size))
        b /= np.linalg.norm(b)
        yield c, partial(_count, b, 4 + c)


def _count(b: np.ndarray, diagonal: float, omegas: np.ndarray) -> np.ndarray:
    return lanes(sor_counts, omegas, b, diagonal, RTOL, most=MOST)


def young() -> Young:
    """Return Young's formula, exact for these systems."""
    return Young(radius=float(np.cos(np.pi / 11)), diagonal=4.0)


def trial(law: str, steps: int, seed: int) -> list[dict[str, Any]]:
    """Return the rows of one trial."""
    race = Race(policies(INTERVAL, young(), [seed]))
    for c, counter in systems(steps, LAWS[law], seed):
        race.run(c, counter)
    return race.rows()


def run(law: str, trials: int, steps: int, say: Callable[[str], Any]) -> dict[str, Any]:
    """Return the mean rows of some trials, each in a process of its own."""
    workers = min(trials, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    tables = []
    if workers == 1:
        tables = [trial(law, steps, seed) for seed in range(trials)]
    else:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=spawn) as pool:
            for rows in pool.map(partial(trial, law, steps), range(trials)):
                tables.append(rows)
                say(f"{law}: trial {len(tables)} of {trials}")
    return {"trials": trials, "steps": steps, "marks": marks(steps), "rows": averaged(tables)}
