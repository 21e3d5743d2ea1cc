"""Data sets for neural operators: many systems of a family, solved, verified and kept in HDF5.

`generate` writes a file, `dataset` reads it as a torch data set, `Samples` as NumPy arrays.
"""

from __future__ import annotations

from krylearn.data.flows import navier_stokes
from krylearn.data.plan import Plan, recipe_names
from krylearn.data.run import Report, generate
from krylearn.data.samples import Samples, dataset

__all__ = ["Plan", "Report", "Samples", "dataset", "generate", "navier_stokes", "recipe_names"]
