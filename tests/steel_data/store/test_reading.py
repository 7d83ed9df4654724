"""Objects opened as files: the same bytes, no more asked for than is read and a little ahead, never two versions mixed."""

import gzip
import json
import random
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from tests.steel_data.store.server import Lab

from steel_data.errors import InputError
from steel_data.read.formats import read_chunks, scan_file
from steel_data.store import reading
from steel_data.store.listings import forget
from steel_data.store.reading import opened, pieces

DATA = random.Random(7).randbytes(200_000)


def test_any_way_of_reading_gives_the_bytes(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "AHEAD", (1000, 16_000))
    lab.bucket.put("f", DATA)
    chance = random.Random(3)
    with opened(lab.root / "f") as file:
        assert file.readable() and file.seekable()
        for _ in range(40):
            at, n = chance.randrange(len(DATA) + 10), chance.choice([0, 1, 500, 5000, 50_000])
            assert file.seek(at) == at
            assert file.read(n) == DATA[at : at + n]
        assert file.seek(-5, 2) == len(DATA) - 5
        assert file.seek(2, 1) == file.tell() == len(DATA) - 3
        assert file.read() == DATA[-3:]
        assert file.read(1) == b""
    with opened(lab.root / "f") as file:
        assert file.read() == DATA
    lab.bucket.put("empty", b"")
    forget()
    with opened(lab.root / "empty") as file:
        assert file.read() == b""
    with pytest.raises(FileNotFoundError):
        opened(lab.root / "none")


def test_a_range_is_asked_for_exactly(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PIECE", 10_000)
    lab.bucket.put("f", DATA)
    lab.server.asked.clear()
    assert b"".join(pieces(lab.root / "f", 5000, 28_000)) == DATA[5000:28_000]
    assert [asked.span for asked in lab.server.asked] == [(5000, 14_999), (15_000, 24_999), (25_000, 27_999)]


def test_who_reads_on_asks_for_more_at_once_and_never_twice(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "AHEAD", (1000, 16_000))
    lab.bucket.put("f", DATA)
    forget()
    lab.server.asked.clear()
    with opened(lab.root / "f") as file:
        assert b"".join(iter(lambda: file.read(700), b"")) == DATA
    spans = [asked.span for asked in lab.server.asked if asked.kind == "GET"]
    assert spans[0] == (0, 999) and spans[1] == (1000, 2999)
    assert sum(asked.bytes for asked in lab.server.asked) == len(DATA)
    assert len(spans) < 20
    lab.server.asked.clear()
    with opened(lab.root / "f") as file:  # its beginning is held
        assert file.read(300) == DATA[:300]
    assert lab.server.asked == []


def test_another_version_is_refused_while_it_is_read(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "AHEAD", (1000, 16_000))
    lab.bucket.put("f", DATA)
    forget()
    with opened(lab.root / "f") as file:
        file.read(10)
        lab.bucket.put("f", DATA[::-1])
        with pytest.raises(InputError, match=r"s3://.*/f: changed since it was listed"):
            file.read(5000)
    lab.bucket.delete(["f"])
    with pytest.raises(InputError, match="changed since it was listed"):
        [*pieces(lab.root / "f", 0, 5)]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.jsonl.gz", "rows.csv", "rows.parquet"])
def test_chunks_of_an_object_are_those_of_the_file_and_are_read_by_their_ranges(
    lab: Lab, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"instruction": f"{i} " * 40, "output": "那" * (i % 50)} for i in range(2000)]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    table = pa.Table.from_pylist(rows)
    if name == "rows.parquet":
        pq.write_table(table, tmp_path / name, row_group_size=250, compression="none", use_dictionary=False)
    elif name == "rows.csv":
        pa_csv.write_csv(table, tmp_path / name)
    else:
        array = b"[" + lines.strip().replace(b"\n", b",") + b"]"
        packed = {"rows.jsonl": lines, "rows.json": array, "rows.jsonl.gz": gzip.compress(lines)}[name]
        (tmp_path / name).write_bytes(packed)
    lab.bucket.put(name, tmp_path / name)
    forget()
    lab.server.asked.clear()
    scan = scan_file(lab.root / name, 100_000)
    whole = (tmp_path / name).stat().st_size
    once = sum(asked.bytes for asked in lab.server.asked)
    footer = 2**18 if name == "rows.parquet" else 0
    assert whole <= once <= whole + footer
    assert replace(scan, size=0, tag="") == scan_file(tmp_path / name, 100_000)
    assert (scan.size, bool(scan.tag), len(scan.chunks) > 3) == (whole, True, True)
    forget()  # another process
    monkeypatch.setattr(reading, "AHEAD", (2**14, 2**16))
    for some in ({1}, {0, 3}, {*range(len(scan.chunks))}):
        lab.server.asked.clear()
        found = [(chunk, list(rows)) for chunk, rows in read_chunks(lab.root / name, scan, some)]
        assert found == [(chunk, list(rows)) for chunk, rows in read_chunks(tmp_path / name, scan, some)]
        chunks = [scan.chunks[i] for i in sorted(some)]
        if name in ("rows.jsonl", "rows.json"):
            assert [asked.span for asked in lab.server.asked] == [(c.start, c.end - 1) for c in chunks]
        elif name == "rows.parquet" and len(some) < 3:
            groups = sum(c.end - c.start for c in chunks)
            assert sum(asked.bytes for asked in lab.server.asked) < footer + groups * 1.2 * whole / 8
        else:
            assert sum(asked.bytes for asked in lab.server.asked) <= whole + footer
    lab.bucket.put(name, b"another")
    monkeypatch.setattr(reading._Reader, "_begun", None)
    with pytest.raises(InputError, match="changed since it was listed"):
        for _, rows in read_chunks(lab.root / name, scan, {0}):
            list(rows)


def test_a_file_is_opened_as_ever(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"123")
    with opened(tmp_path / "f") as file:
        assert file.read() == b"123"
