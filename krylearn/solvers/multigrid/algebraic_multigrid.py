"""The algebraic multigrid that suits a matrix."""

from __future__ import annotations

from typing import Any

import numpy as np

from krylearn.kernels.amg_classical import coupling_spread
from krylearn.operators import unsigned_indices
from krylearn.solvers.multigrid.aggregation import SmoothedAggregation
from krylearn.solvers.multigrid.algebraic import AlgebraicMultigrid
from krylearn.solvers.multigrid.classical import ClassicalAMG
from krylearn.solvers.relaxation.splitting import square_csr

__all__ = ["algebraic_multigrid"]

# Couplings that differ by no more than this all over the matrix are as good as constant.
EVEN = 8.0


def algebraic_multigrid(A, B=None, **options):
    """Make the algebraic multigrid preconditioner that suits A.

    Smoothed aggregation where nodes have several unknowns or near-nullspace vectors are given,
    and where all couplings are of one sign and of similar size: it is the cheapest to set up.
    Classical multigrid otherwise: it stands jumps and anisotropy.

    Parameters
    ----------
    A : {sparse array, ndarray, GridOperator}, shape (n, n)
    B : array, shape (n,) or (n, k), optional
        Near-nullspace vectors.
    **options
        Of the class that is chosen.

    Returns
    -------
    M : SmoothedAggregation or ClassicalAMG
        ``M.choice`` says why.

    Raises
    ------
    TypeError
        If A gives products only.
    ValueError
        If A is not square or holds NaN or Inf, or an option makes no sense.

    Examples
    --------
    >>> import krylearn as kl
    >>> M = kl.algebraic_multigrid(kl.problems.poisson((40, 40)).A)
    >>> type(M).__name__, M.choice
    ('SmoothedAggregation', 'all couplings are of similar size')
    >>> P = kl.problems.diffusion((40, 40), contrast=1e4)
    >>> type(kl.algebraic_multigrid(P.A)).__name__
    'ClassicalAMG'
    """
    M: AlgebraicMultigrid
    blocks = max(getattr(A, "blocksize", (1, 1)))
    if B is not None or blocks > 1:
        M = SmoothedAggregation(A, B, **options)
        M.choice = "near-nullspace vectors" if B is not None else f"blocks of {blocks} unknowns"
        return M
    entries = square_csr(A, "algebraic_multigrid")
    if couplings_are_even(entries):
        M = SmoothedAggregation(entries, **options)
        M.choice = "all couplings are of similar size"
    else:
        M = ClassicalAMG(entries, **options)
        M.choice = "couplings differ in size or sign"
    return M


def couplings_are_even(A: Any) -> bool:
    """Return whether the couplings of a CSR matrix are of one sign and of similar size."""
    low, high = coupling_spread((*unsigned_indices(A), A.data))
    return bool(0 < high <= EVEN * low < np.inf)
