"""The whole configuration chosen online: method, preconditioner, reuse and start."""

from krylearn.learned.selection.arms import Arm
from krylearn.learned.selection.auto import AutoSolver
from krylearn.learned.selection.race import Race

__all__ = ["Arm", "AutoSolver", "Race"]
