"""The loops of stationary methods on the CUDA device: see `krylearn.solvers.krylov.device`.

Every iteration ends with the true residual. A pass is `PATIENCE` iterations at most; whether the
next begins is for `unsolved` to say, as everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from krylearn.cuda.arrays import fill
from krylearn.interface import Reason
from krylearn.kernels.cuda import scalars as on
from krylearn.kernels.cuda import vector
from krylearn.solvers.relaxation.stationary import GROWTH, PATIENCE


def loop_of(loop: Callable | None, P: Any) -> Callable[[Any], None]:
    """Return the twin of a loop of the CPU."""
    if loop is None:
        return correct
    return {"sweep_in_place": sweep, "_chebyshev": lambda s: chebyshev(s, P)}[loop.__name__]


def correct(s: Any) -> None:
    """Correct x by the preconditioned residual: ``x <- x + M (b - A x)``."""
    z, q = s.empty(), s.empty()

    def iterate() -> None:
        vector.axpy(s.log, s.S, on.ONE, s.precondition(s.r, z), s.x)
        s.product(s.x, q)
        vector.subtract(s.log, s.b, q, s.r, s.sums)
        on.run(on.fcg_residual, s.log, s.control, s.S, s.sums)

    _passes(s, iterate)


def sweep(s: Any) -> None:
    """Relax the rows colour by colour on x itself."""
    q = s.empty()

    def iterate() -> None:
        s.M.sweep(s.log, s.b, s.x)
        s.product(s.x, q)
        vector.subtract(s.log, s.b, q, s.r, s.sums)
        on.run(on.fcg_residual, s.log, s.control, s.S, s.sums)

    _passes(s, iterate)


def chebyshev(s: Any, P: Any) -> None:
    """Take Chebyshev steps in the Jacobi-scaled matrix: Saad (2003), Algorithm 12.1."""
    q, d, left = s.empty(), s.empty(), s.empty()
    low, high = P.bounds
    theta, delta = (high + low) / 2, (high - low) / 2

    def begin() -> None:
        fill(q, 0)
        fill(d, 0)
        s.set_scalars(C_RHO=0.0)

    def iterate() -> None:
        on.run(on.chebyshev_next, s.log, s.S, theta, delta)
        vector.chebyshev_step_by(s.log, s.S, on.C_KEEP, on.C_GAIN, s.M.scale, q, s.r, d, s.x)
        # r belongs to the x before; its successor is r - q.
        s.product(d, q)
        vector.subtract(s.log, s.r, q, left, s.sums)
        on.run(on.fcg_residual, s.log, s.control, s.S, s.sums)

    _passes(s, iterate, begin)


def _passes(s: Any, iterate: Callable[[], None], begin: Callable[[], None] | None = None) -> None:
    while s.unsolved():
        bound = GROWTH * max(s.rnorm, s.residuals[0])
        s.begin(PATIENCE, bound)
        if begin is not None:
            begin()
        s.repeat(iterate)
        rnorm = s.residuals[-1]
        if s.running(rnorm) and not rnorm <= bound:
            s.breakdown(Reason.DIVERGED, rnorm)
