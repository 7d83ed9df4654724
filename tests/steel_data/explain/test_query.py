"""What a query may mean, which rows it means then, and which steps a row has passed."""

from typing import Any

import polars as pl
import pytest

from steel_data.explain.query import Query, account_of, readings, steps


def test_readings_of_a_query() -> None:
    manifest = {"inputs": {"folder/a.jsonl": {}}}

    def meant(text: str) -> list[str]:
        return [q.meant for q in readings(text, manifest)]

    assert meant("a.jsonl:5") == meant("folder/a.jsonl:5") == meant("builtin:identity:3") == ["origin"]
    assert meant("时间是12:30") == meant("x.jsonl:5") == meant("abcdef0") == ["text"]
    assert meant("deadbeef") == ["id", "text"]
    assert meant("0123456789abcdef") == ["id"]
    assert meant("cmmlu/test/law/00001") == meant("test/law/00001") == ["item"]
    assert readings("cmmlu/test/law/00001", manifest)[0] == Query(
        "cmmlu/test/law/00001", "item", ("cmmlu", "test/law/00001")
    )


ROWS = pl.DataFrame(
    {
        "id": ["aa00", "ab00", "ac00"],
        "origin_file": ["x/a.jsonl", "a.jsonl", "x/ba.jsonl"],
        "origin_row": [5, 5, 5],
        "benchmark": ["own", None, None],
        "item": ["test/s/00001", None, None],
        "witness_id": [None, "other/test/s/00001", "aa00"],
        "error": [None, None, "the Builder said no"],
        "messages": [[{"content": "灯笼 A"}], [{"content": "水壶"}], None],
    }
)


@pytest.mark.parametrize(
    ("query", "loose", "meant"),
    [
        (Query("a.jsonl:5", "origin", ("a.jsonl", "5")), False, ["aa00", "ab00"]),  # of any folder, but not ba.jsonl
        (Query("x/a.jsonl:5", "origin", ("x/a.jsonl", "5")), False, ["aa00"]),
        (Query("ab", "id", ("ab",)), False, ["ab00"]),
        (Query("", "item", ("", "test/s/00001")), False, ["aa00", "ab00"]),  # injected, or what was dropped for it
        (Query("", "item", ("own", "test/s/00001")), False, ["aa00"]),
        (Query("灯笼", "text"), False, ["aa00"]),
        (Query("灯笼Ａ", "text"), False, []),
        (Query("灯笼Ａ", "text"), True, ["aa00"]),
        (Query("builder said", "text"), True, ["ac00"]),
    ],
)
def test_the_rows_that_a_query_means(query: Query, loose: bool, meant: list[str]) -> None:
    assert ROWS.filter(query.condition(ROWS.schema, loose).fill_null(False))["id"].to_list() == meant


RECIPE: dict[str, Any] = {
    "source": {"a": {"filters": [{"use": "length"}], "take": 1000}, "leak": {"build": {"use": "contaminate"}}},
    "filters": [{"use": "dedup"}, {"use": "decontaminate"}],
    "mix": {"budget_rows": 3},
}


@pytest.mark.parametrize(
    ("row", "passed"),
    [
        ({}, ("chat", "length", "decontaminate", "dedup", "take = 1,000", "[mix]")),
        ({"reason": "dedup:near", "step": "dedup"}, ("chat", "length", "decontaminate")),
        ({"reason": "chat:empty", "step": "chat"}, ()),
        ({"source": "leak", "kind": "injected"}, ("contaminate", "an injected row bypasses every filter")),
    ],
)
def test_steps_in_the_order_of_decision(row: dict[str, Any], passed: tuple[str, ...]) -> None:
    assert steps(RECIPE, {"source": "a", "kind": "chat", "reason": None, **row}) == passed


def test_only_sources_that_sampled_are_counted() -> None:
    assert account_of({"sources": {"a": {"sampled_out": 1200}, "b": {"sampled_out": 0}}}) == "a 1,200"
