"""Conjugate gradients with a multigrid cycle on systems that lie side by side as lanes.

Lanes never mix: each has its own scalars and its own end. One that is over takes steps of length
zero. Scalars are spread over a line, so that the inner loops run over whole lines of all lanes.
"""

from __future__ import annotations

import numpy as np

from krylearn.kernels.multigrid import UP, ZERO, _offset, add_neighbours, run
from krylearn.kernels.parallel import jit

RUNNING, CONVERGED, MAXITER, STAGNATED, INDEFINITE, INDEFINITE_M, NONFINITE = range(7)
# Rows of `line`.
ALPHA, BETA, GAIN, UNIT, SUM, ROWS = range(6)


@jit
def _spread(lanes, values, line):
    for i in range(ZERO, np.uint64(line.shape[0]), lanes):
        for m in range(lanes):
            line[i + m] = values[m]


@jit
def _gather(lanes, line, sums):
    """Add up a line for each lane, and clear it."""
    sums[:] = 0
    for i in range(ZERO, np.uint64(line.shape[0]), lanes):
        for m in range(lanes):
            sums[m] += line[i + m]
            line[i + m] = 0


@jit
def _times(geo, A, x, y, line, out):
    """Write ``A @ x`` into y; add ``x * y`` to the line SUM."""
    nz, ny, nx = geo[0], geo[1], geo[2]
    total = line[SUM]
    for k in range(nz):
        below = _offset(k, nz, ny * nx, False, geo[3])
        above = _offset(k, nz, ny * nx, True, geo[3])
        for j in range(ny):
            start = (k * ny + j) * nx
            d, here, there = A[start : start + nx], x[start : start + nx], y[start : start + nx]
            out[:] = 0
            add_neighbours(k, j, geo, A, x, start, below, above, out)
            for i in range(nx):
                v = d[i] * here[i] - out[i]
                there[i] = v
                total[i] += here[i] * v


@jit
def _residual(geo, A, b, x, r, line, out):
    """Write ``b - A @ x`` into r; add its squares to the line SUM."""
    nz, ny, nx = geo[0], geo[1], geo[2]
    total = line[SUM]
    for k in range(nz):
        below = _offset(k, nz, ny * nx, False, geo[3])
        above = _offset(k, nz, ny * nx, True, geo[3])
        for j in range(ny):
            start = (k * ny + j) * nx
            d, here, there = A[start : start + nx], x[start : start + nx], r[start : start + nx]
            rhs = b[start : start + nx]
            out[:] = 0
            add_neighbours(k, j, geo, A, x, start, below, above, out)
            for i in range(nx):
                v = rhs[i] - (d[i] * here[i] - out[i])
                there[i] = v
                total[i] += v * v


@jit
def _direction(nx, u, p, line):
    """Do ``p = gain * u + beta * p``."""
    gain, beta = line[GAIN], line[BETA]
    for start in range(ZERO, np.uint64(p.shape[0]), nx):
        here, z = p[start : start + nx], u[start : start + nx]
        for i in range(nx):
            here[i] = gain[i] * z[i] + beta[i] * here[i]


@jit
def _descend(nx, p, q, x, r, f, line):
    """Do ``x += alpha p; r -= alpha q; f = unit r``; add the squares of r to the line SUM."""
    alpha, unit, total = line[ALPHA], line[UNIT], line[SUM]
    for start in range(ZERO, np.uint64(p.shape[0]), nx):
        here, there = p[start : start + nx], q[start : start + nx]
        xs, rs, fs = x[start : start + nx], r[start : start + nx], f[start : start + nx]
        for i in range(nx):
            xs[i] += alpha[i] * here[i]
        for i in range(nx):
            v = rs[i] - alpha[i] * there[i]
            rs[i] = v
            total[i] += v * v
            fs[i] = unit[i] * v


@jit
def _inner(nx, r, u, line):
    """Add ``r * gain * u`` to the line SUM."""
    gain, total = line[GAIN], line[SUM]
    for start in range(ZERO, np.uint64(r.shape[0]), nx):
        rs, z = r[start : start + nx], u[start : start + nx]
        for i in range(nx):
            total[i] += rs[i] * (gain[i] * z[i])


@jit
def _units(state, norms, scale, units, gains):
    """Powers of two that bring residuals to about 1, 0 for lanes that are over."""
    for m in range(state.shape[0]):
        units[m] = gains[m] = 0.0
        if state[m] == RUNNING and norms[m] > 0:
            units[m] = 2.0 ** -np.round(np.log2(norms[m]))
            gains[m] = 1.0 / (units[m] * scale[m])


@jit
def solve(steps, factors, geos, places, fp, ip, coef, dense, scale, cycle_f, cycle_v, t, d, A, b, x,
          r, p, q, line, tolerance, maxiter, state, counts, history, norms):  # fmt: skip
    """Solve ``A x = b`` for all lanes, x being zero; the outcome of each is in `state`.

    References
    ----------
    Saad (2003), Iterative Methods for Sparse Linear Systems, Algorithm 9.1.
    """
    geo = geos[0]
    nx, lanes = geo[2], geo[18]
    many = state.shape[0]
    # Where a cycle leaves its result depends on its last step.
    f = cycle_f[: b.shape[0]]
    u = (t if steps[-1, 0] == UP else cycle_v)[: b.shape[0]]
    out = np.empty(nx, A.dtype)
    sums, rz, alpha, beta = np.zeros(many), np.zeros(many), np.zeros(many), np.zeros(many)
    units, gains, previous = np.zeros(many), np.zeros(many), np.full(many, np.inf)
    line[SUM] = 0
    iteration = 0
    while True:
        # Nothing but the true residual decides on convergence.
        _residual(geo, A, b, x, r, line, out)
        _gather(lanes, line[SUM], norms)
        active = 0
        for m in range(many):
            norms[m] = np.sqrt(norms[m])
            if state[m] != NONFINITE and not np.isfinite(norms[m]):
                state[m] = NONFINITE
            elif norms[m] <= tolerance[m]:
                state[m] = CONVERGED
            elif state[m] == CONVERGED:
                state[m] = RUNNING if norms[m] < previous[m] * (1 - 1e-8) else STAGNATED
            if state[m] == RUNNING and iteration >= maxiter:
                state[m] = MAXITER
            previous[m] = norms[m]
            history[counts[m], m] = norms[m]
            active += state[m] == RUNNING
        if active == 0:
            return
        beta[:] = 0
        rz[:] = 1
        alpha[:] = 0
        started = False
        while active > 0:
            if started:
                _times(geo, A, p, q, line, out)
                _gather(lanes, line[SUM], sums)
                for m in range(many):
                    alpha[m] = 0.0
                    if state[m] == RUNNING:
                        if not (rz[m] > 0):
                            state[m] = INDEFINITE_M if np.isfinite(rz[m]) else NONFINITE
                        elif not (sums[m] > 0):
                            state[m] = INDEFINITE if np.isfinite(sums[m]) else NONFINITE
                        else:
                            alpha[m] = rz[m] / sums[m]
                iteration += 1
            _units(state, norms, scale, units, gains)
            _spread(lanes, alpha, line[ALPHA])
            _spread(lanes, units, line[UNIT])
            _descend(nx, p, q, x, r, f, line)
            _gather(lanes, line[SUM], sums)
            if started:
                for m in range(many):
                    if state[m] == RUNNING:
                        norms[m] = np.sqrt(sums[m])
                        counts[m] = iteration
                        history[iteration, m] = norms[m]
                        if not np.isfinite(norms[m]):
                            state[m] = NONFINITE
                        elif norms[m] <= tolerance[m] or iteration >= maxiter:
                            state[m] = CONVERGED  # or so it seems
            active = 0
            for m in range(many):
                active += state[m] == RUNNING
            if active == 0:
                break
            run(steps, factors, geos, places, fp, ip, coef, cycle_f, cycle_v, t, d, dense)
            _spread(lanes, gains, line[GAIN])
            _inner(nx, r, u, line)
            _gather(lanes, line[SUM], sums)
            for m in range(many):
                beta[m] = sums[m] / rz[m] if started else 0.0
                if state[m] != RUNNING:
                    beta[m] = 0.0
                rz[m] = sums[m]
            _spread(lanes, beta, line[BETA])
            _direction(nx, u, p, line)
            started = True
