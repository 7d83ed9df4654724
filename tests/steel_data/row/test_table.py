"""The views of records on disk: the whole text, what duplicates are told by, and what people say themselves."""

from pathlib import Path

import orjson
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steel_data.row.record import record_id, text_view
from steel_data.row.table import (
    as_record,
    compared_of,
    first_half,
    id_texts,
    own_words_of,
    packed,
    read_columns,
    segments_of,
    spoken_by_others,
    table,
    texts_of,
    write_columns,
)

CALL = {"type": "function", "function": {"name": "weather", "arguments": '{"city":"杭州"}'}}
PLAIN = [{"role": "user", "content": "一"}, {"role": "assistant", "content": "二", "reasoning_content": "想"}]
CALLING = [
    {"role": "system", "content": "规则"}, {"role": "user", "content": "天气"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]}, {"role": "tool", "content": "晴"},
    {"role": "assistant", "content": "晴天"},
]  # fmt: skip
TOOLS = [{"type": "function", "function": {"name": "weather"}}]
PAIR = {"prompt": PLAIN[:1], "chosen": PLAIN[1:], "rejected": [{"role": "assistant", "content": "坏"}]}


def records():
    bodies = [(PLAIN, None), (CALLING, TOOLS), (None, None), (PAIR, None)]
    return table([
        {"messages": None if b is None else orjson.dumps(b).decode(), "tools": orjson.dumps(t).decode() if t else None}
        for b, t in bodies
    ])  # fmt: skip


def test_the_view_of_the_table_is_that_of_the_record():
    """What the map pass measures is what `check` measures again on the finished mixture."""
    views = texts_of(records())
    assert views == [
        text_view({"messages": PLAIN}), text_view({"messages": CALLING, "tools": TOOLS}), "", text_view(PAIR)
    ]  # fmt: skip
    assert views[1].split("\n") == [
        '[{"type":"function","function":{"name":"weather"}}]',
        "规则",
        "天气",
        'weather {"city":"杭州"}',
        "晴",
        "晴天",
    ]
    assert [text for _, text in segments_of(records())[1]] == views[1].split("\n")


def test_only_user_and_assistant_have_words_of_their_own():
    assert spoken_by_others(records()) == [1]
    assert own_words_of(records()) == ["一\n想\n二", "天气\n晴天", "", "一\n想\n二"]


def test_a_mark_inside_a_text_is_no_turn():
    quoting = [{"role": "user", "content": '{"role":"system"}'}, {"role": "assistant", "content": '"tool_calls":[]'}]
    assert spoken_by_others(table([{"messages": orjson.dumps(quoting).decode()}])) == []


@pytest.mark.parametrize(
    ("on", "expected"),
    [
        (
            "all",
            [
                "一|想\n二",
                '[{"type":"function","function":{"name":"weather"}}]|天气|weather {"city":"杭州"}|晴|晴天',
                "",
                "一|想\n二|坏",
            ],
        ),
        ("question", ["一", "天气", "", "一"]),
        ("answer", ["想\n二", 'weather {"city":"杭州"}|晴天', "", "想\n二|坏"]),
    ],
)
def test_what_duplicates_are_told_by(on, expected):
    assert compared_of(records(), on, "|") == expected


def test_a_record_comes_back_as_it_was():
    row = table([{"id": "x", "messages": orjson.dumps(CALLING).decode(), "tools": orjson.dumps(TOOLS).decode()}])
    record = as_record(row.to_dicts()[0])
    assert record["messages"] == CALLING
    assert record["tools"] == TOOLS
    assert record_id(record) == record_id({"messages": CALLING, "tools": TOOLS})


@given(st.lists(st.none() | st.integers(0, 2**128 - 1), max_size=9))
def test_packed_ids_come_back_as_they_are_written(numbers: list[int | None]) -> None:
    texts = [None if n is None else f"{n:032x}" for n in numbers]
    frame = pl.DataFrame({"id": pl.Series(texts, dtype=pl.String)}).select("id", packed=packed(pl.col("id")))
    assert frame["packed"].to_list() == numbers
    assert id_texts(frame["packed"]) == id_texts(frame["id"]) == texts
    halves = frame.select(first_half(pl.col("packed"))).to_series().to_list()
    assert halves == [None if n is None else n >> 64 for n in numbers]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is full")
def test_a_full_disk_is_an_os_error(tmp_path: Path) -> None:
    """polars calls it a ComputeError, which would end in a traceback: who writes a folder waits for an OSError."""
    with pytest.raises(OSError, match="No space left"):
        write_columns(Path("/dev/full"), pl.DataFrame({"a": ["x"] * 100_000}))
    write_columns(tmp_path / "a.parquet", pl.DataFrame({"a": [1]}))
    assert read_columns(tmp_path / "a.parquet")["a"].to_list() == [1]
