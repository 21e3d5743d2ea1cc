"""krylearn: classical and learned solvers for sparse linear systems behind scipy's calls.

Names are imported when first used, so that ``import krylearn`` is quick.
"""

from __future__ import annotations

import importlib
from typing import Any

from krylearn import registry

__version__ = "0.1.0"

_LAZY = {
    "Reason": "interface",
    "SolveInfo": "interface",
    "Preconditioner": "operators",
    "Grid": "grid",
    "GridOperator": "grid",
    "Policy": "learned.relaxation",
    "AutoSolver": "learned.selection",
    "boundary_rhs": "grid",
    "RecycleSpace": "solvers.krylov.recycle",
    "to_cuda": "cuda.operators",
    "solve": "choose",
    "solve_batch": "solvers.multigrid.batched",
    "algebraic_multigrid": "solvers.multigrid.algebraic_multigrid",
    "from_pyamg": "solvers.multigrid.from_pyamg",
    "dataset": "data",
    "generate": "data",
    "solve_sequence": "sequence",
    "surrogate": "learned.mgno",
    "get_num_threads": "kernels.parallel",
    "set_num_threads": "kernels.parallel",
}
_MODULES = ("problems", "testing", "benchmarks", "data", "petsc", "learned")
_KINDS = ("method", "preconditioner", "policy")
for _entry in (e for kind in _KINDS for e in registry.entries(kind)):
    _module, _attribute = _entry.target.split(":")
    _LAZY[_attribute] = _module

__all__ = sorted([*_LAZY, *_MODULES, "registry"])


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"krylearn.{name}")
    if name in _LAZY:
        value = getattr(importlib.import_module(f"krylearn.{_LAZY[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'krylearn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
