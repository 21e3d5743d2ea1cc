"""What the spectrum of a Jacobi-scaled matrix tells relaxation methods."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.linalg import eigvalsh_tridiagonal

from krylearn.kernels import relaxation
from krylearn.kernels.vector import axpy, axpy_norm, norm
from krylearn.operators import CSROperator


def lanczos_bounds(A: Any, d: np.ndarray, steps: int = 100, settled: float = 0.02,
                   ) -> tuple[float, float]:  # fmt: skip
    """Return the extreme Ritz values of ``inv(D) A``, for Hermitian A and positive D.

    Lanczos (Saad 2003, Algorithm 6.15) on the similar matrix ``D^-1/2 A D^-1/2``. The start is
    the constant vector, rich in what varies slowly, with some noise from a fixed seed. It ends
    when five steps have not moved the square root of either value by the fraction `settled`.
    """
    operator = CSROperator(A, A.dtype)
    n = A.shape[0]
    if n == 0:
        return 1.0, 1.0
    scale = 1 / np.sqrt(d.real)
    w = (_start(n) / scale).astype(A.dtype)
    v, previous, q = np.zeros_like(w), np.zeros_like(w), np.empty_like(w)
    beta = norm(w)
    alphas: list[float] = []
    betas: list[float] = []
    low, high = -1.0, 0.0
    for step in range(1, min(steps, n) + 1):
        previous, v, w = v, w, previous
        relaxation.normalise(beta, v, scale, q)
        operator.apply(q, w)
        overlap = betas[-1] if betas else 0.0
        alphas.append(relaxation.lanczos_project(scale, overlap, previous, v, w))
        beta = axpy_norm(-alphas[-1], v, w)
        last = step == min(steps, n) or not beta > 1e-6 * max(map(abs, alphas))
        if step % 5 == 0 or last:
            ritz = eigvalsh_tridiagonal(np.array(alphas), np.array(betas))
            before, low, high = (low, high), float(ritz[0]), float(ritz[-1])
            still = abs(low - before[0]) <= 2 * settled * abs(low) and (
                abs(high - before[1]) <= 2 * settled * abs(high)
            )
            if still or last:
                break
        betas.append(beta)
    return low, high


def _start(n: int) -> np.ndarray:
    """Return the constant vector with some noise from a fixed seed."""
    return 1 + np.random.default_rng(0).uniform(-0.5, 0.5, n)


def jacobi_radius(A: Any, d: np.ndarray, hermitian: bool, settled: float = 0.02,
                  ) -> float:  # fmt: skip
    """Estimate the spectral radius of the Jacobi iteration ``I - inv(D) A``.

    By Lanczos for Hermitian A with positive diagonal, else by the power method, whose growth over
    the last ten steps is taken so that a pair of eigenvalues of one modulus does no harm.
    """
    if hermitian and np.all(d.real > 0):
        low, high = lanczos_bounds(A, d, settled=settled)
        return max(1 - low, high - 1)
    operator = CSROperator(A, A.dtype)
    scale = (1 / d).astype(A.dtype)
    v = _start(A.shape[0]).astype(A.dtype)
    q = np.empty_like(v)
    growth = []
    for _ in range(40):
        size = norm(v)
        if not 0 < size < math.inf:
            return 0.0
        v /= v.real.dtype.type(size)
        axpy(-1.0, relaxation.times(scale, operator.apply(v, q), q), v)
        growth.append(norm(v))
    return float(np.exp(np.mean(np.log(np.maximum(growth[-10:], 1e-300)))))


def youngs_omega(rho: float) -> float:
    """Return the best over-relaxation for a Jacobi spectral radius; 1 where that is not below 1.

    ``2 / (1 + sqrt(1 - rho**2))`` holds for consistently ordered matrices, such as the 5- and
    7-point stencils (Young 1954; Saad 2003, section 4.2.5).

    Examples
    --------
    >>> from krylearn.solvers.relaxation.spectrum import youngs_omega
    >>> round(youngs_omega(0.96), 4)
    1.5625
    """
    return 2 / (1 + math.sqrt(1 - rho**2)) if 0 <= rho < 1 else 1.0
