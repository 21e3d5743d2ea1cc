"""Chebyshev iteration and polynomial in the Jacobi-scaled matrix."""

from __future__ import annotations

import numpy as np

from krylearn.interface import Solve
from krylearn.kernels.relaxation import (
    chebyshev_start,
    chebyshev_step,
    difference_norm,
    is_hermitian,
)
from krylearn.operators import CSROperator
from krylearn.solvers.relaxation.spectrum import lanczos_bounds
from krylearn.solvers.relaxation.splitting import SplittingPreconditioner, Workspace
from krylearn.solvers.relaxation.stationary import Progress, iterate

__all__ = ["Chebyshev", "chebyshev"]

# Lanczos sees the upper end from below, and the lower end from above.
UPPER, LOWER = 1.1, 0.9


def recurrence(bounds):
    """Yield what the last correction and the scaled residual are multiplied by, step by step.

    Saad (2003), Algorithm 12.1, in its notation.
    """
    alpha, beta = bounds
    theta, delta = (beta + alpha) / 2, (beta - alpha) / 2
    sigma = theta / delta
    rho = 1 / sigma
    yield 0.0, 1 / theta
    while True:
        rho, previous = 1 / (2 * sigma - rho), rho
        yield rho * previous, 2 * rho / delta


class Chebyshev(SplittingPreconditioner):
    """The Chebyshev polynomial of a degree in ``inv(D) A``, an approximate inverse.

    Parameters
    ----------
    A : {sparse array, ndarray, GridOperator}, shape (n, n)
        Hermitian positive definite.
    degree : int
        Steps of the iteration in one application: it takes ``degree - 1`` products with A.
    bounds : (float, float), optional
        Between which the polynomial is small. By default Lanczos estimates the eigenvalues of
        ``inv(D) A``; the upper is raised, the lower reduced for safety.
    ratio : float or None
        The estimated lower bound is raised to ``upper / ratio``: a few products with A do more
        good to a part of the spectrum than to all of it. None leaves it.

    Attributes
    ----------
    bounds : (float, float)
        Given or estimated.
    symmetric, positive_definite : bool
        True.
    setup_seconds : float
        What making it, or its last update, cost.

    Raises
    ------
    TypeError
        If A gives products only.
    ValueError
        If `degree` is less than 1, A is not square or not Hermitian, its diagonal is not
        positive, or the bounds are not ``0 < lower < upper``.

    References
    ----------
    Saad (2003), Iterative Methods for Sparse Linear Systems, Algorithm 12.1.

    Examples
    --------
    >>> import numpy as np, krylearn as kl
    >>> A = np.array([[4.0, 1.0, 0.0], [1.0, 4.0, 1.0], [0.0, 1.0, 4.0]])
    >>> M = kl.Chebyshev(A, degree=3, bounds=(0.6, 1.4))
    >>> (M @ np.ones(3)).round(4).tolist()
    [0.2145, 0.1435, 0.2145]
    >>> x, info = kl.cg(A, np.ones(3), M=M)
    """

    name = "chebyshev"
    symmetric = True
    positive_definite = True

    def __init__(self, A, degree=4, bounds=None, ratio=30.0):
        if degree != int(degree) or degree < 1:
            raise ValueError(f"degree must be an integer >= 1, not {degree!r}")
        if bounds is not None and not 0 < bounds[0] < bounds[1] < np.inf:
            raise ValueError(f"bounds must be 0 < lower < upper, not {bounds!r}")
        self.degree, self.ratio, self._given = int(degree), ratio, bounds
        self._work = Workspace()
        super().__init__(A)

    def _numeric(self, A):
        d = self._diagonal(A)
        negative = np.flatnonzero(~(d.real > 0))
        if len(negative):
            raise ValueError(f"chebyshev needs a positive diagonal; row {negative[0]} has none")
        if not is_hermitian(*self._pattern, A.data):
            raise ValueError("chebyshev needs a Hermitian matrix; use jacobi or ilu0")
        self._scale = (1 / d).astype(self.dtype)
        self._operator = CSROperator(A, self.dtype)
        if self._given is None:
            # The upper end shows soon; the lower one takes many steps.
            low, high = lanczos_bounds(A, d, settled=0.02 if self.ratio is None else 0.2)
            if not low > 0:
                raise ValueError(
                    f"chebyshev needs a positive definite matrix; inv(D) A has an eigenvalue below "
                    f"{low:.3g}. Use minres"
                )
            low, high = LOWER * low, UPPER * high
            self.bounds = (low if self.ratio is None else max(low, high / self.ratio), high)
        else:
            self.bounds = tuple(map(float, self._given))

    def coefficients(self):
        """Yield the coefficients of the steps: see `recurrence`."""
        return recurrence(self.bounds)

    def to(self, device: str):
        """Return the preconditioner on another device: 'cuda', or 'cpu', where it lies."""
        from krylearn.cuda.preconditioners import moved

        return moved(self, device)

    def apply(self, r, out):
        """Write the polynomial in ``inv(D) A`` times ``inv(D) @ r`` into `out`."""
        q, rest, d = self._work.get(3, self.shape[0], self.dtype)
        coefficients = self.coefficients()
        chebyshev_start(next(coefficients)[1], self._scale, r, rest, d, out)
        for _ in range(self.degree - 1):
            self._operator.apply(d, q)
            chebyshev_step(*next(coefficients), self._scale, q, rest, d, out)
        return out


def chebyshev(A, b, x0=None, *, rtol=1e-5, atol=0.0, maxiter=None, M=None, callback=None,
              bounds=None):  # fmt: skip
    """Solve ``A x = b`` by the Chebyshev iteration in the Jacobi-scaled matrix.

    Parameters
    ----------
    A : {sparse array, ndarray, GridOperator}, shape (n, n)
        Hermitian positive definite.
    b : array, shape (n,), (n, 1) or (n, k)
        Right-hand side, or k of them.
    x0 : array, optional
        Starting guess, zero by default. Never changed.
    rtol, atol : float
        Converged when the recomputed ``norm(b - A @ x) <= max(rtol * norm(b), atol)``.
    maxiter : int, optional
        Most iterations, ``10 n`` by default.
    M : None
        A splitting takes no other preconditioner.
    callback : callable, optional
        Called as ``callback(xk)`` after each iteration with a read-only view of the iterate.
        Raise StopIteration in it to end the solve.
    bounds : (float, float), optional
        Between which the eigenvalues of ``inv(D) A`` lie. Estimated by Lanczos by default, the
        upper raised and the lower reduced for safety.

    Returns
    -------
    x : array
        Shaped like b; (n,) where b is (n, 1), as in scipy.
    info : SolveInfo
        An int: 0 converged, >0 not converged, <0 breakdown; it carries the record. Its
        ``reason`` is ``Reason.DIVERGED`` where the residual has grown a million times.

    Raises
    ------
    TypeError
        If A gives products only, or an operand is no array of numbers.
    ValueError
        If A is not square or not Hermitian, its diagonal is not positive, or the bounds are not
        ``0 < lower < upper``.

    References
    ----------
    Saad (2003), Iterative Methods for Sparse Linear Systems, Algorithm 12.1.

    Examples
    --------
    >>> import numpy as np, krylearn as kl
    >>> A = np.array([[4.0, 1.0, 0.0], [1.0, 4.0, 1.0], [0.0, 1.0, 4.0]])
    >>> x, info = kl.chebyshev(A, np.ones(3), rtol=1e-8)
    >>> bool(info == 0), x.round(6).tolist()
    (True, [0.214286, 0.142857, 0.214286])
    """
    return iterate(
        lambda A: Chebyshev(A, bounds=bounds, ratio=None), "chebyshev", A, b, x0, M, rtol=rtol,
        atol=atol, maxiter=maxiter, callback=callback, loop=_chebyshev,
    )  # fmt: skip


def _chebyshev(s: Solve, P: Chebyshev) -> None:
    q, d = s.empty(), s.empty()
    while s.unsolved():
        r, rnorm, progress = s.r, s.rnorm, Progress(s)
        q[:] = 0
        d[:] = 0
        coefficients = P.coefficients()
        while s.running(rnorm):
            keep, gain = next(coefficients)
            chebyshev_step(keep, gain, P._scale, q, r, d, s.x)
            s.precond_applies += 1
            # r belongs to the x before; its successor is r - q.
            s.matvec(d, q)
            rnorm = difference_norm(r, q)
            s.step(rnorm)
            if progress.stalled(s, rnorm):
                break
