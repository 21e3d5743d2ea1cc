"""Many independent systems on one grid, solved together by multigrid and conjugate gradients."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from krylearn.cuda.arrays import lies_on_cuda
from krylearn.grid import Grid, GridOperator
from krylearn.interface import Reason, SolveInfo, not_negative
from krylearn.kernels import multigrid_batched as kernels
from krylearn.kernels.multigrid import DOWN
from krylearn.kernels.parallel import parallel_for
from krylearn.solvers.multigrid import cycle as cycles
from krylearn.solvers.multigrid.colours import colours, solve_one
from krylearn.solvers.multigrid.hierarchy import Pattern, build, pattern_of, v_cycle
from krylearn.solvers.multigrid.levels import Variable, axes_of, pointwise, typical
from krylearn.solvers.multigrid.packed import packed, rows_of
from krylearn.solvers.relaxation.splitting import Workspace

__all__ = ["solve_batch"]

# Systems that lie side by side: one vector register of single precision.
LANES = 8
# The dense inverse of the coarsest level is made for each system.
COARSEST = 16
_REASONS = {
    kernels.CONVERGED: Reason.CONVERGED,
    kernels.MAXITER: Reason.MAXITER,
    kernels.STAGNATED: Reason.STAGNATED,
    kernels.INDEFINITE: Reason.INDEFINITE,
    kernels.INDEFINITE_M: Reason.INDEFINITE_M,
}


def solve_batch(A, b, *, grid=None, rtol=1e-8, atol=0.0, maxiter=200, pre=1, post=1, device=None):
    """Solve many systems on one grid together, by conjugate gradients with a multigrid cycle.

    Parameters
    ----------
    A : sequence of GridOperator, or array of shape ``(m, *grid.shape)``
        Real, Hermitian positive definite or semidefinite operators on one grid; or coefficients
        c, which stand for ``GridOperator.diffusion(grid, c)``.
    b : array or sequence, shape (m, n) or ``(m, *grid.shape)``
        Right-hand sides; one of shape (n,) serves all.
    grid : Grid, optional
        Needed with coefficients.
    rtol, atol : float
        Converged when the recomputed ``norm(b - A @ x) <= max(rtol * norm(b), atol)``, in float64.
    maxiter : int
        Most iterations.
    pre, post : int
        Red-black sweeps before and after the coarse correction.
    device : {None, 'cpu', 'cuda'}
        Where to solve; by default where the data lies. Coefficients and b may be arrays on a CUDA
        device.

    Returns
    -------
    X : (m, n) float64 array
        Where b was: for b on the device there, in the kind that b has.
    infos : sequence of SolveInfo
        One for each system, `solve_seconds` and `setup_seconds` being its share of the whole.

    Raises
    ------
    TypeError
        If A holds something else than operators on a grid.
    ValueError
        If the grids differ, an operator is complex or not symmetric, or shapes do not fit.

    Notes
    -----
    Threads share the systems. On a plane grid without masks or periodic sides each is solved by
    itself, in the cache of a core: see `kernels.multigrid_colours`. Others, those that are coupled
    much more strongly along one axis among them, and those that fail there, are solved in groups
    that lie side by side in memory and share each step. A system that fails, or holds NaN, harms
    no other. Cycles run in single precision.

    References
    ----------
    Trottenberg, Oosterlee and Schueller (2001), Multigrid, section 7.8 (as a preconditioner).

    Examples
    --------
    >>> import numpy as np, krylearn as kl
    >>> grid = kl.Grid((32, 32), centering="cell")
    >>> c = np.exp(np.random.default_rng(0).standard_normal((5, 32, 32)))
    >>> X, infos = kl.solve_batch(c, np.ones(1024), grid=grid)
    >>> X.shape, all(info.converged for info in infos)
    ((5, 1024), True)
    """
    started = time.perf_counter()
    not_negative(rtol=rtol, atol=atol)
    for name, count, least in (("maxiter", maxiter, 0), ("pre", pre, 0), ("post", post, 0)):
        if count != int(count) or count < least:
            raise ValueError(f"{name} must be an integer >= {least}, not {count!r}")
    if pre != post or pre < 1:
        raise ValueError("pre and post must be equal and positive: cg needs a symmetric cycle")
    if device not in (None, "cpu", "cuda"):
        raise ValueError(f"device must be 'cpu' or 'cuda', not {device!r}")
    there = lies_on_cuda(A) or lies_on_cuda(b)
    if device == "cuda" or there or isinstance(A, list | tuple) and any(map(lies_on_cuda, A)):
        if device == "cpu":
            raise ValueError("A or b lies on the CUDA device: take it to the host, or leave device")
        from krylearn.cuda.batched import solve_batch as solve_on_cuda

        return solve_on_cuda(A, b, grid, rtol, atol, int(maxiter), int(pre))
    systems = _Systems(A, b, grid)
    m, n = systems.count, systems.grid.size
    X = np.empty((m, n))
    infos: list[Any] = [None] * m
    steps = int(maxiter)

    def each(lo: int, hi: int) -> None:
        for i in range(lo, hi):
            infos[i] = solve_one(systems.operator(i), systems.b[i], X[i], rtol, atol, steps)

    if pre == 1 and colours(systems.grid) is not None:
        parallel_for(each, m, 1)
    alike = _alike(systems, [i for i, info in enumerate(infos) if info is None])

    def together(lo: int, hi: int) -> None:
        for pattern, members in alike[lo:hi]:
            solved = _solve_group(systems, members, pattern, X, rtol, atol, steps, int(pre))
            for i, info in zip(members, solved):
                infos[i] = info

    parallel_for(together, len(alike), 1)
    share = (time.perf_counter() - started) / max(m, 1)
    for info in infos:
        info.solve_seconds = max(0.0, share - info.setup_seconds)
    return X, infos


class _Systems:
    """The operands, checked."""

    def __init__(self, A: Any, b: Any, grid: Grid | None) -> None:
        self.operators: Sequence | None = None
        self.coefficients: np.ndarray | None = None
        if isinstance(A, np.ndarray) and A.dtype != object:
            if grid is None:
                raise ValueError("coefficients need a grid")
            if A.ndim != grid.ndim + 1 or A.shape[1:] != grid.shape:
                raise ValueError(f"coefficients have shape {A.shape}; (m, *{grid.shape}) is needed")
            if A.dtype.kind not in "biuf":
                raise ValueError(f"coefficients must be real numbers, not {A.dtype}")
            self.coefficients, self.count = A, len(A)
        else:
            self.operators, self.count = list(A), len(A)
            for operator in self.operators:
                if not isinstance(operator, GridOperator):
                    raise TypeError(
                        f"solve_batch takes operators on a grid, not {type(operator).__name__}"
                    )
                grid = operator.grid if grid is None else grid
                if operator.grid != grid:
                    raise ValueError("solve_batch needs operators on one grid")
                if operator.dtype.kind == "c" or not operator.symmetric:
                    raise ValueError(
                        "solve_batch needs real symmetric operators; use solve for others"
                    )
            if grid is None:
                raise ValueError("no operator and no grid are given")
        self.grid: Grid = grid
        b = np.asarray(b)
        if b.dtype.kind not in "biuf":
            raise ValueError(f"b must hold real numbers, not {b.dtype}")
        if b.size == grid.size:
            self.b = np.broadcast_to(b.reshape(1, -1), (self.count, grid.size))
        elif b.size == self.count * grid.size:
            self.b = b.reshape(self.count, grid.size)
        else:
            raise ValueError(f"b has shape {b.shape}; ({self.count}, {grid.size}) is needed")

    def operator(self, i: int) -> GridOperator:
        """Return the operator of a system."""
        if self.operators is not None:
            return self.operators[i]
        assert self.coefficients is not None
        return GridOperator.diffusion(self.grid, self.coefficients[i], dtype=float)


def _alike(systems: _Systems, members: list[int]) -> list[tuple[Pattern, list[int]]]:
    """Return groups of systems whose grids are coarsened alike, each by its own coefficients."""
    found: dict[tuple, list[int]] = {}
    for i in members:
        A = systems.operator(i)
        masked = A.mask is not None
        axes = axes_of(A.grid, masked)
        strength = [typical(np.abs(couplings)) for couplings in A._stack[1 : 1 + A.grid.ndim]]
        found.setdefault((masked, pattern_of(axes, strength, COARSEST)), []).append(i)
    return [(pattern, group[k : k + LANES]) for (_, pattern), group in found.items()
            for k in range(0, len(group), LANES)]  # fmt: skip


def _masked(operators: list[GridOperator]) -> Variable:
    """Return the finest level of operators of which some have masks."""
    shape = operators[0].grid.shape
    stack = np.empty((1 + len(shape), *shape, LANES))
    mask = np.ones((*shape, LANES), bool)
    for lane in range(LANES):
        operator = operators[min(lane, len(operators) - 1)]
        stack[..., lane] = operator._points()
        if operator.mask is not None:
            mask[..., lane] = operator.mask
    return pointwise(operators[0].grid, stack, mask, LANES)


# Of each thread; from one group to the next.
_double, _single = Workspace(), Workspace()


def _solve_group(systems: _Systems, members: list[int], pattern: Pattern, X: np.ndarray,
                 rtol: float, atol: float, maxiter: int, sweeps: int
                 ) -> list[SolveInfo]:  # fmt: skip
    started = time.perf_counter()
    grid, n, many = systems.grid, systems.grid.size, len(members)
    operators = [systems.operator(i) for i in members]
    work = _double.get(9, n * LANES, np.float64)
    rows = work[:4].reshape(-1)
    work[[0, 1, 2, 3, 5, 7, 8]] = 0
    for lane in range(LANES):
        rows_of(operators[min(lane, many - 1)], rows, lane, LANES)
    with np.errstate(all="ignore"):
        if all(operator.mask is None for operator in operators):
            level: Any = packed(grid, rows, LANES, np.float32)
        else:
            level = _masked(operators)
        h = build(level, np.dtype(np.float32), COARSEST, pattern=pattern)
    steps, factors = cycles.as_arrays(v_cycle(h, sweeps))
    places, coef = h.laid_out(steps[0, 0] == DOWN)
    f, u, t, d_ = _single.get(4, h.total, np.float32)
    b, x, r, p, q = work[4:]
    b.reshape(n, LANES)[:, many:] = 0
    b.reshape(n, LANES)[:, :many] = systems.b[members].T
    with np.errstate(all="ignore"):
        bnorm = np.sqrt(np.einsum("il,il->l", b.reshape(n, LANES), b.reshape(n, LANES)))
        tolerance = np.maximum(rtol * bnorm, atol)
    state, counts = np.zeros(LANES, np.int64), np.zeros(LANES, np.int64)
    history, norms = np.full((maxiter + 1, LANES), np.nan), np.zeros(LANES)
    line = np.zeros((kernels.ROWS, int(h.geo[0, 2])))
    scale = np.broadcast_to(np.asarray(h.scale, float), LANES).copy()
    setup = time.perf_counter() - started
    kernels.solve(
        steps, factors, h.geo, places, h.fp, h.ip, coef, h.dense, scale, f, u, t, d_,
        rows, b, x, r, p, q, line, tolerance, maxiter, state, counts, history, norms,
    )  # fmt: skip
    X[members] = x.reshape(n, LANES)[:, :many].T
    infos = []
    for lane in range(many):
        reason = _REASONS.get(int(state[lane]))
        if reason is None:
            if not np.isfinite(bnorm[lane]):
                reason = Reason.NONFINITE_RHS
            elif not np.isfinite(rows.reshape(4, n, LANES)[..., lane]).all():
                reason = Reason.NONFINITE_OPERATOR
            else:
                reason = Reason.OVERFLOW
        count = int(counts[lane])
        infos.append(SolveInfo(
            reason, iterations=count, matvecs=count + 1, precond_applies=count,
            residuals=_filled(history[: count + 1, lane]), residual=float(norms[lane]),
            setup_seconds=setup / many, solve_seconds=0.0, method="solve_batch",
        ))  # fmt: skip
    return infos


def _filled(values: np.ndarray) -> np.ndarray:
    """Return a copy, where a system waited for others its last residual."""
    known = np.maximum.accumulate(np.where(np.isnan(values), 0, np.arange(len(values))))
    return values[known]
