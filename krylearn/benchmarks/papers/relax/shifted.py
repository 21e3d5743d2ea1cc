"""Experiment (a): SOR on shifted Laplacians, section 2.3 of the paper."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from krylearn.benchmarks.papers.relax.race import Solver, averaged, policies, race
from krylearn.kernels.bandits import sor_counts
from krylearn.learned.relaxation import Young
from krylearn.learned.relaxation.policy import OMEGAS

RTOL, MOST = 1e-8, 10000
LAWS = {"Beta(2, 6)": (2.0, 6.0), "Beta(0.5, 1.5)": (0.5, 1.5)}
INTERVAL = (-0.15, 0.45)


def systems(steps: int, law: tuple[float, float], seed: int, size: int = 10,
            ) -> Iterator[tuple[float, Solver]]:  # fmt: skip
    """Yield ``(c, solver)`` for SOR on ``L + c I``, L the 5-point matrix with 4 on its diagonal."""
    rng = np.random.default_rng(seed)
    work = np.empty((size + 2, size + 2, OMEGAS.size))
    for _ in range(steps):
        c = INTERVAL[0] + (INTERVAL[1] - INTERVAL[0]) * rng.beta(*law)
        b = rng.standard_normal((size, size))
        b /= np.linalg.norm(b)
        counts = np.empty(OMEGAS.size, np.int64)
        sor_counts(b, c, OMEGAS, RTOL, MOST, work, counts)
        known = dict(zip(OMEGAS.tolist(), counts.tolist()))

        def solver(omega, c=c, b=b, known=known):
            if omega not in known:
                count = np.empty(1, np.int64)
                room = np.empty((size + 2, size + 2, 1))
                sor_counts(b, c, np.array([omega]), RTOL, MOST, room, count)
                known[omega] = int(count[0])
            return known[omega]

        yield c, solver


def run(law: str, trials: int, steps: int, say: Callable[[str], Any]) -> dict[str, Any]:
    """Return the mean rows of some trials."""
    young = Young(radius=float(np.cos(np.pi / 11)), diagonal=4.0)
    tables = []
    for trial in range(trials):
        tables.append(race(systems(steps, LAWS[law], trial), policies(INTERVAL, young, [trial])))
        say(f"{law}: trial {trial + 1} of {trials}")
    return {"trials": trials, "steps": steps, "rows": averaged(tables)}
