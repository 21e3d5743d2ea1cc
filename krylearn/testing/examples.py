"""Systems that promises are checked on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla

from krylearn.grid import Grid, GridOperator

KINDS = ("spd", "hermitian", "general", "dominant", "separable")
# Enough unknowns that kernels share their work among threads.
LARGE = 370


def _known(kind: str) -> None:
    if kind not in KINDS:
        raise ValueError(f"matrix must be one of {KINDS}, not {kind!r}")


@functools.cache
def example_matrix(kind: str, dtype: Any = "d", side: int = 7) -> sp.csr_array:
    """Return a well-conditioned sparse matrix of ``side**2`` rows, strictly dominant.

    Parameters
    ----------
    kind : {'spd', 'hermitian', 'general', 'dominant', 'separable'}
        'hermitian' is indefinite, 'general' has no symmetry; the others are Hermitian positive
        definite, with no positive entry off the diagonal where they are real; 'separable' has
        constant coefficients.
    dtype : dtype
    side : int
        Of the square grid whose five-point stencil gives the pattern.
    """
    _known(kind)
    n = side * side
    rng = np.random.default_rng(0)
    line = sp.diags_array(np.ones(side - 1), offsets=1, shape=(side, side))
    ahead = sp.csr_array(sp.kron(sp.eye_array(side), line) + sp.kron(line, sp.eye_array(side)))
    if np.dtype(dtype).kind == "c":
        ahead = ahead.astype(complex)
        phases = rng.uniform(0, 2 * np.pi, ahead.nnz)
        ahead.data *= np.exp(0.3j if kind == "separable" else 1j * phases)
    skew = 0.4 if kind == "general" else 0.0
    A = -(1 + skew) * ahead - (1 - skew) * ahead.conj().T
    excess = np.full(n, 0.5) if kind == "separable" else rng.random(n)
    A = sp.csr_array(A + sp.diags_array(5.0 + excess))
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


def example_grid_operator(kind: str, dtype: Any = "d", varying: bool = True) -> GridOperator:
    """Return a well-conditioned operator on a grid of 6 by 7 points, strictly dominant.

    Parameters
    ----------
    kind : {'spd', 'hermitian', 'general', 'dominant', 'separable'}
        As for `example_matrix`.
    dtype : dtype
        Complex operators have complex couplings.
    varying : bool
        Coefficients vary over the grid, those of 'separable' along their own axis; where not,
        'hermitian' is definite.
    """
    _known(kind)
    grid = Grid((6, 7), lengths=(7.0, 8.0))
    coefficient: Any = 1.0
    reaction: Any = 1.0
    if varying and kind == "separable":
        rows, columns = (1 + np.arange(n) / n for n in grid.shape)
        coefficient = [np.broadcast_to(c, grid.shape) for c in (rows[:, None], columns)]
    elif varying:
        reaction = 1 + np.random.default_rng(0).random(grid.shape)
        if kind == "hermitian":
            reaction[4:] -= 10  # turns the sign of the diagonal there
    A = GridOperator.diffusion(grid, coefficient, reaction)
    if kind == "general":
        A = A + GridOperator.convection(grid, (0.4, -0.3))
    if np.dtype(dtype).kind == "c":
        A = A + GridOperator(grid, 0.0, [0.2j, 0.3j])
    return A.astype(dtype)


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


def as_operator(A: Any, product: Callable | None = None,
                adjoint: Callable | None = None) -> spla.LinearOperator:  # fmt: skip
    """Return `A`, a matrix, as an operator; its products may be replaced."""
    H = A.conj().T
    return spla.LinearOperator(
        A.shape, matvec=product or (lambda v: A @ v), rmatvec=adjoint or (lambda v: H @ v),
        dtype=A.dtype,
    )  # fmt: skip


def watched(product: Callable, calls: list[str], mark: str = "",
            nan_from: float = np.inf) -> Callable:  # fmt: skip
    """Return `product` that notes each call, and gives NaN from that one on."""

    def call(v: np.ndarray) -> np.ndarray:
        calls.append(mark)
        return product(v) if len(calls) < nan_from else np.full_like(v, np.nan)

    return call


def to_dense(A: Any) -> np.ndarray:
    """Return a sparse or dense matrix as an array."""
    return A.toarray() if sp.issparse(A) else np.asarray(A)


def arrays_of(operand: Any) -> list[np.ndarray]:
    """Return the arrays that an operand holds; what scipy notes of it in passing is left out."""
    if not sp.issparse(operand):
        return [operand.A if hasattr(operand, "matvec") else operand]
    if hasattr(operand, "indptr"):
        return [operand.indptr, operand.indices, operand.data]
    return [*operand.coords, operand.data]


def freeze(*operands: Any) -> None:
    """Make operands read-only."""
    for operand in operands:
        for array in arrays_of(operand):
            array.flags.writeable = False


def eps(dtype: Any) -> float:
    """Return the rounding error of a dtype."""
    return float(np.finfo(dtype).eps)


def tolerance(dtype: Any) -> float:
    """Return an rtol that a dtype can well reach."""
    return 1e-4 if eps(dtype) > 1e-10 else 1e-8
