"""Print a finished study's figures as Markdown, for docs/results/contamination.md.

python bench/studies/tables.py runs/repeated
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from steel_eval.study.page import alarm_rows, flag_rows, hit_rows

Rows = Iterator[str]


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def points(row: dict[str, Any], name: str = "effect") -> str:
    return f"{100 * row[name]:+.1f} ({100 * row['low']:+.1f} to {100 * row['high']:+.1f})"


def table(head: str, rows: Rows) -> None:
    columns = head.count("|") + 1
    print(f"\n| {head} |\n|{' --- |' * columns}")
    for row in rows:
        print(f"| {row} |")


def doses(part: dict[str, Any]) -> Rows:
    for e in part["doses"]:
        seeds = [c for row in part["by_seed"] for c in row if c["dose"] == e["dose"]]
        by_seed = ", ".join(f"{100 * c['gain']:+.1f} (p {c['p']:.2g})" for c in seeds)
        dose = "trend, a doubling" if e["dose"] is None else e["dose"]
        exposures = "" if e["dose"] is None else f"{part['exposures'][str(e['dose'])]:g}"
        yield (
            f"{dose} | {exposures} | {e['items']} | {percent(e['seen'])} | {percent(e['unseen'])} | {points(e)} | "
            f"{e['p']:.2g} | {by_seed}"
        )


def task_tables(name: str, entry: dict[str, Any]) -> None:
    head = "copies | exposures | items | seen % | unseen % | gain, points | p | by seed"
    for arm, part in (("injected", entry), ("diluted", entry["diluted"])):
        if part:
            print(f"\n{name}, {arm} arm (against {entry['against'] if arm == 'injected' else 'clean'}):")
            table(head, doses(part))
    table("copies | form | items | gain, points | p against the commonest form", (
        f"{c['dose']} | {c['group']} | {c['items']} | {points(c, 'gain')} | {'' if c['p'] is None else format(c['p'], '.2g')}"
        for c in entry["forms"]
    ))  # fmt: skip
    table("copies | last seen | items x seeds | gain, points", (
        f"{f['dose']} | {c['group']} | {c['items']} | {points(c, 'gain')}" for f in entry["forgetting"] for c in f["cells"]
    ))  # fmt: skip
    for f in entry["forgetting"]:
        if f["trend"] is not None:
            print(f"\n{f['dose']} copies: slope over the training {points(f, 'trend')}, p {f['p']:.2g}")
    table("seed | reported % | estimated clean % (interval)", (
        f"{k} | {percent(c['reported'])} | {percent(c['clean'])} ({percent(c['low'])} to {percent(c['high'])})"
        for k, c in enumerate(entry["clean_scores"], 1)
    ))  # fmt: skip
    held, of = entry["held_clean_runs"] or ("-", "-")
    print(
        f"\n{entry['against']} arm {percent(entry['control_arm'])} %, clean runs inside {held} of {of}; coverage over"
    )
    print(f"pseudo-benchmarks: {entry['coverage']}; testable: {entry['testable']}; left out: {entry['left_out']}")


def cell(value: dict[str, float] | None, scale: float = 100) -> str:
    if value is None:
        return "-"
    digits = 0 if scale == 100 else 2
    low, middle, high = (f"{scale * value[key]:.{digits}f}" for key in ("low", "value", "high"))
    return f"{middle} ({low} to {high})"


def rates(found: dict[str, Any], of_form: bool) -> Rows:
    for auc, hits in hit_rows(found):
        if (auc["form"] != "all") == of_form:
            form = f"{auc['form']} | " if of_form else ""
            yield (
                f"{auc['detector']} | {form}{auc['dose']} | {auc['n']} / {auc['unseen']} | {cell(auc, 1)} | "
                + " | ".join(map(cell, hits))
            )


def alarms(found: dict[str, Any]) -> Rows:
    """One row a detector and kind of innocent: false alarms at 5 % with n, on items, then on benchmarks."""
    for detector, of, cells in alarm_rows(found):
        shown = [f"{cell(c)}, n {c['n']}" if c else "-" for c in cells]
        yield f"{detector} | {of} | " + " | ".join(shown)


def detector_tables(arm: str, found: dict[str, Any]) -> None:
    print(f"\ndetectors, {arm} arm: {found['regime']}; cost {found['cost']}")
    table("detector | copies | seen / unseen | AUC | hits % at 5 % alarms | at 1 %", rates(found, of_form=False))
    if len(found["regime"]["forms"]) > 1:
        table(
            "detector | form | copies | seen / unseen | AUC | hits % at 5 % alarms | at 1 %", rates(found, of_form=True)
        )
    kinds = [f"{what}, {side} subjects" for what in ("items", "benchmarks") for side in ("same", "other")]
    table("detector | of | " + " | ".join(kinds), alarms(found))
    table("published rule | copies | of the reference | items | flagged %", (
        f"{r['detector']} | {r['dose']} | {r['of'] == 'reference'} | {r['n']} | {cell(r)}" for r in flag_rows(found)
    ))  # fmt: skip


def main(folder: Path) -> None:
    study = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    table("arm | rows | tokens | injected % of tokens | " + " | ".join(f"{t} %" for t in study["tasks"]), (
        f"{a['name']} | {a['rows']:,} | {a['tokens']:,} | {percent(a['injected']['tokens'])} | "
        + " | ".join(" / ".join(map(percent, e["accuracy"][a["name"]])) for e in study["tasks"].values())
        for a in study["arms"]
    ))  # fmt: skip
    for name, entry in study["tasks"].items():
        if entry["doses"]:
            task_tables(name, entry)
        else:
            print(f"\n{name}, spill-over: {entry['spill_over']}")
    print(f"\ntext only: {study['text_only']}\n\noverlap: {study.get('overlap')}")
    for arm, found in (study["detectors"] or {}).items():
        detector_tables(arm, found)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
