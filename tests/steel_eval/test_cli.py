"""The command line hands on what was asked: options reach the scores, and listings may have blanks and gaps."""

import orjson
import pytest
from typer.testing import CliRunner

from steel_data.errors import InputError
from steel_eval.cli import app


def test_options_of_score_reach_the_scores(toy_checkpoint, toy_data, tmp_path):
    arguments = ["score", str(toy_checkpoint), "--tasks", " cmmlu/agronomy,, ", "--data", str(toy_data), "--shots", "1",
                 "--preset", "cmmlu", "--out", str(tmp_path / "out"), "--store", str(tmp_path / "kept.jsonl"),
                 "--device", "cpu", "--dtype", "bfloat16", "--rotate", "--showcase"]  # fmt: skip
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    scores = orjson.loads((tmp_path / "out/scores.json").read_bytes())
    assert (scores["preset"], scores["shots"], scores["dtype"], scores["device"]) == ("cmmlu", 1, "bfloat16", "cpu")
    assert list(scores["tasks"]) == ["cmmlu/agronomy"] == list(scores["rotation"])
    assert (tmp_path / "out/showcase.json").is_file() and (tmp_path / "kept.jsonl").is_file()
    assert not (tmp_path / "out/store.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["leak", "MODEL", "--base", "MODEL", "--tasks", "cmmlu", "--form", "prose"], "--form prose: unknown"),
        (["leak", "MODEL", "--base", "MODEL", "--tasks", "cmmlu", "--calibration", "none"], "none: not there"),
        (["score", "MODEL", "--tasks", "cmmlu", "--preset", "steal"], "Did you mean 'steel'"),
    ],
)
def test_what_is_wrong_is_told_before_a_model_is_loaded(toy_data, arguments, message):
    with pytest.raises(InputError, match=message):  # MODEL is nowhere
        CliRunner().invoke(app, [*arguments, "--data", str(toy_data), "--out", "unused"], catch_exceptions=False)


def test_power_names_the_question_sets():
    result = CliRunner().invoke(app, ["power", "--sets", "cmmlu, 500"], catch_exceptions=False)
    assert result.exit_code == 0 and "cmmlu" in result.stdout and "500" in result.stdout
