"""The arms of a study: from one recipe several, equal in everything but what is injected; built and trained.

*injected* is the recipe as it stands, *clean* the same without the injected source, *placebo* has items in its place
that nothing scores (as many, in the same doses and forms, so that what a form teaches is not mistaken for memory),
*diluted* injects fewer items at the same length. All have equally many tokens: where the recipe sets no budget, the
clean arm's tokens are the others' budget, so that injected rows take the place of ordinary ones (where there are more
injected than ordinary rows this cannot be, and the arms differ).
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import typer

from steel_data.engine import Executor
from steel_data.errors import InputError
from steel_data.mixture.manifest import read_manifest
from steel_data.recipe.load import Recipe, load
from steel_eval.arms import (
    Job,
    RunArm,
    carry_steps,
    followed,
    made_arm,
    portable_tables,
    train_job,
    trained_on,
    with_source,
)
from steel_eval.ask.tasks import parse_name
from steel_eval.jobs import by_itself, side_by_side
from steel_eval.study.settings import StudySettings
from steel_train.settings import read_settings

HEADLINE = 0.05  # injected share of tokens, above which an arm is a stress test


def injected_source(recipe: Recipe) -> str:
    """Return the name of the one source that injects; check that the arms can be compared. Raises InputError."""
    names = [s.name for s in recipe.sources if s.table.build.get("use") == "contaminate"]
    if len(names) != 1:
        raise InputError(f"{recipe.path}: {len(names)} sources inject a benchmark. Fix: one.")
    if not read_settings(recipe.train, recipe.path).seeds:
        raise InputError(f"{recipe.path} [train]: no seeds. Fix: seeds = [1, 2, 3].")
    return names[0]


def make_arms(recipe: Recipe, settings: StudySettings, folder: Path, data: Path) -> list[RunArm]:
    """Write each arm's recipe to `folder/recipes`, build its mixture, and return the arms, clean first."""
    source = injected_source(recipe)
    common = portable_tables(recipe)
    carry_steps(recipe, folder / "recipes")
    if isinstance(recipe.train.get("model"), dict) and not recipe.train.get("tokenizer"):
        common["train"]["tokenizer"] = shared_tokenizer(common, source, folder, data)
    clean = made_arm("clean", with_source(common, source, {"take": 0}), folder, data)
    build_table = recipe.source(source).table.build

    def others(common: dict[str, Any]) -> list[RunArm]:
        injected = made_arm("injected", common, folder, data)
        changes: dict[str, dict[str, Any]] = {}
        if settings.placebo is not None:
            changes["placebo"] = _placebo(settings.placebo, _with_doses(build_table, _drawn_doses(injected.mixture)))
        if settings.diluted is not None:
            changes["diluted"] = {"build": _with_doses(build_table, settings.diluted)}
        made = {
            name: made_arm(name, with_source(common, source, change), folder, data) for name, change in changes.items()
        }
        made["injected"] = injected
        return [made[name] for name in ("placebo", "injected", "diluted") if name in made]

    mix = recipe.merged.get("mix", {})
    if {"budget_tokens", "budget_rows"} & set(mix):
        return [clean, *others(common)]
    equal = {**common, "mix": {**mix, "budget_tokens": int(read_manifest(clean.mixture)["tokens"])}}
    try:
        return [clean, *others(equal)]
    except InputError:  # the injected rows alone are more than all ordinary ones: the arms differ, and that is noted
        return [clean, *others(common)]


def _with_doses(build_table: dict[str, Any], doses: dict[str, int]) -> dict[str, Any]:
    return {**{key: value for key, value in build_table.items() if key != "share"}, "doses": doses}


def _drawn_doses(mixture: Path) -> dict[str, int]:
    """Return how many items an injected mixture has of each dose: a share of the placebo's would be another number."""
    import polars as pl

    dose = pl.read_parquet(mixture / "truth.parquet", columns=["dose"])["dose"]
    return {str(d): n for d, n in dose.filter(dose > 0).value_counts(sort=False).sort("dose").iter_rows()}


def _placebo(name: str, build_table: dict[str, Any]) -> dict[str, Any]:
    """Return what makes the injected source the placebo's; `ceval-val` names a split, as the tasks' names do."""
    benchmark, split, _ = parse_name(name)
    at = {"split": split} if split is not None else {}
    return {"path": benchmark, "build": {**build_table, "benchmark": benchmark, **at}}


def shared_tokenizer(common: dict[str, Any], source: str, folder: Path, data: Path) -> str:
    """Return a tokenizer trained on the rows that all arms draw from: each arm's own would differ."""
    every = {key: value for key, value in with_source(common, source, {"take": 0}).items() if key != "mix"}
    # all of them: a budget would be counted in tokens of no tokenizer yet
    return trained_on(made_arm("tokenizer", every, folder, data), common)


def injected_share(mixture: Path, source: str) -> dict[str, float]:
    """Return the share of a mixture's `rows` and `tokens` that the injected source has."""
    manifest = read_manifest(mixture)
    account = manifest["sources"].get(source, {"written": 0, "tokens": 0})
    return {
        "rows": int(account["written"]) / max(1, int(manifest["rows"])),
        "tokens": int(account["tokens"]) / max(1, int(manifest["tokens"])),
    }


def train_arms(arms: Sequence[RunArm], data: Path, executor: Executor) -> None:
    """Train every seed of every arm; what is finished is verified. Raises InputError where a run failed.

    Where several run side by side each has one thread: that trains a tiny model faster than all threads train one.
    """
    from steel_train.examples.prepare import prepare
    from steel_train.run import run as train
    from steel_train.say import quiet

    if by_itself(executor):
        for arm in arms:
            train(arm.recipe, None, arm.folder, data)
        return
    quiet()
    jobs: list[Job] = []
    for arm in arms:
        recipe = load(arm.recipe)
        prepare(recipe, read_settings(recipe.train, arm.recipe), arm.folder, arm.mixture, data)
        jobs += [Job(arm, seed) for seed in recipe.train["seeds"]]
    with followed(jobs):
        side_by_side(executor, partial(train_job, data=data), jobs, typer.echo, "train")
