"""What a reader hands on (raw rows, chunks of them, the findings of a scan), and the parsing of one JSON row."""

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, repeat
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from steel_data.errors import InputError, excerpt
from steel_data.row.json_text import TwiceError, exact, is_doubtful, to_json
from steel_data.store.names import is_far, told

# The longest single record a file may hold. A file whose "first line" is longer is not what its name says (an array
# or an object without line breaks), and reading on would only fill the memory.
RECORD_LIMIT = 256 * 2**20


class RawRow(NamedTuple):
    """One record of a file.

    `row` is the 0-based record number, for JSON lines the 0-based physical line (a blank line is counted, but is no
    record). Either `value` is the record, made of JSON's types (an integer may have more than 64 bits: `to_json`), or
    it is None and `error` says in one line why.
    """

    row: int
    value: dict[str, Any] | None
    error: str | None


def whole_rows(first: int, values: list[dict[str, Any]]) -> list[RawRow]:
    """Return records without fault as raw rows, numbered from `first` (in half the time of RawRow(…) for each)."""
    return list(map(tuple.__new__, repeat(RawRow), zip(count(first), values, repeat(None))))


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep Python's cycle collector away while rows are made.

    They are trees without cycles, so it finds nothing, but looks at them again and again: a third of the reading.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@dataclass(frozen=True)
class Chunk:
    """A run of records of one file, the unit of work.

    `start` and `end` say where it lies: JSON lines and arrays: bytes of the decompressed stream; parquet: row groups;
    csv: record numbers. `rows` counts its records, unreadable ones included.
    """

    index: int
    first_row: int
    rows: int
    start: int
    end: int


@dataclass(frozen=True)
class FileScan:
    """What reading a file once found out. `sha256` is that of the bytes on disk; `rows` includes unreadable records.

    `size`, `tag`: of an object in a bucket, of which other versions are refused.
    """

    format: str
    compression: str
    sha256: str
    rows: int
    chunks: tuple[Chunk, ...]
    size: int = 0
    tag: str = ""


def shown(path: Path) -> str:
    """Return a path as messages show it: forward slashes on every system, no control characters."""
    return excerpt(told(path) if is_far(path) else path.as_posix(), 300)


def changed(path: Path) -> InputError:
    """Return the error for a file that is not the one that was scanned."""
    return InputError(f"{shown(path)}: changed since it was scanned. Run again when nothing writes to it.")


def _slow_parse(data: bytes) -> tuple[Any, str | None]:
    """Parse JSON that orjson refused or may not have read as it is: accept NaN and Infinity, else name the fault."""
    try:
        text = data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as fault:
        byte, at = data[fault.start], fault.start
        if byte == 0xED and data[at + 1 : at + 2] >= b"\xa0":  # the three bytes UTF-8 would use if it could
            return None, f"a lone surrogate (bytes {data[at : at + 3].hex(' ')} at {at})"
        return None, f"not UTF-8 (byte 0x{byte:02x} at {at}); {excerpt(data[:60].decode('utf-8', 'replace'))}"
    try:
        value = exact(text)
    except TwiceError as fault:
        return None, f"{fault.msg}, again at character {fault.pos}"
    except json.JSONDecodeError as fault:
        near = excerpt(text[max(0, fault.pos - 20) : fault.pos + 20], 40)
        what = fault.msg[:1].lower() + fault.msg[1:]
        return None, f"broken JSON ({what} at character {fault.pos}, near {near!r})"
    except RecursionError:
        return None, "broken JSON (nested too deeply)"
    try:
        to_json(value)
    except (TypeError, UnicodeEncodeError, RecursionError) as fault:  # nothing else that json.loads makes is refused
        deep = "recursion" in str(fault).lower()
        return None, "broken JSON (nested too deeply)" if deep else "a lone surrogate in a string"
    return value, None


def parse_json_row(data: bytes) -> tuple[dict[str, Any] | None, str | None]:
    """Return (row, None) or (None, why not) of one JSON text.

    NaN, Infinity and numbers too large for a float are read as missing (None), integers of any length as they are. Not
    UTF-8, a lone surrogate, broken JSON, a key twice in one object and anything that is not an object are reasons; the
    excerpts in them are short and free of control characters.
    """
    error = None
    try:
        value = orjson.loads(data)
        doubtful = is_doubtful(data, value)
    except orjson.JSONDecodeError:
        doubtful = True
    if doubtful:
        value, error = _slow_parse(data)
    if type(value) is dict:
        return value, None
    if error is None:
        names = {list: "an array", str: "a string", bool: "true or false", type(None): "null"}
        error = (
            f"{names.get(type(value), 'a number')}, not an object; {excerpt(data[:60].decode('utf-8', 'replace'), 40)}"
        )
    return None, error


def json_row(row: int, data: bytes, where: str) -> RawRow:
    """Return the raw row of one JSON text; an error begins with `where` (`line 17`)."""
    value, error = parse_json_row(data)
    return RawRow(row, value, None if error is None else f"{where}: {error}")
