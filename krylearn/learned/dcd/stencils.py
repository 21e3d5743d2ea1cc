"""A geometry-aware direction model: linear in r, its stencils made of the matrix by a network."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["StencilCycle"]

_CONV: tuple[Any, ...] = (nn.Conv2d, nn.Conv3d)


class StencilCycle(nn.Module):
    """A V-shaped cycle whose smoothers and transfers are stencils of their own for each cell.

    On each level, with D the diagonal, P the constants over joined cells and M' the cycle on the
    level below, M is::

        a / D  +  Z' inv(D) Z  +  W P (gamma M') P' R

    Z, W and R couple each cell with the nearest 3^d. A small network makes their coefficients, and
    a > 0, of conductances and ties nearby, once for each matrix. The weights in W of what a cell
    takes from its neighbours sum up to one, so that constants are interpolated exactly, but where
    a tie holds the cell at zero: there to ``1 / (1 + g tie / conductances)``, g > 0 of the network.

    Parameters
    ----------
    dimension : {2, 3}
    width : int
        Hidden channels of the network.
    kinds : int
        Networks: one for each of the finest levels, the last one for all that are coarser.
    tied : bool
        ``R = W'`` and the two Z are adjoint: M is symmetric and positive definite by
        construction, so that plain `cg` may use it. Otherwise all four are learned.

    References
    ----------
    Lan, Palmer, Gong, Kaneda, ... and Teran (2024), A neural-preconditioned Poisson solver for
    mixed Dirichlet and Neumann boundary conditions, ICML, whose network is linear in r too.
    """

    linear = True
    near: Any
    mask: Any
    hidden: Any
    out: Any

    def __init__(self, dimension: int = 3, width: int = 32, kinds: int = 3,
                 tied: bool = True) -> None:  # fmt: skip
        super().__init__()
        if dimension not in (2, 3):
            raise ValueError(f"dimension must be 2 or 3, not {dimension!r}")
        self.settings = {"dimension": dimension, "width": width, "kinds": kinds, "tied": tied}
        self.dimension, self.tied = dimension, tied
        self.offsets = list(itertools.product((-1, 0, 1), repeat=dimension))
        count = len(self.offsets)
        conv = _CONV[dimension - 2]
        self.near = nn.ModuleList(conv(dimension + 1, width, 3, padding=1) for _ in range(kinds))
        self.mask = nn.ModuleList(
            conv(1, width, 3, padding=1, bias=False) for _ in range(kinds)
        )
        self.hidden = nn.ModuleList(conv(width, width, 1) for _ in range(kinds))
        # a and g; Z and W; the other two where they are not adjoint.
        self.out = nn.ModuleList(
            conv(width, 2 + count * (2 if tied else 4), 1) for _ in range(kinds)
        )
        self.gamma = nn.Parameter(torch.full((kinds,), math.log(2.0)))
        self._begin(count)

    @torch.no_grad()
    def _begin(self, count: int) -> None:
        """Begin as damped Jacobi with linear interpolation."""
        middle = count // 2
        linear = torch.tensor([math.prod(2.0 - abs(k) for k in o) for o in self.offsets])
        for out in self.out:
            out.weight.mul_(0.1)
            bias = torch.zeros_like(out.bias)
            bias[0], bias[1] = math.log(math.expm1(0.5)), math.log(math.expm1(2.0))
            for part in range(0, (len(bias) - 2) // count, 2):
                z, w = bias[2 + part * count :][:count], bias[2 + (part + 1) * count :][:count]
                z[middle] = 0.6
                w.copy_(linear / linear.sum())
            out.bias.copy_(bias)

    # -- the network: once for each matrix -------------------------------------------------

    def make(self, levels: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        """Return the stencils of the levels but the coarsest.

        Parameters
        ----------
        levels : list of dict
            'links' (batch, ndim, n, ...), 'ties', 'active' and 'diagonal' (batch, n, ...).

        Returns
        -------
        stencils : list of dict
            'scale' (batch, n, ...), a / D; and, (batch, 3^d, n, ...) each, what a cell takes from
            its neighbours on the way down: 'smooth', 'restrict'; and up: 'smooth_up', 'prolong'.
        """
        return [self._stencils(level, min(depth, len(self.out) - 1))
                for depth, level in enumerate(levels[:-1])]  # fmt: skip

    def features(self, level: dict[str, Tensor], kind: int) -> Tensor:
        """Return the network's outputs for each cell, (batch, outputs, n, ...)."""
        values = torch.cat([level["links"], level["ties"][:, None]], dim=1)
        near, mask = self.near[kind], self.mask[kind]
        bias = near.bias
        u = near._conv_forward(values, near.weight, None) / level["diagonal"][:, None]
        u = u + mask(level["active"][:, None]) + bias.reshape(1, -1, *[1] * self.dimension)
        return self.out[kind](F.relu(self.hidden[kind](F.relu(_bounded(u)))))

    def features_of(self, values: Tensor, active: Tensor, diagonal: Tensor, kind: int) -> Tensor:
        """Return the same for single cells, of what lies around them.

        Parameters
        ----------
        values : (cells, ndim + 1, 3^d) tensor
            Conductances and ties of each cell and its neighbours.
        active : (cells, 3^d) tensor
        diagonal : (cells,) tensor
        kind : int

        Returns
        -------
        (cells, outputs) tensor
        """
        near, mask, hidden, out = (part[kind] for part in (self.near, self.mask, self.hidden,
                                                           self.out))  # fmt: skip
        u = values.flatten(1) @ near.weight.flatten(1).T / diagonal[:, None]
        u = _bounded(u + active @ mask.weight.flatten(1).T + near.bias)
        u = F.relu(F.linear(F.relu(u), hidden.weight.flatten(1), hidden.bias))
        return F.linear(u, out.weight.flatten(1), out.bias)

    def split(self, found: Tensor, there: Tensor, active: Tensor, diagonal: Tensor,
              ties: Tensor) -> tuple[Tensor, list[Tensor]]:  # fmt: skip
        """Return a / D, and the stencils Z, W and, unless tied, Z' and R', of network outputs.

        `there`, (batch, 3^d, ...), says which neighbours hold an unknown.
        """
        count = len(self.offsets)
        parts = [found[:, 2 + k * count : 2 + (k + 1) * count] * there
                 for k in range(2 if self.tied else 4)]  # fmt: skip
        held = (ties / (diagonal - ties).clamp_min(1e-3 * diagonal))[:, None]
        total = 1 / (1 + F.softplus(found[:, 1:2]) * held)
        root = diagonal.rsqrt()[:, None]
        for k, part in enumerate(parts):
            parts[k] = total * _summing_to_one(part) if k % 2 else part * root
        return F.softplus(found[:, 0]) * active / diagonal, parts

    def _stencils(self, level: dict[str, Tensor], kind: int) -> dict[str, Tensor]:
        active = level["active"]
        # Cells without an unknown give and take nothing.
        there = self.shifted(active) * active[:, None]
        scale, parts = self.split(self.features(level, kind), there, active, level["diagonal"],
                                  level["ties"])  # fmt: skip
        smooth_up = self.adjoint(parts[0]) if self.tied else parts[2]
        return {"scale": scale, "smooth": parts[0], "restrict": self.adjoint(parts[-1]),
                "smooth_up": smooth_up, "prolong": parts[1]}  # fmt: skip

    def shifted(self, x: Tensor) -> Tensor:
        """Return each cell's 3^d neighbours' values, zero outside, (batch, 3^d, n, ...)."""
        padded = F.pad(x, (1, 1) * self.dimension)
        parts = []
        for offset in self.offsets:
            near = (slice(1 + k, 1 + k + n) for k, n in zip(offset, x.shape[1:]))
            cut: Any = (slice(None), *near)
            parts.append(padded[cut])
        return torch.stack(parts, dim=1)

    def adjoint(self, stencil: Tensor) -> Tensor:
        """Return the coefficients of the adjoint of a stencil."""
        padded = F.pad(stencil, (1, 1) * self.dimension)
        count, shape = len(self.offsets), stencil.shape[2:]
        parts = []
        for place, offset in enumerate(self.offsets):
            cut: Any = (slice(None), count - 1 - place,
                        *(slice(1 + k, 1 + k + n) for k, n in zip(offset, shape)))  # fmt: skip
            parts.append(padded[cut])
        return torch.stack(parts, dim=1)

    # -- the cycle -------------------------------------------------------------------------

    def forward(self, r: Tensor, stencils: list[dict[str, Tensor]], inverse: Tensor) -> Tensor:
        """Return M r, both (batch, n, ...); `inverse` is that of the coarsest matrices."""
        return self._cycle(r, stencils, inverse, 0)

    def _cycle(self, r: Tensor, stencils: Any, inverse: Tensor, depth: int) -> Tensor:
        if depth == len(stencils):
            return torch.einsum("bij,bj->bi", inverse, r.flatten(1)).reshape(r.shape)
        s = stencils[depth]
        near = self.shifted(r)
        t = (s["smooth"] * near).sum(1)
        below = _join((s["restrict"] * near).sum(1))
        gamma = self.gamma[min(depth, len(self.gamma) - 1)].exp()
        e = gamma * self._cycle(below, stencils, inverse, depth + 1)
        u = s["scale"] * r + (s["smooth_up"] * self.shifted(t)).sum(1)
        return u + (s["prolong"] * self.shifted(_spread(e, r.shape[1:]))).sum(1)


def _bounded(u: Tensor) -> Tensor:
    """Keep large contrasts from running away."""
    return u / (1 + u.abs() / 8)


def _summing_to_one(weights: Tensor) -> Tensor:
    total = weights.sum(1, keepdim=True)
    # Far from zero on all that training sees; where not, no more than a factor is lost.
    return weights / torch.where(total.abs() < 0.1, torch.full_like(total, 0.1), total)


def _join(x: Tensor) -> Tensor:
    """Return the sums over joined cells."""
    odd = [k for n in reversed(x.shape[1:]) for k in (0, n % 2)]
    x = F.pad(x, odd)
    for d in range(1, x.ndim):
        x = x.unflatten(d, (-1, 2)).sum(d + 1)
    return x


def _spread(e: Tensor, shape: Any) -> Tensor:
    """Return for each cell the value of that which it was joined to."""
    for d in range(1, e.ndim):
        twice = e.unsqueeze(d + 1).expand(*e.shape[: d + 1], 2, *e.shape[d + 1 :])
        e = twice.flatten(d, d + 1).narrow(d, 0, shape[d - 1])
    return e
