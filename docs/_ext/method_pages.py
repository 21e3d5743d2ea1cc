"""A page for every registered name, written when the site is built.

What a page says comes from the registry and the docstring; products an iteration, vectors in
memory and the size of a preconditioner are counted on a small system while the site is built.
"""

from __future__ import annotations

import enum
import inspect
from operator import attrgetter
from pathlib import Path
from typing import Any

import counting
import numpy as np

import krylearn as kl
from krylearn import registry

NEEDS = {
    "spd": "Hermitian positive definite",
    "hermitian": "Hermitian",
    "general": "any square matrix",
    "dominant": "diagonally dominant, or Hermitian positive definite",
    "separable": "constant coefficients on a box, or varying along their own axis",
}
KINDS = {
    "method": ("Methods", "Called as ``x, info = kl.NAME(A, b)``."),
    "preconditioner": ("Preconditioners", "A class, or ``M=\"name\"`` in any call."),
    "policy": ("Policies", "What chooses ``omega=``, and learns from what the choice cost."),
    "problem": ("Problem families", "Called as ``kl.problems.NAME(...)``."),
}
# Public names that no register holds, by what they are for.
OTHERS = {
    "Solving": ("solve", "solve_sequence", "solve_batch", "AutoSolver", "SolveInfo", "Reason",
                "RecycleSpace", "surrogate"),
    "Operators": ("Grid", "GridOperator", "boundary_rhs", "Preconditioner", "Policy",
                  "algebraic_multigrid", "from_pyamg", "to_cuda"),
    "Problems and data": ("problems.sequence", "problems.gaussian_random_field", "generate",
                          "dataset", "data.Samples"),
    "Networks": ("learned.DCD",),
    "Contracts": ("testing.check_method", "testing.check_preconditioner"),
    "Threads": ("get_num_threads", "set_num_threads"),
}  # fmt: skip


def setup(app: Any) -> dict[str, Any]:
    app.connect("builder-inited", lambda app: write_pages(Path(app.srcdir) / "generated"))
    app.connect("autodoc-process-signature", class_signature)
    return {"parallel_read_safe": True}


def class_signature(app: Any, what: str, name: str, thing: Any, *rest: Any) -> Any:
    """Return what a class is called with, where `LinearOperator.__new__` hides it."""
    if what != "class" or not isinstance(thing, type) or issubclass(thing, (int, enum.Enum)):
        return None
    signature = inspect.signature(thing.__init__)
    plain = [
        p.replace(annotation=p.empty,
                  default=_Few(p.default) if isinstance(p.default, np.ndarray) else p.default)
        for p in list(signature.parameters.values())[1:]
    ]  # fmt: skip
    return str(signature.replace(parameters=plain, return_annotation=signature.empty)), None


class _Few:
    """Stands for an array in a signature."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __repr__(self) -> str:
        first, second, *_, last = self.values.tolist()
        return f"({first:g}, {second:g}, ..., {last:g})"


def write_pages(folder: Path) -> None:
    """Write one page a name, an index a kind, and the page of the other public names."""
    for kind, (title, use) in KINDS.items():
        names = []
        for entry in registry.entries(kind):
            names.append(entry.name)
            write(folder / kind / f"{entry.name}.rst", page(entry))
        rows = "".join(f"   * - :doc:`{entry.name}`\n     - {entry.summary}\n"
                       for entry in registry.entries(kind))  # fmt: skip
        table = f".. list-table::\n   :widths: 30 70\n   :width: 100%\n\n{rows}\n"
        tree = ".. toctree::\n   :hidden:\n\n   " + "\n   ".join(names)
        write(folder / kind / "index.rst", f"{heading(title)}{use}\n\n{table}\n{tree}\n")
    parts = [heading("Other names")]
    for title, names in OTHERS.items():
        parts.append(heading(title, "-"))
        parts.extend(documented(attrgetter(name)(kl), f"krylearn.{name}") for name in names)
    write(folder / "names.rst", "\n".join(parts))


def write(path: Path, text: str) -> None:
    """Write a page unless it is there already, so that Sphinx reads changed pages only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def heading(text: str, line: str = "=") -> str:
    return f"{text}\n{line * len(text)}\n\n"


def documented(thing: Any, path: str) -> str:
    """Return the directive that shows a docstring."""
    if not inspect.isclass(thing):
        return f".. autofunction:: {path}\n"
    public = [
        name for name, value in vars(thing).items()
        if not name.startswith("_") and inspect.isfunction(value) and value.__doc__
    ]  # fmt: skip
    members = f"   :members: {', '.join(public)}\n" if public else ""
    return f".. autoclass:: {path}\n{members}"


def page(entry: registry.Entry) -> str:
    """Return the page of a registered name."""
    thing = entry.load()
    facts = [("What it is", entry.summary), *FACTS[entry.kind](entry, thing)]
    rows = "".join(f"   * - {name}\n     - {value}\n" for name, value in facts)
    table = f".. list-table::\n   :stub-columns: 1\n   :widths: 22 78\n   :width: 100%\n\n{rows}\n"
    where = "krylearn.problems" if entry.kind == "problem" else "krylearn"
    return f"{heading(entry.name)}{table}\n{documented(thing, f'{where}.{thing.__name__}')}"


def _method_facts(entry: registry.Entry, thing: Any) -> list[tuple[str, str]]:
    takes = "M" in inspect.signature(thing).parameters and not entry.needs_entries
    changes = "change from step to step, or be nonlinear" if entry.flexible else (
        "not change between steps")  # fmt: skip
    entries = "its entries" if entry.needs_entries else "products only"
    more = ", and products with its adjoint" if entry.adjoint else ""
    return [
        ("Call", f"``x, info = kl.{entry.name}(A, b)``"),
        ("A must be", "square or not, of any kind" if entry.adjoint else NEEDS[entry.matrix]),
        ("Of A it needs", entries + more),
        *([("M may", changes)] if takes else []),
        *counting.of_method(entry),
        ("CUDA", "yes" if entry.cuda else "no"),
    ]  # fmt: skip


def _preconditioner_facts(entry: registry.Entry, thing: Any) -> list[tuple[str, str]]:
    return [
        ("Call", f"``M = kl.{thing.__name__}(A)``, or ``M=\"{entry.name}\"``"),
        ("A must be", NEEDS[entry.matrix]),
        ("Of A it needs", "its entries" if entry.needs_entries else "products only"),
        *counting.of_preconditioner(entry),
    ]  # fmt: skip


def _policy_facts(entry: registry.Entry, thing: Any) -> list[tuple[str, str]]:
    looks = "the context given with each system" if entry.matrix == "context" else "nothing"
    return [("Call", f"``omega=kl.{thing.__name__}(...)``"), ("It looks at", looks)]


def _problem_facts(entry: registry.Entry, thing: Any) -> list[tuple[str, str]]:
    return [("Call", f"``kl.problems.{entry.name}(...)``"), ("A is", NEEDS[entry.matrix])]


FACTS: dict[str, Any] = {
    "method": _method_facts,
    "preconditioner": _preconditioner_facts,
    "policy": _policy_facts,
    "problem": _problem_facts,
}
