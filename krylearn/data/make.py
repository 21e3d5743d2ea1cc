"""One shard: its problems drawn, solved, verified one by one, and written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp

from krylearn.data.layout import Layout, fields, kept_solution
from krylearn.data.plan import Plan
from krylearn.data.solvers import Solver, factorable, find_solver, residual
from krylearn.data.store import Store
from krylearn.problems import Problem


@dataclass
class Outcome:
    """What became of a shard.

    Attributes
    ----------
    shard, count : int
        Its number, and how many samples it has.
    bad : dict of int to str
        Samples that are not valid, and why.
    retried : dict of int to str
        Samples that took a second solver, and which.
    """

    shard: int
    count: int
    bad: dict[int, str] = field(default_factory=dict)
    retried: dict[int, str] = field(default_factory=dict)


class Maker:
    """Makes shards of a plan, in this process.

    Parameters
    ----------
    plan : Plan
    layout : Layout
    solver : str
        The name of one, not 'auto'.
    solve : callable, optional
        In its place; another device's.
    """

    def __init__(self, plan: Plan, layout: Layout, solver: str,
                 solve: Solver | None = None) -> None:  # fmt: skip
        self.plan, self.layout = plan, layout
        self.solve = find_solver(solver) if solve is None else solve
        self._name = solver
        self._safer: dict[str, Solver] = {}

    def make(self, shard: int, store: Store) -> Outcome:
        """Make a shard and write it.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        members = self.plan.members(shard)
        outcome = Outcome(shard, len(members))
        drawn: list[list[Problem] | None] = []
        for i in members:
            try:
                drawn.append(self.plan.systems(i))
            except (ValueError, ArithmeticError, MemoryError) as error:
                drawn.append(None)
                outcome.bad[i] = f"it could not be drawn: {error}"
        problems = [P for systems in drawn if systems for P in systems if finite(P)]
        solutions = dict(zip(map(id, problems), self._attempt(problems)))
        rows = [
            self.row(i, systems, solutions, outcome) for i, systems in zip(members, drawn)
        ]
        store.write(members[0], {name: np.stack([row[name] for row in rows]) for name in rows[0]})
        return outcome

    def _attempt(self, problems: list[Problem]) -> list[Any]:
        """Solve; whatever a shared solver raises, each sample gets its second chance."""
        try:
            return self.solve(problems, self.plan.rtol) if problems else []
        except (ValueError, TypeError, ArithmeticError, MemoryError, np.linalg.LinAlgError):
            return [None] * len(problems)

    def row(self, i: int, systems: list[Problem] | None, solutions: dict[int, Any],
             outcome: Outcome) -> dict[str, Any]:  # fmt: skip
        """Verify the solution of a sample; return what is written of it."""
        row: dict[str, Any] = {a.name: np.full(a.shape, _blank(a.dtype), a.dtype)
                               for a in self.layout.arrays[:-1]}  # fmt: skip
        row["seed"], row["residual"], row["valid"] = self.plan.seed + i, np.inf, 0
        if systems is None:
            return row
        values = fields(self.plan, systems)
        wrong = self._unlike_the_others(values)
        if not all(id(P) in solutions for P in systems):
            wrong = "the system holds NaN or Inf"
        if wrong:
            outcome.bad[i] = wrong
            return row
        solved = [self._verified(i, P, solutions[id(P)], outcome) for P in systems]
        row["residual"] = max(value for _, value in solved)
        if row["residual"] <= self.plan.rtol:
            row["valid"] = 1
            row["solution"] = kept_solution(self.plan, systems, [x for x, _ in solved])
        for a in self.layout.inputs:
            row[a.name] = values[a.name.removeprefix("inputs/")]
        for a in (*self.layout.inputs, self.layout.solution):
            row[f"statistics/{a.name.removeprefix('inputs/')}"] = moments(row[a.name])
        return row

    def _unlike_the_others(self, values: dict[str, np.ndarray]) -> str:
        """Return what does not fit the layout that the first samples gave."""
        for a in self.layout.inputs:
            shape = values[a.name.removeprefix("inputs/")].shape
            if shape != a.shape:
                return f"{a.name} has the shape {shape}, elsewhere {a.shape}"
        for name, shared in self.layout.constants.items():
            if not np.array_equal(values[name], shared, equal_nan=True):
                return f"{name} differs, which is the same for the first samples"
        return ""

    def _verified(self, i: int, P: Problem, x: Any, outcome: Outcome) -> tuple[Any, float]:
        """Return x and its true residual; from a safer solver if that is not within rtol."""
        x = _centred(P, x)
        best = residual(P, x)
        if best <= self.plan.rtol:
            return x, best
        for name in self._safer_names(P):
            solve = self._safer.setdefault(name, find_solver(name))
            other = _centred(P, solve([P], self.plan.rtol)[0])
            value = residual(P, other)
            if value < best:
                x, best = other, value
            if best <= self.plan.rtol:
                outcome.retried[i] = name
                return x, best
        outcome.bad[i] = f"the true relative residual is {best:.2e}, not {self.plan.rtol:g}"
        return x, best

    def _safer_names(self, P: Problem) -> list[str]:
        names = ["direct", "solve"] if factorable(P) else ["solve"]
        if _nullspace(P) is not None:
            names = ["minres", "direct"]
        return [name for name in names if name != self._name]

    def __reduce__(self):
        return Maker, (self.plan, self.layout, self._name)


def finite(P: Problem) -> bool:
    """Return whether a system holds numbers only."""
    A = P.A
    entries = A.data if sp.issparse(A) else getattr(A, "_stack", None)
    if entries is None:
        entries = A.diagonal()
    return bool(np.all(np.isfinite(P.b)) and np.all(np.isfinite(entries)))


def _nullspace(P: Problem) -> Any:
    """Return what the operator takes to zero; it is looked for only where there may be some."""
    grid = getattr(P.A, "grid", None)
    if grid is None or P.A.mask is None and any("dirichlet" in pair for pair in grid.boundary):
        return None
    return getattr(P.A, "nullspace", None)


def _centred(P: Problem, x: Any) -> Any:
    """Return x without what the operator takes to zero, which no residual tells."""
    Z = _nullspace(P)
    return x if x is None or Z is None else x - Z @ (Z.T @ x)


def _blank(dtype: np.dtype) -> Any:
    return np.nan if dtype.kind in "fc" else 0


def moments(values: np.ndarray) -> tuple[float, float]:
    """Return the mean of the values (of real and imaginary parts alike) and of their squares."""
    if values.dtype.kind == "c":
        values = values.view(values.real.dtype)
    values = values.astype(np.float64, copy=False)
    return float(values.mean()), float(np.mean(values * values))
