"""Networks inside the solvers: predictions as starts, the linear cycle as preconditioner."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import krylearn as kl
from krylearn.benchmarks.papers.mgno import samples
from krylearn.kernels.parallel import get_num_threads

RTOL = 1e-8


def start(name: str, count: int, bank: int, say: Callable) -> list[dict[str, Any]]:
    """Return iterations and seconds of solvers by what they start from.

    The nearest neighbour is the solution for the nearest of `bank` other coefficients, in L2. Its
    search counts, the solutions of the bank do not; a prediction counts.
    """
    model = kl.surrogate(name, samples.device())
    recipe = samples.recipe_of(model.card)
    drawn = samples.thinned(samples.draw(recipe, count + bank), recipe["stride"])
    known = drawn[count:]
    solved = samples.solve(known)

    def nearest(A: Any) -> np.ndarray:
        away = np.sum((known - A.coefficient) ** 2, axis=tuple(range(1, known.ndim)))
        return solved[np.argmin(away)].ravel()

    starts: dict[str, Callable] = {"zero": lambda A: None, "nearest": nearest,
                                   "model": lambda A: model}  # fmt: skip
    solvers: dict[str, Callable] = {
        "CG": lambda A, b, x0: kl.cg(A, b, x0, rtol=RTOL),
        "multigrid-CG": lambda A, b, x0: kl.cg(A, b, x0, rtol=RTOL, M=kl.multigrid(A)),
        "GMRES(40), ILU(0)": lambda A, b, x0: kl.gmres(
            A, b, x0, rtol=RTOL, restart=40, maxiter=400, M=kl.ILU0(A.tocsr())),
    }  # fmt: skip
    rows = []
    for solver, solve in solvers.items():
        for which, begin in starts.items():
            records = [_solved(solve, begin, a) for a in drawn[[0, *range(count)]]]
            # The first one compiles.
            iterations, seconds, first, converged = map(list, zip(*records[1:]))
            rows.append({"solver": solver, "start": which, "iterations": np.mean(iterations),
                         "seconds": statistics.median(seconds), "residual": np.mean(first),
                         "converged": int(sum(converged)), "samples": count,
                         "network": samples.device().upper(),
                         "threads": get_num_threads()})  # fmt: skip
            say(f"{rows[-1]}")
    return rows


def _solved(solve: Callable, begin: Callable, a: np.ndarray) -> tuple[int, float, float, bool]:
    """Return iterations, seconds, the first relative residual, and whether it converged."""
    A = kl.GridOperator.diffusion(kl.Grid(a.shape, centering="cell"), a)
    b = np.ones(A.shape[0])
    began = time.perf_counter()
    x, info = solve(A, b, begin(A))
    seconds = time.perf_counter() - began
    return info.iterations, seconds, info.residuals[0] / np.linalg.norm(b), info.converged


def cycle(sides: tuple[int, ...], say: Callable) -> list[dict[str, Any]]:
    """Return iterations and seconds of CG with the linear cycle and with others, on two families.

    Poisson's equation is what it was trained for; Darcy's, with coefficients 12 and 3, is not.
    """
    rows = []
    makers: dict[str, Callable] = {
        "none": lambda A: None, "IC(0)": lambda A: kl.IC0(A.tocsr()), "multigrid": kl.multigrid,
        "mgno": kl.MgNOCycle, "dcd": lambda A: kl.learned.DCD("poisson2d").precondition(A),
    }  # fmt: skip
    for side in sides:
        systems = {"poisson": kl.problems.poisson((side, side), seed=7),
                   "darcy": kl.problems.darcy((side, side), seed=7, rhs="random")}  # fmt: skip
        for family, P in systems.items():
            for name, make in makers.items():
                rows.append({"family": family, "side": side, "M": name, **_timed(P.A, P.b, make)})
                say(f"{rows[-1]}")
    return rows


def _timed(A: Any, b: np.ndarray, make: Callable) -> dict[str, Any]:
    M = make(A)
    kl.cg(A, b, rtol=RTOL, M=M)  # compiles
    setups, solves, applications = [], [], []
    for _ in range(3):
        began = time.perf_counter()
        M = make(A)
        setups.append(time.perf_counter() - began)
        began = time.perf_counter()
        x, info = kl.cg(A, b, rtol=RTOL, M=M)
        solves.append(time.perf_counter() - began)
    row = {"iterations": info.iterations, "converged": info.converged,
           "setup_seconds": statistics.median(setups),
           "solve_seconds": statistics.median(solves)}  # fmt: skip
    if M is not None:
        out = np.empty_like(b)
        for _ in range(7):
            began = time.perf_counter()
            M.apply(b, out)
            applications.append(time.perf_counter() - began)
        row["apply_seconds"] = statistics.median(applications)
    return row
