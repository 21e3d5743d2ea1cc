"""The command line: krylearn solve | bench | generate | train | doctor | warmup.

Heavy imports wait until a command needs them, so that ``krylearn --help`` is quick.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

app = typer.Typer(
    name="krylearn", no_args_is_help=True, add_completion=False,
    help="Solve sparse linear systems, compare solvers, look after the installation.",
)  # fmt: skip


class _SuiteGroup(TyperGroup):
    """`bench NAME` runs the suite NAME unless NAME is a command of bench."""

    def resolve_command(self, ctx, args):
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            return "", self.commands["run"], args
        return super().resolve_command(ctx, args)


bench_app = typer.Typer(
    cls=_SuiteGroup, no_args_is_help=True, subcommand_metavar="SUITE | COMMAND [ARGS]...",
    help="Run a benchmark suite: `krylearn bench demo` (options: `krylearn bench demo --help`).",
)
app.add_typer(bench_app, name="bench")

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def make_console() -> Console:
    """Return a console; where it is no terminal, no line is too long for it."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=100)


def fail(message: object, as_json: bool = False) -> typer.Exit:
    """Print one line about bad input; return the exit to raise, of status 2."""
    line = " ".join(str(message).split())
    if as_json:
        typer.echo(json.dumps({"error": line}))
    else:
        typer.echo(f"krylearn: {line}", err=True)
    return typer.Exit(2)


def print_json(value: Any) -> None:
    """Print strict JSON."""
    from krylearn.benchmarks.files import to_json

    typer.echo(to_json(value))


@app.command()
def solve(
    file: Annotated[Path, typer.Argument(help="Matrix Market file with A.")],
    rhs: Annotated[Path | None, typer.Argument(help="b as .mtx, .npy or .txt; A @ ones if absent.")
                   ] = None,
    method: Annotated[str, typer.Option(help="A method's name, or auto.")] = "auto",
    precond: Annotated[str, typer.Option(help="A preconditioner's name, auto or none.")] = "auto",
    rtol: Annotated[float, typer.Option(help="Relative tolerance of the true residual.")] = 1e-8,
    maxiter: Annotated[int | None, typer.Option(help="Most iterations.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write x: .npy, .mtx or .txt.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the residual history.")] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Solve A x = b. Exit status: 0 converged, 1 not converged, 2 bad input."""
    from krylearn.benchmarks import files, show

    console = make_console()
    try:
        files.check_outputs(out, plot)
        A = files.read_matrix(file)
        b, origin = files.read_rhs(rhs, A)
        from krylearn.choose import solve as choose

        M = None if precond == "none" else precond
        with show.bar(None if as_json else console, None, f"solving {A.shape[1]:,} unknowns"):
            x, info = choose(A, b, method=method, rtol=rtol, maxiter=maxiter, M=M)
        if out:
            files.write_vector(out, x)
        if plot:
            files.plot_history(plot, info, rtol * files.size(b))
    except (OSError, ValueError, TypeError, ImportError, ArithmeticError) as error:
        raise fail(error, as_json) from None
    except MemoryError:
        raise fail("this machine has not enough memory for that", as_json) from None
    relative = info.residual / (files.size(b) or 1.0)
    record = {
        "converged": info.converged, "info": int(info), "reason": info.reason.name.lower(),
        "advice": info.reason.advice, "method": info.method,
        "choice": getattr(info, "choice", ""), "unknowns": A.shape[1],
        "rhs": origin, "iterations": info.iterations, "matvecs": info.matvecs,
        "residual": float(info.residual), "relative_residual": float(relative),
        "setup_seconds": info.setup_seconds, "solve_seconds": info.solve_seconds,
        "out": out, "plot": plot,
    }  # fmt: skip
    if as_json:
        print_json(record)
    else:
        for label, value in (
            ("method", f"{info.method} ({record['choice']})"),
            ("right side", origin),
            ("reason", str(info.reason)),
            ("iterations", f"{info.iterations:,}"),
            ("matvecs", f"{info.matvecs:,}"),
            ("residual", f"{info.residual:.3e}, relative {relative:.3e} (rtol {rtol:g})"),
            ("time", f"set-up {info.setup_seconds:.3g} s, solve {info.solve_seconds:.3g} s"),
            *([("solution", str(out))] if out else []),
            *([("history", str(plot))] if plot else []),
        ):
            console.print(f"{label:<12}{value}", markup=False, soft_wrap=True)
    raise typer.Exit(0 if info.converged else 1)


@bench_app.command("run", hidden=True)
def bench_run(
    suite: Annotated[str, typer.Argument(help="demo, foundation, papers/NAME, or the path of a "
                                         ".toml file.")],
    out: Annotated[Path | None, typer.Option(help="JSON file (results/SUITE.json).")] = None,
    resume: Annotated[bool | None, typer.Option(
        "--resume/--fresh", show_default=False,
        help="Keep the rows of an earlier run, or none. Without either, a run that was cut short "
        "goes on, and one that had finished is made anew.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Most seconds a row.", min=0.1)] = None,
    runs: Annotated[int | None, typer.Option(help="Solves a row; the median counts.", min=1)
                    ] = None,
    only: Annotated[str | None, typer.Option(help="Only rows whose case/method matches.")] = None,
    device: Annotated[str, typer.Option(help="cuda: our methods there too, a row each.")] = "cpu",
    full: Annotated[bool, typer.Option("--full", help="papers/NAME: the paper's own sizes.")
                    ] = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Run a suite: each method in a process of its own, results kept after each row."""
    from krylearn.benchmarks.cases import load_suite
    from krylearn.benchmarks.runner import select
    from krylearn.benchmarks.show import run_and_show

    try:
        if suite.startswith("papers/"):
            from krylearn.benchmarks.papers import run_paper

            results = run_paper(None if as_json else make_console(), suite[7:], out, full=full,
                                resume=resume, only=only)  # fmt: skip
            if as_json:
                print_json(results)
            return
        loaded = load_suite(suite, device, timeout=timeout, runs=runs)
        if not select(loaded.jobs, only):
            raise ValueError(f"nothing in {loaded.name} matches {only!r}")
        path = out or Path("results") / f"{loaded.name}.json"
        results = run_and_show(
            None if as_json else make_console(), loaded, path, resume=resume, only=only
        )
    except (ValueError, OSError) as error:
        raise fail(error, as_json) from None
    except KeyboardInterrupt:
        typer.echo(f"stopped; `krylearn bench {suite}` goes on from there", err=True)
        raise typer.Exit(130) from None
    if as_json:
        print_json(results)


@bench_app.command("plot")
def bench_plot(
    file: Annotated[Path, typer.Argument(help="A JSON file that bench wrote.")],
    out: Annotated[Path | None, typer.Option(help="Folder (beside the file).")] = None,
    as_json: Json = False,
) -> None:
    """Draw convergence curves, a performance profile and time against size."""
    from krylearn.benchmarks.plot import save_plots
    from krylearn.benchmarks.runner import read_results

    try:
        paths = save_plots(read_results(file), out or file.parent)
    except (ValueError, OSError, ImportError) as error:
        raise fail(error, as_json) from None
    if as_json:
        print_json({"files": paths})
    elif not paths:
        typer.echo("nothing to draw: no row has converged")
    else:
        for path in paths.values():
            typer.echo(str(path))


@bench_app.command("report")
def bench_report(
    file: Annotated[Path, typer.Argument(help="A JSON file that bench wrote.")],
    out: Annotated[Path | None, typer.Option(help="HTML file (beside FILE).")] = None,
    as_json: Json = False,
) -> None:
    """Write one self-contained HTML file: tables that sort, all plots, the machine."""
    from krylearn.benchmarks.html import write_report

    try:
        path = write_report(file, out)
    except (ValueError, OSError) as error:
        raise fail(error, as_json) from None
    if as_json:
        print_json({"report": path})
    else:
        typer.echo(str(path))


@bench_app.command("pays")
def bench_pays(
    docs: Annotated[Path, typer.Option(help="Folder with the recorded results.")] = Path("docs"),
    as_json: Json = False,
) -> None:
    """Write the page "When does learning pay?" from the recorded results."""
    from krylearn.benchmarks import pays

    try:
        paths = pays.write(docs)
    except (ValueError, OSError) as error:
        raise fail(error, as_json) from None
    if as_json:
        print_json({"files": paths})
    else:
        typer.echo("\n".join(map(str, paths)))


@bench_app.command("list")
def bench_list(as_json: Json = False) -> None:
    """Name the suites, and the papers whose experiments can be run again."""
    from krylearn.benchmarks.cases import load_suite, suite_names
    from krylearn.benchmarks.papers import paper_names

    suites = [load_suite(name) for name in suite_names()]
    if as_json:
        print_json([{"name": s.name, "title": s.title, "rows": len(s.jobs)} for s in suites])
    else:
        for s in suites:
            typer.echo(f"{s.name:<14}{s.title} ({len(s.cases)} cases, {len(s.jobs)} rows)")
        for paper in paper_names():
            typer.echo(f"papers/{paper}")


@bench_app.command("kernels")
def bench_kernels(
    side: Annotated[int, typer.Option(help="Points along a cube's edge.", min=4)] = 128,
    as_json: Json = False,
) -> None:
    """Bytes that each kernel must move, and the share of the triad's speed that it reaches."""
    from krylearn.benchmarks import kernels, machine, report, show

    facts = machine.machine_facts()
    with show.bar(None if as_json else make_console(), None, "timing the kernels"):
        rows = kernels.measure_kernels(side)
    if as_json:
        print_json({"machine": facts, "side": side, "kernels": rows})
        return
    console = make_console()
    console.print(report.machine_line(facts), markup=False, soft_wrap=True)
    console.print(report.kernel_table(rows, facts["triad_all_threads"]))


@bench_app.command("generation")
def bench_generation(
    family: Annotated[str, typer.Option(help="As for `krylearn generate`.")] = "darcy",
    samples: Annotated[int, typer.Option(help="How many.", min=1)] = 1000,
    grid: Annotated[int, typer.Option(help="Points an axis.", min=4)] = 128,
    solver: Annotated[str, typer.Option(help="As for `krylearn generate`.")] = "auto",
    as_json: Json = False,
) -> None:
    """Time the making of a data set beside libraries that solve its systems."""
    from krylearn.benchmarks import generation, show

    console = make_console()
    try:
        with show.bar(None if as_json else console, None, "making data and timing peers"):
            found = generation.measure_generation(family, samples, grid, solver=solver)
    except (OSError, ValueError, ImportError) as error:
        raise fail(error, as_json) from None
    if as_json:
        print_json(found)
    else:
        generation.show_generation(console, found)


@app.command()
def generate(
    family: Annotated[str, typer.Argument(
        help="A problem family such as darcy, or a data set of the literature: darcy-smooth, "
        "darcy-rough, multiscale.")],
    samples: Annotated[int, typer.Option(help="How many.", min=1)],
    out: Annotated[Path, typer.Option(help="HDF5 file; FILE.part until it is complete.")],
    grid: Annotated[str | None, typer.Option(help="Points an axis: 128, or 96x96x64.")] = None,
    solver: Annotated[str, typer.Option(
        help="auto (the fastest on the first samples), batch, recycle, solve (kl.solve), or a "
        "method with or without a preconditioner: direct, cg+ic0.")] = "auto",
    seed: Annotated[int, typer.Option(help="Of the first sample; the others follow.", min=0)] = 0,
    rtol: Annotated[float, typer.Option(help="Bound of each true relative residual.")] = 1e-8,
    stride: Annotated[int | None, typer.Option(help="Keep every how many-th point.", min=1)] = None,
    dtype: Annotated[str, typer.Option(help="Of what is kept: float64 or float32.")] = "float64",
    settings: Annotated[list[str] | None, typer.Option(
        "--set", metavar="NAME=VALUE", help="An option of the family: --set contrast=1e6.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes (all cores).", min=1)] = None,
    threads: Annotated[int, typer.Option(help="Threads of each process.", min=1)] = 1,
    overwrite: Annotated[bool, typer.Option(help="Start anew, whatever is there.")] = False,
    device: Annotated[str, typer.Option(help="cpu, or cuda: definite operators on grids.")] = "cpu",
    shards: Annotated[str | None, typer.Option(
        metavar="I/N | auto", help="Make one of N shares (auto: as mpirun or a job array counts); "
        "the command without it joins them.")] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Make a data set: draw, solve, verify, write. A run that was killed goes on.

    Exit status: 0 all valid, 1 some samples are not or the disk is full, 2 bad input.
    """
    import os
    from dataclasses import asdict

    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):  # before NumPy is imported
        os.environ.setdefault(name, str(threads))
    from krylearn.cuda.arrays import NoCUDA
    from krylearn.data import plan, run, show
    from krylearn.data import workers as processes

    processes.keep_memory()
    console = make_console()
    try:
        with show.Bar(None if as_json else console) as bar:
            report = run.generate(
                family, samples=samples, out=out, grid=plan.parse_grid(grid), solver=solver,
                seed=seed, rtol=rtol, stride=stride, dtype=dtype,
                options=plan.parse_options(settings or []), workers=workers, threads=threads,
                overwrite=overwrite, device=device, shards=shards, watcher=bar,
            )  # fmt: skip
    except NoCUDA as error:
        raise fail(error, as_json) from None
    except (run.Stopped, RuntimeError) as error:
        fail(error, as_json)
        raise typer.Exit(1) from None
    except (OSError, ValueError, TypeError, ImportError, ArithmeticError) as error:
        raise fail(error, as_json) from None
    except MemoryError:
        raise fail("this machine has not enough memory for that", as_json) from None
    except KeyboardInterrupt:
        typer.echo("stopped; the same command goes on from there", err=True)
        raise typer.Exit(130) from None
    if as_json:
        print_json(asdict(report) | {"rate": report.rate})
    else:
        show.show_report(console, report)
    raise typer.Exit(0 if report.valid == report.samples else 1)


@app.command()
def train(
    family: Annotated[str, typer.Argument(help="mgno or dcd.")],
    config: Annotated[Path, typer.Argument(help="TOML file, or the name of one that is shipped.")],
    out: Annotated[Path, typer.Option(help="Folder of checkpoint, weights and card.")],
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    seconds: Annotated[float | None, typer.Option(help="Stop after these; the same command goes "
                                                  "on from the checkpoint.", min=0)] = None,
    seed: Annotated[int | None, typer.Option(help="In place of the configuration's.")] = None,
    data: Annotated[Path | None, typer.Option(help="In place of the configuration's.")] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Train a network; write weights and a model card."""
    try:
        from krylearn.learned.training import trainer_of

        Trainer, settings = trainer_of(family, config)
        if seed is not None:
            settings.seed = seed
        if data is not None:
            settings.data = str(data)
        say = (lambda line: None) if as_json else typer.echo
        limit = {} if seconds is None else {"seconds": seconds}
        card = Trainer(settings, device).run(out, say=say, **limit)
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        raise fail(error, as_json) from None
    if as_json:
        print_json(card)
    elif card is None:
        typer.echo("time is up; the same command goes on from the checkpoint")
    else:
        weights = out / f"{card['name']}.safetensors"
        figures = ", ".join(f"{name} {value:.3e}" for name, value in card["test"].items())
        typer.echo(f"test {figures}; {weights}")


@bench_app.command("cuda")
def bench_cuda(
    out: Annotated[Path, typer.Option(help="JSON file.")] = Path("results/cuda.json"),
    side: Annotated[int, typer.Option(help="Points along the edge of the largest cube.", min=16)
                    ] = 512,
    only: Annotated[str, typer.Option(
        help="Sections between commas: stencil, matrix, multigrid, fast, setup, kinds, amg, "
        "batched. "
        "Others that FILE holds stay.")] = "",
    tests: Annotated[Path | None, typer.Option(help="What `pytest --junitxml` wrote, to record.")
                     ] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Time methods and kernels on the CUDA device, beside CuPy where that is installed."""
    from krylearn.benchmarks import cuda, show
    from krylearn.cuda.arrays import NoCUDA

    try:
        old = json.loads(out.read_text()) if only and out.exists() else {}
        more = {} if tests is None else {"tests": cuda.tests_of(tests)}
        out.parent.mkdir(parents=True, exist_ok=True)

        def keep(found: dict) -> None:
            out.write_text(json.dumps(cuda.merge(old, found | more), indent=1) + "\n")

        with show.bar(None if as_json else make_console(), None, "timing on the device") as bar:
            cuda.run(side, only, keep, bar.say)
        results = json.loads(out.read_text())
    except (NoCUDA, MemoryError, OSError, ValueError) as error:
        raise fail(error, as_json) from None
    if as_json:
        print_json(results)
    else:
        typer.echo(cuda.table(results))


@bench_app.command("petsc")
def bench_petsc(
    out: Annotated[Path, typer.Option(help="JSON file.")] = Path("results/petsc.json"),
    side: Annotated[int, typer.Option(help="Points along the edge of the cube.", min=8)] = 128,
    runs: Annotated[int, typer.Option(help="Solves a row; the median counts.", min=1)] = 3,
    only: Annotated[str, typer.Option(help="Only rows whose name holds this, made anew.")] = "",
    fresh: Annotated[bool, typer.Option(help="Make all rows anew.")] = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Time preconditioners and methods inside PETSc, on one rank and two, beside PETSc's own."""
    from krylearn.benchmarks import petsc

    try:
        found = petsc.run(out, side, runs, only, fresh, (lambda text: None) if as_json else
                          lambda text: typer.echo(text, err=True))  # fmt: skip
    except (OSError, ValueError) as error:
        raise fail(error, as_json) from None
    if as_json:
        print_json(found)
    else:
        typer.echo(petsc.table(found))


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what is installed, how many threads, CUDA, the kernels' cache, memory bandwidth."""
    from krylearn.benchmarks import machine, show

    facts = machine.machine_facts()
    directory, writable = machine.cache_directory()
    devices, problem = machine.cuda_devices()
    facts |= {"cache_directory": directory, "cache_writable": writable,
              "cuda_devices": devices, "cuda_problem": problem}  # fmt: skip
    if as_json:
        print_json(facts)
    else:
        show.show_doctor(make_console(), facts)


@app.command()
def warmup(as_json: Json = False) -> None:
    """Compile the kernels now, so that no later call has to wait."""
    from krylearn.benchmarks import show
    from krylearn.benchmarks.warm import tasks

    report = show.run_tasks(None if as_json else make_console(), tasks())
    if as_json:
        print_json(report)
    else:
        done = len(report["done"])
        typer.echo(f"{done} combinations are compiled, in {report['seconds']:.1f} s")
        for name, reason in report["left_out"].items():
            typer.echo(f"left out {name}: {reason}")


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
