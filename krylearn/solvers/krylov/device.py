"""The loops of Krylov methods on the CUDA device.

They are not the text of the CPU's loops, and on purpose. There a scalar is a number that Python
tests: four breakdown guards and a norm an iteration, each of which would stop the device for
longer than an iteration takes. Here the scalars never leave the device: `iterate` queues an
iteration without looking, so that it can be recorded in a CUDA graph, and the arithmetic between
two vector operations stands in `krylearn.kernels.cuda.scalars` under the same names. What remains
for the host is what happens when a loop has ended, and that reads as on the CPU. The `s` of a loop
is a `krylearn.cuda.solve.CudaSolve`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from krylearn.cuda.arrays import download, empty, fill, upload, zeros
from krylearn.cuda.operators import never_stops
from krylearn.interface import Reason
from krylearn.kernels.cuda import scalars as on
from krylearn.kernels.cuda import vector
from krylearn.kernels.cuda.launch import (
    BREAKDOWN,
    HALFWAY,
    INDEFINITE,
    INDEFINITE_M,
    INVARIANT,
    LOOP,
    SINGULAR,
    USELESS,
    accumulator,
    blocks_for,
)


def cg(s: Any) -> None:
    """Conjugate gradients; matrix-free without M in two passes over memory an iteration."""
    if s.A.fuses and s.callback is None:
        if s.M.identity:
            return _cg_fused(s)
        if s.M.fuses_with_cg and s.dtype.kind != "c":
            return _cg_multigrid(s)
    log, S, sums, x, r = s.log, s.S, s.sums, s.x, s.r
    q, p, buffer = s.empty(), s.empty(), s.empty()
    plain = s.M.identity

    def iterate() -> None:
        on.run(on.cg_curvature, log, S, s.product_dot(p, q))
        vector.step(log, S, on.ALPHA, p, q, x, r, sums)
        on.run(on.cg_residual, log, s.control, S, plain, sums)
        z = s.precondition(r, buffer)
        if not plain:
            vector.dot(log, r, z, sums)
            on.run(on.cg_beta, log, S, on.ONE, sums)
        vector.xpby(log, S, z, on.BETA, p)

    while s.unsolved():
        s.begin()
        z = s.precondition(r, buffer)
        s.precond_applies += not plain
        vector.copy(log, z, p)
        vector.dot(log, r, z, sums)
        on.run(on.store, log, S, on.RZ, sums)
        end_cg(s, s.repeat(iterate))


def end_cg(s: Any, stop: int) -> None:
    """Name what ended a pass of conjugate gradients."""
    if stop == INDEFINITE_M:
        s.matvecs += 1
        s.breakdown(Reason.INDEFINITE_M, s.scalar(on.RZ))
    elif stop == INDEFINITE:
        s.matvecs += 1
        s.breakdown(Reason.INDEFINITE, s.scalar(on.PQ))
    elif stop == LOOP:
        s.running(s.residuals[-1])  # says so where the residual has grown beyond hope


def _cg_fused(s: Any) -> None:
    A, log, S, x, r = s.A, s.log, s.S, s.x, s.r
    pair = [s.empty(), s.empty()]  # the last direction, and the place of the next

    def iterate() -> None:
        p, p_new = pair
        on.run(on.cg_curvature, log, S, A.direction(log, S, on.ALPHA, on.BETA, r, p, x, p_new))
        on.run(on.cg_residual, log, s.control, S, True, A.descend(log, S, on.ALPHA, p_new, r))
        pair.reverse()

    while s.unsolved():
        s.begin()
        fill(pair[0], 0)
        s.set_scalars(ALPHA=0.0, BETA=0.0, RZ=s.rnorm**2)
        before = s.iterations
        stop = s.repeat(iterate, period=2)
        if stop == LOOP:  # x lags by a step
            p = pair[(s.iterations - before) % 2]
            vector.axpy(never_stops(), S, on.ALPHA, p, x)
        end_cg(s, stop)


def _cg_multigrid(s: Any) -> None:
    """The same with a cycle of multigrid, whose precision r and z are in outside the recurrence.

    z is in units of its own: r times SCALE goes in, and what comes out counts GAIN.
    """
    A, M, log, S, x, r = s.A, s.M, s.log, s.S, s.x, s.r
    pair = [s.empty(), s.empty()]
    low, z = (empty(s.n, M.inside, "a vector in the precision of M") for _ in range(2))

    def iterate() -> None:
        p, p_new = pair
        sums = A.direction(log, S, on.ALPHA, on.BETA, z, p, x, p_new, on.GAIN)
        on.run(on.cg_curvature, log, S, sums)
        sums = A.descend(log, S, on.ALPHA, p_new, r, on.SCALE, low)
        on.run(on.cg_residual, log, s.control, S, False, sums)
        on.run(on.cg_beta, log, S, on.FACTOR, M.apply_inside(log, low, z))
        pair.reverse()

    while s.unsolved():
        s.begin()
        fill(pair[0], 0)
        scale = 2.0 ** -round(math.log2(s.rnorm))
        gain = M.unit / scale
        s.set_scalars(ALPHA=0.0, RZ=1.0, SCALE=scale, GAIN=gain, FACTOR=gain / scale)
        vector.cast(log, S, on.SCALE, r, low)
        on.run(on.cg_beta, log, S, on.FACTOR, M.apply_inside(log, low, z))
        s.precond_applies += 1
        before = s.iterations
        stop = s.repeat(iterate, period=2)
        if stop == LOOP:  # x lags by a step
            p = pair[(s.iterations - before) % 2]
            vector.axpy(never_stops(), S, on.ALPHA, p, x)
        end_cg(s, stop)


def fcg(s: Any, truncate: int) -> None:
    """Flexible conjugate gradients: a ring of directions, all of them zero at first."""
    log, S, sums, pair, x, r = s.log, s.S, s.sums, s.pair, s.x, s.r
    eps = float(np.finfo(s.dtype).eps)
    plain, rows = s.M.identity, truncate + 1
    accurate = accumulator(s.dtype)
    P, Q, buffer = s.empty(rows, s.n), s.empty(rows, s.n), s.empty()
    pq, c, h = zeros(rows, np.float64), zeros(rows, accurate), zeros(rows + 1, accurate)
    parts = zeros((rows + 1, blocks_for(s.n)), accurate)
    at = [0]

    def iterate() -> None:
        place = at[0]
        p, q = P[place], Q[place]
        z = s.precondition(r, buffer)
        if not plain:
            vector.dot_norm2(log, z, r, pair)
            on.run(on.fcg_direction, log, S, eps, pair)
            vector.copy_if(log, S, on.USE_R, r, z)
        vector.dots(log, S, on.ONE, Q, rows, z, parts)
        on.gather(log, S, on.ONE, parts, h)
        on.run(on.fcg_coefficients, log, pq, place, h, c)
        vector.combine(log, P, c, place, z, p)
        curvature = s.product_dot(p, q)
        vector.dot(log, p, r, sums)
        on.run(on.fcg_step, log, S, pq, place, curvature, sums)
        vector.step(log, S, on.ALPHA, p, q, x, r, sums)
        on.run(on.fcg_residual, log, s.control, S, sums)
        at[0] = (place + 1) % rows

    while s.unsolved():
        s.begin()
        for ring, value in ((P, 0), (Q, 0), (pq, 1)):
            fill(ring, value)
        s.set_scalars(RR=s.rnorm**2)
        stop = s.repeat(iterate, period=rows)
        if stop in (BREAKDOWN, INDEFINITE):
            s.precond_applies += not plain
        if stop == BREAKDOWN:
            s.breakdown(Reason.BREAKDOWN, s.scalar(on.RZ))
        else:
            end_cg(s, stop)


def minres(s: Any) -> None:
    """Minimal residuals: Lanczos vectors and search directions change places."""
    log, S, sums, x, r = s.log, s.S, s.sums, s.x, s.r
    eps = float(np.finfo(s.dtype).eps)
    plain, buffer, z = s.M.identity, s.empty(), s.empty()
    vs, ws = [s.empty(), s.empty(), s.empty()], [s.empty(), s.empty()]

    def iterate() -> None:
        v_last, v, v_next = vs
        w_last, w = ws
        vector.scale(log, S, on.M_INVERSE, v if plain else buffer, z)
        on.run(on.minres_alpha, log, S, s.product_dot(z, v_next))
        vector.axpbypcz(log, S, on.M_LAST, v_last, on.M_HERE, v, on.ONE, v_next, sums)
        if not plain:
            s.precondition(v_next, buffer)
            vector.dot(log, v_next, buffer, sums)
        on.run(on.minres_rotation, log, S, eps, sums)
        vector.lanczos_step(log, S, on.M_Z, z, on.M_W, w, on.M_W_LAST, w_last, on.M_PHI, x)
        if not plain:
            vector.axpby_norm2(log, S, on.M_OF_V, v_next, on.M_OF_R, r, sums)
        on.run(on.minres_residual, log, s.control, S, plain, sums)
        vs[:] = [v, v_next, v_last]
        ws.reverse()

    while s.unsolved():
        s.begin()
        vector.copy(log, r, vs[1])
        Mv = s.precondition(vs[1], buffer)
        s.precond_applies += not plain
        vector.dot(log, vs[1], Mv, sums)
        for zero in (vs[0], *ws):
            fill(zero, 0)
        on.run(on.minres_start, log, S, sums)
        stop = s.repeat(iterate, period=6)
        if stop in (SINGULAR, INDEFINITE_M):
            root = s.scalar(on.M_ROOT)
            if s.iterations > s.pass_start or stop == SINGULAR:
                s.matvecs += 1
                s.precond_applies += not plain
            if stop == SINGULAR:
                s.near_breakdown(root, reason=Reason.SINGULAR)
            else:
                s.breakdown(Reason.INDEFINITE_M, root)
        elif stop == LOOP:
            s.running(s.residuals[-1])


def bicgstab(s: Any) -> None:
    """Stabilised biconjugate gradients."""
    log, S, sums, pair, x, r = s.log, s.S, s.sums, s.pair, s.x, s.r
    eps = float(np.finfo(s.dtype).eps)
    shadow, p, v, t = s.empty(), s.empty(), s.empty(), s.empty()
    plain = s.M.identity
    p_buffer, r_buffer = (p, r) if plain else (s.empty(), s.empty())

    def iterate() -> None:
        y = s.precondition(p, p_buffer)
        s.product(y, v)
        vector.dot_norm2(log, v, shadow, pair)
        on.run(on.bicgstab_alpha, log, S, eps, pair)
        vector.axpy_norm2_dot(log, S, on.B_MINUS_ALPHA, v, r, shadow, pair)
        on.run(on.bicgstab_half, log, s.control, S, pair)
        z = s.precondition(r, r_buffer)
        s.product(z, t)
        vector.dot_norm2(log, t, r, pair)
        on.run(on.bicgstab_omega, log, S, eps, pair)
        vector.axpbypcz(log, S, on.B_ALPHA, y, on.B_OMEGA, z, on.ONE, x, sums)
        vector.axpy_norm2_dot(log, S, on.B_MINUS_OMEGA, t, r, shadow, pair)
        on.run(on.bicgstab_beta, log, s.control, S, pair)
        vector.axpbypcz(log, S, on.ONE, r, on.B_MINUS_BETA_OMEGA, v, on.B_BETA, p, sums)

    while s.unsolved():
        s.begin()
        vector.copy(log, r, shadow)
        vector.copy(log, r, p)
        s.set_scalars(B_START=s.rnorm, B_RHO=s.rnorm**2, B_RNORM=s.rnorm)
        stop = s.repeat(iterate, matvecs=2, preconds=2)
        if stop == LOOP:
            s.running(s.residuals[-1])
        elif stop:
            halves = 2 if stop == USELESS else 1
            s.matvecs += halves
            s.precond_applies += 0 if plain else halves
            rnorm = s.scalar(on.B_RNORM).real
            if stop == BREAKDOWN:
                s.near_breakdown(s.scalar(on.B_RHO), s.scalar(on.B_SIGMA))
                continue
            vector.axpy(never_stops(), S, on.B_ALPHA, p_buffer, x)
            if stop == HALFWAY:
                s.running(rnorm)
                s.step(rnorm)
            else:
                if rnorm < s.rnorm:
                    s.step(rnorm)
                s.near_breakdown(s.scalar(on.B_OMEGA))


def arnoldi(s: Any, restart: int, flexible: bool, notify: str) -> None:
    """GMRES and flexible GMRES: a cycle is a pass; where it stands, the device keeps count of."""
    log, S, sums = s.log, s.S, s.sums
    eps = float(np.finfo(s.dtype).eps)
    m = max(1, min(restart, s.n, s.maxiter))
    plain = s.M.identity
    accurate = accumulator(s.dtype)
    V = empty((m + 1, s.n), s.dtype, f"a basis of {m + 1} vectors (see restart)")
    Z = s.empty(m + 1, s.n) if flexible and not plain else None
    v, w, buffer, spare = s.empty(), s.empty(), s.empty(), s.empty()
    H, h, left = zeros((m, m + 1), accurate), zeros(m + 2, accurate), zeros(m + 2, accurate)
    cs, sn, g = zeros(m, np.float64), zeros(m, accurate), zeros(m + 1, accurate)
    parts, near = (zeros((rows, blocks_for(s.n)), accurate) for rows in (m + 2, m + 1))
    # What V^H V lacks of the identity, its last column, and V^H w.
    G, column = zeros((m + 1, m + 1), accurate), zeros(m + 1, accurate)
    found = zeros(m + 2, accurate)

    def iterate() -> None:
        z = s.precondition(v, buffer)
        if Z is not None:
            vector.keep(log, S, on.ONE, z, spare, Z)
        s.product(z, w)
        vector.dots_and_gram(log, V, w, parts, near)
        on.gather(log, S, on.ONE, parts, found)
        on.gather(log, S, on.ONE, near, column)
        on.run(on.gmres_correct, log, S, G, column, found, h)
        vector.project(log, S, on.ONE, V, h, w, sums)
        on.run(on.gmres_trust, log, S, eps, h, sums)
        vector.dots(log, S, on.G_MEASURE, V, -1, w, parts)
        on.gather(log, S, on.G_MEASURE, parts, left)
        on.run(on.gmres_left, log, S, eps, left)
        vector.project(log, S, on.G_AGAIN, V, left, w, sums)
        on.run(on.gmres_again, log, S, h, left, sums)
        on.run(on.gmres_rotation, log, s.control, S, eps, h, H, cs, sn, g)
        vector.keep(log, S, on.G_INVERSE, w, v, V)

    if notify in ("legacy", "pr_norm"):
        s.watch = lambda: s.call_back(s.residuals[-1] / s.bnorm)
    elif notify:
        s.watch = lambda: None
    while s.unsolved():
        s.begin(m)
        s.set_scalars(G_INVERSE=1.0 / s.rnorm, G_LOSS=0.0)
        vector.keep(log, S, on.G_INVERSE, s.r, v, V)
        upload(np.array([s.rnorm] + [0.0] * m, accurate), g)
        stop = s.repeat(iterate)
        j = s.iterations - s.pass_start
        if stop == BREAKDOWN:
            s.matvecs += 1
            s.precond_applies += not plain
            s.breakdown(Reason.OVERFLOW, s.scalar(on.G_SIZE))
        elif stop == SINGULAR:
            s.breakdown(Reason.SINGULAR)
            j -= 1
        elif stop in (LOOP, INVARIANT) and s.reason is None:
            s.running(s.residuals[-1])
        if j:
            _correct(s, V, Z, _back_substitute(download(H), download(g), j), buffer)
        if notify == "x":
            s.show()


def _back_substitute(H: np.ndarray, g: np.ndarray, j: int) -> Any:
    from scipy.linalg import solve_triangular

    y = solve_triangular(H[:j, :j], g[:j], trans="T", lower=True, check_finite=False)
    return upload(y.astype(H.dtype))


def _correct(s: Any, V: Any, Z: Any, y: Any, buffer: Any) -> None:
    """Do ``x += M @ (y @ V)``; with a flexible M its results were kept in Z."""
    go = never_stops()
    if Z is not None:
        vector.combine(go, Z, y, -1, s.x, s.x)
    elif s.M.identity:
        vector.combine(go, V, y, -1, s.x, s.x)
    else:
        update = s.empty()
        fill(update, 0)
        vector.combine(go, V, y, -1, update, update)
        s.precond_applies += 1
        s.M.apply(go, update, buffer)
        vector.axpy(go, s.S, on.ONE, buffer, s.x)


def refine(s: Any, singular: bool) -> None:
    """Iterative refinement: so few steps that the host may look at each."""
    from krylearn.solvers.direct.refinement import USEFUL, negligible

    go, z = never_stops(), s.empty()
    while s.unsolved():
        rnorm, last = s.rnorm, math.inf
        while s.running(rnorm) and rnorm <= USEFUL * last:
            last = rnorm
            s.precond_applies += 1
            s.M.apply(go, s.r, z)
            vector.axpy(go, s.S, on.ONE, z, s.x)
            rnorm = s.residual()
            s.step(rnorm)
        if last <= rnorm < math.inf:
            vector.axpy(go, s.S, on.MINUS_ONE, z, s.x)
    if singular and s.reason is Reason.STAGNATED and not negligible(s):
        s.reason = Reason.SINGULAR
