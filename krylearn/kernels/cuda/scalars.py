"""The scalar arithmetic of Krylov loops, on the device.

Each kernel is one block that sums up what a reduction left and does what the loop of the method
on the CPU does with the result between two vector operations, under the names of its text. What
ends the loop there (a breakdown, the residual norm) sets the log's `STOP` here.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda

from krylearn.kernels.cuda.launch import (
    BREAKDOWN,
    COUNT,
    HALFWAY,
    INDEFINITE,
    INDEFINITE_M,
    INVARIANT,
    SINGULAR,
    STOP,
    THREADS,
    USELESS,
    jit,
    launch,
    note,
    total,
)

# Slots of S, the scalars of a loop. The first three hold for all methods.
ZERO, ONE, MINUS_ONE = 0, 1, 2
# cg and fcg
RZ, PQ, ALPHA, BETA, RR, USE_R, SCALE, GAIN, FACTOR = 3, 4, 5, 6, 7, 8, 9, 10, 11
# minres
(M_BETA, M_LAST, M_HERE, M_ALPHA, M_CS, M_SN, M_DBAR, M_EPSILON, M_SIZE, M_PHIBAR, M_INVERSE,
 M_Z, M_W, M_W_LAST, M_PHI, M_BETA_LAST, M_OF_V, M_OF_R, M_ROOT) = range(3, 22)  # fmt: skip
# bicgstab
(B_START, B_RHO, B_RNORM, B_SIGMA, B_ALPHA, B_MINUS_ALPHA, B_OMEGA, B_MINUS_OMEGA, B_BETA,
 B_MINUS_BETA_OMEGA, B_TNORM) = range(3, 14)  # fmt: skip
# chebyshev
C_RHO, C_KEEP, C_GAIN = range(3, 6)
# gmres
G_AGAIN, G_BELOW, G_INVERSE, G_SIZE, G_MEASURE, G_LOSS = range(3, 9)
SLOTS = 24
# What a projection may leave along the basis, in units of rounding: as on the CPU.
MOST_LEFT = 256.0


@jit
def store(log, S, slot, sums):
    if log[STOP] != 0.0:
        return
    value = total(sums)
    if cuda.threadIdx.x == 0:
        S[slot] = value


@jit
def scale_to_one(log, T, unit, sums):
    """Set ``T[0]``, which brings a vector to norm one, and ``T[1]``, which undoes it times unit."""
    if log[STOP] != 0.0:
        return
    norm = math.sqrt(total(sums).real)
    if cuda.threadIdx.x == 0:
        usual = norm > 0.0 and norm < math.inf
        T[0] = 1.0 / norm if usual else 1.0
        T[1] = norm * unit if usual else unit


@jit
def cg_curvature(log, S, sums):
    if log[STOP] != 0.0:
        return
    pq = total(sums).real
    if cuda.threadIdx.x == 0:
        S[PQ] = pq
        if not S[RZ].real > 0.0:
            log[STOP] = INDEFINITE_M
        elif not pq > 0.0:
            log[STOP] = INDEFINITE
        else:
            S[ALPHA] = S[RZ] / pq


@jit
def cg_residual(log, control, S, plain, sums):
    if log[STOP] != 0.0:
        return
    rr = total(sums).real
    if cuda.threadIdx.x == 0:
        if plain:
            S[BETA] = rr / S[RZ]
            S[RZ] = rr
        note(math.sqrt(rr), log, control)


@jit
def cg_beta(log, S, factor, sums):
    if log[STOP] != 0.0:
        return
    rz = total(sums).real * S[factor].real
    if cuda.threadIdx.x == 0:
        S[BETA] = rz / S[RZ]
        S[RZ] = rz


@jit
def fcg_direction(log, S, eps, sums):
    """Say whether z brings a direction of no use; `sums` are of conj(z) r and conj(z) z."""
    if log[STOP] != 0.0:
        return
    zr = abs(total(sums[0]))
    zz = total(sums[1]).real
    if cuda.threadIdx.x == 0:
        S[RZ] = zr
        S[USE_R] = 0.0 if zr > eps * math.sqrt(zz * S[RR].real) else 1.0
        if not zr < math.inf:
            log[STOP] = BREAKDOWN


@jit
def fcg_coefficients(log, pq, place, h, c):
    if log[STOP] != 0.0:
        return
    k = cuda.threadIdx.x
    while k < c.shape[0]:
        c[k] = -h[k] / pq[k]
        if k == place:
            c[k] = c[k] * 0.0
        k += THREADS


@jit
def fcg_step(log, S, pq, place, curvature, sums):
    if log[STOP] != 0.0:
        return
    value = total(curvature).real
    pr = total(sums)
    if cuda.threadIdx.x == 0:
        pq[place] = value
        S[PQ] = value
        if not value > 0.0:
            log[STOP] = INDEFINITE
        else:
            S[ALPHA] = pr / value


@jit
def fcg_residual(log, control, S, sums):
    if log[STOP] != 0.0:
        return
    rr = total(sums).real
    if cuda.threadIdx.x == 0:
        S[RR] = rr
        note(math.sqrt(rr), log, control)


@jit
def chebyshev_next(log, S, theta, delta):
    """Set what the last correction and the scaled residual are multiplied by; C_RHO starts at 0."""
    if log[STOP] != 0.0:
        return
    if cuda.threadIdx.x == 0:
        previous = S[C_RHO].real
        if previous == 0.0:
            rho = delta / theta
            S[C_KEEP], S[C_GAIN] = 0.0, 1.0 / theta
        else:
            rho = 1.0 / (2.0 * theta / delta - previous)
            S[C_KEEP], S[C_GAIN] = rho * previous, 2.0 * rho / delta
        S[C_RHO] = rho


@jit
def minres_start(log, S, sums):
    if log[STOP] != 0.0:
        return
    square = total(sums).real
    if cuda.threadIdx.x == 0:
        if not square > 0.0:
            log[STOP] = INDEFINITE_M
            S[M_ROOT] = square
            return
        beta = math.sqrt(square)
        S[M_BETA], S[M_PHIBAR], S[M_INVERSE], S[M_BETA_LAST] = beta, beta, 1.0 / beta, 1.0
        S[M_CS], S[M_SN], S[M_DBAR], S[M_EPSILON], S[M_SIZE] = -1.0, 0.0, 0.0, 0.0, 0.0


@jit
def minres_alpha(log, S, sums):
    if log[STOP] != 0.0:
        return
    alpha = total(sums).real
    if cuda.threadIdx.x == 0:
        S[M_ALPHA] = alpha
        S[M_LAST] = -S[M_BETA] / S[M_BETA_LAST]
        S[M_HERE] = -alpha / S[M_BETA]


@jit
def minres_rotation(log, S, eps, sums):
    if log[STOP] != 0.0:
        return
    square = total(sums).real
    if cuda.threadIdx.x == 0:
        if not square >= 0.0:
            log[STOP] = INDEFINITE_M
            S[M_ROOT] = square
            return
        alpha, beta_last, beta = S[M_ALPHA].real, S[M_BETA].real, math.sqrt(square)
        cs, sn, dbar = S[M_CS].real, S[M_SN].real, S[M_DBAR].real
        epsilon_last, phibar = S[M_EPSILON].real, S[M_PHIBAR].real
        size = max(max(S[M_SIZE].real, abs(alpha)), beta)  # the first beta is the residual's
        delta = cs * dbar + sn * alpha
        gbar, epsilon, dbar = sn * dbar - cs * alpha, sn * beta, -cs * beta
        gamma, root = math.hypot(gbar, beta), math.hypot(gbar, dbar)
        S[M_ROOT] = root
        if not root > 10.0 * eps * size:
            log[STOP] = SINGULAR
            return
        cs, sn = gbar / gamma, beta / gamma
        phi, phibar = cs * phibar, sn * phibar
        S[M_Z], S[M_W], S[M_W_LAST] = 1.0 / gamma, -delta / gamma, -epsilon_last / gamma
        S[M_PHI] = phi
        S[M_CS], S[M_SN], S[M_DBAR], S[M_EPSILON], S[M_SIZE] = cs, sn, dbar, epsilon, size
        S[M_BETA_LAST], S[M_BETA], S[M_PHIBAR] = beta_last, beta, phibar
        S[M_INVERSE] = 1.0 / beta if beta > 0.0 else 0.0
        # phibar is the residual's M-norm; its own norm takes the vector.
        S[M_OF_V] = -phibar * cs / beta if beta > 0.0 else 0.0
        S[M_OF_R] = sn * sn if beta > 0.0 else 1.0


@jit
def minres_residual(log, control, S, plain, sums):
    if log[STOP] != 0.0:
        return
    rr = total(sums).real
    if cuda.threadIdx.x == 0:
        own = plain or not S[M_BETA].real > 0.0
        note(S[M_PHIBAR].real if own else math.sqrt(rr), log, control)


@jit
def bicgstab_alpha(log, S, eps, sums):
    """`sums` are of conj(v) shadow and conj(v) v."""
    if log[STOP] != 0.0:
        return
    sigma = np.conj(total(sums[0]))
    vv = total(sums[1]).real
    if cuda.threadIdx.x == 0:
        rho, start = S[B_RHO], S[B_START].real
        S[B_SIGMA] = sigma
        # A scalar product that is all rounding error carries no information.
        enough = abs(sigma) > eps * start * math.sqrt(vv)
        if not (abs(rho) > eps * start * S[B_RNORM].real and enough):
            log[STOP] = BREAKDOWN
        else:
            S[B_ALPHA] = rho / sigma
            S[B_MINUS_ALPHA] = -rho / sigma


@jit
def bicgstab_half(log, control, S, sums):
    if log[STOP] != 0.0:
        return
    rnorm = math.sqrt(total(sums[1]).real)
    if cuda.threadIdx.x == 0:
        S[B_RNORM] = rnorm
        if not (rnorm > control[0] and rnorm < math.inf) or rnorm > control[1]:
            log[STOP] = HALFWAY


@jit
def bicgstab_omega(log, S, eps, sums):
    """`sums` are of conj(t) r and conj(t) t."""
    if log[STOP] != 0.0:
        return
    tr = total(sums[0])
    tt = total(sums[1]).real
    if cuda.threadIdx.x == 0:
        S[B_OMEGA] = tr / tt if tt > 0.0 else tr * 0.0
        S[B_MINUS_OMEGA] = -S[B_OMEGA]
        if not abs(S[B_OMEGA]) * math.sqrt(tt) > eps * S[B_RNORM].real:
            log[STOP] = USELESS


@jit
def bicgstab_beta(log, control, S, sums):
    """`sums` are of conj(shadow) r and conj(r) r."""
    if log[STOP] != 0.0:
        return
    rho = total(sums[0])
    rnorm = math.sqrt(total(sums[1]).real)
    if cuda.threadIdx.x == 0:
        beta = (rho / S[B_RHO]) * (S[B_ALPHA] / S[B_OMEGA])
        S[B_RHO], S[B_BETA], S[B_MINUS_BETA_OMEGA] = rho, beta, -beta * S[B_OMEGA]
        S[B_RNORM] = rnorm
        note(rnorm, log, control)


@jit
def _gather(log, S, wanted, sums, h):
    """Write the total of row k of `sums` into ``h[k]``, a block a row."""
    if log[STOP] != 0.0 or S[wanted].real == 0.0:
        return
    value = total(sums[cuda.blockIdx.x])
    if cuda.threadIdx.x == 0:
        h[cuda.blockIdx.x] = value


@jit
def gmres_correct(log, S, G, column, found, h):
    """Make of ``V^H w`` the coefficients that take w out of a basis that is not quite orthogonal.

    `column` is the last one of ``V^H V``; G keeps what the columns lack of those of the identity.
    With h = (I - G) V^H w a projection leaves G^2 of w, as if it had been done twice. Swirydowicz,
    Langou, Ananthan, Yang and Thomas (2021), Low synchronization Gram-Schmidt and GMRES, section 3.
    """
    if log[STOP] != 0.0:
        return
    j, t = int(log[COUNT]), cuda.threadIdx.x
    k = t
    while k <= j:
        G[k, j] = column[k] - (1.0 if k == j else 0.0)
        k += THREADS
    cuda.syncthreads()
    i = t
    while i <= j:
        value = found[i]
        for k in range(j + 1):
            value -= (G[i, k] if i <= k else np.conj(G[k, i])) * found[k]
        h[i] = value
        i += THREADS
    if t == 0:
        square = S[G_LOSS].real * S[G_LOSS].real
        for k in range(j + 1):
            square += G[k, j].real * G[k, j].real + G[k, j].imag * G[k, j].imag
        S[G_LOSS] = math.sqrt(square)
        h[j + 1] = found[j + 1]


@jit
def gmres_trust(log, S, eps, h, sums):
    """Say whether to measure what a projection has left along the basis, a pass over memory.

    It has left no more than rounding, and the square of what the basis lacks of orthogonality
    (G_LOSS, the norm of half of it) times what it took away. `h` holds that and the square before.
    """
    if log[STOP] != 0.0:
        return
    below = math.sqrt(total(sums).real)
    if cuda.threadIdx.x == 0:
        j = int(log[COUNT])
        square = 0.0
        for k in range(j + 1):
            square += h[k].real * h[k].real + h[k].imag * h[k].imag
        loss = S[G_LOSS].real
        left = 2.0 * loss * loss * math.sqrt(square) + eps * math.sqrt(h[j + 1].real)
        S[G_BELOW], S[G_AGAIN] = below, 0.0
        S[G_MEASURE] = 0.0 if left <= MOST_LEFT * eps * below else 1.0


@jit
def gmres_left(log, S, eps, left):
    """Say whether to project once more: as in `kernels.vector.orthogonalise`.

    `left` holds what a projection has left along the basis, and the square of what it has left.
    """
    if log[STOP] != 0.0 or S[G_MEASURE].real == 0.0 or cuda.threadIdx.x > 0:
        return
    j = int(log[COUNT])
    square = 0.0
    for k in range(j + 1):
        square += left[k].real * left[k].real + left[k].imag * left[k].imag
    below = math.sqrt(left[j + 1].real)
    S[G_BELOW] = below
    S[G_AGAIN] = 1.0 if math.sqrt(square) > MOST_LEFT * eps * below else 0.0


@jit
def gmres_again(log, S, h, left, sums):
    """Take up what the second projection has found; it ends there ("twice is enough", Kahan)."""
    if log[STOP] != 0.0 or S[G_AGAIN].real == 0.0:
        return
    below = math.sqrt(total(sums).real)
    if cuda.threadIdx.x == 0:
        for k in range(int(log[COUNT]) + 1):
            h[k] += left[k]
        S[G_BELOW] = below


@jit
def gmres_rotation(log, control, S, eps, h, H, cs, sn, g):
    """Extend the QR factorisation of the Hessenberg matrix by a column: `kernels.dense.rotate`."""
    if log[STOP] != 0.0 or cuda.threadIdx.x > 0:
        return
    j, below = int(log[COUNT]), S[G_BELOW].real
    size = below * below
    for k in range(j + 1):
        H[j, k] = h[k]
        size += h[k].real * h[k].real + h[k].imag * h[k].imag
    size = math.sqrt(size)
    S[G_SIZE] = size
    if not size < math.inf:
        log[STOP] = BREAKDOWN
        return
    invariant = below <= eps * size
    if invariant:
        below = 0.0
    for k in range(j):
        upper = cs[k] * H[j, k] + sn[k] * H[j, k + 1]
        H[j, k + 1] = cs[k] * H[j, k + 1] - np.conj(sn[k]) * H[j, k]
        H[j, k] = upper
    head = abs(H[j, j])
    length = math.hypot(head, below)
    if length == 0.0:
        cs[j], sn[j] = 1.0, 0.0
    elif head == 0.0:
        cs[j], sn[j] = 0.0, 1.0
        H[j, j] = below
    else:
        phase = H[j, j] / head
        cs[j] = head / length
        sn[j] = phase * (below / length)
        H[j, j] = phase * length
    H[j, j + 1] = 0.0
    g[j + 1] = -np.conj(sn[j]) * g[j]
    g[j] = cs[j] * g[j]
    S[G_INVERSE] = 1.0 / below if below > 0.0 else 0.0
    note(abs(g[j + 1]), log, control)
    if invariant:
        # The space holds the solution, unless A is singular on it.
        log[STOP] = SINGULAR if abs(H[j, j]) <= eps * size else INVARIANT


def run(kernel: Any, *args: Any) -> None:
    """Queue one of the kernels of one block."""
    launch(kernel, 1, THREADS, *args)


def gather(log, S, wanted, sums, h) -> None:
    """Sum up the rows of `sums` into `h`, where the scalar `wanted` is not zero."""
    launch(_gather, sums.shape[0], THREADS, log, S, wanted, sums, h)

