"""A finished run that another one extends: more epochs or steps, and nothing else.

The longer run is a folder of its own. It begins where its parent ended, with the weights, the optimiser and the random
numbers of its last checkpoint, in the order of rows that a run of the new length has from the start. So it is that run,
but for the learning rate of the steps that the parent took: the schedule is that of the new length from here on.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steel_data.errors import InputError
from steel_data.recipe.changes import Change, changes
from steel_train.loop.checkpoints import read_facts, resumable
from steel_train.say import RESULT, RUN, read_json
from steel_train.settings import Settings, completed

# what of a run's identity may differ: its length, and what it is called
_LENGTH = ("train.epochs", "train.max_steps", "train.parent", "recipe", "parent")


def identity_changes(before: dict[str, Any], now: dict[str, Any]) -> list[Change]:
    """Return in what a run differs from the record of one; a run of an earlier steel may say less of itself."""
    known = {"loss_of_source": {}} | before | {"train": completed(before["train"])}
    # through JSON, so that tuples and lists compare alike
    return changes(known, {key: value for key, value in json.loads(json.dumps(now)).items() if key in known})


@dataclass(frozen=True)
class Parent:
    """A finished run. `facts`: the steel.json of its last checkpoint. `run`: its run.json."""

    folder: Path
    checkpoint: Path
    facts: dict[str, Any]
    run: dict[str, Any]

    @property
    def step(self) -> int:
        """Return the step at which it ended."""
        return int(self.facts["step"])

    def said(self) -> dict[str, Any]:
        """Return what the longer run says of it."""
        train = self.facts["train"]
        return {
            "run": self.folder.name, "checkpoint": self.checkpoint.name, "epochs": train["epochs"],
            "max_steps": train["max_steps"], "weights_sha256": self.facts["weights_sha256"],
        }  # fmt: skip

    def compare(self, identity: dict[str, Any], steps: int) -> None:
        """Raise InputError where a run of this identity and so many steps is not this run, and longer."""
        for change in identity_changes(self.run["identity"], identity):
            if change.key in _LENGTH or change.path[0] in _LENGTH:
                continue
            raise InputError(
                f"{self.folder}: was trained with {change.key} = {json.dumps(change.old)}, the run that extends it "
                f"with {json.dumps(change.new)}. Fix: the recipe as it was, but for epochs or max_steps; for anything "
                f'else model = "{self.checkpoint}".'
            )
        if steps <= self.step:
            raise InputError(
                f"{self.folder}: has {self.step:,} steps, the run that extends it {steps:,}. Fix: more epochs or "
                "max_steps."
            )


def open_parent(settings: Settings, recipe: Path, out: Path, seed: int | None) -> Parent | None:
    """Return the finished run that `[train] parent` names, of several seeds this one; None where none is named.

    `out`: the longer run's folder. Once that has a checkpoint of its own, its parent may be gone. Raises InputError
    for a run that is not finished, was stopped early, or whose last checkpoint cannot be gone on from.
    """
    if settings.parent is None:
        return None
    named = Path(settings.parent)
    folder = recipe.parent / named if (recipe.parent / named).is_dir() else named
    folder = folder if seed is None else folder / f"seed-{seed}"
    where = f"{recipe} [train] parent"
    told = _remembered(folder, out)
    if told is not None:
        return told
    if not (folder / "run.json").is_file():
        raise InputError(f"{where}: {folder} is no run. Fix: the folder of a finished one.")
    if not (folder / "result.json").is_file():
        raise InputError(f"{where}: {folder} is not finished. Fix: its own command again, which goes on.")
    result = read_json(folder / "result.json", RESULT)
    checkpoint = resumable(folder)
    facts = None if checkpoint is None else read_facts(checkpoint)
    if checkpoint is None or facts is None or checkpoint.name != result["checkpoint"]:
        raise InputError(f"{where}: {folder / 'checkpoints' / result['checkpoint']} is not whole. Fix: restore it.")
    if facts["step"] < facts["steps"]:
        raise InputError(f'{where}: {folder} was stopped early, and would be again. Fix: model = "{checkpoint}".')
    return Parent(folder, checkpoint, facts, read_json(folder / "run.json", RUN))


def _remembered(folder: Path, out: Path) -> Parent | None:
    """Return a parent that is gone, as the longer run that has begun remembers it; None where it is there."""
    file = out / "run.json"
    if (folder / "run.json").exists() or not file.is_file() or resumable(out) is None:
        return None
    run = read_json(file, RUN)
    said = run["identity"].get("parent")
    if said is None or said["run"] != folder.name:
        return None
    train = {"epochs": said.get("epochs"), "max_steps": said.get("max_steps")}
    return Parent(folder, Path(said["checkpoint"]), {"train": train, "weights_sha256": said["weights_sha256"]}, run)
