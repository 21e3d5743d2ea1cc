"""Where the unknowns of a structured grid lie, and which condition holds at each side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_CONDITIONS = ("dirichlet", "neumann", "periodic")


@dataclass(frozen=True, init=False)
class Grid:
    """Equidistant points in a box of one to three axes, with a condition at each side.

    Parameters
    ----------
    shape : int or tuple of int
        Unknowns along each axis, in C order: the last axis varies fastest in a flat vector.
    lengths : float or tuple of float
        Edges of the box.
    boundary : str, or one str or pair (low, high) of str for each axis
        'dirichlet', 'neumann' or 'periodic'. Periodic holds at both sides of an axis or at none.
    centering : {'node', 'cell'}
        Nodes: the end points of an axis are unknowns where the condition is Neumann and are left
        out where it is Dirichlet; a periodic axis has a point at 0 and none at its end. Cells:
        the points are the midpoints of cells that fill the box.

    Raises
    ------
    ValueError
        If there are no or more than three axes, a size or length is not positive, a condition or
        centering is unknown, or an axis is periodic at one side alone.

    Examples
    --------
    >>> from krylearn.grid import Grid
    >>> grid = Grid((4, 3), lengths=(1.0, 2.0), boundary=("dirichlet", ("neumann", "dirichlet")))
    >>> grid.spacing
    (0.2, 0.6666666666666666)
    >>> [float(x) for x in grid.coordinates(1).round(3)]
    [0.0, 0.667, 1.333]
    """

    shape: tuple[int, ...]
    lengths: tuple[float, ...]
    boundary: tuple[tuple[str, str], ...]
    centering: str

    def __init__(self, shape: Any, lengths: Any = 1.0, boundary: Any = "dirichlet",
                 centering: str = "node") -> None:  # fmt: skip
        sizes = tuple(shape) if isinstance(shape, Sequence | np.ndarray) else (shape,)
        if not 1 <= len(sizes) <= 3:
            raise ValueError(f"a grid has 1 to 3 axes; shape {shape!r} has {len(sizes)}")
        if any(n != int(n) or n < 1 for n in sizes):
            raise ValueError(f"a grid has at least one unknown along each axis, not {shape!r}")
        if np.ndim(lengths) == 0:
            lengths = (lengths,) * len(sizes)
        if len(lengths) != len(sizes):
            raise ValueError(f"{len(lengths)} lengths are given for {len(sizes)} axes")
        if not all(0 < float(length) < math.inf for length in lengths):
            raise ValueError(f"lengths must be positive, not {lengths!r}")
        if centering not in ("node", "cell"):
            raise ValueError(f"centering must be 'node' or 'cell', not {centering!r}")
        if isinstance(boundary, str):
            boundary = (boundary,) * len(sizes)
        if len(boundary) != len(sizes):
            raise ValueError(f"boundary has {len(boundary)} entries for {len(sizes)} axes")
        pairs = tuple((b, b) if isinstance(b, str) else tuple(b) for b in boundary)
        for axis, (n, pair) in enumerate(zip(sizes, pairs)):
            if len(pair) != 2 or any(side not in _CONDITIONS for side in pair):
                raise ValueError(
                    f"boundary of axis {axis} must be one or a pair of {', '.join(_CONDITIONS)}; "
                    f"got {boundary[axis]!r}"
                )
            if pair.count("periodic") == 1:
                raise ValueError(f"axis {axis} is periodic at one side and {pair} at both")
            if centering == "node" and n == 1 and pair == ("neumann", "neumann"):
                raise ValueError(f"axis {axis} has both end points as nodes and needs 2 of them")
        for name, value in (
            ("shape", tuple(int(n) for n in sizes)),
            ("lengths", tuple(float(length) for length in lengths)),
            ("boundary", pairs),
            ("centering", centering),
        ):
            object.__setattr__(self, name, value)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of unknowns."""
        return math.prod(self.shape)

    @property
    def periodic(self) -> tuple[bool, ...]:
        """Whether each axis closes on itself."""
        return tuple(pair[0] == "periodic" for pair in self.boundary)

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance of neighbours along each axis."""
        return tuple(
            length / (n if self.centering == "cell" else n - 1 + _missing_ends(pair))
            for n, length, pair in zip(self.shape, self.lengths, self.boundary)
        )

    def coordinates(self, axis: int) -> np.ndarray:
        """Return the (n,) coordinates of the points along an axis."""
        h = self.spacing[axis]
        if self.centering == "cell":
            first = 0.5
        else:
            first = 1.0 if self.boundary[axis][0] == "dirichlet" else 0.0
        return (np.arange(self.shape[axis]) + first) * h

    def points(self) -> tuple[np.ndarray, ...]:
        """Return for each axis an open array of coordinates: they broadcast to `shape`."""
        return tuple(
            self.coordinates(axis).reshape([-1 if d == axis else 1 for d in range(self.ndim)])
            for axis in range(self.ndim)
        )

    def weights(self) -> np.ndarray:
        """Return each point's share of a full control volume, an array of `shape`.

        It is 1 but for nodes on a Neumann side, whose control volume is cut in half there. Rows
        of a `GridOperator` are multiplied by it, which keeps them symmetric, and so must the
        source term be: ``b = (grid.weights() * f).ravel() + boundary_rhs(...)``.
        """
        return weights(self, self.shape)


def _missing_ends(pair: tuple[str, str]) -> int:
    """Return how many more intervals than n - 1 an axis of n nodes has."""
    return 1 if pair[0] == "periodic" else pair.count("dirichlet")


def weights(grid: Grid, shape: tuple[int, ...], skip: int = -1) -> np.ndarray:
    """Return the shares of control volumes, those along the axis `skip` left out."""
    shares = np.ones(shape)
    if grid.centering == "node":
        for axis, pair in enumerate(grid.boundary):
            for side, condition in enumerate(pair):
                if axis != skip and condition == "neumann":
                    shares[end(axis, side)] *= 0.5
    return shares


def end(axis: int, side: int) -> tuple:
    """Return the index of the points at the low (0) or high (1) side of an axis."""
    return (slice(None),) * axis + (slice(-1, None) if side else slice(0, 1),)


def neighbour(values: np.ndarray, axis: int, side: int) -> np.ndarray:
    """Return each point's neighbour's value, wrapping around at the ends."""
    return np.roll(values, -1 if side else 1, axis)
