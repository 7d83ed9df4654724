"""Flaws that can be seen from scores stand before any number; what is in order is not named."""

from pathlib import Path

import pytest

from steel_eval.compare.runs import Arm, Result
from steel_eval.contamination.label import Mark
from steel_eval.report.flaws import find_flaws

ROW = {"accuracy": 0.6, "stderr": 0.02, "n": 100, "invalid": 0, "expected_if_guessed": 0.6,
       "letters": {"predicted": {"A": 40, "B": 60}, "always": 0.3}, "counts": {}}  # fmt: skip
SAME = {"a": "A", "b": "B", "task": "cmmlu", "group": "", "p": 0.001, "q": None, "difference": 0.1}


def arm(name, seeds=2, base="x" * 32, preset="lm-eval", **row):
    scores = {"tasks": {"cmmlu": ROW | row}, "preset": preset, "shots": 5, "training": {"base": {"fingerprint": base}}}
    return Arm(name, [[Result(Path(name), scores)] for _ in range(seeds)])


def flaws(arms, tests=(), **mark):
    marks = {
        "cmmlu": [
            [Mark("cmmlu", 100, mark.get("declared", {}), looked=mark.get("looked", ""))] * len(a.runs) for a in arms
        ]
    }
    return find_flaws(arms, tests, marks)


def test_what_is_in_order_is_not_named():
    assert flaws([arm("A"), arm("B")], [SAME]) == []


@pytest.mark.parametrize(
    ("arms", "words"),
    [
        ([arm("A"), arm("B", base="y" * 32)], "different base models (A xxxxxxxxxxxx, B yyyyyyyyyyyy)"),
        ([arm("A"), arm("B", seeds=1)], "One seed only: B."),
        ([arm("A"), arm("B", preset="cmmlu")], "different protocols stand side by side (cmmlu, 5-shot; lm-eval, 5-shot)"),
        ([arm("A", invalid=3, expected_if_guessed=0.61)], "A on cmmlu: 3 of 100 answers unreadable; at chance level they add 1.0"),
        ([arm("A", letters={"predicted": {"": 5, "A": 90}, "always": 0.3})], "A on cmmlu: 90 % of the answers are one letter"),
        ([arm("A", limit=10, of=900)], "A on cmmlu: --limit 10: 100 of 900 questions: a try, no score of the benchmark."),
        ([arm("A", accuracy=0.33)], "not shown to be better than always saying one letter (30.0 %)"),
        ([arm("A", counts={"truncated": 3})], "A on cmmlu: 3 prompts cut at the left"),
        ([arm("A", counts={"shots_dropped": 2})], "A on cmmlu: 2 prompts lost examples"),
    ],
)  # fmt: skip
def test_each_flaw_is_one_sentence(arms, words):
    (found,) = {flaw for flaw in flaws(arms) if words in flaw}
    assert found.endswith(".")


def test_a_task_without_accuracy_is_passed_over():
    assert flaws([arm("A", accuracy=None)]) == []


def test_noise_is_named_by_the_rate_that_counts():
    tests = [SAME | {"p": 0.04, "q": 0.06}, SAME | {"task": "ceval"}, SAME | {"group": "STEM", "p": 0.9}]
    assert flaws([arm("A"), arm("B")], tests) == ["Within noise, no difference is shown: B - A on cmmlu (+10.0)."]


def test_what_seeds_have_in_common_is_said_once():
    found = flaws([arm("A"), arm("B")], declared={1: 40}, looked="not looked for: no mixture at hand")
    assert [f.partition(":")[0] for f in found[:2]] == ["A on cmmlu", "B on cmmlu"]
    assert "not one of ability" in found[0]
    assert found[2:] == [
        "Undeclared questions in the training data were not looked for: no mixture at hand: A on cmmlu; B on cmmlu."
    ]
