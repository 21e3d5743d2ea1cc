"""Promises of a method about what it takes, leaves as it is, and refuses."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla

from krylearn import registry
from krylearn.interface import Reason
from krylearn.operators import Preconditioner
from krylearn.testing.examples import (
    as_operator,
    example_grid_operator,
    example_vector,
    freeze,
    tolerance,
    watched,
)
from krylearn.testing.honesty import require, require_close, require_refused, unchanged
from krylearn.testing.subject import Method


def leaves_inputs(m: Method) -> None:
    """Inputs are left as they are, read-only and strided ones are taken."""
    for dtype in m.dtypes[-2:]:
        A, b, rtol = m.system(dtype)
        x0 = example_vector(len(b), dtype, seed=5)
        frozen = A.copy()
        freeze(frozen)
        expected, _ = m(A.copy(), b.copy(), x0.copy(), rtol=rtol)
        wide, wider = np.zeros((len(b), 3), dtype), np.zeros(2 * len(b), dtype)
        wide[:, 1], wider[::-2] = b, x0
        strided_b, strided_x0 = wide[:, 1], wider[::-2]
        for name, matrix in (("sparse", frozen), ("Fortran order", np.asfortranarray(A.toarray()))):
            freeze(strided_b, strided_x0)
            with unchanged(f"{name}: an input changed", matrix, strided_b, strided_x0):
                x, info = m(matrix, strided_b, strided_x0, rtol=rtol)
            require(info == 0, f"{name}, strided and read-only: {info.reason}")
            require_close(x, expected, 50 * rtol, f"{name}, strided: the answer differs")
            require(x.flags.writeable, "x is read-only")
            require(not np.shares_memory(x, wide), "x is b itself")
            require(not np.shares_memory(x, wider), "x is x0 itself")


class _Bare:
    """The least that the interface promises to take: shape, matvec (and rmatvec)."""

    def __init__(self, A: Any) -> None:
        self.shape, self._A = A.shape, A
        self._out = np.empty(A.shape[0], A.dtype)

    def matvec(self, v: np.ndarray) -> np.ndarray:
        self._out[:] = self._A @ v
        v *= -3  # what a method hands out must be a copy
        return self._out  # and what it gets back may be overwritten at the next call

    def rmatvec(self, v: np.ndarray) -> np.ndarray:
        self._out[:] = self._A.conj().T @ v
        v *= -3
        return self._out


def takes_operands(m: Method) -> None:
    """A may be sparse of any format, dense, integer, an operator, or have shape and matvec."""
    A, b, rtol = m.system()
    expected, _ = m(A, b, rtol=rtol)
    whole = sp.csr_array(np.rint(4 * A.toarray()))
    twice = sp.coo_array(
        (np.tile(A.data / 2, 2), np.tile((A.tocoo().row, A.tocoo().col), 2)), shape=A.shape
    )
    operands: dict[str, Any] = {
        "csr_matrix": sp.csr_matrix(A), "csc_array": A.tocsc(), "coo_array with duplicates": twice,
        "dia_array": A.todia(), "lil_array": A.tolil(), "ndarray": A.toarray(),
        "list of lists": A.toarray().tolist(),
    }  # fmt: skip
    if not m.needs_entries:
        operands |= {"LinearOperator": as_operator(A), "an object with matvec": _Bare(A)}
    for name, operand in operands.items():
        x, _ = m.solves(name, operand, b, rtol=rtol, matrix=A)
        require_close(x, expected, 50 * rtol, f"{name}: the answer differs")
    for dtype in (np.int32, np.int64):
        rhs = np.rint(9 * b).astype(dtype)
        x, _ = m.solves(dtype.__name__, whole.astype(dtype), rhs, rtol=rtol)
        require(x.dtype == np.float64, f"{dtype.__name__} came back as {x.dtype}")
    if "D" in m.dtypes:
        x, _ = m.solves("real A, complex b", A, b + 1j * b[::-1], rtol=rtol)
        require(x.dtype == np.complex128, f"real A, complex b came back as {x.dtype}")


def takes_grid_operators(m: Method) -> None:
    """A may be an operator on a grid: it has the answer and the steps of its matrix."""
    for dtype in m.dtypes:
        for varying in (True, False):
            what = f"{dtype}, {'varying' if varying else 'constant'} coefficients"
            A = example_grid_operator(m.matrix, dtype, varying)
            matrix = A.tocsr()
            b, rtol = example_vector(A.shape[0], dtype), tolerance(dtype)
            given: list[dict[str, Any]] = [{}]
            if m.preconditioned and (m.matrix != "hermitian" or A.positive_definite):
                given.append({"M": "jacobi"})
            for named in given:
                expected, its = m.solves(f"the matrix, {what}", matrix, b, rtol=rtol, **named)
                x, info = m.solves(f"the operator, {what}", A, b, rtol=rtol, matrix=matrix, **named)
                require(x.dtype == np.dtype(dtype), f"{what}: it came back as {x.dtype}")
                require_close(x, expected, 50 * rtol, f"{what}: the answers differ")
                require(
                    abs(info.iterations - its.iterations) <= 1,
                    f"{what}: {info.iterations} iterations, {its.iterations} for the matrix",
                )


def stops_at_nan(m: Method) -> None:
    """NaN or Inf in A, b, x0 or M ends the solve at once, with a reason that says where."""
    A, b, rtol = m.system()
    for bad in (np.nan, np.inf):
        spoilt = b.copy()
        spoilt[3] = bad
        for name, vectors, reason in (("b", (spoilt,), Reason.NONFINITE_RHS),
                                      ("x0", (b, spoilt), Reason.NONFINITE_START)):  # fmt: skip
            _, info = m(A, *vectors, rtol=rtol)
            require(info.reason is reason, f"{bad} in {name}: {info.reason.name}")
            require(info < 0 and info.matvecs <= 2, f"{bad} in {name}: {info.matvecs} products")
        broken = A.copy()
        broken.data[10] = bad
        for form in (broken, broken.toarray()):
            try:
                x, info = m(form, b, rtol=rtol)
            except (ValueError, ArithmeticError) as error:
                require(m.needs_entries and str(error), f"{bad} in A: raised {error!r}")
                continue
            require(info < 0, f"{bad} in A: info {int(info)}, {info.reason.name}")
            require(info.reason is Reason.NONFINITE_OPERATOR, f"{bad} in A: {info.reason.name}")
            require(info.matvecs <= 4, f"{bad} in A: {info.matvecs} products")
    if m.needs_entries:
        return
    for when in range(1, 5):
        calls: list[str] = []
        turns = watched(lambda v: A @ v, calls, nan_from=when)
        _, info = m(as_operator(A, turns), b, rtol=rtol, maxiter=200)
        _ended_at(when, "A", calls, info, Reason.NONFINITE_OPERATOR)
        if m.preconditioned:
            calls.clear()
            turns = watched(np.copy, calls, nan_from=when)
            M = as_operator(sp.eye_array(len(b)), turns, turns)
            _, info = m(A, b, rtol=rtol, M=M, maxiter=200)
            _ended_at(when, "M", calls, info, Reason.NONFINITE_PRECONDITIONER)


def _ended_at(when: int, name: str, calls: list, info: Any, reason: Reason) -> None:
    what = f"{name} @ v turns to NaN at product {when}"
    require(info.reason is reason, f"{what}: {info.reason.name}")
    require(len(calls) <= when + 4, f"{what}: {len(calls)} products")


def refuses(m: Method) -> None:
    """Operands that do not fit raise ValueError, those that are no numbers TypeError."""
    A, b, rtol = m.system()
    n = len(b)
    wrong: dict[str, tuple[type[Exception], tuple, dict]] = {
        "b too long": (ValueError, (A, np.ones(n + 1)), {}),
        "b transposed": (ValueError, (A, b[None, :]), {}),
        "b three-dimensional": (ValueError, (A, b[:, None, None]), {}),
        "b a scalar": (ValueError, (A, 1.0), {}),
        "x0 too short": (ValueError, (A, b, np.ones(n - 1)), {}),
        "x0 a word": (ValueError, (A, b, "zero"), {}),
        "A one-dimensional": (ValueError, (np.ones(n), b), {}),
        "A absent": (ValueError, (None, b), {}),
        "negative rtol": (ValueError, (A, b), dict(rtol=-1e-5)),
        "rtol NaN": (ValueError, (A, b), dict(rtol=np.nan)),
        "atol a word": (ValueError, (A, b), dict(rtol=1e-5, atol="legacy")),
        "negative maxiter": (ValueError, (A, b), dict(maxiter=-1)),
        "object b": (TypeError, (A, b.astype(object)), {}),
        "object A": (TypeError, (A.toarray().astype(object), b), {}),
        "b of strings": (TypeError, (A, b.astype(str)), {}),
        "an unknown argument": (TypeError, (A, b), dict(tolerance=1e-5)),
    }
    if not m.adjoint:
        wrong["A not square"] = (ValueError, (A[:, :-1], b), {})
    if m.preconditioned:
        wrong["M too small"] = (ValueError, (A, b), dict(M=np.eye(n - 1)))
        wrong["M unknown"] = (ValueError, (A, b), dict(M="no such thing"))
    for what, (kind, positional, named) in wrong.items():
        require_refused(what, kind, functools.partial(m, *positional, **named))
    if not m.takes("btol"):  # scipy's least squares, which takes more by position
        require_refused("rtol by position", TypeError, lambda: m.f(A, b, None, 1e-5))


class _Changing(Preconditioner):
    """A positive scaling that is another at every call."""

    linear = False
    symmetric = True
    positive_definite = True

    def __init__(self, n: int, dtype: Any) -> None:
        super().__init__((n, n), dtype)
        self.calls = 0

    def apply(self, r: np.ndarray, out: np.ndarray) -> np.ndarray:
        self.calls += 1
        return np.multiply(r, 1.5 + np.sin(self.calls + np.arange(len(r))), out=out)


def uses_preconditioner(m: Method) -> None:
    """M is used and counted: an exact inverse needs at most 3 products; a trait is respected."""
    if not m.preconditioned:
        A, b, _ = m.system()
        refusal = functools.partial(m, A, b, M=np.eye(len(b)))
        require_refused("an M, where there is none", (ValueError, TypeError), refusal)
        return
    kind = "general" if m.matrix == "general" else "spd"
    for dtype in m.dtypes:
        A, b, rtol = m.system(dtype, kind)
        inverse = np.linalg.inv(A.toarray())
        for name, M in {
            "ndarray": inverse, "sparse": sp.csr_array(inverse), "LinearOperator":
            spla.aslinearoperator(inverse),
        }.items():  # fmt: skip
            what = f"exact inverse, {name}, {dtype}"
            with unchanged("M was changed", M):
                x, info = m.solves(what, A, b, rtol=rtol, M=M)
            require(info.matvecs <= 3, f"{what}: {info.matvecs} products")
            require(info.precond_applies > 0, "precond_applies was not counted")
            require(x.dtype == np.dtype(dtype), f"{dtype} with M came back as {x.dtype}")
        _, info = m.solves(f"M='jacobi', {dtype}", A, b, rtol=rtol, M="jacobi")
        require(info.setup_seconds > 0, "setup_seconds of M was not passed on")
    M = _Changing(A.shape[0], A.dtype)
    if m.flexible:
        m.solves("an M that changes", A, b, rtol=rtol, M=M)
        return
    flexible = [entry.name for entry in registry.entries("method") if entry.flexible]
    refusal = functools.partial(m, A, b, M=M)
    text = require_refused("a nonlinear M, by a method that is not flexible", ValueError, refusal)
    require(any(name in text for name in flexible),
            f"the refusal of a nonlinear M names none of {flexible}: {text}")  # fmt: skip
