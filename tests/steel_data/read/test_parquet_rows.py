"""Parquet: values as JSON has them, large row groups in parts, bytes and broken text row by row."""

import datetime
import decimal
import hashlib
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.steel_data.read.test_bad_input import rows_of
from tests.steel_data.read.test_formats import as_parquet, read, write

from steel_data.errors import InputError
from steel_data.read.formats import read_whole, scan_file


def test_parquet_values_become_json(tmp_path: Path) -> None:
    table = pa.table(
        {
            "day": [datetime.date(2024, 2, 29), None],
            "at": [datetime.datetime(2024, 2, 29, 1, 2, 3), None],
            "score": pa.array([float("nan"), 0.5], pa.float64()),
            "price": pa.array(
                [decimal.Decimal("1.50"), decimal.Decimal("0.10000000000000000001")], pa.decimal128(30, 20)
            ),
            "turns": [[{"from": "human", "value": "你好", "weight": float("inf")}], []],
            "old_text": pa.array(["钢".encode(), b""], pa.binary()),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    first, second = read(tmp_path / "a.parquet", scan_file(tmp_path / "a.parquet"))
    assert first.value == {
        "day": "2024-02-29",
        "at": "2024-02-29T01:02:03",
        "score": None,
        "price": 1.5,
        "turns": [{"from": "human", "value": "你好", "weight": None}],
        "old_text": "钢",
    }
    assert second.value is not None and second.value["price"] == "0.10000000000000000001"
    assert orjson.dumps([first.value, second.value])


def test_a_large_row_group_is_read_in_parts(tmp_path: Path) -> None:
    rows = [{"i": i, "text": hashlib.sha256(str(i).encode()).hexdigest() * 4} for i in range(20_000)]
    path = write(tmp_path, "a.parquet", as_parquet(rows, row_group_size=20_000))
    scan = scan_file(path, 2**20)
    assert len(scan.chunks) > 3 and {(chunk.start, chunk.end) for chunk in scan.chunks} == {(0, 1)}
    assert [row.value for row in read(path, scan, [3, 1])] == [
        rows[row]
        for i in (1, 3)
        for row in range(scan.chunks[i].first_row, scan.chunks[i].first_row + scan.chunks[i].rows)
    ]


def test_parquet_rows_of_bytes_and_broken_text(tmp_path: Path) -> None:
    image = pa.array([b"ok", b"\xff\xd8\xff", b"ok"], pa.binary())
    pq.write_table(pa.table({"n": [1, 2, 3], "image": image}), tmp_path / "a.parquet")
    rows = rows_of(tmp_path / "a.parquet")
    assert [row.value for row in rows] == [{"n": 1, "image": "ok"}, None, {"n": 3, "image": "ok"}]
    assert rows[1].error == "row 1 (counted from 0): column 'image' holds bytes, not text"
    text = pa.Array.from_buffers(pa.string(), 3, pa.array([b"ok", b"\xb0", b"ok"], pa.binary()).buffers())
    pq.write_table(pa.table({"t": text}), tmp_path / "b.parquet")
    rows = rows_of(tmp_path / "b.parquet")
    assert [row.error for row in rows] == [None, "row 1 (counted from 0): not UTF-8", None]


def test_two_parquet_columns_of_one_name(tmp_path: Path) -> None:
    pq.write_table(pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="two columns are named 'a'"):
        scan_file(tmp_path / "a.parquet")


def test_whole_decimals_are_integers_of_any_length(tmp_path: Path) -> None:
    numbers = [decimal.Decimal(5), decimal.Decimal("12345678901234567890123456789"), None]
    pq.write_table(pa.table({"a": pa.array(numbers, pa.decimal128(38, 0))}), tmp_path / "a.parquet")
    values = [row.value for row in rows_of(tmp_path / "a.parquet")]
    assert values == [{"a": 5}, {"a": 12345678901234567890123456789}, {"a": None}]
    assert type(values[0]["a"]) is int  # type: ignore[index]


def test_a_date_beyond_the_calendar_is_its_rows_fault_alone(tmp_path: Path) -> None:
    days = pa.array([0, 2_932_897, None, -800_000], pa.int32()).cast(pa.date32())  # the second is 10000-01-01
    pq.write_table(pa.table({"instruction": ["a", "b", "c", "d"], "day": days}), tmp_path / "a.parquet")
    rows = list(read_whole(tmp_path / "a.parquet"))
    assert [row.value and row.value["day"] for row in rows] == ["1970-01-01", None, None, None]
    assert [row.error is None for row in rows] == [True, False, True, False]
    assert rows[1].error.startswith("row 1 (counted from 0): column 'day' holds a date32[day] that cannot be read")


def test_a_column_whose_name_is_no_text_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"instruction": ["x"], "output": ["y"]}), path)
    path.write_bytes(path.read_bytes().replace(b"instruction", b"instr\xfa\xfftion"))
    with pytest.raises(InputError, match=r"a\.parquet: truncated or corrupt parquet"):
        scan_file(path)
