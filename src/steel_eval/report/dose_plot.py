"""The dose-response plot: gain over exposures, one line an arm, with 95 % intervals, as SVG."""

import math
from collections.abc import Callable, Sequence

Point = tuple[float, float, float, float]  # exposures, gain, its interval (shares)
_COLOURS = ["#2563eb", "#d97706", "#059669", "#7c3aed"]
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 860, 380, 64, 190, 20, 48


def dose_svg(lines: Sequence[tuple[str, Sequence[Point]]]) -> str:
    """Return an SVG of gains in percentage points; exposures on a scale of log(1 + x), so that 0 has a place."""
    import markupsafe

    points = [p for _, line in lines for p in line]
    doses = sorted({p[0] for p in points})
    # an interval of two seeds can be many times the possible gains: the plot ends at -100 and +100 points
    low = max(-1.0, min(0.0, *(p[2] for p in points))) - 0.02
    high = min(1.0, max(0.05, *(p[3] for p in points))) + 0.02
    right = _WIDTH - _RIGHT

    def x(dose: float) -> float:
        return _LEFT + math.log1p(dose) / math.log1p(doses[-1]) * (right - _LEFT - 20)

    def y(gain: float) -> float:
        return _TOP + (high - min(max(gain, low), high)) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="gain by exposures">']
    for gain in _ticks(low, high):
        parts.append(f'<line class="{"zero" if gain == 0 else "grid"}" x1="{_LEFT}" x2="{right}" '
                     f'y1="{y(gain):.1f}" y2="{y(gain):.1f}"/>')  # fmt: skip
        parts.append(f'<text x="{_LEFT - 8}" y="{y(gain) + 4:.1f}" text-anchor="end">{100 * gain:+.0f}</text>')
    for dose in _apart([0.0, *doses], x):
        parts.append(f'<text x="{x(dose):.1f}" y="{_HEIGHT - 26}" text-anchor="middle">{dose:g}</text>')
    middle = (_LEFT + right) / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">exposures to the item in training</text>')
    parts.append(f'<text x="{_LEFT + 6}" y="{_TOP - 6}">gain over unseen items, percentage points</text>')
    for number, (name, line) in enumerate(lines):
        colour, label = _COLOURS[number % len(_COLOURS)], markupsafe.escape(name)
        path = " ".join(f"{x(d):.1f},{y(g):.1f}" for d, g, _, _ in [(0.0, 0.0, 0.0, 0.0), *line])
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for d, g, a, b in line:
            title = f"<title>{label}, {d:g} exposures: {100 * g:+.1f} ({100 * a:+.1f} to {100 * b:+.1f})</title>"
            parts.append(f'<line x1="{x(d):.1f}" x2="{x(d):.1f}" y1="{y(a):.1f}" y2="{y(b):.1f}" '
                         f'stroke="{colour}" stroke-width="1.5"/>')  # fmt: skip
            parts.append(f'<circle cx="{x(d):.1f}" cy="{y(g):.1f}" r="4" fill="{colour}">{title}</circle>')
        height = _TOP + 14 + 20 * number
        parts.append(f'<text x="{right + 10}" y="{height}" style="fill:{colour}">{label}</text>')
    return markupsafe.Markup("\n".join([*parts, "</svg>"]))


def _ticks(low: float, high: float) -> list[float]:
    step = next(s for s in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if (high - low) / s <= 8)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [step * k for k in range(first, last + 1)]


def _apart(values: Sequence[float], place: Callable[[float], float]) -> list[float]:
    """Return the values whose labels do not run into the one before them."""
    out: list[float] = []
    for value in values:
        if not out or place(value) - place(out[-1]) >= 26:
            out.append(value)
    return out
