"""The stationary iteration, which corrects or sweeps until the true residual is small."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from krylearn.cuda.arrays import lies_on_cuda
from krylearn.interface import Reason, Solve, SolveInfo, solve_with
from krylearn.kernels.vector import axpy, subtract
from krylearn.solvers.relaxation.splitting import (
    SplittingPreconditioner,
    Sweeps,
    all_finite,
    square_csr,
    working_dtype,
)

# A residual that has grown this much will not come back.
GROWTH = 1e6
# Iterations without a new least residual, after which a splitting has reached rounding level.
PATIENCE = 500


def iterate(make: Callable[[Any], SplittingPreconditioner], name: str, A: Any, b: Any, x0: Any,
            M: Any, loop: Callable[[Solve, Any], None] | None = None, **settings: Any,
            ) -> tuple[np.ndarray, SolveInfo]:  # fmt: skip
    """Make a splitting of `A` and iterate with it until the true residual is small.

    Parameters
    ----------
    make : callable
        Makes the splitting from a CSR matrix of the solve's dtype.
    name : str
        Of the method.
    A, b, x0, M
        As the user gave them. A splitting takes no other preconditioner, so M must be None.
    loop : callable
        ``loop(solve, splitting)``; `correct` where none is given.
    settings
        ``rtol, atol, maxiter, callback``.
    """
    if M is not None:
        raise ValueError(f"{name} is its own preconditioner; give M to a Krylov method")
    if lies_on_cuda(A) or lies_on_cuda(b):
        from krylearn.cuda.sweeps import iterate as iterate_there

        return iterate_there(make, name, A, b, x0, loop, settings)
    entries = square_csr(A, name, working_dtype(A, b, x0))
    if not all_finite(entries):
        # The first product with A brings it to light, and the record says so.
        return solve_with(correct, A, b, x0, method=name, **settings)
    P = make(entries)
    if loop is None:
        return solve_with(correct, A, b, x0, method=name, M=P, **settings)
    return solve_with(lambda s: loop(s, P), A, b, x0, method=name, M=P, **settings)


class Progress:
    """Watches the residual norms of one pass for divergence and for rounding level."""

    def __init__(self, s: Solve) -> None:
        self.bound = GROWTH * max(s.rnorm, s.residuals[0])
        self.best, self.since = s.rnorm, 0

    def stalled(self, s: Solve, rnorm: float) -> bool:
        """Return whether the pass should end, having named divergence to `s`."""
        if not rnorm <= self.bound:
            s.breakdown(Reason.DIVERGED, rnorm)
            return True
        self.since += 1
        if rnorm < self.best * (1 - 1e-6):
            self.best, self.since = rnorm, 0
        return self.since > PATIENCE


def correct(s: Solve) -> None:
    """Correct x by the preconditioned residual until that is small.

    Saad (2003), Iterative Methods for Sparse Linear Systems, section 4.2.1, M for the
    inverse of the splitting: ``x <- x + M (b - A x)``.
    """
    z = s.empty()
    while s.unsolved():
        rnorm, progress = s.rnorm, Progress(s)
        while s.running(rnorm):
            axpy(1.0, s.precondition(s.r, z), s.x)
            s.matvec(s.x, s.r)
            rnorm = subtract(s.b, s.r, s.r)
            s.step(rnorm)
            if progress.stalled(s, rnorm):
                break


def sweep_in_place(s: Solve, P: Sweeps) -> None:
    """Relax the rows one after the other on x itself, which takes no product with A.

    What a sweep knows is the residual each row met when its turn came. Their norm falls as the
    residual does, and is scaled to it whenever the true residual is computed: after 1, 2, 4, ...
    sweeps, and when the scaled norm is within tolerance.
    """
    q = s.empty()
    while s.unsolved():
        rnorm, progress = s.rnorm, Progress(s)
        count, check, ratio = 0, 1, 1.0
        while s.running(rnorm):
            met = P.sweep(s.b, s.x)
            s.precond_applies += 1
            count += 1
            rnorm = ratio * met
            if count == check or not s.tolerance < rnorm:
                s.matvec(s.x, q)
                rnorm = subtract(s.b, q, q)
                ratio, check = rnorm / met if met > 0 else 1.0, 2 * count
            s.step(rnorm)
            if progress.stalled(s, rnorm):
                break
