"""Multigrid neural operators (MgNO): from a coefficient field to the solution field."""

from krylearn.learned.mgno.model import MgNO, MultigridConv

__all__ = ["MgNO", "MultigridConv"]
