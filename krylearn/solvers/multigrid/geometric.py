"""Geometric multigrid on structured grids, matrix-free."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from krylearn.kernels import line_relaxation
from krylearn.kernels import multigrid as kernels
from krylearn.kernels import multigrid_sweeps as swept
from krylearn.kernels import multigrid_window as window
from krylearn.kernels.parallel import parallel_for
from krylearn.kernels.vector import CHUNK, norm
from krylearn.operators import Preconditioner
from krylearn.solvers.multigrid import cycle as cycles
from krylearn.solvers.multigrid.hierarchy import STRONG, boxes_of, build, fits_windows, v_cycle
from krylearn.solvers.multigrid.levels import pointwise, separable
from krylearn.solvers.multigrid.packed import packed, rows_of
from krylearn.solvers.multigrid.structured import as_grid_operator
from krylearn.solvers.relaxation.splitting import Workspace

__all__ = ["GeometricMultigrid"]

# Unknowns from which a step is shared out; smaller levels are done in one call.
SHARED = 40000
# Unknowns a thread.
GRAIN = 16384
# Below this many unknowns there is nothing to gain from a lower precision.
SINGLE = 4096
_LOWER = {np.dtype("d"): np.dtype("f"), np.dtype("D"): np.dtype("F")}
# Red-black sweeps that one pass over memory does.
DEEPEST = 4
SMOOTHERS = ("red_black", "jacobi", "chebyshev", "line")


class GeometricMultigrid(Preconditioner):
    """A multigrid cycle on the levels of a structured grid.

    Parameters
    ----------
    A : {GridOperator, sparse array, ndarray}
        Hermitian, positive definite or semidefinite; of any size, sides and mask. A matrix must
        couple nearest neighbours on a grid in C order.
    cycle : {'V', 'W', 'F', 'AMLI', 'FMG'}
        AMLI visits the first two coarse levels three times, as steps of Chebyshev's iteration: for
        joined cells in space. The last is full multigrid, one V-cycle a level.
    smoother : {'red_black', 'chebyshev', 'jacobi', 'line'}
        Gauss-Seidel in red-black order, the Chebyshev polynomial in the Jacobi-scaled operator,
        damped Jacobi, or zebra relaxation of whole lines along each axis in turn. That one is for
        couplings that are strong along one axis here and another one there; it coarsens all axes.
    pre, post : int
        Sweeps (degrees of the polynomial) before and after the coarse correction.
    omega : float, optional
        Damping of Jacobi; by default ``2 d / (2 d + 1)`` in d dimensions.
    transfer : {'linear', 'constant'}
        Interpolation. 'constant' joins cells two by two along each axis, and takes the links that
        cross from one pair to the next: for coefficients that jump from cell to cell, where linear
        values between unequal neighbours are wrong by the contrast.
    precision : {'auto', 'single', 'double', 'mixed'}
        Of the cycle. 'auto' takes single where A has at least 4096 unknowns: that is twice as
        fast and changes no count of iterations to 1e-10 or so; not for a 'constant' transfer in the
        plane, where it costs up to two thirds more of them. 'mixed' takes single on the finest
        level and double on coarse ones, where coefficients are given point by point, for V and AMLI
        with red-black sweeps that may be fused; else double.

    Attributes
    ----------
    symmetric, positive_definite : bool
        True for V, W and AMLI with ``pre == post``.
    setup_seconds : float
        What making it, or its last update, cost.

    Raises
    ------
    TypeError
        If A gives products only.
    ValueError
        If A is not Hermitian, couples other points than nearest neighbours on a grid, its diagonal
        is not positive, or an option is unknown.

    Notes
    -----
    An axis is coarsened where neighbours along it are strongly coupled compared with other axes:
    aligned anisotropy takes semi-coarsening. Transfers are linear interpolation and its
    transpose; coarse operators take conductances in series along a link, in parallel across.

    References
    ----------
    Trottenberg, Oosterlee and Schueller (2001), Multigrid, chapters 2 and 5.
    Khalil and Wesseling (1992), Vertex-centered and cell-centered multigrid for interface problems,
    J. Comput. Phys. 98, 1-10; Kwak (1999), V-cycle multigrid for cell-centered finite differences,
    SIAM J. Sci. Comput. 21, 552-564 (constant transfer, coarse links halved).
    Axelsson and Vassilevski (1990), Algebraic multilevel preconditioning methods II, SIAM J.
    Numer. Anal. 27, 1569-1590 (AMLI).
    McAdams, Sifakis and Teran (2010), A parallel multigrid Poisson solver for fluids simulation on
    large grids, on voxel domains.

    Examples
    --------
    >>> import krylearn as kl
    >>> P = kl.problems.poisson((31, 40), seed=1)
    >>> x, info = kl.cg(P.A, P.b, rtol=1e-8, M=kl.GeometricMultigrid(P.A))
    >>> info.converged, info.iterations < 12
    (True, True)
    """

    name = "geometric_multigrid"
    choice = ""

    def __init__(self, A, cycle="V", smoother="red_black", pre=1, post=1, omega=None,
                 precision="auto", transfer="linear"):  # fmt: skip
        started = time.perf_counter()
        if cycle not in (*cycles.CYCLES, "FMG"):
            raise ValueError(f"cycle must be 'V', 'W', 'F', 'AMLI' or 'FMG', not {cycle!r}")
        if smoother not in SMOOTHERS:
            raise ValueError(f"smoother must be one of {', '.join(SMOOTHERS)}, not {smoother!r}")
        if precision not in ("auto", "single", "double", "mixed"):
            raise ValueError(
                f"precision must be 'auto', 'single', 'double' or 'mixed', not {precision!r}"
            )
        if transfer not in ("linear", "constant"):
            raise ValueError(f"transfer must be 'linear' or 'constant', not {transfer!r}")
        if cycle == "AMLI" and smoother not in ("red_black", "line"):  # which keep no residuals
            raise ValueError(f"AMLI takes red_black or line, not {smoother}; use cycle='W'")
        for name, count in (("pre", pre), ("post", post)):
            if count != int(count) or count < 0:
                raise ValueError(f"{name} must be an integer >= 0, not {count!r}")
        if pre + post < 1:
            raise ValueError("at least one of pre and post must be positive")
        self.cycle, self.smoother, self.pre, self.post = cycle, smoother, int(pre), int(post)
        self.omega, self.precision, self.transfer = omega, precision, transfer
        A = self._taken(A)
        super().__init__(A.shape, A.dtype)
        low = _LOWER.get(self.dtype, self.dtype)
        exact = transfer == "constant" and A.grid.ndim < 3
        single = precision == "single" or (
            precision == "auto" and A.shape[0] >= SINGLE and not exact
        )
        self.working = low if single else self.dtype
        self._lower = low if precision == "mixed" and A.shape[0] >= SINGLE else self.working
        self.symmetric = self.pre == self.post and cycle in ("V", "W", "AMLI")
        self.positive_definite = True if self.symmetric else None
        self._work = Workspace()
        self._build(A)
        self.setup_seconds = time.perf_counter() - started

    def _taken(self, A: Any) -> Any:
        """Return A as an operator that levels can be made of."""
        return as_grid_operator(A, self.name)

    def _lines_of(self, A: Any) -> bool:
        """Return whether whole lines are relaxed, which they must be able to."""
        lines = self.smoother == "line"
        if lines and any(A.grid.periodic):
            raise ValueError(f"{self.name}: lines must not close on themselves; use red_black")
        return lines

    def _build(self, A: Any) -> None:
        lines = self._lines_of(A)
        mixed = self._deep and self._lower != self.working and not any(A.grid.periodic)
        lowest = self._lower if mixed else self.working
        # Nothing but `build` holds the finest level, so that it is gone once it is packed.
        self._hierarchy = build(
            _finest(A, lowest, not lines, self.transfer == "constant"), self.working,
            strong=0.0 if lines else STRONG, fused=self._plain or self._deep,
            lower=lowest if mixed else None,
        )  # fmt: skip
        self._schedule()

    def update(self, A):
        """Take new coefficients on the same grid.

        Parameters
        ----------
        A : GridOperator

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the grid differs.
        """
        started = time.perf_counter()
        A = as_grid_operator(A, self.name)
        if A.grid.shape != self._hierarchy.shapes[0]:
            raise ValueError(
                f"update needs an operator on a grid of shape {self._hierarchy.shapes[0]}, not "
                f"{A.grid.shape}; make a new one"
            )
        self._build(A.astype(self.dtype))
        self.setup_seconds = time.perf_counter() - started
        return self

    # -- schedule --------------------------------------------------------------------------

    def _schedule(self) -> None:
        """Write the cycle down: steps on large levels one by one, runs of steps on small ones."""
        h = self._hierarchy
        count = len(h.shapes)
        if self._plain:
            listed = v_cycle(h, 1)
        elif self._deep and fits_windows(h):
            listed = cycles.in_windows(self.cycle, count, self.pre)
        else:
            listed = self._listed()
        self._fused = listed[0][0] == kernels.DOWN
        self._places, self._coef = h.laid_out(self._fused)
        lengths = [int(swept.kept_length(geo)) for geo in h.geo] if self._deep else []
        self._stores = np.cumsum([0, *lengths]).astype(np.uint64)
        self._views = [self._constants(level) for level in range(count)]
        size = [int(np.prod(shape)) for shape in h.shapes]
        self._parts: list[Any] = []
        small: list[Any] = []
        for entry in listed:
            # The first and the last step read and write the caller's vectors.
            ends = self._fused and entry[1] == 0
            if (size[entry[1]] < SHARED or entry[0] == kernels.SOLVE) and not ends:
                small.append(entry)
                continue
            if small:
                self._parts.append(cycles.as_arrays(small))
                small = []
            self._parts.append(entry)
        if small:
            self._parts.append(cycles.as_arrays(small))

    @property
    def _plain(self) -> bool:
        """Whether it is V(1, 1) with red-black sweeps, whose halves may be fused."""
        return (self.cycle, self.smoother, self.pre, self.post) == ("V", "red_black", 1, 1)

    @property
    def _deep(self) -> bool:
        """Whether halves of it with several sweeps, or visits, may be fused."""
        symmetric = self.smoother == "red_black" and 0 < self.pre == self.post <= DEEPEST
        return symmetric and self.cycle in ("V", "AMLI") and not self._plain

    def _listed(self, cycle: str = "") -> list:
        count = len(self._hierarchy.shapes)
        smoothers = [self._smoother(sweeps) for sweeps in (self.pre, self.post)]

        def smooth(level, before, from_zero):
            sweeps = self.pre if before else self.post
            if sweeps or from_zero:
                yield from smoothers[0 if before else 1](level, before, from_zero)

        return cycles.steps(cycle or self.cycle, count, smooth)

    def _smoother(self, sweeps: int) -> Any:
        h = self._hierarchy
        if self.smoother == "red_black":
            return cycles.red_black(sweeps, [boxes_of(geo) for geo in h.geo])
        if self.smoother == "line":
            slots = [[slot for slot in (2, 1, 0) if geo[slot] > 1] or [2] for geo in h.geo]
            return cycles.zebra(sweeps, slots)
        factors = []
        for shape in h.shapes:
            if self.smoother == "jacobi":
                d = sum(n > 1 for n in shape)
                omega = 2 * d / (2 * d + 1) if self.omega is None else float(self.omega)
                factors.append([(omega, 0.0)] * sweeps)
            else:
                # inv(D) A has eigenvalues up to 2; the lower ones are the coarse levels' business.
                factors.append(cycles.chebyshev_factors(sweeps, 0.4, 2.0) if sweeps else [])
        return cycles.polynomial(factors)

    def _constants(self, level: int) -> tuple:
        h = self._hierarchy
        if level == 0 and h.first is not None:
            return (h.geo[0], h.first[0], h.ip, h.first[1])
        first, last = self._places[level, 2:]
        return (h.geo[level], h.fp, h.ip, self._coef[int(first) : int(last)])

    # -- application -----------------------------------------------------------------------

    def apply(self, r, out):
        """Write what a cycle makes of zero, for the right-hand side `r`, into `out`."""
        return self._cycle(r, out, np.empty(0, r.dtype))

    def apply_dot(self, r, out):
        """Do as `apply`, and return ``conj(r) @ out``."""
        if not self._fused:
            return super().apply_dot(r, out)
        sums = np.zeros(int(self._hierarchy.geo[0, 0]), r.dtype)
        self._cycle(r, out, sums)
        return sums.sum()

    def _cycle(self, r, out, sums):
        h = self._hierarchy
        n = self.shape[0]
        f, u, t, d = self._vectors()
        size = norm(r)
        if not 0 < size < np.inf:
            sums[:] = out[:] = 0 if size == 0 else np.nan
            return out
        # A power of two, so that rounding does not depend on it.
        unit = 2.0 ** -float(np.round(np.log2(size)))
        gain = 1 / (unit * float(np.ravel(h.scale)[0]))
        if not self._fused:
            parallel_for(kernels.load, n, CHUNK, r.real.dtype.type(unit), r, f)
        for part in self._parts:
            if self._fused and self._deep:
                self._deep_part(part, r, out, unit, gain, f, u, t, d, sums)
            elif self._fused and not isinstance(part[0], int):
                window.run(part[0], h.geo, self._places, h.fp, h.ip, self._coef, f, t, d, h.dense)
            elif not isinstance(part[0], int):
                kernels.run(*part, h.geo, self._places, h.fp, h.ip, self._coef, f, u, t, d, h.dense)
            elif self._fused:
                self._half(part, r, out, unit, gain, f, t, d, sums)
            else:
                self._step(part, f, u, t, d)
        if not self._fused:
            parallel_for(kernels.store, n, CHUNK, gain, u, out)
        return out

    def _vectors(self):
        """Return work vectors: right-hand sides, values, results or residuals, and windows.

        A fused cycle touches little of them: coarse levels, and four planes a thread of the last.
        """
        h = self._hierarchy
        if not self._fused:
            return self._work.get(4, h.total, self.working)
        if self._deep:
            most = max(int(swept.room(geo, self.pre)) for geo in h.geo)
            kept = int(self._stores[-1])
            held = self._work.get(1, 3 * h.total + kept + most, self.working)[0]
            f, u, t = held[: 3 * h.total].reshape(3, -1)
            return f, u, t, held[3 * h.total :]
        most = max(int(window.window_length(int(geo[0]) + 5, geo)) for geo in h.geo)
        held = self._work.get(1, 2 * h.total + most, self.working)[0]
        f, t = held[: 2 * h.total].reshape(2, -1)
        return f, None, t, held[2 * h.total :]

    def _half(self, entry, r, out, unit, gain, f, t, d, sums):
        """Do one half of a fused cycle on a level; the finest one reads r and writes out."""
        op, level = entry[:2]
        h = self._hierarchy
        first, last, low, high = h.places[level : level + 2, :2].ravel().tolist()
        rhs, result = (r, out) if level == 0 else (f[first:last], t[first:last])
        unit, gain = (unit, gain) if level == 0 else (1.0, 1.0)
        geo, grain = h.geo[level], self._grain(level)
        if op == kernels.DOWN:
            parallel_for(
                window.down, int(geo[kernels.COARSE]), -(-grain // 2), unit, *self._views[level],
                rhs, f[low:high], d,
            )  # fmt: skip
        else:
            parallel_for(
                window.up, int(geo[kernels.SIZES]), grain, unit, gain, *self._views[level], rhs,
                t[low:high], result, d[:0] if level else sums, d,
            )  # fmt: skip

    def _deep_part(self, part, r, out, unit, gain, f, left, t, d, sums):
        """Do a half of a cycle of several sweeps on a level, or a run of them on small ones."""
        h = self._hierarchy
        kept, ring = d[: int(self._stores[-1])], d[int(self._stores[-1]) :]
        if not isinstance(part[0], int):
            swept.run(*part, h.geo, self._places, self._stores, h.fp, h.ip, self._coef, f, left, t,
                      kept, ring, h.dense)  # fmt: skip
            return
        op, level, sweeps, visit, factor, _ = part
        first, last, low, high = h.places[level : level + 2, :2].ravel().tolist()
        kept = kept[int(self._stores[level]) : int(self._stores[level + 1])]
        rhs, other, result = f[first:last], left[first:last], t[first:last]
        if visit & swept.SWAPPED:
            rhs, other = other, rhs
        if level == 0:
            rhs, result = r, out
            kept, ring = (part.view(self._views[0][3].dtype) for part in (kept, ring))
        unit, factor = (unit, gain) if level == 0 else (1.0, factor)
        geo, grain = h.geo[level], self._grain(level)
        if op == kernels.DOWN:
            parallel_for(
                swept.down, int(geo[kernels.COARSE]), -(-grain // 2), sweeps, unit,
                *self._views[level], rhs, f[low:high], kept, ring,
            )  # fmt: skip
        else:
            parallel_for(
                swept.up, int(geo[kernels.SIZES]), grain, sweeps, visit, unit, factor,
                *self._views[level], rhs, t[low:high], kept, result, other,
                ring[:0] if level else sums, ring,
            )  # fmt: skip

    def _grain(self, level):
        """Return how many planes are worth a share; windows of shares must not overlap."""
        plane = int(self._hierarchy.geo[level, 1] * self._hierarchy.geo[level, 2])
        # Two windows of `planes_of`, two thirds of what `window_length` leaves to a plane.
        least = 2 * int(swept.planes_of(self.pre)) * 2 // 3 + 2 if self._deep else 8
        return max(least, GRAIN // plane)

    def _matvec(self, x):
        # scipy hands over what its caller has; a complex vector has two real parts.
        if np.iscomplexobj(x) and self.dtype.kind != "c":
            return self._matvec(x.real) + 1j * self._matvec(x.imag)
        return super()._matvec(x)

    def _step(self, entry, f, u, t, d):
        op, level, colour, box, alpha, beta = entry
        h = self._hierarchy
        first, last, down, end = h.places[level : level + 2, :2].ravel().tolist()
        geo = h.geo[level]
        planes = int(geo[kernels.COARSE] if op == kernels.RESTRICT else geo[kernels.SIZES])
        if op == kernels.LINES:
            planes = int(line_relaxation.batches(box, geo))
        plane = (last - first) // planes
        parallel_for(
            kernels.step, planes, max(1, GRAIN // plane), op, colour, box, alpha, beta,
            *self._views[level], f[first:last], u[first:last], t[first:last], d[first:last],
            f[down:end], u[down:end],
        )  # fmt: skip

    def to(self, device: str) -> Any:
        """Return the preconditioner on another device: 'cuda', or 'cpu', where it lies."""
        from krylearn.cuda.preconditioners import moved

        return moved(self, device)

    def __getstate__(self):
        state = self.__dict__.copy()
        for name in ("_views", "_parts", "_places", "_coef", "_stores"):
            del state[name]
        return state

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._schedule()

    def __repr__(self):
        h = self._hierarchy
        size = [int(np.prod(shape)) for shape in h.shapes]
        working = self.working if h.first is None else f"{self._lower} and {self.working}"
        lines = [
            f"<{type(self).__name__}: {self.cycle}({self.pre},{self.post}), {self.smoother}, "
            f"{working} inside {self.dtype}, grid complexity {sum(size) / size[0]:.2f}",
            " level           grid    unknowns",
        ]
        for level, (shape, n) in enumerate(zip(h.shapes, size)):
            lines.append(f"{level:6d}  {'x'.join(map(str, shape)):>13}  {n:>10}")
        if self.choice:
            lines.append(f"chosen because {self.choice}")
        return "\n".join(lines) + ">"


def _finest(A: Any, dtype: np.dtype, separated: bool, jumps: bool) -> Any:
    """Return the finest level of a grid operator; its numbers point by point if not `separated`."""
    separated = separated and not jumps and A._constant and A.dtype.kind != "c"
    level = separable(A) if separated else None
    if level is not None:
        return level
    if A.mask is not None or A.dtype.kind == "c":
        return pointwise(A.grid, A._points(), A.mask, jumps=jumps)
    rows = np.zeros(4 * A.shape[0], A.dtype)
    rows_of(A, rows, 0, 1)
    return packed(A.grid, rows, 1, dtype, jumps)
