"""Geometric multigrid set up on the device, for coefficients that lie there point by point.

What the levels are is decided here as on the host, from a few numbers that come back from each
(samples of the links, whether a mask is still needed); the coefficients never leave the device.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from krylearn.cuda import arrays
from krylearn.cuda.arrays import download, empty, shared, upload, zeros
from krylearn.cuda.geometric import CudaGeometricMultigrid
from krylearn.cuda.levels import Tables, tabulate
from krylearn.cuda.operators import CudaGridOperator
from krylearn.kernels.cuda import box
from krylearn.kernels.cuda import hierarchy as kernels
from krylearn.solvers.multigrid import multigrid as choice
from krylearn.solvers.multigrid.axis import Axis, Transfer, identity
from krylearn.solvers.multigrid.geometric import GeometricMultigrid
from krylearn.solvers.multigrid.hierarchy import STRONG, build
from krylearn.solvers.multigrid.levels import axes_of
from krylearn.solvers.multigrid.packed import SLOTS, Packed, stride_of


@dataclass(frozen=True)
class Facts:
    """What a set-up must know of an operator's entries.

    Attributes
    ----------
    finite, positive_diagonal, couplings_positive : bool
    jumps : float
        Share of points whose two links along an axis differ by a jump.
    thin : float
        Share of solid cells that lie in thin walls.
    """

    finite: bool
    positive_diagonal: bool
    couplings_positive: bool
    jumps: float
    thin: float


def sets_up(A: Any) -> bool:
    """Return whether the levels of A are made on the device: real numbers, point by point."""
    return (
        isinstance(A, CudaGridOperator) and not A.fuses and A.dtype.kind == "f"
        and bool(A.symmetric) and len(A.wrapped._stack) == 1 + A.grid.ndim
        and min(A.grid.shape) > 1
    )  # fmt: skip


def facts_of(A: CudaGridOperator) -> Facts:
    """Return what a pass over the entries tells; done once an operator."""
    known = getattr(A, "_facts", None)
    if known is None:
        n, (nz, ny, nx) = A.shape[0], A._geometry[:3]
        sums = zeros((kernels.COUNTS, kernels.look_blocks(n)), np.float64)
        kernels.look((nz, ny, nx), A._arrays[0], A.mask, choice.JUMP, A.entries, sums)
        counts = download(sums).sum(axis=1)
        known = A._facts = Facts(  # type: ignore[attr-defined]
            counts[kernels.NONFINITE] == 0, counts[kernels.INDEFINITE] == 0,
            counts[kernels.POSITIVE] > 0, counts[kernels.JUMPS] / n,
            counts[kernels.THIN] / max(1.0, counts[kernels.SOLID]),
        )  # fmt: skip
    return known


def lattice_fails(A: CudaGridOperator) -> str:
    """Return why a coarser lattice cannot stand for A, as `multigrid.lattice_fails` does."""
    if not sets_up(A):
        return choice.lattice_fails(A.wrapped)
    facts = facts_of(A)
    return choice.verdict(facts.couplings_positive, facts.thin, facts.jumps)


@arrays.naming_bytes()
def multigrid(A: Any, coarsening: str = "auto", **options: Any) -> Any:
    """Return geometric multigrid set up on the device; None where that is not what suits A.

    Parameters
    ----------
    A : CudaOperator
    coarsening, **options
        As for `krylearn.multigrid`.
    """
    if coarsening not in ("auto", "geometric") or not sets_up(A):
        return None
    why = "the coarsening was given"
    if coarsening == "auto":
        kind, why = choice.kind_on_a_grid(lattice_fails(A), A.grid.ndim)
        if kind == "classical":
            return None
        if kind == "joined":
            options = {"cycle": "V"} | options  # AMLI has no twin here
            options = choice.joined_options(A.wrapped, **options) | options
    started = time.perf_counter()
    M = _SetUpThere(A, **options)
    M.choice = why
    twin = CudaGeometricMultigrid(M)
    twin.setup_seconds = time.perf_counter() - started
    return twin


class _SetUpThere(GeometricMultigrid):
    """A cycle whose coefficients are made where the operator lies; its twin does the work."""

    def _taken(self, A):
        facts = facts_of(A)
        if not facts.finite:
            raise ValueError(f"{self.name}: A holds NaN or Inf")
        if not facts.positive_diagonal:
            raise ValueError(f"{self.name} needs a positive diagonal; use minres or gmres")
        return A

    def _build(self, A):
        lines = self._lines_of(A.wrapped)
        level = finest(A, self.working, self.transfer == "constant")
        self._hierarchy = build(level, self.working, strong=0.0 if lines else STRONG)

    def __repr__(self):
        return super().__repr__().replace(type(self).__name__, "GeometricMultigrid", 1)


class _Level(Packed):
    """A level on the device.

    Attributes
    ----------
    coef, excess : arrays on the device
        As in `Packed`.
    ties : array on the device, or None
        What ties points to sides, of this level from `tied` on; of the next one in the other half.
    held : int
        Dirichlet sides as bits, those of x first.
    active : array on the device, or None
        The mask.
    """

    def __init__(self, axes: list[Axis], coef: Any, excess: Any, held: int, ties: Any, tied: int,
                 active: Any) -> None:  # fmt: skip
        super().__init__(axes, 1, coef, excess, {})
        self.held, self.ties, self.tied, self.active = held, ties, tied, active
        self.passing: Any = None
        self.mask = active  # type: ignore[assignment]
        self._copy: Packed | None = None

    @property
    def box(self) -> tuple[int, int, int]:
        """The sizes along z, y and x."""
        n = [1, 1, 1]
        for axis, slot in zip(self.axes, SLOTS[len(self.axes)]):
            n[slot] = axis.n
        return (n[0], n[1], n[2])

    def rows(self) -> list[Any]:
        return [self.coef] if self.passing is None else [self.coef, self.passing]

    @staticmethod
    def join(parts: list[Any]) -> Any:
        total = sum(part.size for part in parts)
        out = empty(total, parts[0].dtype, "the coefficients of the levels")
        values, at = shared(out), 0
        while parts:
            part = parts.pop(0)
            values[at : at + part.size] = shared(part)
            at += part.size
        return out

    @property
    def row(self) -> tuple[int, ...]:
        """The level as the kernels want it, without tables."""
        row = [0] * box.FIELDS
        row[:3], row[box.TIES], row[box.POINTS] = self.box, self.tied, kernels.wide(self.box[2])
        return tuple(row)

    def samples(self) -> list[np.ndarray]:
        n = int(np.prod(self.shape))
        step, coef = stride_of(n), shared(self.coef)
        parts: list[Any] = []
        owner: list[int] = []
        for d, slot in enumerate(SLOTS[len(self.axes)]):
            row = 3 - slot
            parts.append(coef[row * n : (row + 1) * n : step])
            for side in (0, 1):
                if self.held >> (2 * (2 - slot) + side) & 1:
                    parts.append(shared(self.ties)[slice(*self._tie_range(slot, side))][::step])
            owner += [d] * (len(parts) - len(owner))
        ends = np.cumsum([0] + [len(part) for part in parts])
        if arrays.simulated():
            values = np.concatenate(parts)
        else:
            import torch

            values = torch.cat(parts).cpu().numpy()
        pieces = [values[a:b] for a, b in zip(ends, ends[1:])]
        return [
            np.concatenate([piece for piece, o in zip(pieces, owner) if o == d])
            for d in range(len(self.axes))
        ]  # fmt: skip

    def _tie_range(self, slot: int, side: int) -> tuple[int, int]:
        """Return where the ties to a side begin and end; x, y, z behind each other."""
        nz, ny, nx = self.box
        faces = (ny * nx, nz * nx, nz * ny)
        first = self.tied + sum(2 * faces[s] for s in range(slot + 1, 3)) + side * faces[slot]
        return first, first + faces[slot]

    def coarsen(self, axes: list[Axis], transfers: list[Transfer | None]) -> _Level:
        n, room = int(np.prod([axis.n for axis in axes])), 0
        if self.ties is not None:
            room = self.ties.size // 2
        coarse = _Level(
            axes, empty(4 * n, self.coef.dtype), empty(n, self.coef.dtype), self.held, self.ties,
            room - self.tied, None,
        )  # fmt: skip
        real, slots = np.dtype(self.coef.dtype), SLOTS[len(axes)]
        among = tuple(
            (transfers[slots.index(slot)] if slot in slots else None) or identity(self.box[slot])
            for slot in range(3)
        )
        levels, tables, _ = _between(among, real, self.row, coarse.row, _device())
        if self.active is not None:
            active = empty(n, np.uint8)
            kernels.coarsen_mask(coarse.box, *levels, *tables, self.active, active)
            if not bool(shared(active).all()):
                coarse.active = coarse.mask = active
            self.passing = empty(self.excess.size, real)
            kernels.pass_(self.box, *levels, *tables, self.active, coarse.active, self.passing)
        ties = self.excess if self.ties is None else self.ties
        kernels.coarsen(coarse.box, *levels, self.held, *tables, self.coef, self.excess,
                        coarse.coef, coarse.excess, ties)  # fmt: skip
        return coarse

    # -- the coarsest level, which the host inverts --------------------------------------------

    @property
    def links(self) -> list[np.ndarray]:
        return self._there().links

    def full_diagonal(self) -> np.ndarray:
        return self._there().full_diagonal()

    def _there(self) -> Packed:
        if self._copy is None:
            self._copy = Packed(self.axes, 1, download(self.coef), download(self.excess), {})
            ties = download(self.ties) if self.held else np.empty(0)
            for d, slot in enumerate(SLOTS[len(self.axes)]):
                for side in (0, 1):
                    if self.held >> (2 * (2 - slot) + side) & 1:
                        first, last = self._tie_range(slot, side)
                        shape = [1 if e == d else n for e, n in enumerate(self.shape)]
                        self._copy.sides[d, side] = ties[first:last].reshape(*shape, 1)
        return self._copy


# What was made for a grid serves the next operator on it.
@lru_cache(maxsize=128)
def _between(
    transfers: tuple[Transfer, ...], dtype: np.dtype, fine: tuple[int, ...],
    coarse: tuple[int, ...], device: int,
) -> tuple[tuple[Any, Any], tuple[Any, Any], Any]:  # fmt: skip
    """Return on the device the numbers of two levels, tables of the axes, and who holds them."""
    ints, floats, row = Tables(np.uint32), Tables(dtype.type), np.array(fine)
    for slot, transfer in enumerate(transfers):
        row[box.INTS + slot], row[box.FLOATS + slot] = ints.length, floats.length
        tabulate(transfer, ints, floats, row, slot)
    geo = upload(np.array([row, coarse], np.int32)).view(np.uint32)
    indices = upload(ints.array().view(np.int32)).view(np.uint32)
    return (geo[0], geo[1]), (indices, upload(floats.array())), geo


def _device() -> int:
    """Return the number of the current device."""
    if arrays.simulated():
        return 0
    import torch

    return torch.cuda.current_device()


def finest(A: CudaGridOperator, dtype: Any, jumps: bool = False) -> _Level:
    """Return the finest level of an operator on the device.

    Parameters
    ----------
    A : CudaGridOperator
    dtype : dtype
        Of the levels.
    jumps : bool
        As in `Axis`.
    """
    grid, n = A.grid, A.shape[0]
    held = 0
    for slot, pair in zip(SLOTS[grid.ndim], grid.boundary):
        for side, condition in enumerate(pair):
            held |= (condition == "dirichlet") << (2 * (2 - slot) + side)
    nz, ny, nx = A._geometry[:3]
    ties = empty(4 * (nz * ny + nz * nx + ny * nx), dtype) if held else None
    axes = axes_of(grid, A.mask is not None, jumps)
    what = "the coefficients of the finest level"
    level = _Level(axes, empty(4 * n, dtype, what), empty(n, dtype, what), held, ties, 0, A.mask)
    largest = float(shared(A.entries)[:n].max())
    level.scale = np.array([largest if largest > 0 else 1.0])
    eps = 64 * float(np.finfo(A.dtype).eps)
    geo = upload(np.array(level.row, np.int32)).view(np.uint32)
    kernels.finest(level.box, geo, A._arrays[0], A.mask, held, eps, 1 / largest, A.entries,
                   level.coef, level.excess, level.excess if ties is None else ties)  # fmt: skip
    return level
