"""Learning to relax: policies for omega, and the choice of whole configurations.

References
----------
Khodak, Chow, Balcan and Talwalkar (2024), Learning to relax: setting solver parameters across a
sequence of linear system instances, ICLR.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from krylearn.benchmarks.papers.relax import auto, decisions, heat, joint, shifted
from krylearn.benchmarks.papers.relax.figures import draw, show

__all__ = ["TITLE", "draw", "parts", "show"]

TITLE = "Learning to relax"


def parts(full: bool) -> dict[str, Callable]:
    """Return the experiments by name.

    Parameters
    ----------
    full : bool
        40 trials, all 5000 systems at all sizes of the grid, 200 systems for AutoSolver. By
        default 4 trials, every n-th system and none at nx = 400, and 100.
    """
    trials = 40 if full else 4
    strides = {25: 2, 50: 5, 100: 10, 200: 100} | ({400: 1} if full else {})
    experiments: dict[str, Callable] = {}
    for law in shifted.LAWS:
        experiments[f"shifted/{law}"] = partial(shifted.run, law, trials, 5000)
    for nx, stride in strides.items():
        experiments[f"heat/{nx}"] = partial(heat.count, nx, 1 if full else stride, range(5))
    for name in joint.SEQUENCES:
        experiments[f"joint/{name}"] = partial(joint.run, name, 2000)
    experiments["decisions/100"] = partial(decisions.run, 100, 300)
    experiments["clock/100"] = partial(heat.clock, 100, 1 if full else 5)
    for name in auto.SEQUENCES:
        experiments[f"auto/{name}"] = partial(
            auto.run, name, 200 if full else 100, probe=20 if full else 10)  # fmt: skip
    return experiments


def totals(results: dict[str, Any]) -> list[tuple[str, float, int]]:
    """Return configuration, seconds and systems solved over all sequences, the best first.

    AutoSolver, the best of each sequence in hindsight, `kl.solve`, and every fixed configuration
    that takes any matrix; where one was stopped, the seconds until then count.
    """
    runs = [part for name, part in results["parts"].items() if name.startswith("auto/")]
    if not runs:
        return []
    every = sum(run["systems"] for run in runs)
    rows = [("AutoSolver", sum(run["auto"] for run in runs), every),
            ("best of each", sum(run["fixed"][run["best"]] for run in runs), every),
            ("kl.solve", sum(run["rule"] for run in runs), every)]  # fmt: skip
    for arm in set.intersection(*(set(run.get("general", ())) for run in runs)):
        spent = [run["general"][arm] for run in runs]
        seconds = sum(one if isinstance(one, float) else one[0] for one in spent)
        solved = sum(run["systems"] if isinstance(one, float) else int(one[1])
                     for run, one in zip(runs, spent))  # fmt: skip
        rows.append((arm, seconds, solved))
    return sorted(rows, key=lambda row: (-row[2], row[1]))
