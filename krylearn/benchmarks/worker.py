"""One row of a benchmark in a process of its own: a JSON job on stdin, a JSON row on stdout."""

from __future__ import annotations

import json
import os
import sys
import time
from statistics import median
from typing import Any

import numpy as np

from krylearn.benchmarks.peers import Absent, Outcome, find_runner, observe_scipy
from krylearn.benchmarks.systems import Loaded, load_problem

# Points of a convergence curve that a file keeps.
POINTS = 300


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    """Run one method on one problem and return the row.

    Parameters
    ----------
    job : dict
        case, problem, method, rtol, maxiter, runs and history, as `load_suite` gives them.

    Returns
    -------
    dict
        With status 'converged', 'not converged' or 'skipped', judged by the residual that is
        recomputed here, never by what the method claims.
    """
    method, rtol, maxiter = job["method"], float(job["rtol"]), int(job["maxiter"])
    run = find_runner(method["base"])
    try:
        small = _shrunk(job["problem"])
        started = time.perf_counter()
        run(small, method, rtol, min(maxiter, 50))
        first_call = time.perf_counter() - started
        problem = load_problem(job["problem"])
        if "." not in method["base"] and ":" not in method["base"]:
            run(problem, method, rtol, 8)  # kernels that only large systems use
        forget_peak()
        outcomes = [run(problem, method, rtol, maxiter) for _ in range(max(1, job["runs"]))]
    except Absent as reason:
        return {"status": "skipped", "reason": str(reason)}
    peak = peak_memory()
    last = outcomes[-1]
    if job["history"] and method["base"].startswith("scipy."):
        last.matvecs, last.residuals = observe_scipy(problem, method, rtol, maxiter)
    return _row(problem, rtol, outcomes) | {
        "first_call_seconds": first_call,
        "peak_bytes": peak,
        "curve": _curve(last, problem.b) if job["history"] else None,
    }


def _row(problem: Loaded, rtol: float, outcomes: list[Outcome]) -> dict[str, Any]:
    last, A, b = outcomes[-1], problem.csr, problem.b
    with np.errstate(all="ignore"):
        residual = float(np.linalg.norm(b - A @ np.asarray(last.x).reshape(-1)))
    residual /= float(np.linalg.norm(b)) or 1.0
    # Summing in another order moves the last digits of a residual that is just within.
    converged = residual <= rtol * (1 + 1e-6)
    return {
        "status": "converged" if converged else "not converged",
        "reason": last.reason,
        "claimed": bool(last.claimed),
        "chosen": last.chosen,
        "unknowns": int(A.shape[0]),
        "nonzeros": int(A.nnz),
        "setup_seconds": median(outcome.setup for outcome in outcomes),
        "solve_seconds": median(outcome.solve for outcome in outcomes),
        "solve_runs": [outcome.solve for outcome in outcomes],
        "iterations": last.iterations,
        "matvecs": last.matvecs,
        "residual": residual if np.isfinite(residual) else None,
    }


def _shrunk(spec: dict[str, Any]) -> Loaded:
    try:
        return load_problem(spec, small=True)
    except ImportError as error:
        raise Absent(f"{error.name or error} is not installed") from None
    except (TypeError, ValueError):  # a family that cannot be this small
        return load_problem(spec)


def _curve(outcome: Outcome, b: np.ndarray) -> dict[str, list] | None:
    if outcome.residuals is None or len(outcome.residuals) < 2:
        return None
    norms = np.asarray(outcome.residuals, dtype=float) / (float(np.linalg.norm(b)) or 1.0)
    steps = np.unique(np.linspace(0, len(norms) - 1, min(len(norms), POINTS)).astype(int))
    finite = steps[np.isfinite(norms[steps])]
    return {"steps": finite.tolist(), "residuals": norms[finite].tolist()}


def forget_peak() -> None:
    """Count the peak of memory from now on, where the system can do that."""
    try:  # Linux: without what it took to make the problem
        with open("/proc/self/clear_refs", "w", encoding="ascii") as switch:
            switch.write("5")
    except OSError:
        pass


def peak_memory() -> int:
    """Return the most bytes that this process has held, since `forget_peak` where that works."""
    try:  # Linux: ru_maxrss would count the parent, whose memory a new process shares at first
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) * (1 if sys.platform == "darwin" else 1024)


def _die_with_parent() -> None:
    """Let Linux end this process when the bench is killed, which then cannot do it."""
    if sys.platform == "linux":
        import ctypes
        import signal

        try:
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        except (OSError, AttributeError):
            pass


def main() -> None:
    """Read the job, run it, write the row; whatever else prints goes to stderr."""
    _die_with_parent()
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    job = json.load(sys.stdin)
    try:
        row = run_job(job)
    except Exception as error:  # whatever a method raises is its row's outcome
        row = {"status": "failed", "reason": f"{type(error).__name__}: {error}".splitlines()[0]}
    json.dump(row, answer)
    answer.flush()


if __name__ == "__main__":
    main()
