"""Matrices whose pattern is that of nearest neighbours on a grid."""

from __future__ import annotations

from typing import Any

import numpy as np

from krylearn.grid import Grid, GridOperator
from krylearn.solvers.relaxation.splitting import all_finite, square_csr


def as_grid_operator(A: Any, name: str) -> GridOperator:
    """Return `A` as an operator on a grid, in a working dtype.

    A sparse or dense matrix will do if it couples nearest neighbours on a grid in C order that
    does not close on itself; the distances of its diagonals tell the shape.

    Raises
    ------
    TypeError
        If A gives products only.
    ValueError
        If A is not square, not such a matrix, not Hermitian, or its diagonal is not positive.
    """
    if not isinstance(A, GridOperator):
        A = _from_csr(square_csr(A, name), name)
    if A.dtype not in (np.float32, np.float64, np.complex64, np.complex128):
        A = A.astype(np.complex128 if A.dtype.kind == "c" else np.float64)
    if not np.all(np.isfinite(A._stack)):
        raise ValueError(f"{name}: A holds NaN or Inf")
    if not A.symmetric:
        raise ValueError(f"{name} needs a Hermitian operator; use gmres with ilu0")
    if len(A._stack) > 1 + A.grid.ndim:
        raise ValueError(f"{name} needs a Hermitian operator; this one's lower entries differ")
    if np.any(A._stack[0].real <= 0):
        raise ValueError(f"{name} needs a positive diagonal; use minres or gmres")
    return A


def _from_csr(A: Any, name: str) -> GridOperator:
    n = A.shape[0]
    if n == 0:
        raise ValueError(f"{name} needs at least one unknown")
    if not all_finite(A):
        raise ValueError(f"{name}: A holds NaN or Inf")
    refusal = f"{name} needs nearest-neighbour couplings on a grid; use multigrid for a matrix"
    if np.any(A.data == 0):
        A = A.copy()
        A.eliminate_zeros()
    offsets = np.unique(A.indices - np.repeat(np.arange(n), np.diff(A.indptr)))
    ahead = [int(k) for k in offsets if k > 0]
    # Strides of the axes, the last being 1.
    if len(ahead) > 3 or (len(offsets) - len(ahead) > 4):
        raise ValueError(refusal)
    strides = sorted({1, *ahead}, reverse=True)
    sizes = [n, *strides[:-1]]
    if len(strides) > 3 or any(a % b for a, b in zip(sizes, strides)):
        raise ValueError(refusal)
    shape = tuple(a // b for a, b in zip(sizes, strides))
    upper: list[np.ndarray] = []
    lower: list[np.ndarray] = []
    kept = np.count_nonzero(A.diagonal())
    for axis, stride in enumerate(strides):
        for k, side in ((stride, upper), (-stride, lower)):
            values = np.zeros(n, A.dtype)
            along = A.diagonal(k) if stride < n else np.zeros(0, A.dtype)
            values[: n - stride] = along if k > 0 else np.conj(along)
            kept += np.count_nonzero(along)
            side.append(values.reshape(shape))
            if np.any(np.take(side[-1], shape[axis] - 1, axis)):
                raise ValueError(refusal)
    if kept != np.count_nonzero(A.data):
        raise ValueError(refusal)
    if not all(np.allclose(u, v, rtol=1e-6, atol=0) for u, v in zip(upper, lower)):
        raise ValueError(f"{name} needs a Hermitian matrix; use gmres with ilu0")
    diagonal = A.diagonal().reshape(shape)
    if np.any(diagonal.imag):
        raise ValueError(f"{name} needs a Hermitian matrix; use gmres with ilu0")
    boundary, cells = _sides(shape, diagonal, upper)
    grid = Grid(shape, boundary=boundary, centering="cell" if cells else "node")
    if np.ptp(diagonal.real) == 0:
        first = [u[(0,) * len(shape)] for u in upper]
        same = [
            np.all(np.delete(u, -1, axis) == k) for axis, (u, k) in enumerate(zip(upper, first))
        ]
        if all(same):
            return GridOperator(grid, diagonal.ravel()[0], first)
    return GridOperator(grid, diagonal, upper, symmetric=True)


def _sides(shape: tuple[int, ...], diagonal: np.ndarray, upper: list[np.ndarray]
           ) -> tuple[list[tuple[str, str]], bool]:  # fmt: skip
    """Return what holds at the sides, judged by how much the diagonal exceeds the couplings."""
    excess = diagonal.real.copy()
    for axis, u in enumerate(upper):
        excess -= abs(u) + abs(np.roll(u, 1, axis))
    boundary, ratios = [], []
    for axis, n in enumerate(shape):
        pair = []
        for at, inner in ((0, min(1, n - 1)), (n - 1, max(0, n - 2))):
            more = np.median(np.take(excess, at, axis)) - (
                np.median(np.take(excess, inner, axis)) if n > 2 else 0
            )
            link = np.median(np.abs(np.take(upper[axis], min(at, inner), axis)))
            held = more > 0.1 * link
            pair.append("dirichlet" if held else "neumann")
            if held and link:
                ratios.append(more / link)
        boundary.append((pair[0], pair[1]))
    cells = not ratios or float(np.median(ratios)) > 1.5 or min(shape) == 1
    return boundary, cells
