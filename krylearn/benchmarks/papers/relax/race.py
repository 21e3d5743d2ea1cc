"""Policies side by side on one sequence, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from krylearn.kernels.counting import LANES
from krylearn.kernels.parallel import parallel_for
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

# Returns the iterations of a system with each of some omegas.
Counter = Callable[[np.ndarray], np.ndarray]
# Where the regret along a sequence is kept.
MARKS = 60


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


def lanes(kernel: Callable, omegas: np.ndarray, *args: Any, most: int) -> np.ndarray:
    """Return what a kernel of `counting` counts for any number of omegas, by all threads."""
    groups = -(-len(omegas) // LANES)
    filled = np.resize(omegas, (groups, LANES))
    # What fills the last group up stands beside its like, and takes no longer.
    filled.ravel()[len(omegas) :] = omegas[-1]
    counts = np.empty(filled.shape, np.int64)
    b = args[0]
    parallel_for(kernel, groups, 1 if b.size > 1000 else groups, *args[:-1], filled, args[-1],
                 most, counts)  # fmt: skip
    return counts.ravel()[: len(omegas)]


class Race:
    """Policies that choose omega along a sequence, each ignorant of the others.

    Parameters
    ----------
    entrants : dict
        Policies by name, some seeds of each.
    omegas : (d,) array
        The fixed ones to compare with.
    """

    def __init__(self, entrants: dict[str, list[Policy]], omegas: np.ndarray = OMEGAS) -> None:
        self.entrants, self.omegas = entrants, omegas
        self._grid: list[np.ndarray] = []
        self._counts: dict[str, list] = {name: [] for name in entrants}

    @property
    def rounds(self) -> int:
        return len(self._grid)

    def run(self, context: Any, counter: Counter) -> None:
        """Let all choose for one system; it is solved with each omega once."""
        chosen = {name: [policy.choose(context) for policy in same]
                  for name, same in self.entrants.items()}  # fmt: skip
        others = {omega for same in chosen.values() for omega in same}.difference(self.omegas)
        omegas = np.append(self.omegas, sorted(others))
        counts = counter(omegas)
        known = dict(zip(omegas.tolist(), counts.tolist()))
        self._grid.append(counts[: self.omegas.size])
        for name, same in self.entrants.items():
            self._counts[name].append([known[omega] for omega in chosen[name]])
            for policy, omega in zip(same, chosen[name]):
                policy.observe(known[omega])

    def rows(self) -> list[dict[str, Any]]:
        """Return a row a policy, between those of fixed omegas and of the best of each system.

        Iterations, the least and the most of a seed, ratios to the best fixed omega and to the
        instance-optimal one, and the two regrets along the sequence.
        """
        grid = np.array(self._grid, float)
        best = int(grid.sum(axis=0).argmin())
        fixed, optimal = grid[:, [best]], grid.min(axis=1, keepdims=True)
        marks = np.unique(np.linspace(0, len(grid) - 1, MARKS).astype(int))

        def row(name: str, iterations: Any) -> dict[str, Any]:
            iterations = np.array(iterations, float)
            totals = iterations.sum(axis=0)
            regrets = [np.cumsum(iterations - against, axis=0).mean(axis=1)[marks]
                       for against in (fixed, optimal)]  # fmt: skip
            return {
                "policy": name,
                "iterations": float(totals.mean()),
                "spread": [float(totals.min()), float(totals.max())],
                "to_best_fixed": float(totals.mean() / fixed.sum()),
                "to_optimal": float(totals.mean() / optimal.sum()),
                **{key: regret.round().tolist()
                   for key, regret in zip(("regret_fixed", "regret_optimal"), regrets)},
            }  # fmt: skip

        middle = int(np.abs(self.omegas - 1.5).argmin())
        return [
            row("omega = 1", grid[:, [0]]),
            row("omega = 1.5", grid[:, [middle]]),
            {**row("best fixed omega", fixed), "omega": float(self.omegas[best])},
            *(row(name, self._counts[name]) for name in self._counts),
            row("instance-optimal", optimal),
        ]


def marks(rounds: int) -> list[int]:
    """Return the rounds after which the regrets of `Race.rows` are kept."""
    return (np.unique(np.linspace(0, rounds - 1, MARKS).astype(int)) + 1).tolist()


def averaged(tables: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the mean over trials of each policy's row."""
    rows = []
    for same in zip(*tables):
        row = dict(same[0])
        for key in ("iterations", "to_best_fixed", "to_optimal"):
            row[key] = float(np.mean([one[key] for one in same]))
        row["spread"] = [
            min(one["spread"][0] for one in same), max(one["spread"][1] for one in same)
        ]  # fmt: skip
        for key in ("regret_fixed", "regret_optimal"):
            row[key] = np.mean([one[key] for one in same], axis=0).round().tolist()
        rows.append(row)
    return rows
