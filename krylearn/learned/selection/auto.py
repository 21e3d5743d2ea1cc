"""`AutoSolver`: learns along a sequence of systems which configuration solves them fastest."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from typing import Any

import numpy as np

from krylearn.choose import solve as solve_by_rule
from krylearn.interface import SolveInfo, not_negative, numbers
from krylearn.learned.selection.arms import (
    EXACT,
    Arm,
    parse_arm,
    setup_guess,
    slope_guess,
    suited_arms,
)
from krylearn.learned.selection.attempt import (
    POINTS,
    Attempt,
    System,
    attempt,
    course_of,
    join,
    sums_of,
    warm,
)
from krylearn.learned.selection.held import Workshop
from krylearn.learned.selection.race import PATIENCE, Race
from krylearn.operators import matrix_like

__all__ = ["AutoSolver"]

# Without any experience an arm is given up after so many products' time, and no sooner than so
# many seconds; then the next is tried, and all again with more.
FIRST_LIMIT, LEAST_LIMIT, GROWTH, TURNS = 3000, 0.05, 5.0, 7
# A set-up that takes less of a solve than this is not worth saving.
NOTABLE = 0.15
# Where the entries of A change by more than this, from system to system, no M is kept.
MOST_DRIFT = 0.5
# What a variant of the leader may cost more, as a share.
RISK = 0.3
# An explored arm is stopped when it lags so many times behind the course that residuals of its
# method have taken, or behind that of any other method, or, with none known, behind the square of
# what has gone by but for a first share.
LAG, LAG_OTHER, PLATEAU = 1.3, 1.6, 0.2
# It has such a share of its time at least.
EARLIEST = 0.3
# It has so many products' time at least.
LEAST_PRODUCTS = 5
# Of an arm that costs no more than so many times the leader's, other options are tried.
NEAR = 1.3
# So many systems long, and after that ever more seldom, starting guesses are compared.
LOOKS = 6
STARTS = ("given", "previous", "extrapolated")
# In place of norms that are zero.
TINY = 1e-300
# A first set-up that takes so many times what was thought, or an iteration that passes the time
# limit by as much, is made again before it counts: kernels may have been compiled.
SUSPECT = 4.0


class AutoSolver:
    """Solves one system after the other, and learns what solves them fastest.

    Parameters
    ----------
    arms : iterable of str, Arm or callable, optional
        The configurations to choose among, such as 'cg+ic0'; by default those that suit A. A
        callable is called as ``f(A, b, x0=, rtol=, atol=, maxiter=)`` and returns ``(x, info)``;
        what it claims is checked.
    rtol, atol, maxiter
        As for `cg`; maxiter holds for each attempt.
    horizon : int
        Systems to plan for: exploring may cost a share of what so many cost.
    share : float
        That share.

    Attributes
    ----------
    solved : int
        Systems solved so far.

    Notes
    -----
    Costs are seconds, with all set-up. An arm that is explored is stopped after 1.3 times the
    time of the best one known, or as soon as it lags as much, and the best one finishes from where
    it stopped; after three pulls without success an arm is out. What holds for ``info == 0``
    elsewhere holds here: the residual has been recomputed, whoever found the solution.

    Systems of different size or kind are told apart and learned separately. The solver may be
    pickled; preconditioners are made anew afterwards.

    References
    ----------
    PCGBandit (2025), arXiv 2509.08765; Khodak et al. (2024), Learning to relax, ICLR.

    Examples
    --------
    >>> import krylearn as kl
    >>> solver = kl.AutoSolver(rtol=1e-8)
    >>> for P in kl.problems.sequence("darcy", 5, shape=(16, 16)):
    ...     x, info = solver.solve(P.A, P.b)
    ...     assert info == 0
    >>> solver.solved
    5
    """

    def __init__(self, arms: Iterable[str | Arm | Callable] | None = None, *, rtol: float = 1e-5,
                 atol: float = 0.0, maxiter: int | None = None, horizon: int = 200,
                 share: float = 0.08) -> None:  # fmt: skip
        if horizon < 1 or not 0 <= share:
            raise ValueError(f"horizon must be >= 1 and share >= 0, not {horizon} and {share}")
        self.arms = None if arms is None else [_as_arm(arm) for arm in arms]
        if self.arms is not None and not self.arms:
            raise ValueError("arms must not be empty")
        self.settings = {"rtol": rtol, "atol": atol, "maxiter": maxiter}
        self.horizon, self.share = horizon, share
        self.solved = 0
        self._lanes: dict[tuple, _Lane] = {}

    def solve(self, A: Any, b: Any, x0: Any = None, *, rtol: float | None = None,
              atol: float | None = None, maxiter: int | None = None,
              ) -> tuple[np.ndarray, SolveInfo]:  # fmt: skip
        """Solve the next system. The solver itself may be called in the same way.

        Parameters
        ----------
        A, b, x0
            As for `cg`; A may be any matrix.
        rtol, atol, maxiter : optional
            In place of those that the solver was made with.

        Returns
        -------
        x : array
        info : SolveInfo
            ``info.method`` names the configuration, ``info.choice`` says why it ran.
        """
        A, b = matrix_like(A), numbers(b, "b")
        given = {"rtol": rtol, "atol": atol, "maxiter": maxiter}
        settings: dict[str, Any] = dict(self.settings)
        settings |= {k: value for k, value in given.items() if value is not None}
        not_negative(rtol=settings["rtol"], atol=settings["atol"])
        lane = self._lane(A, b, settings["rtol"])
        if lane is None or not _is_usual(b):
            # Nothing to be learned; the rule says what is wrong with the operands, if anything is.
            return solve_by_rule(A, b, x0, **settings)
        system = System(A, b, x0, settings, lane.solutions)
        lane.workshop.arrived(system)
        if not math.isfinite(system.mark[0]):
            return solve_by_rule(A, b, x0, **settings)
        x, info = lane.solve(system)
        self.solved += int(info.converged)
        return x, info

    __call__ = solve

    def _lane(self, A: Any, b: np.ndarray, rtol: float) -> _Lane | None:
        if A.shape[0] != A.shape[1] or b.shape[:1] != A.shape[:1] or not 1 <= b.ndim <= 2:
            return None
        # Sizes within a factor of two are alike.
        key = (type(A), round(math.log2(max(A.shape[0], 1))), A.dtype, b.shape[1:], rtol)
        if key not in self._lanes:
            self._lanes[key] = _Lane(A, self.arms, self.horizon, self.share)
        return self._lanes[key]

    def explain(self, file: Any = None) -> None:
        """Print what has been learned.

        Parameters
        ----------
        file : text file, optional
            The standard output by default.
        """
        print(self.explanation(), file=file or sys.stdout)

    def explanation(self) -> str:
        """Return what `explain` prints."""
        return "\n\n".join(lane.explanation() for lane in self._lanes.values()) or "nothing yet"

    def __repr__(self) -> str:
        return f"<AutoSolver after {self.solved} systems>"


class _Lane:
    """Systems of one kind: the race of the arms, and what they keep."""

    def __init__(self, A: Any, arms: list[Arm] | None, horizon: int, share: float) -> None:
        self.title = f"{A.shape[0]} unknowns, {type(A).__name__}, {A.dtype}"
        self.race = Race(horizon, share)
        self.workshop = Workshop()
        self.solutions: list[np.ndarray] = []
        self.unit = 0.0
        self.doubted: set[Arm] = set()
        self.own, self.indefinite, self.steady = arms is None, False, False
        self.drag = 1.0
        self.courses: dict[str, np.ndarray] = {}
        self.starting, self._residuals = "given", dict.fromkeys(STARTS, 0.0)
        self._looked = self._next_look = 0
        self.bases = suited_arms(A) if arms is None else arms

    def solve(self, system: System) -> tuple[np.ndarray, SolveInfo]:
        race = self.race
        if not race.rounds and not race.tracks:
            self.unit = system.product_seconds()
            for arm in self.bases:
                race.add(arm, setup_guess(arm, system.A) * self.unit, slope=slope_guess(arm))
        race.arrived(round(system.dominance, 1))
        # Where A stays, a set-up is made once, and an exact one is what to look at first.
        if not self.steady and self.workshop.changing < 0.3:
            self.steady = True
            for exact in [arm for arm in race.tracks if arm.precond in EXACT]:
                race.promote(exact)
        arm = race.choose(lasting=0.75 * (1 - self.workshop.changing))
        if arm is None:
            x, info = solve_by_rule(system.A, system.b, system.x0, **system.settings)
            return x, info
        if arm.precond not in EXACT:
            self._look_at_starts(system)
        first = race.leader is None
        why = "the first to be tried" if first else "the best so far" if arm == race.leader else (
            "explored" if not race.tracks[arm].pulls else "compared again")  # fmt: skip
        leads = arm == race.leader
        limit = self._first_limit() if first else max(
            self.drag * race.limit(arm), LEAST_PRODUCTS * self.unit)  # fmt: skip
        pace = None if first or leads else self._pace(arm)
        tries = [self._pull(arm, system, self._start(arm, system), limit, pace)]
        if not tries[0].solved:
            tries += self._rescue(system, tries[0], arm, limit)
            why += "; its backstop finished"
        last = tries[-1]
        spent = sum(one.seconds for one in tries)
        self._learn(arm, tries[0], spent, system, limit)
        if last.solved and len(tries) > 1 and (first or leads):
            # Who can do what the best one could not, is the next to be trusted.
            race.solved(last.arm, self.workshop.solving(last.arm, last)
                        + self.workshop.share(last.arm, last), last.seconds)  # fmt: skip
        if not last.solved and (last.info is None or not self.own):
            # None of the arms can do it.
            x, info = solve_by_rule(system.A, system.b, system.x0, **system.settings)
            if info.converged or last.info is None:
                return x, info
        assert last.x is not None
        if last.solved:
            self.solutions[:] = [*self.solutions[-1:], last.x]
        return last.x, join(tries, why)

    def _pull(self, arm: Arm, system: System, x0: Any, limit: float,
              pace: Any = None) -> Attempt:  # fmt: skip
        warm(arm, system)
        one = attempt(arm, system, self.workshop, x0, limit, pace)
        one.start = self._from(arm).start
        return one

    def _pace(self, arm: Arm) -> list[float]:
        """Return how far an arm should have come at each of the `POINTS` of its time."""
        course = self.courses.get(arm.method)
        if course is not None:
            pace = np.interp(POINTS / LAG, POINTS, course)
        else:
            others = [np.interp(POINTS / LAG_OTHER, POINTS, one) for one in self.courses.values()]
            pace = np.min([np.maximum(POINTS - PLATEAU, 0.0) ** 2, *others], axis=0)
        return np.where(POINTS < EARLIEST, 0.0, pace).tolist()

    def _gone(self, arm: Arm, progress: float) -> float:
        """Return which share of a solve may have gone by when it has come so far."""
        course = self.courses.get(arm.method)
        if course is None:
            others = list(self.courses.values())
            course = np.min(others, axis=0) if others else np.maximum(POINTS - PLATEAU, 0.0)
        return float(POINTS[max(int(np.searchsorted(course, progress, side="right")) - 1, 1)])

    def _note_course(self, arm: Arm, one: Attempt, system: System) -> None:
        if self.race.tracks[arm].solved > LOOKS or arm.call is not None:
            return
        course = course_of(one, system.settings["rtol"] * system.norm)
        if course is not None:
            known = self.courses.get(arm.method, course)
            self.courses[arm.method] = known + 0.3 * (course - known)

    def _from(self, arm: Arm) -> Arm:
        """Return the arm with the start that it gets, which is the caller's unless it says more."""
        if arm.start != "given" or self.starting == "given" or arm.precond in EXACT:
            return arm
        return replace(arm, start=self.starting)

    def _start(self, arm: Arm, system: System) -> Any:
        return system.start(self._from(arm))

    def _look_at_starts(self, system: System) -> None:
        """Find out, by its residual, which starting guess is nearest; now and then only."""
        self._looked += 1
        there = system.starts()
        if self.starting in there and self._looked > LOOKS and self._looked < self._next_look:
            return
        self._next_look = self._looked + max(self._looked // 3, 1)
        for start in there:
            nearest, size = system.start_norm(Arm("", start=start)), system.norm
            norm = math.log(max(nearest, TINY)) - math.log(max(size, TINY))
            before = self._residuals[start] if self._looked > LOOKS else norm
            self._residuals[start] = (before + norm) / 2
        self.starting = min(there, key=lambda start: self._residuals[start] + 0.05 * (
            start != "given"))  # fmt: skip

    def _first_limit(self) -> float:
        return max(FIRST_LIMIT * self.unit, LEAST_LIMIT)

    def _rescue(self, system: System, failed: Attempt, arm: Arm, limit: float) -> list[Attempt]:
        """Finish from where an arm has stopped: by the best, then by all others, in turns."""
        race = self.race
        order = race.ranking()
        tries: list[Attempt] = []
        hopeless = set() if failed.undecided else {arm}
        best, x0 = failed.rnorm, failed.x
        if not best < system.start_norm(self._from(arm)):
            best, x0 = system.norm, self._start(arm, system)
        limit = max(limit, self._first_limit())
        for turn in range(TURNS):
            for other in order:
                if other in hopeless or (turn == 0 and other == arm):
                    continue
                last = turn == TURNS - 1
                one = self._pull(other, system, x0, math.inf if last else limit)
                tries.append(one)
                if one.solved:
                    return tries
                if not one.undecided:
                    hopeless.add(other)
                if one.rnorm < best:
                    best, x0 = one.rnorm, one.x
            if hopeless >= set(order):
                break
            limit *= GROWTH
        # Nobody has solved it: hand out the best there is.
        every = [failed, *tries]
        best_try = min(every, key=lambda one: (one.info is None, one.rnorm))
        return [*(one for one in tries if one is not best_try), best_try] if tries else []

    def _learn(self, arm: Arm, one: Attempt, spent: float, system: System, limit: float,
               ) -> None:  # fmt: skip
        race, track = self.race, self.race.tracks[arm]
        # What loads or compiles a kernel says nothing of the next time.
        slow = SUSPECT * max(track.guess, self.workshop.usual(arm), LEAST_LIMIT / 50)
        held_up = one.setup_seconds > slow or one.solve_seconds > SUSPECT * limit
        if not track.pulls and held_up and arm not in self.doubted:
            if one.solved or one.undecided:
                self.doubted.add(arm)
                race.again(arm, min(spent, slow / SUSPECT + 2 * limit))
                return
        if one.solved:
            solving = self.workshop.solving(arm, one)
            share = self.workshop.share(arm, one)
            # By how much the machine is slower than usual, of late.
            drag = min(one.solve_seconds / max(solving, TINY), 3.0)
            self.drag = max(self.drag + 0.1 * (drag - self.drag), 1.0)
            if not track.pulls and arm.reuse == "update":
                share /= 2  # the first has to be made, the next only updated
            race.solved(arm, solving + share, spent / self.drag)
            self._note_course(arm, one, system)
            self._branch(arm, one, system)
        elif one.undecided:
            gone = self._gone(arm, one.progress)
            cost = self.workshop.solving(arm, one) / gone + self.workshop.share(arm, one)
            race.missed(arm, spent / self.drag, f"given up after {one.seconds:.2g} s", cost,
                        doubt=0.5 - 0.4 * gone)  # fmt: skip
            self._branch(arm, one, system)
        else:
            indefinite = arm.method == "cg" and one.indefinite
            race.missed(arm, spent, one.note,
                        certain=(one.refused or indefinite) and not track.solved)  # fmt: skip
            if indefinite and not self.indefinite:
                self.indefinite = True
                self._replace_cg(system)

    def _replace_cg(self, system: System) -> None:
        """A is indefinite: leave out what it is not for, and let in what it is."""
        for arm, track in self.race.tracks.items():
            if arm.method == "cg" and not track.solved:
                track.missed, track.note = PATIENCE, "A is indefinite"
        for arm in suited_arms(system.A, "minres") if self.own else ():
            self.race.add(arm, setup_guess(arm, system.A) * self.unit, slope=slope_guess(arm))

    def _branch(self, arm: Arm, one: Attempt, system: System) -> None:
        """Let variants of an arm that has proven good take part."""
        race = self.race
        solved = race.tracks[arm].solved
        if solved > 5 and solved % 10:
            return
        leads = arm == race.leader and solved >= 2
        near = leads or race.near(arm, NEAR)
        for variant in arm.variants():
            if variant in race.tracks or self._known_worse(variant, arm):
                continue
            saves = variant.reuse != arm.reuse
            if saves and one.setup_seconds < NOTABLE * one.solve_seconds:
                continue
            if saves and not self.workshop.changing:
                continue
            if variant.reuse == "keep" and self.workshop.drift > MOST_DRIFT:
                continue
            if variant.start != arm.start:  # which is not left to chance
                continue
            kept = saves and variant.reuse == "keep"
            fast = kept and one.solved and race.leader is not None and (
                one.solve_seconds < race.expected(race.leader))  # fmt: skip
            tuned = variant.options != arm.options or (
                variant.precond_options != arm.precond_options)  # fmt: skip
            if leads or fast or (tuned and near):
                # What would be better with a set-up that is there is no risk.
                race.add(variant, risk=0.0 if fast else RISK, slope=slope_guess(variant),
                         variant=True)  # fmt: skip

    def _known_worse(self, variant: Arm, arm: Arm) -> bool:
        """Return whether an arm that differs from the variant in one other thing has lost."""
        names = [field.name for field in fields(variant)]
        changed = {name: getattr(variant, name) for name in names
                   if getattr(variant, name) != getattr(arm, name)}  # fmt: skip
        return any(
            all(getattr(other, name) == value for name, value in changed.items())
            and (other.method, other.precond) == (arm.method, arm.precond)
            and (track.out or self.race.worse(other))
            for other, track in self.race.tracks.items() if track.pulls
        )  # fmt: skip

    def explanation(self) -> str:
        race = self.race
        leader = race.leader
        lines = [f"{self.title}: {race.rounds} systems"]
        if leader is None:
            return "\n".join([*lines, "  nothing has solved one yet"])
        lines[0] += f", now {race.expected(leader):.3g} s each by {self._from(leader)}"
        width = max(len(str(arm)) for arm in race.tracks)
        lines.append(f"  {'configuration':<{width}}  pulls  solved  s each  ratio  verdict")
        for arm in race.ranking(everyone=True):
            track = race.tracks[arm]
            each = ratio = "-"
            if track.weight:
                seconds = race.expected(arm)
                each, ratio = f"{seconds:.2g}", f"{seconds / race.expected(leader):.2f}"
            verdict = (
                "leads" if arm == leader else "not tried" if not track.pulls
                else f"out: {track.note}" if track.out else "proven worse" if race.worse(arm)
                else "in the race"
            )  # fmt: skip
            if track.note and not track.out and arm != leader:
                verdict += f" ({track.note})"
            lines.append(f"  {arm!s:<{width}}  {track.pulls:5d}  {track.solved:6d}  {each:>6}  "
                         f"{ratio:>5}  {verdict}")  # fmt: skip
        return "\n".join(lines)


def _is_usual(b: np.ndarray) -> bool:
    """Return whether b is neither zero nor holds what is no number; huge ones count as none."""
    squared, _ = sums_of(b.ravel())
    return math.isfinite(squared) and (squared > 0 or bool(b.any()))


def _as_arm(arm: Any) -> Arm:
    if isinstance(arm, Arm):
        return arm
    if isinstance(arm, str):
        return parse_arm(arm)
    if callable(arm):
        return Arm(getattr(arm, "__name__", type(arm).__name__), call=arm)
    raise TypeError(f"an arm is a name, an Arm or a callable, not {type(arm).__name__}")
