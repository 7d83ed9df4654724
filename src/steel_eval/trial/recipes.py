"""Whole recipes as arms: other amounts, shares or wordings of data, at equal steps and trainable tokens.

Each is the trial's own recipe with some tables laid over, or another recipe trained as this one is. All arms take the
same number of steps; a step has as many rows of each as hold the same trainable tokens on average. So an arm of few
rows sees them again and again while one of many has new ones: amounts of data are compared at equal cost, not at equal
epochs.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from steel_data.errors import InputError
from steel_data.mixture.rows import files
from steel_data.recipe.load import Recipe, load
from steel_eval.arms import RunArm, build_arm, carry_steps, portable_tables, write_arm
from steel_eval.mix.pool import read_held
from steel_eval.trial.arms import APART, Sized, batches
from steel_eval.trial.settings import OWN


def arms_recipes(recipe: Recipe, said: Mapping[str, str | dict[str, Any]]) -> dict[str, Recipe]:
    """Return the recipe of each arm, the trial's own first. Raises InputError that names the arm."""
    found = {OWN: recipe}
    for name, one in said.items():
        try:
            if isinstance(one, str):
                beside = recipe.path.parent / one
                found[name] = load(beside if beside.is_file() else one)
            else:
                found[name] = load(recipe.path, [f"{json.dumps(key)} = {inline(value)}" for key, value in one.items()])
        except InputError as error:
            raise InputError(f"{recipe.path} [trial]: recipes.{name}: {error}") from None
    return found


def inline(value: Any) -> str:
    """Return a value as TOML on one line."""
    """Return a value in TOML, in one line."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(k)} = {inline(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(inline, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _key(name: str) -> str:
    return name if re.fullmatch("[A-Za-z0-9_-]+", name) else json.dumps(name)


def arms_tables_of(recipes: Mapping[str, Recipe], own: dict[str, Any], held: Mapping[str, int]) -> dict[str, Any]:
    """Return each arm's tables: its data, the trial's training, the same rows held out.

    Raises InputError where rows are held out of a source that an arm builds otherwise: other rows would be.
    """
    first = recipes[OWN]
    out = {}
    for name, recipe in recipes.items():
        tables = portable_tables(recipe) | {"train": own["train"]}
        tables["source"] = {n: {**table} for n, table in tables["source"].items()}
        for source, rows in held.items():
            same = ("source", source), ("filters",), ("seed",)
            if any(_at(recipe.merged, place) != _at(first.merged, place) for place in same):
                raise InputError(
                    f"{first.path} [trial]: measure: rows of '{source}' cannot be held out: recipes.{name} builds it "
                    'otherwise. Fix: a source that all arms share, or measure = { tasks = ["ceval-val"] }.'
                )
            tables["source"][source]["hold_out"] = rows
        out[name] = tables
    return out


def _at(table: Any, place: tuple[str, ...]) -> Any:
    for key in place:
        table = table.get(key) if isinstance(table, dict) else None
    return table


def recipe_arms(
    recipes: Mapping[str, Recipe], tables: Mapping[str, Any], tokens: int, folder: Path,
    data: Path, count: Callable[[Path], tuple[int, int]],
) -> tuple[dict[str, RunArm], dict[str, Sized]]:  # fmt: skip
    """Build all arms, equal in steps and trainable tokens (`tokens` each, repeats included).

    `tables`: of each arm, `[train]` with its seeds; `count`: a mixture -> its rows, and the tokens in them that
    training learns. Raises InputError where whole rows cannot make the arms equal, or a held-out row stands in one.
    """
    where = f"{recipes[OWN].path} [trial]"
    held = {row["id"] for row in read_held(folder / "held-out")}
    sizes = {}
    for name, recipe in recipes.items():
        carry_steps(recipe, folder / "recipes")
        arm = write_arm(name, tables[name], folder)
        build_arm(arm, folder, data)
        ids = pl.scan_parquet([arm.mixture / f for f in files(arm.mixture)], glob=False).select("id").unique()
        if seen := held & set(ids.collect()["id"].to_list()):
            raise InputError(
                f"{where}: {len(seen):,} rows that are held out stand in arm '{name}' too. Fix: a source of its own "
                'for measure, or measure = { tasks = ["ceval-val"] }.'
            )
        sizes[name] = (ids.collect().height, *count(arm.mixture))
    train = tables[OWN]["train"]
    _, rows, learnt = sizes[OWN]
    least = int(train.get("micro_batch", 8)) * int(train.get("accumulate", 8))
    steps = round(tokens * rows / learnt / least)
    if steps < 2:
        raise InputError(f"{where}: tokens = {tokens:,} are less than two steps of {least} rows. Fix: more tokens.")
    arms, sized = {}, {}
    for name, (distinct, rows, learnt) in sizes.items():
        per_step = max(1, round(tokens / steps * rows / learnt))
        sized[name] = Sized(distinct, rows, per_step, steps, round(steps * per_step * learnt / rows))
        settings = {
            **batches(per_step, int(train.get("micro_batch", 8))), "max_steps": steps,
            "epochs": -(-steps * per_step // rows) + 1,
        }  # fmt: skip
        arms[name] = write_arm(name, {**tables[name], "train": {**train, **settings}}, folder)
    low, high = min(s.tokens for s in sized.values()), max(s.tokens for s in sized.values())
    if high > (1 + APART) * low:
        raise InputError(
            f"{where}: arms of {low:,} to {high:,} trainable tokens are too far apart to be compared. Fix: more rows a "
            "step (micro_batch, accumulate)."
        )
    return arms, sized
