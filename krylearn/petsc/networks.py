"""Networks that propose directions, as PETSc preconditioners."""

from __future__ import annotations

from krylearn.petsc.options import Option
from krylearn.petsc.preconditioner import Preconditioner


class DCD(Preconditioner):
    """The directions of the deep conjugate direction method, for `krylearn.petsc.FCG` or fcg.

    For matrices that couple nearest neighbours on a grid; inside a rank's own block on several
    ranks. Those of a network that is linear suit cg too.
    """

    __module__ = "krylearn.petsc"
    name = "dcd"

    def listed(self):
        told = "A model that krylearn ships, or a .safetensors file with its card"
        return [Option("model", "auto", "str", told)]

    def _make(self, A, matrix):
        from krylearn.learned import dcd

        return dcd.DCD(self.settings.get("model", "auto")).precondition(A)
