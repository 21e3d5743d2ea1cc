"""Matrices whose pattern is that of nearest neighbours on a grid."""

from __future__ import annotations

from typing import Any

import numpy as np

from krylearn.grid import Grid, GridOperator
from krylearn.grid.box import neighbour
from krylearn.grid.matrix import sparse_box_of, stencil_on
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
    shape = sparse_box_of(A)
    stack = None if shape is None else stencil_on(A, shape)
    if shape is None or stack is None:
        raise ValueError(refusal)
    ndim = len(shape)
    diagonal, upper = stack[0], list(stack[1 : 1 + ndim])
    for axis, u in enumerate(upper):
        lower = neighbour(stack[1 + ndim + axis], axis, 1)
        if not np.allclose(u, lower, rtol=1e-6, atol=0):
            raise ValueError(f"{name} needs a Hermitian matrix; use gmres with ilu0")
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
            return GridOperator(grid, diagonal.ravel()[0], first).astype(A.dtype)
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
