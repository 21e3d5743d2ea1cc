"""Experiment (b): SSOR-CG on the heat equation, section 4 of the paper; iterations and seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import scipy.fft

import krylearn as kl
from krylearn.benchmarks.papers.relax.auto import Configuration
from krylearn.benchmarks.papers.relax.race import Race, lanes, marks, policies
from krylearn.kernels.counting import ssor_cg_counts
from krylearn.learned.relaxation import ChebCB, Fixed, Policy, TsallisINF, Young, YoungCB
from krylearn.learned.selection.arms import suited_arms

RTOL, DT, STEPS, MOST = 1e-8, 1e-3, 5000, 10000


def systems(nx: int, stride: int = 1) -> Iterator[Any]:
    """Yield every `stride`-th of the 5000 systems."""
    return islice(kl.problems.heat((nx, nx), steps=STEPS, dt=DT), stride - 1, None, stride)


def young(nx: int) -> Young:
    """Return Young's formula for ``I + c A``, c being kappa."""
    grid = kl.Grid((nx, nx))
    return Young(DT / 2 * kl.GridOperator.diffusion(grid).tocsr(), family="I + cA")


def count(nx: int, stride: int, seeds: Iterable[int], say: Callable[[str], Any]) -> dict[str, Any]:
    """Return iterations of every policy, and of plain CG."""
    race, conjugate = start(nx, seeds), 0
    for P in systems(nx, stride):
        conjugate += step(race, P)
        if race.rounds % 100 == 0:
            say(f"heat, nx = {nx}: {race.rounds} of {STEPS // stride}")
    return summary(race, nx, conjugate)


def start(nx: int, seeds: Iterable[int]) -> Race:
    """Return the race of the policies, which may be pickled between steps."""
    return Race(policies((0.0, 10.0), young(nx), seeds))


def step(race: Race, P: Any) -> int:
    """Let all solve one system; return the iterations of plain CG."""
    x0, kappa = P.params["previous"], P.params["kappa"]
    r0 = (P.b - P.A @ x0).reshape(P.grid.shape)
    off = DT / 2 * kappa / P.grid.spacing[0] ** 2
    tolerance = RTOL * float(np.linalg.norm(P.b))
    race.run(kappa, lambda omegas: lanes(
        ssor_cg_counts, omegas, r0, 1 + 4 * off, off, tolerance, most=MOST))  # fmt: skip
    return kl.cg(P.A, P.b, x0, rtol=RTOL)[1].iterations


def summary(race: Race, nx: int, conjugate: int) -> dict[str, Any]:
    """Return what there is to keep of a race."""
    rows = [{"policy": "CG", "iterations": conjugate}, *race.rows()]
    return {"nx": nx, "steps": race.rounds, "marks": marks(race.rounds), "rows": rows}


def clock(nx: int, stride: int, say: Callable[[str], Any]) -> dict[str, Any]:
    """Return the seconds of whole solvers, learner and set-up included, taken in turns."""
    entrants: dict[str, Callable[[Any, Any], Any]] = {"CG": lambda P, A: _cg(P, P.A)}
    formula = young(nx)
    learned: dict[str, Policy] = {
        "SSOR(1)-CG": Fixed(1.0), "SSOR(1.5)-CG": Fixed(1.5), "Tsallis-INF": TsallisINF(),
        "ChebCB": ChebCB(), "Young": formula, "Young and bandit": YoungCB(formula),
    }  # fmt: skip
    for name, policy in learned.items():
        entrants[name] = _Relaxed(policy)
    entrants["IC(0)-CG"] = _Preconditioned(kl.IC0, entries=True)
    entrants["multigrid-CG"] = _Preconditioned(kl.GeometricMultigrid)
    entrants["fast Poisson"] = lambda P, A: kl.fast_poisson(P.A, P.b, rtol=RTOL)
    entrants["sine transforms by hand"] = _SineTransforms(nx)
    entrants["kl.solve"] = lambda P, A: kl.solve(P.A, P.b, P.params["previous"], rtol=RTOL)
    auto = kl.AutoSolver(rtol=RTOL, horizon=STEPS // stride)
    entrants["AutoSolver"] = lambda P, A: auto.solve(P.A, P.b, P.params["previous"])
    seconds, iterations = dict.fromkeys(entrants, 0.0), dict.fromkeys(entrants, 0)
    for step, P in enumerate(systems(nx, stride), 1):
        A = P.A.tocsr()
        for name, solve in entrants.items():
            if step == 1 and name != "AutoSolver":
                solve(P, A)  # kernels are loaded and set-ups that last are made, untimed
            elif step == 1:
                for arm in suited_arms(P.A):  # kernels only
                    fixed = Configuration(arm)
                    for _ in range(3):
                        fixed.solve(P, 10.0)
            started = time.perf_counter()
            x, info = solve(P, A)
            seconds[name] += time.perf_counter() - started
            iterations[name] += info.iterations
            assert info == 0, (name, info)
        if step % 100 == 0:
            say(f"clock, nx = {nx}: {step} of {STEPS // stride}")
    rows = [{"solver": name, "seconds": seconds[name], "iterations": iterations[name]}
            for name in entrants]  # fmt: skip
    return {
        "nx": nx, "steps": STEPS // stride, "threads": kl.get_num_threads(), "rows": rows,
        "explanation": auto.explanation(),
    }  # fmt: skip


def _cg(P: Any, A: Any, **more: Any) -> Any:
    return kl.cg(A, P.b, P.params["previous"], rtol=RTOL, **more)


class _Relaxed:
    """SSOR-CG whose omega a policy chooses."""

    def __init__(self, policy: Policy) -> None:
        self.policy, self.M = policy, None

    def __call__(self, P, A):
        context = P.params["kappa"]
        if self.M is None:
            self.M = kl.SSOR(A, omega=self.policy, context=context)
        else:
            self.M.update(A, context=context)
        return _cg(P, A, M=self.M)


class _Preconditioned:
    """CG with a preconditioner that is made once, then updated."""

    def __init__(self, make: Callable, entries: bool = False) -> None:
        self.make, self.entries, self.M = make, entries, None

    def __call__(self, P, A):
        A = A if self.entries else P.A
        self.M = self.make(A) if self.M is None else self.M.update(A)
        return _cg(P, A, M=self.M)


class _SineTransforms:
    """What someone would write who knows that the grid is a square."""

    def __init__(self, nx: int) -> None:
        one = (2 - 2 * np.cos(np.pi * np.arange(1, nx + 1) / (nx + 1))) * (nx + 1) ** 2
        self.eigenvalues, self.shape = one[:, None] + one, (nx, nx)

    def __call__(self, P, A):
        waves = scipy.fft.dstn(P.b.reshape(self.shape), type=1)
        waves /= 1 + DT / 2 * P.params["kappa"] * self.eigenvalues
        return scipy.fft.idstn(waves, type=1, overwrite_x=True).ravel(), _DONE


class _Done(int):
    iterations = 0


_DONE = _Done(0)
