"""The contract of methods and preconditioners, ours and a third party's.

`check_method` and `check_preconditioner` raise an AssertionError that names every promise that
was broken. The promises are listed in `METHOD_PROMISES` and `PRECONDITIONER_PROMISES`.
"""

from __future__ import annotations

import functools
import inspect
import pickle
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla
from scipy.linalg import norm as blas_norm

from krylearn import registry
from krylearn.interface import Reason
from krylearn.kernels.parallel import get_num_threads, set_num_threads
from krylearn.operators import Preconditioner

__all__ = [
    "METHOD_PROMISES",
    "PRECONDITIONER_PROMISES",
    "check_method",
    "check_preconditioner",
    "example_matrix",
    "example_vector",
    "nasty_systems",
    "require_honest",
    "true_residual",
]

KINDS = ("spd", "hermitian", "general", "dominant")
# Enough unknowns that kernels share their work among threads.
LARGE = 370


# -- examples --------------------------------------------------------------------------------


@functools.cache
def example_matrix(kind: str, dtype: Any = "d", side: int = 7) -> sp.csr_array:
    """Return a well-conditioned sparse matrix of ``side**2`` rows, strictly dominant.

    Parameters
    ----------
    kind : {'spd', 'hermitian', 'general', 'dominant'}
        'hermitian' is indefinite, 'general' has no symmetry; the other two are Hermitian
        positive definite, with no positive entry off the diagonal where they are real.
    dtype : dtype
    side : int
        Of the square grid whose five-point stencil gives the pattern.
    """
    if kind not in KINDS:
        raise ValueError(f"matrix must be one of {KINDS}, not {kind!r}")
    n = side * side
    rng = np.random.default_rng(0)
    line = sp.diags_array(np.ones(side - 1), offsets=1, shape=(side, side))
    ahead = sp.csr_array(sp.kron(sp.eye_array(side), line) + sp.kron(line, sp.eye_array(side)))
    if np.dtype(dtype).kind == "c":
        ahead = ahead.astype(complex)
        ahead.data *= np.exp(1j * rng.uniform(0, 2 * np.pi, ahead.nnz))
    skew = 0.4 if kind == "general" else 0.0
    A = -(1 + skew) * ahead - (1 - skew) * ahead.conj().T
    A = sp.csr_array(A + sp.diags_array(5.0 + rng.random(n)))
    if kind == "hermitian":
        # Quasi-definite: as many eigenvalues below zero as diagonal entries.
        sign = sp.diags_array(np.where(np.arange(n) < 2 * n // 3, 1.0, -1.0))
        half = (sign - sp.eye_array(n)) / 2
        A = sp.csr_array(A - 2 * (half @ A @ half))
    A.sort_indices()
    return A.astype(dtype)


def example_vector(n: int, dtype: Any = "d", seed: int = 1) -> np.ndarray:
    """Return a vector of normally distributed entries."""
    rng = np.random.default_rng(seed)
    v = rng.standard_normal(n) + 1j * rng.standard_normal(n)
    return (v if np.dtype(dtype).kind == "c" else v.real).astype(dtype)


def true_residual(A: Any, x: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Return the norm of ``b - A @ x`` in double precision, and what rounding may do to it.

    The second number is the rounding error of a product in the precision of `x`: a residual
    that a method has computed itself differs from ours by no more.
    """
    A = A.toarray() if sp.issparse(A) else np.asarray(A)
    A, x, b = (np.asarray(v, dtype=np.result_type(v, float)) for v in (A, x, b))
    with np.errstate(all="ignore"):
        return _norm(b - A @ x), 8 * (_norm(A) * _norm(x) + _norm(b))


def _norm(v: np.ndarray) -> float:
    # numpy's squares overflow where BLAS's scaled sum does not.
    return float(blas_norm(np.asarray(v).ravel(), check_finite=False))


def _content(operand: Any) -> list[bytes]:
    """Return what an operand holds; what scipy notes of it in passing does not count."""
    if sp.issparse(operand):
        if hasattr(operand, "indptr"):
            arrays = [operand.indptr, operand.indices, operand.data]
        else:
            arrays = [*operand.coords, operand.data]
    else:
        arrays = [operand.A if hasattr(operand, "matvec") else operand]
    return [array.tobytes() for array in arrays]


def _eps(dtype: Any) -> float:
    return float(np.finfo(dtype).eps)


def _rtol(dtype: Any) -> float:
    return 1e-4 if _eps(dtype) > 1e-10 else 1e-8


def _require(fact: Any, text: str) -> None:
    if not fact:
        raise AssertionError(text)


def require_honest(A: Any, b: np.ndarray, x: np.ndarray, info: Any, rtol: float,
                   atol: float = 0.0) -> None:  # fmt: skip
    """Raise AssertionError unless `info` tells the truth about `x`, one right-hand side."""
    _require(isinstance(info, int), f"info is a {type(info).__name__}, not an int")
    _require(isinstance(info.reason, Reason), f"info.reason is {info.reason!r}, not a Reason")
    _require(
        info.converged == (info == 0) == (info.reason.code == 0),
        f"info {int(info)}, converged {info.converged} and reason {info.reason.name} disagree",
    )
    _require((info < 0) == (info.reason.code < 0), f"info {int(info)} is {info.reason.name}")
    _require(info.iterations >= 0 and info.matvecs >= 0, "a count is negative")
    _require(
        len(info.residuals) == info.iterations + 1,
        f"{len(info.residuals)} residuals for {info.iterations} iterations",
    )
    rounding = _eps(x.dtype)
    found, size = true_residual(A, x, b)
    slack = rounding * size
    if info.reason is Reason.LEAST_SQUARES:
        _require_least(A, b, x, rtol)
    elif info.converged:
        bound = max(rtol * _norm(b), atol)
        _require(np.all(np.isfinite(x)), "it said converged with NaN or Inf in x")
        _require(
            found <= bound * 1.001 + slack,
            f"it said converged at a true residual of {found:.3e}, tolerance {bound:.3e}",
        )
    if np.isfinite(found) and np.isfinite(info.residual) and np.isfinite(slack):
        _require(
            abs(info.residual - found) <= 1e-3 * found + slack,
            f"info.residual is {info.residual:.3e}, the true residual {found:.3e}",
        )
        _require(
            info.residuals[-1] == info.residual,
            f"the history ends at {info.residuals[-1]:.3e}, info.residual is {info.residual:.3e}",
        )


def _require_least(A: Any, b: np.ndarray, x: np.ndarray, rtol: float) -> None:
    A = A.toarray() if sp.issparse(A) else np.asarray(A)
    largest = float(abs(A).max(initial=0.0)) or 1.0  # products of huge entries would overflow
    A, b = A / largest, b / largest
    r = b - A @ x
    gradient, scale = _norm(A.conj().T @ r), _norm(A)
    slack = _eps(x.dtype) * 8 * scale * (scale * _norm(x) + _norm(b))
    _require(
        gradient <= 1.001 * rtol * scale * _norm(r) + slack,
        f"it said least squares at a gradient of {gradient:.3e} for a residual of {_norm(r):.3e}",
    )


# -- methods ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Method:
    """A method under test and what it claims of itself."""

    f: Callable[..., Any]
    matrix: str
    flexible: bool
    adjoint: bool
    needs_entries: bool
    preconditioned: bool
    dtypes: str
    options: dict[str, Any] = field(default_factory=dict)

    def takes(self, parameter: str) -> bool:
        return parameter in inspect.signature(self.f).parameters

    def __call__(self, A: Any, b: Any, x0: Any = None, **more: Any) -> tuple[np.ndarray, Any]:
        if "callback" in more and self.takes("callback_type"):
            more.setdefault("callback_type", "x")
        return self.f(A, b, x0=x0, **{**self.options, **more})

    def system(self, dtype: Any = "d") -> tuple[sp.csr_array, np.ndarray, float]:
        A = example_matrix(self.matrix, dtype)
        return A, example_vector(A.shape[0], dtype), _rtol(dtype)

    def operator(self, A: Any, product: Callable | None = None) -> spla.LinearOperator:
        adjoint = A.conj().T
        return spla.LinearOperator(
            A.shape, matvec=product or (lambda v: A @ v), rmatvec=lambda v: adjoint @ v,
            dtype=A.dtype,
        )  # fmt: skip


def _converges(m: _Method) -> None:
    """It solves an easy system in every precision, keeps the dtype and tells the truth."""
    for dtype in m.dtypes:
        A, b, rtol = m.system(dtype)
        x, info = m(A, b, rtol=rtol)
        _require(info == 0, f"dtype {dtype}: {info.reason} (residual {info.residual:.1e})")
        _require(x.dtype == np.dtype(dtype), f"dtype {dtype} came back as {x.dtype}")
        _require(x.shape == b.shape, f"b of shape {b.shape} came back as {x.shape}")
        require_honest(A, b, x, info, rtol)
        start = info.residuals[0] / np.linalg.norm(b)
        _require(abs(start - 1) < 1e-5, "residuals[0] is not the norm of b for a zero start")
        if m.takes("btol"):  # scipy's least squares, whose atol is another tolerance
            continue
        x, info = m(A, b, rtol=0.0, atol=0.1)
        _require(info == 0, f"dtype {dtype}, rtol 0, atol 0.1: {info.reason}")
        require_honest(A, b, x, info, 0.0, 0.1)


def nasty_systems() -> Iterable[tuple[str, np.ndarray, np.ndarray]]:
    """Yield names, dense matrices and right-hand sides that tempt a method to lie or to crash."""
    rng = np.random.default_rng(3)
    n = 12
    b = rng.standard_normal(n)
    spd = example_matrix("spd").toarray()[:n, :n]
    neumann = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    neumann[0, 0] = neumann[-1, -1] = 1
    hilbert = 1.0 / (np.arange(n)[:, None] + np.arange(n) + 1)
    empty = spd.copy()
    empty[4] = 0
    yield "a zero matrix", np.zeros((n, n)), b
    yield "a singular matrix, b in its range", neumann, neumann @ b
    yield "a singular matrix, b outside its range", neumann, b + 1
    yield "a zero row", empty, b
    yield "a rotation", np.array([[0.0, 1.0], [-1.0, 0.0]]), np.array([1.0, 2.0])
    yield "a cyclic shift", np.roll(np.eye(n), 1, axis=0), np.eye(n)[0]
    yield "an indefinite diagonal", np.diag(np.r_[-6.0:0.0, 1.0:7.0]), b
    yield "a negative definite matrix", -spd, b
    yield "a Hilbert matrix", hilbert, b
    yield "condition 1e14", np.diag(np.logspace(0, -14, n)), b
    yield "a Jordan block", 0.1 * np.eye(n) + np.eye(n, k=1), b
    yield "huge entries", spd * 1e200, b * 1e200
    yield "tiny entries", spd * 1e-200, b * 1e-200
    yield "a huge right-hand side", spd, b * 1e300
    yield "huge entries in single precision", (spd * 1e30).astype("f"), (b * 1e30).astype("f")
    yield "tiny entries in single precision", (spd * 1e-30).astype("f"), (b * 1e-30).astype("f")


def _never_lies(m: _Method) -> None:
    """It never says converged above tolerance, and never raises without need."""
    for what, A, b in nasty_systems():
        for rtol in (1e-6, 0.0):
            try:
                x, info = m(sp.csr_array(A), b, rtol=rtol)
            except (ValueError, ArithmeticError) as error:
                _require(m.needs_entries and str(error), f"{what}: raised {error!r}")
                continue
            try:
                require_honest(A, b, x, info, rtol)
            except AssertionError as error:
                raise AssertionError(f"{what}, rtol {rtol:g}: {error}") from None
    A, b, rtol = m.system()
    for size in (1e8, 1e20, 1e300):
        # The recurrence of a residual loses what the true residual has lost to a large start.
        x0 = size * example_vector(len(b), seed=4)
        x, info = m(A, b, x0, rtol=rtol)
        try:
            require_honest(A, b, x, info, rtol)
        except AssertionError as error:
            raise AssertionError(f"x0 of size {size:g}: {error}") from None


def _shapes(m: _Method) -> None:
    """b may be (n,), (n, 1) or (n, k); each column gets the answer that it gets alone."""
    A, b, rtol = m.system()
    alone, _ = m(A, b, rtol=rtol)
    x, info = m(A, b[:, None], rtol=rtol)
    _require(x.shape in (b.shape, (len(b), 1)), f"b (n, 1) came back as {x.shape}")
    _require(np.array_equal(x.ravel(), alone), "b (n, 1) and b (n,) have different answers")
    B = np.stack([b, np.zeros_like(b), example_vector(len(b), seed=2) ** 3], axis=1)
    X, info = m(A, B, rtol=rtol)
    _require(X.shape == B.shape, f"b {B.shape} came back as {X.shape}")
    _require(info == 0 and len(info.columns) == 3, f"three columns: {info.reason}")
    for j, column in enumerate(info.columns):
        require_honest(A, B[:, j], X[:, j], column, rtol)
        x, single = m(A, B[:, j], rtol=rtol)
        _require(
            abs(column.iterations - single.iterations) <= 1,
            f"column {j} took {column.iterations} iterations, alone {single.iterations}",
        )
    B[:, 2] = np.nan
    X, info = m(A, B, rtol=rtol)
    _require(info < 0, f"a column of NaN among three: info {int(info)}")
    _require(info.columns[0].converged, "a column of NaN spoilt its neighbour")
    X0 = np.ones_like(B)
    B[:, 2] = b
    X, info = m(A, B, X0, rtol=rtol)
    _require(info == 0 and np.all(X0 == 1), "a block of starts failed or was changed")


def _leaves_inputs(m: _Method) -> None:
    """Inputs are left as they are, read-only and strided ones are taken."""
    for dtype in m.dtypes[-2:]:
        A, b, rtol = m.system(dtype)
        x0 = example_vector(len(b), dtype, seed=5)
        frozen = A.copy()
        for array in (frozen.data, frozen.indices, frozen.indptr):
            array.flags.writeable = False
        expected, _ = m(A.copy(), b.copy(), x0.copy(), rtol=rtol)
        wide, wider = np.zeros((len(b), 3), dtype), np.zeros(2 * len(b), dtype)
        wide[:, 1], wider[::-2] = b, x0
        strided_b, strided_x0 = wide[:, 1], wider[::-2]
        for name, matrix in (("sparse", frozen), ("Fortran order", np.asfortranarray(A.toarray()))):
            kept = [_content(v) for v in (matrix, strided_b, strided_x0)]
            strided_b.flags.writeable = strided_x0.flags.writeable = False
            x, info = m(matrix, strided_b, strided_x0, rtol=rtol)
            _require(info == 0, f"{name}, strided and read-only: {info.reason}")
            now = [_content(v) for v in (matrix, strided_b, strided_x0)]
            _require(now == kept, f"{name}: an input changed")
            error = np.linalg.norm(x - expected) / np.linalg.norm(expected)
            _require(error < 50 * rtol, f"{name}, strided: the answer differs by {error:.1e}")
            _require(x.flags.writeable, "x is read-only")
            _require(not np.shares_memory(x, wide), "x is b itself")
            _require(not np.shares_memory(x, wider), "x is x0 itself")


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


def _takes_operands(m: _Method) -> None:
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
        operands |= {"LinearOperator": m.operator(A), "an object with matvec": _Bare(A)}
    for name, operand in operands.items():
        x, info = m(operand, b, rtol=rtol)
        _require(info == 0, f"{name}: {info.reason}")
        error = np.linalg.norm(x - expected) / np.linalg.norm(expected)
        _require(error < 50 * rtol, f"{name}: the answer differs by {error:.1e}")
        require_honest(A, b, x, info, rtol)
    for dtype in (np.int32, np.int64):
        rhs = np.rint(9 * b).astype(dtype)
        x, info = m(whole.astype(dtype), rhs, rtol=rtol)
        _require(info == 0 and x.dtype == np.float64, f"{dtype.__name__}: {info.reason}, {x.dtype}")
        require_honest(whole, rhs, x, info, rtol)
    if "D" in m.dtypes:
        x, info = m(A, b + 1j * b[::-1], rtol=rtol)
        _require(info == 0 and x.dtype == np.complex128, f"real A, complex b: {info.reason}")
        require_honest(A, b + 1j * b[::-1], x, info, rtol)


def _starts(m: _Method) -> None:
    """x0 is used: an exact one costs no iteration, a good one few; 'Mb' and (n, 1) are taken."""
    A, b, rtol = m.system()
    whole = np.arange(1.0, len(b) + 1)
    x, info = m(A, A @ whole, whole, rtol=rtol)
    _require(info == 0 and info.iterations == 0, f"an exact x0 took {info.iterations} iterations")
    _require(np.array_equal(x, whole), "an exact x0 was not returned")
    x, info = m(A, A @ whole, whole, rtol=0.0, atol=0.0)
    require_honest(A, A @ whole, x, info, 0.0)
    _require(np.all(np.isfinite(x)), "an exact x0 with rtol = atol = 0 became NaN")
    near, cold = m(A, b, rtol=rtol)
    x, info = m(A, b, near + 1e-7, rtol=rtol)
    _require(info == 0 and info.iterations < cold.iterations, "a good x0 did not help")
    require_honest(A, b, x, info, rtol)
    x, info = m(A, b, x0=np.ones((len(b), 1)), rtol=rtol)
    _require(info == 0 and x.shape == b.shape, f"x0 (n, 1): {info.reason}, x {x.shape}")
    x, info = m(A, b, "Mb", rtol=rtol)
    require_honest(A, b, x, info, rtol)
    _require(info == 0, f"x0 = 'Mb': {info.reason}")


def _zero_rhs(m: _Method) -> None:
    """b = 0 has the answer zero at once, whatever x0 is, in a new array."""
    A, b, rtol = m.system()
    zero = np.zeros_like(b)
    for start in (None, np.ones_like(b)):
        for tolerances in (dict(rtol=rtol), dict(rtol=0.0, atol=0.0)):
            x, info = m(A, zero, start, **tolerances)
            _require(info == 0 and info.converged, f"b = 0: {info.reason}")
            _require(not np.any(x) and x is not zero, "b = 0: x is not a new zero")
            _require(info.matvecs <= 1, f"b = 0 took {info.matvecs} products")


def _calls_back(m: _Method) -> None:
    """The callback sees every iterate, changes nothing, and ends the solve by StopIteration."""
    A, b, rtol = m.system()
    plain, silent = m(A, b, rtol=rtol)
    seen: list[np.ndarray] = []
    x, info = m(A, b, rtol=rtol, callback=lambda v: seen.append(np.array(v)))
    _require(np.array_equal(x, plain), "the answer differs with a callback")
    _require(np.array_equal(info.residuals, silent.residuals), "the history differs")
    _require(info.matvecs == silent.matvecs, "the number of products differs")
    if m.takes("callback_type"):
        _require(1 <= len(seen) <= info.iterations, f"{len(seen)} calls for {info.iterations}")
    else:
        _require(len(seen) == info.iterations, f"{len(seen)} calls, {info.iterations} iterations")
    _require(all(v.shape == b.shape for v in seen), "the callback got something not like x")

    def spoil(v: np.ndarray) -> None:
        try:
            v[:] = np.nan
        except ValueError:
            pass  # read-only, which is as good as a copy

    x, info = m(A, b, rtol=rtol, callback=spoil)
    _require(np.array_equal(x, plain), "a callback that writes to its argument changed the answer")

    def stop(v: Any) -> None:
        raise StopIteration

    few = dict(restart=2) if m.takes("restart") else {}
    x, info = m(A, b, rtol=rtol, callback=stop, **few)
    _require(info > 0 and info.reason is Reason.STOPPED, f"after StopIteration: {info.reason}")
    _require(info.iterations <= 2, f"StopIteration at once, yet {info.iterations} iterations")
    require_honest(A, b, x, info, rtol)

    def fail(v: Any) -> None:
        raise KeyError("mine")

    try:
        m(A, b, rtol=rtol, callback=fail)
    except KeyError:
        return
    raise AssertionError("an error raised by the callback was swallowed")


def _honours_maxiter(m: _Method) -> None:
    """maxiter bounds the iterations; converging in the last one is a success."""
    A, b, rtol = m.system()
    # A restarted method counts cycles: let them be steps.
    few = dict(restart=1) if m.takes("restart") else {}
    _, full = m(A, b, rtol=rtol, **few)
    _require(full == 0 and full.iterations > 3, f"no limit: {full.reason}")
    for limit in (1, 3):
        x, info = m(A, b, rtol=rtol, maxiter=limit, **few)
        _require(info.iterations <= limit, f"maxiter {limit}: {info.iterations} iterations")
        _require(info.reason is Reason.MAXITER, f"maxiter {limit}: {info.reason.name}")
        _require(info == info.iterations or info == 1, f"maxiter {limit}: info is {int(info)}")
        _require(info.matvecs <= 4 * limit + 4, f"maxiter {limit}: {info.matvecs} products")
        require_honest(A, b, x, info, rtol)
    x, info = m(A, b, rtol=rtol, maxiter=0, **few)
    _require(info > 0 and not np.any(x), f"maxiter 0: {info.reason}")
    _require(info.iterations == 0, f"maxiter 0: {info.iterations} iterations")
    _, info = m(A, b, rtol=rtol, maxiter=full.iterations, **few)
    _require(info == 0, f"converged in the last iteration allowed, yet {info.reason}")


def _stops_at_nan(m: _Method) -> None:
    """NaN or Inf in A, b, x0 or M ends the solve at once, with a reason that says where."""
    A, b, rtol = m.system()
    for bad in (np.nan, np.inf):
        spoilt = b.copy()
        spoilt[3] = bad
        _, info = m(A, spoilt, rtol=rtol)
        _require(info.reason is Reason.NONFINITE_RHS, f"{bad} in b: {info.reason.name}")
        _require(info < 0 and info.matvecs <= 2, f"{bad} in b: {info.matvecs} products")
        _, info = m(A, b, spoilt, rtol=rtol)
        _require(info.reason is Reason.NONFINITE_START, f"{bad} in x0: {info.reason.name}")
        _require(info < 0 and info.matvecs <= 2, f"{bad} in x0: {info.matvecs} products")
        broken = A.copy()
        broken.data[10] = bad
        for form in (broken, broken.toarray()):
            try:
                x, info = m(form, b, rtol=rtol)
            except (ValueError, ArithmeticError) as error:
                _require(m.needs_entries and str(error), f"{bad} in A: raised {error!r}")
                continue
            _require(info < 0, f"{bad} in A: info {int(info)}, {info.reason.name}")
            _require(info.reason is Reason.NONFINITE_OPERATOR, f"{bad} in A: {info.reason.name}")
            _require(info.matvecs <= 4, f"{bad} in A: {info.matvecs} products")
    if m.needs_entries:
        return
    for when in range(1, 5):
        calls: list[int] = []

        def turns_bad(v, calls=calls, when=when):
            calls.append(1)
            return A @ v if len(calls) < when else np.full_like(v, np.nan)

        _, info = m(m.operator(A, turns_bad), b, rtol=rtol, maxiter=200)
        _require(info.reason is Reason.NONFINITE_OPERATOR,
                 f"A @ v turns to NaN at product {when}: {info.reason.name}")  # fmt: skip
        _require(len(calls) <= when + 4, f"A @ v turns to NaN at {when}: {len(calls)} products")
        if not m.preconditioned:
            continue
        calls.clear()

        def turns(v, calls=calls, when=when):
            calls.append(1)
            return v.copy() if len(calls) < when else np.full_like(v, np.nan)

        M = spla.LinearOperator(A.shape, matvec=turns, rmatvec=turns, dtype=A.dtype)
        _, info = m(A, b, rtol=rtol, M=M, maxiter=200)
        _require(info.reason is Reason.NONFINITE_PRECONDITIONER,
                 f"M @ v turns to NaN at product {when}: {info.reason.name}")  # fmt: skip
        _require(len(calls) <= when + 4, f"M @ v turns to NaN at {when}: {len(calls)} products")


def _refuses(m: _Method) -> None:
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
    if not m.takes("btol"):  # scipy's least squares takes more by position
        wrong["rtol by position"] = (TypeError, (A, b, None, 1e-5), {})
    if not m.adjoint:
        wrong["A not square"] = (ValueError, (A[:, :-1], b), {})
    if m.preconditioned:
        wrong["M too small"] = (ValueError, (A, b), dict(M=np.eye(n - 1)))
        wrong["M unknown"] = (ValueError, (A, b), dict(M="no such thing"))
    for what, (kind, positional, named) in wrong.items():
        try:
            if len(positional) > 3:
                m.f(*positional)
            else:
                m(*positional, **named)
        except kind as error:
            _require(str(error), f"{what}: {kind.__name__} without a message")
        except Exception as error:
            raise AssertionError(f"{what}: {error!r} instead of {kind.__name__}") from error
        else:
            raise AssertionError(f"{what}: accepted, instead of {kind.__name__}")


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


def _uses_preconditioner(m: _Method) -> None:
    """M is used and counted: an exact inverse needs at most 3 products; a trait is respected."""
    kind = "general" if m.matrix == "general" else "spd"
    if not m.preconditioned:
        A = example_matrix(m.matrix)
        try:
            m(A, A @ np.ones(A.shape[0]), M=np.eye(A.shape[0]))
        except (ValueError, TypeError) as error:
            _require(str(error), "an M was refused without a message")
            return
        raise AssertionError("an M was accepted by a method that has none")
    for dtype in m.dtypes:
        A = example_matrix(kind, dtype)
        b, rtol = example_vector(A.shape[0], dtype), _rtol(dtype)
        inverse = np.linalg.inv(A.toarray())
        _, without = m(A, b, rtol=rtol)
        for name, M in {
            "ndarray": inverse, "sparse": sp.csr_array(inverse), "LinearOperator":
            spla.aslinearoperator(inverse),
        }.items():  # fmt: skip
            kept = _content(M)
            x, info = m(A, b, rtol=rtol, M=M)
            _require(info == 0, f"exact inverse, {name}, {dtype}: {info.reason}")
            _require(info.matvecs <= 3, f"exact inverse, {name}, {dtype}: {info.matvecs} products")
            _require(info.precond_applies > 0, "precond_applies was not counted")
            _require(x.dtype == np.dtype(dtype), f"{dtype} with M came back as {x.dtype}")
            _require(_content(M) == kept, "M was changed")
            require_honest(A, b, x, info, rtol)
        x, info = m(A, b, rtol=rtol, M="jacobi")
        _require(info == 0, f"M='jacobi', {dtype}: {info.reason}")
        _require(info.setup_seconds > 0, "setup_seconds of M was not passed on")
        require_honest(A, b, x, info, rtol)
    M = _Changing(A.shape[0], A.dtype)
    if m.flexible:
        x, info = m(A, b, rtol=rtol, M=M)
        _require(info == 0, f"an M that changes: {info.reason}")
        require_honest(A, b, x, info, rtol)
        return
    flexible = [entry.name for entry in registry.entries("method") if entry.flexible]
    try:
        m(A, b, M=M)
    except ValueError as error:
        _require(any(name in str(error) for name in flexible),
                 f"the refusal of a nonlinear M names none of {flexible}: {error}")  # fmt: skip
    else:
        raise AssertionError("a nonlinear M was accepted by a method that is not flexible")


def _keeps_record(m: _Method) -> None:
    """info counts what was done, can be pickled, and times itself."""
    A, b, rtol = m.system()
    _, info = m(A, b, rtol=rtol)
    again = pickle.loads(pickle.dumps(info))
    _require(again == info and type(again) is type(info), "info changed in a pickle")
    _require(again.reason is info.reason, "info.reason changed in a pickle")
    _require(np.array_equal(again.residuals, info.residuals), "residuals changed in a pickle")
    _require(info.solve_seconds > 0 and info.setup_seconds >= 0, "no times were taken")
    _require(isinstance(info.method, str) and info.method, "info.method is empty")
    _require(repr(info) and str(info), "info does not print")
    if m.needs_entries:
        return
    calls: list[str] = []
    adjoint = A.conj().T
    counted = spla.LinearOperator(
        A.shape, dtype=A.dtype, matvec=lambda v: calls.append("A") or A @ v,  # type: ignore
        rmatvec=lambda v: calls.append("H") or adjoint @ v,  # type: ignore[func-returns-value]
    )  # fmt: skip
    _, info = m(counted, b, rtol=rtol)
    _require(info.matvecs == len(calls), f"info.matvecs is {info.matvecs}, A saw {len(calls)}")
    _require(m.adjoint or "H" not in calls, "it used the adjoint and did not say so")
    if m.preconditioned:
        calls.clear()
        M = spla.LinearOperator(
            A.shape, dtype=A.dtype, matvec=lambda v: calls.append("M") or 1 * v,  # type: ignore
        )  # fmt: skip
        _, info = m(A, b, rtol=rtol, M=M)
        _require(info.precond_applies == len(calls),
                 f"info.precond_applies is {info.precond_applies}, M saw {len(calls)}")  # fmt: skip


def _same_for_threads(m: _Method) -> None:
    """The answer is the same to the bit for 1 and 2 threads, and for two solves at once."""
    A = example_matrix(m.matrix, "d", LARGE)
    b = example_vector(A.shape[0])
    few = dict(restart=2) if m.takes("restart") else {}

    def large() -> tuple[np.ndarray, Any]:
        return m(A, b, rtol=1e-14, maxiter=2, **few)

    before = get_num_threads()
    try:
        set_num_threads(1)
        one, info = large()
        set_num_threads(2)
        two, same = large()
        _require(np.array_equal(one, two), "1 and 2 threads have different answers")
        _require(np.array_equal(info.residuals, same.residuals), "... and different histories")
        both = at_once([large, large])
        _require(all(np.array_equal(one, x) for x, _ in both), "two large solves at once differ")
    finally:
        set_num_threads(before)
    A, b, rtol = m.system()
    tasks = [functools.partial(m, A, example_vector(len(b), seed=k), rtol=rtol) for k in range(8)]
    alone = [task() for task in tasks]
    for (x, _), (y, _) in zip(alone, at_once(tasks)):
        _require(np.array_equal(x, y), "eight small solves at once differ from one at a time")


METHOD_PROMISES: dict[str, Callable[[_Method], None]] = {
    "converges": _converges,
    "never lies": _never_lies,
    "shapes": _shapes,
    "leaves inputs": _leaves_inputs,
    "takes operands": _takes_operands,
    "starts": _starts,
    "zero right-hand side": _zero_rhs,
    "calls back": _calls_back,
    "honours maxiter": _honours_maxiter,
    "stops at NaN": _stops_at_nan,
    "refuses": _refuses,
    "uses M": _uses_preconditioner,
    "keeps a record": _keeps_record,
    "same for threads": _same_for_threads,
}


def check_method(f: Callable[..., Any], *, matrix: str = "general", flexible: bool = False,
                 adjoint: bool = False, needs_entries: bool = False,
                 preconditioned: bool | None = None, dtypes: str = "fdFD",
                 options: dict[str, Any] | None = None,
                 only: Iterable[str] | None = None) -> None:  # fmt: skip
    """Check that a method keeps the promises that every method of this library makes.

    Parameters
    ----------
    f : callable
        Called as ``f(A, b, x0=, rtol=, atol=, maxiter=, M=, callback=)``; returns ``(x, info)``.
    matrix : {'spd', 'hermitian', 'general', 'dominant'}
        What it needs of A.
    flexible : bool
        M may change from step to step.
    adjoint : bool
        It takes products with the adjoint of A; A need then not be square.
    needs_entries : bool
        A must have explicit entries.
    preconditioned : bool, optional
        It takes an M; by default where it has that argument and needs no entries.
    dtypes : str
        The characters of those it is checked in.
    options : dict, optional
        Further arguments for each call.
    only : iterable of str, optional
        Names from `METHOD_PROMISES`; all by default.

    Raises
    ------
    AssertionError
        If a promise is broken; the message names each that is.

    Examples
    --------
    >>> import krylearn as kl
    >>> kl.testing.check_method(kl.cg, matrix="spd", only=["starts", "zero right-hand side"])
    """
    if preconditioned is None:
        preconditioned = not needs_entries and "M" in inspect.signature(f).parameters
    method = _Method(f, matrix, flexible, adjoint, needs_entries, preconditioned, dtypes,
                     dict(options or {}))  # fmt: skip
    _check(METHOD_PROMISES, method, getattr(f, "__name__", repr(f)), only)


def _check(promises: dict[str, Callable[[Any], None]], subject: Any, name: str,
           only: Iterable[str] | None) -> None:  # fmt: skip
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


# -- preconditioners -------------------------------------------------------------------------


@dataclass(frozen=True)
class _Factory:
    """What makes a preconditioner, and what it needs of A."""

    make: Callable[[Any], Any]
    matrix: str
    dtypes: str

    def pair(self, dtype: Any = "d") -> tuple[sp.csr_array, Any]:
        A = example_matrix(self.matrix, dtype)
        return A, self.make(A)


def _dense(M: Any) -> np.ndarray:
    return np.column_stack([M.matvec(e) for e in np.eye(M.shape[0], dtype=M.dtype)])


def _is_operator(p: _Factory) -> None:
    """It is a scipy LinearOperator of A's shape and dtype, with traits."""
    for dtype in p.dtypes:
        A, M = p.pair(dtype)
        _require(isinstance(M, spla.LinearOperator), f"a {type(M).__name__} is no LinearOperator")
        _require(tuple(M.shape) == A.shape, f"shape {M.shape} for an A of shape {A.shape}")
        _require(M.dtype == A.dtype, f"dtype {M.dtype} for an A of dtype {A.dtype}")
        for trait in ("linear", "symmetric", "positive_definite"):
            value = getattr(M, trait, "absent")
            _require(value in (True, False, None), f"{trait} is {value!r}")
        _require(M.setup_seconds >= 0, "setup_seconds is negative")
        _require(repr(M), "it does not print")


def _traits_true(p: _Factory) -> None:
    """Its traits are true: linear, symmetric, positive definite."""
    for dtype in p.dtypes:
        A, M = p.pair(dtype)
        n, small = A.shape[0], 100 * _eps(dtype)
        r, s = example_vector(n, dtype, 3), example_vector(n, dtype, 4)
        if M.linear:
            whole, parts = M @ (3 * r - s), 3 * (M @ r) - M @ s
            error = np.linalg.norm(whole - parts) / np.linalg.norm(whole)
            _require(error < small, f"{dtype}: linear, yet the rule is off by {error:.1e}")
        if M.symmetric:
            there, back = np.vdot(s, M @ r), np.vdot(M @ s, r)
            size = np.linalg.norm(s) * np.linalg.norm(M @ r)
            error = abs(there - back) / size
            _require(error < small, f"{dtype}: symmetric, yet <s, M r> is off by {error:.1e}")
            error = np.linalg.norm(M.rmatvec(r) - M @ r) / np.linalg.norm(M @ r)
            _require(error < small, f"{dtype}: symmetric, yet rmatvec is another map")
        if M.linear and M.positive_definite:
            P = _dense(M)
            low = np.linalg.eigvalsh((P + P.conj().T) / 2)[0]
            _require(low > 0, f"{dtype}: positive definite, yet an eigenvalue is {low:.1e}")


def _applies(p: _Factory) -> None:
    """apply writes into out alone; vectors, columns, blocks, strided and read-only are taken."""
    for dtype in p.dtypes:
        A, M = p.pair(dtype)
        n = A.shape[0]
        R = np.stack([example_vector(n, dtype, k) for k in range(3)], axis=1)
        R.flags.writeable = False
        kept = R.copy()
        expected = M.matvec(R[:, 1])
        _require(expected.dtype == A.dtype, f"dtype {dtype} came back as {expected.dtype}")
        _require((M @ R[:, 1]).shape == (n,), "(n,) lost its shape")
        _require((M @ R[:, :1]).shape == (n, 1), "(n, 1) lost its shape")
        block = M @ R
        _require(block.shape == R.shape and block.dtype == A.dtype, "a block lost shape or dtype")
        close = np.allclose(block[:, 1], expected, rtol=50 * _eps(dtype), atol=50 * _eps(dtype))
        _require(close, "a column of a block has another answer than alone")
        if hasattr(M, "apply"):
            r, out = np.ascontiguousarray(R[:, 1]), np.full(n, np.nan, dtype)
            r.flags.writeable = False
            _require(M.apply(r, out) is out, "apply does not return out")
            _require(np.array_equal(out, expected), "apply and @ differ, or apply reads out")
            _require(not np.shares_memory(M @ r, M @ r), "two products share memory")
        _require(np.array_equal(R, kept), "the input changed")
        _require(np.array_equal(M.matvec(R[:, 1]), expected), "the same input has two answers")


def _updates(p: _Factory) -> None:
    """update(A) gives what a new one would be, and leaves A as it is."""
    for dtype in p.dtypes:
        A, M = p.pair(dtype)
        r = example_vector(A.shape[0], dtype)
        before = M @ r
        other = A.copy()
        other.data *= np.where(other.data.real > 0, 1.5, 0.75).astype(other.data.real.dtype)
        kept = _content(A), _content(other)
        result = M.update(other)
        _require(result is M, "update does not return the preconditioner")
        _require((_content(A), _content(other)) == kept, "update changed a matrix")
        fresh = p.make(other) @ r
        error = np.linalg.norm(M @ r - fresh) / np.linalg.norm(fresh)
        _require(error < 100 * _eps(dtype), f"{dtype}: update differs from new by {error:.1e}")
        _require(np.array_equal(M.update(A) @ r, before), "updating back has another answer")
    pattern = sp.csr_array(A + sp.diags_array([np.ones(3)], offsets=[A.shape[0] - 3],
                                              shape=A.shape) * 0.1)  # fmt: skip
    pattern = sp.csr_array((pattern + pattern.conj().T) / 2).astype(A.dtype)
    try:
        M.update(pattern)
    except ValueError as error:
        _require(str(error), "another pattern was refused without a message")
        _require(np.array_equal(M @ r, before), "a refused update left it changed")
    else:
        gap = np.linalg.norm(M @ r - p.make(pattern) @ r)
        _require(gap < 100 * _eps(dtype) * np.linalg.norm(r), "another pattern: wrong, silently")


def _pickles(p: _Factory) -> None:
    """It survives a pickle, and so do its traits."""
    for dtype in p.dtypes:
        A, M = p.pair(dtype)
        r = example_vector(A.shape[0], dtype)
        M @ r  # with whatever it makes at first use
        again = pickle.loads(pickle.dumps(M))
        _require(np.array_equal(again @ r, M @ r), f"{dtype}: another map came out of the pickle")
        for trait in ("linear", "symmetric", "positive_definite"):
            _require(getattr(again, trait) == getattr(M, trait), f"{trait} changed in the pickle")
        _require(np.array_equal(again.update(A) @ r, M @ r), "update fails after a pickle")


def _is_thread_safe(p: _Factory) -> None:
    """Threads may use one preconditioner at once; 1 and 2 threads give the same to the bit."""
    A, M = p.pair()
    vectors = [example_vector(A.shape[0], seed=k) for k in range(8)]
    alone = [M @ r for r in vectors]

    def repeat(r: np.ndarray) -> list[np.ndarray]:
        return [M @ r for _ in range(50)]

    for expected, found in zip(alone, at_once([functools.partial(repeat, r) for r in vectors])):
        _require(all(np.array_equal(expected, y) for y in found), "threads spoil each other")
    A = example_matrix(p.matrix, "d", LARGE)
    r = example_vector(A.shape[0])
    before = get_num_threads()
    try:
        set_num_threads(1)
        one = p.make(A) @ r
        set_num_threads(2)
        large = p.make(A)
        _require(np.array_equal(one, large @ r), "1 and 2 threads give different answers")
        both = at_once([lambda: large @ r, lambda: large @ r])
        _require(all(np.array_equal(one, y) for y in both), "two large products at once differ")
    finally:
        set_num_threads(before)


def _leaves_matrix(p: _Factory) -> None:
    """Making it leaves A as it is; every format, dense and read-only matrices are taken."""
    A, M = p.pair()
    r = example_vector(A.shape[0])
    expected = M @ r
    frozen = A.copy()
    for array in (frozen.data, frozen.indices, frozen.indptr):
        array.flags.writeable = False
    forms = {
        "read-only": frozen, "csc_array": A.tocsc(), "coo_array": A.tocoo(), "csr_matrix":
        sp.csr_matrix(A), "ndarray": A.toarray(), "Fortran order": np.asfortranarray(A.toarray()),
    }  # fmt: skip
    for name, form in forms.items():
        kept = _content(form)
        y = p.make(form) @ r
        close = np.allclose(y, expected, rtol=1e-12, atol=1e-12)
        _require(close, f"{name}: another preconditioner")
        _require(_content(form) == kept, f"{name}: the matrix changed")
    for name, wrong in (("not square", A[:, :-1]), ("one-dimensional", np.ones(4))):
        try:
            p.make(wrong)
        except (ValueError, TypeError) as error:
            _require(str(error), f"{name}: refused without a message")
        except Exception as error:
            raise AssertionError(f"{name}: {error!r} instead of a ValueError") from error
        else:
            raise AssertionError(f"a matrix that is {name} was accepted")


def _serves_scipy(p: _Factory) -> None:
    """scipy's cg or gmres, and ours, converge with it in no more iterations than without."""
    from krylearn.solvers.krylov.fgmres import fgmres

    for dtype in p.dtypes:
        A, M = p.pair(dtype)
        b, rtol = example_vector(A.shape[0], dtype), 10 * _rtol(dtype)
        spd = M.symmetric and M.positive_definite and p.matrix != "general"
        solver: Any = spla.cg if spd else spla.gmres
        counts = []
        for given in (None, M):
            calls: list[int] = []
            more: dict[str, Any] = {} if spd else dict(callback_type="pr_norm")
            x, info = solver(A, b, rtol=rtol, M=given, callback=lambda v, c=calls: c.append(1),
                             **more)  # fmt: skip
            _require(info == 0, f"{dtype}: scipy's {solver.__name__} ended with {info}")
            counts.append(len(calls))
        residual = np.linalg.norm(b - A @ x) / np.linalg.norm(b)
        _require(residual < 20 * rtol, f"{dtype}: scipy's residual is {residual:.1e}")
        _require(counts[1] <= counts[0], f"{dtype}: {counts[1]} iterations, {counts[0]} without")
        x, found = fgmres(A, b, rtol=rtol, M=M)
        _require(found == 0 and x.dtype == np.dtype(dtype), f"{dtype}: fgmres: {found.reason}")


PRECONDITIONER_PROMISES: dict[str, Callable[[_Factory], None]] = {
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
    matrix : {'spd', 'hermitian', 'general', 'dominant'}
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
    _check(PRECONDITIONER_PROMISES, _Factory(factory, matrix, dtypes), name, only)
