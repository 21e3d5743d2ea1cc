"""Tables and figures of the experiments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

# Systems after which learners are drawn beside what needs to learn nothing.
LEARNED = 500
LEARNERS = ("Tsallis-INF", "Tsallis-INF, 6 bins", "ChebCB", "Young", "Young and bandit")


def _table(title: str, heads: tuple[str, ...], rows: list[tuple]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD,
                  pad_edge=False)  # fmt: skip
    for k, head in enumerate(heads):
        table.add_column(head, justify="right" if k else "left")
    for row in rows:
        table.add_row(*row)
    return table


def _number(value: Any, form: str) -> str:
    return "" if value is None else format(value, form)


def _selected(results: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    return {name.split("/")[1]: part for name, part in results["parts"].items()
            if name.startswith(f"{kind}/")}  # fmt: skip


def show(results: dict[str, Any], console: Console) -> None:
    """Print the tables."""
    heads = ("", "iterations", "/ best fixed", "/ optimal")
    counted = {f"SOR on shifted Laplacians, {law}, mean of {part['trials']} trials": part
               for law, part in _selected(results, "shifted").items()}  # fmt: skip
    counted |= {f"SSOR-CG on heat, nx = {nx}, {part['steps']} systems": part
                for nx, part in _selected(results, "heat").items()}  # fmt: skip
    counted |= {f"SOR, Young's formula told a radius of {part['radius']:.4g}": part
                for part in _selected(results, "joint").values()}  # fmt: skip
    for title, part in counted.items():
        console.print(_table(title, heads, [
            (row["policy"], f"{row['iterations']:,.0f}", _number(row.get("to_best_fixed"), ".3f"),
             _number(row.get("to_optimal"), ".3f"))
            for row in part["rows"]
        ]))  # fmt: skip
    for part in _selected(results, "decisions").values():
        console.print(_table(
            "Microseconds a decision, one after the other, and between solves",
            ("", "warm", "cold", "9 of 10 cold"),
            [(row["policy"], *(f"{row[key]:.1f}" for key in ("warm_us", "cold_us", "cold_us_90")))
             for row in part["rows"]],
        ))  # fmt: skip
    for nx, part in _selected(results, "clock").items():
        console.print(_table(
            f"Heat, nx = {nx}, {part['steps']} systems, {part['threads']} threads, all included",
            ("", "seconds", "iterations", "ms a system"),
            [(row["solver"], f"{row['seconds']:.2f}", f"{row['iterations']:,}",
              f"{1e3 * row['seconds'] / part['steps']:.2f}") for row in part["rows"]],
        ))  # fmt: skip
    sequences = _selected(results, "auto")
    if sequences:
        console.print(_table(
            "AutoSolver, seconds for all systems of a sequence, and for the last quarter",
            ("", "unknowns", "AutoSolver", "best fixed", "ratio", "last quarter", "which", "rule"),
            [(name, str(part["unknowns"]), f"{part['auto']:.3f}",
              f"{part['fixed'][part['best']]:.3f}",
              f"{part['auto'] / part['fixed'][part['best']]:.2f}",
              f"{part['auto_last_quarter'] / part['best_last_quarter']:.2f}", part["best"],
              f"{part['rule']:.3f}") for name, part in sequences.items()],
        ))  # fmt: skip
        from krylearn.benchmarks.papers.relax import totals

        console.print(_table(
            "All sequences together; what left systems unsolved was stopped",
            ("", "seconds", "systems solved"),
            [(name, f"{seconds:.2f}", str(solved)) for name, seconds, solved in totals(results)],
        ))  # fmt: skip


def draw(results: dict[str, Any], folder: Path) -> list[Path]:
    """Draw regret along the sequences, totals against size, and AutoSolver's progress."""
    from krylearn.benchmarks.plot import _looks, pyplot

    plt = pyplot()
    looks = _looks(list(LEARNERS))
    paths = []

    def save(figure, name):
        paths.append(folder / f"relax-{name}.png")
        figure.savefig(paths[-1], dpi=110, bbox_inches="tight")
        plt.close(figure)

    panels = {f"shifted, {law}": part for law, part in _selected(results, "shifted").items()}
    panels |= {f"heat, nx = {nx}": part for nx, part in _selected(results, "heat").items()
               if nx == "100"}  # fmt: skip
    if panels:
        figure, axes = plt.subplots(2, len(panels), figsize=(4.2 * len(panels), 6.4), squeeze=False)
        for column, (title, part) in zip(axes.T, panels.items()):
            for axis, key in zip(column, ("regret_fixed", "regret_optimal")):
                for row in part["rows"]:
                    if row["policy"] in LEARNERS:
                        look = looks[row["policy"]] | {"marker": ""}
                        axis.plot(part["marks"], row[key], label=row["policy"], **look)
                axis.axhline(0, color="0.7", linewidth=0.8)
                axis.set_xlabel("systems")
            column[0].set_title(title)
        axes[0, 0].set_ylabel("iterations lost to\nthe best fixed omega")
        axes[1, 0].set_ylabel("iterations lost to\nthe best omega of each system")
        axes[0, -1].legend(fontsize=7)
        figure.tight_layout()
        save(figure, "regret")
    sizes = {int(nx): part for nx, part in _selected(results, "heat").items()}
    if len(sizes) > 1:
        figure, axis = plt.subplots(figsize=(5.2, 3.6))
        names = ("CG", "omega = 1", "omega = 1.5", "best fixed omega", *LEARNERS)
        for name, look in _looks(list(names)).items():
            each = {
                nx: next(row["iterations"] for row in part["rows"] if row["policy"] == name)
                / part["steps"] for nx, part in sizes.items()
                if name not in LEARNERS[:3] or part["steps"] >= LEARNED or len(sizes) < 3
            }  # fmt: skip
            axis.loglog(list(each), list(each.values()), label=name, **look)
        axis.set_xticks(list(sizes), [str(nx) for nx in sizes])
        axis.minorticks_off()
        axis.set_xlabel("nodes along a side")
        axis.set_ylabel("iterations a system")
        axis.legend(fontsize=6)
        save(figure, "sizes")
    sequences = _selected(results, "auto")
    if sequences:
        rows = -(-len(sequences) // 3)
        figure, axes = plt.subplots(rows, 3, figsize=(10.5, 2.6 * rows), squeeze=False)
        for axis in axes.flat[len(sequences) :]:
            axis.axis("off")
        for axis, (name, part) in zip(axes.flat, sequences.items()):
            for (label, seconds), style in zip(part["cumulated"].items(), ("-", "--")):
                axis.plot(seconds, style, label="AutoSolver" if label == "auto" else label)
            axis.set_title(name, fontsize=9)
            axis.legend(fontsize=6)
        axes[0, 0].set_ylabel("seconds, cumulated")
        figure.tight_layout()
        save(figure, "auto")
    return paths
