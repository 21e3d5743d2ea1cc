"""Families of linear systems with known properties: each takes a seed and yields a `Problem`.

``P.A`` is an operator or a matrix, ``P.b`` the right-hand side, ``P.params`` the fields that were
drawn, ``P.grid`` where the unknowns lie, ``P.exact`` the solution where it is known. `heat` and
`smoke` evolve: they are iterators of problems. `sequence` makes one of any family.
"""

from krylearn.problems.convection_diffusion import convection_diffusion
from krylearn.problems.darcy import darcy
from krylearn.problems.diffusion import diffusion
from krylearn.problems.elasticity import elasticity
from krylearn.problems.fields import gaussian_random_field
from krylearn.problems.heat import heat
from krylearn.problems.helmholtz import helmholtz
from krylearn.problems.matrix_market import matrix_market
from krylearn.problems.mesh import mesh
from krylearn.problems.poisson import poisson
from krylearn.problems.problem import Problem
from krylearn.problems.sequences import sequence
from krylearn.problems.smoke import smoke
from krylearn.problems.thermal import thermal

__all__ = [
    "Problem",
    "convection_diffusion",
    "darcy",
    "diffusion",
    "elasticity",
    "gaussian_random_field",
    "heat",
    "helmholtz",
    "matrix_market",
    "mesh",
    "poisson",
    "sequence",
    "smoke",
    "thermal",
]
