"""GMRES with deflated restarting whose deflation space is carried from solve to solve."""

from __future__ import annotations

import math

import numpy as np

from krylearn.interface import Reason, Solve, solve_with
from krylearn.kernels.arnoldi import Steps
from krylearn.kernels.dense import harmonic_matrix, harmonic_vectors, rotate, solve_upper
from krylearn.kernels.tall import gram, recombine, row_norms, transform
from krylearn.kernels.vector import combine, dot, orthogonalise, scale
from krylearn.operators import CSROperator, GridAdapter, kernel_form, matrix_like
from krylearn.solvers.krylov.recycle import RecycleSpace, held_columns
from krylearn.solvers.krylov.subspace import (
    accurate,
    dominant_subspace,
    orthonormalise,
)


def gcrodr(A, b, x0=None, *, rtol=1e-5, atol=0.0, restart=40, k=20, maxiter=None, M=None,
           recycle=None, callback=None, callback_type="x"):  # fmt: skip
    """Solve ``A x = b`` for any square A by GCRO-DR: GMRES that keeps what a restart throws away.

    At each restart the `k` directions that converge most slowly (harmonic Ritz vectors of the
    smallest eigenvalues) are kept, so that a short restart costs few iterations. With `recycle`
    they are kept for the next system too.

    Parameters
    ----------
    A, b, x0, rtol, atol
        As for `cg`; A is any square matrix. With `recycle`, the columns of a b of shape (n, k)
        are solved one after the other, each with what those before it have found.
    restart : int
        Vectors held at most: the kept ones and the steps between restarts together.
    k : int
        Vectors kept, at most ``restart - 1``; 0 is GMRES.
    maxiter : int, optional
        Most steps, ``10 n`` by default.
    M : {LinearOperator, Preconditioner, sparse array, ndarray}, optional
        Approximates the inverse of A: any map, which may change from step to step. It is applied
        from the right, so that the residual is that of ``A x = b``.
    recycle : RecycleSpace, optional
        Read at the start, replaced at the end. A and M may be others than in the solve before.
    callback : callable, optional
        Called as `callback_type` says. Raise StopIteration in it to end the solve.
    callback_type : {'x', 'pr_norm'}
        'x': after each cycle, with a read-only view of the iterate; 'pr_norm': after each step,
        with the relative residual norm.

    Returns
    -------
    x : array
    info : SolveInfo
        ``info.recycled`` counts the vectors that were taken over; their images under A are among
        ``info.matvecs``.

    Raises
    ------
    TypeError, ValueError
        On operands that are no numbers, do not fit, or a space of another size.

    References
    ----------
    Parks, de Sturler, Mackey, Johnson and Maiti (2006), Recycling Krylov subspaces for sequences
    of linear systems, SIAM Journal on Scientific Computing 28, 1651-1674, appendix; Carvalho,
    Gratton, Lago and Vasseur (2011), A flexible generalized conjugate residual method with inner
    orthogonalization and deflated restarting, SIAM Journal on Matrix Analysis 32, 1212-1235.

    Examples
    --------
    >>> import krylearn as kl
    >>> space, counts = kl.RecycleSpace(), []
    >>> for P in kl.problems.sequence("convection_diffusion", 3, shape=(24, 24)):
    ...     x, info = kl.gcrodr(P.A, P.b, rtol=1e-8, recycle=space)
    ...     counts.append(info.iterations)
    >>> counts[2] < counts[0]
    True
    """
    for name, value, least in (("restart", restart, 1), ("k", k, 0)):
        if not isinstance(value, (int, np.integer)) or value < least:
            raise ValueError(f"{name} must be an integer >= {least}, not {value!r}")
    if callback_type not in ("x", "pr_norm"):
        raise ValueError(f"callback_type must be 'x' or 'pr_norm', not {callback_type!r}")
    if recycle is not None:
        if not isinstance(recycle, RecycleSpace):
            raise TypeError(f"recycle must be a RecycleSpace, not {type(recycle).__name__}")
        A = matrix_like(A)
        recycle.require(held_columns(A))
    k = min(int(k), int(restart) - 1)
    return solve_with(
        lambda s: _gcrodr(s, int(restart), k, recycle, callback_type), A, b, x0, method="gcrodr",
        rtol=rtol, atol=atol, maxiter=maxiter, M=M, callback=callback, together=recycle is None,
    )  # fmt: skip


def _gcrodr(s: Solve, m: int, k: int, space: RecycleSpace | None, notify: str) -> None:
    basis = _Basis(s, m, k, space)
    while s.unsolved():
        if basis.j:
            basis.refresh()
        elif space is not None and not s.iterations:
            basis.adopt(space.take(s.n, s.dtype, k))
        rnorm = basis.begin()
        while basis.has_room() and s.running(rnorm):
            rnorm = basis.advance(rnorm, 1 if notify == "pr_norm" and s.callback else m)
            if notify == "pr_norm":
                s.call_back(rnorm / s.bnorm)
        basis.correct()
        if notify == "x":
            s.show()
    if space is not None and basis.j:
        basis.refresh(images=False)
        space.keep(basis.U)
    if space is not None:
        space.give_back(basis.work)


class _Basis:
    """The decomposition ``A [U Z] = [C V] G`` of a cycle, with ``Z = M V``.

    Every basis has one vector a row. ``W = [C V]`` is orthonormal; `kept` rows of it are C, `j`
    steps have been made since. Without M, Z is V.

    ``G = [I B; 0 H]``, where H is upper Hessenberg; the QR factors of H are kept up to date.
    """

    def __init__(self, s: Solve, m: int, k: int, space: RecycleSpace | None = None) -> None:
        self.s, self.k = s, k
        # No more vectors than the solve can use; memory that is never written is never held.
        self.m = max(k + 1, min(m, s.unknowns + 1, s.maxiter + k))
        wide = accurate(s.dtype)
        sizes = {"W": self.m + 1, "U": k, "V": k} | ({} if s.M.identity else {"Z": self.m})
        self.work = {
            name: s.empty(rows, s.n) if space is None else space.borrow(name, (rows, s.n), s.dtype)
            for name, rows in sizes.items()
        }
        self.W, self.Z = self.work["W"], self.work.get("Z")
        self.U, self.stores = self.W[:0], [self.work["U"], self.work["V"]]
        self.G = np.zeros((self.m, self.m + 1), wide)  # G[i] is column i
        self.H = np.zeros((self.m, self.m + 1), wide)  # triangular factor, H[i] is column i
        self.cs, self.sn = np.zeros(self.m), np.zeros(self.m, wide)
        self.g = np.zeros(self.m + 1, wide)
        self.kept = self.j = 0
        self.known: np.ndarray | None = None  # C^H U, where the last cycle has told it
        self.closed = False
        self.eps = float(np.finfo(s.dtype).eps)
        self.steps = self._compiled()

    def _compiled(self) -> Steps | None:
        """Return what makes many steps at once, where A and M are known to kernels."""
        s, A = self.s, self.s.A
        M = None if s.M.identity else kernel_form(s.M)
        if not Steps.suit(s.dtype, s.n) or (M is None and not s.M.identity):
            return None
        if isinstance(A, GridAdapter) and hasattr(A.wrapped, "tocsr"):
            # The matrix costs a few products, and calls from Python many.
            A = CSROperator(A.wrapped.tocsr(), s.dtype)
        if not isinstance(A, CSROperator):
            return None
        return Steps(A.arrays, M, self.W, self.Z, self.G, self.H, self.cs, self.sn, self.g)

    def adopt(self, U: np.ndarray) -> None:
        """Take over vectors from another system: ``C = A U``, orthonormalised; dependents go."""
        if len(U):
            images = self.s.matvecs_of(U, self.stores[1][: len(U)])
            C, F, rows = orthonormalise(images, out=self.W)
            whole = np.zeros((len(C), len(U)), F.dtype)
            whole[:, rows] = F
            self.U = transform(whole, U, self.stores[0])
            self.kept = self.s.extra["recycled"] = len(C)

    def begin(self) -> float:
        """Solve in the span of U, start a Krylov space from what is left of r; return its norm."""
        s = self.s
        self.j, self.closed = 0, False
        rnorm = s.rnorm
        if self.kept:
            c, rnorm = orthogonalise(self.W, self.kept, s.r)
            combine(self.U, c, s.x)
        if rnorm > 0:
            scale(1.0 / rnorm, s.r, self.W[self.kept])
        if self.steps is not None:
            self.steps.begin(self.kept + 1)
        self.g[0] = rnorm
        return rnorm

    def has_room(self) -> bool:
        return not self.closed and self.kept + self.j < self.m

    def advance(self, rnorm: float, most: int) -> float:
        """Make up to `most` steps; return the new residual norm."""
        s, last = self.s, self.kept + self.j
        if self.steps is not None:
            count = min(most, self.m - last, s.maxiter - s.iterations)
            norms = self.steps(last, count, self.kept, s.tolerance)
            if len(norms):
                self.j += len(norms)
                s.count_products(norms)
                return float(norms[-1])
        return self.extend(rnorm)

    def extend(self, rnorm: float) -> float:
        """Make one step of Arnoldi's process, orthogonal to C; return the new residual norm."""
        s, j, last = self.s, self.j, self.kept + self.j
        z = s.precondition(self.W[last], self.W[last] if self.Z is None else self.Z[j])
        w = s.matvec(z, self.W[last + 1])
        h, below = orthogonalise(self.W, last + 1, w)
        size = math.hypot(float(np.linalg.norm(h)), below)
        if not math.isfinite(size):
            s.breakdown(Reason.OVERFLOW, size)
            self.closed = True
            return rnorm
        self.closed = below <= self.eps * size
        self.G[last, : last + 1], self.G[last, last + 1] = h, 0.0 if self.closed else below
        self.H[j, : j + 2] = self.G[last, self.kept : last + 2]
        rnorm = float(rotate(self.H[j], j, self.cs, self.sn, self.g))
        s.count(rnorm)
        if self.closed and abs(self.H[j, j]) <= self.eps * size:
            # The space is invariant, and A is singular on it.
            s.breakdown(Reason.SINGULAR)
            return rnorm
        self.j += 1
        if not self.closed:
            scale(1.0 / below, w, w)
        return rnorm

    def correct(self) -> None:
        """Do ``x += [U Z] y`` for the y that minimises the residual."""
        j = self.j
        if not j:
            return
        y = solve_upper(self.H[:j, :j].T.copy(), self.g[:j, None].copy())[:, 0]
        combine(self.W[self.kept :] if self.Z is None else self.Z, y, self.s.x)
        if self.kept:
            combine(self.U, -(y @ self.G[self.kept : self.kept + j, : self.kept]), self.s.x)

    def refresh(self, images: bool = True) -> None:
        """Let U be harmonic Ritz vectors of AM of least modulus, chosen from ``[U Z]``.

        With ``G = Q R`` and ``S = [C V]^H inv(M) [U Z]`` the pencil ``G^H S, G^H G`` of the inverse
        eigenvalues is that of ``E = Q^H S inv(R)``; an orthonormal basis of an invariant subspace
        of E is what orthonormal C are made of. ``inv(M) U``, which nobody knows once M has changed,
        is taken for the multiple of U that fits best on Z: it only guides the choice, and U are
        smooth. `images` False leaves C behind.
        """
        kept, j = self.kept, self.j
        W, Z = self.W[: kept + j + 1], self.Z
        Z = W[kept : kept + j] if Z is None else Z[:j]
        unit = 1.0 / row_norms(self.U)
        first = kept if self.known is not None else 0
        along = gram(W[first:], self.U)
        if kept and self.Z is not None:
            along *= _multiple(Z, W[kept : kept + j])
        if self.known is not None:
            along = np.vstack([self.known, along])
        found = self._harmonic(unit, along * unit)
        if found is None:
            return  # as it was
        Y, P, told = found
        self.known = told if self.Z is None else None  # with M it would be a guess, grown old
        P[:kept] *= unit[:, None]
        # U goes to and fro between two arrays; those that are left behind are new.
        self.stores.reverse()
        if images:
            self.U = recombine(P.T, self.U, Z, Y.T, W, self.stores[0])
        else:
            self.U = recombine(P.T, self.U, Z)
        self.kept = len(self.U)

    def _harmonic(self, unit: np.ndarray, along: np.ndarray,
                  ) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:  # fmt: skip
        """Return Y with orthonormal columns, P with ``G P = Y``, and ``Y^H S P``.

        None where G is singular. `unit` are the entries of G at U, `along` the columns of S there.
        """
        kept, j = self.kept, self.j
        total = kept + j
        S = np.zeros((total + 1, total), self.G.dtype)
        S[:, :kept] = along
        S[np.arange(kept, total), np.arange(kept, total)] = 1.0
        R, E = np.empty((2, total, total), S.dtype)
        harmonic_matrix(kept, j, unit, self.G, self.H, self.cs, self.sn, S, R, E)
        diagonal = np.abs(np.diag(R))
        if not diagonal.min() > np.finfo(R.dtype).eps * diagonal.max() or not np.isfinite(E).all():
            return None
        T = dominant_subspace(E, self.k)
        if T is None:
            return None
        Y, P = np.empty((total + 1, T.shape[1]), T.dtype), np.empty(T.shape, T.dtype)
        harmonic_vectors(kept, j, self.cs, self.sn, R, np.ascontiguousarray(T), Y, P)
        return Y, P, T.conj().T @ E @ T


def _multiple(Z: np.ndarray, V: np.ndarray) -> complex:
    """Return the number by which to multiply Z to come nearest to V, judged by a few rows."""
    Z, V = Z[:4], V[:4]
    return dot(Z.ravel(), V.ravel()) / dot(Z.ravel(), Z.ravel()).real
