"""Rows that were sampled out are counted, not stored: run the recipe's passes again (on the cache) and say what cut
them.

The answer holds for this mixture where recipe, inputs and versions are those of its manifest; where they are not, the
differences are named with it.
"""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl

from steel_data.engine import Local
from steel_data.errors import InputError
from steel_data.explain.lock import differences
from steel_data.explain.query import Again, Answer, Found, Query, account_of, steps
from steel_data.mixture.rows import squeezed
from steel_data.passes.map import MappedSource, map_sources
from steel_data.passes.plan import Plan, decide
from steel_data.passes.prepare import manifest_head, prepare
from steel_data.passes.select import Selection, keyed_hashes, take_rows, without_held
from steel_data.recipe.load import Recipe, load, to_toml
from steel_data.recipe.places import places
from steel_data.row.table import id_texts, read_records, texts_of


def recompute(folder: Path, manifest: dict[str, Any], query: Query, again: Again, number: int) -> Answer:
    """Return the answer for a row that no file of the mixture holds.

    Raises InputError where the inputs cannot be had, saying what to give.
    """
    try:
        recipe = _recipe(folder, manifest, again)
        root = again.data_root
        prepared = prepare(recipe, places(recipe, root, folder, again.cache), Local(again.workers))
        changed = differences(manifest, manifest_head(prepared), prepared)
        sources = map_sources(prepared, Local(again.workers))
        plan = decide(recipe, sources)
    except InputError as error:
        raise InputError(
            f"{query.text.strip()[:60]}: in none of the mixture's files, so it is in no input or was sampled out "
            f"({account_of(manifest)} rows were), which needs the inputs once more: {error} "
            "Fix: --recipe and --data-root that it was built with."
        ) from None
    notes = ["something has changed since it was built, and this answer is of today's"] if changed else []
    notes += [f"changed: {line}" for line in changed[:5]]
    rows = _matching(plan, sources, query)
    if not rows:
        return Answer(query.text, query.meant, 0, (), ("it is in none of the inputs", *notes))
    found = tuple(_found(recipe, sources, plan, row) for row in rows[:number])
    return Answer(query.text, query.meant, len(rows), found, tuple(notes))


def _recipe(folder: Path, manifest: dict[str, Any], again: Again) -> Recipe:
    if again.recipe is not None:
        return load(again.recipe)
    if manifest["custom"]:
        names = ", ".join(manifest["custom"])
        raise InputError(
            f"the recipe has steps of its own ({names}), and their code is run only when asked for. Fix: --recipe."
        )
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / f"{manifest['name']}.toml"
        path.write_text(to_toml(manifest["recipe"]), encoding="utf-8")
        try:
            recipe = load(path)
        except InputError as error:
            raise InputError(str(error).replace(f"{temporary}/", "")) from None
    # named in errors, and where its files are looked for: not in a folder that is gone
    return replace(recipe, path=Path(f"{manifest['name']}.toml"))


def _matching(plan: Plan, sources: tuple[MappedSource, ...], query: Query) -> list[int]:
    """Return the rows of the plan's frame that a query means."""
    frame = plan.frame
    if query.meant == "id":
        ids = pl.Series(id_texts(frame["id"]), dtype=pl.String)
        hit = ids.str.starts_with(query.parts[0]).fill_null(False)
    elif query.meant == "origin":
        name, row = query.parts
        hit = pl.repeat(False, len(frame), eager=True)
        for s, source in enumerate(sources):
            files = [i for i, file in enumerate(source.files) if file == name or file.endswith(f"/{name}")]
            mine = (pl.col("source") == s) & pl.col("file").is_in(files) & (pl.col("origin_row") == int(row))
            hit = hit | frame.select(mine).to_series()
    else:
        return _with_text(plan, query.text)
    return [int(i) for i in hit.arg_true()]


def _with_text(plan: Plan, text: str) -> list[int]:
    wanted = pl.select(squeezed(pl.lit(text))).item()
    starts = plan.rows.first_C[:-1]
    rows: list[int] = []
    for start, (_, chunk) in zip(starts.tolist(), plan.chunks, strict=True):
        texts = pl.DataFrame({"text": texts_of(read_records(chunk.stages[-1].records, ["messages", "tools"]))})
        hit = texts.select(squeezed(pl.col("text")).str.contains(wanted, literal=True)).to_series()
        rows += [start + int(i) for i in hit.arg_true()]
    return rows


def _found(recipe: Recipe, sources: tuple[MappedSource, ...], plan: Plan, row: int) -> Found:
    narrow = plan.frame.row(row, named=True)
    (narrow["id"],) = id_texts(plan.frame["id"][[row]])
    source = sources[narrow["source"]]
    chunk = plan.chunks[narrow["chunk"]][1]
    record = read_records(chunk.stages[-1].records, ["messages", "tools", "error"]).row(narrow["pos"], named=True)
    body = orjson.loads(record["messages"]) if record["messages"] else {}
    whole = {
        **narrow, "source": source.name, "origin_file": source.files[chunk.file], "tools": record["tools"],
        "error": record["error"], **({"messages": body} if isinstance(body, list) else body),
    }  # fmt: skip
    passed = steps(recipe.merged, whole)
    if narrow["reason"] is not None:
        return Found("dropped", whole, passed=passed, why="by today's inputs and recipe")
    if narrow["written"]:
        return Found("kept", whole, passed=passed, why="by today's inputs and recipe")
    return Found("sampled out", whole, passed=passed, why=cut(recipe, sources, plan, row))


def cut(recipe: Recipe, sources: tuple[MappedSource, ...], plan: Plan, row: int) -> str:
    """Say which target left a kept row out of the mixture, and where it stood in the queue.

    The queue is the keyed hash's: a larger target takes the same rows and then the next ones.
    """
    frame = plan.frame
    source_of = frame["source"].to_numpy()
    free = (frame["reason"].is_null() & (frame["kind"] != "injected")).to_numpy()
    tokens = frame["tokens"].fill_null(0).to_numpy().astype(np.int64)
    records, copies = [], []
    for s, source in enumerate(sources):
        mine = np.flatnonzero(free & (source_of == s))
        taken = take_rows(recipe, source, mine, frame["id"], tokens)
        if source_of[row] == s and row not in taken:
            key = keyed_hashes("take", recipe.seed, frame["id"], mine, np.zeros(len(mine), np.int64))
            rank = _rank(key, mine, mine == row)
            what = f"take = {source.take:,}" if source.take is not None else f"take_tokens = {source.take_tokens:,}"
            return (
                f"{what} of source {source.name} takes the first {len(taken):,} of {len(mine):,}; it is number {rank:,}"
            )
        left = without_held(recipe, source, taken, frame["id"])
        if source_of[row] == s and row not in left:
            return f"hold_out = {source.hold_out:,} of source {source.name} keeps it out of the mixture"
        if source.name in plan.selections:
            left = plan.selections[source.name].taken
            if source_of[row] == s and row not in left:
                return not_selected(source, plan.selections[source.name], row)
        records.append(np.repeat(left, source.repeat))
        copies.append(np.tile(np.arange(source.repeat), len(left)))
    return _cut_by_mix(recipe, plan, row, np.concatenate(records), np.concatenate(copies))


def not_selected(source: MappedSource, selection: Selection, row: int) -> str:
    """Say which `select` left a row out: what it was rated, and its place in the order of choice."""
    assert source.choice is not None
    how, chosen = source.choice.select, selection.chosen
    candidate = int(np.searchsorted(selection.rows_R, row))
    by = how.by if source.choice.store is None else f"{how.by} by {source.choice.store.model}"
    within = f" within {how.within}" if how.within else ""
    rating = chosen.rating_R[candidate]
    rated = f"rated {rating:.6g}, " if np.isfinite(rating) else ""
    return (
        f"select by {by}{within} of source {source.name} chooses the first {chosen.count:,} of "
        f"{len(selection.rows_R):,} ({how.asked}); it is {rated}number {chosen.place(candidate):,}"
    )


def _cut_by_mix(recipe: Recipe, plan: Plan, row: int, record: Any, copy: Any) -> str:
    frame, mix = plan.frame, recipe.mix
    language = frame["language"][row]
    if mix.languages is not None and not mix.languages.get(language):
        return f"[mix] languages gives no share to '{language}'"
    source = recipe.sources[frame["source"][row]].name
    if mix.sources is not None and not mix.sources.get(source):
        return f"[mix] sources gives no share to '{source}'"
    what = "[mix] languages" if mix.languages is not None else "[mix] sources" if mix.sources is not None else "[mix]"
    for name in ("budget_rows", "budget_tokens"):
        if getattr(mix, name) is not None:
            what = f"[mix] {name} = {getattr(mix, name):,}"
    of = ""
    written = frame["written"].to_numpy()
    free = (frame["kind"] != "injected").fill_null(True).to_numpy()
    if mix.languages is not None:
        same = (frame["language"] == language).fill_null(False).to_numpy()
        record, copy, of = record[same[record]], copy[same[record]], f" in '{language}'"
        free = free & same
    if mix.sources is not None:
        same = frame["source"].to_numpy() == frame["source"][row]
        kept_U = same[record] & (copy == 0)  # all first copies come before any second one
        record, copy, of = record[kept_U], copy[kept_U], f" of source '{source}'"
        free = free & same
    rank = _rank(keyed_hashes("mix", recipe.seed, frame["id"], record, copy), record, record == row)
    taken = int(written[free].sum())
    return f"{what} takes the first {taken:,} of {len(record):,} copies{of}; its first is number {rank:,}"


def _rank(key: Any, record: Any, mine: Any) -> int:
    """Return the place (from 1) of the first of `mine` in the order by key, then record."""
    order = np.lexsort((np.arange(len(record)), record, key))
    return int(np.flatnonzero(mine[order])[0]) + 1
