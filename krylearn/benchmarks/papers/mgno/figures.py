"""Tables and pictures of the experiments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from krylearn.benchmarks.plot import COLOURS, MARKERS, pyplot
from krylearn.learned import weights

# The errors of the paper's table 1: in L2, and in what it calls H1.
THEIRS = {"darcy-smooth": (0.176e-2, 0.576e-2), "darcy-rough": (0.339e-2, 1.380e-2),
          "multiscale": (0.715e-2, 1.756e-2)}  # fmt: skip


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
                ("", "parameters", *heads, "training, s", "a prediction, ms", "of 16, ms each"),
                [(row["network"], row["error"]) if "error" in row else
                 (row["network"], f"{row['parameters']:,}", *_errors(row),
                  f"{row['seconds']:.0f}", f"{1e3 * row['prediction_seconds']:.2f}",
                  f"{1e3 * row['prediction_seconds_of_16']:.2f}")
                 for row in found["rows"]],
            ))  # fmt: skip
        elif kind == "seeds":
            console.print(_table(
                f"{found['model']}, {found['epochs']} epochs", ("seed", *heads),
                [(str(row["seed"]), *_errors(row)) for row in found["rows"]],
            ))  # fmt: skip


def draw(results: dict[str, Any], folder: Path) -> list[Path]:
    """Draw a sample with prediction and error for each surrogate, the rivals, and the seeds."""
    plt = pyplot()
    paths = []
    for part, found in results["parts"].items():
        kind, _, name = part.partition("/")
        if kind == "errors" and "picture" in found:
            paths.append(folder / f"mgno-{name}.png")
            _fields(plt, found["picture"], paths[-1])
        elif kind in ("rivals", "seeds"):
            paths.append(folder / f"mgno-{kind}.png")
            (_rivals if kind == "rivals" else _seeds)(plt, found, paths[-1])
    if any(part.startswith("errors/") for part in results["parts"]):
        paths.append(folder / "mgno-curves.png")
        _curves(plt, paths[-1])
    return paths


def _curves(plt: Any, path: Path) -> None:
    """Draw how the shipped models learned, from their cards; dotted: the errors of the paper."""
    figure, axes = plt.subplots(1, len(THEIRS), figsize=(13, 3.5), layout="constrained",
                                sharey=True)  # fmt: skip
    for place, (name, bounds) in zip(axes, THEIRS.items()):
        curve = json.loads((weights.FOLDER / f"{name}.json").read_text(encoding="utf-8"))["curve"]
        epochs = [point["epoch"] for point in curve]
        for key, label, bound, colour in zip(("l2", "frequency"), ("L2", "frequencies"), bounds,
                                             COLOURS):  # fmt: skip
            place.semilogy(epochs, [point[key] for point in curve], color=colour, label=label)
            place.axhline(bound, color=colour, linestyle=":")
        place.set(title=name, xlabel="epoch")
    axes[0].set(ylabel="relative error, validation")
    axes[0].legend()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _rivals(plt: Any, found: dict[str, Any], path: Path) -> None:
    """Draw errors against the size of the networks, and what training and predicting take."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained", sharey=True)
    trained = [row for row in found["rows"] if "error" not in row]
    names = list(dict.fromkeys(row["network"] for row in trained))
    for name, colour, mark in zip(names, COLOURS, MARKERS):
        rows = sorted((row for row in trained if row["network"] == name),
                      key=lambda row: row["parameters"])  # fmt: skip
        errors = [row["l2"] for row in rows]
        axes[0].semilogy([row["parameters"] / 1e3 for row in rows], errors, mark, color=colour,
                         label=name)  # fmt: skip
        axes[2].semilogy([1e3 * row["prediction_seconds_of_16"] for row in rows], errors, mark,
                         color=colour)  # fmt: skip
        for row in rows:
            pace = row["seconds"] / found["epochs"]
            axes[1].semilogy([pace * point["epoch"] for point in row["curve"]],
                             [point["l2"] for point in row["curve"]], color=colour, alpha=0.5)
            axes[1].semilogy(row["seconds"], row["l2"], mark, color=colour)
    axes[0].set(xlabel="parameters, thousands", ylabel="relative L2 error")
    axes[1].set(xlabel="training, s")
    axes[2].set(xlabel="a prediction, 16 at a time, ms")
    axes[0].legend()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _seeds(plt: Any, found: dict[str, Any], path: Path) -> None:
    """Draw the errors in validation along the epochs, a line for each seed."""
    figure, place = plt.subplots(figsize=(6, 3.5), layout="constrained")
    for norm, name, colour in (("l2", "L2", COLOURS[0]), ("frequency", "frequencies", COLOURS[1])):
        for row in found["rows"]:
            place.semilogy([point["epoch"] for point in row["curve"]],
                           [point[norm] for point in row["curve"]], color=colour,
                           label=name if row is found["rows"][0] else None)  # fmt: skip
    place.set(xlabel="epoch", ylabel="relative error, validation")
    place.legend()
    figure.savefig(path, dpi=100)
    plt.close(figure)


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
