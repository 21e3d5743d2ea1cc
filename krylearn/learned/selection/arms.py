"""The configurations that compete: a method, a preconditioner, what is reused, where it starts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp

from krylearn import registry
from krylearn.choose import first_choice, krylov_method

# By the rule's method: what suits such matrices, the most promising first.
_SUITED: dict[str, tuple[str, ...]] = {
    "cg": ("cg+ic0", "cg+ssor", "direct", "fast_poisson", "cg+geometric_multigrid", "cg",
           "cg+smoothed_aggregation", "cg+jacobi", "recycled_cg+ic0", "cg+classical_amg",
           "recycled_cg"),
    "minres": ("minres", "direct", "fast_poisson", "gmres+ilu0", "idrs+ilu0",
               "gcrodr+ilu0", "gcrodr"),
    "gmres": ("gmres+ilu0", "bicgstab+ilu0", "direct", "idrs+ilu0", "gcrodr+ilu0",
              "gmres+geometric_multigrid", "bicgstab+jacobi", "idrs+jacobi", "gmres+gauss_seidel",
              "bicgstab", "idrs", "gmres"),
}  # fmt: skip
# These are methods, too, which take what they have made before as their M.
EXACT = ("direct", "fast_poisson")
# What else to try of an arm that leads: options of its method, then of its preconditioner.
_METHOD_OPTIONS = {
    "gmres": ({"restart": 50},), "idrs": ({"s": 8},), "gcrodr": ({"restart": 30, "k": 10},),
}  # fmt: skip
_PRECOND_OPTIONS: dict[str, tuple[dict, ...]] = {
    "ssor": ({"omega": 1.5}, {"omega": 1.8}),
}  # fmt: skip
# And of an arm with such options that leads: its neighbours further out.
_FURTHER: dict[tuple, tuple[dict, ...]] = {
    ("ssor", ("omega", 1.5)): ({"omega": 1.0},), ("ssor", ("omega", 1.8)): ({"omega": 1.9},),
}  # fmt: skip
# What making a preconditioner costs, roughly, in products with A.
_SETUP: dict[str, float] = {
    "jacobi": 3, "gauss_seidel": 20, "sor": 20, "ssor": 60, "chebyshev": 60, "ic0": 30, "ilu0": 30,
    "fast_poisson": 60, "geometric_multigrid": 200, "smoothed_aggregation": 200,
    "classical_amg": 600,
}  # fmt: skip
# By which power of the diagonal dominance costs grow, roughly; CG's by the half.
_GROWTH = {"direct": 0.0, "fast_poisson": 0.0, "geometric_multigrid": -0.1,
           "smoothed_aggregation": -0.15, "classical_amg": -0.1, "ssor": -0.35, "ic0": -0.35,
           "ilu0": -0.35, "": -0.5, "jacobi": -0.5}  # fmt: skip


def slope_guess(arm: Arm) -> float:
    """Return by how much the logarithm of the arm's cost grows with that of the dominance."""
    return _GROWTH.get(arm.precond, -0.3)


@dataclass(frozen=True, eq=False)
class Arm:
    """One configuration.

    Attributes
    ----------
    method, precond : str
        Registered names; no preconditioner where it is empty.
    reuse : {'update', 'new', 'keep'}
        What becomes of the preconditioner when A changes: its values are renewed, all of it is
        made anew, or it stays until solves have become so slow that a new one pays.
    start : {'given', 'previous', 'extrapolated'}
        The caller's starting guess, the last solution, or the last two continued on a line.
    options, precond_options : tuple of (str, value)
    call : callable, optional
        In place of a method: ``call(A, b, x0=, rtol=, atol=, maxiter=)``.
    """

    method: str
    precond: str = ""
    reuse: str = "update"
    start: str = "given"
    options: tuple[tuple[str, Any], ...] = ()
    precond_options: tuple[tuple[str, Any], ...] = ()
    call: Callable | None = None

    def __post_init__(self) -> None:
        key = (self.method, self.precond, self.reuse, self.start, self.options,
               self.precond_options, self.call)  # fmt: skip
        object.__setattr__(self, "_key", key)
        object.__setattr__(self, "_hash", hash(key))

    # Arms are looked up many times a solve.
    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Arm) and self._key == other._key)  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return self._hash  # type: ignore[attr-defined]

    def __reduce__(self):
        return Arm, self._key  # type: ignore[attr-defined]

    def __str__(self) -> str:
        parts = [self.method + _listed(self.options)]
        if self.precond:
            if self.precond != self.method:
                parts[0] += f"+{self.precond}{_listed(self.precond_options)}"
            parts += {"keep": ["M kept"], "new": ["M new"]}.get(self.reuse, [])
        if self.start != "given":
            parts.append(f"x0 {self.start}")
        return ", ".join(parts)

    def variants(self) -> Iterator[Arm]:
        """Yield arms that differ from this one in one thing."""
        if self.call is not None:
            return
        if self.start == "given":
            yield replace(self, start="previous")
        elif self.start == "previous":
            yield replace(self, start="extrapolated")
        if self.method == "direct":
            # Old factors correct a solution as long as A is near; a Krylov space makes more of it.
            yield replace(self, method="gmres", reuse="keep")
        elif self.precond not in EXACT and self.precond:
            for reuse in {"update": ("keep", "new"), "keep": ("update",)}.get(self.reuse, ()):
                yield replace(self, reuse=reuse)
        if not self.options and self.precond not in EXACT:
            for more in _METHOD_OPTIONS.get(self.method, ()):
                yield replace(self, options=tuple(more.items()))
        if not self.precond_options:
            for more in _PRECOND_OPTIONS.get(self.precond, ()):
                yield replace(self, precond_options=tuple(more.items()))
        for more in _FURTHER.get((self.precond, *self.precond_options), ()):
            yield replace(self, precond_options=tuple(more.items()))


def _listed(options: tuple[tuple[str, Any], ...]) -> str:
    return f"({', '.join(f'{name}={value}' for name, value in options)})" if options else ""


def parse_arm(text: str) -> Arm:
    """Return the arm of a text such as 'cg+ic0'.

    Raises
    ------
    ValueError
        If a name is not registered.

    Examples
    --------
    >>> parse_arm("cg+ic0").precond
    'ic0'
    """
    method, _, precond = text.partition("+")
    registry.find("method", method)
    precond = method if method in EXACT else precond
    if precond:
        registry.find("preconditioner", precond)
    return Arm(method, precond)


def suited_arms(A: Any, method: str = "") -> list[Arm]:
    """Return the configurations that may suit A, the most promising first.

    Parameters
    ----------
    A : as `matrix_like` gives it
    method : {'cg', 'minres', 'gmres'}, optional
        Those that suit matrices which suit this method; by the rule of `solve` otherwise.

    Examples
    --------
    >>> import numpy as np
    >>> [str(arm) for arm in suited_arms(np.diag([1.0, 2.0]))][:1]
    ['cg+ic0']
    """
    method = method or krylov_method(A)
    known = {(e.kind, e.name): e for e in registry.entries("method")}
    known |= {(e.kind, e.name): e for e in registry.entries("preconditioner")}
    entries = not hasattr(A, "matvec") or hasattr(A, "tocsr")
    gridded = hasattr(A, "grid")
    arms = []
    for text in _SUITED.get(method, (method,)):
        name, _, precond = text.partition("+")
        precond = name if name in EXACT else precond
        parts = [known.get(("method", name))]
        parts += [known.get(("preconditioner", precond))] if precond else []
        if any(part is None or (part.needs_entries and not entries) for part in parts):
            continue
        if precond in ("geometric_multigrid", "fast_poisson") and not gridded:
            continue
        if precond == "direct" and setup_guess(Arm(name, precond), A) > 1e5:
            continue
        arms.append(Arm(name, precond))
        # A default may be far from the best: the option furthest from it competes, too.
        for more in _PRECOND_OPTIONS.get(precond, ())[-1:]:
            arms.append(Arm(name, precond, precond_options=tuple(more.items())))
    # Where the rule factorises at once, iterations are known to fare badly.
    rule = first_choice(A)
    return sorted(arms, key=lambda arm: str(arm) != rule) if rule == "direct" else arms


def setup_guess(arm: Arm, A: Any) -> float:
    """Return roughly what the arm's preconditioner costs to make, in products with A."""
    # A matrix-free product costs a third of one with entries.
    scale = 3.0 if hasattr(A, "grid") else 1.0
    if arm.precond != "direct":
        return scale * _SETUP.get(arm.precond, 100.0 if arm.precond else 0.0)
    n = A.shape[0]
    # Nested dissection: n^1.5 operations in the plane, n^2 in space, for a product's n.
    per_row = getattr(A, "nnz", 5 * n) / max(n, 1)
    ndim = A.grid.ndim if hasattr(A, "grid") else _dimension(A, n, per_row)
    return scale * (30.0 if ndim == 1 else 10 * n**0.5 if ndim == 2 else 0.5 * n)


def _dimension(A: Any, n: int, per_row: float) -> int:
    """Guess of how many dimensions the grid of a matrix is, by how far its entries lie apart."""
    if per_row < 4 or not sp.issparse(A):
        return 1 if per_row < 4 else 3
    rows = np.repeat(np.arange(n), np.diff(A.indptr))
    width = float(np.abs(rows - A.indices).max(initial=1)) * 5 / per_row
    # n^(1/2) in the plane, n^(2/3) in space.
    return 2 if math.log(max(width, 2.0)) < 0.58 * math.log(max(n, 2)) else 3
