"""The page of a study: the dose-response plot on top, then every table. Self-contained, works from file://."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from steel_data.chinese import language
from steel_data.page.chart import Axis, Line, Point, line_chart
from steel_data.page.templates import environment
from steel_eval.leak.rates.table import AUC, BENCHMARKS, FLAGGED, HITS, ITEMS, SIDES, Row, beside, percent
from steel_eval.study.verdict import is_shown, pool_verdicts, study_verdicts


def write_page(results: dict[str, Any]) -> str:
    """Return the HTML page of `study.json`'s content."""
    hit = {name: entry for name, entry in results["tasks"].items() if entry["doses"]}
    plots = {name: dose_chart(_lines(results, entry)) for name, entry in hit.items()}
    curves = {name: dose_chart(_over_training(entry)) for name, entry in hit.items() if entry["trajectory"]}
    others = {name: found for name, found in results["presets"].items() if name != results["preset"]}
    page: str = (
        environment(Path(__file__).parent)
        .get_template("study.html.j2")
        .render(
            r=results, verdicts=study_verdicts(results), hit=hit, plots=plots, curves=curves, others=others,
            summary=summary(results), titles={n: _title(n, e) for n, e in hit.items()},
            clean_claim=clean_claim, hit_rows=hit_rows,
            alarm_rows=alarm_rows, flag_rows=flag_rows, first=language(),
        )
    )  # fmt: skip
    return page


def write_pool_page(results: dict[str, Any]) -> str:
    """Return the HTML page of a crossed pool (the content of its `study.json`)."""
    own = results["presets"][results["preset"]]
    plots = {name: dose_chart([Line("runs that saw an item, over those that did not", [
        _point(g["dose"], g["gain"], g["low"], g["high"]) for g in entry["gains"]
    ])]) for name, entry in own.items()}  # fmt: skip
    template = environment(Path(__file__).parent).get_template("pool.html.j2")
    page: str = template.render(
        r=results,
        verdicts=pool_verdicts(results),
        plots=plots,
        clean_claim=clean_claim,
        families=detector_families(results["detectors"] or []),
        share=percent,
        first=language(),
    )
    return page


FAMILIES = {"other runs": "reference runs", "base": "change from the base"}


def detector_families(rows: Sequence[Row]) -> dict[str, list[tuple[Row, list[Row | None]]]]:
    """Return family -> (row, cells) of a pool's detectors; cells: hits, items accused and sets accused with controls of
    the same subject and of others, None where too few were there.
    """
    out: dict[str, list[tuple[Row, list[Row | None]]]] = {}
    for row in rows:
        found = {(r["what"], r["controls"]): r for r in row["rates"]}
        keys = [(next(iter(HITS)), "unseen"), *((w, c) for w in (ITEMS, BENCHMARKS) for c in reversed(SIDES))]
        out.setdefault(FAMILIES[row["reference"]], []).append((row, [found.get(key) for key in keys]))
    return out


def _title(name: str, entry: dict[str, Any]) -> str:
    """Return what the dose-response plot of a benchmark shows, in a line."""
    strongest = _strongest(entry)
    exposures = entry["exposures"].get(str(strongest["dose"]), strongest["dose"])
    return f"{name}: {100 * strongest['effect']:+.1f} points over unseen items at {exposures:g} exposures"


def _strongest(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the effect of the largest dose."""
    strongest: dict[str, Any] = max((e for e in entry["doses"] if e["dose"] is not None), key=lambda e: e["dose"])
    return strongest


def summary(results: dict[str, Any]) -> list[str]:
    """Return what the study found, in sentences that say their own limits."""
    out = []
    for name, entry in results["tasks"].items():
        if not entry["doses"]:
            continue
        strongest = _strongest(entry)
        exposures = entry["exposures"].get(str(strongest["dose"]), strongest["dose"])
        interval = f"{100 * strongest['low']:+.1f} to {100 * strongest['high']:+.1f}, p {strongest['p']:.2g}"
        tests = sum(e["dose"] is not None for e in entry["doses"])
        gain = f"{100 * strongest['effect']:+.1f}"
        if is_shown(strongest, tests):
            out.append(
                f"{name}: {exposures:g} exposures raise the score on seen items by {gain} points over unseen ones "
                f"({interval})."
            )
        else:
            out.append(
                f"{name}: no gain is shown: at {exposures:g} exposures seen items score {gain} points over unseen ones "
                f"({interval}; doses tested: {tests})."
            )
        clean = entry["clean_scores"]
        reported, estimated = (sum(c[k] for c in clean) / len(clean) for k in ("reported", "clean"))
        out.append(
            f"{name}: reported {100 * reported:.1f} %, {clean_claim(clean[0])} {100 * estimated:.1f} %; "
            + (
                "models that saw other items in the same form"
                if entry["against"] == "placebo"
                else "models that saw none"
            )
            + f" score {100 * entry['control_arm']:.1f} % ({entry['against']} arm)."
        )
    return out


def clean_claim(score: dict[str, Any]) -> str:
    """Return what a clean score claims: of a further clean run, or, where runs' noise is not known, of this one."""
    return "a clean run would score" if score["runs"] else "this run's score on questions it never saw is"


def hit_rows(found: dict[str, Any]) -> list[tuple[Row, list[Row | None]]]:
    """Return (AUC, cells) for each detector, dose and form: hits at 5 % and at 1 % false alarms."""
    rows = beside(found["rates"], ("detector", "dose", "form"), (AUC, *HITS))
    return [(cells[AUC], [cells.get(what) for what in HITS]) for cells in rows.values()]


def alarm_rows(found: dict[str, Any]) -> list[tuple[str, str, list[Row | None]]]:
    """Return (detector, of whom, cells): false alarms on items and benchmarks, each by the controls' subjects."""
    alarms = beside(found["rates"], ("detector", "of", "controls"), (ITEMS, BENCHMARKS))
    sides = ("same subjects", "other subjects")
    return [
        (name, of, [alarms.get((name, of, side), {}).get(what) for what in (ITEMS, BENCHMARKS) for side in sides])
        for name, of in dict.fromkeys(key[:2] for key in alarms)
    ]


def flag_rows(found: dict[str, Any]) -> list[Row]:
    """Return what the published rules flag."""
    return [line for line in found["rates"] if line["what"] == FLAGGED]


def dose_chart(lines: Sequence[Line]) -> str:
    """Return the SVG of gains over exposures, in percentage points; 0 exposures have a place, and no gain."""
    doses = sorted({0.0, *(point.x for line in lines for point in line.points)})
    exposures = Axis(label="exposures to the item in training", ticks=doses, log=True)
    # an interval of two seeds can be many times the possible gains: the chart ends at -100 and +100 points
    gain = Axis(
        label="gain over unseen items, percentage points", words=lambda v: f"{100 * v:+.0f}" if v else "0",
        least=0.01, rules={0: ""}, reach=(0.05,), low=-1, high=1,
    )  # fmt: skip
    return line_chart([Line(line.name, [Point(0, 0), *line.points]) for line in lines], exposures, gain, whiskers=True)


def _lines(results: dict[str, Any], entry: dict[str, Any]) -> list[Line]:
    shares = {arm["name"]: arm["injected"]["tokens"] for arm in results["arms"]}
    lines = [Line(f"injected: {shares['injected']:.0%} of tokens", _points(entry))]
    if entry["diluted"]:
        lines.append(Line(f"diluted: {shares['diluted']:.1%} of tokens", _points(entry["diluted"])))
    return lines


def _points(entry: dict[str, Any]) -> list[Point]:
    rows = [e for e in entry["doses"] if e["dose"] is not None]
    return [_point(entry["exposures"].get(str(e["dose"]), e["dose"]), e["effect"], e["low"], e["high"]) for e in rows]


def _over_training(entry: dict[str, Any]) -> list[Line]:
    """Return one line a dose: the gain at each checkpoint over the exposures consumed until there."""
    by_dose: dict[int, list[Point]] = {}
    for row in entry["trajectory"]:
        by_dose.setdefault(row["dose"], []).append(_point(row["exposures"], row["gain"], row["low"], row["high"]))
    return [Line(f"items of {dose} copies", points) for dose, points in sorted(by_dose.items())]


def _point(exposures: float, gain: float, low: float, high: float) -> Point:
    words = f"{exposures:g} exposures: {100 * gain:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
    return Point(exposures, gain, low, high, words)
