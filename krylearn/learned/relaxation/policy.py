"""What chooses a parameter of each solve and learns from what the solve cost."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

# The paper's grid of relaxation parameters.
OMEGAS = np.linspace(1.0, 1.95, 20)


@runtime_checkable
class Policy(Protocol):
    """What solvers ask of an ``omega`` that is no number.

    A solver calls `choose` before a solve and `observe` after it. It observes iterations, or
    seconds if the policy has an attribute ``loss = "seconds"``.

    Parameters
    ----------
    context : object, optional
        What is known of the system before it is solved.
    loss : float
        What the choice has cost, in any unit that is kept; infinite where the solve has failed.
    """

    def choose(self, context: Any = None) -> float:
        """Return the value to solve the next system with."""

    def observe(self, loss: float) -> None:
        """Learn what the value returned last has cost."""


class Learner:
    """Base of the policies here: a choice among values, random draws by a seed, saved as JSON.

    A subclass defines `_decide`, which returns the index of an arm and sets `_probabilities`,
    and `_learn`, and names its arguments and what it has learned in `_settings` and `_state`.

    Parameters
    ----------
    values : sequence of float
        To choose among, the arms of the bandit.
    seed : int
        Of all random draws.
    loss : {'iterations', 'seconds'}
        What a solver shall tell `observe`.

    Attributes
    ----------
    values, probabilities : (d,) ndarray
        The arms; the distribution that the last choice was drawn from.
    rounds : int
        Losses observed.

    Notes
    -----
    One that is not finite (the solve has failed) counts as twice the worst finite one so far. A
    loss that follows no choice is ignored. What is saved or pickled is everything: a choice that
    waits for its loss is saved with it.
    """

    _settings: ClassVar[tuple[str, ...]] = ("values", "seed", "loss")
    _state: ClassVar[tuple[str, ...]] = ("rounds", "mean", "worst", "_arm", "_probabilities")
    _kinds: ClassVar[dict[str, type[Learner]]] = {}

    def __init_subclass__(cls) -> None:
        Learner._kinds[cls.__name__] = cls

    def __init__(self, values: Sequence[float] | np.ndarray = OMEGAS, seed: int = 0,
                 loss: str = "iterations") -> None:  # fmt: skip
        self.values = np.array(values, dtype=float)
        if self.values.ndim != 1 or not self.values.size or not np.isfinite(self.values).all():
            raise ValueError(f"values must be a list of numbers, not {values!r}")
        self.values.flags.writeable = False
        if loss not in ("iterations", "seconds"):
            raise ValueError(f"loss must be 'iterations' or 'seconds', not {loss!r}")
        self.seed, self.loss = int(seed), loss
        self._rng = np.random.default_rng(self.seed)
        self._probabilities = np.full(self.values.size, 1 / self.values.size)
        self.rounds = 0
        self.mean = self.worst = 0.0
        self._arm = -1

    @property
    def probabilities(self) -> np.ndarray:
        return self._probabilities.copy()

    def choose(self, context: Any = None) -> float:
        """Return the value to solve the next system with.

        Parameters
        ----------
        context : float, optional
            What is known of the system before it is solved.
        """
        self._arm = self._decide(context)
        return self._value(self._arm)

    def observe(self, loss: float) -> None:
        """Learn what the value returned last has cost."""
        if self._arm < 0:
            return
        loss = float(loss)
        if math.isfinite(loss):
            self.worst = max(self.worst, loss)
        else:
            loss = 2 * self.worst or 1.0
        self.rounds += 1
        self.mean += (loss - self.mean) / self.rounds
        self._learn(self._arm, loss)
        self._arm = -1

    def _value(self, arm: int) -> float:
        return float(self.values[arm])

    def _decide(self, context: Any) -> int:
        raise NotImplementedError

    def _learn(self, arm: int, loss: float) -> None:
        """Take the loss of an arm into account; `rounds` and `mean` include it already."""

    # -- saving ----------------------------------------------------------------------------

    def to_json(self) -> str:
        """Return settings and state as JSON; what `from_json` makes of it continues alike."""
        return json.dumps(self._as_dict())

    @staticmethod
    def from_json(text: str) -> Learner:
        """Return the policy that `to_json` has written.

        Raises
        ------
        ValueError
            If the text is no policy's.
        """
        try:
            return _from_dict(json.loads(text))
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"not a saved policy: {error!r}") from None

    def save(self, path: str | Path) -> None:
        """Write `to_json` to a file."""
        Path(path).write_text(self.to_json())

    @staticmethod
    def load(path: str | Path) -> Learner:
        """Return the policy that `save` has written."""
        return Learner.from_json(Path(path).read_text())

    def _as_dict(self) -> dict[str, Any]:
        return {
            "policy": type(self).__name__,
            "settings": {name: _plain(getattr(self, name)) for name in self._settings},
            "state": {name: _plain(getattr(self, name)) for name in self._state},
            "random": self._rng.bit_generator.state,
        }

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.values.size} values after {self.rounds} rounds>"


def context_number(context: Any) -> float:
    """Return the context as a number, 0 for None.

    Raises
    ------
    TypeError, ValueError
        If it is no finite number.
    """
    number = 0.0 if context is None else float(context)
    if not math.isfinite(number):
        raise ValueError(f"the context must be a finite number, not {context!r}")
    return number


def _plain(value: Any) -> Any:
    if isinstance(value, Learner):
        return value._as_dict()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


def _from_dict(record: Any) -> Learner:
    if not isinstance(record, dict) or record.get("policy") not in Learner._kinds:
        raise ValueError(f"not a saved policy; known ones are {', '.join(Learner._kinds)}")
    settings: dict[str, Any] = {
        name: _from_dict(value) if isinstance(value, dict) else value
        for name, value in record["settings"].items()
    }
    policy = Learner._kinds[record["policy"]](**settings)
    for name in policy._state:
        value, fresh = record["state"][name], getattr(policy, name)
        if isinstance(fresh, np.ndarray):
            value = np.array(value, fresh.dtype).reshape(fresh.shape)
        elif isinstance(fresh, list):
            value = [_from_dict(item) for item in value]
        setattr(policy, name, value)
    policy._rng.bit_generator.state = record["random"]
    return policy
