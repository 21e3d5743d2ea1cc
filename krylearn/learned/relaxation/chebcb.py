"""ChebCB: a contextual bandit whose losses are polynomials of the context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.polynomial import chebyshev as series

from krylearn.kernels.bandits import chebyshev, inverse_gap_draw, predict, refit, regress
from krylearn.learned.relaxation.policy import OMEGAS, Learner, context_number

__all__ = ["ChebCB"]

# An interval that must grow takes in so much more than asked for, to grow seldom.
MARGIN = 0.25


class ChebCB(Learner):
    """Least squares of each value's loss on the context, and draws by the inverse gap.

    Parameters
    ----------
    values : sequence of float
        To choose among.
    degree : int
        Of the polynomials of the context.
    seed : int
        Of all random draws.
    eta : float
        A value whose predicted loss exceeds the least by a gap g is drawn with probability
        ``1 / (d + eta * sqrt(t) * g / mean loss)``. The greater, the less is explored.
    interval : (float, float), optional
        Of the context. By default, and wherever a context lies outside, it grows.
    ridge : float
        Added to the diagonal of the normal equations.
    loss : {'iterations', 'seconds'}
        What a solver shall tell `observe`.

    Attributes
    ----------
    values, probabilities : (d,) ndarray
        The arms; the distribution that the last choice was drawn from.
    rounds : int
        Losses observed.
    interval : (float, float) or None
        What the polynomials are stretched over.

    Notes
    -----
    When the interval grows the sums of the least squares are carried over exactly, the old
    polynomials and the new spanning the same space.

    References
    ----------
    Khodak et al. (2024), Learning to relax, section 4. Foster and Rakhlin (2020), Beyond UCB:
    optimal and efficient contextual bandits with regression oracles.

    Examples
    --------
    >>> from krylearn.learned.relaxation import ChebCB
    >>> policy = ChebCB(seed=1)
    >>> for t in range(4000):
    ...     c = t % 100 / 100
    ...     policy.observe(10 + 40 * (policy.choose(c) - 1.2 - 0.6 * c) ** 2)
    >>> [round(policy.best(c), 2) for c in (0.0, 0.5, 1.0)]
    [1.2, 1.5, 1.8]
    """

    _settings: ClassVar[tuple[str, ...]] = (
        "values", "degree", "seed", "eta", "interval", "ridge", "loss",
    )  # fmt: skip
    _state: ClassVar[tuple[str, ...]] = (
        *Learner._state, "_features", "_gram", "_moment", "_theta",
    )  # fmt: skip

    def __init__(self, values: Sequence[float] | np.ndarray = OMEGAS, degree: int = 5,
                 seed: int = 0, eta: float = 100.0, interval: Sequence[float] | None = None,
                 ridge: float = 1e-3, loss: str = "iterations") -> None:  # fmt: skip
        super().__init__(values, seed, loss)
        if degree != int(degree) or degree < 0:
            raise ValueError(f"degree must be an integer >= 0, not {degree!r}")
        if not (eta > 0 and ridge > 0):
            raise ValueError(f"eta and ridge must be positive, not {eta!r} and {ridge!r}")
        if interval is not None and not interval[0] < interval[1]:
            raise ValueError(f"the interval must ascend, not be {interval!r}")
        self.degree, self.eta, self.ridge = int(degree), float(eta), float(ridge)
        self.interval = None if interval is None else (float(interval[0]), float(interval[1]))
        d, m = self.values.size, self.degree + 1
        self._features, self._factor = np.zeros(m), np.zeros((m, m))
        self._gram, self._moment = np.zeros((d, m, m)), np.zeros((d, m))
        self._theta = np.zeros((d, m))
        self._predicted = np.zeros(d)

    def predict(self, context: Any = None) -> np.ndarray:
        """Return the loss to expect of each value."""
        features, y = np.empty(self.degree + 1), np.empty(self.values.size)
        chebyshev(self._place(context_number(context)), features)
        predict(self._theta, features, y)
        return y

    def best(self, context: Any = None) -> float:
        """Return the value with the least predicted loss."""
        return self._value(int(self.predict(context).argmin()))

    def _decide(self, context: Any) -> int:
        c = context_number(context)
        self._cover(c)
        eta = self.eta * (self.rounds + 1) ** 0.5 / (self.mean or 1.0)
        return inverse_gap_draw(self._theta, self._place(c), eta, self._rng.random(),
                                self._features, self._predicted, self._probabilities)  # fmt: skip

    def _learn(self, arm: int, loss: float) -> None:
        regress(self._features, loss, self._gram[arm], self._moment[arm], self.ridge,
                self._theta[arm], self._factor)  # fmt: skip

    def _place(self, c: float) -> float:
        """Return where the context lies in the interval, the ends being -1 and 1."""
        if self.interval is None:
            return 0.0
        low, high = self.interval
        return min(max((2 * c - low - high) / (high - low), -1.0), 1.0)

    def _cover(self, c: float) -> None:
        """Stretch the interval, where it must be, to take in c."""
        if self.interval is None:
            width = 1e-3 * (abs(c) or 1.0)
            self.interval = c - width, c + width
        low, high = self.interval
        if low <= c <= high:
            return
        margin = MARGIN * (max(high, c) - min(low, c))
        bottom, top = c - margin if c < low else low, c + margin if c > high else high
        # The new variable as a series in the old one, then the new polynomials.
        line = np.array([low + high - bottom - top, high - low]) / (top - bottom)
        change = np.zeros((self.degree + 1, self.degree + 1))
        rows = [np.ones(1), line]
        while len(rows) <= self.degree:
            rows.append(series.chebsub(2 * series.chebmul(line, rows[-1]), rows[-2]))
        for k in range(self.degree + 1):
            change[k, : k + 1] = rows[k]
        self._gram = change @ self._gram @ change.T
        self._moment = self._moment @ change.T
        self.interval = bottom, top
        for arm in range(self.values.size):
            refit(self._gram[arm], self._moment[arm], self.ridge, self._theta[arm], self._factor)
