"""The page: the plot on top, nothing undefined, no markup from names, and words for what cannot be said."""

import copy
import json

import pytest
from tests.sentences import english

from steel_data.page.chart import Line, Point
from steel_eval.study.page import detector_families, dose_chart, summary, write_page, write_pool_page
from steel_eval.study.results import UNMEASURED
from steel_eval.study.verdict import study_verdicts

GAIN = {"items": 40, "clusters": 40, "seen": 0.4, "unseen": 0.25, "effect": 0.15, "low": 0.05, "high": 0.25, "p": 0.001,
        "exact": False, "seeds_counted": True}  # fmt: skip
CELL = {"dose": 3, "group": "answer-only", "items": 40, "gain": 0.1, "low": 0.0, "high": 0.2, "p": None}
ENTRY = {
    "accuracy": {"clean": [0.25, 0.26], "injected": [0.3, 0.31]}, "spill_over": None, "against": "clean",
    "doses": [{"dose": 3, **GAIN}, {"dose": None, **GAIN}], "exposures": {"3": 6.0}, "by_seed": [[CELL]],
    "left_out": {"stand in ordinary rows too": 2}, "forms": [CELL],
    "forgetting": [{"dose": 3, "cells": [CELL], "trend": -0.1, "low": -0.2, "high": 0.0, "p": 0.04}],
    "trajectory": [{"step": s, "dose": 3, "exposures": s / 10, "gain": 0.1, "low": 0.0, "high": 0.2} for s in (10, 20)],
    "clean_scores": [{"reported": 0.3, "clean": 0.26, "low": 0.24, "high": 0.28, "unseen_items": 60, "runs": 0, "thin": 0}],
    "true_clean": 0.25, "control_arm": 0.25, "held_clean_runs": None, "control_accuracy": 0.25, "chance": 0.25,
    "control_above": 0.2, "testable": False, "diluted": None,
    "coverage": {"held": 57, "of": 60, "low": 0.86, "high": 0.98, "expected": 0.95},
}  # fmt: skip
SPILL = {"accuracy": {"clean": [0.25, 0.26], "injected": [0.3, 0.31]}, "doses": None, "spill_over": {
    "against": "clean", "items": 60, "left_out": 1, "verdict": "not testable here: one seed an arm says nothing of mixtures"}}  # fmt: skip
RESULTS = {
    "name": "</title><script>alert(1)</script>", "preset": "steel-likelihood", "shots": 0,
    "arms": [{"name": n, "rows": 100, "tokens": 1000, "injected": {"rows": s, "tokens": s}, "seeds": 2}
             for n, s in (("clean", 0.0), ("injected", 0.6))],
    "notes": ["injected: 60.0% of the tokens are injected: a stress test, not a dilution"], "train": {"epochs": 2},
    "tasks": {"cmmlu": ENTRY, "ceval": SPILL}, "text_only": {"auc": 0.51, "low": 0.46, "high": 0.56, "p": 0.4, "draws": 19},
    "overlap": {"injected": [{"form": "edited", "items": 40, "found": 39, "share": 0.975, "low": 0.8, "high": 1.0}]},
    "detectors": None,
}  # fmt: skip
RESULTS["presets"] = {"steel-likelihood": RESULTS["tasks"], "lm-eval": RESULTS["tasks"]}


def test_the_plot_stands_on_top_and_names_are_no_markup():
    page = english(write_page(RESULTS))
    assert page.index("<svg") < page.index("<h2>Arms")
    assert page.count("<script") == 1 and "alert(1)" in page
    assert "built-in method" not in page and "Undefined" not in page
    for words in ("Not testable here", "57 of 60", "2 items left out", "one seed an arm", "other prompts", "39 (97.5 %)",
                  "a stress test", "AUC 0.510"):  # fmt: skip
        assert words in page, words
    assert page.count("<svg") == 2  # gain by exposures, and over training


def test_detectors_stand_with_their_false_alarms_and_the_published_rules():
    rate = {"detector": "loss gap: item", "of": "seen", "dose": 3, "n": 40, "unseen": 90, "low": 0.2, "high": 0.4}
    alarm = {"detector": "loss gap: item", "of": "unseen", "value": 0.49, "low": 0.28, "high": 0.71}
    forms = ("all", "answer-only", "edited")
    found = {
        "rates": [
            *({**rate, "what": what, "form": form, "value": value} for form in forms
              for what, value in (("AUC", 0.77), ("AUC alone", 0.6), ("hits at 5 %", 0.3))),
            {**alarm, "what": "items accused", "controls": "same subjects", "n": 1804, "value": 0.04},
            {**alarm, "what": "benchmarks accused", "controls": "other subjects", "n": 51},
            {"detector": "scenario b below -0.2", "what": "flagged", "of": "reference", "dose": 0, "n": 60, "value": 0.23,
             "low": 0.1, "high": 0.4},
        ],
        "regime": {"parameters": 1_600_000, "architecture": "qwen2", "start": "tuned", "method": "full", "loss": "answers only",
                   "forms": ["answer-only", "edited"]},
    }  # fmt: skip
    page = english(write_page({**RESULTS, "detectors": {"injected": found}}))
    assert page.count("0.77 (0.20–0.40)") == 3 and page.index("By form") > page.index("0.77 (0.20–0.40)")
    row = page[page.index("<h3>False alarms") :]
    cells = row[row.index("loss gap: item") :].split("</tr>")[0]
    assert cells.count("<td>") == 4 and cells.count("<td>–</td>") == 2
    assert cells.index("4 (28–71), n 1804") < cells.index("49 (28–71), n 51")
    values = ["4 (28–71), n 1804", "–", "–", "49 (28–71), n 51"]  # items, then benchmarks: same, other subjects
    assert "".join(f"<td>{value}</td>" for value in values) in cells
    assert "<td>23.0 (10.0–40.0)</td>" in page and "Undefined" not in page


def test_a_draw_that_shows_in_the_text_puts_the_study_in_doubt():
    # below 0.5 nobody could use the text: it is the exchanged doses that say what is too much
    for auc, p, doubt in ((0.42, 1.0, False), (0.6, 0.03, True)):
        page = english(
            write_page(
                {**RESULTS, "text_only": {"auc": auc, "low": auc - 0.04, "high": auc + 0.04, "p": p, "draws": 39}}
            )
        )
        assert ("in doubt" in page) == doubt and ("as it must not" in page) != doubt


def test_a_study_without_extras_has_a_page_too():
    bare = copy.deepcopy(RESULTS)
    bare |= {"text_only": None, "overlap": {}, "presets": {"steel-likelihood": bare["tasks"]}, "notes": []}
    bare["tasks"]["cmmlu"] |= {"trajectory": [], "coverage": None, "left_out": {}, "forms": [], "forgetting": []}
    page = english(write_page(bare))
    assert page.count("<svg") == 1 and "Checks of the randomisation" not in page
    json.dumps(bare)


def test_the_summary_says_gain_and_clean_score():
    first, second = summary(RESULTS)
    assert (
        first
        == "cmmlu: 6 exposures raise the score on seen items by +15.0 points over unseen ones (+5.0 to +25.0, p 0.001)."
    )
    assert "reported 30.0 %, this run's score on questions it never saw is 26.0 %" in second


def test_the_summary_claims_no_gain_that_the_verdict_does_not():
    """It said "90 exposures raise the score" above a verdict of "cannot tell": p 0.031, one of four doses."""
    results = copy.deepcopy(RESULTS)
    (strongest,) = [e for e in results["tasks"]["cmmlu"]["doses"] if e["dose"] is not None][-1:]
    strongest["p"] = 0.06
    (verdict,) = study_verdicts(results)
    assert verdict.seen == "cannot-tell"
    assert summary(results)[0].startswith("cmmlu: no gain is shown: at 6 exposures seen items score +15.0 points over")


@pytest.mark.parametrize(
    "points", [[(3.0, 0.1, 0.0, 0.2)], [(1.0, -0.3, -0.5, -0.1), (90.0, 0.9, 0.8, 1.0)], [(3.0, 0.4, -9.0, 9.0)]]
)
def test_a_plot_holds_its_points(points):
    svg = dose_chart([Line("injected", [Point(*p, words="said") for p in points])])
    assert svg.count("<circle") == len(points)  # none where nothing was trained on, but the line begins there
    assert svg.count(">0</text>") == 2 and "+0</text>" not in svg
    heights = [float(part.split('"')[0]) for part in svg.split('cy="')[1:]]
    zero = float(svg.split('class="rule" d="M60.0 ')[1].split("L")[0])
    assert all(20 <= y <= 340 and (y < zero) == (p[1] > 0) for y, p in zip(heights, points, strict=True))


def test_a_pool_s_page_is_read_in_one_language_at_a_time():
    gain = {"dose": 3, "pairs": 40, "runs": 4, "gain": 0.2, "low": 0.1, "high": 0.3, "p": 0.001, "detectable": 0.1}
    clean = {"reported": 0.3, "clean": 0.26, "low": 0.24, "high": 0.28, "runs": 3, "guessing": True}
    results = {
        "name": "</title><script>alert(1)</script>", "preset": "steel-likelihood", "shots": 0, "notes": [],
        "presets": {"steel-likelihood": {"cmmlu": {"gains": [gain], "clean_scores": [clean], "left_out": 2}}},
        "runs": [{"name": "draw-1", "rows": 100, "tokens": 1000, "injected": {"tokens": 0.04}}],
        "train": {"epochs": 2}, "detectors": None,
    }  # fmt: skip
    page = write_pool_page(results)
    assert 'class="en-first"' in page and 'id="zh"' in page and "结论" in page
    shown = english(page)
    assert "<h2>Verdict</h2>" in shown and "2 items left out" in shown and "another favourite letter" in shown
    assert page.count("<script") == 1 and "alert(1)" in page and "Undefined" not in page


def test_a_pool_s_page_shows_reference_runs_as_a_family_of_their_own():
    rates = [
        {"what": "hits at 5 %", "controls": "unseen", "value": 0.4, "low": 0.2, "high": 0.6},
        {"what": "items accused", "controls": "same subjects", "value": 0.05, "low": 0.03, "high": 0.08},
        {"what": "benchmarks accused", "controls": "other subjects", "value": 0.31, "low": 0.2, "high": 0.4},
    ]
    row = {"detector": "zlib", "dose": 3, "pairs": 12, "auc": 0.9, "low": 0.8, "high": 0.95, "p": 0.004, "rates": rates}
    families = detector_families([{**row, "reference": "other runs"}, {**row, "reference": "base"}])
    assert list(families) == ["reference runs", "change from the base"]
    assert [r and r["value"] for r in families["reference runs"][0][1]] == [0.4, 0.05, None, None, 0.31]
    results = {
        "name": "pool", "preset": "x", "shots": 0, "notes": [], "presets": {"x": {}}, "runs": [], "train": {},
        "detectors": [{**row, "reference": "other runs"}, {**row, "reference": "base"}],
    }  # fmt: skip
    page = english(write_pool_page(results))
    assert "Detectors: reference runs" in page and "Detectors: change from the base" in page
    assert page.count("31 % (20-40)") == 2 and page.count("p, one-sided") == 2
    assert page.count("did not see the item") == 1 and "Undefined" not in page


def test_a_study_without_detectors_has_its_page():
    """`[eval] detectors = false` ended in a traceback, after hours of training."""
    page = english(write_page(RESULTS | UNMEASURED))
    assert "gain over unseen items" in page and "train-side overlap" not in page
