"""The command `score`: its tables hide nothing, several devices share a run, and mistakes are named."""

import pytest
from tests.steel_eval import toys
from typer.testing import CliRunner

from steel_data.errors import InputError
from steel_eval.cli import app
from steel_eval.models import Checkpoint
from steel_eval.run import output_folder, print_scores, split_tasks


def test_several_presets_show_how_much_is_protocol(toy_checkpoint, toy_data, tmp_path):
    arguments = ["score", str(toy_checkpoint), "--tasks", "cmmlu", "--data", str(toy_data), "--preset", "lm-eval,cmmlu,cloze",
                 "--out", str(tmp_path), "--shots", "1", "--device", "cpu"]  # fmt: skip
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "points between protocols" in result.stdout
    assert {p.parent.name for p in tmp_path.glob("*/scores.json")} == {"lm-eval", "cmmlu", "cloze"}


@pytest.mark.slow
def test_two_processes_share_a_run(toy_data, tmp_path):
    for step in (10, 20, 30):
        toys.save(tmp_path / f"run/checkpoints/step-{step:06d}", seed=step)
    arguments = ["score", str(tmp_path / "run"), "--tasks", "cmmlu", "--data", str(toy_data), "--out", str(tmp_path / "o"),
                 "--device", "cpu,cpu"]  # fmt: skip
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
    assert len(list((tmp_path / "o").glob("*/scores.json"))) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere/at/all"], "no such folder"),
        (["."], "no checkpoint here"),
        (["MODEL", "--preset", "lmeval"], "Did you mean 'lm-eval'"),
        (["MODEL", "--tasks", "cmmlu/agronomi"], "Did you mean 'agronomy'"),
        (["MODEL", "--dtype", "float23"], "Did you mean 'float32'"),
    ],
)
def test_mistakes_are_named(toy_checkpoint, toy_data, tmp_path, arguments, message):
    full = [str(toy_checkpoint) if a == "MODEL" else a for a in arguments]
    more = [] if "--tasks" in full else ["--tasks", "cmmlu"]
    result = CliRunner().invoke(
        app, ["score", *full, *more, "--data", str(toy_data), "--out", str(tmp_path), "--device", "cpu"]
    )
    assert isinstance(result.exception, InputError)
    assert message in str(result.exception)


def test_local_tasks_are_read_and_the_others_left_to_lm_eval(toy_data):
    local, foreign = split_tasks(["arc_easy", "cmmlu", "ceval-test", "hellaswag"], toy_data)
    assert [task.name for task in local] == ["cmmlu", "ceval-test"] and foreign == ["arc_easy", "hellaswag"]


def test_a_runs_scores_lie_in_the_run_and_a_checkpoints_beside_the_others(toy_checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    toys.save(tmp_path / "run/checkpoints/step-000001")
    assert output_folder("run").as_posix() == "run/scores"
    assert output_folder("run/checkpoints/step-000001").as_posix() == "scores/step-000001"
    assert output_folder("to-come", watch=5.0).as_posix() == "to-come/scores"  # training has not begun


def test_unreadable_answers_and_marks_stand_beside_every_score(tmp_path, capsys):
    row = {"accuracy": 0.5, "stderr": 0.1, "macro": 0.4, "n": 1000, "invalid": 37, "accuracy_on_valid": 0.52,
           "expected_if_guessed": 0.51, "gold_probability": 0.3, "gold_bits_per_byte": None}  # fmt: skip
    scores = {"tasks": {"cmmlu": row}, "contamination": {"cmmlu": {"0": 10, "3": 20}}}
    other = {"tasks": {"cmmlu": {**row, "accuracy": 0.25}}}
    print_scores(Checkpoint(tmp_path, "step\x1b[2J-1", 1), {"lm-eval": scores, "cloze": other})
    out = capsys.readouterr().out
    assert "37" in out and "52.00" in out and "51.00" in out and "1,000" in out
    assert "invalid at chance" in out and "guess" not in out  # one name: chance level
    assert "\x1b" not in out and "No score of ability alone" in out
    assert "differs by 25.0 points between protocols (cloze to lm-eval)" in out
