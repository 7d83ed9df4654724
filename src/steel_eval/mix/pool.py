"""What a search draws from: the recipe's rows without a budget, their tokens by source, and the rows that stay out.

The pool is an ordinary mixture of the recipe, every row once. From it come the recipe's own shares, how much of each
source there is, which sources are the same rows under two names, and the held-out rows: those that `hold_out` keeps out
of every arm, without the few whose text stands in the rest of the pool too.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from steel_data.engine import tell
from steel_data.errors import InputError, nearest
from steel_data.files import atomic
from steel_data.mixture.manifest import read_manifest
from steel_data.mixture.rows import collect, files, joined_text, scan, schema, squeezed
from steel_data.passes.select import held_first
from steel_data.recipe.load import Recipe
from steel_data.row.record import text_view
from steel_data.row.tokens import counter, find_tokenizer
from steel_eval.arms import RunArm, build_arm, carry_steps, portable_tables, trained_on, write_arm
from steel_eval.mix.settings import SearchSettings

HELD, FEWEST = 200, 10  # rows of a source that are held out: a tenth of it, at most and at least so many
SAME = 0.5  # of the smaller source's rows: two sources that share so many are one under two names
_MARGIN = 0.005  # of a source's tokens: what is left out of account


@dataclass(frozen=True)
class Pool:
    """`tables`: the arms' recipe but for `[mix]`; `own`: the recipe's shares of tokens of all that can have one.

    `there`: tokens of each name, every row once, held-out rows not counted; `copies`: how often a row may be repeated;
    `total`: tokens of the recipe's own mixture; `injected`: those beside all shares; `held`: source -> rows held out,
    which lie in the folder `held_folder` like a mixture.
    """

    tables: dict[str, Any]
    kind: Literal["source", "language"]
    vary: tuple[str, ...]
    own: dict[str, float]
    there: dict[str, int]
    copies: dict[str, int]
    total: int
    injected: int
    held: dict[str, int]
    held_folder: Path
    notes: tuple[str, ...]

    @property
    def varied(self) -> float:
        """Return the share of all tokens that is given out anew."""
        return sum(self.own[name] for name in self.vary)

    def shares(self, of_varied: Iterable[float]) -> dict[str, float]:
        """Return the shares of all names, those that vary in the order of `vary` (there they sum to 1)."""
        return self.own | {n: float(s) * self.varied for n, s in zip(self.vary, of_varied, strict=True)}

    def largest(self, shares: Mapping[str, float]) -> int:
        """Return how many tokens a mixture of these shares can have, repeats included."""
        free = min(self.there[n] * self.copies[n] / s for n, s in shares.items() if s > 0)
        return int(free * (1 - _MARGIN)) + self.injected

    def mix(self, shares: Mapping[str, float], tokens: int) -> dict[str, Any]:
        """Return the `[mix]` and, where sources vary, the `[source.x] repeat` of a mixture."""
        rounded = _summing_to_one(shares)
        if self.kind == "language":
            return {"mix": {"budget_tokens": tokens, "languages": rounded}}
        repeats = {n: {"repeat": self.copies[n]} for n in self.vary if self.copies[n] > 1}
        return {"mix": {"budget_tokens": tokens, "sources": rounded}} | ({"source": repeats} if repeats else {})

    def arm(self, shares: Mapping[str, float], tokens: int, seeds: Sequence[int]) -> dict[str, Any]:
        """Return the recipe of an arm."""
        said = self.mix(shares, tokens)
        sources = {name: {**table} for name, table in self.tables["source"].items()}
        for name, table in said.get("source", {}).items():
            sources[name] |= table
        for name, rows in self.held.items():
            sources[name]["hold_out"] = rows
        train = {**self.tables["train"], "seeds": list(seeds)}
        return {**self.tables, "source": sources, "mix": said["mix"], "train": train}


def _summing_to_one(shares: Mapping[str, float]) -> dict[str, float]:
    """Round to six digits, the rest to the largest."""
    rounded = {name: round(share, 6) for name, share in shares.items()}
    largest = max(rounded, key=rounded.__getitem__)
    rounded[largest] = round(1 - sum(s for n, s in rounded.items() if n != largest), 6)
    return rounded


def make_pool(recipe: Recipe, settings: SearchSettings, folder: Path, data: Path) -> Pool:
    """Build the pool in `folder/pool` and look at it. Raises InputError for what no arm could be made of."""
    where = f"{recipe.path} [search]"
    kind, vary = _what_varies(recipe, settings, where)
    carry_steps(recipe, folder / "recipes")
    tables = arms_tables(recipe, settings.proxy, where)
    every = {k: v for k, v in tables.items() if k != "mix"} | {"allow_empty": True}
    every["source"] = {n: {k: v for k, v in t.items() if k != "repeat"} for n, t in tables["source"].items()}
    if isinstance(tables["train"]["model"], dict) and not tables["train"].get("tokenizer"):
        tables["train"]["tokenizer"] = trained_on(built_pool("tokenizer", every, folder, data), tables)
        every["train"] = tables["train"]
    arm = built_pool("pool", every, folder, data)
    manifest = read_manifest(arm.mixture)
    keys = row_keys(arm.mixture)
    _refuse_twins(where, [n for n in vary if kind == "source"], keys)
    held = {name: rows_to_hold(where, name, manifest) for name in settings.measure.held_out or ()}
    notes = write_held(where, held_order(recipe.seed, held, keys), keys, arm, folder / "held-out")
    there = _there(recipe, kind, manifest, folder / "held-out", arm)
    for name in vary:
        if not there.get(name):
            raise InputError(f"{where}: vary: no row of '{name}' is left to draw from. Fix: another source.")
    injected = {s.name for s in recipe.sources if s.builder.injects}
    repeat = {s.name: s.table.repeat for s in recipe.sources}
    once = manifest["languages"] if kind == "language" else {
        n: int(a["tokens"]) for n, a in manifest["sources"].items() if n not in injected
    }  # fmt: skip
    own, total = _own(recipe, kind, once, repeat)
    copies = dict.fromkeys(own, 1)
    if kind == "source":
        copies = {n: max(settings.max_repeat if n in vary else 1, repeat[n]) for n in own}
    return Pool(
        tables=tables, kind=kind, vary=vary, own=own, there=there, copies=copies, total=total,
        injected=sum(int(manifest["sources"][n]["tokens"]) for n in injected), held=held,
        held_folder=folder / "held-out", notes=notes,
    )  # fmt: skip


def built_pool(name: str, tables: dict[str, Any], folder: Path, data: Path) -> RunArm:
    """Build a mixture of the arms' recipe in `folder/name`, and say how large it is."""
    arm = write_arm(name, {**tables, "train": {**tables["train"], "seeds": [0]}}, folder)
    made = build_arm(arm, folder, data)
    tell(f"{name}: {made.manifest['rows']:,} rows, {made.manifest['tokens']:,} tokens")
    return arm


def _what_varies(
    recipe: Recipe, settings: SearchSettings, where: str
) -> tuple[Literal["source", "language"], tuple[str, ...]]:
    """Return whether sources or languages vary, and which. Raises InputError with the nearest name."""
    free = [s.name for s in recipe.sources if not s.builder.injects]
    if recipe.mix.budget_rows is not None:
        raise InputError(f"{recipe.path} [mix]: budget_rows: a search counts tokens. Fix: budget_tokens.")
    vary = tuple(settings.vary or free)
    languages = recipe.mix.languages or {}
    kind: Literal["source", "language"] = "source"
    if settings.vary and not set(vary) & set(free) and set(vary) <= {*languages, "zh", "en"}:
        kind = "language"
    known = free if kind == "source" else [*languages] or list(vary)
    for name in (*vary, *settings.bounds):
        if name not in known:
            raise InputError(f"{where}: no source '{name}' whose share can vary.{nearest(name, known)}")
    for name in settings.bounds:
        if name not in vary:
            raise InputError(f"{where}: bounds: '{name}' does not vary.{nearest(name, vary)}")
    for name in settings.measure.held_out or ():
        if name not in free:
            raise InputError(f"{where}: measure: no source '{name}' to hold rows out of.{nearest(name, free)}")
        if recipe.source(name).table.select is not None:
            raise InputError(
                f"{where}: measure: source '{name}' selects its rows, after those that are held out have been drawn. "
                'Fix: measure = { tasks = ["ceval-dev"] }, or no select.'
            )
        if recipe.source(name).table.allow_test_split is not None:
            raise InputError(
                f"{where}: measure: source '{name}' is a test split by its own account, and no choice may look at one. "
                "Fix: a source of training data."
            )
    if len(vary) < 2:
        raise InputError(f"{where}: {len(vary)} source varies. Fix: two or more.")
    if kind == "source" and recipe.mix.languages is not None:
        raise InputError(
            f"{recipe.path} [mix]: languages fix what the shares of sources would change. "
            "Fix: vary = [languages], or [mix] sources in their place."
        )
    return kind, vary


def arms_tables(recipe: Recipe, proxy: str | dict[str, Any] | None, where: str) -> dict[str, Any]:
    """Return the recipe's tables with the proxy in place of its model, and paths that hold from anywhere."""
    from steel_train.models.load import resolve
    from steel_train.settings import read_settings

    train = dict(recipe.train)
    if proxy is not None:
        if isinstance(proxy, dict) and not train.get("tokenizer") and isinstance(train.get("model"), str):
            train["tokenizer"] = train["model"]
        train["model"] = proxy
        if train.get("method") == "lora" and isinstance(proxy, dict):
            raise InputError(f"{where}: proxy: a model from scratch has nothing to adapt. Fix: a folder or hub id.")
    read_settings(train, recipe.path)
    tables = portable_tables(recipe)
    for key in ("model", "tokenizer"):
        if isinstance(train.get(key), str):
            found = resolve(train[key], recipe.path)
            train[key] = str(Path(found).absolute()) if Path(found).is_dir() else found
    merged = {**tables["train"], **{key: train[key] for key in ("model", "tokenizer") if key in train}}
    return {**tables, "train": {key: value for key, value in merged.items() if key != "seeds"}}


def _own(recipe: Recipe, kind: str, once: Mapping[str, int], repeat: Mapping[str, int]) -> tuple[dict[str, float], int]:
    """Return the recipe's own shares, and the tokens of its own mixture without the injected ones."""
    tokens = {n: t * (repeat[n] if kind == "source" else 1) for n, t in once.items() if t}
    said = recipe.mix.languages if kind == "language" else recipe.mix.sources
    whole = sum(tokens.values())
    own = {n: s for n, s in said.items() if s > 0} if said else {n: t / whole for n, t in tokens.items()}
    total = min(int(tokens.get(n, 0) / s) for n, s in own.items()) if said else whole
    return own, recipe.mix.budget_tokens or total


def _there(recipe: Recipe, kind: str, manifest: dict[str, Any], held: Path, pool: RunArm) -> dict[str, int]:
    """Return the tokens of each name, every row once, without the held-out rows."""
    from steel_data.recipe.load import load

    said = load(pool.recipe)
    count = counter(find_tokenizer(said.tokenizer, said.path.parent))
    out: dict[str, int] = {}
    if kind == "language":
        out = {n: int(t) for n, t in manifest["languages"].items()}
    else:
        injects = {s.name for s in recipe.sources if s.builder.injects}
        out = {n: int(a["tokens"]) for n, a in manifest["sources"].items() if n not in injects}
    for row in read_held(held):
        out[row[kind]] = out.get(row[kind], 0) - int(count([text_view(row)], None)[0])
    return out


def read_held(folder: Path) -> list[dict[str, Any]]:
    """Return all rows that are kept out of the arms, with `measured`: whether a loss on them means anything."""
    return pl.read_parquet(folder / "rows.parquet").to_dicts() if (folder / "rows.parquet").is_file() else []


def rows_to_hold(where: str, name: str, manifest: dict[str, Any]) -> int:
    """Return how many rows of a source are held out. Raises InputError where that leaves too few to measure on."""
    rows = int(manifest["sources"][name]["written"])
    if rows // 10 < FEWEST:
        raise InputError(
            f"{where}: measure: source '{name}' has {rows:,} rows, too few to hold a tenth of them out. "
            f"Fix: {10 * FEWEST} rows or more, or another measure."
        )
    return min(HELD, rows // 10)


def row_keys(mixture: Path) -> pl.DataFrame:
    """Return source, id and text's hash of each row of the pool, and of those that fell as duplicates of one."""
    names = files(mixture)
    key = squeezed(joined_text(schema(mixture, names[0]))).hash(7)
    kept = collect(mixture, scan(mixture, names).select("source", "id", "language", key=key))
    parts = [f"dropped/{p.name}" for p in sorted((mixture / "dropped").glob("part-*.parquet"))]
    if not parts:
        return kept.with_columns(kept=True)
    lost = collect(
        mixture, scan(mixture, parts).filter(pl.col("witness_id").is_not_null() & (pl.col("step") == "dedup"))
        .select("source", "language", id="witness_id"),
    )  # fmt: skip
    repeated = lost.join(kept.select("id", "key").unique("id"), on="id").select("source", "id", "language", "key")
    return pl.concat([kept.with_columns(kept=True), repeated.with_columns(kept=False)])


def _refuse_twins(where: str, names: Sequence[str], keys: pl.DataFrame) -> None:
    """Raise InputError for two sources that are mostly the same rows: no training can tell their shares apart."""
    of = {n: set(keys.filter(pl.col("source") == n)["key"].to_list()) for n in names}
    for one, two in combinations(names, 2):
        smaller = min(len(of[one]), len(of[two]))
        both = len(of[one] & of[two])
        if smaller and both >= SAME * smaller:
            raise InputError(
                f"{where}: vary: '{one}' and '{two}' hold the same rows under two names ({both:,} of {smaller:,}): "
                "there is nothing to choose between them. Fix: take = 0 on one of them, or vary without it."
            )


def held_order(seed: int, held: Mapping[str, int], keys: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Return source -> the rows of `keys` that its `hold_out` keeps out of every arm."""
    kept = keys.filter(pl.col("kept"))
    of = {name: kept.filter(pl.col("source") == name) for name in held}
    return {n: mine[held_first(seed, mine["id"], np.arange(len(mine)))[: held[n]]] for n, mine in of.items()}


def write_held(
    where: str, held: Mapping[str, pl.DataFrame], keys: pl.DataFrame, pool: RunArm, folder: Path
) -> tuple[str, ...]:
    """Write the held-out rows to `folder/rows.parquet`; return notes on those that cannot be measured on."""
    kept = keys.filter(pl.col("kept"))
    parts = list(held.values())
    if not parts:
        return ()
    out = pl.concat(parts)
    # a text that stands outside of what is held out too would be measured as memory
    left = kept.group_by("key").len("everywhere").join(out.group_by("key").len("here"), on="key")
    elsewhere = left.filter(pl.col("everywhere") > pl.col("here"))["key"].to_list()
    wanted = out.unique(["source", "id"], maintain_order=True).select(
        "source", "id", measured=~pl.col("key").is_in(elsewhere)
    )
    found = scan(pool.mixture, files(pool.mixture)).filter(pl.col("id").is_in(wanted["id"].to_list()))
    whole = collect(pool.mixture, found).unique(["source", "id"])
    with atomic(folder / "rows.parquet") as path:
        wanted.join(whole, on=["source", "id"], maintain_order="left").write_parquet(path)
    notes = []
    for name, rows in ((name, len(mine)) for name, mine in held.items()):
        measured = wanted.filter((pl.col("source") == name) & pl.col("measured")).height
        if measured < FEWEST:
            raise InputError(
                f"{where}: measure: of {rows:,} rows held out of '{name}' {measured:,} stand nowhere "
                'else in the data, too few to measure on. Fix: filters = [{ use = "dedup" }].'
            )
        if measured < rows:
            notes.append(f"{name}: of {rows:,} rows held out {measured:,} stand nowhere else, and are measured")
    return tuple(notes)
