"""What arms keep between systems: preconditioners, recycled subspaces, how often A changes."""

from __future__ import annotations

import contextlib
import math
import time
import weakref
from collections import defaultdict, deque
from statistics import median
from typing import Any

import numpy as np

from krylearn import registry
from krylearn.learned.selection.arms import Arm

# A kept preconditioner is thought to last so many systems, until it has been seen.
LIFE = 20.0
# A set-up is never spread over more systems than these.
MOST = 200.0
# An attempt of fewer iterations that has solved nothing says little of their price.
FEW = 3
# Whether A changes is told from as few systems.
SOON = 3
# Of so many measurements the median counts.
RECENT = 15
# Of a matrix that is the very same object as before, each so many-th entry is looked at: who
# writes other values into it seldom spares all of these.
SAMPLE = 61
# After so many updates that were refused, new ones are made at once, but for one in `LOOKS`.
PATIENCE = 3
# For so many systems, and for two of so many later, the change of A is measured.
LOOKS = 30


def squares(values: np.ndarray) -> float:
    """Return the sum of the squared moduli; BLAS would wake threads that cost more than this."""
    parts = values.view(values.real.dtype) if values.dtype.kind == "c" else values
    return float(np.einsum("i,i->", parts, parts))


class Held:
    """A preconditioner and what it has cost and brought since it was made.

    It is due to be renewed when solves have twice taken longer than the mean of all since then,
    the set-up counted in: from there on the mean would rise (the rule of replacement).
    """

    def __init__(self, M: Any, mark: tuple, seconds: float) -> None:
        self.M = M
        self.renewed(mark, seconds)

    def renewed(self, mark: tuple, seconds: float) -> None:
        self.mark, self.setup, self.count, self.total, self.slow = mark, seconds, 0, 0.0, 0

    def served(self, seconds: float) -> None:
        self.count += 1
        self.total += seconds
        mean = (self.setup + self.total) / self.count
        self.slow = self.slow + 1 if seconds > mean else 0

    @property
    def due(self) -> bool:
        return self.slow >= 2


class Workshop:
    """Makes, renews and keeps the preconditioners of the arms; arms with the same one share it.

    Attributes
    ----------
    changing : float
        Share of recent systems whose A was not that of the one before.
    drift : float
        By how much the entries of A have changed of late, relative to their norm.
    """

    def __init__(self) -> None:
        self.changing = 1.0
        self.drift = 0.0
        self._mark: tuple | None = None
        self._entries: np.ndarray | None = None
        self._same: tuple | None = None
        self._sample = np.empty(0)
        self._seen = 0
        self._held: dict[tuple, Held] = {}
        self._lives: dict[Arm, float] = {}
        self._spaces: dict[Arm, Any] = {}
        self._touched: set[tuple] = set()
        self._refused: dict[tuple, int] = defaultdict(int)
        self._rates: dict[tuple, deque] = defaultdict(lambda: deque(maxlen=RECENT))

    def arrived(self, system: Any) -> None:
        """Take note of a new system."""
        array, sample = system.array, None
        if array is not None:
            sample = array.reshape(-1)[::SAMPLE].copy()
            same = self._same is not None and all(
                one() is other for one, other in zip(self._same, (system.A, array)))  # fmt: skip
            if same and np.array_equal(sample, self._sample):
                system.mark = self._mark
            else:
                self._same = weakref.ref(system.A), weakref.ref(array)
                self._sample = sample
        if self._mark is not None:
            # At first the mean of all, then of those of late.
            part = 1 / min(self._seen, SOON)
            self.changing += part * (float(system.mark != self._mark) - self.changing)
        self._mark = system.mark
        # To look at all entries takes some passes over memory: at first, then now and then.
        self._seen += 1
        if self._seen > LOOKS and self._seen % LOOKS > 1:
            return
        now, before = system.entries, self._entries
        if before is not None and now is not None and before.shape == now.shape:
            change = math.sqrt(squares(now - before) / (abs(system.mark[0]) or 1.0))
            if math.isfinite(change):
                self.drift += 0.3 * (change - self.drift)
        # A copy: the caller may write into the arrays of A.
        self._entries = None if now is None else now.copy()

    def preconditioner(self, arm: Arm, system: Any) -> tuple[Any, float]:
        """Return the arm's preconditioner for a system, and the seconds that went into it now."""
        key = (arm.precond, arm.precond_options)
        held = self._held.get(key)
        if held is not None and held.mark == system.mark:
            return held.M, 0.0
        if held is not None and arm.reuse == "keep":
            if not held.due:
                return held.M, 0.0
            life = self._lives.get(arm, float(held.count))
            self._lives[arm] = 0.5 * (life + held.count)
        began = time.perf_counter()
        if held is not None and arm.reuse != "new" and not self._in_vain(key):
            try:
                held.M.update(system.A)
                held.renewed(system.mark, time.perf_counter() - began)
                self._refused[key] = 0
                return held.M, held.setup
            except (ValueError, TypeError, NotImplementedError):
                self._refused[key] += 1  # another pattern: make a new one
        self._held.pop(key, None)
        M = registry.preconditioner(arm.precond, system.A, **dict(arm.precond_options))
        seconds = time.perf_counter() - began
        self._held[key] = Held(M, system.mark, seconds)
        if key not in self._touched:
            # Memory that is used for the first time would make the first solve look slow.
            self._touched.add(key)
            with contextlib.suppress(Exception):
                M.apply(system.b, np.empty_like(system.b))
        return M, seconds

    def usual(self, arm: Arm) -> float:
        """Return the seconds that the arm's preconditioner has taken to make with other options."""
        key = (arm.precond, arm.precond_options)
        return max((held.setup for other, held in self._held.items()
                    if other[0] == arm.precond and other != key), default=0.0)  # fmt: skip

    def _in_vain(self, key: tuple) -> bool:
        """Return whether an update need not be tried: it has been refused, time and again."""
        if self._refused[key] < PATIENCE:
            return False
        self._refused[key] += 1
        return bool(self._refused[key] % LOOKS)

    def forget(self, arm: Arm) -> None:
        """Drop the arm's preconditioner, with which something is wrong; look at all of A again."""
        self._same = None
        self._held.pop((arm.precond, arm.precond_options), None)

    def solving(self, arm: Arm, one: Any) -> float:
        """Return what a solve costs: its iterations, at the usual price of one.

        So that two arms which differ in what they start from, or in how old their preconditioner
        is, compare by what they do and not by what else the machine had to do meanwhile, which
        only ever makes it slower: the usual price is the lower quartile.
        """
        count = max(one.info.iterations, 1)
        # What the relaxation is does not change what an iteration costs.
        alike = tuple(one for one in arm.precond_options if one[0] != "omega")
        rates = self._rates[arm.method, arm.options, arm.precond, alike]
        if one.solved or count >= FEW or not rates:
            rates.append(one.solve_seconds / count)
        seconds = count * sorted(rates)[len(rates) // 4]
        held = self._held.get((arm.precond, arm.precond_options))
        if held is not None:
            held.served(seconds)
        return seconds

    def share(self, arm: Arm, one: Any) -> float:
        """Return what of the set-up one solve has to bear, in the long run."""
        held = self._held.get((arm.precond, arm.precond_options))
        if held is None or not arm.precond:
            return one.setup_seconds
        setups = self._rates[arm.precond, arm.precond_options, arm.reuse == "new"]
        if one.setup_seconds > 0.5 * held.setup:
            setups.append(held.setup)
        setup = median(setups) if setups else held.setup
        if arm.reuse != "keep":
            return setup * max(self.changing, 1 / MOST)
        return setup / min(max(self._lives.get(arm, LIFE), held.count), MOST)

    def space(self, arm: Arm) -> Any:
        """Return the subspace that the arm carries from system to system."""
        if arm not in self._spaces:
            from krylearn import RecycleSpace

            self._spaces[arm] = RecycleSpace()
        return self._spaces[arm]

    def __getstate__(self) -> dict[str, Any]:
        # Whatever libraries have made stays behind.
        left: dict[str, Any] = {
            "_held": {}, "_spaces": {}, "_touched": set(), "_entries": None, "_same": None,
            "_sample": np.empty(0), "_rates": dict(self._rates), "_refused": {},
        }  # fmt: skip
        return self.__dict__ | left

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]
        rates = state.pop("_rates")
        del state["_refused"]
        self.__dict__.update(state)
        self._rates.update(rates)
