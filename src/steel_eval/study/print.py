"""What `study` prints: one table of doses an injected task, the rest in words; the page has all of it."""

from typing import Any

from rich.table import Table

from steel_data.chinese import say as in_language
from steel_data.row.display import console, one_line, plain_table, print_table
from steel_eval.contamination.verdict import print_block
from steel_eval.leak.rates.table import percent
from steel_eval.study.page import clean_claim, detector_families, summary
from steel_eval.study.verdict import pool_verdicts, study_verdicts


def print_study(results: dict[str, Any]) -> None:
    """Print the findings of a study (the content of `study.json`)."""
    out = console()

    def say(line: str) -> None:
        out.print(one_line(in_language(line)), markup=False, highlight=False, soft_wrap=True)

    print_block(study_verdicts(results))
    for name, entry in results["tasks"].items():
        accuracy = ", ".join(
            f"{arm} {_percent(sum(v) / len(v))} ({len(v)} seeds)" for arm, v in entry["accuracy"].items()
        )
        say(f"{name}: {accuracy}")
        if entry["doses"] is None:
            say(f"{name}: {_spill_words(entry['spill_over'])}")
            continue
        for about, part in (("injected", entry), ("diluted", entry["diluted"])):
            if part:
                print_table(_doses_table(about, part), out)
        for c in entry["clean_scores"]:
            say(
                f"{name}: reported {_percent(c['reported'])}, {clean_claim(c)} {_percent(c['clean'])} "
                f"({_percent(c['low'])} .. {_percent(c['high'])}); the {entry['against']} arm has "
                f"{_percent(entry['control_arm'])}"
            )
        if not entry["testable"]:
            level = _percent(entry["control_accuracy"])
            say(
                f"{name}: on unseen items the model is at chance level ({level}): what it says of forms and "
                "spill-over is not testable here"
            )
    for line in summary(results):
        say(line)
    if results["text_only"]:
        auc = results["text_only"]
        say(
            f"text-only classifier: AUC {auc['auc']:.3f} ({auc['low']:.3f} .. {auc['high']:.3f}); "
            f"exchanged doses give as much in {100 * auc['p']:.0f} % of {auc['draws']} draws (right: more than 5 %)"
        )
    for arm, found in (results["detectors"] or {}).items():
        from steel_eval.leak.rates.table import print_calibration

        say(f"detectors on the {arm} arm")
        print_calibration(found)


def print_pool(results: dict[str, Any]) -> None:
    """Print the findings of a crossed pool (the content of its `study.json`)."""
    out = console()
    print_block(pool_verdicts(results))
    for name, entry in results["presets"][results["preset"]].items():
        columns = (f"{name}: copies", "runs", "run x item", "gain, points", "95 % interval", "p, one-sided")
        table = plain_table(*columns, left=0)
        for g in entry["gains"]:
            interval = f"{_points(g['low'])} .. {_points(g['high'])}"
            cells = (str(g["dose"]), str(g["runs"]), str(g["pairs"]), _points(g["gain"]), interval, f"{g['p']:.2g}")
            table.add_row(*cells)
        print_table(table, out)
    for family, rows in detector_families(results["detectors"] or []).items():
        table = plain_table(
            family, "copies", "run x item", "AUC", "95 % interval", "hits at 5 % alarms", "p, one-sided",
            "items accused, same / other subjects", "sets accused, same / other subjects", left=1,
        )  # fmt: skip
        for d, found in rows:
            area, interval = f"{d['auc']:.2f}", f"{d['low']:.2f} .. {d['high']:.2f}"
            hits, *accused = (percent(cell) for cell in found)
            table.add_row(
                d["detector"], str(d["dose"]), str(d["pairs"]), area, interval, hits, f"{d['p']:.2g}",
                " / ".join(accused[:2]), " / ".join(accused[2:]),
            )  # fmt: skip
        print_table(table, out)


def _doses_table(about: str, part: dict[str, Any]) -> Table:
    columns = (f"{about}: copies", "exposures", "items", "seen", "unseen", "gain, points", "95 % interval", "p")
    table = plain_table(*columns)
    for e in part["doses"]:
        dose = "trend, a doubling" if e["dose"] is None else str(e["dose"])
        exposures = "" if e["dose"] is None else f"{part['exposures'].get(str(e['dose']), 0):.3g}"
        gain, interval = _points(e["effect"]), f"{_points(e['low'])} .. {_points(e['high'])}"
        seen, unseen = _percent(e["seen"]), _percent(e["unseen"])
        table.add_row(dose, exposures, str(e["items"]), seen, unseen, gain, interval, f"{e['p']:.2g}")
    return table


def _spill_words(found: dict[str, Any]) -> str:
    if "difference" not in found:
        return str(found["verdict"])
    interval = f"{_points(found['low'])} .. {_points(found['high'])}"
    return f"spill-over {_points(found['difference'])} points ({interval}), p {found['p']:.2g}. {found['verdict']}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"
