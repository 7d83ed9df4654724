"""The third pass: write the mixture in order, shard by shard, and every dropped row with its reason and witness.

Two rounds of tasks. The first reads each chunk once: its kept rows, its dropped rows and the texts that dropped rows
repeat are put aside by the file that they belong to. The second sorts and writes each file. polars and pyarrow do
nearly all of it and let go of the interpreter, so the workers of this machine are threads, which also share one file's
row groups. Memory is bounded by what waits to be put aside, and by one file (at most SHARD_ROWS rows or SHARD_CHARS
characters) a worker.

Legend of array suffixes: _U one entry a unit (a copy of a kept row), _D one a dropped row, _C one a chunk.
"""

import hashlib
import math
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.parquet as pq

from steel_data.engine import Executor, Local, in_threads, progress, release, threads
from steel_data.errors import InputError
from steel_data.files import sha256_of
from steel_data.mixture.schema import Shape, to_arrow
from steel_data.passes.language_check import Drawn, LanguageCheck, Pairs, compared
from steel_data.passes.map import MappedSource
from steel_data.passes.plan import Plan
from steel_data.passes.rows import small, true_rows
from steel_data.row.record import EXTRA_KEYS, FORMS
from steel_data.row.table import id_column, read_columns, read_records, texts_of
from steel_data.row.text import I64, distinct, with_places

SHARD_ROWS = 100_000
SHARD_CHARS = 200_000_000
ROW_GROUP = 10_000
_FLUSH_ROWS = 100_000
_WAITING = 2**28  # bytes of rows that wait in memory for being put aside, of all workers
_UNFOLDED = 8  # times as large as on disk are the rows of a file while it is written: unpacked, sorted, decoded
_EVIDENCE = 2_000  # characters of a witness kept in dropped/
_COLUMNS = [
    "id", "messages", "tools", "kind", "origin_row", "benchmark", "item", "dose", "chars", "meta", "error", "language",
]  # fmt: skip
Pile = Literal["train", "dropped", "witness"]
Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Gathered:
    """What was written: files with rows and checksums, in order."""

    train: dict[str, dict[str, Any]]
    dropped: dict[str, dict[str, Any]]
    content_sha256: str


def gather(
    plan: Plan,
    sources: tuple[MappedSource, ...],
    folder: Path,
    executor: Executor,
    item_texts: Callable[[list[str]], list[str]],
    check: LanguageCheck,
) -> Gathered:
    """Write `train-*.parquet` and `dropped/part-*.parquet` into `folder`.

    `item_texts` gives the texts of benchmark items by name; `check` is told what fastText says of the rows that it has
    drawn. Raises InputError for rows that no trainer takes together.
    """
    workers, form = threads(executor), _form(plan)
    bound = executor.memory if isinstance(executor, Local) else None
    waiting = (_WAITING if bound is None else min(_WAITING, bound // 10)) // workers
    sorting = _Sorting(plan, sources, check, item_texts)
    aside = folder / ".aside"
    aside.mkdir()
    extras: set[str] = set()
    pieces: dict[tuple[Pile, int], list[_Piece]] = {}
    with progress("gather", len(plan.rows)) as advance:

        def look(done: _SortedOut) -> None:
            advance(done.rows)
            check.add(done.pairs)
            extras.update(done.extras)
            for piece in done.pieces:
                pieces.setdefault((piece.pile, piece.file), []).append(piece)

        _round(executor, _sort_out, sorting.tasks(aside, waiting), look)
    rated = "rating" in plan.rows.names
    shape = Shape(form, tuple(k for k in EXTRA_KEYS if k in extras), "tools" in extras, rated)
    (folder / "dropped").mkdir()
    tasks = list(sorting.files(folder, shape, pieces))
    del sorting
    release()
    written: list[dict[str, Any]] = []
    write = partial(_write_file, workers, None if bound is None else bound // 10 // workers)
    with ThreadPoolExecutor(1) as beside, progress("write", len(tasks), "files") as advance:
        digest = beside.submit(_content_sha256, plan, sources) if workers > 1 else None

        def keep(entry: dict[str, Any]) -> None:
            written.append(entry)
            advance(1)

        _round(executor, write if isinstance(executor, Local) else partial(_write_file, 1, None), tasks, keep)
        content_sha256 = _content_sha256(plan, sources) if digest is None else digest.result()
    shutil.rmtree(aside, ignore_errors=True)
    entries: dict[Pile, dict[str, dict[str, Any]]] = {"train": {}, "dropped": {}}
    for task, entry in zip(tasks, written, strict=True):
        entries[task.pile][task.target.relative_to(folder).as_posix()] = entry
    return Gathered(entries["train"], entries["dropped"], content_sha256)


def _round(
    executor: Executor, function: Callable[[Task], Result], tasks: Iterable[Task], on_done: Callable[[Result], None]
) -> None:
    """Run one round of tasks: on threads of this process where the executor's workers are this machine's."""
    if isinstance(executor, Local):
        for result in in_threads(function, tasks, executor.workers):
            on_done(result)
    else:
        executor.map(function, tasks, on_done)


def _form(plan: Plan) -> str:
    """Return the form of the mixture's rows, a name of FORMS. Raises InputError where there would be several."""
    kinds = plan.rows.kinds()
    form = next((form for form in FORMS if form in kinds), "messages")
    if form in kinds and len(kinds) > 1:
        others = ", ".join(sorted(kinds - {form}))
        raise InputError(
            f"this recipe makes {form} rows and {others} rows, which no trainer takes together. "
            "Fix: one recipe for each."
        )
    return form


# The first round: chunk -> pieces of the files


@dataclass(frozen=True)
class _Chunk:
    """What goes where of one chunk: `kept`, `lost` and `witness` have a line for each, `pos` being the chunk's row.

    kept: copy, position in the mixture, file. lost: step, reason, what it repeats, position, file. witness: the row's
    number, and the file that shows its text.
    """

    source: str
    file: str
    records: Path
    language: Path
    kept: pl.DataFrame
    lost: pl.DataFrame
    witness: pl.DataFrame
    rating: pl.Series | None
    drawn: Drawn


@dataclass(frozen=True)
class _SortTask:
    """Some chunks, whose rows are put aside in `folder`; at most about `waiting` bytes of them wait in memory."""

    number: int
    chunks: tuple[_Chunk, ...]
    folder: Path
    waiting: int

    def __str__(self) -> str:
        """Name the task for people."""
        return f"the rows of {self.chunks[0].file} on their way to the mixture"


@dataclass(frozen=True)
class _Piece:
    """Rows of one file of the mixture, put aside: where they lie, as a file of Arrow inside a file."""

    pile: Pile
    file: int
    path: Path
    start: int
    size: int

    def read(self) -> pl.DataFrame:
        """Return the rows."""
        with self.path.open("rb") as held:
            held.seek(self.start)
            return pl.read_ipc(BytesIO(held.read(self.size)))


@dataclass(frozen=True)
class _SortedOut:
    """What a task of the first round has found: rows looked at, extras in them, languages compared, pieces."""

    rows: int
    extras: set[str]
    pairs: Pairs
    pieces: list[_Piece]


class _Sorting:
    """Where each row goes: kept rows to shards, dropped ones and the rows that they repeat to files of dropped/."""

    def __init__(
        self, plan: Plan, sources: tuple[MappedSource, ...], check: LanguageCheck,
        item_texts: Callable[[list[str]], list[str]],
    ) -> None:  # fmt: skip
        self._plan, self._sources, self._check, self._item_texts = plan, sources, check, item_texts
        self._dropped, self._first_S = _Dropped(plan), _shards(plan)
        self._order_U = _by_record(plan.record)
        record_U = plan.record[self._order_U]
        self._start_C = np.searchsorted(record_U, plan.rows.first_C.astype(record_U.dtype))

    def tasks(self, folder: Path, waiting: int) -> Iterator[_SortTask]:
        """Yield the tasks of the first round: so many chunks each as hold _FLUSH_ROWS rows."""
        chunks: list[_Chunk] = []
        rows = number = 0
        for place, (_, chunk) in enumerate(self._plan.chunks):
            chunks.append(self._chunk(place))
            rows += chunk.rows
            if rows >= _FLUSH_ROWS or place + 1 == len(self._plan.chunks):
                yield _SortTask(number, tuple(chunks), folder, waiting)
                chunks, rows, number = [], 0, number + 1

    def files(self, folder: Path, shape: Shape, pieces: dict[tuple[Pile, int], list[_Piece]]) -> Iterator["_FileTask"]:
        """Yield the tasks of the second round.

        Without a row there is one file of each pile all the same: a reader finds the columns.
        """
        first_S = [*self._first_S.tolist(), len(self._plan.record)]
        for i, (first, last) in enumerate(pairwise(first_S if len(first_S) > 1 else [0, 0])):
            borders = np.append(np.arange(first, last, ROW_GROUP), last)
            mine = pieces.get(("train", i), [])
            yield _FileTask("train", folder / f"train-{i:05d}.parquet", shape, last - first, borders, mine, [])
        for i in range(self._dropped.parts):
            rows, target = self._dropped.of_part(i), folder / "dropped" / f"part-{i:05d}.parquet"
            borders = np.append(rows[::ROW_GROUP], rows[-1:] + 1)
            mine, witnesses = pieces.get(("dropped", i), []), pieces.get(("witness", i), [])
            yield _FileTask("dropped", target, shape, len(rows), borders, mine, witnesses)

    def _chunk(self, place: int) -> _Chunk:
        plan, first = self._plan, int(self._plan.rows.first_C[place])
        s, chunk = plan.chunks[place]
        stage = chunk.stages[-1]
        units = self._order_U[self._start_C[place] : self._start_C[place + 1]]
        shard = np.searchsorted(self._first_S, units, side="right") - 1
        witness, part = self._dropped.witnesses(place)
        last = first + chunk.rows
        return _Chunk(
            source=self._sources[s].name,
            file=self._sources[s].files[chunk.file],
            records=stage.records,
            language=stage.attributes["language"],
            kept=pl.DataFrame({
                "pos": plan.record[units] - first, "copy": pl.Series(plan.copy[units], dtype=pl.Int32),
                "position": pl.Series(units, dtype=pl.Int64), "file": pl.Series(shard, dtype=pl.Int32),
            }),
            lost=_verdicts(plan, self._dropped.of(place), first, self._item_texts).with_columns(
                file=pl.lit(int(self._dropped.part_C[place]), pl.Int32)
            ),
            witness=pl.DataFrame({
                "pos": witness - first, "witness_row": witness, "file": pl.Series(part, dtype=pl.Int32),
            }),
            rating=plan.rows.column("rating", first, last) if "rating" in plan.rows.names else None,
            drawn=self._check.drawn(place),
        )  # fmt: skip


def _by_record(record_U: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the units in the order of their records; those of one in their own."""
    return with_places(record_U).view(np.uint32)[::2].astype(record_U.dtype)


def _shards(plan: Plan) -> I64:
    """Return the first unit of each output shard: a new one after SHARD_ROWS rows or SHARD_CHARS characters."""
    chars = plan.rows.column("chars").fill_null(0).to_numpy()
    first_S, start = [], 0
    while start < len(plan.record):
        first_S.append(start)
        reached = np.cumsum(chars[plan.record[start : start + SHARD_ROWS]], dtype=np.int64)
        start += max(int(np.searchsorted(reached, SHARD_CHARS, side="right")), 1)
    return np.array(first_S, np.int64)


class _Dropped:
    """The dropped rows: which file of dropped/ each chunk's go to, and the rows that they repeat."""

    def __init__(self, plan: Plan) -> None:
        first_C = plan.rows.first_C
        self._row_D: I64 = true_rows(~plan.rows.verdicts.kept(), 0, np.int64)
        self._start_C = np.searchsorted(self._row_D, first_C)
        self.part_C = self._parts(np.diff(self._start_C))
        self._part_D = np.repeat(self.part_C, np.diff(self._start_C))
        self.parts = int(self._part_D[-1]) + 1 if len(self._part_D) else 1
        witness_D = plan.rows.at(self._row_D, "witness")["witness"].to_numpy().astype(np.int64)
        told = witness_D >= 0
        pair = distinct(witness_D[told] * self.parts + self._part_D[told])
        self._witness, self._part = pair // self.parts, pair % self.parts
        self._witness_C = np.searchsorted(self._witness, first_C)

    @staticmethod
    def _parts(count_C: I64) -> I64:
        """Return each chunk's file: the next one begins behind the chunk with which _FLUSH_ROWS rows are reached."""
        part_C = np.zeros(len(count_C), np.int64)
        number = size = 0
        for place, count in enumerate(count_C.tolist()):
            part_C[place] = number
            size += count
            if size >= _FLUSH_ROWS:
                number, size = number + 1, 0
        return part_C

    def of(self, place: int) -> I64:
        """Return a chunk's dropped rows."""
        return self._row_D[self._start_C[place] : self._start_C[place + 1]]

    def witnesses(self, place: int) -> tuple[I64, I64]:
        """Return the rows of a chunk that dropped rows repeat, and of each the file that shows its text."""
        mine = slice(self._witness_C[place], self._witness_C[place + 1])
        return self._witness[mine], self._part[mine]

    def of_part(self, part: int) -> I64:
        """Return the dropped rows of a file."""
        first, last = np.searchsorted(self._part_D, [part, part + 1])
        return self._row_D[first:last]


def _verdicts(plan: Plan, lost: I64, first: int, item_texts: Callable[[list[str]], list[str]]) -> pl.DataFrame:
    """Return of dropped rows step, reason and witness; a benchmark's item with its text, of a row its number."""
    verdict = plan.rows.at(lost, "step", "reason", "witness", "overlap_item")
    items, witness = verdict["overlap_item"], verdict["witness"].cast(pl.Int64)
    told = iter(item_texts(items.drop_nulls().to_list()))
    texts = [None if item is None else _cut(next(told)) for item in items]
    ids = id_column(plan.rows.column("id").gather(witness.set(witness < 0, None).cast(pl.UInt32)))
    return pl.DataFrame({
        "pos": lost - first, "copy": pl.repeat(0, len(lost), dtype=pl.Int32, eager=True), "position": pl.Series(lost),
        "step": verdict["step"].cast(pl.String), "reason": verdict["reason"].cast(pl.String), "witness_row": witness,
        "witness_id": items.zip_with(items.is_not_null(), ids), "item_text": pl.Series(texts, dtype=pl.String),
    })  # fmt: skip


def _cut(text: str) -> str:
    return text if len(text) <= _EVIDENCE else text[:_EVIDENCE] + "…"


def _sort_out(task: _SortTask) -> _SortedOut:
    """Read some chunks and put their rows aside."""
    aside = _Aside(task)
    rows, extras, pairs = 0, set(), Pairs()
    for chunk in task.chunks:
        records = read_records(chunk.records, _COLUMNS)
        rows += len(records)
        extras |= _extras(records)
        pairs += compared(chunk.drawn, records)
        if len(chunk.kept) or len(chunk.lost):
            whole = _whole(chunk, records)
            aside.put("train", whole[chunk.kept["pos"]].hstack(chunk.kept.drop("pos")))
            aside.put("dropped", whole[chunk.lost["pos"]].hstack(chunk.lost.drop("pos")))
        if len(chunk.witness):
            texts = [_cut(text) for text in texts_of(records[chunk.witness["pos"]])]
            aside.put("witness", chunk.witness.drop("pos").with_columns(witness_text=pl.Series(texts, dtype=pl.String)))
    aside.flush()
    return _SortedOut(rows, extras, pairs, aside.pieces)


def _extras(records: pl.DataFrame) -> set[str]:
    """Return what the schema must hold for some conversations: extra keys of messages, `tools`."""
    # Inside a JSON string a quote is escaped, so `,"name":` can only be a key, and not a function's, which comes first.
    found = {k for k in EXTRA_KEYS if records["messages"].str.contains(f',"{k}":', literal=True).any()}
    return found | {"tools"} if records["tools"].is_not_null().any() else found


def _whole(chunk: _Chunk, records: pl.DataFrame) -> pl.DataFrame:
    """Return a chunk's records with the mixture's columns."""
    told = records.drop("language").hstack(read_columns(chunk.language))
    if chunk.rating is not None:
        told = told.with_columns(chunk.rating)
    return told.with_columns(source=pl.lit(chunk.source), origin_file=pl.lit(chunk.file))


class _Aside:
    """Rows of a task on their way to the files that they belong to, of which few wait in memory."""

    def __init__(self, task: _SortTask) -> None:
        self._task = task
        self._waiting: dict[Pile, list[pl.DataFrame]] = {}
        self._size, self._flushed = 0.0, 0
        self.pieces: list[_Piece] = []

    def put(self, pile: Pile, rows: pl.DataFrame) -> None:
        """Put rows on a pile; `file` is of each the number of its file."""
        if len(rows):
            self._waiting.setdefault(pile, []).append(rows)
            self._size += rows.estimated_size()
        if self._size >= self._task.waiting:
            self.flush()

    def flush(self) -> None:
        """Write down what waits in memory: a pile is a file, and in it the rows of each file of the mixture a piece."""
        for pile, waiting in self._waiting.items():
            path = self._task.folder / f"{pile}-{self._task.number:06d}-{self._flushed:03d}"
            with path.open("wb") as out:
                for (file,), rows in pl.concat(waiting).group_by("file"):
                    start = out.tell()
                    buffer = BytesIO()
                    rows.drop("file").write_ipc(buffer, compression="lz4")
                    size = out.write(buffer.getbuffer())
                    self.pieces.append(_Piece(pile, int(file), path, start, size))  # type: ignore[call-overload]
        self._flushed += 1
        self._waiting, self._size = {}, 0.0


# The second round: pieces -> one file


@dataclass(frozen=True)
class _FileTask:
    """One file of the mixture, and the pieces that its rows lie in.

    borders: the position of the first row of each row group, and one behind the last row's.
    """

    pile: Pile
    target: Path
    shape: Shape
    rows: int
    borders: I64
    pieces: list[_Piece]
    witnesses: list[_Piece]

    def __str__(self) -> str:
        """Name the task for people."""
        return str(self.target.name)


def _write_file(workers: int, memory: int | None, task: _FileTask) -> dict[str, Any]:
    """Write one file, its row groups decoded on threads of their own; return its rows and checksum.

    memory: bytes to keep to about: then the pieces that were put aside are read again for every few row groups.
    """
    schema = task.shape.schema(dropped=task.pile == "dropped")
    if not task.rows:
        pq.write_table(schema.empty_table(), task.target, compression="zstd")
        return {"rows": 0, "sha256": sha256_of(task.target)}
    groups = len(task.borders) - 1
    size = _UNFOLDED * sum(piece.size for piece in task.pieces)
    times = 1 if memory is None else min(math.ceil(size / memory), groups)
    step = math.ceil(groups / times)
    with pq.ParquetWriter(task.target, schema, compression="zstd") as writer:
        for group in range(0, groups, step):
            rows = _read(task.pieces, *task.borders[[group, min(group + step, groups)]].tolist())
            if task.pile == "dropped":
                rows = _with_witness(rows, task.witnesses)
            for table in in_threads(partial(to_arrow, schema=schema), rows.iter_slices(ROW_GROUP), workers):
                writer.write_table(table, row_group_size=ROW_GROUP)
    return {"rows": task.rows, "sha256": sha256_of(task.target)}


def _read(pieces: list[_Piece], first: int, last: int) -> pl.DataFrame:
    """Return the rows from one position up to another in their order."""
    mine = pl.col("position").is_between(first, last, closed="left")
    return pl.concat([piece.read().filter(mine) for piece in pieces]).sort("position")


def _with_witness(rows: pl.DataFrame, witnesses: list[_Piece]) -> pl.DataFrame:
    """Return dropped rows with the texts that they repeat, or those of benchmarks' items."""
    asked = rows.select("witness_row").unique()
    texts = [piece.read().join(asked, on="witness_row", how="semi") for piece in witnesses]
    none = pl.DataFrame(schema={"witness_row": pl.Int64, "witness_text": pl.String})
    rows = rows.join(pl.concat([none, *texts]), on="witness_row", how="left", maintain_order="left")
    return rows.with_columns(witness_text=pl.coalesce("item_text", "witness_text"))


def _content_sha256(plan: Plan, sources: tuple[MappedSource, ...]) -> str:
    """Return the SHA-256 of the lines `id\\tsource\\tcopy\\n` in output order."""
    digest = hashlib.sha256()
    names = pl.Series([source.name for source in sources], dtype=pl.String)
    ids, source_C = plan.rows.column("id"), small([s for s, _ in plan.chunks])
    for start in range(0, len(plan.record), _FLUSH_ROWS):
        record, copy = plan.record[start : start + _FLUSH_ROWS], plan.copy[start : start + _FLUSH_ROWS]
        chunk = np.searchsorted(plan.rows.first_C, record, side="right") - 1
        told = pl.DataFrame(
            {"id": id_column(ids.gather(record)), "source": names.gather(source_C[chunk]), "copy": copy}
        )
        lines = told.select(pl.concat_str("id", "source", "copy", separator="\t").str.join("\n")).item()
        digest.update(lines.encode() + b"\n")
    return digest.hexdigest()
