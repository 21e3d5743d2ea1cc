"""Promises of preconditioners."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla

from krylearn.testing.examples import (
    LARGE,
    eps,
    example_matrix,
    example_vector,
    freeze,
    tolerance,
)
from krylearn.testing.honesty import (
    at_once,
    check_promises,
    require,
    require_close,
    require_refused,
    unchanged,
    using_threads,
)

TRAITS = ("linear", "symmetric", "positive_definite")


@dataclass(frozen=True)
class Factory:
    """What makes a preconditioner, and what it needs of A."""

    make: Callable[[Any], Any]
    matrix: str
    dtypes: str

    def pair(self, dtype: Any = "d") -> tuple[sp.csr_array, Any]:
        A = example_matrix(self.matrix, dtype)
        return A, self.make(A)


def _dense(M: Any) -> np.ndarray:
    return np.column_stack([M.matvec(e) for e in np.eye(M.shape[0], dtype=M.dtype)])


def _is_operator(p: Factory) -> None:
    """It is a scipy LinearOperator of A's shape and dtype, with traits."""
    for dtype in p.dtypes:
        A, M = p.pair(dtype)
        require(isinstance(M, spla.LinearOperator), f"a {type(M).__name__} is no LinearOperator")
        require(tuple(M.shape) == A.shape, f"shape {M.shape} for an A of shape {A.shape}")
        require(M.dtype == A.dtype, f"dtype {M.dtype} for an A of dtype {A.dtype}")
        for trait in TRAITS:
            value = getattr(M, trait, "absent")
            require(value in (True, False, None), f"{trait} is {value!r}")
        require(M.setup_seconds >= 0, "setup_seconds is negative")
        require(repr(M), "it does not print")


def _traits_true(p: Factory) -> None:
    """Its traits are true: linear, symmetric, positive definite."""
    for dtype in p.dtypes:
        A, M = p.pair(dtype)
        n, small = A.shape[0], 100 * eps(dtype)
        r, s = example_vector(n, dtype, 3), example_vector(n, dtype, 4)
        if M.linear:
            whole, parts = M @ (3 * r - s), 3 * (M @ r) - M @ s
            require_close(parts, whole, small, f"{dtype}: linear, yet the rule is off")
        if M.symmetric:
            there, back = np.vdot(s, M @ r), np.vdot(M @ s, r)
            size = np.linalg.norm(s) * np.linalg.norm(M @ r)
            error = abs(there - back) / size
            require(error < small, f"{dtype}: symmetric, yet <s, M r> is off by {error:.1e}")
            require_close(M.rmatvec(r), M @ r, small, f"{dtype}: symmetric, yet rmatvec differs")
        if M.linear and M.positive_definite:
            P = _dense(M)
            low = np.linalg.eigvalsh((P + P.conj().T) / 2)[0]
            require(low > 0, f"{dtype}: positive definite, yet an eigenvalue is {low:.1e}")


def _applies(p: Factory) -> None:
    """apply writes into out alone; vectors, columns, blocks, strided and read-only are taken."""
    for dtype in p.dtypes:
        A, M = p.pair(dtype)
        n = A.shape[0]
        R = np.stack([example_vector(n, dtype, k) for k in range(3)], axis=1)
        freeze(R)
        with unchanged("the input changed", R):
            _applied(M, R)


def _applied(M: Any, R: np.ndarray) -> None:
    n, dtype = len(R), R.dtype
    expected = M.matvec(R[:, 1])
    require(expected.dtype == dtype, f"dtype {dtype} came back as {expected.dtype}")
    require((M @ R[:, 1]).shape == (n,), "(n,) lost its shape")
    require((M @ R[:, :1]).shape == (n, 1), "(n, 1) lost its shape")
    block = M @ R
    require(block.shape == R.shape and block.dtype == dtype, "a block lost shape or dtype")
    close = np.allclose(block[:, 1], expected, rtol=50 * eps(dtype), atol=50 * eps(dtype))
    require(close, "a column of a block has another answer than alone")
    if hasattr(M, "apply"):
        r, out = np.ascontiguousarray(R[:, 1]), np.full(n, np.nan, dtype)
        freeze(r)
        with unchanged("apply changed its input", r):
            require(M.apply(r, out) is out, "apply does not return out")
        require(np.array_equal(out, expected), "apply and @ differ, or apply reads out")
        require(not np.shares_memory(M @ r, M @ r), "two products share memory")
    require(np.array_equal(M.matvec(R[:, 1]), expected), "the same input has two answers")


def _updates(p: Factory) -> None:
    """update(A) gives what a new one would be, and leaves A as it is."""
    for dtype in p.dtypes:
        A, M = p.pair(dtype)
        r = example_vector(A.shape[0], dtype)
        before = M @ r
        other = A.copy()
        other.data *= np.where(other.data.real > 0, 1.5, 0.75).astype(other.data.real.dtype)
        with unchanged("update changed a matrix", A, other):
            require(M.update(other) is M, "update does not return the preconditioner")
        fresh = p.make(other) @ r
        require_close(M @ r, fresh, 100 * eps(dtype), f"{dtype}: update differs from new")
        require(np.array_equal(M.update(A) @ r, before), "updating back has another answer")
    pattern = sp.csr_array(A + sp.diags_array([np.ones(3)], offsets=[A.shape[0] - 3],
                                              shape=A.shape) * 0.1)  # fmt: skip
    pattern = sp.csr_array((pattern + pattern.conj().T) / 2).astype(A.dtype)
    try:
        M.update(pattern)
    except ValueError as error:
        require(str(error), "another pattern was refused without a message")
        require(np.array_equal(M @ r, before), "a refused update left it changed")
    else:
        gap = np.linalg.norm(M @ r - p.make(pattern) @ r)
        require(gap < 100 * eps(dtype) * np.linalg.norm(r), "another pattern: wrong, silently")


def _pickles(p: Factory) -> None:
    """It survives a pickle, and so do its traits."""
    for dtype in p.dtypes:
        A, M = p.pair(dtype)
        r = example_vector(A.shape[0], dtype)
        M @ r  # with whatever it makes at first use
        again = pickle.loads(pickle.dumps(M))
        require(np.array_equal(again @ r, M @ r), f"{dtype}: another map came out of the pickle")
        for trait in TRAITS:
            require(getattr(again, trait) == getattr(M, trait), f"{trait} changed in the pickle")
        require(np.array_equal(again.update(A) @ r, M @ r), "update fails after a pickle")


def _is_thread_safe(p: Factory) -> None:
    """Threads may use one preconditioner at once; 1 and 2 threads give the same to the bit."""
    A, M = p.pair()
    vectors = [example_vector(A.shape[0], seed=k) for k in range(8)]
    alone = [M @ r for r in vectors]

    def repeat(r: np.ndarray) -> list[np.ndarray]:
        return [M @ r for _ in range(50)]

    for expected, found in zip(alone, at_once([functools.partial(repeat, r) for r in vectors])):
        require(all(np.array_equal(expected, y) for y in found), "threads spoil each other")
    A = example_matrix(p.matrix, "d", LARGE)
    r = example_vector(A.shape[0])
    with using_threads(1):
        one = p.make(A) @ r
    with using_threads(2):
        large = p.make(A)
        require(np.array_equal(one, large @ r), "1 and 2 threads give different answers")
        both = at_once([lambda: large @ r, lambda: large @ r])
        require(all(np.array_equal(one, y) for y in both), "two large products at once differ")


def _leaves_matrix(p: Factory) -> None:
    """Making it leaves A as it is; every format, dense and read-only matrices are taken."""
    A, M = p.pair()
    r = example_vector(A.shape[0])
    expected = M @ r
    frozen = A.copy()
    freeze(frozen)
    forms = {
        "read-only": frozen, "csc_array": A.tocsc(), "coo_array": A.tocoo(), "csr_matrix":
        sp.csr_matrix(A), "ndarray": A.toarray(), "Fortran order": np.asfortranarray(A.toarray()),
    }  # fmt: skip
    for name, form in forms.items():
        with unchanged(f"{name}: the matrix changed", form):
            y = p.make(form) @ r
        close = np.allclose(y, expected, rtol=1e-12, atol=1e-12)
        require(close, f"{name}: another preconditioner")
    for name, wrong in (("not square", A[:, :-1]), ("one-dimensional", np.ones(4))):
        require_refused(name, (ValueError, TypeError), functools.partial(p.make, wrong))


def _serves_scipy(p: Factory) -> None:
    """scipy's cg or gmres, and ours, converge with it in no more iterations than without."""
    from krylearn.solvers.krylov.fgmres import fgmres

    for dtype in p.dtypes:
        A, M = p.pair(dtype)
        b, rtol = example_vector(A.shape[0], dtype), 10 * tolerance(dtype)
        spd = M.symmetric and M.positive_definite and p.matrix != "general"
        solver: Any = spla.cg if spd else spla.gmres
        counts = []
        for given in (None, M):
            calls: list[int] = []
            more: dict[str, Any] = {} if spd else dict(callback_type="pr_norm")
            x, info = solver(A, b, rtol=rtol, M=given, callback=lambda v, c=calls: c.append(1),
                             **more)  # fmt: skip
            require(info == 0, f"{dtype}: scipy's {solver.__name__} ended with {info}")
            counts.append(len(calls))
        residual = np.linalg.norm(b - A @ x) / np.linalg.norm(b)
        require(residual < 20 * rtol, f"{dtype}: scipy's residual is {residual:.1e}")
        require(counts[1] <= counts[0], f"{dtype}: {counts[1]} iterations, {counts[0]} without")
        x, found = fgmres(A, b, rtol=rtol, M=M)
        require(found == 0 and x.dtype == np.dtype(dtype), f"{dtype}: fgmres: {found.reason}")


PRECONDITIONER_PROMISES: dict[str, Callable[[Factory], None]] = {
    "is an operator": _is_operator,
    "has true traits": _traits_true,
    "applies": _applies,
    "updates": _updates,
    "pickles": _pickles,
    "is thread-safe": _is_thread_safe,
    "leaves the matrix": _leaves_matrix,
    "serves scipy": _serves_scipy,
}


def check_preconditioner(factory: Callable[[Any], Any], *, matrix: str = "spd",
                         dtypes: str = "fdFD",
                         only: Iterable[str] | None = None) -> None:  # fmt: skip
    """Check that a preconditioner keeps the promises that every one of this library makes.

    Parameters
    ----------
    factory : callable
        ``factory(A)`` makes the preconditioner of a sparse or dense A.
    matrix : {'spd', 'hermitian', 'general', 'dominant', 'separable'}
        What it needs of A.
    dtypes : str
        The characters of those it is checked in.
    only : iterable of str, optional
        Names from `PRECONDITIONER_PROMISES`; all by default.

    Raises
    ------
    AssertionError
        If a promise is broken; the message names each that is.

    Examples
    --------
    >>> import krylearn as kl
    >>> kl.testing.check_preconditioner(kl.Jacobi, only=["pickles", "updates"])
    """
    name = getattr(factory, "__name__", repr(factory))
    check_promises(PRECONDITIONER_PROMISES, Factory(factory, matrix, dtypes), name, only)
