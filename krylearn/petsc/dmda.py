"""How a DMDA shares a grid out, and the stencils of a matrix on it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from krylearn.grid.box import end
from krylearn.petsc import library
from krylearn.petsc.convert import Entries
from krylearn.petsc.library import petsc
from krylearn.petsc.ranks import Ranks
from krylearn.solvers.multigrid.multigrid import RARE, share_of_jumps


class Unsuited(ValueError):
    """The matrix is none that this multigrid is for; the message says why."""


@dataclass
class Box:
    """How a DMDA shares a grid out among the ranks, axes in C order.

    Attributes
    ----------
    shape : tuple of int
        Points along each axis.
    cuts : list of int arrays
        Where the parts of each axis begin, and the end.
    place : tuple of int
        Of this rank along each axis.
    """

    shape: tuple[int, ...]
    cuts: list[np.ndarray]
    place: tuple[int, ...]

    @classmethod
    def of(cls, dm: Any, rank: int) -> Box:
        """Return the box of a DMDA."""
        parts = [np.asarray(counts) for counts in dm.getOwnershipRanges()]
        parts = parts[: dm.getDim()][::-1]
        cuts = [np.concatenate([[0], np.cumsum(counts)]).astype(int) for counts in parts]
        grid = tuple(len(counts) for counts in parts)
        place = tuple(int(i) for i in np.unravel_index(rank, grid))
        return cls(tuple(int(c[-1]) for c in cuts), cuts, place)

    @property
    def grid(self) -> tuple[int, ...]:
        """Ranks along each axis."""
        return tuple(len(c) - 1 for c in self.cuts)

    def part(self, place: tuple[int, ...] | None = None) -> list[tuple[int, int]]:
        """Return where a rank's points begin and end along each axis; this rank's by default."""
        place = self.place if place is None else place
        return [(int(c[i]), int(c[i + 1])) for c, i in zip(self.cuts, place)]

    def places(self) -> list[tuple[int, ...]]:
        """Return the places of all ranks, in their order."""
        return list(itertools.product(*map(range, self.grid)))

    def window(self, width: int) -> list[tuple[int, int]]:
        """Return this rank's part with some layers of the others'."""
        return [
            (max(a - width, 0), min(b + width, n))
            for (a, b), n in zip(self.part(), self.shape)
        ]

    def numbers(self, ranges: list[tuple[int, int]]) -> np.ndarray:
        """Return PETSc's numbers of the points of a block."""
        sizes = np.array([np.prod([b - a for a, b in self.part(p)]) for p in self.places()])
        starts = np.concatenate([[0], np.cumsum(sizes)])
        owners, inside, widths = [], [], []
        for c, (a, b) in zip(self.cuts, ranges):
            i = np.arange(a, b)
            owner = np.searchsorted(c, i, side="right") - 1
            owners.append(owner)
            inside.append(i - c[owner])
            widths.append(np.diff(c)[owner])
        mesh = np.meshgrid(*owners, indexing="ij")
        number = starts[np.ravel_multi_index(mesh, self.grid)]
        stride: Any = 1
        for d in reversed(range(len(self.shape))):
            along = [-1 if e == d else 1 for e in range(len(self.shape))]
            number = number + inside[d].reshape(along) * stride
            stride = stride * widths[d].reshape(along)
        return number


def stencil(matrix: Any, box: Box) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the diagonal of a rank's rows and its couplings to upper neighbours.

    Raises
    ------
    Unsuited
        If other points are coupled than nearest neighbours, or the matrix is not symmetric.
    """
    part = box.part()
    shape = tuple(b - a for a, b in part)
    A = Entries(matrix).csr()
    n, found = A.shape[0], np.intp(0)
    diagonal = A.diagonal().reshape(shape).copy()
    upper: list[np.ndarray] = []
    found += np.count_nonzero(diagonal)
    for d in range(len(shape)):
        stride = int(np.prod(shape[d + 1 :], dtype=int))
        values, lower = np.zeros(n, A.dtype), np.zeros(n, A.dtype)
        if stride < n:
            values[: n - stride], lower[: n - stride] = A.diagonal(stride), A.diagonal(-stride)
        values, lower = values.reshape(shape), lower.reshape(shape)
        if np.any(values[end(d, 1)]) or np.any(lower[end(d, 1)]):
            raise Unsuited("other points are coupled than nearest neighbours")
        if not np.allclose(values, lower, rtol=1e-6, atol=0):
            raise Unsuited("the matrix is not symmetric")
        found += np.count_nonzero(values) + np.count_nonzero(lower)
        upper.append(values)
    if found != np.count_nonzero(A.data):
        raise Unsuited("other points are coupled than nearest neighbours")
    if np.any(diagonal.real <= 0):
        raise Unsuited("the diagonal is not positive")
    if matrix.getType().startswith("mpi"):
        _links_across(matrix, box, upper)
    return diagonal, upper


def _links_across(matrix: Any, box: Box, upper: list[np.ndarray]) -> None:
    """Add what couples a rank's points to the next rank's."""
    part = box.part()
    shape = tuple(b - a for a, b in part)
    _, outside, columns = library.parallel_parts(matrix)
    indptr, indices, data = library.sequential_arrays(outside, int(np.prod(shape)), matrix)
    rows = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    numbers = columns[indices]
    expected: Any = 0
    at = np.unravel_index(rows, shape)
    for d, (a, b) in enumerate(part):
        for side, there in ((0, a - 1), (1, b)):
            if not 0 <= there < box.shape[d]:
                continue
            layer = [p if e != d else (there, there + 1) for e, p in enumerate(part)]
            ghost = box.numbers(layer)
            edge = np.flatnonzero(at[d] == (shape[d] - 1 if side else 0))
            here = tuple(0 if e == d else at[e][edge] for e in range(len(shape)))
            linked = edge[ghost[here] == numbers[edge]]
            expected += np.count_nonzero(data[linked])
            if side:
                upper[d][tuple(index[linked] for index in at)] = data[linked]
    if expected != np.count_nonzero(data):
        raise Unsuited("other points are coupled than nearest neighbours")


def widened(ranks: Ranks, box: Box, fields: list[np.ndarray], wide: list[tuple[int, int]]
            ) -> list[np.ndarray]:  # fmt: skip
    """Return fields on a block of points, part of which are other ranks'."""
    if ranks.size == 1:
        return fields
    PETSc = petsc()
    own = PETSc.Vec().createMPI((fields[0].size, PETSc.DECIDE), comm=ranks.comm)
    numbers = box.numbers(wide)
    where = PETSc.IS().createGeneral(numbers.ravel().astype(PETSc.IntType), comm=PETSc.COMM_SELF)
    target = PETSc.Vec().createSeq(numbers.size, comm=PETSc.COMM_SELF)
    scatter = PETSc.Scatter().create(own, where, target, None)
    wider = []
    for field in fields:
        own.setArray(field.ravel())
        scatter.scatter(own, target)
        wider.append(target.getArray().reshape(numbers.shape).copy())
    for thing in (own, where, target, scatter):
        thing.destroy()
    return wider


def gather_all(ranks: Ranks, own: np.ndarray) -> np.ndarray:
    """Return the parts of all ranks, one behind the other."""
    if ranks.size == 1:
        return own
    PETSc = petsc()
    vector = PETSc.Vec().createMPI((len(own), PETSc.DECIDE), comm=ranks.comm)
    scatter, everything = PETSc.Scatter.toAll(vector)
    vector.setArray(own)
    scatter.scatter(vector, everything)
    whole = everything.getArray().copy()
    for thing in (vector, scatter, everything):
        thing.destroy()
    return whole


def require_lattice(upper: list[np.ndarray]) -> None:
    """Raise Unsuited where a coarser lattice cannot stand for the operator."""
    if any(np.any(u.real > 0) or np.any(u.imag) for u in upper):
        raise Unsuited("couplings are positive or complex")
    if share_of_jumps(np.stack([-u.real for u in upper])) > RARE:
        raise Unsuited("coefficients jump from point to point")


def excess_of(diagonal: np.ndarray, links: list[np.ndarray]) -> np.ndarray:
    """Return by how much the diagonal exceeds the couplings; wrong at a low end that is open."""
    excess = diagonal.real.copy()
    for d, k in enumerate(links):
        size = np.abs(k)
        excess -= size
        below = np.zeros_like(size)
        low = (slice(None),) * d
        below[(*low, slice(1, None))] = size[(*low, slice(None, -1))]
        excess -= below
    return excess
