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
# Pulls without success after which an arm is out.
PATIENCE = 3
# Times the leader's cost: an explored arm is stopped there, and the leader itself.
SLACK, BACKSTOP = 1.05, 6.0
# After so many rounds the leader runs between explorations, so that its level stays known.
HASTE = 8


@dataclass
class Track:
    """What is known of an arm.

    Attributes
    ----------
    guess, risk : float
        Seconds that its first pull may cost besides, and what it may cost as a share of the
        leader's cost.
    mean, weight : float
        Of the logarithm of its cost over the level of the race, and the pulls that stand behind
        it, which fade.
    pulls, solved, missed : int
        All pulls; those that solved their system; those without success since the last one.
    seconds : float
        Spent on it, the rescue of what it left unsolved included.
    note : str
        What went wrong last.
    """

    guess: float = 0.0
    risk: float = SLACK
    mean: float = 0.0
    weight: float = 0.0
    pulls: int = 0
    solved: int = 0
    missed: int = 0
    seconds: float = 0.0
    note: str = ""

    @property
    def out(self) -> bool:
        """Whether it has had all the pulls it gets."""
        return self.missed >= PATIENCE


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
    spread : float
        Standard deviation of the logarithm of a cost.
    excess : float
        Seconds lost to the leader by exploring.

    Notes
    -----
    All costs are taken relative to a level that follows how hard the systems are, so that arms
    which ran at different times compare. The arm to pull is an untried one, else the one with the
    lowest confidence bound, but the leader where the bound of `share` says so, and after each
    exploration. Records fade, so that what has been proven worse is tried again much later.

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

    def __init__(self, horizon: int = 200, share: float = 0.05) -> None:
        self.horizon, self.share = horizon, share
        self.tracks: dict[Any, Track] = {}
        self.rounds = 0
        self.level = math.nan
        self.spread = SPREAD
        self.excess = 0.0
        self._resting = False
        self._leader: Any = ...  # where it must be found again

    def add(self, arm: Hashable, guess: float = 0.0, risk: float = SLACK,
            first: bool = False) -> None:  # fmt: skip
        """Let one more arm take part, the next to be tried if `first`.

        One that takes part already stays as it is.
        """
        if arm not in self.tracks:
            new = {arm: Track(guess, risk)}
            self.tracks = {**new, **self.tracks} if first else {**self.tracks, **new}

    def promote(self, arm: Hashable) -> None:
        """Let an arm be the next to be tried."""
        self.tracks = {arm: self.tracks[arm]} | self.tracks

    def rename(self, arm: Hashable, new: Hashable) -> None:
        """Let another arm take the place of one that has not been tried."""
        self.tracks = {new if a == arm else a: track for a, track in self.tracks.items()}

    def ranking(self, everyone: bool = False) -> list:
        """Return the arms, the best first, then those not tried; without those that are out."""
        leader = self.leader

        def rank(arm):
            track = self.tracks[arm]
            return arm != leader, track.out, not track.pulls, not track.solved, track.mean

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
        return min(able, key=lambda a: able[a].mean + self._doubt(able[a]) / 2, default=None)

    def expected(self, arm: Hashable) -> float:
        """Return the seconds that a system of now costs with an arm that has been tried."""
        return math.exp(self.level + self.tracks[arm].mean)

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
        untried = [arm for arm, t in self.tracks.items() if not (t.pulls or t.out)]
        if leader is None:
            rest = [arm for arm, t in self.tracks.items() if t.pulls and not t.out]
            return next(iter(untried + rest), None)
        if self._resting and self.rounds > HASTE:
            return leader
        cost = self.expected(leader)
        allowed = self.share * cost * max(self.horizon, self.rounds) - self.excess
        for arm in untried:
            track = self.tracks[arm]
            if (1 - lasting) * track.guess + track.risk * cost <= allowed:
                return arm
        rivals = [a for a, t in self.tracks.items() if t.pulls and not t.out and a != leader]
        rival = min(rivals, key=self._hope, default=None)
        if rival is not None and self._hope(rival) < self.tracks[leader].mean:
            if min(self.expected(rival), SLACK * cost) - cost <= allowed:
                return rival
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
        track = self.tracks[arm]
        self._count(arm, cost if spent is None else spent)
        found = math.log(max(cost, 1e-9))
        if math.isnan(self.level):
            self.level = found
        error = found - self.level - track.mean if track.weight else 0.0
        if track.weight >= 2:
            square = min(error**2, 9 * self.spread**2)
            self.spread = max(math.sqrt(0.9 * self.spread**2 + 0.1 * square), LEAST_SPREAD)
        if track.weight >= 3:
            # What the machine does besides may make one pull many times slower.
            error = min(max(error, -4 * self.spread), 4 * self.spread)
        if track.weight:
            track.mean += error / (track.weight + 1)
        else:
            track.mean = found - self.level
        track.weight += 1
        # The better the arm is known, the more its cost says of the system.
        self.level += 0.3 * (1 - 1 / track.weight) * error
        track.solved += 1
        track.missed = 0
        track.note = ""
        self._leader = ...

    def missed(self, arm: Hashable, spent: float, note: str, cost: float | None = None,
               certain: bool = False) -> None:  # fmt: skip
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
        """
        track, leads = self.tracks[arm], arm == self.leader
        self._count(arm, spent)
        track.missed = PATIENCE if certain else track.missed + 1
        track.note = note
        self._leader = ...
        if cost is not None and not math.isnan(self.level):
            found = math.log(max(cost, 1e-9)) - self.level
            if leads and found > track.mean:
                # Systems may have become so much harder, and the other arms slower with them.
                self.level += (found - track.mean) / 2
                found -= (found - track.mean) / 2
            # An estimate, which counts for less than a measurement.
            track.mean += (found - track.mean) * 0.3 / (track.weight + 0.3)
            track.weight += 0.3
        elif track.weight == 0:
            track.mean = math.log(10.0)

    def again(self, arm: Hashable, spent: float) -> None:
        """Take note of the seconds of a pull that shall not count."""
        self._count(arm, spent)
        self.tracks[arm].pulls -= 1

    def worse(self, arm: Hashable) -> bool:
        """Return whether an arm has been proven worse than the leader."""
        leader, track = self.leader, self.tracks[arm]
        if leader is None or arm == leader or not track.weight:
            return False
        best = self.tracks[leader]
        return track.mean - self._doubt(track) > best.mean + self._doubt(best)

    def _count(self, arm: Hashable, spent: float) -> None:
        leader = self.leader
        self._resting = leader is not None and arm != leader
        if self._resting:
            self.excess += max(spent - self.expected(leader), 0.0)
        self.rounds += 1
        self.tracks[arm].pulls += 1
        self.tracks[arm].seconds += spent
        for other, track in self.tracks.items():
            if track.weight and other != arm and other != leader:
                track.weight *= MEMORY
        self._leader = ...

    def _doubt(self, track: Track) -> float:
        return self.spread / math.sqrt(max(track.weight, 1e-6))

    def _hope(self, arm: Hashable) -> float:
        track = self.tracks[arm]
        return track.mean - CONFIDENCE * self._doubt(track)
