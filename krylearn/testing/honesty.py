"""What a promise is checked with: is `info` true, did an input change, was a call refused."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from scipy.linalg import norm as blas_norm

from krylearn.interface import Reason
from krylearn.kernels.parallel import get_num_threads, set_num_threads
from krylearn.testing.examples import arrays_of, eps, to_dense


def require(fact: Any, text: str) -> None:
    """Raise AssertionError unless `fact`; unlike assert, under ``python -O`` too."""
    if not fact:
        raise AssertionError(text)


def require_close(found: np.ndarray, expected: np.ndarray, bound: float, text: str) -> None:
    """Require a relative distance below `bound`."""
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    require(error < bound, f"{text} by {error:.1e}")


def require_refused(what: str, kinds: type[Exception] | tuple[type[Exception], ...],
                    call: Callable[[], Any]) -> str:  # fmt: skip
    """Require that a call raises one of `kinds`, and return the message."""
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    names = " or ".join(kind.__name__ for kind in kinds)
    try:
        call()
    except kinds as error:
        require(str(error), f"{what}: {type(error).__name__} without a message")
        return str(error)
    except Exception as error:
        raise AssertionError(f"{what}: {error!r} instead of {names}") from error
    raise AssertionError(f"{what}: accepted, instead of {names}")


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Put `what` before the text of an AssertionError raised inside."""
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{what}: {error}") from None


@contextmanager
def unchanged(text: str, *operands: Any) -> Iterator[None]:
    """Require that what is done inside leaves the operands as they are, to the bit."""
    before = [array.tobytes() for operand in operands for array in arrays_of(operand)]
    yield
    after = [array.tobytes() for operand in operands for array in arrays_of(operand)]
    require(before == after, text)


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Let kernels use so many threads inside."""
    before = get_num_threads()
    set_num_threads(count)
    try:
        yield
    finally:
        set_num_threads(before)


def norm(v: np.ndarray) -> float:
    """Return the 2-norm of all entries."""
    # numpy's squares overflow where BLAS's scaled sum does not.
    return float(blas_norm(np.asarray(v).ravel(), check_finite=False))


def true_residual(A: Any, x: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Return the norm of ``b - A @ x`` in double precision, and what rounding may do to it.

    The second number is the rounding error of a product in the precision of `x`: a residual
    that a method has computed itself differs from ours by no more.
    """
    A, x, b = (np.asarray(v, dtype=np.result_type(v, float)) for v in (to_dense(A), x, b))
    with np.errstate(all="ignore"):
        return norm(b - A @ x), 8 * (norm(A) * norm(x) + norm(b))


def require_honest(A: Any, b: np.ndarray, x: np.ndarray, info: Any, rtol: float,
                   atol: float = 0.0) -> None:  # fmt: skip
    """Raise AssertionError unless `info` tells the truth about `x`, one right-hand side."""
    require(isinstance(info, int), f"info is a {type(info).__name__}, not an int")
    require(isinstance(info.reason, Reason), f"info.reason is {info.reason!r}, not a Reason")
    require(
        info.converged == (info == 0) == (info.reason.code == 0),
        f"info {int(info)}, converged {info.converged} and reason {info.reason.name} disagree",
    )
    require((info < 0) == (info.reason.code < 0), f"info {int(info)} is {info.reason.name}")
    require(info.iterations >= 0 and info.matvecs >= 0, "a count is negative")
    require(
        len(info.residuals) == info.iterations + 1,
        f"{len(info.residuals)} residuals for {info.iterations} iterations",
    )
    found, size = true_residual(A, x, b)
    slack = eps(x.dtype) * size
    if info.reason is Reason.LEAST_SQUARES:
        _require_least(A, b, x, rtol)
    elif info.converged:
        bound = max(rtol * norm(b), atol)
        require(np.all(np.isfinite(x)), "it said converged with NaN or Inf in x")
        require(
            found <= bound * 1.001 + slack,
            f"it said converged at a true residual of {found:.3e}, tolerance {bound:.3e}",
        )
    if np.isfinite(found) and np.isfinite(info.residual) and np.isfinite(slack):
        require(
            abs(info.residual - found) <= 1e-3 * found + slack,
            f"info.residual is {info.residual:.3e}, the true residual {found:.3e}",
        )
        require(
            info.residuals[-1] == info.residual,
            f"the history ends at {info.residuals[-1]:.3e}, info.residual is {info.residual:.3e}",
        )


def _require_least(A: Any, b: np.ndarray, x: np.ndarray, rtol: float) -> None:
    A = to_dense(A)
    largest = float(abs(A).max(initial=0.0)) or 1.0  # products of huge entries would overflow
    A, b = A / largest, b / largest
    r = b - A @ x
    gradient, scale = norm(A.conj().T @ r), norm(A)
    slack = eps(x.dtype) * 8 * scale * (scale * norm(x) + norm(b))
    require(
        gradient <= 1.001 * rtol * scale * norm(r) + slack,
        f"it said least squares at a gradient of {gradient:.3e} for a residual of {norm(r):.3e}",
    )


def check_promises(promises: dict[str, Callable[[Any], None]], subject: Any, name: str,
           only: Iterable[str] | None) -> None:  # fmt: skip
    """Raise AssertionError with each of the promises, or of those named, that is broken."""
    broken, first = [], None
    for promise in promises if only is None else only:
        check = promises[promise]
        try:
            check(subject)
        except Exception as error:
            what = str(error) if isinstance(error, AssertionError) else f"it raised {error!r}"
            broken.append(f"{promise} ({inspect.getdoc(check)}) {what}")
            first = first or error
    if broken:
        raise AssertionError(f"{name} breaks: " + "\n  and: ".join(broken)) from first


def at_once(tasks: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run the tasks in a thread each, all starting together; return their results in order."""
    results: list[Any] = [None] * len(tasks)
    gate = threading.Barrier(len(tasks))

    def work(place: int) -> None:
        gate.wait()
        try:
            results[place] = tasks[place]()
        except Exception as error:
            results[place] = error

    threads = [threading.Thread(target=work, args=(k,)) for k in range(len(tasks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        if isinstance(result, Exception):
            raise result
    return results
