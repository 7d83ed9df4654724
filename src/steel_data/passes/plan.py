"""The second pass: on narrow columns only, decide for every record its place in the output, or what drops it and why.

Order of decisions: thresholds (done in `map.early_reasons`), decontamination, exact and near duplicates among the
survivors, then what selection.py does: `take`, budget and language targets, repeats, order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from steel_data.filters import dedup
from steel_data.passes.attributes import Job, dedup_name, early_reasons, overlap_name
from steel_data.passes.map import MappedChunk, MappedSource
from steel_data.passes.select import select
from steel_data.recipe.load import Recipe
from steel_data.recipe.steps import Filter
from steel_data.row.table import read_records, texts_of

I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]


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

    def texts(self, rows: npt.NDArray[Any]) -> list[str]:
        """Return the texts of some rows of the frame, in the order asked; each chunk is read once."""
        return texts_at(self.chunks, self.frame["chunk"].to_numpy()[rows], self.frame["pos"].to_numpy()[rows])


def decide(recipe: Recipe, sources: Sequence[MappedSource]) -> Plan:
    """Run the plan pass. Raises InputError where more is asked for than there is."""
    chunks = [(s, chunk) for s, source in enumerate(sources) for chunk in source.chunks]
    frame = _joined([_read(sources[s].job, s, place, chunk) for place, (s, chunk) in enumerate(chunks)])
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
    record, copy = select(recipe, sources, frame, table.kept)
    written = np.bincount(record, minlength=len(frame)).astype(np.int32)
    frame = frame.with_columns(
        step=_words([step for step, _ in table.verdicts], table.verdict),
        reason=_words([reason for _, reason in table.verdicts], table.verdict),
        witness=pl.Series(table.witness),
        overlap_item=_words(table.items, table.item),
        written=pl.Series(written),
    )
    return Plan(frame, tuple(chunks), record, copy)


def _words(words: list[str], code: npt.NDArray[np.int32]) -> pl.Series:
    """Return words[code] for each code, null for -1."""
    table = pl.Series([*words, None], dtype=pl.String).cast(pl.Categorical)
    return table.gather(np.where(code < 0, len(words), code))


def _joined(parts: list[pl.DataFrame]) -> pl.DataFrame:
    """Return the parts one after another, column by column: never all of it twice in memory."""
    columns = [dict(zip(part.columns, part.get_columns(), strict=True)) for part in parts]
    names = parts[0].columns
    parts.clear()
    return pl.DataFrame([pl.concat([column.pop(name) for column in columns], rechunk=True) for name in names])


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
    # Few words, many rows: as categories they take 4 bytes a row instead of 16.
    words = pl.col("kind", "language", "benchmark", "note", "step", "reason").cast(pl.Categorical)
    return frame.hstack(first).with_columns(
        words,
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
        # Verdicts are numbers, -1 for none: millions of Python strings would be most of the memory.
        self.verdicts: list[tuple[str, str]] = []
        self.verdict = np.full(len(frame), -1, np.int32)
        for step, reason in frame.select("step", "reason").drop_nulls("reason").unique().sort("step", "reason").rows():
            same = frame.select((pl.col("step") == step) & (pl.col("reason") == reason)).to_series().fill_null(False)
            self.drop(np.flatnonzero(same.to_numpy()), step, reason)
        self.items: list[str] = []
        self.item = np.full(len(frame), -1, np.int32)
        self.witness = np.full(len(frame), -1, np.int64)
        self.source = frame["source"].to_numpy()
        self.chunk = frame["chunk"].to_numpy()
        self.pos = frame["pos"].to_numpy()
        self.injected = (frame["kind"] == "injected").fill_null(False).to_numpy()
        self.start = np.searchsorted(self.chunk, np.arange(len(chunks) + 1))

    @property
    def kept(self) -> Bool:
        """Rows that no step has dropped so far."""
        return self.verdict < 0

    def drop(self, rows: I64, step: str, reason: str) -> None:
        if (step, reason) not in self.verdicts:
            self.verdicts.append((step, reason))
        self.verdict[rows] = self.verdicts.index((step, reason))

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
            hit &= self.kept[rows]
            for row, reason, item in zip(
                rows[hit], why["why"].filter(hit), why["overlap_item"].filter(hit), strict=True
            ):
                self.drop(row, step.use, reason)
                self.item[row] = len(self.items)
                self.items.append(item)

    def drop_duplicates(self, step: Filter, scope: Bool) -> None:
        """Drop the duplicates among the kept rows of `scope`; only a row that is still kept may win a cluster."""
        rows = np.flatnonzero(scope & self.kept & ~self.injected)
        if step.settings.keep == "longest":
            rows = rows[np.argsort(-self.frame["chars"].to_numpy()[rows].astype(np.int64), kind="stable")]
        elif isinstance(step.settings.keep, list):
            place = {name: i for i, name in reversed(list(enumerate(step.settings.keep)))}
            rank = np.array([place.get(source.name, len(place)) for source in self.sources])
            rows = rows[np.argsort(rank[self.source[rows]], kind="stable")]
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
            lambda name: self.attribute("dedup", places, name)[at],
            lambda some: self.texts(rows[some]),
            len(rows),
            step.settings.threshold,
        )
        self._mark(rows, winner, step.use, "dedup:near")

    def _mark(self, rows: I64, winner: I64, step: str, reason: str) -> None:
        lost = np.flatnonzero(winner != np.arange(len(rows)))
        self.drop(rows[lost], step, reason)
        self.witness[rows[lost]] = rows[winner[lost]]

    def texts(self, rows: I64) -> list[str]:
        """Return the texts of some rows, in the order asked; each chunk is read once."""
        return texts_at(self.chunks, self.chunk[rows], self.pos[rows])


def texts_at(
    chunks: Sequence[tuple[int, MappedChunk]], place_R: npt.NDArray[Any], pos_R: npt.NDArray[Any]
) -> list[str]:
    """Return the texts of R rows, in the order asked; each chunk is read once.

    `place_R` and `pos_R`: of each row its chunk's place in `chunks` and its own place in the chunk.
    """
    out: list[str] = [""] * len(place_R)
    order = np.argsort(place_R, kind="stable")
    sorted_R = place_R[order]
    for place in np.unique(sorted_R).tolist():
        mine = order[sorted_R == place]
        records = read_records(chunks[place][1].stages[-1].records, ["messages"])
        for where, text in zip(mine.tolist(), texts_of(records[pos_R[mine].tolist()]), strict=True):
            out[where] = text
    return out
