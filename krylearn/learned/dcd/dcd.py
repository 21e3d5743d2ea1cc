"""The deep conjugate direction method."""

from __future__ import annotations

from typing import Any

import numpy as np

from krylearn.interface import Reason, Solve, solve_with
from krylearn.kernels import vector
from krylearn.learned.dcd.account import Trust
from krylearn.operators import matrix_like


def dcd(A, b, x0=None, *, rtol=1e-5, atol=0.0, maxiter=None, callback=None, model="auto",
        limit=0.3):  # fmt: skip
    """Solve ``A x = b`` for positive definite A on a grid, in directions that a network proposes.

    Each direction is made A-orthogonal to the last two and followed to the minimum along it. It
    must earn its place: where it brings less than the residual itself would, or nothing, the step
    is taken without it, and a network that keeps failing is given up; conjugate gradients then go
    on. So a bad network costs time and not the answer.

    Parameters
    ----------
    A : {GridOperator, sparse array, ndarray}, shape (n, n)
        Hermitian positive definite, coupling nearest neighbours on a grid of 2 or 3 axes; it may
        lie on a CUDA device as `kl.to_cuda` makes it.
    b, x0, rtol, atol, maxiter, callback
        As for `cg`.
    model : str, path, torch.nn.Module or DCD
        As for `krylearn.learned.DCD`; 'auto' chooses by the dimension of the grid.
    limit : float
        What the network may cost, as a share of what `cg` would need in all; twice as much where
        it would arrive for that. It is given up then. ``inf`` lets it go on whatever it costs.

    Returns
    -------
    x : array
    info : SolveInfo
        ``info.network_steps`` says how many steps followed the network, ``info.dropped`` why it
        was given up, '' if it was not.

    Raises
    ------
    TypeError, ValueError
        On operands that are no numbers or do not fit; if A is no such matrix (the message says
        what to use), or there is no such model.

    References
    ----------
    Kaneda, Akar, Chen, Kala, Hyde and Teran (2023), A deep conjugate direction method for
    iteratively solving linear systems, ICML, Algorithm 1.

    Examples
    --------
    >>> import krylearn as kl
    >>> P = next(kl.problems.smoke((40, 40), open_top=True, seed=5))
    >>> x, info = kl.dcd(P.A, P.b, rtol=1e-8)
    >>> info.converged, info.iterations < 20, info.dropped
    (True, True, '')
    """
    from krylearn.learned.dcd.direction import DCD

    if not limit >= 0:
        raise ValueError(f"limit must be at least 0, not {limit!r}")
    network = model if isinstance(model, DCD) else DCD(model)
    A = matrix_like(A)
    if A.shape[0] != A.shape[1]:
        raise ValueError(f"dcd needs a square matrix, not {A.shape[0]} x {A.shape[1]}; use lsmr")
    if getattr(A, "over_ranks", False):
        raise TypeError(
            "dcd takes a matrix that lies in one process; over ranks krylearn.petsc.FCG with "
            "krylearn.petsc.DCD does the same: kl.petsc.ksp(ksp, 'FCG') and "
            "kl.petsc.pc(ksp.getPC(), 'DCD'), or those names as options"
        )
    M = network.precondition(A) if A.shape[0] > 1 else None
    x, info = solve_with_network(A, b, M, x0, rtol=rtol, atol=atol, maxiter=maxiter,
                                 callback=callback, limit=limit)  # fmt: skip
    for record in (info, *info.columns):
        record.setup_seconds = float(getattr(M, "setup_seconds", 0.0))
    return x, info


def solve_with_network(A: Any, b: Any, M: Any, x0: Any = None, limit: float = 0.3,
                       **settings: Any) -> tuple[Any, Any]:  # fmt: skip
    """Do what `dcd` does with a preconditioner that a network has made, for one more system."""
    return solve_with(lambda s: _dcd(s, M, limit), A, b, x0, method="dcd", **settings)


def _dcd(s: Solve, network: Any, limit: float) -> None:
    if s.on_cuda:
        from krylearn.learned.dcd import device

        on: Any = device.Vectors(s, network)
    else:
        on = Vectors(s, network)
    x = s.x
    # A ring of directions and of A times them; the new one takes the place of the oldest.
    P, Q, pq = on.rows(3), on.rows(3), [1.0, 1.0, 1.0]
    trust = Trust(s, network, limit)
    if network is None:
        s.extra["dropped"] = "one unknown takes no network"
    while not s.extra["dropped"] and s.unsolved():
        r, rnorm = s.r, s.rnorm
        kept = place = 0
        while not s.extra["dropped"] and s.running(rnorm):
            p, q = P[place], Q[place]
            past = [k for k in range(kept) if k != place]
            on.propose(r, p)
            pq[place] = _orthogonal(on, p, q, P, Q, pq, past)
            alpha = on.dot(p, r) / pq[place] if pq[place] > 0 else np.nan
            gain = abs(alpha) ** 2 * pq[place]
            trust.see(on, p, pq[place])
            fails = "" if np.isfinite(gain) else "its direction is of no use"
            if fails or not on.left(alpha, rnorm, r, q) <= rnorm / 2:
                # What a step along the residual would bring, by one more product with A.
                trust.spent += 1
                d, Ad = on.spare
                on.copy(r, d)
                curvature = _orthogonal(on, d, Ad, P, Q, pq, past)
                if not curvature > 0:
                    s.breakdown(Reason.INDEFINITE, curvature)
                    break
                plain = on.dot(d, r) / curvature
                if not fails and not gain > abs(plain) ** 2 * curvature:
                    fails = "the residual brings more than its direction"
                if fails:
                    on.copy(d, p)
                    on.copy(Ad, q)
                    pq[place], alpha = curvature, plain
            rnorm = on.step(alpha, p, q, x, r)
            kept, place = min(kept + 1, 3), (place + 1) % 3
            s.step(rnorm)
            trust.judge(fails, rnorm)
    if s.reason is None:
        on.conjugate_gradients()


def _orthogonal(on: Any, p: Any, q: Any, P: Any, Q: Any, pq: list, past: list) -> float:
    """Make p A-orthogonal to past directions, and let q be A p; return p A p."""
    for k in past:
        on.axpy(-on.dot(Q[k], p) / pq[k], P[k], p)
    return on.product_dot(p, q)


class Vectors:
    """The vector operations of the loop on the host."""

    axpy, step = staticmethod(vector.axpy), staticmethod(vector.step)
    dot = staticmethod(vector.dot)

    def __init__(self, s: Solve, network: Any) -> None:
        self.s, self.network = s, network

    def rows(self, count: int) -> Any:
        return self.s.empty(count, self.s.n)

    @property
    def spare(self) -> Any:
        """Room for a direction and A times it, made at first use."""
        if not hasattr(self, "_spare"):
            self._spare = self.rows(2)
        return self._spare

    def propose(self, r: np.ndarray, z: np.ndarray) -> None:
        """Write the network's direction into z."""
        self.s.precond_applies += 1
        if self.network.dtype == self.s.dtype:
            self.network.apply(r, z)
        elif self.s.dtype.kind == "c" and self.network.dtype.kind != "c":
            z.real[:], z.imag[:] = self.network.matvec(r.real), self.network.matvec(r.imag)
        else:
            z[:] = self.network.matvec(r)

    def copy(self, x: np.ndarray, y: np.ndarray) -> None:
        y[:] = x

    def square(self, x: np.ndarray) -> float:
        return self.dot(x, x).real

    def product_dot(self, x: np.ndarray, out: np.ndarray) -> float:
        return self.s.matvec_dot(x, out).real

    def left(self, alpha: Any, rnorm: float, r: np.ndarray, q: np.ndarray) -> float:
        """Return the norm of ``r - alpha q``."""
        square = rnorm**2 - 2 * (np.conj(alpha) * vector.dot(q, r)).real
        return max(0.0, square + abs(alpha) ** 2 * vector.dot(q, q).real) ** 0.5

    def conjugate_gradients(self) -> None:
        """Go on without the network."""
        from krylearn.solvers.krylov.cg import _cg

        self.s.forget_pass()
        _cg(self.s)
