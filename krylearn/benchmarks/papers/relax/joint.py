"""The joint policy where Young's formula is told right and wrong things: against both parents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from krylearn.benchmarks.papers.relax.race import Race
from krylearn.benchmarks.papers.relax.shifted import INTERVAL, LAWS, systems, young
from krylearn.learned.relaxation import ChebCB, Young, YoungCB

# The spectral radius that Young's formula is told, which is 0.9595, for SOR on shifted Laplacians.
SEQUENCES: dict[str, float] = {"right": young().radius, "0.93": 0.93, "0.98": 0.98,
                               "0.8": 0.8, "0.5": 0.5}  # fmt: skip
SEEDS = range(3)


def run(name: str, steps: int, say: Callable[[str], Any]) -> dict[str, Any]:
    """Return the iterations of Young's formula, of ChebCB and of both together."""
    law, formula = LAWS["Beta(0.5, 1.5)"], Young(radius=SEQUENCES[name], diagonal=4.0)
    race = Race({"ChebCB": [ChebCB(seed=s, interval=INTERVAL) for s in SEEDS], "Young": [formula],
                 "Young and bandit": [YoungCB(formula)]})  # fmt: skip
    for c, counter in systems(steps, law, seed=7):
        race.run(c, counter)
    keys = ("policy", "iterations", "to_best_fixed", "to_optimal")
    rows = [{key: row[key] for key in keys} for row in race.rows()]
    say(f"joint, {name}: " + ", ".join(f"{r['policy']} {r['iterations']:.0f}" for r in rows[3:6]))
    return {"steps": steps, "radius": SEQUENCES[name], "rows": rows}
