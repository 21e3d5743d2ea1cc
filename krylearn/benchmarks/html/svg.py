"""Plots as SVG text: no library, a few kilobytes each, sharp on paper.

Colour never tells alone which line is which: marker and dash say it too, in plot and legend.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from krylearn.benchmarks.plot import COLOURS

# Each around the origin, some eight units wide.
MARKERS = (
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z", "M-3.5-3.5h7v7h-7z", "M0-4.5L4.3 3.5H-4.3z",
    "M0-5L5 0L0 5L-5 0z", "M0 4.5L4.3-3.5H-4.3z",
    "M-1.5-4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z", "M-4-2.4L-2.4-4L0-1.6L2.4-4L4-2.4L1.6 0L4 2.4L2.4 4"
    "L0 1.6L-2.4 4L-4 2.4L-1.6 0z",
)  # fmt: skip
DASHES = ("", "7 3", "7 3 2 3", "2 3", "12 3 2 3 2 3")
WIDTH, HEIGHT = 480, 330
LEFT, RIGHT, TOP, BOTTOM = 74, 12, 12, 48
_BAR = 22
_MARKS = 6


@dataclass
class Line:
    """A line of a plot: what it is called, and its points in the order of x.

    Without ``joined`` there are its points alone, without ``marked`` the line alone.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    step: bool = False
    joined: bool = True
    marked: bool = True


@dataclass
class Bar:
    """A bar: what it is called, its length, and the words at its end."""

    label: str
    value: float
    text: str


@dataclass
class Axis:
    """One axis of a plot."""

    label: str
    log: bool = False
    lo: float | None = None
    hi: float | None = None

    def fit(self, values: Iterable[float]) -> Axis:
        """Return the axis with the bounds that these values need."""
        kept = [v for v in values if math.isfinite(v) and (v > 0 or not self.log)]
        lo = self.lo if self.lo is not None else min(kept, default=1.0)
        hi = self.hi if self.hi is not None else max(kept, default=10.0)
        if hi <= lo:
            lo, hi = (lo / 2, lo * 2) if self.log else (lo - 0.5, lo + 0.5)
        margin = 0.03 * (math.log10(hi / lo) if self.log else hi - lo)
        if self.lo is None:
            lo = lo / 10**margin if self.log else lo - margin if lo < 0 else max(0.0, lo - margin)
        if self.hi is None:
            hi = hi * 10**margin if self.log else hi + margin
        return Axis(self.label, self.log, lo, hi)

    def share(self, value: float) -> float:
        """Return where a value lies, 0 at the lower bound and 1 at the upper."""
        assert self.lo is not None and self.hi is not None
        if self.log:
            return math.log(max(value, self.lo) / self.lo) / math.log(self.hi / self.lo)
        return (value - self.lo) / (self.hi - self.lo)

    def ticks(self) -> list[float]:
        """Return some round values within the bounds."""
        assert self.lo is not None and self.hi is not None
        return _log_ticks(self.lo, self.hi) if self.log else _linear_ticks(self.lo, self.hi)


def _linear_ticks(lo: float, hi: float) -> list[float]:
    rough = (hi - lo) / 7
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(k * unit for k in (1, 2, 5, 10) if k * unit >= rough)
    return [k * step for k in range(math.ceil(lo / step), math.floor(hi / step + 1e-9) + 1)]


def _log_ticks(lo: float, hi: float) -> list[float]:
    first, last = math.floor(math.log10(lo)), math.ceil(math.log10(hi))
    every = max(1, -(-(last - first) // 7))
    if last - first > 3:
        found = [10.0**k for k in range(first, last + 1, every)]
    else:
        found = [m * 10.0**k for k in range(first, last + 1) for m in (1, 2, 5)]
    return [v for v in found if lo * (1 - 1e-9) <= v <= hi * (1 + 1e-9)]


def looks(labels: Iterable[str]) -> dict[str, tuple[str, str, str]]:
    """Return colour, marker and dash of each label; the same labels look the same everywhere."""
    # Seven markers and five dashes: 35 lines differ even without colour.
    return {
        label: (COLOURS[k % len(COLOURS)], MARKERS[k % len(MARKERS)], DASHES[k % len(DASHES)])
        for k, label in enumerate(dict.fromkeys(labels))
    }


def number(value: float) -> str:
    """Return a tick's number, short: beyond 99,999 and below 0.001 with a power of ten."""
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)) + 1e-9)
    if -3 <= exponent <= 4:
        return f"{value:,.10g}"
    digit = round(value / 10.0**exponent, 6)
    raised = str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{raised}" if digit == 1 else f"{digit:g}·10{raised}"


def plot(lines: Sequence[Line], x: Axis, y: Axis, look: dict[str, tuple[str, str, str]], *,
         name: str, level: float | None = None, words: str = "") -> str:  # fmt: skip
    """Return a plot of lines.

    Parameters
    ----------
    lines : sequence of Line
    x, y : Axis
        Bounds that are None are fitted.
    look : dict
        From `looks`.
    name : str
        What the picture shows, for those who do not see it.
    level : float, optional
        Draw a thin level line there.
    words : str
        What the level line means.
    """
    x = x.fit(v for line in lines for v in line.x)
    y = y.fit([v for line in lines for v in line.y] + ([] if level is None else [level]))
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(a: float, b: float) -> tuple[float, float]:
        return LEFT + wide * x.share(a), TOP + high * (1 - y.share(b))

    parts = [*_frame(x, y, place)]
    if level is not None:
        height = place(x.lo or 0.0, level)[1]
        parts.append(f'<path class="level" d="M{LEFT} {height:.1f}h{wide}"/>')
        if words:
            parts.append(f'<text class="small" x="{WIDTH - RIGHT - 4}" y="{height - 4:.1f}" '
                         f'text-anchor="end">{escape(words)}</text>')  # fmt: skip
    for k, line in enumerate(lines):
        points = [place(a, b) for a, b in zip(line.x, line.y)
                  if math.isfinite(a) and math.isfinite(b) and (b > 0 or not y.log)]  # fmt: skip
        if points:
            parts.append(_drawn(line, points, look[line.label], k / len(lines)))
    return _picture(parts, name, WIDTH, HEIGHT)


def _frame(x: Axis, y: Axis, place) -> list[str]:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = []
    for value in x.ticks():
        at = place(value, y.lo)[0]
        parts.append(f'<path class="grid" d="M{at:.1f} {TOP}V{bottom}"/>'
                     f'<text x="{at:.1f}" y="{bottom + 17}" text-anchor="middle">'
                     f"{number(value)}</text>")  # fmt: skip
    for value in y.ticks():
        at = place(x.lo, value)[1]
        parts.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{right}"/>'
                     f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">'
                     f"{number(value)}</text>")  # fmt: skip
    middle = (TOP + bottom) / 2
    return [
        *parts, f'<path class="axis" d="M{LEFT} {TOP}V{bottom}H{right}"/>',
        f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 10}" text-anchor="middle">'
        f"{escape(x.label)}</text>",
        f'<text transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">'
        f"{escape(y.label)}</text>",
    ]  # fmt: skip


def _drawn(line: Line, points: list[tuple[float, float]], look: tuple[str, str, str],
           shift: float) -> str:  # fmt: skip
    colour, marker, dash = look
    path = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
    last = points[0]
    for point in points[1:]:
        if max(abs(point[0] - last[0]), abs(point[1] - last[1])) < 0.4 and point != points[-1]:
            continue  # below what can be seen
        path.append(f"H{point[0]:.1f}V{point[1]:.1f}" if line.step else
                    f"L{point[0]:.1f} {point[1]:.1f}")  # fmt: skip
        last = point
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    spots = _marked(points, shift) if line.joined else points
    marks = "".join(f'<path transform="translate({a:.1f} {b:.1f})" d="{marker}"/>'
                    for a, b in spots if line.marked)  # fmt: skip
    drawn = f'<path fill="none" stroke="{colour}"{dashes} d="{"".join(path)}"/>'
    return (f'<g class="line"><title>{escape(line.label)}</title>{drawn if line.joined else ""}'
            f'<g fill="{colour}">{marks}</g></g>')  # fmt: skip


def _marked(points: list[tuple[float, float]], shift: float) -> list[tuple[float, float]]:
    """Return some points, evenly apart in the picture; each line begins elsewhere."""
    if len(points) <= _MARKS + 1:
        return points
    first, last = points[0][0], points[-1][0]
    wanted = [first + (last - first) * (k + shift) / _MARKS for k in range(_MARKS)]
    found, k = [], 0
    for at in wanted:
        while k < len(points) - 1 and points[k][0] < at:
            k += 1
        found.append(points[k])
    return found


def swatch(look: tuple[str, str, str]) -> str:
    """Return the piece of line and the marker that stand in a legend."""
    colour, marker, dash = look
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return (f'<svg class="swatch" viewBox="0 0 36 12" width="36" height="12" aria-hidden="true">'
            f'<path fill="none" stroke="{colour}" stroke-width="1.6"{dashes} d="M0 6H36"/>'
            f'<path transform="translate(18 6)" fill="{colour}" d="{marker}"/></svg>')  # fmt: skip


def bars(rows: Sequence[Bar], axis: Axis, *, name: str, roof: float | None = None,
         words: str = "") -> str:  # fmt: skip
    """Return horizontal bars, their figures at the ends, and a line for the roof over them.

    On a logarithmic axis bars begin at 1: what is above goes to the right, hatched what is below.
    """
    ends = [bar.value for bar in rows] + ([roof] if roof is not None else [])
    start = 1.0 if axis.log else 0.0
    axis = axis.fit([*ends, start])
    left = 14 + 7 * max(len(bar.label) for bar in rows)
    room = 10 + 7 * max(len(bar.text) for bar in rows)
    wide, bottom = max(WIDTH - left - room, 260), TOP + 14 + _BAR * len(rows)
    parts = []
    for value in axis.ticks():
        at = left + wide * axis.share(value)
        parts.append(f'<path class="grid" d="M{at:.1f} {TOP + 8}V{bottom}"/>'
                     f'<text x="{at:.1f}" y="{bottom + 16}" text-anchor="middle">'
                     f"{number(value)}</text>")  # fmt: skip
    if roof is not None:
        at = left + wide * axis.share(roof)
        parts.append(f'<path class="roof" d="M{at:.1f} {TOP + 4}V{bottom}"/>'
                     f'<text class="small" x="{at:.1f}" y="{TOP}" text-anchor="middle">'
                     f"{escape(words)}</text>")  # fmt: skip
    zero = left + wide * axis.share(start)
    for k, bar in enumerate(rows):
        at, top = left + wide * axis.share(bar.value), TOP + 12 + _BAR * k
        below = axis.log and bar.value < 1
        x0, x1 = min(zero, at), max(zero, at)
        parts.append(
            f'<text x="{left - 8}" y="{top + 13}" text-anchor="end">{escape(bar.label)}</text>'
            f'<rect x="{x0:.1f}" y="{top}" width="{max(x1 - x0, 1):.1f}" height="{_BAR - 6}" '
            f'class="{"below" if below else "bar"}"/>'
            f'<text class="end" x="{x1 + 5:.1f}" y="{top + 13}">{escape(bar.text)}</text>'
        )
    parts.append(f'<path class="axis" d="M{zero:.1f} {TOP + 8}V{bottom}"/>'
                 f'<text x="{left + wide / 2}" y="{bottom + 36}" text-anchor="middle">'
                 f"{escape(axis.label)}</text>")  # fmt: skip
    return _picture(parts, name, left + wide + room, bottom + 44)



def _picture(parts: Iterable[str], name: str, width: float, height: float) -> str:
    return (f'<svg viewBox="0 0 {width} {height:g}" role="img" aria-label="{escape(name)}" '
            f'xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>')  # fmt: skip


# Where the picture stands alone, it brings its looks along.
STYLE = """<style>
text{font:13px system-ui,sans-serif;fill:#222}.small{font-size:11px;fill:#555}
.grid{stroke:#e3e3e3;fill:none}.axis{stroke:#444;fill:none}.level{stroke:#777;fill:none}
.roof{stroke:#000;stroke-width:1.6;stroke-dasharray:6 3;fill:none}
.bar{fill:#0072B2}.below{fill:#fff;stroke:#D55E00;stroke-width:2}.line>path{stroke-width:1.7}
.end{paint-order:stroke;stroke:#fff;stroke-width:4px}
</style>"""


def alone(picture: str) -> str:
    """Return the text of an SVG file."""
    head, _, rest = picture.partition(">")
    return f'{head}>{STYLE}<rect width="100%" height="100%" fill="#fff"/>{rest}\n'
