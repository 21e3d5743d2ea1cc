"""`AutoSolver` on sequences of many kinds, against every fixed configuration in hindsight."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

import krylearn as kl
from krylearn.learned.selection.arms import Arm, parse_arm, suited_arms
from krylearn.learned.selection.attempt import System, attempt, warm
from krylearn.learned.selection.held import Workshop
from krylearn.problems import Problem

RTOL = 1e-8
# A configuration that needs this much more on the first systems is not run on all of them.
HOPELESS, PROBE = 2.0, 20
# A fixed configuration is stopped at so many times the seconds of AutoSolver.
CAP = 3.0
# Variants are run of configurations within this of the best.
NEAR = 1.3
# Those that take any matrix, for the comparison over all sequences.
GENERAL = ("gmres+ilu0", "gmres+direct", "bicgstab+ilu0")


def _rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def _heat(count: int) -> Iterator[Problem]:
    yield from kl.problems.heat((150, 150), steps=count, dt=5e-3)


def _smoke(count: int) -> Iterator[Problem]:
    yield from kl.problems.smoke((24, 24, 24), steps=count, seed=1)


def _darcy(count: int) -> Iterator[Problem]:
    yield from kl.problems.sequence("darcy", count, shape=(96, 96))


def _convection(count: int) -> Iterator[Problem]:
    """The wind turns round."""
    for t in range(count):
        angle = 2 * np.pi * t / count
        wind = (np.cos(angle), np.sin(angle))
        yield kl.problems.convection_diffusion((96, 96), velocity=wind, seed=t)


def _helmholtz(count: int) -> Iterator[Problem]:
    """A damped medium, another each time."""
    for t in range(count):
        yield kl.problems.helmholtz((48, 48), wavenumber=15.0, damping=0.1, roughness=0.1, seed=t)


def _elasticity(count: int) -> Iterator[Problem]:
    """One plate, whose load walks along it."""
    P = kl.problems.elasticity((64, 64), roughness=0.5)
    across = np.linspace(0, 1, P.A.shape[0])
    for t in range(count):
        load = np.exp(-(((across - (t + 0.5) / count) / 0.05) ** 2))
        yield dataclasses.replace(P, b=load, params={})


def _jumps(count: int) -> Iterator[Problem]:
    """Inclusions of contrast 1e4 that move."""
    shape, rng = (64, 64), _rng(2)
    x, y = kl.Grid(shape).points()
    centres, speeds = rng.uniform(0, 1, (12, 2)), rng.uniform(-0.004, 0.004, (12, 2))
    b = rng.standard_normal(shape).ravel()
    for t in range(count):
        coefficient = np.ones(shape)
        for px, py in (centres + t * speeds) % 1.0:
            coefficient[np.maximum(abs(x - px), abs(y - py)) < 0.06] = 1e4
        A = kl.GridOperator.diffusion(kl.Grid(shape), coefficient)
        yield Problem(A, b, grid=A.grid, name="jumps")


def _constant(count: int) -> Iterator[Problem]:
    """A matrix that never changes, without a grid."""
    A = kl.problems.darcy((160, 160), coefficient="lognormal", seed=3).A.tocsr()
    rng = _rng(3)
    for _ in range(count):
        yield Problem(A, rng.standard_normal(A.shape[0]), name="constant")


def _drift(count: int) -> Iterator[Problem]:
    """A 3-D medium that changes a little at every step."""
    shape, rng = (24, 24, 24), _rng(4)
    fields = [kl.problems.gaussian_random_field(shape, seed=s) for s in range(2)]
    b = rng.standard_normal(shape).ravel()
    for t in range(count):
        angle = np.pi * t / count
        coefficient = np.exp(2 * (np.cos(angle) * fields[0] + np.sin(angle) * fields[1]))
        A = kl.GridOperator.diffusion(kl.Grid(shape), coefficient)
        yield Problem(A, b, grid=A.grid, name="drift")


SEQUENCES: dict[str, Callable[[int], Iterator[Problem]]] = {
    "heat": _heat, "smoke": _smoke, "darcy": _darcy, "convection": _convection,
    "helmholtz": _helmholtz, "elasticity": _elasticity, "jumps": _jumps, "constant": _constant,
    "drift": _drift,
}  # fmt: skip


def run(name: str, count: int, say: Callable[[str], Any]) -> dict[str, Any]:
    """Return the seconds of AutoSolver and of every fixed configuration on one sequence."""
    problems = list(SEQUENCES[name](count))
    solver, probe = kl.AutoSolver(rtol=RTOL), kl.AutoSolver(rtol=RTOL)
    for P in problems:  # a first run loads the kernels of all that it tries
        probe.solve(P.A, P.b, P.params.get("previous"))
    auto = []
    for P in problems:
        started = time.perf_counter()
        _, info = solver.solve(P.A, P.b, P.params.get("previous"))
        auto.append(time.perf_counter() - started)
        assert info == 0, info
    say(f"{name}: AutoSolver {sum(auto):.3g} s")
    fixed: dict[str, list[float]] = {}
    waiting = _configurations(problems[0], (solver, probe))
    for arm in waiting:  # to which variants of those that do well are added
        limit = CAP * sum(auto)
        if _fixed(arm, problems[:2], limit) is None:  # which loads kernels
            continue
        least = min(map(sum, fixed.values()), default=math.inf)
        if str(arm).split(",")[0] not in GENERAL:
            share = HOPELESS * len(problems[:PROBE]) / count
            if _fixed(arm, problems[:PROBE], share * least) is None:
                continue
        seconds = _fixed(arm, problems, limit)
        if seconds is not None:
            fixed[str(arm)] = seconds
            if sum(seconds) < NEAR * least:
                waiting += [variant for variant in arm.variants() if variant not in waiting]
    totals = {arm: float(sum(seconds)) for arm, seconds in fixed.items()}
    best = min(totals, key=lambda arm: totals[arm])
    last = slice(-(count // 4), None)
    say(f"{name}: best fixed {best}, {totals[best]:.3g} s")
    started = time.perf_counter()
    for P in problems:
        kl.solve(P.A, P.b, P.params.get("previous"), rtol=RTOL)
    return {
        "systems": count, "unknowns": problems[0].A.shape[0], "auto": float(sum(auto)),
        "auto_last_quarter": float(sum(auto[last])), "best": best,
        "best_last_quarter": float(min(sum(seconds[last]) for seconds in fixed.values())),
        "rule": time.perf_counter() - started, "fixed": totals,
        "cumulated": {
            label: np.cumsum(np.array(seconds)).round(5).tolist()
            for label, seconds in (("auto", auto), (best, fixed[best]))
        },
        "explanation": solver.explanation(),
    }  # fmt: skip


def _configurations(P: Problem, solvers: Iterable[kl.AutoSolver]) -> list[Arm]:
    """Return what AutoSolver found good, all else that suits, M updated or kept."""
    arms = []
    for solver in solvers:
        for lane in solver._lanes.values():
            arms += [arm for arm in lane.race.ranking() if lane.race.tracks[arm].solved][:6]
    for base in [*suited_arms(P.A), *map(parse_arm, GENERAL)]:
        arms.append(base)
        if base.precond:
            arms.append(dataclasses.replace(base, reuse="keep"))
    return list(dict.fromkeys(arms))


def _fixed(arm: Arm, problems: list[Problem], limit: float) -> list[float] | None:
    """Return the seconds of one configuration on each system; None if it fails or is too slow."""
    settings = {"rtol": RTOL, "atol": 0.0, "maxiter": None}
    workshop, spent = Workshop(), 0.0
    solutions: list[Any] = []
    seconds: list[float] = []
    for P in problems:
        started = time.perf_counter()
        system = System(P.A, P.b, P.params.get("previous"), settings, solutions)
        workshop.arrived(system)
        if not seconds:
            warm(arm, system)
            started = time.perf_counter()
        one = attempt(arm, system, workshop, system.start(arm), limit - spent)
        if not one.solved:
            return None
        workshop.solving(arm, one)
        solutions[:] = [*solutions[-1:], one.x]
        seconds.append(time.perf_counter() - started)
        spent += seconds[-1]
        if spent > limit:
            return None
    return seconds
