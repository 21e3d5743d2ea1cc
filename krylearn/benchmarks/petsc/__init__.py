"""PETSc beside this library inside it: `krylearn bench petsc`.

Every row is a run of its own under mpirun, its result kept in a JSON file: a run that was cut short
goes on, and rows may be made anew one by one.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PROGRAMS = Path(__file__).parent / "programs"
OURS = "-pc_type python -pc_python_type krylearn.petsc."
# What hypre's manual advises for three dimensions.
ADVISED = ("strong_threshold 0.5", "coarsen_type HMIS", "interp_type ext+i", "P_max 4", "agg_nl 1")
TUNED = " ".join(["-pc_type hypre", *(f"-pc_hypre_boomeramg_{option}" for option in ADVISED)])
POISSON = {
    "krylearn.petsc.Multigrid, DMDA": f"{OURS}Multigrid -dmda",
    "krylearn.petsc.Multigrid, AIJ": f"{OURS}Multigrid",
    "krylearn.petsc.DCD under fcg, DMDA": f"{OURS}DCD -dmda -ksp_type fcg",
    "hypre, tuned": TUNED,
    "hypre": "-pc_type hypre",
    "GAMG": "-pc_type gamg",
}
SSOR = f"-ksp_type cg {OURS}SSOR"
HEAT = {
    "cg, SSOR, omega 1": f"{SSOR} -pc_ssor_omega 1.0",
    "cg, SSOR, omega tsallis": f"{SSOR} -pc_ssor_omega tsallis",
    "cg, SSOR, omega young": SSOR,
    "RecycledCG, SSOR, omega young":
        f"-ksp_type python -ksp_python_type krylearn.petsc.RecycledCG {OURS}SSOR",
    "cg, ICC": "-ksp_type cg -pc_type bjacobi -sub_pc_type icc",
}  # fmt: skip
DIFFUSION = {
    "gmres(30)": "-ksp_type gmres -ksp_pc_side right -pc_type bjacobi",
    "gmres(40)": "-ksp_type gmres -ksp_gmres_restart 40 -ksp_pc_side right -pc_type bjacobi",
    "GCRODR(40, 20)": "-ksp_type python -ksp_python_type krylearn.petsc.GCRODR -pc_type bjacobi",
    "GCRODR(40, 20), not recycled": "-ksp_type python -ksp_python_type krylearn.petsc.GCRODR "
                                    "-ksp_gcrodr_recycle false -pc_type bjacobi",
}  # fmt: skip

# What gains are told beside: for recycling, the restart that takes as much memory.
BESIDE = {"heat": "cg, SSOR, omega 1", "nonlinear diffusion": "gmres(40)",
          "nonlinear diffusion 160^2": "gmres(40)"}  # fmt: skip


def rows(side: int, runs: int) -> Iterator[tuple[str, int, list[str]]]:
    """Yield the name, the number of ranks and the command of every row."""
    for ranks in (1, 2):
        for name, options in POISSON.items():
            yield (f"Poisson {side}^3 / {name}", ranks,
                   ["poisson.py", "-side", str(side), "-runs", str(runs),
                    *options.split()])  # fmt: skip
    yield "boundary", 1, ["boundary.py"]
    for ranks in (1, 2):
        for name, options in HEAT.items():
            yield f"heat / {name}", ranks, ["heat.py", *options.split()]
        for name, options in DIFFUSION.items():
            yield f"nonlinear diffusion / {name}", ranks, ["diffusion.py", *options.split()]
            larger = ["diffusion.py", "-n", "160", *options.split()]
            yield f"nonlinear diffusion 160^2 / {name}", ranks, larger


def launch(command: list[str], ranks: int, timeout: float = 600.0) -> dict[str, Any]:
    """Run one of the programs on ranks, one thread each; return what it prints.

    Raises
    ------
    RuntimeError
        If it ends without a result; the message is its last line.
    """
    import krylearn

    here = str(Path(krylearn.__file__).parent.parent)
    # As root in a container Open MPI wants to be told twice.
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    path = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(
        ["mpirun", "--oversubscribe", "-n", str(ranks), sys.executable, str(PROGRAMS / command[0]),
         *command[1:]],
        env={**os.environ, **root, "PYTHONPATH": path}, capture_output=True, text=True,
        timeout=timeout, check=False,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        raise RuntimeError((done.stderr or done.stdout or "no output").strip().splitlines()[-1])
    return json.loads(lines[-1])


def run(path: Path, side: int = 128, runs: int = 3, only: str = "", fresh: bool = False,
        say: Callable[[str], None] = print) -> dict[str, Any]:  # fmt: skip
    """Run the rows that are not in the file yet, or those whose key holds `only`; return all.

    Raises
    ------
    ValueError
        If no key does.
    """
    from krylearn.benchmarks.machine import machine_facts

    found: dict[str, Any] = {"machine": machine_facts(), "rows": {}}
    if path.exists() and not fresh:
        found["rows"] = json.loads(path.read_text(encoding="utf-8"))["rows"]
    keys = [f"{name} / {ranks}" for name, ranks, _ in rows(side, runs)]
    if not any(only in key for key in keys):
        raise ValueError(f"no row's name holds {only!r}; there are {', '.join(keys)}")
    for key, (_, ranks, command) in zip(keys, rows(side, runs)):
        if (only and only not in key) or (not only and key in found["rows"]):
            continue
        say(key)
        try:
            found["rows"][key] = launch(command, ranks)
        except (RuntimeError, subprocess.TimeoutExpired, OSError) as error:
            found["rows"][key] = {"error": str(error)}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def _gain(rows: dict[str, Any], key: str) -> str:
    """Return what a row gains along a sequence: below 1 it loses."""
    case, name, ranks = key.split(" / ")
    row, base = rows[key], rows.get(f"{case} / {BESIDE[case]} / {ranks}", {})
    if name == BESIDE[case] or "seconds" not in base:
        return ""
    return (f"; beside {BESIDE[case]}: {base['iterations'] / row['iterations']:.2f} times fewer "
            f"iterations, {base['seconds'] / row['seconds']:.2f} times as fast")  # fmt: skip


def table(found: dict[str, Any]) -> str:
    """Return the results as text."""
    lines = []
    for key, row in found["rows"].items():
        if "error" in row:
            told = row["error"]
        elif "setup" in row:
            setup, solve = statistics.median(row["setup"]), statistics.median(row["solve"])
            told = (f"set-up {setup:6.2f} s, solve {solve:6.2f} s, sum {setup + solve:6.2f} s, "
                    f"{row['iterations']} iterations")  # fmt: skip
        elif "overhead" in row:
            share = f"{1e6 * row['hook']:.0f} microseconds a call, {100 * row['overhead']:.2f} %"
            told = f"{share} of {row['preconditioner']} at {row['unknowns']:,} unknowns"
        else:
            told = f"{row['iterations']} iterations in {row['seconds']:.2f} s"
            told += _gain(found["rows"], key)
        lines.append(f"{key:<60} {told}")
    return "\n".join(lines)
