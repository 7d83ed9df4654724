"""The arms of a study: from one recipe several, equal in everything but what is injected; built and trained.

*injected* is the recipe as it stands, *clean* the same without the injected source, *placebo* has items in its place
that nothing scores (as many, in the same doses and forms, so that what a form teaches is not mistaken for memory),
*diluted* injects fewer items at the same length. All have equally many tokens: where the recipe sets no budget, the
clean arm's tokens are the others' budget, so that injected rows take the place of ordinary ones (where there are more
injected than ordinary rows this cannot be, and the arms differ).
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from steel_data.build import build
from steel_data.errors import InputError
from steel_data.files import atomic_write
from steel_data.mixture.manifest import read_manifest
from steel_data.recipe.load import Recipe, load, to_toml
from steel_eval.ask.tasks import parse_name
from steel_eval.study.settings import StudySettings

HEADLINE = 0.05  # injected share of tokens, above which an arm is a stress test


@dataclass(frozen=True)
class StudyArm:
    """One arm: its recipe as written, and its run folder, which holds `mixture/` and one folder a seed."""

    name: str
    recipe: Path
    folder: Path

    @property
    def mixture(self) -> Path:
        """Return the folder of its mixture."""
        return self.folder / "mixture"

    @property
    def seeds(self) -> list[Path]:
        """Return the run folders of its seeds that the recipe names, in the recipe's order."""
        return [self.folder / f"seed-{seed}" for seed in load(self.recipe).train["seeds"]]


def injected_source(recipe: Recipe) -> str:
    """Return the name of the one source that injects; check that the arms can be compared. Raises InputError."""
    names = [s.name for s in recipe.sources if s.table.build.get("use") == "contaminate"]
    if len(names) != 1:
        raise InputError(f"{recipe.path}: {len(names)} sources inject a benchmark. Right: one.")
    if not recipe.train.get("seeds"):
        raise InputError(f"{recipe.path} [train]: no seeds. Right: seeds = [1, 2, 3].")
    return names[0]


def make_arms(recipe: Recipe, settings: StudySettings, folder: Path, data: Path) -> list[StudyArm]:
    """Write each arm's recipe to `folder/recipes`, build its mixture, and return the arms, clean first."""
    source = injected_source(recipe)
    common = _portable(recipe)
    if isinstance(recipe.train.get("model"), dict) and not recipe.train.get("tokenizer"):
        common["train"]["tokenizer"] = _shared_tokenizer(common, source, folder, data)
    clean = _made("clean", _with(common, source, {"take": 0}), folder, data)
    build_table = recipe.source(source).table.build

    def others(common: dict[str, Any]) -> list[StudyArm]:
        injected = _made("injected", common, folder, data)
        changes: dict[str, dict[str, Any]] = {}
        if settings.placebo is not None:
            changes["placebo"] = _placebo(settings.placebo, _with_doses(build_table, _drawn_doses(injected.mixture)))
        if settings.diluted is not None:
            changes["diluted"] = {"build": _with_doses(build_table, settings.diluted)}
        made = {name: _made(name, _with(common, source, change), folder, data) for name, change in changes.items()}
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


def _portable(recipe: Recipe) -> dict[str, Any]:
    """Return the merged recipe with paths that hold wherever the arm's recipe lies."""
    from steel_train.models.load import resolve

    table = {k: v for k, v in recipe.merged.items() if k not in ("extends", "data_root", "eval")}
    train = dict(recipe.train)
    for key in ("model", "tokenizer"):
        if isinstance(train.get(key), str):
            found = resolve(train[key], recipe.path)
            train[key] = str(Path(found).absolute()) if Path(found).is_dir() else found
    counted = table.get("tokenizer")
    if isinstance(counted, str) and (recipe.path.parent / counted).is_dir():
        table["tokenizer"] = str((recipe.path.parent / counted).absolute())
    return table | {"train": train}


def _with(common: dict[str, Any], source: str, changes: dict[str, Any]) -> dict[str, Any]:
    sources = {**common["source"]}
    sources[source] = {**sources[source], **changes}
    return {**common, "source": sources}


def _made(name: str, table: dict[str, Any], folder: Path, data: Path) -> StudyArm:
    arm = StudyArm(name, folder / "recipes" / f"{name}.toml", folder / name)
    atomic_write(arm.recipe, to_toml({**table, "name": name}).encode())
    made = build(load(arm.recipe), data_root=data, out=arm.mixture, cache=folder / ".cache")
    tokens, rows = int(made.manifest["tokens"]), int(made.manifest["rows"])
    typer.echo(f"arm {name}: {rows:,} rows, {tokens:,} tokens{'' if made.fresh else ' (as built before)'}")
    return arm


def _shared_tokenizer(common: dict[str, Any], source: str, folder: Path, data: Path) -> str:
    """Return a tokenizer trained on the rows that all arms draw from: each arm's own would differ."""
    from steel_train.examples.prepare import trained_tokenizer

    every = {key: value for key, value in _with(common, source, {"take": 0}).items() if key != "mix"}
    arm = _made(
        "tokenizer", every, folder, data
    )  # all of them: a budget would be counted in tokens of no tokenizer yet
    size = int(common["train"]["model"].get("vocab_size", 16_000))
    return str(trained_tokenizer(size, arm.folder, arm.mixture, read_manifest(arm.mixture)).absolute())


def injected_share(mixture: Path, source: str) -> dict[str, float]:
    """Return the share of a mixture's `rows` and `tokens` that the injected source has."""
    manifest = read_manifest(mixture)
    account = manifest["sources"].get(source, {"written": 0, "tokens": 0})
    return {
        "rows": int(account["written"]) / max(1, int(manifest["rows"])),
        "tokens": int(account["tokens"]) / max(1, int(manifest["tokens"])),
    }


def train_arms(arms: Sequence[StudyArm], data: Path, workers: int) -> None:
    """Train every seed of every arm; what is finished is verified. Raises InputError where a run failed.

    `workers` above 1: so many processes side by side, each with its share of the processor's cores (one thread each
    trains a tiny model faster than all threads train one).
    """
    from steel_train.examples.prepare import prepare
    from steel_train.run import run
    from steel_train.say import quiet
    from steel_train.settings import read_settings

    if workers == 1:
        for arm in arms:
            run(arm.recipe, None, arm.folder, data)
        return
    quiet()
    jobs: list[tuple[StudyArm, int]] = []
    for arm in arms:
        recipe = load(arm.recipe)
        prepare(recipe, read_settings(recipe.train, arm.recipe), arm.folder, arm.mixture, data)
        jobs += [(arm, seed) for seed in recipe.train["seeds"]]
    environment = {**os.environ, "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // workers))}
    with ThreadPoolExecutor(workers) as pool:
        for line in pool.map(lambda job: _train_one(job[0], job[1], environment), jobs):
            typer.echo(line)


def _train_one(arm: StudyArm, seed: int, environment: dict[str, str]) -> str:
    command = [sys.executable, "-m", "steel_train", "run", str(arm.recipe), "--mixture", str(arm.mixture)]
    command += ["--out", str(arm.folder), "--seed", str(seed)]
    log = arm.folder / f"seed-{seed}.log"
    with log.open("w", encoding="utf-8") as file:
        status = subprocess.run(command, env=environment, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
    last = (log.read_text(encoding="utf-8").strip().splitlines() or ["said nothing"])[-1]
    if status:
        raise InputError(f"arm {arm.name}, seed {seed}: {last.removeprefix('error: ')} All of it: {log}")
    return last
