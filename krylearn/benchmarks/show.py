"""What the command line shows while it works: progress in a terminal, plain lines in a pipe."""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from krylearn.benchmarks import report
from krylearn.benchmarks.cases import Suite
from krylearn.benchmarks.runner import run_suite, select
from krylearn.benchmarks.warm import Task


def _progress(console: Console) -> Progress:
    return Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                    TimeElapsedColumn(), console=console, transient=True)  # fmt: skip


def run_and_show(console: Console | None, suite: Suite, out: Path, *, resume: bool = False,
                 only: str | None = None) -> dict[str, Any]:  # fmt: skip
    """Run a suite; print each case's table as it ends, then targets and files.

    Parameters
    ----------
    console : rich.console.Console or None
        None prints nothing.
    suite, out, resume, only
        As for `run_suite`.

    Returns
    -------
    dict
        The results.
    """
    if console is None:
        return run_suite(suite, out, resume=resume, only=only)
    live = console.is_terminal
    jobs = select(suite.jobs, only)
    left = {case: sum(job["case"] == case for job in jobs) for case in suite.cases}
    rows: list[dict[str, Any]] = []
    console.print(suite.title, style="bold", markup=False)
    progress = _progress(console) if live else None
    bar = progress.add_task("measuring this machine", total=len(jobs)) if progress else None

    def before(job: dict[str, Any]) -> None:
        if progress is not None and bar is not None:
            progress.update(bar, description=f"{job['case']} · {job['method']['label']}")

    def after(job: dict[str, Any], row: dict[str, Any]) -> None:
        rows.append(row)
        left[job["case"]] -= 1
        if progress is not None and bar is not None:
            progress.advance(bar)
            if not left[job["case"]] and suite.startup:
                progress.update(bar, description="first calls")
        if not left[job["case"]]:
            console.print(report.case_table(job["case"], {"cases": suite.cases, "rows": rows}))

    with progress or nullcontext():
        results = run_suite(suite, out, resume=resume, only=only, before=before, after=after)
    targets = report.target_table(results)
    if targets is not None:
        console.print(targets)
    console.print(report.machine_line(results["machine"]), markup=False)
    console.print("memory is the most that the process held, the interpreter and the matrix "
                  "included; × is the peer's set-up and solve time over the row's")  # fmt: skip
    _save_pictures(console, results, out)
    console.print(f"results: {out}", markup=False, soft_wrap=True)
    return results


def _save_pictures(console: Console, results: dict[str, Any], out: Path) -> None:
    from krylearn.benchmarks.plot import save_plots

    try:
        for path in save_plots(results, out.parent):
            kind = path.stem.rsplit("-", 1)[-1]
            names = {"convergence": "convergence plot", "profile": "performance profile",
                     "size": "time against size"}  # fmt: skip
            console.print(f"{names.get(kind, kind)}: {path}", markup=False, soft_wrap=True)
    except ImportError as error:
        console.print(f"no plots: {error}", markup=False)


def run_tasks(console: Console | None, tasks: list[Task]) -> dict[str, Any]:
    """Call each task; return which were done, which not and why, and the seconds.

    Parameters
    ----------
    console : rich.console.Console or None
        A progress bar is drawn on it if it is a terminal.
    tasks : list of (str, callable)
    """
    started = time.perf_counter()
    done: list[str] = []
    left_out: dict[str, str] = {}
    progress = _progress(console) if console is not None and console.is_terminal else None
    bar = progress.add_task("compiling", total=len(tasks)) if progress else None
    with progress or nullcontext():
        for name, call in tasks:
            if progress is not None and bar is not None:
                progress.update(bar, description=f"compiling {name}")
            try:
                call()
                done.append(name)
            except Exception as error:  # whatever one method raises, the others go on
                left_out[name] = f"{type(error).__name__}: {error}".splitlines()[0]
            if progress is not None and bar is not None:
                progress.advance(bar)
    return {"done": done, "left_out": left_out, "seconds": time.perf_counter() - started}


def show_doctor(console: Console, facts: dict[str, Any]) -> None:
    """Print what `krylearn doctor` found."""

    def line(label: str, value: object) -> None:
        console.print(f"{label:<18}{value}", markup=False, soft_wrap=True)

    line("processor", facts["cpu"])
    line("cores", f"{facts['cores']} ({facts['usable_cores']} usable), "
                  f"{facts['threads']} threads")  # fmt: skip
    line("memory", report.size(facts["memory_bytes"]))
    line("triad", f"{facts['triad_1_thread'] / 1e9:.1f} GB/s on one thread, "
                  f"{facts['triad_all_threads'] / 1e9:.1f} on {facts['threads']}")  # fmt: skip
    line("system", facts["system"])
    for name, version in facts["versions"].items():
        line(name, version or "not installed")
    line("CUDA", ", ".join(facts["cuda_devices"]) or f"none: {facts['cuda_problem']}")
    directory = facts["cache_directory"]
    if directory is None:
        line("kernel cache", "none can be written: kernels compile in every process; set "
                             "NUMBA_CACHE_DIR to a folder of yours")  # fmt: skip
    else:
        state = "writable" if facts["cache_writable"] else "not writable: set NUMBA_CACHE_DIR"
        line("kernel cache", f"{directory} ({state})")
