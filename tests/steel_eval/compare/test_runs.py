"""Which scores belong to a name, in which order, and which must not be compared."""

import json

import numpy as np
import polars as pl
import pytest

from steel_data.errors import InputError
from steel_eval.compare.runs import check_alike, load_arm, load_results, values_of


def result(folder, step=1, preset="lm-eval", data="d", items=4, labels="ABCD"):
    """A score folder whose answers are right but for the last; of item i the gold letter has probability 0.4."""
    folder.mkdir(parents=True)
    subjects = ["law", "art"] * (items // 2)
    said = [*labels[: items - 1], "E"]
    logprob = {f"logprob_{c}": [np.log(0.4 if c == x else 0.2) for x in labels[:items]] for c in "ABCD"}
    pl.DataFrame(
        {"task": "cmmlu", "subject": subjects, "item": [f"test/{s}/{i}" for i, s in enumerate(subjects)],
         "label": list(labels[:items]), "prediction": said, **logprob}
    ).write_parquet(folder / "answers.parquet")  # fmt: skip
    scores = {"tasks": {"cmmlu": {"data_sha256": data}}, "step": step, "preset": preset, "shots": 5}
    (folder / "scores.json").write_text(json.dumps(scores))
    return folder


def test_checkpoints_come_in_order_of_steps(tmp_path):
    for step in (100, 20, 3):
        result(tmp_path / f"scores/step-{step}", step)
    assert [r.step for r in load_results(tmp_path)] == [3, 20, 100]
    arm = load_arm(f"x={tmp_path}")
    assert (
        arm.name == "x" and [r.step for r in arm.chosen("first")] == [3] and [r.step for r in arm.chosen("20")] == [20]
    )
    with pytest.raises(InputError, match=r"no checkpoint of step 7\. Fix: one of 3, 20, 100, or last, first"):
        arm.chosen("7")


def test_a_quick_try_is_no_second_seed_of_the_run(tmp_path):
    """`score --limit 2`, then `score`: the tutorial's way. The try was averaged with the score."""
    for scores in ("scores-limit-2", "scores"):
        result(tmp_path / f"a/{scores}/step-1")
    assert [[r.folder.parent.name for r in run] for run in load_arm(str(tmp_path / "a")).runs] == [["scores"]]
    assert len(load_arm(str(tmp_path / "a/scores-limit-2")).runs) == 1
    result(tmp_path / "b/scores-limit-2/step-1")
    assert len(load_arm(str(tmp_path / "b")).runs) == 1
    result(tmp_path / "b/scores-limit-20/step-1")
    with pytest.raises(InputError, match=r"several sizes\. Fix: one of scores-limit-2, scores-limit-20"):
        load_arm(str(tmp_path / "b"))


def test_seeds_are_runs_by_glob_and_in_one_output_folder(tmp_path, monkeypatch):
    for seed in (1, 2):
        result(tmp_path / f"a/seed-{seed}/scores/step-1")
        result(tmp_path / f"b/scores/seed-{seed}/step-1")
    monkeypatch.chdir(tmp_path)
    assert len(load_arm("a/seed-*").runs) == len(load_arm(f"B={tmp_path / 'b'}").runs) == 2
    assert load_arm("a/seed-*").name == "seed-"
    with pytest.raises(InputError, match="nothing there"):
        load_arm("c/seed-*")
    with pytest.raises(InputError, match="no scores here"):
        load_arm(str(tmp_path / "a/seed-1/scores/step-1/answers.parquet"))


def test_scores_without_answers_are_none(tmp_path):
    (result(tmp_path / "a") / "answers.parquet").unlink()
    with pytest.raises(InputError, match="no scores here"):
        load_results(tmp_path)


def test_of_several_presets_one_must_be_named(tmp_path):
    for preset in ("lm-eval", "cmmlu"):
        result(tmp_path / "step-3" / preset, preset=preset)
    with pytest.raises(InputError, match="Fix: --preset cmmlu, or lm-eval"):
        load_results(tmp_path)
    assert [r.protocol for r in load_results(tmp_path, "cmmlu")] == ["cmmlu, 5-shot"]
    with pytest.raises(InputError, match="Did you mean 'cmmlu'"):
        load_results(tmp_path, "cmlu")


def test_what_was_not_obtained_alike_is_refused(tmp_path):
    first, other, data = (
        load_results(result(tmp_path / name, **more))[0]
        for name, more in (("a", {}), ("b", {"preset": "cmmlu"}), ("c", {"data": "e"}))
    )
    check_alike([first, first])
    with pytest.raises(InputError, match="Fix: score alike"):
        check_alike([first, other])
    with pytest.raises(InputError, match="other questions of cmmlu"):
        check_alike([first, data])


def test_a_try_and_a_whole_score_are_told_apart(tmp_path):
    """They differ in their data too, but `other questions` would send one to look for a fault of the files."""
    whole, part = (load_results(result(tmp_path / name, data=name))[0] for name in ("whole", "part"))
    whole.scores["tasks"]["cmmlu"] |= {"n": 4_000, "limit": None, "of": 4_000}
    part.scores["tasks"]["cmmlu"] |= {"n": 4, "limit": 2, "of": 4_000}
    with pytest.raises(
        InputError, match=r"part: scored on 4 of 4,000 questions of cmmlu, .*whole on 4,000 \(all\)\. Fix: "
    ):
        check_alike([whole, part])


def test_values_stand_in_the_order_of_the_items(tmp_path):
    found = load_results(result(tmp_path / "a"))
    values = values_of([found, found], "cmmlu", "accuracy")
    assert values.items == ["test/art/1", "test/art/3", "test/law/0", "test/law/2"]
    assert values.arms[0].tolist() == [[1, 0, 1, 1]] and len(values.arms) == 2
    assert [values.subjects[i] for i in values.subject_Q] == ["art", "art", "law", "law"]
    gold = values_of([found], "cmmlu", "gold_probability").arms[0]
    assert gold == pytest.approx(np.full((1, 4), 0.4), abs=1e-6)
    with pytest.raises(InputError, match="metric 'f1': unknown"):
        values_of([found], "cmmlu", "f1")


def test_questions_without_a_published_answer_have_no_value(tmp_path):
    found = load_results(result(tmp_path / "a", labels=["A", "B", "", ""]))
    assert values_of([found], "cmmlu", "accuracy").items == ["test/art/1", "test/law/0"]


def test_other_questions_of_one_name_are_refused(tmp_path):
    a, b = load_results(result(tmp_path / "a")), load_results(result(tmp_path / "b", items=2))
    with pytest.raises(InputError, match="other questions of cmmlu"):
        values_of([a, b], "cmmlu", "accuracy")
