"""A report as one HTML file: nothing is loaded from outside, and it reads on paper too."""

from __future__ import annotations

import base64
import hashlib
import math
import os
from collections import defaultdict
from collections.abc import Iterable
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from krylearn.benchmarks.html import svg
from krylearn.benchmarks.html.reading import Curves, Reading, Roofline, Table, load, read
from krylearn.benchmarks.plot import performance_ratios
from krylearn.benchmarks.report import seconds, size

# How a cell is written, by the kind of its column; kinds that are not here are text.
_WRITE = {
    "count": lambda v: f"{v:,.0f}",
    "seconds": seconds,
    "bytes": size,
    "residual": lambda v: f"{v:.1e}" if v else "0",
    "figure": lambda v: f"{v:.3g}" if 1e-3 < abs(v) < 1e3 or not v else f"{v:,.0f}"
    if 1e3 <= abs(v) < 1e9 else f"{v:.2e}",
    "times": lambda v: f"{v:.2f}",
    "rate": lambda v: f"{v / 1e9:,.4g} GB/s",
}  # fmt: skip


def write_report(path: str | os.PathLike[str],
                 out: str | os.PathLike[str] | None = None) -> Path:  # fmt: skip
    """Write the report of a file of results.

    Parameters
    ----------
    path : path
        What a bench command wrote.
    out : path, optional
        The HTML file; beside the results and of their name by default.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    krylearn.benchmarks.runner.BadResults
        If `path` is not a result of a bench command.
    """
    reading = read(load(path), str(path))
    target = Path(out or Path(path).with_suffix(".html"))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page(reading, Path(path).name), encoding="utf-8")
    return target


def page(reading: Reading, source: str) -> str:
    """Return the HTML text of a report.

    Parameters
    ----------
    reading : Reading
    source : str
        The name of the file that was read.
    """
    labels = [line.label for curves in reading.curves for line in curves.lines]
    methods = [method for row in reading.times.values() for method in row]
    look = svg.looks([*methods, *labels])
    parts = {
        "Tables": "".join(map(_table, reading.tables)),
        "Convergence": _plots(_curves(curves, look) for curves in reading.curves),
        "Performance profile": _profile(reading, look),
        "Roofline": _rooflines(reading),
        "Time against size": _sizes(reading, look),
        "Machine": _machine(reading.facts),
        "Not in this file": _listed(reading.lacks),
    }
    if reading.kind == "paper":
        parts = {"Along the sequences" if k == "Convergence" else k: v for k, v in parts.items()}
    parts = {heading: text for heading, text in parts.items() if text}
    keys = {heading: heading.lower().replace(" ", "-") for heading in parts}
    links = "".join(f'<li><a href="#{keys[h]}">{h}</a></li>' for h in parts)
    sections = "".join(f'<section id="{keys[h]}"><h2>{h}</h2>{text}</section>'
                       for h, text in parts.items())  # fmt: skip
    style, script = _asset("page.css"), _asset("page.js")
    policy = (f"default-src 'none'; style-src 'sha256-{_digest(style)}'; "
              f"script-src 'sha256-{_digest(script)}'")  # fmt: skip
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(reading.title)}</title><style>{style}</style></head>\n<body>"
        '<a class="skip" href="#main">To the results</a>'
        f"<header><h1>{escape(reading.title)}</h1><p>From <code>{escape(source)}</code>. "
        f"{escape(' '.join(reading.notes))}</p>"
        f'<nav aria-label="Contents"><ul>{links}</ul></nav></header>\n'
        f'<main id="main">{sections}</main>\n<script>{script}</script></body></html>\n'
    )


def _asset(name: str) -> str:
    return (resources.files("krylearn.benchmarks.html") / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _table(table: Table) -> str:
    heads = "".join(f'<th scope="col"{_align(kind)}>{escape(heading)}</th>'
                    for heading, kind in table.columns)  # fmt: skip
    rows = "".join(
        "<tr>" + "".join(_cell(value, kind, k == 0)
                         for k, (value, (_, kind)) in enumerate(zip(row, table.columns))) + "</tr>"
        for row in table.rows
    )  # fmt: skip
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in table.notes if note)
    name = escape(table.title)
    return (f'<div class="scroll" role="region" tabindex="0" aria-label="{name}"><table>'
            f"<caption>{name}</caption><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody>"
            f"</table></div>{notes}<br>")  # fmt: skip


def _align(kind: str) -> str:
    return ' class="n"' if kind in _WRITE else ""


def _cell(value: Any, kind: str, first: bool) -> str:
    tag, scope = ("th", ' scope="row"') if first else ("td", "")
    if kind not in _WRITE:
        return f"<{tag}{scope}>{escape('' if value is None else str(value))}</{tag}>"
    known = value is not None and math.isfinite(value)
    text = _WRITE[kind](value) if known else "–"
    return f'<{tag}{scope} class="n" data-v="{f"{value:.9g}" if known else ""}">{text}</{tag}>'


def _figure(heading: str, picture: str, labels: dict[str, str], look: dict, words: str = "") -> str:
    legend = "".join(f"<li>{svg.swatch(look[label])}<span>{escape(text)}</span></li>"
                     for label, text in labels.items())  # fmt: skip
    return (f"<figure><h3>{escape(heading)}</h3>{picture}"
            + (f'<ul class="legend">{legend}</ul>' if legend else "")
            + (f"<figcaption>{escape(words)}</figcaption>" if words else "") + "</figure>")


def _look(labels: Iterable[str], look: dict) -> dict:
    """Return looks for one figure: the page's, unless two of its lines came to share theirs."""
    own = {label: look.get(label) for label in labels}
    return own if None not in own.values() and len(set(own.values())) == len(own) else (
        svg.looks(own))  # fmt: skip


def _plots(figures: Any) -> str:
    text = "".join(figures)
    return text and f'<div class="plots">{text}</div>'


def _curves(curves: Curves, look: dict) -> str:
    look = _look((line.label for line in curves.lines), look)
    picture = svg.plot(curves.lines, svg.Axis(curves.x, curves.log_x),
                       svg.Axis(curves.y, curves.log_y), look, level=curves.level,
                       words=curves.words, name=f"{curves.title}: {curves.y} against {curves.x}")
    return _figure(curves.title, picture, {line.label: line.label for line in curves.lines}, look)


def _profile(reading: Reading, look: dict) -> str:
    ratios, tried, cases = performance_ratios(reading.times)
    if not ratios or cases < 2:
        return ""
    look = _look(ratios, look)
    limit = max(2.0, 1.2 * max(found[-1] for found in ratios.values()))
    lines = []
    for method, found in ratios.items():
        shares = [k / cases for k in range(len(found) + 1)]
        lines.append(svg.Line(method, [1.0, *found, limit], [*shares, shares[-1]], step=True))
    picture = svg.plot(
        lines, svg.Axis("time over that of the fastest", True, 1.0, limit),
        svg.Axis(f"share of {cases} cases solved", False, 0.0, 1.04), look,
        name="Performance profile: share of cases that each method solves within a factor of the "
        "fastest method's time")  # fmt: skip
    took = {m: f"{m} (in {tried[m]} of {cases})" for m in ratios}
    return _plots([_figure(
        "Dolan and Moré", picture, took, look,
        "Higher is better; at the left edge stands how often a method is the fastest. Cases with "
        "one method are left out; where a method took no part, it counts as not having solved.")])


def _rooflines(reading: Reading) -> str:
    figures = []
    for roof in reading.rooflines:
        rows = sorted(roof.bars, key=lambda bar: -bar.value)
        picture = svg.bars(rows, svg.Axis("% of what memory gives"), roof=100.0,
                           words=f"{roof.rate / 1e9:,.4g} GB/s",
                           name=f"{roof.title}: " + ", ".join(
                               f"{bar.label} {bar.value:.0f} %" for bar in rows))  # fmt: skip
        figures.append(_figure(roof.title, picture, {}, {}, f"The roof is {roof.what}. Bytes are "
                               "the least that a kernel must move."))  # fmt: skip
        if roof.points:
            figures.append(_intensity(roof))
    return _plots(figures)


def _intensity(roof: Roofline) -> str:
    """Return kernels by flops a byte and flops a second, under the roofs of memory and flops."""
    found = [a for points in roof.points.values() for a, _ in points]
    ridge = roof.flops / roof.rate if roof.flops else 1.0
    left, right = min(found) / 2, max(4 * max(found), 4 * ridge)
    top = min(ridge, right) if roof.flops else right
    lines = [svg.Line("memory", [left, top], [left * roof.rate, top * roof.rate], marked=False)]
    if roof.flops:
        lines.append(svg.Line("flops", [ridge, right], [roof.flops] * 2, marked=False))
    for kind, points in roof.points.items():
        x, y = zip(*points)
        lines.append(svg.Line(kind, x, y, joined=False))
    look = svg.looks(line.label for line in lines)
    picture = svg.plot(lines, svg.Axis("flops a byte", True), svg.Axis("flops a second", True),
                       look, name=f"{roof.title}: flops a second against flops a byte")  # fmt: skip
    words = f"The slope is {roof.what.split(',')[0]}"
    words += (f", the level numpy's product of dense matrices, {roof.flops / 1e9:,.4g} GFLOP/s; "
              f"they meet at {ridge:.3g} flops a byte." if roof.flops else
              "; the most flops of the machine are not in the file.")  # fmt: skip
    return _figure(f"{roof.title}: roofline", picture, {line.label: line.label for line in lines},
                   look, words + " What lies left of that is bound by memory.")


def _sizes(reading: Reading, look: dict) -> str:
    families: dict[str, list[svg.Line]] = defaultdict(list)
    for (family, method), points in reading.sizes.items():
        if len({n for n, _ in points}) > 1:
            x, y = zip(*sorted(points))
            families[family].append(svg.Line(method, x, y))
    figures = []
    for family, lines in families.items():
        own = _look((line.label for line in lines), look)
        picture = svg.plot(lines, svg.Axis("unknowns", True), svg.Axis("seconds", True), own,
                           name=f"{family}: seconds against unknowns")  # fmt: skip
        figures.append(_figure(family, picture, {line.label: line.label for line in lines}, own))
    return _plots(figures)


def _machine(facts: dict[str, Any]) -> str:
    units = {"memory_bytes": ("memory", size), "triad_1_thread": ("triad, one thread", _rate),
             "triad_all_threads": ("triad, all threads", _rate),
             "copy_bytes_per_second": ("copy on the device", _rate),
             "matrix_flops": ("dense product, all threads",
                              lambda v: f"{v / 1e9:,.4g} GFLOP/s")}  # fmt: skip
    found: dict[str, Any] = {}
    for key, value in facts.items():
        if isinstance(value, dict):
            found |= {k: v or "not installed" for k, v in value.items()}
        elif value is not None:
            name, write = units.get(key, (key.replace("_", " "), str))
            found[name] = write(value)
    items = "".join(f"<dt>{escape(str(k))}</dt><dd>{escape(str(v))}</dd>" for k, v in found.items())
    return items and f"<dl>{items}</dl>"


def _rate(value: float) -> str:
    return f"{value / 1e9:,.4g} GB/s"


def _listed(items: list[str]) -> str:
    text = "".join(f"<li>{escape(item)}</li>" for item in items)
    return text and f"<ul>{text}</ul>"
