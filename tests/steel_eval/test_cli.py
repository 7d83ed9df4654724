"""The command line hands on what was asked: options reach the scores, and listings may have blanks and gaps."""

import orjson
import pytest
from tests.steel_eval import toys
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


def test_how_a_model_is_opened_reaches_the_scores(toy_checkpoint, toy_data, tmp_path):
    toys.tokenizer().save_pretrained(tmp_path / "words")
    out = tmp_path / "out"
    more = ["--limit", "4", "--tokenizer", tmp_path / "words", "--max-length", "900", "--max-new-tokens", "6",
            "--chat-template-kwargs", '{"add_generation_prompt": true}', "--preset", "steel", "--shots", "0"]  # fmt: skip
    fixed = ["score", toy_checkpoint, "--tasks", "cmmlu/agronomy", "--data", toy_data, "--device", "cpu"]
    result = CliRunner().invoke(app, [*map(str, [*fixed, *more, "--out", out])], catch_exceptions=False)
    assert result.exit_code == 0 and "loading" in result.stderr and "4 of 12" in result.stdout
    assert "no score of the benchmark" in result.stdout
    scores = orjson.loads((out / "scores.json").read_bytes())
    assert (scores["context"], scores["max_new_tokens"]) == (900, 6)
    assert scores["opened"] == {"tokenizer": str(tmp_path / "words"), "max_length": 900,
                                "chat_template_kwargs": {"add_generation_prompt": True}}  # fmt: skip
    assert (scores["tasks"]["cmmlu/agronomy"]["n"], scores["tasks"]["cmmlu/agronomy"]["limit"]) == (4, 4)
    with pytest.raises(InputError, match=r"holds scores of --limit 4\. Fix: another --out"):
        CliRunner().invoke(app, [*map(str, [*fixed, "--out", out])], catch_exceptions=False)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--thinking", "off"], "sends no turns"),
        (["--max-new-tokens", "9"], "nothing is written under --preset lm-eval"),
        (["--thinking", "maybe", "--preset", "steel"], "Fix: on or off"),
        (["--chat-template-kwargs", "{", "--preset", "steel"], "no JSON"),
        (["--chat-template-kwargs", "[1]", "--preset", "steel"], "no table"),
        (["--chat-template-kwargs", '{"a": Infinity}', "--preset", "steel"], "no JSON"),
        (["--revision", "main"], "only with a hub id"),
        (["--base", "elsewhere"], "is a whole model"),
        (["--tokenizer", "elsewhere"], "no such folder, and no hub id"),
    ],
)
def test_a_switch_without_effect_is_refused_before_the_data_are_read(toy_checkpoint, tmp_path, more, message):
    arguments = ["score", str(toy_checkpoint), "--tasks", "cmmlu", "--data", str(tmp_path / "none"), *more]
    with pytest.raises(InputError, match=message):
        CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_power_names_the_question_sets():
    result = CliRunner().invoke(app, ["power", "--sets", "cmmlu, 500"], catch_exceptions=False)
    assert result.exit_code == 0 and "cmmlu" in result.stdout and "500" in result.stdout
