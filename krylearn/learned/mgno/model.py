"""The multigrid neural operator: layers whose linear maps are multigrid cycles of convolutions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["MgNO", "MultigridConv", "Scaled"]

# What lies beyond a side, by its boundary condition.
PADDING: dict[str, Any] = {"dirichlet": "zeros", "neumann": "reflect", "periodic": "circular"}
_CONV = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)


class MultigridConv(nn.Module):
    """A linear map between fields with several channels: one multigrid V-cycle of convolutions.

    It does what a V-cycle does for ``A u = f``: smooth on each level on the way down, restrict,
    and add the prolonged corrections on the way up, with convolutions of its own for smoother,
    operator and transfer at every step.

    Parameters
    ----------
    inputs, outputs : int
        Channels of f and of u.
    levels : int
        Grids, the finest one included.
    dimension : {1, 2, 3}
    boundary : {'dirichlet', 'neumann', 'periodic'}
        Decides on the padding of all convolutions, the transposed ones included: zeros,
        reflection or wrapping around.
    coarsest : int
        Smoothing steps on the coarsest grid; one on each other.
    restrict_residual : bool
        Restrict ``f - A u``, as the paper writes, where the authors' program restricts f.

    References
    ----------
    He, Liu and Xu (2024), MgNO: efficient parameterization of linear operators via multigrid,
    ICLR, Algorithm 1.

    Examples
    --------
    >>> import torch
    >>> from krylearn.learned.mgno import MultigridConv
    >>> W = MultigridConv(1, 8, levels=3)
    >>> W(torch.zeros(2, 1, 21, 16)).shape
    torch.Size([2, 8, 21, 16])
    """

    def __init__(self, inputs: int, outputs: int, levels: int, dimension: int = 2,
                 boundary: str = "dirichlet", coarsest: int = 2,
                 restrict_residual: bool = False) -> None:  # fmt: skip
        super().__init__()
        if dimension not in (1, 2, 3):
            raise ValueError(f"dimension must be 1, 2 or 3, not {dimension!r}")
        if boundary not in PADDING:
            raise ValueError(f"boundary must be one of {', '.join(PADDING)}, not {boundary!r}")
        if levels < 1 or coarsest < 1:
            raise ValueError(f"levels and coarsest must be at least 1, not {levels}, {coarsest}")
        self.dimension, self.restrict_residual = dimension, restrict_residual
        self.beyond = "constant" if boundary == "dirichlet" else PADDING[boundary]

        def conv(a: int, b: int, stride: int = 1) -> nn.Module:
            return _CONV[dimension - 1](a, b, 3, stride, 1, bias=False,
                                        padding_mode=PADDING[boundary])  # fmt: skip

        # smooth[l][i] and operate[l][i]: S and A of step i on level l; the first step on the
        # finest level starts from u = 0 and needs no A.
        steps = [1] * (levels - 1) + [coarsest]
        self.smooth = nn.ModuleList(
            nn.ModuleList(conv(inputs, outputs) for _ in range(n)) for n in steps
        )
        self.operate = nn.ModuleList(
            nn.ModuleList(conv(outputs, inputs) for _ in range(n - (level == 0)))
            for level, n in enumerate(steps)
        )
        self.restrict_u = nn.ModuleList(conv(outputs, outputs, 2) for _ in range(levels - 1))
        self.restrict_f = nn.ModuleList(conv(inputs, inputs, 2) for _ in range(levels - 1))
        self.residual = nn.ModuleList(
            conv(outputs, inputs) for _ in range(levels - 1 if restrict_residual else 0)
        )
        # (channels in, channels out, 4, ...): the weights of a transposed convolution.
        self.prolong = nn.ParameterList(
            nn.Parameter(torch.empty(outputs, outputs, *[4] * dimension))
            for _ in range(levels - 1)
        )
        for weight in self.prolong:
            nn.init.kaiming_uniform_(weight, a=math.sqrt(5))

    def forward(self, f: Tensor) -> Tensor:
        """Return u, shaped like f but for the channels."""
        held: list[Tensor] = []
        u: Tensor | None = None
        smoothers: Any = self.smooth
        for level, smooth in enumerate(smoothers):
            if level:
                assert u is not None
                held.append(u)
                if self.restrict_residual:
                    f = f - self.residual[level - 1](u)
                u, f = self.restrict_u[level - 1](u), self.restrict_f[level - 1](f)
            operate: Any = self.operate[level]
            first = len(smooth) - len(operate)
            for i, S in enumerate(smooth):
                u = S(f) if u is None else u + S(f - operate[i - first](u))
        assert u is not None
        for fine, weight in zip(reversed(held), reversed(self.prolong)):
            u = fine + self._prolong(u, weight, fine.shape[2:])
        return u

    def _prolong(self, u: Tensor, weight: Tensor, shape: Sequence[int]) -> Tensor:
        """Interpolate to a grid of twice as many points, or one fewer along an axis."""
        frame = 0 if self.beyond == "constant" else 1
        if frame:  # a transposed convolution itself knows of zeros only
            u = F.pad(u, (1, 1) * self.dimension, mode=self.beyond)
        whole = _TRANSPOSED[self.dimension - 1](u, weight.to(u.dtype), stride=2, padding=1)
        if not frame and whole.shape[2:] == shape:
            return whole
        kept: Any = (..., *(slice(2 * frame, 2 * frame + n) for n in shape))
        return whole[kept]


class Scaled(nn.Module):
    """A network between fields whose last layer's output is scaled, in units of its training data.

    Parameters
    ----------
    outputs, dimension : int
    scaled_on : sequence of int, optional
        The grid of the two fields that outputs are scaled with, a mean and a deviation for each
        point; by default they are two numbers. They are 0 and 1 until `set_scale` is called, and
        belong to the weights.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, outputs: int, dimension: int, scaled_on: Sequence[int] | None) -> None:
        super().__init__()
        self._fixed = scaled_on is None
        place = (1, outputs, *(scaled_on or [1] * dimension))
        self.register_buffer("mean", torch.zeros(place))
        self.register_buffer("deviation", torch.ones(place))

    def set_scale(self, mean: Tensor, deviation: Tensor) -> None:
        """Set the fields that outputs are scaled with: their mean and deviation in training."""
        self.mean.copy_(mean)
        self.deviation.copy_(deviation)

    def scaled(self, u: Tensor) -> Tensor:
        """Return outputs in the units of the data."""
        return self._on(self.mean, u.shape) + self._on(self.deviation, u.shape) * u

    def _on(self, field: Tensor, shape: Sequence[int]) -> Tensor:
        """Return a field of scales on another grid than its own, where that is asked for."""
        if self._fixed or field.shape[2:] == shape[2:]:
            return field
        mode = ("linear", "bilinear", "trilinear")[field.ndim - 3]
        return F.interpolate(field, size=list(shape[2:]), mode=mode)


class MgNO(Scaled):
    """A multigrid neural operator: ``u <- gelu(W u + L u)``, W a `MultigridConv`, L pointwise.

    Parameters
    ----------
    inputs, outputs : int
        Channels of the given and of the wanted field.
    width : int
        Channels between.
    layers, levels : int
    dimension, boundary, coarsest, restrict_residual
        As for `MultigridConv`.
    scaled_on
        As for `Scaled`.

    Notes
    -----
    Fields are (batch, channels, n, ...) tensors of any grid size of at least ``2**(levels - 1)``
    points an axis. Four layers of 24 channels on six levels have 572,661 parameters, the number
    of the paper's Darcy model.

    References
    ----------
    He, Liu and Xu (2024), MgNO: efficient parameterization of linear operators via multigrid,
    ICLR, eq. (1) and section 4.

    Examples
    --------
    >>> import torch
    >>> from krylearn.learned.mgno import MgNO
    >>> model = MgNO(1, 1, width=24, layers=4, levels=6)
    >>> sum(p.numel() for p in model.parameters())
    572661
    """

    def __init__(self, inputs: int = 1, outputs: int = 1, width: int = 24, layers: int = 4,
                 levels: int = 6, dimension: int = 2, boundary: str = "dirichlet",
                 coarsest: int = 2, restrict_residual: bool = False,
                 scaled_on: Sequence[int] | None = None) -> None:  # fmt: skip
        super().__init__(outputs, dimension, scaled_on)
        self.settings = {
            "inputs": inputs, "outputs": outputs, "width": width, "layers": layers,
            "levels": levels, "dimension": dimension, "boundary": boundary,
            "coarsest": coarsest, "restrict_residual": restrict_residual,
            "scaled_on": None if scaled_on is None else list(scaled_on),
        }  # fmt: skip
        channels = [inputs] + [width] * layers
        self.multigrid = nn.ModuleList(
            MultigridConv(a, width, levels, dimension, boundary, coarsest, restrict_residual)
            for a in channels[:-1]
        )
        point = _CONV[dimension - 1]
        self.pointwise = nn.ModuleList(point(a, width, 1) for a in channels[:-1])
        self.head = point(width, outputs, 1, bias=False)
        self.least = 2 ** (levels - 1)

    def forward(self, u: Tensor) -> Tensor:
        """Return the predicted field, (batch, outputs, n, ...), of a (batch, inputs, n, ...)."""
        if min(u.shape[2:]) < self.least:
            raise ValueError(
                f"a grid of {tuple(u.shape[2:])} is too small for these levels: at least "
                f"{self.least} points an axis are needed"
            )
        for W, L in zip(self.multigrid, self.pointwise):
            u = F.gelu(W(u) + L(u))
        return self.scaled(self.head(u))
