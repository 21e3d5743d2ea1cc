"""Tsallis-INF: as good as possible whether the losses are drawn at random or by an adversary."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import numpy as np

from krylearn.kernels.bandits import reduced_variance, tsallis_draw
from krylearn.learned.relaxation.policy import OMEGAS, Learner, context_number

__all__ = ["BinnedTsallisINF", "TsallisINF"]


class TsallisINF(Learner):
    """A bandit by regularised leaders, with Tsallis entropy of power 1/2 as regulariser.

    Parameters
    ----------
    values : sequence of float
        To choose among.
    seed : int
        Of all random draws.
    estimator : {'importance', 'reduced_variance'}
        Of the losses of the arms that were not tried. The second subtracts the mean loss
        before it weighs, from arms that are tried often enough for that to be safe.
    loss : {'iterations', 'seconds'}
        What a solver shall tell `observe`.
    least : float, optional
        The least a loss can be, which is subtracted: by default 1 for iterations, 0 for seconds.

    Attributes
    ----------
    values, probabilities : (d,) ndarray
        The arms; the distribution that the last choice was drawn from.
    rounds : int
        Losses observed.

    Notes
    -----
    ``p_i = 4 (eta (k_i - x))**-2``, k_i being the summed estimates in units of the mean loss and
    ``eta = 2 / sqrt(t)``; 4 / sqrt(t) with reduced variance, whose control variate holds for arms
    with ``t p_i >= 16``. The paper subtracts 1/2, the middle of losses in [0, 1]; here it is 1,
    where losses in units of their mean lie about. The context is not looked at.

    References
    ----------
    Zimmert and Seldin (2021), Tsallis-INF: an optimal algorithm for stochastic and adversarial
    bandits, JMLR 22. Khodak et al. (2024), Learning to relax, section 3.

    Examples
    --------
    >>> from krylearn.learned.relaxation import TsallisINF
    >>> policy = TsallisINF(seed=1)
    >>> for _ in range(2000):
    ...     policy.observe(10 + 40 * (policy.choose() - 1.5) ** 2)
    >>> bool(1.35 < policy.best() < 1.65)
    True
    """

    _settings = ("values", "seed", "estimator", "loss", "least")
    _state = (*Learner._state, "_losses")

    def __init__(self, values: Sequence[float] | np.ndarray = OMEGAS, seed: int = 0,
                 estimator: str = "importance", loss: str = "iterations",
                 least: float | None = None) -> None:  # fmt: skip
        super().__init__(values, seed, loss)
        if estimator not in ("importance", "reduced_variance"):
            raise ValueError(
                f"estimator must be 'importance' or 'reduced_variance', not {estimator!r}"
            )
        self.estimator = estimator
        self.least = float(loss == "iterations") if least is None else float(least)
        self._losses = np.zeros(self.values.size)

    def best(self, context: Any = None) -> float:
        """Return the value with the least estimated loss."""
        return self._value(int(self._losses.argmin()))

    @property
    def _unit(self) -> float:
        return max(self.mean - self.least, 0.0) or 1.0

    def _decide(self, context: Any) -> int:
        eta = (2.0 if self.estimator == "importance" else 4.0) / (self.rounds + 1) ** 0.5
        return tsallis_draw(self._losses, eta / self._unit, self._rng.random(), self._probabilities)

    def _learn(self, arm: int, loss: float) -> None:
        loss = max(loss - self.least, 0.0)
        if self.estimator == "reduced_variance":
            reduced_variance(self._losses, self._probabilities, self.rounds, self._unit, arm, loss)
        else:
            self._losses[arm] += loss / self._probabilities[arm]


class BinnedTsallisINF(Learner):
    """One `TsallisINF` for each bin of the context.

    Parameters
    ----------
    bins : int or sequence of float
        Bins of equal width over `interval`, or the inner edges between bins.
    interval : (float, float)
        Of the context; beyond it the outer bins count.
    values, seed, estimator, loss, least
        As for `TsallisINF`.

    Attributes
    ----------
    values, probabilities : (d,) ndarray
        The arms; the distribution that the last choice was drawn from.
    rounds : int
        Losses observed.
    bins : ndarray
        The edges between the bins.

    References
    ----------
    Khodak et al. (2024), Learning to relax, section 4.

    Examples
    --------
    >>> from krylearn.learned.relaxation import BinnedTsallisINF
    >>> policy = BinnedTsallisINF(bins=4, seed=1)
    >>> for t in range(8000):
    ...     c = (t % 8 + 0.5) / 8
    ...     policy.observe(10 + 40 * (policy.choose(c) - 1.2 - 0.6 * (c > 0.5)) ** 2)
    >>> policy.best(0.1) < 1.4 < 1.6 < policy.best(0.9)
    True
    """

    _settings = ("bins", "values", "seed", "estimator", "loss", "least")
    _state = (*Learner._state, "_bin", "_learners")

    def __init__(self, bins: int | Sequence[float] | np.ndarray = 6,
                 values: Sequence[float] | np.ndarray = OMEGAS, seed: int = 0,
                 estimator: str = "importance", loss: str = "iterations",
                 least: float | None = None,
                 interval: tuple[float, float] = (0.0, 1.0)) -> None:  # fmt: skip
        super().__init__(values, seed, loss)
        if isinstance(bins, (int, np.integer)):
            if bins < 1:
                raise ValueError(f"bins must be at least 1, not {bins}")
            bins = np.linspace(*interval, bins + 1)[1:-1]
        self.bins = np.array(bins, dtype=float)
        if np.any(np.diff(self.bins) <= 0):
            raise ValueError("the edges between bins must ascend")
        self._edges = self.bins.tolist()
        seeds = np.random.SeedSequence(self.seed).generate_state(self.bins.size + 1)
        self._learners = [TsallisINF(values, int(s), estimator, loss, least) for s in seeds]
        self.estimator, self.least = estimator, self._learners[0].least
        self._bin = 0

    def best(self, context: Any = None) -> float:
        """Return the value with the least estimated loss in the bin of a context."""
        return self._learners[self._find(context)].best()

    def _find(self, context: Any) -> int:
        return bisect_right(self._edges, context_number(context))

    def _decide(self, context: Any) -> int:
        self._bin = self._find(context)
        learner = self._learners[self._bin]
        learner._arm = learner._decide(None)
        self._probabilities = learner._probabilities
        return learner._arm

    def _learn(self, arm: int, loss: float) -> None:
        self._learners[self._bin].observe(loss)
