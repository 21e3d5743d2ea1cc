"""What a file of results holds, whichever command wrote it: tables, lines, times, kernels."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from krylearn.benchmarks.html.svg import Bar, Line
from krylearn.benchmarks.runner import BadResults


@dataclass
class Table:
    """A table: columns as (heading, how to write a cell), rows of plain values, notes beneath.

    How to write is 'text', 'count', 'seconds', 'bytes', 'residual', 'figure' (three digits),
    'times' (a ratio) or 'rate' (bytes a second). None is a cell without a value.
    """

    title: str
    columns: list[tuple[str, str]]
    rows: list[list[Any]]
    notes: list[str] = field(default_factory=list)


@dataclass
class Curves:
    """Lines that share a picture."""

    title: str
    lines: list[Line]
    x: str
    y: str
    log_x: bool = False
    log_y: bool = False
    level: float | None = None
    words: str = ""


@dataclass
class Roofline:
    """Bytes a second of kernels beside what the machine's memory gives.

    ``points`` are flops a byte and flops a second by kind of kernel, where flops are known, and
    ``flops`` the machine's most.
    """

    title: str
    bars: list[Bar]
    rate: float
    what: str
    points: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    flops: float | None = None


@dataclass
class Reading:
    """What a report is made of.

    ``times`` holds seconds by case and method, infinite where a method has not solved; ``sizes``
    (unknowns, seconds) by family and method.
    """

    kind: str
    title: str
    facts: dict[str, Any]
    tables: list[Table] = field(default_factory=list)
    curves: list[Curves] = field(default_factory=list)
    rooflines: list[Roofline] = field(default_factory=list)
    times: dict[str, dict[str, float]] = field(default_factory=dict)
    sizes: dict[tuple[str, str], list[tuple[float, float]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    lacks: list[str] = field(default_factory=list)

    def solved(self, case: str, method: str, seconds: float | None) -> None:
        """Count a method in at a case, with its seconds if it has solved that."""
        found = math.inf if seconds is None else max(seconds, 1e-9)
        self.times.setdefault(case, {})[method] = found

    def point(self, family: str, method: str, unknowns: float, seconds: float) -> None:
        """Keep a point of time against size; the first where a size was measured again."""
        line = self.sizes.setdefault((family, method), [])
        if unknowns not in (n for n, _ in line):
            line.append((unknowns, max(seconds, 1e-9)))


def load(path: str | os.PathLike[str]) -> Any:
    """Return the JSON in a file, or raise `BadResults`."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise BadResults(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise BadResults(f"{path} is not a JSON file") from None


def read(data: Any, where: str = "this file") -> Reading:
    """Read what a bench command wrote.

    Parameters
    ----------
    data : dict
        The JSON of `krylearn bench SUITE`, `papers/NAME`, `cuda`, `petsc`, `generation --json`
        or `kernels --json`.
    where : str
        The file's name, for messages.

    Raises
    ------
    BadResults
        If it is something else, or a part of it is missing or malformed.
    """
    from krylearn.benchmarks.html import kinds

    reader = _reader(kinds, data)
    if reader is None:
        raise BadResults(f"{where} is not a result of `krylearn bench`")
    try:
        reading = reader(data)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise BadResults(
            f"{where} looks like a result of `krylearn bench`, but a part of it cannot be read: "
            f"{type(error).__name__}: {error}"
        ) from None
    _say_what_lacks(reading)
    return reading


def _reader(kinds: Any, data: Any) -> Callable[[Any], Reading] | None:
    if not isinstance(data, dict):
        return None
    keys = set(data)
    if {"suite", "machine", "cases", "rows"} <= keys:
        return kinds.read_suite
    if {"paper", "parts"} <= keys:
        return kinds.PAPERS.get(data["paper"], kinds.read_paper)
    if "runs" in keys:
        return kinds.read_cuda_runs
    if {"machine", "rows"} <= keys:
        return kinds.read_petsc if isinstance(data["rows"], dict) else kinds.read_cuda
    if {"machine", "kernels"} <= keys:
        return kinds.read_kernels
    if {"family", "samples", "seconds_a_sample"} <= keys:
        return kinds.read_generation
    return None


def _say_what_lacks(reading: Reading) -> None:
    """Add what a report has elsewhere and this file has no figures for."""
    if not reading.curves:
        reading.lacks.append(
            "Residual histories: none is recorded (a suite keeps them with history = true)."
        )
    if not any(len(times) > 1 for times in reading.times.values()):
        reading.lacks.append("Performance profile: no case in which several methods were timed.")
    if not any(len({n for n, _ in line}) > 1 for line in reading.sizes.values()):
        reading.lacks.append("Time against size: no method was timed at several sizes.")
    if not reading.rooflines:
        reading.lacks.append("Roofline: bytes a second of kernels are not in the file "
                             "(`krylearn bench kernels` measures them).")  # fmt: skip
    elif not any(roof.points for roof in reading.rooflines):
        reading.lacks.append("Flops of kernels: not in the file, so that kernels stand beside the "
                             "roof of memory alone, by bytes a second.")  # fmt: skip
    if not reading.facts:
        reading.lacks.append("Machine: the file does not say where it was measured.")
