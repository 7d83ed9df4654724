"""The first pass: chunks of raw rows -> records and narrow attribute files, in any worker, deciding nothing.

Every file is addressed by what went into it: records by input bytes, reader, builder and its options; attributes by
their records and their own parameters. So a changed threshold recomputes nothing, and a resumed run or a second recipe
finds what is done. The one exception is a filter that edits rows: it runs here, on rows that pass the steps
before it, and so its records are addressed by those steps too.

Chunks of files are mapped in the workers; what is made as a whole (identity's templates, injected rows) here. Each
chunk hands on its narrow columns with the verdict of the steps that look at one row, which the plan pass joins.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby, pairwise
from typing import Any

import polars as pl

from steel_data.builders import unused
from steel_data.builders.contaminate import records as injected
from steel_data.engine import Executor, Local, progress
from steel_data.errors import InputError, excerpt, nearest
from steel_data.files import present
from steel_data.filters import quality
from steel_data.passes.attributes import (
    NARROW,
    Benchmarks,
    Job,
    Stage,
    StageOfChunk,
    index_of,
    index_place,
    noted,
    spec,
)
from steel_data.passes.cache import is_absent, key_of, place_of
from steel_data.passes.inputs import InputFile, SourceInputs
from steel_data.passes.prepare import Injection, Prepared
from steel_data.passes.records import build_records, injected_records, made_records
from steel_data.read.csv_rows import DELIMITER
from steel_data.read.formats import CHUNK_BYTES, read_chunks
from steel_data.read.rows import RawRow, changed, uncollected
from steel_data.recipe.steps import Filter
from steel_data.row.columns import Unread, added, count, holds
from steel_data.row.json_text import to_json
from steel_data.row.table import UNREADABLE, packed, read_columns
from steel_data.selection.choose import BoundSelect
from steel_data.store.names import is_far

RUNS = 2  # of the chunks of a parquet row group, for each worker


@dataclass(frozen=True)
class MappedChunk:
    """One chunk, mapped: where its files are. The last stage is what the mixture is made of."""

    file: int  # place of the file among the source's, sorted by name
    index: int
    rows: int
    stages: tuple[Stage, ...]
    unread: dict[str, Unread] = field(default_factory=dict)  # columns of its raw rows that its builder did not read


@dataclass(frozen=True)
class MappedSource:
    """A source after the map pass: its job, its files' names, its chunks in order of file and place.

    `narrow`: of each chunk the columns NARROW, language, tokens, what `quality` finds, and step and reason of the first
    row-by-row step that drops a record, as `slim` leaves them. The plan pass takes them away, for they are most of what
    a large build has in memory.
    """

    name: str
    job: Job
    files: tuple[str, ...]
    chunks: tuple[MappedChunk, ...]
    narrow: list[pl.DataFrame]
    take: int | None = None
    take_tokens: int | None = None
    hold_out: int = 0
    choice: BoundSelect | None = None
    repeat: int = 1

    @property
    def unread(self) -> dict[str, Unread]:
        """The columns of its raw rows that its builder did not read, though they hold something."""
        return added(chunk.unread for chunk in self.chunks)

    @property
    def unused_columns(self) -> dict[str, int]:
        """The same as column -> raw rows in which it holds something."""
        return {name: column.rows for name, column in self.unread.items()}


@dataclass(frozen=True)
class Task:
    """Some chunks of one file, for one worker. `new`: those of which the cache in a bucket held nothing."""

    job: Job
    file: InputFile
    file_index: int
    chunks: tuple[int, ...]
    new: frozenset[int] = frozenset()

    def __str__(self) -> str:
        """Name the task for people."""
        chunks = f"chunk {self.chunks[0]}" if len(self.chunks) == 1 else f"chunks {self.chunks[0]} to {self.chunks[-1]}"
        return f"{self.file.name}, {chunks}"


Mapped = tuple[MappedChunk, pl.DataFrame]  # a chunk and its narrow columns


def map_sources(prepared: Prepared, executor: Executor) -> tuple[MappedSource, ...]:
    """Run the map pass over all sources."""
    jobs = _jobs(prepared)
    # before hours of work on the other sources: a draw may not be possible
    mapped = {
        inputs.source.name: _map_whole(jobs[inputs.source.name], prepared, inputs) if inputs.builder.whole else []
        for inputs in prepared.inputs
    }
    tasks = _tasks(prepared, jobs, executor.workers)
    _make_indexes(tasks, executor)
    sources = {inputs.source.name: inputs for inputs in prepared.inputs}
    with progress("map", _rows_of(tasks)) as advance:
        done_with = iter(tasks)  # results come in their order

        def look(done: list[Mapped]) -> None:
            advance(sum(chunk.rows for chunk, _ in done))
            inputs = sources[next(done_with).job.source]
            _refuse_lost_meaning(prepared, inputs, done, whole=len(done) == inputs.chunks and inputs.is_whole)

        results = executor.map(run_task, tasks, look)
    for task, done in zip(tasks, results, strict=True):
        mapped[task.job.source] += done
    _refuse_unreadable_files(prepared, mapped)
    for inputs in prepared.inputs:
        _refuse_lost_meaning(prepared, inputs, mapped[inputs.source.name], inputs.is_whole)
        _refuse_absent_meta(prepared, inputs, mapped[inputs.source.name])
    return tuple(
        replace(_source(inputs, jobs[name], mapped[name]), choice=prepared.choices.get(name))
        for name, inputs in sources.items()
    )


def map_part(prepared: Prepared, number: int, of: int, executor: Executor) -> int:
    """Leave the `number`-th (from 1) of `of` shares of the map pass in the cache; return of how many tasks it is."""
    tasks = _tasks(prepared, _jobs(prepared), of)[number - 1 :: of]
    _make_indexes(tasks, executor)
    with progress("map", _rows_of(tasks)) as advance:
        executor.map(run_task, tasks, lambda done: advance(sum(chunk.rows for chunk, _ in done)))
    return len(tasks)


def unmapped(prepared: Prepared, workers: int) -> int:
    """Return how many chunks of files have no records in the cache."""
    return sum(_is_new(task, i) for task in _tasks(prepared, _jobs(prepared), workers) for i in task.chunks)


def _is_new(task: Task, index: int) -> bool:
    """Whether the cache has no records of a chunk: then it has nothing of what is known about them either."""
    cache = task.job.cache
    place = place_of(cache, records_key(task.job, task.file, index), "records")
    return is_absent(cache, place) if is_far(cache) else not place.exists()


def _tasks(prepared: Prepared, jobs: dict[str, Job], workers: int) -> list[Task]:
    """Return the tasks of all sources that are read row by row."""
    by_rows = [inputs for inputs in prepared.inputs if not inputs.builder.whole]
    tasks = [task for inputs in by_rows for task in tasks_of(jobs[inputs.source.name], inputs.files, workers)]
    if not is_far(prepared.places.cache):
        return tasks
    return [replace(task, new=frozenset(i for i in task.chunks if _is_new(task, i))) for task in tasks]


def _rows_of(tasks: list[Task]) -> int:
    return sum(task.file.scan.chunks[i].rows for task in tasks for i in task.chunks)


def _make_indexes(tasks: list[Task], executor: Executor) -> None:
    """Make the benchmarks' indexes, where several workers would each make them, or lack the benchmarks."""
    if tasks and (not isinstance(executor, Local) or (executor.workers > 1 and len(tasks) > 1)):
        for benchmarks in tasks[0].job.benchmarks:
            if present(index_place(tasks[0].job, benchmarks)) is None:
                index_of(tasks[0].job, benchmarks)


def _jobs(prepared: Prepared) -> dict[str, Job]:
    """Return the job of each source."""
    recipe, where = prepared.recipe, prepared.places
    benchmarks = tuple(Benchmarks.of(names, files) for names, files in prepared.benchmarks.items())
    return {
        inputs.source.name: Job(
            source=inputs.source.name,
            builder=inputs.builder,
            meta=tuple(inputs.source.table.meta),
            steps=() if inputs.builder.injects else (*inputs.source.filters, *recipe.filters),
            tokenizer=prepared.tokenizer,
            data_root=where.data_root,
            cache=where.cache,
            benchmarks=benchmarks,
            looked_at=min(1.0, quality.SAMPLE / max(inputs.rows, 1)),
            ratings=prepared.ratings.get(inputs.source.name),
        )
        for inputs in prepared.inputs
    }


def _source(inputs: SourceInputs, job: Job, mapped: list[Mapped]) -> MappedSource:
    mapped = sorted(mapped, key=lambda done: (done[0].file, done[0].index))
    table = inputs.source.table
    return MappedSource(
        name=inputs.source.name,
        job=job,
        files=tuple(file.name for file in inputs.files) or (f"builtin:{inputs.builder.use}",),
        chunks=tuple(chunk for chunk, _ in mapped),
        narrow=[narrow for _, narrow in mapped],
        take=table.take,
        take_tokens=table.take_tokens,
        hold_out=table.hold_out,
        repeat=table.repeat,
    )


def _refuse_unreadable_files(prepared: Prepared, mapped: dict[str, list[Mapped]]) -> None:
    """A row that cannot be read is dropped and counted; a file of which none can be read is a mistake."""
    for inputs in prepared.inputs:
        for i, file in enumerate(inputs.files):
            mine = [done for done in mapped[inputs.source.name] if done[0].file == i]
            if not mine or not all(_all_unreadable(rows) for _, rows in mine):
                continue
            errors = [read_columns(c.stages[0].records, ["error"])["error"] for c, _ in mine]
            error = next((e for column in errors for e in column), "no rows")
            raise InputError(
                f"{file.name}: none of its {file.scan.rows:,} rows can be read; the first: {error}. Fix: its form."
            )


def _all_unreadable(rows: pl.DataFrame) -> bool:
    return bool((rows["reason"].cast(pl.String) == UNREADABLE).fill_null(False).all())


def _refuse_lost_meaning(prepared: Prepared, inputs: SourceInputs, mapped: list[Mapped], whole: bool) -> None:
    """Raise InputError where a column that changes what rows mean is not read, and the recipe does not settle it."""
    source = inputs.source
    # the recipe's own words: that a dataset_info.json does not list a column settles nothing
    settled = unused.settled(source.builder, source.table.ignore)
    lost = unused.lost_meaning(added(chunk.unread for chunk, _ in mapped), settled, whole)
    if lost:
        fault = unused.fault(inputs.builder, lost, lambda name: _example(inputs, name))
        raise InputError(f"{prepared.recipe.path} [source.{source.name}]: {fault}")


def _refuse_absent_meta(prepared: Prepared, inputs: SourceInputs, mapped: list[Mapped]) -> None:
    """Raise InputError where `meta` names a column that no row of a source has; in some rows it may be missing."""
    names = inputs.source.table.meta if inputs.is_whole and not inputs.builder.whole else []
    for name in names:
        if any(_holds_meta(read_columns(chunk.stages[0].records, ["meta"])["meta"], name) for chunk, _ in mapped):
            continue
        columns: set[str] = set().union(*_rows(inputs))
        if columns and name not in columns:
            where = f"{prepared.recipe.path} [source.{inputs.source.name}]"
            near = nearest(name, sorted(columns), show_known=False)
            raise InputError(
                f"{where}: meta names the column '{excerpt(name, 40)}', which no row has.{near} "
                "Fix: a column of the rows."
            )


def _holds_meta(metas: pl.Series, name: str) -> bool:
    """Return whether a column of `meta` is more than null in some record."""
    key = f"{to_json(name)}:"
    return bool((metas.str.contains(key, literal=True) & ~metas.str.contains(f"{key}null", literal=True)).any())


def _example(inputs: SourceInputs, name: str) -> dict[str, Any] | None:
    """Return the first row of a source in whose column `name` something stands."""
    return next((row for row in _rows(inputs) if holds(row.get(name))), None)


def _rows(inputs: SourceInputs) -> Iterator[dict[str, Any]]:
    """Yield the raw rows of a source that can be read."""
    for file in inputs.files:
        for _, rows in read_chunks(file.path, file.scan, [chunk.index for chunk in file.scan.chunks]):
            yield from (row.value for row in rows if row.value is not None)


# Sources that are read row by row


def tasks_of(job: Job, files: tuple[InputFile, ...], workers: int) -> list[Task]:
    """Cut a source into tasks: a chunk each where a worker can seek to it, else the whole file (to be streamed).

    Inside a row group of parquet nobody can seek: what stands before a chunk is decoded for it again. So a group's
    chunks are cut into RUNS runs a worker at most, which is once or twice as much to decode and no more.
    """
    tasks = []
    for i, file in enumerate(files):
        chunks = file.scan.chunks
        if file.scan.compression != "none" or file.scan.format in DELIMITER:
            runs = [[chunk.index for chunk in chunks]]
        elif file.scan.format == "parquet":
            groups = [[chunk.index for chunk in group] for _, group in groupby(chunks, lambda chunk: chunk.start)]
            # of an object each run asks for the whole group: one run, then, and as many tasks as it has groups
            runs = [run for g in groups for run in _runs(g, 1 if workers == 1 or is_far(file.path) else RUNS * workers)]
        else:
            runs = [[chunk.index] for chunk in chunks]
        tasks += [Task(job, file, i, tuple(run)) for run in runs if run]
    return tasks


def _runs(indices: list[int], count: int) -> list[list[int]]:
    """Return at most `count` runs of nearly equal length."""
    count = min(count, len(indices))
    borders = [len(indices) * i // count for i in range(count + 1)]
    return [indices[a:b] for a, b in pairwise(borders)]


def run_task(task: Task) -> list[Mapped]:
    """Map some chunks of a file; what the cache already holds is not computed again."""
    job, file = task.job, task.file
    key = {index: records_key(job, file, index) for index in task.chunks}
    places = {index: place_of(job.cache, key[index], "records") for index in task.chunks}
    missing = {index for index in task.chunks if index in task.new or present(places[index]) is None}
    stream = read_chunks(file.path, file.scan, missing)  # in one go: a compressed file has no other way

    def rows_of(index: int) -> Iterator[RawRow]:
        # a chunk whose records are there, but damaged, is read by itself
        for chunk, rows in stream if index in missing else read_chunks(file.path, file.scan, {index}):
            if chunk.index == index:  # else another build has made it meanwhile
                yield from rows
                return
        raise changed(file.path)

    done = []
    for index in task.chunks:

        def make(index: int = index) -> pl.DataFrame:
            with uncollected():
                return build_records(file.name, job.builder, rows_of(index), list(job.meta))

        first = StageOfChunk(job, key[index], file.name, make, index not in task.new)
        done.append(map_records(first, task.file_index, index))
    return done


def records_key(job: Job, file: InputFile, index: int) -> str:
    """Return the address of a chunk's records: bytes, reader, chunk, builder, and the columns kept as `meta`."""
    scan, builder = file.scan, job.builder
    return key_of(
        "records", scan.sha256, scan.format, scan.compression, index, CHUNK_BYTES, builder.use, builder.target,
        builder.options, builder.source_sha256, job.meta,
    )  # fmt: skip


def map_records(chunk: StageOfChunk, file_index: int, index: int) -> Mapped:
    """Follow a chunk's records through the edits, computing the attributes that each stage needs."""
    stages: list[Stage] = []
    since: list[tuple[int, Filter]] = []
    verdict: pl.DataFrame | None = None
    for i, step in chunk.job.early:
        if step.edits:
            chunk.measure_rows()
            verdict = _first(verdict, chunk.reasons(since))
            key, before, passing = edit_key(chunk, since, step), chunk, verdict["reason"].is_null().to_list()

            def make(before: StageOfChunk = before, step: Filter = step, passing: Any = passing) -> pl.DataFrame:
                return before.edited(step, passing)

            stages.append(chunk.stage())
            chunk, since = StageOfChunk(chunk.job, key, chunk.file_name, make, chunk.look), []
        else:
            chunk.measure_step(i, step)
            since.append((i, step))
    chunk.measure_rows()
    verdict = _first(verdict, chunk.reasons(since))
    chunk.measure_for_plan()
    stages.append(chunk.stage())
    told = [chunk.measured["language"].select("language"), chunk.measured["tokens"], verdict]
    told.append(chunk.quality().alias("quality").to_frame())
    narrow = pl.concat([chunk.narrow.select(NARROW).drop(verdict.columns), *told], how="horizontal")
    unread = count(dict(chunk.narrow["unread"].drop_nulls().value_counts().iter_rows()))
    narrow = slim(narrow.with_columns(packed(pl.col("id"))))
    return MappedChunk(file_index, index, len(narrow), tuple(stages), unread), narrow


def slim(narrow: pl.DataFrame) -> pl.DataFrame:
    """Return narrow columns in few bytes: numbers in the smallest type, words numbered, nothing for a column of nulls.

    The words' numbers are the chunk's own.
    """
    columns = []
    for column in narrow:
        if column.null_count() == len(column):
            column = column.cast(pl.Null)
        elif column.dtype == pl.String:
            column = column.cast(pl.Enum(column.unique().drop_nulls().sort()))
        elif column.dtype in (pl.Int64, pl.Int32):
            column = column.shrink_dtype()
        columns.append(column)
    return pl.DataFrame(columns)


def edit_key(chunk: StageOfChunk, since: list[tuple[int, Filter]], step: Filter) -> str:
    """Return the address of a stage's records after an edit: all that the function sees and that lets a row reach it.

    `since`: the steps between this stage's beginning and the edit; those before it are in the stage's own address.
    """
    job, tokenizer = chunk.job, chunk.job.tokenizer
    return key_of(
        "edit", chunk.key, job.source, chunk.file_name, [tokenizer.name, tokenizer.sha256],
        [[*spec(s), *chunk.seen(s)] for _, s in since], spec(step), *chunk.seen(step),
    )  # fmt: skip


def _first(before: pl.DataFrame | None, now: pl.DataFrame) -> pl.DataFrame:
    """Return step and reason of each row: those of the stages before, else those of this one; and the notes of all."""
    if before is None:
        return now
    undecided = before["reason"].is_null()
    return pl.select(
        note=noted(pl.lit(before["note"]), pl.lit(now["note"])),
        step=pl.when(undecided).then(now["step"]).otherwise(before["step"]),
        reason=pl.when(undecided).then(now["reason"]).otherwise(before["reason"]),
    )


# Sources that are made as a whole


def _map_whole(job: Job, prepared: Prepared, inputs: SourceInputs) -> list[Mapped]:
    """Map the records of a builder that makes its source as a whole: one chunk, or one a file of a benchmark."""
    if inputs.builder.injects:
        injection = prepared.injection(inputs)
        chunks = [_injected_chunk(job, inputs, injection, file) for file in inputs.files]
    else:
        chunks = [_whole_chunk(job, whole_key(job), lambda: made_records(job.builder.make()))]
    return [map_records(chunk, i, 0) for i, chunk in enumerate(chunks)]


def _injected_chunk(job: Job, inputs: SourceInputs, injection: Injection, file: InputFile) -> StageOfChunk:
    def make() -> pl.DataFrame:
        mine = [draw for draw in injection.draws if draw.item.file == file.path]
        return injected_records(job.builder.use, injected(mine, injection.benchmark, injection.settings))

    return _whole_chunk(job, injected_key(job, inputs, injection, file), make)


def _whole_chunk(job: Job, key: str, make: Callable[[], pl.DataFrame]) -> StageOfChunk:
    look = not is_absent(job.cache, place_of(job.cache, key, "records"))
    return StageOfChunk(job, key, job.source, make, look)


def whole_key(job: Job) -> str:
    """Return the address of the records that a builder makes of its options alone."""
    return key_of("whole", job.builder.use, job.builder.options)


def injected_key(job: Job, inputs: SourceInputs, injection: Injection, file: InputFile) -> str:
    """Return the address of a file's injected rows: the draw goes over all files, whose names are subjects."""
    files = [[f.name, f.scan.sha256] for f in inputs.files]
    return key_of("injected", job.builder.use, job.builder.options, injection.benchmark, files, file.name)
