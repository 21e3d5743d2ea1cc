"""Ratios that a suite wants, beside those that were measured."""

from __future__ import annotations

from typing import Any

from krylearn.benchmarks.startup import TARGETS


def total(row: dict[str, Any]) -> float:
    """Return set-up plus solve seconds of a finished row."""
    return row["setup_seconds"] + row["solve_seconds"]


def _iteration(row: dict[str, Any]) -> float | None:
    return row["solve_seconds"] / row["iterations"] if row.get("iterations") else None


def _total(row: dict[str, Any]) -> float | None:
    return total(row) if row.get("status") == "converged" else None


# An iteration takes the same time whether the last one converges or not; a total does not count.
MEASURES = {"iteration": _iteration, "total": _total}


def target_rows(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what was wanted beside what was measured.

    Parameters
    ----------
    results : dict
        From `run_suite` or `read_results`. A target of a suite names ``case``, ``method``,
        ``peer``, ``measure`` ('iteration': solve seconds an iteration; 'total': set-up and
        solve) and ``at_least``: the peer's measure over the method's.

    Returns
    -------
    list of dict
        With text, wanted, measured (None where a row is missing), unit and met.
    """
    rows = {(row["case"], row["method"]): row for row in results["rows"]}
    found = []
    for target in results["targets"]:
        measure = MEASURES[target["measure"]]
        peer, ours = (measure(rows.get((target["case"], target[who]), {}))
                      for who in ("peer", "method"))  # fmt: skip
        ratio = peer / ours if peer and ours else None
        found.append({
            "text": target["text"], "wanted": f"≥ {target['at_least']:g}x", "measured": ratio,
            "unit": "x", "met": None if ratio is None else ratio >= target["at_least"],
        })  # fmt: skip
    for name, wanted in TARGETS.items():
        value = (results.get("startup") or {}).get(name)
        if value is not None:
            found.append({"text": name, "wanted": f"≤ {wanted:g} s", "measured": value,
                          "unit": " s", "met": value <= wanted})  # fmt: skip
    return found
