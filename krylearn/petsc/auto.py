"""A bandit over PETSc's and this library's configurations, as a PETSc method of type python."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from krylearn import registry
from krylearn.interface import time_limit
from krylearn.learned.selection.race import Race
from krylearn.petsc.hooks import Context, hook
from krylearn.petsc.library import petsc
from krylearn.petsc.method import tell
from krylearn.petsc.options import options_of
from krylearn.petsc.solve import true_residual

SYMMETRIC = ("cg+multigrid", "cg+bjacobi", "cg+ssor", "recycled_cg+ssor", "cg+gamg")
GENERAL = ("gmres+bjacobi", "bcgs+bjacobi", "gcrodr+bjacobi", "gmres+multigrid", "gmres+asm")
# Iterations between looks at the clocks of all ranks.
LOOK = 8
# Seconds that the first arm of all may take, until another gets its turn.
FIRST_LIMIT = 60.0
# And that any arm may take.
LEAST_LIMIT = 1e-3


@dataclass
class Outcome:
    """What an arm has made of a system, the same on all ranks."""

    solved: bool
    undecided: bool
    iterations: int
    residual: float
    setup_seconds: float
    solve_seconds: float
    note: str

    @property
    def seconds(self) -> float:
        return self.setup_seconds + self.solve_seconds


class Auto(Context):
    """Chooses among configurations, and learns what they cost on such systems.

    An arm is ``METHOD+PRECONDITIONER``: types of PETSc, or registered names of this library that
    are no types of PETSc's. Its object has the prefix ``PREFIXauto_ARM_``, for more options.

    Attributes
    ----------
    race : Race
        What has been learned; costs are the seconds of the slowest rank, so that all ranks choose
        alike.
    outcome : Outcome or None
        Of the last solve.
    """

    __module__ = "krylearn.petsc"
    name = "auto"
    _group = "ksp_"
    _left = ("KSPSetType", b"preonly")

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.race: Any = None
        self.outcome: Outcome | None = None
        self._solvers: dict[str, Any] = {}
        self._changing = 1.0
        self._mark: tuple = ()
        self._doubted: set[str] = set()

    def listed(self):
        return options_of(settings)

    def _changed(self):
        self.race = None

    @hook
    def create(self, ksp):
        Context.create.__wrapped__(self, ksp)
        ksp.getPC().setType("none")  # each arm has its own

    # -- a solve ---------------------------------------------------------------------------

    @hook
    def setUp(self, ksp):
        pass

    @hook
    def solve(self, ksp, b, x):
        if self.race is None:
            self._start_race(ksp.getOperators()[0])
        self._watch(ksp.getOperators()[1])
        if not ksp.getInitialGuessNonzero():
            x.set(0.0)
        rtol, atol, _, maxiter = ksp.getTolerances()
        goal = max(rtol * float(b.norm()), atol)
        start = best = true_residual(ksp.getOperators()[0], b, x)
        race, steps, kept = self.race, 0, x.duplicate()
        # Where all have failed three times, the likeliest tries once more.
        arm = race.choose(lasting=0.75 * (1 - self._changing)) or next(iter(race.tracks))
        limit = FIRST_LIMIT if race.leader is None else max(race.limit(arm), LEAST_LIMIT)
        # Where it fails the others finish from there, the best first.
        for one in [arm, *(other for other in race.ranking() if other != arm)]:
            x.copy(kept)
            outcome = self._pull(ksp, one, b, x, goal, maxiter, limit if one == arm else math.inf)
            steps += outcome.iterations
            self._learn(one, outcome, one == arm)
            if outcome.solved:
                break
            if not outcome.residual < best:
                kept.copy(x)
            best = min(best, outcome.residual)
        kept.destroy()
        self.outcome = outcome
        best = min(best, outcome.residual)
        tell(ksp, 0, start)
        tell(ksp, steps, best)
        R = petsc().KSP.ConvergedReason
        ksp.setConvergedReason(R.CONVERGED_RTOL if outcome.solved else R.DIVERGED_MAX_IT)

    def _start_race(self, A: Any) -> None:
        given = settings(**self.settings)
        self.race = Race(given["horizon"], given["share"])
        for arm in given["arms"] or (SYMMETRIC if looks_symmetric(A) else GENERAL):
            self.race.add(arm)

    def _watch(self, P: Any) -> None:
        """Take note of how often the matrix changes."""
        mark = (P.handle, P.stateGet())
        if self._mark:
            self._changing += 0.5 * (float(mark != self._mark) - self._changing)
        self._mark = mark

    def _learn(self, arm: str, outcome: Outcome, chosen: bool) -> None:
        race = self.race
        if chosen and not race.tracks[arm].pulls and arm not in self._doubted:
            # The first time kernels are compiled or loaded, which says nothing of the next.
            self._doubted.add(arm)
            if outcome.solved or outcome.undecided:
                race.again(arm, outcome.seconds)
                return
        cost = outcome.solve_seconds + self._changing * outcome.setup_seconds
        if outcome.solved:
            race.solved(arm, cost, outcome.seconds)
        elif chosen or race.tracks[arm].pulls:
            race.missed(arm, outcome.seconds, outcome.note)

    def _pull(self, ksp: Any, arm: str, b: Any, x: Any, goal: float, maxiter: int,
              limit: float) -> Outcome:  # fmt: skip
        """Let an arm work on the system from x; its answer is checked."""
        ranks, inner = self.ranks(ksp), self._solver(ksp, arm)
        A, P = ksp.getOperators()
        inner.setOperators(A, P)
        inner.setTolerances(rtol=0.0, atol=goal, max_it=maxiter)
        began = time.perf_counter()
        reasons = petsc().KSP.ConvergedReason
        if inner.getType() != "python":

            def test(_, its, rnorm):
                if not math.isfinite(rnorm):
                    return reasons.DIVERGED_NANORINF
                if rnorm <= goal:
                    return reasons.CONVERGED_ATOL
                if its and its % LOOK == 0 and limit < math.inf:
                    if ranks.any(time.perf_counter() - began > limit):
                        return reasons.DIVERGED_MAX_IT
                return reasons.CONVERGED_ITERATING

            inner.setConvergenceTest(test)
        inner.setUp()
        ready = time.perf_counter()
        with time_limit(limit):
            inner.solve(b, x)
        done = time.perf_counter()
        setup, solving = ranks.max(ready - began), ranks.max(done - ready)
        residual = true_residual(A, b, x)
        reason = inner.getConvergedReason()
        late = setup + solving >= limit
        # The last digit of a norm may differ from what the method saw.
        solved = residual <= goal * (1 + 1e-6)
        return Outcome(solved, late and not solved, inner.getIterationNumber(), residual, setup,
                       solving, "" if solved else f"ended with reason {reason}")  # fmt: skip

    def _solver(self, ksp: Any, arm: str) -> Any:
        """Return the arm's own KSP."""
        if arm not in self._solvers:
            from krylearn import petsc as ours

            method, _, precond = arm.partition("+")
            PETSc = petsc()
            inner = PETSc.KSP().create(ksp.getComm())
            inner.setOptionsPrefix(f"{ksp.getOptionsPrefix() or ''}auto_{arm.replace('+', '_')}_")
            inner.setOperators(*ksp.getOperators())
            if method in types_of(PETSc.KSP.Type):
                inner.setType(method)
                if method in ("gmres", "bcgs"):
                    inner.setPCSide(PETSc.PC.Side.RIGHT)
                if method != "preonly":
                    inner.setNormType(PETSc.KSP.NormType.UNPRECONDITIONED)
            else:
                ours.ksp(inner, method)
            pc = inner.getPC()
            if precond in types_of(PETSc.PC.Type) or not precond:
                pc.setType(precond or "none")
            else:
                ours.pc(pc, precond)
            inner.setInitialGuessNonzero(True)
            inner.setFromOptions()
            self._solvers[arm] = inner
        return self._solvers[arm]

    # -- what it tells ---------------------------------------------------------------------

    def table(self) -> list[str]:
        """Return what has been learned, a line for each arm."""
        race = self.race
        if race is None or race.leader is None:
            return ["nothing is learned yet"]
        lines = []
        for arm in race.ranking(everyone=True):
            track = race.tracks[arm]
            each = f"{race.expected(arm):.2e} s each" if track.weight else "not tried"
            verdict = "leads" if arm == race.leader else f"out: {track.note}" if track.out else ""
            lines.append(f"{arm}: {track.pulls} pulls, {track.solved} solved, {each} {verdict}")
        return [line.rstrip() for line in lines]

    @hook
    def view(self, ksp, viewer):
        self.view_settings(viewer)
        for line in self.table():
            viewer.printfASCII(f"    {line}\n".replace("%", "%%"))

    @hook
    def reset(self, ksp):
        for inner in self._solvers.values():
            inner.destroy()
        self._solvers.clear()
        self._mark = ()


def settings(arms: str = "", horizon: int = 200, share: float = 0.05) -> dict[str, Any]:
    """Return what the options say.

    Parameters
    ----------
    arms : str
        Configurations such as cg+gamg,cg+multigrid; by default what suits the matrix.
    horizon : int
        Systems to plan for.
    share : float
        Of what so many cost: what exploring may cost.

    Raises
    ------
    ValueError
        If an arm names what there is not.
    """
    PETSc = petsc()
    # A single arm, or several: PETSc's option is a text.
    listed = arms.split(",") if isinstance(arms, str) else list(arms)
    listed = [arm.strip() for arm in listed if arm.strip()]
    for arm in listed:
        method, _, precond = arm.partition("+")
        if method not in types_of(PETSc.KSP.Type):
            registry.find("method", method)
        if precond and precond not in types_of(PETSc.PC.Type):
            registry.find("preconditioner", precond)
    return {"arms": listed, "horizon": int(horizon), "share": float(share)}


def types_of(kind: Any) -> set[str]:
    """Return the names of types that a class of petsc4py lists."""
    return {value for name, value in vars(kind).items() if not name.startswith("_")}


def looks_symmetric(A: Any) -> bool:
    """Return whether ``x^T A y`` and ``y^T A x`` agree for two vectors."""
    x, Ay = A.createVecs()
    y, Ax = A.createVecs()
    low, high = x.getOwnershipRange()
    i = np.arange(low, high) + 1.0
    x.setArray(np.sin(i))
    y.setArray(np.cos(1.7 * i))
    A.mult(x, Ax)
    A.mult(y, Ay)
    one, other = y.dot(Ax), x.dot(Ay)
    size = Ax.norm() * y.norm()
    for vector in (x, y, Ax, Ay):
        vector.destroy()
    return bool(abs(one - np.conj(other)) <= 1e-10 * size)
