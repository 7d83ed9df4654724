"""The answers of a study: every arm's checkpoints on every task, right or wrong, in the order of the tasks' items."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
from numpy.typing import NDArray

from steel_data.benchmarks.items import Item
from steel_data.engine import Executor, Local
from steel_eval.arms import RunArm
from steel_eval.ask.tasks import Task
from steel_eval.jobs import side_by_side
from steel_eval.models import default_device, find_checkpoints
from steel_eval.score.sweep import Settings, run_sweep
from steel_eval.study.settings import StudySettings

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Point:
    """One scored checkpoint. `right`: by (preset, task), (Q,) of 0 and 1."""

    folder: Path
    step: int
    right: dict[tuple[str, str], Floats]

    @property
    def facts(self) -> dict[str, Any]:
        """Return the checkpoint's steel.json."""
        found: dict[str, Any] = orjson.loads((self.folder / "steel.json").read_bytes())
        return found


@dataclass(frozen=True)
class ScoredArm:
    """One arm: for each seed its scored checkpoints by step, the last being the finished run."""

    arm: RunArm
    seeds: list[list[Point]]

    @property
    def last(self) -> list[Point]:
        """Return the finished checkpoint of each seed."""
        return [points[-1] for points in self.seeds]

    def answers(self, preset: str, task: str) -> Floats:
        """Return the answers of the finished checkpoints, (S, Q)."""
        return np.array([point.right[preset, task] for point in self.last])


def items_of(task: Task) -> list[Item]:
    """Return a task's items in the one order that all arrays of a study have."""
    return [item for group in task.items.values() for item in group]


def score_arms(
    arms: Sequence[RunArm],
    tasks: Sequence[Task],
    settings: StudySettings,
    folder: Path,
    executor: Executor | None = None,
) -> dict[str, ScoredArm]:
    """Score the last checkpoint of every seed; with `checkpoints = "all"` every checkpoint of the injected arms.

    `executor`: where seeds are scored side by side; None: one after another here.
    """
    seeds = [seed for arm in arms for seed in arm.seeds]
    all_of = [seed for arm in arms for seed in arm.seeds if arm.name in ("injected", "diluted")]
    score = partial(_scored, tasks=tasks, settings=settings, folder=folder, all_of=all_of)
    points = iter(side_by_side(executor or Local(), score, seeds, what="score"))
    return {arm.name: ScoredArm(arm, [next(points) for _ in arm.seeds]) for arm in arms}


def _scored(
    seed: Path, tasks: Sequence[Task], settings: StudySettings, folder: Path, all_of: Sequence[Path]
) -> list[Point]:
    """Score one seed's run; `all_of`: the runs of which every checkpoint may be scored."""
    every = settings.checkpoints == "all" and seed in all_of
    checkpoints = find_checkpoints(str(seed))[0]
    place, out = (str(seed), seed / "scores") if every else (str(checkpoints[-1].folder), None)
    out = out or seed / "scores" / checkpoints[-1].name
    how = Settings(
        tasks, settings.presets, settings.shots, out, folder / "store.jsonl", device=default_device(),
        dtype=settings.dtype, opening=settings.opening(), max_new_tokens=settings.max_new_tokens,
    )  # fmt: skip
    points = []
    for checkpoint, _ in run_sweep(place, how):
        scored = out / checkpoint.name if every else out
        right: dict[tuple[str, str], Floats] = {}
        for preset in settings.presets:
            answers = pl.read_parquet((scored / preset if len(settings.presets) > 1 else scored) / "answers.parquet")
            right |= {(preset, task.name): _right(answers, task) for task in tasks}
        points.append(Point(checkpoint.folder, int(checkpoint.step or 0), right))
    return points


def _right(answers: pl.DataFrame, task: Task) -> Floats:
    mine = answers.filter(pl.col("task") == task.name)
    hit = dict(zip(mine["item"], (mine["prediction"] == mine["label"]).cast(pl.Float64), strict=True))
    return np.array([hit[item.item] for item in items_of(task)])
