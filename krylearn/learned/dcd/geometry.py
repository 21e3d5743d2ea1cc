"""What a geometry-aware network sees of a matrix: conductances and ties, on a grid and coarser.

Cells are joined two by two along each axis. With constants over the joined cells the Galerkin
product keeps nearest-neighbour couplings: conductances between them are summed, and so are ties.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["Geometry", "coarser", "coarsest_inverse", "finest", "geometries", "level_of",
           "levels_from", "stack_of"]  # fmt: skip

# A level of at most so many cells is solved exactly.
COARSEST = 64


@dataclass
class Geometry:
    """One level of a matrix.

    Attributes
    ----------
    links : (ndim, n, ...) tensor
        Conductances between each cell and its upper neighbour.
    ties : (n, ...) tensor
        What the diagonal has beyond the conductances: Dirichlet sides, reaction.
    active : (n, ...) bool tensor
        Cells that are coupled with others.
    diagonal : (n, ...) tensor
        The sum of ties and conductances; 1 where that is nothing.
    """

    links: Tensor
    ties: Tensor
    active: Tensor
    diagonal: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.ties.shape)


def stack_of(A: Any) -> Tensor:
    """Return the diagonal and the upper couplings of a grid operator, on the host."""
    return torch.from_numpy(A._points()[: 1 + A.grid.ndim])


def geometries(stack: Tensor) -> list[Geometry]:
    """Return the levels of a matrix, from its own grid to one of at most `COARSEST` cells.

    Parameters
    ----------
    stack : (1 + ndim, n, ...) tensor
        The diagonal, and the couplings with upper neighbours.
    """
    fine = finest(stack)
    return [fine, *levels_from(coarser(fine))]


def finest(stack: Tensor) -> Geometry:
    """Return a matrix's own level.

    Links that close a periodic axis are counted among the ties: the levels are a box. A cell that
    is coupled with no other takes no part.
    """
    links, diagonal = stack[1:].abs(), stack[0].real
    for d, k in enumerate(links):
        k.select(d, -1).zero_()
    sums = _sums(links)
    active = sums > 0
    ties = (diagonal - sums).clamp_min(0) * active
    # What rounding has left of the difference ties nothing.
    ties[ties < 64 * torch.finfo(ties.dtype).eps * diagonal] = 0
    return level_of(links, ties, active)


def levels_from(level: Geometry) -> list[Geometry]:
    """Return a level and all that are coarser, to one of at most `COARSEST` cells."""
    found = [level]
    while found[-1].ties.numel() > COARSEST:
        found.append(coarser(found[-1]))
    return found


def _sums(links: Tensor) -> Tensor:
    """Return the sum of each cell's conductances."""
    total = torch.zeros_like(links[0])
    for d, k in enumerate(links):
        total += k
        total += k.roll(1, d)
    return total


def level_of(links: Tensor, ties: Tensor, active: Tensor) -> Geometry:
    """Return a level, its diagonal being the sum of all that holds a cell."""
    diagonal = ties + _sums(links)
    return Geometry(links, ties, active, torch.where(diagonal > 0, diagonal, 1))


def coarser(level: Geometry) -> Geometry:
    """Return the level whose cells are pairs along each axis, those of even number first."""
    links, ties, active = level.links, level.ties, level.active
    odd = [k for n in reversed(ties.shape) for k in (0, n % 2)]
    if any(odd):
        links, ties, active = (torch.nn.functional.pad(t, odd) for t in (links, ties, active))
    across = []
    for d, k in enumerate(links):
        ahead = k.unflatten(d, (-1, 2)).select(d + 1, 1)
        across.append(joined(ahead, [e for e in range(k.ndim) if e != d]))
    every = list(range(ties.ndim))
    active = joined(active.to(ties.dtype), every) > 0
    return level_of(torch.stack(across), joined(ties, every), active)


def joined(values: Tensor, axes: list[int]) -> Tensor:
    """Return sums over pairs along axes of even size."""
    for d in axes:
        values = values.unflatten(d, (-1, 2)).sum(d + 1)
    return values


def coarsest_inverse(level: Geometry) -> Tensor:
    """Return the pseudo-inverse of the matrix of a level, zero for cells not coupled."""
    links, n = level.links.cpu().double(), level.ties.numel()
    number = torch.arange(n).reshape(level.shape)
    A = torch.diag((level.ties.cpu().double() + _sums(links)).flatten())
    for d, k in enumerate(links):
        rows, columns = number.flatten(), number.roll(-1, d).flatten()
        A.index_put_((rows, columns), -k.flatten(), accumulate=True)
        A.index_put_((columns, rows), -k.flatten(), accumulate=True)
    return torch.linalg.pinv(A, rtol=1e-10, hermitian=True)
