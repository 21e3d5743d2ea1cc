"""The experiments of "Learning to relax": shifted Laplacians by SOR, heat by SSOR-CG.

    python -m krylearn.benchmarks.papers.relax --quick

References
----------
Khodak, Chow, Balcan and Talwalkar (2024), Learning to relax: setting solver parameters across a
sequence of linear system instances, ICLR.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.fft
from rich.console import Console
from rich.table import Table

import krylearn as kl
from krylearn.benchmarks.files import to_json
from krylearn.kernels.bandits import sor_counts
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
from krylearn.problems.heat import heat as heat_systems

RTOL = 1e-8
LAWS = {"Beta(2, 6)": (2.0, 6.0), "Beta(1/2, 3/2)": (0.5, 1.5)}
INTERVAL = (-0.15, 0.45)

Solver = Callable[[float], tuple[float, float]]


def race(systems: Iterable[tuple[float, Solver]], entrants: dict[str, list[Policy]],
         ) -> dict[str, Any]:  # fmt: skip
    """Let policies choose omega along a sequence, each ignorant of the others.

    Parameters
    ----------
    systems : iterable of (context, solver)
        ``solver(omega)`` returns iterations and seconds. It is called with each omega once.
    entrants : dict
        Policies by name, some seeds of each.

    Returns
    -------
    dict
        'grid', iterations of every omega in `OMEGAS`; 'iterations', 'seconds' and 'learning'
        (seconds of the policy) of each entrant, (steps, seeds).
    """
    grid, spent = [], []
    kept: dict[str, Any] = {name: ([], [], []) for name in entrants}
    for context, solver in systems:
        solve = functools.cache(solver)
        outcomes = [solve(float(omega)) for omega in OMEGAS]
        grid.append([iterations for iterations, _ in outcomes])
        spent.append([seconds for _, seconds in outcomes])
        for name, policies in entrants.items():
            rows: tuple[list, list, list] = ([], [], [])
            for policy in policies:
                started = time.perf_counter()
                omega = policy.choose(context)
                chosen = time.perf_counter()
                iterations, seconds = solve(omega)
                told = time.perf_counter()
                policy.observe(iterations)
                learning = time.perf_counter() - told + chosen - started
                for row, value in zip(rows, (iterations, seconds, learning)):
                    row.append(value)
            for column, row in zip(kept[name], rows):
                column.append(row)
    parts = ("iterations", "seconds", "learning")
    return {
        "grid": np.array(grid, float),
        "grid_seconds": np.array(spent),
        **{
            part: {name: np.array(columns[k]) for name, columns in kept.items()}
            for k, part in enumerate(parts)
        },
    }


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


# -- (a) shifted Laplacians --------------------------------------------------------------------


def shifted(steps: int, law: tuple[float, float], seed: int, size: int = 10,
            ) -> Iterator[tuple[float, Solver]]:  # fmt: skip
    """Yield ``(c, solver)`` for SOR on ``L + c I``, L the 5-point matrix with 4 on its diagonal."""
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        c = INTERVAL[0] + (INTERVAL[1] - INTERVAL[0]) * rng.beta(*law)
        b = rng.standard_normal((size, size))
        b /= np.linalg.norm(b)
        counts = np.empty(OMEGAS.size, np.int64)
        work = np.empty((size + 2, size + 2, OMEGAS.size))
        sor_counts(b, c, OMEGAS, RTOL, 10000, work, counts)
        known = dict(zip(OMEGAS.tolist(), counts.tolist()))

        def solver(omega, c=c, b=b, known=known):
            if omega not in known:
                count = np.empty(1, np.int64)
                work = np.empty((size + 2, size + 2, 1))
                sor_counts(b, c, np.array([omega]), RTOL, 10000, work, count)
                return int(count[0]), 0.0
            return known[omega], 0.0

        yield c, solver


def run_shifted(trials: int, steps: int, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Return the table of experiment (a), a list of rows."""
    rows = []
    for name, law in LAWS.items():
        young = Young(radius=float(np.cos(np.pi / 11)), diagonal=4.0)
        trial_rows = []
        for trial in range(trials):
            entrants = policies(INTERVAL, young, [trial])
            outcome = race(shifted(steps, law, trial), entrants)
            trial_rows.append(summary(outcome))
            say(f"{name}: trial {trial + 1} of {trials}")
        rows += [{"law": name, **row} for row in averaged(trial_rows)]
    return rows


# -- (b) heat ----------------------------------------------------------------------------------


def run_heat(nx: int, steps: int, seeds: Iterable[int], say: Callable[[str], None],
             ) -> list[dict[str, Any]]:  # fmt: skip
    """Return the table of experiment (b), a list of rows; times are on one thread."""
    dt = 1e-3
    others: dict[str, list] = {"CG": [], "IC(0)-CG": [], "fast Poisson (DST)": []}

    def systems():
        M = incomplete = None
        for step, P in enumerate(heat_systems((nx, nx), steps=steps, dt=dt)):
            A, b, x0 = P.A.tocsr(), P.b, P.params["previous"]
            if M is None:
                M, incomplete = kl.SSOR(A, omega=1.0), kl.IC0(A)

            def solver(omega, A=A, b=b, x0=x0, M=M):
                started = time.perf_counter()
                M.omega = omega
                x, info = kl.cg(A, b, x0, rtol=RTOL, M=M.update(A))
                assert info == 0
                return info.iterations, time.perf_counter() - started

            started = time.perf_counter()
            _, info = kl.cg(A, b, x0, rtol=RTOL)
            others["CG"].append((info.iterations, time.perf_counter() - started))
            started = time.perf_counter()
            _, info = kl.cg(A, b, x0, rtol=RTOL, M=incomplete.update(A))
            others["IC(0)-CG"].append((info.iterations, time.perf_counter() - started))
            seconds = fast_poisson(b, nx, dt / 2 * P.params["kappa"])
            others["fast Poisson (DST)"].append((0, seconds))
            if (step + 1) % 500 == 0:
                say(f"heat: step {step + 1} of {steps}")
            yield P.params["kappa"], solver

    first = next(iter(heat_systems((nx, nx), steps=1)))
    young = Young(dt / 2 * kl.GridOperator.diffusion(first.grid).tocsr(), family="I + cA")
    outcome = race(systems(), policies((0.0, 10.0), young, seeds))
    rows = []
    for name, pairs in others.items():
        iterations, seconds = np.sum(pairs, axis=0)
        rows.append({"policy": name, "iterations": iterations, "seconds": seconds})
    return rows + summary(outcome)


def fast_poisson(b: np.ndarray, nx: int, factor: float) -> float:
    """Return the seconds of a direct solve of ``(I + factor L) x = b`` by sine transforms."""
    started = time.perf_counter()
    waves = scipy.fft.dstn(b.reshape(nx, nx), type=1)
    one = (2 - 2 * np.cos(np.pi * np.arange(1, nx + 1) / (nx + 1))) * (nx + 1) ** 2
    scipy.fft.idstn(waves / (1 + factor * (one[:, None] + one)), type=1)
    return time.perf_counter() - started


# -- tables ------------------------------------------------------------------------------------


def summary(outcome: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one row a policy: totals over the sequence, and regret along it."""
    grid, grid_seconds = outcome["grid"], outcome["grid_seconds"]
    best = int(grid.sum(axis=0).argmin())
    marks = np.unique(np.linspace(0, len(grid) - 1, 50).astype(int))

    def row(name, iterations, seconds, learning=None):
        regret = np.cumsum(iterations - grid[:, [best]], axis=0).mean(axis=1)[marks]
        totals = iterations.sum(axis=0)
        decisions = None if learning is None else float(np.median(learning) * 1e6)
        total_seconds = seconds.sum() + (0.0 if learning is None else learning.sum())
        return {
            "policy": name,
            "iterations": float(totals.mean()),
            "spread": [float(totals.min()), float(totals.max())],
            "to_best_fixed": float(totals.mean() / grid[:, best].sum()),
            "to_optimal": float(totals.mean() / grid.min(axis=1).sum()),
            "seconds": float(total_seconds / iterations.shape[1]),
            "decision_us": decisions,
            "steps": marks.tolist(),
            "regret": regret.tolist(),
        }

    def fixed(name, k):
        return row(name, grid[:, [k]], grid_seconds[:, [k]])

    one_and_half = int(np.abs(OMEGAS - 1.5).argmin())
    rows = [
        fixed("omega = 1", 0),
        fixed("omega = 1.5", one_and_half),
        {**fixed("best fixed omega", best), "omega": float(OMEGAS[best])},
    ]
    for name, iterations in outcome["iterations"].items():
        rows.append(row(name, iterations, outcome["seconds"][name], outcome["learning"][name]))
    least = grid.argmin(axis=1)[:, None]
    rows.append(
        row("instance-optimal", np.take_along_axis(grid, least, 1),
            np.take_along_axis(grid_seconds, least, 1))  # fmt: skip
    )
    return rows


def averaged(tables: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the mean over trials of each policy's row."""
    rows = []
    for same in zip(*tables):
        row = dict(same[0])
        for key in ("iterations", "to_best_fixed", "to_optimal", "seconds"):
            row[key] = float(np.mean([one[key] for one in same]))
        if row["decision_us"] is not None:
            row["decision_us"] = float(np.median([one["decision_us"] for one in same]))
        row["spread"] = [
            min(one["spread"][0] for one in same), max(one["spread"][1] for one in same)
        ]  # fmt: skip
        row["regret"] = np.mean([one["regret"] for one in same], axis=0).tolist()
        rows.append(row)
    return rows


def print_table(title: str, rows: list[dict[str, Any]], console: Console) -> None:
    """Print the rows of an experiment."""
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for head in ("iterations", "/ best fixed", "/ optimal", "seconds", "µs a choice"):
        table.add_column(head, justify="right")

    def text(value, form):
        return "" if value is None else format(value, form)

    for row in rows:
        table.add_row(
            row["policy"], text(row["iterations"] or None, ",.0f"),
            text(row.get("to_best_fixed"), ".3f"), text(row.get("to_optimal"), ".3f"),
            text(row["seconds"] or None, ".2f"), text(row.get("decision_us"), ".1f"),
        )  # fmt: skip
    console.print(table)


def main(trials: int = 40, steps: int = 5000, nx: int = 100, seeds: int = 3,
         experiments: Iterable[str] = ("shifted", "heat"),
         out: str | Path = "results/relax.json") -> dict[str, Any]:  # fmt: skip
    """Run the experiments, print their tables, save them as JSON.

    Parameters
    ----------
    trials : int
        Of experiment (a), for each law of the shift.
    steps : int
        Systems in a sequence.
    nx : int
        Nodes along a side of (b).
    seeds : int
        Of each policy that draws at random, in (b).
    experiments : iterable of {'shifted', 'heat'}
    out : path

    Returns
    -------
    dict
        What was saved.
    """
    console, threads = Console(), kl.get_num_threads()
    notes = Console(stderr=True)
    results: dict[str, Any] = {"trials": trials, "steps": steps, "nx": nx, "rtol": RTOL}
    kl.set_num_threads(1)
    try:
        if "shifted" in experiments:
            results["shifted"] = run_shifted(trials, steps, notes.print)
            for law in LAWS:
                rows = [row for row in results["shifted"] if row["law"] == law]
                print_table(f"SOR, 10 x 10 Laplacian + c I, c ~ {law}", rows, console)
        if "heat" in experiments:
            results["heat"] = run_heat(nx, steps, range(seeds), notes.print)
            print_table(f"SSOR-CG, heat equation, nx = {nx}", results["heat"], console)
    finally:
        kl.set_num_threads(threads)
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    Path(out).write_text(to_json(results), encoding="utf-8")
    return results


def _arguments() -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--nx", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", choices=("shifted", "heat"))
    parser.add_argument("--quick", action="store_true", help="2 trials, 1000 steps, nx = 40")
    parser.add_argument("--out", default="results/relax.json")
    given = parser.parse_args()
    if given.quick:
        given.trials, given.steps, given.nx = 2, 1000, 40
    experiments = (given.only,) if given.only else ("shifted", "heat")
    return {
        "trials": given.trials, "steps": given.steps, "nx": given.nx, "seeds": given.seeds,
        "experiments": experiments, "out": given.out,
    }  # fmt: skip


if __name__ == "__main__":
    main(**_arguments())
