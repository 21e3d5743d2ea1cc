"""Finite-volume coefficients of diffusion and convection, as stacks of stencil entries.

A stack holds the diagonal; for each axis ``A[i, i + e]``; and, unless the matrix is Hermitian and
they are those of the neighbours, for each axis ``conj(A[i, i - e])``. It is given for all points,
or, where nothing but the place relative to the sides matters, for at most three along an axis:
the low end, one between, the high end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from krylearn.grid.box import Grid, end, neighbour, weights
from krylearn.kernels import faces
from krylearn.kernels.parallel import parallel_for

# Points whose faces are worth a thread.
GRAIN = 16384


def few(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a stack for the ends and the inside of each axis."""
    return tuple(min(n, 3) for n in shape)


def expand(stack: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the stack for all points of one for ends and inside."""
    places = [np.clip(np.arange(n), 0, 1) + (np.arange(n) == n - 1) * (n > 2) for n in shape]
    return stack[np.ix_(np.arange(len(stack)), *places)]


def dtype_of(*values: Any) -> np.dtype:
    """Return the floating or complex type, at least float64 unless all are single, of numbers."""
    arrays = [np.asarray(v) for v in values]
    kinds = [a.dtype for a in arrays if a.ndim] or [np.dtype(np.float64)]
    dtype = np.result_type(*kinds, *(["c8"] if any(a.dtype.kind == "c" for a in arrays) else []))
    return dtype if dtype.kind in "fc" else np.dtype(np.float64)


def coefficient_of(grid: Grid, values: Any, name: str) -> np.ndarray:
    """Return `values` as a 0-d array or one of the grid's shape."""
    array = np.asarray(values)
    if array.dtype.kind not in "biufc":
        raise TypeError(f"{name} holds {array.dtype} elements; numbers are needed")
    if array.ndim and array.shape != grid.shape:
        if array.size != grid.size:
            raise ValueError(f"{name} has shape {array.shape}; the grid needs {grid.shape}")
        array = array.reshape(grid.shape)
    return array


def checked_mask(grid: Grid, mask: Any) -> np.ndarray | None:
    """Return a mask of the grid's shape, or None where it leaves all unknowns active."""
    if mask is None:
        return None
    mask = np.array(mask, dtype=bool)
    if mask.size != grid.size:
        raise ValueError(f"mask has shape {mask.shape}; the grid needs {grid.shape}")
    return None if mask.all() else mask.reshape(grid.shape)


def cut(grid: Grid, stack: np.ndarray, mask: np.ndarray | None) -> None:
    """Take out, in place, what would couple across a side or with an inactive unknown."""
    for axis in range(grid.ndim):
        for row, side in ((1 + axis, 1), (1 + grid.ndim + axis, 0)):
            if row < len(stack):
                if not grid.periodic[axis]:
                    stack[row][end(axis, side)] = 0
                if mask is not None:
                    stack[row][~(mask & neighbour(mask, axis, side))] = 0
    if mask is not None:
        stack[0][~mask] = 1


def with_lower(stack: np.ndarray, ndim: int) -> np.ndarray:
    """Return the stack with the couplings to lower neighbours written out."""
    if len(stack) > 1 + ndim:
        return stack
    return np.concatenate([stack, [neighbour(stack[1 + d], d, 0) for d in range(ndim)]])


def without_lower(stack: np.ndarray, ndim: int) -> np.ndarray | None:
    """Return the stack that leaves out couplings to lower neighbours, if they are the adjoints."""
    if len(stack) == 1 + ndim:
        return stack
    same = all(
        np.array_equal(neighbour(stack[1 + d], d, 0), stack[1 + ndim + d]) for d in range(ndim)
    )
    return stack[: 1 + ndim].copy() if same else None


def regions(stack: np.ndarray, grid: Grid) -> np.ndarray | None:
    """Return a number for each point, the same for those that are coupled, directly or not.

    Points without couplings are one region. None where those that have some do not tell which:
    where couplings go across ends, neighbours have none between them, or a row is empty.
    """
    from scipy.ndimage import label

    links, coupled = stack[1 : 1 + grid.ndim] != 0, np.zeros(grid.shape, bool)
    for axis, link in enumerate(links):
        coupled |= link | neighbour(link, axis, 0)
    for axis, link in enumerate(links):
        both = coupled & neighbour(coupled, axis, 1)
        ends = [slice(None)] * grid.ndim
        ends[axis] = slice(-1, None)
        both[tuple(ends)] = False
        if not np.array_equal(link, both):
            return None
    if np.any(stack[0][~coupled] == 0):
        return None
    region = label(coupled)[0].ravel()
    return region - region.min()


def diffusion(grid: Grid, coefficient: Any, reaction: Any, mask: Any, solid: str,
              dtype: Any) -> tuple[np.ndarray, bool]:  # fmt: skip
    """Return the stack of ``-div(c grad u) + a u``, and whether it is one for ends and inside."""
    if solid not in ("neumann", "dirichlet"):
        raise ValueError(f"solid must be 'neumann' or 'dirichlet', not {solid!r}")
    ndim = grid.ndim
    per_axis = isinstance(coefficient, Sequence) and len(coefficient) == ndim
    given = list(coefficient) if per_axis else [coefficient] * ndim
    c = [coefficient_of(grid, values, "coefficient") for values in given]
    a = coefficient_of(grid, reaction, "reaction")
    mask = checked_mask(grid, mask)
    dtype = dtype_of(*c, a) if dtype is None else np.dtype(dtype)
    constant = mask is None and a.ndim == 0 and all(values.ndim == 0 for values in c)
    shape = few(grid.shape) if constant else grid.shape
    if _plain(grid, coefficient, c[0], mask, dtype):
        return _plain_diffusion(grid, c[0], a), False
    stack = np.zeros((1 + ndim, *shape), dtype)
    stack[0] = a * weights(grid, shape)
    # Dirichlet data lie at the neighbour's point in a grid of nodes, at the face in one of cells.
    nearer = 2.0 if grid.centering == "cell" else 1.0
    for axis, (values, h) in enumerate(zip(c, grid.spacing)):
        area = np.broadcast_to(1 / h**2, shape)
        if grid.centering == "node":
            area = weights(grid, shape, skip=axis) / h**2
        own = np.broadcast_to(values, shape)
        face = _faces(own, area, axis, grid.periodic[axis])
        if mask is not None:
            if solid == "dirichlet":
                coupled = np.ones(shape, bool)
                if not grid.periodic[axis]:
                    coupled[end(axis, 1)] = False
                for side in (0, 1):
                    there = coupled if side else neighbour(coupled, axis, 0)
                    wall = mask & ~neighbour(mask, axis, side) & there
                    stack[0][wall] += (nearer * own * area)[wall]
            face = np.where(mask & neighbour(mask, axis, 1), face, 0)
        np.negative(face, out=stack[1 + axis])
        face += neighbour(face, axis, 0)
        stack[0] += face
        for side in (0, 1):
            if grid.boundary[axis][side] == "dirichlet":
                at = end(axis, side)
                stack[0][at] += nearer * own[at] * area[at]
    cut(grid, stack, mask)
    if np.iscomplexobj(stack) and np.any(stack[1:].imag):
        # The matrix is symmetric and not Hermitian: the default lower couplings would not do.
        stack = np.concatenate([stack, np.conj(with_lower(stack, ndim)[1 + ndim :])])
    return stack, constant


def _plain(grid: Grid, coefficient: Any, c: np.ndarray, mask: Any, dtype: np.dtype) -> bool:
    """Return whether faces along an axis have one area, and all axes one array of numbers."""
    same = grid.centering == "cell" or not any("neumann" in pair for pair in grid.boundary)
    return (
        same and mask is None and not any(grid.periodic) and c.ndim > 0
        and isinstance(coefficient, np.ndarray) and c.dtype == dtype == np.float64
    )  # fmt: skip


def _plain_diffusion(grid: Grid, c: np.ndarray, reaction: np.ndarray) -> np.ndarray:
    """Return the stack of diffusion in one pass over memory."""
    stack = np.empty((1 + grid.ndim, *grid.shape))
    stack[0] = reaction
    sizes, rows = np.ones(3, np.uint64), np.zeros(3, np.int64)
    areas, sides = np.zeros(3), np.zeros((3, 2))
    first = 3 - grid.ndim
    sizes[first:], rows[first:] = grid.shape, np.arange(1, 1 + grid.ndim)
    areas[first:] = [1 / h**2 for h in grid.spacing]
    held = np.array(grid.boundary) == "dirichlet"
    sides[first:] = (2.0 if grid.centering == "cell" else 1.0) * held * areas[first:, None]
    lines = grid.size // grid.shape[-1]
    parallel_for(
        faces.diffusion, lines, max(1, GRAIN // grid.shape[-1]), sizes, rows, areas, sides.ravel(),
        np.require(c, None, ("C", "W")).ravel(), stack.reshape(len(stack), -1),
    )  # fmt: skip
    return stack


def _faces(c: np.ndarray, area: np.ndarray, axis: int, wraps: bool) -> np.ndarray:
    """Return the conductance between each point and its upper neighbour, zero across an end.

    The harmonic mean: the flux is continuous across a jump at the face.
    """
    low = (slice(None),) * axis + (slice(None, None if wraps else -1),)
    next_ = neighbour(c, axis, 1) if wraps else c[(slice(None),) * axis + (slice(1, None),)]
    total = c[low] + next_
    if not total.all():
        total = np.where(total == 0, 1, total)
    faces = np.zeros(c.shape, np.result_type(c, area))
    inside = faces[low]
    np.multiply(2, c[low], out=inside)
    inside *= next_
    inside /= total
    inside *= area[low]
    return faces


def convection(grid: Grid, velocity: Any, scheme: str, dtype: Any) -> tuple[np.ndarray, bool]:
    """Return the stack of ``v . grad u``, and whether it is one for ends and inside."""
    if scheme not in ("upwind", "central"):
        raise ValueError(f"scheme must be 'upwind' or 'central', not {scheme!r}")
    ndim = grid.ndim
    if not hasattr(velocity, "__len__") or len(velocity) != ndim:
        raise ValueError(f"velocity must hold one component for each of {ndim} axes")
    v = [coefficient_of(grid, values, f"velocity[{d}]") for d, values in enumerate(velocity)]
    dtype = dtype_of(*v) if dtype is None else np.dtype(dtype)
    constant = all(values.ndim == 0 for values in v)
    shape = few(grid.shape) if constant else grid.shape
    stack = np.zeros((1 + 2 * ndim, *shape), dtype)
    cell = grid.centering == "cell"
    for axis, (values, h) in enumerate(zip(v, grid.spacing)):
        share = weights(grid, shape) * np.broadcast_to(values, shape) / h
        if scheme == "central":
            lower, middle, upper = -share / 2, np.zeros_like(share), share / 2
        else:
            forward, backward = np.maximum(share, 0), np.minimum(share, 0)
            lower, middle, upper = -forward, forward - backward, backward
        couplings = [lower, upper]
        for side, coupling in enumerate(couplings):
            condition, at = grid.boundary[axis][side], end(axis, side)
            if condition == "dirichlet" and cell:
                middle[at] -= coupling[at]  # the ghost is twice the boundary value less u
            elif condition == "neumann" and cell:
                middle[at] += coupling[at]  # the ghost is u
            if condition != "periodic":
                coupling[at] = 0
        for side, condition in enumerate(grid.boundary[axis]):
            if condition == "neumann" and not cell:
                # The node lies on the side, where the derivative is zero.
                at = end(axis, side)
                middle[at] = couplings[0][at] = couplings[1][at] = 0
        stack[0] += middle
        stack[1 + axis], stack[1 + ndim + axis] = couplings[1], np.conj(couplings[0])
    return stack, constant


def boundary_rhs(grid: Grid, values: Mapping | Callable, coefficient: Any = 1.0) -> np.ndarray:
    """Return what inhomogeneous boundary data of diffusion add to the right-hand side.

    Parameters
    ----------
    grid : Grid
    values : callable or dict
        ``u(*coordinates)``, the value at every Dirichlet side; or for each ``(axis, side)``, side
        being 0 (low) or 1 (high), a number or an array over the points of that side: the value u
        where the condition is Dirichlet, the inward flux ``c du/dn`` (n pointing out) where it is
        Neumann. Sides that are left out have zero data.
    coefficient : number, array of grid.shape, or one of these for each axis
        As `GridOperator.diffusion` takes it.

    Returns
    -------
    b : (n,) array

    Raises
    ------
    ValueError
        If a side is named that does not exist or is periodic, or shapes do not fit.

    Examples
    --------
    >>> from krylearn.grid import Grid, GridOperator, boundary_rhs
    >>> grid = Grid(3, lengths=4.0)
    >>> A, b = GridOperator.diffusion(grid), boundary_rhs(grid, {(0, 1): 8.0})
    >>> A @ [2.0, 4.0, 6.0] - b
    array([0., 0., 0.])
    """
    ndim = grid.ndim
    per_axis = isinstance(coefficient, Sequence) and len(coefficient) == ndim
    given = list(coefficient) if per_axis else [coefficient] * ndim
    data = _side_values(grid, values) if callable(values) else dict(values)
    c = [coefficient_of(grid, v, "coefficient") for v in given]
    b = np.zeros(grid.shape, np.result_type(float, *c, *data.values()))
    for (axis, side), value in data.items():
        if not (0 <= axis < ndim and side in (0, 1)):
            raise ValueError(f"there is no side {side!r} of axis {axis!r}")
        condition, h, at = grid.boundary[axis][side], grid.spacing[axis], end(axis, side)
        if condition == "periodic":
            raise ValueError(f"axis {axis} is periodic and has no sides")
        shape = b[at].shape
        value = np.asarray(value)
        if value.ndim == ndim - 1 and value.ndim:
            value = np.expand_dims(value, axis)
        value = np.broadcast_to(value, shape)
        if condition == "dirichlet":
            nearer = 2.0 if grid.centering == "cell" else 1.0
            value = nearer * value * np.broadcast_to(c[axis], grid.shape)[at] / h**2
        else:
            value = value / h
        b[at] += value * weights(grid, grid.shape, skip=axis)[at]
    return b.ravel()


def _side_values(grid: Grid, function: Callable) -> dict:
    """Evaluate a function of the coordinates on each Dirichlet side."""
    data = {}
    for axis, (pair, length) in enumerate(zip(grid.boundary, grid.lengths)):
        for side, condition in enumerate(pair):
            if condition == "dirichlet":
                points = list(grid.points())
                points[axis] = np.full_like(points[axis][end(axis, 0)], side * length)
                data[axis, side] = function(*points)
    return data
