"""A run's checkpoints spread over devices or over a cluster: jobs fill the store, from which the folders are written.

On devices each process has its share of the checkpoints. On a cluster each (checkpoint, task) is a job, then each
checkpoint, which finds its answers in the store; a job that is lost with its machine is done again by another.
"""

import platform
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from steel_data.engine import Executor, Local, tell
from steel_data.errors import InputError, one_line
from steel_eval.jobs import side_by_side
from steel_eval.models import Checkpoint, default_device, find_checkpoints, with_base
from steel_eval.score.server import refuse_several
from steel_eval.score.sweep import Settings, Sweep, write_curve

Results = dict[str, dict[str, Any]]  # preset -> scores


@dataclass(frozen=True)
class ScoreJob:
    """A checkpoint and the folder of its scores; `task`: only this one's answers, into the store."""

    checkpoint: Checkpoint
    folder: Path
    task: str = ""


@dataclass(frozen=True)
class _Share:
    """What one device scores."""

    device: str
    checkpoints: Sequence[Checkpoint]


def fill_on_devices(place: str, settings: Settings, devices: Sequence[str]) -> None:
    """Score a run's checkpoints in one process a device; all write to one store, from which the caller then reads."""
    checkpoints, _ = checkpoints_of(place, settings)
    shares = [_Share(device, checkpoints[i :: len(devices)]) for i, device in enumerate(devices)]
    Local(len(devices)).map(partial(_filled, settings), [share for share in shares if share.checkpoints])


def _filled(settings: Settings, share: _Share) -> None:
    """Put the answers of checkpoints into the store."""
    sweep = Sweep(replace(settings, device=share.device, showcase=False))
    for i, checkpoint in enumerate(share.checkpoints):
        with tempfile.TemporaryDirectory() as scratch:  # of its own: a folder holds scores of one model
            sweep.open(checkpoint)
            sweep.score(checkpoint, Path(scratch) / str(i))


def sweep_on_cluster(place: str, settings: Settings, executor: Executor) -> list[tuple[Checkpoint, Results]]:
    """Return each checkpoint of a place with its scores by preset, as `run_sweep` does.

    `settings.device`: of every machine; "": a GPU where one is. Raises InputError for a folder that another machine
    does not find.
    """
    settings = seen_everywhere(settings)
    checkpoints, is_run = checkpoints_of(place, settings)
    if any(unit.preset.kind == "generation" for units in Sweep(settings).units.values() for unit in units):
        refuse_several(settings.generator, checkpoints)
    places = score_jobs(checkpoints, is_run, settings)
    jobs = [replace(place, task=task.name) for place in places for task in settings.tasks]
    count = iter(range(1, len(jobs) + 1))

    def told(done: str) -> None:
        tell(f"{next(count)} of {len(jobs)}: {one_line(done)}")

    if len(jobs) > len(checkpoints):
        side_by_side(executor, partial(_answered, settings), jobs, told, "ask")
    found = side_by_side(executor, partial(_scored, settings), places, what="score")
    scored = list(zip(checkpoints, found, strict=True))
    if is_run:
        write_curve(settings.out, scored)
    return scored


def seen_everywhere(settings: Settings) -> Settings:
    """Make the folders that are written to, and return the settings that name them as every machine finds them.

    Raises InputError where they cannot be made.
    """
    try:
        for folder in (settings.out, settings.store.parent):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{settings.out}: cannot be written: {error.strerror or error}. Fix: a writable --out."
        ) from None
    return replace(settings, out=settings.out.absolute(), store=settings.store.absolute())


def checkpoints_of(place: str, settings: Settings) -> tuple[list[Checkpoint], bool]:
    """Return the checkpoints of a place, their folders as every machine finds them, and whether it is a run."""
    found, is_run = find_checkpoints(place, settings.opening.revision)
    if settings.with_base:
        found, is_run = with_base(found), True
    return [replace(c, folder=c.folder.absolute()) for c in found], is_run


def score_jobs(checkpoints: Sequence[Checkpoint], is_run: bool, settings: Settings) -> list[ScoreJob]:
    """Return each checkpoint with its folder of scores: its own below `out` in a run, else `out`."""
    return [ScoreJob(c, settings.out / c.name if is_run else settings.out) for c in checkpoints]


def _answered(settings: Settings, job: ScoreJob) -> str:
    """Put the answers of a checkpoint to one task into the store."""
    refuse_unseen(job.checkpoint, settings)
    mine = replace(settings, tasks=[task for task in settings.tasks if task.name == job.task])
    _filled(mine, _Share(on_this_device(settings).device, [job.checkpoint]))
    return f"{job.checkpoint.name}, {job.task}"


def _scored(settings: Settings, job: ScoreJob) -> Results:
    """Write a checkpoint's folder of scores and return them."""
    refuse_unseen(job.checkpoint, settings)
    sweep = Sweep(on_this_device(settings))
    sweep.open(job.checkpoint)
    return sweep.score(job.checkpoint, job.folder)


def on_this_device(settings: Settings) -> Settings:
    """Return the settings with the device of this machine, where none is said."""
    return replace(settings, device=settings.device or default_device())


def refuse_unseen(checkpoint: Checkpoint, settings: Settings) -> None:
    """Raise InputError where this machine does not find the folders that another one has."""
    for folder in (checkpoint.folder, settings.out, settings.store.parent):
        if not folder.is_dir():
            raise InputError(
                f"{platform.node()}: finds no {folder}. Fix: a folder that every machine of the cluster sees."
            )
