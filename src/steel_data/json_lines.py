"""JSON lines: chunks that end at line ends, read by seeking."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson

from steel_data.byte_blocks import ByteBlocks, read_ranges, too_long, without_bom
from steel_data.raw_rows import RECORD_LIMIT, Chunk, FileScan, RawRow, changed, json_row, uncollected, whole_rows


def _count(pieces: list[bytes]) -> int:
    return sum(1 for piece in pieces if piece and not piece.isspace())


class _LineCounter:
    """Counts lines and non-blank lines over arbitrary pieces of a file, without keeping any."""

    def __init__(self) -> None:
        self.lines = 0  # finished ones
        self.records = 0  # non-blank ones among them
        self.open = False  # the unfinished line holds something

    def feed(self, data: bytes) -> None:
        if not data:
            return
        code = np.frombuffer(data, np.uint8)
        end = np.flatnonzero(code == ord("\n"))
        start = np.append(0, end + 1)
        start = start[start < len(data)]
        if (code[start] > ord(" ")).all():  # no line begins with a blank, so none is blank
            self.lines += len(end)
            self.records += len(end)
            self.open = not data.endswith(b"\n")
            return
        pieces = data.split(b"\n")
        last = pieces.pop()
        if pieces:
            self.lines += len(pieces)
            self.records += _count(pieces[1:]) + (self.open or _count(pieces[:1]) > 0)
            self.open = False
        self.open = self.open or _count([last]) > 0


def scan_lines(path: Path, blocks: ByteBlocks, chunk_bytes: int) -> tuple[Chunk, ...]:
    """Return the chunks: each ends with the first line end at or after `chunk_bytes` bytes."""
    chunks: list[Chunk] = []
    counter = _LineCounter()
    start = end = first_row = records = 0
    line_start = 0
    for offset, block in without_bom(blocks):
        if not end:
            start = line_start = offset
        end = offset + len(block)
        at = 0
        while (border := block.find(b"\n", max(at, start + chunk_bytes - 1 - offset)) + 1) > 0:
            counter.feed(block[at:border])
            chunks.append(Chunk(len(chunks), first_row, counter.records - records, start, offset + border))
            start, first_row, records, at = offset + border, counter.lines, counter.records, border
        counter.feed(block[at:])
        last = block.rfind(b"\n") + 1
        line_start = offset + last if last else line_start
        if end - line_start > RECORD_LIMIT:
            raise too_long(path, f"line {counter.lines + 1}")
    rows = counter.records + counter.open - records
    if end > start:
        chunks.append(Chunk(len(chunks), first_row, rows, start, end))
    return tuple(chunks)


@uncollected()
def _rows_of_lines(chunk: Chunk, data: bytes) -> list[RawRow]:
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    try:
        values = list(map(orjson.loads, lines))
    except orjson.JSONDecodeError:
        return _line_by_line(chunk, lines)
    return whole_rows(chunk.first_row, values) if set(map(type, values)) == {dict} else _line_by_line(chunk, lines)


def _line_by_line(chunk: Chunk, lines: list[bytes]) -> list[RawRow]:
    """Return the rows of a chunk with blank or faulty lines."""
    rows: list[RawRow] = []
    loads, append = orjson.loads, rows.append
    for row, line in enumerate(lines, start=chunk.first_row):
        try:
            value = loads(line)
        except orjson.JSONDecodeError:
            if line and not line.isspace():
                append(json_row(row, line, f"line {row + 1}"))
            continue
        append(RawRow(row, value, None) if type(value) is dict else json_row(row, line, f"line {row + 1}"))
    return rows


def read_lines(path: Path, scan: FileScan, chunks: list[Chunk]) -> Iterator[tuple[Chunk, list[RawRow]]]:
    """Yield the wanted chunks (in file order) with their rows."""
    ranges = [(chunk.start, chunk.end) for chunk in chunks]
    for chunk, data in zip(chunks, read_ranges(path, scan.compression, ranges), strict=True):
        rows = _rows_of_lines(chunk, data)
        if len(rows) != chunk.rows:
            raise changed(path)
        yield chunk, rows
