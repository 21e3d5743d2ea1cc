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
        40 trials, and all 5000 systems at all sizes of the grid. By default 4 trials, and every
        n-th system where that takes less than some minutes.
    """
    trials = 40 if full else 4
    strides = {25: 1, 50: 2, 100: 5, 200: 50, 400: 250}
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
        experiments[f"auto/{name}"] = partial(auto.run, name, 200)
    return experiments


def totals(results: dict[str, Any]) -> dict[str, float]:
    """Return the seconds over all sequences of AutoSolver, and of all that solved each of them."""
    runs = [part for name, part in results["parts"].items() if name.startswith("auto/")]
    sums = {"AutoSolver": sum(run["auto"] for run in runs)}
    sums["kl.solve"] = sum(run["rule"] for run in runs)
    everywhere = set.intersection(*(set(run["fixed"]) for run in runs)) if runs else set()
    return sums | {arm: sum(run["fixed"][arm] for run in runs) for arm in sorted(everywhere)}
