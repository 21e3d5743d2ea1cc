"""The learned stencil cycle on a DMDA: nothing is cut at the borders of ranks."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from krylearn.kernels import stencil_cycle as kernels
from krylearn.learned.dcd.cycle import (
    SINGLE,
    Level,
    StencilPreconditioner,
    coarse_tables,
    cropped,
    finest_table,
)
from krylearn.learned.dcd.geometry import Geometry, coarser, finest, level_of, levels_from
from krylearn.operators import Preconditioner
from krylearn.petsc import library
from krylearn.petsc.convert import as_aij
from krylearn.petsc.dmda import Box, Unsuited, gather_all, stencil, widened
from krylearn.petsc.hooks import report
from krylearn.petsc.library import petsc
from krylearn.petsc.ranks import Ranks
from krylearn.solvers.relaxation.splitting import Workspace

# A stencil and its adjoint look at the residual two cells away. Their coefficients are made of
# what lies one cell further still, and a window of the matrix is wrong in its outermost layer.
REACH, WIDTH = 2, 4


class GridDCD(StencilPreconditioner):
    """A learned cycle for a matrix on a DMDA, the same on any number of ranks.

    Each rank has the stencils of its own points and of two layers around them, and asks the
    neighbours for that much of the residual, once. Coarse levels lie on every rank as a whole.
    Parts of the finest level begin at even numbers, so that no pair that is joined is cut.

    Parameters
    ----------
    matrix : petsc4py.PETSc.Mat
    dm : petsc4py.PETSc.DMDA
        With one unknown a point, not periodic over ranks.
    ranks : Ranks
    model : StencilCycle

    Raises
    ------
    Unsuited
        On all ranks, if the matrix or the DMDA is not of that kind.
    """

    together = True

    def __init__(self, matrix: Any, dm: Any, ranks: Ranks, model: Any) -> None:
        self.ranks, self.box = ranks, Box.of(dm, ranks.rank)
        self._part = self.box.part()
        n = int(np.prod([b - a for a, b in self._part]))
        Preconditioner.__init__(self, (n, n), petsc().ScalarType)
        self.model, self.symmetric = model, model.tied
        self.positive_definite = True if model.tied else None
        real = self.dtype.type(0).real.dtype
        large = int(np.prod(self.box.shape)) >= SINGLE
        self.working = np.dtype("f") if large else real
        self._work = Workspace()
        self._held: list[Any] = []
        self.update(matrix)

    def update(self, matrix: Any) -> GridDCD:
        """Take new values on the same grid."""
        started = time.perf_counter()
        why, found = "", None
        try:
            found = stencil(as_aij(matrix), self.box)
            if not all(np.isfinite(field).all() for field in (found[0], *found[1])):
                raise Unsuited("the matrix holds NaN or Inf")
        except ValueError as error:
            why, found = str(error), None
        if self.ranks.any(found is None):
            raise Unsuited(why or "the matrix is of another kind on another rank")
        assert found is not None
        try:
            self._build_parts(*found)
        except Exception as error:  # the other ranks wait for this one
            if self.ranks.size == 1:
                raise
            report(error, type(self).__name__, self.ranks.rank)
            library.abort()
        self.setup_seconds = time.perf_counter() - started
        return self

    # -- set-up ----------------------------------------------------------------------------

    def _window(self, width: int) -> list[tuple[int, int]]:
        """Return this rank's part with layers of the others', from an even number on."""
        return [(a // 2 * 2, b) for a, b in self.box.window(width)]

    def _build_parts(self, diagonal: np.ndarray, upper: list[np.ndarray]) -> None:
        self.close()
        wide, window = self._window(WIDTH), self._window(REACH)
        middle = np.array([np.median(diagonal.real)], self.dtype)
        # Near 1, single precision serves; every rank has to take the same.
        self._unit = float(np.median(self.ranks.gather(middle).real))
        stack = torch.from_numpy(np.stack(widened(self.ranks, self.box, [diagonal, *upper], wide)))
        stack /= self._unit
        level = finest(stack)
        table = finest_table(self.model, level, stack[0])
        block = [(a - w, b - w) for (a, b), (w, _) in zip(window, wide)]
        self._fine = Level(cropped(table, block), self.working)
        coarse = levels_from(self._gathered(coarser(level), wide))
        self._coarse_shape = coarse[0].shape
        found, inverse = coarse_tables(self.model, coarse)
        self._levels = [Level(table, self.working) for table in found]
        self._inverse = inverse.numpy().astype(self.working)
        self._make_room(window)
        self._prepare_exchange(window)

    def _coarse_part(self, place: tuple[int, ...] | None = None) -> tuple[slice, ...]:
        """Return which coarse cells a rank makes: those whose first cell is its own."""
        return tuple(slice((a + 1) // 2, (b + 1) // 2) for a, b in self.box.part(place))

    def _gathered(self, own: Geometry, wide: list[tuple[int, int]]) -> Geometry:
        """Return the level below the finest as a whole, of which each rank makes a part."""
        fields = torch.cat([own.links, own.ties[None], own.active.to(own.ties.dtype)[None]])
        here = tuple(slice(c.start - a // 2, c.stop - a // 2)
                     for c, (a, _) in zip(self._coarse_part(), wide))  # fmt: skip
        parts = gather_all(self.ranks, fields.numpy()[(slice(None), *here)].ravel())
        whole = np.empty((len(fields), *((n + 1) // 2 for n in self.box.shape)))
        at = 0
        for place in self.box.places():
            target = whole[(slice(None), *self._coarse_part(place))]
            target[:] = parts[at : at + target.size].reshape(target.shape).real
            at += target.size
        assert at == len(parts)
        links, ties, active = np.split(whole, [len(fields) - 2, len(fields) - 1])
        return level_of(torch.from_numpy(links), torch.from_numpy(ties[0]),
                        torch.from_numpy(active[0] > 0))  # fmt: skip

    def _make_room(self, window: list[tuple[int, int]]) -> None:
        self._inner = tuple(slice(a - w, b - w) for (a, b), (w, _) in zip(self._part, window))
        self._shape = tuple(b - a for a, b in window)
        # The coarse cells of the window, and this rank's own among them.
        self._below = tuple(slice(a // 2, (b + 1) // 2) for a, b in window)
        self._below_shape = tuple(c.stop - c.start for c in self._below)
        self._below_own = tuple(slice(own.start - c.start, own.stop - c.start)
                                for own, c in zip(self._coarse_part(), self._below))  # fmt: skip
        self._r, self._t, self._u = np.zeros((3, int(np.prod(self._shape))), self.working)
        self._rc = np.zeros(int(np.prod(self._below_shape)), self.working)

    def _prepare_exchange(self, window: list[tuple[int, int]]) -> None:
        """Find the points around this rank's own, and the place of every rank's coarse cells."""
        total = int(np.prod(self._coarse_shape))
        number = np.arange(total).reshape(self._coarse_shape)
        self._order = np.concatenate([number[self._coarse_part(place)].ravel()
                                      for place in self.box.places()])  # fmt: skip
        if self.ranks.size == 1:
            return
        PETSc = petsc()
        around = np.ones(self._shape, bool)
        around[self._inner] = False
        self._around = np.flatnonzero(around)
        where = self.box.numbers(window)[around].astype(PETSc.IntType)
        self._own = PETSc.Vec().createMPI((self.shape[0], PETSc.DECIDE), comm=self.ranks.comm)
        self._ghosts = PETSc.Vec().createSeq(len(where), comm=PETSc.COMM_SELF)
        index = PETSc.IS().createGeneral(where, comm=PETSc.COMM_SELF)
        self._exchange = PETSc.Scatter().create(self._own, index, self._ghosts, None)
        index.destroy()
        own = int(np.prod([c.stop - c.start for c in self._below_own]))
        self._sent = PETSc.Vec().createMPI((own, total), comm=self.ranks.comm)
        self._to_all, self._all = PETSc.Scatter.toAll(self._sent)
        self._held = [self._own, self._ghosts, self._exchange, self._sent, self._to_all, self._all]

    # -- application -----------------------------------------------------------------------

    def apply(self, r: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Write what the cycle makes of this rank's part of `r` into `out`."""
        size = self.ranks.max(float(np.abs(r).max(initial=0.0)))
        if not 0 < size < np.inf:
            out[:] = 0 if size == 0 else np.nan
            return out
        unit = 2.0 ** -float(np.round(np.log2(size)))
        complex_ = self.dtype.kind == "c"
        for part, result in ((r.real, out.real), (r.imag, out.imag))[: 1 + complex_]:
            self._widen(part, unit)
            self._act()
            u = self._u.reshape(self._shape)[self._inner]
            np.multiply(u, 1 / (unit * self._unit), out=result.reshape(u.shape), casting="unsafe")
        return out

    def _widen(self, r: np.ndarray, unit: float) -> None:
        """Write `r`, and what the neighbours have around it, into the window."""
        inner = self._r.reshape(self._shape)[self._inner]
        np.multiply(r.reshape(inner.shape), unit, out=inner, casting="unsafe")
        if self.ranks.size > 1:
            self._own.setArray(r)
            self._exchange.scatter(self._own, self._ghosts)
            self._r[self._around] = unit * self._ghosts.getArray().real

    def _act(self) -> None:
        """Let the window hold what the cycle makes of it, right at this rank's own points."""
        kernels.down(self._fine, self._r, self._t, self._rc)
        ends = np.cumsum([0, *(level.size for level in self._levels), len(self._inverse)])
        rows = self._work.get(3, int(ends[-1]), self.working)
        work = [rows[:, lo:hi] for lo, hi in zip(ends[:-1], ends[1:])]
        own = self._rc.reshape(self._below_shape)[self._below_own].ravel()
        if self.ranks.size > 1:
            self._sent.setArray(own)
            self._to_all.scatter(self._sent, self._all)
            own = self._all.getArray().real
        work[0][0][self._order] = own
        self._cycle(work)
        e = work[0][2].reshape(self._coarse_shape)[self._below]
        kernels.up(self._fine, self._r, self._t, np.ascontiguousarray(e).ravel(), self._u)

    def close(self) -> None:
        """Give back what PETSc holds for this, on all ranks together."""
        for thing in self._held:
            thing.destroy()
        self._held = []

    def __repr__(self) -> str:
        grid = "x".join(map(str, self.box.shape))
        ranks = "x".join(map(str, self.box.grid))
        return f"<GridDCD: {grid} points on {ranks} ranks, {self.working}>"
