"""The narrow table of records on disk: its columns, and the ways from and to a record."""

from pathlib import Path
from typing import Any

import orjson
import polars as pl

from steel_data.row.record import Record

SCHEMA: dict[str, Any] = {
    "origin_row": pl.Int64,
    "part": pl.Int32,  # place among the records of one raw row
    "id": pl.String,  # null where there are no messages
    "messages": pl.String,  # JSON: list of messages, or {prompt, chosen, rejected}
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
}
UNREADABLE = "unreadable"


def table(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Return rows (dicts with keys of SCHEMA, missing ones null) as one table."""
    columns = {name: pl.Series(name, [row.get(name) for row in rows], dtype=kind) for name, kind in SCHEMA.items()}
    return pl.DataFrame(columns)


def as_record(row: dict[str, Any]) -> Record:
    """Return a row of the table as the record that custom steps see: messages decoded, internal columns left out."""
    record: Record = {
        key: row[key] for key in ("id", "kind", "benchmark", "item", "dose", "chars", "meta", "origin_row")
    }
    body = orjson.loads(row["messages"])
    record.update({"messages": body} if isinstance(body, list) else body)
    if row["tools"]:
        record["tools"] = orjson.loads(row["tools"])
    return record


def texts_of(records: pl.DataFrame, separator: str = "\n") -> list[str]:
    """Return the text view of each row ('' for rows without messages), turns joined by `separator`."""
    texts = []
    for body in records["messages"]:
        if body is None:
            texts.append("")
            continue
        turns = orjson.loads(body)
        if isinstance(turns, dict):
            turns = [*turns["prompt"], *turns["chosen"]]
        texts.append(separator.join(t for m in turns for t in (m.get("reasoning_content"), m["content"]) if t))
    return texts


def read_records(place: Path, columns: list[str] | None = None) -> pl.DataFrame:
    """Read a records file (all columns of SCHEMA, or some)."""
    return pl.read_parquet(place, columns=columns or list(SCHEMA), glob=False)
