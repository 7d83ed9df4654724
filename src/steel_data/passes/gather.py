"""The third pass: write the mixture in order, shard by shard, and every dropped row with its reason and witness.

Kept rows are partitioned by output shard while the chunks are read once in input order; then each shard is sorted and
written. Memory is bounded by one shard (at most SHARD_ROWS rows or SHARD_CHARS characters).
"""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.parquet as pq

from steel_data.engine import run
from steel_data.errors import InputError
from steel_data.files import sha256_of
from steel_data.mixture.schema import Shape, to_arrow
from steel_data.passes.map import MappedChunk, MappedSource
from steel_data.passes.plan import Plan
from steel_data.row.record import EXTRA_KEYS
from steel_data.row.table import read_records


def shape_of(plan: Plan) -> Shape:
    """Look through the conversations for what the schema must hold."""
    kinds = set(plan.frame["kind"].unique().drop_nulls().to_list())
    if "preference" in kinds and len(kinds) > 1:
        others = ", ".join(sorted(kinds - {"preference"}))
        raise InputError(
            f"this recipe makes preference rows and {others} rows, which no trainer takes together. "
            "Right: one recipe for each."
        )
    found: set[str] = set()
    tools = False
    for _, chunk in plan.chunks:
        records = read_records(chunk.stages[-1].records, ["messages", "tools"])
        tools = tools or bool(records["tools"].is_not_null().any())
        # Inside a JSON string a quote is escaped, so `"loss":` can only be a key.
        found |= {k for k in EXTRA_KEYS if records["messages"].str.contains(f'"{k}":', literal=True).any()}
    return Shape("preference" in kinds, tuple(k for k in EXTRA_KEYS if k in found), tools)


SHARD_ROWS = 100_000
SHARD_CHARS = 200_000_000
ROW_GROUP = 10_000
_FLUSH_ROWS = 100_000
_EVIDENCE = 2_000  # characters of a witness kept in dropped/


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
    workers: int,
    witness_texts: Callable[[list[str]], list[str]],
    advance: Callable[[int], None],
) -> Gathered:
    """Write `train-*.parquet` and `dropped/part-*.parquet` into `folder`.

    `witness_texts` gives the texts of benchmark items by name.
    """
    shape = shape_of(plan)
    shard_of = _shards(plan)
    parts = folder / ".parts"
    by_record = np.argsort(plan.record, kind="stable")
    starts = np.searchsorted(plan.record[by_record], _chunk_starts(plan))
    waiting: list[pl.DataFrame] = []
    for place, (s, chunk) in enumerate(plan.chunks):
        units = by_record[starts[place] : starts[place + 1]]
        if len(units):
            frame = _rows(plan, sources[s], place, chunk, plan.record[units])
            waiting.append(
                frame.with_columns(
                    copy=pl.Series(plan.copy[units], dtype=pl.Int32),
                    position=pl.Series(units),
                    shard=pl.Series(shard_of[units], dtype=pl.Int32),
                )
            )
        advance(chunk.rows)
        if sum(map(len, waiting)) >= _FLUSH_ROWS:
            _flush(waiting, parts, place)
            waiting = []
    if waiting:
        _flush(waiting, parts, len(plan.chunks))
    count = int(shard_of[-1]) + 1 if len(shard_of) else 1
    tasks = [_ShardTask(parts / f"{i:05d}", folder / f"train-{i:05d}.parquet", shape) for i in range(count)]
    rows = run(_write_shard, tasks, workers if count > 1 else 1)
    shutil.rmtree(parts, ignore_errors=True)
    dropped = _write_dropped(plan, sources, folder / "dropped", shape, witness_texts)
    return Gathered(
        train={t.target.name: {"rows": n, "sha256": sha256_of(t.target)} for t, n in zip(tasks, rows, strict=True)},
        dropped=dropped,
        content_sha256=_content_sha256(plan, sources),
    )


def _chunk_starts(plan: Plan) -> npt.NDArray[np.int64]:
    return np.searchsorted(plan.frame["chunk"].to_numpy(), np.arange(len(plan.chunks) + 1))


def _shards(plan: Plan) -> npt.NDArray[np.int64]:
    """Return the output shard of each unit: a new one after SHARD_ROWS rows or SHARD_CHARS characters."""
    chars = plan.frame["chars"].fill_null(0).to_numpy().astype(np.int64)[plan.record]
    reached = np.cumsum(chars)
    shard = np.zeros(len(chars), np.int64)
    start, number = 0, 0
    while start < len(chars):
        base = reached[start - 1] if start else 0
        end = int(np.searchsorted(reached, base + SHARD_CHARS, side="right"))
        end = min(max(end, start + 1), start + SHARD_ROWS, len(chars))
        shard[start:end] = number
        start, number = end, number + 1
    return shard


def _rows(plan: Plan, source: MappedSource, place: int, chunk: MappedChunk, record: Any) -> pl.DataFrame:
    """Return the wide rows of some records of one chunk, in the order of `record`."""
    pos = plan.frame["pos"].to_numpy()[record]
    last = chunk.stages[-1]
    columns = ["id", "messages", "tools", "kind", "origin_row", "benchmark", "item", "dose", "chars", "meta", "error"]
    frame = read_records(last.records, columns).hstack(pl.read_parquet(last.attributes["language"], glob=False))
    rows: pl.DataFrame = frame[pos]
    return rows.with_columns(
        source=pl.lit(source.name), origin_file=pl.lit(source.files[chunk.file] if source.files else source.name)
    )


def _flush(waiting: list[pl.DataFrame], parts: Path, number: int) -> None:
    frame = pl.concat(waiting)
    for (shard,), rows in frame.group_by("shard"):
        folder = parts / f"{shard:05d}"
        folder.mkdir(parents=True, exist_ok=True)
        rows.drop("shard").write_ipc(folder / f"{number:06d}.ipc", compression="lz4")


@dataclass(frozen=True)
class _ShardTask:
    parts: Path
    target: Path
    shape: Shape


def _write_shard(task: _ShardTask) -> int:
    files = sorted(task.parts.glob("*.ipc")) if task.parts.is_dir() else []
    schema = task.shape.schema()
    if not files:
        pq.write_table(schema.empty_table(), task.target, compression="zstd")
        return 0
    frame = pl.concat([pl.read_ipc(f) for f in files]).sort("position")
    pq.write_table(to_arrow(frame, schema), task.target, compression="zstd", row_group_size=ROW_GROUP)
    return len(frame)


def _content_sha256(plan: Plan, sources: tuple[MappedSource, ...]) -> str:
    """Return the SHA-256 of the lines `id\\tsource\\tcopy\\n` in output order."""
    digest = hashlib.sha256()
    names = [source.name for source in sources]
    ids, source = plan.frame["id"], plan.frame["source"].to_numpy()
    for start in range(0, len(plan.record), 100_000):
        record, copy = plan.record[start : start + 100_000], plan.copy[start : start + 100_000]
        lines = zip(ids.gather(record).to_list(), source[record].tolist(), copy.tolist(), strict=True)
        digest.update("".join(f"{i}\t{names[s]}\t{c}\n" for i, s, c in lines).encode())
    return digest.hexdigest()


def _write_dropped(
    plan: Plan, sources: tuple[MappedSource, ...], folder: Path, shape: Shape,
    witness_texts: Callable[[list[str]], list[str]],
) -> dict[str, dict[str, Any]]:  # fmt: skip
    folder.mkdir()
    schema = shape.schema(dropped=True)
    written = {}
    for number, frame in enumerate(_dropped_parts(plan, sources, witness_texts)):
        target = folder / f"part-{number:05d}.parquet"
        pq.write_table(to_arrow(frame, schema), target, compression="zstd", row_group_size=ROW_GROUP)
        written[f"dropped/{target.name}"] = {"rows": len(frame), "sha256": sha256_of(target)}
    if not written:  # a reader of dropped/*.parquet finds the columns even so
        target = folder / "part-00000.parquet"
        pq.write_table(schema.empty_table(), target, compression="zstd")
        written[f"dropped/{target.name}"] = {"rows": 0, "sha256": sha256_of(target)}
    return written


def _dropped_parts(
    plan: Plan, sources: tuple[MappedSource, ...], witness_texts: Callable[[list[str]], list[str]]
) -> Iterator[pl.DataFrame]:
    """Yield the dropped rows in input order, some 100,000 at a time, with their witnesses."""
    starts = _chunk_starts(plan)
    dropped = plan.frame["reason"].is_not_null().to_numpy()
    ids = plan.frame["id"]
    waiting: list[pl.DataFrame] = []
    for place, (s, chunk) in enumerate(plan.chunks):
        rows = np.flatnonzero(dropped[starts[place] : starts[place + 1]]) + starts[place]
        if not len(rows):
            continue
        verdict = plan.frame[rows].select("step", "reason", "witness", "overlap_item")
        witness = verdict["witness"].to_numpy()
        by_row = pl.Series([ids[w] if w >= 0 else None for w in witness.tolist()], dtype=pl.String)
        frame = _rows(plan, sources[s], place, chunk, rows).with_columns(
            copy=pl.lit(0, pl.Int32), step=verdict["step"], reason=verdict["reason"], witness_row=verdict["witness"],
            witness_id=pl.coalesce(verdict["overlap_item"], by_row), overlap_item=verdict["overlap_item"],
        )  # fmt: skip
        waiting.append(frame)
        if sum(map(len, waiting)) >= _FLUSH_ROWS:
            yield _with_evidence(plan, pl.concat(waiting), witness_texts)
            waiting = []
    if waiting:
        yield _with_evidence(plan, pl.concat(waiting), witness_texts)


def _with_evidence(plan: Plan, frame: pl.DataFrame, witness_texts: Callable[[list[str]], list[str]]) -> pl.DataFrame:
    texts: list[str | None] = [None] * len(frame)
    row = frame["witness_row"].to_numpy()
    mine = np.flatnonzero(row >= 0)
    for at, text in zip(mine.tolist(), plan.texts(row[mine]), strict=True):
        texts[at] = _cut(text)
    items = frame["overlap_item"]
    hits = [i for i, item in enumerate(items) if item is not None]
    for at, text in zip(hits, witness_texts([items[i] for i in hits]), strict=True):
        texts[at] = _cut(text)
    return frame.with_columns(witness_text=pl.Series(texts, dtype=pl.String))


def _cut(text: str) -> str:
    return text if len(text) <= _EVIDENCE else text[:_EVIDENCE] + "…"
