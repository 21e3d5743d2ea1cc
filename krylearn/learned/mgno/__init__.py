"""Multigrid neural operators (MgNO): from a coefficient field to the solution field."""

from krylearn.learned.mgno.model import MgNO, MultigridConv
from krylearn.learned.mgno.surrogate import Surrogate, surrogate

__all__ = ["MgNO", "MultigridConv", "Surrogate", "surrogate"]
