"""Conjugate gradients with a deflation space that is carried from solve to solve."""

from __future__ import annotations

import numpy as np

from krylearn.interface import Reason, Solve, solve_with
from krylearn.kernels.tall import gram, transform
from krylearn.kernels.vector import axpby, axpy, combine, dot, dots, norm, step
from krylearn.operators import matrix_like
from krylearn.solvers.krylov.recycle import RecycleSpace, held_columns
from krylearn.solvers.krylov.subspace import accurate, conjugate_rows

# Steps between two removals of what rounding has left of r in the space.
REFRESH = 32


def recycled_cg(A, b, x0=None, *, rtol=1e-5, atol=0.0, k=10, maxiter=None, M=None, recycle=None,
                callback=None):  # fmt: skip
    """Solve ``A x = b`` for Hermitian positive definite A by deflated conjugate gradients.

    While it runs, Ritz vectors of the smallest eigenvalues of MA are extracted from the residuals
    (eigCG); the next solve starts by solving in their span, and keeps its search directions
    A-orthogonal to it. With an empty space the iterates are those of `cg`.

    Parameters
    ----------
    A, b, x0, rtol, atol, maxiter, callback
        As for `cg`. With `recycle`, the columns of a b of shape (n, k) are solved one after the
        other, each with what those before it have found.
    k : int
        Vectors kept; the extraction holds ``4 k`` more.
    M : {LinearOperator, Preconditioner, sparse array, ndarray}, optional
        Approximates the inverse of A: linear, Hermitian positive definite.
    recycle : RecycleSpace, optional
        Read at the start, replaced at the end. A and M may be others than in the solve before.
        None is `cg` itself.

    Returns
    -------
    x : array
    info : SolveInfo
        ``info.recycled`` counts the vectors that were taken over; their images under A are among
        ``info.matvecs``.

    Raises
    ------
    TypeError, ValueError
        On operands that are no numbers, do not fit, an M that lacks a needed trait, or a space of
        another size.

    References
    ----------
    Saad, Yeung, Erhel and Guyomarc'h (2000), A deflated version of the conjugate gradient
    algorithm, SIAM Journal on Scientific Computing 21, 1909-1926, Algorithm 3.6; Stathopoulos and
    Orginos (2010), Computing and deflating eigenvalues while solving multiple right-hand side
    linear systems with an application to quantum chromodynamics, same journal 32, 439-462.

    Examples
    --------
    >>> import krylearn as kl
    >>> space, counts = kl.RecycleSpace(), []
    >>> for P in kl.problems.sequence("darcy", 3, shape=(32, 32)):
    ...     x, info = kl.recycled_cg(P.A, P.b, rtol=1e-8, M="ssor", recycle=space)
    ...     counts.append(info.iterations)
    >>> counts[2] < counts[0]
    True
    """
    if not isinstance(k, (int, np.integer)) or k < 1:
        raise ValueError(f"k must be an integer >= 1, not {k!r}")
    if recycle is not None:
        if not isinstance(recycle, RecycleSpace):
            raise TypeError(f"recycle must be a RecycleSpace, not {type(recycle).__name__}")
        A = matrix_like(A)
        recycle.require(held_columns(A))
    return solve_with(
        lambda s: _recycled_cg(s, int(k), recycle), A, b, x0, method="recycled_cg", rtol=rtol,
        atol=atol, maxiter=maxiter, M=M, callback=callback, together=recycle is None,
        needs=("linear", "symmetric", "positive_definite"),
    )  # fmt: skip


def _recycled_cg(s: Solve, k: int, space: RecycleSpace | None) -> None:
    x, q, p, buffer = s.x, s.empty(), s.empty(), s.empty()
    W = AW = s.empty(0, s.n)
    ritz: _RitzVectors | None = None
    passes = 0
    while s.unsolved():
        passes += 1
        if space is not None and passes == 1:
            W, AW = _adopt(s, space.take(s.n, s.dtype, 2 * k)[:k])
            ritz = _RitzVectors(s, k, W)
        r = s.r
        rnorm = _project(s, W, AW)
        z = s.precondition(r, buffer)
        rz = dot(r, z).real
        mu = _direction(W, AW, z, 0.0, p)
        while s.running(rnorm):
            pq = s.matvec_dot(p, q).real
            if not rz > 0.0:
                s.breakdown(Reason.INDEFINITE_M, rz)
                break
            if not pq > 0.0:
                s.breakdown(Reason.INDEFINITE, pq)
                break
            if ritz is not None and passes == 1:
                ritz.add(z, rz, rz / pq, mu)
            rnorm = step(rz / pq, p, q, x, r)
            if len(W) and s.iterations % REFRESH == REFRESH - 1:
                rnorm = _project(s, W, AW)
            z = s.precondition(r, buffer)
            rz, previous = (rnorm**2 if z is r else dot(r, z).real), rz
            mu = _direction(W, AW, z, rz / previous, p)
            s.step(rnorm)
    if space is not None and ritz is not None:
        space.keep(ritz.vectors())


def _adopt(s: Solve, U: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return W, whose span is that of U, with ``W^H A W = I``, and A W; what depends is dropped."""
    if not len(U):
        return U, U
    AU = s.matvecs_of(U, np.empty_like(U))
    F, rows = conjugate_rows(gram(U, AU), float(np.finfo(s.dtype).eps))
    s.extra["recycled"] = len(rows)
    return transform(F, U[rows]), transform(F, AU[rows])


def _project(s: Solve, W: np.ndarray, AW: np.ndarray) -> float:
    """Solve in the span of W, which takes the part of r in it away; return the norm of r."""
    if len(W):
        c = dots(W, len(W), s.r)
        combine(W, c, s.x)
        combine(AW, -c, s.r)
    return norm(s.r)


def _direction(W: np.ndarray, AW: np.ndarray, z: np.ndarray, beta: float,
               p: np.ndarray) -> np.ndarray:  # fmt: skip
    """Do ``p = z + beta p``, less its part along W in A's inner product; return that of z."""
    if beta:
        axpby(1.0, z, beta, p)
    else:
        p[:] = z
    if not len(W):
        return np.zeros(0, z.dtype)
    mu = dots(AW, len(W), z)
    combine(W, -mu, p)
    return mu


class _RitzVectors:
    """Ritz vectors of MA of the smallest eigenvalues, from the residuals of a run.

    With ``z = M r`` scaled to ``r^H z = 1`` these are Lanczos vectors of the deflated operator,
    whose projection `T` is tridiagonal and made of the coefficients of CG. When the window is full
    the best 2 k combinations of what it holds replace it: the Ritz vectors of the last two
    steps, which keeps up the accuracy of an unrestarted Lanczos process.
    """

    def __init__(self, s: Solve, k: int, W: np.ndarray) -> None:
        self.k, self.W = k, W
        self.rows = max(min(4 * k, s.unknowns), 2)
        self.Z = s.empty(self.rows, s.n)
        self.T = np.zeros((self.rows, self.rows))
        self.mu = np.zeros((len(W), self.rows), accurate(s.dtype))  # (A W)^H Z
        self.count = 0
        self.rz = self.previous = 0.0
        self.link = np.zeros(0)
        self.scale = [0.0, 0.0]

    def add(self, z: np.ndarray, rz: float, alpha: float, mu: np.ndarray) -> None:
        """Take in one step of CG: its ``z``, ``r^H z``, step length and ``(A W)^H z``."""
        if not (np.isfinite(rz) and rz > 0 and np.isfinite(alpha) and alpha > 0):
            return
        if self.count == self.rows:
            self._compress()
        j, beta = self.count, 0.0
        if j:
            beta = rz / self.rz
            self.T[: len(self.link), j] = self.T[j, : len(self.link)] = (
                -np.sqrt(beta) / self.previous * self.link
            )
        self.T[j, j] = 1.0 / alpha + (beta / self.previous if j else 0.0)
        size = 1.0 / np.sqrt(rz)
        self.Z[j] = 0
        axpy(size, z, self.Z[j])
        self.mu[:, j] = size * mu
        self.scale[0] += 1.0
        self.scale[1] += float(norm(self.Z[j])) ** 2
        self.rz, self.previous = rz, alpha
        self.count = j + 1
        self.link = np.zeros(self.count)
        self.link[j] = 1.0

    def _compress(self) -> None:
        j = self.count
        last, before = (np.linalg.eigh(self.T[:m, :m])[1][:, : self.k] for m in (j, j - 1))
        Y, _ = np.linalg.qr(np.hstack([last, np.vstack([before, np.zeros((1, self.k))])]))
        kept = Y.shape[1]
        self.link = Y[-1].copy()  # what of the last vector, to which the next couples, is in each
        self.Z[:kept] = transform(Y.T, self.Z[:j])
        inner, mu = Y.T @ self.T[:j, :j] @ Y, self.mu[:, :j] @ Y
        self.T[:] = self.mu[:] = 0.0
        self.T[:kept, :kept] = inner
        self.mu[:, :kept] = mu
        self.count = kept

    def vectors(self) -> np.ndarray:
        """Return up to k Ritz vectors from the span of W and the window."""
        j, k = self.count, len(self.W)
        if not j:
            return self.W
        total = k + j
        # Of A, and of inv(M), which is taken for a multiple of the identity on W.
        G, F = np.eye(total, dtype=self.mu.dtype), np.eye(total, dtype=self.mu.dtype)
        mu = self.mu[:, :j]
        G[:k, k:], G[k:, :k] = mu, mu.conj().T
        G[k:, k:] = self.T[:j, :j] + mu.conj().T @ mu
        if k:
            F[:k, :k] = self.scale[0] / self.scale[1] * gram(self.W, self.W)
        unit = 1.0 / np.sqrt(np.abs(np.diag(G)))
        Y = _largest(F * np.outer(unit, unit), G * np.outer(unit, unit), self.k)
        if Y is None:
            return self.W
        Y = (unit[:, None] * Y).T
        new = transform(Y[:, k:], self.Z[:j])
        if k:
            new += transform(Y[:, :k], self.W)
        return new


def _largest(F: np.ndarray, G: np.ndarray, k: int) -> np.ndarray | None:
    """Return vectors of the k largest eigenvalues of ``F y = mu G y``, or None at NaN."""
    if not (np.all(np.isfinite(F)) and np.all(np.isfinite(G))):
        return None
    values, vectors = np.linalg.eigh(G)
    good = values > 100 * np.finfo(G.dtype).eps * values[-1]
    whiten = vectors[:, good] / np.sqrt(values[good])
    _, Y = np.linalg.eigh(whiten.conj().T @ F @ whiten)
    return whiten @ Y[:, -k:]
