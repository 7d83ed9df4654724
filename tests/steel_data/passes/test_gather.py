"""The written files: shards, extras, preference rows, order."""

import json
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.steel_data.toys import Elsewhere, chat_rows, read_dropped, read_train, write_jsonl

from steel_data.build import Result
from steel_data.engine import Local
from steel_data.errors import InputError
from steel_data.mixture.check import find_faults
from steel_data.passes import gather, plan
from steel_data.passes import rows as rows_module

Make = Callable[..., Result]
SOURCE = '[source.a]\npath = "a.jsonl"\n'


def test_shards_hold_the_same_mixture_in_the_same_order(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_jsonl(tmp_path / "a.jsonl", chat_rows(100))
    one = make(SOURCE, name="one", workers=1)
    monkeypatch.setattr(gather, "SHARD_ROWS", 30)
    monkeypatch.setattr(gather, "_FLUSH_ROWS", 7)
    many = make(SOURCE, name="many", workers=1)
    assert [entry["rows"] for entry in many.manifest["output"].values()] == [30, 30, 30, 10]
    assert list(many.manifest["output"]) == [f"train-0000{i}.parquet" for i in range(4)]
    assert read_train(many.folder).equals(read_train(one.folder))
    assert many.manifest["content_sha256"] == one.manifest["content_sha256"]
    monkeypatch.setattr(gather, "SHARD_ROWS", 30_000)
    monkeypatch.setattr(gather, "SHARD_CHARS", 400)
    by_size = make(SOURCE, name="size", workers=1)
    assert len(by_size.manifest["output"]) > 4
    assert read_train(by_size.folder).equals(read_train(one.folder))


def test_extras_are_columns_only_where_a_source_has_them(make: Make, tmp_path: Path) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "北京"}'}}
    write_jsonl(
        tmp_path / "a.jsonl",
        [
            {
                "messages": [
                    {"role": "user", "content": "北京天气怎样？", "loss": False},
                    {"role": "assistant", "content": "", "tool_calls": [call]},
                    {"role": "tool", "content": "晴，21 度"},
                    {"role": "assistant", "content": "晴天，21 度。", "reasoning_content": "工具说了。", "loss": True},
                ],
                "tools": [{"type": "function", "function": {"name": "weather", "parameters": {}}}],
            }
        ],
    )
    write_jsonl(tmp_path / "b.jsonl", chat_rows(2))
    plain = make(SOURCE.replace("a.jsonl", "b.jsonl"), name="plain")
    assert set(read_train(plain.folder)["messages"].dtype.inner.to_schema()) == {"role", "content"}  # type: ignore[union-attr]
    folder = make(SOURCE, name="rich").folder
    (row,) = read_train(folder).to_dicts()
    assert json.loads(row["tools"])[0]["function"]["name"] == "weather"
    user, asked, told, answer = row["messages"]
    assert asked["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city":"北京"}'}
    assert told["role"] == "tool"
    assert (answer["reasoning_content"], answer["loss"], user["loss"]) == ("工具说了。", True, False)


def test_preference_rows(make: Make, tmp_path: Path) -> None:
    rows = [
        {"conversations": [{"from": "human", "value": f"问题{i}"}], "chosen": {"from": "gpt", "value": "好的回答"},
         "rejected": {"from": "gpt", "value": "坏的回答"}}
        for i in range(3)
    ]  # fmt: skip
    write_jsonl(tmp_path / "p.jsonl", rows)
    write_jsonl(tmp_path / "a.jsonl", chat_rows(3))
    pairs = '[source.p]\npath = "p.jsonl"\n'
    train = read_train(make(pairs).folder)
    assert {"prompt", "chosen", "rejected"} <= set(train.columns)
    assert "messages" not in train.columns
    assert set(train["kind"]) == {"preference"}
    row = train.row(0, named=True)
    assert row["prompt"][0]["role"] == "user"
    assert (row["chosen"][0]["content"], row["rejected"][0]["content"]) == ("好的回答", "坏的回答")
    with pytest.raises(InputError, match="preference rows and chat rows, which no trainer takes together"):
        make(pairs + SOURCE, name="both")


def test_judged_answers_stay_rows_with_their_label(make: Make, tmp_path: Path) -> None:
    """Good and bad ones alike, whatever they share: the label is part of the row."""
    answer = "磨坊在河的东边，桥的后面，要走一刻钟的路，路上有三棵老柳树和一口旧井，再过去就是村口。"
    rows = [{"prompt": "磨坊在哪边？", "completion": answer, "label": label} for label in (True, False, True)]
    rows.append({"prompt": "磨坊在哪边？", "completion": answer + "好。", "label": False})
    rows += [
        {"prompt": "磨坊在哪边？", "completion": "不知道。", "label": "no"},
        {"prompt": "磨坊？", "completion": "好"},
    ]
    write_jsonl(tmp_path / "k.jsonl", rows)
    write_jsonl(tmp_path / "a.jsonl", chat_rows(3))
    judged = '[source.k]\npath = "k.jsonl"\nbuild = { use = "chat", layout = "kto" }\n'
    result = make(f"filters = [{{ use = 'dedup' }}]\n{judged}")
    train = read_train(result.folder)
    assert [c for c in train.columns if c not in ("id", "copy")][:3] == ["prompt", "completion", "label"]
    assert sorted(zip(train["origin_row"], train["label"], train["kind"], strict=True)) == [
        (0, True, "kto"), (1, False, "kto"), (4, False, "kto"),
    ]  # fmt: skip
    row = train.filter(pl.col("origin_row") == 1).row(0, named=True)
    assert (row["prompt"][0]["content"], row["completion"][0]["content"]) == ("磨坊在哪边？", answer)
    assert row["chars"] == len(f"磨坊在哪边？\n{answer}")
    dropped = read_dropped(result.folder).sort("origin_row")
    assert dropped["reason"].to_list() == ["dedup:exact", "dedup:near", "chat:columns"]
    assert dropped["label"].to_list() == [True, False, None]
    assert find_faults(result.folder, result.manifest) == []
    with pytest.raises(InputError, match="kto rows and chat rows, which no trainer takes together"):
        make(judged + SOURCE, name="both")


def test_there_is_always_a_dropped_file_with_the_columns(make: Make, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", chat_rows(3))
    dropped = read_dropped(make(SOURCE).folder)
    assert len(dropped) == 0
    assert {"step", "reason", "witness_id", "witness_text", "error"} <= set(dropped.columns)


def test_an_empty_mixture_is_written_and_says_why(make: Make, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", chat_rows(3))
    result = make("allow_empty = true\n" + SOURCE + 'filters = [{ use = "length", min_chars = 100_000 }]\n')
    assert result.manifest["rows"] == 0
    assert len(read_train(result.folder)) == 0
    assert read_dropped(result.folder)["reason"].to_list() == ["length:too-short"] * 3


def test_evidence_of_a_duplicate_is_the_row_that_stayed(make: Make, tmp_path: Path) -> None:
    rows = chat_rows(30)
    write_jsonl(tmp_path / "a.jsonl", rows)
    write_jsonl(tmp_path / "b.jsonl", [rows[7], rows[3]])
    result = make('filters = [{ use = "dedup" }]\n' + SOURCE + '[source.b]\npath = "b.jsonl"\n')
    dropped = read_dropped(result.folder)
    kept = read_train(result.folder)
    assert set(dropped["source"]) == {"b"}
    for row in dropped.to_dicts():
        (winner,) = kept.filter(pl.col("id") == row["witness_id"]).to_dicts()
        assert winner["source"] == "a"
        assert winner["messages"][0]["content"] in row["witness_text"]


@pytest.mark.parametrize("workers", [1, 2, Elsewhere()])
def test_each_chunk_is_read_once_however_many_rows_repeat_one(
    workers: int | Elsewhere, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Texts that dropped rows repeat are found in the one reading: evidence does not grow with the square of the rows."""
    base = chat_rows(60)
    rows = [{**base[i % 60], "output": base[i % 60]["output"] + "。" * (i // 100)} for i in range(400)]
    for i in range(11):  # each repeats rows of all the others
        write_jsonl(tmp_path / f"{i}.jsonl", rows[i::11])
    monkeypatch.setattr(gather, "_FLUSH_ROWS", 50)  # dropped rows of one file
    monkeypatch.setattr(gather, "_WAITING", 10_000)  # bytes: several pieces a task
    counts: Counter[Path] = Counter()
    for module in (gather, rows_module, plan):
        real = module.read_records  # type: ignore[attr-defined]
        counted = lambda place, columns=None, real=real: counts.update([place]) or real(place, columns)  # noqa: E731
        monkeypatch.setattr(module, "read_records", counted)
    result = make('filters = [{ use = "dedup" }]\n[source.a]\npath = "*.jsonl"\n', workers=workers)
    dropped = read_dropped(result.folder)
    assert dropped["reason"].value_counts().sort("reason").rows() == [("dedup:exact", 160), ("dedup:near", 180)]
    questions = [body[0]["content"] for body in dropped["messages"]]
    assert [text.partition("\n")[0] for text in dropped["witness_text"]] == questions
    assert len(counts) == 11
    assert max(counts.values()) <= 2  # once for near-duplicates, once to write


class OneByOne:
    """An executor with room for one task at a time."""

    workers = 1

    def map(self, function: Any, tasks: Iterable[Any], on_done: Callable[[Any], None] = lambda _: None) -> list[Any]:
        results = []
        for task in tasks:
            results.append(function(task))
            on_done(results[-1])
        return results


def test_a_task_for_other_machines_is_made_when_there_is_room_for_it(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names each row's place, some twenty bytes: those of a thousand million rows do not lie in memory at once."""
    for i in range(5):
        write_jsonl(tmp_path / f"{i}.jsonl", chat_rows(8)[i:])
    happened = []
    for name in ("_SortTask", "_sort_out"):
        before = getattr(gather, name)
        monkeypatch.setattr(
            gather, name, lambda *of, name=name, before=before, **more: happened.append(name) or before(*of, **more)
        )
    monkeypatch.setattr(gather, "_FLUSH_ROWS", 1)
    make('[source.a]\npath = "?.jsonl"\n', workers=OneByOne())
    assert happened == ["_SortTask", "_sort_out"] * 5


def test_a_file_that_does_not_fit_is_written_in_several_readings_to_the_same_bytes(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kept rows, dropped rows and the texts that they repeat, a few row groups at a time."""
    rows = [{"instruction": f"问题{i % 40}是什么", "output": f"答案{i % 40}在这里。" * 3} for i in range(90)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    recipe = """
        filters = [{ use = "dedup" }]
        [source.a]
        path = "rows.jsonl"
    """
    monkeypatch.setattr(gather, "ROW_GROUP", 8)
    make(recipe, out=tmp_path / "whole")
    monkeypatch.setattr(gather, "_UNFOLDED", 10**9)  # as if each file unfolded to gigabytes
    read = []
    monkeypatch.setattr(gather, "_read", lambda *of, before=gather._read: read.append(of) or before(*of))
    make(recipe, out=tmp_path / "parts", workers=Local(1, 10**9))
    assert len(read) == 5 + 7  # row groups of 40 kept and 50 dropped rows
    names = sorted(p.relative_to(tmp_path / "whole") for p in (tmp_path / "whole").rglob("*") if p.is_file())
    assert all((tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes() for name in names)
    assert pl.read_parquet(tmp_path / "parts/dropped/part-00000.parquet")["witness_text"].null_count() == 0
