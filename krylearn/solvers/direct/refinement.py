"""Iterative refinement, the loop of methods that are exact but for rounding."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from krylearn.interface import Reason, Solve
from krylearn.kernels.vector import axpy, subtract

# A residual that a correction does not make this much smaller has reached rounding level.
USEFUL = 0.5
# A first correction that leaves this much of it will not be followed by many better ones.
SLOW = 0.9


def refine(s: Solve, singular: bool = False) -> None:
    """Correct x by the solution for the true residual until that is within tolerance.

    ``x <- x + M (b - A x)``; a correction that makes the residual larger is taken back. Higham
    (2002), Accuracy and Stability of Numerical Algorithms, section 12.1.

    Parameters
    ----------
    s : Solve
    singular : bool
        A is known to be singular, so that a residual which stays is no matter of rounding.
    """
    if s.on_cuda:
        from krylearn.solvers.krylov import device

        return device.refine(s, singular)
    z = s.empty()
    while s.unsolved():
        start = rnorm = s.rnorm
        last = math.inf
        while s.running(rnorm) and rnorm <= USEFUL * last:
            last = rnorm
            axpy(1.0, s.precondition(s.r, z), s.x)
            s.matvec(s.x, s.r)
            rnorm = subtract(s.b, s.r, s.r)
            s.step(rnorm)
        if last <= rnorm < math.inf:
            axpy(-1.0, z, s.x)
        if SLOW * start < rnorm < math.inf and s.iterations < s.maxiter:
            s.breakdown(Reason.STAGNATED, rnorm)
    if singular and s.reason is Reason.STAGNATED and not negligible(s):
        s.reason = Reason.SINGULAR


def negligible(s: Solve) -> bool:
    """Return whether the residual left may be a matter of rounding."""
    return s.rnorm <= float(np.sqrt(np.finfo(s.dtype).eps)) * s.bnorm


def refine_with(singular: bool) -> Any:
    """Return `refine` for a matrix that is singular or not."""
    return lambda s: refine(s, singular)
