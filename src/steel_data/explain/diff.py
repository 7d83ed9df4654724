"""What changed between two mixtures, two recipes, or one of each: keys, rows, tokens, steps, and examples of rows.

A mixture is read from its folder; a recipe goes through the map and plan passes (their work stays in the cache), so it
need not have been built. Nothing else is written.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from steel_data.errors import InputError
from steel_data.explain.diff_rows import Books, books, compare, merged, narrow, sample, totals
from steel_data.explain.forecast import optimiser_steps
from steel_data.mixture.manifest import read_manifest
from steel_data.mixture.rows import collect, fetch, scan
from steel_data.passes.map import map_sources
from steel_data.passes.plan import decide
from steel_data.passes.prepare import manifest_head, prepare
from steel_data.recipe.changes import Change, recipe_changes, things
from steel_data.recipe.load import load
from steel_data.recipe.places import places
from steel_data.row.record import text_view

EXAMPLES = ("added", "removed", "changed", "moved", "repeated")


@dataclass(frozen=True)
class Where:
    """Where recipes find data and cache, and how many processes map them."""

    data_root: Path | None = None
    cache: Path | None = None
    workers: int = 1


@dataclass(frozen=True)
class Side:
    """One of the two. `head`: what it is made of, as in a manifest; `rows`: see diff_rows.narrow; `texts`: by `at`."""

    path: Path
    head: dict[str, Any]
    rows: pl.DataFrame
    tokens_by_source: dict[str, int]
    tokens_by_language: dict[str, int]
    texts: Callable[[list[int]], list[str]]

    @property
    def tokens(self) -> int:
        """Tokens of the whole mixture."""
        return sum(self.tokens_by_source.values())

    @property
    def size(self) -> int:
        """Rows of the whole mixture."""
        return int(self.rows["n"].sum())

    def steps(self) -> tuple[int | None, str]:
        """Return the optimiser steps that the recipe's [train] gives, and how they come about."""
        return optimiser_steps(self.head["recipe"].get("train", {}), self.size, self.tokens)


@dataclass(frozen=True)
class Example:
    """A record that changed: its sources and texts on both sides (None where it is not)."""

    change: str
    source_a: str | None
    source_b: str | None
    n_a: int
    n_b: int
    text_a: str | None
    text_b: str | None


@dataclass(frozen=True)
class Diff:
    """All that differs. `things`: what a reader would call separate decisions (an ablation has one)."""

    a: Side
    b: Side
    recipe: tuple[Change, ...]
    things: tuple[str, ...]
    totals: dict[str, int]
    by: dict[str, dict[str, Books]]  # source, language, kind
    examples: tuple[Example, ...]


def diff(a: Path, b: Path, where: Where | None = None, examples: int = 2) -> Diff:
    """Return what changed from `a` to `b`, each a mixture folder or a recipe.

    examples: how many rows of each change are shown. Raises InputError for what is neither, and as `build` does.
    """
    one, two = (_side(path, where or Where()) for path in (a, b))
    changes = recipe_changes(one.head["recipe"], two.head["recipe"])
    compared = compare(one.rows, two.rows)
    return Diff(
        one, two, tuple(changes), (*things(changes), *_data_things(one.head, two.head, changes)), totals(compared),
        {column: books(compared, column) for column in ("source", "language", "kind")},
        tuple(example for change in EXAMPLES for example in _examples(one, two, compared, change, examples)),
    )  # fmt: skip


def _side(path: Path, where: Where) -> Side:
    if path.is_dir():
        return _of_mixture(path)
    if path.suffix != ".toml":
        raise InputError(
            f"{path}: is neither a mixture folder nor a recipe. Right: what `build` wrote, or a .toml file."
        )
    return _of_recipe(path, where)


def _of_mixture(folder: Path) -> Side:
    manifest = read_manifest(folder)
    parts, starts, start = [], [], 0
    for name, entry in manifest["output"].items():
        columns = [
            "id", "source", "kind", "language", pl.col("origin_file").alias("file"), pl.col("origin_row").alias("row"),
            (pl.col("at") + start).alias("at"), pl.lit(1).alias("n"),
        ]  # fmt: skip
        parts.append(narrow(collect(folder / name, scan(folder, name).select(columns))))
        starts.append(start)
        start += entry["rows"]
    files = list(manifest["output"])

    def texts(places: list[int]) -> list[str]:
        of = np.searchsorted(starts, places, side="right") - 1
        rows = [fetch(folder, files[f], [at - starts[f]])[0] for f, at in zip(of.tolist(), places, strict=True)]
        return [text_view(row) for row in rows]

    by_source = {name: account["tokens"] for name, account in manifest["sources"].items()}
    return Side(folder, manifest, merged(parts), by_source, manifest["languages"], texts)


def _of_recipe(path: Path, where: Where) -> Side:
    recipe = load(path)
    prepared = prepare(recipe, places(recipe, where.data_root, None, where.cache), where.workers)
    sources = map_sources(prepared, where.workers)
    plan = decide(recipe, sources)
    names = pl.DataFrame(
        [(s, f, source.name, file) for s, source in enumerate(sources) for f, file in enumerate(source.files)],
        schema={"source": pl.UInt16, "file": pl.UInt32, "name": pl.String, "path": pl.String}, orient="row",
    )  # fmt: skip
    tokens = pl.col("tokens").fill_null(0).cast(pl.Int64) * pl.col("written")
    kept = plan.frame.with_row_index("at").filter(pl.col("written") > 0).with_columns(tokens=tokens)
    kept = kept.join(names, on=["source", "file"], how="left")
    rows = kept.select(
        "id", "kind", "language", "at", pl.col("name").alias("source"), pl.col("path").alias("file"),
        pl.col("origin_row").alias("row"), pl.col("written").alias("n"),
    )  # fmt: skip
    by = {
        column: dict(kept.group_by(pl.col(column).cast(pl.String)).agg(pl.col("tokens").sum()).iter_rows())
        for column in ("name", "language")
    }
    texts = lambda places: plan.texts(np.array(places, np.int64))  # noqa: E731
    return Side(path, manifest_head(prepared), merged([narrow(rows)]), by["name"], by["language"], texts)


def _data_things(a: dict[str, Any], b: dict[str, Any], changes: list[Change]) -> list[str]:
    """Return what differs besides the recipe: data of the same name, the user's own code, the versions of libraries."""
    found = []
    both = [name for name in a["inputs"] if name in b["inputs"]]
    other = [name for name in both if a["inputs"][name]["sha256"] != b["inputs"][name]["sha256"]]
    # the recipes ask for the same files: one that is on one side only came or went by itself
    if not any(change.path[0] in ("source", "filters") for change in changes):
        other += [name for name in sorted({*a["inputs"], *b["inputs"]}) if name not in both]
    if other:
        more = f" and {len(other) - 1:,} more files" if len(other) > 1 else ""
        found.append(f"contents of the input {other[0]}{more}")
    for key, what in (("custom", "code of '{}'"), ("versions", "version of {}")):
        one, two = a.get(key, {}), b.get(key, {})
        names = [name for name in one if name in two and one[name] != two[name]]
        if names:
            found.append(what.format(", ".join(names)))
    return found


def _examples(a: Side, b: Side, compared: pl.DataFrame, change: str, number: int) -> list[Example]:
    chosen = sample(compared, change, number)
    texts = []
    for side, column in ((a, "at_a"), (b, "at_b")):
        wanted = chosen[column].drop_nulls().to_list()
        texts.append(dict(zip(wanted, side.texts(wanted), strict=True)) if wanted else {})
    return [
        Example(
            change, row["source_a"], row["source_b"], row["n_a"], row["n_b"],
            texts[0].get(row["at_a"]), texts[1].get(row["at_b"]),
        )
        for row in chosen.iter_rows(named=True)
    ]  # fmt: skip
