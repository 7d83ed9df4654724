"""JSON lines: chunks that end at line ends, read by seeking, parsed some 64 KB of whole lines at a time."""

from collections.abc import Iterator
from itertools import chain
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


def _pieces(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the lines that end in each block, in one piece, without the last line break."""
    held: list[bytes] = []
    for block in blocks:
        end = block.rfind(b"\n")
        if end < 0:
            held.append(block)
            continue
        piece, held = b"".join((*held, block[:end])), [block[end + 1 :]]
        yield piece
    if rest := b"".join(held):
        yield rest


@uncollected()
def _rows_of_piece(first: int, piece: bytes, mark: int) -> tuple[int, list[RawRow]]:
    """Return the number of lines in a piece, which begins with line `first`, and their rows.

    One call parses all lines, as an array with `mark` between any two of them. They are taken from it only where every
    mark is found between two objects: then no line break stood inside a value, and no line held two of them.
    """
    between = b",%d," % mark
    text = piece.replace(b"\n", between)
    breaks = (len(text) - len(piece)) // (len(between) - 1)
    try:
        values = orjson.loads(b"[%b]" % text)
    except orjson.JSONDecodeError:
        values = []
    rows = values[::2]
    if len(values) == 2 * breaks + 1 and values[1::2].count(mark) == breaks and set(map(type, rows)) == {dict}:
        return breaks + 1, whole_rows(first, rows)
    return breaks + 1, _line_by_line(first, piece.split(b"\n"))


def _line_by_line(first: int, lines: list[bytes]) -> list[RawRow]:
    """Return the rows of lines of which some are blank or faulty."""
    rows: list[RawRow] = []
    loads, append = orjson.loads, rows.append
    for row, line in enumerate(lines, start=first):
        try:
            value = loads(line)
        except orjson.JSONDecodeError:
            if line and not line.isspace():
                append(json_row(row, line, f"line {row + 1}"))
            continue
        append(RawRow(row, value, None) if type(value) is dict else json_row(row, line, f"line {row + 1}"))
    return rows


def _rows_of_chunk(path: Path, chunk: Chunk, blocks: Iterator[bytes], mark: int) -> Iterator[list[RawRow]]:
    line, count = chunk.first_row, 0
    for piece in _pieces(blocks):
        lines, rows = _rows_of_piece(line, piece, mark)
        line, count = line + lines, count + len(rows)
        yield rows
    if count != chunk.rows:
        raise changed(path)


def read_lines(path: Path, scan: FileScan, chunks: list[Chunk]) -> Iterator[tuple[Chunk, Iterator[RawRow]]]:
    """Yield the wanted chunks (in file order) with their rows."""
    mark = int(scan.sha256[:15], 16)  # no file can be made to hold a number out of its own hash
    ranges = [(chunk.start, chunk.end) for chunk in chunks]
    for chunk, blocks in zip(chunks, read_ranges(path, scan.compression, ranges), strict=True):
        yield chunk, chain.from_iterable(_rows_of_chunk(path, chunk, blocks, mark))
