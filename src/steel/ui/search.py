"""Rows of a mixture, kept or dropped, straight from its parquet files: filtered, searched, a page at a time.

Filters are decided on narrow columns alone, and only row groups that hold a row of the page are read whole. A text is
looked for window by window, for at most `SECONDS`; a page says how far it came, and the next goes on from there.
"""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from steel_data.errors import InputError
from steel_data.mixture.rows import Place, Row, collect, count, joined_text, rows_at, scan, schema

ROWS = 25  # of a page
WINDOW = 20_000  # rows in which a text is looked for at once
SECONDS = 0.6  # of looking for a text, a page
_FILE = re.compile(r"train-\d{5,}\.parquet|dropped/part-\d{5,}\.parquet")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which rows: "" is any. `text` stands literally in a turn (of a dropped row also in witness or error).

    `start`: how many rows that fit are passed over; with `text`, how many rows of the mixture.
    """

    dropped: bool = False
    source: str = ""
    kind: str = ""
    language: str = ""
    reason: str = ""
    id: str = ""
    text: str = ""
    start: int = 0


@dataclass(frozen=True)
class Hits:
    """One page of rows. `total`: how many fit, None with a text; `looked` of `of` rows were looked through so far.

    `next`: the `start` of the next page, None after the last.
    """

    rows: list[tuple[Place, Row]]
    total: int | None
    looked: int
    of: int
    next: int | None


def names(folder: Path, manifest: Mapping[str, Any], dropped: bool) -> list[str]:
    """Return the files of a mixture that hold rows. Raises InputError for names that no mixture has."""
    listed = manifest.get("dropped_files" if dropped else "output")
    if not isinstance(listed, dict) or not listed:
        raise InputError("its manifest names no files of this kind.")
    for name in listed:
        inside = _FILE.fullmatch(name) and (folder / name).resolve().is_relative_to(folder.resolve())
        if not inside:
            raise InputError(f"its manifest names '{name}', which no mixture holds.")
    return list(listed)


def find(folder: Path, files: list[str], wanted: Wanted) -> Hits:
    """Return a page of the rows that are wanted. Raises InputError for a missing or damaged file."""
    there = schema(folder, files[0])
    for column in ("source", "kind", "language", "reason", "id"):
        if getattr(wanted, column) and column not in there:
            raise InputError(f"these files have no column '{column}'.")
    narrow = [
        pl.col(column) == value for column in ("source", "kind", "language", "reason", "id")
        if (value := getattr(wanted, column))
    ]  # fmt: skip
    if wanted.text:
        return _with_text(folder, files, narrow, wanted)
    places = collect(folder, scan(folder, files).filter(*narrow).select("file", "at"))
    chosen = places.slice(wanted.start, ROWS).rows()
    end = wanted.start + ROWS
    of = sum(count(folder, [name]) for name in files)
    return Hits(list(rows_at(folder, chosen)), len(places), of, of, end if end < len(places) else None)


def _with_text(folder: Path, files: list[str], narrow: list[pl.Expr], wanted: Wanted) -> Hits:
    there = schema(folder, files[0])
    texts = [joined_text(there), *(pl.col(name) for name in ("witness_text", "error") if name in there)]
    holds = pl.any_horizontal(text.str.contains(wanted.text, literal=True) for text in texts)
    candidates = collect(folder, scan(folder, files).filter(*narrow).select("file", "at")) if narrow else None
    until = time.monotonic() + SECONDS
    of = count(folder, files)
    rows: list[tuple[Place, Row]] = []
    before = 0  # rows of the files before
    looked = min(wanted.start, of)
    for name in files:
        end = before + count(folder, [name])
        mine = None if candidates is None else candidates.filter(file=name)["at"]
        while looked < end:
            at, size = looked - before, min(WINDOW, end - looked)
            if mine is None or mine.is_between(at, at + size, closed="left").any():
                if time.monotonic() > until:
                    return Hits(rows, None, looked, of, looked)
                window = scan(folder, [name]).slice(at, size).filter(*narrow, holds).head(ROWS - len(rows))
                for row in collect(folder, window).iter_rows(named=True):
                    rows.append(((row.pop("file"), row.pop("at")), row))
                if len(rows) == ROWS:
                    looked = before + rows[-1][0][1] + 1
                    return Hits(rows, None, looked, of, looked if looked < of else None)
            looked += size
        before = end
    return Hits(rows, None, of, of, None)


def row_at(folder: Path, files: list[str], file: str, at: int) -> Row:
    """Return one row whole. Raises InputError where there is none."""
    if file not in files:
        raise InputError(f"'{file}' is no file of this mixture.")
    for _, row in rows_at(folder, [(file, at)]):
        return row
    raise InputError(f"{file} has no row {at}.")
