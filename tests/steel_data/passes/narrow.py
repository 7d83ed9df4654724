"""Sources after the map pass, made by hand: narrow columns and attribute files of a few rows."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from steel_data.passes.attributes import Job, Stage, overlap_name
from steel_data.passes.map import MappedChunk, MappedSource
from steel_data.recipe.load import Mix, Recipe
from steel_data.recipe.steps import Builder, Filter
from steel_data.row.table import table
from steel_data.row.tokens import Tokenizer

Rows = Sequence[dict[str, Any]]
_NARROW = {
    "origin_row": pl.Int64, "part": pl.Int32, "id": pl.String, "kind": pl.Categorical, "benchmark": pl.Categorical,
    "item": pl.String, "dose": pl.Int32, "chars": pl.Int32, "note": pl.Categorical, "language": pl.Categorical,
    "tokens": pl.Int32, "step": pl.Categorical, "reason": pl.Categorical,
    "quality": pl.Categorical,
}  # fmt: skip


def recipe(folder: Path, filters: Sequence[Filter] = (), mix: Mix | None = None, seed: int = 42) -> Recipe:
    """Return a recipe of which the plan pass reads seed, filters and mix alone."""
    return Recipe(folder / "r.toml", "r", seed, None, None, (), tuple(filters), mix or Mix(), {}, {}, {})


def source(folder: Path, name: str, *chunks: Rows, steps: Sequence[Filter] = (), **options: Any) -> MappedSource:
    """Return a source of chunks of rows.

    A row has any of the narrow columns, and `text`, `exact` (the dedup key) and `overlap` (score and item).
    """
    job = Job(name, Builder("chat", {}, folder, ""), (), tuple(steps), Tokenizer("t", "", None), folder, folder)
    mapped = [_chunk(folder / f"{name}-{i}", i, rows) for i, rows in enumerate(chunks)]
    narrow = [_narrow(name, i, rows) for i, rows in enumerate(chunks)]
    return MappedSource(name, job, (f"{name}.jsonl",), tuple(mapped), narrow, **options)


def _narrow(name: str, chunk: int, rows: Rows) -> pl.DataFrame:
    plain = {"part": 0, "kind": "chat", "chars": 10, "language": "zh", "tokens": 10}
    filled = [{"origin_row": 100 * chunk + i, "id": f"{name}{chunk}{i}", **plain, **row} for i, row in enumerate(rows)]
    return pl.DataFrame(
        [pl.Series(column, [row.get(column) for row in filled], dtype=kind) for column, kind in _NARROW.items()]
    )


def _chunk(place: Path, index: int, rows: Rows) -> MappedChunk:
    place.mkdir(parents=True)
    messages = [json.dumps([{"role": "user", "content": row.get("text", "")}]) for row in rows]
    table([{"messages": text} for text in messages]).write_parquet(place / "records.parquet")
    attributes = {}
    if any("exact" in row for row in rows):
        attributes["dedup-all"] = place / "dedup.parquet"
        exact = pl.Series("exact", [row.get("exact", 1000 + i) for i, row in enumerate(rows)], dtype=pl.UInt64)
        exact.to_frame().write_parquet(place / "dedup.parquet")
    if any("overlap" in row for row in rows):
        found = [row.get("overlap", (0.0, None)) for row in rows]
        frame = pl.DataFrame({"overlap_score": [s for s, _ in found], "overlap_item": [item for _, item in found]})
        attributes[overlap_name(("bench",))] = place / "overlap.parquet"
        frame.cast({"overlap_item": pl.String}).write_parquet(place / "overlap.parquet")
    return MappedChunk(0, index, len(rows), (Stage(place / "records.parquet", attributes),))
