"""A contamination study: arms and seeds from one recipe with an injection, trained, scored, compared.

Arms: *injected* is the recipe as it stands; *clean* the same without the injected source; *placebo* (with `--placebo`)
has items of another benchmark, which is not scored, in its place: as many, in the same doses and form, so that what a
form teaches is not mistaken for memory. Each arm is written down as a recipe of its own and trained into an ordinary
run folder. Everything that is done is verified and kept, so a stopped study goes on where it was.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from steel_data.errors import InputError
from steel_data.files import atomic_write
from steel_data.manifest import read_manifest
from steel_data.recipe import Recipe, load
from steel_data.toml_text import to_toml

HEADLINE = 0.05  # injected share of rows, above which a study is a stress test


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of `study` (cli.py explains them)."""

    data: Path
    tasks: str
    placebo: str | None
    out: Path | None
    shots: int


@dataclass(frozen=True)
class Arm:
    """One arm: its recipe as written, and its run folder, which holds one folder a seed."""

    name: str
    recipe: Path
    folder: Path


def study_command(recipe_path: Path, options: Options) -> None:
    """Run a study to its end and print its results; `study.json` is written last. Raises InputError."""
    from steel_eval.study_results import print_study, study_results

    recipe = load(recipe_path)
    source = injected_source(recipe)
    folder = options.out or Path("runs") / recipe.name
    arms = write_arms(recipe, source, folder, options)
    from steel_train.run import run

    for arm in arms:
        typer.echo(f"arm {arm.name}")
        run(arm.recipe, None, arm.folder, options.data.absolute())
    shares = {arm.name: injected_share(arm.folder / "mixture", source) for arm in arms}
    for name, share in shares.items():
        if share > HEADLINE:
            typer.echo(f"{name}: injected rows are {share:.1%} of the mixture: a stress test, not a dilution")
    _compare_sizes(arms)
    results = study_results(arms, options, folder) | {"injected_share": shares}
    print_study(results)
    from steel_train.run import write_json

    write_json(folder / "study.json", results)
    typer.echo(str(folder / "study.json"))


def _compare_sizes(arms: list[Arm]) -> None:
    """Say where the arms are not equal in tokens: then the clean arm is also trained for less."""
    tokens = {arm.name: int(read_manifest(arm.folder / "mixture")["tokens"]) for arm in arms}
    if max(tokens.values()) > 1.01 * min(tokens.values()):
        sizes = ", ".join(f"{name} {n:,}" for name, n in tokens.items())
        typer.echo(f"the arms differ in tokens: {sizes}. [mix] budget_tokens in the recipe makes them equal.")


def injected_source(recipe: Recipe) -> str:
    """Return the name of the one source that injects; check that the arms can be compared. Raises InputError."""
    names = [s.name for s in recipe.sources if s.table.build.get("use") == "contaminate"]
    if len(names) != 1:
        raise InputError(f"{recipe.path}: {len(names)} sources inject a benchmark. Right: one.")
    if not recipe.train.get("seeds"):
        raise InputError(f"{recipe.path} [train]: no seeds. Right: seeds = [1, 2, 3].")
    if isinstance(recipe.train.get("model"), dict) and not recipe.train.get("tokenizer"):
        raise InputError(f"{recipe.path} [train]: each arm would train its own tokenizer. Right: tokenizer = a folder.")
    return names[0]


def write_arms(recipe: Recipe, source: str, folder: Path, options: Options) -> list[Arm]:
    """Write each arm's recipe below `folder` and return the arms, clean first."""
    tables = {"clean": _arm(recipe, source, {"take": 0})}
    if options.placebo is not None:
        build = {**recipe.source(source).table.build, "benchmark": options.placebo}
        tables["placebo"] = _arm(recipe, source, {"path": options.placebo, "build": build})
    tables["injected"] = _arm(recipe, source, {})
    arms = []
    for name, table in tables.items():
        arm = Arm(name, folder / "recipes" / f"{name}.toml", folder / name)
        atomic_write(arm.recipe, to_toml({**table, "name": name}).encode())
        arms.append(arm)
    return arms


def _arm(recipe: Recipe, source: str, changes: dict[str, Any]) -> dict[str, Any]:
    from steel_train.model import resolve

    train = dict(recipe.train)
    for key in ("model", "tokenizer"):
        if isinstance(train.get(key), str):  # relative to the recipe: the arm's lies elsewhere
            found = resolve(train[key], recipe.path)
            train[key] = str(Path(found).absolute()) if Path(found).is_dir() else found
    sources = {**recipe.merged["source"]}
    sources[source] = {**sources[source], **changes}
    plain = {k: v for k, v in recipe.merged.items() if k not in ("extends", "data_root")}
    return {**plain, "source": sources, "train": train}


def injected_share(mixture: Path, source: str) -> float:
    """Return the share of a mixture's rows that the injected source wrote."""
    manifest = read_manifest(mixture)
    written = manifest["sources"].get(source, {}).get("written", 0)
    return int(written) / max(1, int(manifest["rows"]))
