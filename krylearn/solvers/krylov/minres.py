"""Minimal residuals."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import LinearOperator

from krylearn.interface import Reason, Solve, print_history, solve_with
from krylearn.kernels.vector import axpby, axpbypcz, axpy, dot, norm, scale
from krylearn.operators import matrix_like


def minres(A, b, x0=None, *, rtol=1e-5, atol=0.0, shift=0.0, maxiter=None, M=None,
           callback=None, show=False, check=False):  # fmt: skip
    """Solve ``(A - shift I) x = b`` for Hermitian A, definite or not.

    Parameters
    ----------
    A, b, x0, rtol, atol, callback
        As for `cg`; A is Hermitian.
    shift : float
        What is subtracted from the diagonal of A.
    maxiter : int, optional
        Most iterations, ``5 n`` by default.
    M : {LinearOperator, Preconditioner, sparse array, ndarray}, optional
        Approximates the inverse of A: linear, Hermitian positive definite.
    show : bool
        Print the history of the residual.
    check : bool
        Raise ValueError if A or M turn out not to be Hermitian on a random vector.

    Returns
    -------
    x : array
    info : SolveInfo

    Raises
    ------
    TypeError, ValueError
        On operands that are no numbers, do not fit, or an M that lacks a needed trait.

    References
    ----------
    Paige and Saunders (1975), Solution of sparse indefinite systems of linear equations;
    Choi (2006), PhD thesis, section 2.2, for the preconditioned form.

    Examples
    --------
    >>> import numpy as np, krylearn as kl
    >>> A = np.array([[1.0, 2.0], [2.0, 1.0]])
    >>> x, info = kl.minres(A, np.array([3.0, 3.0]), rtol=1e-10)
    >>> np.allclose(x, 1.0), info == 0
    (True, True)
    """
    A = matrix_like(A)
    if (check or shift) and getattr(A, "on_cuda", False):
        raise TypeError("minres on the CUDA device knows neither shift nor check")
    if (check or shift) and hasattr(A, "held_columns"):
        raise TypeError("minres on distributed vectors knows neither shift nor check: MatShift")
    if check:
        for name, operator in (("A", A), ("M", M)):
            if operator is not None and not _looks_hermitian(matrix_like(operator, name)):
                raise ValueError(f"{name} is not Hermitian: use gmres")
    if shift:
        A = _shifted(A, shift)
    x, info = solve_with(
        _minres, A, b, x0, method="minres", rtol=rtol, atol=atol, maxiter=maxiter, M=M,
        callback=callback, needs=("linear", "symmetric", "positive_definite"), limit=5,
    )  # fmt: skip
    if show:
        print_history(info)
    return x, info


def _shifted(A, shift):
    if sp.issparse(A):
        return A - shift * sp.eye_array(*A.shape, dtype=A.dtype, format="csr")
    if isinstance(A, np.ndarray):
        return A - shift * np.eye(*A.shape, dtype=A.dtype)
    return LinearOperator(A.shape, lambda v: A.matvec(v) - shift * v, dtype=A.dtype)


def _looks_hermitian(A) -> bool:
    rng = np.random.default_rng(0)
    u, v = rng.standard_normal((2, A.shape[0]))
    apply = A.matvec if hasattr(A, "matvec") else A.__matmul__
    Au, Av = apply(u), apply(v)
    size = float(np.linalg.norm(Au) * np.linalg.norm(v))
    eps = float(np.finfo(np.result_type(A.dtype, np.float32)).eps)
    return bool(abs(np.vdot(Au, v) - np.vdot(u, Av)) <= eps ** (2 / 3) * size)


def _minres(s: Solve) -> None:
    if s.on_cuda:
        from krylearn.solvers.krylov import device

        return device.minres(s)
    x, buffer = s.x, s.empty()
    # Lanczos vectors before M, not normalised: v_{k-1}, v_k, v_{k+1}; beta are their M-norms.
    v_last, v, v_next = s.empty(), s.empty(), s.empty()
    z, w_last, w = s.empty(), s.empty(), s.empty()
    eps = float(np.finfo(s.dtype).eps)
    while s.unsolved():
        rnorm = s.rnorm
        v[:] = s.r
        Mv = s.precondition(v, buffer)
        beta = phibar = _m_norm(s, v, Mv)
        v_last[:] = w_last[:] = w[:] = 0
        beta_last, cs, sn, dbar, epsilon, size = 1.0, -1.0, 0.0, 0.0, 0.0, 0.0
        while s.running(rnorm):
            scale(1.0 / beta, Mv, z)
            alpha = s.matvec_dot(z, v_next).real
            axpby(-beta / beta_last, v_last, 1.0, v_next)
            axpby(-alpha / beta, v, 1.0, v_next)
            v_last, v, v_next = v, v_next, v_last
            Mv = s.precondition(v, buffer)
            beta_last, beta = beta, _m_norm(s, v, Mv)
            size = max(size, abs(alpha), beta)  # not the first beta, which is the residual's
            # The last rotation on the new column of the tridiagonal matrix, then a new one.
            epsilon_last, delta = epsilon, cs * dbar + sn * alpha
            gbar, epsilon, dbar = sn * dbar - cs * alpha, sn * beta, -cs * beta
            gamma = np.hypot(gbar, beta)
            # |A r| / |r|: the residual is orthogonal to the range of A.
            root = np.hypot(gbar, dbar)
            if not root > 10 * eps * size:
                s.near_breakdown(root, reason=Reason.SINGULAR)
                break
            cs, sn = gbar / gamma, beta / gamma
            phi, phibar = cs * phibar, sn * phibar
            w_last, w = w, axpbypcz(
                1 / gamma, z, -delta / gamma, w, -epsilon_last / gamma, w_last
            )  # fmt: skip
            axpy(phi, w, x)
            rnorm = phibar
            if not s.M.identity and beta > 0.0:
                # phibar is the residual's M-norm; its own norm takes the vector.
                axpby(-phibar * cs / beta, v, sn * sn, s.r)
                rnorm = norm(s.r)
            s.step(rnorm)


def _m_norm(s: Solve, v: np.ndarray, Mv: np.ndarray) -> float:
    """Return ``sqrt(v @ M v)``; end the solve where M turns out not to be definite."""
    if Mv is v:
        return norm(v)
    square = dot(v, Mv).real
    if square >= 0.0:
        return np.sqrt(square)
    s.breakdown(Reason.INDEFINITE_M, square)
    return np.nan
