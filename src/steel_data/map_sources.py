"""Run the map pass over all sources: chunks of files in the workers, identity and injected rows as a whole."""

import json

import polars as pl

from steel_data.attributes import Job, index_of, index_place
from steel_data.cache import key_of
from steel_data.engine import progress, run
from steel_data.errors import InputError
from steel_data.inputs import SourceInputs
from steel_data.making import table
from steel_data.map import MappedChunk, MappedSource, map_whole, run_task, tasks_of
from steel_data.prepare import Prepared, draws


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
    from steel_data.record import record_id, text_view

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
    from steel_data.record import record_id, text_view

    drawn, name, settings = draws(prepared, inputs)
    made = list(zip(drawn, records(drawn, name, settings), strict=True))
    address = [f.scan.sha256 for f in inputs.files]
    chunks = []
    for i, file in enumerate(inputs.files):
        rows = []
        for d, record in made:
            if d.item.file != file.path:
                continue
            row = {"origin_row": d.item.row, "part": 0, **{k: record[k] for k in ("kind", "benchmark", "item", "dose")}}
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
