"""Multigrid neural operators (MgNO): from a coefficient field to the solution field.

Without an activation one is a linear cycle: a preconditioner.
"""

from krylearn.learned.mgno.linear import LinearMgNO
from krylearn.learned.mgno.model import MgNO, MultigridConv
from krylearn.learned.mgno.preconditioner import MgNOCycle
from krylearn.learned.mgno.surrogate import Surrogate, surrogate

__all__ = ["LinearMgNO", "MgNO", "MgNOCycle", "MultigridConv", "Surrogate", "surrogate"]
