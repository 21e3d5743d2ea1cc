"""Young's formula where it holds, and a bandit on what it gets wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from krylearn.kernels.bandits import guided, leader, remember
from krylearn.learned.relaxation.chebcb import ChebCB
from krylearn.learned.relaxation.policy import context_number
from krylearn.learned.relaxation.references import Young

__all__ = ["YoungCB"]


class YoungCB(ChebCB):
    """A contextual bandit on the radius that Young's formula should have been told.

    Young's relaxation is ``2 / (1 + s)`` with ``s = sqrt(1 - radius**2)``. An arm tells it another
    radius, the same for all contexts: that with which s is multiplied by a power of `step` in the
    hardest context seen so far. The bandit starts with Young's own arm, looks only at the
    neighbours of the arm that leads, and spends on that no more than a share of what Young alone
    would have cost. So it keeps close to Young where the formula holds, and leaves it, in some
    hundred rounds, where it does not.

    Parameters
    ----------
    young : Young
        Makes s of the context.
    reach : int
        Arms on either side of Young's.
    step : float
        Between the s of neighbours, where the radius is largest.
    degree : int
        Of the polynomials of the context.
    interval : (float, float), optional
        Of the context. By default, and wherever a context lies outside, it grows.
    limits : (float, float)
        Of the relaxation.
    budget : float
        Share of all losses that may be lost to Young by exploring.
    loss : {'iterations', 'seconds'}
        What a solver shall tell `observe`.

    Attributes
    ----------
    values : (2 reach + 1,) ndarray
        The factors.
    probabilities : (2 reach + 1,) ndarray
        Of the last choice, which is certain.
    rounds : int
        Losses observed.

    Notes
    -----
    Losses are taken in units of the iterations that Young's theory expects, ``1 / atanh(s)`` and
    one, so that what is left to learn varies little with the context, and is as uncertain in all.
    Bayesian least squares: the coefficients of Young's arm are free, and those of every other lie
    about its neighbour's on the side of Young's. So an arm that has not been tried promises what
    its neighbour has shown, with the doubt that makes it worth a try; one standard deviation of
    it, as in LinUCB. A radius of one or more, which no system has that SOR converges for, is taken
    as one just below. Old losses fade, so that a change that the context does not tell is followed.

    References
    ----------
    Khodak et al. (2024), Learning to relax. Li et al. (2010), A contextual-bandit approach
    (LinUCB). Combes and Proutiere (2014), Unimodal bandits, on the neighbours of the leader.
    Wu et al. (2016), Conservative bandits, on the budget.

    Examples
    --------
    >>> from krylearn.learned.relaxation import Young, YoungCB
    >>> right, told = (Young(radius=radius, diagonal=4.0) for radius in (0.95, 0.6))
    >>> policy = YoungCB(told)
    >>> for t in range(400):
    ...     c = 0.1 * (t % 10)
    ...     policy.observe(20 + 900 * (policy.choose(c) - right.choose(c)) ** 2)
    >>> bool(abs(policy.best(0.5) - right.choose(0.5)) < 0.1 < right.choose(0.5) - told.choose(0.5))
    True
    """

    _settings = ("young", "reach", "step", "degree", "interval", "limits", "budget", "loss")
    _state = (*ChebCB._state, "_predicted", "_noise2", "_judged", "_total", "_excess",
              "_hardest", "_unit", "_level")  # fmt: skip

    # Of the difference between neighbours, in units of the mean loss.
    _spread = 0.3
    # In units of a standard deviation.
    _confidence = 1.0
    # The least ``1 - radius**2`` that Young is believed, for a relaxation of 1.95.
    _least_gap = 6e-4
    # Of a loss, one round later: a memory of some 500 rounds.
    _memory = 0.998

    def __init__(self, young: Young, reach: int = 8, step: float = math.sqrt(2), degree: int = 3,
                 interval: Sequence[float] | None = None,
                 limits: Sequence[float] = (1.0, 1.95), budget: float = 0.01,
                 loss: str = "iterations") -> None:  # fmt: skip
        if reach != int(reach) or reach < 1 or not step > 1:
            raise ValueError(f"reach must be >= 1 and step > 1, not {reach!r} and {step!r}")
        if not 0 < limits[0] < limits[1] < 2:
            raise ValueError(f"limits must ascend between 0 and 2, not be {limits!r}")
        powers = float(step) ** np.arange(-int(reach), int(reach) + 1.0)
        super().__init__(powers, degree, interval=interval, ridge=0.1, loss=loss)
        self.young, self.reach, self.step = young, int(reach), float(step)
        self.limits, self.budget = (float(limits[0]), float(limits[1])), float(budget)
        self._sd, self._work = np.zeros(powers.size), np.zeros(self.degree + 1)
        self._noise2 = self._total = self._excess = self._hardest = self._level = 0.0
        self._unit, self._radius = 1.0, 0.0
        self._squares = [float(power) ** 2 for power in powers]
        self._judged = 0

    def choose(self, context: Any = None) -> float:
        """Return the relaxation to solve the next system with."""
        self._arm = self._decide(context)
        return self._omega(self._arm, self._radius)

    def predict(self, context: Any = None) -> np.ndarray:
        """Return the loss to expect of each factor."""
        y, place = np.empty(self.values.size), self._place(context_number(context))
        self._look(place, np.empty(self.degree + 1), self._theta.copy(), y)
        return y * self._theory(self.young.radius_at(context))

    def best(self, context: Any = None) -> float:
        """Return the relaxation with the least expected loss."""
        arm = int(leader(self.predict(context), self.reach))
        return self._omega(arm, self.young.radius_at(context))

    def _omega(self, arm: int, radius: float) -> float:
        hardest = max(radius, self._hardest)
        if not hardest:
            return max(1.0, self.limits[0])
        gap = max(1 - hardest**2, self._least_gap) * self._squares[arm]
        # What this arm takes the squared radius for, which is in proportion in all contexts.
        squared = max(1 - gap, 0.0) * (radius / hardest) ** 2
        return min(max(2 / (1 + math.sqrt(1 - squared)), self.limits[0]), self.limits[1])

    def _theory(self, radius: float) -> float:
        """Return the iterations that Young's theory expects, but for a factor."""
        squared = max(1 - radius**2, self._least_gap)
        return 1 + (1 / math.atanh(math.sqrt(squared)) if squared < 1 else 0.0)

    def _look(self, place: float, features: np.ndarray, theta: np.ndarray, y: np.ndarray) -> int:
        """Write what is expected at a place, in units of theory; return the arm to try."""
        level = self._level or 1.0
        # Losses are counts: no arm is known better than to a hundredth.
        noise = max(math.sqrt(self._noise2), 0.01 * level)
        return guided(
            place, self._gram, self._moment, self.reach, noise, self._spread * level, self.ridge,
            self._confidence, features, theta, y, self._sd, self._factor, self._work,
        )  # fmt: skip

    def _decide(self, context: Any) -> int:
        c = context_number(context)
        self._cover(c)
        self._radius = radius = self.young.radius_at(context)
        self._hardest = max(self._hardest, radius)
        self._unit = self._theory(radius)
        arm = self._look(self._place(c), self._features, self._theta, self._predicted)
        # What Young costs must be known before a loss to it can be told.
        if self.rounds <= self.degree or self._excess > self.budget * self._total:
            arm = self.reach
        if self._probabilities[arm] != 1.0:
            self._probabilities[:] = 0.0
            self._probabilities[arm] = 1.0
        return arm

    def _learn(self, arm: int, loss: float) -> None:
        self._total += loss
        if arm != self.reach:
            self._excess += float(loss - self._unit * self._predicted[self.reach])
        loss /= self._unit
        self._level += (loss - self._level) / self.rounds
        error = loss - self._predicted[arm]
        # The first errors of an arm are of ignorance, not of noise.
        if self._gram[arm, 0, 0] > self.degree:
            self._judged += 1
            self._noise2 += float(error**2 - self._noise2) / min(self._judged, 100)
        remember(self._features, loss, arm, self._memory, self._gram, self._moment)
