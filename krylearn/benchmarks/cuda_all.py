"""All of CUDA in one go, on a machine with a device: tests, then benchmarks, each recorded.

``python -m krylearn.benchmarks.cuda_all`` in a checkout, with the Python that is to be used;
``make cuda-test`` makes an environment first. A step that fails or takes too long costs that step
alone. Suites go on where they were cut short; of them the rows on the device are run.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

RECORDED = Path("docs/recorded")
JUNIT = Path("results/cuda-tests.xml")
SUITES = ("foundation", "demo", "multigrid")
# Not begun with less time left.
LEAST = 5.0


def steps(out: Path, processes: int) -> dict[str, list[str]]:
    """Return the commands, after `python -m`, by name, in order.

    Parameters
    ----------
    out : Path
        Folder of the records.
    processes : int
        That share the tests.
    """
    files = [str(file) for file in sorted(Path("tests").glob("test_cuda*.py"))]
    bench = ["krylearn.cli", "bench"]
    found = {
        "tests": ["pytest", "-q", "-n", str(processes), "-k", "cuda", "-rfE", "--durations=15",
                  f"--junitxml={JUNIT}", *files, "tests/test_benchmarks.py",
                  "tests/test_generate.py"],
        "cuda": [*bench, "cuda", "--out", str(out / "cuda.json"), "--tests", str(JUNIT)],
    }  # fmt: skip
    for suite in SUITES:
        found[suite] = [*bench, suite, "--device", "cuda", "--only", "* on cuda", "--out",
                        str(out / f"cuda_{suite}.json")]  # fmt: skip
    return found


def run(out: Path = RECORDED, only: Sequence[str] = (), seconds: float = float("inf")) -> list[str]:
    """Run the steps; return those that failed or for which no time was left.

    Parameters
    ----------
    out : Path
    only : sequence of str
        Names of steps; all of them by default.
    seconds : float
        For everything.

    Raises
    ------
    ValueError
        If there is no step of a name.
    NoCUDA
        If there is no device.
    """
    from krylearn.cuda.arrays import require_cuda

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    known = steps(out, cores or 1)
    for name in only:
        if name not in known:
            raise ValueError(f"no step is called {name!r}; there are {', '.join(known)}")
    require_cuda()
    JUNIT.parent.mkdir(parents=True, exist_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    started, failed = time.perf_counter(), []
    for name in only or known:
        command = known[name]
        if name == "cuda" and not JUNIT.exists():
            command = command[:-2]
        left = seconds - (time.perf_counter() - started)
        if left < LEAST:
            print(f"== {name}: no time left", flush=True)
            failed.append(name)
            continue
        if name == "tests":
            JUNIT.unlink(missing_ok=True)
        begun = time.perf_counter()
        code = _within(left, [sys.executable, "-m", *command])
        ended = {0: "done", None: "cut short"}.get(code, f"status {code}")
        print(f"== {name}: {ended}, {time.perf_counter() - begun:.0f} s", flush=True)
        if code != 0:
            failed.append(name)
    return failed


def _within(seconds: float, command: list[str]) -> int | None:
    """Run a command; return its exit status, or None if it had to be ended."""
    process = subprocess.Popen(command)
    try:
        return process.wait(None if seconds == float("inf") else seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)  # suites end the process of their row then
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        return None
    finally:
        process.kill()
        process.wait()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; return the exit status."""
    from krylearn.cuda.arrays import NoCUDA

    parser = argparse.ArgumentParser("python -m krylearn.benchmarks.cuda_all", description=__doc__)
    parser.add_argument("--out", type=Path, default=RECORDED, help="folder of the records")
    names = ", ".join(steps(RECORDED, 1))
    parser.add_argument("--only", default="", help=f"steps between commas, of {names}")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="for everything")
    given = parser.parse_args(arguments)
    try:
        failed = run(given.out, [n for n in given.only.split(",") if n], given.seconds)
    except (NoCUDA, OSError, ValueError) as error:
        print(f"krylearn: {error}", file=sys.stderr)
        return 2
    if failed:
        print(f"not done: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
