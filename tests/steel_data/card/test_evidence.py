"""The rows that the card shows: a fair sample, examples of every reason, a bounded choice of clusters and overlaps."""

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from tests.steel_data.toys import chat_rows, read_dropped, read_train, write_cmmlu, write_jsonl

from steel_data.build import Result
from steel_data.card import evidence as module
from steel_data.card.evidence import evidence

Make = Callable[..., Result]
TOML = """
filters = [{ use = "decontaminate", benchmarks = ["own.jsonl"] }, { use = "dedup" }]
[source.a]
path = "a.jsonl"
repeat = 2
[source.b]
path = "b.jsonl"
filters = [{ use = "language", keep = ["zh"] }]
[source.leak]
path = "bench"
build = { use = "contaminate", split = "test", doses = { 1 = 6, 3 = 4 } }
"""
QUESTION = "水磨坊里第三只石磨每小时能磨出多少斤面粉才够全村人吃"


@pytest.fixture
def result(make: Make, tmp_path: Path) -> Result:
    write_cmmlu(tmp_path)
    write_jsonl(tmp_path / "own.jsonl", [{"question": QUESTION, "answer": "十斤"}])
    asked = {"instruction": f"{'前言。' * 400}{QUESTION}", "output": "十斤。"}
    write_jsonl(tmp_path / "a.jsonl", [*chat_rows(30), asked])
    english = [{"instruction": f"What is the capital of France ({i})?", "output": "It is Paris."} for i in range(5)]
    write_jsonl(tmp_path / "b.jsonl", [*chat_rows(40)[20:], *[chat_rows(1)[0]] * 7, *english])
    with (tmp_path / "b.jsonl").open("a", encoding="utf-8") as file:
        file.write("{broken\n")
    return make(TOML)


def test_samples_are_first_rows_and_no_repeats(result: Result) -> None:
    seen = evidence(result.folder, result.manifest)
    train = read_train(result.folder).filter(pl.col("copy") == 0)
    for source, rows in seen["samples"].items():
        assert [row["id"] for row in rows] == train.filter(pl.col("source") == source)["id"].to_list()[:3]


def test_samples_go_over_the_borders_of_files(result: Result) -> None:
    train = read_train(result.folder)
    whole = evidence(result.folder, result.manifest)["samples"]
    for at in range(3):
        train[at * 2 : at * 2 + 2 if at < 2 else None].write_parquet(result.folder / f"train-{at:05d}.parquet")
    parts = {**result.manifest, "output": {f"train-{at:05d}.parquet": {} for at in range(3)}}
    assert evidence(result.folder, parts)["samples"] == whole


def test_the_rows_to_look_through_are_of_each_source_in_turn_and_bounded(
    result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = evidence(result.folder, result.manifest)["shown_rows"]
    assert [row["source"] for row in rows[:6]] == ["a", "b", "leak"] * 2
    train = read_train(result.folder).filter(pl.col("copy") == 0)
    assert sorted(row["id"] for row in rows) == sorted(train["id"].to_list())  # so few that all are shown
    monkeypatch.setattr(module, "ROWS", 7)
    assert evidence(result.folder, result.manifest)["shown_rows"] == rows[:7]
    chars = [sum(len(turn.text) for turn in row["turns"]) for row in rows[:3]]
    monkeypatch.setattr(module, "ROWS_CHARS", sum(chars) - 1)
    assert evidence(result.folder, result.manifest)["shown_rows"] == rows[:2]


def test_every_reason_of_the_ledger_has_its_rows_and_examples(result: Result) -> None:
    reasons = evidence(result.folder, result.manifest)["reasons"]
    counts = dict(read_dropped(result.folder).group_by("reason").len().iter_rows())
    assert {reason["name"]: reason["rows"] for reason in reasons} == counts
    assert {"unreadable", "dedup:exact", "language:en", "contaminate:not-drawn", "decontaminate:own"} == set(counts)
    for reason in reasons:
        # of an item that was not drawn its place is all there is
        assert len(reason["examples"]) == (0 if reason["name"] == "contaminate:not-drawn" else min(2, reason["rows"]))
        assert sum(rows for _, rows in reason["by_source"]) == reason["rows"]
    assert [r["rows"] for r in reasons] == sorted((r["rows"] for r in reasons), reverse=True)
    assert {r["name"]: r["step"] for r in reasons}["dedup:exact"] == "dedup"


def test_a_cluster_is_the_row_that_stayed_and_those_dropped_for_it(result: Result) -> None:
    seen = evidence(result.folder, result.manifest)
    assert seen["cluster_sizes"] == [("2 rows", 10, 10), ("5 to 10", 1, 7)]
    first = seen["clusters"][0]
    assert (first["rows"], len(first["members"]), first["more"]) == (7, module.MEMBERS, 7 - module.MEMBERS)
    assert first["place"] == "a.jsonl row 0" and first["dropped"] == {"dedup:exact": 7}
    assert first["kept"].text.startswith(chat_rows(1)[0]["instruction"])


def test_the_choice_of_clusters_is_bounded_and_the_same_each_time(
    result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LARGEST", 2)
    monkeypatch.setattr(module, "SAMPLED", 3)
    some = [cluster["id"] for cluster in evidence(result.folder, result.manifest)["clusters"]]
    assert len(some) == 5
    assert some == [cluster["id"] for cluster in evidence(result.folder, result.manifest)["clusters"]]


def test_an_overlap_is_shown_around_the_item(result: Result) -> None:
    (overlap,) = evidence(result.folder, result.manifest)["overlaps"]
    assert (overlap["name"], overlap["rows"], overlap["found"]) == ("own", 1, 1)
    (row,) = overlap["examples"]
    assert row["witness_id"] == "own/test/own/00000" and QUESTION in row["item"].text
    turn, item = row["turns"][0], row["item"]
    assert turn.text.startswith("… ") and QUESTION in turn.text  # 1,200 characters into the row
    assert (
        turn.text[turn.shared].startswith(QUESTION.rstrip("？。")) and QUESTION.rstrip("？。") in item.text[item.shared]
    )
