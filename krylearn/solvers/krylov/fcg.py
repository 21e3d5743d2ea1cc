"""Flexible conjugate gradients."""

from __future__ import annotations

import numpy as np

from krylearn.interface import Reason, Solve, solve_with
from krylearn.kernels.vector import combine, dot, dots, norm, step


def fcg(A, b, x0=None, *, rtol=1e-5, atol=0.0, maxiter=None, M=None, callback=None, truncate=5):
    """Solve ``A x = b`` for positive definite A with a preconditioner that may change.

    Each direction is made A-orthogonal to the last `truncate` ones. Where the preconditioner
    returns a direction of no use (orthogonal to the residual, or zero), the residual itself
    is taken instead, so that a bad M costs time and not the answer.

    Parameters
    ----------
    A, b, x0, rtol, atol, maxiter, callback
        As for `cg`.
    M : {LinearOperator, Preconditioner, sparse array, ndarray}, optional
        Approximates the inverse of A: any map, such as a network or an inner solver.
    truncate : int
        Directions kept, at least 1; each takes two vectors of memory.

    Returns
    -------
    x : array
    info : SolveInfo

    Raises
    ------
    TypeError, ValueError
        On operands that are no numbers, do not fit, or `truncate` below 1.

    References
    ----------
    Notay (2000), Flexible conjugate gradients, Algorithm FCG(m).

    Examples
    --------
    >>> import numpy as np, krylearn as kl
    >>> A = np.array([[4.0, 1.0], [1.0, 3.0]])
    >>> x, info = kl.fcg(A, np.array([5.0, 4.0]), rtol=1e-10)
    >>> np.allclose(x, 1.0), info.iterations
    (True, 2)
    """
    if truncate != int(truncate) or truncate < 1:
        raise ValueError(f"truncate must be an integer >= 1, not {truncate!r}")
    return solve_with(
        lambda s: _fcg(s, int(truncate)), A, b, x0, method="fcg", rtol=rtol, atol=atol,
        maxiter=maxiter, M=M, callback=callback,
    )  # fmt: skip


def _fcg(s: Solve, truncate: int) -> None:
    if s.on_cuda:
        from krylearn.solvers.krylov import device

        return device.fcg(s, truncate)
    x, buffer = s.x, s.empty()
    # A ring of directions and of A times them; the new one takes the place of the oldest.
    rows = truncate + 1
    P, Q, pq = s.empty(rows, s.n), s.empty(rows, s.n), np.ones(rows)
    eps = float(np.finfo(s.dtype).eps)
    while s.unsolved():
        r, rnorm = s.r, s.rnorm
        kept = place = 0
        while s.running(rnorm):
            z = s.precondition(r, buffer)
            zr = rnorm**2 if z is r else abs(dot(z, r))
            if not np.isfinite(zr):
                s.breakdown(Reason.BREAKDOWN, zr)
                break
            if not (z is r or zr > eps * norm(z) * rnorm):
                z = r
            coefficients = -dots(Q, kept, z) / pq[:kept]
            coefficients[place : place + 1] = 0.0
            p, q = P[place], Q[place]
            p[:] = z
            combine(P, coefficients, p)
            pq[place] = s.matvec_dot(p, q).real
            if not pq[place] > 0.0:
                s.breakdown(Reason.INDEFINITE, pq[place])
                break
            rnorm = step(dot(p, r) / pq[place], p, q, x, r)
            kept = min(kept + 1, rows)
            place = (place + 1) % rows
            s.step(rnorm)
