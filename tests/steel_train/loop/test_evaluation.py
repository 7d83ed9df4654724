"""Looking at held-out rows changes nothing that is trained, and stops, keeps and names what it should."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from tests.steel_train.conftest import MODEL, write_recipe
from tests.steel_train.loop.test_session import interrupt_at, trace, weights

from steel_data.errors import InputError
from steel_data.recipe.load import load
from steel_train.examples.prepare import prepare
from steel_train.loop.checkpoints import best_checkpoint, read_facts
from steel_train.loop.evaluation import interval
from steel_train.schedule.order import Schedule
from steel_train.settings import Eval, Lora, Settings, read_settings

DROPOUT = {"model": MODEL.replace("}", ", attention_dropout = 0.2 }"), "packing": "false"}


def looks(folder):
    return [line for line in trace(folder) if "eval_loss" in line]


def trained(folder):
    return [line for line in trace(folder) if "loss" in line]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, shared_mixture):
    """Return the folder of an uninterrupted run that looks at 10 rows every 3 steps; its dropout draws numbers."""
    from steel_train.run import run

    folder = tmp_path_factory.mktemp("looked")
    recipe = write_recipe(folder, shared_mixture, eval="{ rows = 10, every = 3 }", **DROPOUT)
    run(recipe, shared_mixture, folder / "run", None)
    return folder / "run"


def test_training_is_that_of_the_other_rows_alone(whole, tmp_path, shared_mixture):
    from steel_train.loop.session import Session

    recipe = load(write_recipe(tmp_path, shared_mixture, eval="{ rows = 10, every = 3 }", **DROPOUT))
    settings = read_settings(recipe.train, recipe.path)
    prepared = prepare(recipe, settings, tmp_path / "plain", shared_mixture, None)
    without = dataclasses.replace(prepared, settings=settings.model_copy(update={"eval": None}), held_out=None)
    Session(without, tmp_path / "plain", recipe.seed).train([])
    assert not looks(tmp_path / "plain") and weights(tmp_path / "plain") == weights(whole)
    assert trained(tmp_path / "plain") == trained(whole)


def test_a_look_is_the_loss_of_the_rows_that_are_held_out(whole):
    """At every third step and at each checkpoint; by source and kind; never a row that is trained on."""
    found = looks(whole)
    facts = read_facts(sorted((whole / "checkpoints").glob("step-*"))[-1])
    expected = {*range(3, facts["steps"], 3), *range(5, facts["steps"], 5), facts["steps"] // 2, facts["steps"]}
    assert [line["step"] for line in found] == sorted(expected)
    assert found[-1]["eval_loss"] < found[0]["eval_loss"]
    assert found[0]["eval_loss_by_source"].keys() == found[0]["eval_loss_by_kind"].keys()
    assert facts["held_out"] == {"rows": 10, "never": []}
    assert sum(facts["exposures"]["rows"].values()) == 2 * (80 - facts["held_out"]["rows"])
    result = json.loads((whole / "result.json").read_text())
    lowest = min((line["eval_loss"], line["step"]) for line in found if line["step"] % 5 == 0 or line is found[-1])
    assert result["best"] == {"checkpoint": f"step-{lowest[1]:06d}", "eval_loss": lowest[0]}


def test_a_killed_run_looks_and_goes_on_bit_for_bit(train, whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_at(patch, 27)
        with pytest.raises(KeyboardInterrupt):
            train("killed", eval="{ rows = 10, every = 3 }", **DROPOUT)
    train("killed", eval="{ rows = 10, every = 3 }", **DROPOUT)
    assert weights(tmp_path / "runs/killed") == weights(whole) and trace(tmp_path / "runs/killed") == trace(whole)


def test_it_stops_when_it_does_not_get_better_and_the_best_is_kept(train, tmp_path, capsys):
    """Its learning rate is absurd: it gets worse at once. Killed before it said so, it is as finished as before."""
    options = {"eval": "{ rows = 10, every = 2, early_stopping = 3 }", "learning_rate": "0.5", "save_every": None,
               "epochs": "9", "schedule": '"constant"', "warmup": "0.0"}  # fmt: skip
    folder = train(**options)
    found = looks(folder)
    lowest = min(range(len(found)), key=lambda i: found[i]["eval_loss"])
    assert len(found) == lowest + 4 and "stopped early: 3 looks without a lower loss" in capsys.readouterr().out
    result = json.loads((folder / "result.json").read_text())
    assert (result["step"], result["best"]["checkpoint"]) == (found[-1]["step"], f"step-{found[lowest]['step']:06d}")
    assert best_checkpoint(folder).name == result["best"]["checkpoint"]
    before = trace(folder)
    (folder / "result.json").unlink()
    train(**options)
    assert json.loads((folder / "result.json").read_text()) == result and trace(folder) == before


def test_keep_never_drops_the_best(train):
    folder = train(eval="{ rows = 10 }", keep="1", learning_rate="0.3", epochs="3", save_every="2")
    saved = {line["step"]: line["eval_loss"] for line in looks(folder)}
    best = json.loads((folder / "result.json").read_text())["best"]
    assert best["eval_loss"] == min(saved.values()) and (folder / "checkpoints" / best["checkpoint"]).is_dir()


def test_fixed_prompts_are_answered_in_the_log(train, capsys):
    folder = train(eval='{ rows = 4, every = 1, prompts = ["你是谁？"] }', max_steps="2")
    assert [set(line["answers"]) for line in looks(folder)] == [{"你是谁？"}] * 2
    assert capsys.readouterr().out.count("  你是谁？ -> ") == 2
    plain = train("plain", eval="{ rows = 4, every = 1 }", max_steps="2")
    assert weights(folder) == weights(plain)


@pytest.mark.parametrize(("lora", "share"), [(None, 1 / 3), (Lora(), 1 / 2)])
def test_by_default_a_look_costs_three_per_cent_at_most(lora, share):
    method = "full" if lora is None else "lora"
    settings = Settings(model="m", method=method, lora=lora, eval=Eval(share=0.01))
    schedule = Schedule(np.full(10_000, 100), 0, 3, 8, 8)
    every = interval(settings, schedule, dataclasses.replace(schedule, lengths=np.full(100, 100)))
    assert share * 100 / (64 * every) < 0.03 < 4 * share * 100 / (64 * every)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("{ rows = 3, share = 0.1 }", "rows and share are two sizes of one thing"),
        ("{ evry = 3 }", "unknown key 'evry'. Did you mean 'every'?"),
        ("{ rows = 80 }", r"r.toml \[train.eval\]: 80 of 80 rows are held out. Fix: fewer rows"),
    ],
)
def test_a_bad_table_is_named(train, table, message):
    with pytest.raises(InputError, match=message):
        train(eval=table)


def test_the_exposures_of_a_checkpoint_leave_held_out_rows_aside(tmp_path):
    from tests.steel_train.schedule.test_exposures import write_leak

    from steel_train.run import run
    from steel_train.schedule.exposures import item_exposures

    mixture = write_leak(tmp_path)
    run(write_recipe(tmp_path, mixture, eval="{ share = 0.2 }"), mixture, tmp_path / "run", None)
    last = sorted((tmp_path / "run/checkpoints").glob("step-*"))[-1]
    facts = read_facts(last)
    table = item_exposures(last, facts)
    (said,) = facts["exposures"]["injected"].values()
    assert table["seen"].sum() == sum(dose["exposures"] for dose in said.values()) == 2 * 18
    assert facts["held_out"] == {"rows": facts["held_out"]["rows"], "never": ["leak"]}
    shutil.rmtree(tmp_path / "run")


def write_exam(folder):
    """Write `exam/val` and `exam/test` of 9 questions, as CMMLU has them."""
    lines = ["," + ",".join(["Question", "A", "B", "C", "D", "Answer"])]
    lines += [f"{i},第{i}题水壶用来做什么？,装水{i},开山,写字,看书,{'ABCD'[i % 4]}" for i in range(9)]
    for split in ("val", "test"):
        (folder / "exam" / split).mkdir(parents=True)
        (folder / "exam" / split / "kettles.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_tasks_are_scored_on_the_model_in_memory_as_score_does_it(train, tmp_path):
    """The weights are bit for bit those of a run that scored nothing, and the numbers those of `score` on checkpoints."""
    from typer.testing import CliRunner

    from steel_eval.cli import app

    write_exam(tmp_path)
    table = 'rows = 10, every = 3, tasks = ["exam-val"], limit = 7'
    folder = train(eval=f"{{ {table} }}", **DROPOUT)
    plain = train("plain", eval="{ rows = 10, every = 3 }", **DROPOUT)
    assert weights(folder) == weights(plain) and trained(folder) == trained(plain)
    found = {line["step"]: line for line in looks(folder)}
    assert (folder / "tasks.svg").read_text().startswith("<svg") and not (plain / "tasks.svg").exists()
    last = sorted((folder / "checkpoints").glob("step-*"))[-1]
    options = [
        "--tasks",
        "exam-val",
        "--data",
        str(tmp_path),
        "--shots",
        "0",
        "--limit",
        "7",
        "--out",
        str(tmp_path / "s"),
    ]
    result = CliRunner().invoke(app, ["score", str(last), *options, "--device", "cpu"])
    assert result.exit_code == 0, result.output
    scored = json.loads((tmp_path / "s/scores.json").read_text())["tasks"]["exam-val"]
    line = found[read_facts(last)["step"]]
    assert scored["n"] == 7 and line["eval_task_accuracy"] == {"exam-val": scored["accuracy"]}
    assert line["eval_task_gold_probability"]["exam-val"] == pytest.approx(scored["gold_probability"], abs=1e-6)


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ('["exam"]', r"\[train.eval\]: tasks: exam is a test split, .* Fix: exam-val or exam-dev"),
        ('["exam-test/kettles"]', "exam-test/kettles is a test split"),
        ('["exma-val"]', r"r.toml \[train.eval\]: tasks: .*no such benchmark"),
        ('["exam-val", "exam-val"]', "tasks: one stands twice"),
    ],
)
def test_a_test_split_is_refused_before_a_row_is_read(train, tmp_path, tasks, message):
    write_exam(tmp_path)
    with pytest.raises(InputError, match=message):
        train(eval=f"{{ rows = 10, tasks = {tasks} }}")
    assert not (tmp_path / "runs/r/examples").exists()
