"""`AutoSolver` on sequences of many kinds, against every fixed configuration in hindsight."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import krylearn as kl
from krylearn.learned.selection.arms import EXACT, Arm, parse_arm, suited_arms
from krylearn.learned.selection.attempt import System, attempt, warm
from krylearn.learned.selection.auto import STARTS
from krylearn.learned.selection.held import Workshop
from krylearn.problems import Problem

RTOL = 1e-8
# A configuration that needs this much more on the first systems, and on as many of all, is out.
HOPELESS = 2.0
# Those within this of the best, so many at most, run on all systems.
NEAR, MOST = 1.3, 8
# There they are stopped at so many times the seconds of AutoSolver so far, and some more.
CAP, SLACK = 3.0, 0.3
# The rule of `kl.solve` is followed at every so many systems.
RULE_EVERY = 4
# Methods and preconditioners that take any matrix, for the comparison over all sequences.
METHODS = ("gmres", "bicgstab", "idrs", "gcrodr")
PRECONDITIONERS = ("ilu0", "jacobi", "gauss_seidel")
# Those whose variants may matter.
BEST = ("direct", "gmres+ilu0", "bicgstab+ilu0")
# They are stopped at so many times the seconds of AutoSolver.
ENOUGH = 1.5


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


def run(name: str, count: int, say: Callable[[str], Any], probe: int = 20) -> dict[str, Any]:
    """Return the seconds of AutoSolver and of fixed configurations on one sequence.

    All configurations that suit are tried one after the other, to find those that may be the best
    in hindsight. These then run once more together with AutoSolver, all taking turns at each
    system, so that whatever the machine does besides meets all of them alike. `probe` systems
    tell who may be the best.
    """
    problems = list(SEQUENCES[name](count))
    scout = kl.AutoSolver(rtol=RTOL)
    began = time.perf_counter()
    for P in problems:  # a first run loads the kernels of all that it tries
        scout.solve(P.A, P.b, P.params.get("previous"))
    say(f"{name}: AutoSolver for the first time {time.perf_counter() - began:.3g} s")
    candidates = _candidates(problems, scout, probe)
    say(f"{name}: {len(candidates)} candidates, the first {candidates[0]}")
    entrants = {str(arm): Configuration(arm) for arm in candidates}
    solver, auto, rule = kl.AutoSolver(rtol=RTOL), [], 0.0
    seconds: dict[str, list[float]] = {label: [] for label in entrants}
    stopped: dict[str, float] = {}
    for k, P in enumerate(problems):
        x0 = P.params.get("previous")
        # Nobody always comes first, when A is not in a cache yet, or after the same one.
        for label in np.roll(["AutoSolver", *entrants], k):
            if label == "AutoSolver":
                auto.append(_timed(solver.solve, P.A, P.b, x0))
                continue
            one = entrants[label].solve(P, CAP * sum(auto) + SLACK - sum(seconds[label]))
            if one is None:
                # It would have taken more than this.
                stopped[label] = max(sum(seconds[label]), CAP * sum(auto) + SLACK)
                del entrants[label], seconds[label]
            else:
                seconds[label].append(one)
        if k % RULE_EVERY == 0:
            rule += RULE_EVERY * _timed(kl.solve, P.A, P.b, x0, rtol=RTOL)
    totals = {arm: float(sum(times)) for arm, times in seconds.items()}
    best = min(totals, key=lambda arm: totals[arm])
    last = slice(-(count // 4), None)
    say(f"{name}: AutoSolver {sum(auto):.3g} s, {best} {totals[best]:.3g} s")
    everywhere = {str(arm): totals.get(str(arm)) or _stretch(arm, problems, ENOUGH * sum(auto))
                  for arm in general()}  # fmt: skip
    say(f"{name}: {sum(isinstance(one, float) for one in everywhere.values())} general "
        "configurations have solved all")  # fmt: skip
    return {
        "systems": count, "unknowns": problems[0].A.shape[0], "auto": float(sum(auto)),
        "auto_last_quarter": float(sum(auto[last])), "best": best,
        "best_last_quarter": float(min(sum(times[last]) for times in seconds.values())),
        "rule": rule, "fixed": totals, "stopped": stopped, "general": everywhere,
        "cumulated": {
            label: np.cumsum(np.array(times)).round(4).tolist()
            for label, times in (("auto", auto), (best, seconds[best]))
        },
        "explanation": solver.explanation(),
    }  # fmt: skip


def _timed(call: Callable, *args: Any, **options: Any) -> float:
    started = time.perf_counter()
    _, info = call(*args, **options)
    assert info == 0, info
    return time.perf_counter() - started


class Configuration:
    """One configuration from system to system, which keeps what it may keep."""

    def __init__(self, arm: Arm) -> None:
        self.arm, self.workshop = arm, Workshop()
        self.solutions: list[Any] = []

    def solve(self, P: Problem, limit: float) -> float | None:
        """Return the seconds of one more system; None if it fails or exceeds the limit."""
        settings = {"rtol": RTOL, "atol": 0.0, "maxiter": None}
        system = System(P.A, P.b, P.params.get("previous"), settings, self.solutions)
        # Whether A has changed is for AutoSolver to find out; who fixes a configuration knows it.
        self.workshop.arrived(system)
        if not self.solutions:
            warm(self.arm, system)
        started = time.perf_counter()
        one = attempt(self.arm, system, self.workshop, system.start(self.arm), limit)
        if not one.solved:
            return None
        self.workshop.solving(self.arm, one)
        self.solutions[:] = [*self.solutions[-1:], one.x]
        return time.perf_counter() - started


def general() -> list[Arm]:
    """Return configurations that take any matrix."""
    arms = [Arm(method, precond) for method in METHODS for precond in ("", *PRECONDITIONERS)]
    for arm in map(parse_arm, BEST):
        for reuse in ("update",) if arm.precond in EXACT else ("update", "keep"):
            arms += [dataclasses.replace(arm, reuse=reuse, start=start) for start in STARTS]
    return list(dict.fromkeys([*arms, Arm("gmres", "direct", "keep")]))


def _stretch(arm: Arm, problems: list[Problem], limit: float) -> float | list[float]:
    """Return the seconds for all systems, or those until it was stopped and the systems solved."""
    configuration, spent = Configuration(arm), 0.0
    for k, P in enumerate(problems):
        started = time.perf_counter()
        seconds = configuration.solve(P, limit - spent)
        if seconds is None:
            return [spent + time.perf_counter() - started, float(k)]
        spent += seconds
        if spent > limit and k + 1 < len(problems):
            return [spent, k + 1.0]
    return spent


def _candidates(problems: list[Problem], scout: kl.AutoSolver, probe: int) -> list[Arm]:
    """Return the configurations that may be the fastest of all."""
    few = problems[:: max(len(problems) // probe, 1)]
    found: dict[Arm, float] = {}
    waiting = _configurations(problems[0], scout)
    for arm in waiting:  # to which variants of those that do well are added
        least = min(found.values(), default=math.inf)
        _run(arm, problems[:2], 10 * least)  # which loads kernels
        # One stretch of the sequence, where what is kept can show its worth, and systems of all.
        parts = [_run(arm, part, HOPELESS * least) for part in (problems[:probe], few)]
        if None not in parts:
            found[arm] = sum(parts)  # type: ignore[arg-type]
            if found[arm] < NEAR * least:
                waiting += [variant for variant in arm.variants() if variant not in waiting]
    ranked = sorted(found, key=lambda arm: found[arm])
    return [arm for arm in ranked if found[arm] < NEAR * found[ranked[0]]][:MOST]


def _configurations(P: Problem, scout: kl.AutoSolver) -> list[Arm]:
    """Return what AutoSolver found good, all else that suits, M updated or kept."""
    arms = []
    for lane in scout._lanes.values():
        able = [arm for arm in lane.race.ranking() if lane.race.tracks[arm].solved]
        arms += [lane._from(arm) for arm in able[:6]]
    for base in [*suited_arms(P.A), *map(parse_arm, BEST)]:
        arms.append(base)
        if base.precond and base.precond not in EXACT:
            arms.append(dataclasses.replace(base, reuse="keep"))
    return list(dict.fromkeys(arms))


def _run(arm: Arm, problems: list[Problem], limit: float) -> float | None:
    """Return the seconds of one configuration for some systems; None if it fails or is slow."""
    configuration, spent = Configuration(arm), 0.0
    for P in problems:
        seconds = configuration.solve(P, limit - spent)
        if seconds is None or (spent := spent + seconds) > limit:
            return None
    return spent
