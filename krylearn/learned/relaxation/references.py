"""What a learner is judged against: a fixed value, explore then commit, Young's formula."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from krylearn.kernels.relaxation import is_hermitian
from krylearn.learned.relaxation.policy import OMEGAS, Learner, context_number
from krylearn.operators import unsigned_indices
from krylearn.solvers.relaxation.spectrum import jacobi_radius, youngs_omega
from krylearn.solvers.relaxation.splitting import square_csr

__all__ = ["ExploreThenCommit", "Fixed", "Young"]

# The summed losses of a value that has failed.
FAILED = 1e300


class Fixed(Learner):
    """Always the same value.

    Parameters
    ----------
    value : float

    Attributes
    ----------
    rounds : int
        Losses observed; `mean` is their mean.

    Examples
    --------
    >>> from krylearn.learned.relaxation import Fixed
    >>> Fixed(1.5).choose()
    1.5
    """

    _settings = ("value",)

    def __init__(self, value: float) -> None:
        super().__init__([value])
        self.value = float(value)

    def _decide(self, context: Any) -> int:
        return 0


class ExploreThenCommit(Learner):
    """Try each value a number of times, in turns, then stay with the best.

    Parameters
    ----------
    values : sequence of float
        To choose among.
    trials : int
        Of each value.
    loss : {'iterations', 'seconds'}
        What a solver shall tell `observe`.

    Attributes
    ----------
    values, probabilities : (d,) ndarray
        The arms; the distribution of the last choice, which is certain.
    rounds : int
        Losses observed.

    Examples
    --------
    >>> from krylearn.learned.relaxation import ExploreThenCommit
    >>> policy = ExploreThenCommit([1.0, 1.5, 1.9], trials=2)
    >>> for _ in range(10):
    ...     policy.observe(abs(policy.choose() - 1.6))
    >>> policy.choose()
    1.5
    """

    _settings = ("values", "trials", "loss")
    _state = (*Learner._state, "_sums")

    def __init__(self, values: Sequence[float] | np.ndarray = OMEGAS, trials: int = 10,
                 loss: str = "iterations") -> None:  # fmt: skip
        super().__init__(values, loss=loss)
        if trials != int(trials) or trials < 1:
            raise ValueError(f"trials must be an integer >= 1, not {trials!r}")
        self.trials = int(trials)
        self._sums = np.zeros(self.values.size)

    def best(self, context: Any = None) -> float:
        """Return the value with the least mean loss."""
        return self._value(int(self._sums.argmin()))

    def observe(self, loss: float) -> None:
        """Learn what the value returned last has cost; one that has failed is out."""
        if self._arm >= 0 and not math.isfinite(loss):
            self._sums[self._arm] = FAILED
        super().observe(loss)

    def _decide(self, context: Any) -> int:
        d = self.values.size
        arm = self.rounds % d if self.rounds < d * self.trials else int(self._sums.argmin())
        self._probabilities = np.zeros(d)
        self._probabilities[arm] = 1.0
        return arm

    def _learn(self, arm: int, loss: float) -> None:
        if self.rounds <= self.values.size * self.trials:
            self._sums[arm] += loss


class Young(Learner):
    """Young's relaxation for a family of systems, from one eigenvalue of one of them.

    Parameters
    ----------
    A : {sparse array, ndarray, GridOperator}, optional
        Of which to estimate the spectral radius of Jacobi.
    family : {'A + cI', 'I + cA'}
        What the context c makes of A, c > 0 in the second.
    radius, diagonal : float, optional
        In place of A: the radius, and the diagonal or its mean.

    Attributes
    ----------
    radius, diagonal : float
        Estimated or given.
    rounds : int
        Losses observed, from which nothing is learned.

    Notes
    -----
    An eigenvalue m of the Jacobi matrix ``I - inv(D) A`` becomes ``m d / (d + c)`` when c is
    added to a constant diagonal d. Where the diagonal varies this is an approximation.

    References
    ----------
    Young (1954), Iterative methods for solving partial difference equations of elliptic type.
    Khodak et al. (2024), Learning to relax, section 4, on shifts.

    Examples
    --------
    >>> import numpy as np
    >>> from krylearn.learned.relaxation import Young
    >>> policy = Young(2 * np.eye(9) - np.eye(9, k=1) - np.eye(9, k=-1))
    >>> [round(policy.choose(c), 2) for c in (0.0, 0.1, 1.0)]
    [1.53, 1.4, 1.13]
    """

    _settings = ("family", "radius", "diagonal")

    def __init__(self, A: Any = None, family: str = "A + cI", radius: float | None = None,
                 diagonal: float | None = None) -> None:  # fmt: skip
        super().__init__([1.0])
        if family not in ("A + cI", "I + cA"):
            raise ValueError(f"family must be 'A + cI' or 'I + cA', not {family!r}")
        if A is not None:
            A = square_csr(A, "Young")
            d = A.diagonal()
            if not np.all(d != 0):
                raise ValueError("Young's formula divides by the diagonal, which holds a zero")
            radius = jacobi_radius(A, d, is_hermitian(*unsigned_indices(A), A.data))
            diagonal = np.mean(d.real)
        if radius is None or diagonal is None:
            raise ValueError("Young needs A, or the radius and the diagonal")
        self.family, self.radius, self.diagonal = family, float(radius), float(diagonal)

    def choose(self, context: Any = None) -> float:
        """Return Young's relaxation for the context c; None means A itself."""
        self._arm = 0
        return youngs_omega(self.radius_at(context))

    def radius_at(self, context: Any = None) -> float:
        """Return the spectral radius of Jacobi for the context c; None means A itself."""
        d = self.diagonal
        if context is None:
            return self.radius
        c = context_number(context)
        share = d / (d + c) if self.family == "A + cI" else c * d / (1 + c * d)
        return self.radius * abs(share)
