"""The one chart of all pages: lines over a number, as SVG text that needs no script, style or font of elsewhere.

Colours are Okabe and Ito's, told apart by colour-blind eyes. Text and axes have the colour of the text around the
picture, so that a page's light and dark look hold for it; a picture with a title stands alone, on white.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape, unescape
from unicodedata import east_asian_width

from steel_data.chinese import chinese
from steel_data.row.display import visible

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c564b", "#7f7f7f")
DASHES = ("none", "7 3", "2 3")  # after all colours they begin again, dashed
_MOST_POINTS = 2000
_RIM = 'stroke="var(--sheet,#fff)" stroke-width="4" paint-order="stroke" stroke-linejoin="round"'
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM, _STEP = 860, 360, 60, 210, 32, 46, 18


@dataclass(frozen=True, slots=True)
class Point:
    """One point. `low`, `high`: its interval; `words`: what it says under the mouse, "" for a point without a dot."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    words: str = ""


@dataclass(frozen=True)
class Line:
    """One line, its points in order of x. `total`: the one that the others are parts of, in the colour of the text.

    Not `joined`: its dots alone.
    """

    name: str
    points: Sequence[Point]
    total: bool = False
    joined: bool = True


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis. `words`: how a number of it is written.

    `ticks`: where they stand, by default at round numbers `least` apart or more; `rules`: dashed lines across the
    chart, number -> name; `log`: distances of log(1 + x); `reach`: numbers that the axis holds whatever the points do;
    `low`, `high`: it goes no further, and what lies outside is drawn on its edge.
    """

    label: str
    words: Callable[[float], str] = "{:g}".format
    ticks: Sequence[float] = ()
    least: float = 0.0
    rules: Mapping[float, str] = field(default_factory=dict)
    log: bool = False
    reach: Sequence[float] = ()
    low: float = -math.inf
    high: float = math.inf


def line_chart(lines: Sequence[Line], x: Axis, y: Axis, title: str = "", whiskers: bool = False) -> str:
    """Return the SVG of lines with at least one point in all.

    Points with an interval get a band, or whiskers. With a title it is a file of its own.
    """
    points = [point for line in lines for point in line.points]
    height = max(_HEIGHT, _TOP + _STEP * len(lines) + _BOTTOM)
    right, bottom = _WIDTH - _RIGHT, height - _BOTTOM
    across = _scale(x, [p.x for p in points], _LEFT, right, 0.0)
    up = _scale(y, [v for p in points for v in (p.y, p.low, p.high) if v is not None], bottom, _TOP, 0.03)
    held = "" if title else _points(lines, x, y)
    parts = [_head(title, f"{y.label} by {x.label}", height, held), _text(_LEFT, _TOP - 14, title or y.label)]
    for value in y.ticks or round_ticks(up.low, up.high, y.least):
        parts += [_rule("grid", (_LEFT, up(value)), (right, up(value)))]
        parts += [_text(_LEFT - 8, up(value) + 4, y.words(value), "end")]
    for value in _apart(x.ticks or round_ticks(across.low, across.high, x.least), across, x.words):
        parts += [_text(across(value), bottom + 18, x.words(value), "middle")]
    parts += [_text((_LEFT + right) / 2, height - 8, x.label, "middle")]
    parts += [_rule("rule", (_LEFT, up(value)), (right, up(value))) for value in y.rules]
    parts += [_rule("rule", (across(value), _TOP), (across(value), bottom)) for value in x.rules]
    for number, line in enumerate(lines):
        parts += _drawn(line, number, across, up, whiskers)
        parts += _legend(line, number, right + 10)
    # names of rules lie over the lines, with a rim in the colour of the page
    parts += [_text(right - 4, up(value) - 5, name, "end", _RIM) for value, name in y.rules.items()]
    parts += [_text(across(value) + 4, _TOP + 10, name, rim=_RIM) for value, name in x.rules.items()]
    return "\n".join(part for part in [*parts, "</svg>"] if part) + "\n"


def as_data(columns: Sequence[str], rows: Sequence[Sequence[str | float | None]]) -> str:
    """Return a table as an attribute's value: what page.js hands out as a file."""
    named = [[visible(cell) if isinstance(cell, str) else cell for cell in row] for row in (columns, *rows)]
    return escape(json.dumps({"columns": named[0], "rows": named[1:]}, ensure_ascii=False, separators=(",", ":")))


def _points(lines: Sequence[Line], x: Axis, y: Axis) -> str:
    """Return the attribute that holds the numbers of a chart; none for so many that a page would grow by them."""
    rows = [[line.name, *map(_short, (p.x, p.y, p.low, p.high))] for line in lines for p in line.points]
    if len(rows) > _MOST_POINTS:
        return ""
    wide = 5 if any(row[3] is not None for row in rows) else 3
    columns = ["line", x.label, y.label, "low", "high"]
    return f' data-points="{as_data(columns[:wide], [row[:wide] for row in rows])}"'


def _short(value: float | None) -> float | None:
    """Return a number with six digits, None for none and for what JSON cannot hold."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")


def in_both(svg: str, only: str = "") -> str:
    """Return a chart of a page with the Chinese form of each text that has one, beside the English.

    What is read aloud or shown under the mouse can be in one language only: it holds both, one behind the other.
    With `only`, "en" or "zh", all of it is in that language.
    """
    if only == "en":
        return svg

    def pair(match: re.Match[str]) -> str:
        said = chinese(unescape(match[2]))
        if said is None:
            return match[0]
        if only:
            return f"<text{match[1]}>{_safe(said)}</text>"
        return f'<text class="en"{match[1]}>{match[2]}</text><text class="zh" lang="zh"{match[1]}>{_safe(said)}</text>'

    def both(match: re.Match[str]) -> str:
        said = chinese(unescape(match[2]))
        first = "" if only else f"{match[2]} · "
        return match[0] if said is None else f"{match[1]}{first}{_safe(said)}{match[3]}"

    svg = re.sub(r"(<title>)([^<]*)(</title>)", both, svg)
    svg = re.sub(r'(<svg [^>]*aria-label=")([^"]*)(")', both, svg, count=1)
    return re.sub(r"<text( [^>]*)>([^<]*)</text>", pair, svg)


@dataclass(frozen=True)
class _Scale:
    """From numbers between `low` and `high` to places between `start` and `stop`."""

    low: float
    high: float
    start: float
    stop: float
    log: bool

    def __call__(self, value: float) -> float:
        low, high, at = self.low, self.high, min(max(value, self.low), self.high)
        if self.log:
            low, high, at = math.log1p(low), math.log1p(high), math.log1p(at)
        return self.start + (at - low) / (high - low) * (self.stop - self.start)


def _scale(axis: Axis, values: Sequence[float], start: float, stop: float, margin: float) -> _Scale:
    every = [*values, *axis.reach, *axis.rules]
    low, high = max(axis.low, min(every)), min(axis.high, max(every))
    room = margin * (high - low)
    return _Scale(low - room, high + room if high > low else low + 1, start, stop, axis.log)


def round_ticks(low: float, high: float, least: float = 0.0, most: int = 7) -> list[float]:
    """Return at most `most` + 1 round numbers (1, 2 or 5 times a power of ten apart) from `low` to `high`."""
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = max(least, next(power * k for k in (1, 2, 5, 10) if (high - low) / (power * k) <= most))
    return [round(step * k, 12) for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _apart(values: Sequence[float], place: Callable[[float], float], words: Callable[[float], str]) -> list[float]:
    """Return the values whose words do not run into those before them."""
    out: list[float] = []
    end = -math.inf
    for value in values:
        half = _wide(words(value)) / 2
        if place(value) - half >= end:
            out.append(value)
            end = place(value) + half + 10
    return out


def _drawn(line: Line, number: int, across: _Scale, up: _Scale, whiskers: bool) -> list[str]:
    """Return a line's interval, path and dots."""
    colour, parts = _colour(line, number), []
    spread = [(across(p.x), up(p.low), up(p.high)) for p in line.points if p.low is not None and p.high is not None]
    if whiskers:
        parts += [f'<path d="M{x:.1f} {a:.1f}V{b:.1f}" stroke="{colour}" stroke-width="1.5"/>' for x, a, b in spread]
    elif spread:
        edge = [*((x, b) for x, _, b in spread), *((x, a) for x, a, _ in reversed(spread))]
        parts.append(f'<polygon points="{_path(edge)}" fill="{colour}" opacity="0.13"/>')
    if line.joined:
        path = _path([(across(p.x), up(p.y)) for p in line.points])
        parts.append(f'<polyline points="{path}" fill="none" {_stroke(line, number)}/>')
    for p in line.points:
        if p.words:
            words = f"<title>{_safe(p.words)}</title>"
            parts.append(f'<circle cx="{across(p.x):.1f}" cy="{up(p.y):.1f}" r="3.5" fill="{colour}">{words}</circle>')
    return parts


def _legend(line: Line, number: int, left: float) -> list[str]:
    """Return a line's sample and name, cut to the room that is there; the whole name under the mouse."""
    y, shown = _TOP + 10 + _STEP * number, line.name
    while _wide(shown) > _RIGHT - 46:
        shown = shown.removesuffix("…")[:-1] + "…"
    sample = f'<path d="M{left} {y - 4}h20" {_stroke(line, number)}/>'
    if not line.joined:
        sample = f'<circle cx="{left + 10}" cy="{y - 4}" r="3.5" fill="{_colour(line, number)}"/>'
    return [f"<g><title>{_safe(line.name)}</title>{sample}{_text(left + 28, y, shown)}</g>"]


def _colour(line: Line, number: int) -> str:
    return "currentColor" if line.total else COLOURS[number % len(COLOURS)]


def _stroke(line: Line, number: int) -> str:
    dash = DASHES[number // len(COLOURS) % len(DASHES)]
    return f'stroke="{_colour(line, number)}" stroke-width="{2.5 if line.total else 1.7}" stroke-dasharray="{dash}"'


def _head(title: str, what: str, height: int, held: str) -> str:
    alone = f'<rect width="{_WIDTH}" height="{height}" fill="white"/>' if title else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="{_safe(title or what)}"{held} font-family="system-ui, sans-serif" font-size="12">{alone}'
    )


def _rule(kind: str, start: tuple[float, float], stop: tuple[float, float]) -> str:
    look = 'stroke-opacity="0.13"' if kind == "grid" else 'stroke-opacity="0.5" stroke-dasharray="4 4"'
    path = f"M{start[0]:.1f} {start[1]:.1f}L{stop[0]:.1f} {stop[1]:.1f}"
    return f'<path class="{kind}" d="{path}" stroke="currentColor" {look}/>'


def _text(x: float, y: float, words: str, anchor: str = "start", rim: str = "") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    look = rim or 'fill-opacity="0.75"'
    return f'<text {place} fill="currentColor" {look}>{_safe(words)}</text>' if words else ""


def _path(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _safe(words: str) -> str:
    return escape(visible(words))


def _wide(words: str) -> float:
    """Return about how many pixels a text takes."""
    return sum(12.0 if east_asian_width(c) in "WF" else 6.8 for c in words)
