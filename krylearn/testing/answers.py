"""Promises of a method about its answers and the record that comes with them."""

from __future__ import annotations

import functools
import pickle
from typing import Any

import numpy as np
import scipy.sparse as sp

from krylearn.interface import Reason
from krylearn.testing.examples import (
    LARGE,
    as_operator,
    example_matrix,
    example_vector,
    nasty_systems,
    watched,
)
from krylearn.testing.honesty import (
    at_once,
    naming,
    require,
    require_honest,
    unchanged,
    using_threads,
)
from krylearn.testing.subject import Method


def converges(m: Method) -> None:
    """It solves an easy system in every precision, keeps the dtype and tells the truth."""
    for dtype in m.dtypes:
        A, b, rtol = m.system(dtype)
        x, info = m.solves(f"dtype {dtype}", A, b, rtol=rtol)
        require(x.dtype == np.dtype(dtype), f"dtype {dtype} came back as {x.dtype}")
        require(x.shape == b.shape, f"b of shape {b.shape} came back as {x.shape}")
        start = info.residuals[0] / np.linalg.norm(b)
        require(abs(start - 1) < 1e-5, "residuals[0] is not the norm of b for a zero start")
        if not m.takes("btol"):  # scipy's least squares, whose atol is another tolerance
            m.solves(f"dtype {dtype}, rtol 0, atol 0.1", A, b, rtol=0.0, atol=0.1)


def never_lies(m: Method) -> None:
    """It never says converged above tolerance, and never raises without need."""
    for what, A, b in nasty_systems():
        for rtol in (1e-6, 0.0):
            try:
                x, info = m(sp.csr_array(A), b, rtol=rtol)
            except (ValueError, ArithmeticError) as error:
                require(m.needs_entries and str(error), f"{what}: raised {error!r}")
                continue
            with naming(f"{what}, rtol {rtol:g}"):
                require_honest(A, b, x, info, rtol)
    A, b, rtol = m.system()
    for size in (1e8, 1e20, 1e300):
        # The recurrence of a residual loses what the true residual has lost to a large start.
        x, info = m(A, b, size * example_vector(len(b), seed=4), rtol=rtol)
        with naming(f"x0 of size {size:g}"):
            require_honest(A, b, x, info, rtol)


def shapes(m: Method) -> None:
    """b may be (n,), (n, 1) or (n, k); each column gets the answer that it gets alone."""
    A, b, rtol = m.system()
    alone, _ = m(A, b, rtol=rtol)
    x, info = m(A, b[:, None], rtol=rtol)
    require(x.shape in (b.shape, (len(b), 1)), f"b (n, 1) came back as {x.shape}")
    require(np.array_equal(x.ravel(), alone), "b (n, 1) and b (n,) have different answers")
    B = np.stack([b, np.zeros_like(b), example_vector(len(b), seed=2) ** 3], axis=1)
    X, info = m(A, B, rtol=rtol)
    require(X.shape == B.shape, f"b {B.shape} came back as {X.shape}")
    require(info == 0 and len(info.columns) == 3, f"three columns: {info.reason}")
    for j, column in enumerate(info.columns):
        require_honest(A, B[:, j], X[:, j], column, rtol)
        x, single = m(A, B[:, j], rtol=rtol)
        require(
            abs(column.iterations - single.iterations) <= 1,
            f"column {j} took {column.iterations} iterations, alone {single.iterations}",
        )
    B[:, 2] = np.nan
    X, info = m(A, B, rtol=rtol)
    require(info < 0, f"a column of NaN among three: info {int(info)}")
    require(info.columns[0].converged, "a column of NaN spoilt its neighbour")
    X0 = np.ones_like(B)
    B[:, 2] = b
    with unchanged("a block of starts was changed", X0):
        X, info = m(A, B, X0, rtol=rtol)
    require(info == 0, f"a block of starts: {info.reason}")


def starts(m: Method) -> None:
    """x0 is used: an exact one costs no iteration, a good one few; 'Mb' and (n, 1) are taken."""
    A, b, rtol = m.system()
    whole = np.arange(1.0, len(b) + 1)
    x, info = m(A, A @ whole, whole, rtol=rtol)
    require(info == 0 and info.iterations == 0, f"an exact x0 took {info.iterations} iterations")
    require(np.array_equal(x, whole), "an exact x0 was not returned")
    x, info = m(A, A @ whole, whole, rtol=0.0, atol=0.0)
    require_honest(A, A @ whole, x, info, 0.0)
    require(np.all(np.isfinite(x)), "an exact x0 with rtol = atol = 0 became NaN")
    near, cold = m(A, b, rtol=rtol)
    _, info = m.solves("a good x0", A, b, near + 1e-7, rtol=rtol)
    fewer = info.iterations < cold.iterations
    require(fewer or (m.direct and info.iterations <= 1), "a good x0 did not help")
    x, _ = m.solves("x0 (n, 1)", A, b, np.ones((len(b), 1)), rtol=rtol)
    require(x.shape == b.shape, f"x0 (n, 1): x {x.shape}")
    m.solves("x0 = 'Mb'", A, b, "Mb", rtol=rtol)


def zero_rhs(m: Method) -> None:
    """b = 0 has the answer zero at once, whatever x0 is, in a new array."""
    A, b, rtol = m.system()
    zero = np.zeros_like(b)
    for start in (None, np.ones_like(b)):
        for tolerances in (dict(rtol=rtol), dict(rtol=0.0, atol=0.0)):
            x, info = m(A, zero, start, **tolerances)
            require(info == 0 and info.converged, f"b = 0: {info.reason}")
            require(not np.any(x) and x is not zero, "b = 0: x is not a new zero")
            require(info.matvecs <= 1, f"b = 0 took {info.matvecs} products")


def calls_back(m: Method) -> None:
    """The callback sees every iterate, changes nothing, and ends the solve by StopIteration."""
    A, b, rtol = m.system()
    plain, silent = m(A, b, rtol=rtol)
    seen: list[np.ndarray] = []
    x, info = m(A, b, rtol=rtol, callback=lambda v: seen.append(np.array(v)))
    require(np.array_equal(x, plain), "the answer differs with a callback")
    require(np.array_equal(info.residuals, silent.residuals), "the history differs")
    require(info.matvecs == silent.matvecs, "the number of products differs")
    if m.takes("callback_type"):
        require(1 <= len(seen) <= info.iterations, f"{len(seen)} calls for {info.iterations}")
    else:
        require(len(seen) == info.iterations, f"{len(seen)} calls, {info.iterations} iterations")
    require(all(v.shape == b.shape for v in seen), "the callback got something not like x")

    def spoil(v: np.ndarray) -> None:
        try:
            v[:] = np.nan
        except ValueError:
            pass  # read-only, which is as good as a copy

    x, info = m(A, b, rtol=rtol, callback=spoil)
    require(np.array_equal(x, plain), "a callback that writes to its argument changed the answer")

    def stop(v: Any) -> None:
        raise StopIteration

    rtol = m.endless(rtol)
    x, info = m(A, b, rtol=rtol, callback=stop, **m.restart(2))
    require(info > 0 and info.reason is Reason.STOPPED, f"after StopIteration: {info.reason}")
    require(info.iterations <= 2, f"StopIteration at once, yet {info.iterations} iterations")
    require_honest(A, b, x, info, rtol)

    def fail(v: Any) -> None:
        raise KeyError("mine")

    try:
        m(A, b, rtol=rtol, callback=fail)
    except KeyError:
        return
    raise AssertionError("an error raised by the callback was swallowed")


def honours_maxiter(m: Method) -> None:
    """maxiter bounds the iterations; converging in the last one is a success."""
    A, b, rtol = m.system()
    # A restarted method counts cycles: let them be steps.
    few = m.restart(1)
    _, full = m(A, b, rtol=rtol, **few)
    require(full == 0, f"no limit: {full.reason}")
    if m.direct:
        require(full.iterations <= 2, f"direct, yet {full.iterations} iterations")
    else:
        require(full.iterations > 3, f"no limit: {full.iterations} iterations")
    for limit in (1,) if m.direct else (1, 3):
        x, info = m(A, b, rtol=m.endless(rtol), maxiter=limit, **few)
        require(info.iterations <= limit, f"maxiter {limit}: {info.iterations} iterations")
        require(info.reason is Reason.MAXITER, f"maxiter {limit}: {info.reason.name}")
        require(info == info.iterations or info == 1, f"maxiter {limit}: info is {int(info)}")
        require(info.matvecs <= 4 * limit + 4, f"maxiter {limit}: {info.matvecs} products")
        require_honest(A, b, x, info, m.endless(rtol))
    x, info = m(A, b, rtol=rtol, maxiter=0, **few)
    require(info > 0 and not np.any(x), f"maxiter 0: {info.reason}")
    require(info.iterations == 0, f"maxiter 0: {info.iterations} iterations")
    _, info = m(A, b, rtol=rtol, maxiter=full.iterations, **few)
    require(info == 0, f"converged in the last iteration allowed, yet {info.reason}")


def keeps_record(m: Method) -> None:
    """info counts what was done, can be pickled, and times itself."""
    A, b, rtol = m.system()
    _, info = m(A, b, rtol=rtol)
    again = pickle.loads(pickle.dumps(info))
    require(again == info and type(again) is type(info), "info changed in a pickle")
    require(again.reason is info.reason, "info.reason changed in a pickle")
    require(np.array_equal(again.residuals, info.residuals), "residuals changed in a pickle")
    require(info.solve_seconds > 0 and info.setup_seconds >= 0, "no times were taken")
    require(isinstance(info.method, str) and info.method, "info.method is empty")
    require(repr(info) and str(info), "info does not print")
    if m.needs_entries:
        return
    calls: list[str] = []
    H = A.conj().T
    counted = as_operator(
        A, watched(lambda v: A @ v, calls, "A"), watched(lambda v: H @ v, calls, "H")
    )
    _, info = m(counted, b, rtol=rtol)
    require(info.matvecs == len(calls), f"info.matvecs is {info.matvecs}, A saw {len(calls)}")
    require(m.adjoint or "H" not in calls, "it used the adjoint and did not say so")
    if m.preconditioned:
        calls.clear()
        M = as_operator(sp.eye_array(len(b)), watched(np.copy, calls))
        _, info = m(A, b, rtol=rtol, M=M)
        require(info.precond_applies == len(calls),
                 f"info.precond_applies is {info.precond_applies}, M saw {len(calls)}")  # fmt: skip


def same_for_threads(m: Method) -> None:
    """The answer is the same to the bit for 1 and 2 threads, and for two solves at once."""
    A = example_matrix(m.matrix, "d", LARGE)
    b = example_vector(A.shape[0])
    large = functools.partial(m, A, b, rtol=1e-14, maxiter=2, **m.restart(2))
    with using_threads(1):
        one, info = large()
    with using_threads(2):
        two, same = large()
        require(np.array_equal(one, two), "1 and 2 threads have different answers")
        require(np.array_equal(info.residuals, same.residuals), "... and different histories")
        both = at_once([large, large])
        require(all(np.array_equal(one, x) for x, _ in both), "two large solves at once differ")
    A, b, rtol = m.system()
    tasks = [functools.partial(m, A, example_vector(len(b), seed=k), rtol=rtol) for k in range(8)]
    alone = [task() for task in tasks]
    for (x, _), (y, _) in zip(alone, at_once(tasks)):
        require(np.array_equal(x, y), "eight small solves at once differ from one at a time")
