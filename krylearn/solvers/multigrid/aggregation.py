"""Smoothed aggregation."""

from __future__ import annotations

from typing import Any

import numpy as np

from krylearn.kernels import amg_aggregate as amg
from krylearn.kernels import relaxation
from krylearn.solvers.multigrid.algebraic import AlgebraicMultigrid, Level
from krylearn.solvers.relaxation.splitting import working_dtype

__all__ = ["SmoothedAggregation"]

# Rigid motions in two and in three dimensions, and the displacements of a node.
RIGID = {3: 2, 6: 3}


class SmoothedAggregation(AlgebraicMultigrid):
    """Multigrid by smoothed aggregation: one cycle, from zero.

    Strongly coupled unknowns make aggregates, which carry the near-nullspace vectors `B` to the
    next level exactly; one damped Jacobi step smooths the prolongation. Cheap to set up, and the
    choice for elasticity.

    Parameters
    ----------
    A : {sparse array, ndarray, GridOperator}, shape (n, n)
    B : array, shape (n,) or (n, k), optional
        Near-nullspace vectors: what A all but annihilates. Ones by default; the rigid motions
        for elasticity.
    block_size : int, optional
        Unknowns a node. By default that of a BSR matrix, else 2 for three vectors B and 3 for
        six (rigid motions), else 1.
    theta : float
        Connections are strong above ``theta 2**-level sqrt(a_ii a_jj)``; 0.08 by default, 0 where
        nodes have several unknowns.
    omega : float
        Damping of the prolongation smoother, times the spectral radius of ``inv(D) A``.
    cycle : {'V', 'W', 'F'}
    sweeps : int
        Gauss-Seidel sweeps before (forwards) and after (backwards) the coarse correction.
    precision : {'auto', 'single', 'double'}
        Of the cycle: single, or that of A. 'auto' is single where A has 100,000 rows or more and
        its entries differ by less than a factor of 1e4. The set-up is done in that of A.
    max_levels, max_coarse : int
        Coarsen until that many levels, or no more than `max_coarse` unknowns.

    Attributes
    ----------
    levels : list of Level
    grid_complexity, operator_complexity : float
        Unknowns, and entries, of all levels over those of A.
    symmetric, positive_definite : bool or None
        True where A is Hermitian: the cycle is so by construction, whatever A's eigenvalues.
    setup_seconds : float
        What making it, or its last update, cost.

    Raises
    ------
    TypeError
        If A gives products only.
    ValueError
        If A is not square or holds NaN or Inf, or an option makes no sense.

    References
    ----------
    Vanek, Mandel and Brezina (1996), Algebraic multigrid by smoothed aggregation for second and
    fourth order elliptic problems, Computing 56, 179-196.

    Examples
    --------
    >>> import numpy as np, krylearn as kl
    >>> P = kl.problems.poisson((64, 64))
    >>> M = kl.SmoothedAggregation(P.A)
    >>> len(M.levels), M.operator_complexity < 1.5
    (3, True)
    >>> x, info = kl.cg(P.A, P.b, M=M, rtol=1e-8)
    >>> info == 0, info.iterations <= 12
    (True, True)
    """

    name = "smoothed_aggregation"

    def __init__(self, A, B=None, *, block_size=None, theta=None, omega=4 / 3, cycle="V", sweeps=1,
                 precision="auto", max_levels=20, max_coarse=100):  # fmt: skip
        self.B = None if B is None else _vectors(B, A)
        columns = 1 if self.B is None else self.B.shape[1]
        if block_size is None:
            blocks = getattr(A, "blocksize", (1, 1))
            block_size = blocks[0] if blocks[0] == blocks[1] > 1 else RIGID.get(columns, 1)
            if A.shape[0] % block_size:
                block_size = 1
        if block_size != int(block_size) or block_size < 1 or A.shape[0] % block_size:
            raise ValueError(f"block_size must divide the {A.shape[0]} rows, not be {block_size!r}")
        self.block_size = int(block_size)
        theta = (0.08 if self.block_size == 1 else 0.0) if theta is None else theta
        if not 0 <= theta < 1:
            raise ValueError(f"theta must lie in [0, 1), not be {theta!r}")
        if not 0 <= omega < 2:
            raise ValueError(f"omega must lie in [0, 2), not be {omega!r}")
        self.theta, self.omega = float(theta), float(omega)
        super().__init__(A, cycle=cycle, sweeps=sweeps, precision=precision,
                         max_levels=max_levels, max_coarse=max_coarse)  # fmt: skip

    def _numeric(self, A):
        B = np.ones((A.shape[0], 1)) if self.B is None else self.B
        if np.iscomplexobj(B) and self.dtype.kind != "c":
            raise ValueError("B is complex and A is real; make A complex")
        self._B, self._size = np.ascontiguousarray(B, self.dtype), self.block_size
        super()._numeric(A)

    def _prolongation(self, level: Level, depth: int):
        size, k, kept = self._size, self._B.shape[1], level.kept
        if not kept:
            kept.update(zip(("strong", "owner", "count"), self._aggregates(level, depth)))
        strong, owner, count = kept["strong"], kept["owner"], kept["count"]
        if count == 0 or count * k >= 0.8 * level.n:
            return None
        if k == 1:
            d = amg.filtered_diagonal(level.A, strong, self._B[:, 0])
        else:
            d = level.d
        Q, self._B = amg.tentative(owner, count, size, self._B)
        radius = amg.radius_bound(level.A, strong, d)
        self._size = k
        return count * k, amg.smoothed(level.A, strong, d, self.omega / radius, owner, size, Q)

    def _aggregates(self, level: Level, depth: int) -> tuple:
        """Return what of A to keep, the aggregate of each node, and how many there are."""
        graph = level.A if self._size == 1 else amg.node_norms(level.A, self._size)
        size = relaxation.diagonal(*graph)
        strong = amg.strong_symmetric(graph, size, self.theta * 0.5**depth)
        owner = np.empty(size.shape[0], np.int32)
        count = int(amg.aggregate(*graph, strong, owner))
        # No lumping keeps several vectors.
        single = self._size == self._B.shape[1] == 1
        return (strong if single else np.ones(level.nnz, bool)), owner, count


def _vectors(B: Any, A: Any) -> np.ndarray:
    B = np.asarray(B)
    B = B[:, None] if B.ndim == 1 else B
    if B.ndim != 2 or B.shape[0] != A.shape[0] or B.shape[1] < 1:
        raise ValueError(f"B has shape {B.shape}; A needs ({A.shape[0]}, k)")
    if not np.all(np.isfinite(B)):
        raise ValueError("B holds NaN or Inf")
    return B.astype(np.result_type(working_dtype(B)))
