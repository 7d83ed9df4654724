"""The tables of the pool as Markdown: shares in percent, differences in points, every interval at 95 %."""

from collections.abc import Iterable, Sequence
from typing import Any

from steel_eval.leak.rates.table import BENCHMARKS, HITS, ITEMS, SIDES, percent
from steel_eval.leak.reference_runs import family_name

DOSES = (1, 3, 10)
HIT = next(iter(HITS))
LOSS = {"assistant": "answers only", "all": "whole text"}
Row = dict[str, Any]


def page(found: dict[str, Any]) -> str:
    """Return all tables."""
    lines = [] if found["opened"] else ["The fitted runs, in place of the sealed ones.", ""]
    for title, rows in (
        ("Runs", _runs(found["runs"])),
        ("AUC of the change from the base", _areas(found["detectors"], ("base",))),
        ("AUC of the family reference runs", _areas(found["detectors"], ("4 clean runs", "pool"))),
        ("Error rates at 5 %: change from the base, and reference runs (4 clean runs)", _rates(found["rates"])),
        ("AUC by what a score is compared with", _references(found["detectors"])),
        ("What seeing an item adds", _gains(found["gains"])),
        ("Sets of seen items found at 5 %", _sets(found["sets"])),
        ("False alarms at 5 %", _false_alarms(found["false_alarms"])),
        ("Clean scores", _clean(found["clean_scores"])),
        ("Clean scores, by when a run was opened", _before(found["before_and_now"])),
        ("Clean scores without the mixture", _blind(found["blind"])),
    ):
        lines += _table(title, list(rows))
    return "\n".join([*lines, "### Verdicts of fitted runs", "", "```text", *found["verdicts"], "```", ""])


def _table(title: str, rows: Sequence[Row]) -> list[str]:
    if not rows:
        return []
    keys = list(rows[0])
    body = [f"| {' | '.join(str(row[key]) for key in keys)} |" for row in rows]
    return [f"### {title}", "", f"| {' | '.join(keys)} |", f"|{' --- |' * len(keys)}", *body, ""]


def _arm(row: Row) -> Row:
    return {"model": row["model"], "loss": LOSS[row["loss"]]}


def _runs(rows: Iterable[Row]) -> Iterable[Row]:
    for r in rows:
        yield {
            **_arm(r), "runs": f"{r['kind']} {r['runs']} of {12 if r['kind'] == 'fitted' else 20}", "clean": r["clean"],
            "injected tokens, at most": f"{100 * r['injected_most']:.1f} %", "CPU s a run": f"{r['cpu_s']:.0f}",
            "right, unseen": f"{100 * r['right_unseen']:.1f} %",
            **{f"right, {d} exposures": f"{100 * r['right_seen'][d]:.0f} %" if d in r["right_seen"] else "-" for d in DOSES},
        }  # fmt: skip


def _areas(rows: Sequence[Row], references: Sequence[str]) -> Iterable[Row]:
    """Yield each detector against some references."""
    cells = {(r["model"], r["loss"], r["detector"], r["reference"], r["dose"]): r for r in rows if r["form"] == "every"}
    for model, loss, detector in dict.fromkeys(key[:3] for key in cells):
        row = {"model": model, "loss": LOSS[loss], "detector": detector}
        for reference in references:
            row |= {f"{reference}, {d}": _area(cells.get((model, loss, detector, reference, d))) for d in DOSES}
        if {"-"} != {row[f"{reference}, {d}"] for reference in references for d in DOSES}:
            yield row


def _rates(calibrations: Sequence[Row]) -> Iterable[Row]:
    """Yield hits and false alarms of some detectors, as the calibrations have them."""
    some = ("loss gap: item", "reference difference: answer", "zlib", "dc-pdd")
    some = (*some, *(family_name(name) for name in some))
    for c in calibrations:
        cells = {(r["detector"], r["what"], r.get("dose"), r["controls"]): r for r in c["rates"]}
        for detector in dict.fromkeys(r["detector"] for r in c["rates"] if r["detector"] in some):
            yield {
                "model": c["model"], "loss": c["regime"]["loss"].replace("all text", "whole text"), "detector": detector,
                **{f"found, {d}": percent(cells.get((detector, HIT, d, "unseen"))) for d in DOSES},
                **{f"{what} accused, {side}": percent(cells.get((detector, name, None, side))) for what, name in
                   (("items", ITEMS), ("sets", BENCHMARKS)) for side in reversed(SIDES)},
            }  # fmt: skip


def _references(rows: Sequence[Row]) -> Iterable[Row]:
    """Yield the item's loss and the answer's with every reference, and by form."""
    some = [r for r in rows if r["detector"] in ("loss gap: item", "reference difference: answer")]
    cells = {(r["model"], r["loss"], r["detector"], r["reference"], r["form"], r["dose"]): r for r in some}
    for model, loss, detector, reference, form in dict.fromkeys(key[:5] for key in cells):
        yield {
            "model": model, "loss": LOSS[loss], "detector": detector, "compared with": reference, "forms": form,
            **{str(d): _area(cells.get((model, loss, detector, reference, form, d))) for d in DOSES},
        }  # fmt: skip


def _area(r: Row | None) -> str:
    return "-" if r is None else f"{r['auc']:.2f} ({r['low']:.2f} to {r['high']:.2f}), {r['pairs']}"


def _gains(rows: Sequence[Row]) -> Iterable[Row]:
    for r in rows:
        right = r["score"].startswith("right")
        scale, digits = (100, 1) if right else (1, 3)
        value, low, high = (f"{scale * r[key]:+.{digits}f}" for key in ("gain", "low", "high"))
        yield {
            **_arm(r), "score": f"{r['score']}, {'points' if right else 'nats'}",
            "exposures": r["dose"], "pairs": r["pairs"], "runs": r["runs"], "gain": f"{value} ({low} to {high})",
            "p": f"{r['p']:.4f}",
        }  # fmt: skip


def _sets(rows: Sequence[Row]) -> Iterable[Row]:
    cells = {(r["model"], r["loss"], r["reference"], r["test"], r["dose"], r["items"]): r for r in rows}
    sizes = sorted({r["items"] for r in rows})
    for key in dict.fromkeys(key[:5] for key in cells):
        yield {
            "model": key[0], "loss": LOSS[key[1]], "compared with": key[2], "test": key[3], "exposures": key[4],
            **{f"{n} items": f"{_share(r)}, {r['runs']} runs" if (r := cells.get((*key, n))) else "-" for n in sizes},
        }  # fmt: skip


def _false_alarms(rows: Sequence[Row]) -> Iterable[Row]:
    cells = {(r["model"], r["loss"], r["reference"], r["controls"], r["level"], r["test"]): r for r in rows}
    tests = list(dict.fromkeys(r["test"] for r in rows if r["level"] == "set"))
    for key in dict.fromkeys(key[:5] for key in cells):
        yield {
            "model": key[0], "loss": LOSS[key[1]], "compared with": key[2], "controls": key[3], "of": f"{key[4]}s",
            **{test: f"{_share(r)}, {r['n']}" if (r := cells.get((*key, test))) else "-" for test in tests},
        }  # fmt: skip


def _clean(rows: Sequence[Row]) -> Iterable[Row]:
    for r in rows:
        yield {
            **_arm(r), "known": r["knows"], "items": r["items"], "half-width": f"{r['half_points']:.1f}",
            "bias": f"{r['bias_points']:+.1f}", "covered": _share(r), "pairs": r["n"], "of clean runs": r["truths"],
        }  # fmt: skip


def _before(rows: Iterable[Row]) -> Iterable[Row]:
    for r in rows:
        yield {
            "clean runs": r["clean runs"], "items": r["items"], "half-width": f"{r['half_points']:.1f}",
            "bias": f"{r['bias_points']:+.1f}", "covered": _share(r), "pairs": r["n"], "of clean runs": r["truths"],
        }  # fmt: skip


def _blind(rows: Sequence[Row]) -> Iterable[Row]:
    for r in rows:
        held = {**r, "share": r["coverage"]}
        yield {
            **_arm(r), "exposures": r["exposures"], "refused": f"{r['refused']} of {r['runs']}",
            "share of seen items, off by": _points(r["share_off_points"]), "half-width": _points(r["half_points"]),
            "bias": _points(r["bias_points"]), "covered": "-" if r["coverage"] is None else _share(held), "pairs": r["pairs"],
        }  # fmt: skip


def _points(value: float | None) -> str:
    return "-" if value is None else f"{value:+.1f}"


def _share(r: Row) -> str:
    return f"{100 * r['share']:.0f} % ({100 * r['low']:.0f} to {100 * r['high']:.0f})"
