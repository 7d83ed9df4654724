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
from steel_train.models.load import resolve
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


def model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


@pytest.mark.parametrize(
    ("recipe", "folder", "said", "root"),
    [
        ("mine.toml", "models/qwen", "./models/qwen", "."),
        ("recipes/mine.toml", "models/qwen", "../models/qwen", ".."),
        ("mine.toml", "../elsewhere/qwen", "/elsewhere/qwen", "."),
    ],
)
def test_a_model_that_lies_near_is_named_from_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str, folder: str, said: str, root: str
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    write_jsonl(here / "chat.jsonl", chat_rows(4))
    Path(recipe).parent.mkdir(exist_ok=True)
    where = model(tmp_path / folder.removeprefix("../") if folder.startswith("..") else here / folder)
    init(Path(recipe), wishes(Path("chat.jsonl"), model=folder))
    written = load(Path(recipe))
    assert written.data_root == root
    assert written.train["model"] == (said if said.startswith(".") else f"{tmp_path}{said}")
    assert Path(resolve(written.train["model"], Path(recipe))).resolve() == where.resolve()


def test_a_link_on_the_way_makes_no_wrong_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of recipes/, a link to elsewhere, `..` is elsewhere's parent: there the whole path is the right one."""
    (tmp_path / "far/away").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("recipes").symlink_to(tmp_path / "far/away")
    write_jsonl(Path("chat.jsonl"), chat_rows(4))
    folder = model(tmp_path / "here/model")
    init(Path("recipes/mine.toml"), wishes(Path("chat.jsonl"), model="model"))
    assert load(Path("recipes/mine.toml")).train["model"] == folder.as_posix()
    assert build(load(Path("recipes/mine.toml")), out=tmp_path / "out", cache=tmp_path / "cache").manifest["rows"] == 4


EXAM = "Question,A,B,C,D,Answer\n"


def exam(folder: Path) -> Path:
    (folder / "test").mkdir(parents=True)
    rows = "".join(f"{i},第{i}题问的是哪一种说法？,甲{i},乙{i},丙{i},丁{i},A\n" for i in range(3))
    (folder / "test/law.csv").write_text("," + EXAM + rows, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("data", "bench", "root", "named", "path"),
    [
        ("data/chat.jsonl", "data/cmmlu", "data", "cmmlu", "chat.jsonl"),
        ("data/zh/chat.jsonl", "data/cmmlu", "data", "cmmlu", "zh/chat.jsonl"),
        ("data/zh/chat.jsonl", "exams/cmmlu", ".", "exams/cmmlu", "data/zh/chat.jsonl"),
        ("chat.jsonl", "../exams/own", ".", "../exams/own", "chat.jsonl"),
    ],
)
def test_benchmarks_are_named_from_the_data_root_so_that_all_can_move_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str, bench: str, root: str, named: str, path: str
) -> None:
    home = tmp_path / "a folder" / "here"
    (home / data).parent.mkdir(parents=True)
    monkeypatch.chdir(home)
    write_jsonl(Path(data), chat_rows(6))
    exam((home / bench).resolve())
    init(Path("mine.toml"), wishes(Path(data), benchmarks=[bench], languages="all"))
    written = load(Path("mine.toml"))
    steps = {step["use"]: step for step in written.merged["filters"]}
    assert written.data_root == root and steps["decontaminate"]["benchmarks"] == [named]
    assert written.merged["source"]["chat"]["path"] == path
    there = home.parent.rename(tmp_path / "moved") / "here"
    monkeypatch.chdir(there)
    assert build(load(there / "mine.toml"), out=there / "out", cache=there / "cache").manifest["rows"] == 6


def test_a_benchmark_from_far_away_is_named_whole_and_the_recipe_builds_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "a/b/c"
    home.mkdir(parents=True)
    monkeypatch.chdir(home)
    write_jsonl(Path("chat.jsonl"), chat_rows(6))
    far = exam(tmp_path / "exams/own")
    init(Path("mine.toml"), wishes(Path("chat.jsonl"), benchmarks=["../../../exams/own"], languages="all"))
    written = load(Path("mine.toml"))
    assert written.data_root == "." and written.merged["filters"][1]["benchmarks"] == [far.as_posix()]
    assert build(written, out=home / "out", cache=home / "cache").manifest["rows"] == 6


@pytest.mark.parametrize("name", ["./nowhere", "../a/b", "a/b/c", "/no/such", "word"])
def test_a_model_that_is_no_folder_and_no_hub_id_is_refused(tmp_path: Path, name: str) -> None:
    write_jsonl(tmp_path / "chat.jsonl", chat_rows(4))
    with pytest.raises(InputError, match=rf"--model {name}: no such folder\. Fix: "):
        init(tmp_path / "mine.toml", wishes(tmp_path / "chat.jsonl", model=name))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no config"):
        init(tmp_path / "mine.toml", wishes(tmp_path / "chat.jsonl", model=str(tmp_path / "empty")))


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
        out, error = process.communicate(timeout=600)
    assert process.returncode == 0, error.decode()
    assert out.decode().count("?") == 5
    loaded = load(tmp_path / "mine.toml")
    assert loaded.train["method"] == "lora" and loaded.merged["filters"][0]["keep"] == ["zh"]
