"""The narrow table of records on disk: its columns, and the ways from and to a record."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import polars as pl
import pyarrow as pa

from steel_data.errors import InputError, first_line
from steel_data.row.json_text import from_json
from steel_data.row.record import Record, segments, turns_of
from steel_data.store.copies import copy_of
from steel_data.store.names import is_far

SCHEMA: dict[str, Any] = {
    "origin_row": pl.Int64,
    "part": pl.Int32,  # place among the records of one raw row
    "id": pl.String,  # null where there are no messages
    "messages": pl.String,  # JSON: list of messages, or {prompt, chosen, rejected} or {prompt, completion, label}
    "tools": pl.String,  # JSON
    "kind": pl.String,
    "language": pl.String,  # where the builder says so
    "benchmark": pl.String,
    "item": pl.String,
    "dose": pl.Int32,
    "chars": pl.Int32,
    "meta": pl.String,
    "note": pl.String,  # an odd case that was kept, counted in the manifest
    "step": pl.String,  # that dropped it, so far
    "reason": pl.String,
    "error": pl.String,
    "unread": pl.String,  # JSON: columns of its raw row that nobody read (row/columns.py); once a row
}
UNREADABLE = "unreadable"


def table(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Return rows (dicts with keys of SCHEMA, missing ones null) as one table."""
    columns = {name: pl.Series(name, [row.get(name) for row in rows], dtype=kind) for name, kind in SCHEMA.items()}
    return pl.DataFrame(columns)


_HALF = pl.lit(2**64, dtype=pl.UInt128)


def packed(ids: pl.Expr) -> pl.Expr:
    """Return ids of 32 hex digits as whole numbers of 128 bits: 16 bytes each, as text 48."""
    first, second = (
        ids.str.slice(at, 16).str.decode("hex").bin.reinterpret(dtype=pl.UInt64, endianness="big").cast(pl.UInt128)
        for at in (0, 16)
    )
    return first * _HALF + second


def first_half(ids: pl.Expr) -> pl.Expr:
    """Return the first 16 hex digits of packed ids as a number."""
    return (ids // _HALF).cast(pl.UInt64)


def id_digits(ids: pl.Series) -> npt.NDArray[np.uint8]:
    """Return packed ids as they are written: 32 hex digits each, shape (rows, 32); of null zeros."""
    number = pl.col("id")
    halves = ids.to_frame("id").select(first=first_half(number), second=(number % _HALF).cast(pl.UInt64)).fill_null(0)
    digits = halves.to_numpy().astype(">u8").tobytes().hex().encode()
    return np.frombuffer(digits, np.uint8).reshape(-1, 32)


def id_column(ids: pl.Series) -> pl.Series:
    """Return ids, packed or not, as a column of texts."""
    if ids.dtype == pl.String:
        return ids
    digits = id_digits(ids)
    ends = np.arange(0, 32 * len(digits) + 1, 32, dtype=np.int64)
    held = pa.LargeStringArray.from_buffers(len(digits), pa.py_buffer(ends), pa.py_buffer(digits))
    texts = pl.Series(pl.from_arrow(held))
    return texts.set(ids.is_null(), None) if ids.null_count() else texts


def id_texts(ids: pl.Series) -> list[str | None]:
    """Return ids, packed or not, as they are written."""
    if ids.dtype == pl.String:
        return ids.to_list()
    digits = id_digits(ids).tobytes().decode()
    texts: list[str | None] = [digits[at : at + 32] for at in range(0, len(digits), 32)]
    for row in ids.is_null().arg_true():
        texts[row] = None
    return texts


def as_record(row: dict[str, Any]) -> Record:
    """Return a row of the table as the record that custom steps see: messages decoded, internal columns left out."""
    record: Record = {
        key: row[key] for key in ("id", "kind", "benchmark", "item", "dose", "chars", "meta", "origin_row")
    }
    body = orjson.loads(row["messages"])
    record.update({"messages": body} if isinstance(body, list) else body)
    if row["tools"]:
        record["tools"] = from_json(row["tools"])
    return record


def segments_of(records: pl.DataFrame) -> list[list[tuple[str, str]]]:
    """Return the segments (role, text) of each row: see `record.segments`; of a preference, prompt and chosen."""
    found = []
    for body, tools in zip(records["messages"], records["tools"], strict=True):
        turns = turns_of(orjson.loads(body)) if body is not None else []
        found.append(segments(turns, tools))
    return found


def texts_of(records: pl.DataFrame, separator: str = "\n") -> list[str]:
    """Return the text view of each row ('' for rows without messages), segments joined by `separator`.

    Needs the columns `messages` and `tools`.
    """
    texts = []
    for body, tools in zip(records["messages"], records["tools"], strict=True):
        if body is None:
            texts.append("")
            continue
        turns = turns_of(orjson.loads(body))
        if tools is not None or '"tool_calls":' in body:
            texts.append(separator.join(text for _, text in segments(turns, tools)))
        else:  # nearly every row
            texts.append(separator.join(t for m in turns for t in (m.get("reasoning_content"), m["content"]) if t))
    return texts


def own_words_of(records: pl.DataFrame) -> list[str]:
    """Return what user and assistant say themselves in each row, one turn a line; no calls, results or system turns."""
    own = ("user", "assistant")
    return ["\n".join(text for role, text in parts if role in own) for parts in segments_of(records)]


_MORE = re.compile('"(?:tool_calls|reasoning_content)":')  # what a message may hold beside role and content


def compared_of(records: pl.DataFrame, on: str, separator: str) -> list[str]:
    """Return what duplicates are told by: the turns of each row, one after another, joined by `separator`.

    on: `all`: tools on offer, questions, answers, calls, results (of a preference both answers); `question`: what the
    user says; `answer`: what the assistant says and calls; of a document its text. System turns are shared by many rows
    and left out. The label of a judged answer is a turn of its own, but for the question: a good and a bad answer that
    are alike are two.
    """
    roles = {"all": ("user", "assistant", "call", "tool"), "question": ("user",), "answer": ("assistant", "call")}[on]
    found = []
    for body, tools in zip(records["messages"].to_list(), records["tools"].to_list(), strict=True):
        held = orjson.loads(body) if body is not None else []
        if not tools and isinstance(held, list) and len(held) > 1 and not _MORE.search(body):  # nearly every row
            found.append(separator.join([t["content"] for t in held if t["role"] in roles and t["content"]]))
            continue
        turns = turns_of(held, rejected=True)
        texts = [tools] if tools and on == "all" else []
        lone = len(turns) == 1  # a document: its text is all there is to compare
        for turn in turns:
            said = [text for role, text in segments([turn]) if lone or role in roles]
            if said:
                texts.append("\n".join(said))
        if on != "question" and isinstance(held, dict) and "label" in held:
            texts.append("good" if held["label"] else "bad")
        found.append(separator.join(texts))
    return found


def spoken_by_others(records: pl.DataFrame) -> list[int]:
    """Return the rows in which others than user and assistant have a word: a system turn, tools, calls, results."""
    other = pl.col("tools").is_not_null()
    for mark in ('"role":"system"', '"role":"tool"', '"tool_calls":'):
        other |= pl.col("messages").str.contains(mark, literal=True)
    return records.select(other.fill_null(False).arg_true()).to_series().to_list()


def read_records(place: Path, columns: list[str] | None = None) -> pl.DataFrame:
    """Read a records file (all columns of SCHEMA, or some)."""
    return read_columns(place, columns or list(SCHEMA))


def read_columns(place: Path, columns: list[str] | None = None) -> pl.DataFrame:
    """Read a table of the cache (all columns, or some). Raises InputError for one that is gone or damaged."""
    try:
        return pl.read_parquet(copy_of(place) if is_far(place) else place, columns=columns, glob=False)
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise InputError(
            f"{place}: was whole and is not: {first_line(error)}. Fix: build again, which makes it anew."
        ) from None


def write_columns(place: Path, frame: pl.DataFrame, **options: Any) -> None:
    """Write a table as parquet. Raises OSError for a full or read-only disk, for which polars has another word."""
    try:
        frame.write_parquet(place, **options)
    except pl.exceptions.ComputeError as error:
        raise OSError(first_line(error)) from error
