"""JSON lines and JSON arrays of any size, in chunks that a worker can seek to.

Lines: chunks end at line ends; some 64 KB of whole lines are parsed at a time. A line may end in a comma, as those of
an array do that somebody pasted without its brackets.

Arrays: a JSON parser needs the whole array in memory, and one broken element costs all the others. Elements can be
found without parsing, block by block: outside strings, a comma at depth 1 ends one. That needs, for each block, which
quotes are real (a quote after an odd run of backslashes is not), which characters are inside strings (the parity of
real quotes so far) and the depth (opening minus closing brackets so far). The state between two blocks is four numbers.
Each element is parsed on its own where the chunk as a whole does not parse.

A raw line break cannot be inside a JSON string, so every line begins outside: in a file with line breaks, a
forgotten quote costs one record instead of all that follow. Brackets that do not pair cannot be healed: the error
names the element.
"""

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from steel_data.errors import InputError, excerpt
from steel_data.read.blocks import BLOCK_BYTES, ByteBlocks, read_ranges, too_long, without_bom
from steel_data.read.rows import (
    RECORD_LIMIT,
    Chunk,
    FileScan,
    RawRow,
    changed,
    json_row,
    shown,
    uncollected,
    whole_rows,
)
from steel_data.row.json_text import is_doubtful

Positions = np.ndarray[Any, np.dtype[np.int64]]

_QUOTE, _BACKSLASH, _COMMA, _NEWLINE = b'"\\,\n'
# what a character does to the depth when it stands outside strings
_STEP = np.zeros(256, np.int64)
_STEP[list(b"[{")] = 1
_STEP[list(b"]}")] = -1
_STRUCTURAL = np.zeros(256, np.bool_)
_STRUCTURAL[list(b'"\\,\n[]{}')] = True


# Lines

_COMMA_AT_END = re.compile(rb"\},[ \t\r]*$", re.MULTILINE)


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
        plain = _COMMA_AT_END.sub(b"}", piece)  # (no line break stands inside a JSON string)
        if plain != piece:
            return _rows_of_piece(first, plain, mark)
    rows = values[::2]
    whole = len(values) == 2 * breaks + 1 and values[1::2].count(mark) == breaks and set(map(type, rows)) == {dict}
    if whole and not is_doubtful(piece, rows):
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
                append(json_row(row, line.rstrip().removesuffix(b","), f"line {row + 1}"))
            continue
        whole = type(value) is dict and not is_doubtful(line, value)
        append(RawRow(row, value, None) if whole else json_row(row, line, f"line {row + 1}"))
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


# Arrays


class Splitter:
    """Finds the delimiters of the top-level elements in a stream of blocks.

    `feed` returns, as positions in the block, the opening bracket of the array (unless `inside`), every comma
    between two elements and the closing bracket. `closed` says that the closing bracket was seen; what follows it
    is not looked at.
    """

    def __init__(self, inside: bool = False) -> None:
        self.depth = 1 if inside else 0
        self.in_string = False
        self.escape = False  # the previous block ended with an odd run of backslashes
        self.closed = False

    def feed(self, block: bytes) -> Positions:
        """Return the positions of the delimiters in `block`."""
        data = np.frombuffer(block, np.uint8)
        where = np.flatnonzero(_STRUCTURAL[data])
        code = data[where]
        real = (code == _QUOTE) & ~self._escaped(where[code == _BACKSLASH], len(data))[where]
        # quotes since the start of the line (since the start of the block in its first line)
        count = np.cumsum(real) + self.in_string
        since = np.maximum.accumulate(np.where(code == _NEWLINE, count, 0)) if len(count) else count
        outside = (count - since) % 2 == 0
        step = np.where(outside, _STEP[code], 0)
        depth = np.cumsum(step) + self.depth
        delimiter = (
            ((depth == 1) & outside & (code == _COMMA)) | ((depth == 1) & (step > 0)) | ((depth == 0) & (step < 0))
        )
        found: Positions = where[delimiter]
        if len(where):
            self.depth, self.in_string = int(depth[-1]), not outside[-1]
            ends = np.flatnonzero((depth <= 0) & (step < 0))
            if len(ends):
                self.closed = True
                found = found[found <= where[ends[0]]]
        return found

    def _escaped(self, slashes: Positions, length: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Return a mask over the block: true after an odd run of backslashes. Carries a run over the block's border."""
        mask = np.zeros(length + 1, np.bool_)
        carried, self.escape = self.escape, False
        if carried and (not len(slashes) or slashes[0] != 0):
            mask[0] = True
        if len(slashes):
            first = np.flatnonzero(np.diff(slashes, prepend=-2) != 1)  # the first backslash of each run
            runs = np.diff(first, append=len(slashes))
            after = slashes[first] + runs
            if carried and slashes[0] == 0:
                runs[0] += 1
            mask[after[runs % 2 == 1]] = True
            self.escape = bool(mask[length])
        return mask


class _ArrayScan:
    """Turns delimiters into chunks of whole elements."""

    def __init__(self, path: Path, chunk_bytes: int) -> None:
        self.path, self.chunk_bytes = path, chunk_bytes
        self.chunks: list[Chunk] = []
        self.start: int | None = None  # of the chunk: the first byte after the delimiter before its first element
        self.last = 0  # the offset after the last delimiter
        self.rows = self.first_row = 0
        self.content = False  # something but blanks since the last delimiter
        self.closed = False

    def feed(self, offset: int, block: bytes, found: Positions, closed: bool) -> None:
        ends = found + offset
        if self.start is None and len(ends):
            self.start = self.last = int(ends[0]) + 1
            ends = ends[1:]
        if self.start is None:
            return
        inner, close = (ends[:-1], int(ends[-1])) if closed else (ends, None)
        at = 0
        while (border := int(np.searchsorted(inner, self.start + self.chunk_bytes))) < len(inner):
            self._cut(int(inner[border]), border + 1 - at)
            at = border + 1
        self.rows += len(inner) - at
        before = self.last
        self.last = int(inner[-1]) + 1 if len(inner) else self.last
        stop = close if close is not None else offset + len(block)
        rest = bool(block[max(self.last - offset, 0) : stop - offset].strip())
        self.content = rest or (self.content and self.last == before)
        if close is not None:
            self.closed = True
            # a blank after the last comma (or in `[]`) is no element
            if self.rows or self.content:
                self._cut(close, int(self.content))
        elif stop - self.last > RECORD_LIMIT:
            raise too_long(self.path, f"element {self.first_row + self.rows} (counted from 0) at byte {self.last:,}")

    def _cut(self, end: int, more: int) -> None:
        assert self.start is not None
        rows = self.rows + more
        self.chunks.append(Chunk(len(self.chunks), self.first_row, rows, self.start, end))
        self.first_row, self.rows, self.start = self.first_row + rows, 0, end + 1


def scan_array(path: Path, blocks: ByteBlocks, chunk_bytes: int) -> tuple[Chunk, ...]:
    """Return the chunks: each ends with the first element whose end lies at or beyond `chunk_bytes` bytes."""
    splitter, scan = Splitter(), _ArrayScan(path, chunk_bytes)
    for offset, block in without_bom(blocks):
        rest = block
        if not splitter.closed:
            found = splitter.feed(block)
            scan.feed(offset, block, found, splitter.closed)
            rest = block[int(found[-1]) + 1 :] if splitter.closed else b""
        if rest.strip():
            at = offset + len(block) - len(rest.lstrip())
            raise InputError(
                f"{shown(path)}: the array ends at element {scan.first_row} (counted from 0), but more follows at byte "
                f"{at:,}: {excerpt(rest.strip()[:60].decode('utf-8', 'replace'), 40)}. "
                "Fix: without the bracket that is too many."
            )
    if not splitter.closed:
        raise InputError(
            f"{shown(path)}: the array is never closed: element {scan.first_row + scan.rows} (counted from 0), at byte "
            f"{scan.last:,}, has no end. "
            "Fix: fetch it again where it was cut short; or the bracket or quote that is missing."
        )
    return tuple(scan.chunks)


def split_elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (offset, text) of each element of `data`, the inside of an array without its brackets."""
    splitter, start = Splitter(inside=True), 0
    for offset in range(0, len(data), BLOCK_BYTES):
        for end in (splitter.feed(data[offset : offset + BLOCK_BYTES]) + offset).tolist():
            yield start, data[start:end].strip()
            start = end + 1
    yield start, data[start:].strip()


@uncollected()
def _rows_of_array(chunk: Chunk, data: bytes) -> list[RawRow]:
    try:
        values = orjson.loads(b"[%b]" % data)
    except orjson.JSONDecodeError:  # one by one, then
        values = None
    # (a chunk of one blank element parses as no element)
    if values is None or len(values) != chunk.rows or is_doubtful(data, values):
        pieces = list(split_elements(data))
        if pieces and not pieces[-1][1] and len(pieces) > chunk.rows:
            pieces.pop()  # what follows a trailing comma
        return [
            json_row(row, text, f"element {row} (counted from 0) at byte {chunk.start + at:,}")
            for row, (at, text) in enumerate(pieces, start=chunk.first_row)
        ]
    if set(map(type, values)) == {dict}:
        return whole_rows(chunk.first_row, values)
    return [
        RawRow(row, value, None)
        if type(value) is dict
        else json_row(row, orjson.dumps(value), f"element {row} (counted from 0)")
        for row, value in enumerate(values, start=chunk.first_row)
    ]


def read_array(path: Path, scan: FileScan, chunks: list[Chunk]) -> Iterator[tuple[Chunk, Iterator[RawRow]]]:
    """Yield the wanted chunks (in file order) with their rows."""
    ranges = [(chunk.start, chunk.end) for chunk in chunks]
    for chunk, blocks in zip(chunks, read_ranges(path, scan.compression, ranges), strict=True):
        rows = _rows_of_array(chunk, b"".join(blocks))
        if len(rows) != chunk.rows:
            raise changed(path)
        yield chunk, iter(rows)
