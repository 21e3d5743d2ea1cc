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
# Points of what lies beyond a side that a convolution sees.
REACH = 1


class LinearMgNO(nn.Module):
    """A linear map from residuals to directions: a V-cycle of convolutions of several channels.

    On each level, with S and R convolutions, R of stride 2, and M' the cycle on the level below,
    M is::

        w (a + S' S)  +  R' M' R

    where ``w = 1 / (1 + g 4^level shift)`` takes back coarse levels where a reaction outweighs
    diffusion. It works in units in which the matrix has a diagonal of ones.

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

    def forward(self, r: Tensor, shift: Tensor | float = 0.0,
                sides: Sequence[tuple[str, str]] | None = None) -> Tensor:  # fmt: skip
        """Return M r.

        Parameters
        ----------
        r : (batch, n, ...) tensor
        shift : float or (batch,) tensor
            What the diagonal has beyond the couplings inside the grid, relative to those.
        sides : sequence of pairs of str, optional
            The boundary condition at the ends of each axis, 'dirichlet' by default: it decides on
            the padding, by zeros, reflection or wrapping around.
        """
        shift = torch.as_tensor(shift, dtype=r.dtype, device=r.device)
        shift = shift.reshape(-1, *[1] * (self.dimension + 1))
        plain = sides is None or all(side == "dirichlet" for pair in sides for side in pair)
        return self._cycle(r[:, None], shift, None if plain else sides, 0)[:, 0]

    def _cycle(self, f: Tensor, shift: Tensor, sides: Any, level: int) -> Tensor:
        kinds = len(self.gain)
        kind = min(level, kinds - 1)
        up = kind + (0 if self.tied else kinds)
        u = _transposed(_conv(f, self.smooth[kind], 1, sides), self.smooth[up], 1, sides, f.shape)
        u = u + self.gain[kind].exp() * f
        u = u / (1 + F.softplus(self.reaction[kind]) * 4.0**level * shift)
        if max(f.shape[2:]) > 2:
            e = self._cycle(_conv(f, self.restrict[kind], 2, sides), shift, sides, level + 1)
            u = u + _transposed(e, self.restrict[up], 2, sides, f.shape)
        return u


def _conv(f: Tensor, weight: Tensor, stride: int, sides: Any) -> Tensor:
    """Convolve; with stride 2 an axis of odd length is made longer by one point beyond its end."""
    ndim = f.ndim - 2
    conv = _CONV[ndim - 1]
    odd = [stride == 2 and n % 2 == 1 for n in f.shape[2:]]
    if sides is None:
        if any(odd):
            f = F.pad(f, [k for o in reversed(odd) for k in (0, int(o))])
        return conv(f, weight, stride=stride, padding=REACH)
    for axis in range(ndim):
        index, inside = _beyond(f.shape[2 + axis], odd[axis], sides[axis], f)
        f = f.index_select(2 + axis, index) * _along(inside, axis, ndim)
    return conv(f, weight, stride=stride)


def _transposed(e: Tensor, weight: Tensor, stride: int, sides: Any, shape: Any) -> Tensor:
    """Apply the transpose of `_conv`, to a grid of a shape."""
    ndim = e.ndim - 2
    transposed = _TRANSPOSED[ndim - 1]
    if sides is None:
        u = transposed(e, weight, stride=stride, padding=REACH)
        return u[(..., *(slice(0, n) for n in shape[2:]))]
    u = transposed(e, weight, stride=stride)
    for axis in range(ndim):
        n = shape[2 + axis]
        index, inside = _beyond(n, stride == 2 and n % 2 == 1, sides[axis], u)
        whole = u.new_zeros(*u.shape[: 2 + axis], n, *u.shape[3 + axis :])
        u = whole.index_add(2 + axis, index, u * _along(inside, axis, ndim))
    return u


def _beyond(n: int, odd: bool, pair: tuple[str, str], like: Tensor) -> tuple[Tensor, Tensor]:
    """Return where the points of a padded axis take their values, and 0 for those that are zero."""
    place = torch.arange(-REACH, n + REACH + odd, device=like.device)
    inside = ~((place < 0) & (pair[0] == "dirichlet") | (place >= n) & (pair[1] == "dirichlet"))
    if pair[0] == "periodic":
        return place % n, inside.to(like.dtype)
    place = place % (2 * n)
    return torch.minimum(place, 2 * n - 1 - place), inside.to(like.dtype)


def _along(values: Tensor, axis: int, ndim: int) -> Tensor:
    return values.reshape(-1, *[1] * (ndim - 1 - axis))
