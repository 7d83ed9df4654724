"""What counts in a study's findings: items that ordinary rows hold, or that are near injected ones, do not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.steel_eval.lab import write_benchmark, write_mixture

from steel_data.errors import InputError
from steel_eval.arms import RunArm
from steel_eval.ask.tasks import load_task
from steel_eval.stats.effects import Items
from steel_eval.study.results import _above_chance, _spill, drawn, near_seen, study_results, truth_of
from steel_eval.study.score import Point, ScoredArm, items_of
from steel_eval.study.settings import StudySettings


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    root = tmp_path_factory.mktemp("questions")
    write_benchmark(root)
    return load_task("cmmlu", root)


def arm(folder, name, task, ordinary=(), doses=None):
    """A scored arm whose mixture holds the items `ordinary`; `doses`: what its injector drew, by place in the task."""
    place = folder / name / "mixture"
    place.mkdir(parents=True)
    write_mixture(place, list(ordinary))
    items = items_of(task)
    truth = {"benchmark": "cmmlu", "item": [i.item for i in items], "dose": [(doses or {}).get(k, 0) for k in range(len(items))],
             "form": ["edited" if (doses or {}).get(k) else None for k in range(len(items))]}  # fmt: skip
    pl.DataFrame(truth).write_parquet(place / "truth.parquet")
    right = {("p", task.name): (np.arange(len(items)) % 3 == 0).astype(float)}
    return ScoredArm(RunArm(name, Path("r.toml"), folder / name), [[Point(folder, 1, right)]] * 2)


def test_an_item_that_ordinary_rows_hold_does_not_count(task, tmp_path):
    items = items_of(task)
    scored = {
        "clean": arm(tmp_path, "clean", task, items[3:4]),
        "injected": arm(tmp_path, "injected", task, doses={0: 3, 5: 1}),
    }
    truth = truth_of(task, scored, "injected")
    assert np.flatnonzero(~truth.kept_Q).tolist() == [3] and truth.left_out == {"stand in ordinary rows too": 1}
    assert np.flatnonzero(truth.items.dose).tolist() == [0, 5] and truth.items.dose[0] == 3
    assert truth.form[0] == "edited" and truth.form[1] == ""
    subjects = [item.subject for item in items]
    assert all((truth.items.subject[i] == truth.items.subject[0]) == (s == subjects[0]) for i, s in enumerate(subjects))
    assert drawn(scored["injected"].arm.mixture)["cmmlu"][items[5].item] == (1, "edited")


def test_what_is_near_an_injected_item_is_no_spill_over(task, tmp_path):
    scored = {"clean": arm(tmp_path, "clean", task), "injected": arm(tmp_path, "injected", task, doses={0: 3})}
    twin = replace(items_of(task)[0], item="val/other/00000", options=items_of(task)[0].options[::-1])
    strange = replace(
        items_of(task)[1], item="val/other/00001", question="一道没有人见过的全新问题", options=("红", "蓝")
    )
    other = replace(task, name="ceval", benchmark="ceval", items={"other": [twin, strange]})
    truths = {task.name: truth_of(task, scored, "injected")}
    assert near_seen(other, [task], truths, scored).tolist() == [True, False]


def test_spill_over_leaves_out_what_may_not_count(task):
    n = len(items_of(task))
    out_Q = np.arange(n) < 8
    control_SQ = np.tile((np.arange(n) % 2).astype(float), (2, 1))
    injected_SQ = np.where(out_Q, 1.0, control_SQ)  # all that it gains is on items that do not count
    found = _spill({"placebo": control_SQ, "injected": injected_SQ}, task, out_Q, "placebo")
    assert (found["items"], found["left_out"], found["difference"]) == (n - 8, 8, 0.0)
    assert found["verdict"] == ""  # half right is above the chance of a quarter
    at_chance = {"clean": np.zeros((2, n)), "injected": np.zeros((2, n))}
    assert _spill(at_chance, task, out_Q, "clean")["verdict"] == "not testable here: the clean arm is at chance"
    single = {"clean": control_SQ[:1], "injected": injected_SQ}
    assert "one seed an arm" in _spill(single, task, out_Q, "clean")["verdict"]


def test_chance_is_that_of_the_unseen_items(task):
    n = len(items_of(task))
    items = Items(np.where(np.arange(n) < n // 2, 1, 0), np.zeros(n, np.int64), np.arange(n))
    seen_SQ = np.tile((items.dose > 0).astype(float), (2, 1))  # all seen ones right, none of the others
    found = _above_chance(seen_SQ, items, task, np.ones(n, bool))
    assert (found["control_accuracy"], found["chance"], found["testable"]) == (0, 0.25, False)
    assert _above_chance(np.ones((2, n)), items, task, np.ones(n, bool))["testable"]


def test_a_study_of_no_injected_task_is_refused(task, tmp_path):
    scored = {"clean": arm(tmp_path, "clean", task), "injected": arm(tmp_path, "injected", task, doses={0: 3})}
    other = replace(task, name="ceval", benchmark="ceval")
    with pytest.raises(InputError, match=r"tasks ceval: none was injected\. Fix: cmmlu"):
        study_results(scored, [other], StudySettings(presets=["p"]))
