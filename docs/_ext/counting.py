"""What methods and preconditioners cost, counted on a small system."""

from __future__ import annotations

import tracemalloc
from functools import cache
from typing import Any

import numpy as np

import krylearn as kl
from krylearn import registry
from krylearn.operators import CSROperator

STEPS = 2, 6
Facts = list[tuple[str, str]]


@cache
def _system(side: int) -> tuple[Any, Any, np.ndarray]:
    """Return an operator on a grid, its matrix, and a right-hand side."""
    A = kl.problems.poisson((side, side)).A
    return A, A.tocsr(), np.random.default_rng(0).standard_normal(A.shape[0])


class _Scaling(kl.Preconditioner):
    """The cheapest preconditioner there is, to be counted."""

    def __init__(self, A: Any) -> None:
        super().__init__(A.shape, A.dtype)
        self.linear = self.symmetric = self.positive_definite = True

    def apply(self, r, out):
        return np.multiply(r, 0.25, out=out)


def _call(entry: registry.Entry, side: int, most: int) -> Any:
    A, matrix, b = _system(side)
    operand = A if entry.matrix == "separable" or entry.name == "dcd" else matrix
    options: dict[str, Any] = {"rtol": 1e-12, "maxiter": most}
    if entry.kind == "method" and not entry.needs_entries and not entry.adjoint:
        options["M"] = _Scaling(matrix)
    if entry.name == "dcd":
        options["limit"] = np.inf  # what its network costs, not what `cg` does after it
    return entry.load()(operand, b, **options)[1]


def of_method(entry: registry.Entry) -> Facts:
    """Return the rows about an iteration's cost and the memory of a method."""
    if entry.direct:
        return [("Work", "one solve by factors or transforms, and another with the residual where "
                 "rounding asks for it")]  # fmt: skip
    first, last = (_call(entry, 48, most) for most in STEPS)
    steps = last.iterations - first.iterations
    own = entry.needs_entries and entry.name != "dcd"
    work = [_times((last.matvecs - first.matvecs) / steps, "product", "with A"),
            _times((last.precond_applies - first.precond_applies) / steps,
                   "sweep" if own else "application", "" if own else "of M")]  # fmt: skip
    cost = " and ".join(part for part in work if part)
    return [("An iteration costs", cost), ("Memory", _memory(entry))]


def _times(count: float, what: str, of: str) -> str:
    """Say how many, to a tenth; a cycle's extra product shows as a few hundredths."""
    if count < 0.3:
        return ""
    number = f"{count:.1f}".removesuffix(".0")
    return f"{number} {what}{'' if number == '1' else 's'} {of}".strip()


def _memory(entry: registry.Entry) -> str:
    """Return the largest memory that a solve takes beside A, b and x, in vectors."""
    side = 160
    patience, CSROperator.PATIENCE = CSROperator.PATIENCE, 10**9  # no copy by diagonals
    try:
        _call(entry, side, 1)
        tracemalloc.start()
        _call(entry, side, 1)
        peak = tracemalloc.get_traced_memory()[1] / (8 * side**2) - 1
    finally:
        tracemalloc.stop()
        CSROperator.PATIENCE = patience
    own = ", M included," if entry.needs_entries else ""
    own = ", a copy of the adjoint included," if entry.adjoint else own
    return f"{peak:.0f} vectors{own} beside A, b and x"


def of_preconditioner(entry: registry.Entry) -> Facts:
    """Return the row about what a preconditioner holds."""
    A, matrix, b = _system(160)
    M = entry.load()(A if entry.matrix == "separable" or "geometric" in entry.name else matrix)
    M @ b  # what it needs to work comes with the first use
    shared = _arrays(matrix, set())
    own = sum(size for at, size in _arrays(M, {id(matrix), id(A)}).items() if at not in shared)
    own /= b.nbytes
    return [
        ("Memory", f"{own:.1f} vectors (A itself, as CSR with five entries a row: 8)"),
        ("Linear", _yes(M.linear)),
        ("Symmetric", f"{_yes(M.symmetric)} for a symmetric A"),
    ]


def _yes(flag: Any) -> str:
    return "yes" if flag else "no"


def _arrays(thing: Any, seen: set[int]) -> dict[int, int]:
    """Return the bytes of each array that an object holds, by the address of its data."""
    if id(thing) in seen:
        return {}
    seen.add(id(thing))
    if isinstance(thing, np.ndarray):
        return {thing.__array_interface__["data"][0]: thing.nbytes}
    if isinstance(thing, dict):
        parts = list(thing.values())
    elif isinstance(thing, (list, tuple, set)):
        parts = list(thing)
    else:
        slots = [getattr(thing, name, None) for kind in type(thing).__mro__
                 for name in getattr(kind, "__slots__", ())]  # fmt: skip
        parts = [*getattr(thing, "__dict__", {}).values(), *slots]
        if isinstance(thing, type) or callable(thing) and not parts:
            return {}
    found: dict[int, int] = {}
    for part in parts:
        if not isinstance(part, (str, int, float, bool, type(None))):
            for address, size in _arrays(part, seen).items():
                found[address] = max(size, found.get(address, 0))
    return found
