"""What a problem family yields."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from krylearn.grid import Grid
from krylearn.problems.fields import gaussian_random_field


@dataclass(frozen=True, eq=False)
class Problem:
    """A linear system ``A x = b`` and where it comes from.

    Attributes
    ----------
    A : GridOperator or sparse array, shape (n, n)
        Positive definite families keep A positive (``-div(c grad u)``).
    b : (n,) array
    params : dict of str to array or number
        What was drawn: the fields are arrays of ``grid.shape``, unless the family says otherwise.
    grid : Grid or None
    exact : (n,) array or None
        Where known: the solution of the differential equation at the points, from which the
        solution of the system differs by the discretisation error; for `heat` and
        `matrix_market` that of the system itself.
    nullspace : (n, k) array or None
        Near-nullspace vectors for algebraic multigrid, where they are not constants.
    name : str
        The family.
    seed : int or None
        What the random numbers started from.

    Notes
    -----
    Problems are compared by identity, so that they may be keys of a dict.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> from krylearn.problems import Problem
    >>> Problem(sp.eye_array(3, format="csr"), np.ones(3), name="identity")
    <identity 3x3>
    """

    A: Any
    b: np.ndarray
    params: dict = field(default_factory=dict)
    grid: Grid | None = None
    exact: np.ndarray | None = None
    nullspace: np.ndarray | None = None
    name: str = ""
    seed: int | None = None

    def __repr__(self) -> str:
        seed = "" if self.seed is None else f", seed {self.seed}"
        drawn = ": " + ", ".join(self.params) if self.params else ""
        return f"<{self.name} {'x'.join(map(str, self.A.shape))}{seed}{drawn}>"


def source(kind: Any, grid: Grid, rng: np.random.Generator) -> np.ndarray:
    """Return a source term f at the points of a grid, an array of its shape.

    Parameters
    ----------
    kind : {'random', 'smooth', 'constant'} or array
        White noise of variance 1, which excites all frequencies alike; a Gaussian random field;
        one; or the values themselves.

    Raises
    ------
    ValueError
        If the name is unknown or the shape does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from krylearn.grid import Grid
    >>> source("constant", Grid(3), np.random.default_rng(0))
    array([1., 1., 1.])
    """
    if isinstance(kind, str):
        if kind == "random":
            return rng.standard_normal(grid.shape)
        if kind == "constant":
            return np.ones(grid.shape)
        if kind == "smooth":
            return gaussian_random_field(grid.shape, lengths=grid.lengths, seed=rng)
        raise ValueError(f"rhs must be 'random', 'smooth', 'constant' or an array, not {kind!r}")
    values = np.asarray(kind)
    if values.size != grid.size:
        raise ValueError(f"rhs has shape {values.shape}; the grid needs {grid.shape}")
    return values.reshape(grid.shape)


def sine_product(grid: Grid) -> tuple[np.ndarray, float]:
    """Return ``prod sin(pi x / L)``, zero at all sides, and its eigenvalue of minus Laplace.

    Examples
    --------
    >>> from krylearn.grid import Grid
    >>> u, eigenvalue = sine_product(Grid(3, lengths=2.0))
    >>> u.round(3).tolist(), round(eigenvalue, 3)
    ([0.707, 1.0, 0.707], 2.467)
    """
    u = np.ones(grid.shape)
    for x, length in zip(grid.points(), grid.lengths):
        u = u * np.sin(np.pi * x / length)
    return u, sum((np.pi / length) ** 2 for length in grid.lengths)


def right_side(f: np.ndarray, A: Any) -> np.ndarray:
    """Return f as an (n,) vector in A's precision, complex where A or f is.

    Examples
    --------
    >>> import numpy as np
    >>> right_side(np.array([[1j, 2.0]]), np.eye(2, dtype="f4")).dtype
    dtype('complex64')
    """
    dtype = np.result_type(A.dtype, np.complex64) if np.iscomplexobj(f) else A.dtype
    return np.asarray(f).ravel().astype(dtype)
