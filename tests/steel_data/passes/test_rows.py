"""The rows of a plan in few bytes: whatever is asked of them, they say what a plain table would."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.steel_data.passes.narrow import source

from steel_data.passes import rows as rows_module
from steel_data.passes.map import MappedChunk
from steel_data.passes.rows import PlannedRows, Verdicts, true_rows
from steel_data.row.table import texts_of

NUMBERS = ("origin_row", "part", "dose", "chars", "tokens")
WORDS = ("kind", "language", "note", "item", "benchmark", "quality")


def chunk(data: st.DataObject, rows: int) -> dict[str, list[Any]]:
    """Draw the narrow columns of a chunk: each all null, all the same, counting up, or as it comes."""
    columns: dict[str, list[Any]] = {}
    for name in (*NUMBERS, *WORDS):
        value = st.integers(0, 70_000) if name in NUMBERS else st.sampled_from(["a", "b", "injected"])
        shape = data.draw(st.sampled_from(["null", "same", "up", "any"]))
        if shape == "null":
            columns[name] = [None] * rows
        elif shape == "same" or (shape == "up" and name in WORDS):
            columns[name] = [data.draw(value)] * rows
        elif shape == "up":
            first = data.draw(value)
            columns[name] = list(range(first, first + rows))
        else:
            columns[name] = data.draw(st.lists(st.none() | value, min_size=rows, max_size=rows))
    return columns


def narrow(columns: dict[str, list[Any]], rows: int, first: int) -> pl.DataFrame:
    kinds = dict.fromkeys(NUMBERS, pl.Int32) | dict.fromkeys(WORDS, pl.Categorical)
    series = [pl.Series(name, columns[name], dtype=kinds[name]) for name in columns]
    none = [pl.Series(name, [None] * rows, dtype=pl.String) for name in ("step", "reason")]
    return pl.DataFrame([pl.Series("id", range(first, first + rows), dtype=pl.UInt128), *series, *none])


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_they_say_what_a_plain_table_says(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(0, 6), min_size=1, max_size=4).filter(sum))
    told = [chunk(data, size) for size in sizes]
    first = np.cumsum([0, *sizes]).tolist()
    chunks = [(i // 2, MappedChunk(i % 2, i, size, ())) for i, size in enumerate(sizes)]
    rows = PlannedRows(chunks, [narrow(one, n, at) for one, n, at in zip(told, sizes, first[:-1], strict=True)])
    whole = {name: [value for one in told for value in one[name]] for name in told[0]}
    whole["id"] = list(range(len(rows)))
    whole["source"] = [i // 2 for i, size in enumerate(sizes) for _ in range(size)]
    whole["file"] = [i % 2 for i, size in enumerate(sizes) for _ in range(size)]
    whole["chunk"] = [i for i, size in enumerate(sizes) for _ in range(size)]
    whole["pos"] = [pos for size in sizes for pos in range(size)]
    lost = data.draw(st.lists(st.integers(0, len(rows) - 1), unique=True))
    rows.few["witness"].put(np.array(lost, np.int64), pl.Series(lost, dtype=pl.Int64))
    whole["witness"] = [row if row in lost else -1 for row in range(len(rows))]
    a, b = sorted(data.draw(st.tuples(st.integers(0, len(rows)), st.integers(0, len(rows)))))
    some = np.array(data.draw(st.lists(st.integers(0, len(rows) - 1))), np.int64)
    for name, values in whole.items():
        assert rows.column(name).to_list() == values, name
        assert rows.column(name, a, b).to_list() == values[a:b], name
        assert rows.at(some, name)[name].to_list() == [values[row] for row in some], name
    assert rows.injected().tolist() == [kind == "injected" for kind in whole["kind"]]
    assert rows.kinds() == {kind for kind in whole["kind"] if kind is not None}
    assert set(rows.columns(a, b).columns) == {*whole, "step", "reason", "written", "overlap_item"}


def test_a_row_takes_some_25_bytes() -> None:
    """Ten million rows are planned in the memory of a laptop."""
    size = 100_000
    rng = np.random.default_rng(0)
    columns = {
        "origin_row": list(range(size)), "part": [0] * size, "dose": [None] * size,
        "chars": rng.integers(0, 2_000, size).tolist(), "tokens": rng.integers(0, 1_000, size).tolist(),
        "kind": ["chat"] * size, "language": rng.choice(["zh", "en"], size).tolist(),
        **dict.fromkeys(("note", "item", "benchmark", "quality"), [None] * size),
    }  # fmt: skip
    chunks = [(0, MappedChunk(0, i, size, ())) for i in range(2)]
    rows = PlannedRows(chunks, [narrow(columns, size, i * size) for i in range(2)])
    whole = sum(series.estimated_size() for series in rows._whole.values())
    own = sum(piece.own.estimated_size() for of in rows._pieces.values() for piece in of if piece.own is not None)
    assert (whole + own + rows.verdicts._verdict_R.nbytes + rows.written.nbytes) / len(rows) < 25


def test_verdicts_widen_when_there_are_many() -> None:
    verdicts = Verdicts(70_000)
    for row in range(0, 70_000, 500):
        verdicts.drop(row, "length", f"length:{row}")
    assert verdicts._verdict_R.dtype == np.int16
    assert verdicts.words("reason", slice(0, 1001))[[0, 1, 500, 1000]].to_list() == [
        "length:0", None, "length:500", "length:1000"
    ]  # fmt: skip
    assert verdicts.kept().sum() == 70_000 - 140


def test_true_rows_are_those_of_every_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "_BLOCK", 3)
    mask = np.array([True, False, True, True, False, False, True])
    assert true_rows(mask, 10, np.int32).tolist() == [10, 12, 13, 16]
    assert true_rows(np.zeros(0, bool), 0, np.int32).tolist() == []


def test_texts_come_in_the_order_asked_and_each_chunk_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapped = source(tmp_path, "a", [{"text": "零"}, {"text": "一"}], [{"text": "二"}, {"text": "三"}])
    rows = PlannedRows([(0, chunk) for chunk in mapped.chunks], mapped.narrow)
    read: list[Path] = []
    real = rows_module.read_records
    monkeypatch.setattr(rows_module, "read_records", lambda place, columns: read.append(place) or real(place, columns))
    assert rows.texts(np.array([3, 0, 2, 1]), texts_of) == ["三", "零", "二", "一"]
    assert len(read) == len(set(read)) == 2
    assert rows.texts(np.zeros(0, np.int64), texts_of) == []
