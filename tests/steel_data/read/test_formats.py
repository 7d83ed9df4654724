"""Reading: every format gives the same rows, chunks tile the file, and nothing but bytes decides where they lie."""

import csv
import gzip
import hashlib
import io
import json
import tracemalloc
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from steel_data.read import json_rows as json_lines
from steel_data.read.formats import read_chunks, scan_file
from steel_data.read.json_rows import _rows_of_piece
from steel_data.read.rows import FileScan, RawRow, json_row

ROWS = [
    {
        "instruction": f"第{i}题：什么是“钢”？",
        "input": "" if i % 3 else 'a, "b"\r\n\\ [c] {d}',
        "output": "铁碳合金。" * (i % 7),
    }
    for i in range(200)
]


def as_csv(rows: list[dict], delimiter: str) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def as_parquet(rows: list[dict], row_group_size: int = 30) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out, row_group_size=row_group_size)
    return out.getvalue()


WRITERS = {
    "jsonl": lambda rows: b"".join(orjson.dumps(row) + b"\n" for row in rows),
    "json": lambda rows: json.dumps(rows, ensure_ascii=False, indent=2).encode(),
    "csv": lambda rows: as_csv(rows, ","),
    "tsv": lambda rows: as_csv(rows, "\t"),
    "parquet": as_parquet,
}
PACKERS = {"": lambda data: data, ".gz": gzip.compress, ".zst": lambda data: zstandard.ZstdCompressor().compress(data)}


def write(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def read(path: Path, scan: FileScan, wanted: list[int] | None = None) -> list[RawRow]:
    wanted = list(range(len(scan.chunks))) if wanted is None else wanted
    return [row for _, rows in read_chunks(path, scan, wanted) for row in rows]


CASES = [(kind, pack) for kind in WRITERS for pack in PACKERS if not (kind == "parquet" and pack)]


@pytest.mark.parametrize(("kind", "pack"), CASES)
@pytest.mark.parametrize("chunk_bytes", [1, 700, 2**24])
def test_every_format_gives_the_same_rows(tmp_path: Path, kind: str, pack: str, chunk_bytes: int) -> None:
    path = write(tmp_path, f"rows.{kind}{pack}", PACKERS[pack](WRITERS[kind](ROWS)))
    scan = scan_file(path, chunk_bytes)
    assert (scan.format, scan.rows) == (kind, 200)
    assert scan.compression == {"": "none", ".gz": "gzip", ".zst": "zstd"}[pack]
    assert scan.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    rows = read(path, scan)
    assert [row.value for row in rows] == ROWS
    assert [row.error for row in rows] == [None] * 200
    if kind != "jsonl":
        assert [row.row for row in rows] == list(range(200))
    assert len(scan.chunks) == 1 or chunk_bytes < 2**24
    assert len(scan.chunks) > 5 or chunk_bytes == 2**24


@pytest.mark.parametrize(("kind", "pack"), CASES)
def test_chunks_tile_the_file_and_can_be_read_apart(tmp_path: Path, kind: str, pack: str) -> None:
    path = write(tmp_path, f"rows.{kind}{pack}", PACKERS[pack](WRITERS[kind](ROWS)))
    scan = scan_file(path, 700)
    assert [chunk.index for chunk in scan.chunks] == list(range(len(scan.chunks)))
    assert sum(chunk.rows for chunk in scan.chunks) == scan.rows
    for before, after in zip(scan.chunks, scan.chunks[1:], strict=False):
        assert before.first_row + before.rows == after.first_row
    assert scan_file(path, 700) == scan
    apart = [read(path, scan, [i]) for i in range(len(scan.chunks))]
    assert [row for rows in apart for row in rows] == read(path, scan)
    odd = [i for i in range(len(scan.chunks)) if i % 2]
    assert read(path, scan, odd[::-1]) == [row for i in odd for row in apart[i]]
    assert read(path, scan, []) == []


def test_blank_lines_are_counted_but_are_no_records(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", b'\n{"a":1}\r\n \t\r\n\n{"a":2}\n\n{"a":3}')
    for chunk_bytes in (1, 5, 2**20):
        scan = scan_file(path, chunk_bytes)
        assert scan.rows == 3
        assert [(row.row, row.value) for row in read(path, scan)] == [(1, {"a": 1}), (4, {"a": 2}), (6, {"a": 3})]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.ndjson"])
@pytest.mark.parametrize("data", [b'{"a":1}\n{"a":2}\n', b'[{"a":1},{"a":2}]', b'[\n  {"a": 1},\n  {"a": 2},\n]\n'])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_content_tells_lines_from_array(tmp_path: Path, name: str, data: bytes, bom: bytes) -> None:
    path = write(tmp_path, name, bom + data)
    assert [row.value for row in read(path, scan_file(path))] == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.json.zst", "a.csv"])
def test_memory_is_bounded_by_a_chunk_not_by_the_file(tmp_path: Path, name: str) -> None:
    row = orjson.dumps({"a": "钢铁" * 50})
    count, path = 120_000, tmp_path / name
    joint = b"," if ".json" in name and not name.endswith("l") else b"\n"
    data = joint.join([row] * count)
    data = b"[" + data + b"]" if joint == b"," else data
    if name == "a.csv":
        data = b"a,b\n" + b'"x",' + b"\n1,".join([b"y" * 300] * count)
    path.write_bytes(PACKERS[".zst"](data) if name.endswith("zst") else data)
    size = len(data)
    del data
    tracemalloc.start()
    try:
        scan = scan_file(path, 2**18)
        assert sum(1 for _, rows in read_chunks(path, scan, range(len(scan.chunks))) for _ in rows) == count
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20 < size / 2
    finally:
        tracemalloc.stop()


def test_names_outside_ascii(tmp_path: Path) -> None:
    folder = tmp_path / "数据 集"
    folder.mkdir()
    path = write(folder, "指令.v1.jsonl.GZ", gzip.compress(b'{"a":1}\n'))
    assert scan_file(path).compression == "gzip"


@pytest.mark.parametrize("fault", [b"{", b"3", b"[1]", b"", b'{"a":NaN}'])
@pytest.mark.parametrize("at", [0, 7, 19])
def test_a_faulty_line_changes_nothing_about_the_others(tmp_path: Path, fault: bytes, at: int) -> None:
    """Pieces of sound rows are parsed as a whole, others line by line: the same rows either way."""
    lines = [orjson.dumps(row) for row in ROWS[:20]]
    sound, faulty = b"\n".join(lines), b"\n".join([*lines[:at], fault, *lines[at + 1 :]])
    whole = write(tmp_path, "a.jsonl", sound)
    mixed = write(tmp_path, "b.jsonl", faulty)
    expected = [row for row in read(whole, scan_file(whole)) if row.row != at]
    assert [row for row in read(mixed, scan_file(mixed)) if row.row != at] == expected


# Lines that only together, or only cut apart, are objects: as many objects as lines, but none of these lines is one.
TANGLED = [
    [b'{"a":[{"x":1}', b'{"y":2}]}', b'{"b":1},{"c":2}'],
    [b'{"a":1', b'"b":2}', b'{"c":3},{"d":4}'],
    [b'{"b":1},{"c":2}', b'{"a":"x', b'y"}'],
    [b'{"a":1},2,{"b":3}', b'{"c":[4', b"5]}"],
    [b'{"a":1},{"b":3}', b"", b'{"c":4}'],
    [b'{"a":1}],[{"b":2}', b"{", b"}"],
]


@pytest.mark.parametrize("tangled", TANGLED)
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_lines_parsed_in_one_call_are_those_parsed_one_by_one(tmp_path: Path, tangled: list[bytes], end: bytes) -> None:
    lines = [b'{"a":0}', *tangled, b'{"z":"\xe9\x92\xa2"}']
    path = write(tmp_path, "a.jsonl", b"".join(line + end for line in lines))
    apart = [json_row(i, line, f"line {i + 1}") for i, line in enumerate(line.strip() for line in lines) if line]
    found = read(path, scan_file(path))
    assert [(row.row, row.value) for row in found] == [(row.row, row.value) for row in apart]
    assert [row.error is None for row in found] == [row.error is None for row in apart]
    assert [row.row for row in found if row.error] and found[0].value == {"a": 0}


@pytest.mark.parametrize(
    "line", [b'{"a":[[1', b"2]]}", b'{"a":{"b":1', b'{"c":7},7,{"d":8}', b'{"c":1},7,7', b"7", b'{"a":7}']
)
@pytest.mark.parametrize("other", [b"", b"5]}", b'"b":2}', b'{"c":1},{"d":2}', b'{"c":1},7.0,{"d":2}', b'{"ok":1}'])
def test_a_mark_counts_only_between_two_objects(line: bytes, other: bytes) -> None:
    lines = [b'{"e":1}', line, other, b'{"e":2}']
    expected = [json_row(i, text, f"line {i + 1}") for i, text in enumerate(lines, start=5) if text]
    assert _rows_of_piece(5, b"\n".join(lines), mark=12345) == (4, expected)


def test_sound_lines_are_not_parsed_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "a.jsonl", WRITERS["jsonl"](ROWS).replace(b"\n", b"\r\n"))
    monkeypatch.setattr(json_lines, "_line_by_line", lambda *_: pytest.fail("line by line"))
    assert [row.value for row in read(path, scan_file(path))] == ROWS
