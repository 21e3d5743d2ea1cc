"""What a solve returns beside x: why it ended, and the record of the run."""

from __future__ import annotations

import enum
from typing import Any

import numpy as np


class Reason(enum.Enum):
    """Why a solve ended; ``.advice`` says what to do next, ``.code`` is the sign of ``info``."""

    CONVERGED = (0, "the true residual is within tolerance")
    LEAST_SQUARES = (0, "x minimises the residual, which is not zero: b is outside A's range")
    MAXITER = (1, "the iteration limit was reached: raise maxiter, or give a preconditioner M")
    STAGNATED = (
        1,
        "the true residual stopped falling: rtol is below what this precision and conditioning "
        "allow, A is singular with b outside its range, or the method stalls (try a larger "
        "restart, or a preconditioner M)",
    )
    STOPPED = (1, "the callback raised StopIteration")
    TIME_LIMIT = (1, "the time limit was reached: allow more seconds, or try another method")
    ILL_CONDITIONED = (1, "the condition number exceeds conlim: raise it, or use damp")
    DIVERGED = (
        1,
        "the residual grew without bound: A is singular or not of the kind that the method needs "
        "(use gmres or lsmr), or its splitting does not converge (use it as a preconditioner M)",
    )
    BREAKDOWN = (-1, "a scalar of the recurrence vanished: use gmres, or another x0")
    INDEFINITE = (-2, "A is not Hermitian positive definite: use minres (Hermitian) or gmres")
    INDEFINITE_M = (-3, "M is not Hermitian positive definite: use gmres or fgmres with this M")
    SINGULAR = (
        -4,
        "A is singular and b is not in its range, as far as this method can tell: use lsmr for "
        "least squares",
    )
    NONFINITE_RHS = (-5, "b holds NaN or Inf")
    NONFINITE_START = (-6, "x0 holds NaN or Inf")
    NONFINITE_OPERATOR = (-7, "A holds or produced NaN or Inf")
    NONFINITE_PRECONDITIONER = (-8, "M produced NaN or Inf")
    OVERFLOW = (-9, "the iteration over- or underflowed: scale the system, or use gmres")

    def __init__(self, code: int, advice: str) -> None:
        self.code = code
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.name.lower()}: {self.advice}"


class SolveInfo(int):
    """The outcome of a solve: scipy's integer ``info``, carrying the record of the run.

    The integer is 0 when converged, the number of iterations (at least 1; cycles where `maxiter`
    counts those) when not converged, and negative on a breakdown.

    Attributes
    ----------
    converged : bool
        The recomputed true residual is within ``max(rtol * norm(b), atol)``; for `lsmr` also:
        that of the normal equations is within its tolerance.
    reason : Reason
        Why the solve ended, with advice.
    iterations, matvecs, precond_applies : int
        Steps of the method; products with A (and its adjoint), the check of the residual
        included; applications of M.
    cycle : int
        Iterations that `maxiter` counts as one.
    residuals : (iterations + 1,) ndarray
        History of the residual norm, the first entry being that of `x0`.
    residual : float
        Norm of the recomputed true residual of the returned x.
    setup_seconds, solve_seconds : float
        Time spent on making M (where M records it), and on solving.
    method : str
        What solved it.
    columns : tuple of SolveInfo
        For b of shape (n, k): one record a column. The record itself is then that of the worst
        column, with the products and applications of all of them.

    Examples
    --------
    >>> import numpy as np, krylearn as kl
    >>> x, info = kl.cg(np.diag([1.0, 2.0, 3.0]), np.ones(3), maxiter=2)
    >>> int(info), info.converged, info.iterations, info.matvecs
    (2, False, 2, 3)
    >>> info.reason.name, info.reason.advice
    ('MAXITER', 'the iteration limit was reached: raise maxiter, or give a preconditioner M')
    """

    converged: bool
    reason: Reason
    iterations: int
    matvecs: int
    precond_applies: int
    cycle: int
    residuals: np.ndarray
    residual: float
    setup_seconds: float
    solve_seconds: float
    method: str
    columns: tuple[SolveInfo, ...]

    def __new__(cls, reason: Reason, **record: Any) -> SolveInfo:
        cycles = -(-record["iterations"] // record.setdefault("cycle", 1))
        code = reason.code if reason.code <= 0 else max(1, cycles)
        self = super().__new__(cls, code)
        self.columns = ()
        self.__dict__.update(record)
        self.reason = reason
        self.converged = reason.code == 0
        return self

    def __reduce__(self):
        return info_from, (self.__dict__,)

    def __repr__(self) -> str:
        return (
            f"<{self.method}: {self.reason.name.lower()}, {self.iterations} iterations, "
            f"residual {self.residual:.3e}, {self.solve_seconds:.3g} s>"
        )

    def __str__(self) -> str:
        return f"{int(self)} ({self.reason})"

    def __format__(self, spec: str) -> str:
        return format(int(self), spec) if spec else str(self)


def info_from(record: dict[str, Any]) -> SolveInfo:
    """Return the `SolveInfo` whose attributes these are."""
    derived = ("reason", "converged")
    return SolveInfo(record["reason"], **{k: v for k, v in record.items() if k not in derived})


def join_records(infos: list[SolveInfo]) -> SolveInfo:
    """Return one record for many columns: that of the worst, with everybody's work."""
    if not infos:
        return SolveInfo(
            Reason.CONVERGED, iterations=0, matvecs=0, precond_applies=0, residuals=np.zeros(1),
            residual=0.0, setup_seconds=0.0, solve_seconds=0.0, method="",
        )  # fmt: skip
    worst = max(infos, key=lambda info: (int(info) < 0, int(info) > 0, info.residual))
    record = dict(worst.__dict__)
    record.update(
        matvecs=sum(info.matvecs for info in infos),
        precond_applies=sum(info.precond_applies for info in infos),
        iterations=max(info.iterations for info in infos),
    )
    joined = info_from(record)
    joined.columns = tuple(infos)
    return joined


def print_history(info: SolveInfo) -> None:
    """Print the residual norms, one iteration a line, and how the solve ended."""
    for k, rnorm in enumerate(info.residuals):
        print(f"{k:6d}  {rnorm:.6e}")
    print(f"{info.method}: {info.reason}")
