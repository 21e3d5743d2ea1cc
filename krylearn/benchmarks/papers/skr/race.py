"""One family: every entrant solves its sequence, with one preconditioner after the other."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

import krylearn as kl
from krylearn.benchmarks.papers.skr.cases import KEPT, Family, without_waves

# GMRES(40) and GCRO-DR(40, 20), as in the paper; nobody makes more than so many steps.
RESTART, MOST = 40, 10000
# Seconds up to which a measurement is repeated.
SHORT = 1.0
DIRECT = {"direct": ("gmres", "direct"), "AMG": ("gmres", "classical_amg")}


def entrants(family: Family, M: str | None) -> dict[str, dict[str, Any]]:
    """Return the arguments of `solve_sequence` of each entrant of the paper's table."""
    deflated: dict[str, Any] = dict(
        method="gcrodr", restart=family.kept + 20, k=family.kept, maxiter=MOST, M=M
    )
    named: dict[str, dict[str, Any]] = {
        "GMRES(40)": dict(method="gmres", restart=RESTART, maxiter=MOST // RESTART, M=M),
        "GCRO-DR fresh": {**deflated, "recycle": False},
        "recycled": deflated,
        "recycled, sorted": {**deflated, "sort": True},
        "recycled, sorted, warm": {**deflated, "sort": True, "warm_start": "nearest"},
    }
    if family.definite and M in (None, "jacobi", "block_jacobi", "ic0"):
        named["CG"] = dict(method="cg", maxiter=MOST, M=M)
        named["CG, warm"] = dict(method="cg", maxiter=MOST, M=M, warm_start="nearest")
        named["recycled CG, sorted"] = dict(
            method="recycled_cg", k=family.kept, maxiter=MOST, M=M, sort=True
        )
    elif family.symmetric and M is None:
        named["MINRES"] = dict(method="minres", maxiter=MOST)
        named["MINRES, warm"] = dict(method="minres", maxiter=MOST, sort=True, warm_start="nearest")
    if not family.definite:
        named["IDR(4)"] = dict(method="idrs", maxiter=MOST, M=M)
        named["BiCGSTAB"] = dict(method="bicgstab", maxiter=MOST, M=M)
        named["IDR(4), warm"] = {**named["IDR(4)"], "sort": True, "warm_start": "nearest"}
    return named


def run_family(family: Family, name: str, M: str | None, count: int, say: Callable[[str], None],
               ) -> list[dict]:  # fmt: skip
    """Return a row for each tolerance and entrant with the preconditioner M."""
    systems, rows = _systems(family, name, count), []
    for rtol in family.tolerances:
        for label, settings in entrants(family, M).items():
            rows.append({"family": name, **measure(systems, rtol, M or "none", label, settings)})
        say(f"{name}, {rtol:g}, {M or 'none'}")
    return rows


def run_others(family: Family, name: str, count: int, say: Callable[[str], None]) -> list[dict]:
    """Return a row for each tolerance and each solver that brings its own preconditioner."""
    systems, rows = _systems(family, name, count), []
    for rtol in family.tolerances:
        for other in family.others:
            if other not in DIRECT:
                rows += _run_positive(family, name, other, rtol, count)
                continue
            method, M = DIRECT[other]
            if family.definite and other == "AMG":
                method = "cg"
            settings = dict(method=method, M=M, maxiter=500)
            rows.append({"family": name, **measure(systems, rtol, M, other, settings)})
        say(f"{name}, {rtol:g}, others")
    return rows


def _run_positive(family: Family, name: str, M: str, rtol: float, count: int) -> list[dict]:
    """Return rows whose M is a fast solver of the positive definite part of an indefinite A."""
    problems = family.make(count)
    systems = [(P.A, P.b, P.params) for P in problems]
    make = without_waves(problems, M.split()[0])
    named = {
        "GMRES(100)": dict(method="gmres", restart=100, maxiter=20, M=make),
        "IDR(4)": dict(method="idrs", maxiter=2000, M=make),
        "recycled, sorted": dict(method="gcrodr", restart=RESTART, k=KEPT, maxiter=2000, M=make,
                                 sort=True),
    }  # fmt: skip
    return [{"family": name, **measure(systems, rtol, M, *each)} for each in named.items()]


def _systems(family: Family, name: str, count: int) -> list:
    systems = [(P.A, P.b, P.params) for P in family.make(count)]
    if family.definite is False or name == "thermal":
        return [(A.tocsr(), b, params) for A, b, params in systems]
    return systems


def measure(systems: list, rtol: float, M: str, label: str, settings: dict) -> dict[str, Any]:
    """Solve a sequence; return means over the systems, seconds with sorting and set-up of M.

    What takes little time is done three times over, and the median of the seconds taken.
    """
    row: dict[str, Any] = {"rtol": rtol, "M": M, "entrant": label, "n": len(systems[0][1])}
    # Once before, so that nothing is compiled while the clock runs.
    few = {**settings, "maxiter": 2 * RESTART if settings["method"] == "gcrodr" else 2}
    try:
        list(kl.solve_sequence(systems[:2], rtol=rtol, **few))
    except (ValueError, ArithmeticError):
        pass  # said below
    seconds: list[float] = []
    while len(seconds) < 3 and sum(seconds) < SHORT:
        started = time.perf_counter()
        try:
            infos = [info for _, info in kl.solve_sequence(systems, rtol=rtol, **settings)]
        except (ValueError, ArithmeticError) as error:
            return row | {"error": " ".join(str(error).split())}
        seconds.append(time.perf_counter() - started)
    ordered = sorted(infos, key=lambda info: info.position)
    along = {"along": [info.iterations for info in ordered]} if M == "none" else {}
    return row | {
        "systems": len(infos),
        "converged": sum(info.converged for info in infos),
        "iterations": float(np.mean([info.iterations for info in infos])),
        "later_iterations": float(np.mean([info.iterations for info in ordered[1:]])),
        "matvecs": float(np.mean([info.matvecs for info in infos])),
        "seconds": float(np.median(seconds)) / len(infos),
        **along,
    }
