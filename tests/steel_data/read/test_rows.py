"""Raw rows and what is known of a file: plain data, no records is no error, rows that are not taken."""

import dataclasses
import gc
import gzip
from pathlib import Path

import orjson
import pytest
from tests.steel_data.read.test_formats import CASES, PACKERS, ROWS, WRITERS, read, write

from steel_data.read.formats import read_chunks, scan_file


def test_scan_is_plain_data(tmp_path: Path) -> None:
    scan = scan_file(write(tmp_path, "a.jsonl", WRITERS["jsonl"](ROWS)), 1000)
    held = orjson.loads(orjson.dumps(dataclasses.asdict(scan)))
    assert held["rows"] == 200 and held["chunks"][1]["index"] == 1


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.jsonl.gz"])
def test_a_file_without_records_is_no_error(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name, gzip.compress(b"") if name.endswith("gz") else b"")
    scan = scan_file(path)
    assert (scan.rows, scan.chunks, read(path, scan)) == (0, (), [])
    assert scan_file(write(tmp_path, "empty.json", b"[ \n ]")).rows == 0


@pytest.mark.parametrize(("kind", "pack"), CASES)
def test_rows_that_are_not_taken_do_no_harm_to_the_next_chunk(tmp_path: Path, kind: str, pack: str) -> None:
    path = write(tmp_path, f"rows.{kind}{pack}", PACKERS[pack](WRITERS[kind](ROWS)))
    scan = scan_file(path, 700)
    firsts = [next(rows).value for _, rows in read_chunks(path, scan, range(len(scan.chunks)))]
    assert firsts == [ROWS[chunk.first_row] for chunk in scan.chunks]


def test_the_collector_is_as_it_was(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", WRITERS["jsonl"](ROWS))
    scan = scan_file(path, 1000)
    for on in (True, False):
        (gc.enable if on else gc.disable)()
        try:
            for _, rows in read_chunks(path, scan, [0, 1]):
                for _ in rows:
                    assert gc.isenabled() is on  # the consumer of a row may make cycles
            assert gc.isenabled() is on
        finally:
            gc.enable()
