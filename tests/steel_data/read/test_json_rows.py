"""The splitter agrees with a JSON parser on every array, whatever the block borders."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steel_data.read import blocks as byte_blocks
from steel_data.read.formats import read_chunks, scan_file
from steel_data.read.json_rows import Splitter, split_elements
from steel_data.read.rows import RawRow

TEXT = st.text(st.sampled_from('\\"[]{},:\n钢a '), max_size=12)
VALUE = st.recursive(
    TEXT | st.none() | st.integers(-9, 9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
INDENT = st.sampled_from([None, 0, 2])


@settings(max_examples=300, deadline=None)
@given(st.lists(VALUE, max_size=6), INDENT, st.integers(1, 9))
def test_splitter_finds_the_elements(values: list, indent: int | None, size: int) -> None:
    data = json.dumps(values, ensure_ascii=False, indent=indent).encode()
    splitter, found = Splitter(), []
    for at in range(0, len(data), size):
        found += (splitter.feed(data[at : at + size]) + at).tolist()
    assert splitter.closed and (found[0], found[-1]) == (0, len(data) - 1)
    pieces = [data[a + 1 : b] for a, b in pairwise(found)]
    assert [json.loads(piece) for piece in pieces if piece.strip()] == values


@settings(max_examples=100, deadline=None)
@given(st.lists(st.dictionaries(TEXT, VALUE, max_size=3), max_size=8), INDENT, st.integers(1, 60), st.integers(1, 9))
def test_reading_by_chunks_gives_the_array(values: list, indent: int | None, chunk_bytes: int, block: int) -> None:
    # not the tmp_path fixture: hypothesis runs the body many times
    import tempfile

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(byte_blocks, "BLOCK_BYTES", block)
        path = Path(folder) / "a.json"
        path.write_bytes(json.dumps(values, ensure_ascii=False, indent=indent).encode())
        scan = scan_file(path, chunk_bytes)
        rows = [row for _, rows in read_chunks(path, scan, range(len(scan.chunks))) for row in rows]
        assert [row.value for row in rows] == values
        assert [row.row for row in rows] == list(range(len(values))) and scan.rows == len(values)


def test_one_broken_element_costs_one_record(tmp_path: Path) -> None:
    elements = [
        b'{"a": 1}',
        b'{"a": NaN, "b": "x"}',
        b'{"a": 1,}',
        b'"text"',
        b'{"a": "\\x"}',
        b'{"a": "\xb0"}',
        b"",
        b'{"a": "\\\\"}',
        b'{"a": 1} {"a": 2}',
        b"7",
        b'{"a": "last \\" , ] }"}',
    ]
    path = tmp_path / "a.json"
    for joint in (b",", b",\n  "):
        path.write_bytes(b"[" + joint.join(elements) + b"]")
        for chunk_bytes in (1, 30, 2**20):
            scan = scan_file(path, chunk_bytes)
            rows = [row for _, rows in read_chunks(path, scan, range(len(scan.chunks))) for row in rows]
            assert scan.rows == len(elements)
            good = {row.row: row.value for row in rows if row.error is None}
            assert good == {0: {"a": 1}, 1: {"a": None, "b": "x"}, 7: {"a": "\\"}, 10: {"a": 'last " , ] }'}}
            assert all(row.error and row.error.startswith(f"element {row.row} ") for row in rows if row.value is None)


def test_a_forgotten_quote_costs_its_record_where_lines_help(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'[\n {\n  "a": "x,\n  "b": 1\n },\n {\n  "a": "y"\n }\n]\n')
    rows = [row for _, rows in read_chunks(path, scan_file(path), [0]) for row in rows]
    assert [row.value for row in rows] == [None, {"a": "y"}]


def test_elements_of_a_chunk_are_found_across_blocks() -> None:
    data = b",".join(json.dumps({"i": i, "t": 'a"\\' * (i % 5)}).encode() for i in range(60_000))
    assert len(data) > 2 * byte_blocks.BLOCK_BYTES - 2**20
    pieces = list(split_elements(data))
    assert len(pieces) == 60_000 and all(data[at : at + len(text)] == text for at, text in pieces)


@pytest.mark.parametrize("end", [b",\n", b",\r\n", b" , \n"])
def test_lines_of_an_array_pasted_without_its_brackets_are_rows(tmp_path: Path, end: bytes) -> None:
    for name in ("a.jsonl", "a.json"):
        path = tmp_path / name
        path.write_bytes(end.join(b'{"a":"%d },"}' % i for i in range(50)) + (b"," if name == "a.json" else b""))
        scan = scan_file(path, 100)
        assert len(scan.chunks) > 3
        rows = [row for _, rows in read_chunks(path, scan, range(len(scan.chunks))) for row in rows]
        assert rows == [RawRow(i, {"a": f"{i} }},"}, None) for i in range(50)]
