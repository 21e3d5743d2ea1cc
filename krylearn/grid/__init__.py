"""Structured grids and the matrix-free operators on them.

A `Grid` says where the unknowns lie and which condition holds at each side. A `GridOperator`
couples each unknown to its nearest neighbours along the axes: the 3-, 5- and 7-point stencils of
finite differences and finite volumes. `boundary_rhs` is what inhomogeneous boundary conditions
add to the right-hand side.
"""

from krylearn.grid.box import Grid
from krylearn.grid.discretise import boundary_rhs
from krylearn.grid.operator import GridOperator

__all__ = ["Grid", "GridOperator", "boundary_rhs"]
