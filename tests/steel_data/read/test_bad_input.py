"""What is wrong with one record costs that record; what makes the rest unknowable stops with a message."""

import gzip
import os
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from steel_data.errors import InputError
from steel_data.read.formats import read_chunks, scan_file
from steel_data.read.rows import RawRow
from steel_data.row.json_text import json_bytes

GOOD = b'{"a":1}'


def rows_of(path: Path, chunk_bytes: int = 2**24) -> list[RawRow]:
    scan = scan_file(path, chunk_bytes)
    rows = [row for _, rows in read_chunks(path, scan, range(len(scan.chunks))) for row in rows]
    assert len(rows) == scan.rows
    return rows


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b'{"a":"xy\xb0z"}', "not UTF-8 (byte 0xb0 at 8)"),
        ('{"a":"中文"}'.encode("gb18030"), "not UTF-8 (byte 0xd6 at 6)"),
        (b'{"a":"\xed\xa0\x80"}', "a lone surrogate (bytes ed a0 80 at 6)"),
        (b'{"a":"\\ud800"}', "a lone surrogate in a string"),
        (b'{"\\udc00":1}', "a lone surrogate in a string"),
        (b'{"a":1', "broken JSON (expecting ',' delimiter at character 6"),
        (b"{'a':1}", "broken JSON"),
        (b'{"a":"\x1b[31m', "broken JSON"),
        (b'{"a":1} {"a":2}', "broken JSON (extra data"),
        (b"[1,2]", "an array, not an object"),
        (b'"text"', "a string, not an object"),
        (b"null", "null, not an object"),
        (b"true", "true or false, not an object"),
        (b"17", "a number, not an object"),
        (b"NaN", "null, not an object"),
        (b'{"a":' + b"[" * 100_000, "broken JSON (nested too deeply)"),
        (b'{"a":' + b"9" * 5000 + b"x}", "broken JSON"),
        (b'{"a":1,"b":"x","a":2}', "the key 'a' twice in one object, again at character 15"),
        (b'{"a":{"b" : 1, "\\u0062": 1}}', "the key 'b' twice in one object"),
        (b'{"a":"\\"x\\": ","b" :1,"b":2}', "the key 'b' twice in one object"),
        (b'{"a":1},{"a":2},', "broken JSON"),
    ],
)
def test_a_bad_line_is_one_unreadable_record(tmp_path: Path, line: bytes, error: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(GOOD + b"\n\n" + line + b"\n" + GOOD + b"\n")
    for chunk_bytes in (1, 2**24):
        first, bad, last = rows_of(path, chunk_bytes)
        assert (first.value, last.value, bad.value) == ({"a": 1}, {"a": 1}, None)
        assert (first.row, bad.row, last.row) == (0, 2, 3)
        assert bad.error is not None and bad.error.startswith(f"line 3: {error}"), bad.error
        assert len(bad.error) < 200 and bad.error.isprintable()


def test_nan_and_infinity_are_missing(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'{"a":NaN,"b":[-Infinity,1e999,1.5],"c":123456789012345678901234567890,"d":-9223372036854775808}\n'
    )
    (row,) = rows_of(path)
    assert row.value == {"a": None, "b": [None, None, 1.5], "c": 123456789012345678901234567890, "d": -(2**63)}
    assert b"123456789012345678901234567890" in json_bytes(row.value)


def test_a_line_of_50_megabytes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        GOOD + b"\n" + b'{"a":"' + b"x" * 50 * 2**20 + b'"}\n' + GOOD + b"\n" + b"{" * 50 * 2**20 + b"\n" + GOOD
    )
    scan = scan_file(path)
    assert scan.rows == 5 and max(chunk.end - chunk.start for chunk in scan.chunks) < 100 * 2**20
    sizes = [
        len(row.value["a"]) if row.value and isinstance(row.value["a"], str) else row.error
        for _, rows in read_chunks(path, scan, range(len(scan.chunks)))
        for row in rows
    ]
    assert sizes[1] == 50 * 2**20
    assert isinstance(sizes[3], str) and sizes[3].startswith("line 4: broken JSON") and len(sizes[3]) < 200


def test_a_file_without_line_breaks_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from steel_data.read import blocks as byte_blocks
    from steel_data.read import csv_rows
    from steel_data.read import json_rows as json_array
    from steel_data.read import json_rows as json_lines

    for module in (byte_blocks, csv_rows, json_array, json_lines):
        monkeypatch.setattr(module, "RECORD_LIMIT", 3 * 2**20)
    text = b"x" * 5 * 2**20
    for name, data in (("a.jsonl", b'{"a":"' + text), ("a.json", b'[{"a":"' + text), ("a.csv", b"a,b\n1," + text)):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match="is longer than 3 MB"):
            scan_file(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (
            "a.json",
            b'{\n  "data": [\n    {"a": 1},\n    {"a": 2}\n  ]\n}\n',
            "holds one JSON object over several lines",
        ),
        ("a.jsonl", b'{\n  "a": 1\n}', "holds one JSON object over several lines"),
        ("a.json", b"hello", "neither a JSON array nor JSON lines; it begins with 'hello'"),
        ("a.txt", b"\x1b[31m", "Fix: one of .jsonl"),
        ("a.json", b'[{"a":1},{"a":2', "never closed: element 1 .counted from 0., at byte 9,"),
        ("a.json", b'[{"a":1},{"a":[2},{"a":3}]', "never closed: element 1"),
        (
            "a.json",
            b'[{"a":1},{"a":2}},{"a":3}]',
            "the array ends at element 2 .counted from 0., but more follows at byte 17",
        ),
        ("a.json", b'[{"a":1}]\n[{"a":2}]\nx', None),
        ("a.parquet", b"", "is empty, though its name says so"),
        ("a.parquet", b"<html>", "does not begin like parquet"),
        ("a.parquet", b"PAR1" + b"\0" * 100, "truncated or corrupt parquet"),
        ("a.parquet.gz", gzip.compress(b"PAR1", mtime=0), "parquet inside gzip"),
        ("a.jsonl", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git-lfs pointer"),
        ("a.jsonl", b"<!DOCTYPE html>", "a web page"),
        ("a.jsonl", '{"a":1}'.encode("utf-16"), "UTF-16"),
        ("a.csv", b'a,b\n1,2\n3,"4\n5,6\n', "line 3: a quotation mark that opens a field is never closed"),
        ("a.csv", b"a,b,a\n1,2,3\n", "line 1: two columns are named 'a'"),
        ("a.csv", "问题,答案\n1,2\n".encode("gbk"), "the header is unreadable: not UTF-8"),
        ("a.jsonl.gz", GOOD, "does not hold gzip data"),
        ("a.jsonl.zst", b"", "is empty, though its name says so"),
    ],
)
def test_a_file_that_cannot_be_counted_is_an_error(tmp_path: Path, name: str, data: bytes, message: str | None) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    if message is None:  # arrays on lines: JSON lines of the wrong kind, each an unreadable record
        assert [row.value for row in rows_of(path)] == [None, None, None]
        return
    with pytest.raises(InputError, match=message) as caught:
        rows_of(path)
    assert str(caught.value).startswith(path.as_posix()) and str(caught.value).isprintable()


def _noise(size: int) -> bytes:
    return b"".join(orjson.dumps({"a": os.urandom(20).hex()}) + b"\n" for _ in range(size // 50))


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.parquet", "a.csv.gz", "a.json.zst"])
@pytest.mark.parametrize("damage", ["cut", "cut-at-header", "flip", "tail"])
def test_truncated_and_corrupt_files(tmp_path: Path, name: str, damage: str) -> None:
    path = tmp_path / name
    text = _noise(300_000)
    if ".csv" in name:
        text = b"a,b\n" + text.replace(b"{", b"").replace(b"}", b",1")
    if ".json." in name:
        text = b"[" + text.strip().replace(b"\n", b",") + b"]"
    if name == "a.parquet":
        rows = [orjson.loads(line) for line in text.splitlines()]
        pq.write_table(pa.Table.from_pylist(rows), path, write_page_checksum=True)
    else:
        path.write_bytes(
            gzip.compress(text, mtime=0)
            if name.endswith("gz")
            else zstandard.ZstdCompressor(write_checksum=True).compress(text)
        )
    data = bytearray(path.read_bytes())
    if damage == "cut":
        del data[-len(data) // 3 :]
    elif damage == "cut-at-header":
        del data[8:]
    elif damage == "flip":
        for at in range(len(data) // 2, len(data) // 2 + 4000):
            data[at] ^= 0x55
    else:
        data += b"and something else"
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        rows_of(path)
    assert str(caught.value).startswith(path.as_posix()) and "etch it again" in str(caught.value)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        scan_file(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="cannot be read"):
        scan_file(tmp_path)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_a_file_that_changed_since_the_scan(tmp_path: Path, name: str) -> None:
    data = {"a.jsonl": b'{"a":1}\n' * 9, "a.json": b"[" + b'{"a":1},' * 8 + b"{}]", "a.csv": b"a\n" + b"1\n" * 9}[name]
    path = tmp_path / name
    path.write_bytes(data)
    scan = scan_file(path, 10)
    path.write_bytes(data[:30] if name != "a.csv" else data[:10])
    with pytest.raises(InputError, match="changed since it was scanned"):
        [row for _, rows in read_chunks(path, scan, range(len(scan.chunks))) for row in rows]
    path.unlink()
    with pytest.raises(InputError, match="changed since it was scanned"):
        list(read_chunks(path, scan, [0]))
