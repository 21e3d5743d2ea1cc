"""The account of a network: whether it may go on, by what it costs and what it brings."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from krylearn.interface import Solve

# A network is asked no more once it has failed more often than at one in so many steps, nor when
# the residual has not halved in so many steps.
FORGIVEN, WINDOW = 4, 8
# What a step with a network costs beside its pass, in steps of conjugate gradients.
BESIDE = 4.0
# What a pass costs, in the same steps: that of a stencil cycle, and the multiplications a cell of a
# network for which there is time in one step, on the host and on the device.
CYCLE = 7.0
HOST_RATE, DEVICE_RATE = 53.0, 700.0
# On a device a kernel that is launched by itself takes as long as a step of conjugate gradients on
# so many cells, and a step no less than one on so few. In such launches: a recorded pass of the
# stencil cycle, what a step with a network costs beside its pass, and what conjugate gradients
# cost before their first step.
LAUNCH, FEWEST = 5.5e5, 1.5e5
CYCLE_LAUNCHES, BESIDE_LAUNCHES, START_LAUNCHES = 5, 20, 100


def work_of(model: Any, rate: float) -> float:
    """Return what a pass of a network costs, in steps of conjugate gradients."""
    given = getattr(model, "multiplications", None)
    each = sum(p.numel() for p in model.parameters()) if given is None else given
    return max(1.0, each / rate)


def launched(count: float, n: int) -> float:
    """Return what so many launches cost, in steps of conjugate gradients for n unknowns."""
    return count * LAUNCH / max(n, FEWEST)


def work_on_device(model: Any, shape: tuple[int, ...]) -> float:
    """Return what a pass costs on a device: by its multiplications or, on few cells, launches."""
    n = math.prod(shape)
    count = getattr(model, "launches", None)
    each = 3 * sum(1 for _ in model.modules()) if count is None else count(shape)
    return max(work_of(model, DEVICE_RATE), launched(each, n))


def bound(A: Any) -> float:
    """Return a bound on the eigenvalues of a matrix that is diagonally dominant."""
    return 2 * float(np.abs(A.diagonal()).max())


class Trust:
    """Whether a network may go on; what it did stands in ``info``.

    Parameters
    ----------
    s : Solve
    network : Preconditioner
        ``network.work`` is what a pass costs, in steps of conjugate gradients, ``network.beside``
        what a step costs beside it, ``network.start`` what conjugate gradients cost before their
        first step, and ``network.largest`` a bound on the eigenvalues of A.
    limit : float
        What it may lose, as a share of what conjugate gradients would need.

    Notes
    -----
    The account holds nothing but counts, so that a solve takes the same steps every time: on a
    device, of launches too, which on small grids cost more than multiplications.
    Conjugate gradients need at most ``sqrt(kappa) / 2 * log(2 / eps)`` steps, fewer where
    eigenvalues are spread as those of grids are: two thirds of that is reckoned. Directions tell
    of kappa: no Rayleigh quotient lies below the smallest eigenvalue, so that the smallest one
    seen makes it too small, never too large. A network that would arrive for twice its limit at
    its mean pace so far may go on until that is spent. What passes have won is not set against
    what they cost: a residual may be small and conjugate gradients from there on no shorter.

    References
    ----------
    Saad (2003), Iterative Methods for Sparse Linear Systems, (6.128).
    """

    def __init__(self, s: Solve, network: Any, limit: float) -> None:
        self.s, self.norms, self.failures = s, [float("inf")], 0
        s.extra.update(network_steps=0, dropped="")
        self.limit, self.work = limit, float(getattr(network, "work", 1.0))
        self.beside = float(getattr(network, "beside", BESIDE))
        self.start = float(getattr(network, "start", 0.0))
        self.largest = float(getattr(network, "largest", 0.0))
        # The first pass is free: without it nothing is known of the network.
        self.spent, self.smallest = -self.work, float("inf")

    def see(self, on: Any, p: Any, curvature: float) -> None:
        """Take note of a direction that the network proposed, before the step along it."""
        self.spent += self.work + self.beside
        square = on.square(p)
        quotient = curvature / square if square > 0 else 0.0
        if 0 < quotient < float("inf"):
            self.smallest = min(self.smallest, quotient)

    def judge(self, fails: str, rnorm: float) -> None:
        """Take note of a step and of the residual after it."""
        extra = self.s.extra
        if fails:
            self.failures += 1
            if self.failures * FORGIVEN > extra["network_steps"]:
                extra["dropped"] = fails
        else:
            extra["network_steps"] += 1
            self.norms.append(float(rnorm))
            if len(self.norms) > WINDOW + 1 and not rnorm < self.norms[-1 - WINDOW] / 2:
                extra["dropped"] = f"the residual has not halved in {WINDOW} steps"
        if not extra["dropped"] and self._loses(rnorm):
            extra["dropped"] = "it costs too much beside conjugate gradients"
        if self.s.reason is not None:
            extra["dropped"] = ""  # the solve ends here, and not for the network's sake

    def _loses(self, rnorm: float) -> bool:
        first, goal = self.s.residuals[0], self.s.tolerance
        if not (rnorm > goal > 0 and first > goal):
            return False
        kappa = max(1.0, self.largest / self.smallest)
        needed = self.start + math.sqrt(kappa) / 3 * math.log(2 * first / goal)
        each = self.work + self.beside
        if self.spent + each <= self.limit * needed:
            return False
        # Twice as much is allowed where that would do at the mean pace so far.
        pace = math.log(first / rnorm) / max(1, self.s.extra["network_steps"])
        left = math.log(rnorm / goal) / pace if pace > 0 else math.inf
        return self.spent + left * each > 2 * self.limit * needed
