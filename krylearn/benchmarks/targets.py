"""Figures that a suite wants, beside those that were measured."""

from __future__ import annotations

from statistics import median
from typing import Any

from krylearn.benchmarks.startup import TARGETS


def total(row: dict[str, Any]) -> float:
    """Return set-up plus solve seconds of a finished row."""
    return row["setup_seconds"] + row["solve_seconds"]


def _iteration(row: dict[str, Any]) -> float | None:
    return row["solve_seconds"] / row["iterations"] if row.get("iterations") else None


def _solved(key: str) -> Any:
    return lambda row: row.get(key) if row.get("status") == "converged" else None


def _total(row: dict[str, Any]) -> float | None:
    return total(row) if row.get("status") == "converged" else None


# An iteration takes the same time whether the last one converges or not; all else does not count.
MEASURES = {
    "iteration": _iteration, "total": _total, "setup": _solved("setup_seconds"),
    "solve": _solved("solve_seconds"), "iterations": _solved("iterations"),
    "memory": _solved("memory_ratio"), "work": _solved("work_units"),
}  # fmt: skip
_UNITS = {"iteration": " s", "total": " s", "setup": " s", "solve": " s", "memory": "x"}


def _several(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value or ())


def pairs(target: dict[str, Any], who: str) -> list[tuple[str, str]]:
    """Return the (case, method) of the rows that a target's 'method' or 'peer' names."""
    names = _several(target["method"] if who == "method" else target.get(who))
    return [(case, name) for case in _several(target["case"]) for name in names]


def _best(rows: dict[tuple[str, str], dict[str, Any]], target: dict[str, Any], case: str,
          who: str) -> tuple[float, str] | None:  # fmt: skip
    """Return the least measure of the methods or peers in a case, and whose it is."""
    measure = MEASURES[target["measure"]]
    found = [
        (value, name) for _, name in pairs(target | {"case": case}, who)
        if (value := measure(rows.get((case, name), {}))) is not None
    ]  # fmt: skip
    return min(found) if found else None


def _measured(rows: dict[tuple[str, str], dict[str, Any]],
              target: dict[str, Any]) -> tuple[float | None, str]:  # fmt: skip
    """Return the figure of a target, None where a row is missing, and what it is beside."""
    figures, beside = [], []
    for case in _several(target["case"]):
        ours = _best(rows, target, case, "method")
        if ours is None:
            return None, ""
        value = ours[0]
        if target.get("peer"):
            peer = _best(rows, target, case, "peer")
            if peer is None or not value:
                return None, ""
            value = peer[0] / value
            beside.append(peer[1])
        figures.append((value, case))
    if target.get("over") == "median":
        return median(value for value, _ in figures), ""
    value, case = (min if "at_least" in target else max)(figures)
    where = [] if isinstance(target["case"], str) else [case]
    if beside:
        where.append(beside[figures.index((value, case))])
    return value, ", ".join(where)


def target_rows(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what was wanted beside what was measured.

    Parameters
    ----------
    results : dict
        From `run_suite` or `read_results`. A target of a suite names ``case``, ``method``,
        ``measure`` (a key of `MEASURES`: 'iteration' is solve seconds an iteration, 'total' set-up
        and solve, 'memory' the peak over operator and hierarchy, 'work' the solve in products
        with A) and ``at_least`` or ``at_most``. With a ``peer`` the figure is the peer's measure
        over the method's, else the measure itself. Of several methods or peers the best counts;
        of several cases the ``over = 'worst'`` or 'median'.

    Returns
    -------
    list of dict
        With text, wanted, measured (None where a row is missing), unit, met, and beside: the
        worst case and the best peer.
    """
    rows = {(row["case"], row["method"]): row for row in results["rows"]}
    found = []
    for target in results["targets"]:
        value, beside = _measured(rows, target)
        least = target.get("at_least")
        bound = target["at_most"] if least is None else least
        unit = "x" if target.get("peer") else _UNITS.get(target["measure"], "")
        met = None if value is None else value >= bound if least is not None else value <= bound
        found.append({
            "text": target["text"], "wanted": f"{'≤' if least is None else '≥'} {bound:g}{unit}",
            "measured": value, "unit": unit, "met": met, "beside": beside,
        })  # fmt: skip
    for name, wanted in TARGETS.items():
        value = (results.get("startup") or {}).get(name)
        if value is not None:
            found.append({"text": name, "wanted": f"≤ {wanted:g} s", "measured": value,
                          "unit": " s", "met": value <= wanted, "beside": ""})  # fmt: skip
    return found
