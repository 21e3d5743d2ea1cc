"""Multigrid of the kind that suits an operator."""

from __future__ import annotations

from typing import Any

import numpy as np

from krylearn.cuda.arrays import lies_on_cuda
from krylearn.grid.box import neighbour
from krylearn.petsc.library import in_petsc
from krylearn.solvers.multigrid.aggregation import SmoothedAggregation
from krylearn.solvers.multigrid.algebraic_multigrid import algebraic_multigrid
from krylearn.solvers.multigrid.classical import ClassicalAMG
from krylearn.solvers.multigrid.geometric import GeometricMultigrid

__all__ = ["multigrid"]

_KINDS: dict[str, Any] = {
    "geometric": GeometricMultigrid,
    "algebraic": algebraic_multigrid,
    "classical": ClassicalAMG,
    "aggregation": SmoothedAggregation,
}
# Links next to each other along an axis that differ more than this are a jump: linear values across
# it are wrong, and a lattice takes twice the iterations of a coarsening that follows it.
JUMP = 10.0
# The share of links at a jump, or of solid cells in thin walls, that a lattice stands.
RARE = 1e-4
JUMPS = "coefficients jump from point to point"
WALLS = "thin walls cross the grid"
THIN = 0.1
# Links that differ more than this want AMLI on joined cells with coarse levels in double precision:
# in single the weak ones vanish beside the others where residuals are differences.
WIDE = 1e5


def multigrid(A, B=None, *, coarsening="auto", **options):
    """Make a multigrid preconditioner of the kind that suits `A`.

    Parameters
    ----------
    A : {GridOperator, sparse array, ndarray}, shape (n, n)
        Or what `to_cuda` makes of one: the multigrid then works on the device.
    B : (n, k) array, optional
        Near-nullspace vectors, such as the rigid motions of an elastic body.
    coarsening : {'auto', 'geometric', 'algebraic', 'classical', 'aggregation'}
        'auto' takes the coarser lattice for an operator on a grid, unless its coefficients jump,
        thin walls cross it or it is not Hermitian: then the classical coarsening. In space jumps
        and walls are left to a lattice of joined cells (``transfer="constant"``) and AMLI(2, 2):
        about as many iterations as with the classical coarsening, in less time. For a matrix, and
        with `B`, it is 'algebraic': what `algebraic_multigrid` chooses.
    **options
        Of `GeometricMultigrid`, `ClassicalAMG` or `SmoothedAggregation`.

    Returns
    -------
    M : GeometricMultigrid, ClassicalAMG or SmoothedAggregation
        ``M.choice`` says why.

    Raises
    ------
    TypeError, ValueError
        As the class that is chosen; and if `coarsening` is unknown or does not take `B`.

    References
    ----------
    Trottenberg, Oosterlee and Schueller (2001), Multigrid, chapter 7 and appendix A.

    Examples
    --------
    >>> import krylearn as kl
    >>> P = kl.problems.diffusion((64, 64), contrast=1e4, seed=1)
    >>> M = kl.multigrid(P.A)
    >>> type(M).__name__, M.choice
    ('ClassicalAMG', 'coefficients jump from point to point')
    >>> type(kl.multigrid(kl.problems.poisson((64, 64)).A)).__name__
    'GeometricMultigrid'
    """
    if coarsening != "auto" and coarsening not in _KINDS:
        raise ValueError(
            f"coarsening must be 'auto' or one of {', '.join(_KINDS)}, not {coarsening!r}"
        )
    if in_petsc(A):
        A = _from_petsc(A)
    if lies_on_cuda(A) and hasattr(A, "to"):
        M = None
        if B is None:
            from krylearn.cuda.hierarchy import multigrid as set_up_there

            M = set_up_there(A, coarsening, **options)
        if M is None:  # set up on the host, used where A is
            M = multigrid(A.to("cpu"), B, coarsening=coarsening, **options).to("cuda")
        return M
    why = "the coarsening was given"
    if coarsening == "auto":
        coarsening, why = _suited(A, B)
        if coarsening == "joined":
            coarsening = "geometric"
            options = joined_options(A, **options) | options
    if B is not None:
        if coarsening in ("geometric", "classical"):
            raise ValueError(f"{coarsening} coarsening takes no near-nullspace vectors B")
        options["B"] = B
    M = _KINDS[coarsening](A, **options)
    M.choice = f"{why}: {M.choice}" if M.choice else why
    return M


# Whose options it takes: command lines list them.
multigrid.hands_to = (GeometricMultigrid, SmoothedAggregation, ClassicalAMG)  # type: ignore[attr-defined]


def _from_petsc(matrix: Any) -> Any:
    """Return a matrix of PETSc as an operator on its DMDA, or as CSR where it has none."""
    from krylearn.petsc.convert import grid_operator, to_csr

    try:
        return grid_operator(matrix)
    except ValueError:
        return to_csr(matrix)


def _suited(A: Any, B: Any) -> tuple[str, str]:
    """Return the coarsening that suits A, and why."""
    if B is not None:
        return "algebraic", "it takes B"
    if not (hasattr(A, "grid") and hasattr(A, "_stack")):
        return "algebraic", "A is a matrix"
    return kind_on_a_grid(lattice_fails(A), A.grid.ndim)


def kind_on_a_grid(fails: str, ndim: int) -> tuple[str, str]:
    """Return the coarsening that suits, and why, given why a coarser lattice fails."""
    if fails in (JUMPS, WALLS) and ndim == 3:
        return "joined", f"{fails}; in space it is quickest to join cells"
    if fails:
        return "classical", fails
    return "geometric", "A is an operator on a grid"


def joined_options(A: Any, cycle: str = "AMLI", smoother: str = "red_black", **_: Any
                   ) -> dict[str, Any]:  # fmt: skip
    """Return the options that suit a cycle on joined cells."""
    if cycle != "AMLI" or smoother not in ("red_black", "line"):
        return {"transfer": "constant"}
    links = A._stack[1:]
    weakest = max(np.max(k, where=k < 0, initial=-np.inf) for k in links)
    wide = any(k.min() < WIDE * weakest for k in links)
    return {
        "transfer": "constant", "cycle": "AMLI", "pre": 2, "post": 2,
        "precision": "mixed" if wide else "auto",
    }  # fmt: skip


def lattice_fails(A: Any) -> str:
    """Return why a coarser lattice cannot stand for a grid operator; '' where it can.

    Parameters
    ----------
    A : GridOperator
    """
    if not A.symmetric or len(A._stack) > 1 + A.grid.ndim:
        return "A is not Hermitian"
    links = A._stack[1:]
    if A.dtype.kind == "c" and np.any(links.imag):
        return "couplings are complex"
    positive = bool(np.any(links.real > 0))
    thin = 0.0 if A.mask is None or positive else _thin(A.mask)
    smooth = A._constant or positive or thin > THIN
    return verdict(positive, thin, 0.0 if smooth else share_of_jumps(-links.real))


def verdict(positive: bool, thin: float, jumps: float) -> str:
    """Return why a coarser lattice fails, from couplings, thin walls and jumps."""
    if positive:
        return "couplings are positive"
    if thin > THIN:
        return WALLS
    return JUMPS if jumps > RARE else ""


def _thin(mask: np.ndarray) -> float:
    """Return the share of solid cells that have none behind them along some axis."""
    thin = np.zeros(mask.shape, bool)
    for axis in range(mask.ndim):
        thin = thin | (neighbour(mask, axis, 0) & neighbour(mask, axis, 1))
    solid = ~mask
    return int((thin & solid).sum()) / max(1, int(solid.sum()))


def share_of_jumps(links: np.ndarray) -> float:
    """Return the share of points whose two links along an axis differ by a jump."""
    found = 0
    for axis, k in enumerate(links):
        ahead, behind = np.moveaxis(k, axis, 0)[1:-1], np.moveaxis(k, axis, 0)[:-2]
        open_ = (ahead > 0) & (behind > 0)
        jump = open_ & (np.maximum(ahead, behind) > JUMP * np.minimum(ahead, behind))
        found += int(jump.sum())
    return found / max(1, links[0].size)
