"""What a report says first: the best arm, by how much, and how sure that is."""

from pathlib import Path

import pytest

from steel_eval.compare.runs import Arm, Result
from steel_eval.report.verdict import headline

TEST = {"task": "cmmlu", "group": "", "a": "A", "b": "B", "difference": -0.1, "low": -0.15, "high": -0.05, "p": 0.001,
        "q": 0.002, "seeds_a": 3, "seeds_b": 3}  # fmt: skip


def arm(name, accuracy):
    return Arm(name, [[Result(Path(name), {"tasks": {"cmmlu": {"accuracy": accuracy}}})]])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, "cmmlu: A is best, 40.0 %: better than B by 10.0 points (5.0 to 15.0)."),
        ({"seeds_b": 1}, "the checkpoint of A is best, 40.0 %: better than that of B by 10.0 points (5.0 to 15.0); with one"),
        ({"q": 0.2, "high": 0.01}, "A scores highest, 40.0 %, but cannot be told apart from B: +10.0 points (-1.0 to +15.0)."),
        ({"task": "ceval"}, "A scores highest, 40.0 %; how sure that is has not been tested."),
    ],
)  # fmt: skip
def test_the_best_arm_and_how_sure(changed, said):
    (line,) = headline([arm("B", 0.3), arm("A", 0.4)], [TEST | changed], ["cmmlu"])
    assert said in line


def test_one_arm_is_only_told_and_nothing_is_said_of_no_score():
    assert headline([arm("A", 0.4)], [], ["cmmlu", "ceval"]) == ["cmmlu: A scores 40.0 %."]
