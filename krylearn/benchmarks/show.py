"""What the command line shows while it works: progress in a terminal, plain lines in a pipe."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from krylearn.benchmarks import report
from krylearn.benchmarks.cases import Suite
from krylearn.benchmarks.runner import run_suite, select
from krylearn.benchmarks.warm import Task


class Bar:
    """A live bar in a terminal; nothing where there is none."""

    def __init__(self, progress: Progress | None, total: int | None, text: str) -> None:
        self._progress = progress
        self._task = None if progress is None else progress.add_task(text, total=total)

    def say(self, text: str) -> None:
        """Say what goes on."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, description=text)

    def advance(self) -> None:
        """Count one more as done."""
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task)


@contextmanager
def bar(console: Console | None, total: int | None, text: str) -> Iterator[Bar]:
    """Show a bar of `total` steps, or a spinner where that is None, while the block runs."""
    if console is None or not console.is_terminal:
        yield Bar(None, total, text)
        return
    steps = (SpinnerColumn(),) if total is None else (BarColumn(20), MofNCompleteColumn())
    words = TextColumn("{task.description}", markup=False)
    with Progress(words, *steps, TimeElapsedColumn(), console=console, transient=True) as live:
        yield Bar(live, total, text)


def run_and_show(console: Console | None, suite: Suite, out: Path, *,
                 resume: bool | None = None,
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
    jobs = select(suite.jobs, only)
    left = {case: sum(job["case"] == case for job in jobs) for case in suite.cases}
    old = 0
    console.print(suite.title, style="bold", markup=False)
    with bar(console, len(jobs), "") as live:

        def after(row: dict[str, Any], found: bool, results: dict[str, Any]) -> None:
            nonlocal old
            old += found
            left[row["case"]] -= 1
            live.advance()
            if not left[row["case"]]:
                console.print()
                console.print(report.case_table(row["case"], results))

        results = run_suite(suite, out, resume=resume, only=only, stage=live.say, after=after)
    console.print()
    if old:
        console.print(f"{old} of {len(jobs)} rows are from {out}, an earlier run; "
                      "--fresh measures all", markup=False, soft_wrap=True)  # fmt: skip
    if results["kernels"]:
        bandwidth = results["machine"]["triad_all_threads"]
        console.print(report.kernel_table(results["kernels"], bandwidth))
        console.print()
    targets = report.target_table(results)
    if targets is not None:
        console.print(targets)
        console.print()
    console.print("peak memory is that of the whole process: interpreter, matrix and work arrays")
    console.print(report.machine_line(results["machine"]), markup=False, soft_wrap=True)
    _save_pictures(console, results, out)
    console.print(f"results: {out}", markup=False, soft_wrap=True)
    return results


def _save_pictures(console: Console, results: dict[str, Any], out: Path) -> None:
    from krylearn.benchmarks.plot import KINDS, save_plots

    try:
        for kind, path in save_plots(results, out.parent).items():
            console.print(f"{KINDS[kind]}: {path}", markup=False, soft_wrap=True)
    except ImportError as error:
        console.print(f"no plots: {error}", markup=False, soft_wrap=True)


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
    with bar(console, len(tasks), "compiling") as live:
        for name, call in tasks:
            live.say(f"compiling {name}")
            try:
                call()
                done.append(name)
            except Exception as error:  # whatever one method raises, the others go on
                left_out[name] = f"{type(error).__name__}: {error}".splitlines()[0]
            live.advance()
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
