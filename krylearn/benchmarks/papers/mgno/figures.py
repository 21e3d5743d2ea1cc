"""Tables and pictures of the experiments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from krylearn.benchmarks.plot import COLOURS, pyplot


def _table(title: str, heads: tuple[str, ...], rows: list[tuple]) -> Table:
    table = Table(title=title, title_justify="left")
    for k, head in enumerate(heads):
        table.add_column(head, justify="right" if k else "left")
    for row in rows:
        table.add_row(*row)
    return table


def _errors(row: dict[str, Any]) -> tuple[str, str, str]:
    l2, h1, frequency = (f"{100 * row[key]:.3f}" for key in ("l2", "h1", "frequency"))
    return l2, h1, frequency


def show(results: dict[str, Any], console: Console) -> None:
    """Print the tables."""
    heads = ("L2, %", "H1, %", "by frequencies, %")
    for part, found in results["parts"].items():
        kind, _, name = part.partition("/")
        if kind == "errors":
            console.print(_table(f"{name}, {found['samples']} held-out samples", ("", *heads), [
                ("prediction", *_errors(found)), ("solved on its grid",
                                                  *_errors(found["coarse_grid"])),
            ]))  # fmt: skip
            console.print(_table(f"{name}, by frequencies", ("", "solution", "error", "relative"), [
                (f"{row['from']} to {row['to']}", f"{row['solution']:.2e}", f"{row['error']:.2e}",
                 f"{row['relative']:.2e}") for row in found["bands"]
            ]))  # fmt: skip
        elif kind == "transfer":
            console.print(_table(f"{name} elsewhere", ("", *heads), [
                (row["what"] + (" (trained)" if row["trained"] else ""), *_errors(row))
                for row in found
            ]))  # fmt: skip
        elif kind == "speed":
            console.print(_table(f"{name}, how fast", ("", "a second", "L2 error"), [
                (row["what"], f"{row['a_second']:.1f}", f"{row['l2']:.1e}") for row in found
            ]))  # fmt: skip
        elif kind == "start":
            console.print(_table(
                f"{name} as x0, to 1e-8", ("", "x0", "|r0| / |b|", "iterations", "ms"),
                [(row["solver"], row["start"], f"{row['residual']:.2g}",
                  f"{row['iterations']:.1f}" + ("" if row["converged"] == row["samples"] else
                  f" ({row['converged']} of {row['samples']} converged)"),
                  f"{1e3 * row['seconds']:.1f}") for row in found],
            ))  # fmt: skip
        elif kind == "cycle":
            console.print(_table(
                "CG to 1e-8 with M =", ("", "", "M", "iterations", "set-up, ms", "solve, ms",
                                        "apply, ms"),
                [(row["family"], str(row["side"]), row["M"], str(row["iterations"]),
                  f"{1e3 * row['setup_seconds']:.2f}", f"{1e3 * row['solve_seconds']:.2f}",
                  f"{1e3 * row['apply_seconds']:.3f}" if "apply_seconds" in row else "")
                 for row in found],
            ))  # fmt: skip
        elif kind == "rivals":
            console.print(_table(
                f"{found['train']} samples of {found['side']} x {found['side']}, "
                f"{found['epochs']} epochs",
                ("", "parameters", *heads, "training, s", "prediction, ms"),
                [(row["network"], row["error"]) if "error" in row else
                 (row["network"], f"{row['parameters']:,}", *_errors(row),
                  f"{row['seconds']:.0f}", f"{1e3 * row['prediction_seconds']:.2f}")
                 for row in found["rows"]],
            ))  # fmt: skip


def draw(results: dict[str, Any], folder: Path) -> list[Path]:
    """Draw a sample with prediction and error for each surrogate, and the rivals' curves."""
    plt = pyplot()
    paths = []
    for part, found in results["parts"].items():
        kind, _, name = part.partition("/")
        if kind == "errors" and "picture" in found:
            paths.append(folder / f"mgno-{name}.png")
            _fields(plt, found["picture"], paths[-1])
        elif kind == "rivals":
            paths.append(folder / "mgno-rivals.png")
            figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
            for colour, row in zip(COLOURS, (row for row in found["rows"] if "curve" in row)):
                epochs = [point["epoch"] for point in row["curve"]]
                axes.semilogy(epochs, [point["l2"] for point in row["curve"]], color=colour,
                              marker="o", label=f"{row['network']}, {row['parameters']:,}")
            axes.set(xlabel="epoch", ylabel="relative L2 error, validation")
            axes.legend()
            figure.savefig(paths[-1], dpi=120)
            plt.close(figure)
    return paths


def _fields(plt: Any, picture: dict[str, Any], path: Path) -> None:
    fields = {name: np.array(values) for name, values in picture.items()}
    fields["error"] = fields["prediction"] - fields["solution"]
    figure, axes = plt.subplots(1, 4, figsize=(13, 3), layout="constrained")
    for place, (name, values) in zip(axes, fields.items()):
        signed = name == "error"
        bound = np.abs(values).max()
        image = place.imshow(values, cmap="RdBu_r" if signed else "viridis",
                             vmin=-bound if signed else None, vmax=bound if signed else None)
        place.set_title(name)
        place.set_axis_off()
        figure.colorbar(image, ax=place, shrink=0.8)
    figure.savefig(path, dpi=100)
    plt.close(figure)
