"""The linear multigrid neural operator: one V-cycle of convolutions, without an activation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["LinearMgNO"]

_CONV: tuple[Any, ...] = (F.conv1d, F.conv2d, F.conv3d)
_TRANSPOSED: tuple[Any, ...] = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
# The boundary condition at both ends of an axis.
Pair = tuple[str, str]


class LinearMgNO(nn.Module):
    """A linear map from residuals to directions: a V-cycle of convolutions of several channels.

    On each level, with S and R convolutions, R of stride 2, and M' the cycle on the level below,
    M is::

        w (a + S' S)  +  R' M' R

    where ``w = 1 / (1 + g 4^level shift)`` takes back coarse levels where a reaction outweighs
    diffusion. It works in units in which the matrix has a diagonal of ones
    inside the grid.

    Parameters
    ----------
    dimension : {1, 2, 3}
    width : int
        Channels of all levels but the finest, which has one, and between S' and S.
    kinds : int
        Levels with weights of their own; those of the last one serve all that are coarser, so
        that grids of any size can be taken.
    tied : bool
        The up-going convolutions are the transposes of the down-going ones: M is symmetric and
        positive definite by construction. Otherwise they are learned, too.

    References
    ----------
    He, Liu and Xu (2024), MgNO: efficient parameterization of linear operators via multigrid,
    ICLR, Algorithm 1, of which this keeps the linear map and drops the activation.

    Examples
    --------
    >>> import torch
    >>> from krylearn.learned.mgno import LinearMgNO
    >>> M = LinearMgNO(dimension=2)
    >>> r, s = torch.randn(2, 1, 20, 13)
    >>> bool(torch.isclose((s * M(r)).sum(), (M(s) * r).sum(), rtol=1e-4))
    True
    """

    linear = True

    def __init__(self, dimension: int = 2, width: int = 8, kinds: int = 3,
                 tied: bool = True) -> None:  # fmt: skip
        super().__init__()
        if dimension not in (1, 2, 3):
            raise ValueError(f"dimension must be 1, 2 or 3, not {dimension!r}")
        if width < 1 or kinds < 2:
            raise ValueError(f"width and kinds must be at least 1 and 2, not {width}, {kinds}")
        self.settings = {"dimension": dimension, "width": width, "kinds": kinds, "tied": tied}
        self.dimension, self.tied = dimension, tied
        inputs = [1] + [width] * (kinds - 1)
        ways = 1 if tied else 2  # down; and up

        def weights(size: int) -> nn.ParameterList:
            return nn.ParameterList(
                nn.Parameter(torch.empty(width, c, *[size] * dimension))
                for _ in range(ways) for c in inputs
            )  # fmt: skip

        self.smooth, self.restrict = weights(3), weights(4)
        self.gain = nn.Parameter(torch.zeros(kinds))
        self.reaction = nn.Parameter(torch.zeros(kinds))
        self._begin()

    @torch.no_grad()
    def _begin(self) -> None:
        """Begin as damped Jacobi with linear interpolation, noise in the other channels."""
        self.gain.fill_(math.log(0.5))
        line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4
        linear = line
        for _ in range(self.dimension - 1):
            linear = linear[..., None] * line
        for smooth, restrict in zip(self.smooth, self.restrict):
            smooth.normal_(std=0.1 / 3 ** (self.dimension / 2) / smooth.shape[1] ** 0.5)
            restrict.normal_(std=0.1 / 4 ** (self.dimension / 2) / restrict.shape[1] ** 0.5)
            restrict[0, 0] += linear * 2 ** (1 - self.dimension / 2)
        if not self.tied:
            for both in (self.smooth, self.restrict):
                half = len(both) // 2
                for down, up in zip(both[:half], both[half:]):
                    up.copy_(down)

    def forward(self, r: Tensor, shift: Tensor | float = 0.0, sides: Sequence[Pair] | None = None,
                nodes: bool = True) -> Tensor:  # fmt: skip
        """Return M r.

        Parameters
        ----------
        r : (batch, n, ...) tensor
        shift : float or (batch,) tensor
            What the diagonal has beyond the couplings inside the grid, relative to those.
        sides : sequence of pairs of str, optional
            The boundary condition at the ends of each axis, 'dirichlet' by default: it decides on
            what convolutions see beyond, minus the mirror image, the mirror image (Neumann), or
            what is at the other end (periodic).
        nodes : bool
            The points are nodes, not midpoints of cells. Coarse points are midpoints.
        """
        shift = torch.as_tensor(shift, dtype=r.dtype, device=r.device)
        shift = shift.reshape(-1, *[1] * (self.dimension + 1))
        sides = [("dirichlet", "dirichlet")] * self.dimension if sides is None else sides
        return self._cycle(r[:, None], shift, sides, nodes, 0)[:, 0]

    def _cycle(self, f: Tensor, shift: Tensor, sides: Any, nodes: bool, level: int) -> Tensor:
        kinds = len(self.gain)
        kind = min(level, kinds - 1)
        up = kind + (0 if self.tied else kinds)
        conv, transposed = _CONV[self.dimension - 1], _TRANSPOSED[self.dimension - 1]
        beyond = [_beyond(n, pair, nodes) for n, pair in zip(f.shape[2:], sides)]
        wide = _pad(f, beyond)
        # A transposed convolution of stride 1 is one with the turned kernel, which is quicker.
        turned = self.smooth[up].flip(*range(2, f.ndim)).transpose(0, 1)
        u = conv(conv(wide, self.smooth[kind]), turned, padding=2)
        weight = 1 / (1 + F.softplus(self.reaction[kind]) * 4.0**level * shift)
        u = weight * u
        if max(f.shape[2:]) > 2:
            below = conv(wide, self.restrict[kind], stride=2)
            e = self._cycle(below, shift, sides, False, level + 1)
            u = u + transposed(e, self.restrict[up], stride=2)
        return _fold(u, beyond) + weight * self.gain[kind].exp() * f


# A ghost: the point beyond an end takes so many times the value of another point.
Ghost = tuple[int, float]


def _beyond(n: int, pair: Pair, nodes: bool) -> tuple[Ghost, list[Ghost]]:
    """Return the ghost before an axis and those behind it: two behind one of odd length."""
    if pair[0] == "periodic":
        return (n - 1, 1.0), [(k % n, 1.0) for k in range(1 + n % 2)]
    ghosts = []
    for side, count in zip(pair, (1, 1 + n % 2)):
        sign = -1.0 if side == "dirichlet" else 1.0
        # Nodes lie on a Neumann side, and one step inside of a Dirichlet side, which holds zero.
        first = 0 if not nodes else 1 if side == "neumann" else -1
        found = [(min(first + k, n - 1), sign) if first + k >= 0 else (0, 0.0)
                 for k in range(count)]  # fmt: skip
        ghosts.append(found)
    return ghosts[0][0], [(n - 1 - k, sign) for k, sign in ghosts[1]]


def _pad(f: Tensor, beyond: list[tuple[Ghost, list[Ghost]]]) -> Tensor:
    """Return f with the ghosts around it."""
    for axis, (before, behind) in enumerate(beyond, 2):
        parts = [before, None, *behind]
        f = torch.cat([f if part is None else part[1] * f.narrow(axis, part[0], 1)
                       for part in parts], dim=axis)  # fmt: skip
    return f


def _fold(y: Tensor, beyond: list[tuple[Ghost, list[Ghost]]]) -> Tensor:
    """Apply the transpose of `_pad`."""
    for axis, (before, behind) in reversed(list(enumerate(beyond, 2))):
        n = y.shape[axis] - 1 - len(behind)
        u = y.narrow(axis, 1, n).clone()
        places = [(0, before), *enumerate(behind, n + 1)]
        for place, (source, sign) in places:
            if sign:
                u.narrow(axis, source, 1).add_(y.narrow(axis, place, 1), alpha=sign)
        y = u
    return y
