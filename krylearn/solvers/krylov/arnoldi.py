"""The loop that `gmres` and `fgmres` share: restarted Arnoldi, preconditioned from the right."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from krylearn.arguments import check_count
from krylearn.interface import Reason, Solve, solve_with
from krylearn.kernels.dense import rotate
from krylearn.kernels.vector import combine, orthogonalise, scale
from krylearn.operators import matrix_like

CALLBACK_TYPES = ("x", "pr_norm", "legacy")


def solve_by_arnoldi(A, b, x0, *, method: str, flexible: bool, restart: int | None,
                     maxiter: int | None, callback: Callable | None, callback_type: str | None,
                     **arguments: Any):  # fmt: skip
    """Read the arguments that are GMRES's own, and solve."""
    check_count(1, restart=restart)
    check_count(maxiter=maxiter)
    if callback_type not in (*CALLBACK_TYPES, None):
        raise ValueError(f"callback_type must be one of {CALLBACK_TYPES}, not {callback_type!r}")
    if callback is not None and callback_type is None:
        warnings.warn(
            f"{method} called without specifying `callback_type`: 'legacy' is assumed, as in "
            "scipy; say 'pr_norm' or 'x'",
            DeprecationWarning, stacklevel=3,
        )  # fmt: skip
        callback_type = "legacy"
    restart = 20 if restart is None else int(restart)
    A = matrix_like(A)
    n = int(A.shape[1])
    steps, cycle = maxiter, max(1, min(restart, n))
    if maxiter is None:
        steps = 10 * n * cycle
    elif callback is None or callback_type != "legacy":
        steps = maxiter * cycle
    else:
        cycle = 1

    def loop(s: Solve) -> None:
        s.cycle = cycle
        _cycles(s, restart, flexible, callback_type or "")

    return solve_with(loop, A, b, x0, method=method, maxiter=steps, callback=callback, **arguments)


def _cycles(s: Solve, restart: int, flexible: bool, notify: str) -> None:
    if s.on_cuda:
        from krylearn.solvers.krylov import device

        return device.arnoldi(s, restart, flexible, notify)
    # No more vectors than the solve can use; memory that is never written is never held.
    m = max(1, min(restart, s.unknowns, s.maxiter))
    flexible = flexible and not s.M.identity
    accurate = np.result_type(s.dtype, np.float64)
    V = s.empty(m + 1, s.n)
    Z = s.empty(m, s.n) if flexible else None
    H = np.zeros((m, m + 1), accurate)  # H[j] is column j, in the end of the triangular factor
    cs, sn, g = np.zeros(m), np.zeros(m, accurate), np.zeros(m + 1, accurate)
    buffer = s.empty()
    eps = float(np.finfo(s.dtype).eps)
    while s.unsolved():
        rnorm = s.rnorm
        scale(1.0 / rnorm, s.r, V[0])
        g[0] = rnorm
        j = 0
        while j < m and s.running(rnorm):
            z = s.precondition(V[j], buffer if Z is None else Z[j])
            w = s.matvec(z, V[j + 1])
            h, below = orthogonalise(V, j + 1, w)
            size = math.hypot(float(np.linalg.norm(h)), below)
            if not math.isfinite(size):
                s.breakdown(Reason.OVERFLOW, size)
                break
            invariant = below <= eps * size
            H[j, : j + 1], H[j, j + 1] = h, 0.0 if invariant else below
            rnorm = float(rotate(H[j], j, cs, sn, g))
            j += 1
            s.count(rnorm)
            if notify in ("legacy", "pr_norm"):
                s.call_back(rnorm / s.bnorm)
            if invariant:
                # The space holds the solution, unless A is singular on it.
                if abs(H[j - 1, j - 1]) <= eps * size:
                    s.breakdown(Reason.SINGULAR)
                    j -= 1
                break
            scale(1.0 / below, w, w)
        if j:
            _correct(s, V, Z, _back_substitute(H, g, j), buffer)
        if notify == "x":
            s.show()


def _back_substitute(H: np.ndarray, g: np.ndarray, j: int) -> np.ndarray:
    from scipy.linalg import solve_triangular

    return solve_triangular(H[:j, :j], g[:j], trans="T", lower=True, check_finite=False)


def _correct(s: Solve, V: np.ndarray, Z: np.ndarray | None, y: np.ndarray,
             buffer: np.ndarray) -> None:  # fmt: skip
    """Do ``x += M @ (y @ V)``; with a flexible M its results were kept in Z."""
    if Z is not None:
        combine(Z, y, s.x)
    elif s.M.identity:
        combine(V, y, s.x)
    else:
        update = s.empty()
        update[:] = 0
        combine(V, y, update)
        s.x += s.precondition(update, buffer)
