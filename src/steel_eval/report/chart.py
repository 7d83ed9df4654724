"""What the pages have in common: the curve of accuracy over training steps, as SVG, and the templates' environment."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from steel_data.row.display import visible

Point = tuple[float, float, float]  # step, accuracy, standard error
_COLOURS = ["#2563eb", "#d97706", "#059669", "#dc2626", "#7c3aed", "#0891b2", "#65a30d", "#be185d"]
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 860, 320, 52, 42, 14, 170


def curve_svg(lines: Sequence[tuple[str, Sequence[Point]]], always: float) -> str:
    """Return an SVG of lines with bands; `always` draws the accuracy of always saying the most frequent letter."""
    import markupsafe

    steps = [p[0] for _, points in lines for p in points]
    edges = [v for _, points in lines for p in points for v in (p[1] - 1.96 * p[2], p[1] + 1.96 * p[2])] + [always]
    first, last, low, high = min(steps), max(steps), min(edges) - 0.01, max(edges) + 0.01
    wide, right = max(last - first, 1), _WIDTH - _RIGHT

    def x(step: float) -> float:
        return _LEFT + (step - first) / wide * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _TOP + (high - value) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="accuracy over training steps">']
    for i in range(5):
        value = low + (high - low) * i / 4
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{100 * value:.1f}</text>')
    for step in sorted({first, last, *(s for s in steps if len(set(steps)) <= 8)}):
        parts.append(f'<text x="{x(step):.1f}" y="{_HEIGHT - 22}" text-anchor="middle">{step:g}</text>')
    parts.append(f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 5}" text-anchor="middle">step</text>')
    parts.append(f'<line class="always" x1="{_LEFT}" x2="{right}" y1="{y(always):.1f}" y2="{y(always):.1f}"/>')
    parts.append(f'<text x="{_WIDTH - _RIGHT + 8}" y="{y(always) + 4:.1f}">always one letter</text>')
    for number, (name, points) in enumerate(lines):
        colour, label = _COLOURS[number % len(_COLOURS)], markupsafe.escape(name)
        upper = [f"{x(s):.1f},{y(a + 1.96 * e):.1f}" for s, a, e in points]
        lower = [f"{x(s):.1f},{y(a - 1.96 * e):.1f}" for s, a, e in reversed(points)]
        middle = " ".join(f"{x(s):.1f},{y(a):.1f}" for s, a, _ in points)
        parts.append(f'<polygon points="{" ".join(upper + lower)}" fill="{colour}" opacity="0.13"/>')
        parts.append(f'<polyline points="{middle}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for s, a, _ in points:
            title = f"<title>{label} step {s:g}: {100 * a:.2f} %</title>"
            parts.append(f'<circle cx="{x(s):.1f}" cy="{y(a):.1f}" r="3" fill="{colour}">{title}</circle>')
        height = _TOP + 14 + 18 * number
        parts.append(f'<text x="{_WIDTH - _RIGHT + 8}" y="{height}" style="fill:{colour}">{label}</text>')
    return markupsafe.Markup("\n".join([*parts, "</svg>"]))


def environment(folder: Path) -> Any:
    """Return the jinja environment of the templates in a folder. All text is escaped by default."""
    import jinja2

    here = jinja2.FileSystemLoader(folder)
    found = jinja2.Environment(loader=here, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    found.filters["percent"] = lambda v: "–" if v is None else f"{100 * v:.1f}"
    found.filters["signed"] = lambda v: "–" if v is None else f"{100 * v:+.1f}"
    found.filters["number"] = lambda v: "–" if v is None else f"{v:.3f}"
    found.filters["p"] = lambda v: "–" if v is None else f"{v:.2g}"
    found.filters["visible"] = lambda v: visible(str(v))
    return found
