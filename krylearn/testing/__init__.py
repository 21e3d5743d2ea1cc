"""The contract of methods and preconditioners, ours and a third party's.

`check_method` and `check_preconditioner` raise an AssertionError that names every promise that
was broken. The promises are listed in `METHOD_PROMISES` and `PRECONDITIONER_PROMISES`.
"""

from krylearn.testing.examples import example_matrix, example_vector, nasty_systems
from krylearn.testing.honesty import require_honest, true_residual
from krylearn.testing.methods import METHOD_PROMISES, check_method
from krylearn.testing.preconditioners import PRECONDITIONER_PROMISES, check_preconditioner

__all__ = [
    "METHOD_PROMISES",
    "PRECONDITIONER_PROMISES",
    "check_method",
    "check_preconditioner",
    "example_matrix",
    "example_vector",
    "nasty_systems",
    "require_honest",
    "true_residual",
]
