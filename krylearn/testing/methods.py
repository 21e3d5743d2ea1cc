"""Promises of methods."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from krylearn.testing import answers, operands
from krylearn.testing.honesty import check_promises
from krylearn.testing.subject import Method

METHOD_PROMISES: dict[str, Callable[[Method], None]] = {
    "converges": answers.converges,
    "never lies": answers.never_lies,
    "shapes": answers.shapes,
    "leaves inputs": operands.leaves_inputs,
    "takes operands": operands.takes_operands,
    "takes grid operators": operands.takes_grid_operators,
    "starts": answers.starts,
    "zero right-hand side": answers.zero_rhs,
    "calls back": answers.calls_back,
    "honours maxiter": answers.honours_maxiter,
    "stops at NaN": operands.stops_at_nan,
    "refuses": operands.refuses,
    "uses M": operands.uses_preconditioner,
    "keeps a record": answers.keeps_record,
    "same for threads": answers.same_for_threads,
}


def check_method(f: Callable[..., Any], *, matrix: str = "general", flexible: bool = False,
                 adjoint: bool = False, needs_entries: bool = False,
                 direct: bool = False, preconditioned: bool | None = None,
                 dtypes: str = "fdFD",
                 options: dict[str, Any] | None = None,
                 only: Iterable[str] | None = None) -> None:  # fmt: skip
    """Check that a method keeps the promises that every method of this library makes.

    Parameters
    ----------
    f : callable
        Called as ``f(A, b, x0=, rtol=, atol=, maxiter=, M=, callback=)``; returns ``(x, info)``.
    matrix : {'spd', 'hermitian', 'general', 'dominant', 'separable'}
        What it needs of A.
    flexible : bool
        M may change from step to step.
    adjoint : bool
        It takes products with the adjoint of A; A need then not be square.
    needs_entries : bool
        A must have explicit entries, or ``tocsr()`` that gives them.
    direct : bool
        It is exact but for rounding, so that an easy system takes one iteration.
    preconditioned : bool, optional
        It takes an M; by default where it has that argument and needs no entries.
    dtypes : str
        The characters of those it is checked in.
    options : dict, optional
        Further arguments for each call.
    only : iterable of str, optional
        Names from `METHOD_PROMISES`; all by default.

    Raises
    ------
    AssertionError
        If a promise is broken; the message names each that is.

    Examples
    --------
    >>> import krylearn as kl
    >>> kl.testing.check_method(kl.cg, matrix="spd", only=["starts", "zero right-hand side"])
    """
    if preconditioned is None:
        preconditioned = not needs_entries and "M" in inspect.signature(f).parameters
    method = Method(f, matrix, flexible, adjoint, needs_entries, preconditioned, dtypes,
                     dict(options or {}), direct)  # fmt: skip
    check_promises(METHOD_PROMISES, method, getattr(f, "__name__", repr(f)), only)
