"""Matrix-free operators that couple each unknown of a grid to its nearest neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import LinearOperator

from krylearn.grid.box import Grid, neighbour
from krylearn.grid.discretise import (
    checked_mask,
    coefficient_of,
    convection,
    cut,
    diffusion,
    dtype_of,
    expand,
    few,
    regions,
    with_lower,
    without_lower,
)
from krylearn.kernels.stencil import Stencil


class GridOperator(LinearOperator):
    """A matrix-free operator that couples each unknown of a grid to its nearest neighbours.

    Parameters
    ----------
    grid : Grid
    diagonal : number or array of grid.shape
        ``A[i, i]``.
    upper : sequence of number or array of grid.shape, one for each axis
        ``A[i, i + e]``, e being a step along the axis. Entries across an end that is not periodic
        are ignored: what a boundary condition does to the diagonal is up to the caller.
    lower : like upper, optional
        ``A[i, i - e]``. By default the conjugate of the neighbour's `upper`.
    mask : bool array of grid.shape, optional
        True where the unknown is active. The other rows are those of the identity, nothing
        couples to them, and vectors keep their full length.
    symmetric, positive_definite : bool, optional
        What is known of the matrix; found out from the coefficients where not given.

    Attributes
    ----------
    grid : Grid
    mask : bool array or None
    coefficient : array of grid.shape or None
        c of ``-div(c grad u)`` where `diffusion` has made it from an array.
    linear : bool
        True.
    symmetric : bool
        The matrix is Hermitian.
    positive_definite : bool or None
        None where the diagonal does not dominate and it is thus not known.
    nullspace : (n, k) sparse array or None
        Orthonormal vectors that the operator takes to zero: one for each connected region that
        no Dirichlet side and no reaction holds, constant over it. None where there is none, or
        none is known.

    Raises
    ------
    ValueError
        If a coefficient or the mask has not the shape of the grid.

    Notes
    -----
    With numbers for coefficients no arrays are read but the vectors. Sums and multiples of
    operators on one grid are grid operators; the inactive rows take part in them.

    Examples
    --------
    >>> import numpy as np
    >>> from krylearn.grid import Grid, GridOperator
    >>> A = GridOperator.diffusion(Grid(3, lengths=4.0))
    >>> A.tocsr().toarray()
    array([[ 2., -1.,  0.],
           [-1.,  2., -1.],
           [ 0., -1.,  2.]])
    >>> A @ np.ones(3)
    array([1., 0., 1.])
    """

    linear = True
    coefficient: np.ndarray | None = None

    def __init__(self, grid: Grid, diagonal: Any, upper: Sequence, lower: Sequence | None = None,
                 mask: Any = None, *, symmetric: bool | None = None,
                 positive_definite: bool | None = None) -> None:  # fmt: skip
        for name, given in (("upper", upper), ("lower", lower)):
            if given is not None and (not hasattr(given, "__len__") or len(given) != grid.ndim):
                raise ValueError(f"{name} must hold one coefficient for each of {grid.ndim} axes")
        named = [("diagonal", diagonal)] + [(f"upper[{d}]", u) for d, u in enumerate(upper)]
        named += [(f"lower[{d}]", u) for d, u in enumerate([] if lower is None else lower)]
        rows = [coefficient_of(grid, values, name) for name, values in named]
        mask = checked_mask(grid, mask)
        constant = mask is None and all(values.ndim == 0 for values in rows)
        shape = few(grid.shape) if constant else grid.shape
        stack = np.empty((len(rows), *shape), dtype_of(*rows))
        for row, values in enumerate(rows):
            stack[row] = np.conj(values) if row > grid.ndim else values
        cut(grid, stack, mask)
        self._set(grid, stack, constant, mask, symmetric, positive_definite)

    def _set(self, grid: Grid, stack: np.ndarray, constant: bool, mask: np.ndarray | None,
             symmetric: bool | None = None,
             positive_definite: bool | None = None) -> None:  # fmt: skip
        super().__init__(stack.dtype, (grid.size, grid.size))
        self.grid, self.mask = grid, mask
        # As in discretise.py.
        shared = without_lower(stack, grid.ndim)
        self._stack, self._constant = stack if shared is None else shared, constant
        self.symmetric = (
            shared is not None and not np.any(stack[0].imag) if symmetric is None else symmetric
        )
        self._given_definite = positive_definite
        stack = with_lower(self._stack, grid.ndim) if constant else self._stack
        self._stencil = Stencil(grid.shape, grid.periodic, stack, constant)

    @classmethod
    def _make(cls, *arguments: Any) -> GridOperator:
        new: GridOperator = object.__new__(cls)
        new._set(*arguments)
        return new

    @classmethod
    def diffusion(cls, grid: Grid, coefficient: Any = 1.0, reaction: Any = 0.0, mask: Any = None,
                  solid: str = "neumann", dtype: Any = None) -> GridOperator:  # fmt: skip
        """Return ``-div(c grad u) + a u`` by finite volumes.

        Parameters
        ----------
        grid : Grid
        coefficient : number, array of grid.shape, or a list of one of these for each axis
            c at the points; a face takes the harmonic mean of its two sides.
        reaction : number or array of grid.shape
            a.
        mask : bool array of grid.shape, optional
            False inside solids, whose unknowns are inactive.
        solid : {'neumann', 'dirichlet'}
            Solids let nothing through, or hold the value zero at their nodes or faces.
        dtype : dtype, optional
            Type of the entries, by default that of the coefficients.

        Returns
        -------
        A : GridOperator
            A row is the balance of a control volume over the volume of a full one: see
            `Grid.weights`, and `boundary_rhs` for inhomogeneous data.

        Raises
        ------
        TypeError, ValueError
            If a coefficient is no number or has not the shape of the grid.

        References
        ----------
        Patankar (1980), Numerical Heat Transfer and Fluid Flow, section 4.2 (harmonic means).
        """
        stack, constant = diffusion(grid, coefficient, reaction, mask, solid, dtype)
        A = cls._make(grid, stack, constant, checked_mask(grid, mask))
        if isinstance(coefficient, np.ndarray) and np.ndim(reaction) == 0 and reaction == 0:
            A.coefficient = coefficient.reshape(grid.shape)
        return A

    @classmethod
    def convection(cls, grid: Grid, velocity: Sequence, scheme: str = "upwind",
                   dtype: Any = None) -> GridOperator:  # fmt: skip
        """Return ``v . grad u`` by finite differences; boundary values are zero.

        Parameters
        ----------
        grid : Grid
        velocity : sequence of number or array of grid.shape, one for each axis
        scheme : {'upwind', 'central'}
            Of first order and never oscillating, or of second order.
        dtype : dtype, optional

        Returns
        -------
        A : GridOperator
            Scaled as `diffusion`, to which it can be added.

        Raises
        ------
        TypeError, ValueError
            If a component is no number or has not the shape of the grid.
        """
        stack, constant = convection(grid, velocity, scheme, dtype)
        return cls._make(grid, stack, constant, None)

    # -- products --------------------------------------------------------------------------

    def apply(self, x: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Write ``A @ x`` into `out` and return it; contiguous (n,) arrays of ``A.dtype``."""
        return self._stencil.apply(x, out)

    def apply_dot(self, x: np.ndarray, out: np.ndarray) -> Any:
        """Write ``A @ x`` into `out` and return ``conj(x) @ out``."""
        return self._stencil.apply_dot(x, out)

    def _matvec(self, x):
        x = np.asarray(x).reshape(-1)
        dtype = np.result_type(self.dtype, x.dtype)
        if dtype != self.dtype:
            return self.astype(dtype)._matvec(x)
        return self.apply(np.ascontiguousarray(x, dtype), np.empty(self.shape[0], dtype))

    def _rmatvec(self, x):
        return self._adjoint()._matvec(x)

    def _adjoint(self):
        if self.symmetric:
            return self
        ndim = self.grid.ndim
        full = self._expanded()
        adjoint = np.empty_like(full)
        adjoint[0] = np.conj(full[0])
        for d in range(ndim):
            adjoint[1 + d] = neighbour(full[1 + ndim + d], d, 1)
            adjoint[1 + ndim + d] = neighbour(full[1 + d], d, 0)
        return self._make(self.grid, adjoint, False, self.mask)

    def _transpose(self):
        if self.dtype.kind != "c":
            return self._adjoint()
        adjoint = self._adjoint()
        stack = np.conj(adjoint._stack)
        return self._make(self.grid, stack, adjoint._constant, self.mask)

    # -- arithmetic ------------------------------------------------------------------------

    def astype(self, dtype: Any) -> GridOperator:
        """Return the operator with entries of another type; itself where that is its own."""
        dtype = np.dtype(dtype)
        if dtype == self.dtype:
            return self
        return self._make(self.grid, self._stack.astype(dtype), self._constant, self.mask,
                          self.symmetric, self._given_definite)  # fmt: skip

    def __add__(self, other):
        if not isinstance(other, GridOperator) or other.grid != self.grid:
            return super().__add__(other)
        ndim = self.grid.ndim
        constant = self._constant and other._constant
        a, b = (
            with_lower(A._stack if constant else A._points(), ndim) for A in (self, other)
        )
        mask = self.mask if other.mask is None else other.mask
        if self.mask is not None and other.mask is not None:
            mask = self.mask if np.array_equal(self.mask, other.mask) else None
        return self._make(self.grid, a + b, constant, mask)

    def __mul__(self, factor):
        if not np.isscalar(factor):
            return super().__mul__(factor)
        stack = self._stack
        if isinstance(factor, complex | np.complexfloating):
            stack = with_lower(stack, self.grid.ndim).astype(np.result_type(stack, np.complex64))
        scaled = stack * factor
        if len(stack) > 1 + self.grid.ndim:
            scaled[1 + self.grid.ndim :] = stack[1 + self.grid.ndim :] * np.conj(factor)
        return self._make(self.grid, scaled, self._constant, self.mask)

    def __rmul__(self, factor):
        return self * factor if np.isscalar(factor) else super().__rmul__(factor)

    def __neg__(self):
        return self * -1

    def __sub__(self, other):
        return self + -other

    def to(self, device: str) -> Any:
        """Return the operator on another device: 'cuda', or 'cpu', where it lies."""
        if device == "cpu":
            return self
        if device != "cuda":
            raise ValueError(f"device must be 'cpu' or 'cuda', not {device!r}")
        from krylearn.cuda.operators import to_cuda

        return to_cuda(self)

    # -- as a matrix -----------------------------------------------------------------------

    def _points(self) -> np.ndarray:
        """Return the stack for all points."""
        return expand(self._stack, self.grid.shape) if self._constant else self._stack

    def _expanded(self) -> np.ndarray:
        """Return the stack for all points with the lower couplings."""
        return with_lower(self._points(), self.grid.ndim)

    def stencil(self) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
        """Return the entries of the matrix, each an array of grid.shape.

        Returns
        -------
        diagonal : array
        upper, lower : list of array, one for each axis
            ``A[i, i + e]`` and ``A[i, i - e]``; zero where there is no such neighbour.
        """
        stack, ndim = self._expanded(), self.grid.ndim
        return stack[0], list(stack[1 : 1 + ndim]), [np.conj(s) for s in stack[1 + ndim :]]

    def diagonal(self) -> np.ndarray:
        """Return the (n,) diagonal of the matrix, self-couplings of periodic axes included."""
        stack, shape = self._expanded(), self.grid.shape
        diagonal = stack[0].copy()
        for d, n in enumerate(shape):
            if n == 1 and self.grid.periodic[d]:
                diagonal += stack[1 + d] + np.conj(stack[1 + self.grid.ndim + d])
        return diagonal.ravel()

    def tocsr(self) -> sp.csr_array:
        """Return the matrix; couplings that are zero are left out, the diagonal is not."""
        diagonal, upper, lower = self.stencil()
        grid, n = self.grid, self.grid.size
        number = np.arange(n, dtype=np.int32 if 7 * n < 2**31 else np.int64).reshape(grid.shape)
        # In the order of columns, but where an axis wraps around.
        parts = [(lower[d], neighbour(number, d, 0)) for d in range(grid.ndim)]
        parts += [(diagonal, number)]
        parts += [(upper[d], neighbour(number, d, 1)) for d in reversed(range(grid.ndim))]
        values = np.stack([v.ravel() for v, _ in parts], axis=1)
        columns = np.stack([c.ravel() for _, c in parts], axis=1)
        kept = values != 0
        kept[:, grid.ndim] = True
        indptr = np.zeros(n + 1, columns.dtype)
        np.cumsum(kept.sum(axis=1), out=indptr[1:])
        A = sp.csr_array((values[kept], columns[kept], indptr), shape=(n, n))
        if any(grid.periodic):
            A.sum_duplicates()
        else:
            A.has_sorted_indices = A.has_canonical_format = True
        return A

    # -- traits ----------------------------------------------------------------------------

    @cached_property
    def _excess(self) -> np.ndarray:
        """By how much the diagonal dominates each row, relative to the diagonal."""
        stack = with_lower(self._stack, self.grid.ndim)
        scale = np.where(stack[0] == 0, 1, np.abs(stack[0]))
        excess = (stack[0].real - np.abs(stack[1:]).sum(axis=0)) / scale
        return np.where(np.abs(excess) <= 64 * np.finfo(self.dtype).eps, 0, excess)

    @property
    def positive_definite(self) -> bool | None:
        if self._given_definite is not None:
            return self._given_definite
        if not self.symmetric or np.any(self._stack[0].real <= 0):
            return False
        if np.any(self._excess < 0):
            return None
        return self.nullspace is None

    @cached_property
    def nullspace(self) -> sp.csc_array | None:
        off = self._stack[1:]
        if not self.symmetric or np.any(self._excess < 0) or np.any(self._excess.min() > 0):
            return None
        if np.any(off.imag) or np.any(off.real > 0):
            return None  # dominance alone does not tell
        n = self.shape[0]
        if self._constant and np.all(off[(slice(None), *(slice(0, 1),) * self.grid.ndim)] != 0):
            if np.any(self._excess > 0):
                return None
            count, region = 1, np.zeros(n, np.int32)
        else:
            found = regions(self._points(), self.grid)
            if found is None:
                found = connected_components(self.tocsr(), directed=False)[1]
            region, count = found, int(found.max()) + 1
        excess = self._excess if not self._constant else expand(self._excess[None], self.grid.shape)
        held = np.bincount(region, weights=excess.ravel(), minlength=count) > 0
        if held.all():
            return None
        floating = np.flatnonzero(~held[region])
        _, column = np.unique(region[floating], return_inverse=True)
        sizes = np.bincount(column)
        values = 1 / np.sqrt(sizes[column]).astype(self.dtype)
        return sp.csc_array((values, (floating, column)), shape=(n, len(sizes)))
