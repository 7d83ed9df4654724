"""`run`: a recipe -> one run folder for each seed. Interrupted and run again, it goes on as if nothing had happened."""

import json
import logging
import os
import shutil
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from steel_data.build import build
from steel_data.errors import InputError
from steel_data.files import atomic_write
from steel_data.manifest import damaged, read_manifest
from steel_data.places import locked
from steel_data.recipe import Recipe, load
from steel_train.examples import Examples, make_examples
from steel_train.settings import Settings, read_settings


@dataclass(frozen=True)
class Prepared:
    """What all seeds of a run share."""

    recipe: Recipe
    settings: Settings
    folder: Path
    mixture: Path
    manifest: dict[str, Any]
    tokenizer: Any
    examples: Examples


def run(
    recipe_path: Path, mixture: Path | None, out: Path | None, data_root: Path | None, only_seed: int | None = None
) -> None:
    """Build the mixture if none is given, check everything, and train once for each seed. Raises InputError.

    `only_seed`: of the recipe's seeds just this one, so that several processes or machines can share a run's seeds.
    """
    state = _processes()
    quiet()
    recipe = load(recipe_path)
    settings = read_settings(recipe.train, recipe.path)
    folder = out or Path("runs") / recipe.name
    seeds: list[int | None] = list(settings.seeds) if settings.seeds else [None]
    if only_seed is not None:
        if only_seed not in seeds:
            raise InputError(f"--seed {only_seed}: not among [train] seeds. Right: one of {settings.seeds or 'none'}.")
        seeds = [only_seed]
    with state.local_main_process_first():
        prepared = prepare(recipe, settings, folder, mixture, data_root, main=state.is_main_process)
    for seed in seeds:
        target = folder if seed is None else folder / f"seed-{seed}"
        if state.is_main_process:
            with locked(target):
                _train(prepared, target, seed)
        else:
            _train(prepared, target, seed)


def _processes() -> Any:
    """Return accelerate's view of this process among others; without an accelerator they talk through gloo."""
    import torch
    from accelerate import PartialState

    return PartialState(cpu=not torch.accelerator.is_available())


def quiet() -> None:
    """Silence what other libraries say of every file they write: our own lines are the progress."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*", category=FutureWarning)
    if os.environ.get("RANK", "0") != "0":
        logging.disable(logging.WARNING)


def prepare(
    recipe: Recipe, settings: Settings, folder: Path, mixture: Path | None, data_root: Path | None, main: bool = True
) -> Prepared:
    """Make or open mixture, tokenizer and examples. Only the main process writes."""
    place = mixture or folder / "mixture"
    if mixture is None and main:
        build(recipe, data_root=data_root, out=place)
    manifest = checked_mixture(place)
    tokenizer = make_tokenizer(recipe, settings, folder, place, manifest)
    examples = make_examples(place, tokenizer, settings.max_length, folder / "examples", manifest["content_sha256"])
    return Prepared(recipe, settings, folder, place, manifest, tokenizer, examples)


def checked_mixture(mixture: Path) -> dict[str, Any]:
    """Return the manifest of a mixture that is whole and not empty. Raises InputError."""
    manifest = read_manifest(mixture)
    faults = damaged(mixture, manifest)
    if faults:
        raise InputError(f"{faults[0]}. Right: build the mixture again.")
    if manifest["rows"] == 0:
        raise InputError(f"{mixture}: the mixture has no rows. Right: a recipe whose filters leave some.")
    return manifest


def make_tokenizer(recipe: Recipe, settings: Settings, folder: Path, mixture: Path, manifest: dict[str, Any]) -> Any:
    """Return the tokenizer of the run: named, the model's own, or trained on the mixture and kept in `tokenizer/`."""
    from steel_train.model import resolve
    from steel_train.tokenizer import load_tokenizer, settle

    where = f"{recipe.path} [train]"
    if settings.tokenizer is None and isinstance(settings.model, dict):
        name = str(trained_tokenizer(settings.model.get("vocab_size", 16_000), folder, mixture, manifest))
    else:
        name = resolve(settings.tokenizer or str(settings.model), recipe.path)
    tokenizer = load_tokenizer(name, where)
    settle(tokenizer, settings.chat_template, recipe.path)
    return tokenizer


def trained_tokenizer(size: int, folder: Path, mixture: Path, manifest: dict[str, Any]) -> Path:
    """Return `folder/tokenizer`, a byte-level BPE of `size` entries trained on the mixture; kept if it is there."""
    from steel_data.record import text_view
    from steel_train.examples import read_rows
    from steel_train.tokenizer import train_tokenizer

    target, key = folder / "tokenizer", {"mixture": manifest["content_sha256"], "size": size}
    note = target / "steel-tokenizer.json"
    if not note.is_file() or json.loads(note.read_text(encoding="utf-8")) != key:
        temporary = folder / ".tokenizer.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        texts = (text_view(row) for rows in read_rows(mixture) for row in rows)
        train_tokenizer(texts, size, temporary)
        (temporary / note.name).write_text(json.dumps(key), encoding="utf-8")
        shutil.rmtree(target, ignore_errors=True)
        temporary.replace(target)
    return target


def _train(prepared: Prepared, folder: Path, seed: int | None) -> None:
    """Train one seed in `folder`, or verify that it is done."""
    from steel_train.session import Session

    session = Session(prepared, folder, prepared.recipe.seed if seed is None else seed)
    if session.is_finished():
        return
    with _stopping_at_signals() as stop:
        session.train(stop)
    if stop:
        say(f"stopped by {signal.Signals(stop[0]).name} and saved; run the same command again to go on")
        sys.exit(128 + stop[0])


@contextmanager
def _stopping_at_signals() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT in a list: the step ends, the state is saved, then the process does."""
    got: list[int] = []
    before = {}
    for number in (signal.SIGTERM, signal.SIGINT):
        before[number] = signal.signal(number, lambda signum, _frame: got.append(signum))
    try:
        yield got
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def say(text: str) -> None:
    """Print a line from the main process only."""
    from accelerate import PartialState

    if PartialState().is_main_process:
        typer.echo(text)


def write_json(path: Path, data: Any) -> None:
    """Write readable JSON at once."""
    atomic_write(path, (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode())
