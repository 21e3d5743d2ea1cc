"""Tables of results for people; every number is also in the JSON."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from krylearn.benchmarks.startup import TARGETS

_STYLES = {"converged": "green", "not converged": "yellow", "skipped": "dim", "timed out": "red",
           "failed": "red"}  # fmt: skip


def seconds(value: float | None) -> str:
    """Return a time in seconds with three digits."""
    if value is None:
        return "–"
    if value and value < 0.1:
        return f"{value:.2e}" if value < 1e-4 else f"{value:.5f}"
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def size(value: float | None) -> str:
    """Return bytes in MB or GB."""
    if value is None:
        return "–"
    return f"{value / 1e6:.0f} MB" if value < 1e9 else f"{value / 1e9:.2f} GB"


def total(row: dict[str, Any]) -> float:
    """Return set-up plus solve seconds of a finished row."""
    return row["setup_seconds"] + row["solve_seconds"]


def case_table(name: str, results: dict[str, Any]) -> Table:
    """Return the table of one case.

    Parameters
    ----------
    name : str
    results : dict
        What `run_suite` returned or `read_results` read.

    Returns
    -------
    rich.table.Table
    """
    case = results["cases"].get(name, {})
    rows = [row for row in results["rows"] if row["case"] == name]
    sizes = {(row["unknowns"], row["nonzeros"]) for row in rows if "unknowns" in row}
    title = case.get("title", name)
    if len(sizes) == 1:
        title += " · {:,} unknowns, {:,} nonzeros".format(*sizes.pop())
    if rows:
        title += f" · rtol {rows[0]['rtol']:g}"
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("method", no_wrap=True)
    for heading in ("set-up s", "solve s", "iterations", "matvecs", "true residual", "memory"):
        table.add_column(heading, justify="right", no_wrap=True)
    peer = next((row for row in rows if row["method"] == case.get("peer")), None)
    reference = total(peer) if peer and peer["status"] == "converged" else None
    if case.get("peer"):
        table.add_column(f"× {case['peer']}", justify="right", no_wrap=True)
    table.add_column("outcome")
    for row in rows:
        cells = [_label(row)]
        if "solve_seconds" in row:
            residual = row["residual"]
            cells += [
                seconds(row["setup_seconds"]), seconds(row["solve_seconds"]),
                _count(row["iterations"]), _count(row["matvecs"]),
                "not finite" if residual is None else f"{residual:.1e}", size(row["peak_bytes"]),
            ]  # fmt: skip
        else:
            cells += ["–"] * 6
        if case.get("peer"):
            comparable = reference and row["status"] == "converged"
            cells.append(f"{reference / total(row):.2f}" if comparable else "–")
        cells.append(_outcome(row))
        table.add_row(*cells)
    return table


def _label(row: dict[str, Any]) -> str:
    chosen = row.get("chosen")
    return f"{row['method']} → {chosen}" if chosen and chosen != row["method"] else row["method"]


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _outcome(row: dict[str, Any]) -> str:
    text = row["status"]
    if row["status"] == "not converged" and row.get("claimed"):
        text += " (claimed it was)"
    elif row["status"] != "converged" and row.get("reason"):
        text += f": {row['reason']}"
    style = _STYLES.get(row["status"], "")
    return f"[{style}]{text.replace('[', '(').replace(']', ')')}[/]"


def target_rows(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what was wanted beside what was measured.

    A target of a suite names ``case``, ``method``, ``peer`` (and ``peer_case`` where that
    differs), ``measure`` ('iteration': solve seconds an iteration; 'total': set-up and solve)
    and ``at_least``: the peer's measure over the method's.

    Returns
    -------
    list of dict
        With text, wanted, measured (None where a row is missing) and met.
    """
    rows = {(row["case"], row["method"]): row for row in results["rows"]}
    found = []
    for target in results["targets"]:
        values = []
        for case, method in (
            (target.get("peer_case", target["case"]), target["peer"]),
            (target["case"], target["method"]),
        ):
            row = rows.get((case, method), {})
            if "solve_seconds" not in row:
                values.append(None)
            elif target["measure"] == "total":
                values.append(total(row) if row["status"] == "converged" else None)
            else:
                values.append(row["solve_seconds"] / max(1, row["iterations"] or 1))
        known = None not in values
        ratio = values[0] / values[1] if known else None
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


def target_table(results: dict[str, Any]) -> Table | None:
    """Return the table of targets, or None where the suite names none."""
    rows = target_rows(results)
    if not rows:
        return None
    table = Table(title="Targets", title_justify="left", title_style="bold")
    table.add_column("figure")
    for heading in ("wanted", "measured", ""):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    words = {True: "[green]met[/]", False: "[yellow]not met[/]", None: "[dim]not measured[/]"}
    for row in rows:
        value = row["measured"]
        text = "–" if value is None else f"{value:.2f}{row['unit']}"
        table.add_row(row["text"], row["wanted"], text, words[row["met"]])
    return table


def machine_line(facts: dict[str, Any]) -> str:
    """Return the machine's facts in a line."""
    parts = [facts["cpu"], f"{facts['threads']} of {facts['cores']} cores"]
    if facts.get("memory_bytes"):
        parts.append(size(facts["memory_bytes"]))
    if facts.get("triad_all_threads"):
        parts.append(f"triad {facts['triad_1_thread'] / 1e9:.1f} GB/s on one thread, "
                     f"{facts['triad_all_threads'] / 1e9:.1f} on all")  # fmt: skip
    return " · ".join(parts)


def kernel_table(rows: list[dict[str, Any]], bandwidth: float) -> Table:
    """Return the table of `krylearn.benchmarks.kernels.measure_kernels`."""
    table = Table(title=f"Kernels beside the triad's {bandwidth / 1e9:.1f} GB/s",
                  title_justify="left", title_style="bold")  # fmt: skip
    table.add_column("kernel", no_wrap=True)
    for heading in ("bytes to move", "seconds", "GB/s", "% of triad"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row["kernel"], size(row["bytes"]), seconds(row["seconds"]),
                      f"{row['bytes_per_second'] / 1e9:.1f}",
                      f"{100 * row['bytes_per_second'] / bandwidth:.0f}")  # fmt: skip
    return table
