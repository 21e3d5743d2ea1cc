"""Geometric multigrid on a DMDA: the finest level lies on all ranks, which exchange their edges."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import numpy as np

from krylearn.grid import Grid
from krylearn.kernels import multigrid as kernels
from krylearn.kernels.parallel import parallel_for
from krylearn.operators import Preconditioner
from krylearn.petsc import library
from krylearn.petsc.convert import as_aij
from krylearn.petsc.dmda import (
    Box,
    Unsuited,
    excess_of,
    gather_all,
    require_lattice,
    stencil,
    widened,
)
from krylearn.petsc.hooks import report
from krylearn.petsc.library import petsc
from krylearn.petsc.ranks import Ranks
from krylearn.solvers.multigrid.axis import Transfer, _transpose, coarsen
from krylearn.solvers.multigrid.geometric import SINGLE, GeometricMultigrid
from krylearn.solvers.multigrid.hierarchy import STRONG, _Packing, build
from krylearn.solvers.multigrid.levels import Variable, axes_of, split_sides

# Layers of neighbouring ranks that are looked at to make the coarse operator.
WIDTH = 4
GRAIN = 16384


class _Coarse(GeometricMultigrid):
    """The levels below, as a whole on every rank."""

    def __init__(self, level: Variable, like: GridMultigrid) -> None:
        n = int(np.prod(level.shape))
        Preconditioner.__init__(self, (n, n), like.dtype)
        self.cycle, self.smoother, self.pre, self.post = like.cycle, "red_black", 1, 1
        self.omega, self.precision, self.working = None, "", like.working
        self.symmetric, self.positive_definite = True, True
        self._work = like.workspace()
        self._hierarchy = build(level, self.working)
        self._schedule()


class GridMultigrid(Preconditioner):
    """A multigrid cycle for a matrix on a DMDA that couples nearest neighbours.

    Red-black Gauss-Seidel on the finest level is that of one rank: the ranks exchange the layers
    at their borders after each colour. The coarse operator is made from conductances, as in
    `GeometricMultigrid`, and every rank has the coarse levels as a whole.

    Parameters
    ----------
    matrix : petsc4py.PETSc.Mat
    dm : petsc4py.PETSc.DMDA
        With one unknown a point, not periodic.
    ranks : Ranks
    cycle : {'V', 'W'}
    precision : {'auto', 'single', 'double'}
        As for `GeometricMultigrid`.
    must_suit : bool
        Whether to refuse coefficients that jump, for which `multigrid` takes other coarsenings.

    Raises
    ------
    ValueError
        On all ranks, if the matrix or the DMDA is not of that kind.
    """

    together = True
    linear, symmetric, positive_definite = True, True, True

    def __init__(self, matrix: Any, dm: Any, ranks: Ranks, cycle: str = "V",
                 precision: str = "auto", must_suit: bool = False) -> None:  # fmt: skip
        started = time.perf_counter()
        if cycle not in ("V", "W") or precision not in ("auto", "single", "double"):
            raise ValueError("cycle must be 'V' or 'W', precision 'auto', 'single' or 'double'")
        self.ranks, self.cycle, self.must_suit = ranks, cycle, must_suit
        self._held: list[Any] = []
        self.box = Box.of(dm, ranks.rank)
        periodic = any(kind in (3, "periodic") for kind in dm.getBoundaryType())
        small = min(int(np.diff(c).min()) for c in self.box.cuts) < WIDTH
        if dm.getDof() != 1 or periodic or small:
            raise Unsuited("a DMDA must have one unknown a point, no periodic axis, and "
                           f"{WIDTH} points along each axis on every rank")  # fmt: skip
        self._part = self.box.part()
        n = int(np.prod([b - a for a, b in self._part]))
        super().__init__((n, n), petsc().ScalarType)
        large = int(np.prod(self.box.shape)) >= SINGLE
        single = precision == "single" or (precision == "auto" and large)
        low = {"d": "f", "D": "F"}.get(self.dtype.char, self.dtype.char)
        self.working = np.dtype(low if single else self.dtype)
        self._set_up(matrix)
        self.setup_seconds = time.perf_counter() - started

    def update(self, matrix):
        """Take new values on the same grid."""
        started = time.perf_counter()
        self._set_up(matrix)
        self.setup_seconds = time.perf_counter() - started
        return self

    def workspace(self):
        """Return room for work vectors."""
        from krylearn.solvers.relaxation.splitting import Workspace

        return Workspace()

    # -- set-up ----------------------------------------------------------------------------

    def _set_up(self, matrix: Any) -> None:
        why, found = "", None
        try:
            found = stencil(as_aij(matrix), self.box)
            if self.must_suit:
                require_lattice(found[1])
        except ValueError as error:
            why, found = str(error), None
        if self.ranks.any(found is None):
            raise Unsuited(why or "the matrix is of another kind on another rank")
        assert found is not None
        try:
            self._build(*found)
        except Exception as error:  # the other ranks wait for this one
            report(error, type(self).__name__, self.ranks.rank)
            library.abort()

    def _build(self, diagonal: np.ndarray, upper: list[np.ndarray]) -> None:
        self.close()
        ranks, box = self.ranks, self.box
        self.scale = ranks.max(float(diagonal.real.max()))
        wide = box.window(WIDTH)
        diagonal, *links = widened(ranks, box, [diagonal, *(-u for u in upper)], wide)
        boundary, cells = self._boundary(diagonal, links, wide)
        grid = Grid(box.shape, boundary=boundary, centering="cell" if cells else "node")
        axes = axes_of(grid, False)
        # The same strengths, and so the same coarse grid, on all ranks.
        typical = [float(np.median(np.abs(k))) for k in links]
        strength = ranks.gather(np.array(typical, self.dtype)).real.mean(axis=0)
        may = [axis.coarsens for axis in axes]
        most = max((s for s, able in zip(strength, may) if able), default=0.0)
        coarse_axes = list(axes)
        transfers: list[Any] = [None] * len(axes)
        for d, axis in enumerate(axes):
            if may[d] and strength[d] >= STRONG * most:
                coarse_axes[d], transfers[d] = coarsen(axis)
        coarse = self._coarsened(diagonal, links, wide, grid, axes, coarse_axes, transfers)
        self.coarse = _Coarse(coarse, self)
        self._coarse_shape = coarse.shape
        self._pack(diagonal, links, wide, axes, coarse_axes, transfers)
        self._prepare_exchange()

    def _boundary(self, diagonal: np.ndarray, links: list[np.ndarray], wide: list[tuple[int, int]]
                  ) -> tuple[list[tuple[str, str]], bool]:  # fmt: skip
        """Return what holds at the sides, by how much the diagonal exceeds the couplings."""
        excess = excess_of(diagonal, links)
        ndim = len(links)
        told = np.full((2 * ndim, 2), -1.0)
        for d, (a, b) in enumerate(wide):
            for side in (0, 1):
                if (b == self.box.shape[d]) if side else (a == 0):
                    n = excess.shape[d]
                    at, inner = (n - 1, n - 2) if side else (0, 1)
                    more = np.median(np.take(excess, at, d)) - np.median(np.take(excess, inner, d))
                    link = np.median(np.abs(np.take(links[d], min(at, inner), d)))
                    told[2 * d + side] = max(float(more), 0.0), float(link)
        every = self.ranks.gather(told.ravel().astype(self.dtype)).real.reshape(-1, 2 * ndim, 2)
        boundary, ratios = [], []
        for d in range(ndim):
            pair = []
            for side in (0, 1):
                known = every[every[:, 2 * d + side, 1] >= 0, 2 * d + side]
                more, link = known.mean(axis=0)
                held = more > 0.1 * link
                pair.append("dirichlet" if held else "neumann")
                if held and link:
                    ratios.append(more / link)
            boundary.append((pair[0], pair[1]))
        return boundary, not ratios or float(np.median(ratios)) > 1.5

    def _coarsened(self, diagonal: np.ndarray, links: list[np.ndarray],
                   wide: list[tuple[int, int]], grid: Grid, axes: list, coarse_axes: list,
                   transfers: list) -> Variable:  # fmt: skip
        """Return the next level, of which each rank makes a part."""
        box = self.box
        excess = excess_of(diagonal, links)
        excess[np.abs(excess) < 64 * np.finfo(self.dtype).eps * diagonal] = 0
        reaction = np.maximum(excess, 0)
        seen = SimpleNamespace(shape=reaction.shape, boundary=[
            tuple(kind if (b == n if side else a == 0) else "neumann"
                  for side, kind in enumerate(pair))
            for pair, (a, b), n in zip(grid.boundary, wide, box.shape)
        ])  # fmt: skip
        sides = split_sides(seen, reaction)
        kept = [self._coarse_part(d, axes[d], coarse_axes[d], transfers[d])
                for d in range(grid.ndim)]  # fmt: skip
        parts: list[Any] = [None if t is None else SimpleNamespace(
            share=t.share[c0:c1, w0:w1], along=t.along[c0:c1, w0:w1],
            crossing=t.crossing[c0:c1, w0:w1], sides=tuple(s[w0:w1] for s in t.sides),
            stretch=t.stretch,
        ) for t, (c0, c1), (w0, w1) in zip(transfers, kept, wide)]  # fmt: skip
        level = Variable(axes, links, reaction, sides)
        made = level.coarsen(coarse_axes, parts)
        # Axes that are not coarsened still have the layers of others.
        cut = tuple(slice(None) if t is not None else slice(c0 - w0, c1 - w0)
                    for t, (c0, c1), (w0, w1) in zip(transfers, kept, wide))  # fmt: skip
        fields = [k[cut] for k in (*made.links, made.reaction)]
        ties = {(d, side): tie[tuple(slice(None) if e == d else cut[e] for e in range(grid.ndim))]
                for (d, side), tie in made.sides.items()}  # fmt: skip
        return self._gathered(fields, ties, grid, axes, coarse_axes, transfers)

    def _coarse_part(self, d: int, axis: Any, coarse: Any, transfer: Any,
                     place: tuple[int, ...] | None = None) -> tuple[int, int]:  # fmt: skip
        """Return which coarse points of an axis a rank makes: those that lie in its part."""
        a, b = self.box.part(place)[d]
        if transfer is None:
            return a, b
        home = np.searchsorted(axis.position, coarse.position, side="right") - 1
        first, last = np.searchsorted(home, [a, b])
        return int(first), int(last)

    def _gathered(self, fields: list[np.ndarray], ties: dict, grid: Grid, axes: list,
                  coarse_axes: list, transfers: list) -> Variable:  # fmt: skip
        """Return the coarse level as a whole, put together from the parts of all ranks."""
        shape = tuple(axis.n for axis in coarse_axes)
        held = [(d, s) for d, pair in enumerate(grid.boundary) for s in (0, 1)
                if pair[s] == "dirichlet"]  # fmt: skip
        own = np.concatenate([f.ravel() for f in (*fields, *(ties[k] for k in held if k in ties))])
        every = gather_all(self.ranks, own)
        whole = [np.zeros(shape) for _ in fields]
        sides = {(d, s): np.zeros(tuple(1 if e == d else n for e, n in enumerate(shape)))
                 for d, s in held}  # fmt: skip
        at = 0
        for place in self.box.places():
            ranges = [self._coarse_part(d, axes[d], coarse_axes[d], transfers[d], place)
                      for d in range(grid.ndim)]  # fmt: skip
            where = tuple(slice(a, b) for a, b in ranges)
            size = [b - a for a, b in ranges]
            for target in whole:
                count = int(np.prod(size))
                target[where] = every[at : at + count].reshape(size)
                at += count
            for d, s in held:
                if place[d] == (self.box.grid[d] - 1 if s else 0):
                    layer = [1 if e == d else m for e, m in enumerate(size)]
                    count = int(np.prod(layer))
                    index = tuple(slice(None) if e == d else where[e] for e in range(grid.ndim))
                    sides[d, s][index] = every[at : at + count].reshape(layer)
                    at += count
        assert at == len(every)
        return Variable(coarse_axes, whole[:-1], whole[-1], sides)

    def _pack(self, diagonal: np.ndarray, links: list[np.ndarray], wide: list[tuple[int, int]],
              axes: list, coarse_axes: list, transfers: list) -> None:  # fmt: skip
        """Write the finest level down for the kernels, with one layer of the neighbours."""
        ring = self.box.window(1)
        self._inner = tuple(slice(a - e, b - e) for (a, b), (e, _) in zip(self._part, ring))
        index = tuple(slice(e0 - w0, e1 - w0) for (e0, e1), (w0, _) in zip(ring, wide))
        self._shape = tuple(e1 - e0 for e0, e1 in ring)
        own = np.zeros(self._shape, bool)
        own[self._inner] = True
        # Values of neighbours come from them, whatever is computed here.
        inside = np.where(own, diagonal[index], self.scale)
        local: list[Any] = []
        windows = []
        for d, ((a, b), (e0, e1)) in enumerate(zip(self._part, ring)):
            made, window = _local_transfer(transfers[d], a, b, e0, e1)
            local.append(made)
            windows.append(window)
        short: list[Any] = [SimpleNamespace(n=n, period=0.0) for n in self._shape]
        level = Variable(short, [k[index] for k in links], np.zeros(self._shape), {}, None, inside)
        coarse = SimpleNamespace(axes=[SimpleNamespace(n=c1 - c0) for c0, c1 in windows])
        packing = _Packing(self.working)
        packing.scale = self.scale
        packing.variable = True
        packing.add(level, local, coarse)
        self._geo = packing.geo[0]
        self._fp = np.concatenate(packing.fp)
        self._ip = np.concatenate([*packing.ip, np.zeros(1, np.int64)])
        self._coef = np.concatenate(packing.coef)
        self._window = tuple(slice(c0, c1) for c0, c1 in windows)
        self._parity = sum(e0 for e0, _ in ring) & 1
        n = int(np.prod(self._shape))
        self._f, self._u, self._t = np.zeros((3, n), self.working)
        size = [c1 - c0 for c0, c1 in windows]
        self._rc, self._ec = np.zeros((2, int(np.prod(size))), self.working)
        self._window_shape = tuple(size)

    def _prepare_exchange(self) -> None:
        """Number the points at the borders of all ranks, and find the neighbours' among them."""
        PETSc, box = petsc(), self.box
        number = np.arange(int(np.prod(self._shape))).reshape(self._shape)
        starts, sizes = {}, []
        for place in box.places():
            at = 0
            for d, side, layer in self._faces(place):
                starts[place, d, side] = at
                at += layer
            sizes.append(at)
        first = dict(zip(box.places(), np.concatenate([[0], np.cumsum(sizes)[:-1]])))
        send, receive, wanted = [], [], []
        for d, side, layer in self._faces(box.place):
            own = list(self._inner)
            edge = (own[d].stop - 1) if side else own[d].start
            own[d] = slice(edge, edge + 1)
            send.append(number[tuple(own)].ravel())
            beyond = edge + (1 if side else -1)
            own[d] = slice(beyond, beyond + 1)
            receive.append(number[tuple(own)].ravel())
            other = tuple(i + ((1 if side else -1) if e == d else 0)
                          for e, i in enumerate(box.place))  # fmt: skip
            begin = first[other] + starts[other, d, 1 - side]
            wanted.append(np.arange(begin, begin + layer))
        whole = np.concatenate
        self._send = whole(send) if send else np.zeros(0, int)
        self._receive = whole(receive) if receive else np.zeros(0, int)
        where = (whole(wanted) if wanted else np.zeros(0)).astype(PETSc.IntType)
        self._border = PETSc.Vec().createMPI((len(self._send), PETSc.DECIDE), comm=self.ranks.comm)
        self._ghosts = PETSc.Vec().createSeq(len(where), comm=PETSc.COMM_SELF)
        index = PETSc.IS().createGeneral(where, comm=PETSc.COMM_SELF)
        self._scatter = PETSc.Scatter().create(self._border, index, self._ghosts, None)
        index.destroy()
        # Coarse right-hand sides: each rank adds to its window, every rank gets the sum.
        total = int(np.prod(self._coarse_shape))
        numbers = np.arange(total).reshape(self._coarse_shape)[self._window]
        self._sum = PETSc.Vec().createMPI((PETSc.DECIDE, total), comm=self.ranks.comm)
        self._added = PETSc.Vec().createSeq(numbers.size, comm=PETSc.COMM_SELF)
        index = PETSc.IS().createGeneral(numbers.ravel().astype(PETSc.IntType),
                                         comm=PETSc.COMM_SELF)  # fmt: skip
        self._add = PETSc.Scatter().create(self._added, None, self._sum, index)
        index.destroy()
        self._to_all, self._all = PETSc.Scatter.toAll(self._sum)
        self._correction = np.empty(total, self.dtype)
        self._held = [self._border, self._ghosts, self._scatter, self._sum, self._added, self._add,
                      self._to_all, self._all]  # fmt: skip

    def _faces(self, place: tuple[int, ...]) -> list[tuple[int, int, int]]:
        """Return axis, side and size of each border that a rank has with another."""
        size = [b - a for a, b in self.box.part(place)]
        faces = []
        for d, ranks in enumerate(self.box.grid):
            for side in (0, 1):
                if (place[d] + 1 < ranks) if side else (place[d] > 0):
                    faces.append((d, side, int(np.prod(size)) // size[d]))
        return faces

    # -- application -----------------------------------------------------------------------

    def apply(self, r, out):
        """Write what one cycle from zero makes of this rank's part of `r` into `out`."""
        size = self.ranks.max(float(np.abs(r).max(initial=0.0)))
        if not 0 < size < np.inf:
            out[:] = 0 if size == 0 else np.nan
            return out
        unit = 2.0 ** -float(np.round(np.log2(size)))
        inner = self._inner
        part = tuple(s.stop - s.start for s in inner)
        np.multiply(r.reshape(part), unit, out=self._f.reshape(self._shape)[inner],
                    casting="unsafe")  # fmt: skip
        red, black = self._parity, 1 - self._parity
        self._u[:] = 0
        self._step(kernels.RELAX if red else kernels.START, red)
        self._exchange()
        self._step(kernels.RELAX, black)
        self._exchange()
        self._rc[:] = 0
        self._step(kernels.RESTRICT)
        self._correct()
        self._step(kernels.PROLONG)
        self._exchange()
        self._step(kernels.RELAX, black)
        self._exchange()
        self._step(kernels.RELAX, red)
        u = self._u.reshape(self._shape)[inner]
        np.multiply(u, 1 / (unit * self.scale), out=out.reshape(part), casting="unsafe")
        return out

    def _step(self, op: int, colour: int = 0) -> None:
        geo = self._geo
        planes = int(geo[kernels.COARSE] if op == kernels.RESTRICT else geo[kernels.SIZES])
        plane = max(1, len(self._u) // planes)
        parallel_for(
            kernels.step, planes, max(1, GRAIN // plane), op, colour, 0, 0.0, 0.0, geo, self._fp,
            self._ip, self._coef, self._f, self._u, self._t, self._t, self._rc, self._ec,
        )  # fmt: skip

    def _exchange(self) -> None:
        """Take over the values of the neighbouring ranks at the borders."""
        if self.ranks.size > 1:
            self._border.setArray(self._u[self._send])
            self._scatter.scatter(self._border, self._ghosts)
            self._u[self._receive] = self._ghosts.getArray()

    def _correct(self) -> None:
        """Solve on the coarse levels, as every rank does."""
        self._sum.set(0.0)
        self._added.setArray(self._rc)
        self._add.scatter(self._added, self._sum, addv=petsc().InsertMode.ADD_VALUES)
        self._to_all.scatter(self._sum, self._all)
        self.coarse.apply(self._all.getArray(), self._correction)
        whole = self._correction.reshape(self._coarse_shape)
        self._ec.reshape(self._window_shape)[:] = self.scale * whole[self._window]

    def close(self) -> None:
        """Give back what PETSc holds for this, on all ranks together."""
        for thing in self._held:
            thing.destroy()
        self._held = []

    def __repr__(self) -> str:
        grid = "x".join(map(str, self.box.shape))
        ranks = "x".join(map(str, self.box.grid))
        return f"<GridMultigrid: {grid} points on {ranks} ranks, {self.working}>\n{self.coarse!r}"


def _local_transfer(transfer: Any, a: int, b: int, e0: int, e1: int
                    ) -> tuple[Transfer, tuple[int, int]]:  # fmt: skip
    """Return a transfer between the points [e0, e1) of an axis and the coarse ones around [a, b).

    The points outside [a, b) have no weights: their owners take care of them.
    """
    points = np.arange(e0, e1)
    if transfer is None:
        parents, weights = np.column_stack([points, points]), np.zeros((e1 - e0, 2))
        weights[:, 0] = 1
    else:
        parents, weights = transfer.parents[e0:e1], transfer.weights[e0:e1].copy()
    weights[(points < a) | (points >= b)] = 0
    used = parents[weights != 0]
    first, last = int(used.min()), int(used.max()) + 1
    parents = np.clip(parents - first, 0, last - first - 1)
    children, back = _transpose(parents, weights, last - first)
    nothing: Any = None
    made = Transfer(parents, weights, children, back, nothing, nothing, nothing, nothing)
    return made, (first, last)
