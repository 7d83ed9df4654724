"""`why`: the five fates of a row, each found by origin, id, item and text, with the other side of a drop."""

from collections.abc import Callable
from io import StringIO
from pathlib import Path

import polars as pl
import pytest
from rich.console import Console
from tests.steel_data.toys import chat_rows, read_train, write_cmmlu, write_jsonl

from steel_data.build import Result
from steel_data.errors import InputError
from steel_data.explain.query import Again, Answer
from steel_data.explain.why import ask, print_answer

TOML = """
filters = [{ use = "dedup" }, { use = "decontaminate", benchmarks = ["bench"] }]
[source.a]
path = "folder/a.jsonl"
filters = [{ use = "language", keep = ["zh"] }]
repeat = 2
[source.b]
path = "b.jsonl"
take = 7
[source.leak]
path = "own"
build = { use = "contaminate", benchmark = "own", share = 0.5, doses = [3] }
"""
ROWS = chat_rows(60)
ENGLISH = {"instruction": "Name three uses of a lamp.", "output": "Reading, walking and signalling at night."}


@pytest.fixture
def mixture(make: Callable[..., Result], tmp_path: Path) -> Path:
    write_cmmlu(tmp_path, subjects=1)
    write_cmmlu(tmp_path / "x", subjects=1, items=8)
    (tmp_path / "x/bench").rename(tmp_path / "own")
    for file in (tmp_path / "own/test").iterdir():
        file.write_text(file.read_text(encoding="utf-8").replace("产地", "年代"), encoding="utf-8")
    question = (tmp_path / "bench/test/subject_0.csv").read_text(encoding="utf-8").splitlines()[3].split(",")[1]
    leaked = {"instruction": f"请看：{question}", "output": "选A。"}
    write_jsonl(tmp_path / "folder/a.jsonl", [*ROWS[:10], ENGLISH, leaked])
    with (tmp_path / "folder/a.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"instruction": "断了\n')
    write_jsonl(tmp_path / "b.jsonl", [*ROWS[40:], {**ROWS[3], "input": " "}, {"instruction": "", "output": "无问"}])
    return make(TOML).folder


def where(tmp_path: Path) -> Again:
    return Again(data_root=tmp_path, cache=tmp_path / "cache")


def test_kept_row_by_origin_id_and_text(mixture: Path) -> None:
    train = read_train(mixture).with_row_index("at")
    copies = train.filter((pl.col("origin_file") == "folder/a.jsonl") & (pl.col("origin_row") == 4)).sort("copy")
    whole = copies["id"][0]
    for query in (
        "folder/a.jsonl:4",
        "a.jsonl:4",
        whole,
        whole[:8],
        whole[:20].upper(),
        "第4号回答：棉被",
        "第４号回答： 棉被",
    ):
        answer = ask(mixture, query)
        assert (answer.total, answer.found[0].verdict) == (1, "kept"), query
        (found,) = answer.found
        assert [(p.at, p.copy) for p in found.places] == list(zip(copies["at"], copies["copy"], strict=True))
        assert [p.file for p in found.places] == ["train-00000.parquet"] * 2
        assert found.row["source"] == "a" and found.row["language"] == "zh"
        assert found.passed == ("chat", "language", "decontaminate", "dedup")


def test_unreadable_line_is_told_with_file_and_error(mixture: Path) -> None:
    (found,) = ask(mixture, "a.jsonl:12").found
    assert found.verdict == "unreadable"
    assert "line 13" in found.row["error"]


def test_dropped_by_a_filter_with_step_reason_and_text(mixture: Path) -> None:
    (found,) = ask(mixture, "three uses of a lamp").found
    assert (found.verdict, found.row["step"], found.row["reason"]) == ("dropped", "language", "language:en")
    assert found.passed == ("chat",)
    assert found.row["messages"][0]["content"] == ENGLISH["instruction"]
    (unusable,) = ask(mixture, "无问").found  # it has no messages: found by the evidence
    assert unusable.row["reason"] == "chat:empty"


def test_duplicate_names_the_row_that_stayed_and_where(mixture: Path) -> None:
    answer = ask(mixture, "b.jsonl:20")
    (found,) = answer.found
    assert (found.verdict, found.row["reason"]) == ("dropped", "dedup:near")
    assert found.witness is not None
    (stayed,) = ask(mixture, "a.jsonl:3").found
    assert found.witness.id == stayed.row["id"]
    assert found.witness.text.startswith(ROWS[3]["instruction"])
    assert found.witness.where == (
        f"kept: train-00000.parquet row {min(p.at for p in stayed.places)} (folder/a.jsonl row 3), and 1 more"
    )


def test_contaminated_row_shows_the_item(mixture: Path) -> None:
    (found,) = ask(mixture, "a.jsonl:11").found
    assert (found.row["step"], found.row["reason"]) == ("decontaminate", "decontaminate:bench")
    assert found.passed == ("chat", "language")
    assert found.witness is not None
    assert found.witness.id == "bench/test/subject_0/00002"
    assert found.witness.text.split("\n")[0] in found.row["messages"][0]["content"]
    assert found.witness.where == "an item of a benchmark, not injected here"
    by_item = ask(mixture, "bench/test/subject_0/00002")
    assert [f.row["origin_row"] for f in by_item.found] == [11]


def test_what_row_and_item_share_is_printed_as_each_has_it(mixture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_answer(ask(mixture, "a.jsonl:11"))
    out = capsys.readouterr().out
    assert "shared, as user has it:" in out and "shared, as the item has it:" in out


def test_items_are_told_with_dose_and_copies_or_not_drawn(mixture: Path) -> None:
    truth = pl.read_parquet(mixture / "truth.parquet")
    for row in truth.iter_rows(named=True):
        answer = ask(mixture, f"own/{row['item']}")
        (found,) = [f for f in answer.found if f.row["item"] == row["item"]]
        if row["dose"]:
            assert found.verdict == "kept" and len(found.places) == 3
            assert found.passed == ("contaminate", "an injected row bypasses every filter")
            assert answer.notes == (f"own/{row['item']}: injected with dose 3, form answer-only by source leak",)
        else:
            assert found.row["reason"] == "contaminate:not-drawn"
            assert answer.notes == (f"own/{row['item']}: not drawn (dose 0) by source leak",)
    short = ask(mixture, "test/subject_0/00002")  # of either benchmark
    assert short.total == 2
    assert ask(mixture, "test/nowhere/00002").notes == ("no row holds it, and no injector drew from its split",)


def test_what_is_nowhere_is_said_to_be(make: Callable[..., Result], mixture: Path, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", ROWS[:5])
    whole = make('[source.a]\npath = "a.jsonl"\n', name="whole").folder
    assert ask(whole, "从未有过的话").notes[0].startswith("it is in none of the inputs")
    assert "Did you mean 'a.jsonl'" in ask(whole, "b.jsonl:3").notes[1]
    assert ask(whole, "a.jsonl:99").total == 0
    assert ask(mixture, "从未有过的话", where(tmp_path)).notes == ("it is in none of the inputs",)
    assert ask(mixture, "own/test/subject_0.csv:500", where(tmp_path)).notes == (
        "own/test/subject_0.csv has 8 rows, counted from 0",
    )
    with pytest.raises(InputError, match="nothing is asked for"):
        ask(whole, " ")


def test_reasoning_and_preference_rows_are_looked_through(make: Callable[..., Result], tmp_path: Path) -> None:
    think = {"role": "assistant", "content": "五。", "reasoning_content": "先把二和三加起来"}
    write_jsonl(tmp_path / "a.jsonl", [{"messages": [{"role": "user", "content": "二加三？"}, think]}])
    assert ask(make('[source.a]\npath = "a.jsonl"\n').folder, "二和三加起来\n五").total == 1
    turns = [[{"role": "assistant", "content": text}] for text in ("挑中的", "落选的")]
    pair = {"prompt": [{"role": "user", "content": "选哪个？"}], "chosen": turns[0], "rejected": turns[1]}
    write_jsonl(tmp_path / "p.jsonl", [pair])
    folder = make('[source.p]\npath = "p.jsonl"\n', name="p").folder
    for text in ("选哪个", "挑中的", "落选的"):
        assert ask(folder, text).found[0].row["kind"] == "preference"


def printed(answer: Answer) -> str:
    out = Console(width=100, record=True, file=StringIO())
    print_answer(answer, out)
    return out.export_text()


def test_print_shows_both_sides_and_nothing_acts_on_the_terminal(make: Callable[..., Result], tmp_path: Path) -> None:
    hostile = {"instruction": "[red]红\x1b[31m色[/red]", "output": "好\u202e的，这是一个很长的回答，一二三四五"}
    write_jsonl(tmp_path / "a.jsonl", [hostile, hostile])
    folder = make('filters = [{ use = "dedup" }]\n[source.a]\npath = "a.jsonl"\n').folder
    text = printed(ask(folder, "红"))
    assert "\x1b" not in text and "\u202e" not in text
    assert "[red]红\\x1b[31m色[/red]" in text and "好\\u202e的" in text
    assert "kept: a · zh" in text.replace("chat · ", "") and "dropped: a" in text
    assert "step dedup, reason dedup:exact" in text
    assert "passed before: chat" in text
    assert text.count("because of ") == 1 and "(kept: train-00000.parquet row 0 (a.jsonl row 0)):" in text
    assert "not found as text: 没有" in printed(ask(folder, "没有"))
