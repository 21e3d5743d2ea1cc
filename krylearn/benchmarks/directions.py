"""What a network of no use costs `dcd` in seconds, beside conjugate gradients and a pass."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from rich.table import Table

import krylearn as kl
from krylearn.learned.dcd.dcd import solve_with_network
from krylearn.learned.dcd.paper import DirectionNet, PyramidNet

__all__ = ["safety", "table"]

RUNS = 7


class _Noise(torch.nn.Module):
    """The paper's network for some passes; then noise, at the same cost."""

    linear, dimension = False, 3

    def __init__(self, model: Any, after: int) -> None:
        super().__init__()
        self.model, self.after, self.passes = model, after, 0
        self.multiplications, self.launches = model.multiplications, model.launches

    def forward(self, r: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        q = self.model(r)
        return q if self.passes <= self.after else torch.randn_like(q) * q.norm()


def _poisoned(model: Any, value: float) -> Any:
    with torch.no_grad():
        next(model.parameters()).fill_(value)
    return model


def networks() -> dict[str, Callable[[], Any]]:
    """Return networks of no use, by what is wrong with them."""
    def shipped(name: str) -> Any:
        return kl.learned.DCD(name).model

    return {
        "random weights, paper's network": lambda: DirectionNet(),
        "random weights, pyramid": lambda: PyramidNet(),
        "NaN among the weights": lambda: _poisoned(DirectionNet(), float("nan")),
        "huge weights": lambda: _poisoned(DirectionNet(), 1e20),
        "paper64, noise after four passes": lambda: _Noise(shipped("paper64"), 4),
        "pyramid3d, noise after four passes": lambda: _Noise(shipped("pyramid3d"), 4),
        "paper64": lambda: shipped("paper64"),
        "pyramid3d": lambda: shipped("pyramid3d"),
        "poisson3d": lambda: shipped("poisson3d"),
    }


def problems(side: int) -> dict[str, Callable[[], tuple[Any, np.ndarray]]]:
    """Return what they are tried on: the plume, and a problem that none of them knows."""
    def plume() -> tuple[Any, np.ndarray]:
        P = next(kl.problems.smoke((side,) * 3, seed=4711, obstacles=4, open_top=True, steps=1))
        return P.A, P.b

    def other() -> tuple[Any, np.ndarray]:
        rng = np.random.default_rng(0)
        coarse = 10.0 ** rng.uniform(-2, 2, (8, 8, 8))
        coefficient = np.kron(coarse, np.ones((side // 8,) * 3))
        A = kl.GridOperator.diffusion(kl.Grid((side,) * 3), coefficient)
        return A, rng.standard_normal(A.shape[0])

    return {"plume": plume, "contrast 1e4": other}


def safety(side: int, device: str, say: Callable) -> list[dict[str, Any]]:
    """Return rows: seconds of `cg`, of a pass and of `dcd`, medians of solves in turn.

    ``ratio`` is ``(dcd - pass) / cg``.
    """
    wait: Callable = torch.cuda.synchronize if device == "cuda" else (lambda: None)
    rows = []
    for problem, make in problems(side).items():
        system: Any = make()
        A, b = system
        if device == "cuda":
            A, b = kl.to_cuda(A), torch.from_numpy(b).cuda()
        for what, network in networks().items():
            if problem == "plume" and what in ("paper64", "pyramid3d", "poisson3d"):
                continue  # it knows that one
            if device == "cpu" and side > 32 and "poisson3d" not in what:
                continue  # a pass takes a second
            model = network()
            M = kl.learned.DCD(model.eval()).precondition(A)
            for rtol in (1e-4, 1e-6):
                rows.append({"problem": problem, "network": what, "rtol": rtol}
                            | _compared(A, b, M, model, rtol, wait))  # fmt: skip
                say(f"{side}^3 {device}: {rows[-1]}")
    return rows


def _compared(A: Any, b: Any, M: Any, model: Any, rtol: float, wait: Callable) -> dict[str, Any]:
    own = getattr(M, "_model", model)  # on the device a copy

    def timed(work: Callable) -> tuple[float, Any]:
        if hasattr(own, "passes"):
            own.passes = 0
        wait()
        started = time.perf_counter()
        result = work()
        wait()
        return time.perf_counter() - started, result

    works = {
        "cg": functools.partial(kl.cg, A, b, rtol=rtol),
        "pass": functools.partial(M.matvec, b),
        "dcd": functools.partial(solve_with_network, A, b, M, rtol=rtol),
    }
    times: dict[str, list[float]] = {name: [] for name in works}
    results: dict[str, Any] = {}
    for k in range(RUNS + 1):
        for name, work in works.items():
            seconds, results[name] = timed(work)
            if k:  # the first ones compile
                times[name].append(seconds)
        if sum(times["cg"]) > 1.0:
            break
    cg, one, dcd = (statistics.median(times[name]) for name in works)
    info = results["dcd"][1]
    return {
        "cg_seconds": cg, "pass_seconds": one, "dcd_seconds": dcd, "ratio": (dcd - one) / cg,
        "cg_iterations": results["cg"][1].iterations, "iterations": info.iterations,
        "passes": info.precond_applies, "converged": info.converged, "dropped": info.dropped,
    }  # fmt: skip


def table(side: str, rows: list[dict[str, Any]]) -> Table:
    """Return what `safety` found as a table."""
    shown = Table(title=f"{side}^3 cells, cuda: networks of no use, (dcd - pass) / cg")
    for title in ("network", "problem", "rtol", "cg, ms", "pass, ms", "dcd, ms", "ratio", "passes"):
        shown.add_column(title, justify="left" if title in ("network", "problem") else "right")
    for row in rows:
        shown.add_row(row["network"], row["problem"], f"{row['rtol']:g}",
                      *(f"{1e3 * row[k]:.2f}" for k in ("cg_seconds", "pass_seconds",
                                                        "dcd_seconds")),
                      f"{row['ratio']:.2f}", str(row["passes"]))  # fmt: skip
    return shown
