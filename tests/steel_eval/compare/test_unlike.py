"""What else differs between arms, and which control an experiment lacks."""

from pathlib import Path

import pytest

from steel_eval.compare.runs import Arm, Result
from steel_eval.compare.unlike import unfinished, unlike


def arm(name, *runs, **scores):
    told = [{"step": 9, "tasks": {"cmmlu": {"n": 10}}, "contamination": {}, **scores, **run} for run in (runs or ({},))]
    return Arm(name, [[Result(Path("nowhere"), one)] for one in told])


def training(base="b" * 20, rate=1e-4, epochs=3, rows=100):
    return {
        "training": {"base": {"fingerprint": base}, "train": {"learning_rate": rate, "epochs": epochs}, "rows": rows}
    }


def test_equal_arms_have_nothing_to_mind():
    assert unlike([arm("A", **training()), arm("B", **training())]) == []
    assert unlike([arm("A"), arm("B", **training())]) == []  # what is not known is not said


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (training(base="c" * 20), "different base models (A bbbbbbbbbbbb, B cccccccccccc)"),
        (training() | {"step": 20}, "differ in steps (A 9, B 20)"),
        (training(rate=2e-4), "differ in learning rate (A 0.0001, B 0.0002)"),
        (training(epochs=1), "differ in epochs (A 3, B 1)"),
        (training(rows=50), "differ in rows (A 100, B 50)"),
        (training() | {"dtype": "float32"}, "differ in dtype (A bfloat16, B float32)"),
    ],
)
def test_each_difference_is_named(other, said):
    [found] = unlike([arm("A", **training(), dtype="bfloat16"), arm("B", **{"dtype": "bfloat16", **other})])
    assert said in found


def test_runs_of_one_arm_that_are_no_seeds_are_named():
    found = unlike([arm("A", training(), training(rate=5e-5)), arm("B", **training())])
    assert "The runs of A differ in learning rate (0.0001, 5e-05): they are no seeds of one." in found


def injected(n, of=10, task="cmmlu"):
    return {"contamination": {task: {"1": n}}, "declared_items": {"cmmlu": {"1": n} if task == "cmmlu" else {}}}


def test_missing_controls_are_named():
    clean, half, whole = arm("clean"), arm("half", **injected(5)), arm("whole", **injected(10))
    placebo = arm("placebo", **injected(5, task="ceval"))
    assert unfinished([clean, clean], "last", "cmmlu") == []
    [found] = unfinished([clean, half], "last", "cmmlu")
    assert found.startswith("No placebo arm: ") and "(half)" in found
    assert unfinished([clean, placebo, half], "last", "cmmlu") == []
    assert unfinished([clean, placebo, whole], "last", "cmmlu") == [
        "whole saw every question of cmmlu: no unseen half is left to compare with."
    ]
