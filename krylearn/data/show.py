"""What `krylearn generate` shows: a bar with rate and time left in a terminal, lines at the end."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from krylearn.data.make import Outcome
from krylearn.data.run import Report, Watcher

# Bad samples that are named; the log beside the file has all.
_NAMED = 5


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if not speed else f"{speed:,.0f}/s" if speed >= 10 else f"{speed:.2g}/s")


class Bar(Watcher):
    """A live bar in a terminal; nothing where there is none."""

    def __init__(self, console: Console | None) -> None:
        live = console is not None and console.is_terminal
        self._progress = None if not live else Progress(
            TextColumn("{task.description}", markup=False), BarColumn(24), MofNCompleteColumn(),
            _Rate(), TextColumn("left"), TimeRemainingColumn(), TextColumn("elapsed"),
            TimeElapsedColumn(), TextColumn("{task.fields[trouble]}", markup=False),
            console=console, transient=True,
        )  # fmt: skip
        self._bad = self._retried = 0
        self._console = console

    def __enter__(self) -> Bar:
        if self._progress is not None:
            self._progress.start()
            self._task = self._progress.add_task("drawing", total=None, trouble="")
        return self

    def __exit__(self, *error: Any) -> None:
        if self._progress is not None:
            self._progress.stop()

    def say(self, text: str) -> None:
        if self._progress is not None:
            self._progress.update(self._task, description=text)

    def warn(self, text: str) -> None:
        if self._console is not None:
            self._console.print(f"warning: {text}", markup=False, soft_wrap=True)

    def start(self, found: int, samples: int) -> None:
        if self._progress is not None:
            # A task of its own, so that the rate is that of this run's samples.
            self._progress.remove_task(self._task)
            self._task = self._progress.add_task(
                "samples", total=samples, completed=found, trouble=""
            )

    def made(self, outcome: Outcome) -> None:
        self._bad += len(outcome.bad)
        self._retried += len(outcome.retried)
        if self._progress is not None:
            words = [f"{count} {what}" for count, what in
                     ((self._bad, "not valid"), (self._retried, "retried")) if count]  # fmt: skip
            self._progress.update(self._task, advance=outcome.count, trouble=", ".join(words))


def show_report(console: Console, report: Report) -> None:
    """Print what a run did."""
    rows = [("file", str(report.path))]
    made = report.samples - report.found
    found = f", {report.found:,} of them found there" if report.found else ""
    rows.append(("samples", f"{report.samples:,}{found}; {report.valid:,} valid"))
    tried = ", ".join(f"{name} {1e3 * s:.3g} ms" for name, s in report.trials.items())
    rows.append(("solver", report.solver + (f" (a system: {tried})" if tried else "")))
    if made:
        rows.append(("time", f"{report.seconds:.3g} s, {report.rate:,.3g} samples a second"))
    if report.retried:
        names = sorted(set(report.retried.values()))
        rows.append(("retried", f"{len(report.retried):,} with {', '.join(names)}"))
    for i, reason in list(report.bad.items())[:_NAMED]:
        rows.append(("not valid", f"sample {i}: {reason}"))
    if len(report.bad) > _NAMED:
        rows.append(("", f"and {len(report.bad) - _NAMED:,} more: {report.path}.log has them"))
    for label, value in rows:
        console.print(f"{label:<12}{value}", markup=False, soft_wrap=True)
