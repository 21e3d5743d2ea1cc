"""Deep conjugate directions beside conjugate gradients and multigrid, all of them this library's.

Pressure systems of a smoke plume past moving balls that no network was trained on, its top open,
to 1e-4 as in the paper and to 1e-6. Set-up and solve are timed apart; memory is what both take.

References
----------
Kaneda, Akar, Chen, Kala, Hyde and Teran (2023), A deep conjugate direction method for iteratively
solving linear systems, ICML.
"""

from __future__ import annotations

import functools
import statistics
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import krylearn as kl
from krylearn.benchmarks import directions
from krylearn.benchmarks.deflation import subdomains
from krylearn.cuda.preconditioners import by_name
from krylearn.learned import weights

TITLE = "Deep conjugate directions (DCD)"
TOLERANCES = (1e-4, 1e-6)
SEED, BALLS, RUNS = 4711, 4, 3
# A pass of the paper's network over more cells than this takes too long without a GPU.
PAPER_ON_HOST = 64**3
# On more cells only these: what is left out is set up on the host in minutes.
LARGE = 400**3
THERE = ("cg, M = poisson3d", "dcd poisson3d", "multigrid-cg", "cg", "deflated cg",
         "dcd pyramid3d")  # fmt: skip


def parts(full: bool) -> dict[str, Callable]:
    """Return the experiments by name; `full` adds 256^3 on the host."""
    found: dict[str, Callable] = {
        f"host {side}": functools.partial(run, side, "cpu") for side in (64, 128)
    }
    if full:
        found["host 256"] = functools.partial(run, 256, "cpu")
    if _has_cuda():
        found |= {f"cuda {side}": functools.partial(run, side, "cuda")
                  for side in (64, 128, 256, 512)}  # fmt: skip
        found |= {f"safety {side}": functools.partial(directions.safety, side, "cuda")
                  for side in (64, 128)}  # fmt: skip
    found["training"] = training
    return found


def _has_cuda() -> bool:
    try:
        import torch
    except ImportError:
        return False
    return bool(torch.cuda.is_available())


def system(side: int) -> tuple[Any, np.ndarray]:
    """Return the matrix and the right-hand side of the plume's first step on side^3 cells."""
    P = next(kl.problems.smoke((side,) * 3, seed=SEED, obstacles=BALLS, open_top=True, steps=1))
    return P.A, P.b


def training(say: Callable) -> list[dict[str, Any]]:
    """Return what the cards of the shipped networks say of their training."""
    rows = []
    for name in weights.names("direction"):
        card = kl.learned.DCD(name).card
        rows.append({k: card[k] for k in ("name", "parameters", "seconds", "device", "data")})
    return rows


# -- entrants ----------------------------------------------------------------------------------


def entrants(A: Any, b: Any, device: str) -> dict[str, tuple[Callable, Callable]]:
    """Return for each name what sets up, and what solves with it: ``solve(M, rtol)``."""
    n = A.shape[0]
    known = weights.names("direction")

    def cg(M: Any, rtol: float, method: Any = kl.cg) -> Any:
        return method(A, b, rtol=rtol, M=M)

    def dcd(name: str, **settings: Any) -> tuple[Callable, Callable]:
        network = kl.learned.DCD(name)
        return lambda: network.precondition(A), functools.partial(_dcd, A, b, **settings)

    found: dict[str, tuple[Callable, Callable]] = {"cg": (lambda: None, cg)}
    found["deflated cg"] = (lambda: subdomains(A), functools.partial(_deflated, A, b))
    if device == "cpu":
        matrix = A.tocsr()
        found["ic0-cg"] = (lambda: kl.IC0(matrix), cg)
        found["amg-cg"] = (lambda: kl.SmoothedAggregation(matrix), cg)
        found["multigrid-cg"] = (lambda: kl.multigrid(A), cg)
    else:
        host = A.wrapped
        found["ic0-cg"] = (lambda: by_name("ic0", A), cg)
        found["cupy cg"] = (lambda: _cupy_matrix(host), functools.partial(_cupy_cg, b))
        found["amg-cg"] = (lambda: kl.SmoothedAggregation(host.tocsr()).to("cuda"), cg)
        found["multigrid-cg"] = (lambda: _multigrid(A), cg)
    for name in ("poisson3d", "poisson3d-untied"):
        if name in known:
            found[f"dcd {name}"] = dcd(name, limit=np.inf)
    if "poisson3d" in known:
        found["dcd, limited, poisson3d"] = dcd("poisson3d")
    if "poisson3d" in known:
        found["cg, M = poisson3d"] = (lambda: kl.learned.DCD("poisson3d").precondition(A), cg)
    for name in ("paper64", "paper128", "pyramid3d"):
        if name in known and (device != "cpu" or n <= PAPER_ON_HOST):
            # Whatever it costs; and as `dcd` does by itself.
            found[f"dcd {name}"] = dcd(name, limit=np.inf)
            found[f"dcd, limited, {name}"] = dcd(name)
    return found if n < LARGE else {name: found[name] for name in THERE if name in found}


def _dcd(A: Any, b: Any, M: Any, rtol: float, **settings: Any) -> Any:
    from krylearn.learned.dcd.dcd import solve_with_network

    return solve_with_network(A, b, M, rtol=rtol, **settings)


def _multigrid(A: Any) -> Any:
    A._facts = None  # what an earlier set-up has found out
    return kl.multigrid(A)


def _deflated(A: Any, b: Any, M: Any, rtol: float) -> Any:
    return kl.cg(A, b, M.start(b), rtol=rtol, M=M)


def _cupy_matrix(A: Any) -> Any:
    import cupy
    import cupyx.scipy.sparse as sparse

    matrix = A.tocsr()
    return sparse.csr_matrix(
        tuple(map(cupy.asarray, (matrix.data, matrix.indices, matrix.indptr))), shape=matrix.shape
    )


def _cupy_cg(b: Any, A: Any, rtol: float) -> Any:
    import inspect

    import cupy
    import cupyx.scipy.sparse.linalg as linalg

    named = "rtol" if "rtol" in inspect.signature(linalg.cg).parameters else "tol"
    count: list[int] = []
    vector = cupy.asarray(b)
    x, code = linalg.cg(A, vector, **{named: rtol}, callback=lambda v: count.append(1))
    residual = float(cupy.linalg.norm(vector - A @ x) / cupy.linalg.norm(vector))
    return x, {"iterations": len(count), "converged": residual <= 1.01 * rtol}


# -- measuring ---------------------------------------------------------------------------------


def run(side: int, device: str, say: Callable, given: Any = None) -> list[dict[str, Any]]:
    """Return a row for each entrant and tolerance; `given` is a system made before."""
    A, b = system(side) if given is None else given
    if device == "cuda":
        import torch

        A, b = kl.to_cuda(A), torch.from_numpy(b).cuda()
    rows = []
    for name, (make, solve) in entrants(A, b, device).items():
        try:
            rows += _measured(name, make, solve, device, A.shape[0] >= LARGE)
        except (ImportError, MemoryError, TypeError, ValueError, RuntimeError) as error:
            rows.append({"method": name, "error": f"{type(error).__name__}: {error}"[:200]})
        say(f"{side}^3 {device}: {rows[-1]}")
    return rows


def _measured(name: str, make: Callable, solve: Callable, device: str,
              once: bool = False) -> list[dict[str, Any]]:  # fmt: skip
    """Return the rows of an entrant; `once` trusts that smaller grids have compiled the kernels."""
    (seconds, M), peak = _peak(lambda: _with(make, solve, 0.5 if once else 1e-4, device), device)
    setups = [seconds] if once else []
    while not once and len(setups) < RUNS and sum(setups) < 2.0:
        seconds, M = _clocked(make, device)
        setups.append(seconds)
    row = {"method": name, "setup_seconds": statistics.median(setups), "memory_bytes": peak}
    if M is not None and hasattr(M, "apply"):
        row["apply_seconds"] = _application(M, device)
    rows = []
    for rtol in TOLERANCES:
        times: list[float] = []
        result: Any = None
        while len(times) < RUNS and sum(times) < 10.0:
            seconds, result = _clocked(lambda rtol=rtol: solve(M, rtol), device)
            times.append(seconds)
        info = result[1]
        record = info if isinstance(info, dict) else {
            "iterations": info.iterations, "converged": info.converged,
            "dropped": getattr(info, "dropped", ""),
        }  # fmt: skip
        rows.append(row | {"rtol": rtol, "solve_seconds": statistics.median(times)} | record)
    return rows


def _with(make: Callable, solve: Callable, rtol: float, device: str) -> tuple[float, Any]:
    seconds, M = _clocked(make, device)
    solve(M, rtol)
    return seconds, M


def _clocked(work: Callable, device: str) -> tuple[float, Any]:
    _wait(device)
    started = time.perf_counter()
    result = work()
    _wait(device)
    return time.perf_counter() - started, result


def _wait(device: str) -> None:
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def _peak(work: Callable, device: str) -> tuple[Any, int]:
    """Return the result of `work`, and the bytes that it took at most."""
    if device == "cuda":
        import torch

        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        result = work()
        return result, int(torch.cuda.max_memory_allocated() - before)
    tracemalloc.start()
    try:
        return work(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _application(M: Any, device: str) -> float:
    """Return the seconds of one application."""
    n, dtype = M.shape[0], M.dtype
    if device == "cpu":
        r = np.random.default_rng(0).standard_normal(n).astype(dtype)
        out = np.empty_like(r)
        times = [_clocked(lambda: M.apply(r, out), device)[0] for _ in range(5)]
        return statistics.median(times[1:])
    from krylearn.benchmarks.cuda import milliseconds
    from krylearn.cuda import arrays
    from krylearn.cuda.operators import never_stops
    from krylearn.cuda.solve import record

    x, y = arrays.upload(np.random.default_rng(0).standard_normal(n).astype(dtype)), (
        arrays.empty(n, dtype))  # fmt: skip
    M = M.fresh()

    def work() -> None:
        M.apply(never_stops(), x, y)

    work()
    if not M.captures:
        return milliseconds(work, 3) / 1e3
    return milliseconds(record(work, 1).replay) / 1e3


# -- showing -----------------------------------------------------------------------------------


def show(results: dict[str, Any], console: Console) -> None:
    """Print a table for each size and device."""
    for part, rows in results["parts"].items():
        if part == "training":
            for row in rows:
                text = f"{row['parameters']:,} parameters, {row['seconds']:.0f} s, {row['device']}"
                console.print(f"{row['name']}: {text}", markup=False)
            continue
        device, side = part.split()
        if device == "safety":
            console.print(directions.table(side, rows))
            continue
        table = Table(title=f"{side}^3 cells, {device}")
        for title in ("method", "rtol", "iterations", "set-up, s", "solve, s", "apply, ms", "MB"):
            table.add_column(title, justify="left" if title == "method" else "right")
        for row in rows:
            if "error" in row:
                table.add_row(row["method"], row["error"])
                continue
            failed = "" if row["converged"] else " (not converged)"
            note = f", dropped: {row['dropped']}" if row.get("dropped") else ""
            apply = row.get("apply_seconds")
            table.add_row(row["method"] + note, f"{row['rtol']:g}", f"{row['iterations']}{failed}",
                          f"{row['setup_seconds']:.4f}", f"{row['solve_seconds']:.4f}",
                          f"{1e3 * apply:.3f}" if apply else "",
                          f"{row['memory_bytes'] / 1e6:.0f}")  # fmt: skip
        console.print(table)


def draw(results: dict[str, Any], folder: Path) -> list[Path]:
    """Draw nothing: the tables say it all."""
    return []
