"""Which operators are a sum of tridiagonal matrices, one along each axis of a box."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from krylearn.grid import GridOperator
from krylearn.grid.box import Grid
from krylearn.grid.discretise import with_lower
from krylearn.grid.matrix import box_of, stencil_on
from krylearn.solvers.relaxation.splitting import square_csr


class NotSeparable(ValueError):
    """A matrix is not a sum of one-dimensional ones; the message says what else to use."""

    def __init__(self, why: str) -> None:
        super().__init__(
            "fast_poisson needs coefficients that are constant, or vary along their own axis "
            f"alone, on a box: {why}; use multigrid, or direct"
        )


@dataclass(frozen=True)
class Axis:
    """A tridiagonal matrix, with corners where the axis is periodic, and weights.

    Attributes
    ----------
    periodic : bool
    diagonal, upper, lower : (n,) arrays
        ``T[i, i]``, ``T[i, i + 1]`` and ``T[i, i - 1]``: around the end where periodic, else zero.
    weights : (n,) array
        Positive.
    """

    periodic: bool
    diagonal: np.ndarray
    upper: np.ndarray
    lower: np.ndarray
    weights: np.ndarray

    def __len__(self) -> int:
        return len(self.diagonal)


def separate(A: Any) -> list[Axis]:
    """Return matrices T and weights w, one of each for an axis, of which A is made.

    A is ``W (T_1 x I x I + I x T_2 x I + I x I x T_3)``, x being the Kronecker product, and W the
    diagonal matrix of ``w_1 x w_2 x w_3``: Neumann nodes have half a control volume.

    Parameters
    ----------
    A : {GridOperator, sparse array, ndarray}
        A matrix is taken where its diagonals are those of a box that is not periodic.

    Raises
    ------
    NotSeparable
        If A is something else.
    TypeError
        If A gives products only.
    """
    if isinstance(A, GridOperator):
        if A.mask is not None:
            raise NotSeparable("a mask cuts the box")
        shape, periodic = A.grid.shape, A.grid.periodic
        _require_likely(A._stack[1 : 1 + A.grid.ndim])
        stack = with_lower(A._stack, A.grid.ndim)
        weights = [weights_along(A.grid, d) for d in range(A.grid.ndim)]
    else:
        shape, stack = _box(square_csr(A, "fast_poisson"))
        periodic, weights = (False,) * len(shape), [np.ones(n) for n in shape]
    if not np.isfinite(stack).all():
        raise ValueError("fast_poisson: A holds NaN or Inf")
    for d in range(len(shape)):
        stack = _without_repetition(stack, d)
    ndim = len(shape)
    weights = [w if len(w) == n else w[[0, 1, -1]] for w, n in zip(weights, stack.shape[1:])]
    lines = _lines(stack[0], stack[1 : 1 + ndim], np.conj(stack[1 + ndim :]), weights)
    return [
        Axis(wraps, *(_spread(v, n) for v in line))
        for line, n, wraps in zip(lines, shape, periodic)
    ]


def _require_likely(upper: np.ndarray) -> None:
    """Refuse, from a few points, couplings that are no product of one factor for each axis."""
    places = [np.unique(np.linspace(0, n - 1, 6).astype(int)) for n in upper.shape[1:]]
    for axis, values in enumerate(upper):
        few = np.moveaxis(values[np.ix_(*places)], axis, 0).reshape(len(places[axis]), -1)
        size = np.abs(few)
        few = few / (size.max() or 1)
        largest = np.unravel_index(np.argmax(size), few.shape)
        product = np.outer(few[:, largest[1]], few[largest[0]])
        error = np.abs(few * few[largest] - product).max()
        if not error <= 256 * np.finfo(few.dtype).eps:
            raise NotSeparable("couplings vary from line to line")


def weights_along(grid: Grid, axis: int) -> np.ndarray:
    """Return the shares of control volumes along an axis: half at a Neumann node."""
    ends = grid.centering == "node"
    w = np.ones(grid.shape[axis])
    for place, condition in zip((0, -1), grid.boundary[axis]):
        w[place] *= 0.5 if ends and condition == "neumann" else 1.0
    return w


def _without_repetition(stack: np.ndarray, axis: int) -> np.ndarray:
    """Return low end, one between and high end of an axis if all between are alike."""
    n = stack.shape[1 + axis]
    if n <= 3:
        return stack
    inside = np.moveaxis(stack, 1 + axis, 0)[1:-1]
    return stack.take([0, 1, n - 1], 1 + axis) if np.all(inside == inside[0]) else stack


def _spread(v: np.ndarray, n: int) -> np.ndarray:
    if len(v) == n:
        return v
    return np.concatenate([v[:1], np.full(n - 2, v[1]), v[2:]])


def _lines(diagonal: np.ndarray, upper: np.ndarray, lower: np.ndarray,
           guess: list[np.ndarray]) -> list[tuple]:  # fmt: skip
    """Return (diagonal, upper, lower, weights) along each axis, having checked the others.

    Weights that no coupling tells are those of `guess`.
    """
    shape, ndim = diagonal.shape, diagonal.ndim
    inside = tuple(min(1, n - 1 - (n == 2)) for n in shape)

    def line(values: np.ndarray, axis: int) -> np.ndarray:
        return values[tuple(slice(None) if d == axis else i for d, i in enumerate(inside))]

    def along(v: np.ndarray, axis: int) -> np.ndarray:
        return v.reshape([-1 if d == axis else 1 for d in range(ndim)])

    def require_same(values: np.ndarray, expected: np.ndarray, scale: float, what: str) -> None:
        # A NaN fails, too.
        if not np.abs(values - expected).max() <= 64 * np.finfo(values.dtype).eps * scale:
            raise NotSeparable(f"{what} vary from line to line")

    weights = [w.astype(diagonal.real.dtype) for w in guess]
    for axis in range(ndim):
        for other in range(ndim):
            coupling = line(upper[other], axis)
            first = coupling[inside[axis]]
            if other != axis and first != 0:
                share = coupling / first
                if not np.all(share.real > 0):
                    raise NotSeparable("couplings vanish or change their sign")
                weights[axis] = share.real
                break
    W = np.ones((), diagonal.real.dtype)
    for axis in range(ndim):
        W = W * along(weights[axis], axis)
    middle, scale = diagonal / W, float(np.abs(diagonal / W).max())
    found = []
    total = np.zeros((), diagonal.dtype)
    for axis in range(ndim):
        couplings = []
        for rows in (upper[axis] / W, lower[axis] / W):
            v = line(rows, axis)
            require_same(rows, along(v, axis), float(np.abs(v).max()), "couplings")
            couplings.append(v)
        v = line(middle, axis)
        v = v if axis == 0 else v - middle[inside]
        total = total + along(v, axis)
        found.append((v, *couplings, weights[axis]))
    require_same(middle, total, scale, "diagonal entries")
    return found


def _box(A: Any) -> tuple[tuple[int, ...], np.ndarray]:
    """Return the shape of a box and the stack of stencil entries of a CSR matrix on it."""
    n = A.shape[0]
    if n == 0 or not np.all(A.data):
        A = A.copy()
        A.eliminate_zeros()
    if n == 0:
        raise NotSeparable("there are no unknowns")
    shape = box_of(A)
    if shape is None:
        raise NotSeparable("the entries are not those of a box of points and their neighbours")
    stack = stencil_on(A, shape)
    if stack is None:
        raise NotSeparable("rows are coupled across the sides of a box")
    return shape, stack
