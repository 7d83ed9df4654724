"""Parquet: chunks of row groups, or of rows within a large row group."""

import datetime
import decimal
import math
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from steel_data.errors import InputError, first_line
from steel_data.read.rows import Chunk, RawRow, changed, shown, uncollected, whole_rows
from steel_data.store.names import is_far
from steel_data.store.reading import opened

# Dictionary-encoded text unfolds to much more than its row group's stated size; this bounds a chunk all the same.
CHUNK_ROWS = 2**16
BATCH_ROWS = 2**12
SMALL_ROWS = 2**8  # made and given away at once: their memory stays in the processor's cache and is used again


class _NoTextError(Exception):
    """A value that is not text."""


def _plain(value: Any) -> Any:
    """Return an Arrow value as JSON has it: dates as ISO text, NaN as missing, decimals as numbers where exact."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case str() | int() | None:
            return value
        case dict():  # in parquet every struct has all keys: null is what JSON leaves out
            return {key: _plain(item) for key, item in value.items() if item is not None}
        case list() | tuple():
            return [_plain(item) for item in value]
        case datetime.datetime() | datetime.date() | datetime.time():
            return value.isoformat()
        case decimal.Decimal() if _is_whole(value):
            return int(value)
        case decimal.Decimal():
            number = float(value)
            return number if math.isfinite(number) and decimal.Decimal(repr(number)) == value else str(value)
        case bytes():
            try:  # older writers did not mark text as text
                return value.decode("utf-8")
            except UnicodeDecodeError:
                raise _NoTextError from None
        case _:
            return str(value)


def _is_whole(value: decimal.Decimal) -> bool:
    """Return whether a decimal's type has no digits behind the point."""
    exponent = value.as_tuple().exponent
    return isinstance(exponent, int) and exponent >= 0


def _needs_care(kind: Any, inside: bool = False) -> bool:
    """Say whether values of an Arrow type may need `_plain`: all but text, whole numbers, booleans and their nests.

    A struct inside another one needs it: what a call's arguments lack is null there (`inside`: we are in a struct).
    """
    import pyarrow.types as t

    if t.is_struct(kind):
        return inside or any(_needs_care(kind.field(i).type, True) for i in range(kind.num_fields))
    if t.is_list(kind) or t.is_large_list(kind) or t.is_fixed_size_list(kind):
        return _needs_care(kind.value_type, inside)
    if t.is_dictionary(kind):
        return _needs_care(kind.value_type, inside)
    return not (
        t.is_string(kind) or t.is_large_string(kind) or t.is_integer(kind) or t.is_boolean(kind) or t.is_null(kind)
    )


def _open(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # of an object the row groups that are read are asked for in few large ranges
        source = opened(path) if is_far(path) else path
        file = pq.ParquetFile(source, page_checksum_verification=True, pre_buffer=is_far(path))
        names = file.schema_arrow.names
    except (pa.ArrowException, OSError, UnicodeDecodeError) as fault:  # a name of a column may be no text
        raise _corrupt(path, fault) from None
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{shown(path)}: two columns are named '{twice}'. Fix: another name for one.")
    return file


def _corrupt(path: Path, fault: Exception) -> InputError:
    why = first_line(fault)
    return InputError(f"{shown(path)}: truncated or corrupt parquet ({why}). Fetch it again; its rows cannot be known.")


def scan_parquet(path: Path, chunk_bytes: int) -> tuple[Chunk, ...]:
    """Return the chunks, from the footer alone: small row groups together, a large one in equal runs of rows."""
    chunks: list[Chunk] = []
    metadata = _open(path).metadata
    group, first = 0, 0
    while group < metadata.num_row_groups:
        stop, rows, size = group, 0, 0
        while stop < metadata.num_row_groups:
            info = metadata.row_group(stop)
            if stop > group and (size + info.total_byte_size > chunk_bytes or rows + info.num_rows > CHUNK_ROWS):
                break
            stop, rows, size = stop + 1, rows + info.num_rows, size + info.total_byte_size
        parts = max(1, -(-size // chunk_bytes), -(-rows // CHUNK_ROWS))
        step = max(1, -(-rows // parts))
        for at in range(0, rows, step):
            chunks.append(Chunk(len(chunks), first + at, min(step, rows - at), group, stop))
        group, first = stop, first + rows
    return tuple(chunks)


def _unreadable(row: Any) -> str:
    """Say of a batch of one row which column holds a value that Python has no word for."""
    for name, column in zip(row.schema.names, row.columns, strict=True):
        try:
            column.to_pylist()
        except (ValueError, OverflowError) as fault:
            return f"column '{name}' holds a {column.type} that cannot be read ({first_line(fault)})"
    return "cannot be read"


@uncollected()
def _rows_of_batch(batch: Any, first: int, careful: list[str]) -> list[RawRow]:
    try:
        values = batch.to_pylist()
    except (ValueError, OverflowError) as fault:  # text that is not UTF-8, a date of the year 10000: find out where
        if batch.num_rows > 1:
            singles = [_rows_of_batch(batch.slice(i, 1), first + i, careful) for i in range(batch.num_rows)]
            return [row for rows in singles for row in rows]
        why = "not UTF-8" if isinstance(fault, UnicodeDecodeError) else _unreadable(batch)
        return [RawRow(first, None, f"row {first} (counted from 0): {why}")]
    if not careful:
        return whole_rows(first, values)
    rows = []
    for row, value in enumerate(values, start=first):
        error, name = None, ""
        try:
            for name in careful:
                value[name] = _plain(value[name])
        except _NoTextError:
            error = f"row {row} (counted from 0): column '{name}' holds bytes, not text"
        rows.append(RawRow(row, None if error else value, error))
    return rows


def read_parquet(path: Path, chunks: list[Chunk]) -> Iterator[tuple[Chunk, Iterator[RawRow]]]:
    """Yield the wanted chunks (in file order) with their rows; chunks of the same row groups share one pass."""
    file = _open(path)
    careful = [field.name for field in file.schema_arrow if _needs_care(field.type)]
    at = 0
    while at < len(chunks):
        groups = range(chunks[at].start, chunks[at].end)
        last = at
        while last < len(chunks) and chunks[last].start == groups.start:
            last += 1
        if groups.stop > file.metadata.num_row_groups:
            raise changed(path)
        first = sum(file.metadata.row_group(i).num_rows for i in range(groups.start))
        batches = file.iter_batches(BATCH_ROWS, list(groups))
        for chunk, runs in zip(chunks[at:last], _cut_batches(path, batches, first, chunks[at:last]), strict=True):
            yield chunk, chain.from_iterable(_rows_of_batch(run, row, careful) for row, run in runs)
        at = last


def _cut_batches(path: Path, batches: Any, first: int, chunks: list[Chunk]) -> Iterator[Iterator[tuple[int, Any]]]:
    """Cut the batches, which begin with row `first` of the file, into short runs (first row, batch) of each chunk."""
    import pyarrow as pa

    source = iter(batches)
    batch: Any = None  # begins with row `first`

    def cut(row: int, end: int) -> Iterator[tuple[int, Any]]:
        nonlocal first, batch
        while row < end:
            if batch is None or first + batch.num_rows <= row:
                first += batch.num_rows if batch is not None else 0
                try:
                    batch = next(source, None)
                except (pa.ArrowException, OSError) as fault:
                    raise _corrupt(path, fault) from None
                if batch is None:
                    raise changed(path)
                continue
            run = batch.slice(row - first, min(SMALL_ROWS, end - row))
            yield row, run
            row += run.num_rows

    for chunk in chunks:
        yield cut(chunk.first_row, chunk.first_row + chunk.rows)
