"""The page "When does learning pay?", made of recorded results alone."""

from __future__ import annotations

import math
import os
import textwrap
from pathlib import Path

from krylearn.benchmarks.comparisons import (
    Comparison,
    cards,
    classical_only,
    compare,
    iterations_only,
)
from krylearn.benchmarks.html import svg

PAGE, PICTURE = "when-learning-pays.md", "when-learning-pays.svg"
# Runs of the same thing differ by this much on the machine of the recorded runs.
_NOISE = 1.2
_SOCKETS = {
    "direction": "Direction: a trained network as the preconditioner",
    "start": "Start: a predicted field to begin with",
    "subspace": "Subspace: a deflation space carried along the sequence",
    "parameter": "Parameter: omega learned along the sequence",
    "choice": "Choice: which method, learned along the sequence",
}


def write(docs: str | os.PathLike[str]) -> list[Path]:
    """Write the page and its picture into the documentation's folder; return their paths."""
    docs = Path(docs)
    rows = compare(docs)
    texts = {docs / PAGE: page(docs, rows), docs / PICTURE: picture(rows)}
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return list(texts)


def page(docs: Path, rows: list[Comparison]) -> str:
    """Return the page as Markdown."""
    fastest = [row for row in rows if row.beside_fastest]
    parts = [_head(fastest), f"![the ratios of all rows]({PICTURE})"]
    for socket, title in _SOCKETS.items():
        own = [row for row in fastest if row.socket == socket]
        if own:
            parts += [f"## {title}", _table(own), _sources(own)]
    parts += [*_rule(rows), *_iterations(docs), *_trained(rows), *_nothing_learned(docs)]
    return "\n\n".join(parts) + "\n"


def _words(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), 105)


def _head(rows: list[Comparison]) -> str:
    won = [row for row in rows if row.ratio > _NOISE]
    even = [row for row in rows if 1 / _NOISE <= row.ratio <= _NOISE]
    machines = dict.fromkeys((row.device.partition(",")[0], row.machine) for row in rows)
    paragraphs = ["# When does learning pay?", _words("""
        Written by `krylearn bench pays` from the recorded runs, losses included. Each row has a
        learned method beside the fastest classical one that was recorded on the same systems,
        device and tolerance: the time of a system (of the whole sequence inside PETSc), set-up
        included except under "many right-hand sides". The ratio is classical over learned: **above
        1 the learned method is faster**; bold where by more than a fifth, which is what runs differ
        by. Break-even is the number of solves after which what is gained has paid for the training;
        with "?" where the gain is within that fifth, "never" where there is none. What learns along
        a sequence has its exploring within the time, and no training beforehand. "–" is not in the
        file."""), _words(f"""
        Of {len(rows)} rows the learned method is faster by more than a fifth in **{len(won)}**, as
        fast within a fifth in **{len(even)}**, slower in **{len(rows) - len(won) - len(even)}**.
        """)]  # fmt: skip
    if won:
        where = dict.fromkeys(f"{row.family} ({row.socket}, {row.device}"
                              + (f"; {row.caveat})" if row.caveat else ")") for row in won)
        paragraphs.append(_words(f"It is faster for: {'; '.join(where)}."))
    paid = [row.break_even for row in won if row.training]
    if paid:
        often = f"{len(paid)} rows" if len(paid) > 1 else "one row"
        after = " to ".join(f"{n:,.0f}" for n in sorted({min(paid), max(paid)}))
        paragraphs.append(f"A training beforehand is repaid in {often}, after {after} solves.")
    names = "; ".join(f"{device}: {machine}" for device, machine in machines)
    return "\n\n".join([*paragraphs, _words(f"Devices. {names}.")])


def _seconds(value: float) -> str:
    return f"{1e3 * value:.3g} ms" if value < 1 else f"{value:.3g} s"


def _figures(row: Comparison) -> list[str]:
    ratio = f"{row.ratio:.2f}"
    if row.training is None:
        return [f"**{ratio}**" if row.ratio > _NOISE else ratio, "–", "–"]
    doubt = " ?" if 1 < row.ratio <= _NOISE else ""
    even = "never" if row.break_even == math.inf else f"{row.break_even:,.0f}{doubt}"
    return [f"**{ratio}**" if row.ratio > _NOISE else ratio,
            f"{row.training:.0f} s ({row.trained_on})", even]  # fmt: skip


def _table(rows: list[Comparison]) -> str:
    heads = ["device", "family", "setting", "unknowns", "rtol", "classical", "time", "learned",
             "time", "ratio", "training", "break-even"]  # fmt: skip
    cells = [[
        row.device, row.family, row.setting, f"{row.unknowns:,}" if row.unknowns else "–",
        f"{row.rtol:.0e}" if row.rtol else "–",
        row.classical + (f" ({row.caveat})" if row.caveat else ""), _seconds(row.seconds[0]),
        row.learned, _seconds(row.seconds[1]), *_figures(row),
    ] for row in rows]  # fmt: skip
    kept = [k for k in range(len(heads)) if k < 10 or any(row[k] != "–" for row in cells)]
    return _grid([heads[k] for k in kept], [[row[k] for k in kept] for row in cells])


_NUMBERS = {"unknowns", "rtol", "time", "ratio", "training", "break-even", "iterations",
            "parameters"}  # fmt: skip


def _grid(heads: list[str], rows: list[list[str]]) -> str:
    marks = ["---:" if head in _NUMBERS else "---" for head in heads]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, marks, *rows))


def _sources(rows: list[Comparison]) -> str:
    return "From " + ", ".join(f"[{s}]({s})" for s in dict.fromkeys(r.source for r in rows)) + "."


def _rule(rows: list[Comparison]) -> list[str]:
    own = [row for row in rows if not row.beside_fastest]
    return [] if not own else ["## Choice, beside the rule of `kl.solve`", _words("""
        Nobody knows in hindsight beforehand. `kl.solve` is the rule that chooses without learning;
        it was followed at every fourth system. These rows are not counted above."""),
        _table(own), _sources(own)]  # fmt: skip


def _iterations(docs: Path) -> list[str]:
    cells = [[name, f"{n:,}" if n else "–", peer, f"{theirs:,.0f}", learned, f"{ours:,.0f}",
              f"{theirs / ours:.3f}"]
             for name, n, peer, theirs, learned, ours in iterations_only(docs)]  # fmt: skip
    heads = ["family", "unknowns", "classical", "iterations", "learned", "iterations", "ratio"]
    return [] if not cells else [
        "## Learned omegas, in iterations", "Of these no seconds were recorded.",
        _grid(heads, cells), _words("""
        From [recorded/papers-relax.json](recorded/papers-relax.json). Young's formula needs
        an eigenvalue of A and learns nothing; ChebCB and Tsallis-INF do without.""")]  # fmt: skip


def _trained(rows: list[Comparison]) -> list[str]:
    cells = []
    for name, card in cards().items():
        own = [row for row in rows if row.learned.removesuffix(", dropped").endswith(name)]
        repaid = sum(row.ratio > _NOISE for row in own)
        state = f"in {repaid} of {len(own)} rows" if own else "no time is in a file"
        cells.append([f"`{name}`", f"{card['parameters']:,}", f"{card['seconds']:.0f} s",
                      card["device"], state])  # fmt: skip
    return ["## What training cost", _grid(
        ["network", "parameters", "training", "on", "repaid"], cells), _words("""
        From the cards beside the weights. Times of `poisson2d` and `mgno-poisson2d` beside
        geometric multigrid, which is faster than both, stand on [a page](mgno.md) and in no
        file.""")]  # fmt: skip


def _nothing_learned(docs: Path) -> list[str]:
    cells = [[title, f"{n:,}", method, _seconds(seconds), f"[{source[9:]}]({source})"]
             for title, n, method, seconds, source in classical_only(docs)]  # fmt: skip
    return [] if not cells else [
        "## Where nothing learned was measured",
        "The fastest of all recorded methods, set-up and solve, on the CPU.",
        _grid(["family and size", "unknowns", "fastest", "time", "file"], cells)]  # fmt: skip


def picture(rows: list[Comparison]) -> str:
    """Return all ratios as bars: filled to the right where learning wins, hollow where it loses."""
    bars = []
    own = [row for row in rows if row.beside_fastest]
    for row in sorted(own, key=lambda row: -row.ratio):
        where = row.device.removesuffix(", 2 cores").removeprefix("CPU, ").replace(", ", " ")
        several = {"one system a matrix": "one b", "many right-hand sides": "many b"}
        n = f" {row.unknowns:,}" if row.unknowns else ""
        about = [several.get(row.setting, ""), f"{row.rtol:.0e}" if row.rtol else ""]
        bars.append(svg.Bar(
            ", ".join([where, row.family + n, *filter(None, about)])
            + f": {row.learned.removesuffix(', dropped')}", row.ratio, f"{row.ratio:.2f}",
        ))  # fmt: skip
    axis = svg.Axis("times as fast as the fastest classical method", log=True)
    return svg.alone(svg.bars(bars, axis, name="Ratios of seconds, classical over learned"))
