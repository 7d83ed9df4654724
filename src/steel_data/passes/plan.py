"""The second pass: on narrow columns only, decide for every record its place in the output, or what drops it and why.

Order of decisions: the steps that look at one row (told by the map pass), decontamination, exact and near duplicates
among the survivors, then what select.py does: `take`, budget and language targets, repeats, order.

Legend of array suffixes: _R one entry a row.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from os import SEEK_END
from pathlib import Path
from tempfile import SpooledTemporaryFile
from threading import Lock
from typing import IO, Any, overload

import numpy as np
import numpy.typing as npt
import polars as pl

from steel_data.benchmarks.index import TURN
from steel_data.errors import InputError, excerpt
from steel_data.filters import dedup
from steel_data.filters.dedup import rows_kind
from steel_data.passes.attributes import dedup_name, overlap_name
from steel_data.passes.map import MappedChunk, MappedSource
from steel_data.passes.select import Selection, select
from steel_data.recipe.load import Recipe
from steel_data.recipe.steps import Filter
from steel_data.row.table import compared_of, read_columns, read_records, texts_of
from steel_data.selection.candidates import View

I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]
_BLOCK = 2**20  # rows moved at once
_IN_MEMORY = 2**26  # bytes of duplicate bands held; more of them wait on disk


@dataclass(frozen=True)
class Plan:
    """The verdicts. `frame` has one row a record, in order of source, file and row:

    source, file, chunk (place in `chunks`), pos (place in the chunk), origin_row, part, id, kind, language, tokens,
    chars, benchmark, item, dose, note, step, reason, witness (row of the frame, or -1), overlap_item; `written` copies;
    `rating` where a source selects.
    `record` and `copy` (U entries) are the mixture in output order. `selections`: of the sources that select.
    """

    frame: pl.DataFrame
    chunks: tuple[tuple[int, MappedChunk], ...]
    record: I64
    copy: I64
    selections: dict[str, Selection] = field(default_factory=dict)

    @property
    def first_rows(self) -> I64:
        """The first row of each chunk, and the number of all rows."""
        return _first_rows(self.chunks)

    def of(self, source: int) -> pl.DataFrame:
        """Return the rows of a source: they lie side by side, and nothing is copied."""
        before = sum(chunk.rows for s, chunk in self.chunks if s < source)
        return self.frame.slice(before, sum(chunk.rows for s, chunk in self.chunks if s == source))

    def read(self, rows: I64, view: View) -> Iterator[tuple[I64, list[Any]]]:
        """Yield, chunk by chunk, which of some rows lie in it, and the `view` of their records."""
        chunk_R, pos_R = self.frame["chunk"].to_numpy()[rows], self.frame["pos"].to_numpy()[rows]
        return _viewed(self.chunks, chunk_R, pos_R, view)

    def texts(self, rows: npt.NDArray[Any]) -> list[str]:
        """Return the texts of some rows of the frame, in the order asked; each chunk is read once."""
        chunk_R, pos_R = self.frame["chunk"].to_numpy()[rows], self.frame["pos"].to_numpy()[rows]
        return texts_at(self.chunks, chunk_R, pos_R, texts_of)


def decide(recipe: Recipe, sources: Sequence[MappedSource], workers: int = 1) -> Plan:
    """Run the plan pass, which takes away the sources' narrow columns; duplicates are sorted on `workers` threads.

    Raises InputError where more is asked for than there is.
    """
    chunks = [(s, chunk) for s, source in enumerate(sources) for chunk in source.chunks]
    if not chunks:
        files = [file for source in sources for file in source.files]
        raise InputError(
            f"{recipe.path}: its inputs hold no rows: {excerpt(', '.join(files), 200)}. Fix: files with rows."
        )
    narrow = [part for source in sources for part in source.narrow]
    for source in sources:
        source.narrow.clear()
    first = _first_rows(chunks)
    verdicts = _Verdicts(int(first[-1]))
    for start, part in zip(first[:-1].tolist(), narrow, strict=True):
        verdicts.add(start, part.select("step", "reason"))
    frame = _joined(chunks, narrow)
    table = _Table(frame, sources, chunks, verdicts, workers)
    for s, source in enumerate(sources):
        for step in source.job.steps:
            if step.compares == "benchmarks":
                table.decontaminate(s, step)
    for s, source in enumerate(sources):
        for step in source.job.steps:
            if step.compares == "rows" and step not in recipe.filters:
                table.drop_duplicates(step, table.source == s)
    for step in recipe.filters:
        if step.compares == "rows":
            table.drop_duplicates(step, np.ones(len(frame), bool))
    record, copy, selections = select(recipe, sources, frame, table.verdicts.kept, table.read)
    steps, reasons = table.verdicts.words()
    item = np.full(len(frame), -1, np.int32)
    item[list(table.items)] = np.arange(len(table.items))
    frame = frame.with_columns(
        step=steps,
        reason=reasons,
        witness=pl.Series(table.witness),
        overlap_item=_words(list(table.items.values()), item),
        written=pl.Series(np.bincount(record, minlength=len(frame)).astype(np.int32)).shrink_dtype(),
    )
    if selections:
        frame = frame.with_columns(rating=_ratings(len(frame), selections.values()))
    return Plan(frame, tuple(chunks), record, copy, selections)


def _first_rows(chunks: Sequence[tuple[int, MappedChunk]]) -> I64:
    """Return the first row of each chunk, and the number of all rows."""
    return np.cumsum([0, *(chunk.rows for _, chunk in chunks)])


def _ratings(rows: int, selections: Iterable[Selection]) -> pl.Series:
    """Return the rating by which each row was selected or not; null where there is none."""
    rating = np.full(rows, np.nan)
    for selection in selections:
        rating[selection.rows_R] = selection.chosen.rating_R
    return pl.Series(rating).fill_nan(None)


def _words(words: list[str], code: npt.NDArray[Any]) -> pl.Series:
    """Return words[code] for each code, null for -1; of few words a row takes a byte."""
    table = pl.Series([*words, None], dtype=pl.Enum(sorted(set(words))))
    return table.gather(np.where(code < 0, len(words), code).astype(np.uint32))


def _joined(chunks: Sequence[tuple[int, MappedChunk]], narrow: list[pl.DataFrame]) -> pl.DataFrame:
    """Return the chunks' narrow columns (but the verdicts) one after another, and their places, in the smallest types.

    Column by column, and what has been joined is let go of: never all of it twice in memory.
    """
    columns = [dict(zip(part.columns, part.get_columns(), strict=True)) for part in narrow]
    sizes = [len(part) for part in narrow]
    narrow.clear()
    joined = []
    for name in [name for name in columns[0] if name not in ("step", "reason")]:
        pieces = [column.pop(name) for column in columns]
        if pieces[0].dtype == pl.Categorical:
            words = pl.Enum(sorted({word for piece in pieces for word in piece.unique().drop_nulls()}))
            pieces = [piece.cast(words) for piece in pieces]
        whole = pl.concat(pieces, rechunk=True)
        joined.append((whole.shrink_dtype() if whole.dtype in (pl.Int64, pl.Int32) else whole).alias(name))
    source, file = [s for s, _ in chunks], [chunk.file for _, chunk in chunks]
    for name, values in (("source", source), ("file", file), ("chunk", range(len(chunks)))):
        joined.append(pl.Series(name, np.repeat(_small(values), sizes)))
    joined.append(pl.Series("pos", np.concatenate([_small(range(size), max(sizes)) for size in sizes])))
    return pl.DataFrame(joined)


def _small(values: Sequence[int], largest: int | None = None) -> npt.NDArray[np.unsignedinteger[Any]]:
    """Return numbers in the smallest type that holds the largest of them, or another."""
    return np.array(values, np.min_scalar_type(max(values, default=0) if largest is None else largest))


class _Verdicts:
    """Which step drops each row, and why: a number of 16 bits a row, -1 for none, and the words of each number."""

    def __init__(self, rows: int) -> None:
        self._number: dict[tuple[str, str], int] = {}
        self._verdict_R: npt.NDArray[np.signedinteger[Any]] = np.full(rows, -1, np.int16)

    def add(self, start: int, told: pl.DataFrame) -> None:
        """Note the steps and reasons that a chunk's rows, from `start` on, were told in the map pass."""
        lost = told.with_row_index("row").drop_nulls("reason").group_by("step", "reason").agg("row")
        for step, reason, rows in lost.iter_rows():
            self.drop(start + np.array(rows, np.int64), step, reason)

    def drop(self, rows: I64 | int, step: str, reason: str) -> None:
        """Note the verdict on some rows."""
        number = self._number.setdefault((step, reason), len(self._number))
        if number == 2**15:
            self._verdict_R = self._verdict_R.astype(np.int32)
        self._verdict_R[rows] = number

    @property
    def kept(self) -> Bool:
        """Rows that no step has dropped so far."""
        return self._verdict_R < 0

    def kept_among(self, first: int, end: int) -> Bool:
        """Return the same of some rows that lie side by side."""
        return self._verdict_R[first:end] < 0

    def words(self) -> tuple[pl.Series, pl.Series]:
        """Return step and reason of each row; null where it is kept."""
        told = list(self._number)
        steps, reasons = ([pair[i] for pair in told] for i in range(2))
        return _words(steps, self._verdict_R), _words(reasons, self._verdict_R)


class _Table:
    """What changes while decisions fall: verdicts, the items that rows hold, the rows that they repeat."""

    def __init__(
        self,
        frame: pl.DataFrame,
        sources: Sequence[MappedSource],
        chunks: Sequence[tuple[int, MappedChunk]],
        verdicts: _Verdicts,
        workers: int,
    ) -> None:
        self.frame, self.sources, self.chunks, self.verdicts, self.workers = frame, sources, chunks, verdicts, workers
        self.items: dict[int, str] = {}
        self.witness = np.full(len(frame), -1, rows_kind(len(frame)))
        self.source = frame["source"].to_numpy()
        self.chunk = frame["chunk"].to_numpy()
        self.pos = frame["pos"].to_numpy()
        self.injected = (frame["kind"] == "injected").fill_null(False).to_numpy()
        self.start = _first_rows(chunks)

    def attribute(self, name: str, columns: list[str], rows: I64) -> Iterator[tuple[I64, pl.DataFrame]]:
        """Yield, chunk by chunk, which of some rows lie in it, and columns of an attribute for them."""
        for place, mine in by_chunk(self.chunk[rows]):
            stage = self.chunks[place][1].stages[-1]
            yield mine, read_columns(stage.attributes[name], columns)[self.pos[rows[mine]]]

    def decontaminate(self, s: int, step: Filter) -> None:
        """Drop the rows of a source that hold an item of a benchmark."""
        name = overlap_name(tuple(step.settings.benchmarks))
        for place, (source, chunk) in enumerate(self.chunks):
            if source != s:
                continue
            found = read_columns(chunk.stages[-1].attributes[name])
            why = found.select(step.settings.verdict().alias("why"), "overlap_item")
            first, end = self.start[place : place + 2].tolist()
            hit = why["why"].is_not_null().to_numpy() & ~self.injected[first:end] & self.verdicts.kept_among(first, end)
            rows = first + np.flatnonzero(hit)
            for row, (reason, item) in zip(rows.tolist(), why.filter(hit).iter_rows(), strict=True):
                self.verdicts.drop(row, step.use, reason)
                self.items[row] = item

    def drop_duplicates(self, step: Filter, scope: Bool) -> None:
        """Drop the duplicates among the kept rows of `scope`; only a row that is still kept may win a cluster."""
        open_rows = np.flatnonzero(scope & self.verdicts.kept & ~self.injected).astype(self.witness.dtype)
        rows = self._best_first(open_rows, step.settings.keep)
        del open_rows
        if not len(rows):
            return
        on = step.settings.on
        exact = np.zeros(len(rows), np.uint64)
        for mine, found in self.attribute(dedup_name(on), ["exact"], rows):
            exact[mine] = found["exact"].to_numpy()
        if not exact.all():  # rows in which there is nothing to compare are not alike
            rows, exact = rows[exact != 0], exact[exact != 0]
        winner = dedup.exact_winners(exact)
        del exact
        self._mark(rows, winner, step.use, "dedup:exact")
        if not step.settings.near:
            return
        rows = rows[winner == np.arange(len(rows), dtype=winner.dtype)]
        del winner
        cache = self.sources[0].job.cache
        with _Aside(len(rows), cache) as aside, SpooledTemporaryFile(_IN_MEMORY, dir=str(cache)) as texts:
            for mine, found in self.attribute(dedup_name(on), dedup.NEAR_KEYS, rows):
                aside.put(mine, found)
            winner = dedup.near_winners(
                aside.column,
                lambda some: self._compared(rows[some], on, texts),
                len(rows),
                step.settings.threshold,
                self.workers,
            )
        self._mark(rows, winner, step.use, "dedup:near")

    def _best_first(self, rows: I64, keep: str | list[str]) -> I64:
        """Return rows in the order in which they win a cluster."""
        if keep == "longest":
            return rows[np.argsort(-self.frame["chars"].to_numpy()[rows].astype(np.int64), kind="stable")]
        if isinstance(keep, list):
            place = {name: i for i, name in reversed(list(enumerate(keep)))}
            rank = np.array([place.get(source.name, len(place)) for source in self.sources])
            return rows[np.argsort(rank[self.source[rows]], kind="stable")]
        return rows

    def _mark(self, rows: I64, winner: I64, step: str, reason: str) -> None:
        lost = np.flatnonzero(winner != np.arange(len(rows), dtype=winner.dtype))
        self.verdicts.drop(rows[lost], step, reason)
        self.witness[rows[lost]] = rows[winner[lost]]

    def read(self, rows: I64, view: View) -> Iterator[tuple[I64, list[Any]]]:
        """Yield, chunk by chunk, which of some rows lie in it, and the `view` of their records."""
        return _viewed(self.chunks, self.chunk[rows], self.pos[rows], view)

    def _compared(self, rows: I64, on: str, file: IO[bytes]) -> Sequence[str]:
        """Return what duplicates are told by of some rows, in the order asked, kept in `file`; a chunk is read once."""
        texts = _Texts(file, len(rows))
        for place, mine in by_chunk(self.chunk[rows]):
            records = read_records(self.chunks[place][1].stages[-1].records, ["messages", "tools"])
            texts.put(mine, compared_of(records[self.pos[rows[mine]].tolist()], on, TURN))
        return texts


def texts_at(
    chunks: Sequence[tuple[int, MappedChunk]],
    chunk_R: npt.NDArray[Any],
    pos_R: npt.NDArray[Any],
    view: Callable[[pl.DataFrame], list[str]],
) -> list[str]:
    """Return the `view` of R rows, in the order asked; each chunk is read once.

    `chunk_R` and `pos_R`: of each row its chunk's place in `chunks` and its own place in the chunk.
    """
    out = [""] * len(chunk_R)
    for mine, texts in _viewed(chunks, chunk_R, pos_R, view):
        for where, text in zip(mine.tolist(), texts, strict=True):
            out[where] = text
    return out


def _viewed(
    chunks: Sequence[tuple[int, MappedChunk]], chunk_R: npt.NDArray[Any], pos_R: npt.NDArray[Any], view: View
) -> Iterator[tuple[I64, list[Any]]]:
    for place, mine in by_chunk(chunk_R):
        records = read_records(chunks[place][1].stages[-1].records, ["messages", "tools", "meta"])
        yield mine, view(records[pos_R[mine].tolist()])


def by_chunk(chunk_R: npt.NDArray[Any]) -> Iterator[tuple[int, I64]]:
    """Yield each chunk that some rows lie in, ascending, and which of the R rows those are."""
    if not len(chunk_R):
        return
    straight = bool((chunk_R[1:] >= chunk_R[:-1]).all())  # as nearly always: then nothing is sorted
    order = None if straight else np.argsort(chunk_R, kind="stable")
    sorted_R = chunk_R if order is None else chunk_R[order]
    borders = [0, *(np.flatnonzero(sorted_R[1:] != sorted_R[:-1]) + 1).tolist(), len(chunk_R)]
    for start, end in pairwise(borders):
        yield int(sorted_R[start]), np.arange(start, end) if order is None else order[start:end]


class _Texts(Sequence[str]):
    """The texts of R rows, put into a file piece by piece and read one by one."""

    def __init__(self, file: IO[bytes], rows: int) -> None:
        self._file = file
        self._start_R, self._size_R = np.zeros(rows, np.int64), np.zeros(rows, np.int64)

    def put(self, rows: I64, texts: list[str]) -> None:
        """Put the texts of some rows, by their places among the R."""
        held = [text.encode() for text in texts]
        at = self._file.seek(0, SEEK_END)
        size = np.array([len(text) for text in held], np.int64)
        self._start_R[rows], self._size_R[rows] = at + np.cumsum(size) - size, size
        self._file.write(b"".join(held))

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        """Return the text of a row, or of some."""
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        self._file.seek(int(self._start_R[row]))
        return self._file.read(int(self._size_R[row])).decode()  # a row beyond the last has raised IndexError

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self._start_R)


class _Aside:
    """Columns of R rows, put aside piece by piece and read one by one.

    All duplicate bands of five million rows would be half a gigabyte: beyond _IN_MEMORY they wait in a file.
    """

    def __init__(self, rows: int, folder: Path) -> None:
        self._file = SpooledTemporaryFile(_IN_MEMORY, dir=str(folder))  # noqa: SIM115 (closed by __exit__)
        self._kinds: dict[str, np.dtype[Any]] = {}
        self._order_R, self._filled = np.zeros(rows, rows_kind(rows)), 0
        self._one_at_a_time = Lock()

    def __enter__(self) -> "_Aside":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def put(self, rows: I64, frame: pl.DataFrame) -> None:
        """Put the columns of the next rows aside; `rows` are their places among the R."""
        for column in frame:
            values = column.to_numpy()
            self._kinds.setdefault(column.name, values.dtype)
            self._seek(column.name, self._filled)
            self._file.write(values.tobytes())
        self._order_R[self._filled : self._filled + len(rows)] = rows
        self._filled += len(rows)

    def column(self, name: str) -> npt.NDArray[Any]:
        """Return one column of all rows, in the order of their places; several threads may ask."""
        kind = self._kinds[name]
        values = np.empty(len(self._order_R), kind)
        with self._one_at_a_time:
            self._seek(name, 0)
            for start in range(0, len(values), _BLOCK):
                mine = self._order_R[start : start + _BLOCK]
                values[mine] = np.frombuffer(self._file.read(len(mine) * kind.itemsize), kind)
        return values

    def _seek(self, name: str, row: int) -> None:
        number = list(self._kinds).index(name)
        self._file.seek(number * len(self._order_R) * 8 + row * self._kinds[name].itemsize)
