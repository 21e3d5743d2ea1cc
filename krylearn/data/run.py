"""A run from its arguments to the finished file, the first time or going on."""

from __future__ import annotations

import errno
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from krylearn.data import solvers
from krylearn.data.layout import Layout, find_layout
from krylearn.data.make import Maker, Outcome
from krylearn.data.plan import Plan
from krylearn.data.share import Share, files_of, take_over
from krylearn.data.store import (
    Store,
    attributes,
    create,
    open_file,
    part_of,
    read_attributes,
    remove,
)
from krylearn.data.workers import run_shards, usable_cores


@dataclass
class Report:
    """What a run did.

    Attributes
    ----------
    path : Path
    samples, valid : int
        In the file.
    found : int
        Samples that an earlier run had made.
    solver : str
        Its name; with 'auto', the one that was chosen.
    seconds : float
        Of this run.
    trials : dict of str to float
        Seconds a system of the solvers that 'auto' tried.
    bad, retried : dict of int to str
        Samples of this run that are not valid, and why; that took a second solver, and which.
    """

    path: Path
    samples: int
    valid: int = 0
    found: int = 0
    solver: str = ""
    seconds: float = 0.0
    trials: dict[str, float] = field(default_factory=dict)
    bad: dict[int, str] = field(default_factory=dict)
    retried: dict[int, str] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Samples a second that this run made."""
        return (self.samples - self.found) / self.seconds if self.seconds else 0.0


class Watcher:
    """Hears how a run goes; this one does nothing with it."""

    def say(self, text: str) -> None:
        """Be told what goes on."""

    def warn(self, text: str) -> None:
        """Be told what may go wrong."""

    def start(self, found: int, samples: int) -> None:
        """Be told how many samples are there at the start, and how many there shall be."""

    def made(self, outcome: Outcome) -> None:
        """Be told of a shard that is done."""


class Stopped(OSError):
    """A disk that is full or fails; what was written is kept."""


def generate(family: str, *, samples: int, out: Any, grid: Any = None, solver: str = "auto",
             seed: int = 0, rtol: float = 1e-8, stride: int | None = None,
             dtype: str = "float64", options: dict[str, Any] | None = None,
             workers: int | None = None, threads: int = 1, overwrite: bool = False,
             device: str = "cpu", shards: str | None = None,
             watcher: Watcher | None = None) -> Report:  # fmt: skip
    """Make an HDF5 file of solved and verified problems.

    Sample i is the problem of the family with seed ``seed + i``. A run that was cut short, be it
    by SIGKILL, goes on when it is called again with the same arguments, and ends with the bytes
    that it would have had uninterrupted.

    Parameters
    ----------
    family : str
        A registered problem, or a recipe of the literature such as 'darcy-smooth'.
    samples : int
    out : str or Path
        The file. It is called ``out.part`` until it is complete.
    grid : int or tuple of int, optional
        Points along all or each of the axes, by default those of the family or recipe.
    solver : str
        'auto' measures the likely ones on the first samples; or a name of
        `krylearn.data.solvers.SHARED`; or a method with or without a preconditioner, 'cg+ic0'.
    seed : int
    rtol : float
        Every sample's recomputed relative residual is within it, or the sample is not valid.
    stride : int, optional
        Keep every how many-th point along each axis.
    dtype : {'float64', 'float32'}
        Of what is kept.
    options : dict, optional
        Arguments of the family.
    workers : int, optional
        Processes, by default one for each `threads` cores. The bytes do not depend on it.
    threads : int
        Threads of each.
    overwrite : bool
        Start anew, whatever is there.
    device : {'cpu', 'cuda'}
        Where samples are solved. Those of darcy are also drawn and verified on CUDA, where the
        random numbers of a seed are others than on the CPU, and `workers` threads write the file.
    shards : str, optional
        '2/8': make the third of eight shares, in ``out.2of8``; 'auto': as MPI or a job array has
        numbered this process. The call without it joins the shares and makes what is missing.
    watcher : Watcher, optional
        Hears how it goes.

    Returns
    -------
    Report

    Raises
    ------
    ValueError
        If arguments make no sense, or a file of other arguments is there.
    OSError
        If the file cannot be written (`Stopped`, when samples were kept).

    Examples
    --------
    >>> import tempfile, pathlib, krylearn as kl
    >>> out = pathlib.Path(tempfile.mkdtemp()) / "darcy.h5"
    >>> report = kl.generate("darcy", samples=4, grid=16, out=out, solver="cg", workers=1)
    >>> report.valid, len(kl.data.Samples(out))
    (4, 4)
    """
    began = time.perf_counter()
    watcher = watcher or Watcher()
    _need_h5py()
    out = Path(out)
    if not out.absolute().parent.is_dir():
        raise ValueError(f"there is no folder {out.absolute().parent}")
    plan = Plan.make(family, samples=samples, grid=grid, seed=seed, rtol=rtol, stride=stride,
                     dtype=dtype, options=options, solver=solver, device=device)  # fmt: skip
    for name, value in (("workers", workers), ("threads", threads)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ValueError(f"{name} must be an integer >= 1, not {value!r}")
    if workers is None:
        workers = max(1, usable_cores() // threads)
    if device == "cuda":
        from krylearn.data import cuda

        cuda.check(plan)
    layout = find_layout(plan)
    share = None if shards is None else Share.parse(shards)
    if share is not None and solver == "auto" and device != "cuda":
        raise ValueError("shares must agree on the solver: name one, such as cg+ic0")
    out = out if share is None else share.file(out)
    beside = files_of(out) if share is None else []
    part = part_of(out)
    report = Report(out, plan.samples)
    if overwrite:
        _held(remove, part)
    there = next((path for path in (part, out) if path.exists() and not overwrite), None)
    if there is not None or beside:
        report.solver = str(read_attributes(there or beside[0])["solver"])
    elif device == "cuda":
        report.solver = "batch"
    elif solver == "auto":
        report.solver, report.trials = _choose(plan, workers, threads, watcher)
    else:
        solvers.find_solver(solver)
        report.solver = solver
    plan = plan.sharded(solvers.shard_step(report.solver))
    for path in ([] if there is None else [there]) + beside:
        _check_same(path, plan, layout, report.solver)
    if there == out and share is None:
        report.found, report.valid = plan.samples, _count_valid(out)
        return report
    if there == out:  # a share that was finished: look again
        part = out
    if there is None:
        settings = solvers.configuration(report.solver)
        _writing(create, part, plan, layout, report.solver, settings)
    store = Store(part, layout)
    try:
        _held(store.lock)
        _writing(take_over, store, beside, plan.samples, layout)
        _fill(plan, layout, store, report, workers, threads, watcher, share)
        report.seconds = time.perf_counter() - began
        _log(report, plan)
        _writing(store.finish, out)
    finally:
        store.close()
    for path in beside:
        path.unlink(missing_ok=True)
    return report


def _fill(plan: Plan, layout: Layout, store: Store, report: Report, workers: int, threads: int,
          watcher: Watcher, share: Share | None = None) -> None:  # fmt: skip
    """Make the shards of which a sample is missing, or those of a share."""
    found = store.found(plan.samples)
    report.found = int(found.sum())
    own = [s for s in range(plan.shards) if share is None or share.has(s)]
    report.samples = sum(len(plan.members(s)) for s in own)
    missing = [s for s in own if not found[plan.members(s)].all()]
    kept = report.samples - sum(len(plan.members(s)) for s in missing)
    watcher.start(kept, report.samples)
    state, free = store.part.stat(), shutil.disk_usage(store.part.parent).free
    if (needed := state.st_size - 512 * state.st_blocks) > free:
        watcher.warn(f"{needed / 1e6:,.0f} MB are to be written, and {free / 1e6:,.0f} MB are free")
    if plan.device == "cuda":
        from krylearn.data import cuda

        if cuda.draws(plan):
            outcomes = cuda.run_shards(cuda.CudaMaker(plan, layout), store, missing, workers)
        else:  # in this process, which has the device
            maker = Maker(plan, layout, report.solver, cuda.on_device)
            outcomes = run_shards(maker, store, missing, 1, threads)
    else:
        maker = Maker(plan, layout, report.solver)
        outcomes = run_shards(maker, store, missing, workers, threads)
    done = kept
    try:
        for outcome in outcomes:
            done += outcome.count
            report.bad |= outcome.bad
            report.retried |= outcome.retried
            watcher.made(outcome)
    except OSError as error:
        raise _stopped(error, store.part, f"{done} of {report.samples} samples are kept") from error
    valid = store.read("valid", plan.samples).astype(bool)
    report.valid = int(sum(valid[plan.members(s)].sum() for s in own))


def _choose(plan: Plan, workers: int, threads: int,
            watcher: Watcher) -> tuple[str, dict[str, float]]:  # fmt: skip
    """Measure the likely solvers on the first samples."""
    from krylearn.kernels.parallel import get_num_threads, set_num_threads

    problems: list[Any] = []
    for i in range(min(solvers.TRIAL, plan.samples)):
        problems += plan.systems(i)
    job = plan.samples * len(plan.systems(0)) / workers
    before = get_num_threads()
    set_num_threads(threads)
    try:
        return solvers.choose(problems[: 4 * solvers.TRIAL], plan.rtol, job, watcher.say)
    finally:
        set_num_threads(before)


def _check_same(path: Path, plan: Plan, layout: Layout, solver: str) -> None:
    """Refuse a file whose plan is another; the message says in what."""
    there = read_attributes(path)
    here = attributes(plan, layout, solver, solvers.configuration(solver))
    if plan.solver == solver:  # asked for by the name that 'auto' found
        here["solver_asked_for"] = there.get("solver_asked_for")
    different = [f"{name} {there.get(name)!r} there, {value!r} here"
                 for name, value in here.items() if there.get(name) != value]  # fmt: skip
    if different:
        raise ValueError(f"{path} is of another run: {'; '.join(different)}; choose another name, "
                         "or overwrite it")  # fmt: skip


def _count_valid(path: Path) -> int:
    with open_file(path) as file:
        return int(np.sum(file["valid"][:], dtype=np.int64))


def _log(report: Report, plan: Plan) -> None:
    """Append what is not to be in the file: when, where, how fast, and what went wrong."""
    from krylearn.benchmarks.machine import machine_facts

    facts = machine_facts(bandwidth=False)
    line = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"), "samples": report.samples,
        "found": report.found, "valid": report.valid, "solver": report.solver,
        "seconds": round(report.seconds, 3), "trials": report.trials,
        "bad": report.bad, "retried": report.retried,
        "machine": {name: facts[name] for name in ("cpu", "usable_cores", "system", "versions")},
    }  # fmt: skip
    path = report.path.with_name(report.path.name + ".log")
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    except OSError:  # the data matter, not the log
        pass


def _held(function: Callable, *arguments: Any) -> None:
    try:
        function(*arguments)
    except BlockingIOError:
        raise ValueError("another run is writing this file") from None


def _writing(function: Callable, *arguments: Any) -> None:
    try:
        function(*arguments)
    except OSError as error:
        raise _stopped(error, arguments[0], "") from error


def _stopped(error: OSError, path: Any, kept: str) -> Stopped:
    """Return an error that says what to do."""
    if error.errno == errno.ENOSPC or "No space left" in str(error):
        reason = "the disk is full"
    else:
        reason = f"the disk does not take it ({error.strerror or error})"
    after = f"; {kept} in {path}, and the same command goes on" if kept else ""
    stopped = Stopped(f"{reason}{after}")
    stopped.errno = error.errno
    return stopped


def _need_h5py() -> None:
    try:
        import h5py  # noqa: F401
    except ImportError:
        raise ImportError("HDF5 files need h5py: pip install 'krylearn[generate]'") from None
