import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text
from tests.steel_data.toys import chat_rows, read_train, write_cmmlu, write_jsonl

from steel_data.build import Result
from steel_data.errors import InputError
from steel_data.mixture.show import _wrapped, show_rows

Make = Callable[..., Result]
TOML = """
filters = [{ use = "dedup" }]
[source.a]
path = "a.jsonl"
filters = [{ use = "language", keep = ["zh"] }]
[source.leak]
path = "bench"
build = { use = "contaminate", split = "test", doses = { 2 = 5 } }
"""
LONG = "一个很长的回答，" * 40


@pytest.fixture
def mixture(make: Make, tmp_path: Path) -> Result:
    write_cmmlu(tmp_path)
    rows = [
        *chat_rows(20),
        chat_rows(1)[0],
        {"instruction": "What is the capital of France?", "output": "It is Paris."},
    ]
    rows.append({"instruction": "制表\t符", "output": "a\tb"})
    rows.append({"instruction": "换行与控制符", "output": f"甲\x1b[31m乙\u202e丙[bold]丁[/bold]\n{LONG}"})
    write_jsonl(tmp_path / "a.jsonl", rows)
    with (tmp_path / "a.jsonl").open("a", encoding="utf-8") as file:
        file.write("{broken\n")
    return make(TOML)


def _shown(folder: Path, terminal: bool = False, width: int = 60, **options: object) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=width, highlight=False, color_system="truecolor")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("steel_data.mixture.show.console", lambda: console)
        show_rows(folder, **options)  # type: ignore[arg-type]
    return out.getvalue()


def _ids(text: str) -> list[str]:
    return re.findall("[0-9a-f]{32}", text)


def test_rows_in_the_order_of_the_mixture(mixture: Result) -> None:
    assert _ids(_shown(mixture.folder, number=100)) == read_train(mixture.folder)["id"].to_list()
    assert len(_ids(_shown(mixture.folder, number=3))) == 3


def test_by_source_kind_and_expression(mixture: Result) -> None:
    text = _shown(mixture.folder, source="leak", number=100)
    assert text.count("── ") == 10
    assert text.count("dose 2") == 10
    assert "bench test/subject_" in text
    assert _shown(mixture.folder, kind="injected", number=100) == text
    found = _shown(mixture.folder, grep="铁轨.*便|第2号", number=100)
    assert found.count("── ") == 1
    assert "第2号回答" in found


def test_dropped_rows_say_why(mixture: Result) -> None:
    text = _shown(mixture.folder, dropped=True, source="a", number=100)
    assert "dedup:exact (step dedup)" in text
    assert re.search("against it, [0-9a-f]{32}:\n  请用一句话说明灯笼的用途。", text)
    assert "unreadable (step read)" in text
    assert "evidence:\n  " in text
    assert _shown(mixture.folder, dropped=True, grep="^language:en$", number=100).count("── ") == 1


@pytest.mark.parametrize("terminal", [False, True])
def test_nothing_acts_on_the_terminal(mixture: Result, terminal: bool) -> None:
    text = _shown(mixture.folder, terminal, grep="控制符")
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)  # rich's own colours
    assert "甲\\x1b[31m乙\\u202e丙[bold]丁[/bold]" in plain
    assert "\x1b" not in plain
    assert "\u202e" not in plain
    assert ("\x1b[" in text) == terminal


def test_piped_text_is_not_broken_and_terminal_text_fits(mixture: Result) -> None:
    assert LONG in _shown(mixture.folder, grep="控制符", width=40)
    assert "  制表\t符\n" in _shown(mixture.folder, grep="制表")
    for line in re.sub(r"\x1b\[[0-9;]*m", "", _shown(mixture.folder, True, 40, grep="控制符")).splitlines():
        assert cell_len(line) <= 40


def test_what_was_looked_for_is_set_off(mixture: Result) -> None:
    assert "\x1b[7m控制\x1b[0m" in _shown(mixture.folder, True, grep="控制")


def test_wide_text_fills_its_lines() -> None:
    text = "由团队打造的助手, " + "是一个研究过无数问题的专家" * 3 + "，完了"
    lines = _wrapped(Text(text), 30).plain.split("\n")
    assert "".join(lines) == text
    assert all(28 <= cell_len(line) <= 30 for line in lines[:-1])
    assert not any(line.startswith(("，", ",")) for line in lines)
    assert _wrapped(Text("one two three"), 7).plain.split("\n") == ["one two ", "three"]
    assert _wrapped(Text("a" * 25), 10).plain.split("\n") == ["a" * 10, "a" * 10, "a" * 5]
    assert _wrapped(Text("\n\nx\n"), 10).plain == "\n\nx\n"


def test_unknown_names_are_errors_with_the_nearest(mixture: Result) -> None:
    with pytest.raises(InputError, match=r"no source 'lek'\. Did you mean 'leak'\? Known: a, leak\."):
        _shown(mixture.folder, source="lek")
    with pytest.raises(InputError, match=r"no kind 'chats'\. Did you mean 'chat'\?"):
        _shown(mixture.folder, kind="chats")
    with pytest.raises(InputError, match="--grep '\\('"):
        _shown(mixture.folder, grep="(")
    with pytest.raises(InputError, match="no manifest"):
        _shown(mixture.folder / "dropped")


def test_no_row_fits_is_said(mixture: Result, capsys: pytest.CaptureFixture[str]) -> None:
    assert _shown(mixture.folder, grep="这样的话没有") == ""
    assert "none of 32 rows fits" in capsys.readouterr().err


def test_reading_stops_when_enough_is_found(mixture: Result) -> None:
    """The second file is garbage: the first rows are shown, since nothing reads so far."""
    folder = mixture.folder
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest["output"]["train-00001.parquet"] = {"rows": 200_000, "sha256": ""}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    (folder / "train-00001.parquet").write_bytes(b"PAR1 garbage")
    assert len(_ids(_shown(folder, number=32 - 1))) == 31
    with pytest.raises(InputError, match=r"train-00001\.parquet: .* `check`"):
        _shown(folder, number=100)
    shutil.rmtree(folder / "dropped")
    with pytest.raises(InputError, match="part-00000"):
        _shown(folder, dropped=True)


def test_rare_rows_are_found_in_a_large_file(make: Make, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"instruction": f"第{i}个问题", "output": f"第{i}个回答"} for i in range(1500)])
    write_jsonl(tmp_path / "b.jsonl", chat_rows(3))
    folder = make('[source.a]\npath = "a.jsonl"\n[source.b]\npath = "b.jsonl"\n').folder
    train = read_train(folder)
    for options in ({"source": "b"}, {"grep": "^第2号|^第1号|^第0号"}):
        expected = train.filter(train["source"] == "b")["id"].to_list()
        assert _ids(_shown(folder, number=9, **options)) == expected
    assert _ids(_shown(folder, number=1500, source="a")) == train.filter(train["source"] == "a")["id"].to_list()
