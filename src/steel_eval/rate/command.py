"""`rate`: what a model makes of the rows that a recipe may select from, kept beside the cache for its build.

Rated is what is left of a source after filters, duplicates and `take`. A row is rated once by a model; whatever a
killed command has done is there when it is run again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import orjson
import polars as pl

from steel_data.engine import Local, progress, tell
from steel_data.errors import InputError, nearest
from steel_data.files import address, atomic, locked
from steel_data.passes.map import map_sources
from steel_data.passes.plan import Plan, decide
from steel_data.passes.prepare import prepare
from steel_data.recipe.load import Mix, Recipe
from steel_data.recipe.places import Places
from steel_data.recipe.selection import RATED
from steel_data.row.display import command, print_next
from steel_data.row.record import turns_of
from steel_data.row.table import id_texts
from steel_data.selection.ratings import RatingStore, open_store
from steel_data.selection.target import find_target, target_key
from steel_eval.models import Loaded, default_device, find_checkpoints, load
from steel_eval.tokenizer import tokenizer_fingerprint

_BATCH, _PART = 64, 2048  # rows that go through the model as one trie; rows that are read and put in order together
_SECONDS = 20.0  # of work that may be lost to a kill
Row = dict[str, Any]
Rate = Callable[[list[Row]], list[Any]]


@dataclass(frozen=True)
class Rated:
    """What became of a command: the store, rows that it rated and that were rated before, tokens forwarded (0: rds)."""

    store: RatingStore
    fresh: int
    known: int
    unrated: int  # of the fresh ones: the model's template learns nothing of them
    forwarded: int


def rate_command(recipe: Recipe, by: str, model: str, where: Places, workers: int = 1, dtype: str = "auto") -> Rated:
    """Rate all rows that the recipe may select from, but for those that are rated. Raises InputError.

    `dtype`: of the model's weights; another than `auto` is another rater, for its ratings differ in the third digit.
    """
    if by not in RATED:
        raise InputError(f"--by {by}: is no rating by a model.{nearest(by, RATED)}")
    targets = _targets(recipe, where) if by == "rds" else []
    checkpoint = find_checkpoints(model)[0][-1]
    plan = _pool(recipe, where, workers)
    loaded = load(checkpoint.folder, default_device(), dtype)
    asked = [] if dtype == "auto" else [dtype]
    fingerprint = address(loaded.fingerprint, tokenizer_fingerprint(loaded.tokenizer), loaded.max_length, *asked)[:32]
    name = model if not Path(model).exists() else Path(model).resolve().name
    store = open_store(where.cache, by, name, fingerprint)
    with locked(store.folder):
        if by == "rds":
            _rate_targets(store, loaded, targets)
            return _rate_all(store, plan, lambda rows: _as_bytes(loaded, rows), "vector")
        from steel_eval.rate.answers import AnswerRater
        from steel_eval.score.likelihood import prefix_sharing

        sharing = prefix_sharing(loaded.model)
        if not sharing.ok:
            tell(f"{name}: rows are rated one by one: {sharing.reason}")
        rater = AnswerRater(loaded, by, sharing)
        done = _rate_all(store, plan, rater.rate, "rating")
        last = done
        while last.fresh and _takes_by_ratings(recipe, by):
            # own filters drop rows by what was rated, and `take` others in their place
            last = _rate_all(store, _pool(recipe, where, workers, store), rater.rate, "rating")
            done = replace(done, fresh=done.fresh + last.fresh, unrated=done.unrated + last.unrated)
        return replace(done, forwarded=rater.forwarded)


def _targets(recipe: Recipe, where: Places) -> list[list[Row]]:
    """Return the targets of the recipe's sources that select by rds."""
    found = []
    for source in recipe.sources:
        select = source.table.select
        if select is not None and select.by == "rds":
            place = f"{recipe.path} [source.{source.name}]"
            conversations, _ = find_target(place, select.targets, where.data_root).conversations()
            found.append([{"messages": turns} for turns in conversations])
    if not found:
        raise InputError(
            f"{recipe.path}: no source selects by rds, so there is no target to read. "
            'Fix: select = { by = "rds", rows = 1000, target = "ceval/val" } on a source.'
        )
    return found


def _takes_by_ratings(recipe: Recipe, by: str) -> bool:
    """Return whether a source takes some of the rows that filters of the user's own leave, which see these ratings."""
    return any(
        table.select is not None
        and table.select.by == by
        and bool(table.take or table.take_tokens or table.hold_out)
        and any(step.is_custom for step in (*source.filters, *recipe.filters))
        for source in recipe.sources
        for table in [source.table]
    )


def _pool(recipe: Recipe, where: Places, workers: int, store: RatingStore | None = None) -> Plan:
    """Return the plan of the recipe without selection, budgets and repeats: the rows that may be selected.

    Of a recipe in which sources select, only those are read; else all but the injected ones are. `store`: ratings that
    filters of the user's own see.
    """
    selecting = [s for s in recipe.sources if s.table.select is not None]
    if not selecting:
        selecting = [s for s in recipe.sources if not s.builder.injects]
    names = {source.name for source in selecting}
    every = tuple(
        replace(source, table=source.table.model_copy(update={"select": None, "repeat": 1}))
        for source in recipe.sources
    )
    # all sources are planned: a row of one may be a duplicate of another's
    bare = replace(recipe, sources=every, mix=Mix())
    prepared = prepare(bare, where, Local(workers))
    if store is not None:
        mine = [s.name for s in selecting if s.table.select is not None and s.table.select.by == store.by]
        prepared = replace(prepared, ratings=dict.fromkeys(mine, store))
    plan = decide(bare, map_sources(prepared, Local(workers)))
    places = [i for i, source in enumerate(recipe.sources) if source.name in names]
    plan.rows.written *= np.isin(plan.rows.column("source").to_numpy(), places)
    return plan


def _rate_all(store: RatingStore, plan: Plan, rate: Rate, column: str) -> Rated:
    known = set(store.read()["id"].to_list())
    frame = plan.frame.with_row_index("at").filter(pl.col("written") > 0).unique("id", maintain_order=True)
    frame = frame.with_columns(id=pl.Series(id_texts(frame["id"]), dtype=pl.String))
    open_rows = frame.filter(~pl.col("id").is_in(list(known)))
    kind = {"rating": pl.Float64, "vector": pl.Binary}[column]
    unrated = 0
    with progress("rate", len(open_rows)) as advance:
        for part in open_rows.iter_slices(_PART):
            rows, ids = part["at"].to_numpy().astype(np.int64), part["id"].to_list()
            records: list[Row] = [{}] * len(rows)
            for mine, found in plan.read(rows, _conversations):
                for i, record in zip(mine.tolist(), found, strict=True):
                    records[i] = record
            # rows of like length together: no pass waits for a long one
            order = sorted(range(len(rows)), key=lambda i: len(str(records[i])))
            values: dict[str, Any] = {}
            saved = monotonic()
            for start in range(0, len(order), _BATCH):
                batch = order[start : start + _BATCH]
                values |= dict(zip([ids[i] for i in batch], rate([records[i] for i in batch]), strict=True))
                advance(len(batch))
                if monotonic() - saved > _SECONDS or start + _BATCH >= len(order):
                    unrated += sum(value is None for value in values.values())
                    store.add(pl.DataFrame({"id": list(values), column: pl.Series(list(values.values()), dtype=kind)}))
                    values, saved = {}, monotonic()
    return Rated(store, len(open_rows), len(frame) - len(open_rows), unrated, 0)


def _conversations(records: pl.DataFrame) -> list[Row]:
    found = []
    for body, tools in zip(records["messages"], records["tools"], strict=True):
        found.append({"messages": turns_of(orjson.loads(body)), "tools": tools})
    return found


def _as_bytes(loaded: Loaded, rows: Sequence[Row]) -> list[bytes | None]:
    from steel_eval.rate.states import vectors

    return [None if vector is None else vector.tobytes() for vector in vectors(loaded, rows)]


def _rate_targets(store: RatingStore, loaded: Loaded, targets: list[list[Row]]) -> None:
    for rows in targets:
        place = store.target(target_key(row["messages"] for row in rows))
        if not place.is_file():
            made = pl.Series("vector", _as_bytes(loaded, rows), dtype=pl.Binary).drop_nulls()
            with atomic(place) as temporary:
                made.to_frame().write_parquet(temporary)


def print_rated(rated: Rated, recipe: Path, **options: Path | Sequence[str] | None) -> None:
    """Print what a command did, where the ratings are, and what builds by them: `build` with the same options."""
    cost = f", {rated.forwarded:,} tokens through the model" if rated.forwarded else ""
    lost = f"; of {rated.unrated:,} the model's template learns nothing: they come last" if rated.unrated else ""
    print(
        f"{rated.store.by} by {rated.store.model} ({rated.store.fingerprint[:8]}): {rated.fresh:,} rows "
        f"rated{cost}{lost}"
    )
    if rated.known:
        print(f"{rated.known:,} rows were rated before")
    print(rated.store.folder)
    print_next(f"{command('build', recipe, **options)} selects by these ratings")
