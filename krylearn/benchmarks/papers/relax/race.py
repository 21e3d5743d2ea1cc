"""Policies side by side on one sequence, and what came of it."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from krylearn.learned.relaxation import (
    BinnedTsallisINF,
    ChebCB,
    ExploreThenCommit,
    Policy,
    TsallisINF,
    Young,
    YoungCB,
)
from krylearn.learned.relaxation.policy import OMEGAS

Solver = Callable[[float], int]


def policies(interval: tuple[float, float], young: Young, seeds: Iterable[int],
             ) -> dict[str, list[Policy]]:  # fmt: skip
    """Return the entrants of a race by name, those that draw at random once a seed."""
    seeds = list(seeds)
    return {
        "explore, then commit": [ExploreThenCommit()],
        "Tsallis-INF": [TsallisINF(seed=s) for s in seeds],
        "Tsallis-INF, reduced variance": [
            TsallisINF(seed=s, estimator="reduced_variance") for s in seeds
        ],
        "Tsallis-INF, 6 bins": [BinnedTsallisINF(6, seed=s, interval=interval) for s in seeds],
        "ChebCB": [ChebCB(seed=s, interval=interval) for s in seeds],
        "ChebCB, interval unknown": [ChebCB(seed=s) for s in seeds],
        "Young": [young],
        "Young and bandit": [YoungCB(young)],
    }


def race(systems: Iterable[tuple[float, Solver]], entrants: dict[str, list[Policy]],
         ) -> list[dict[str, Any]]:  # fmt: skip
    """Let policies choose omega along a sequence, each ignorant of the others.

    Parameters
    ----------
    systems : iterable of (context, solver)
        ``solver(omega)`` returns iterations. It is called with each omega once.
    entrants : dict
        Policies by name, some seeds of each.

    Returns
    -------
    list of dict
        A row a policy, between those of fixed omegas and of the best omega of each system:
        iterations, the least and the most of a seed, ratios to the best fixed omega and to the
        instance-optimal one, microseconds a decision, and the two regrets along the sequence.
    """
    grid = []
    counts: dict[str, list] = {name: [] for name in entrants}
    learning: dict[str, list] = {name: [] for name in entrants}
    for context, solver in systems:
        solve = functools.cache(solver)
        grid.append([solve(float(omega)) for omega in OMEGAS])
        for name, same in entrants.items():
            row, spent = [], []
            for policy in same:
                started = time.perf_counter()
                omega = policy.choose(context)
                chosen = time.perf_counter()
                iterations = solve(omega)
                told = time.perf_counter()
                policy.observe(iterations)
                spent.append(time.perf_counter() - told + chosen - started)
                row.append(iterations)
            counts[name].append(row)
            learning[name].append(spent)
    return _rows(np.array(grid, float), counts, learning)


def _rows(grid: np.ndarray, counts: dict[str, list], learning: dict[str, list],
          ) -> list[dict[str, Any]]:  # fmt: skip
    best = int(grid.sum(axis=0).argmin())
    fixed, optimal = grid[:, [best]], grid.min(axis=1, keepdims=True)
    marks = np.unique(np.linspace(0, len(grid) - 1, 60).astype(int))

    def row(name: str, iterations: Any, spent: Any = None) -> dict[str, Any]:
        iterations = np.array(iterations, float)
        totals = iterations.sum(axis=0)
        regrets = (np.cumsum(iterations - against, axis=0).mean(axis=1)[marks]
                   for against in (fixed, optimal))  # fmt: skip
        return {
            "policy": name,
            "iterations": float(totals.mean()),
            "spread": [float(totals.min()), float(totals.max())],
            "to_best_fixed": float(totals.mean() / fixed.sum()),
            "to_optimal": float(totals.mean() / optimal.sum()),
            "decision_us": None if spent is None else float(np.median(spent) * 1e6),
            "steps": (marks + 1).tolist(),
            **{key: [round(float(v), 1) for v in regret]
               for key, regret in zip(("regret_fixed", "regret_optimal"), regrets)},
        }  # fmt: skip

    middle = int(np.abs(OMEGAS - 1.5).argmin())
    return [
        row("omega = 1", grid[:, [0]]),
        row("omega = 1.5", grid[:, [middle]]),
        {**row("best fixed omega", fixed), "omega": float(OMEGAS[best])},
        *(row(name, counts[name], learning[name]) for name in counts),
        row("instance-optimal", optimal),
    ]


def averaged(tables: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the mean over trials of each policy's row."""
    rows = []
    for same in zip(*tables):
        row = dict(same[0])
        for key in ("iterations", "to_best_fixed", "to_optimal"):
            row[key] = float(np.mean([one[key] for one in same]))
        if row["decision_us"] is not None:
            row["decision_us"] = float(np.median([one["decision_us"] for one in same]))
        row["spread"] = [
            min(one["spread"][0] for one in same), max(one["spread"][1] for one in same)
        ]  # fmt: skip
        for key in ("regret_fixed", "regret_optimal"):
            row[key] = np.mean([one[key] for one in same], axis=0).round(1).tolist()
        rows.append(row)
    return rows
