"""The narrow files about one stage of one chunk: language, tokens, what filters measure, duplicate bands, overlaps."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from steel_data.benchmarks.index import stored_index
from steel_data.errors import InputError, first_line
from steel_data.filters import dedup, language, overlap
from steel_data.passes.cache import key_of, place_of, write_frame
from steel_data.recipe.steps import Builder, Filter
from steel_data.row.table import texts_of
from steel_data.row.text import TextBatch
from steel_data.row.tokens import Tokenizer, counter

LATE = ("decontaminate", "dedup")  # decided in the plan pass, on the survivors of all other steps


PART_CHARS = 1_000_000


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
    benchmarks_sha256: tuple[tuple[tuple[str, ...], str], ...] = ()  # of each decontaminate step's list

    @property
    def early(self) -> list[tuple[int, Filter]]:
        """The steps that are decided row by row, with their places."""
        return [(i, step) for i, step in enumerate(self.steps) if step.use not in LATE]


@dataclass(frozen=True)
class Stage:
    """The records at one point of the chain, and the attribute files about them by name."""

    records: Path
    attributes: dict[str, Path] = field(default_factory=dict)


class StageOfChunk:
    """One stage of one chunk while it is looked at: records and texts are read only if some attribute is missing."""

    def __init__(self, job: Job, key: str, file_name: str) -> None:
        self.job, self.key, self.file_name = job, key, file_name
        self.place = place_of(job.cache, key, "records")
        self.attributes: dict[str, Path] = {}
        self._records: pl.DataFrame | None = None
        self._texts: list[str] | None = None
        self._turns: list[str] | None = None
        self._parts: list[tuple[slice, TextBatch]] | None = None

    @property
    def rows(self) -> int:
        """Number of records."""
        return int(pl.scan_parquet(self.place).select(pl.len()).collect().item())

    @property
    def records(self) -> pl.DataFrame:
        """The records, read when first asked for."""
        if self._records is None:
            self._records = pl.read_parquet(self.place, glob=False)
        return self._records

    @property
    def texts(self) -> list[str]:
        """The text view of each record."""
        if self._texts is None:
            marked = self.records["messages"].str.contains("\\u001e", literal=True).any()  # a TURN of its own
            by_turn = self.job.benchmarks_sha256 and not marked
            self._texts = [t.replace(overlap.TURN, "\n") for t in self.turns] if by_turn else texts_of(self.records)
        return self._texts

    @property
    def turns(self) -> list[str]:
        """The text views with `overlap.TURN` between turns, where some step decontaminates; else with a line break."""
        if self._turns is None:
            self._turns = texts_of(self.records, overlap.TURN) if self.job.benchmarks_sha256 else self.texts
        return self._turns

    @property
    def parts(self) -> list[tuple[slice, TextBatch]]:
        """The texts as arrays, made once for all attributes: to them a line break and a TURN are both a blank.

        In parts of PART_CHARS, so that their arrays stay in the processor's cache and in memory that was used before.
        """
        if self._parts is None:
            end_R = np.cumsum([len(text) for text in self.turns])
            borders = np.flatnonzero(np.diff(end_R // PART_CHARS, append=-1)) + 1
            slices = [slice(a, b) for a, b in pairwise([0, *borders.tolist()])]
            self._parts = [(part, TextBatch(self.turns[part])) for part in slices]
        return self._parts

    def _by_part(self, compute: Callable[[list[str], TextBatch], dict[str, Any]], texts: list[str]) -> pl.DataFrame:
        """Return what `compute` makes of each part's texts and arrays, one after another."""
        found = [pl.DataFrame(compute(texts[part], batch)) for part, batch in self.parts]
        return pl.concat(found) if found else pl.DataFrame(compute([], TextBatch([])))

    def stage(self) -> Stage:
        """Return where the records and the attributes made so far are."""
        return Stage(self.place, dict(self.attributes))

    def attribute(self, name: str, parameters: Any, compute: Callable[[], pl.DataFrame]) -> None:
        """Make sure that an attribute file is there."""
        place = place_of(self.job.cache, key_of(self.key, name, parameters), "attributes")
        if not place.exists():
            write_frame(place, compute())
        self.attributes[name] = place

    def language_and_tokens(self) -> None:
        """Make the two attributes that every stage has."""

        def languages() -> pl.DataFrame:
            told, scores = self._by_part(_detected, self.texts)
            given = self.records["language"]
            score = pl.when(given.is_not_null()).then(pl.lit(1.0)).otherwise(scores).cast(pl.Float32)
            empty = self.records["messages"].is_null()
            return pl.select(
                language=pl.when(empty).then(None).otherwise(pl.coalesce(given, told)),
                language_score=pl.when(empty).then(None).otherwise(score),
            )

        tokenizer = self.job.tokenizer
        self.attribute("language", language.VERSION, languages)
        self.attribute(
            "tokens", [tokenizer.name, tokenizer.sha256],
            lambda: self._by_part(lambda texts, batch: {"tokens": counter(tokenizer)(texts, batch)}, self.texts),
        )  # fmt: skip

    def attribute_of(self, i: int, step: Filter) -> None:
        """Make what step `i` measures, where it measures anything of its own."""
        self.language_and_tokens()
        if step.is_custom:
            self.attribute(f"step{i}", [self.job.source, self.file_name, spec(step)], lambda: self._expression(step))
        elif hasattr(step.settings, "compute"):
            self.attribute(f"step{i}", spec(step), lambda: pl.DataFrame(step.settings.compute(self.texts)))

    def late_attributes(self) -> None:
        """Make what dedup and decontaminate need in the plan pass."""
        near = [step.settings.near for step in self.job.steps if step.use == "dedup"]
        if near:
            settings = dedup.Dedup(near=any(near))

            def compute() -> pl.DataFrame:
                return self._by_part(lambda _, batch: settings.compute(batch), self.turns)

            self.attribute(f"dedup-{settings.near}", dedup.VERSION, compute)
        for benchmarks, sha256 in self.job.benchmarks_sha256:

            def overlaps(names: tuple[str, ...] = benchmarks, sha256: str = sha256) -> pl.DataFrame:
                index = index_of(self.job, names, sha256)
                return self._by_part(lambda texts, batch: overlap.overlap(texts, index, batch), self.turns)

            self.attribute(overlap_name(benchmarks), [overlap.VERSION, benchmarks, sha256], overlaps)

    def columns(self) -> dict[str, Any]:
        """Return the mixture's columns that the records lack, for custom steps."""
        found = pl.read_parquet(self.attributes["language"], glob=False)
        return {
            "source": self.job.source,
            "origin_file": self.file_name,
            "language": found["language"].to_list(),
            "language_score": found["language_score"].to_list(),
        }

    def _expression(self, step: Filter) -> pl.DataFrame:
        """Evaluate a custom polars expression: true keeps the row, false and null drop it."""
        frame = self.records.drop("language").with_columns(
            pl.lit(self.job.source).alias("source"), pl.lit(self.file_name).alias("origin_file")
        )
        frame = frame.hstack(pl.read_parquet(self.attributes["language"], glob=False))
        try:
            expression = step.function()(**step.options)
            if "messages" in expression.meta.root_names():
                turn = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))
                frame = frame.with_columns(pl.col("messages").str.json_decode(turn))
            keep = frame.select(expression.alias("keep"))["keep"]
        except Exception as error:
            detail = first_line(error)
            raise InputError(
                f"{self.file_name}: filter '{step.use}' raised {type(error).__name__}: {detail}. "
                "Right: a polars expression over the mixture's columns."
            ) from error
        if keep.dtype != pl.Boolean or len(keep) != len(frame):
            raise InputError(f"{self.file_name}: filter '{step.use}' gives {keep.dtype}, not true or false a row.")
        return pl.DataFrame({f"custom_{step.use}": keep.fill_null(False)})


def _detected(texts: list[str], batch: TextBatch) -> dict[str, Any]:
    labels, scores = language.detect(texts, batch)
    return {"language": pl.Series(labels, dtype=pl.String), "language_score": scores}


def index_of(job: Job, benchmarks: tuple[str, ...], sha256: str) -> overlap.Index:
    """Return the index of a decontaminate step's benchmarks, from the cache where it is there."""
    return stored_index(index_place(job, benchmarks, sha256), benchmarks, job.data_root)


def index_place(job: Job, benchmarks: tuple[str, ...], sha256: str) -> Path:
    """Return where the cache keeps that index."""
    return place_of(job.cache, key_of("index", overlap.VERSION, benchmarks, sha256), "index")


def spec(step: Filter) -> list[Any]:
    """Return what determines a step's work, as part of an address."""
    return [step.use, step.options, step.source_sha256]


def overlap_name(benchmarks: tuple[str, ...]) -> str:
    """Return the attribute's name for a decontaminate step's list of benchmarks."""
    return "overlap-" + hashlib.sha256("\0".join(benchmarks).encode()).hexdigest()[:12]


def dedup_name(stage: Stage) -> str:
    """Return the name of the dedup attribute that a stage holds."""
    return next(name for name in stage.attributes if name.startswith("dedup-"))


def early_reasons(job: Job, stage: Stage, steps: list[tuple[int, Filter]]) -> pl.DataFrame:
    """Return `step` and `reason` a row: what the builder, an edit or the first of `steps` (all of this stage) says."""
    frame = pl.read_parquet(stage.records, columns=["kind", "chars", "meta", "step", "reason"], glob=False)
    frame = frame.hstack(pl.read_parquet(stage.attributes["language"], glob=False))
    frame = frame.hstack(pl.read_parquet(stage.attributes["tokens"], glob=False))
    for i, step in steps:
        if step.is_custom:
            verdict = pl.read_parquet(stage.attributes[f"step{i}"], glob=False).to_series()
            why = pl.DataFrame({"why": pl.select(pl.when(~verdict).then(pl.lit(step.use))).to_series()})
        elif f"step{i}" in stage.attributes:
            own = pl.read_parquet(stage.attributes[f"step{i}"], glob=False)
            why = own.select(step.settings.verdict().alias("why"))
        else:
            why = frame.select(step.settings.verdict().alias("why"))
        open_row = pl.col("reason").is_null() & pl.col("why").is_not_null() & (pl.col("kind") != "injected")
        frame = (
            frame.hstack(why)
            .with_columns(step=pl.when(open_row).then(pl.lit(step.use)).otherwise("step"))
            .with_columns(reason=pl.when(open_row).then("why").otherwise("reason"))
            .drop("why")
        )
    return frame.select("step", "reason")
