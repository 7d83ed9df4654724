"""The second pass: on narrow columns only, decide for every record its place in the output, or what drops it and why.

Order of decisions: the steps that look at one row (told by the map pass), decontamination, exact and near duplicates
among the survivors, then what select.py does: `take`, budget and language targets, repeats, order.

Legend of array suffixes: _R one entry a row.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from os import SEEK_END
from pathlib import Path
from tempfile import SpooledTemporaryFile
from threading import Lock
from typing import IO, Any, overload

import numpy as np
import numpy.typing as npt
import polars as pl

from steel_data.benchmarks.index import TURN
from steel_data.engine import Executor, Local, in_threads, release, threads
from steel_data.errors import InputError, excerpt
from steel_data.filters import dedup
from steel_data.filters.dedup import Rows
from steel_data.passes.attributes import dedup_name, overlap_name
from steel_data.passes.map import MappedChunk, MappedSource
from steel_data.passes.rows import InChunk, PlannedRows, by_chunk, true_rows
from steel_data.passes.select import Selection, select
from steel_data.recipe.load import Recipe
from steel_data.recipe.steps import Filter
from steel_data.row.table import compared_of, read_columns, read_records, texts_of
from steel_data.selection.candidates import View

I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]
_BLOCK = 2**20  # rows moved at once
_HANDED_OVER = 2**20  # rows from which a machine gets a band faster than it is looked through here
_BANDS_AT_ONCE = 5  # handed over: what is found in them is all in memory
_IN_MEMORY = 2**24  # bytes of duplicate bands, and of texts that are compared, held; more of them wait on disk


@dataclass(frozen=True)
class Plan:
    """The verdicts: `rows` of all chunks, in order of source, file and row.

    `record` (numbers of rows) and `copy` (U entries) are the mixture in output order. `selections`: of the sources that
    select.
    """

    rows: PlannedRows
    record: Rows
    copy: npt.NDArray[np.integer[Any]]
    selections: dict[str, Selection] = field(default_factory=dict)

    @cached_property
    def frame(self) -> pl.DataFrame:
        """All columns of all rows, for those who look at a plan: three times as large as `rows`."""
        return self.rows.columns(0, len(self.rows))

    @property
    def chunks(self) -> tuple[tuple[int, MappedChunk], ...]:
        """The chunks of all sources, each with its source's number."""
        return self.rows.chunks

    def read(self, rows: I64, view: View) -> Iterator[tuple[I64, list[Any]]]:
        """Yield, chunk by chunk, which of some rows lie in it, and the `view` of their records."""
        return self.rows.read(rows, view)

    def texts(self, rows: npt.NDArray[Any]) -> list[str]:
        """Return the texts of some rows, in the order asked; each chunk is read once."""
        return self.rows.texts(rows, texts_of)


def decide(recipe: Recipe, sources: Sequence[MappedSource], executor: Executor | None = None) -> Plan:
    """Run the plan pass, which takes away the sources' narrow columns.

    executor: duplicates are looked for on as many threads as it has workers here (one, without it); of many rows the
    bands by tasks, where its workers are on other machines. Raises InputError where more is asked for than there is.
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
    rows = PlannedRows(chunks, narrow)
    table = _Table(rows, sources, executor or Local())
    for s, source in enumerate(sources):
        for step in source.job.steps:
            if step.compares == "benchmarks":
                table.decontaminate(s, step)
    own = [(step, s) for s, source in enumerate(sources) for step in source.job.steps if step not in recipe.filters]
    with rows.without_ids(sources[0].job.cache):
        for step, s in own:
            if step.compares == "rows":
                table.drop_duplicates(step, *rows.span(s))
        for step in recipe.filters:
            if step.compares == "rows":
                table.drop_duplicates(step, 0, len(rows))
    record, copy, selections = select(recipe, sources, rows)
    rows.write(record, copy)
    release()
    rows.rate((selection.rows_R, selection.chosen.rating_R) for selection in selections.values())
    return Plan(rows, record, copy, selections)


class _Table:
    """What changes the verdicts: items that rows hold, rows that they repeat."""

    def __init__(self, rows: PlannedRows, sources: Sequence[MappedSource], executor: Executor) -> None:
        self.rows, self.sources, self.executor = rows, sources, executor
        self.workers = threads(executor)
        self.injected = rows.injected()

    def decontaminate(self, s: int, step: Filter) -> None:
        """Drop the rows of a source that hold an item of a benchmark."""
        name = overlap_name(tuple(step.settings.benchmarks))
        lost: list[pl.DataFrame] = []
        for place, (source, chunk) in enumerate(self.rows.chunks):
            if source != s:
                continue
            found = read_columns(chunk.stages[-1].attributes[name])
            why = found.select(step.settings.verdict().alias("why"), "overlap_item")
            first, last = self.rows.first_C[place : place + 2].tolist()
            open_rows = ~self.injected[first:last] & self.rows.verdicts.kept(first, last)
            hit = open_rows & why["why"].is_not_null().to_numpy()
            if hit.any():
                lost.append(why.filter(hit).with_columns(row=first + np.flatnonzero(hit)))
        for (reason,), told in pl.concat(lost).group_by("why") if lost else ():
            self.rows.verdicts.drop(told["row"].to_numpy(), step.use, str(reason))
            self.rows.few["overlap_item"].put(told["row"].to_numpy(), told["overlap_item"])

    def drop_duplicates(self, step: Filter, first: int, last: int) -> None:
        """Drop the duplicates among the kept rows from `first` to `last`; only a row still kept may win a cluster."""
        rows = self._best_first(first, last, step.settings.keep)
        if not len(rows):
            return
        on = step.settings.on
        exact = np.zeros(len(rows), np.uint64)
        for mine, found in self._keys(dedup_name(on), rows).read(["exact"], self.workers):
            exact[mine] = found["exact"].to_numpy()
        if not exact.all():  # rows in which there is nothing to compare are not alike
            rows, exact = rows[exact != 0], exact[exact != 0]
        winner = dedup.exact_winners(exact)
        del exact
        rows = self._mark(rows, winner, step.use, "dedup:exact")
        del winner
        release()
        if step.settings.near:
            self._mark(rows, self._near_winners(rows, step), step.use, "dedup:near")

    def _near_winners(self, rows: Rows, step: Filter) -> Rows:
        on, cache = step.settings.on, self.sources[0].job.cache
        keys = self._keys(dedup_name(on), rows)
        handed_over = self._handed_over(keys)
        here = dedup.BITS if handed_over else dedup.NEAR_KEYS
        with _Aside(len(rows), cache) as aside, SpooledTemporaryFile(_IN_MEMORY, dir=str(cache)) as texts:
            for mine, found in keys.read(here, self.workers):
                aside.put(mine, found)
            release()
            return dedup.near_winners(
                aside.column,
                lambda some: self._compared(rows[some], on, texts),
                len(rows),
                step.settings.threshold,
                self.workers,
                handed_over,
            )

    def _handed_over(self, keys: "_Keys") -> dedup.OverBands | None:
        """Return what looks through the bands of some keys in tasks; None: this process had better do it."""
        if isinstance(self.executor, Local) or len(keys.rows) < _HANDED_OVER:
            return None

        def over(look: Callable[[int, Any, Any], Any]) -> Iterator[Any]:
            for first in range(0, dedup.BANDS, _BANDS_AT_ONCE):
                bands = range(first, min(first + _BANDS_AT_ONCE, dedup.BANDS))
                yield from self.executor.map(partial(_look_through, keys, look), bands)

        return over

    def _keys(self, name: str, rows: Rows) -> "_Keys":
        """Return where an attribute of some rows stands; a source without the step has none."""
        held = [chunk.stages[-1].attributes for _, chunk in self.rows.chunks]
        return _Keys(rows, self.rows.first_C, {c: of_C[name] for c, of_C in enumerate(held) if name in of_C})

    def _best_first(self, first: int, last: int, keep: str | list[str]) -> Rows:
        """Return the rows that may be duplicates in the order in which they win a cluster."""
        open_rows = self.rows.verdicts.kept(first, last) & ~self.injected[first:last]
        rows = true_rows(open_rows, first, self.rows.kind)
        if keep == "longest":
            rank = -self.rows.at(rows, "chars")["chars"].to_numpy().astype(np.int64)
        elif isinstance(keep, list):
            place = {name: i for i, name in reversed(list(enumerate(keep)))}
            rank_S = np.array([place.get(source.name, len(place)) for source in self.sources])
            rank = rank_S[self.rows.column("source", first, last).to_numpy()[rows - first]]
        else:
            return rows
        best: Rows = rows[np.argsort(rank, kind="stable")]
        return best

    def _mark(self, rows: Rows, winner: Rows, step: str, reason: str) -> Rows:
        """Drop the rows that are not their own winner, and return the others."""
        stays = winner == np.arange(len(rows), dtype=winner.dtype)
        lost = np.flatnonzero(~stays)
        self.rows.verdicts.drop(rows[lost], step, reason)
        self.rows.few["witness"].put(rows[lost], pl.Series(rows[winner[lost]]))
        left: Rows = rows[stays]
        return left

    def _compared(self, rows: Rows, on: str, file: IO[bytes]) -> Sequence[str]:
        """Return what duplicates are told by of some rows, in the order asked, kept in `file`; a chunk is read once."""
        release()
        texts = _Texts(file, len(rows))

        def read(some: InChunk) -> tuple[I64, list[str]]:
            records = read_records(self.rows.chunks[some.chunk][1].stages[-1].records, ["messages", "tools"])
            return some.mine, compared_of(records[some.pos], on, TURN)

        for mine, found in in_threads(read, self.rows.by_chunk(rows), self.workers):
            texts.put(mine, found)
        release()
        return texts


@dataclass(frozen=True)
class _Keys:
    """Where the keys of some rows stand: the files of their chunks, by number; the chunks' first rows are first_C."""

    rows: Rows
    first_C: I64
    places: Mapping[int, Path]

    def read(self, columns: list[str], workers: int = 1) -> Iterator[tuple[I64, pl.DataFrame]]:
        """Yield, chunk by chunk, which of the rows lie in it, and columns of their keys."""

        def of_chunk(some: InChunk) -> tuple[I64, pl.DataFrame]:
            return some.mine, read_columns(self.places[some.chunk], columns)[some.pos]

        return in_threads(of_chunk, by_chunk(self.rows, self.first_C), workers)


def _look_through(keys: _Keys, look: Callable[[int, Any, Any], Any], band: int) -> Any:
    """Look through one band, on whatever machine this is."""
    key, bits = np.empty(len(keys.rows), np.uint32), np.empty(len(keys.rows), np.uint64)
    name = dedup.band_name(band)
    for mine, found in keys.read([name, dedup.BITS[0]]):
        key[mine], bits[mine] = found[name].to_numpy(), found[dedup.BITS[0]].to_numpy()
    return look(band, key, bits)


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
    """Columns of R rows, put aside piece by piece and read one by one, also by several threads.

    All duplicate bands of five million rows would be half a gigabyte: beyond _IN_MEMORY they wait in a file.
    """

    def __init__(self, rows: int, folder: Path) -> None:
        self._file = SpooledTemporaryFile(_IN_MEMORY, dir=str(folder))  # noqa: SIM115 (closed by __exit__)
        self._kinds: dict[str, np.dtype[Any]] = {}
        self._rows, self._filled = rows, 0
        self._order_R: Rows | None = None  # of what has been put, the places; None while they count up
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
            self._file.write(np.ascontiguousarray(values).view(np.uint8).data)
        end = self._filled + len(rows)
        if self._order_R is None and not np.array_equal(rows, np.arange(self._filled, end)):
            self._order_R = np.arange(self._rows, dtype=dedup.rows_kind(self._rows))
        if self._order_R is not None:
            self._order_R[self._filled : end] = rows
        self._filled = end

    def column(self, name: str) -> npt.NDArray[Any]:
        """Return one column of all rows, in the order of their places."""
        kind = self._kinds[name]
        values = np.empty(self._rows, kind)
        with self._one_at_a_time:
            self._seek(name, 0)
            for start in range(0, self._rows, _BLOCK):
                end = min(start + _BLOCK, self._rows)
                held = np.frombuffer(self._file.read((end - start) * kind.itemsize), kind)
                values[slice(start, end) if self._order_R is None else self._order_R[start:end]] = held
        return values

    def _seek(self, name: str, row: int) -> None:
        number = list(self._kinds).index(name)
        self._file.seek(number * self._rows * 8 + row * self._kinds[name].itemsize)
