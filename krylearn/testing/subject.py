"""A method under test."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp

from krylearn.testing.examples import example_matrix, example_vector, tolerance
from krylearn.testing.honesty import naming, require, require_honest


@dataclass(frozen=True)
class Method:
    """A method under test and what it claims of itself."""

    f: Callable[..., Any]
    matrix: str
    flexible: bool
    adjoint: bool
    needs_entries: bool
    preconditioned: bool
    dtypes: str
    options: dict[str, Any] = field(default_factory=dict)
    direct: bool = False

    def takes(self, parameter: str) -> bool:
        return parameter in inspect.signature(self.f).parameters

    def __call__(self, A: Any, b: Any, x0: Any = None, **more: Any) -> tuple[np.ndarray, Any]:
        if "callback" in more and self.takes("callback_type"):
            more.setdefault("callback_type", "x")
        return self.f(A, b, x0=x0, **{**self.options, **more})

    def solves(self, what: str, A: Any, b: np.ndarray, x0: Any = None, *, rtol: float,
               matrix: Any = None, **more: Any) -> tuple[np.ndarray, Any]:  # fmt: skip
        """Return x and info; require convergence and a true info. `matrix`: what A stands for."""
        x, info = self(A, b, x0, rtol=rtol, **more)
        require(info == 0, f"{what}: {info.reason} (residual {info.residual:.1e})")
        with naming(what):
            require_honest(A if matrix is None else matrix, b, x, info, rtol, more.get("atol", 0.0))
        return x, info

    def system(self, dtype: Any = "d", kind: str | None = None
               ) -> tuple[sp.csr_array, np.ndarray, float]:  # fmt: skip
        A = example_matrix(kind or self.matrix, dtype)
        return A, example_vector(A.shape[0], dtype), tolerance(dtype)

    def endless(self, rtol: float) -> float:
        """Return an rtol that no single step reaches: zero where one step is exact."""
        return 0.0 if self.direct else rtol

    def restart(self, steps: int) -> dict[str, int]:
        """Return the argument that makes cycles that short, where there are cycles."""
        return dict(restart=steps) if self.takes("restart") else {}
