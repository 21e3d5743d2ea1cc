"""Hierarchies of pyamg as PETSc preconditioners."""

from __future__ import annotations

from typing import Any

import numpy as np

from krylearn.petsc.options import options_of
from krylearn.petsc.preconditioner import Preconditioner


class FromPyAMG(Preconditioner):
    """A hierarchy that pyamg builds, run by the kernels of this library."""

    __module__ = "krylearn.petsc"
    name = "from_pyamg"

    def listed(self):
        return options_of(pyamg_hierarchy)

    def _make(self, A, matrix):
        from krylearn.solvers.multigrid.from_pyamg import from_pyamg

        options = self.settings
        space = matrix.getNearNullSpace()
        if space.handle and space.getVecs():
            vectors = [v.getArray(readonly=True) for v in space.getVecs()]
            options["B"] = np.stack(vectors, axis=1)
        return from_pyamg(pyamg_hierarchy(A, **options))


def pyamg_hierarchy(A: Any, kind: str = "smoothed_aggregation", max_coarse: int = 100,
                    max_levels: int = 20, **options: Any) -> Any:  # fmt: skip
    """Return a hierarchy that pyamg has made.

    Parameters
    ----------
    A : sparse array
    kind : {'smoothed_aggregation', 'ruge_stuben', 'rootnode', 'pairwise', 'air'}
        Which solver of pyamg.
    max_coarse : int
        Unknowns at most on the coarsest level.
    max_levels : int
        Levels at most.
    """
    import pyamg
    from scipy.sparse import csr_matrix

    make = getattr(pyamg, f"{kind}_solver", None)
    if make is None:
        raise ValueError(f"pyamg has no {kind}_solver")
    # A matrix of SciPy's older kind, of its own memory: pyamg keeps it.
    return make(csr_matrix(A, copy=True), max_coarse=max_coarse, max_levels=max_levels, **options)
