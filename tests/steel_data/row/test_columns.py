"""What a cell holds, which columns nobody reads, and what they would have meant."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steel_data.row.columns import Unread, Watched, added, count, holds, meaning_of, unread


@pytest.mark.parametrize(
    "nothing", [None, "", " \n", "[]", "{}", "null", float("nan"), [], {}, [None, ""], {"a": None}]
)
def test_what_holds_nothing(nothing: Any) -> None:
    assert not holds(nothing) and not holds(" " * 50)
    assert all(map(holds, [0, False, "0", "x", [0], {"a": "b"}, "字" * 50]))


@pytest.mark.parametrize(
    ("column", "tells", "tag"),
    [
        ("label", [True, 0, "1", "False", 1.0], ["A", 2, {"ability": ["x"]}, 0.5, "0.5"]),
        ("rejected_response", ["坏", "B", [{"role": "user"}], True], [3.5, 0, False]),
        ("chosen_output", ["好"], [7]),
        ("article", ["老乔今年七十三岁，守着磨坊。", "Ma mends carts.", ["Every smith owns a hammer."]], ["x1", "新闻", "a_b", 3]),
        ("Context", [{"title": ["a"], "sentences": [["One.  Two."]]}], ["closed_qa", "web page", ["a", "b"]]),
        ("functions", [[{"name": "f"}], '[{"name": "f"}]'], [0]),
        ("image", ["a.png", {"bytes": "x"}, ["a"]], [0, False]),
        ("reasoning_text", ["想", "let me see", ["x"]], ["on", "high", 3, True]),
        ("thinking", ["想一想"], ["off"]),
        ("history", [[["问", "答"]], '[["Hi there", "Hello"]]'], [3]),
        ("system", ["You are a poet.", "你是一位诗人。"], ["呼吸系统", "linux"]),
        ("system_prompt", ["你是诗人"], ["default"]),
    ],
)  # fmt: skip
def test_a_column_changes_what_a_row_means_by_what_it_holds(column: str, tells: list[Any], tag: list[Any]) -> None:
    meaning = meaning_of(column)
    assert meaning is not None
    assert [value for value in tells if not meaning.holds(value)] == []
    assert [value for value in tag if meaning.holds(value)] == []


def test_a_truth_is_one_in_every_row() -> None:
    """Infinity-Instruct's label is a tag, and so is a class of which some rows have number 0 or 1."""
    label, tools = meaning_of("label"), meaning_of("tools")
    assert label is not None and tools is not None
    assert Unread(rows=3, telling=3).changes(label) and not Unread(rows=3, telling=2).changes(label)
    assert Unread(rows=3, telling=1).changes(tools) and not Unread(rows=3, telling=0).changes(tools)


def test_what_was_not_read_is_told_with_what_it_means() -> None:
    row = {"q": "问", "label": 1, "note": "x", "image": "", "rejected": "坏", "chosen_model": "gpt-4o mini"}
    assert json.loads(unread(row, {"q", "label"}) or "") == {"note": False, "rejected": True, "chosen_model": True}
    assert json.loads(unread(row, {"q", "rejected", "chosen"}) or "")["chosen_model"] is False  # a remark on `chosen`
    assert unread(row, row) is None and unread({"q": None, "x": []}, {"y"}) is None


texts = st.sampled_from(['{"a":true}', '{"a":false,"b":true}', '{"b":true}'])


@given(st.lists(st.dictionaries(texts, st.integers(1, 9)), max_size=5))
def test_counts_are_the_same_however_rows_are_cut(chunks: list[dict[str, int]]) -> None:
    whole: dict[str, int] = {}
    for chunk in chunks:
        for text, many in chunk.items():
            whole[text] = whole.get(text, 0) + many
    assert added(map(count, chunks)) == count(whole)
    assert list(count(whole)) == sorted(count(whole))


ROW = {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("look", "read"),
    [
        (lambda row: row["a"], {"a"}),
        (lambda row: row.get("a", row.get("c")), {"a"}),
        (lambda row: row.pop("a"), {"a"}),
        (lambda row: [row[name] for name in row if name == "b"], {"b"}),
        (lambda row: "a" in row and len(row) and row["b"], {"b"}),
        (lambda row: dict(row), {"a", "b"}),
        (lambda row: {**row}, {"a", "b"}),
        (lambda row: row | {}, {"a", "b"}),
        (lambda row: {} | row, {"a", "b"}),
        (lambda row: json.dumps(row), {"a", "b"}),
        (lambda row: copy.deepcopy(row), {"a", "b"}),
        (lambda row: list(row.values()), {"a", "b"}),
        (lambda row: str(row), {"a", "b"}),
        (lambda row: None, {"a", "b"}),  # nothing that it saw: taken for all
    ],
)
def test_a_watched_row_knows_what_was_read(look: Any, read: set[str]) -> None:
    row = Watched(ROW)
    look(row)
    assert row.read == read
    assert dict.__len__(ROW) == 2


def test_a_pattern_takes_what_it_names() -> None:
    row = Watched(ROW)
    match row:
        case {"b": 2}:
            pass
    assert row.read == {"b"}
