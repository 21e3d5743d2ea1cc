"""Classical algebraic multigrid."""

from __future__ import annotations

from krylearn.kernels import amg_classical as amg
from krylearn.solvers.multigrid.algebraic import AlgebraicMultigrid, Level

__all__ = ["ClassicalAMG"]

SPLITTINGS = ("ruge_stueben", "pmis")


class ClassicalAMG(AlgebraicMultigrid):
    """Multigrid on a subset of the unknowns, with extended+i interpolation: one cycle, from zero.

    The most robust preconditioner for one diffusion-like equation: jumps, anisotropy and walls of
    any shape hardly change its iterations.

    Parameters
    ----------
    A : {sparse array, ndarray, GridOperator}, shape (n, n)
    theta : float
        Connections are strong from ``theta max_k |a_ik|``.
    signed : bool
        Only those of the sign opposite to the diagonal's count as strong.
    splitting : {'ruge_stueben', 'pmis'}
        How coarse points are chosen: one after the other by influence (the first pass alone, which
        is what HMIS does within a process), or by maximal independent sets, which threads share.
    most : int
        Weights of interpolation a row, the largest.
    share : float
        Weights below this share of the row's largest are dropped too.
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
    Ruge and Stueben (1987), Algebraic multigrid, in: Multigrid Methods, SIAM, chapter 4.
    De Sterck, Yang and Heys (2006), SIAM J. Matrix Anal. Appl. 27, 1019-1039 (pmis).
    De Sterck, Falgout, Nolting and Yang (2008), Numer. Linear Algebra Appl. 15, 115-139
    (extended+i).

    Examples
    --------
    >>> import krylearn as kl
    >>> P = kl.problems.diffusion((64, 64), kind="inclusions", contrast=1e6)
    >>> x, info = kl.cg(P.A, P.b, M=kl.ClassicalAMG(P.A), rtol=1e-8)
    >>> info == 0, info.iterations <= 12
    (True, True)
    """

    name = "classical_amg"

    def __init__(self, A, *, theta=0.25, signed=True, splitting="ruge_stueben", most=4, share=0.0,
                 cycle="V", sweeps=1, precision="auto", max_levels=25, max_coarse=100):  # fmt: skip
        if splitting not in SPLITTINGS:
            raise ValueError(f"splitting must be one of {', '.join(SPLITTINGS)}, not {splitting!r}")
        if not (0 < theta <= 1 and 0 <= share < 1):
            raise ValueError("theta must lie in (0, 1] and share in [0, 1)")
        if most != int(most) or most < 1:
            raise ValueError(f"most must be an integer >= 1, not {most!r}")
        self.theta, self.signed, self.splitting = float(theta), bool(signed), splitting
        self.most, self.share = int(most), float(share)
        super().__init__(A, cycle=cycle, sweeps=sweeps, precision=precision,
                         max_levels=max_levels, max_coarse=max_coarse)  # fmt: skip

    def _prolongation(self, level: Level, depth: int):
        kept = level.kept
        if not kept:
            kept["strong"] = amg.strong_classical(level.A, self.theta, self.signed)
            kept["state"] = amg.split(*amg.strong_pattern(level.A, kept["strong"]), self.splitting)
        count, P = amg.interpolate(level.A, level.d, kept["strong"], kept["state"], self.most,
                                   self.share, kept.get("P"))  # fmt: skip
        # Points without a strong connection are left to the smoother.
        if count == 0 or count >= 0.9 * level.n:
            return None
        kept["P"] = P[:2]
        return count, P
