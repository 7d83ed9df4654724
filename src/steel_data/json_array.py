"""JSON arrays of any size: numpy finds where their elements lie, block by block; each is parsed on its own.

A JSON parser needs the whole array in memory, and one broken element costs all the others. Elements can be found
without parsing: outside strings, a comma at depth 1 ends one. That needs, for each block, which quotes are real (a
quote after an odd run of backslashes is not), which characters are inside strings (the parity of real quotes so
far) and the depth (opening minus closing brackets so far). The state between two blocks is four numbers.

A raw line break cannot be inside a JSON string, so every line begins outside: in a file with line breaks, a
forgotten quote costs one record instead of all that follow. Brackets that do not pair cannot be healed: the error
names the element.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from steel_data.byte_blocks import BLOCK_BYTES, ByteBlocks, read_ranges, too_long, without_bom
from steel_data.errors import InputError, excerpt
from steel_data.raw_rows import RECORD_LIMIT, Chunk, FileScan, RawRow, changed, json_row, shown, uncollected, whole_rows

Positions = np.ndarray[Any, np.dtype[np.int64]]

_QUOTE, _BACKSLASH, _COMMA, _NEWLINE = b'"\\,\n'
# what a character does to the depth when it stands outside strings
_STEP = np.zeros(256, np.int64)
_STEP[list(b"[{")] = 1
_STEP[list(b"]}")] = -1
_STRUCTURAL = np.zeros(256, np.bool_)
_STRUCTURAL[list(b'"\\,\n[]{}')] = True


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
                f"{at:,}: {excerpt(rest.strip()[:60].decode('utf-8', 'replace'), 40)}. Is there a bracket too many?"
            )
    if not splitter.closed:
        raise InputError(
            f"{shown(path)}: the array is never closed: element {scan.first_row + scan.rows} (counted from 0), at byte "
            f"{scan.last:,}, has no end. The file is cut short, or a bracket or quote is missing there."
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
    if values is None or len(values) != chunk.rows:  # (a chunk of one blank element parses as no element)
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
