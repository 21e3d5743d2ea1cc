"""What a predicted field is judged by: relative norms, of values, gradients and frequencies."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["FrequencyLoss", "relative_h1", "relative_l2"]


class FrequencyLoss(nn.Module):
    """The relative error in an H1-like norm of Fourier coefficients.

    ``norm(w * (F u - F v)) / norm(w * F v)`` for each sample, with ``w^2`` one more than the sum of
    the squares of those components of the integer frequency k that are below `cutoff`.

    Parameters
    ----------
    shape : tuple of int
        Of the grid.
    cutoff : int

    References
    ----------
    He, Liu and Xu (2024), MgNO, section 5, on the training loss; their program, on the cutoff.
    """

    weights: Tensor

    def __init__(self, shape: tuple[int, ...], cutoff: int = 20) -> None:
        super().__init__()
        axes = [torch.fft.fftfreq(n, 1 / n).abs() for n in shape[:-1]]
        axes.append(torch.fft.rfftfreq(shape[-1], 1 / shape[-1]).abs())
        k = torch.stack(torch.meshgrid(*axes, indexing="ij"))
        squares = 1 + torch.where(k < cutoff, k**2, 0.0).sum(dim=0)
        # A real field's coefficients come in conjugate pairs, of which one is kept.
        twice = torch.full((shape[-1] // 2 + 1,), 2.0)
        twice[0] = 1.0
        if shape[-1] % 2 == 0:
            twice[-1] = 1.0
        self.register_buffer("weights", squares * twice)

    def forward(self, u: Tensor, v: Tensor) -> Tensor:
        """Return the (batch,) errors of u against v, (batch, channels, n, ...)."""
        axes = tuple(range(2, u.ndim))
        error, size = (
            (self.weights * torch.fft.rfftn(field, dim=axes).abs().square()).flatten(1).sum(1)
            for field in (u - v, v)
        )
        return (error / size).sqrt()


def relative_l2(u: Tensor, v: Tensor) -> Tensor:
    """Return the (batch,) relative errors of u against v, (batch, channels, n, ...)."""
    return (u - v).flatten(1).norm(dim=1) / v.flatten(1).norm(dim=1)


def relative_h1(u: Tensor, v: Tensor, spacing: float) -> Tensor:
    """Return the (batch,) relative errors in ``sqrt(|u|^2 + |grad u|^2)``.

    Gradients are differences of neighbours, `spacing` apart.
    """

    def squares(field: Tensor) -> Tensor:
        total = field.flatten(1).square().sum(1)
        for axis in range(2, field.ndim):
            total = total + (field.diff(dim=axis) / spacing).flatten(1).square().sum(1)
        return total

    return (squares(u - v) / squares(v)).sqrt()
