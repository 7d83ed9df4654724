"""One recipe -> one mixture folder: prepare, map, plan, gather, and only then the manifest."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import polars as pl

from steel_data.builders.unused import idle
from steel_data.engine import Executor, Local, held, progress, reached, threads
from steel_data.errors import InputError
from steel_data.files import locked, put_right, refuse_foreign_folder, replaced_folder, sha256_of
from steel_data.mixture.manifest import damaged, read_manifest
from steel_data.passes.attributes import index_of
from steel_data.passes.gather import Gathered, gather
from steel_data.passes.language_check import LanguageCheck
from steel_data.passes.ledger import (
    contamination,
    faults_left,
    ledger,
    losses,
    selections,
    tokens_by_language,
)
from steel_data.passes.map import MappedChunk, MappedSource, map_sources
from steel_data.passes.plan import Plan, decide
from steel_data.passes.prepare import Prepared, manifest_head, prepare
from steel_data.recipe.load import Recipe
from steel_data.recipe.places import Places, places
from steel_data.row.table import write_columns
from steel_data.store.copies import bring, copied_alone, scratch
from steel_data.store.listings import forget
from steel_data.store.names import is_far

# What a build takes at least (docs/scale.md): this process and one that maps, then this process and one file of the
# mixture; and for each row, while duplicates are looked for.
LEAST_BYTES, ROW_BYTES = 500_000_000, 60


@dataclass(frozen=True)
class Result:
    """A finished build. `fresh` is False where the folder already held this very mixture."""

    folder: Path
    manifest: dict[str, Any]
    fresh: bool
    warnings: tuple[str, ...] = ()


def build(
    recipe: Recipe,
    *,
    data_root: Path | None = None,
    out: Path | None = None,
    cache: Path | None = None,
    workers: int | Executor = 1,
    verify: bool = False,
) -> Result:
    """Build the mixture of a recipe, or verify the one that is already there.

    workers: processes here, or where tasks run (`cluster.Ray`; `engine.Local`, that may keep to a bound of memory); the
    bytes of the mixture do not depend on it.
    verify: know changed inputs by their bytes, all read again, instead of by size and time of change.

    Raises InputError for what the user can put right; LedgerError when the books do not balance.
    """
    executor = Local(workers) if isinstance(workers, int) else workers
    where = reached_by(executor, places(recipe, data_root, out, cache))
    with locked(where.out), scratch(where.data_root, where.out, where.cache):
        forget()
        put_right(where.out)
        refuse_foreign_folder(where.out)
        with held(executor):
            prepared = prepare(recipe, where, executor, verify)
            refuse_little_memory(executor, sum(prepared.raw_rows.values()))
            head = manifest_head(prepared)
            there = finished(where.out, head)
            if there is not None:
                return Result(where.out, there, fresh=False, warnings=_warnings(prepared, there))
            sources = map_sources(prepared, executor)
        if is_far(where.cache):
            bring(place for source in sources for chunk in source.chunks for place in _read_again(chunk))
        with progress("plan", None):
            plan = decide(recipe, sources, executor)
        manifest = _write(prepared, sources, plan, head, executor)
        return Result(where.out, manifest, fresh=True, warnings=_warnings(prepared, manifest))


def reached_by(executor: Executor, where: Places) -> Places:
    """Return the places as the tasks have to name them: those on other machines run in folders of their own."""
    return Places(*(reached(executor, path) for path in (where.data_root, where.out, where.cache)))


def _read_again(chunk: MappedChunk) -> Iterator[Path]:
    """Yield the files of the cache that plan and gather read of a chunk."""
    yield chunk.stages[-1].records
    yield from chunk.stages[-1].attributes.values()


def refuse_little_memory(executor: Executor, rows: int | None) -> None:
    """Raise InputError where a bound on memory is below what the rows take, of which all are planned at once.

    rows: None for a part of a build, which plans none.
    """
    if not isinstance(executor, Local) or executor.memory is None:
        return
    what = "a part of a build" if rows is None else f"a build of {rows:,} rows"
    least = LEAST_BYTES + ROW_BYTES * (rows or 0)
    if executor.memory < least:
        raise InputError(
            f"--memory {executor.memory / 1e6:,.0f}MB: {what} takes {least / 1e6:,.0f}MB at least. "
            f"Fix: --memory {math.ceil(least / 1e6)}MB or more."
        )


def _warnings(prepared: Prepared, manifest: dict[str, Any]) -> tuple[str, ...]:
    return (*prepared.notices, *prepared.warnings, *manifest.get("losses", ()))


def finished(out: Path, head: dict[str, Any]) -> dict[str, Any] | None:
    """Return the manifest of a whole mixture made of the very same things, or None. In a bucket all of it is read."""
    folder = copied_alone(out, "manifest.json")
    if not (folder / "manifest.json").is_file():
        return None
    try:
        manifest = read_manifest(folder)
    except InputError:
        return None
    # [train] and [eval] do not change a mixture
    same = all(manifest.get(key) == value for key, value in head.items() if key != "recipe")
    with progress("verify", None):
        return manifest if same and not damaged(out, manifest) else None


def _write(
    prepared: Prepared, sources: tuple[MappedSource, ...], plan: Plan, head: dict[str, Any], executor: Executor
) -> dict[str, Any]:
    """Write the mixture into a temporary folder and put it in place whole."""
    with replaced_folder(prepared.places.out) as fresh:
        accounts = ledger(plan, sources, prepared.raw_rows)
        lost = losses(prepared.recipe, plan, accounts)
        for source, bound in zip(sources, prepared.recipe.sources, strict=True):
            lost += idle(source.name, bound.table.ignore, source.unread)
        check = LanguageCheck(plan, prepared.recipe.seed)
        writer = Local(threads(executor)) if is_far(prepared.places.out) else executor  # the folder is here alone
        gathered = gather(plan, sources, fresh, writer, _item_texts(sources), check)
        truth = _write_truth(prepared, fresh)
        manifest = _manifest(head, plan, accounts, gathered, truth)
        manifest["unused_columns"] = {source.name: source.unused_columns for source in sources}
        manifest["quality"] = faults_left(plan, sources)
        manifest["language_check"] = check.result()
        if chosen := selections(plan, sources):
            manifest["selections"] = chosen
        if lost:
            manifest["losses"] = lost
        from steel_data.card.write import write_card

        with progress("card", None):
            write_card(fresh, manifest)
        text = json.dumps(manifest, ensure_ascii=False, indent=2) + "\n"
        (fresh / "manifest.json").write_text(text, encoding="utf-8", newline="\n")
    return manifest


def _item_texts(sources: tuple[MappedSource, ...]) -> Callable[[list[str]], list[str]]:
    """Return a function from item names (`cmmlu/test/law/00001`) to question and options."""
    texts: dict[str, str] = {}
    one_at_a_time = Lock()  # several threads ask

    def find(names: list[str]) -> list[str]:
        with one_at_a_time:
            if names and not texts:
                for benchmarks in sources[0].job.benchmarks:
                    index = index_of(sources[0].job, benchmarks)
                    texts.update(zip(index.names, index.texts, strict=True))
        return [texts[name] for name in names]

    return find


def _write_truth(prepared: Prepared, folder: Path) -> dict[str, dict[str, Any]]:
    """Write what the injector drew, item by item; seal it with a checksum in the manifest."""
    rows = [
        {"benchmark": injection.benchmark, "item": d.item.item, "dose": d.dose, "form": d.form if d.dose else None,
         "subject": d.item.subject, "source": source}
        for source, injection in prepared.injections.items() for d in injection.draws
    ]  # fmt: skip
    if not rows:
        return {}
    schema = {"benchmark": pl.String, "item": pl.String, "dose": pl.Int32, "form": pl.String,
              "subject": pl.String, "source": pl.String}  # fmt: skip
    path = folder / "truth.parquet"
    write_columns(path, pl.DataFrame(rows, schema=schema))
    return {path.name: {"rows": len(rows), "sha256": sha256_of(path)}}


def _manifest(
    head: dict[str, Any], plan: Plan, accounts: dict[str, Any], gathered: Gathered, truth: dict[str, Any]
) -> dict[str, Any]:
    languages = tokens_by_language(plan)
    return {
        **head,
        "sources": accounts,
        "contamination": contamination(plan),
        "languages": languages,
        "tokens": sum(languages.values()),
        "output": gathered.train,
        "dropped_files": gathered.dropped,
        "truth": truth,
        "rows": len(plan.record),
        "content_sha256": gathered.content_sha256,
    }
