"""Rows by filter and text: every row that fits is on some page, once; files that no mixture has are refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.steel_data.toys import read_dropped, read_train

from steel.ui import search
from steel.ui.search import Hits, Wanted, find, names, row_at
from steel_data.errors import InputError


def pages(folder: Path, **said: Any) -> list[Hits]:
    """Return all pages of a search."""
    manifest = json.loads((folder / "manifest.json").read_text())
    files, out, start = names(folder, manifest, bool(said.get("dropped"))), [], 0
    while True:
        out.append(find(folder, files, Wanted(**said, start=start)))
        if out[-1].next is None:
            return out
        assert out[-1].next > start
        start = out[-1].next


def found(hits: list[Hits]) -> list[str]:
    return [row["id"] for page in hits for _, row in page.rows]


def test_all_rows_stand_on_the_pages_in_order(runs: Path) -> None:
    hits = pages(runs / "a/mixture")
    assert found(hits) == read_train(runs / "a/mixture")["id"].to_list()
    assert hits[0].total == hits[0].of == len(found(hits)) and len(hits[0].rows) == search.ROWS


def test_filters_are_those_of_the_columns(runs: Path) -> None:
    folder = runs / "a/mixture"
    assert found(pages(folder, source="chat", kind="chat")) == read_train(folder).filter(source="chat")["id"].to_list()
    dropped = read_dropped(folder)
    assert (
        found(pages(folder, dropped=True, reason="dedup:exact")) == dropped.filter(reason="dedup:exact")["id"].to_list()
    )
    assert found(pages(folder, source="nothing' or 1=1")) == []


@settings(max_examples=20)
@given(window=st.integers(1, 70), text=st.sampled_from(["灯笼", "。", "第7号回答", "alert(1)", "没有这样的话"]))
def test_a_text_is_found_whatever_the_windows(runs_once: Path, window: int, text: str) -> None:
    before, search.WINDOW = search.WINDOW, window
    try:
        hits = pages(runs_once / "a/mixture", text=text)
    finally:
        search.WINDOW = before
    rows = read_train(runs_once / "a/mixture").iter_rows(named=True)
    assert found(hits) == [row["id"] for row in rows if any(text in turn["content"] for turn in row["messages"])]
    assert hits[-1].looked == hits[-1].of


def test_a_search_that_takes_too_long_goes_on_from_where_it_was(runs: Path) -> None:
    kept = search.SECONDS, search.WINDOW
    search.SECONDS, search.WINDOW = -1.0, 10
    try:
        hits = find(runs / "a/mixture", ["train-00000.parquet"], Wanted(text="。"))
        assert (hits.rows, hits.next) == ([], 0)
        search.SECONDS = 60.0
        assert len(found(pages(runs / "a/mixture", text="第7号回答"))) <= 1
    finally:
        search.SECONDS, search.WINDOW = kept


def test_text_and_filter_together(runs: Path) -> None:
    both = found(pages(runs / "a/mixture", text="小钢", source="other"))
    assert both and found(pages(runs / "a/mixture", text="小钢", source="chat")) == []


@pytest.mark.parametrize("name", ["../secret.parquet", "/etc/passwd", "train-1.parquet", "dropped/../../x.parquet"])
def test_a_manifest_cannot_name_files_of_elsewhere(runs: Path, name: str) -> None:
    with pytest.raises(InputError, match="no mixture holds"):
        names(runs / "a/mixture", {"output": {name: {}}}, False)


def test_a_link_to_elsewhere_is_refused(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "other.parquet").write_bytes(b"x")
    (runs / "a/mixture/train-00009.parquet").symlink_to(tmp_path / "other.parquet")
    with pytest.raises(InputError, match="no mixture holds"):
        names(runs / "a/mixture", {"output": {"train-00009.parquet": {}}}, False)


def test_damaged_and_missing_files_are_named(runs: Path) -> None:
    file = runs / "a/mixture/train-00000.parquet"
    whole = file.read_bytes()
    for damaged in (b"", b"PAR1", whole[: len(whole) // 2], whole[:200] + b"\0" * 400 + whole[600:]):
        file.write_bytes(damaged)
        for wanted in (Wanted(), Wanted(text="灯笼")):
            try:
                find(runs / "a/mixture", [file.name], wanted)
            except InputError as error:
                assert "train-00000.parquet" in str(error)
    file.unlink()
    with pytest.raises(InputError, match="is missing"):
        find(runs / "a/mixture", [file.name], Wanted())


def test_one_row_by_its_place(runs: Path) -> None:
    folder = runs / "a/mixture"
    assert row_at(folder, ["train-00000.parquet"], "train-00000.parquet", 3)["id"] == read_train(folder)["id"][3]
    with pytest.raises(InputError, match="has no row"):
        row_at(folder, ["train-00000.parquet"], "train-00000.parquet", 10**6)
    with pytest.raises(InputError, match="no file of this mixture"):
        row_at(folder, ["train-00000.parquet"], "../../x", 0)
