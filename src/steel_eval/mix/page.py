"""The page of a search: verdict, where mixtures are better, what doubling a source does, predicted and observed.

Two sources that vary make a curve, three a triangle, more a line across one axis a source. Self-contained, works from
file://.
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from steel_data.chinese import language
from steel_data.page.chart import COLOURS, Axis, Line, Point, line_chart
from steel_data.page.templates import environment
from steel_data.row.display import one_line
from steel_eval.mix.print import sentences, unit_of

_BLUE, _ORANGE = COLOURS[0], COLOURS[1]


def write_page(surface: dict[str, Any]) -> str:
    """Return the HTML page of `surface.json`'s content."""
    drawn = surface["lowest"] is not None
    page: str = (
        environment(Path(__file__).parent)
        .get_template("mix.html.j2")
        .render(
            s=surface, sentences=sentences(surface), unit=unit_of(surface) if surface["objective"]["of"] else "",
            picture=shares_picture(surface) if drawn else "", fitted=fit_chart(surface) if drawn else "", bar=bar,
            reach=_reach(surface), first=language(),
        )
    )  # fmt: skip
    return page


def shares_picture(surface: dict[str, Any]) -> str:
    """Return the SVG of the mixtures by the shares of what varies."""
    count = len(surface["vary"])
    return curve(surface) if count == 2 else triangle(surface) if count == 3 else parallel(surface)


def _arm_words(arm: dict[str, Any]) -> str:
    shares = ", ".join(f"{name} {share:.3f}" for name, share in arm["shares"].items())
    return f"{arm['name']}: {arm['observed']:.4f} ({shares})"


def curve(surface: dict[str, Any]) -> str:
    """Return the objective by the share of the first of two sources: arms as dots, the surface as a line."""
    first = surface["vary"][0]
    places = sorted((c["shares"][0], c["value"]) for c in surface["candidates"])
    lines = [Line("surface", [Point(x, y) for x, y in places], total=True)]
    for kind, name in (("centre", "the recipe's own"), ("design", "arms"), ("next", "sequential arms")):
        points = [
            Point(a["shares"][first], a["observed"], words=_arm_words(a))
            for a in surface["arms"] if a["kind"] == kind and a["observed"] is not None
        ]  # fmt: skip
        if points:
            lines.append(Line(name, sorted(points, key=lambda p: p.x), joined=False))
    rules = {surface["proposal"][first]: "proposed"} if surface["proposal"] else {}
    return line_chart(lines, Axis(label=f"share of {first}", rules=rules), Axis(label=unit_of(surface)))


def fit_chart(surface: dict[str, Any]) -> str:
    """Return the SVG of predicted (by the other arms, with 90 % interval) against observed."""
    lines = []
    for kind, name in (("design", "arms"), ("next", "sequential arms"), ("centre", "the recipe's own")):
        found = [a for a in surface["arms"] if a["kind"] == kind and a["observed"] is not None]
        points = [Point(a["observed"], a["predicted"], a["low"], a["high"], _arm_words(a)) for a in found]
        if points:
            lines.append(Line(name, sorted(points, key=lambda p: p.x), joined=False))
    ends = [p.x for line in lines for p in line.points]
    equal = Line("equal", [Point(x, x) for x in (min(ends), max(ends))], total=True)
    unit = unit_of(surface)
    return line_chart(
        [*lines, equal], Axis(label=f"observed: {unit}"), Axis(label="predicted by the other arms"), whiskers=True
    )


def _colour(value: float, values: Sequence[float], own: float, lower: bool) -> tuple[str, float]:
    """Return colour and opacity: blue is better than the recipe's `own` value, orange worse."""
    reach = max(abs(v - own) for v in values) or 1.0
    good = value < own if lower else value > own
    return (_BLUE if good else _ORANGE), 0.1 + 0.75 * abs(value - own) / reach


def _own_value(surface: dict[str, Any]) -> float:
    """Return the mean of the recipe's own runs; of all runs where none of these has a value."""
    runs: list[tuple[str, float]] = [(a["kind"], a["observed"]) for a in surface["arms"] if a["observed"] is not None]
    own = [value for kind, value in runs if kind == "centre"] or [value for _, value in runs]
    return sum(own) / len(own)


def _lower(surface: dict[str, Any]) -> bool:
    return bool(next(iter(surface["measures"].values()))["lower_is_better"])


def _svg(width: int, height: int, label: str, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{_safe(label)}"'
    )
    return "\n".join([f'{head} font-family="system-ui, sans-serif" font-size="12">', *parts, "</svg>"]) + "\n"


def _safe(words: str) -> str:
    return escape(one_line(words))


def _label(x: float, y: float, words: str, anchor: str = "start", over: bool = False) -> str:
    """Return a label; one that lies `over` dots has a rim in the colour of the page, so that it can be read."""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    if over:
        rim = 'style="stroke:var(--sheet,#fff);stroke-width:5;paint-order:stroke" font-weight="600"'
        return f'<text {place} fill="currentColor" {rim}>{_safe(words)}</text>'
    return f'<text {place} fill="currentColor" fill-opacity="0.75">{_safe(words)}</text>'


def triangle(surface: dict[str, Any]) -> str:
    """Return the ternary plot, cut to the part of the triangle where the search may look.

    Each corner is all of one source. Dots and triangles: what the surface predicts; ringed ones are not shown worse.
    """
    names, lower = surface["vary"], _lower(surface)
    every = [c["shares"] for c in surface["candidates"]]
    arms = [[a["shares"][n] for n in names] for a in surface["arms"]]
    varied = sum(arms[0])

    def flat(shares: Sequence[float]) -> tuple[float, float]:
        a, b, c = (s / varied for s in shares)
        return b + c / 2, c * 0.75**0.5 + 0 * a

    points = [flat(s) for s in [*every, *arms]]
    low_x, high_x = min(p[0] for p in points), max(p[0] for p in points)
    low_y, high_y = min(p[1] for p in points), max(p[1] for p in points)
    scale = min(500 / max(high_x - low_x, 1e-9), 340 / max(high_y - low_y, 1e-9))

    def at(shares: Sequence[float]) -> tuple[float, float]:
        x, y = flat(shares)
        return 30 + (x - low_x) * scale, 390 - (y - low_y) * scale

    values, own = [c["value"] for c in surface["candidates"]], _own_value(surface)
    parts = []
    for c in surface["candidates"]:
        (x, y), (colour, opacity) = at(c["shares"]), _colour(c["value"], values, own, lower)
        ring = ' stroke="currentColor" stroke-width="1.5"' if c["open"] else ""
        words = ", ".join(f"{n} {s:.3f}" for n, s in zip(names, c["shares"], strict=True)) + f": {c['value']:.4f}"
        shape = f'circle cx="{x:.1f}" cy="{y:.1f}" r="4"'
        if colour == _ORANGE:
            shape = f'path d="M{x - 4.5:.1f} {y - 3.5:.1f}h9l-4.5 8z"'
        said = f"<title>{_safe(words)}</title></{shape.split()[0]}>"
        parts.append(f'<{shape} fill="{colour}" fill-opacity="{opacity:.2f}"{ring}>{said}')
    for arm, shares in zip(surface["arms"], arms, strict=True):
        if arm["observed"] is None:
            continue
        x, y = at(shares)
        parts.append(
            f'<path d="M{x - 4:.1f} {y:.1f}h8M{x:.1f} {y - 4:.1f}v8" stroke="currentColor" stroke-width="2">'
            f"<title>{_safe(_arm_words(arm))}</title></path>"
        )
    for shares, words in ((surface["own"], "recipe"), (surface["proposal"], "proposed")):
        if shares:
            x, y = at([shares.get(n, 0.0) for n in names])
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="8" fill="none" stroke="currentColor" stroke-width="2"/>']
            parts += [_label(x + 12, y - 8, words, over=True)]
    # in which direction a source's share grows
    for name, (dx, dy) in zip(names, ((-0.87, 0.5), (0.87, 0.5), (0.0, -1.0)), strict=True):
        cx, cy = 600, 90
        parts.append(f'<path d="M{cx} {cy}l{50 * dx:.1f} {50 * dy:.1f}" stroke="currentColor" stroke-width="1.5"/>')
        parts.append(_label(cx + 56 * dx, cy + 56 * dy + (14 if dy > 0 else -4), f"more {name}", "middle"))
    notes = (
        "blue dots: better than the recipe's own mixture; orange triangles: worse",
        "ringed: not shown worse than the best",
        "crosses: trained arms",
    )
    parts += [_label(30, 424 + 20 * i, words) for i, words in enumerate(notes)]
    return _svg(700, 480, f"{unit_of(surface)} by shares of {', '.join(names)}", parts)


def parallel(surface: dict[str, Any]) -> str:
    """Return one line an arm across one axis a source; blue: better than the recipe's own, orange and dotted: worse."""
    names, lower = surface["vary"], _lower(surface)
    arms = [a for a in surface["arms"] if a["observed"] is not None]
    values, own = [a["observed"] for a in arms], _own_value(surface)
    reach = {n: (min(a["shares"][n] for a in arms), max(a["shares"][n] for a in arms)) for n in names}
    step = 740 / max(1, len(names) - 1)

    def path(shares: dict[str, float]) -> str:
        places = []
        for i, n in enumerate(names):
            low, high = reach[n]
            part = (shares[n] - low) / (high - low) if high > low else 0.5
            places.append(f"{60 + i * step:.1f},{350 - 300 * min(max(part, -0.03), 1.03):.1f}")
        return " ".join(places)

    parts = []
    for i, n in enumerate(names):
        x = 60 + i * step
        parts += [f'<path d="M{x:.1f} 50V350" stroke="currentColor" stroke-opacity="0.3"/>']
        parts += [_label(x, 390 if i % 2 else 374, n, "middle")]
        parts += [_label(x + 4, 46, f"{reach[n][1]:.3f}"), _label(x + 4, 362, f"{reach[n][0]:.3f}")]
    for arm in arms:
        colour, opacity = _colour(arm["observed"], values, own, lower)
        dash = ' stroke-dasharray="2 3"' if colour == _ORANGE else ""
        parts.append(
            f'<polyline points="{path(arm["shares"])}" fill="none" stroke="{colour}" stroke-width="1.5"{dash} '
            f'stroke-opacity="{opacity:.2f}"><title>{_safe(_arm_words(arm))}</title></polyline>'
        )
    if surface["proposal"]:
        parts.append(
            f'<polyline points="{path(surface["proposal"])}" fill="none" stroke="currentColor" stroke-width="3" '
            'stroke-dasharray="7 3"><title>proposed</title></polyline>'
        )
    return _svg(860, 400, f"{unit_of(surface)} by shares", parts)


def _reach(surface: dict[str, Any]) -> dict[str, float]:
    """Return of each measure the largest end of an effect's interval: the half of its bars' width."""
    return {
        name: max(
            (abs(e[name][k]) for e in surface["effects"].values() if name in e for k in ("low", "high")), default=1.0
        )
        for name in surface["measures"]
    }


def bar(effect: dict[str, float], reach: float, lower_is_better: bool, verdict: str | None = None) -> str:
    """Return a small SVG of an interval around 0: blue where shown better, orange where worse, grey where neither.

    `verdict`: "better", "worse" or another word, where more than the interval decides (a correction for many tests).
    """
    low, value, high = (60 + 56 * effect[k] / (reach or 1.0) for k in ("low", "per_doubling", "high"))
    good = effect["high"] < 0 if lower_is_better else effect["low"] > 0
    bad = effect["low"] > 0 if lower_is_better else effect["high"] < 0
    if verdict is not None:
        good, bad = verdict == "better", verdict == "worse"
    colour = _BLUE if good else _ORANGE if bad else COLOURS[-1]
    return (
        '<svg class="bar" viewBox="0 0 120 14" aria-hidden="true"><path d="M60 0v14" stroke="currentColor" '
        f'stroke-opacity="0.4"/><path d="M{low:.1f} 7H{high:.1f}" stroke="{colour}" stroke-width="2.5"/>'
        f'<circle cx="{value:.1f}" cy="7" r="4" fill="{colour}"/></svg>'
    )
