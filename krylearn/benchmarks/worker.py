"""One row of a benchmark in a process of its own: a JSON job on stdin, a JSON row on stdout."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable
from statistics import median
from typing import Any

import numpy as np

from krylearn.benchmarks.machine import held_bytes
from krylearn.benchmarks.peers import Absent, Outcome, find_runner, observe_scipy, run_batch
from krylearn.benchmarks.systems import Loaded, load_problem, load_problems

# Points of a convergence curve that a file keeps.
POINTS = 60
# Unknowns up to which the matrix of a grid operator is made to check the residual.
LARGE = 4_000_000


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
    ours = "." not in method["base"] and ":" not in method["base"]
    try:
        if "systems" in job["problem"]:
            return _run_many(job)
        run = find_runner(method["base"])
        small = _shrunk(job["problem"])
        started = time.perf_counter()
        run(small, method, rtol, min(maxiter, 50))
        first_call = time.perf_counter() - started
        problem = load_problem(job["problem"])
        if ours:
            run(problem, method, rtol, 8)  # kernels that only large systems use
        elif method["form"] == "csr":
            _ = problem.csr
        forget_peak()
        before = peak_memory()
        outcomes: list[Outcome] = []
        for _ in range(max(1, job["runs"])):
            for earlier in outcomes:
                earlier.x = None  # one answer is held at a time
            outcomes.append(run(problem, method, rtol, maxiter))
    except Absent as reason:
        return {"status": "skipped", "reason": str(reason)}
    peak = peak_memory()
    last = outcomes[-1]
    if job["history"] and method["base"].startswith("scipy."):
        last.matvecs, last.residuals = observe_scipy(problem, method, rtol, maxiter)
    row = _row(problem, rtol, outcomes) | {
        "first_call_seconds": first_call,
        # Of several ranks this one sees its own memory only.
        "peak_bytes": peak if int(job.get("ranks", 1)) == 1 else None,
        "curve": _curve(last, problem.b) if job["history"] else None,
    }
    A = problem.csr if method["form"] == "csr" else problem.grid
    if last.held is not None:
        row |= _memory(A, last.held, peak - before)
    if job.get("work", False):
        unit = _product_seconds(A)
        row |= {"work_seconds": unit, "work_units": row["solve_seconds"] / unit}
    return row


def _run_many(job: dict[str, Any]) -> dict[str, Any]:
    """Run a method on several systems and return the row of one, on average or in the middle."""
    method, rtol, maxiter = job["method"], float(job["rtol"]), int(job["maxiter"])
    together = method["base"] == "batch"

    def run(problems: list[Loaded], maxiter: int) -> list[Outcome]:
        if together:
            return run_batch(problems, method, rtol, maxiter)
        one = find_runner(method["base"])
        return [one(problem, method, rtol, maxiter) for problem in problems]

    started = time.perf_counter()
    run(load_problems(job["problem"], small=True), min(maxiter, 50))
    first_call = time.perf_counter() - started
    problems = load_problems(job["problem"])
    count = len(problems)
    if not together:
        problems = problems[: job["sample"]]
        for problem in problems:
            _ = problem.csr
    run(problems[:1], 8 if together else maxiter)
    forget_peak()
    runs = [run(problems, maxiter) for _ in range(max(1, job["runs"]))]
    peak = peak_memory()
    rows = [_row(*each) for each in zip(problems, [rtol] * count, map(list, zip(*runs)))]
    row = max(rows, key=lambda row: (row["status"] != "converged", row["residual"] or 0.0))
    return row | {
        "setup_seconds": median(r["setup_seconds"] for r in rows),
        "solve_seconds": median(r["solve_seconds"] for r in rows),
        "iterations": _worst(r["iterations"] for r in rows),
        "systems": count, "solved": len(problems), "first_call_seconds": first_call,
        "peak_bytes": peak, "curve": None,
    }  # fmt: skip


def _worst(counts: Iterable[int | None]) -> int | None:
    return max((count for count in counts if count is not None), default=None)


def _memory(A: Any, held: int, growth: int) -> dict[str, float]:
    """Return what A and the preconditioner hold, and the peak of all over that.

    The peak is what the process came to hold beyond the problem, with A added again.
    """
    operator = held_bytes(A)
    return {"operator_bytes": operator, "held_bytes": held,
            "memory_ratio": (operator + growth) / max(1, operator + held)}  # fmt: skip


def _product_seconds(A: Any, runs: int = 9) -> float:
    """Return the seconds of a product with A, which a sweep of relaxation takes about as well."""
    from krylearn.operators import as_operator

    dtype = np.result_type(A.dtype, np.float32)
    operator = as_operator(A, dtype)
    x, out = np.ones(A.shape[0], dtype), np.empty(A.shape[0], dtype)
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        operator.apply(x, out)
        times.append(time.perf_counter() - started)
    return median(times)


def _row(problem: Loaded, rtol: float, outcomes: list[Outcome]) -> dict[str, Any]:
    last, b = outcomes[-1], problem.b
    # The matrix of a grid operator of this size would be a burden.
    A: Any = problem.csr if len(b) <= LARGE or problem.grid is None else problem.grid
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
        "nonzeros": int(A.nnz) if hasattr(A, "nnz") else None,
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
    # Where MPI starts several of this process, the job is an argument.
    job = json.loads(sys.argv[1]) if len(sys.argv) > 1 else json.load(sys.stdin)
    try:
        row = run_job(job)
    except Exception as error:  # whatever a method raises is its row's outcome
        row = {"status": "failed", "reason": f"{type(error).__name__}: {error}".splitlines()[0]}
    if int(os.environ.get("OMPI_COMM_WORLD_RANK", os.environ.get("PMI_RANK", "0"))) == 0:
        json.dump(row, answer)
        answer.flush()


if __name__ == "__main__":
    main()
