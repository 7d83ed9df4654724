"""The second pass: on narrow columns only, decide for every record its place in the output, or what drops it and why.

Order of decisions: thresholds (done in `map.early_reasons`), decontamination, exact and near duplicates among the
survivors, `take`, budget and language targets, repeats, order. Sampling is by keyed hash of the record's id, so the 10
% sample lies inside the 20 % sample, and neither files' order nor the number of workers matters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import xxhash

from steel_data.attributes import Job, dedup_name, early_reasons, overlap_name
from steel_data.cache import read_records
from steel_data.errors import InputError
from steel_data.filters import dedup
from steel_data.making import texts_of
from steel_data.map import MappedChunk
from steel_data.recipe import Recipe
from steel_data.sampling import Pool, choose
from steel_data.steps import Filter

I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class MappedSource:
    """A source after the map pass: its job, its files' names, its chunks in order of file and place."""

    name: str
    job: Job
    files: tuple[str, ...]
    chunks: tuple[MappedChunk, ...]
    take: int | None = None
    take_tokens: int | None = None
    repeat: int = 1


@dataclass(frozen=True)
class Plan:
    """The verdicts. `frame` has one row a record, in order of source, file and row:

    source, file, chunk (place in `chunks`), pos (place in the chunk), origin_row, part, id, kind, language, tokens,
    chars, benchmark, item, dose, note, step, reason, witness (row of the frame, or -1), overlap_item; `written` copies.
    `record` and `copy` (U entries) are the mixture in output order.
    """

    frame: pl.DataFrame
    chunks: tuple[tuple[int, MappedChunk], ...]
    record: I64
    copy: I64


def decide(recipe: Recipe, sources: Sequence[MappedSource]) -> Plan:
    """Run the plan pass. Raises InputError where more is asked for than there is."""
    chunks = [(s, chunk) for s, source in enumerate(sources) for chunk in source.chunks]
    parts = [_read(sources[s].job, s, place, chunk) for place, (s, chunk) in enumerate(chunks)]
    frame = pl.concat(parts, rechunk=True)
    table = _Table(frame, sources, chunks)
    for s, source in enumerate(sources):
        for step in source.job.steps:
            if step.use == "decontaminate":
                table.decontaminate(s, step)
    own = [(s, step) for s, source in enumerate(sources) for step in source.job.steps if step.use == "dedup"]
    for s, step in own:
        if step not in recipe.filters:
            table.drop_duplicates(step, table.source == s)
    for step in recipe.filters:
        if step.use == "dedup":
            table.drop_duplicates(step, np.ones(len(frame), bool))
    record, copy = _sample(recipe, sources, table)
    written = np.bincount(record, minlength=len(frame)).astype(np.int32)
    frame = frame.with_columns(
        step=pl.Series(table.step.tolist(), dtype=pl.String),
        reason=pl.Series(table.reason.tolist(), dtype=pl.String),
        witness=pl.Series(table.witness),
        overlap_item=pl.Series(table.overlap_item.tolist(), dtype=pl.String),
        written=pl.Series(written),
    )
    return Plan(frame, tuple(chunks), record, copy)


def _read(job: Job, source: int, place: int, chunk: MappedChunk) -> pl.DataFrame:
    """Return the narrow columns of one chunk with the verdict of all steps that look at one row."""
    last = chunk.stages[-1]
    columns = ["origin_row", "part", "id", "kind", "benchmark", "item", "dose", "chars", "note"]
    frame = read_records(last.records, columns)
    for name in ("language", "tokens"):
        frame = frame.hstack(pl.read_parquet(last.attributes[name], glob=False))
    steps = [[(i, s) for i, s in job.early if _stage_of(i, chunk) == n] for n in range(len(chunk.stages))]
    first: pl.DataFrame | None = None
    for stage, own in zip(chunk.stages, steps, strict=True):
        reasons = early_reasons(job, stage, [(i, s) for i, s in own if i not in chunk.edits])
        if first is None:
            first = reasons
        else:
            undecided = first["reason"].is_null()
            first = pl.select(
                step=pl.when(undecided).then(reasons["step"]).otherwise(first["step"]),
                reason=pl.when(undecided).then(reasons["reason"]).otherwise(first["reason"]),
            )
    assert first is not None
    return frame.hstack(first).with_columns(
        source=pl.lit(source, pl.UInt16),
        file=pl.lit(chunk.file, pl.UInt32),
        chunk=pl.lit(place, pl.UInt32),
        pos=pl.int_range(pl.len(), dtype=pl.UInt32),
    )


def _stage_of(step: int, chunk: MappedChunk) -> int:
    return sum(1 for edit in chunk.edits if edit < step)


class _Table:
    """The frame's columns that change while decisions fall."""

    def __init__(
        self, frame: pl.DataFrame, sources: Sequence[MappedSource], chunks: Sequence[tuple[int, MappedChunk]]
    ) -> None:
        self.frame, self.sources, self.chunks = frame, sources, chunks
        self.step: npt.NDArray[Any] = frame["step"].to_numpy().astype(object)
        self.reason: npt.NDArray[Any] = frame["reason"].to_numpy().astype(object)
        self.overlap_item = np.full(len(frame), None, object)
        self.witness = np.full(len(frame), -1, np.int64)
        self.source = frame["source"].to_numpy()
        self.chunk = frame["chunk"].to_numpy()
        self.pos = frame["pos"].to_numpy()
        self.injected = (frame["kind"] == "injected").fill_null(False).to_numpy()
        self.start = np.searchsorted(self.chunk, np.arange(len(chunks) + 1))

    @property
    def kept(self) -> Bool:
        """Rows that no step has dropped so far."""
        return np.array([r is None for r in self.reason], bool)

    def drop(self, rows: I64, step: str, reasons: Sequence[str]) -> None:
        self.step[rows] = step
        self.reason[rows] = reasons

    def attribute(self, name: str, chunks: Sequence[int], column: str) -> npt.NDArray[Any]:
        """Return one column of an attribute over whole chunks, one after another."""
        parts = []
        for place in chunks:
            stage = self.chunks[place][1].stages[-1]
            file = stage.attributes[dedup_name(stage) if name == "dedup" else name]
            parts.append(pl.read_parquet(file, columns=[column], glob=False)[column].to_numpy())
        return np.concatenate(parts) if parts else np.zeros(0)

    def decontaminate(self, s: int, step: Filter) -> None:
        name = overlap_name(tuple(step.options["benchmarks"]))
        for place, (source, chunk) in enumerate(self.chunks):
            if source != s:
                continue
            found = pl.read_parquet(chunk.stages[-1].attributes[name], glob=False)
            why = found.select(step.settings.verdict().alias("why"), "overlap_item")
            rows = np.arange(self.start[place], self.start[place + 1])
            hit = why["why"].is_not_null().to_numpy() & ~self.injected[rows]
            hit &= np.array([r is None for r in self.reason[rows]], bool)
            self.drop(rows[hit], step.use, why["why"].filter(hit).to_list())
            self.overlap_item[rows[hit]] = why["overlap_item"].filter(hit).to_list()

    def drop_duplicates(self, step: Filter, scope: Bool) -> None:
        """Drop the duplicates among the kept rows of `scope`; only a row that is still kept may win a cluster."""
        rows = np.flatnonzero(scope & self.kept & ~self.injected)
        if step.settings.keep == "longest":
            rows = rows[np.argsort(-self.frame["chars"].to_numpy()[rows].astype(np.int64), kind="stable")]
        if not len(rows):
            return
        places = sorted(set(self.chunk[rows].tolist()))
        offset = np.zeros(len(self.chunks) + 1, np.int64)
        sizes = np.diff(self.start)[places]
        offset[places] = np.cumsum(sizes) - sizes
        at = offset[self.chunk[rows]] + self.pos[rows]  # of each row in the places' concatenated attributes
        winner = dedup.exact_winners(self.attribute("dedup", places, "exact")[at])
        self._mark(rows, winner, step.use, "dedup:exact")
        if not step.settings.near:
            return
        alone = np.flatnonzero(winner == np.arange(len(rows)))
        rows, at = rows[alone], at[alone]
        winner = dedup.near_winners(
            lambda i: self.attribute("dedup", places, f"band_{i:02d}")[at],
            lambda some: self.texts(rows[some]),
            len(rows),
            step.settings.threshold,
        )
        self._mark(rows, winner, step.use, "dedup:near")

    def _mark(self, rows: I64, winner: I64, step: str, reason: str) -> None:
        lost = np.flatnonzero(winner != np.arange(len(rows)))
        self.drop(rows[lost], step, [reason] * len(lost))
        self.witness[rows[lost]] = rows[winner[lost]]

    def texts(self, rows: I64) -> list[str]:
        """Return the texts of some rows, in the order asked; each chunk is read once."""
        out: list[str] = [""] * len(rows)
        order = np.argsort(self.chunk[rows], kind="stable")
        chunk_of = self.chunk[rows][order]
        for place in np.unique(chunk_of).tolist():
            mine = order[chunk_of == place]
            records = read_records(self.chunks[place][1].stages[-1].records, ["messages"])
            for where, text in zip(mine.tolist(), texts_of(records[self.pos[rows[mine]].tolist()]), strict=True):
                out[where] = text
        return out


def _sample(recipe: Recipe, sources: Sequence[MappedSource], table: _Table) -> tuple[I64, I64]:
    """Return records and copies of the mixture in output order."""
    frame = table.frame
    kept = table.kept
    tokens = frame["tokens"].fill_null(0).to_numpy().astype(np.int64)
    ids = frame["id"].to_numpy()
    records: list[I64] = []
    copies: list[I64] = []
    for s, source in enumerate(sources):
        mine = np.flatnonzero(kept & (table.source == s) & ~table.injected)
        mine = _take(recipe, source, mine, ids, tokens)
        records.append(np.repeat(mine, source.repeat))
        copies.append(np.tile(np.arange(source.repeat), len(mine)))
    record, copy = np.concatenate(records), np.concatenate(copies)
    injected = np.flatnonzero(kept & table.injected)
    doses = frame["dose"].fill_null(1).to_numpy().astype(np.int64)[injected]
    pool = Pool(
        key=_hashes("mix", recipe.seed, ids[record], copy),
        record=record,
        tokens=tokens[record],
        language=frame["language"].to_numpy()[record],
        fixed_rows=int(doses.sum()),
        fixed_tokens=_tokens_by_language(frame, injected, doses, tokens),
    )
    chosen = choose(recipe.mix, pool, str(recipe.path))
    record, copy = record[chosen], copy[chosen]
    # A budget may have left out copy 0 and kept copy 1: copies are counted from 0 again.
    order = np.lexsort((copy, record))
    record = record[order]
    first = np.concatenate([[True], record[1:] != record[:-1]]) if len(record) else np.zeros(0, bool)
    starts = np.flatnonzero(first)
    copy = np.arange(len(record)) - np.repeat(starts, np.diff(np.append(starts, len(record))))
    record = np.concatenate([record, np.repeat(injected, doses)])
    copy = np.concatenate([copy, *[np.arange(d) for d in doses.tolist()]]).astype(np.int64)
    return _ordered(recipe.seed, sources, table, record, copy)


def _tokens_by_language(frame: pl.DataFrame, rows: I64, times: I64, tokens: I64) -> dict[str, int]:
    totals: dict[str, int] = {}
    for language, n in zip(frame["language"].to_numpy()[rows].tolist(), (tokens[rows] * times).tolist(), strict=True):
        totals[language] = totals.get(language, 0) + n
    return totals


def _take(recipe: Recipe, source: MappedSource, rows: I64, ids: npt.NDArray[Any], tokens: I64) -> I64:
    """Return the rows of a source that `take` or `take_tokens` leaves, the smallest keyed hashes."""
    if source.take is None and source.take_tokens is None:
        return rows
    where = f"{recipe.path} [source.{source.name}]"
    order = rows[np.lexsort((rows, _hashes("take", recipe.seed, ids[rows], np.zeros(len(rows), np.int64))))]
    if source.take is not None:
        if source.take > len(rows):
            raise InputError(
                f"{where}: take = {source.take:,} rows, but {len(rows):,} are left after filters and dedup. "
                f"Right: take = {len(rows)} or less."
            )
        return np.sort(order[: source.take])
    assert source.take_tokens is not None
    reached = np.cumsum(tokens[order])
    if source.take_tokens > (reached[-1] if len(reached) else 0):
        there = int(reached[-1]) if len(reached) else 0
        raise InputError(
            f"{where}: take_tokens = {source.take_tokens:,}, but {there:,} are left after filters and dedup. "
            f"Right: take_tokens = {there} or less."
        )
    return np.sort(order[: int(np.searchsorted(reached, source.take_tokens, side="right"))])


def _hashes(purpose: str, seed: int, ids: npt.NDArray[Any], copy: I64) -> npt.NDArray[np.uint64]:
    """Return xxh3-64, keyed by the seed, of purpose, id and copy. The purposes must differ: were the sampling's hash
    also the order's, a sampled source would lie at the beginning of the mixture."""
    key = seed & (2**64 - 1)
    digest = xxhash.xxh3_64_intdigest
    pairs = zip(ids.tolist(), copy.tolist(), strict=True)
    return np.fromiter((digest(f"{purpose}/{i}/{c}".encode(), key) for i, c in pairs), np.uint64, len(ids))


def _ordered(seed: int, sources: Sequence[MappedSource], table: _Table, record: I64, copy: I64) -> tuple[I64, I64]:
    """Sort by (xxh3(seed, id, copy), source, origin_file, origin_row, copy)."""
    frame = table.frame
    names = [source.name for source in sources]
    rank = np.argsort(np.argsort(names))  # the source's name decides, not its place in the recipe
    keys = (
        copy,
        frame["part"].to_numpy()[record],
        frame["origin_row"].to_numpy()[record],
        frame["file"].to_numpy()[record],
        rank[table.source[record]],
        _hashes("order", seed, frame["id"].to_numpy()[record], copy),
    )
    order = np.lexsort(keys)
    return record[order], copy[order]
