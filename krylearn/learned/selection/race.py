"""A race of arms that are paid in seconds: who runs next, and for how long."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

# Of the logarithm of a cost, until it has been measured; and at least.
SPREAD, LEAST_SPREAD = 0.15, 0.03
# An arm may be better than it looks by so many standard deviations.
CONFIDENCE = 1.5
# What an arm's record is worth, one round later.
MEMORY = 0.985
# How probable it is that an arm is as good as may be hoped.
CHANCE = 0.1
# Pulls without success after which an arm is out.
PATIENCE = 3
# Times the leader's cost: an explored arm is stopped there, and the leader itself.
SLACK, BACKSTOP = 1.3, 6.0
# What an arm never tried may cost besides its set-up, over the leader's cost.
RISK = 0.6
# While others ran the level has changed: by such a share of that an arm's cost may differ, too.
APART = 0.3
# While there are arms of another kind to be tried, variants may use such a share of the budget.
PART = 0.5
# After so many rounds the leader runs between explorations, so that its level stays known.
HASTE = 8
# Once no arm is worth another pull, all are looked at again after a share of the rounds so far.
CALM, CALMEST = 20, 10
# How sure the slope of a cost is before it has been seen: its variance over that of a cost.
SLOPE_TRUST = 0.3


@dataclass
class Track:
    """What is known of an arm.

    Attributes
    ----------
    guess, risk : float
        Seconds that its first pull may cost besides, and what it may cost as a share of the
        leader's cost.
    slope : float
        By how much the logarithm of its cost is thought to grow with the feature of the system.
    mean, centre, weight : float
        Of the logarithm of its cost over the level of the race, and of the feature; the pulls that
        stand behind them, which fade.
    pulls, solved, missed : int
        All pulls; those that solved their system; those without success since the last one.
    seconds : float
        Spent on it, the rescue of what it left unsolved included.
    note : str
        What went wrong last.
    level : float
        Of the race when it ran last.
    variant : bool
        Of an arm that has been tried.
    """

    guess: float = 0.0
    risk: float = RISK
    slope: float = 0.0
    mean: float = 0.0
    centre: float = 0.0
    weight: float = 0.0
    squares: float = 0.0
    products: float = 0.0
    pulls: int = 0
    solved: int = 0
    missed: int = 0
    seconds: float = 0.0
    note: str = ""
    level: float = math.nan
    variant: bool = False

    @property
    def out(self) -> bool:
        """Whether it has had all the pulls it gets."""
        return self.missed >= PATIENCE

    def at(self, feature: float) -> float:
        """Return the mean for systems with a feature: least squares, the guess counted in."""
        k = SLOPE_TRUST
        slope = (self.products + k * self.slope) / (self.squares + k)
        return self.mean + slope * (feature - self.centre)

    def doubt(self, feature: float) -> float:
        """Return the standard deviation of `at`, in units of that of a cost."""
        away = (feature - self.centre) ** 2 / (self.squares + SLOPE_TRUST)
        return math.sqrt(1 / max(self.weight, 1e-6) + away)

    def take(self, feature: float, value: float, weight: float = 1.0) -> None:
        """Take one more cost into the means."""
        total = self.weight + weight
        moved, error = feature - self.centre, value - self.mean
        if not self.weight:
            self.centre, self.mean, moved = feature, value, 0.0
        self.centre += moved * weight / total
        self.mean += error * weight / total if self.weight else 0.0
        self.squares += weight * moved * (feature - self.centre)
        self.products += weight * moved * (value - self.mean)
        self.weight = total

    def fade(self) -> None:
        """Let what is known lose a little of its worth."""
        self.weight *= MEMORY
        self.squares *= MEMORY
        self.products *= MEMORY


class Race:
    """A bandit over arms whose costs, in seconds, may drift together and apart.

    Parameters
    ----------
    horizon : int
        Rounds to plan for.
    share : float
        Of all that the leader would cost over the horizon: what exploring may cost more than it.

    Attributes
    ----------
    tracks : dict of arm to Track
    rounds : int
    level : float
        Logarithm of what a system of now costs, up to the means of the arms.
    feature : float
        Of the system of now, on which costs depend, each arm's in its own way; set by the caller.
    spread : float
        Standard deviation of the logarithm of a cost.
    excess : float
        Seconds lost to the leader by exploring.

    Notes
    -----
    All costs are taken relative to a level that follows how hard the systems are, so that arms
    which ran at different times compare; and the costs of an arm lie on a line over the feature,
    whose slope is guessed until it has been seen. The arm to pull is an untried one, else the one
    with the lowest confidence bound, but the leader where the bound of `share` says so, and after
    each exploration. Records fade, so that what has been proven worse is tried again much later.

    References
    ----------
    Auer, Cesa-Bianchi and Fischer (2002), Finite-time analysis of the multiarmed bandit problem,
    on confidence bounds; Maron and Moore (1997), The racing algorithm.

    Examples
    --------
    >>> race = Race(horizon=100)
    >>> for arm in ("slow", "fast", "broken"):
    ...     race.add(arm)
    >>> for _ in range(100):
    ...     arm = race.choose()
    ...     if arm == "broken":
    ...         race.missed(arm, 1.0, "raised an error", certain=True)
    ...     else:
    ...         race.solved(arm, 1.0 if arm == "slow" else 0.5)
    >>> race.leader, race.tracks["fast"].pulls > 80, race.tracks["broken"].pulls <= 3
    ('fast', True, True)
    """

    def __init__(self, horizon: int = 200, share: float = 0.08) -> None:
        self.horizon, self.share = horizon, share
        self.tracks: dict[Any, Track] = {}
        self.rounds = 0
        self.level = math.nan
        self.feature = 0.0
        self.spread = SPREAD
        self.excess = self.paid = 0.0
        self._resting, self._next_look = False, 0
        self._leader: Any = ...  # where it must be found again

    def arrived(self, feature: float) -> None:
        """Take note of the feature of the next system."""
        if feature != self.feature:
            self.feature, self._leader, self._next_look = feature, ..., 0

    def add(self, arm: Hashable, guess: float = 0.0, risk: float = RISK, slope: float = 0.0,
            variant: bool = False) -> None:  # fmt: skip
        """Let one more arm take part, the next to be tried if it is a variant of one that was.

        One that takes part already stays as it is.
        """
        if arm not in self.tracks:
            self._next_look = 0
            new = {arm: Track(guess, risk, slope, variant=variant)}
            self.tracks = {**new, **self.tracks} if variant else {**self.tracks, **new}

    def promote(self, arm: Hashable) -> None:
        """Let an arm be the next to be tried."""
        self.tracks = {arm: self.tracks[arm]} | self.tracks

    def ranking(self, everyone: bool = False) -> list:
        """Return the arms, the best first, then those not tried; without those that are out."""
        leader = self.leader

        def rank(arm):
            track = self.tracks[arm]
            return (arm != leader, track.out, not track.pulls, not track.solved,
                    track.at(self.feature))  # fmt: skip

        arms = sorted(self.tracks, key=rank)
        return arms if everyone else [arm for arm in arms if not self.tracks[arm].out]

    @property
    def leader(self) -> Any:
        """The arm that has proven best, or None."""
        if self._leader is ...:
            self._leader = self._find_leader()
        return self._leader

    def _find_leader(self) -> Any:
        able = {arm: t for arm, t in self.tracks.items() if t.solved and not t.missed}
        able = able or {arm: t for arm, t in self.tracks.items() if t.solved and not t.out}
        # A lucky pull is not yet proof.
        def known(arm):
            return able[arm].at(self.feature) + self._doubt(able[arm]) / 2

        return min(able, key=known, default=None)

    def expected(self, arm: Hashable) -> float:
        """Return the seconds that a system of now costs with an arm that has been tried."""
        return math.exp(self.level + self.tracks[arm].at(self.feature))

    def limit(self, arm: Hashable) -> float:
        """Return the seconds after which a pull should be given up; infinity without a leader."""
        leader = self.leader
        if leader is None:
            return math.inf
        return self.expected(leader) * (BACKSTOP if arm == leader else SLACK)

    def choose(self, lasting: float = 0.0) -> Any:
        """Return the arm to pull, or None if all are out.

        Parameters
        ----------
        lasting : float
            Share of what a first pull costs besides that is saved later on.
        """
        leader = self.leader
        settled = self.rounds > HASTE and (self._resting or self.rounds < self._next_look)
        if settled and leader is not None:
            return leader
        untried = [arm for arm, t in self.tracks.items() if not (t.pulls or t.out)]
        if leader is None:
            rest = [arm for arm, t in self.tracks.items() if t.pulls and not t.out]
            return next(iter(untried + rest), None)
        cost = self.expected(leader)
        left = max(self.horizon - self.rounds, 0)
        allowed = self.share * (self.paid + cost * left) - self.excess
        others = any(not self.tracks[arm].variant for arm in untried)
        for arm in untried:
            track = self.tracks[arm]
            kept = (1 - PART) * (allowed + self.excess) if track.variant and others else 0.0
            if (1 - lasting) * track.guess + track.risk * cost <= max(allowed - kept, 0.0):
                return arm
        rivals = [a for a, t in self.tracks.items() if t.pulls and not t.out and a != leader]
        rival = min(rivals, key=self._hope, default=None)
        best = self.tracks[leader].at(self.feature)
        if rival is not None and self._hope(rival) < best:
            # What is thought to be better is not exploring; what is not must be worth it.
            risk = min(self.expected(rival), SLACK * cost) - cost
            gain = CHANCE * (1 - math.exp(self._hope(rival) - best)) * cost
            if risk <= min(max(allowed, 0.0), gain * max(left, self.rounds)):
                return rival
        # All is settled for now: who looks at every arm every time spends more than that brings.
        self._next_look = self.rounds + min(self.rounds // CALM, CALMEST)
        return leader

    def solved(self, arm: Hashable, cost: float, spent: float | None = None) -> None:
        """Take note that a pull solved its system.

        Parameters
        ----------
        arm : hashable
        cost : float
            Seconds that count for it.
        spent : float, optional
            Seconds that have passed, where these are others.
        """
        track, leads = self.tracks[arm], arm == self.leader
        self._count(arm, cost if spent is None else spent)
        found = math.log(max(cost, 1e-9))
        if math.isnan(self.level):
            self.level = found
        expected = track.at(self.feature) if track.weight else found - self.level
        error = found - self.level - expected
        if track.weight >= 2:
            square = min(error**2, 9 * self.spread**2)
            self.spread = max(math.sqrt(0.9 * self.spread**2 + 0.1 * square), LEAST_SPREAD)
        if track.weight >= 3:
            # What the machine does besides may make one pull many times slower.
            error = min(max(error, -4 * self.spread), 4 * self.spread)
        track.take(self.feature, expected + error)
        # The better the arm is known, the more its cost says of the system.
        self.level += 0.3 * (1 - 1 / track.weight) * error
        track.level = self.level
        track.solved += 1
        track.missed = 0
        track.note = ""
        # Whoever leads and has done no worse than expected leads on.
        self._leader = arm if leads and error <= 0 else ...

    def missed(self, arm: Hashable, spent: float, note: str, cost: float | None = None,
               certain: bool = False, doubt: float = 0.3) -> None:  # fmt: skip
        """Take note that a pull did not solve its system.

        Parameters
        ----------
        arm : hashable
        spent : float
            Seconds that have passed, with those of the rescue.
        note : str
            What went wrong.
        cost : float, optional
            Seconds that it might have needed.
        certain : bool
            It cannot do it at all.
        doubt : float
            Standard deviation of the logarithm of `cost`.
        """
        track, leads = self.tracks[arm], arm == self.leader
        self._count(arm, spent)
        self._next_look = 0
        track.missed = PATIENCE if certain else track.missed + 1
        track.note = note
        self._leader = ...
        if cost is not None and not math.isnan(self.level):
            found = math.log(max(cost, 1e-9)) - self.level
            known = track.at(self.feature) if track.weight else found
            if leads and found > known:
                # Systems may have become so much harder, and the other arms slower with them.
                self.level += (found - known) / 2
                found -= (found - known) / 2
            # An estimate, which counts for less than a measurement.
            track.take(self.feature, found, min((self.spread / doubt) ** 2, 1.0))
        elif track.weight == 0:
            track.mean, track.centre = math.log(10.0), self.feature
        track.level = self.level

    def again(self, arm: Hashable, spent: float) -> None:
        """Take note of the seconds of a pull that shall not count."""
        self._count(arm, spent)
        self.tracks[arm].pulls -= 1

    def near(self, arm: Hashable, factor: float) -> bool:
        """Return whether an arm may cost so many times what the leader costs, or less."""
        leader, track = self.leader, self.tracks[arm]
        if leader is None or not track.weight or track.out:
            return False
        least = track.at(self.feature) - self._doubt(track)
        return least <= self.tracks[leader].at(self.feature) + math.log(factor)

    def worse(self, arm: Hashable) -> bool:
        """Return whether an arm has been proven worse than the leader."""
        leader, track = self.leader, self.tracks[arm]
        if leader is None or arm == leader or not track.weight:
            return False
        best = self.tracks[leader]
        least = track.at(self.feature) - self._doubt(track)
        return least > best.at(self.feature) + self._doubt(best)

    def _count(self, arm: Hashable, spent: float) -> None:
        leader = self.leader
        self._resting = leader is not None and arm != leader
        self.paid += spent if leader is None else self.expected(leader)
        if self._resting:
            self.excess += max(spent - self.expected(leader), 0.0)
        self.rounds += 1
        self.tracks[arm].pulls += 1
        self.tracks[arm].seconds += spent
        for other, track in self.tracks.items():
            if track.weight and other != arm and other != leader:
                track.fade()
        self._leader = ...

    def _doubt(self, track: Track) -> float:
        apart = APART * (self.level - track.level)
        own = self.spread * track.doubt(self.feature)
        return own if math.isnan(apart) else math.hypot(own, apart)

    def _hope(self, arm: Hashable) -> float:
        track = self.tracks[arm]
        return track.at(self.feature) - CONFIDENCE * self._doubt(track)
