"""Run a suite: a process a row, the results written after each, so that nothing is lost."""

from __future__ import annotations

import fnmatch
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from krylearn.benchmarks.cases import Suite, fingerprint
from krylearn.benchmarks.files import to_json
from krylearn.benchmarks.machine import machine_facts

# Rows in these states need not be run again.
DONE = ("converged", "not converged", "timed out")
# A container's only user may be root. Ranks share their kernels' cores.
_OPEN_MPI = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
             "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # fmt: skip
# Times compare only where these facts are the same.
_SAME = ("cpu", "usable_cores", "threads", "versions")


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
    parts = (("suite", str), ("machine", dict), ("cases", dict), ("rows", list))
    if not isinstance(data, dict) or not all(
        isinstance(data.get(name), kind) for name, kind in parts
    ):
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


def run_suite(suite: Suite, out: str | os.PathLike[str], *, resume: bool | None = None,
              only: str | None = None, stage: Callable[[str], None] | None = None,
              after: Callable[[dict, bool, dict], None] | None = None
              ) -> dict[str, Any]:  # fmt: skip
    """Run the jobs of a suite one after the other.

    Parameters
    ----------
    suite : Suite
        From `load_suite`.
    out : path
        The JSON file, written after each row.
    resume : bool, optional
        Keep the rows of `out` that were measured for the same jobs on the same machine with the
        same versions. By default those of a run that was cut short are kept; of one that had
        finished, those that `only` leaves out.
    only : str, optional
        A shell pattern, or a part, of 'case/method'.
    stage : callable, optional
        Told in words what is done next.
    after : callable, optional
        Called with each selected row, whether it was kept from the file, and all results.

    Returns
    -------
    dict
        What the file holds: suite, title, machine, started, finished, cases, targets, startup,
        kernels, rows.
    """
    out = Path(out)
    say = stage or (lambda words: None)
    _make_room(out)
    say("measuring this machine")
    machine = machine_facts()
    old = {} if resume is False else _comparable(out, machine)
    kept = {row["fingerprint"]: row for row in old.get("rows", ())}
    # The rows of a finished run are wanted anew, unless somebody says otherwise.
    anew = resume is None and bool(old.get("finished"))
    extras = {} if anew and not only else old
    started = old.get("started") if old and not anew else None
    results: dict[str, Any] = {
        "suite": suite.name, "title": suite.title, "machine": machine,
        "started": started or time.strftime("%Y-%m-%dT%H:%M:%S%z"), "finished": False,
        "cases": suite.cases, "targets": suite.targets,
        "startup": extras.get("startup"), "kernels": extras.get("kernels"), "rows": [],
    }  # fmt: skip
    marks = {fingerprint(job) for job in select(suite.jobs, only)}
    rows: dict[str, dict[str, Any]] = {}
    for mark in map(fingerprint, suite.jobs):
        again = mark in marks and (anew or kept.get(mark, {}).get("status") not in DONE)
        if mark in kept and not again:
            rows[mark] = kept[mark]
    for job in suite.jobs:
        mark = fingerprint(job)
        if mark not in marks:
            continue
        found = mark in rows
        if not found:
            say(f"{job['case']} · {job['method']['label']}")
            rows[mark] = _finish(job, mark, run_isolated(job, job["timeout"]))
        elif job["history"] and rows[mark].get("curve") is None:
            # Times stay; what is missing is the history alone, which one solve gives.
            say(f"{job['case']} · {job['method']['label']}, history")
            rows[mark]["curve"] = run_isolated(job | {"runs": 1}, job["timeout"]).get("curve") or {}
        results["rows"] = [rows[k] for k in map(fingerprint, suite.jobs) if k in rows]
        write_results(results, out)
        if after:
            after(rows[mark], found, results)
    if not only:
        _measure_extras(suite, results, say)
    results["finished"] = len(rows) == len(suite.jobs) or (
        bool(only and old.get("finished")) and _all_there(suite, marks, rows, old["rows"])
    )
    write_results(results, out)
    return results


def _all_there(suite: Suite, selected: set[str], rows: dict, before: list[dict]) -> bool:
    """Return whether `rows` has what was selected and what was held before.

    What the suite came to name since then was never in the file.
    """
    held = {(row["case"], row["method"]) for row in before}
    marks = {
        fingerprint(job) for job in suite.jobs if (job["case"], job["method"]["label"]) in held
    }  # fmt: skip
    return marks | selected <= set(rows)


def _make_room(out: Path) -> None:
    """Fail now, not after the first row, where nothing can be written."""
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.is_dir():
        raise ValueError(f"{out} is a folder")
    part = _part(out)
    part.touch()
    part.unlink()


def _comparable(out: Path, machine: dict[str, Any]) -> dict[str, Any]:
    """Return the results in `out` if their times compare with what is measured now."""
    if not out.exists():
        return {}
    old = read_results(out)
    now = json.loads(to_json(machine))
    return old if all(old["machine"].get(fact) == now[fact] for fact in _SAME) else {}


def _measure_extras(suite: Suite, results: dict[str, Any], say: Callable[[str], None]) -> None:
    if suite.startup and results["startup"] is None:
        from krylearn.benchmarks.startup import measure_startup

        say("import and first calls")
        results["startup"] = measure_startup()
    known = results["kernels"] or [{}]
    if suite.kernels and any("flops" not in row for row in known):
        from krylearn.benchmarks.kernels import measure_kernels

        say("kernels")
        results["kernels"] = measure_kernels(suite.kernels)


def _finish(job: dict[str, Any], mark: str, row: dict[str, Any]) -> dict[str, Any]:
    if job["history"] and row.get("curve") is None:
        row["curve"] = {}  # asked for, and not to be had
    return {
        "case": job["case"], "method": job["method"]["label"], "fingerprint": mark,
        "rtol": job["rtol"], "family": _family(job["problem"]), **row,
    }  # fmt: skip


def _family(problem: dict[str, Any]) -> str | None:
    """Return what problems of different sizes have in common, if anything."""
    name = problem.get("family", "laplacian" if "stencil" in problem else None)
    shape = problem.get("shape", problem.get("stencil", []))
    return f"{name} {len(shape)}-D" if name and shape else name


def write_results(results: dict[str, Any], out: Path) -> None:
    """Write the file whole or not at all."""
    part = _part(out)
    part.write_text(to_json(results), encoding="utf-8")
    part.replace(out)


def _part(out: Path) -> Path:
    return out.with_name(out.name + ".part")


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
    command, environment = [sys.executable, "-m", "krylearn.benchmarks.worker"], None
    if int(job.get("ranks", 1)) > 1:
        launcher = shutil.which("mpiexec")
        if launcher is None:
            return {"status": "skipped", "reason": "mpiexec is not installed"}
        # Each rank reads the job from its arguments: standard input reaches the first one alone.
        command = [launcher, "-n", str(job["ranks"]), *command, json.dumps(job)]
        environment = os.environ | _OPEN_MPI
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        errors="replace", start_new_session=True, env=environment,
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
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        hint = " (out of memory?)" if name == "SIGKILL" else ""
        return f"the process was ended by {name}{hint}"
    lines = errors.strip().splitlines()
    return f"the process ended with status {code}" + (f": {lines[-1]}" if lines else "")
