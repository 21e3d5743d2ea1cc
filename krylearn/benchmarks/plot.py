"""Pictures of results: convergence curves, a performance profile, time against size."""

from __future__ import annotations

import itertools
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from krylearn.benchmarks.report import total

# Okabe and Ito: distinguishable with any colour vision; markers and dashes repeat the message.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "h")
DASHES = ("-", "--", "-.", ":")


def pyplot() -> Any:
    """Return matplotlib.pyplot, drawing to files.

    Raises
    ------
    ImportError
        If matplotlib is absent; the message says how to get it.
    """
    try:
        import matplotlib
    except ImportError:
        raise ImportError(
            "pictures need matplotlib: pip install 'krylearn[plot]'"
        ) from None
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def _looks(methods: list[str]) -> dict[str, dict[str, Any]]:
    """Return a colour, a marker and a dash for each method, the same in every picture."""
    cycle = zip(itertools.cycle(COLOURS), itertools.cycle(MARKERS), itertools.count())
    return {
        method: {"color": colour, "marker": marker, "markersize": 5,
                 "linestyle": DASHES[k // len(COLOURS) % len(DASHES)]}
        for method, (colour, marker, k) in zip(methods, cycle)
    }  # fmt: skip


def save_plots(results: dict[str, Any], folder: str | os.PathLike[str]) -> list[Path]:
    """Draw what the results allow.

    Parameters
    ----------
    results : dict
        From `run_suite` or `read_results`.
    folder : path
        Made if need be; the files are SUITE-convergence.png, SUITE-profile.png, SUITE-size.png.

    Returns
    -------
    list of Path
        The files written.
    """
    plt = pyplot()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    looks = _looks(list(dict.fromkeys(row["method"] for row in results["rows"])))
    paths = []
    for name, draw in (("convergence", _convergence), ("profile", _profile), ("size", _size)):
        figure = draw(plt, results, looks)
        if figure is not None:
            path = folder / f"{results['suite']}-{name}.png"
            figure.savefig(path, dpi=150)
            plt.close(figure)
            paths.append(path)
    return paths


def _convergence(plt: Any, results: dict[str, Any], looks: dict) -> Any:
    curves: dict[str, list[dict]] = {}
    for row in results["rows"]:
        if row.get("curve"):
            curves.setdefault(row["case"], []).append(row)
    if not curves:
        return None
    across = min(3, len(curves))
    down = -(-len(curves) // across)
    figure, axes = plt.subplots(down, across, figsize=(5.4 * across, 4.2 * down), squeeze=False,
                                layout="constrained")  # fmt: skip
    for axis in axes.flat[len(curves):]:
        axis.set_axis_off()
    for axis, (case, rows) in zip(axes.flat, curves.items()):
        for row in rows:
            steps, residuals = row["curve"]["steps"], row["curve"]["residuals"]
            # A CG that takes 300 steps must not hide a multigrid that takes 8.
            axis.loglog(np.add(steps, 1), residuals, label=row["method"], linewidth=1.4,
                        markevery=0.12, **looks[row["method"]])  # fmt: skip
        axis.axhline(rows[0]["rtol"], color="0.6", linewidth=0.8)
        axis.set_title(results["cases"].get(case, {}).get("title", case), fontsize=10)
        axis.set_xlabel("iteration + 1")
        axis.set_ylabel("relative residual")
        axis.legend(fontsize=7)
    return figure


def _profile(plt: Any, results: dict[str, Any], looks: dict) -> Any:
    """Dolan and More (2002): the share of cases solved within a factor of the fastest method."""
    times: dict[str, dict[str, float]] = {}
    for row in results["rows"]:
        if row["status"] == "converged":
            times.setdefault(row["case"], {})[row["method"]] = max(total(row), 1e-9)
    cases = [row for row in times.values() if row]
    if not cases:
        return None
    figure, axis = plt.subplots(figsize=(6.4, 4.6), layout="constrained")
    worst = max(t / min(row.values()) for row in cases for t in row.values())
    limit = max(2.0, 1.2 * worst)
    for method, look in looks.items():
        ratios = sorted(row[method] / min(row.values()) for row in cases if method in row)
        if ratios:
            shares = np.arange(1, len(ratios) + 1) / len(cases)
            axis.step([1.0, *ratios, limit], [0.0, *shares, shares[-1]], where="post",
                      label=method, linewidth=1.4, **look)  # fmt: skip
    axis.set_xscale("log", base=2 if limit < 1e3 else 10)
    axis.set_xlabel("time (set-up and solve) over that of the fastest")
    axis.set_ylabel(f"share of {len(cases)} cases solved")
    axis.set_ylim(-0.02, 1.05)
    axis.legend(fontsize=7)
    return figure


def _size(plt: Any, results: dict[str, Any], looks: dict) -> Any:
    points: dict[str, list[tuple[int, float]]] = {}
    for row in results["rows"]:
        if row["status"] == "converged" and math.isfinite(total(row)):
            points.setdefault(row["method"], []).append((row["unknowns"], total(row)))
    if len({n for line in points.values() for n, _ in line}) < 2:
        return None
    figure, axis = plt.subplots(figsize=(6.4, 4.6), layout="constrained")
    for method, line in points.items():
        sizes, seconds = zip(*sorted(line))
        # Cases of different kinds are not joined: only their sizes compare.
        axis.loglog(sizes, seconds, label=method, **(looks[method] | {"linestyle": "none"}))
    axis.set_xlabel("unknowns")
    axis.set_ylabel("seconds, set-up and solve")
    axis.legend(fontsize=7)
    return figure
