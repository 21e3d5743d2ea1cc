"""Deep conjugate directions (DCD): networks that turn residuals into search directions.

Two families: the paper's network (`paper`), which sees the residual alone, and a multigrid-like
cycle of stencils made of the matrix (`stencils`), which is linear. Torch is imported at first use.
"""

from __future__ import annotations

from typing import Any

__all__ = ["DCD", "dcd"]


def __getattr__(name: str) -> Any:
    if name == "DCD":
        from krylearn.learned.dcd.direction import DCD

        return DCD
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
