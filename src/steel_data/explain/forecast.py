"""What a recipe would make, before it is made: rows, tokens, languages, repeats, optimiser steps.

Without `exact` the files are scanned whole (rows are counted) but only the first chunk of a few files of each source is
mapped: tokens, languages and the share of rows that the row filters keep are estimates from that sample (≈), and rows
are upper bounds (≤), since decontamination and dedup have not run. With `exact` the map and plan passes run; their work
stays in the cache for `build`. Nothing is written but the cache.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from steel_data.engine import Local
from steel_data.errors import excerpt
from steel_data.passes.inputs import SourceInputs
from steel_data.passes.map import map_sources
from steel_data.passes.plan import decide
from steel_data.passes.prepare import Prepared, prepare
from steel_data.recipe.load import Mix, Recipe
from steel_data.recipe.places import places
from steel_data.recipe.strict import has_boolean

SAMPLE_FILES = 3
# what `_from_sample` looks at
_SEEN = (pl.col("part", "tokens", "dose").cast(pl.Int64), pl.col("reason", "language").cast(pl.String))


@dataclass(frozen=True)
class SourceForecast:
    """One source. `rows` is what it would give to the mixture, an upper bound unless `exact`; tokens likewise.

    `unused`: columns that hold something and are not read -> rows, of `looked` raw rows.
    """

    name: str
    read: int
    rows: int
    tokens: int
    languages: dict[str, float]  # of tokens
    repeat: int
    exact: bool
    unused: dict[str, int] = field(default_factory=dict)
    looked: int = 0


@dataclass(frozen=True)
class Forecast:
    """The whole recipe. `steps` is None where [train] does not say enough.

    `sign` stands before rows and steps: nothing where they are exact, `≤` for upper bounds, `≈` where [mix] cuts the
    rows by a share of tokens, which is known from the sample only.
    """

    sources: tuple[SourceForecast, ...]
    rows: int
    tokens: int
    languages: dict[str, float]
    sign: str
    tokenizer: str
    steps: int | None
    steps_text: str
    warnings: tuple[str, ...]


def forecast(
    recipe: Recipe, *, data_root: Path | None, cache: Path | None, workers: int = 1, exact: bool = False
) -> Forecast:
    """Return the forecast of a recipe. Raises InputError as `build` would, as far as it looks."""
    prepared = prepare(recipe, places(recipe, data_root, None, cache), Local(workers))
    sources = _exact(prepared, workers) if exact else _estimated(prepared, workers)
    rows, tokens = sum(s.rows for s in sources), sum(s.tokens for s in sources)
    shares: dict[str, float] = {}
    for s in sources:
        for language, share in s.languages.items():
            shares[language] = shares.get(language, 0.0) + share * s.tokens
    languages = {k: v / max(tokens, 1) for k, v in sorted(shares.items(), key=lambda kv: -kv[1])}
    sign = "" if exact else "≤ "
    if not exact and recipe.mix != Mix():
        rows, tokens, languages = _with_targets(recipe, rows, _in_shares(recipe.mix, sources), languages)
        sign = "≈ "
    steps, text = optimiser_steps(recipe.train, rows, tokens)
    return Forecast(
        tuple(sources),
        rows,
        tokens,
        languages,
        sign,
        prepared.tokenizer.name,
        steps,
        text,
        (*prepared.notices, *prepared.warnings),
    )


def _exact(prepared: Prepared, workers: int) -> list[SourceForecast]:
    mapped = map_sources(prepared, Local(workers))
    plan = decide(prepared.recipe, mapped)
    out = []
    for s, source in enumerate(mapped):
        mine = plan.rows.columns(*plan.rows.span(s), "language", "tokens", "written")
        weighted = mine.with_columns(n=pl.col("tokens").fill_null(0).cast(pl.Int64) * pl.col("written"))
        read = prepared.inputs[s].rows
        written, tokens = int(mine["written"].sum()), int(weighted["n"].sum())
        one = SourceForecast(source.name, read, written, tokens, _shares(weighted), source.repeat, True)
        out.append(replace(one, unused=source.unused_columns, looked=read))
    return out


def _shares(frame: pl.DataFrame) -> dict[str, float]:
    """Return language -> share of the column `n`."""
    totals = frame.filter(pl.col("n") > 0).group_by("language").agg(pl.col("n").sum()).sort("n", descending=True)
    whole = max(int(totals["n"].sum()), 1)
    return {language or "und": n / whole for language, n in totals.iter_rows()}


def _estimated(prepared: Prepared, workers: int) -> list[SourceForecast]:
    head = replace(prepared, inputs=tuple(_first_chunks(inputs) for inputs in prepared.inputs))
    out = []
    for inputs, source in zip(prepared.inputs, map_sources(head, Local(workers)), strict=True):
        seen = pl.concat([part.select(_SEEN) for part in source.narrow]) if source.narrow else pl.DataFrame()
        one = _from_sample(prepared, inputs, source.repeat, seen)
        looked = int((seen["part"] == 0).sum()) if len(seen) else 0
        out.append(replace(one, unused=source.unused_columns, looked=looked))
    return out


def _first_chunks(inputs: SourceInputs) -> SourceInputs:
    """Return a source cut to the first chunk of a few of its files (the injector's stay whole: one draw)."""
    if inputs.builder.injects or not inputs.files:
        return inputs
    step = max(1, len(inputs.files) // SAMPLE_FILES)
    files = [replace(f, scan=replace(f.scan, chunks=f.scan.chunks[:1])) for f in inputs.files[::step][:SAMPLE_FILES]]
    return replace(inputs, files=tuple(files))


def _from_sample(prepared: Prepared, inputs: SourceInputs, repeat: int, seen: pl.DataFrame) -> SourceForecast:
    name, table = inputs.source.name, inputs.source.table
    kept = seen.filter(pl.col("reason").is_null()) if len(seen) else seen
    weighted = kept.with_columns(n=pl.col("tokens").cast(pl.Int64)) if len(kept) else kept
    mean = float(weighted["n"].mean() or 0) if len(kept) else 0.0  # type: ignore[arg-type]
    shares = _shares(weighted) if len(kept) else {}
    if inputs.builder.injects:
        doses = [d.dose for d in prepared.injection(inputs).draws]
        tokens = int((kept["tokens"].cast(pl.Int64) * kept["dose"]).sum())
        return SourceForecast(name, len(doses), sum(doses), tokens, shares, 1, True)
    # Where the sample is the whole source, what its row filters leave is known; else any unseen row may pass.
    made_whole = not inputs.files or len(seen) >= inputs.rows
    bound = len(kept) if made_whole else inputs.rows
    rate = len(kept) / max(len(seen), 1)
    rows = bound
    if table.take is not None:
        rows = min(rows, table.take)
    rows = max(0, rows - table.hold_out)
    tokens = round(rows * mean * (1 if made_whole or table.take is not None else rate))
    if table.take_tokens is not None:
        tokens = min(tokens, table.take_tokens)
    if table.select is not None:
        rows, tokens = min(rows, table.select.rows or rows), min(tokens, table.select.tokens or tokens)
        tokens = min(tokens, round(rows * mean))
    return SourceForecast(name, inputs.rows, rows * repeat, tokens * repeat, shares, repeat, False)


def _in_shares(mix: Mix, sources: Sequence[SourceForecast]) -> int:
    """Return the tokens of the largest mixture in the shares of `[mix] sources`; all where there are none."""
    if mix.sources is None:
        return sum(s.tokens for s in sources)
    return int(min((s.tokens / mix.sources[s.name] for s in sources if mix.sources.get(s.name)), default=0))


def _with_targets(
    recipe: Recipe, rows: int, tokens: int, languages: dict[str, float]
) -> tuple[int, int, dict[str, float]]:
    """Cut the totals to what [mix] leaves of them."""
    mix = recipe.mix
    whole = max(tokens, 1)
    if mix.languages is not None:
        wanted = {k: v for k, v in mix.languages.items() if v > 0}
        tokens = int(min(languages.get(k, 0.0) * tokens / share for k, share in wanted.items()))
        languages = wanted
    if mix.budget_tokens is not None:
        tokens = min(tokens, mix.budget_tokens)
    rows = min(math.ceil(rows * tokens / whole), rows)
    if mix.budget_rows is not None:
        rows, tokens = min(rows, mix.budget_rows), round(tokens * min(1.0, mix.budget_rows / max(rows, 1)))
    return rows, tokens, languages


def optimiser_steps(train: dict[str, Any], rows: int, tokens: int) -> tuple[int | None, str]:
    """Return the optimiser steps that [train] gives on one process, and how they come about."""
    if not train:
        return None, "no [train] table"
    epochs, micro, accumulate = train.get("epochs", 3), train.get("micro_batch", 8), train.get("accumulate", 8)
    for key, value in {"epochs": epochs, "micro_batch": micro, "accumulate": accumulate}.items():
        wrong = has_boolean(value) or not isinstance(value, int | float) or not 0 < value < 1e9
        if wrong or (key != "epochs" and value != int(value)):
            return None, f"{key} = {excerpt(repr(value), 40)} in [train]"
    batch = micro * accumulate
    if train.get("packing") and type(train.get("max_length")) is int and train["max_length"] > 0:
        units, what = math.ceil(tokens / train["max_length"]), f"packed sequences of {train['max_length']} tokens"
    else:
        units, what = rows, "rows"
    steps = math.ceil(units / batch) * math.ceil(epochs) if epochs == int(epochs) else math.ceil(units * epochs / batch)
    return steps, f"{units:,} {what} x {epochs} epochs / ({micro} x {accumulate}), one process"
