"""`steel init`: what it writes loads, builds and trains; what it is not told it asks, or says that it cannot."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.steel_data.toys import chat_rows, write_jsonl

from steel.init import Wishes, init
from steel_data.build import build
from steel_data.errors import InputError
from steel_data.recipe.load import load
from steel_train.settings import read_settings

PAIRS = [
    {"prompt": f"第{i}个问题是什么意思？", "chosen": f"这是第{i}个问题的好答案。", "rejected": f"不知道{i}。"} for i in range(8)
]  # fmt: skip


def wishes(data: Path, **said: object) -> Wishes:
    return Wishes(data=[str(data)], assume=True, **said)  # type: ignore[arg-type]


def test_the_recipe_builds_and_its_training_is_valid(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "chat.jsonl", chat_rows(8))
    recipe = tmp_path / "mine.toml"
    told = init(recipe, wishes(tmp_path / "chat.jsonl"))
    loaded = load(recipe)
    assert build(loaded, out=tmp_path / "out", cache=tmp_path / "cache").manifest["rows"] == 8
    assert read_settings(loaded.train, recipe).method == "full"
    assert f"steel build {recipe}" in told and f"steel train {recipe}" in told


def test_languages_are_filtered_before_anything_else(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "chat.jsonl", chat_rows(8))
    init(tmp_path / "mine.toml", wishes(tmp_path / "chat.jsonl", languages="zh, en"))
    assert load(tmp_path / "mine.toml").merged["filters"][0] == {"use": "language", "keep": ["zh", "en"]}
    init(tmp_path / "mine.toml", wishes(tmp_path / "chat.jsonl", languages="all"), force=True)
    assert "language" not in (tmp_path / "mine.toml").read_text(encoding="utf-8")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("tongue", "asked"), [("en", "Which model is trained"), ("zh", "训练哪个模型")])
def test_what_is_not_said_is_asked_in_the_reader_s_language(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tongue: str, asked: str
) -> None:
    write_jsonl(tmp_path / "chat.jsonl", chat_rows(8))
    monkeypatch.setenv("STEEL_LANG", tongue)
    monkeypatch.setattr("sys.stdin", Terminal("\n\n\nlora\n"))
    init(tmp_path / "mine.toml", Wishes(data=[str(tmp_path / "chat.jsonl")]))
    said = capsys.readouterr().out
    assert asked in said and "?:" not in said and "？:" not in said
    assert read_settings(load(tmp_path / "mine.toml").train, tmp_path / "mine.toml").method == "lora"


@pytest.mark.parametrize(("method", "rate"), [("full", 5e-7), ("lora", 5e-6)])
def test_preferences_are_trained_by_dpo(tmp_path: Path, method: str, rate: float) -> None:
    write_jsonl(tmp_path / "pairs.jsonl", PAIRS)
    init(tmp_path / "mine.toml", wishes(tmp_path / "pairs.jsonl", method=method))
    settings = read_settings(load(tmp_path / "mine.toml").train, tmp_path / "mine.toml")
    assert (settings.method, settings.uses_lora, settings.learning_rate) == ("dpo", method == "lora", rate)


@pytest.mark.parametrize(("method", "rate"), [("full", 5e-7), ("lora", 5e-6)])
def test_judged_answers_are_trained_by_kto(tmp_path: Path, method: str, rate: float) -> None:
    rows = [
        {"prompt": pair["prompt"], "completion": pair["chosen"], "label": bool(i % 2)} for i, pair in enumerate(PAIRS)
    ]
    write_jsonl(tmp_path / "judged.jsonl", rows)
    init(tmp_path / "mine.toml", wishes(tmp_path / "judged.jsonl", method=method))
    settings = read_settings(load(tmp_path / "mine.toml").train, tmp_path / "mine.toml")
    assert (settings.method, settings.uses_lora, settings.learning_rate) == ("kto", method == "lora", rate)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"method": "lra"}, "Did you mean 'lora'"),
        ({"languages": "chinese"}, "Did you mean 'zh'"),
        ({"benchmarks": ["cevil"]}, "no such benchmark"),
    ],
)
def test_a_wrong_word_is_named_and_nothing_is_written(tmp_path: Path, said: dict[str, object], message: str) -> None:
    write_jsonl(tmp_path / "chat.jsonl", chat_rows(4))
    with pytest.raises(InputError, match=message):
        init(tmp_path / "mine.toml", wishes(tmp_path / "chat.jsonl", **said))
    assert not (tmp_path / "mine.toml").exists()


def test_a_recipe_that_is_there_stays(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "chat.jsonl", chat_rows(4))
    (tmp_path / "mine.toml").write_text("# mine\n")
    with pytest.raises(InputError, match="is there already"):
        init(tmp_path / "mine.toml", wishes(tmp_path / "chat.jsonl"))
    assert (tmp_path / "mine.toml").read_text() == "# mine\n"


def test_data_of_which_nothing_can_be_built_are_refused(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "odd.jsonl", [{"temperature": i, "pressure": i} for i in range(5)])
    with pytest.raises(InputError, match="no recipe can be made"):
        init(tmp_path / "mine.toml", wishes(tmp_path / "odd.jsonl"))


def test_without_a_terminal_nothing_is_asked(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--data is not said.*Fix: --data …\."):
        init(tmp_path / "mine.toml", Wishes())


@pytest.mark.skipif(os.name != "posix", reason="a terminal of one's own is made by POSIX systems")
def test_at_a_terminal_five_questions_make_the_recipe(tmp_path: Path) -> None:
    import pty

    write_jsonl(tmp_path / "my chat.jsonl", chat_rows(4))
    ours, theirs = pty.openpty()
    code = "from steel.__main__ import main; import sys; sys.argv = ['steel', 'init', 'mine.toml']; main()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")},
    ) as process:  # fmt: skip
        os.write(ours, b"'my chat.jsonl'\nnone\nzh\n\nlora\n")
        out, error = process.communicate(timeout=60)
    assert process.returncode == 0, error.decode()
    assert out.decode().count("?") == 5
    loaded = load(tmp_path / "mine.toml")
    assert loaded.train["method"] == "lora" and loaded.merged["filters"][0]["keep"] == ["zh"]
