"""Arms: several recipes made of one, equal in everything but what is compared; built, and trained side by side.

An arm's recipe holds from wherever it lies, and all arms of a model from scratch share one tokenizer. An arm is an
ordinary run folder: what is done is verified and kept, so whatever is made of arms goes on where it was.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import typer

from steel_data.build import Result, build
from steel_data.engine import now_and_then
from steel_data.errors import BusyError, InputError, one_line
from steel_data.files import atomic_write
from steel_data.mixture.manifest import read_manifest
from steel_data.recipe.load import Recipe, load, to_toml
from steel_data.recipe.steps import Builder, Filter
from steel_eval.jobs import patience

_MOST_TOLD = 4  # trainings of which a line is shown, where many are under way


@dataclass(frozen=True)
class RunArm:
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


@dataclass(frozen=True)
class Job:
    """One training: an arm with one of its seeds."""

    arm: RunArm
    seed: int

    @property
    def folder(self) -> Path:
        """Return the run folder."""
        return self.arm.folder / f"seed-{self.seed}"

    @property
    def log(self) -> Path:
        """Return the file that holds what its training says."""
        return self.folder.with_suffix(".log")


def cards_of(arms: Iterable[RunArm]) -> dict[str, Path]:
    """Return the arms' data cards by the names that links to them bear."""
    return {f"Data card of {arm.name}": arm.mixture / "card.html" for arm in arms}


def portable_tables(recipe: Recipe) -> dict[str, Any]:
    """Return the merged recipe with paths that hold wherever the arm's recipe lies."""
    from steel_train.models.load import resolve

    table = {k: v for k, v in recipe.merged.items() if k not in ("extends", "data_root", "eval", "search", "trial")}
    train = dict(recipe.train)
    for key in ("model", "tokenizer"):
        if isinstance(train.get(key), str):
            found = resolve(train[key], recipe.path)
            train[key] = str(Path(found).absolute()) if Path(found).is_dir() else found
    template = train.get("chat_template")
    if isinstance(template, str) and (recipe.path.parent / template).is_file():
        train["chat_template"] = str((recipe.path.parent / template).absolute())
    counted = table.get("tokenizer")
    if isinstance(counted, str) and (recipe.path.parent / counted).is_dir():
        table["tokenizer"] = str((recipe.path.parent / counted).absolute())
    return table | {"train": train}


def carry_steps(recipe: Recipe, beside: Path) -> None:
    """Put the modules of the recipe's own steps into a folder where recipes made of it lie: there they are looked for.

    They are the recipe's, from beside it or from the working directory, as a build of it finds them.
    """
    steps: list[Builder | Filter] = [*recipe.filters]
    for source in recipe.sources:
        steps += [source.builder, *source.filters]
    for step in steps:
        module = Path(*step.use.partition(":")[0].split(".")).with_suffix(".py")
        there = [place / module for place in (recipe.path.parent, Path.cwd()) if (place / module).is_file()]
        if step.is_custom and there and there[0].absolute() != (beside / module).absolute():
            atomic_write(beside / module, there[0].read_bytes())


def with_source(tables: dict[str, Any], source: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe's tables with some keys of one source replaced."""
    sources = {**tables["source"]}
    sources[source] = {**sources[source], **changes}
    return {**tables, "source": sources}


def write_arm(name: str, tables: dict[str, Any], folder: Path) -> RunArm:
    """Write an arm's recipe to `folder/recipes`."""
    arm = RunArm(name, folder / "recipes" / f"{name}.toml", folder / name)
    atomic_write(arm.recipe, to_toml({**tables, "name": name}).encode())
    return arm


def build_arm(arm: RunArm, folder: Path, data: Path) -> Result:
    """Build an arm's mixture, or verify it; all arms of a `folder` share its cache. Raises InputError."""
    return build(load(arm.recipe), data_root=data, out=arm.mixture, cache=folder / ".cache")


def made_arm(name: str, tables: dict[str, Any], folder: Path, data: Path) -> RunArm:
    """Write an arm's recipe, build its mixture, and say how large it is."""
    arm = write_arm(name, tables, folder)
    made = build_arm(arm, folder, data)
    tokens, rows = int(made.manifest["tokens"]), int(made.manifest["rows"])
    typer.echo(f"arm {name}: {rows:,} rows, {tokens:,} tokens{'' if made.fresh else ' (as built before)'}")
    return arm


def trained_on(arm: RunArm, tables: dict[str, Any]) -> str:
    """Return the folder of a tokenizer trained on an arm's mixture: where each arm had its own, they would differ."""
    from steel_train.examples.prepare import trained_tokenizer

    size = int(tables["train"]["model"].get("vocab_size", 16_000))
    return str(trained_tokenizer(size, arm.folder, arm.mixture, read_manifest(arm.mixture)).absolute())


def train_job(job: Job, data: Path) -> str:
    """Train one seed of an arm, or verify it; what it says goes to `seed-N.log`. Returns the last line of that.

    Raises InputError that names arm, seed, reason and log.
    """
    import torch

    from steel_train.run import run

    # sums over threads are rounded in another order: with one thread the weights are the same for any number of workers
    torch.set_num_threads(1)
    arm = job.arm
    log = job.log
    until, trained = time.monotonic() + patience(), False
    while not trained:
        try:
            with _said_to(log):
                run(arm.recipe, arm.mixture, arm.folder, data, only_seed=job.seed)
            trained = True
        except InputError as error:
            if not isinstance(error, BusyError) or time.monotonic() >= until:
                raise InputError(f"arm {arm.name}, seed {job.seed}: {error} All of it: {log}") from None
            time.sleep(2)
    return (log.read_text(encoding="utf-8").strip().splitlines() or ["said nothing"])[-1]


@contextmanager
def followed(jobs: Sequence[Job]) -> Iterator[None]:
    """Tell every half minute what trainings that others do have said last, while the block runs."""
    told = {job: _last_line(job.log) for job in jobs}

    def news() -> Iterator[str]:
        for job in jobs:
            line = _last_line(job.log)
            if line not in ("", told[job]):
                told[job] = line
                yield f"{job.arm.name}, seed {job.seed}: {line}"

    with now_and_then(lambda: islice(news(), _MOST_TOLD)):
        yield


def _last_line(log: Path) -> str:
    """Return the last line of a log, "" where there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            return one_line((file.read().decode("utf-8", "replace").strip().splitlines() or [""])[-1])
    except OSError:
        return ""


@contextmanager
def _said_to(log: Path) -> Iterator[None]:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as file, redirect_stdout(file), redirect_stderr(file):
        yield
