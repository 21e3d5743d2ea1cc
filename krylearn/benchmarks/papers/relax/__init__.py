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
        default 4 trials, every n-th system, and 100.
    """
    trials = 40 if full else 4
    strides = {25: 2, 50: 5, 100: 10, 200: 100, 400: 500}
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


def totals(results: dict[str, Any]) -> dict[str, float]:
    """Return the seconds over all sequences of AutoSolver, and of all that solved each of them.

    Of those that take any matrix, and were stopped somewhere, what they took at least.
    """
    runs = [part for name, part in results["parts"].items() if name.startswith("auto/")]
    sums = {"AutoSolver": sum(run["auto"] for run in runs)}
    sums["kl.solve"] = sum(run["rule"] for run in runs)
    everywhere = set.intersection(*(set(run["fixed"]) for run in runs)) if runs else set()
    sums |= {arm: sum(run["fixed"][arm] for run in runs) for arm in sorted(everywhere)}
    for arm in auto.GENERAL:
        spent = [run["fixed"].get(arm, run.get("stopped", {}).get(arm)) for run in runs]
        if arm not in sums and spent and None not in spent:
            sums[f"{arm}, at least"] = sum(spent)
    return sums
