"""The stored index is the built one; a damaged file is built anew; other contents have another file."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from tests.steel_data.toys import chat_rows, read_dropped, write_cmmlu, write_jsonl

from steel_data.benchmarks import index as overlap_store
from steel_data.benchmarks.index import Index, build_index, stored_index
from steel_data.build import Result

Make = Callable[..., Result]


def same(a: Index, b: Index) -> bool:
    pairs = [(getattr(a, f.name), getattr(b, f.name)) for f in fields(Index)]
    return all(np.array_equal(x, y) if isinstance(x, np.ndarray) else x == y for x, y in pairs)


def test_what_is_stored_is_what_was_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cmmlu(tmp_path)
    place = tmp_path / "index" / "x.npz"
    built = build_index(("bench",), tmp_path)
    assert same(stored_index(place, ("bench",), tmp_path), built)
    stored_index.cache_clear()
    monkeypatch.setattr(overlap_store, "build_index", None)  # read, not built
    assert same(stored_index(place, ("bench",), tmp_path), built)


def test_a_damaged_file_is_built_anew(tmp_path: Path) -> None:
    write_cmmlu(tmp_path)
    place = tmp_path / "x.npz"
    built = stored_index(place, ("bench",), tmp_path)
    whole = place.read_bytes()
    for damaged in (b"", b"no archive", whole[: len(whole) // 2]):
        place.write_bytes(damaged)
        stored_index.cache_clear()
        assert same(stored_index(place, ("bench",), tmp_path), built)
        assert place.read_bytes() == whole


@pytest.mark.parametrize("workers", [1, 2])
def test_a_changed_benchmark_is_another_index(make: Make, tmp_path: Path, workers: int) -> None:
    write_cmmlu(tmp_path)
    question = "水磨坊里第三只石磨每小时能磨出多少斤面粉才够全村人吃"
    write_jsonl(tmp_path / "a.jsonl", [*chat_rows(20), {"instruction": question, "input": "", "output": "十斤。"}])
    write_jsonl(tmp_path / "b.jsonl", chat_rows(40)[20:])
    recipe = """
    filters = [{ use = "decontaminate", benchmarks = ["bench", "own.jsonl"] }]
    [source.a]
    path = ["a.jsonl", "b.jsonl"]
    """
    write_jsonl(tmp_path / "own.jsonl", [{"question": "另一道与此无关的题目问的是什么时候开船", "answer": "早上"}])
    assert len(read_dropped(make(recipe, workers=workers).folder)) == 0
    assert len(list((tmp_path / "cache" / "index").rglob("*.npz"))) == 1
    write_jsonl(tmp_path / "own.jsonl", [{"question": question, "answer": "十斤"}])
    dropped = read_dropped(make(recipe, workers=workers).folder)
    assert dropped["witness_id"].to_list() == ["own/test/own/00000"]
    assert len(list((tmp_path / "cache" / "index").rglob("*.npz"))) == 2
