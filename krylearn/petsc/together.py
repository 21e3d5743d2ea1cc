"""Which preconditioner of a matrix over several ranks is made for the whole of it, and how."""

from __future__ import annotations

from typing import Any

from krylearn.petsc.dmda import Unsuited
from krylearn.petsc.grid import GridMultigrid
from krylearn.petsc.multigrid import DistributedMultigrid
from krylearn.petsc.ranks import Ranks

# Of all others each rank has one for its own block.
TOGETHER = ("multigrid", "geometric_multigrid", "smoothed_aggregation", "classical_amg")


def grid_of(pc: Any, matrix: Any) -> Any:
    """Return the DMDA with one unknown a point that a preconditioner or matrix has, or None."""
    for dm in (pc.getDM(), matrix.getDM()):
        if dm is not None and dm.handle and dm.getType() == "da" and dm.getDof() == 1:
            return dm
    return None


def make_together(name: str, matrix: Any, dm: Any, ranks: Ranks, options: dict[str, Any]) -> Any:
    """Return a multigrid preconditioner for a matrix over several ranks.

    Raises
    ------
    ValueError
        If it is to be geometric and there is no grid, or the matrix couples other points.
    """
    kind = options.pop("coarsening", "auto") if name == "multigrid" else {
        "geometric_multigrid": "geometric", "smoothed_aggregation": "aggregation",
    }.get(name, "classical")  # fmt: skip
    on_lattice = set(options) <= {"cycle", "precision"}
    if kind == "geometric" and (dm is None or not on_lattice):
        raise ValueError(
            "geometric multigrid over ranks needs a DMDA with one unknown a point (KSPSetDM), and "
            "takes no options but cycle and precision; use krylearn.petsc.Multigrid"
        )
    if kind == "geometric" or (kind == "auto" and dm is not None and on_lattice):
        try:
            return GridMultigrid(matrix, dm, ranks, must_suit=kind == "auto", **options)
        except Unsuited:
            if kind == "geometric":
                raise
    kind = "auto" if kind == "algebraic" else kind
    return DistributedMultigrid(matrix, ranks, kind, **options)
