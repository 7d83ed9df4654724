"""One stage of one chunk: its records, and the narrow files about them (language, tokens, what filters measure,
duplicate bands, overlaps with benchmarks).

A *stage* is the records between two filters that edit them; a chunk without such filters has one. What was just made is
used from memory; what the cache holds is read once, and of the records only the columns that are asked for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import xxhash

from steel_data.benchmarks.index import TURN, Index, stored_index
from steel_data.errors import InputError, first_line
from steel_data.files import address
from steel_data.filters import dedup, language, overlap, quality
from steel_data.passes.cache import kept_frame, key_of, made_sure, place_of
from steel_data.passes.inputs import InputFile
from steel_data.passes.records import edit_records
from steel_data.recipe.steps import Builder, Filter
from steel_data.row.table import compared_of, own_words_of, spoken_by_others, texts_of
from steel_data.row.text import TextBatch
from steel_data.row.tokens import Tokenizer, counter
from steel_data.selection.ratings import RatingStore

PART_CHARS = 1_000_000
# What the plan pass knows of every record, besides language, tokens and verdict.
NARROW = ["origin_row", "part", "id", "kind", "benchmark", "item", "dose", "chars", "note", "step", "reason"]


@dataclass(frozen=True)
class Benchmarks:
    """What a decontaminate step compares with: names, and an address of the files that hold the items."""

    names: tuple[str, ...]
    key: str

    @classmethod
    def of(cls, names: tuple[str, ...], files: Sequence[InputFile]) -> "Benchmarks":
        """Return the benchmarks in some files. The files' names are part of the key: an item's name holds them."""
        return cls(names, address([[file.name, file.scan.sha256] for file in files]))


@dataclass(frozen=True)
class Job:
    """What is done to every chunk of a source. `steps` are its own filters and the recipe's, in order."""

    source: str
    builder: Builder
    meta: tuple[str, ...]
    steps: tuple[Filter, ...]
    tokenizer: Tokenizer
    data_root: Path
    cache: Path
    benchmarks: tuple[Benchmarks, ...] = ()  # of the steps that compare with some
    looked_at: float = 1.0  # share of the rows in which the checks of `quality` are counted without such a step
    ratings: RatingStore | None = None  # of a model that the source selects by: its own filters see them

    @property
    def early(self) -> list[tuple[int, Filter]]:
        """The steps that are decided row by row, with their places."""
        return [(i, step) for i, step in enumerate(self.steps) if not step.late]


@dataclass(frozen=True)
class Stage:
    """The records at one point of the chain, and the attribute files about them by name."""

    records: Path
    attributes: dict[str, Path] = field(default_factory=dict)


class StageOfChunk:
    """One stage of one chunk while it is looked at. `key` addresses its records, `make` makes them.

    look: False where the cache is known to hold nothing of it.
    """

    def __init__(self, job: Job, key: str, file_name: str, make: Callable[[], pl.DataFrame], look: bool = True) -> None:
        self.job, self.key, self.file_name, self.look = job, key, file_name, look
        self.place = place_of(job.cache, key, "records")
        self.attributes: dict[str, Path] = {}
        self.measured: dict[str, pl.DataFrame] = {}  # the attributes that decide on a row by itself
        self._make = make
        self._records: pl.DataFrame | None = None

    @cached_property
    def narrow(self) -> pl.DataFrame:
        """The records' narrow columns, `meta` and `unread`."""
        columns = [*NARROW, "meta", "unread"]
        found = kept_frame(self.place, self._made, columns, self.look) if self._records is None else self._records
        return found.select(columns)

    @cached_property
    def ratings(self) -> list[float | None]:
        """What the model that the source selects by makes of each record, as far as it has rated it."""
        store = self.job.ratings
        return [None] * len(self.narrow) if store is None else store.of(self.narrow["id"].to_list())

    def seen(self, step: Filter) -> list[Any]:
        """Return what a step of one's own sees beside the record, as part of an address."""
        return [self.ratings] if step.is_custom and self.job.ratings is not None else []

    @property
    def records(self) -> pl.DataFrame:
        """The records whole, read when first asked for."""
        if self._records is None:
            self._records = kept_frame(self.place, self._made, look=self.look)
        return self._records

    def _made(self) -> pl.DataFrame:
        self._records = self._make()
        return self._records

    @cached_property
    def texts(self) -> list[str]:
        """The text view of each record."""
        marked = self.records["messages"].str.contains("\\u001e", literal=True).any()  # a TURN of its own
        if self.job.benchmarks and not marked:
            return [text.replace(TURN, "\n") for text in self.turns]
        return texts_of(self.records)

    @cached_property
    def turns(self) -> list[str]:
        """The text views with a TURN between turns, where some step decontaminates; else with a line break."""
        return texts_of(self.records, TURN) if self.job.benchmarks else self.texts

    @cached_property
    def parts(self) -> list[tuple[slice, TextBatch]]:
        """The texts as arrays, made once for all attributes: to them a line break and a TURN are both a blank.

        In parts of PART_CHARS, so that their arrays stay in the processor's cache and in memory that was used before.
        """
        end_R = np.cumsum([len(text) for text in self.turns])
        borders = np.flatnonzero(np.diff(end_R // PART_CHARS, append=-1)) + 1
        slices = [slice(a, b) for a, b in pairwise([0, *borders.tolist()])]
        return [(part, TextBatch(self.turns[part])) for part in slices]

    def _by_part(self, compute: Callable[[list[str], TextBatch], dict[str, Any]], texts: list[str]) -> pl.DataFrame:
        """Return what `compute` makes of each part's texts and arrays, one after another."""
        found = [pl.DataFrame(compute(texts[part], batch)) for part, batch in self.parts]
        return pl.concat(found) if found else pl.DataFrame(compute([], TextBatch([])))

    def stage(self) -> Stage:
        """Return where the records and the attributes made so far are."""
        return Stage(self.place, dict(self.attributes))

    def _place(self, name: str, parameters: Any) -> Path:
        self.attributes[name] = place_of(self.job.cache, key_of(self.key, name, parameters), "attributes")
        return self.attributes[name]

    def _measure(self, name: str, parameters: Any, compute: Callable[[], pl.DataFrame]) -> None:
        """Make sure that an attribute is there and in memory."""
        if name not in self.measured:
            self.measured[name] = kept_frame(self._place(name, parameters), compute, look=self.look)

    def measure_rows(self) -> None:
        """Make the two attributes that every stage has: language and tokens."""

        def languages() -> pl.DataFrame:
            told, scores = self._by_part(_detected, self.texts)
            if others := spoken_by_others(self.records):  # theirs is not the language of the row
                own = _detected(own_words_of(self.records[others]))
                told = told.scatter(others, own["language"])
                scores = scores.scatter(others, own["language_score"])
            given = self.records["language"]
            score = pl.when(given.is_not_null()).then(pl.lit(1.0)).otherwise(scores).cast(pl.Float32)
            empty = self.records["messages"].is_null()
            return pl.select(
                language=pl.when(empty).then(None).otherwise(pl.coalesce(given, told)),
                language_score=pl.when(empty).then(None).otherwise(score),
            )

        tokenizer = self.job.tokenizer
        self._measure("language", language.VERSION, languages)
        self._measure(
            "tokens", [tokenizer.name, tokenizer.sha256],
            lambda: self._by_part(lambda texts, batch: {"tokens": counter(tokenizer)(texts, batch)}, self.texts),
        )  # fmt: skip

    def measure_step(self, i: int, step: Filter) -> None:
        """Make what step `i` measures, where it measures anything of its own."""
        self.measure_rows()
        if step.is_custom:
            self._measure(
                f"step{i}", [self.job.source, self.file_name, spec(step), *self.seen(step)],
                lambda: self._expression(step),
            )  # fmt: skip
        elif step.use == "quality":  # all checks, whichever drop: another choice computes nothing
            self._measure("quality", quality.VERSION, lambda: quality.faults(self.records))
        elif hasattr(step.settings, "compute"):
            self._measure(f"step{i}", spec(step), lambda: pl.DataFrame(step.settings.compute(self.texts)))

    def quality(self) -> pl.Series:
        """Return the checks of `quality` that find something in each row, joined by commas; null: not looked at.

        Where no step of this stage has looked at all rows, those of a sample are looked at.
        """
        if "quality" in self.measured:
            return self.measured["quality"].select(quality.found_by()).to_series()
        share = self.job.looked_at
        parameters = [quality.VERSION, share]
        self._measure("quality-sample", parameters, lambda: quality.sampled(self.records, share).to_frame())
        return self.measured["quality-sample"].to_series()

    def measure_for_plan(self) -> None:
        """Make what the late steps need. The plan pass reads it: it is not held."""
        wanted = [step.settings for step in self.job.steps if step.compares == "rows"]
        for on in dict.fromkeys(settings.on for settings in wanted):
            near = any(settings.near for settings in wanted if settings.on == on)
            place = self._place(dedup_name(on), [dedup.VERSION, on, near])
            made_sure(place, partial(self._keys, on, near), self.look)
        for benchmarks in self.job.benchmarks:

            def overlaps(benchmarks: Benchmarks = benchmarks) -> pl.DataFrame:
                index = index_of(self.job, benchmarks)
                return self._by_part(lambda texts, batch: overlap.overlap(texts, index, batch), self.turns)

            parameters = [overlap.VERSION, benchmarks.names, benchmarks.key]
            made_sure(self._place(overlap_name(benchmarks.names), parameters), overlaps, self.look)

    def _keys(self, on: str, near: bool) -> pl.DataFrame:
        """Return `exact` (u64), and the columns of near-duplicates, of what duplicates are told by."""
        if on != "all":
            texts = compared_of(self.records, on, TURN)
            exact = np.array([xxhash.xxh3_64_intdigest(t.encode()) if t else 0 for t in texts], np.uint64)
            return pl.DataFrame({"exact": exact, **(dedup.near_keys(TextBatch(texts)) if near else {})})
        number = pl.col("id").str.slice(0, 16).str.decode("hex").bin.reinterpret(dtype=pl.UInt64, endianness="big")
        frame = self.records.select(number.fill_null(0).alias("exact"))
        if not near:
            return frame
        keys = self._by_part(lambda _, batch: dedup.near_keys(batch), self.turns)
        if others := spoken_by_others(self.records):
            own = pl.DataFrame(dedup.near_keys(TextBatch(compared_of(self.records[others], on, TURN))))
            keys = keys.with_columns(keys[name].scatter(others, own[name]) for name in keys.columns)
        return frame.hstack(keys)

    def reasons(self, steps: list[tuple[int, Filter]]) -> pl.DataFrame:
        """Return `step`, `reason`, `note` a row: what the builder, an edit or the first of `steps` that falls says."""
        measured = [self.measured[name] for name in ("language", "tokens", "quality") if name in self.measured]
        frame = self.narrow.select("kind", "chars", "meta", "note", "step", "reason")
        frame = frame.hstack(pl.concat(measured, how="horizontal"))
        for i, step in steps:
            if step.is_custom:
                verdict = self.measured[f"step{i}"].to_series()
                why = pl.DataFrame({"why": pl.select(pl.when(~verdict).then(pl.lit(step.use))).to_series()})
            else:
                why = self.measured.get(f"step{i}", frame).select(step.settings.verdict().alias("why"))
            judged = pl.col("reason").is_null() & (pl.col("kind") != "injected")
            open_row = judged & pl.col("why").is_not_null()
            frame = (
                frame.hstack(why)
                .with_columns(step=pl.when(open_row).then(pl.lit(step.use)).otherwise("step"))
                .with_columns(reason=pl.when(open_row).then("why").otherwise("reason"))
                .drop("why")
            )
            if step.use == "quality":  # of the rows that it keeps
                found = pl.when(judged).then(step.settings.notes())
                frame = frame.with_columns(note=noted(pl.col("note"), found))
        return frame.select("step", "reason", "note")

    def edited(self, step: Filter, passing: list[bool]) -> pl.DataFrame:
        """Return the records after a filter that edits those that pass so far."""
        found = self.measured["language"]
        columns = {
            "source": self.job.source,
            "origin_file": self.file_name,
            "language": found["language"].to_list(),
            "language_score": found["language_score"].to_list(),
            "rating": self.ratings,
        }
        return edit_records(self.file_name, step, self.records, passing, columns)

    def _expression(self, step: Filter) -> pl.DataFrame:
        """Evaluate a custom polars expression: true keeps the row, false and null drop it."""
        frame = self.records.drop("language").with_columns(
            pl.lit(self.job.source).alias("source"), pl.lit(self.file_name).alias("origin_file"),
            pl.Series("rating", self.ratings, dtype=pl.Float64),
        )  # fmt: skip
        frame = frame.hstack(self.measured["language"])
        try:
            expression = step.function()(**step.options)
            if "messages" in expression.meta.root_names():
                turn = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))
                frame = frame.with_columns(pl.col("messages").str.json_decode(turn))
            keep = frame.select(expression.alias("keep"))["keep"]
        except (Exception, SystemExit, pl.exceptions.PanicException) as error:
            detail = first_line(error)
            raise InputError(
                f"{self.file_name}: filter '{step.use}' raised {type(error).__name__}: {detail}. "
                "Fix: a polars expression over the mixture's columns."
            ) from error
        if keep.dtype != pl.Boolean or len(keep) != len(frame):
            raise InputError(
                f"{self.file_name}: filter '{step.use}' gives {len(keep):,} values of {keep.dtype} for {len(frame):,} "
                "rows. Fix: true or false for each row."
            )
        return pl.DataFrame({f"custom_{step.use}": keep.fill_null(False)})


def _detected(texts: list[str], batch: TextBatch | None = None) -> dict[str, Any]:
    labels, scores = language.detect(texts, batch)
    return {"language": pl.Series(labels, dtype=pl.String), "language_score": scores}


def noted(*notes: pl.Expr) -> pl.Expr:
    """Return notes that are joined by commas as one, each named once; null where there are none."""
    every = pl.concat_str(notes, separator=",", ignore_nulls=True)
    return pl.when(every != "").then(every.str.split(",").list.unique(maintain_order=True).list.join(","))


def index_of(job: Job, benchmarks: Benchmarks) -> Index:
    """Return the index of a decontaminate step's benchmarks, from the cache where it is there."""
    return stored_index(index_place(job, benchmarks), benchmarks.names, job.data_root)


def index_place(job: Job, benchmarks: Benchmarks) -> Path:
    """Return where the cache keeps that index."""
    return place_of(job.cache, key_of("index", overlap.VERSION, benchmarks.names, benchmarks.key), "index")


def spec(step: Filter) -> list[Any]:
    """Return what determines a step's work, as part of an address."""
    return [step.use, step.options, step.source_sha256]


def overlap_name(benchmarks: tuple[str, ...]) -> str:
    """Return the name of the attribute that holds the overlaps with a list of benchmarks."""
    return "overlap-" + address(benchmarks)[:12]


def dedup_name(on: str) -> str:
    """Return the attribute's name for the keys of duplicates."""
    return f"dedup-{on}"
