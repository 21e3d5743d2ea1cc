"""Many systems on one grid by conjugate gradients with a multigrid cycle, a block of threads each.

A block takes one system after the other and does all of it, from the coefficients to the true
residual: systems wait for nothing but their own threads, and none sees another. What happens is
what happens on the CPU, `krylearn.kernels.multigrid_batched`, but that the coarsest level has one
point.
"""

from __future__ import annotations

import math

import numpy as np
from numba import cuda

from krylearn.kernels.cuda import box, coarsening
from krylearn.kernels.cuda.box import NX, NY, NZ, POINTS, pull, seat
from krylearn.kernels.cuda.launch import SIMULATED, device, jit, launch, with_registers
from krylearn.kernels.multigrid_batched import (
    CONVERGED,
    INDEFINITE,
    INDEFINITE_M,
    MAXITER,
    NONFINITE,
    RUNNING,
    STAGNATED,
)

# Threads of a block, blocks that share a multiprocessor, registers of a thread: of eleven choices
# the quickest on an H100.
SIZE = 4 if SIMULATED else 256
RESIDENT = 4
REGISTERS = 64
MOST_THREADS = 1024
# Where the values of a system come from: the coefficient at the points, or rows of the matrix.
COEFFICIENT, ROWS = range(2)
# Columns of `outcome`.
STATE, COUNT, NORM, OUTCOMES = range(4)


@device
def _total(value, scratch):
    """Return the sum of a value over the block, to all of its threads."""
    t = cuda.threadIdx.x
    scratch[t] = value
    cuda.syncthreads()
    half = cuda.blockDim.x // 2
    while half > 0:
        if t < half:
            scratch[t] += scratch[t + half]
        cuda.syncthreads()
        half //= 2
    value = scratch[0]
    cuda.syncthreads()
    return value


@device
def _largest(value, scratch):
    """Return the largest of a value over the block, to all of its threads."""
    t = cuda.threadIdx.x
    scratch[t] = value
    cuda.syncthreads()
    half = cuda.blockDim.x // 2
    while half > 0:
        if t < half:
            scratch[t] = max(scratch[t], scratch[t + half])
        cuda.syncthreads()
        half //= 2
    value = scratch[0]
    cuda.syncthreads()
    return value


@device
def _face(low, high):
    """Return the harmonic mean: the flux is continuous across a jump at the face."""
    total = low + high
    product = 2.0 * low * high
    return product / total if total != 0.0 else product


@device
def _load(kind, dims, level, held, wraps, nearer, squares, shares, given, A):
    """Write the rows of the matrix: see `krylearn.grid.discretise.diffusion`.

    `squares` are those of the spacings along z, y and x; `shares` those of control volumes, one
    array behind the other.
    """
    nz, ny, nx = level[NZ], level[NY], level[NX]
    n, plane = np.uint32(nz * ny * nx), np.uint32(ny * nx)
    first, row, wide, high = seat(level[POINTS])
    while row < nz * ny:
        k = np.uint32(row // ny)
        j, i = np.uint32(row - k * ny), first
        while i < nx:
            at = np.uint32(row * nx + i)
            if kind == ROWS:
                for axis in range(dims + 1):
                    A[np.uint32(axis * n + at)] = given[np.uint32(axis * n + at)]
            else:
                own = np.float64(given[at])
                sz, sy, sx = shares[k], shares[nz + j], shares[nz + ny + i]
                diagonal = 0.0
                for s in range(dims):
                    axis = dims - 1 - s
                    if axis == 0:
                        size, here, stride, area = nx, i, np.uint32(1), sz * sy / squares[2]
                    elif axis == 1:
                        size, here, stride, area = ny, j, nx, sz * sx / squares[1]
                    else:
                        size, here, stride, area = nz, k, plane, sy * sx / squares[0]
                    around, back = (wraps >> axis) & 1 != 0, np.uint32(stride * (size - 1))
                    up = low = 0.0
                    if here + 1 < size or around:
                        next_ = np.uint32(at + stride if here + 1 < size else at - back)
                        up = _face(own, np.float64(given[next_])) * area
                    if here > 0 or around:
                        last = np.uint32(at - stride if here > 0 else at + back)
                        low = _face(np.float64(given[last]), own) * area
                    A[np.uint32((axis + 1) * n + at)] = -up
                    diagonal += up + low
                    if here == 0 and (held >> (2 * axis)) & 1 != 0:
                        diagonal += nearer * own * area
                    if here + 1 == size and (held >> (2 * axis + 1)) & 1 != 0:
                        diagonal += nearer * own * area
                A[at] = diagonal
            i = np.uint32(i + wide)
        row = np.uint32(row + high)


@device
def _product(dims, level, A, p, q):
    """Do ``q = A @ p``; return this thread's part of ``p @ q``."""
    nz, ny, nx = level[NZ], level[NY], level[NX]
    first, row, wide, high = seat(level[POINTS])
    value = 0.0
    while row < nz * ny:
        k = np.uint32(row // ny) if dims > 2 else np.uint32(0)
        j, i = np.uint32(row - k * ny), first
        while i < nx:
            at = np.uint32(row * nx + i)
            here = p[at]
            t = A[at] * here + pull(dims, nz, ny, nx, A, p, k, j, i, at)
            q[at] = t
            value += here * t
            i = np.uint32(i + wide)
        row = np.uint32(row + high)
    return value


@device
def _residual(dims, level, A, b, x, r):
    """Do ``r = b - A @ x``; return this thread's part of ``r @ r``."""
    nz, ny, nx = level[NZ], level[NY], level[NX]
    first, row, wide, high = seat(level[POINTS])
    value = 0.0
    while row < nz * ny:
        k = np.uint32(row // ny) if dims > 2 else np.uint32(0)
        j, i = np.uint32(row - k * ny), first
        while i < nx:
            at = np.uint32(row * nx + i)
            t = b[at] - (A[at] * x[at] + pull(dims, nz, ny, nx, A, x, k, j, i, at))
            r[at] = t
            value += t * t
            i = np.uint32(i + wide)
        row = np.uint32(row + high)
    return value


@device
def _descend(alpha, unit, p, q, x, r, f):
    """Do ``x += alpha p; r -= alpha q; f = unit r``; return this thread's part of ``r @ r``."""
    n, i = np.uint32(x.shape[0]), np.uint32(cuda.threadIdx.x)
    value = 0.0
    while i < n:
        t = r[i]
        if alpha != 0.0:
            x[i] += alpha * p[i]
            t -= alpha * q[i]
            r[i] = t
        value += t * t
        f[i] = unit * t
        i = np.uint32(i + cuda.blockDim.x)
    return value


@device
def _direction(gain, beta, u, p):
    """Do ``p = gain u + beta p``, whatever p holds where beta is zero."""
    n, i = np.uint32(p.shape[0]), np.uint32(cuda.threadIdx.x)
    while i < n:
        p[i] = gain * u[i] + beta * p[i] if beta != 0.0 else gain * u[i]
        i = np.uint32(i + cuda.blockDim.x)


@device
def _set_up(dims, geo, held, eps, unit, ip, fp, A, c, u, ties):
    """Make the coefficients of all levels; `u` serves as room for what diagonals have beyond."""
    level = geo[0]
    coarsening.finest(dims, level, eps, unit, A, c, u, 0, 1)
    cuda.syncthreads()
    coarsening.split_sides(dims, level, held, u, ties, 0, 1)
    cuda.syncthreads()
    for depth in range(1, geo.shape[0]):
        level, coarse = geo[depth - 1], geo[depth]
        here, there = c[level[box.COEF] :], c[coarse[box.COEF] :]
        excess = u[coarse[box.VECTOR] :]
        coarsening.coarsen(dims, level, coarse, ip, fp, here, u[level[box.VECTOR] :], there, excess,
                           0, 1)  # fmt: skip
        coarsening.coarsen_sides(dims, level, coarse, held, ip, fp, here, ties, 0, 1)
        cuda.syncthreads()
        coarsening.diagonal(dims, coarse, held, excess, ties, there, 0, 1)
        cuda.syncthreads()


@device
def _sweeps(dims, level, sweeps, upward, c, f, u):
    """Relax in all colours and boxes, in the opposite order on the way up."""
    value = 0.0
    for _ in range(sweeps):
        for s in range(16):
            step = 15 - s if upward else s
            around, colour = np.uint32(step // 2), np.uint32(step & 1)
            if around & ~level[box.ODD] == 0:
                value = box.relax(dims, level, colour, around, c, f, u)
                cuda.syncthreads()
    return value


@device
def _cycle(dims, geo, sweeps, ip, fp, c, f, u, t):
    """Do a V-cycle; return this thread's part of ``f @ u`` on the finest level.

    References
    ----------
    Trottenberg, Oosterlee and Schueller (2001), Multigrid, section 2.4.
    """
    last = geo.shape[0] - 1
    value = 0.0
    for depth in range(last):
        level, coarse = geo[depth], geo[depth + 1]
        here, rhs, x = c[level[box.COEF] :], f[level[box.VECTOR] :], u[level[box.VECTOR] :]
        fast = level[box.FAST] != 0 and sweeps == 1
        if fast:
            box.first(dims, level, here, rhs, x)
            cuda.syncthreads()
        else:
            i = np.uint32(cuda.threadIdx.x)
            while i < level[NZ] * level[NY] * level[NX]:
                x[i] = 0
                i = np.uint32(i + cuda.blockDim.x)
            cuda.syncthreads()
            _sweeps(dims, level, sweeps, False, here, rhs, x)
        box.residual(dims, level, fast, here, rhs, x, t)
        cuda.syncthreads()
        box.restrict(level, coarse, ip, fp, t, f[coarse[box.VECTOR] :])
        cuda.syncthreads()
    level = geo[last]
    if cuda.threadIdx.x == 0:
        at = level[box.VECTOR]
        u[at] = c[level[box.COEF]] * f[at]
        value = f[at] * u[at]
    cuda.syncthreads()
    for back in range(last):
        depth = last - 1 - back
        level, coarse = geo[depth], geo[depth + 1]
        here, rhs, x = c[level[box.COEF] :], f[level[box.VECTOR] :], u[level[box.VECTOR] :]
        fast = level[box.FAST] != 0 and sweeps == 1
        box.prolong(level, coarse, fast, ip, fp, u[coarse[box.VECTOR] :], x)
        cuda.syncthreads()
        value = _sweeps(dims, level, sweeps, True, here, rhs, x)
    return value


@device
def _solve(dims, geo, sweeps, ip, fp, A, c, f, u, t, scale, b, x, r, p, q, scratch, rtol, atol,
           maxiter, outcome, history):  # fmt: skip
    """Solve ``A x = b``.

    References
    ----------
    Saad (2003), Iterative Methods for Sparse Linear Systems, Algorithm 9.1.
    """
    level, t0 = geo[0], cuda.threadIdx.x
    n, i = np.uint32(x.shape[0]), np.uint32(t0)
    while i < n:
        x[i] = 0.0
        i = np.uint32(i + cuda.blockDim.x)
    cuda.syncthreads()
    state, count, previous, tolerance = RUNNING, 0, math.inf, -1.0
    while True:
        # Nothing but the true residual decides on convergence.
        norm = math.sqrt(_total(_residual(dims, level, A, b, x, r), scratch))
        if tolerance < 0.0:  # x is zero
            tolerance = max(rtol * norm, atol)
        if not norm < math.inf:
            state = NONFINITE
        elif norm <= tolerance:
            state = CONVERGED
        elif state == CONVERGED:
            state = RUNNING if norm < previous * (1.0 - 1e-8) else STAGNATED
        if state == RUNNING and count >= maxiter:
            state = MAXITER
        previous = norm
        if t0 == 0:
            history[count] = norm
        if state != RUNNING:
            break
        rz, alpha, beta = 1.0, 0.0, 0.0
        started = False
        while state == RUNNING:
            if started:
                pq = _total(_product(dims, level, A, p, q), scratch)
                if not rz > 0.0:
                    state = INDEFINITE_M if rz > -math.inf else NONFINITE
                    break
                if not pq > 0.0:
                    state = INDEFINITE if pq > -math.inf else NONFINITE
                    break
                alpha = rz / pq
                count += 1
            # A power of two brings the residual to about 1, since single precision has few
            # exponents.
            _, exponent = math.frexp(norm)
            unit = math.ldexp(1.0, -exponent)
            rr = _total(_descend(alpha, unit, p, q, x, r, f), scratch)
            if started:
                norm = math.sqrt(rr)
                if t0 == 0:
                    history[count] = norm
                if not norm < math.inf:
                    state = NONFINITE
                    break
                if norm <= tolerance or count >= maxiter:
                    state = CONVERGED  # or so it seems
                    break
            fu = _total(_cycle(dims, geo, sweeps, ip, fp, c, f, u, t), scratch)
            gain = 1.0 / (unit * scale)
            last, rz = rz, fu / unit * gain
            beta = rz / last if started else 0.0
            _direction(gain, beta, u, p)
            cuda.syncthreads()
            started = True
    if t0 == 0:
        outcome[STATE], outcome[COUNT], outcome[NORM] = state, count, norm


@with_registers(REGISTERS)
def solve_all(kind, dims, geo, sweeps, held, wraps, nearer, squares, shares, eps, ip, fp, given, b,
               x, double, single, counter, rtol, atol, maxiter, outcome, history):  # fmt: skip
    scratch = cuda.shared.array(MOST_THREADS, np.float64)
    mine = cuda.shared.array(1, np.int64)
    level = geo[0]
    n = np.uint32(level[NZ] * level[NY] * level[NX])
    last = geo[geo.shape[0] - 1]
    total, coefs = np.uint32(last[box.VECTOR] + 1), np.uint32(last[box.COEF] + 4)
    work, room = double[cuda.blockIdx.x], single[cuda.blockIdx.x]
    r, p, q = work[:n], work[n : 2 * n], work[2 * n : 3 * n]
    A = work[3 * n :]
    f, u, t = room[:total], room[total : 2 * total], room[2 * total : 2 * total + n]
    c = room[2 * total + n : 2 * total + n + coefs]
    ties = room[2 * total + n + coefs :]
    while True:
        if cuda.threadIdx.x == 0:
            mine[0] = cuda.atomic.add(counter, 0, 1)
        cuda.syncthreads()
        system = mine[0]
        cuda.syncthreads()
        if system >= given.shape[0]:
            break
        _load(kind, dims, level, held, wraps, nearer, squares, shares, given[system], A)
        cuda.syncthreads()
        top, i = 0.0, np.uint32(cuda.threadIdx.x)
        while i < n:
            top = max(top, A[i])
            i = np.uint32(i + cuda.blockDim.x)
        scale = _largest(top, scratch)
        scale = scale if scale > 0.0 and scale < math.inf else 1.0
        _set_up(dims, geo, held, eps, 1.0 / scale, ip, fp, A, c, u, ties)
        _solve(dims, geo, sweeps, ip, fp, A, c, f, u, t, scale, b[min(system, b.shape[0] - 1)],
               x[system], r, p, q, scratch, rtol, atol, maxiter, outcome[system],
               history[system])  # fmt: skip


@jit
def strengths(kind, dims, geo, held, wraps, nearer, squares, shares, given, double, out):
    """Write the mean logarithm of the links along each axis, to the base 2, x first."""
    scratch = cuda.shared.array(MOST_THREADS, np.float64)
    level = geo[0]
    n = np.uint32(level[NZ] * level[NY] * level[NX])
    A = double[cuda.blockIdx.x, 3 * n :]
    system = cuda.blockIdx.x
    while system < given.shape[0]:
        _load(kind, dims, level, held, wraps, nearer, squares, shares, given[system], A)
        cuda.syncthreads()
        for axis in range(dims):
            value, many = 0.0, 0.0
            i = np.uint32(cuda.threadIdx.x)
            while i < n:
                link = -A[np.uint32((axis + 1) * n + i)]
                if link > 0.0 and link < math.inf:
                    value += math.log2(link)
                    many += 1.0
                i = np.uint32(i + cuda.blockDim.x)
            value = _total(value, scratch)
            many = _total(many, scratch)
            if cuda.threadIdx.x == 0:
                out[system, axis] = value / many if many > 0.0 else -math.inf
        system += cuda.gridDim.x


@jit
def residuals(kind, dims, geo, held, wraps, nearer, squares, shares, given, b, x, double, out):
    """Write the norms of ``b - A @ x`` and of b, made anew from the values and x alone."""
    scratch = cuda.shared.array(MOST_THREADS, np.float64)
    level = geo[0]
    n = np.uint32(level[NZ] * level[NY] * level[NX])
    r, A = double[cuda.blockIdx.x, :n], double[cuda.blockIdx.x, 3 * n :]
    system = cuda.blockIdx.x
    while system < given.shape[0]:
        _load(kind, dims, level, held, wraps, nearer, squares, shares, given[system], A)
        cuda.syncthreads()
        rhs = b[min(system, b.shape[0] - 1)]
        square = _total(_residual(dims, level, A, rhs, x[system], r), scratch)
        value, i = 0.0, np.uint32(cuda.threadIdx.x)
        while i < n:
            value += rhs[i] * rhs[i]
            i = np.uint32(i + cuda.blockDim.x)
        value = _total(value, scratch)
        if cuda.threadIdx.x == 0:
            out[system, 0], out[system, 1] = math.sqrt(square), math.sqrt(value)
        system += cuda.gridDim.x


def run(kernel, blocks: int, *args) -> None:
    """Queue one of the three kernels."""
    launch(kernel, blocks, SIZE, *args)
