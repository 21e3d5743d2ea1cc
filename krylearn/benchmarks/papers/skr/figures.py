"""Tables and figures of the experiments, and who wins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

# What the names of parts begin with that are no rows of a family's table.
APART = ("rounds", "scipy")


def by_family(results: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of each family, those that are `APART` left out."""
    found: dict[str, list[dict[str, Any]]] = {}
    for part, rows in results["parts"].items():
        if not part.startswith(APART):
            found.setdefault(rows[0]["family"], []).extend(rows)
    return found


def winners(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return for each family and tolerance the fastest entrant, and the fastest that recycles."""
    found = []
    for rows in by_family(results).values():
        for rtol in sorted({row["rtol"] for row in rows}, reverse=True):
            done = [row for row in rows if row["rtol"] == rtol and _whole(row)]
            if not done:
                continue
            ours = [row for row in done if "recycled" in row["entrant"]]
            others = [row for row in done if "recycled" not in row["entrant"]]
            if not (ours and others):
                continue
            best, rest = (min(group, key=lambda row: row["seconds"]) for group in (ours, others))
            found.append({
                "family": rows[0]["family"], "n": rows[0]["n"], "rtol": rtol,
                "recycled": f"{best['entrant']} + {best['M']}", "recycled_seconds": best["seconds"],
                "other": f"{rest['entrant']} + {rest['M']}", "other_seconds": rest["seconds"],
            })  # fmt: skip
    return found


def _whole(row: dict[str, Any]) -> bool:
    return row.get("systems") is not None and row["converged"] == row["systems"]


def show(results: dict[str, Any], console: Console) -> None:
    """Print a table for each family, the rounds, who wins, and what stands beside scipy."""
    for name, rows in by_family(results).items():
        head = f"{name}, n = {rows[0]['n']}, means of {rows[0].get('systems', 0)} systems"
        table = Table("rtol", "M", "", title=head, title_justify="left")
        for column in ("iterations", "matvecs", "ms a system", "converged"):
            table.add_column(column, justify="right")
        for row in rows:
            if "error" in row:
                table.add_row(f"{row['rtol']:g}", row["M"], row["entrant"], row["error"][:40])
                continue
            cells = [f"{row[key]:.1f}" if row.get(key) else "" for key in ("iterations", "matvecs")]
            failed = "" if _whole(row) else f"{row['converged']} of {row['systems']}"
            table.add_row(f"{row['rtol']:g}", row["M"], row["entrant"], *cells,
                          f"{1e3 * row['seconds']:.1f}", failed)  # fmt: skip
        console.print(table)
    for part, rows in results["parts"].items():
        if part.startswith("rounds"):
            _show_rounds(part, rows, console)
    table = Table("family", "rtol", "fastest that recycles", "ms", "fastest other", "ms", "times",
                  title="Does it pay?", title_justify="left")  # fmt: skip
    for row in winners(results):
        table.add_row(row["family"], f"{row['rtol']:g}", row["recycled"],
                      f"{1e3 * row['recycled_seconds']:.1f}", row["other"],
                      f"{1e3 * row['other_seconds']:.1f}",
                      f"{row['other_seconds'] / row['recycled_seconds']:.2f}")  # fmt: skip
    console.print(table)
    if "scipy" in results["parts"]:
        _show_scipy(results["parts"]["scipy"], console)


def _show_rounds(part: str, rows: list[dict[str, Any]], console: Console) -> None:
    """Print the seconds of all rounds, and how many times sorted recycling is as fast."""
    head = f"{part}: ms a system, and against sorted recycling round by round"
    table = Table("", "M", title=head, title_justify="left")
    for column in ("iterations", "least", "median", "most", "times", "from", "to", "converged"):
        table.add_column(column, justify="right")
    for row in rows:
        ratios = quotients(rows, row)
        table.add_row(
            row["entrant"], row["M"], f"{row['iterations']:.1f}",
            *(f"{1e3 * value:.1f}" for value in np.quantile(row["rounds"], [0, 0.5, 1])),
            *(f"{value:.2f}" for value in np.quantile(ratios, [0.5, 0, 1])),
            "" if _whole(row) else f"{row['converged']} of {row['systems']}",
        )  # fmt: skip
    console.print(table)


def quotients(rows: list[dict[str, Any]], row: dict[str, Any]) -> list[float]:
    """Return the seconds of an entrant over those of sorted recycling with ILU(0), by rounds."""
    ours = next(r for r in rows if (r["entrant"], r["M"]) == ("recycled, sorted", "ilu0"))
    return [theirs / own for theirs, own in zip(row["rounds"], ours["rounds"])]


def _show_scipy(rows: list[dict[str, Any]], console: Console) -> None:
    table = Table("system", "n", "M", "rtol", title="Beside scipy's gcrotmk, ms a solve; times: of "
                  "seconds, and of those outside M", title_justify="left")  # fmt: skip
    for column in ("gcrodr", "gcrotmk", "times", "products", "in M", "times outside M"):
        table.add_column(column, justify="right")
    for ours, theirs in zip(rows[::2], rows[1::2]):
        pair = (ours, theirs)
        outside = [row["seconds"] - row["seconds_in_M"] for row in pair]
        table.add_row(
            ours["family"], f"{ours['n']}", ours["M"], f"{ours['rtol']:g}",
            *(f"{1e3 * row['seconds']:.1f}" for row in pair),
            f"{theirs['seconds'] / ours['seconds']:.2f}",
            " / ".join(f"{row['matvecs']:.0f}" for row in pair),
            " / ".join(f"{1e3 * row['seconds_in_M']:.1f}" for row in pair),
            f"{outside[1] / outside[0]:.2f}" if min(outside) > 0 else "",
        )  # fmt: skip
    console.print(table)


def draw(results: dict[str, Any], folder: Path) -> list[Path]:
    """Draw iterations along the published Darcy sequence, and the fastest of each family."""
    from krylearn.benchmarks.plot import COLOURS, MARKERS, pyplot

    plt = pyplot()
    paths = []
    published = [
        row for row in results["parts"].get("darcy, published: none", ())
        if row["M"] == "none" and "along" in row
    ]  # fmt: skip
    if published:
        figure, axis = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
        for row, colour, marker in zip(published, COLOURS, MARKERS):
            axis.semilogy(row["along"], color=colour, marker=marker, markersize=4,
                          label=row["entrant"])  # fmt: skip
        ticks = [100, 200, 500, 1000, 2000, 5000, 10000]
        axis.set_yticks(ticks, [str(t) for t in ticks])
        axis.minorticks_off()
        axis.set_xlabel("system, in the order of solving")
        axis.set_ylabel("iterations")
        axis.set_title("published Darcy matrices, no preconditioner", fontsize=10)
        axis.legend(fontsize=7)
        paths.append(folder / "skr-iterations.png")
        figure.savefig(paths[-1], dpi=130)
        plt.close(figure)
    found = winners(results)
    if found:
        figure, axis = plt.subplots(figsize=(7.2, 0.55 * len(found) + 1.2), layout="constrained")
        places = np.arange(len(found))
        ratios = [row["other_seconds"] / row["recycled_seconds"] for row in found]
        axis.barh(places, ratios, color=[COLOURS[2] if r > 1 else COLOURS[1] for r in ratios])
        axis.axvline(1.0, color="0.3", linewidth=0.8)
        axis.set_yticks(places, [f"{row['family']}, {row['rtol']:g}" for row in found], fontsize=8)
        axis.set_xscale("log")
        lowest, highest = 0.7 * min(ratios), 1.4 * max(ratios)
        within = [t for t in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10) if lowest <= t <= highest]
        axis.set_xticks(within, [f"{t:g}" for t in within])
        axis.minorticks_off()
        axis.set_xlabel("seconds of the fastest other method over those of the fastest recycling")
        paths.append(folder / "skr-seconds.png")
        figure.savefig(paths[-1], dpi=130)
        plt.close(figure)
    return paths
