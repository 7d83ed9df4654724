"""Blocks of bytes: members and frames are one stream, lines are whole wherever a block ends."""

import bz2
import gzip
import io
import lzma
import tarfile
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.steel_data.read.test_formats import PACKERS, ROWS, WRITERS, read, write

from steel_data.errors import InputError
from steel_data.read.blocks import SMALL_BYTES
from steel_data.read.formats import scan_file
from steel_data.read.json_rows import _LineCounter


def tar_of(data: bytes) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        member = tarfile.TarInfo("a.jsonl")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return held.getvalue()


def test_borders_do_not_depend_on_compression(tmp_path: Path) -> None:
    for kind in ("jsonl", "json", "csv"):
        data = WRITERS[kind](ROWS)
        plain = scan_file(write(tmp_path, f"a.{kind}", data), 1000)
        for pack in (".gz", ".zst"):
            packed = scan_file(write(tmp_path, f"a.{kind}{pack}", PACKERS[pack](data)), 1000)
            assert packed.chunks == plain.chunks


def test_several_members_and_frames_are_one_stream(tmp_path: Path) -> None:
    halves = WRITERS["jsonl"](ROWS[:100]), WRITERS["jsonl"](ROWS[100:])
    for pack in (".gz", ".zst"):
        path = write(tmp_path, f"a.jsonl{pack}", b"".join(PACKERS[pack](half) for half in halves))
        assert [row.value for row in read(path, scan_file(path))] == ROWS


@pytest.mark.parametrize("pack", PACKERS)
def test_rows_over_several_blocks_are_whole(tmp_path: Path, pack: str) -> None:
    """Long and short lines, a last one without its end, chunk ends inside a block: nothing is lost at a border."""
    rows = [{"i": i, "text": "钢" * (i * 7919 % 60_000 if i % 9 == 0 else i % 50)} for i in range(300)]
    data = b"\n".join(orjson.dumps(row) for row in rows)
    assert len(data) > 10 * SMALL_BYTES
    path = write(tmp_path, f"a.jsonl{pack}", PACKERS[pack](data))
    for chunk_bytes in (1, SMALL_BYTES - 1, 3 * SMALL_BYTES, 2**24):
        scan = scan_file(path, chunk_bytes)
        assert [(row.row, row.value) for row in read(path, scan)] == list(enumerate(rows))


@given(st.lists(st.text(alphabet="a \n\r\x0b", max_size=6), max_size=12))
def test_lines_are_counted_the_same_however_the_blocks_fall(blocks: list[str]) -> None:
    counter = _LineCounter()
    for block in blocks:
        counter.feed(block.encode())
    *finished, last = "".join(blocks).encode().split(b"\n")
    assert counter.lines == len(finished)
    assert counter.records == sum(1 for line in finished if line.strip())
    assert counter.open == bool(last.strip())


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (
            "a.jsonl.bz2",
            bz2.compress(b'{"a":1}'),
            r"bzip2 data, which is not read\. Fix: unpack it \(`bunzip2 a\.jsonl\.bz2`\)",
        ),
        ("a.jsonl.xz", lzma.compress(b'{"a":1}'), r"xz data.*`unxz a\.jsonl\.xz`"),
        ("a.jsonl", lzma.compress(b'{"a":1}'), "xz data"),  # whatever its name says
        ("a.zip", b"PK\x03\x04rest", r"a zip archive.*`unzip a\.zip`\) and name what it holds"),
        ("a.xlsx", b"PK\x03\x04rest", r"a spreadsheet\. Fix: save it as csv"),
        ("a.7z", b"7z\xbc\xaf\x27\x1c", r"a 7z archive.*`7z x a\.7z`"),
        ("a.rar", b"Rar!\x1a\x07\x01", r"a rar archive.*`unrar x a\.rar`"),
        ("a.tar", tar_of(b"x"), r"a tar archive\. Fix: unpack it \(`tar xf a\.tar`\)"),
        ("a.tar.gz", gzip.compress(tar_of(b"x"), mtime=0), "a tar archive inside gzip"),
    ],
)
def test_what_is_packed_otherwise_is_named_with_what_unpacks_it(
    name: str, data: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=message):
        scan_file(tmp_path / name)


def test_a_table_that_merely_begins_like_bzip2_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"BZh9,b\n1,2\n")
    assert scan_file(tmp_path / "a.csv").rows == 1
