"""The one reader of a mixture's rows: all in a stream, some by their place, or narrow columns as a polars frame.

Files are named as in the manifest, relative to the mixture's folder. A file that is missing or damaged is one
InputError, which names it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from steel_data.errors import InputError, first_line
from steel_data.mixture.schema import unlike
from steel_data.row.record import TURNS

Row = dict[str, Any]
Place = tuple[str, int]  # file, row in it (from 0)
_BATCH = 2_000  # rows decoded at once
# What pyarrow and polars say of a damaged file: the last is a fault that polars itself did not foresee.
_DAMAGE = (OSError, ValueError, pa.ArrowException, pl.exceptions.PolarsError, pl.exceptions.PanicException)


def files(folder: Path) -> list[str]:
    """Return the names of a mixture's train files, in order. Raises InputError where there are none."""
    names = sorted(path.name for path in folder.glob("train-*.parquet"))
    if not names:
        raise InputError(f"{folder}: no train-*.parquet here. Fix: the folder that `steel build` wrote.")
    return names


def count(folder: Path, names: Iterable[str]) -> int:
    """Return how many rows these files have; only their footers are read."""
    total = 0
    for name in names:
        with _opened(folder / name) as file:
            total += file.metadata.num_rows
    return total


def rows(folder: Path, names: Iterable[str], columns: Sequence[str] | None = None) -> Iterator[Row]:
    """Yield the rows of these files in order, whole or some columns of them; memory is bounded by a batch."""
    for name in names:
        with _opened(folder / name) as file:
            for batch in file.iter_batches(_BATCH, columns=columns):
                yield from batch.to_pylist()


@dataclass(frozen=True)
class Slice:
    """So many rows of one row group of a file, from one on. `number`: that of the first in the whole mixture."""

    file: str
    group: int
    start: int
    rows: int
    number: int

    def __str__(self) -> str:
        """Return it as an error names it."""
        return f"{self.file}, rows {self.number:,} to {self.number + self.rows - 1:,} of the mixture"


def slices(folder: Path, names: Iterable[str], most: int) -> list[Slice]:
    """Return these files cut into slices of at most `most` rows, in order; only their footers are read."""
    found, number = [], 0
    for name in names:
        with _opened(folder / name) as file:
            for group in range(file.num_row_groups):
                size = file.metadata.row_group(group).num_rows
                for start in range(0, size, most):
                    found.append(Slice(name, group, start, min(most, size - start), number + start))
                number += size
    return found


def rows_of(folder: Path, piece: Slice) -> Iterator[Row]:
    """Yield the rows of a slice in order; memory is bounded by a batch."""
    at, end = 0, piece.start + piece.rows
    with _opened(folder / piece.file) as file:
        for batch in file.iter_batches(_BATCH, row_groups=[piece.group]):
            mine = batch.slice(max(piece.start - at, 0), max(end - max(at, piece.start), 0))
            yield from mine.to_pylist()
            at += batch.num_rows
            if at >= end:
                return


def rows_where(folder: Path, names: Iterable[str], equal: Mapping[str, str]) -> Iterator[Row]:
    """Yield the rows of these files that have these values in these columns, in order, file by file."""
    wanted = [pl.col(column) == value for column, value in equal.items()]
    for name in names:
        places = collect(folder, scan(folder, [name]).filter(*wanted).select("file", "at"))
        for _, row in rows_at(folder, places.iter_rows()):
            yield row


def rows_at(folder: Path, places: Iterable[Place]) -> Iterator[tuple[Place, Row]]:
    """Yield each of these places once with its whole row, file by file in order, reading only row groups that hold one.

    A place that no row stands at is left out.
    """
    wanted: dict[str, set[int]] = {}
    for name, at in places:
        wanted.setdefault(name, set()).add(at)
    for name, of_file in wanted.items():
        with _opened(folder / name) as file:
            start = 0
            for group in range(file.num_row_groups):
                end = start + file.metadata.row_group(group).num_rows
                mine = sorted(at for at in of_file if start <= at < end)
                if mine:
                    # pyarrow's take() would import pandas: half a second
                    table = file.read_row_group(group)
                    table.validate(full=True)  # texts are UTF-8: polars takes that for granted
                    frame = pl.DataFrame(table)[[at - start for at in mine]]
                    yield from zip(((name, at) for at in mine), frame.iter_rows(named=True), strict=True)
                start = end


def scan(folder: Path, names: Iterable[str]) -> pl.LazyFrame:
    """Return the rows of one or more files, lazily, each with its place: `file`, and `at` (UInt32). See `collect`."""
    frames = []
    for name in names:
        with _opened(folder / name):  # its columns are as they should be
            pass
        frame = pl.scan_parquet(folder / name, row_index_name="at", glob=False)
        frames.append(frame.with_columns(file=pl.lit(name)))
    if not frames:
        raise _nameless(folder)
    return pl.concat(frames)


def _nameless(folder: Path) -> InputError:
    return InputError(f"{folder}: its manifest names no such file. `check` says what is whole.")


def collect(folder: Path, frame: pl.LazyFrame) -> pl.DataFrame:
    """Run a query on what `scan` returned, with bounded memory. Raises InputError for a damaged file."""
    try:
        return frame.collect(engine="streaming")
    except _DAMAGE as error:
        for path in sorted(folder.rglob("*.parquet")):  # polars does not say which file it was
            with _opened(path) as file:
                for _ in file.iter_batches(_BATCH):
                    pass
        raise _unreadable(folder, error) from None


def schema(folder: Path, *names: str) -> pl.Schema:
    """Return the columns of a file and their types: of the first that is named."""
    if not names:
        raise _nameless(folder)
    with _opened(folder / names[0]) as file:
        return pl.DataFrame(file.schema_arrow.empty_table()).schema


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    _present(path)
    try:
        with pq.ParquetFile(path) as file:
            if fault := unlike(file.schema_arrow, _is_whole(path), path.parent.name == "dropped"):
                raise InputError(f"{path}: {fault}. Fix: build again; `check` says what is whole.")
            yield file
    except _DAMAGE as error:
        raise _unreadable(path, error) from None


def _is_whole(path: Path) -> bool:
    """Whether a file is of a mixture that `build` wrote, and one that holds rows."""
    folder = path.parent.parent if path.parent.name == "dropped" else path.parent
    return path.name != "truth.parquet" and (folder / "manifest.json").is_file()


def _present(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"{path}: is missing. Fix: build again; `check` says what is whole.")


def _unreadable(path: Path, error: BaseException) -> InputError:
    return InputError(f"{path}: cannot be read: {first_line(error, 120)}. `check` says what is whole.")


def turn_fields(schema: pl.Schema, column: str) -> set[str]:
    """Return the keys that the turns of a column of conversations may have; none where there is no such column."""
    return {field.name for field in schema[column].inner.fields} if column in schema else set()  # type: ignore[attr-defined]


def joined_text(schema: pl.Schema) -> pl.Expr:
    """Return the text of a row's turns (reasoning before content), one below the other, for a file of this schema."""
    columns = []
    for name in TURNS:
        fields = [
            pl.element().struct.field(key)
            for key in ("reasoning_content", "content")
            if key in turn_fields(schema, name)
        ]
        if fields:
            text = pl.concat_str(fields, separator="\n", ignore_nulls=True)
            columns.append(pl.col(name).list.eval(text).list.join("\n"))
    return pl.concat_str(columns, separator="\n", ignore_nulls=True)


def squeezed(text: pl.Expr) -> pl.Expr:
    """Return text without regard to width, case and blanks."""
    return text.str.normalize("NFKC").str.to_lowercase().str.replace_all(r"\s", "")
