"""Training through the iteration: gradients pass through steps of flexible conjugate gradients.

Whatever maps residuals to directions is trained on what some steps of the actual iteration leave
of the residual. All of it works on tensors, so that it runs where the network does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from krylearn.grid import GridOperator

__all__ = ["Systems", "mean_rate", "norms_along", "steps_to"]


class Systems:
    """Several matrices on grids of one shape, applied to batches that hold each equally often.

    Parameters
    ----------
    operators : list of GridOperator
    each : int
        Vectors that belong to each operator: the first `each` of a batch to the first, and so on.
    device : str
    """

    def __init__(self, operators: Sequence[GridOperator], each: int = 1,
                 device: Any = "cpu") -> None:  # fmt: skip
        parts = [A.stencil() for A in operators]
        ndim = operators[0].grid.ndim
        stacks = [np.stack([diagonal, *upper]) for diagonal, upper, _ in parts]
        masks = [np.ones(A.grid.shape, bool) if A.mask is None else A.mask for A in operators]

        def put(values: Any) -> Tensor:
            tensor = torch.from_numpy(np.stack(values).astype(np.float32)).to(device)
            return tensor.repeat_interleave(each, dim=0)

        stack, self.mask = put(stacks), put(masks)
        self.diagonal, self.upper = stack[:, 0], [stack[:, 1 + d] for d in range(ndim)]
        self.axes = tuple(range(1, ndim + 1))

    def chosen(self, rows: Tensor) -> Systems:
        """Return the systems of some rows."""
        new: Systems = object.__new__(Systems)
        new.diagonal, new.upper = self.diagonal[rows], [u[rows] for u in self.upper]
        new.mask, new.axes = self.mask[rows], self.axes
        return new

    def mean(self, x: Tensor) -> Tensor:
        """Return the mean over the cells with an unknown, (batch, 1, ...)."""
        return self.dot(self.mask, x) / self.dot(self.mask, self.mask)

    def apply(self, x: Tensor) -> Tensor:
        """Return A times each vector of a batch."""
        y = self.diagonal * x
        for axis, u in zip(self.axes, self.upper):
            y = y + u * x.roll(-1, axis) + (u * x).roll(1, axis)
        return y

    def dot(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the inner product of each pair of vectors, (batch, 1, ...)."""
        return (x * y).sum(self.axes, keepdim=True)

    def norm(self, x: Tensor) -> Tensor:
        return self.dot(x, x).sqrt()

    def advance(self, q: Tensor, r: Tensor, history: Sequence[Sequence[Tensor]] = ()
                ) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        """Take the step of the iteration with the directions q; return p, A p, p A p and r.

        `history` holds (p, A p, p A p) of earlier steps, to which q is made A-orthogonal; where
        p A p is zero there is none.
        """
        p = q * self.mask
        for past, image, curvature in history:
            p = p - self.dot(p, image) / curvature.clamp_min(1e-30) * past
        image = self.apply(p)
        curvature = self.dot(p, image)
        return p, image, curvature, r - self.dot(p, r) / curvature.clamp_min(1e-30) * image


def norms_along(systems: Systems, direction: Callable[[Tensor], Tensor], r: Tensor,
                steps: int) -> list[Tensor]:  # fmt: skip
    """Return the norms of the residual along the iteration, the first being that of r.

    Parameters
    ----------
    systems : Systems
    direction : callable
        What the network makes of a residual. Its directions are made A-orthogonal to the last two.
    r : (batch, n, ...) tensor
    steps : int
    """
    norms = [systems.norm(r)]
    past: list[Any] = []
    for _ in range(steps):
        *taken, r = systems.advance(direction(r), r, past)
        past = [taken, *past[:1]]
        norms.append(systems.norm(r))
    return norms


def mean_rate(norms: Sequence[Tensor]) -> Tensor:
    """Return the mean logarithm of what a step leaves, from the second step on: a loss."""
    rates = [(norms[j] / norms[0]).clamp_min(1e-7).log() / j for j in range(2, len(norms))]
    return torch.stack(rates).mean()


def steps_to(norms: Sequence[Tensor], bound: float) -> float:
    """Return the steps until all residuals have fallen to a bound, relative; 99 if they do not.

    It lies between two steps by how far the residual fell.
    """
    left = torch.stack([(n / norms[0]).flatten() for n in norms]).nan_to_num(1.0)
    worst = left.cummin(0).values.amax(1).tolist()
    j = next((j for j, value in enumerate(worst) if value < bound), 0)
    if not j:
        return 99.0
    return float(j - np.log(bound / worst[j]) / np.log(worst[j - 1] / worst[j]))
