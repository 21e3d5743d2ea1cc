"""Sorted Krylov recycling: GMRES beside GCRO-DR, alone, recycled, sorted, and what else there is.

References
----------
Wang, Hao, Wang, Geng, Wang, Li and Wu (2024), Accelerating data generation for neural operators
via Krylov subspace recycling, ICLR.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import krylearn as kl
from krylearn import registry
from krylearn.problems.fields import gaussian_random_field
from krylearn.problems.problem import Problem

TITLE = "Sorted Krylov recycling (SKR)"
# GCRO-DR(40, 20) and GMRES(40), as in the paper; nobody makes more than so many steps.
RESTART, KEPT, MOST = 40, 20, 10000
# Seconds up to which a measurement is repeated; repetitions beside scipy, and of what is close.
SHORT, ROUNDS, MANY = 1.0, 3, 5
# Parts that are no rows of a family's table, and the family whose entrants `run_spread` compares.
APART, CLOSE = ("spread", "scipy"), ("waves in changing rock", "ilu0")


@dataclass(frozen=True)
class Family:
    """A family, the preconditioners and tolerances of its table, and what else can solve it."""

    make: Callable[[int], list]
    preconditioners: tuple[str | None, ...]
    tolerances: tuple[float, ...]
    symmetric: bool = False
    definite: bool = False
    kept: int = KEPT
    others: tuple[str, ...] = ("direct",)
    more: dict[str, Any] = field(default_factory=dict)


EVERY = (None, "jacobi", "block_jacobi", "sor", "additive_schwarz", "ic0", "ilu0")
NOT_SPD = tuple(M for M in EVERY if M != "ic0")
DIRECT = {"direct": ("gmres", "direct"), "AMG": ("gmres", "classical_amg")}


def _sequence(name: str, **options: Any) -> Callable[[int], list]:
    return lambda count: list(kl.problems.sequence(name, count, **options))


def _waves(shape: tuple[int, ...], wavenumber: float, damping: float) -> Callable[[int], list]:
    """Return a family of Helmholtz problems whose wave number varies by two per cent."""

    def make(count: int) -> list:
        factors = 1 + 0.02 * np.random.default_rng(0).uniform(-1, 1, count)
        return [
            kl.problems.helmholtz(shape, wavenumber=float(wavenumber * factor), roughness=0.02,
                                  damping=damping, seed=seed, rhs="smooth")
            for seed, factor in enumerate(factors)
        ]  # fmt: skip

    return make


def _changing(shape: tuple[int, ...], wavenumber: float, roughness: float, damping: float,
              ) -> Callable[[int], list]:  # fmt: skip
    """Return a family of waves in a medium that goes round a circle, in an order that does not."""

    def make(count: int) -> list:
        grid, rng = kl.Grid(shape), np.random.default_rng(0)
        first, second = (
            field / field.std()
            for field in (gaussian_random_field(shape, tau=5.0, seed=rng) for _ in range(2))
        )
        b = np.random.default_rng(5).standard_normal(math.prod(shape)).astype(complex)
        found = []
        for turn in rng.permutation(np.linspace(0, 2 * np.pi, 4 * count)):
            medium = roughness * (np.cos(turn) * first + np.sin(turn) * second)
            k = wavenumber * np.exp(medium)
            A = kl.GridOperator.diffusion(grid, reaction=-(1 + 1j * damping) * k**2)
            found.append(Problem(A, b, {"wavenumber": k}, grid, None, name="helmholtz", seed=0))
        return found

    return make


def _rock(shape: tuple[int, ...], wavenumber: float, contrast: float, change: float,
          ) -> Callable[[int], list]:  # fmt: skip
    """Return ``-div(c grad u) - k^2 u``: log c is that of a rock and what goes round a circle.

    Each system has a source of its own, so that no solution is a start for the next.
    """

    def make(count: int) -> list:
        grid, rng = kl.Grid(shape), np.random.default_rng(0)
        rock, first, second = (
            field / field.std()
            for field in (gaussian_random_field(shape, tau=5.0, seed=rng) for _ in range(3))
        )
        found = []
        turns = rng.permutation(np.linspace(0, 2 * np.pi, 6 * count, endpoint=False))
        for seed, turn in enumerate(turns):
            log = contrast * rock + change * (np.cos(turn) * first + np.sin(turn) * second)
            A = kl.GridOperator.diffusion(grid, np.exp(log), np.full(shape, -(wavenumber**2)))
            b = np.random.default_rng(100 + seed).standard_normal(math.prod(shape))
            found.append(Problem(A, b, {"log c": log}, grid, None, name="helmholtz", seed=seed))
        return found

    return make


def _without_waves(family: list, kind: str) -> Callable:
    """Return what makes M of ``-div(c grad u)`` by multigrid, or of c = 1 by fast transforms."""
    fields = {id(P.A): np.exp(P.params["log c"]) for P in family}

    def make(A: Any) -> Any:
        if kind == "multigrid":
            return kl.multigrid(kl.GridOperator.diffusion(A.grid, fields[id(A)]))
        return kl.FastPoisson(kl.GridOperator.diffusion(A.grid))

    return make


def families(full: bool) -> dict[str, Family]:
    """Return the families by name; `full` for the paper's sizes and tolerances."""
    tight = (1e-5, 1e-8, 1e-11) if full else (1e-5, 1e-8)
    side = 98 if full else 80
    box = 267 if full else 98
    spd: dict[str, Any] = dict(symmetric=True, definite=True, others=("direct", "AMG"))
    return {
        "darcy, published": Family(
            _sequence("darcy", shape=(48, 48), variant="published"), NOT_SPD, (1e-5,)),
        "darcy": Family(_sequence("darcy", shape=(side, side)), EVERY, tight, **spd),
        "poisson": Family(
            _sequence("poisson", shape=(box, box), rhs="smooth"), EVERY, tight[:1], **spd),
        "thermal": Family(_sequence("thermal", shape=(150, 150)), EVERY, tight[-1:], **spd),
        "helmholtz": Family(
            _waves((100, 100), 12.0, 0.0), NOT_SPD, (1e-7,), symmetric=True),
        "convection": Family(
            _sequence("convection_diffusion", shape=(side, side)), NOT_SPD, (1e-8,),
            others=("direct", "AMG")),
        "damped waves in 3-D": Family(
            _waves((32, 32, 32) if full else (24, 24, 24), 9.0, 0.01), (None, "jacobi", "ilu0"),
            (1e-6,), kept=10),
        "waves in a changing medium": Family(
            _changing((20, 20, 20), 9.0, 0.25, 0.01), ("ilu0",), (1e-6,)),
        "waves in changing rock": Family(
            _rock((20, 20, 20), 9.0, 0.7, 0.15), ("ilu0",), (1e-8,),
            symmetric=True, others=("direct", "multigrid of div", "fast transforms")),
    }  # fmt: skip


def parts(full: bool) -> dict[str, Callable]:
    """Return the experiments by name: a family and a preconditioner, or what needs none."""
    count = 100 if full else 8
    runs: dict[str, Callable] = {}
    for name, family in families(full).items():
        for M in family.preconditioners:
            run = functools.partial(run_family, family, name, M, count)
            runs[f"{name}: {M or 'none'}"] = run
        if family.others:
            runs[f"{name}: others"] = functools.partial(run_others, family, name, count)
    runs["spread"] = functools.partial(run_spread, full, count)
    runs["scipy"] = functools.partial(run_scipy, full, count)
    return runs


# -- one family --------------------------------------------------------------------------------


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
    make = _without_waves(problems, M.split()[0])
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


def run_spread(full: bool, count: int, say: Callable[[str], None]) -> list[dict]:
    """Return the seconds of each of many rounds, in which the entrants of `CLOSE` take turns."""
    name, M = CLOSE
    family = families(full)[name]
    systems, found = _systems(family, name, count), entrants(family, M)
    seconds: dict[str, list[float]] = {label: [] for label in found}
    for _ in range(MANY):
        for label, settings in found.items():
            started = time.perf_counter()
            infos = list(kl.solve_sequence(systems, rtol=family.tolerances[-1], **settings))
            if all(info.converged for _, info in infos):
                seconds[label].append((time.perf_counter() - started) / len(systems))
    say(f"spread: {name}, {M}")
    return [
        {"family": name, "M": M, "rtol": family.tolerances[-1], "n": len(systems[0][1]),
         "entrant": label, "rounds": rounds}
        for label, rounds in seconds.items()
    ]  # fmt: skip


# -- beside scipy ------------------------------------------------------------------------------


def run_scipy(full: bool, count: int, say: Callable[[str], None]) -> list[dict]:
    """Return rows of `gcrodr` and of scipy's `gcrotmk` on the same systems with the same M."""
    rows = []
    for name, M in (("darcy, published", None), ("darcy, published", "ilu0"), ("darcy", None),
                    ("darcy", "ilu0"), ("helmholtz", "ilu0"), ("convection", None),
                    ("convection", "jacobi"), ("convection", "ilu0"), ("damped waves in 3-D", None),
                    ("damped waves in 3-D", "ilu0")):  # fmt: skip
        family = families(full)[name]
        rtol = family.tolerances[-1]
        systems = [(P.A.tocsr(), P.b) for P in family.make(count)]
        held = [registry.preconditioner(M, A) if M else None for A, _ in systems]
        runs: dict[str, list[dict]] = {"gcrodr": [], "scipy gcrotmk": []}
        for _ in range(ROUNDS):  # in turns, so that both see the same machine
            runs["gcrodr"].append(_ours(systems, held, rtol))
            runs["scipy gcrotmk"].append(_scipys(systems, held, rtol))
        for label, found in runs.items():
            row = {**found[0], "seconds": float(np.median([run["seconds"] for run in found]))}
            rows.append({"family": name, "rtol": rtol, "M": M or "none", "entrant": label,
                         "n": len(systems[0][1]), **row})  # fmt: skip
        say(f"scipy: {name}, {M or 'none'}")
    return rows


def _ours(systems: list, held: list, rtol: float) -> dict[str, Any]:
    space = kl.RecycleSpace()
    kl.gcrodr(*systems[0], rtol=rtol, M=held[0], maxiter=45)

    def solve(A: Any, b: Any, M: Any) -> tuple[np.ndarray, int]:
        x, info = kl.gcrodr(A, b, rtol=rtol, restart=RESTART, k=KEPT, M=M, recycle=space)
        return x, info.matvecs

    return _timed(solve, systems, held, rtol)


def _scipys(systems: list, held: list, rtol: float) -> dict[str, Any]:
    from scipy.sparse.linalg import gcrotmk

    kept: list = []

    def solve(A: Any, b: Any, M: Any) -> tuple[np.ndarray, int]:
        options = dict(rtol=rtol, m=20, k=KEPT, discard_C=True, maxiter=MOST // 20, M=M)
        try:
            return gcrotmk(A, b, CU=kept, **options)[0], 0
        except ValueError:  # a vector of zeros among those kept makes NaN of the rest
            kept.clear()
            return gcrotmk(A, b, **options)[0], 0

    return _timed(solve, systems, held, rtol)


def _timed(solve: Callable, systems: list, held: list, rtol: float) -> dict[str, Any]:
    seconds, products, converged = [], [], 0
    for (A, b), M in zip(systems, held):
        started = time.perf_counter()
        x, matvecs = solve(A, b, M)
        seconds.append(time.perf_counter() - started)
        products.append(matvecs)
        converged += bool(np.linalg.norm(b - A @ x) <= 1.001 * rtol * np.linalg.norm(b))
    return {
        "systems": len(systems), "converged": converged, "seconds": float(np.median(seconds[1:])),
        "matvecs": float(np.mean(products[1:])) or None,
    }  # fmt: skip


# -- the report --------------------------------------------------------------------------------


def by_family(results: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of each family, those of `run_spread` and `run_scipy` left out."""
    found: dict[str, list[dict[str, Any]]] = {}
    for part, rows in results["parts"].items():
        if part not in APART:
            found.setdefault(rows[0]["family"], []).extend(rows)
    return found


def winners(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return for each family and tolerance the fastest entrant, and the fastest that recycles."""
    found = []
    for rows in by_family(results).values():
        for rtol in sorted({row["rtol"] for row in rows}, reverse=True):
            done = [row for row in rows if row["rtol"] == rtol and _whole(row)]
            if not done:
                continue
            ours = [row for row in done if "recycled" in row["entrant"]]
            others = [row for row in done if "recycled" not in row["entrant"]]
            if not (ours and others):
                continue
            best, rest = (min(group, key=lambda row: row["seconds"]) for group in (ours, others))
            found.append({
                "family": rows[0]["family"], "n": rows[0]["n"], "rtol": rtol,
                "recycled": f"{best['entrant']} + {best['M']}", "recycled_seconds": best["seconds"],
                "other": f"{rest['entrant']} + {rest['M']}", "other_seconds": rest["seconds"],
            })  # fmt: skip
    return found


def _whole(row: dict[str, Any]) -> bool:
    return row.get("systems") is not None and row["converged"] == row["systems"]


def show(results: dict[str, Any], console: Console) -> None:
    """Print a table for each family, then who wins."""
    scipys = {"scipy": results["parts"]["scipy"]} if "scipy" in results["parts"] else {}
    for name, rows in (by_family(results) | scipys).items():
        head = f"{name}, n = {rows[0]['n']}, means of {rows[0].get('systems', 0)} systems"
        table = Table("rtol", "M", "", title=head, title_justify="left")
        for column in ("iterations", "matvecs", "ms a system", "converged"):
            table.add_column(column, justify="right")
        for row in rows:
            if "error" in row:
                table.add_row(f"{row['rtol']:g}", row["M"], row["entrant"], row["error"][:40])
                continue
            cells = [f"{row[key]:.1f}" if row.get(key) else "" for key in ("iterations", "matvecs")]
            failed = "" if _whole(row) else f"{row['converged']} of {row['systems']}"
            table.add_row(f"{row['rtol']:g}", row["M"], row["entrant"], *cells,
                          f"{1e3 * row['seconds']:.1f}", failed)  # fmt: skip
        console.print(table)
    if "spread" in results["parts"]:
        rows = results["parts"]["spread"]
        title = f"{rows[0]['family']}, {rows[0]['M']}: {MANY} rounds in turns, ms a system"
        table = Table("", "least", "median", "most", title=title, title_justify="left")
        for row in rows:
            if row["rounds"]:
                table.add_row(row["entrant"], *(f"{1e3 * value:.1f}" for value in
                              np.quantile(row["rounds"], [0, 0.5, 1])))  # fmt: skip
        console.print(table)
    table = Table("family", "rtol", "fastest that recycles", "ms", "fastest other", "ms", "times",
                  title="Does it pay?", title_justify="left")  # fmt: skip
    for row in winners(results):
        table.add_row(row["family"], f"{row['rtol']:g}", row["recycled"],
                      f"{1e3 * row['recycled_seconds']:.1f}", row["other"],
                      f"{1e3 * row['other_seconds']:.1f}",
                      f"{row['other_seconds'] / row['recycled_seconds']:.2f}")  # fmt: skip
    console.print(table)


def draw(results: dict[str, Any], folder: Path) -> list[Path]:
    """Draw iterations along the published Darcy sequence, and the fastest of each family."""
    from krylearn.benchmarks.plot import COLOURS, MARKERS, pyplot

    plt = pyplot()
    paths = []
    published = [
        row for row in results["parts"].get("darcy, published: none", ())
        if row["M"] == "none" and "along" in row
    ]  # fmt: skip
    if published:
        figure, axis = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
        for row, colour, marker in zip(published, COLOURS, MARKERS):
            axis.semilogy(row["along"], color=colour, marker=marker, markersize=4,
                          label=row["entrant"])  # fmt: skip
        ticks = [100, 200, 500, 1000, 2000, 5000, 10000]
        axis.set_yticks(ticks, [str(t) for t in ticks])
        axis.minorticks_off()
        axis.set_xlabel("system, in the order of solving")
        axis.set_ylabel("iterations")
        axis.set_title("published Darcy matrices, no preconditioner", fontsize=10)
        axis.legend(fontsize=7)
        paths.append(folder / "skr-iterations.png")
        figure.savefig(paths[-1], dpi=130)
        plt.close(figure)
    found = winners(results)
    if found:
        figure, axis = plt.subplots(figsize=(7.2, 0.55 * len(found) + 1.2), layout="constrained")
        places = np.arange(len(found))
        ratios = [row["other_seconds"] / row["recycled_seconds"] for row in found]
        axis.barh(places, ratios, color=[COLOURS[2] if r > 1 else COLOURS[1] for r in ratios])
        axis.axvline(1.0, color="0.3", linewidth=0.8)
        axis.set_yticks(places, [f"{row['family']}, {row['rtol']:g}" for row in found], fontsize=8)
        axis.set_xscale("log")
        lowest, highest = 0.7 * min(ratios), 1.4 * max(ratios)
        within = [t for t in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10) if lowest <= t <= highest]
        axis.set_xticks(within, [f"{t:g}" for t in within])
        axis.minorticks_off()
        axis.set_xlabel("seconds of the fastest other method over those of the fastest recycling")
        paths.append(folder / "skr-seconds.png")
        figure.savefig(paths[-1], dpi=130)
        plt.close(figure)
    return paths
