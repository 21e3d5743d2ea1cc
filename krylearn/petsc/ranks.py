"""Sums over the ranks of a communicator, bit for bit the same on each of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from krylearn.petsc.library import petsc


class Ranks:
    """What `krylearn.kernels.parallel.spread_over` takes: adds up what each rank has.

    The parts are gathered on every rank and added there in the order of the ranks, so that no rank
    can come to another decision than the others.

    Parameters
    ----------
    comm : petsc4py.PETSc.Comm

    Attributes
    ----------
    size, rank : int
    """

    def __init__(self, comm: Any) -> None:
        self.comm, self.size, self.rank = comm, comm.getSize(), comm.getRank()
        self._plans: dict[int, tuple] = {}

    def gather(self, values: np.ndarray) -> np.ndarray:
        """Return an array with one row a rank; `values` is (m,), as long on every rank."""
        if self.size == 1:
            return values[None]
        PETSc, m = petsc(), len(values)
        if m not in self._plans:
            own = PETSc.Vec().createMPI((m, PETSc.DECIDE), comm=self.comm)
            scatter, everything = PETSc.Scatter.toAll(own)
            self._plans[m] = own, scatter, everything
        own, scatter, everything = self._plans[m]
        own.setArray(values)
        scatter.scatter(own, everything)
        return everything.getArray().reshape(self.size, m).copy()

    def close(self) -> None:
        """Give back what PETSc holds for this, on all ranks together."""
        for plan in self._plans.values():
            for thing in plan:
                thing.destroy()
        self._plans.clear()

    def sum(self, value: Any) -> Any:
        """Return the sum over all ranks of a number or an array."""
        if self.size == 1:
            return value
        array = np.asarray(value)
        parts = self.gather(array.reshape(-1).astype(petsc().ScalarType))
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        if array.ndim:
            return total.reshape(array.shape).astype(array.dtype, copy=False)
        return array.dtype.type(total[0])

    def max(self, value: float) -> float:
        """Return the largest of one real number a rank."""
        if self.size == 1:
            return value
        return float(self.gather(np.array([value], petsc().ScalarType)).real.max())

    def any(self, flag: bool) -> bool:
        """Return whether a flag is set on some rank."""
        return self.max(float(flag)) > 0
