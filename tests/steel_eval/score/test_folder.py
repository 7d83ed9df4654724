"""A folder of scores: damage is one line, tasks are added, another model is refused."""

import copy
import json
import shutil

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from steel_data.errors import InputError
from steel_eval.ask.tasks import load_task
from steel_eval.cli import app
from steel_eval.run import refuse_other_parts
from steel_eval.score.folder import read_answers, read_scores, refuse_another, write_folder
from steel_eval.score.sweep import Settings, run_sweep


@pytest.fixture(scope="module")
def scored(toy_checkpoint, toy_data, tmp_path_factory):
    """A folder as `score` writes it."""
    out = tmp_path_factory.mktemp("scored") / "model"
    list(
        run_sweep(
            str(toy_checkpoint), Settings([load_task("cmmlu", toy_data)], ["lm-eval"], 0, out, out / "store.jsonl")
        )
    )
    return out


def both(scored, tmp_path):
    """Two copies, the second to be damaged."""
    for name in "ab":
        shutil.copytree(scored, tmp_path / name)
    return tmp_path / "a", tmp_path / "b"


def told(*commands):
    """Run commands that must not end in a traceback; return their one-line errors."""
    said = []
    for command in commands:
        run = CliRunner().invoke(app, [str(part) for part in command])
        assert run.exception is None or isinstance(run.exception, InputError | SystemExit), (command, run.exception)
        said.append(str(run.exception) if isinstance(run.exception, InputError) else "")
    assert all("\n" not in line for line in said)
    return said


def commands(a, b, tmp_path):
    return (["compare", a, b], ["report", b, "--out", tmp_path / "r.html"], ["check", b])


def damages():
    generator = np.random.default_rng(5)
    cut = [lambda data, share=share: data[: int(len(data) * share)] for share in (0, 0.01, 0.3, 0.9, 0.999)]

    def noise(data, start, count, seed):
        random = np.random.default_rng(seed)
        changed = bytearray(data)
        changed[int(start * len(data)) : int(start * len(data)) + count] = random.bytes(count)
        return bytes(changed)

    places = generator.random(12).tolist()
    random = [lambda data, at=at, seed=seed: noise(data, at * 0.98, 12, seed) for seed, at in enumerate(places)]
    return [*cut, *random, lambda data: b"\x00" * len(data), lambda data: b"null", lambda data: b"[1]"]


@pytest.mark.parametrize("name", ["answers.parquet", "scores.json", "prompts.parquet"])
def test_damaged_files_are_named_in_one_line(scored, tmp_path, name):
    a, b = both(scored, tmp_path)
    whole = (b / name).read_bytes()
    for number, damage in enumerate(damages()):
        (b / name).write_bytes(damage(whole))
        compared, reported, checked = told(*commands(a, b, tmp_path))
        if name != "scores.json":  # what is no JSON any more is told; a changed digit in it is not seen by all
            assert name in reported and name in checked, number
        if name == "answers.parquet":
            assert name in compared, number


def fields(value, path=()):
    """Every place in a JSON value."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*path, key)
            yield from fields(inner, (*path, key))


def test_no_field_of_scores_ends_in_a_traceback(scored, tmp_path):
    """Each one left out, and each of a wrong type (the tables' checksums are left out, so that all is read)."""
    a, b = both(scored, tmp_path)
    scores = read_scores(scored)
    del scores["files"]
    scores["training"] = {"step": 3, "base": {"name": "x", "fingerprint": "f", "history": []}, "train": {"epochs": 1}}
    places = [p for p in fields(scores) if "subjects" not in p[3:] and "versions" not in p and "counts" not in p[:-1]]
    for place in [p for p in places if len(p) < 4 or p[-1] == "n"][::2]:
        for wrong in ("absent", "x", -1, [1], {"x": {"y": []}}):
            changed = copy.deepcopy(scores)
            holder = changed
            for key in place[:-1]:
                holder = holder[key]
            if wrong == "absent":
                del holder[place[-1]]
            else:
                holder[place[-1]] = wrong
            (b / "scores.json").write_text(json.dumps(changed))
            told(commands(a, b, tmp_path)[0])


@pytest.mark.parametrize("wrong", [None, "absent", [], 5, {"x": 3}])
def test_what_readers_look_through_is_never_null(scored, tmp_path, wrong):
    """Found by bench/fuzz.py: `groups` that was null in one of two arms, and `subjects` that was a number."""
    a, b = both(scored, tmp_path)
    whole = read_scores(scored)
    del whole["files"]
    for place in ("groups", "subjects", "letters", "letters.predicted", "counts", "metrics"):
        changed = copy.deepcopy(whole)
        *above, key = place.split(".")
        holder = changed["tasks"]["cmmlu"][above[0]] if above else changed["tasks"]["cmmlu"]
        holder[key] = wrong
        if wrong == "absent":
            del holder[key]
        (b / "scores.json").write_text(json.dumps(changed))
        (reported,) = told(["report", a, b, "--out", tmp_path / "r.html"])
        refused = (
            wrong is None
            or isinstance(wrong, list | int)
            or (isinstance(wrong, dict) and place in ("groups", "subjects"))
        )
        assert (place in reported) == refused, (place, reported)


@pytest.mark.parametrize("key", ["contamination", "declared_items"])
def test_what_was_injected_is_counted_by_doses_that_are_numbers(scored, tmp_path, key):
    a, b = both(scored, tmp_path)
    changed = read_scores(scored) | {"contamination": {"cmmlu": {"1": 2}}, key: {"cmmlu": {"once": 2}}}
    del changed["files"]
    (b / "scores.json").write_text(json.dumps(changed))
    assert all("once" in line for line in told(*commands(a, b, tmp_path)))


@pytest.mark.parametrize("tasks", [None, [], {"cmmlu": 3}, {"cmmlu": {"limit": "x"}}, {"cmmlu": {"limit": [1]}}])
def test_damaged_scores_of_a_part_are_written_anew(tmp_path, tasks):
    (tmp_path / "scores.json").write_text(json.dumps({"tasks": tasks}))
    refuse_other_parts(tmp_path, None)


@pytest.mark.parametrize("column", ["task", "subject", "item", "label", "prediction", "logprob_A", "raw"])
def test_columns_that_are_missing_or_of_another_type(scored, tmp_path, column):
    a, b = both(scored, tmp_path)
    scores = read_scores(scored)
    del scores["files"]
    (b / "scores.json").write_text(json.dumps(scores))
    frame = pl.read_parquet(scored / "answers.parquet")
    odd = [frame.drop(column), frame.with_columns(pl.lit(3).alias(column)), frame.with_columns(pl.lit(None).alias(column)),
           frame.with_columns(pl.lit([1, 2]).alias(column)), frame.with_columns(pl.lit("§").alias(column))]  # fmt: skip
    for changed in odd:
        changed.write_parquet(b / "answers.parquet")
        told(*commands(a, b, tmp_path), ["compare", a, b, "--metric", "gold_probability"])


def frame_of(task, items, **more):
    columns = {"task": task, "subject": "law", "item": [f"test/law/{i}" for i in range(items)], "label": "A"}
    return pl.DataFrame(columns | {"prediction": "A", "raw": ""} | more)


def scores_of(task, model="m", fingerprint="f", **more):
    return {
        "tasks": {task: {"accuracy": 1.0}},
        "model": model,
        "model_fingerprint": fingerprint,
        "preset": "p",
        "shots": 0,
        **more,
    }


def test_a_second_score_adds_tasks_and_its_own_replace_the_earlier(tmp_path):
    write_folder(
        tmp_path, scores_of("cmmlu", declared_items={"cmmlu": {"1": 2}}), {"answers.parquet": frame_of("cmmlu", 3)}
    )
    write_folder(tmp_path, scores_of("ceval"), {"answers.parquet": frame_of("ceval", 2, logprob_E=-1.0)})
    there = write_folder(tmp_path, scores_of("cmmlu"), {"answers.parquet": frame_of("cmmlu", 4)})
    assert set(there["tasks"]) == {"cmmlu", "ceval"} and there == read_scores(tmp_path)
    answers = read_answers(tmp_path, there)
    assert answers["task"].value_counts().sort("task").rows() == [("ceval", 2), ("cmmlu", 4)]
    assert there["declared_items"] == {"cmmlu": {"1": 2}}


def test_another_model_is_refused_by_name(tmp_path):
    write_folder(tmp_path, scores_of("cmmlu", "one", "1" * 32), {})
    refuse_another(tmp_path, {"model": "two", "model_fingerprint": "1" * 32})  # the same weights
    refuse_another(tmp_path, {"model": "one", "model_fingerprint": "3" * 32})  # overwritten in place
    with pytest.raises(InputError, match=r"holds scores of one \(weights 111111111111\), not of two"):
        write_folder(tmp_path, scores_of("ceval", "two", "2" * 32), {})
    assert set(read_scores(tmp_path)["tasks"]) == {"cmmlu"}


def test_scores_of_another_protocol_or_a_damaged_folder_are_replaced_and_that_is_said(tmp_path, capsys):
    write_folder(tmp_path, scores_of("cmmlu"), {"answers.parquet": frame_of("cmmlu", 3)})
    there = write_folder(tmp_path, scores_of("ceval", shots=5), {"answers.parquet": frame_of("ceval", 3)})
    assert set(there["tasks"]) == {"ceval"} and "cmmlu scored as p, 0-shot is replaced" in capsys.readouterr().err
    (tmp_path / "answers.parquet").write_bytes(b"nothing")
    there = write_folder(tmp_path, scores_of("cmmlu", shots=5), {"answers.parquet": frame_of("cmmlu", 3)})
    assert set(there["tasks"]) == {"cmmlu"} and "written anew" in capsys.readouterr().err


def test_the_check_of_scores(scored, tmp_path):
    run = CliRunner().invoke(app, ["check", str(scored)])
    assert run.exit_code == 0 and "1 scored checkpoint, whole" in run.stdout
    _, b = both(scored, tmp_path)
    scores = read_scores(b)
    scores["tasks"]["cmmlu"]["accuracy"] += 0.01
    (b / "scores.json").write_text(json.dumps(scores))
    [said] = told(["check", b])
    assert "cmmlu" in said and "accuracy" in said


def test_a_group_without_its_accuracy_is_named(scored, tmp_path):
    a, b = both(scored, tmp_path)
    scores = read_scores(scored)
    group = next(iter(next(iter(scores["tasks"].values()))["groups"].values()))
    group.clear()
    (b / "scores.json").write_text(json.dumps(scores))
    for said in told(*commands(a, b, tmp_path)):
        assert "groups" in said and "accuracy" in said
