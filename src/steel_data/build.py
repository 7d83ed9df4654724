"""One recipe -> one mixture folder: resolve, map, plan, gather, and only then the manifest."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from steel_data.benchmarks import Item, benchmark_name, read_benchmark
from steel_data.engine import progress, run
from steel_data.errors import InputError
from steel_data.filters import overlap
from steel_data.gather import Gathered, gather, sha256_of
from steel_data.inputs import InputFile, SourceInputs, origin_name, resolve, scan
from steel_data.making import table
from steel_data.manifest import (
    contamination,
    damaged,
    ledger,
    portable,
    read_manifest,
    recipe_sha256,
    versions,
)
from steel_data.map import Job, MappedChunk, key_of, map_whole, run_task, tasks_of
from steel_data.plan import MappedSource, Plan, decide
from steel_data.recipe import Recipe
from steel_data.test_splits import check_test_splits
from steel_data.tokens import Tokenizer, find_tokenizer


@dataclass(frozen=True)
class Places:
    """Where a build reads and writes."""

    data_root: Path
    out: Path
    cache: Path


@dataclass(frozen=True)
class Prepared:
    """All that is known before the first row is built."""

    recipe: Recipe
    places: Places
    tokenizer: Tokenizer
    inputs: tuple[SourceInputs, ...]
    benchmarks: dict[tuple[str, ...], tuple[InputFile, ...]]  # of the decontaminate steps
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """A finished build. `fresh` is False where the folder already held this very mixture."""

    folder: Path
    manifest: dict[str, Any]
    fresh: bool
    warnings: tuple[str, ...] = ()


def places(recipe: Recipe, data_root: Path | None, out: Path | None, cache: Path | None) -> Places:
    """Settle the folders: options, else environment, else recipe, else the defaults of DESIGN.md."""
    root = data_root or _environment("STEEL_DATA_ROOT")
    if root is None and recipe.data_root is not None:
        root = recipe.path.parent / recipe.data_root
    folder = out or Path("runs") / recipe.name / "mixture"
    return Places(root or recipe.path.parent, folder, cache or _environment("STEEL_CACHE") or folder.parent / ".cache")


def _environment(name: str) -> Path | None:
    value = os.environ.get(name)
    return Path(value) if value else None


def build(
    recipe: Recipe,
    *,
    data_root: Path | None = None,
    out: Path | None = None,
    cache: Path | None = None,
    workers: int = 1,
) -> Result:
    """Build the mixture of a recipe, or verify the one that is already there.

    Raises InputError for what the user can put right; LedgerError when the books do not balance.
    """
    where = places(recipe, data_root, out, cache)
    with locked(where.out):
        _refuse_foreign_folder(where.out)
        prepared = prepare(recipe, where, workers)
        head = _manifest_head(prepared)
        finished = _finished(where.out, head)
        if finished is not None:
            return Result(where.out, finished, fresh=False, warnings=prepared.warnings)
        sources = map_sources(prepared, workers)
        plan = decide(recipe, sources)
        manifest = _write(prepared, sources, plan, head, workers)
        return Result(where.out, manifest, fresh=True, warnings=prepared.warnings)


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold the operating system's lock on an output folder; it ends with the process, however that ends."""
    from filelock import FileLock, Timeout

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out.parent / f".{out.name}.lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(f"{out}: another build is writing this folder. Right: wait for it, or another --out.") from None
    except OSError as error:
        raise InputError(f"{out}: cannot be written: {error.strerror or error}. Right: a writable --out.") from None
    try:
        yield
    finally:
        lock.release()


def _refuse_foreign_folder(out: Path) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise InputError(f"{out}: is a file. Right: a folder for --out.")
    names = {p.name for p in out.iterdir()}
    if names and "manifest.json" not in names:
        raise InputError(f"{out}: holds files that are no mixture ({min(names)}). Right: an empty or new folder for --out.")


def prepare(recipe: Recipe, where: Places, workers: int = 1) -> Prepared:
    """Find and scan all inputs and check what can be checked before a row is built."""
    tokenizer = find_tokenizer(recipe.tokenizer, recipe.path.parent)
    inputs = tuple(resolve(recipe, source, where.data_root, where.cache) for source in recipe.sources)
    warnings = check_test_splits(recipe, inputs, where.cache)
    benchmarks: dict[tuple[str, ...], tuple[InputFile, ...]] = {}
    for step in [*recipe.filters, *(step for source in recipe.sources for step in source.filters)]:
        if step.use != "decontaminate":
            continue
        names = tuple(step.options["benchmarks"])
        try:
            files = overlap.overlap_files(list(names), where.data_root)
        except InputError as error:
            raise InputError(f"{recipe.path} filter 'decontaminate': {error}") from None
        root = where.data_root
        benchmarks[names] = tuple(InputFile(f, origin_name(f, root), scan(f, where.cache)) for f in files)
    return Prepared(recipe, where, tokenizer, inputs, benchmarks, tuple(warnings))


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


def draws(prepared: Prepared, inputs: SourceInputs) -> tuple[list[Any], str, dict[str, Any]]:
    """Return the draw of an injected source, the benchmark's name, and the injector's settings."""
    from steel_data.builders.contaminate import contaminate, draw

    where = f"{prepared.recipe.path} [source.{inputs.source.name}]"
    options = inputs.builder.options
    root = inputs.source.table.paths[0] if inputs.source.table.paths else options["benchmark"]
    name = options.get("benchmark") or benchmark_name(root)
    try:
        settings = contaminate(**options)
        is_file = (prepared.places.data_root / root).is_file()
        items: list[Item] = read_benchmark(root, prepared.places.data_root, None if is_file else settings["split"])
        return draw(items, settings), name, settings
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _manifest_head(prepared: Prepared) -> dict[str, Any]:
    """Return the part of the manifest that is known before a row is built: what the mixture depends on."""
    recipe = prepared.recipe
    inputs: dict[str, dict[str, Any]] = {}
    groups = [i.files for i in prepared.inputs] + list(prepared.benchmarks.values())
    for file in sorted((f for files in groups for f in files), key=lambda f: f.name):
        inputs[file.name] = {"sha256": file.scan.sha256, "rows": file.scan.rows}
    steps = [s for source in recipe.sources for s in (source.builder, *source.filters)]
    custom = {step.use: step.source_sha256 for step in [*steps, *recipe.filters] if step.is_custom}
    head = {
        "name": recipe.name,
        "seed": recipe.seed,
        "recipe": portable(recipe.merged),
        "recipe_sha256": recipe_sha256(recipe),
        "versions": versions(),
        "tokenizer": prepared.tokenizer.describe(),
        "inputs": inputs,
        "custom": dict(sorted(custom.items())),
        "revisions": {i.source.name: i.revision for i in prepared.inputs if i.revision},
        "test_splits": {
            i.source.name: i.source.table.allow_test_split
            for i in prepared.inputs
            if i.source.table.allow_test_split is not None
        },
    }
    return json.loads(json.dumps(head))  # type: ignore[no-any-return]


def _finished(out: Path, head: dict[str, Any]) -> dict[str, Any] | None:
    """Return the manifest of a whole mixture made of the very same things, or None."""
    if not (out / "manifest.json").is_file():
        return None
    try:
        manifest = read_manifest(out)
    except InputError:
        return None
    # [train] and [eval] do not change a mixture
    same = all(manifest.get(key) == value for key, value in head.items() if key != "recipe")
    return manifest if same and not damaged(out, manifest) else None


def _write(
    prepared: Prepared, sources: tuple[MappedSource, ...], plan: Plan, head: dict[str, Any], workers: int
) -> dict[str, Any]:
    """Write the mixture into a temporary folder and put it in place whole."""
    out = prepared.places.out
    fresh = out.with_name(f".{out.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        fresh.mkdir(parents=True)
        accounts = ledger(plan, sources, _raw_rows(prepared))
        with progress("gather", len(plan.frame)) as advance:
            gathered = gather(plan, sources, fresh, workers, _witness_texts(prepared), advance)
        truth = _write_truth(prepared, fresh)
        manifest = _manifest(head, plan, accounts, gathered, truth)
        from steel_data.card import write_card

        write_card(fresh, manifest)
        text = json.dumps(manifest, ensure_ascii=False, indent=2) + "\n"
        (fresh / "manifest.json").write_text(text, encoding="utf-8", newline="\n")
        old = out.with_name(f".{out.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if out.exists():
            out.rename(old)
        fresh.rename(out)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise InputError(f"{out}: cannot be written: {error.strerror or error}. Right: a writable disk with room.") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return manifest


def _raw_rows(prepared: Prepared) -> dict[str, int]:
    rows = {}
    for inputs in prepared.inputs:
        rows[inputs.source.name] = inputs.rows
        if inputs.builder.use == "contaminate":
            rows[inputs.source.name] = len(draws(prepared, inputs)[0])
    return rows


def _witness_texts(prepared: Prepared) -> Callable[[list[str]], list[str]]:
    """Return a function from item names (`cmmlu/test/law/00001`) to question and options."""
    texts: dict[str, str] = {}

    def find(names: list[str]) -> list[str]:
        if names and not texts:
            for benchmarks in prepared.benchmarks:
                index = overlap.build_index(benchmarks, prepared.places.data_root)
                texts.update(zip(index.names, index.texts, strict=True))
        return [texts[name] for name in names]

    return find


def _write_truth(prepared: Prepared, folder: Path) -> dict[str, dict[str, Any]]:
    """Write what the injector drew, item by item; seal it with a checksum in the manifest."""
    rows = []
    for inputs in prepared.inputs:
        if inputs.builder.use != "contaminate":
            continue
        drawn, name, _ = draws(prepared, inputs)
        rows += [
            {"benchmark": name, "item": d.item.item, "dose": d.dose, "form": d.form if d.dose else None,
             "subject": d.item.subject, "source": inputs.source.name}
            for d in drawn
        ]  # fmt: skip
    if not rows:
        return {}
    schema = {"benchmark": pl.String, "item": pl.String, "dose": pl.Int32, "form": pl.String,
              "subject": pl.String, "source": pl.String}  # fmt: skip
    path = folder / "truth.parquet"
    pl.DataFrame(rows, schema=schema).write_parquet(path)
    return {path.name: {"rows": len(rows), "sha256": sha256_of(path)}}


def _manifest(
    head: dict[str, Any], plan: Plan, accounts: dict[str, Any], gathered: Gathered, truth: dict[str, Any]
) -> dict[str, Any]:
    languages: dict[str, int] = {}
    tokens = plan.frame["tokens"].fill_null(0).to_numpy()[plan.record]
    for language, n in zip(plan.frame["language"].to_numpy()[plan.record].tolist(), tokens.tolist(), strict=True):
        languages[language] = languages.get(language, 0) + n
    return {
        **head,
        "sources": accounts,
        "contamination": contamination(plan),
        "languages": dict(sorted(languages.items(), key=lambda kv: -kv[1])),
        "tokens": int(tokens.sum()),
        "output": gathered.train,
        "dropped_files": gathered.dropped,
        "truth": truth,
        "rows": len(plan.record),
        "content_sha256": gathered.content_sha256,
    }
