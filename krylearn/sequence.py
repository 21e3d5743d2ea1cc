"""Sequences of related systems: their order, starts, preconditioner and recycled space."""

from __future__ import annotations

import inspect
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from krylearn import registry
from krylearn.interface import SolveInfo, not_negative
from krylearn.operators import matrix_like

__all__ = ["solve_sequence"]

# Solutions that a warm start from the nearest system can choose from.
REMEMBERED = 64


class System(NamedTuple):
    """One system of a sequence."""

    A: Any
    b: Any
    params: Any = None


def solve_sequence(systems: Iterable[Any], *, method: str | Callable = "gcrodr",
                   sort: bool | Callable = False, warm_start: bool | str = False,
                   rtol: float = 1e-5, atol: float = 0.0, maxiter: int | None = None,
                   M: Any = None, recycle: Any = None, context: Callable | None = None,
                   **options: Any) -> Iterator[tuple[np.ndarray, SolveInfo]]:  # fmt: skip
    """Solve related systems one after the other, each with what those before it have taught.

    Parameters
    ----------
    systems : iterable of Problem, (A, b) or (A, b, params)
        `params` is what the matrix was made from: a field, numbers, or a dict of those. Without
        `sort` the iterable is read one system at a time, as solutions are asked for.
    method : str or callable
        A registered method; anything with the call of `cg`; or 'auto' for an `AutoSolver`, which
        finds out what is fastest (give one of your own to see what it has learned).
    sort : bool or callable
        Solve in an order in which neighbours have similar parameters, or similar
        ``sort(system)``. All systems are then read at the start, and solutions that are ready
        before their turn are kept until then.
    warm_start : {False, 'previous', 'nearest'}
        Start from the last solution, or from that of the most similar parameters among the last
        64; True means 'previous'.
    rtol, atol, maxiter
        As for `cg`, for each system.
    M : {str, callable, LinearOperator, Preconditioner}, optional
        The name of a preconditioner or a function of A that makes one: made for the first
        system, updated where only the values of A change, kept where they do not. Anything else
        serves all systems as it is.
    recycle : RecycleSpace or False, optional
        For methods that recycle: the space to begin with. A new one by default, one for each
        size; False solves each system on its own.
    context : callable, optional
        ``context(system)`` is what a policy that chooses `omega` is told about a system, be it
        the method's or that of a preconditioner (``M=lambda A: kl.SSOR(A, omega=policy)``).
    **options
        Further arguments of the method, such as ``restart``, ``k`` or ``omega``.

    Yields
    ------
    x : array
    info : SolveInfo
        In the order of `systems`. It carries also ``position``, the place in the order of
        solving; ``preconditioner``, 'made', 'updated' or 'kept'; and ``setup_seconds``, what that
        cost here.

    Raises
    ------
    TypeError, ValueError
        On arguments that make no sense, systems of another form, or a method's refusal.

    References
    ----------
    Wang et al. (2024), Accelerating data generation for neural operators via Krylov subspace
    recycling, ICLR, Algorithm 1.

    Examples
    --------
    >>> import krylearn as kl
    >>> systems = kl.problems.sequence("darcy", 4, shape=(24, 24))
    >>> for x, info in kl.solve_sequence(systems, method="gcrodr", M="ilu0", sort=True):
    ...     assert info.converged
    """
    not_negative(rtol=rtol, atol=atol)
    modes = {False: None, True: "previous", "previous": "previous", "nearest": "nearest"}
    if warm_start not in modes:
        raise ValueError(f"warm_start must be False, 'previous' or 'nearest', not {warm_start!r}")
    settings = {"rtol": rtol, "maxiter": maxiter, **options}
    if atol or method != "lsmr":  # whose own atol is another thing
        settings["atol"] = atol
    if M is not None and (method == "auto" or hasattr(method, "explain")):
        raise TypeError("the automatic choice includes the preconditioner: leave M out")
    solver = _Solver(_function(method), M, modes[warm_start], recycle, context, settings)
    return _sorted(systems, sort, solver) if sort else _streamed(systems, solver)


def _function(method: str | Callable) -> Callable:
    if callable(method):
        return method
    if method == "auto":
        from krylearn.learned.selection import AutoSolver

        return AutoSolver()
    return registry.find("method", method).load()


def _system(item: Any) -> System:
    if hasattr(item, "A") and hasattr(item, "b"):
        return System(item.A, item.b, getattr(item, "params", None))
    if isinstance(item, (tuple, list)) and len(item) in (2, 3):
        return System(*item)
    raise TypeError(f"a system is a Problem, (A, b) or (A, b, params), not {type(item).__name__}")


def _streamed(systems: Iterable[Any], solver: _Solver) -> Iterator[tuple[np.ndarray, SolveInfo]]:
    for position, item in enumerate(systems):
        yield solver(_system(item), position, position, item)


def _sorted(systems: Iterable[Any], sort: bool | Callable, solver: _Solver,
            ) -> Iterator[tuple[np.ndarray, SolveInfo]]:  # fmt: skip
    from krylearn.learned.recycling import order

    items = list(systems)
    listed = [_system(item) for item in items]
    keys = [system.params for system in listed] if sort is True else map(sort, items)  # type: ignore[arg-type]
    ready: dict[int, tuple[np.ndarray, SolveInfo]] = {}
    turn = 0
    for position, index in enumerate(order(keys).tolist()):
        ready[index] = solver(listed[index], position, index, items[index])
        items[index] = None
        listed[index] = None  # type: ignore[call-overload]
        while turn in ready:
            yield ready.pop(turn)
            turn += 1


class _Solver:
    """Solves one system at a time and remembers what may help with the next."""

    def __init__(self, function: Callable, M: Any, warm_start: str | None, recycle: Any,
                 context: Callable | None, settings: dict[str, Any]) -> None:  # fmt: skip
        self.function, self.settings, self.context = function, settings, context
        self.preconditioner = _Preconditioner(M)
        self.warm_start = warm_start
        self.solved: deque = deque(maxlen=REMEMBERED if warm_start == "nearest" else 1)
        self.spaces: dict[int, Any] | None = None
        if recycle is not False and "recycle" in _parameters(function):
            self.spaces = {}
        elif recycle:
            raise TypeError(f"{getattr(function, '__name__', function)} does not recycle")
        self.recycle = recycle

    def __call__(self, system: System, position: int, index: int, item: Any,
                 ) -> tuple[np.ndarray, SolveInfo]:  # fmt: skip
        try:
            A = matrix_like(system.A)
            context = None if self.context is None else self.context(item)
            M, how, seconds = self.preconditioner(A, context)
            more = {} if M is None else {"M": M}
            if self.context is not None and "context" in _parameters(self.function):
                more["context"] = context
            if self.spaces is not None:
                more["recycle"] = self._space(int(A.shape[1]))
            x0 = self._start(system)
            x, info = self.function(A, system.b, x0, **more, **self.settings)
        except Exception as error:
            error.add_note(f"in system {index} of the sequence")
            raise
        if self.warm_start and np.all(np.isfinite(x)):
            self.solved.append((system.params, x))
        info.position = position
        if M is not None:
            info.preconditioner, info.setup_seconds = how, seconds
        return x, info

    def _space(self, n: int) -> Any:
        from krylearn.solvers.krylov.recycle import RecycleSpace

        assert self.spaces is not None
        if self.recycle is not None:
            return self.recycle
        return self.spaces.setdefault(n, RecycleSpace())

    def _start(self, system: System) -> np.ndarray | None:
        shape = np.shape(system.b)
        fitting = [(params, x) for params, x in self.solved if np.size(x) == np.prod(shape)]
        if not fitting:
            return None
        if self.warm_start == "nearest":
            from krylearn.learned.recycling.features import distance

            gaps = [distance(system.params, params) for params, _ in fitting]
            return fitting[int(np.argmin(gaps))][1].reshape(shape)
        return fitting[-1][1].reshape(shape)


def _parameters(function: Callable) -> Any:
    try:
        return inspect.signature(function).parameters
    except ValueError:  # a builtin
        return {}


class _Preconditioner:
    """Makes a preconditioner for a matrix, updates it for the next one, or keeps it."""

    def __init__(self, M: Any) -> None:
        self.make: Callable | None = None
        self.held = M
        if isinstance(M, str):
            entry = registry.find("preconditioner", M)
            self.make = lambda A: entry.load()(A)
        elif callable(M) and not hasattr(M, "matvec"):
            self.make = M
        if self.make is not None:
            self.held = None
        self.values: list[np.ndarray] | None = None

    def __call__(self, A: Any, context: Any = None) -> tuple[Any, str, float]:
        """Return M, what was done, and the seconds it took."""
        if self.make is None:
            return self.held, "kept", 0.0
        started = time.perf_counter()
        values = _values_of(A)
        # A policy chooses anew even where A stays.
        learns = getattr(self.held, "policy", None) is not None
        told = {"context": context} if learns else {}
        if self.held is not None and values is not None and self.values is not None and not learns:
            if len(values) == len(self.values) and all(map(np.array_equal, values, self.values)):
                return self.held, "kept", time.perf_counter() - started
        how = "updated"
        if not self._updated(A, told):
            self.held = None
            self.held, how = self.make(A), "made"
        # Copies: the caller may write into the arrays of A.
        self.values = None if values is None else [np.array(v) for v in values]
        return self.held, how, time.perf_counter() - started

    def _updated(self, A: Any, told: dict[str, Any]) -> bool:
        if self.held is None or not hasattr(self.held, "update"):
            return False
        try:
            self.held.update(A, **told)
        except (ValueError, NotImplementedError):  # another pattern, or what make will refuse too
            return False
        return True


def _values_of(A: Any) -> list[np.ndarray] | None:
    """Return the arrays that an operator consists of; None where that is not known."""
    if sp.issparse(A):
        return [A.indptr, A.indices, A.data]
    if isinstance(A, np.ndarray):
        return [A]
    if hasattr(A, "grid") and hasattr(A, "_stack"):
        mask = [] if A.mask is None else [A.mask]
        return [np.array(A.grid.shape), A._stack, *mask]
    return None
