"""Pictures of results: convergence curves, a performance profile, time against size."""

from __future__ import annotations

import itertools
import math
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from krylearn.benchmarks.targets import total

# Okabe and Ito: distinguishable with any colour vision; markers and dashes repeat the message.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "h")
DASHES = ("-", "--", "-.", ":")
KINDS = {"convergence": "convergence plot", "profile": "performance profile",
         "size": "time against size"}  # fmt: skip


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
        raise ImportError("pictures need matplotlib: pip install 'krylearn[plot]'") from None
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


def save_plots(results: dict[str, Any], folder: str | os.PathLike[str]) -> dict[str, Path]:
    """Draw what the results allow.

    Parameters
    ----------
    results : dict
        From `run_suite` or `read_results`.
    folder : path
        Made if need be; the files are SUITE-convergence.png, SUITE-profile.png, SUITE-size.png.

    Returns
    -------
    dict of str to Path
        The files written, by their kind: 'convergence', 'profile', 'size'.
    """
    plt = pyplot()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    looks = _looks(list(dict.fromkeys(row["method"] for row in results["rows"])))
    paths = {}
    for kind, draw in zip(KINDS, (_convergence, _profile, _size)):
        figure = draw(plt, results, looks)
        if figure is not None:
            paths[kind] = folder / f"{results['suite']}-{kind}.png"
            figure.savefig(paths[kind], dpi=150)
            plt.close(figure)
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
        for k, row in enumerate(rows):
            steps, residuals = row["curve"]["steps"], row["curve"]["residuals"]
            # A CG that takes 300 steps must not hide a multigrid that takes 8, nor a curve
            # another's markers where the two agree.
            count = np.add(steps, 1)
            marks = count[-1] ** ((np.arange(7) + k / len(rows)) / 7)
            axis.loglog(count, residuals, label=row["method"], linewidth=1.2,
                        markevery=np.unique(np.searchsorted(count, marks)).tolist(),
                        **looks[row["method"]])  # fmt: skip
        axis.axhline(rows[0]["rtol"], color="0.6", linewidth=0.8)
        axis.set_title(results["cases"].get(case, {}).get("title", case), fontsize=10)
        axis.set_xlabel("iteration + 1")
        axis.set_ylabel("relative residual")
        axis.legend(fontsize=7)
    return figure


def performance_ratios(times: Mapping[str, Mapping[str, float]]
                       ) -> tuple[dict[str, list[float]], dict[str, int], int]:  # fmt: skip
    """Return what a performance profile is drawn from.

    Dolan and More (2002), Benchmarking optimization software with performance profiles,
    Math. Program. 91. A case with a single method, and a method in a single case, say nothing of
    the rest and are left out, as are cases that nobody has solved.

    Parameters
    ----------
    times : dict of dict
        Seconds by case and method; infinite where a method took part and did not solve.

    Returns
    -------
    ratios : dict
        By method its times over those of the fastest, in order, of the cases that it has solved.
    tried : dict
        By method the cases in which it took part.
    cases : int
        How many there are.
    """
    cases = [row for row in times.values() if len(row) > 1 and min(row.values()) < math.inf]
    tried = Counter(method for row in cases for method in row)
    ratios = {
        method: sorted(row[method] / min(row.values()) for row in cases
                       if row.get(method, math.inf) < math.inf)
        for method in tried if tried[method] > 1
    }  # fmt: skip
    return {method: found for method, found in ratios.items() if found}, tried, len(cases)


def _profile(plt: Any, results: dict[str, Any], looks: dict) -> Any:
    """Draw the share of cases that are solved within a factor of the fastest method."""
    times: dict[str, dict[str, float]] = {}
    for row in results["rows"]:
        if row["status"] != "skipped":
            solved = row["status"] == "converged"
            seconds = max(total(row), 1e-9) if solved else math.inf
            times.setdefault(row["case"], {})[row["method"]] = seconds
    ratios, _, cases = performance_ratios(times)
    if not ratios:
        return None
    figure, axis = plt.subplots(figsize=(6.4, 4.6), layout="constrained")
    limit = max(2.0, 1.2 * max(found[-1] for found in ratios.values()))
    for method, found in ratios.items():
        shares = np.arange(1, len(found) + 1) / cases
        axis.step([1.0, *found, limit], [0.0, *shares, shares[-1]], where="post", linewidth=1.4,
                  label=method, markevery=slice(1, -1), **looks[method])  # fmt: skip
    axis.set_xscale("log", base=2 if limit < 1e3 else 10)
    axis.set_xlabel("time (set-up and solve) over that of the fastest")
    axis.set_ylabel(f"share of {cases} cases solved")
    axis.set_ylim(-0.02, 1.05)
    axis.legend(fontsize=7)
    return figure


def _size(plt: Any, results: dict[str, Any], looks: dict) -> Any:
    """Draw a line a method through the sizes of one family: other cases do not compare."""
    lines: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for row in results["rows"]:
        if row["status"] == "converged" and row.get("family"):
            point = row["unknowns"], max(total(row), 1e-9)
            lines.setdefault((row["family"], row["method"]), []).append(point)
    lines = {key: line for key, line in lines.items() if len({n for n, _ in line}) > 1}
    if not lines:
        return None
    several = len({family for family, _ in lines}) > 1
    figure, axis = plt.subplots(figsize=(6.4, 4.6), layout="constrained")
    for (family, method), line in lines.items():
        label = f"{family}, {method}" if several else method
        axis.loglog(*zip(*sorted(line)), label=label, linewidth=1.4, **looks[method])
    axis.set_xlabel("unknowns")
    axis.set_ylabel("seconds, set-up and solve")
    axis.legend(fontsize=7)
    return figure
