"""PETSc: every registered preconditioner and Krylov method as a PETSc type python.

``-pc_type python -pc_python_type krylearn.petsc.Multigrid``; the classes are made from the
registry when PETSc or a user asks for them.
"""

from __future__ import annotations

import importlib
import sys
from difflib import get_close_matches
from functools import cache
from typing import Any

_LAZY = {
    "Entries": "convert", "from_csr": "convert", "to_csr": "convert", "whole": "convert",
    "Ranks": "ranks", "grid_operator": "convert",
}  # fmt: skip


@cache
def _classes() -> dict[str, Any]:
    from krylearn.petsc import auto, method, preconditioner

    return {**method.classes(), **preconditioner.classes(), "Auto": auto.Auto}


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    try:
        return _found(name)
    except AttributeError as error:
        if _asked_by_petsc():
            sys.stderr.write(f"krylearn: {error}{_nearest(name)}\n")
            sys.stderr.flush()
        raise


def _found(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f"krylearn.petsc.{_LAZY[name]}"), name)
    if name[0].isupper() and name in _classes():
        return _classes()[name]
    raise AttributeError(f"module 'krylearn.petsc' has no attribute {name!r}")


def _nearest(name: str) -> str:
    known = {one.lower(): one for one in _classes()}
    near = get_close_matches(name.lower(), known, 1)
    return f"; is {known[near[0]]} meant?" if near else ""


def _asked_by_petsc() -> bool:
    """Return whether a compiled program asks, which has no Python to show an exception."""
    try:
        sys._getframe(2)
    except ValueError:
        return True
    return False


def __dir__() -> list[str]:
    return sorted([*_LAZY, *_classes(), "ksp", "pc"])


def pc(preconditioner: Any, name: str, **options: Any) -> Any:
    """Let a PETSc preconditioner be one of this library.

    Parameters
    ----------
    preconditioner : petsc4py.PETSc.PC
        Such as ``ksp.getPC()``.
    name : str
        Registered, such as 'multigrid', or the name of a class of this module.
    **options
        Of the preconditioner. Options of PETSc's database come before them.

    Returns
    -------
    context : krylearn.petsc.preconditioner.Preconditioner
        ``context.M`` is the preconditioner once it has been set up.

    Raises
    ------
    ValueError
        If nothing has this name.
    """
    from krylearn import registry
    from krylearn.petsc.preconditioner import class_name

    known = _classes()
    if name not in known:
        name = class_name(registry.find("preconditioner", name))
    context = known[name](**options)
    preconditioner.setType("python")
    preconditioner.setPythonContext(context)
    return context


def ksp(solver: Any, name: str, **options: Any) -> Any:
    """Let a PETSc solver be a Krylov method of this library.

    Parameters
    ----------
    solver : petsc4py.PETSc.KSP
    name : str
        Registered, such as 'gcrodr', or the name of a class of this module.
    **options
        Of the method. Options of PETSc's database come before them.

    Returns
    -------
    context : krylearn.petsc.method.Method
        ``context.info`` is the record of the last solve.

    Raises
    ------
    ValueError
        If nothing has this name, or the method does not run over ranks.
    """
    from krylearn.petsc.method import class_name

    known = _classes()
    if name not in known:
        name = class_name(name)
    if name not in known:
        raise ValueError(f"no method {name!r} runs in PETSc")
    context = known[name](**options)
    solver.setType("python")
    solver.setPythonContext(context)
    return context
