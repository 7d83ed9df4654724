"""The first pass: chunks of raw rows -> records and narrow attribute files, in any worker, deciding nothing.

Every file is addressed by what went into it: records by input bytes, reader, builder and steps; attributes by their records
and their own parameters. So a changed threshold recomputes nothing, and a resumed run or a second recipe finds what is done.
The one exception is a custom filter that edits rows: it runs here, on rows that pass the steps before it, and so its file is
addressed by those steps too.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache as memo
from pathlib import Path
from typing import Any

import polars as pl

from steel_data.errors import InputError
from steel_data.files import atomic
from steel_data.filters import dedup, language, overlap
from steel_data.inputs import InputFile
from steel_data.making import SCHEMA, build_records, edit_records, texts_of
from steel_data.readers import CHUNK_BYTES, read_chunks
from steel_data.steps import Builder, Filter
from steel_data.text import TextBatch
from steel_data.tokens import Tokenizer, counter

LATE = ("decontaminate", "dedup")  # decided in the plan pass, on the survivors of all other steps


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


@dataclass(frozen=True)
class MappedChunk:
    """One chunk, mapped: where its files are. The last stage is what the mixture is made of."""

    file: int  # place of the file among the source's, sorted by name
    index: int
    rows: int
    stages: tuple[Stage, ...]
    edits: tuple[int, ...] = ()  # steps[i] that led from one stage to the next


@dataclass(frozen=True)
class Task:
    """Some chunks of one file, for one worker."""

    job: Job
    file: InputFile
    file_index: int
    chunks: tuple[int, ...]


@memo
def code_version() -> str:
    """Return a fingerprint of steel_data's own source: changed code reuses no file of the old."""
    root = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.suffix in (".py", ".toml", ".json")):
        if "sample" not in path.relative_to(root).parts:
            digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def key_of(*parts: Any) -> str:
    """Return the address of what these JSON-like parts determine."""
    return hashlib.sha256(json.dumps([code_version(), *parts], sort_keys=True, default=str).encode()).hexdigest()


def _place(cache: Path, key: str, kind: str) -> Path:
    return cache / kind / key[:2] / f"{key[2:34]}.parquet"


def tasks_of(job: Job, files: tuple[InputFile, ...]) -> list[Task]:
    """Cut a source into tasks: a chunk each where a worker can seek to it, else the whole file (it must be streamed)."""
    tasks = []
    for i, file in enumerate(files):
        indices = tuple(chunk.index for chunk in file.scan.chunks)
        seekable = not file.scan.compression and file.scan.format not in ("csv", "tsv")
        groups = [(index,) for index in indices] if seekable else [indices]
        tasks += [Task(job, file, i, group) for group in groups if group]
    return tasks


def run_task(task: Task) -> list[MappedChunk]:
    """Map some chunks of a file; what the cache already holds is not computed again."""
    job, scan = task.job, task.file.scan
    address = {index: _records_key(job, task.file, index) for index in task.chunks}
    missing = {i for i, key in address.items() if not _place(job.cache, key, "records").exists()}
    if missing:
        for chunk, rows in read_chunks(task.file.path, scan, missing):
            records = build_records(task.file.name, job.builder, rows, list(job.meta))
            _write(_place(job.cache, address[chunk.index], "records"), records)
    return [map_records(job, task.file.name, task.file_index, index, address[index]) for index in task.chunks]


def _records_key(job: Job, file: InputFile, index: int) -> str:
    scan, builder = file.scan, job.builder
    return key_of(
        scan.sha256, scan.format, scan.compression, index, CHUNK_BYTES, builder.use, builder.options,
        builder.source_sha256, job.meta,
    )  # fmt: skip


def map_whole(job: Job, address: str, make: Callable[[], pl.DataFrame], index: int = 0) -> MappedChunk:
    """Map the records of a builder that makes its source as a whole (identity's templates, the injector)."""
    place = _place(job.cache, address, "records")
    if not place.exists():
        _write(place, make())
    return map_records(job, job.source, index, 0, address)


def map_records(job: Job, file_name: str, file_index: int, index: int, address: str) -> MappedChunk:
    """Follow a chunk's records through the edits, computing the attributes that each stage needs."""
    stages: list[Stage] = []
    edits: list[int] = []
    key, since = address, []
    chunk = _Chunk(job, key, file_name)
    for i, step in job.early:
        if step.is_custom and not step.is_expression:
            key = key_of(key, job.source, [_spec(s) for s in since], _spec(step))
            chunk.language_and_tokens()
            following = _place(job.cache, key, "records")
            if not following.exists():
                passing = [reason is None for reason in early_reasons(job, chunk.stage(), since)["reason"]]
                _write(following, edit_records(file_name, step, chunk.records, passing, chunk.columns()))
            stages.append(chunk.stage())
            edits.append(i)
            chunk, since = _Chunk(job, key, file_name), []
        else:
            chunk.attribute_of(i, step)
            since.append((i, step))
    chunk.language_and_tokens()
    chunk.late_attributes()
    stages.append(chunk.stage())
    return MappedChunk(file_index, index, chunk.rows, tuple(stages), tuple(edits))


def _spec(step: Filter | tuple[int, Filter]) -> Any:
    _, step = step if isinstance(step, tuple) else (0, step)
    return [step.use, step.options, step.source_sha256]


class _Chunk:
    """One stage of one chunk while it is looked at: records and texts are read only if some attribute is missing."""

    def __init__(self, job: Job, key: str, file_name: str) -> None:
        self.job, self.key, self.file_name = job, key, file_name
        self.place = _place(job.cache, key, "records")
        self.attributes: dict[str, Path] = {}
        self._records: pl.DataFrame | None = None
        self._texts: list[str] | None = None
        self._batch: TextBatch | None = None

    @property
    def rows(self) -> int:
        return int(pl.scan_parquet(self.place).select(pl.len()).collect().item())

    @property
    def records(self) -> pl.DataFrame:
        if self._records is None:
            self._records = pl.read_parquet(self.place, glob=False)
        return self._records

    @property
    def texts(self) -> list[str]:
        if self._texts is None:
            self._texts = texts_of(self.records)
        return self._texts

    @property
    def batch(self) -> TextBatch:
        if self._batch is None:
            self._batch = TextBatch(self.texts)
        return self._batch

    def stage(self) -> Stage:
        return Stage(self.place, dict(self.attributes))

    def attribute(self, name: str, parameters: Any, compute: Callable[[], pl.DataFrame]) -> None:
        """Make sure that an attribute file is there."""
        place = _place(self.job.cache, key_of(self.key, name, parameters), "attributes")
        if not place.exists():
            _write(place, compute())
        self.attributes[name] = place

    def language_and_tokens(self) -> None:
        def languages() -> pl.DataFrame:
            labels, scores = language.detect(self.texts)
            given = self.records["language"]
            told = pl.Series("language", labels, dtype=pl.String)
            score = pl.when(given.is_not_null()).then(pl.lit(1.0)).otherwise(pl.Series(scores)).cast(pl.Float32)
            empty = self.records["messages"].is_null()
            return pl.select(
                language=pl.when(empty).then(None).otherwise(pl.coalesce(given, told)),
                language_score=pl.when(empty).then(None).otherwise(score),
            )

        tokenizer = self.job.tokenizer
        self.attribute("language", language.VERSION, languages)
        self.attribute(
            "tokens", [tokenizer.name, tokenizer.sha256],
            lambda: pl.DataFrame({"tokens": pl.Series(counter(tokenizer)(self.texts), dtype=pl.Int32)}),
        )  # fmt: skip

    def attribute_of(self, i: int, step: Filter) -> None:
        self.language_and_tokens()
        if step.is_custom:
            self.attribute(f"step{i}", [self.job.source, self.file_name, _spec(step)], lambda: self._expression(step))
        elif hasattr(step.settings, "compute"):
            self.attribute(f"step{i}", _spec(step), lambda: pl.DataFrame(step.settings.compute(self.texts)))

    def late_attributes(self) -> None:
        near = [step.settings.near for step in self.job.steps if step.use == "dedup"]
        if near:
            settings = dedup.Dedup(near=any(near))
            self.attribute(
                f"dedup-{settings.near}", dedup.VERSION, lambda: pl.DataFrame(settings.compute(self.batch))
            )
        for benchmarks, sha256 in self.job.benchmarks_sha256:
            def overlaps(names: tuple[str, ...] = benchmarks) -> pl.DataFrame:
                index = overlap.build_index(names, self.job.data_root)
                return pl.DataFrame(overlap.overlap(texts_of(self.records, overlap.TURN), index))

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
            raise InputError(
                f"{self.file_name}: filter '{step.use}' raised {type(error).__name__}: {str(error).splitlines()[0][:160]}. "
                "Right: a polars expression over the mixture's columns."
            ) from error
        if keep.dtype != pl.Boolean or len(keep) != len(frame):
            raise InputError(f"{self.file_name}: filter '{step.use}' gives {keep.dtype}, not true or false a row.")
        return pl.DataFrame({f"custom_{step.use}": keep.fill_null(False)})


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


def _write(place: Path, frame: pl.DataFrame) -> None:
    with atomic(place) as temporary:
        frame.write_parquet(temporary, compression="lz4", statistics=False)


def read_records(place: Path, columns: list[str] | None = None) -> pl.DataFrame:
    """Read a records file (all columns of making.SCHEMA, or some)."""
    return pl.read_parquet(place, columns=columns or list(SCHEMA), glob=False)
