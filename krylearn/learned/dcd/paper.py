"""Networks of the deep conjugate direction method: from a residual to a search direction."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["DirectionNet", "PyramidNet"]

_CONV: tuple[Any, ...] = (nn.Conv2d, nn.Conv3d)
_POOL: tuple[Any, ...] = (F.avg_pool2d, F.avg_pool3d)
_LINEAR = ("bilinear", "trilinear")
# Numbers in the features of a scale from which on they are made a slab at a time: cuDNN counts in
# 32 bits.
MOST = 2**31


class DirectionNet(nn.Module):
    """Convolutions on two scales: what a residual looks like near a cell decides on the direction.

    Parameters
    ----------
    fine, coarse, last : int
        Convolutions at full resolution, at half of it, and at full resolution again.
    width : int
        Channels.
    dimension : {2, 3}

    Notes
    -----
    It sees the residual alone, so that it knows one family of matrices: the one it was trained on.
    In three dimensions (5, 6, 4) convolutions have 97,457 parameters, the number of the paper's
    network "from64", and (7, 10, 6) the 152,881 of its "from128". Any grid size will do.

    References
    ----------
    Kaneda, Akar, Chen, Kala, Hyde and Teran (2023), A deep conjugate direction method for
    iteratively solving linear systems, ICML, section 4 and figure 2.

    Examples
    --------
    >>> from krylearn.learned.dcd.paper import DirectionNet
    >>> [sum(p.numel() for p in DirectionNet(*n).parameters()) for n in ((5, 6, 4), (7, 10, 6))]
    [97457, 152881]
    """

    linear = False

    def __init__(self, fine: int = 5, coarse: int = 6, last: int = 4, width: int = 16,
                 dimension: int = 3) -> None:  # fmt: skip
        super().__init__()
        self.settings = _settings(fine, coarse, last, width, dimension)
        self.dimension = dimension
        conv = _CONV[dimension - 2]

        def layers(count: int) -> nn.ModuleList:
            return nn.ModuleList(conv(width, width, 3, padding=1) for _ in range(count))

        self.first = conv(1, width, 3, padding=1)
        self.fine, self.coarse, self.last = layers(fine - 1), layers(coarse), layers(last)
        self.head = conv(width, 1, 1)

    @property
    def multiplications(self) -> float:
        """Multiplications a cell."""
        coarse = sum(p.numel() for p in self.coarse.parameters())
        every = sum(p.numel() for p in self.parameters())
        return every - coarse * (1 - 0.5**self.dimension)

    def launches(self, shape: Sequence[int]) -> int:
        """Kernels of a pass: three a convolution, with its bias and ReLU or sum, and a few more."""
        return 3 * (2 + len(self.fine) + len(self.coarse) + len(self.last)) + 8

    def forward(self, r: Tensor) -> Tensor:
        """Return directions for residuals of norm one, both (batch, n, ...)."""
        if r.numel() * self.settings["width"] < MOST:
            return self._whole(r)
        # Neither scale looks farther than this; slabs begin at even places, as coarse cells do.
        halo = 2 + len(self.fine) + len(self.last) + 2 * (len(self.coarse) + 1)
        return _by_slabs(lambda one: self._whole(r[:, one.wide])[:, one.own], r.shape[1:],
                         halo + halo % 2, self.settings["width"], 1)  # fmt: skip

    def _whole(self, r: Tensor) -> Tensor:
        # Along an axis of odd size the last cell is half of a coarse one, the rest being zero.
        shape = r.shape[1:]
        odd = [n % 2 for n in reversed(shape)]
        u = F.pad(r, [k for more in odd for k in (0, more)])[:, None]
        u = _pairs(self.fine, self.first(u))
        below = _pairs(self.coarse, _POOL[self.dimension - 2](u, 2))
        u = _pairs(self.last, u + F.interpolate(below, scale_factor=2, mode="nearest"))
        kept: Any = (slice(None), *(slice(0, n) for n in shape))
        return self.head(u)[:, 0][kept]


class PyramidNet(nn.Module):
    """The paper's network on as many scales as the grid has: all coarse ones share their weights.

    Parameters
    ----------
    fine, last : int
        Convolutions at full resolution, before and after the coarse scales.
    coarse : int
        Convolutions on a coarse scale before those below it, and as many after.
    width : int
        Channels.
    dimension : {2, 3}

    Notes
    -----
    `DirectionNet` looks some twenty cells far, and what it sees of a residual of norm one shrinks
    as grids grow. Here scales go on to grids of four cells. Each looks at the residual in units of
    its own size there, and adds a direction of its own, interpolated linearly: what is smooth
    passes through no convolution of a finer scale, whose rounding would drown it.
    """

    linear = False

    def __init__(self, fine: int = 3, coarse: int = 4, last: int = 2, width: int = 16,
                 dimension: int = 3) -> None:  # fmt: skip
        super().__init__()
        self.settings = _settings(fine, coarse, last, width, dimension)
        self.dimension = dimension
        conv = _CONV[dimension - 2]

        def scale(before: int, after: int) -> nn.ModuleDict:
            counts = {"before": before, "after": after}
            layers: dict[str, nn.Module] = {
                name: nn.ModuleList(conv(width, width, 3, padding=1) for _ in range(count))
                for name, count in counts.items()
            }
            return nn.ModuleDict(
                {"first": conv(1, width, 3, padding=1), **layers, "head": conv(width, 1, 1)}
            )

        self.finest, self.coarser = scale(fine - 1, last), scale(coarse, coarse)

    @property
    def multiplications(self) -> float:
        """Multiplications a cell."""
        fine, coarse = (
            sum(p.numel() for p in scale.parameters()) for scale in (self.finest, self.coarser)
        )
        return fine + coarse / (2**self.dimension - 1)

    def launches(self, shape: Sequence[int]) -> int:
        """Kernels of a pass, as for `DirectionNet`, on all scales."""
        scales = 1 + max(0, math.ceil(math.log2(min(shape) / 4)))

        def each(scale: Any) -> int:
            return 3 * (2 + len(scale["before"]) + len(scale["after"])) + 20

        return each(self.finest) + (scales - 1) * each(self.coarser)

    def forward(self, r: Tensor) -> Tensor:
        """Return directions for residuals of any size, both (batch, n, ...)."""
        return self._scale(self.finest, r[:, None], 0.0)[0][:, 0]

    def _scale(self, layers: Any, r: Tensor, above: Any) -> tuple[Tensor, Tensor]:
        """Return the direction and the features on a scale and all below it."""
        size = r.square().mean(tuple(range(1, r.ndim)), keepdim=True).sqrt() + 1e-30
        shape = r.shape[2:]
        if r.numel() * self.settings["width"] >= MOST:
            return self._scale_by_slabs(layers, r, size)
        u = _pairs(layers["before"], layers["first"](r / size) + above)
        q: Any = 0.0
        if min(shape) > 4:
            # Along an axis of odd size the last cell is half of a coarse one, the rest being zero.
            more = [k for n in reversed(shape) for k in (0, n % 2)]
            pool = _POOL[self.dimension - 2]
            q, below = self._scale(self.coarser, pool(F.pad(r, more), 2), pool(F.pad(u, more), 2))
            kept: Any = (slice(None), slice(None), *(slice(0, n) for n in shape))
            u = u + F.interpolate(below, scale_factor=2, mode="nearest")[kept]
            # In units of the finer cells the same curvature is a quarter.
            q = 4 * F.interpolate(q, scale_factor=2, mode=_LINEAR[self.dimension - 2])[kept]
        u = _pairs(layers["after"], u)
        return size * layers["head"](u).float() + q, u


    def _scale_by_slabs(self, layers: Any, r: Tensor, size: Tensor) -> tuple[Tensor, Any]:
        """Do the same on the finest scale, whose features would be too many at once."""
        shape, width = r.shape[2:], self.settings["width"]
        pool, halo = _POOL[self.dimension - 2], 1 + len(layers["before"])

        def features(rows: slice) -> Tensor:
            first, last = max(0, rows.start - halo), min(shape[0], rows.stop + halo)
            u = _pairs(layers["before"], layers["first"](r[:, :, first:last] / size))
            return u[:, :, rows.start - first : rows.stop - first]

        def halved(u: Tensor) -> Tensor:
            return pool(F.pad(u, [k for n in reversed(u.shape[2:]) for k in (0, n % 2)]), 2)

        pooled = _by_slabs(lambda one: halved(features(one.place)), shape, 0, width, 2)
        q, below = self._scale(self.coarser, halved(r), pooled)

        def direction(one: Slab) -> Tensor:
            first, last = one.wide.start, one.wide.stop
            coarse = F.interpolate(below[:, :, first // 2 : (last + 1) // 2], scale_factor=2,
                                   mode="nearest")  # fmt: skip
            u = features(one.wide)
            kept: Any = (slice(None), slice(None), *(slice(0, n) for n in u.shape[2:]))
            u = _pairs(layers["after"], u + coarse[kept])
            return layers["head"](u)[:, :, one.own].float()

        more = len(layers["after"])
        found = _by_slabs(direction, shape, more + more % 2, width, 2)
        q = 4 * F.interpolate(q, scale_factor=2, mode=_LINEAR[self.dimension - 2])
        kept: Any = (slice(None), slice(None), *(slice(0, n) for n in shape))
        return size * found + q[kept], None


class Slab(NamedTuple):
    """Rows along the first axis: those that are wanted, with those around, and where they are."""

    place: slice
    wide: slice
    own: slice


def _by_slabs(work: Callable[[Slab], Tensor], shape: Sequence[int], halo: int, width: int,
              axis: int) -> Tensor:  # fmt: skip
    """Return the results of slabs of even begin, each with a halo, joined along an axis."""
    thick = max(2, MOST // (4 * width * math.prod(shape[1:])) // 2 * 2)
    parts = []
    for first in range(0, shape[0], thick):
        last = min(first + thick, shape[0])
        low, high = max(0, first - halo), min(shape[0], last + halo)
        parts.append(work(Slab(slice(first, last), slice(low, high),
                               slice(first - low, last - low))))  # fmt: skip
    return torch.cat(parts, axis)


def _settings(fine: int, coarse: int, last: int, width: int, dimension: int) -> dict[str, int]:
    if dimension not in (2, 3):
        raise ValueError(f"dimension must be 2 or 3, not {dimension!r}")
    if fine % 2 == 0 or coarse % 2 or last % 2 or min(fine, coarse, last) < 1:
        raise ValueError(
            "after the first one convolutions come in pairs: fine must be odd, coarse and last "
            f"even, not {fine}, {coarse}, {last}"
        )
    return {"fine": fine, "coarse": coarse, "last": last, "width": width, "dimension": dimension}


def _pairs(layers: Any, u: Tensor) -> Tensor:
    for one, two in zip(layers[::2], layers[1::2]):
        u = F.relu(two(F.relu(one(u)))) + u
    return u
