"""Tables of results for people, 80 columns wide; every number is also in the JSON."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from krylearn.benchmarks.targets import target_rows, total

_STYLES = {"converged": "", "not converged": "yellow", "skipped": "dim", "timed out": "red",
           "failed": "red"}  # fmt: skip


def seconds(value: float | None) -> str:
    """Return a time in seconds with three digits."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    if value < 0.001:
        return f"{value:.1e}"
    return f"{value:.4f}" if value < 0.1 else f"{value:.3f}" if value < 10 else f"{value:.1f}"


def size(value: float | None) -> str:
    """Return bytes in MB or GB."""
    if value is None:
        return "–"
    return f"{value / 1e6:.0f} MB" if value < 1e9 else f"{value / 1e9:.2f} GB"


def _new_table(title: str) -> Table:
    return Table(title=escape(title), title_justify="left", title_style="bold", box=SIMPLE_HEAD,
                 padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)  # fmt: skip


def case_table(name: str, results: dict[str, Any]) -> Table:
    """Return the table of one case; rows that did not converge are explained beneath it.

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
    peer = next((row for row in rows if row["method"] == case.get("peer")), None)
    reference = total(peer) if peer and peer["status"] == "converged" else None
    table = _new_table(_title(name, case, rows))
    table.add_column("method", no_wrap=True)
    for heading in ("set-up\ns", "solve\ns", "itera-\ntions", "mat-\nvecs", "true\nresidual",
                    "peak\nmemory"):  # fmt: skip
        table.add_column(heading, justify="right", no_wrap=True)
    if reference:
        table.add_column("times as\nfast", justify="right", no_wrap=True)
    for row in rows:
        cells = [_label(row), *["–"] * 6]
        if "solve_seconds" in row:
            residual = row["residual"]
            cells[1:] = [
                seconds(row["setup_seconds"]), seconds(row["solve_seconds"]),
                _count(row["iterations"]), _count(row["matvecs"]),
                "infinite" if residual is None else f"{residual:.1e}", size(row["peak_bytes"]),
            ]  # fmt: skip
        if reference:
            solved = row["status"] == "converged"
            cells.append(f"{reference / total(row):.2f}" if solved else "–")
        table.add_row(*map(escape, cells), style=_STYLES.get(row["status"], ""))
    notes = [note for row in rows for note in (_note(row), *_figures(row)) if note]
    if reference:
        notes.insert(0, f"times as fast: as {case['peer']}, set-up and solve together")
    table.caption = Text("\n".join(notes), style="dim") if notes else None
    table.caption_justify = "left"
    return table


def _title(name: str, case: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    parts = [case.get("title", name)]
    unknowns = {row["unknowns"] for row in rows if "unknowns" in row}
    nonzeros = {row["nonzeros"] for row in rows if row.get("nonzeros")}
    if len(unknowns) == 1:
        parts.append(f"{unknowns.pop():,} unknowns")
        parts[-1] += f", {nonzeros.pop():,} nonzeros" if len(nonzeros) == 1 else ""
    if rows:
        parts.append(f"rtol {rows[0]['rtol']:g}")
    return " · ".join(parts)


def _label(row: dict[str, Any]) -> str:
    chosen = row.get("chosen")
    return f"{row['method']}: {chosen}" if chosen and chosen != row["method"] else row["method"]


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _note(row: dict[str, Any]) -> str | None:
    """Return in words why a row has no time that counts."""
    if row["status"] == "converged":
        return None
    text = f"{row['method']}: {row['status']}"
    if row["status"] == "not converged" and row.get("claimed"):
        return f"{text}, although it says that it has"
    return f"{text}: {row['reason']}" if row.get("reason") else text


def _figures(row: dict[str, Any]) -> list[str]:
    """Return in words what a row tells beyond its times."""
    found = []
    if row.get("systems"):
        found.append(f"{row['method']}: times of one of {row['systems']:,} systems, of which it "
                     f"solved {row['solved']:,}")  # fmt: skip
    if row.get("work_units") is not None:
        found.append(f"{row['method']}: the solve takes {row['work_units']:.1f} products with A "
                     "(textbook multigrid: under 10, to the discretisation error)")  # fmt: skip
    if row.get("memory_ratio") is not None and row["operator_bytes"] > 1e6:
        found.append(f"{row['method']}: at its peak {row['memory_ratio']:.2f} times the memory of "
                     f"operator ({size(row['operator_bytes'])}) and preconditioner "
                     f"({size(row['held_bytes'])})")  # fmt: skip
    return found


def target_table(results: dict[str, Any]) -> Table | None:
    """Return the table of targets, or None where the suite names none."""
    rows = target_rows(results)
    if not rows:
        return None
    table = _new_table("Targets")
    table.add_column("figure")
    for heading in ("wanted", "measured", ""):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    words = {True: "[green]met[/]", False: "[yellow]not met[/]", None: "[dim]not measured[/]"}
    for row in rows:
        value = row["measured"]
        text = "–" if value is None else f"{value:.2f}{row['unit']}"
        beside = f" ({row['beside']})" if row.get("beside") else ""
        table.add_row(escape(row["text"] + beside), row["wanted"], text, words[row["met"]])
    return table


def machine_line(facts: dict[str, Any]) -> str:
    """Return the machine's facts in a line."""
    parts = [facts["cpu"], f"{facts['threads']} threads on {facts['usable_cores']} cores"]
    if facts.get("memory_bytes"):
        parts.append(size(facts["memory_bytes"]))
    if facts.get("triad_all_threads"):
        parts.append(f"triad {facts['triad_1_thread'] / 1e9:.1f} GB/s on one thread, "
                     f"{facts['triad_all_threads'] / 1e9:.1f} on all")  # fmt: skip
    return " · ".join(parts)


def kernel_table(rows: list[dict[str, Any]], bandwidth: float) -> Table:
    """Return the table of `krylearn.benchmarks.kernels.measure_kernels`."""
    table = _new_table(f"Kernels beside the triad's {bandwidth / 1e9:.1f} GB/s")
    table.add_column("kernel", no_wrap=True)
    for heading in ("bytes to move", "seconds", "GB/s", "% of triad"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row["kernel"], size(row["bytes"]), seconds(row["seconds"]),
                      f"{row['bytes_per_second'] / 1e9:.1f}",
                      f"{100 * row['bytes_per_second'] / bandwidth:.0f}")  # fmt: skip
    table.caption = Text(
        "The triad fetches what it overwrites, which is not counted as a byte to move: kernels "
        "that work in place, such as axpy, may reach 133 %.", style="dim",
    )  # fmt: skip
    table.caption_justify = "left"
    return table
