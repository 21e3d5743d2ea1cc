"""Jacobi with dense diagonal blocks."""

from __future__ import annotations

import numpy as np

from krylearn.kernels.relaxation import diagonal_blocks, multiply_blocks
from krylearn.solvers.relaxation.splitting import SplittingPreconditioner
from krylearn.solvers.relaxation.stationary import iterate

__all__ = ["BlockJacobi", "block_jacobi"]


class BlockJacobi(SplittingPreconditioner):
    """The inverses of dense diagonal blocks, ``omega * inv(blockdiag(A))``.

    Parameters
    ----------
    A : {sparse array, ndarray, GridOperator}, shape (n, n)
        With regular diagonal blocks.
    block_size : int
        Rows of a block; the last block holds what is left.
    omega : float
        Damping.

    Attributes
    ----------
    symmetric, positive_definite : bool
        Whether all blocks are Hermitian, and Hermitian positive definite.
    setup_seconds : float
        What making it, or its last update, cost.

    Raises
    ------
    TypeError
        If A gives products only.
    ValueError
        If A is not square, `block_size` is less than 1, or a diagonal block is singular.

    References
    ----------
    Saad (2003), Iterative Methods for Sparse Linear Systems, section 4.1.1.

    Examples
    --------
    >>> import numpy as np, krylearn as kl
    >>> A = np.array([[4.0, 1.0, 0.0], [1.0, 4.0, 1.0], [0.0, 1.0, 4.0]])
    >>> M = kl.BlockJacobi(A, block_size=2)
    >>> (M @ np.ones(3)).round(4).tolist()
    [0.2, 0.2, 0.25]
    >>> x, info = kl.cg(A, np.ones(3), M=M)
    """

    name = "block_jacobi"

    def __init__(self, A, block_size=4, omega=1.0):
        if block_size != int(block_size) or block_size < 1:
            raise ValueError(f"block_size must be an integer >= 1, not {block_size!r}")
        self.block_size, self.omega = int(block_size), float(omega)
        super().__init__(A)

    def _numeric(self, A):
        blocks = diagonal_blocks(*self._pattern, A.data, self.block_size)
        adjoint = np.conj(np.swapaxes(blocks, 1, 2))
        # As in `is_hermitian`: assembly leaves rounding.
        rounding = 100 * np.finfo(self.dtype).eps * np.abs(blocks).max(initial=0)
        self.symmetric = bool(np.all(np.abs(blocks - adjoint) <= rounding))
        self._inverse = _invert(blocks)
        if self.symmetric:
            self._inverse = (self._inverse + np.conj(np.swapaxes(self._inverse, 1, 2))) / 2
        self._inverse *= self.dtype.type(self.omega)
        self.positive_definite = self.symmetric and self.omega > 0 and _definite(blocks)

    def apply(self, r, out):
        """Write ``omega * inv(blockdiag(A)) @ r`` into `out`."""
        return multiply_blocks(self._inverse, r.copy() if np.may_share_memory(r, out) else r, out)


def _invert(blocks):
    try:
        inverse = np.linalg.inv(blocks)
    except np.linalg.LinAlgError:
        inverse = np.full_like(blocks, np.nan)
        for k, block in enumerate(blocks):
            if np.linalg.matrix_rank(block) == len(block):
                inverse[k] = np.linalg.inv(block)
    bad = np.flatnonzero(~np.isfinite(inverse).all(axis=(1, 2)))
    if len(bad):
        first = bad[0] * blocks.shape[1]
        raise ValueError(f"block_jacobi: the diagonal block that starts at row {first} is singular")
    return inverse


def _definite(blocks):
    try:
        np.linalg.cholesky(blocks)
    except np.linalg.LinAlgError:
        return False
    return True


def block_jacobi(A, b, x0=None, *, rtol=1e-5, atol=0.0, maxiter=None, M=None, callback=None,
                 block_size=4, omega=1.0):  # fmt: skip
    """Solve ``A x = b`` by Jacobi with dense diagonal blocks.

    Parameters
    ----------
    A : {sparse array, ndarray, GridOperator}, shape (n, n)
        Block diagonally dominant, or SPD with a small enough `omega`.
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
    block_size : int
        Rows of a block; the last block holds what is left.
    omega : float
        Damping.

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
        If A is not square, `block_size` is less than 1, or a diagonal block is singular.

    References
    ----------
    Saad (2003), Iterative Methods for Sparse Linear Systems, section 4.1.1.

    Examples
    --------
    >>> import numpy as np, krylearn as kl
    >>> A = np.array([[4.0, 1.0, 0.0], [1.0, 4.0, 1.0], [0.0, 1.0, 4.0]])
    >>> x, info = kl.block_jacobi(A, np.ones(3), rtol=1e-8, block_size=2)
    >>> bool(info == 0), x.round(6).tolist()
    (True, [0.214286, 0.142857, 0.214286])
    """
    return iterate(
        lambda A: BlockJacobi(A, block_size, omega), "block_jacobi", A, b, x0, M, rtol=rtol,
        atol=atol, maxiter=maxiter, callback=callback,
    )  # fmt: skip
