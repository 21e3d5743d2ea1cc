"""How fast data sets are made, beside libraries that solve the same systems one by one."""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from krylearn.benchmarks.cases import parse_method
from krylearn.benchmarks.peers import Absent, find_runner
from krylearn.benchmarks.systems import Loaded
from krylearn.data import generate
from krylearn.data.plan import Plan
from krylearn.data.workers import usable_cores

PEERS = ("scipy.spsolve", "pyamg.rs-cg", "pyamg.sa-cg", "petsc.cg+hypre", "petsc.cg+icc")


def measure_generation(family: str = "darcy", samples: int = 1000, grid: int = 128,
                       rtol: float = 1e-8, systems: int = 12,
                       solver: str = "auto") -> dict[str, Any]:  # fmt: skip
    """Make a data set and time it from the call to the finished, synced file; time the peers.

    Parameters
    ----------
    family, samples, grid, rtol, solver
        Of the data set.
    systems : int
        How many of its systems each peer solves; the median counts. Of a peer only set-up and
        solve count: drawing, assembly and writing, which our time has, are left out.

    Returns
    -------
    dict
        With ours (solver, seconds_a_sample, trials), peers (method, seconds_a_sample,
        converged), ratio (best peer over ours) and ratio_all_cores (the same, as if the peer
        ran in a process a core at no loss).
    """
    with tempfile.TemporaryDirectory(prefix="krylearn-") as folder:
        settings: dict[str, Any] = dict(grid=grid, rtol=rtol, solver=solver)
        generate(family, samples=16, out=Path(folder) / "warm.h5", **settings)  # compiles
        report = generate(family, samples=samples, out=Path(folder) / "data.h5", **settings)
    plan = Plan.make(family, samples=systems, grid=grid, rtol=rtol)
    problems = [Loaded(P.A, P.b) for i in range(systems) for P in plan.systems(i)]
    peers = [row for name in PEERS if (row := _time(name, problems, rtol))]
    ours = report.seconds / report.samples
    best = min((row["seconds_a_sample"] for row in peers if row["converged"]), default=None)
    ratio = None if best is None else best / ours
    cores = usable_cores()
    return {
        "family": family, "grid": grid, "samples": samples, "rtol": rtol, "cores": cores,
        "valid": report.valid, "solver": report.solver, "seconds_a_sample": ours,
        "samples_a_second": 1 / ours, "trials": report.trials, "peers": peers,
        "ratio": ratio, "ratio_all_cores": None if ratio is None else ratio / cores,
    }  # fmt: skip


def _time(name: str, problems: list[Loaded], rtol: float) -> dict[str, Any] | None:
    """Return the median time of a peer, or None where it is not installed."""
    method = parse_method(name)
    try:
        run = find_runner(method["base"])
        run(problems[0], method, rtol, 10000)
        outcomes = [run(problem, method, rtol, 10000) for problem in problems]
    except Absent:
        return None
    worst = max(
        float(np.linalg.norm(p.b - p.csr @ o.x) / np.linalg.norm(p.b))
        for p, o in zip(problems, outcomes)
    )
    return {
        "method": name, "seconds_a_sample": median(o.setup + o.solve for o in outcomes),
        "converged": worst <= 1.01 * rtol, "worst_residual": worst,
    }  # fmt: skip


def show_generation(console: Any, found: dict[str, Any]) -> None:
    """Print what `measure_generation` found."""
    from rich.table import Table

    table = Table("", "ms a sample", "samples a second", "ours is faster by", box=None)
    ours = found["seconds_a_sample"]
    label = f"krylearn generate ({found['solver']}, {found['cores']} processes)"
    table.add_row(label, f"{1e3 * ours:.3g}", f"{1 / ours:.0f}", "")
    for row in found["peers"]:
        seconds = row["seconds_a_sample"]
        note = "" if row["converged"] else f" (residual {row['worst_residual']:.1e})"
        table.add_row(row["method"] + note, f"{1e3 * seconds:.3g}", f"{1 / seconds:.0f}",
                      f"{seconds / ours:.1f}x")  # fmt: skip
    console.print(f"{found['samples']:,} samples of {found['family']}, {found['grid']}², "
                  f"rtol {found['rtol']:g}; {found['valid']:,} valid", markup=False)  # fmt: skip
    console.print(table)
    if found["ratio"] is not None:
        console.print(f"best peer in one process {found['ratio']:.1f}x, in {found['cores']} at no "
                      f"loss {found['ratio_all_cores']:.1f}x slower", markup=False)  # fmt: skip
