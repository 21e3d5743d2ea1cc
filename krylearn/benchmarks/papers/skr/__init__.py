"""Sorted Krylov recycling: GMRES beside GCRO-DR, alone, recycled, sorted, and what else there is.

References
----------
Wang, Hao, Wang, Geng, Wang, Li and Wu (2024), Accelerating data generation for neural operators
via Krylov subspace recycling, ICLR.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from krylearn.benchmarks.papers.skr import beside_scipy, race, rounds
from krylearn.benchmarks.papers.skr.cases import families
from krylearn.benchmarks.papers.skr.figures import by_family, draw, show, winners

__all__ = ["TITLE", "by_family", "draw", "parts", "show", "winners"]

TITLE = "Sorted Krylov recycling (SKR)"


def parts(full: bool) -> dict[str, Callable]:
    """Return the experiments by name: a family and a preconditioner, or what needs none.

    Parameters
    ----------
    full : bool
        100 systems at the paper's sizes and tolerances, and all the sequences that are heard in
        rounds. By default 8, of some families more, and two of the sequences.
    """
    count = 100 if full else 8
    known = families(full)
    runs: dict[str, Callable] = {}
    for name, family in known.items():
        for M in family.preconditioners:
            runs[f"{name}: {M or 'none'}"] = partial(race.run_family, family, name, M, count)
        if family.others:
            runs[f"{name}: others"] = partial(race.run_others, family, name, count)
    for seed, systems in rounds.SEQUENCES if full else rounds.SEQUENCES[:2]:
        runs[f"rounds: seed {seed}, {systems} systems"] = partial(rounds.run, seed, systems)
    runs["scipy"] = partial(beside_scipy.run, known, count)
    return runs
