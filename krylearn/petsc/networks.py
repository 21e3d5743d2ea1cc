"""Networks that propose directions, as PETSc preconditioners."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from krylearn.petsc.dmda import Unsuited
from krylearn.petsc.options import Option
from krylearn.petsc.preconditioner import Preconditioner
from krylearn.petsc.together import grid_of


class DCD(Preconditioner):
    """The directions of the deep conjugate direction method, for `krylearn.petsc.FCG` or fcg.

    For matrices that couple nearest neighbours on a grid. With a DMDA the ranks exchange layers and
    the directions of a `StencilCycle` are those of one rank; without one, and those of other
    networks, are made inside a rank's own block. Those of a network that is linear suit cg too.
    """

    __module__ = "krylearn.petsc"
    name = "dcd"

    def listed(self):
        told = "A model that krylearn ships, or a .safetensors file with its card"
        return [Option("model", "auto", "str", told)]

    def _set_up(self, pc, ranks):
        matrix = pc.getOperators()[1]
        dm = grid_of(pc, matrix)
        with _threads_of_ours():
            if dm is not None:
                try:
                    self._set_up_together(pc, matrix, ranks)
                    return
                except Unsuited:
                    self._close()
            super()._set_up(pc, ranks)

    def _make_together(self, matrix, dm, ranks):
        from krylearn.learned.dcd.stencils import StencilCycle
        from krylearn.petsc.grid_dcd import GridDCD

        network = failure = None
        try:
            network = self._network().chosen(dm.getDim()).model
        except Exception as error:
            failure = error
        if ranks.any(failure is not None):
            raise failure or ValueError("the network has not been found on another rank")
        if not isinstance(network, StencilCycle):
            raise Unsuited("this network looks at the whole grid at once")
        return GridDCD(matrix, dm, ranks, network)

    def _make(self, A, matrix):
        return self._network().precondition(A)

    def _network(self) -> Any:
        from krylearn.learned import dcd

        return dcd.DCD(self.settings.get("model", "auto"))


class MgNO(Preconditioner):
    """A linear multigrid neural operator, inside a rank's own block on several ranks."""

    __module__ = "krylearn.petsc"
    name = "mgno"

    def _set_up(self, pc, ranks):
        with _threads_of_ours():
            super()._set_up(pc, ranks)

    def _apply(self, r, out):
        with _threads_of_ours():
            super()._apply(r, out)


@contextlib.contextmanager
def _threads_of_ours() -> Iterator[None]:
    """Let torch take as many threads as the kernels do: one under MPI."""
    import torch

    from krylearn.kernels.parallel import get_num_threads

    before = torch.get_num_threads()
    torch.set_num_threads(min(before, get_num_threads()))
    try:
        yield
    finally:
        torch.set_num_threads(before)
