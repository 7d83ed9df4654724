"""The third pass: write the mixture in order, shard by shard, and every dropped row with its reason and witness.

The chunks are read once, in input order. Their kept rows, their dropped rows and the texts that dropped rows repeat are
put aside by the file that they belong to; then each file is sorted and written. polars and pyarrow do nearly all of it
and let go of the interpreter, so the workers are threads here, which also share one file's row groups. Memory is
bounded by one file (at most SHARD_ROWS rows or SHARD_CHARS characters) a worker.

Legend of array suffixes: _U one entry a unit (a copy of a kept row), _D one a dropped row, _C one a chunk.
"""

import hashlib
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.parquet as pq

from steel_data.engine import Executor, Local, in_threads, threads
from steel_data.errors import InputError
from steel_data.files import sha256_of
from steel_data.mixture.schema import Shape, to_arrow
from steel_data.passes.map import MappedChunk, MappedSource
from steel_data.passes.plan import Plan
from steel_data.passes.rows import small, true_rows
from steel_data.row.record import EXTRA_KEYS, FORMS
from steel_data.row.table import id_texts, read_columns, read_records, texts_of
from steel_data.row.text import I64, distinct, with_places

SHARD_ROWS = 100_000
SHARD_CHARS = 200_000_000
ROW_GROUP = 10_000
_FLUSH_ROWS = 100_000
_WAITING = 2**28  # bytes of rows that wait in memory for being put aside
_UNFOLDED = 8  # times as large as on disk are the rows of a file while it is written: unpacked, sorted, decoded
_EVIDENCE = 2_000  # characters of a witness kept in dropped/
_COLUMNS = [
    "id", "messages", "tools", "kind", "origin_row", "benchmark", "item", "dose", "chars", "meta", "error", "language",
]  # fmt: skip
Pile = Literal["train", "dropped", "witness"]


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
    look: Callable[[int, pl.DataFrame], None],
) -> Gathered:
    """Write `train-*.parquet` and `dropped/part-*.parquet` into `folder`.

    `item_texts` gives the texts of benchmark items by name; `look` is shown each chunk's place and its records. Raises
    InputError for rows that no trainer takes together.
    """
    workers = threads(executor)
    form = _form(plan)
    first_S = _shards(plan)
    dropped = _Dropped(plan)
    bound = executor.memory if isinstance(executor, Local) else None
    aside = _Aside(folder / ".aside", _WAITING if bound is None else min(_WAITING, bound // 10))
    order_U = _by_record(plan.record)
    start_C = np.searchsorted(plan.record[order_U], dropped.first_C.astype(plan.record.dtype))
    rated = "rating" in plan.rows.names
    found: set[str] = set()

    def sorted_out(place: int) -> tuple[pl.DataFrame, set[str], list[tuple[Pile, pl.DataFrame, npt.NDArray[Any]]]]:
        """Return the records of a chunk, the extras in them, and what goes to which piles and files."""
        s, chunk = plan.chunks[place]
        first = int(dropped.first_C[place])
        records = read_records(chunk.stages[-1].records, _COLUMNS)
        piles: list[tuple[Pile, pl.DataFrame, npt.NDArray[Any]]] = []
        units, lost = order_U[start_C[place] : start_C[place + 1]], dropped.of(place)
        if len(units) or len(lost):
            rows = _whole(sources[s], chunk, records)
            if rated:
                rows = rows.with_columns(plan.rows.column("rating", *dropped.first_C[place : place + 2].tolist()))
            copies = {"copy": pl.Series(plan.copy[units], dtype=pl.Int32), "position": pl.Series(units, dtype=pl.Int64)}
            shard = np.searchsorted(first_S, units, side="right") - 1
            piles.append(("train", rows[plan.record[units] - first].with_columns(**copies), shard))
            verdicts = _verdicts(plan, rows[lost - first], lost, item_texts)
            piles.append(("dropped", verdicts, np.full(len(lost), dropped.part_C[place])))
        witness, part = dropped.witnesses(place)
        if len(witness):
            texts = [_cut(text) for text in texts_of(records[witness - first])]
            piles.append(("witness", pl.DataFrame({"witness_row": witness, "witness_text": texts}), part))
        return records, _extras(records), piles

    for place, (records, extras, piles) in enumerate(in_threads(sorted_out, range(len(plan.chunks)), workers)):
        look(place, records)
        found |= extras
        for pile in piles:
            aside.put(*pile)
    aside.flush()
    shape = Shape(form, tuple(k for k in EXTRA_KEYS if k in found), "tools" in found, rated)
    (folder / "dropped").mkdir()
    # without a row there is one file of each all the same: a reader finds the columns
    shards = max(len(first_S), 1)
    tasks = [_FileTask("train", i, aside.folder, folder / f"train-{i:05d}.parquet", shape) for i in range(shards)]
    tasks += [
        _FileTask("dropped", i, aside.folder, folder / "dropped" / f"part-{i:05d}.parquet", shape)
        for i in range(dropped.parts)
    ]
    written: dict[str, dict[str, dict[str, Any]]] = {"train": {}, "dropped": {}}
    if isinstance(executor, Local):
        each = None if bound is None else bound // 10 // workers
        entries = in_threads(partial(_write_file, workers, each), tasks, workers)
    else:
        entries = iter(executor.map(partial(_write_file, 1, None), tasks))
    for task, entry in zip(tasks, entries, strict=True):
        written[task.pile][task.target.relative_to(folder).as_posix()] = entry
    shutil.rmtree(aside.folder, ignore_errors=True)
    return Gathered(written["train"], written["dropped"], _content_sha256(plan, sources))


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


def _extras(records: pl.DataFrame) -> set[str]:
    """Return what the schema must hold for some conversations: extra keys of messages, `tools`."""
    # Inside a JSON string a quote is escaped, so `,"name":` can only be a key, and not a function's, which comes first.
    found = {k for k in EXTRA_KEYS if records["messages"].str.contains(f',"{k}":', literal=True).any()}
    return found | {"tools"} if records["tools"].is_not_null().any() else found


def _by_record(record_U: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the units in the order of their records; those of one in their own."""
    return with_places(record_U).view(np.uint32)[::2].astype(record_U.dtype)


def _shards(plan: Plan) -> npt.NDArray[np.int64]:
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
        self.first_C = plan.rows.first_C
        self._row_D: I64 = true_rows(~plan.rows.verdicts.kept(), 0, np.int64)
        self._start_C = np.searchsorted(self._row_D, self.first_C)
        self.part_C = self._parts(np.diff(self._start_C))
        part_D = np.repeat(self.part_C, np.diff(self._start_C))
        self.parts = int(part_D[-1]) + 1 if len(part_D) else 1
        witness_D = plan.rows.at(self._row_D, "witness")["witness"].to_numpy().astype(np.int64)
        told = witness_D >= 0
        pair = distinct(witness_D[told] * self.parts + part_D[told])
        self._witness, self._part = pair // self.parts, pair % self.parts
        self._witness_C = np.searchsorted(self._witness, self.first_C)

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


def _whole(source: MappedSource, chunk: MappedChunk, records: pl.DataFrame) -> pl.DataFrame:
    """Return a chunk's records with the mixture's columns."""
    language = read_columns(chunk.stages[-1].attributes["language"])
    return (
        records.drop("language")
        .hstack(language)
        .with_columns(source=pl.lit(source.name), origin_file=pl.lit(source.files[chunk.file]))
    )


def _verdicts(plan: Plan, rows: pl.DataFrame, lost: I64, item_texts: Callable[[list[str]], list[str]]) -> pl.DataFrame:
    """Return dropped rows with step, reason and witness; a benchmark's item with its text, of a row its number."""
    verdict = plan.rows.at(lost, "step", "reason", "witness", "overlap_item")
    witness = verdict["witness"].to_list()
    items = verdict["overlap_item"].cast(pl.String)
    hits = [i for i, item in enumerate(items) if item is not None]
    texts: list[str | None] = [None] * len(lost)
    for at, text in zip(hits, item_texts([items[i] for i in hits]), strict=True):
        texts[at] = _cut(text)
    others = pl.Series([w if w >= 0 else None for w in witness], dtype=pl.UInt32)
    by_row = pl.Series(id_texts(plan.rows.column("id").gather(others)), dtype=pl.String)
    return rows.with_columns(
        copy=pl.lit(0, pl.Int32), position=pl.Series(lost), step=verdict["step"].cast(pl.String),
        reason=verdict["reason"].cast(pl.String), witness_row=verdict["witness"].cast(pl.Int64),
        witness_id=pl.coalesce(items, by_row), item_text=pl.Series(texts, dtype=pl.String),
    )  # fmt: skip


def _cut(text: str) -> str:
    return text if len(text) <= _EVIDENCE else text[:_EVIDENCE] + "…"


class _Aside:
    """Rows on their way to the files that they belong to: piles by the number of the file, on disk.

    At most about `waiting` bytes of them wait in memory.
    """

    def __init__(self, folder: Path, waiting: int) -> None:
        self.folder = folder
        self._most = waiting
        self._waiting: dict[Pile, list[pl.DataFrame]] = {}
        self._rows = self._flushed = 0
        self._size = 0.0

    def put(self, pile: Pile, rows: pl.DataFrame, file: npt.NDArray[Any]) -> None:
        """Put rows on a pile; `file`: of each the number of its file."""
        if len(rows):
            self._waiting.setdefault(pile, []).append(rows.with_columns(file=pl.Series(file, dtype=pl.Int32)))
            self._rows += len(rows)
            self._size += rows.estimated_size()
        if self._rows >= _FLUSH_ROWS or self._size >= self._most:
            self.flush()

    def flush(self) -> None:
        """Write down what waits in memory."""
        for pile, waiting in self._waiting.items():
            for (file,), rows in pl.concat(waiting).group_by("file"):
                place = _pile_of(self.folder, pile, int(file))  # type: ignore[call-overload]
                place.mkdir(parents=True, exist_ok=True)
                rows.drop("file").write_ipc(place / f"{self._flushed:06d}.ipc", compression="lz4")
        self._flushed += 1
        self._waiting, self._rows, self._size = {}, 0, 0


def _pile_of(folder: Path, pile: Pile, file: int) -> Path:
    return folder / pile / f"{file:05d}"


def _parts(folder: Path, pile: Pile, file: int) -> list[Path]:
    return sorted(_pile_of(folder, pile, file).glob("*.ipc"))


def _read(parts: list[Path], first: int, last: int) -> pl.DataFrame:
    """Return the rows between two positions, both included, in their order."""
    mine = pl.col("position").is_between(first, last)
    return pl.concat([pl.read_ipc(part).filter(mine) for part in parts]).sort("position")


@dataclass(frozen=True)
class _FileTask:
    pile: Pile
    number: int
    aside: Path
    target: Path
    shape: Shape


def _write_file(workers: int, memory: int | None, task: _FileTask) -> dict[str, Any]:
    """Write one file, its row groups decoded on threads of their own; return its rows and checksum.

    memory: bytes to keep to about: then the parts that were put aside are read again for every few row groups.
    """
    schema = task.shape.schema(dropped=task.pile == "dropped")
    parts = _parts(task.aside, task.pile, task.number)
    if not parts:
        pq.write_table(schema.empty_table(), task.target, compression="zstd")
        return {"rows": 0, "sha256": sha256_of(task.target)}
    position = np.sort(np.concatenate([pl.read_ipc(part, columns=["position"])["position"] for part in parts]))
    groups = math.ceil(len(position) / ROW_GROUP)
    size = _UNFOLDED * sum(part.stat().st_size for part in parts)
    times = 1 if memory is None else min(math.ceil(size / memory), groups)
    step = math.ceil(groups / times) * ROW_GROUP
    witnesses = _parts(task.aside, "witness", task.number) if task.pile == "dropped" else []
    with pq.ParquetWriter(task.target, schema, compression="zstd") as writer:
        for start in range(0, len(position), step):
            rows = _read(parts, position[start], position[min(start + step, len(position)) - 1])
            if task.pile == "dropped":
                rows = _with_witness(rows, witnesses)
            for table in in_threads(partial(to_arrow, schema=schema), rows.iter_slices(ROW_GROUP), workers):
                writer.write_table(table, row_group_size=ROW_GROUP)
    return {"rows": len(position), "sha256": sha256_of(task.target)}


def _with_witness(rows: pl.DataFrame, witnesses: list[Path]) -> pl.DataFrame:
    """Return dropped rows with the texts that they repeat, or those of benchmarks' items."""
    asked = rows.select("witness_row").unique()
    texts = [pl.read_ipc(part).join(asked, on="witness_row", how="semi") for part in witnesses]
    none = pl.DataFrame(schema={"witness_row": pl.Int64, "witness_text": pl.String})
    rows = rows.join(pl.concat([none, *texts]), on="witness_row", how="left", maintain_order="left")
    return rows.with_columns(witness_text=pl.coalesce("item_text", "witness_text"))


def _content_sha256(plan: Plan, sources: tuple[MappedSource, ...]) -> str:
    """Return the SHA-256 of the lines `id\\tsource\\tcopy\\n` in output order."""
    digest = hashlib.sha256()
    names = pl.Series([source.name for source in sources], dtype=pl.String)
    ids, source = plan.rows.column("id"), small([s for s, _ in plan.chunks])
    for start in range(0, len(plan.record), _FLUSH_ROWS):
        record, copy = plan.record[start : start + _FLUSH_ROWS], plan.copy[start : start + _FLUSH_ROWS]
        chunk = np.searchsorted(plan.rows.first_C, record, side="right") - 1
        told = pl.DataFrame({"id": id_texts(ids.gather(record)), "source": names.gather(source[chunk]), "copy": copy})
        lines = told.select(pl.concat_str("id", "source", "copy", separator="\t").str.join("\n")).item()
        digest.update(lines.encode() + b"\n")
    return digest.hexdigest()
