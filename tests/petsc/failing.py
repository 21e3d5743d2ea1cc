"""Preconditioners that go wrong on the last rank alone."""

from krylearn.petsc.library import petsc
from krylearn.petsc.preconditioner import Preconditioner


def _fail():
    comm = petsc().COMM_WORLD
    if comm.getRank() == comm.getSize() - 1:
        raise ZeroDivisionError("as intended")


class InApply(Preconditioner):
    name = "jacobi"

    def _apply(self, r, out):
        _fail()
        super()._apply(r, out)


class InSetUp(Preconditioner):
    name = "jacobi"

    def _make(self, A, matrix):
        _fail()
        return super()._make(A, matrix)
