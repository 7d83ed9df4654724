"""Look up rows in a mixture's parquet files: narrow columns by a condition, whole rows by their place."""

from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from steel_data.errors import InputError, first_line

Row = dict[str, Any]
_CONVERSATIONS = ("messages", "prompt", "chosen", "rejected")


def scan(folder: Path, name: str) -> pl.LazyFrame:
    """Return one file of a mixture, lazily, with the row's place in it as `at` (UInt32)."""
    path = folder / name
    if not path.is_file():
        raise InputError(f"{path}: is missing. `check` says what is whole.")
    return pl.scan_parquet(path, row_index_name="at", glob=False)


def collect(path: Path, frame: pl.LazyFrame) -> pl.DataFrame:
    """Run a query on one file of a mixture with bounded memory. Raises InputError for a damaged file."""
    try:
        return frame.collect(engine="streaming")
    except (pl.exceptions.PolarsError, OSError) as error:
        first = first_line(error, 120)
        raise InputError(f"{path}: cannot be read: {first}. `check` says what is whole.") from None


def joined_text(schema: pl.Schema) -> pl.Expr:
    """Return the text of a row's turns (reasoning before content), one below the other, for a file of this schema."""
    columns = []
    for name in _CONVERSATIONS:
        if name not in schema:
            continue
        turn = {field.name for field in schema[name].inner.fields}  # type: ignore[attr-defined]
        fields = [pl.element().struct.field(key) for key in ("reasoning_content", "content") if key in turn]
        text = pl.concat_str(fields, separator="\n", ignore_nulls=True)
        columns.append(pl.col(name).list.eval(text).list.join("\n"))
    return pl.concat_str(columns, separator="\n", ignore_nulls=True)


def squeezed(text: pl.Expr) -> pl.Expr:
    """Return text without regard to width, case and blanks."""
    return text.str.normalize("NFKC").str.to_lowercase().str.replace_all(r"\s", "")


def fetch(folder: Path, name: str, places: list[int]) -> list[Row]:
    """Return whole rows of one file by their places in it, in the order asked. Reads the row groups they are in."""
    rows: dict[int, Row] = {}
    try:
        with pq.ParquetFile(folder / name) as file:
            start = 0
            for group in range(file.num_row_groups):
                end = start + file.metadata.row_group(group).num_rows
                mine = [at for at in places if start <= at < end]
                if mine:
                    table = file.read_row_group(group)
                    rows.update((at, table.slice(at - start, 1).to_pylist()[0]) for at in set(mine))
                start = end
    except (OSError, ValueError) as error:
        first = first_line(error, 120)
        raise InputError(f"{folder / name}: cannot be read: {first}. `check` says what is whole.") from None
    return [rows[at] for at in places]


Place = tuple[str, int]  # file, row in it


def rows_at(folder: Path, places: list[Place]) -> dict[Place, Row]:
    """Return the rows at some places of parquet files; each row group that holds one is read once."""
    wanted: dict[str, list[int]] = {}
    for name, row in places:
        wanted.setdefault(name, []).append(row)
    found: dict[Place, Row] = {}
    for name, rows in wanted.items():
        with pq.ParquetFile(folder / name) as file:
            start = 0
            for group in range(file.num_row_groups):
                end = start + file.metadata.row_group(group).num_rows
                mine = sorted({row for row in rows if start <= row < end})
                if mine:
                    table = file.read_row_group(group)  # its take() would import pandas: half a second
                    found |= {(name, row): table.slice(row - start, 1).to_pylist()[0] for row in mine}
                start = end
    return found
