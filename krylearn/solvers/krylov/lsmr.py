"""Least squares for any matrix."""

from __future__ import annotations

import math

import numpy as np
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from krylearn.interface import Reason, Solve, not_negative, print_history, solve_with
from krylearn.kernels.vector import axpby, axpy, norm, scale, subtract
from krylearn.operators import matrix_like


def lsmr(A, b, damp=0.0, atol=1e-6, btol=1e-6, conlim=1e8, maxiter=None, show=False, x0=None, *,
         rtol=None, callback=None):  # fmt: skip
    """Minimise ``norm(b - A x)`` for any A, square or not, by Golub-Kahan bidiagonalisation.

    Parameters
    ----------
    A : {sparse array, ndarray, LinearOperator}, shape (m, n)
        Products with its adjoint (``rmatvec``) are needed.
    b : array, shape (m,), (m, 1) or (m, k)
    damp : float
        Minimise ``norm(b - A x)**2 + damp**2 * norm(x - x0)**2``.
    atol, btol : float
        Done when ``norm(r) <= btol * norm(b)``, or when
        ``norm(A^H r) <= atol * norm(A) * norm(r)``: both recomputed from x. The norm of A is
        estimated from below.
    conlim : float
        Give up when the estimated condition number exceeds it; 0 means never.
    maxiter : int, optional
        Most iterations, ``min(m, n)`` by default; each takes a product with A and its adjoint.
    show : bool
        Print the history of the residual.
    x0 : array, optional
        Starting guess. Zero by default. Never changed.
    rtol : float, optional
        Sets both `atol` and `btol`, so that the call is that of the other methods.
    callback : callable, optional
        As for `cg`.

    Returns
    -------
    x : array, shape (n,) or (n, k)
    info : SolveInfo
        scipy's other results are attributes of it: ``istop``, ``itn``, ``normr``, ``normar``,
        ``norma``, ``conda``, ``normx``.

    Raises
    ------
    TypeError, ValueError
        On operands that are no numbers or do not fit, or an A without its adjoint.

    References
    ----------
    Fong and Saunders (2011), LSMR: an iterative algorithm for sparse least-squares problems.

    Examples
    --------
    >>> import numpy as np, krylearn as kl
    >>> A = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    >>> x, info = kl.lsmr(A, np.array([1.0, 0.0, -1.0]))
    >>> np.allclose(x, [1.0, -1.0]), info.reason.name
    (True, 'CONVERGED')
    """
    not_negative(damp=damp, atol=atol, btol=btol, conlim=conlim)
    if rtol is not None:
        atol = btol = rtol
    A = matrix_like(A)
    m, n = A.shape
    right = b
    if damp > 0:
        if hasattr(A, "held_columns"):
            raise TypeError("lsmr on distributed vectors knows no damp")
        A, right = _damped(A, b, damp, x0)
    x, info = solve_with(
        lambda s: _lsmr(s, float(atol), float(conlim)), A, right, x0, method="lsmr", rtol=btol,
        maxiter=min(m, n) if maxiter is None else maxiter, callback=callback, square=False,
    )  # fmt: skip
    for record in (info, *info.columns):
        if not hasattr(record, "istop"):  # b was zero
            record.__dict__.update(istop=0, itn=0, normr=0.0, normar=0.0, norma=0.0, conda=0.0,
                                   normx=0.0)  # fmt: skip
    if show:
        print_history(info)
    return x, info


def _damped(A, b, damp: float, x0):
    """Return the system whose least squares are damped: A over ``damp * I``."""
    m, n = A.shape
    A = aslinearoperator(A)
    b = np.asarray(b)
    below = np.zeros((n, *b.shape[1:])) if x0 is None else np.asarray(x0)
    below = damp * np.broadcast_to(below.reshape(n, *[1] * (b.ndim - 1)), (n, *b.shape[1:]))
    stacked = LinearOperator(
        (m + n, n), dtype=np.result_type(A.dtype, np.float32),
        matvec=lambda v: np.concatenate([A.matvec(v), damp * v.reshape(-1)]),
        rmatvec=lambda u: A.rmatvec(u[:m]) + damp * u[m:].reshape(-1),
    )  # fmt: skip
    return stacked, np.concatenate([b, below])


def _lsmr(s: Solve, atol: float, conlim: float) -> None:
    x = s.x
    u, Av, v, h, hbar = np.empty_like(s.b), np.empty_like(s.b), s.empty(), s.empty(), s.empty()
    Au = s.empty()
    # gradient: norm(A^H r) / norm(r)
    normA, condition, gradient = 0.0, 1.0, 0.0
    while s.unsolved():
        start = rnorm = s.rnorm
        # Golub-Kahan: u = r / norm(r), alpha v = A^H u. The recurrences are those of A x = u.
        scale(1.0 / rnorm, s.r, u)
        alpha = gradient = norm(s.adjoint(u, v))
        if alpha == 0.0:
            s.reason = Reason.LEAST_SQUARES
            continue
        if not math.isfinite(alpha):
            s.breakdown(Reason.OVERFLOW, alpha)
            continue
        scale(1.0 / alpha, v, v)
        h[:], hbar[:] = v, 0
        zetabar, alphabar, rho, rhobar, cbar, sbar = alpha, alpha, 1.0, 1.0, 1.0, 0.0
        residual = _ResidualNorm()
        normA, largest, smallest = max(normA, alpha), 0.0, math.inf
        while s.running(rnorm) and gradient > 0.5 * atol * normA:
            axpby(1.0, s.matvec(v, Av), -alpha, u)
            beta = norm(u)
            if beta > 0.0:
                scale(1.0 / beta, u, u)
            axpby(1.0, s.adjoint(u, Au), -beta, v)
            alpha = norm(v)
            if not math.isfinite(alpha):
                s.breakdown(Reason.OVERFLOW, alpha)
                break
            if alpha > 0.0:
                scale(1.0 / alpha, v, v)
            normA = math.hypot(normA, alpha, beta)
            rho_last, (c, sine, rho) = rho, _rotation(alphabar, beta)
            theta_next, alphabar = sine * alpha, c * alpha
            rhobar_last, theta, before = rhobar, sbar * rho, cbar * rho
            cbar, sbar, rhobar = _rotation(before, theta_next)
            if rhobar == 0.0 or rho == 0.0:
                break
            zeta, zetabar = cbar * zetabar, -sbar * zetabar
            axpby(1.0, h, -(theta / rho_last) * (rho / rhobar_last), hbar)
            axpy(start * (zeta / rho) / rhobar, hbar, x)
            axpby(1.0, v, -theta_next / rho, h)
            rnorm = start * residual.update(c, sine, theta, rhobar, zeta)
            gradient = abs(zetabar) * start / rnorm if rnorm else 0.0
            if s.iterations > s.pass_start:
                largest, smallest = max(largest, rhobar_last), min(smallest, rhobar_last)
            condition = max(largest, before) / min(smallest, before) if before else math.inf
            s.step(rnorm)
            if 0.0 < conlim < condition:
                s.reason = Reason.ILL_CONDITIONED
        if s.reason is None and rnorm > s.tolerance:
            # The recurrence may say so; x has to.
            rnorm = subtract(s.b, s.matvec(x, Av), Av)
            scale(1.0 / rnorm, Av, Av)
            gradient = norm(s.adjoint(Av, Au))
            if gradient <= atol * normA:
                s.reason = Reason.LEAST_SQUARES
    stops = {Reason.CONVERGED: 1, Reason.LEAST_SQUARES: 2, Reason.ILL_CONDITIONED: 3}
    s.extra = dict(
        istop=stops.get(s.reason, 7) if s.iterations or s.rnorm else 0,  # type: ignore[arg-type]
        itn=s.iterations, normr=float(s.rnorm), normar=float(gradient * s.rnorm), norma=normA,
        conda=float(condition), normx=float(norm(x)),
    )  # fmt: skip


def _rotation(a: float, b: float) -> tuple[float, float, float]:
    """Return c, s, r with ``c a + s b = r`` and ``-s a + c b = 0``."""
    r = math.hypot(a, b)
    return (a / r, b / r, r) if r else (1.0, 0.0, 0.0)


class _ResidualNorm:
    """The residual's norm, relative to the first, by recurrence: Fong and Saunders (2011), 5.1."""

    def __init__(self) -> None:
        self.betadd, self.betad, self.rhod = 1.0, 0.0, 1.0
        self.tautilde, self.thetatilde, self.zeta = 0.0, 0.0, 0.0

    def update(self, c: float, s: float, theta: float, rhobar: float, zeta: float) -> float:
        betahat, self.betadd = c * self.betadd, -s * self.betadd
        ctilde, stilde, rhotilde = _rotation(self.rhod, theta)
        thetatilde_last, self.thetatilde = self.thetatilde, stilde * rhobar
        self.rhod = ctilde * rhobar
        self.betad = ctilde * betahat - stilde * self.betad
        self.tautilde = (self.zeta - thetatilde_last * self.tautilde) / rhotilde
        taud = (zeta - self.thetatilde * self.tautilde) / self.rhod
        self.zeta = zeta
        return math.hypot(self.betad - taud, self.betadd)
