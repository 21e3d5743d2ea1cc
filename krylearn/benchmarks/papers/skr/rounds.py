"""Waves in changing rock, once more: other seeds, longer sequences, more rivals, rounds in turns.

The family was chosen because sorted recycling is fastest on it, on one seed. So it has to show that
again on rocks that were not looked at.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import krylearn as kl
from krylearn.benchmarks.papers.skr import cases
from krylearn.benchmarks.papers.skr.race import MOST, RESTART

# Seed and systems of each sequence; seed 0 is the one on which the family was chosen.
SEQUENCES = ((0, 48), (1, 48), (2, 48), (3, 48), (1, 200))
SHAPE, WAVENUMBER, CONTRAST, CHANGE, RTOL = (20, 20, 20), 9.0, 0.7, 0.15, 1e-8
# Rounds in which all take turns, but for those that take so many times as long as the fastest on
# the first few systems: who recycles may gain on more, the others do not.
ROUNDS, FEW, SLOW, SLOW_RECYCLER = 3, 8, 1.6, 4.0


def entrants(problems: list) -> dict[tuple[str, str], tuple[bool, dict[str, Any]]]:
    """Return for (method, M) whether it takes the operators or their matrices, and arguments."""
    multigrid = cases.without_waves(problems, "multigrid")
    deflated: dict[str, Any] = dict(method="gcrodr", restart=RESTART, k=cases.KEPT, maxiter=MOST)
    ordered = {**deflated, "sort": True}
    idr: dict[str, Any] = dict(method="idrs", maxiter=MOST)
    warm = dict(sort=True, warm_start="nearest")
    named: dict[tuple[str, str], dict[str, Any]] = {
        ("recycled, sorted", "ilu0"): ordered,
        ("recycled, sorted, warm", "ilu0"): {**ordered, **warm},
        ("recycled", "ilu0"): deflated,
        ("GCRO-DR fresh", "ilu0"): {**deflated, "recycle": False},
        ("IDR(4)", "ilu0"): idr,
        ("IDR(8)", "ilu0"): {**idr, "s": 8},
        ("IDR(4), warm", "ilu0"): {**idr, **warm},
        ("BiCGSTAB", "ilu0"): dict(method="bicgstab", maxiter=MOST),
        ("recycled, sorted", "multigrid"): ordered,
        ("GCRO-DR fresh", "multigrid"): {**deflated, "recycle": False},
        ("GMRES(100)", "multigrid"): _gmres(100),
        ("MINRES", "multigrid"): dict(method="minres", maxiter=MOST),
        ("MINRES, warm", "multigrid"): dict(method="minres", maxiter=MOST, **warm),
        ("IDR(4)", "multigrid"): idr,
        ("MINRES", "none"): dict(method="minres", maxiter=MOST),
        ("IDR(4)", "none"): idr,
        ("recycled, sorted", "additive_schwarz"): ordered,
        ("GCRO-DR fresh", "additive_schwarz"): {**deflated, "recycle": False},
        ("IDR(4)", "additive_schwarz"): idr,
        ("direct", "direct"): dict(method="gmres", maxiter=500),
    }
    for restart in (40, 60, 100):
        named[f"GMRES({restart})", "ilu0"] = _gmres(restart)
    named["GMRES(100)", "additive_schwarz"] = _gmres(100)
    makers: dict[str, Any] = {"multigrid": multigrid, "none": None}
    return {
        (label, M): (M == "multigrid", {**settings, "M": makers.get(M, M)})
        for (label, M), settings in named.items()
    }


def _gmres(restart: int) -> dict[str, Any]:
    return dict(method="gmres", restart=restart, maxiter=2000 // restart)


def run(seed: int, count: int, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Return a row for each entrant, with the seconds a system of each round.

    Seconds include sorting and the set-up of M. Everyone solves the first few systems, after two
    by which nothing is compiled while the clock runs; the rows of those who are slow say so by
    their number of systems.
    """
    problems = cases.rock(SHAPE, WAVENUMBER, CONTRAST, CHANGE, count, seed)
    operators = [(P.A, P.b, P.params) for P in problems]
    matrices = [(A.tocsr(), b, params) for A, b, params in operators]
    rows: list[dict[str, Any]] = []
    lists, settings = [], []
    for (label, M), (whole, arguments) in entrants(problems).items():
        lists.append(operators if whole else matrices)
        settings.append(arguments)
        _solve(lists[-1][:2], arguments)
        rows.append({
            "family": "waves in changing rock", "seed": seed, "n": len(problems[0].b),
            "rtol": RTOL, "M": M, "entrant": label, **_solve(lists[-1][:FEW], arguments),
        })  # fmt: skip
        say(f"seed {seed}, {label}, {M}: {1e3 * rows[-1]['rounds'][0]:.1f} ms")
    fastest = min(row["rounds"][0] for row in rows if row["converged"] == row["systems"])
    going_on = [
        k for k, row in enumerate(rows)
        if not k or row["rounds"][0] < fastest * (
            SLOW_RECYCLER if "recycled" in row["entrant"] else SLOW)
    ]  # fmt: skip
    seconds: dict[int, list[float]] = {k: [] for k in going_on}
    for turn in range(ROUNDS):
        for k in going_on:
            found = _solve(lists[k], settings[k])
            seconds[k] += found["rounds"]
            rows[k] |= found | {"rounds": seconds[k]}
        say(f"seed {seed}, round {turn + 1} of {ROUNDS}")
    return rows


def _solve(systems: list, settings: dict[str, Any]) -> dict[str, Any]:
    started = time.perf_counter()
    infos = [info for _, info in kl.solve_sequence(systems, rtol=RTOL, **settings)]
    seconds = time.perf_counter() - started
    count = len(infos)
    return {
        "systems": count, "converged": sum(info.converged for info in infos),
        "iterations": sum(info.iterations for info in infos) / count,
        "matvecs": sum(info.matvecs for info in infos) / count, "rounds": [seconds / count],
    }  # fmt: skip
