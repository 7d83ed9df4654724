"""All rows of a plan in few bytes (some 25 each, of which the id takes 16), and the verdicts on them.

What nearly every row has of its own (id, language, tokens, characters) is one column over all chunks. What is mostly
the same in a chunk, or counts up, is kept chunk by chunk, as one value where it can be. What few rows have (the row
that one repeats, an item of a benchmark) stands beside their numbers. Where a row stands follows from its number.

Legend of array suffixes: _R one entry a row, _C one a chunk.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from steel_data.engine import release
from steel_data.filters.dedup import Rows, rows_kind
from steel_data.passes.map import MappedChunk
from steel_data.row.table import read_records
from steel_data.selection.candidates import View

I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]
_BLOCK = 2**20  # rows looked at at once
_WHOLE = ("id", "language", "tokens", "chars")
_SIGNED: list[Any] = [pl.Int8, pl.Int16, pl.Int32, pl.Int64]
_NUMBERS: dict[str, Any] = {  # the columns that hold no words; of which a build without any value is
    "id": pl.UInt128, "origin_row": pl.Int64, "part": pl.Int32, "dose": pl.Int32, "chars": pl.Int32, "tokens": pl.Int32,
}  # fmt: skip


def true_rows(true_R: Bool, first: int, kind: type[np.signedinteger[Any]]) -> Rows:
    """Return where an array is true, `first` being its first place (np.flatnonzero takes eight bytes for each)."""
    blocks = range(0, len(true_R), _BLOCK)
    found = [(first + at + np.flatnonzero(true_R[at : at + _BLOCK])).astype(kind) for at in blocks]
    return np.concatenate([np.zeros(0, kind), *found])


def small(values: Sequence[int]) -> npt.NDArray[np.unsignedinteger[Any]]:
    """Return numbers from 0 in the smallest type that holds them."""
    return np.array(values, np.min_scalar_type(max(values, default=0)))


@dataclass(frozen=True)
class InChunk:
    """Rows of one chunk, among some that are asked for: which of those they are, and their places in the chunk."""

    chunk: int
    mine: I64
    pos: I64


def by_chunk(rows: I64 | Rows, first_C: I64) -> Iterator[InChunk]:
    """Yield the rows of each chunk that some rows lie in, in the order of the chunks, whose first rows are first_C."""
    order = None if (rows[1:] >= rows[:-1]).all() else np.argsort(rows)  # as nearly always: nothing is sorted
    held = rows if order is None else rows[order]
    border_C = np.searchsorted(held, first_C)
    for place, (a, b) in enumerate(pairwise(border_C.tolist())):
        if b > a:
            mine = np.arange(a, b) if order is None else order[a:b]
            yield InChunk(place, mine, held[a:b] - first_C[place])


class Verdicts:
    """Which step drops each row, and why: a number of 8 or 16 bits a row, -1 for none, and the words of each number."""

    def __init__(self, rows: int) -> None:
        self._number: dict[tuple[str, str], int] = {}
        self._verdict_R: npt.NDArray[np.signedinteger[Any]] = np.full(rows, -1, np.int8)

    def add(self, start: int, told: pl.DataFrame) -> None:
        """Note the steps and reasons that a chunk's rows, from `start` on, were told in the map pass."""
        lost = told.with_row_index("row").drop_nulls("reason").group_by("step", "reason").agg("row")
        for step, reason, rows in lost.iter_rows():
            self.drop(start + np.array(rows, np.int64), step, reason)

    def drop(self, rows: I64 | Rows | int, step: str, reason: str) -> None:
        """Note the verdict on some rows."""
        number = self._number.setdefault((step, reason), len(self._number))
        if number > np.iinfo(self._verdict_R.dtype).max:
            self._verdict_R = self._verdict_R.astype(np.int16 if number < 2**15 else np.int32)
        self._verdict_R[rows] = number

    def kept(self, first: int = 0, last: int | None = None) -> Bool:
        """Return which rows no step has dropped so far, of all or of some side by side."""
        return self._verdict_R[first:last] < 0

    def words(self, name: str, rows: slice | I64) -> pl.Series:
        """Return `step` or `reason` of some rows; null where one is kept."""
        words = [pair[("step", "reason").index(name)] for pair in self._number]
        code = self._verdict_R[rows].astype(np.int32)
        code[code < 0] = len(words)
        return pl.Series([*words, None], dtype=pl.Enum(sorted(set(words)))).gather(code.view(np.uint32))


@dataclass(frozen=True)
class _Piece:
    """A column of one chunk: a value of all rows, or a number that counts up from there, or each row's own."""

    rows: int
    value: Any
    counts: bool = False
    own: pl.Series | None = None

    @classmethod
    def of(cls, column: pl.Series) -> "_Piece":
        """Return a column in as few bytes as it takes."""
        rows, value = len(column), column[0] if len(column) else None
        if column.null_count() == rows or (not column.null_count() and column.n_unique() == 1):
            return cls(rows, value)
        if column.dtype.is_integer() and not column.null_count():
            own = column.to_numpy()
            if (own[1:] == own[:-1] + 1).all():
                return cls(rows, value, counts=True)
        return cls(rows, value, own=column)

    def part(self, first: int, last: int, dtype: Any) -> pl.Series:
        """Return the values of rows side by side."""
        if self.own is not None:
            return self.own[first:last].cast(dtype)
        if self.counts:
            return pl.int_range(self.value + first, self.value + last, eager=True).cast(dtype)
        return pl.repeat(self.value, last - first, dtype=dtype, eager=True)

    def at(self, places: I64, dtype: Any) -> pl.Series:
        """Return the values of rows by their places in the chunk."""
        if self.own is not None:
            return self.own[places].cast(dtype)
        if self.counts:
            return pl.Series(self.value + places).cast(dtype)
        return pl.repeat(self.value, len(places), dtype=dtype, eager=True)


class _Few:
    """What few rows have: their numbers, ascending, and beside them the values; the others have `without`."""

    def __init__(self, without: Any, dtype: Any) -> None:
        self._row: Rows = np.zeros(0, np.int32)
        self._value, self._without = pl.Series([], dtype=dtype), without

    def put(self, rows: I64 | Rows, values: pl.Series) -> None:
        """Give values to rows that have none."""
        row = np.concatenate([self._row, rows])
        order = np.argsort(row)
        self._row, self._value = row[order], pl.concat([self._value, values.cast(self._value.dtype)])[order]

    def at(self, rows: I64 | Rows) -> pl.Series:
        """Return the values of some rows."""
        without = pl.repeat(self._without, len(rows), dtype=self._value.dtype, eager=True)
        if not len(self._row):
            return without
        found = np.minimum(np.searchsorted(self._row, rows), len(self._row) - 1)
        return self._value[found].zip_with(pl.Series(self._row[found] == rows), without)

    def part(self, first: int, last: int) -> pl.Series:
        """Return the values of rows side by side."""
        a, b = np.searchsorted(self._row, [first, last]).tolist()
        without = pl.repeat(self._without, last - first, dtype=self._value.dtype, eager=True)
        return without.scatter(self._row[a:b].astype(np.int64) - first, self._value[a:b]) if b > a else without


class PlannedRows:
    """The rows of all chunks, in order of source, file and row.

    Columns: origin_row, part, id, kind, language, tokens, chars, benchmark, item, dose, note, quality; source, file,
    chunk (place in `chunks`), pos (place in the chunk); step, reason (null: kept), witness (row that it repeats, or
    -1), overlap_item; `written` copies; rating where a source selects.
    """

    def __init__(self, chunks: Sequence[tuple[int, MappedChunk]], narrow: list[pl.DataFrame]) -> None:
        """Take the chunks' narrow columns away, column by column: never all of it twice in memory."""
        self.chunks = tuple(chunks)
        self.first_C: I64 = np.cumsum([0, *(chunk.rows for _, chunk in chunks)])
        self.kind = rows_kind(len(self))
        self.verdicts = Verdicts(len(self))
        self.written: npt.NDArray[np.unsignedinteger[Any]] = np.zeros(len(self), np.uint8)
        self.few = {
            "witness": _Few(-1, pl.Int32 if self.kind is np.int32 else pl.Int64),
            "overlap_item": _Few(None, pl.String),
        }
        for start, part in zip(self.first_C[:-1].tolist(), narrow, strict=True):
            self.verdicts.add(start, part.select(pl.col("step", "reason").cast(pl.String)))
        columns = [dict(zip(part.columns, part.get_columns(), strict=True)) for part in narrow]
        narrow.clear()
        self._whole: dict[str, pl.Series] = {}
        self._pieces: dict[str, list[_Piece]] = {}
        self._dtype: dict[str, Any] = {}
        for name in [name for name in columns[0] if name not in ("step", "reason")]:
            parts = [column.pop(name) for column in columns]
            self._dtype[name] = _common(parts, _NUMBERS.get(name))
            if name in _WHOLE:
                self._whole[name] = pl.concat([part.cast(self._dtype[name]) for part in parts], rechunk=True)
            else:
                self._pieces[name] = [_Piece.of(part) for part in parts]

    def __len__(self) -> int:
        """Return how many rows there are."""
        return int(self.first_C[-1])

    @property
    def names(self) -> list[str]:
        """The columns."""
        return [*self._dtype, "source", "file", "chunk", "pos", "step", "reason", "written", *self.few]

    def span(self, source: int) -> tuple[int, int]:
        """Return the first row of a source and the one behind its last: they lie side by side."""
        before = sum(chunk.rows for s, chunk in self.chunks if s < source)
        return before, before + sum(chunk.rows for s, chunk in self.chunks if s == source)

    def column(self, name: str, first: int = 0, last: int | None = None) -> pl.Series:
        """Return a column of all rows, or of some side by side."""
        last = len(self) if last is None else last
        if name in self._whole:
            found = self._whole[name][first:last]
        elif name in self.few:
            found = self.few[name].part(first, last)
        elif name == "written":
            found = pl.Series(self.written[first:last])
        elif name in ("step", "reason"):
            found = self.verdicts.words(name, slice(first, last))
        else:
            parts = [self._part(name, *inside) for inside in self._inside(first, last)]
            found = pl.concat(parts) if parts else self._part(name, 0, 0, 0)
        return found.alias(name)

    def columns(self, first: int, last: int, *names: str) -> pl.DataFrame:
        """Return some columns (all, where none is named) of rows side by side."""
        return pl.DataFrame([self.column(name, first, last) for name in names or self.names])

    def blocks(self, first: int, last: int, *names: str) -> Iterator[pl.DataFrame]:
        """Yield some columns of rows side by side, a part of the rows at a time."""
        for start in range(first, last, _BLOCK):
            yield self.columns(start, min(start + _BLOCK, last), *names)

    def at(self, rows: I64 | Rows, *names: str) -> pl.DataFrame:
        """Return some columns of some rows, in the order asked."""
        return pl.DataFrame([self._at(name, rows).alias(name) for name in names])

    def _at(self, name: str, rows: I64 | Rows) -> pl.Series:
        if name in self._whole:
            return self._whole[name][rows]
        if name in self.few:
            return self.few[name].at(rows)
        if name == "written":
            return pl.Series(self.written[rows])
        if name in ("step", "reason"):
            return self.verdicts.words(name, rows)
        parts = list(self.by_chunk(rows))
        if not parts:
            return self._part(name, 0, 0, 0)
        back = np.empty(len(rows), np.int64)
        back[np.concatenate([part.mine for part in parts])] = np.arange(len(rows))
        return pl.concat([self._place(name, part.chunk, part.pos) for part in parts])[back]

    def by_chunk(self, rows: I64 | Rows) -> Iterator[InChunk]:
        """Yield the rows of each chunk that some rows lie in, in the order of the chunks."""
        return by_chunk(rows, self.first_C)

    def read(self, rows: I64 | Rows, view: View) -> Iterator[tuple[I64, list[Any]]]:
        """Yield, chunk by chunk, which of some rows lie in it, and the `view` of their records; each is read once."""
        for part in self.by_chunk(rows):
            records = read_records(self.chunks[part.chunk][1].stages[-1].records, ["messages", "tools", "meta"])
            yield part.mine, view(records[part.pos])

    def texts(self, rows: I64 | Rows, view: Callable[[pl.DataFrame], list[str]]) -> list[str]:
        """Return the `view` of some rows, in the order asked; each chunk is read once."""
        out = [""] * len(rows)
        for mine, texts in self.read(rows, view):
            for where, text in zip(mine.tolist(), texts, strict=True):
                out[where] = text
        return out

    def write(self, record: Rows, copy: npt.NDArray[np.integer[Any]]) -> None:
        """Count how often each row stands in the mixture, whose units are these records and copies."""
        most = int(copy.max()) + 1 if len(copy) else 0
        self.written = np.zeros(len(self), np.min_scalar_type(most))
        np.add.at(self.written, record, self.written.dtype.type(1))

    def rate(self, rated: Iterable[tuple[I64 | Rows, npt.NDArray[np.float64]]]) -> None:
        """Note by what rating rows were selected or not; nan: by none."""
        for rows, rating in rated:
            few = self.few.setdefault("rating", _Few(None, pl.Float64))
            few.put(rows, pl.Series(rating).fill_nan(None))

    def kinds(self) -> set[str]:
        """Return the kinds that there are."""
        held = [[piece.value] if piece.own is None else piece.own.unique().to_list() for piece in self._pieces["kind"]]
        return {kind for some in held for kind in some if kind is not None}

    @contextmanager
    def without_ids(self, folder: Path) -> Iterator[None]:
        """Let the ids of many rows wait on disk for a while: they are most of what is in memory."""
        if len(self) < _BLOCK:
            yield
            return
        with TemporaryFile(dir=folder) as file:
            self._whole.pop("id").to_frame("id").write_ipc(file, compression="lz4")  # so that reading copies them
            yield
            release()  # with them comes the most that is in memory
            file.seek(0)
            self._whole["id"] = pl.read_ipc(file)["id"].rechunk()
            release()

    def injected(self) -> Bool:
        """Return which rows a `contaminate` source has put in."""
        found = np.zeros(len(self), bool)
        for piece, first in zip(self._pieces["kind"], self.first_C.tolist(), strict=False):
            if piece.own is not None:
                found[first : first + piece.rows] = (piece.own.cast(pl.String) == "injected").fill_null(False)
            elif piece.value == "injected":
                found[first : first + piece.rows] = True
        return found

    def _inside(self, first: int, last: int) -> Iterator[tuple[int, int, int]]:
        """Yield each chunk that rows side by side lie in, and which of its rows those are."""
        for place, (a, b) in enumerate(pairwise(self.first_C.tolist())):
            if max(a, first) < min(b, last):
                yield place, max(a, first) - a, min(b, last) - a

    def _part(self, name: str, place: int, first: int, last: int) -> pl.Series:
        """Return a column of rows side by side in one chunk."""
        if name in self._pieces:
            return self._pieces[name][place].part(first, last, self._dtype[name])
        return self._place(name, place, np.arange(first, last))

    def _place(self, name: str, place: int, pos: I64) -> pl.Series:
        """Return a column of some rows of one chunk."""
        if name in self._pieces:
            return self._pieces[name][place].at(pos, self._dtype[name])
        if name == "pos":
            return pl.Series(pos, dtype=pl.UInt32)
        s, chunk = self.chunks[place]
        value = {"source": s, "file": chunk.file, "chunk": place}[name]
        return pl.repeat(value, len(pos), dtype=pl.UInt32, eager=True)


def _common(parts: list[pl.Series], otherwise: Any) -> Any:
    """Return the narrowest type that holds the columns of all chunks (None: words, which it numbers)."""
    parts = [part for part in parts if part.dtype != pl.Null]
    if otherwise is None:
        return pl.Enum(sorted({word for part in parts for word in part.unique().drop_nulls().to_list()}))
    if not parts or otherwise == pl.UInt128:
        return parts[0].dtype if parts else otherwise
    return max((part.shrink_dtype().dtype for part in parts), key=_SIGNED.index)
