"""What every method shares and none owns: stopping, history, timing, the answer.

A method is a loop over a `Solve`. The `Solve` holds the normalised operands, decides when the
loop ends, and is the only one who may say "converged": it recomputes the true residual first.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from krylearn.arguments import (
    as_rows,
    check_arguments,
    check_preconditioner,
    check_start,
    check_traits,
    not_negative,
    numbers,
    solve_dtype,
)
from krylearn.cuda.arrays import lies_on_cuda
from krylearn.kernels.vector import norm, subtract
from krylearn.operators import Identity, Operator, Preconditioner, as_operator, matrix_like
from krylearn.petsc.library import in_petsc
from krylearn.record import Reason, SolveInfo, join_records, print_history

# Arguments and records are what the methods import from here, too.
__all__ = [
    "Reason",
    "Solve",
    "SolveInfo",
    "check_arguments",
    "check_preconditioner",
    "check_start",
    "check_traits",
    "join_records",
    "not_negative",
    "numbers",
    "print_history",
    "run_loop",
    "solve_dtype",
    "solve_with",
    "time_limit",
]

_limits = threading.local()


@contextmanager
def time_limit(seconds: float, pace: Sequence[float] | None = None) -> Iterator[None]:
    """Let solves that run in the block end with `Reason.TIME_LIMIT` after so many seconds.

    Of several limits, one inside the other, the first to be reached counts. An iteration that has
    begun is finished, and so is the set-up of a preconditioner.

    Parameters
    ----------
    seconds : float
        From the beginning of the block.
    pace : sequence of float, optional
        How far the logarithm of the least residual must have come towards the tolerance, from 0
        to 1, when equal shares of the seconds have gone by, the first 0 and the last all of them.
        A solve that lags ends, too.

    Examples
    --------
    >>> import numpy as np, krylearn as kl
    >>> from krylearn.interface import time_limit
    >>> A = np.diag(np.geomspace(1, 1e12, 300))
    >>> with time_limit(0.0):
    ...     x, info = kl.cg(A, np.ones(300))
    >>> bool(info > 0), info.reason.name
    (True, 'TIME_LIMIT')
    """
    before = getattr(_limits, "deadline", math.inf), getattr(_limits, "pace", None)
    now = time.perf_counter()
    _limits.deadline = min(before[0], now + seconds)
    if pace is not None:
        _limits.pace = now, seconds, pace
    try:
        yield
    finally:
        _limits.deadline, _limits.pace = before


class Solve:
    """One system with one right-hand side, while a method works on it.

    Attributes
    ----------
    A, M : Operator
        ``A.apply(x, out)``; M is `Identity` where none was given.
    b, x, r : (n,) arrays of one floating or complex dtype
        `x` is updated in place by the method. `r` is the true residual whenever `unsolved`
        has just returned True.
    rnorm : float
        Norm of `r` at that moment.
    tolerance : float
        ``max(rtol * norm(b), atol)``.
    maxiter : int
    pass_start : int
        `iterations` when `unsolved` last returned.
    cycle : int
        Iterations that the user's `maxiter` counts as one.
    extra : dict
        What else the record shall carry.
    on_cuda : bool
        The vectors lie on a CUDA device: this is a `krylearn.cuda.solve.CudaSolve`.
    """

    on_cuda = False

    def __init__(self, A: Operator, b: np.ndarray, x: np.ndarray, M: Operator, *,
                 rtol: float, atol: float, maxiter: int,
                 callback: Callable | None) -> None:  # fmt: skip
        self.A, self.M, self.b, self.x = A, M, b, x
        self.dtype = b.dtype
        self.n = x.shape[0]
        self.r = self.empty(*b.shape)
        self.bnorm = self._norm(b)
        self.tolerance = max(float(rtol) * self.bnorm, float(atol))
        self.maxiter = maxiter
        self.callback = callback
        self.deadline = getattr(_limits, "deadline", math.inf)
        self.pace: tuple[float, float, Sequence[float]] | None = getattr(_limits, "pace", None)
        self._least = math.inf
        self.iterations = self.matvecs = self.precond_applies = 0
        self.cycle = 1
        self.extra: dict[str, Any] = {}
        self.residuals: list[float] = []
        self.reason: Reason | None = None
        self.rnorm = math.inf
        self._passes = self.pass_start = 0
        self._start_is_zero = self._is_zero(x)
        self._hopeless = math.inf
        self._x_readonly = self._read_only(x)

    @property
    def unknowns(self) -> int:
        """How many there are, those that other processes hold included."""
        return self.n

    # -- what a loop asks ------------------------------------------------------------------

    def unsolved(self) -> bool:
        """Recompute the true residual into `r`; return whether the method should (re)start.

        Every exit passes here, so that nothing but the true residual decides on convergence.
        """
        previous, self.rnorm = self.rnorm, self._true_residual()
        if self._passes == 0:
            self.residuals.append(self.rnorm)
            # No digit of x is worth anything once the residual has grown so much.
            self._hopeless = max(self.rnorm, self.bnorm) / np.finfo(self.dtype).eps
        else:
            self.residuals[-1] = self.rnorm
        self._passes += 1
        self.pass_start = self.iterations
        if not math.isfinite(self.rnorm):
            self.reason = self._diagnose()
        elif self.rnorm <= self.tolerance:
            self.reason = Reason.CONVERGED
        elif self.reason is None:
            if self.iterations >= self.maxiter:
                self.reason = Reason.MAXITER
            elif self._passes > 1 and not self.rnorm < previous * (1 - 1e-8):
                # The next pass would start where this one did.
                self.reason = Reason.STAGNATED
        return self.reason is None

    def forget_pass(self) -> None:
        """Let another loop go on: its first pass is not compared with the last one."""
        self.rnorm = math.inf

    def running(self, rnorm: float) -> bool:
        """Return whether a pass goes on, `rnorm` being the recurrence's residual norm."""
        if self._hopeless < rnorm < math.inf and self.reason is None:
            self.reason = Reason.DIVERGED
        if self.deadline < math.inf and self.reason is None:
            now = time.perf_counter()
            if rnorm > self.tolerance and (now > self.deadline or self._lags(rnorm, now)):
                self.reason = Reason.TIME_LIMIT
        return (
            self.tolerance < rnorm < math.inf
            and self.iterations < self.maxiter
            and self.reason is None
        )

    def _lags(self, rnorm: float, now: float) -> bool:
        """Return whether the residual falls too slowly for the time limit."""
        if self.pace is None:
            return False
        self._least = min(self._least, rnorm)
        began, seconds, pace = self.pace
        first, place = self.residuals[0], (now - began) / seconds * (len(pace) - 1)
        if not first > self.tolerance > 0 or not place < len(pace) - 1:
            return False
        done = math.log(first / min(self._least, first)) / math.log(first / self.tolerance)
        return done < pace[int(place)]

    def count(self, rnorm: float) -> None:
        """Count one iteration and note its residual norm."""
        self.iterations += 1
        self.residuals.append(rnorm)

    def count_products(self, rnorms: np.ndarray) -> None:
        """Count iterations of one product and one application of M each."""
        self.iterations += len(rnorms)
        self.matvecs += len(rnorms)
        self.precond_applies += 0 if self.M.identity else len(rnorms)
        self.residuals.extend(rnorms.tolist())

    def step(self, rnorm: float) -> None:
        """Count one iteration that has updated `x`; show it to the user's callback."""
        self.count(rnorm)
        self.show()

    def show(self) -> None:
        """Call the user's callback with the iterate."""
        if self.callback is not None:
            self.call_back(self._x_readonly)

    def call_back(self, value: Any) -> None:
        """Hand `value` to the callback; a StopIteration from it ends the solve."""
        try:
            if self.callback is not None:
                self.callback(value)
        except StopIteration:
            self.reason = Reason.STOPPED

    def breakdown(self, reason: Reason, *scalars: Any) -> None:
        """End the solve: `scalars` made the recurrence break (NaN among them says why)."""
        if self.reason is None:
            finite = all(np.isfinite(value) for value in scalars)
            self.reason = reason if finite else self._diagnose()

    def near_breakdown(self, *scalars: Any, reason: Reason = Reason.BREAKDOWN) -> None:
        """Give up the pass, `scalars` being useless; end the solve if the pass made no step.

        The next pass starts from the true residual with a new Krylov space.
        """
        if self.iterations == self.pass_start or not all(np.isfinite(v) for v in scalars):
            self.breakdown(reason, *scalars)

    # -- what a loop does ------------------------------------------------------------------

    def matvec(self, x: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Write ``A @ x`` into `out`, counted."""
        self.matvecs += 1
        return self.A.apply(x, out)

    def matvec_dot(self, x: np.ndarray, out: np.ndarray) -> Any:
        """Write ``A @ x`` into `out`, counted; return ``conj(x) @ out``."""
        self.matvecs += 1
        return self.A.apply_dot(x, out)

    def matvecs_of(self, X: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Write A times each row of `X` into the rows of `out`, each counted."""
        self.matvecs += len(X)
        return self.A.apply_rows(X, out)

    def adjoint(self, x: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Write ``A.conj().T @ x`` into `out`, counted."""
        self.matvecs += 1
        return self.A.adjoint(x, out)

    def precondition(self, r: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Return ``M @ r``, in `out`, or `r` itself where there is no M."""
        if self.M.identity:
            return r
        self.precond_applies += 1
        return self.M.apply(r, out)

    def precondition_dot(self, r: np.ndarray, rnorm: float, out: np.ndarray) -> tuple:
        """Return ``M @ r``, as `precondition` does, and the real part of ``conj(r) @ (M @ r)``."""
        if self.M.identity:
            return r, rnorm**2
        self.precond_applies += 1
        return out, self.M.apply_dot(r, out).real

    def empty(self, *shape: int) -> np.ndarray:
        """Return an uninitialised work array, (n,) or ``shape``."""
        return np.empty(shape or (self.n,), self.dtype)

    def random_rows(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Return normal random numbers, (count, n)."""
        return rng.standard_normal((count, self.n))

    # -- inside ----------------------------------------------------------------------------

    def _norm(self, x: np.ndarray) -> float:
        return norm(x)

    def _is_zero(self, x: np.ndarray) -> bool:
        return not np.any(x)

    def clear(self) -> None:
        """Set x to zero."""
        self.x[:] = 0

    def _read_only(self, x: np.ndarray) -> np.ndarray:
        x = x.view()
        x.flags.writeable = False
        return x

    def _true_residual(self) -> float:
        if self._passes == 0 and self._start_is_zero:
            self.r[:] = self.b
            return self.bnorm
        self.matvec(self.x, self.r)
        return subtract(self.b, self.r, self.r)

    def _diagnose(self) -> Reason:
        """Find out who brought the NaN or Inf."""
        if not np.all(np.isfinite(self.b)):
            return Reason.NONFINITE_RHS
        if self._passes <= 1 and not np.all(np.isfinite(self.x)):
            return Reason.NONFINITE_START
        ones = np.ones(self.A.shape[1], self.dtype)
        with np.errstate(all="ignore"):
            if not np.all(np.isfinite(self.A.apply(ones, self.empty(self.A.shape[0])))):
                return Reason.NONFINITE_OPERATOR
            if not self.M.identity:
                probe = np.ones(self.M.shape[1], self.dtype)
                if not np.all(np.isfinite(self.M.apply(probe, np.empty_like(probe)))):
                    return Reason.NONFINITE_PRECONDITIONER
        return Reason.OVERFLOW

    def info(self, method: str, setup_seconds: float, solve_seconds: float) -> SolveInfo:
        """Return the record; `unsolved` has said that the solve is over."""
        assert self.reason is not None
        return SolveInfo(
            self.reason,
            iterations=self.iterations,
            matvecs=self.matvecs,
            precond_applies=self.precond_applies,
            residuals=np.array(self.residuals),
            residual=float(self.rnorm),
            setup_seconds=setup_seconds,
            solve_seconds=solve_seconds,
            method=method,
            cycle=self.cycle,
            **self.extra,
        )


def solve_with(loop: Callable[[Solve], None], A: Any, b: Any, x0: Any = None, *,
               method: str, rtol: float = 1e-5, atol: float = 0.0, maxiter: int | None = None,
               M: Any = None, callback: Callable | None = None, needs: tuple[str, ...] = (),
               limit: int = 10, square: bool = True,
               together: bool = True) -> tuple[np.ndarray, SolveInfo]:  # fmt: skip
    """Check and normalise the arguments of a method, run its loop, return ``(x, info)``.

    Parameters
    ----------
    loop : callable
        The method's text, run on a `Solve` for each right-hand side.
    A, b, x0, rtol, atol, maxiter, M, callback
        As the user gave them. M may be the name of a registered preconditioner.
    method : str
        The name that ``info`` and messages carry.
    needs : tuple of str
        Traits that M must not lack: 'linear', 'symmetric', 'positive_definite'.
    limit : int
        `maxiter` is ``limit * n`` where the user gave none.
    square : bool
        Whether the method needs a square A.
    together : bool
        Whether several right-hand sides advance in step, rather than one after the other.

    Raises
    ------
    TypeError
        If an operand is no array of numbers.
    ValueError
        If shapes do not fit, a tolerance is negative or NaN, or M lacks a trait in `needs`.
    """
    if in_petsc(A, b) or hasattr(A, "held_columns"):
        from krylearn.petsc.solve import solve_petsc

        return solve_petsc(loop, A, b, x0, method=method, rtol=rtol, atol=atol, maxiter=maxiter,
                           M=M, callback=callback, needs=needs, limit=limit, square=square,
                           together=together)  # fmt: skip
    started = time.perf_counter()
    if lies_on_cuda(A) or lies_on_cuda(b):
        from krylearn.cuda.solve import solve_on_cuda

        return solve_on_cuda(
            loop, A, b, x0, M, method=method, needs=needs, limit=limit, square=square,
            settings=dict(rtol=rtol, atol=atol, maxiter=maxiter, callback=callback),
        )  # fmt: skip
    if M is None and hasattr(A, "psolve"):  # scipy's older protocol
        from scipy.sparse.linalg import LinearOperator

        M = LinearOperator(A.shape, matvec=A.psolve, dtype=getattr(A, "dtype", float))
    A = matrix_like(A)
    if isinstance(M, str):
        from krylearn import registry

        M = registry.preconditioner(M, A)
    b = numbers(b, "b")
    check_arguments(method, A, b, square, rtol, atol, maxiter)
    rows, n = (int(size) for size in A.shape)
    if hasattr(x0, "start"):  # a surrogate: the start socket
        x0 = x0.start(A, b)
    start = None if x0 is None or isinstance(x0, str) else numbers(x0, "x0")
    check_start(n, b, x0 if start is None else start)
    times_b = isinstance(x0, str)
    if M is not None:
        M = check_preconditioner(M, n, method, needs)
    dtype = solve_dtype(A.dtype, b.dtype, *([] if start is None else [start.dtype]))
    if M is not None and np.dtype(M.dtype).kind == "c":
        dtype = np.result_type(dtype, np.complex64)
    operator = as_operator(A, dtype)
    preconditioner: Operator = (
        Identity((n, n), dtype) if M is None else as_operator(M, dtype)
    )
    B = as_rows(b.reshape(rows, -1), dtype)
    X = np.zeros((B.shape[0], n), dtype)
    if start is not None:
        X[:] = start.reshape(n, -1).T
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        if times_b and not preconditioner.identity:
            for x, rhs in zip(X, B):
                preconditioner.apply(rhs, x)
        elif times_b:
            X[:] = B
        maxiter = limit * n if maxiter is None else int(maxiter)
        settings: dict[str, Any] = dict(rtol=rtol, atol=atol, maxiter=maxiter, callback=callback)
        if B.shape[0] == 1 or not together:
            solves = [Solve(operator, rhs, x, preconditioner, **settings) for rhs, x in zip(B, X)]
            for solve in solves:
                run_loop(loop, solve)
        else:
            from krylearn.lockstep import run_together

            solves = run_together(
                lambda A, M, j: Solve(A, B[j], X[j], M, **settings),
                lambda solve: run_loop(loop, solve), operator, preconditioner, B.shape[0],
            )  # fmt: skip
    setup = float(getattr(M, "setup_seconds", 0.0))
    seconds = time.perf_counter() - started
    infos = [solve.info(method, setup, seconds) for solve in solves]
    info = infos[0] if len(infos) == 1 else join_records(infos)
    if isinstance(M, Preconditioner):
        M.observe(info)
    # scipy's answer to (n, 1) is (n,), and ours.
    x = X[0] if b.ndim == 1 or b.shape[1] == 1 else np.ascontiguousarray(X.T)
    return x, info


def run_loop(loop: Callable[[Solve], None], solve: Solve) -> None:
    """Let a method work on a `Solve`."""
    if solve.bnorm == 0.0:
        # The solution is zero whatever x0 and the tolerance are (scipy agrees).
        solve.clear()
        solve.rnorm, solve.residuals, solve.reason = 0.0, [0.0], Reason.CONVERGED
        return
    loop(solve)
    if solve.reason is None:
        raise AssertionError("the method ended its loop before the solve was over")
