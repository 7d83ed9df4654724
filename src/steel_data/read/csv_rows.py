"""csv and tsv: records with quoted line breaks, so the file is streamed from its beginning."""

import csv
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from steel_data.errors import InputError, excerpt
from steel_data.read.blocks import ByteBlocks, too_long, without_bom
from steel_data.read.rows import RECORD_LIMIT, Chunk, FileScan, RawRow, changed, shown

DELIMITER = {"csv": ",", "tsv": "\t"}


class _Record(NamedTuple):
    line: int  # 1-based physical line on which it begins
    size: int  # bytes
    fields: list[str]
    error: str | None


class _Lines:
    """Hands lines to the csv reader and keeps account of the record being read."""

    def __init__(self, path: Path, blocks: Iterable[bytes]) -> None:
        self.path = path
        self._blocks = without_bom(blocks)
        self.line = self.size = 0

    def __iter__(self) -> Iterator[str]:
        tail: list[bytes] = []
        held = 0
        for _, block in self._blocks:
            pieces = block.split(b"\n")
            tail.append(pieces[0])
            held += len(pieces[0])
            if held > RECORD_LIMIT:
                raise too_long(self.path, f"line {self.line + 1}")
            for piece in pieces[1:]:
                yield self._account(b"".join(tail) + b"\n")
                tail, held = [piece], len(piece)
        if rest := b"".join(tail):
            yield self._account(rest)

    def _account(self, data: bytes) -> str:
        self.line += 1
        self.size += len(data)
        if self.size > RECORD_LIMIT:
            raise too_long(self.path, f"the record that ends in line {self.line}")
        # bytes that are not UTF-8 become lone surrogates, which mark their record as unreadable
        return data.decode("utf-8", "surrogateescape")


def _not_utf8(text: str) -> str | None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as fault:
        byte = ord(text[fault.start]) - 0xDC00
        near = text[max(0, fault.start - 20) : fault.start + 20].encode("utf-8", "replace").decode()
        return f"not UTF-8 (byte 0x{byte:02x}); {excerpt(near, 40)}"
    return None


def _records(path: Path, blocks: Iterable[bytes], delimiter: str) -> Iterator[_Record]:
    """Yield the records, the header first. Blank lines are no records."""
    csv.field_size_limit(RECORD_LIMIT)
    lines = _Lines(path, blocks)
    # strict: a quoted field followed by more text is an error, not a guess, and an unclosed one is noticed
    reader = csv.reader(iter(lines), delimiter=delimiter, strict=True)
    while True:
        begin, lines.size = lines.line + 1, 0
        fields: list[str] = []
        error = None
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as fault:
            if "end of data" in str(fault):
                raise InputError(
                    f"{shown(path)}: line {begin}: a quotation mark that opens a field is never closed, so the rest "
                    'of the file would be one record. Fix: close it, or write it as "…" with each " in it doubled.'
                ) from None
            error = f"broken csv ({fault})"
        if fields or error:
            yield _Record(begin, lines.size, fields, error or _not_utf8(" | ".join(fields)))


def _header(path: Path, records: Iterator[_Record]) -> list[str]:
    first = next(records, None)
    if first is None:
        return []
    if first.error:
        raise InputError(
            f"{shown(path)}: line {first.line}: the header is unreadable: {first.error}. Fix: UTF-8 "
            "(Chinese csv files are often GBK: `iconv -f gb18030 -t utf-8`)."
        )
    # C-Eval and CMMLU leave the name of their index column empty; further nameless ones are numbered
    names = [name or (f"column {i}" if "" in first.fields[:i] else "") for i, name in enumerate(first.fields)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(
            f"{shown(path)}: line {first.line}: two columns are named '{excerpt(twice)}'. Fix: another name for one."
        )
    return names


def scan_csv(path: Path, blocks: ByteBlocks, chunk_bytes: int, delimiter: str) -> tuple[Chunk, ...]:
    """Return the chunks: each ends with the record that fills `chunk_bytes` bytes."""
    chunks: list[Chunk] = []
    records = _records(path, blocks, delimiter)
    _header(path, records)
    first = row = size = 0
    for record in records:
        row += 1
        size += record.size
        if size >= chunk_bytes:
            chunks.append(Chunk(len(chunks), first, row - first, first, row))
            first, size = row, 0
    if row > first:
        chunks.append(Chunk(len(chunks), first, row - first, first, row))
    return tuple(chunks)


def _row(row: int, names: list[str], record: _Record) -> RawRow:
    error = record.error
    if error is None and len(record.fields) != len(names):
        fields = f"{len(record.fields)} field" + ("s" if len(record.fields) != 1 else "")
        error = f"{fields}, the header has {len(names)}; {excerpt(' | '.join(record.fields), 40)}"
    if error is not None:
        return RawRow(row, None, f"line {record.line}: {error}")
    return RawRow(row, dict(zip(names, record.fields, strict=True)), None)


def read_table(path: Path, blocks: ByteBlocks, delimiter: str, columns: list[str]) -> Iterator[RawRow]:
    """Yield all rows of a table that may have no header.

    The first record is a row, and `columns` are its names, where it has as many fields and none is named `columns[0]`.
    """
    records = _records(path, blocks, delimiter)
    first = next(records, None)
    records = chain([first] if first else [], records)
    plain = [name.strip().lower() for name in first.fields] if first else []
    headless = len(plain) == len(columns) and columns[0] not in plain
    names = columns if headless else _header(path, records)
    yield from (_row(row, names, record) for row, record in enumerate(records))


def read_csv(path: Path, scan: FileScan, chunks: list[Chunk]) -> Iterator[tuple[Chunk, Iterator[RawRow]]]:
    """Yield the wanted chunks (in file order) with their rows."""
    with ByteBlocks(path, scan.compression) as blocks:
        records = _records(path, blocks, DELIMITER[scan.format])
        names = _header(path, records)
        row = 0
        for chunk in chunks:
            rows = []
            while row < chunk.end:
                if (record := next(records, None)) is None:
                    raise changed(path)
                if row >= chunk.start:
                    rows.append(_row(row, names, record))
                row += 1
            yield chunk, iter(rows)
