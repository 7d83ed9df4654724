"""The scores to compare: runs, or groups of runs (seeds), as arms over the same questions."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
from numpy.typing import NDArray

from steel_data.benchmarks.items import LETTERS
from steel_data.errors import InputError, nearest
from steel_eval.score.accounting import gold_probability

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Result:
    """One scored checkpoint: a folder with scores.json and answers.parquet."""

    folder: Path
    scores: dict[str, Any]

    @cached_property
    def answers(self) -> pl.DataFrame:
        """Return answers.parquet."""
        return pl.read_parquet(self.folder / "answers.parquet")

    @property
    def step(self) -> int:
        """Return the training step, -1 outside a run."""
        step = self.scores.get("step")
        return -1 if step is None else int(step)

    @property
    def protocol(self) -> str:
        """Return preset and shots in words."""
        return f"{self.scores.get('preset')}, {self.scores.get('shots')}-shot"


@dataclass(frozen=True)
class Arm:
    """What is compared under one name: one run a seed, each with its checkpoints in order of steps."""

    name: str
    runs: list[list[Result]]

    def chosen(self, which: str) -> list[Result]:
        """Return one checkpoint of each run: `last`, `first` or a step.

        Raises InputError for a step that is not there.
        """
        if which in ("last", "first"):
            return [run[-1 if which == "last" else 0] for run in self.runs]
        out = []
        for run in self.runs:
            match = [r for r in run if str(r.step) == which]
            if not match:
                steps = ", ".join(str(r.step) for r in run)
                raise InputError(f"{self.name}: no checkpoint of step {which}. There are: {steps}, or last, first.")
            out.append(match[0])
        return out


def load_results(place: Path, preset: str | None = None) -> list[Result]:
    """Return the scored checkpoints below a place (a score folder, a sweep's output, a run with scores/) by step.

    Where several presets were scored, `preset` says which one is meant; without it that is an InputError.
    """
    for root in (place, place / "scores"):
        files = [f for depth in ("", "*/", "*/*/") for f in sorted(root.glob(f"{depth}scores.json"))]
        found = [
            Result(f.parent, orjson.loads(f.read_bytes())) for f in files if (f.parent / "answers.parquet").is_file()
        ]
        presets = sorted({str(r.scores.get("preset")) for r in found})
        if preset is not None:
            found = [r for r in found if r.scores.get("preset") == preset]
            if presets and not found:
                raise InputError(f"--preset {preset}: {root} was not scored so.{nearest(preset, presets)}")
        elif len(presets) > 1:
            raise InputError(f"{root}: scored under several presets. Right: --preset {presets[0]}, or {presets[1]}.")
        if found:
            return sorted(found, key=lambda r: (r.step, r.folder.as_posix()))
    raise InputError(f"{place}: no scores here. Right: the output folder of `steel_eval score`, or a run with scores/.")


def load_arm(text: str, preset: str | None = None) -> Arm:
    """Read `NAME=PATTERN` or `PATTERN`; a pattern is a folder or a glob such as `runs/exp2/seed-*`, one run each.

    A run of several seeds scored by one command (`scores/seed-1/step-…`) is split into its seeds.
    """
    name, _, pattern = text.rpartition("=")
    places = sorted(Path().glob(pattern)) if not Path(pattern).is_absolute() else _absolute(pattern)
    if not places:
        raise InputError(f"{pattern}: nothing there. Right: a run, a score folder, or NAME=runs/exp2/seed-*.")
    runs: list[list[Result]] = []
    for place in places:
        scores = place / "scores" if (place / "scores").is_dir() else place
        seeds = sorted(p for p in scores.glob("seed-*") if p.is_dir())
        runs += [load_results(p, preset) for p in seeds] if seeds else [load_results(place, preset)]
    return Arm(name or Path(pattern).name.replace("*", ""), runs)


def _absolute(pattern: str) -> list[Path]:
    path = Path(pattern)
    return sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))


def check_alike(results: Sequence[Result]) -> None:
    """Refuse results that were not obtained in the same way: a difference of protocols is no difference of models."""
    first = results[0]
    for other in results[1:]:
        if first.protocol != other.protocol:
            raise InputError(
                f"{other.folder}: scored as {other.protocol}, {first.folder} as {first.protocol}. Right: score alike."
            )
        for task in set(first.scores["tasks"]) & set(other.scores["tasks"]):
            mine, theirs = (r.scores["tasks"][task].get("data_sha256") for r in (first, other))
            if mine != theirs:
                raise InputError(
                    f"{other.folder}: other questions of {task} than in {first.folder}. Right: the same data."
                )


@dataclass(frozen=True)
class Values:
    """One task's values over the questions that all results share: `value_SQ` right or wrong, or gold probability."""

    arms: list[Floats]  # one (S, Q) an arm
    subject_Q: NDArray[np.int64]
    subjects: list[str]
    items: list[str]


def values_of(arms: Sequence[Sequence[Result]], task: str, metric: str) -> Values:
    """Return aligned values. Raises InputError where the questions of two results differ."""
    first = _task_frame(arms[0][0], task)
    subjects, subject_Q = np.unique(first["subject"].to_numpy(), return_inverse=True)
    rows = []
    for arm in arms:
        frames = [_task_frame(result, task) for result in arm]
        for frame, result in zip(frames, arm, strict=True):
            if frame["item"].to_list() != first["item"].to_list():
                raise InputError(f"{result.folder}: other questions of {task} than in {arms[0][0].folder}.")
        rows.append(np.stack([_values(frame, metric) for frame in frames]))
    return Values(rows, subject_Q.reshape(-1).astype(np.int64), [str(s) for s in subjects], first["item"].to_list())


def _task_frame(result: Result, task: str) -> pl.DataFrame:
    return result.answers.filter((pl.col("task") == task) & (pl.col("label") != "")).sort("item")


def _values(frame: pl.DataFrame, metric: str) -> Floats:
    if metric in ("accuracy", "macro"):
        return (frame["prediction"] == frame["label"]).to_numpy().astype(float)
    if metric == "gold_probability":
        logprob = frame.select(pl.col("^logprob_.$")).to_numpy().astype(float)
        index = [LETTERS.index(x) for x in frame["label"]]
        # an option that a question does not have is missing, as is every option of a generated answer
        return np.nan_to_num(gold_probability(np.where(np.isnan(logprob), -np.inf, logprob), index))
    raise InputError(f"metric '{metric}': unknown. Known: accuracy, macro, gold_probability.")
