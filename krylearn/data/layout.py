"""Which arrays a sample has, found from the first problems of a plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from krylearn.data.plan import DTYPES, Plan
from krylearn.problems import Problem

# Fields of a family from which b follows.
_SOURCES = ("source", "temperature", "previous")
# Problems that are looked at.
_PROBES = 3


@dataclass(frozen=True)
class Array:
    """An array that every sample has: its name in the file, shape and type of one sample's."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def bytes(self) -> int:
        """Bytes of one sample."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


@dataclass(frozen=True)
class Layout:
    """The arrays of a file, in order.

    Attributes
    ----------
    inputs : tuple of Array
        What differs from sample to sample.
    solution : Array
    constants : dict of str to array
        What all samples share.
    coordinates : tuple of array
        Of the points along each axis.
    same_matrix : bool
        Whether the first problems have one matrix.
    """

    inputs: tuple[Array, ...]
    solution: Array
    constants: dict[str, np.ndarray]
    coordinates: tuple[np.ndarray, ...]
    same_matrix: bool

    @property
    def arrays(self) -> tuple[Array, ...]:
        """All arrays; the checksum, which is written last, covers the others."""
        statistics = [
            Array(f"statistics/{a.name.removeprefix('inputs/')}", (2,), np.dtype("f8"))
            for a in (*self.inputs, self.solution)
        ]
        small = [
            Array(name, (), np.dtype(dtype))
            for name, dtype in (("residual", "f8"), ("seed", "i8"), ("valid", "u1"),
                                ("checksum", "u4"))
        ]  # fmt: skip
        return (*self.inputs, self.solution, *statistics, *small)


def find_layout(plan: Plan) -> Layout:
    """Return the layout of a plan's samples.

    Raises
    ------
    ValueError
        If nothing differs between samples, or a stride is asked for where there is no grid.
    """
    probes = [plan.systems(i) for i in range(_PROBES)]
    first = probes[0][0]
    if plan.stride > 1 and first.grid is None:
        raise ValueError(f"{plan.family} has no grid that a stride could thin out")
    drawn = [fields(plan, systems) for systems in probes]
    varying = {name for name, value in drawn[0].items()
               if any(not np.array_equal(value, other[name]) for other in drawn[1:])}  # fmt: skip
    if varying & set(_SOURCES):
        varying.discard("rhs")
    if not varying:
        raise ValueError(f"{plan.family} with these options is the same system for every seed")
    inputs = tuple(
        Array(f"inputs/{name}", value.shape, kept_dtype(plan, value))
        for name, value in drawn[0].items() if name in varying
    )
    constants = {name: value for name, value in drawn[0].items()
                 if name not in varying and name != "rhs"}  # fmt: skip
    unknowns = np.result_type(first.A.dtype, first.b.dtype)
    shape = solution_shape(plan, probes[0])
    grid = first.grid
    coordinates = () if grid is None else tuple(
        grid.coordinates(axis)[:: plan.stride] for axis in range(grid.ndim)
    )
    return Layout(inputs, Array("solution", shape, kept_dtype(plan, np.empty(0, unknowns))),
                  constants, coordinates, same_matrices([p[0] for p in probes]))  # fmt: skip


def kept_dtype(plan: Plan, values: np.ndarray) -> np.dtype:
    """Return the type in which values are kept."""
    if values.dtype.kind in "fc":
        return np.dtype(DTYPES[plan.dtype] if values.dtype.kind == "c" else plan.dtype)
    return values.dtype


def fields(plan: Plan, systems: list[Problem]) -> dict[str, np.ndarray]:
    """Return what was drawn for a sample, thinned out, and its right-hand side as 'rhs'.

    Steps of a family that evolves are stacked.
    """
    rows = []
    for P in systems:
        row = {name: value for name, given in P.params.items()
               if (value := _numbers(given)) is not None}  # fmt: skip
        rows.append({name: _thin(plan, P, value) for name, value in (row | {"rhs": P.b}).items()})
    if len(systems) == 1 and not evolves(plan, systems):
        return rows[0]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def evolves(plan: Plan, systems: list[Problem]) -> bool:
    """Return whether a sample is a sequence of steps, be it of one."""
    return len(systems) > 1 or "previous" in systems[0].params


def solution_shape(plan: Plan, systems: list[Problem]) -> tuple[int, ...]:
    """Return the shape of a sample's solution as it is kept."""
    P = systems[0]
    one = _thin(plan, P, np.empty(P.A.shape[1])).shape
    return (len(systems), *one) if evolves(plan, systems) else one


def kept_solution(plan: Plan, systems: list[Problem], xs: list[np.ndarray]) -> np.ndarray:
    """Return a sample's solution, thinned out and stacked over the steps."""
    return np.stack([_thin(plan, P, x) for P, x in zip(systems, xs)]).reshape(
        solution_shape(plan, systems)
    )


def same_matrices(problems: list[Problem]) -> bool:
    """Return whether all problems have one matrix."""
    return all(same_matrix(problems[0].A, P.A) for P in problems[1:])


def same_matrix(A: Any, B: Any) -> bool:
    """Return whether two operators, each a grid operator or CSR, are the same matrix."""
    if A is B:
        return True
    if hasattr(A, "_stack") and hasattr(B, "_stack"):
        return A.grid == B.grid and np.array_equal(A._stack, B._stack)
    if hasattr(A, "indptr") and hasattr(B, "indptr"):
        return A.shape == B.shape and all(
            np.array_equal(getattr(A, name), getattr(B, name))
            for name in ("indptr", "indices", "data")
        )
    return False


def _numbers(value: Any) -> np.ndarray | None:
    if isinstance(value, tuple):
        value = np.stack(np.broadcast_arrays(*value))
    array = np.asarray(value)
    return array if array.dtype.kind in "biufc" else None


def _thin(plan: Plan, P: Problem, values: np.ndarray) -> np.ndarray:
    """Return a field in the grid's shape, every `stride`-th point of it; other values as is."""
    if P.grid is None:
        return values
    shape = P.grid.shape
    if values.ndim == 1 and values.size == P.grid.size:
        values = values.reshape(shape)
    if values.shape == tuple(n + 2 for n in shape):  # with a frame of sides
        values = values[(slice(1, -1),) * len(shape)]
    if values.shape[max(0, values.ndim - len(shape)) :] != shape:
        return values
    kept: Any = (..., *(slice(None, None, plan.stride),) * len(shape))
    return values[kept]
