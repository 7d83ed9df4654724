"""The first pass: chunks of raw rows -> records and narrow attribute files, in any worker, deciding nothing.

Every file is addressed by what went into it: records by input bytes, reader, builder and steps; attributes by their
records and their own parameters. So a changed threshold recomputes nothing, and a resumed run or a second recipe finds
what is done. The one exception is a custom filter that edits rows: it runs here, on rows that pass the steps before it,
and so its file is addressed by those steps too.

Run the map pass over all sources: chunks of files in the workers, identity and injected rows as a whole.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl

from steel_data.engine import progress, run
from steel_data.errors import InputError
from steel_data.passes.attributes import Job, Stage, StageOfChunk, early_reasons, index_of, index_place, spec
from steel_data.passes.cache import key_of, place_of, write_frame
from steel_data.passes.inputs import InputFile, SourceInputs
from steel_data.passes.prepare import Prepared, draws
from steel_data.passes.records import build_records, edit_records
from steel_data.read.formats import CHUNK_BYTES, read_chunks
from steel_data.read.rows import uncollected
from steel_data.recipe.steps import Filter
from steel_data.row.table import table


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


def map_sources(prepared: Prepared, workers: int) -> tuple[MappedSource, ...]:
    """Run the map pass over all sources."""
    recipe, where = prepared.recipe, prepared.places
    digests = tuple((names, key_of([f.scan.sha256 for f in files])) for names, files in prepared.benchmarks.items())
    jobs = {
        inputs.source.name: Job(
            source=inputs.source.name,
            builder=inputs.builder,
            meta=tuple(inputs.source.table.meta),
            steps=() if inputs.builder.use == "contaminate" else (*inputs.source.filters, *recipe.filters),
            tokenizer=prepared.tokenizer,
            data_root=where.data_root,
            cache=where.cache,
            benchmarks_sha256=digests,
        )
        for inputs in prepared.inputs
    }
    by_rows = [i for i in prepared.inputs if i.builder.use != "contaminate"]
    tasks = [task for inputs in by_rows for task in tasks_of(jobs[inputs.source.name], inputs.files)]
    mapped: dict[str, list[MappedChunk]] = {name: [] for name in jobs}
    if workers > 1 and len(tasks) > 1:  # each worker would build the benchmark index for itself
        for names, sha256 in digests:
            if not index_place(tasks[0].job, names, sha256).exists():
                index_of(tasks[0].job, names, sha256)
    with progress("map", sum(inputs.rows for inputs in by_rows)) as advance:
        results = run(run_task, tasks, workers, lambda chunks: advance(sum(c.rows for c in chunks)))
    for task, chunks in zip(tasks, results, strict=True):
        mapped[task.job.source] += chunks
    for inputs in prepared.inputs:
        if inputs.builder.use == "contaminate":
            mapped[inputs.source.name] = _map_injected(jobs[inputs.source.name], prepared, inputs)
        elif inputs.builder.use == "identity" and not inputs.files:
            mapped[inputs.source.name] = [_map_identity(jobs[inputs.source.name])]
    _refuse_unreadable_files(prepared, mapped)
    return tuple(
        MappedSource(
            name=inputs.source.name,
            job=jobs[inputs.source.name],
            files=tuple(f.name for f in inputs.files) or (f"builtin:{inputs.builder.use}",),
            chunks=tuple(sorted(mapped[inputs.source.name], key=lambda c: (c.file, c.index))),
            take=inputs.source.table.take,
            take_tokens=inputs.source.table.take_tokens,
            repeat=inputs.source.table.repeat,
        )
        for inputs in prepared.inputs
    )


def _refuse_unreadable_files(prepared: Prepared, mapped: dict[str, list[MappedChunk]]) -> None:
    """A row that cannot be read is dropped and counted; a file of which none can be read is a mistake."""
    for inputs in prepared.inputs:
        for i, file in enumerate(inputs.files):
            chunks = [chunk for chunk in mapped[inputs.source.name] if chunk.file == i]
            frames = [pl.read_parquet(c.stages[0].records, columns=["reason", "error"], glob=False) for c in chunks]
            if not frames or not all((f["reason"] == "unreadable").fill_null(False).all() for f in frames):
                continue
            error = next((e for f in frames for e in f["error"]), "no rows")
            raise InputError(f"{file.name}: none of its {file.scan.rows:,} rows can be read; the first: {error}")


def _map_identity(job: Job) -> MappedChunk:
    from steel_data.builders.identity import builtin
    from steel_data.row.record import record_id, text_view

    def make() -> pl.DataFrame:
        rows = []
        for i, record in enumerate(builtin(**job.builder.options)):
            rows.append({
                "origin_row": i, "part": 0, "id": record_id(record), "kind": "identity",
                "messages": json.dumps(record["messages"], ensure_ascii=False, separators=(",", ":")),
                "language": record.get("language"), "chars": len(text_view(record)),
            })  # fmt: skip
        return table(rows)

    return map_whole(job, key_of("identity", job.builder.options), make)


def _map_injected(job: Job, prepared: Prepared, inputs: SourceInputs) -> list[MappedChunk]:
    """Draw a benchmark's items once and write one chunk a file."""
    from steel_data.builders.contaminate import records
    from steel_data.row.record import record_id, text_view

    drawn, name, settings = draws(prepared, inputs)
    made = list(zip(drawn, records(drawn, name, settings), strict=True))
    address = [f.scan.sha256 for f in inputs.files]
    chunks = []
    for i, file in enumerate(inputs.files):
        rows: list[dict[str, Any]] = []
        for record in (record for d, record in made if d.item.file == file.path):
            # not the item's own row: a zip or a parquet file may hold many subjects
            row = {"origin_row": len(rows), "part": 0, **{k: record[k] for k in ("kind", "benchmark", "item", "dose")}}
            if record["messages"] is None:
                row |= {"step": "contaminate", "reason": f"contaminate:{record['reason']}"}
            else:
                row |= {
                    "id": record_id(record), "chars": len(text_view(record)),
                    "messages": json.dumps(record["messages"], ensure_ascii=False, separators=(",", ":")),
                }  # fmt: skip
            rows.append(row)
        whole = table(rows)
        key = key_of("contaminate", job.builder.options, address, i, file.name)
        chunks.append(map_whole(job, key, lambda whole=whole: whole, i))  # type: ignore[misc]
    return chunks
