"""The stencil cycle as a preconditioner: tables of stencils, applied by compiled kernels."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from krylearn.kernels import stencil_cycle as kernels
from krylearn.kernels.multigrid import load, store
from krylearn.kernels.parallel import parallel_for
from krylearn.kernels.vector import CHUNK, norm
from krylearn.learned.dcd.account import CYCLE, bound
from krylearn.learned.dcd.geometry import Geometry, coarsest_inverse, geometries, stack_of
from krylearn.learned.dcd.stencils import StencilCycle
from krylearn.operators import Preconditioner
from krylearn.solvers.multigrid.structured import as_grid_operator
from krylearn.solvers.relaxation.splitting import Workspace

__all__ = ["Level", "StencilPreconditioner", "coarse_tables", "cropped", "finest_table",
           "tables"]  # fmt: skip

# Below this many unknowns there is nothing to gain from a lower precision.
SINGLE = 4096
# Cells whose stencils are made at a time.
ROWS = 65536


@dataclass
class Table:
    """The stencils of a level: row 0 for the cells that see neither sides nor obstacles.

    Attributes
    ----------
    shape : (int, int, int)
        Cells along three axes, the first being 1 in two dimensions.
    cells : (rows - 1,) int64 tensor
        The flat numbers, ascending, of the cells that have rows of their own.
    index : (cells,) int32 tensor
        The row of each cell.
    scale : (rows,) tensor
    smooth, restrict, smooth_up, prolong : (rows, 27) tensors
    gamma : float
        Of what comes up from the level below.
    """

    shape: tuple[int, int, int]
    cells: Tensor
    index: Tensor
    scale: Tensor
    smooth: Tensor
    restrict: Tensor
    smooth_up: Tensor
    prolong: Tensor
    gamma: float = 1.0


def tables(model: StencilCycle, stack: Tensor) -> tuple[list[Table], Tensor]:
    """Return the tables of all levels but the coarsest, and the coarsest inverse on the host."""
    levels = geometries(stack)
    first = finest_table(model, levels[0], stack[0])
    coarse, inverse = coarse_tables(model, levels[1:])
    return [first, *coarse], inverse


@torch.no_grad()
def finest_table(model: StencilCycle, level: Geometry, diagonal: Tensor) -> Table:
    """Return the table of a matrix's own level; `diagonal` is that of the matrix."""
    table = _table(model, level, 0)
    # Rows of their own are solved as such.
    idle = ~level.active.flatten()[table.cells]
    table.scale[1:][idle] = (1 / diagonal.real.flatten()[table.cells[idle]]).float()
    return table


@torch.no_grad()
def coarse_tables(model: StencilCycle, levels: list[Geometry]) -> tuple[list[Table], Tensor]:
    """Return the tables of the levels below the finest but the last, and the last one's inverse."""
    found = [_table(model, level, min(depth, len(model.out) - 1))
             for depth, level in enumerate(levels[:-1], 1)]  # fmt: skip
    return found, coarsest_inverse(levels[-1])


def _table(model: StencilCycle, level: Geometry, kind: int) -> Table:
    ndim, shape, device = level.ties.ndim, level.shape, level.ties.device
    offsets = list(itertools.product((-1, 0, 1), repeat=ndim))
    count = len(offsets)
    plain, usual = _plain(level)
    # Stencils see one cell around, their adjoints two.
    own = ~_within(plain, 2)
    cells = own.flatten().nonzero()[:, 0]
    index = torch.zeros(own.numel(), dtype=torch.int32, device=device)
    index[cells] = torch.arange(1, len(cells) + 1, dtype=torch.int32, device=device)

    padded = [F.pad(t.float(), (1, 1) * ndim).flatten() for t in
              (*level.links, level.ties, level.active)]  # fmt: skip
    wide = [n + 2 for n in shape]
    strides = [int(np.prod(wide[d + 1 :])) for d in range(ndim)]
    steps = torch.tensor([sum(o * s for o, s in zip(k, strides)) for k in offsets], device=device)
    places = _places(cells, shape, strides)
    index_padded = F.pad(index.reshape(shape), (1, 1) * ndim, value=-1).flatten()

    scale = torch.empty(len(cells) + 1, device=device)
    raw = [torch.empty(len(cells) + 1, count, device=device) for _ in range(2 if model.tied else 4)]

    def fill(rows: slice, values: Tensor, active: Tensor, diagonal: Tensor) -> None:
        middle = count // 2
        found = model.features_of(values, active, diagonal, kind)
        here = active[:, middle]
        scale[rows], parts = model.split(found, active * here[:, None], here, diagonal,
                                         values[:, -1, middle])  # fmt: skip
        for whole, part in zip(raw, parts):
            whole[rows] = part

    values = torch.zeros(1, ndim + 1, count, device=device)
    values[0, :ndim] = usual[:, None]
    fill(slice(0, 1), values, torch.ones(1, count, device=device), 2 * usual.sum().reshape(1))
    diagonal = level.diagonal.flatten()
    for first in range(0, len(cells), ROWS):
        around = places[first : first + ROWS, None] + steps
        values = torch.stack([t[around] for t in padded[:-1]], dim=1)
        some = cells[first : first + ROWS]
        fill(slice(first + 1, first + 1 + len(some)), values, padded[-1][around],
             diagonal[some].float())  # fmt: skip
    def adjoint(stencil: Tensor) -> Tensor:
        turned = torch.empty_like(stencil)
        turned[0] = stencil[0].flip(0)
        opposite = torch.arange(count - 1, -1, -1, device=device)
        for first in range(0, len(cells), ROWS):
            rows = index_padded[places[first : first + ROWS, None] + steps].long()
            taken = stencil[rows.clamp_min(0), opposite]
            turned[first + 1 : first + 1 + len(rows)] = torch.where(rows < 0, 0, taken)
        return turned

    smooth_up = adjoint(raw[0]) if model.tied else raw[2]
    parts: Any = [_as_27(t) for t in (raw[0], adjoint(raw[-1]), smooth_up, raw[1])]
    parts.append(float(model.gamma[kind].exp()))
    box: Any = (1,) * (3 - ndim) + shape
    return Table(box, cells, index, scale, *parts)


def cropped(table: Table, ranges: list[tuple[int, int]]) -> Table:
    """Return the table of a block of cells, which begins at a and ends at b along each axis."""
    block: Any = tuple(slice(a, b) for a, b in [(0, 1)] * (3 - len(ranges)) + ranges)
    index = table.index.reshape(table.shape)[block]
    kept = index.flatten()
    cells = kept.nonzero()[:, 0]
    rows = torch.cat([kept.new_zeros(1), kept[cells]]).long()
    parts: Any = (table.scale, table.smooth, table.restrict, table.smooth_up, table.prolong)
    kept = torch.zeros_like(kept)
    kept[cells] = torch.arange(1, len(cells) + 1, dtype=kept.dtype, device=kept.device)
    shape: Any = tuple(index.shape)
    parts = [*(part[rows] for part in parts), table.gamma]
    return Table(shape, cells, kept, *parts)


def _plain(level: Geometry) -> tuple[Tensor, Tensor]:
    """Return where conductances are the usual ones and nothing else is, and the usual ones."""
    usual = []
    plain = level.active & (level.ties == 0)
    for k in level.links:
        there = k[k > 0]
        value = there.flatten()[:: max(1, there.numel() // 4096)].median() if len(there) else (
            torch.ones((), dtype=k.dtype, device=k.device)
        )  # fmt: skip
        usual.append(value)
        plain = plain & (k == value)
    return plain, torch.stack(usual).float()


def _within(plain: Tensor, reach: int) -> Tensor:
    """Return which cells have nothing but plain ones within `reach` along all axes."""
    for d in range(plain.ndim):
        sides = [0, 0] * (plain.ndim - 1 - d) + [reach, reach]
        wide = F.pad(plain, sides)
        n = plain.shape[d]
        for k in range(2 * reach + 1):
            plain = plain & wide.narrow(d, k, n)
    return plain


def _places(cells: Tensor, shape: tuple[int, ...], strides: list[int]) -> Tensor:
    """Return the flat numbers that cells have where the grid is padded by one."""
    places, rest = torch.zeros_like(cells), cells
    for n, stride in zip(reversed(shape), reversed(strides)):
        places += (rest % n + 1) * stride
        rest = rest // n
    return places


def _as_27(stencil: Tensor) -> Tensor:
    """Return stencils of 9 points as those of 27 that they are in a layer of cells."""
    return stencil if stencil.shape[1] == 27 else F.pad(stencil, (9, 9))


class Level:
    """A table as the kernels take it."""

    prolong: np.ndarray

    def __init__(self, table: Table, dtype: Any) -> None:
        nz, ny, nx = table.shape
        self.shape, self.size = table.shape, nz * ny * nx
        self.cells = table.cells.cpu().numpy()
        self.first = np.searchsorted(self.cells, np.arange(nz * ny + 1) * nx)
        for name in ("scale", "smooth", "restrict", "smooth_up", "prolong"):
            values = getattr(table, name).cpu().numpy()
            setattr(self, name, np.ascontiguousarray(values, dtype=dtype))
        # In the working precision, so that R stays the adjoint of W but for its rounding.
        self.prolong *= self.prolong.dtype.type(table.gamma)


class StencilPreconditioner(Preconditioner):
    """A learned multigrid-like cycle: linear, at the cost of a classical one.

    Parameters
    ----------
    A : {GridOperator, sparse array, ndarray}
        Hermitian, of positive diagonal, coupling nearest neighbours on a grid.
    model : StencilCycle

    Notes
    -----
    Where the model is tied it is symmetric and positive definite by construction. On complex
    vectors it acts on real and imaginary parts.
    """

    name = "dcd"
    linear = True

    def __init__(self, A: Any, model: StencilCycle) -> None:
        A = as_grid_operator(A, self.name)
        if A.grid.ndim != model.dimension:
            raise ValueError(
                f"this model knows grids of {model.dimension} axes, A has {A.grid.ndim}; take a "
                "model of that dimension, or kl.multigrid(A)"
            )
        super().__init__(A.shape, A.dtype)
        self.model, self.symmetric = model, model.tied
        self.positive_definite = True if model.tied else None
        real = self.dtype.type(0).real.dtype
        self.working = np.dtype("f") if A.shape[0] >= SINGLE else real
        self._work = Workspace()
        self._build(A)

    def _build(self, A: Any) -> None:
        started = time.perf_counter()
        self._grid = A.grid.shape
        self.largest, self.work = bound(A), CYCLE
        stack = stack_of(A)
        # A multiple of A has a multiple of the stencils: near 1, single precision serves.
        self._unit = float(stack[0].real.median())
        found, inverse = tables(self.model, stack / self._unit)
        self._levels = [Level(table, self.working) for table in found]
        self._inverse = inverse.numpy().astype(self.working)
        self.setup_seconds = time.perf_counter() - started

    def update(self, A: Any) -> StencilPreconditioner:
        """Take new coefficients on the same grid."""
        A = as_grid_operator(A, self.name)
        if A.grid.shape != self._grid:
            raise ValueError(f"update needs an operator on a grid of shape {self._grid}, not "
                             f"{A.grid.shape}; make a new one")  # fmt: skip
        self._build(A.astype(self.dtype))
        return self

    def apply(self, r: np.ndarray, out: np.ndarray) -> np.ndarray:
        size = norm(r)
        if not 0 < size < np.inf:
            out[:] = 0 if size == 0 else np.nan
            return out
        # A power of two, so that rounding does not depend on it.
        unit = 2.0 ** -float(np.round(np.log2(size)))
        gain = 1 / (unit * self._unit)
        ends = np.cumsum([0, *(level.size for level in self._levels), len(self._inverse)])
        rows = self._work.get(3, int(ends[-1]), self.working)
        work = [rows[:, lo:hi] for lo, hi in zip(ends[:-1], ends[1:])]
        finest, n = work[0], self.shape[0]
        if self.dtype.kind == "c":
            for part, result in ((r.real, out.real), (r.imag, out.imag)):
                finest[0] = unit * part
                self._cycle(work)
                result[:] = gain * finest[2]
            return out
        parallel_for(load, n, CHUNK, r.dtype.type(unit), r, finest[0])
        self._cycle(work)
        parallel_for(store, n, CHUNK, gain, finest[2], out)
        return out

    def _cycle(self, work: list[np.ndarray]) -> None:
        """Let the third row of the finest level be what the cycle makes of the first one."""
        for depth, level in enumerate(self._levels):
            r, t, _ = work[depth]
            kernels.down(level, r, t, work[depth + 1][0])
        np.dot(self._inverse, work[-1][0], out=work[-1][2])
        for depth in reversed(range(len(self._levels))):
            r, t, u = work[depth]
            kernels.up(self._levels[depth], r, t, work[depth + 1][2], u)
