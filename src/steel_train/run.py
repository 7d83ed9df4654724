"""`run`: a recipe -> one run folder for each seed. Interrupted and run again, it goes on as if nothing had happened."""

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

from steel_data.errors import InputError, Interrupted
from steel_data.files import locked
from steel_data.recipe.load import Recipe, load
from steel_train.examples.prepare import Prepared, learnt, prepare, tasks_of
from steel_train.loop.parent import Parent, open_parent
from steel_train.models.adapter import continued
from steel_train.models.check import check_run
from steel_train.say import quiet, say
from steel_train.settings import read_settings


def run(
    recipe_path: Path | Recipe,
    mixture: Path | None = None,
    out: Path | None = None,
    data_root: Path | None = None,
    only_seed: int | None = None,
    workers: int = 1,
) -> None:
    """Build the mixture if none is given, check everything, and train once for each seed. Raises InputError.

    `only_seed`: of the recipe's seeds just this one, so that several processes or machines can share a run's seeds.
    `workers`: processes that build and encode; the bytes do not depend on how many.
    """
    state = _processes()
    quiet()
    recipe = load(recipe_path)
    settings = continued(read_settings(recipe.train, recipe.path), recipe.path)
    check_run(settings, recipe.path)
    if settings.kernels == "triton":
        from steel_train.kernels.backend import require_triton

        require_triton(f"{recipe.path} [train]")  # before a row is read
    folder = out or Path("runs") / recipe.name
    seeds: list[int | None] = list(settings.seeds) if settings.seeds else [None]
    if only_seed is not None:
        if only_seed not in seeds:
            raise InputError(f"--seed {only_seed}: not among [train] seeds. Fix: one of {settings.seeds or 'none'}.")
        seeds = [only_seed]
    parents = [open_parent(settings, recipe.path, _folder_of(folder, seed), seed) for seed in seeds]
    learnt(recipe, settings)
    tasks = tasks_of(recipe, settings, data_root)
    with state.local_main_process_first():
        prepared = prepare(recipe, settings, folder, mixture, data_root, workers)
    prepared = replace(prepared, tasks=tasks)
    for seed, parent in zip(seeds, parents, strict=True):
        target = _folder_of(folder, seed)
        if state.is_main_process:
            with locked(target):
                _train(prepared, target, seed, parent)
        else:
            _train(prepared, target, seed, parent)


def encode(
    recipe_path: Path | Recipe, mixture: Path | None, out: Path | None, data_root: Path | None, workers: int
) -> None:
    """Make what a run needs before its first step (mixture, tokenizer, examples), and stop. Raises InputError."""
    _processes()
    quiet()
    recipe = load(recipe_path)
    settings = continued(read_settings(recipe.train, recipe.path), recipe.path)
    folder = out or Path("runs") / recipe.name
    prepared = prepare(recipe, settings, folder, mixture, data_root, workers)
    parts = [prepared.examples, *([] if prepared.held_out is None else [prepared.held_out])]
    tokens, learnt = (sum(int(part.table[name].sum()) for part in parts) for name in ("length", "learnt"))
    say(f"{folder / 'examples'}: {prepared.examples.rows:,} rows, {tokens:,} tokens, {learnt:,} learnt")


def _folder_of(folder: Path, seed: int | None) -> Path:
    return folder if seed is None else folder / f"seed-{seed}"


def _processes() -> Any:
    """Return accelerate's view of this process among others; without an accelerator they talk through gloo."""
    import torch
    from accelerate import PartialState

    return PartialState(cpu=not torch.accelerator.is_available())


def _train(prepared: Prepared, folder: Path, seed: int | None, parent: Parent | None) -> None:
    """Train one seed in `folder`, or verify that it is done."""
    from steel_train.loop.session import Session

    session = Session(prepared, folder, prepared.recipe.seed if seed is None else seed, parent)
    if session.is_finished():
        return
    stop: list[int] = []
    session.train(stop)
    if stop:
        raise Interrupted(f"stopped by {signal.Signals(stop[0]).name} and saved", 128 + stop[0])
