"""What the verdict may say: proof, exchangeable controls, enough of them, and power; else it cannot tell."""

from dataclasses import replace

import numpy as np
import pytest

from steel_eval.leak.verdict import Evidence, verdict
from steel_eval.stats.aggregate import SetTest
from steel_eval.stats.paired import Difference


def evidence(p=0.5, detectable=0.3, **changes):
    test = SetTest(p, Difference(0.4, 0.1, 0.7, p, detectable), np.zeros(0))
    plain = Evidence(
        task="cmmlu", of=2400, held=None, tested=400, controls=60, controls_are="the examples (dev) of cmmlu", like=True,
        test=test, inflation=Difference(0.05, -0.01, 0.11, 0.1, 0.086), share=0.5, strength=None,
    )  # fmt: skip
    return replace(plain, **changes)


@pytest.mark.parametrize(
    ("found", "seen", "words"),
    [
        (evidence(p=0.01), "yes", "gained +0.40 standard deviations"),
        (evidence(), "no", "Nothing shows"),
        (evidence(detectable=0.8), "cannot-tell", "could have escaped"),
        (evidence(p=0.01, like=False), "cannot-tell", "63 of 100"),
        (evidence(p=0.01, controls=7), "cannot-tell", "Not enough controls: 7, 8 are needed"),
        (evidence(held=144), "yes", "its scores do not show it"),
        (evidence(held=144, controls=7), "yes", "trained on rows"),
        (evidence(held=2, p=0.5), "no", "Nothing shows"),
        (evidence(held=0, detectable=0.8), "no", "Not in this mixture"),
        (evidence(held=0, p=0.03), "no", "Not in this mixture"),  # two pieces of evidence share the 5 %
        (evidence(test=None, inflation=None), "cannot-tell", "Nothing could be compared"),
    ],
)  # fmt: skip
def test_seen_or_not(found, seen, words):
    said = verdict(found)
    assert said.seen == seen and words in said.finding
    assert (said.false_alarm_rate is None) == (seen == "cannot-tell")
    assert len(said.lines()) == 4


def test_inflation_is_of_the_whole_benchmark_in_points():
    said = verdict(evidence()).data()
    assert said["inflation_points"] == pytest.approx({"value": 2.5, "low": -0.5, "high": 5.5})
    assert said["smallest_detectable"] == pytest.approx(4.3)
    assert "+2.5 points (95 % interval -0.5 to +5.5)" in said["lines"][2]


def test_few_controls_give_no_numbers():
    said = verdict(evidence(controls=3))
    assert said.inflation is None and said.smallest_detectable is None
    assert "not enough controls" in said.lines()[2] and "any leak, with 3 controls" in said.lines()[3]


def test_overlap_that_could_be_error_proves_nothing():
    assert "no more than overlap names by error" in verdict(evidence(held=3)).mixture
    assert "the rows are named" in verdict(evidence(held=12)).mixture
