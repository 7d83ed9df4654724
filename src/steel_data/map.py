"""The first pass: chunks of raw rows -> records and narrow attribute files, in any worker, deciding nothing.

Every file is addressed by what went into it: records by input bytes, reader, builder and steps; attributes by their
records and their own parameters. So a changed threshold recomputes nothing, and a resumed run or a second recipe finds
what is done. The one exception is a custom filter that edits rows: it runs here, on rows that pass the steps before it,
and so its file is addressed by those steps too.
"""

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from steel_data.attributes import Job, Stage, StageOfChunk, early_reasons, spec
from steel_data.cache import key_of, place_of, write_frame
from steel_data.inputs import InputFile
from steel_data.making import build_records, edit_records
from steel_data.raw_rows import uncollected
from steel_data.readers import CHUNK_BYTES, read_chunks
from steel_data.steps import Filter


@dataclass(frozen=True)
class MappedChunk:
    """One chunk, mapped: where its files are. The last stage is what the mixture is made of."""

    file: int  # place of the file among the source's, sorted by name
    index: int
    rows: int
    stages: tuple[Stage, ...]
    edits: tuple[int, ...] = ()  # steps[i] that led from one stage to the next


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
class Task:
    """Some chunks of one file, for one worker."""

    job: Job
    file: InputFile
    file_index: int
    chunks: tuple[int, ...]


def tasks_of(job: Job, files: tuple[InputFile, ...]) -> list[Task]:
    """Cut a source into tasks: a chunk each where a worker can seek to it, else the whole file (to be streamed)."""
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
    missing = {i for i, key in address.items() if not place_of(job.cache, key, "records").exists()}
    if missing:
        for chunk, rows in read_chunks(task.file.path, scan, missing):
            with uncollected():
                records = build_records(task.file.name, job.builder, rows, list(job.meta))
            write_frame(place_of(job.cache, address[chunk.index], "records"), records)
    return [map_records(job, task.file.name, task.file_index, index, address[index]) for index in task.chunks]


def _records_key(job: Job, file: InputFile, index: int) -> str:
    scan, builder = file.scan, job.builder
    return key_of(
        scan.sha256, scan.format, scan.compression, index, CHUNK_BYTES, builder.use, builder.options,
        builder.source_sha256, job.meta,
    )  # fmt: skip


def map_whole(job: Job, address: str, make: Callable[[], pl.DataFrame], index: int = 0) -> MappedChunk:
    """Map the records of a builder that makes its source as a whole (identity's templates, the injector)."""
    place = place_of(job.cache, address, "records")
    if not place.exists():
        write_frame(place, make())
    return map_records(job, job.source, index, 0, address)


def map_records(job: Job, file_name: str, file_index: int, index: int, address: str) -> MappedChunk:
    """Follow a chunk's records through the edits, computing the attributes that each stage needs."""
    stages: list[Stage] = []
    edits: list[int] = []
    key = address
    since: list[tuple[int, Filter]] = []
    chunk = StageOfChunk(job, key, file_name)
    for i, step in job.early:
        if step.is_custom and not step.is_expression:
            key = key_of(key, job.source, [spec(s) for _, s in since], spec(step))
            chunk.language_and_tokens()
            following = place_of(job.cache, key, "records")
            if not following.exists():
                passing = [reason is None for reason in early_reasons(job, chunk.stage(), since)["reason"]]
                write_frame(following, edit_records(file_name, step, chunk.records, passing, chunk.columns()))
            stages.append(chunk.stage())
            edits.append(i)
            chunk, since = StageOfChunk(job, key, file_name), []
        else:
            chunk.attribute_of(i, step)
            since.append((i, step))
    chunk.language_and_tokens()
    chunk.late_attributes()
    stages.append(chunk.stage())
    return MappedChunk(file_index, index, chunk.rows, tuple(stages), tuple(edits))
