"""Run a suite: a process a row, the results written after each, so that nothing is lost."""

from __future__ import annotations

import fnmatch
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from krylearn.benchmarks.cases import Suite, fingerprint
from krylearn.benchmarks.machine import machine_facts

# Rows in these states are not run again by --resume.
DONE = ("converged", "not converged", "timed out")


class BadResults(ValueError):
    """A file is not the result of a suite."""


def read_results(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a file that `run_suite` wrote.

    Raises
    ------
    BadResults
        If it cannot be read or is something else.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise BadResults(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise BadResults(f"{path} is not a JSON file") from None
    if not isinstance(data, dict) or not isinstance(data.get("rows"), list):
        raise BadResults(f"{path} is not a result of `krylearn bench`")
    return data


def select(jobs: Iterable[dict[str, Any]], only: str | None) -> list[dict[str, Any]]:
    """Return the jobs whose 'case/method' matches the pattern, or all without one."""
    if not only:
        return list(jobs)
    pattern = only if any(sign in only for sign in "*?[") else f"*{only}*"
    return [
        job for job in jobs
        if fnmatch.fnmatchcase(f"{job['case']}/{job['method']['label']}", pattern)
    ]  # fmt: skip


def run_suite(suite: Suite, out: str | os.PathLike[str], *, resume: bool = False,
              only: str | None = None, before: Callable[[dict], None] | None = None,
              after: Callable[[dict, dict], None] | None = None) -> dict[str, Any]:  # fmt: skip
    """Run the jobs of a suite one after the other.

    Parameters
    ----------
    suite : Suite
        From `load_suite`.
    out : path
        The JSON file, written after each row.
    resume : bool
        Keep the finished rows of `out` that belong to the same jobs on the same machine.
    only : str, optional
        A shell pattern, or a part, of 'case/method'.
    before, after : callable, optional
        Called with the job before, with the job and its row after.

    Returns
    -------
    dict
        What the file holds: suite, machine, cases, targets, startup, rows.
    """
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    machine = machine_facts()
    kept: dict[str, dict[str, Any]] = {}
    startup = None
    if resume and out.exists():
        old = read_results(out)
        if old.get("machine", {}).get("cpu") == machine["cpu"]:
            kept = {row["fingerprint"]: row for row in old["rows"] if row["status"] in DONE}
            startup = old.get("startup")
    results: dict[str, Any] = {
        "suite": suite.name, "title": suite.title, "machine": machine,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "cases": suite.cases,
        "targets": suite.targets, "startup": startup, "rows": [],
    }  # fmt: skip
    for job in select(suite.jobs, only):
        mark = fingerprint(job)
        if before:
            before(job)
        row = kept.get(mark) or _finish(job, mark, run_isolated(job, job["timeout"]))
        results["rows"].append(row)
        write_results(results, out)
        if after:
            after(job, row)
    if suite.startup and not only and startup is None:
        from krylearn.benchmarks.startup import measure_startup

        results["startup"] = measure_startup()
    write_results(results, out)
    return results


def _finish(job: dict[str, Any], mark: str, row: dict[str, Any]) -> dict[str, Any]:
    return {
        "case": job["case"], "method": job["method"]["label"], "fingerprint": mark,
        "rtol": job["rtol"], "family": job["problem"].get("family"), **row,
    }  # fmt: skip


def write_results(results: dict[str, Any], out: Path) -> None:
    """Write the file whole or not at all."""
    new = out.with_name(out.name + ".part")
    new.write_text(json.dumps(results, indent=1), encoding="utf-8")
    new.replace(out)


def run_isolated(job: dict[str, Any], timeout: float) -> dict[str, Any]:
    """Run a job in a process of its own; a crash or a time-out costs this row alone.

    Parameters
    ----------
    job : dict
        One of ``suite.jobs``.
    timeout : float
        Seconds after which the process is ended.

    Returns
    -------
    dict
        The worker's row, or one with status 'failed' or 'timed out' and a reason.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "krylearn.benchmarks.worker"], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        answer, errors = process.communicate(json.dumps(job), timeout=timeout)
    except subprocess.TimeoutExpired:
        _end(process)
        return {"status": "timed out", "reason": f"not done after {timeout:g} s"}
    except BaseException:
        _end(process)
        raise
    try:
        return json.loads(answer)
    except ValueError:
        return {"status": "failed", "reason": _death(process.returncode, errors)}


def _end(process: subprocess.Popen) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)  # its own group: start_new_session
    except (AttributeError, ProcessLookupError):
        process.kill()
    process.communicate()


def _death(code: int, errors: str) -> str:
    if code < 0:
        try:
            return f"the process was ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"the process was ended by signal {-code}"
    lines = errors.strip().splitlines()
    return f"the process ended with status {code}" + (f": {lines[-1]}" if lines else "")
