"""The scores to compare: runs, or groups of runs (seeds), as arms over the same questions."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from steel_data.benchmarks.items import LETTERS
from steel_data.errors import InputError, excerpt, nearest
from steel_eval.models import checkpoint_fingerprint, is_checkpoint
from steel_eval.score.accounting import gold_probability
from steel_eval.score.folder import TRIES, completed, read_answers, read_scores

Floats = NDArray[np.float64]
_A_RUN = re.compile(r"(seed-|v\d+-)")  # folders that are runs, be there one checkpoint in them
METRICS = ("accuracy", "macro", "gold_probability")


@dataclass(frozen=True)
class Result:
    """One scored checkpoint: a folder with scores.json and answers.parquet."""

    folder: Path
    scores: dict[str, Any]

    @cached_property
    def answers(self) -> pl.DataFrame:
        """Return answers.parquet. Raises InputError for a damaged one."""
        return read_answers(self.folder, self.scores)

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
                raise InputError(f"{self.name}: no checkpoint of step {which}. Fix: one of {steps}, or last, first.")
            out.append(match[0])
        return out


def load_results(place: Path, preset: str | None = None) -> list[Result]:
    """Return the scored checkpoints of one run, by step, from wherever `score` wrote them.

    That is: below the place, in its `scores/`, in a folder above it (`runs/x/scores/seed-1` for `runs/x/seed-1`), or
    for a checkpoint outside a run in `scores/<name>`. Where several presets were scored, `preset` says which one is
    meant; without it, and for several runs, that is an InputError.
    """
    runs = load_runs(place, preset)
    if len(runs) > 1:
        raise InputError(f"{place}: holds {len(runs)} runs. Fix: one of them.")
    return runs[0]


def load_runs(place: Path, preset: str | None = None) -> list[list[Result]]:
    """Return the runs below a place (seeds, `v*-*` of ms-swift, …), each as `load_results` does."""
    for root in _score_places(place):
        found = _of_one_size(_results(root, place), root)
        presets = sorted({str(r.scores.get("preset")) for _, r in found})
        if preset is not None:
            found = [(run, r) for run, r in found if r.scores.get("preset") == preset]
            if presets and not found:
                raise InputError(f"--preset {preset}: {root} was not scored so.{nearest(preset, presets)}")
        elif len(presets) > 1:
            raise InputError(f"{root}: scored under several presets. Fix: --preset {presets[0]}, or {presets[1]}.")
        if found:
            runs: dict[str, list[Result]] = {}
            for run, result in found:
                runs.setdefault(run, []).append(result)
            return [sorted(runs[name], key=lambda r: (r.step, r.folder.as_posix())) for name in sorted(runs)]
    raise InputError(f"{place}: no scores here. Fix: the output folder of `steel score`, or a run with scores/.")


def _of_one_size(found: list[tuple[str, Result]], root: Path) -> list[tuple[str, Result]]:
    """Return the scores of whole tasks; tries on a part (`score --limit`) where nothing else is there.

    Raises InputError for tries of several sizes: side by side they would be taken for several seeds.
    """
    sizes: dict[str, list[tuple[str, Result]]] = {}
    for run, result in found:
        parts = result.folder.relative_to(root).parts
        sizes.setdefault(next((p for p in parts if p.startswith(TRIES)), ""), []).append((run, result))
    if "" not in sizes and len(sizes) > 1:
        raise InputError(f"{root}: holds tries of several sizes. Fix: one of {', '.join(sorted(sizes))}.")
    return sizes.get("", found)


def _score_places(place: Path) -> Iterator[Path]:
    """Yield where `score` may have written what belongs to a place, the likeliest first."""
    yield place
    yield place / "scores"
    for above in list(place.absolute().parents)[:3]:
        inside = place.absolute().relative_to(above)
        yield above / "scores" / inside
        # a checkpoint of a run is scored into the run's folder without `checkpoints/`
        yield above / "scores" / Path(*[part for part in inside.parts if part != "checkpoints"])
    if is_checkpoint(place) and (Path("scores") / place.name).is_dir():
        yield Path("scores") / place.name


def _results(root: Path, place: Path) -> list[tuple[str, Result]]:
    """Return (run, result) of the scored checkpoints below a folder, each once.

    A run is the folder of its checkpoints' folders, without the parts that only say where scores are kept.
    """
    found: dict[str, tuple[str, Result]] = {}
    for file in sorted(f for depth in range(5) for f in root.glob("*/" * depth + "scores.json")):
        if not (file.parent / "answers.parquet").is_file():
            continue
        result = Result(file.parent, completed(read_scores(file.parent)))
        parts = [p for p in file.parent.relative_to(root).parts if p not in ("scores", "checkpoints")]
        said = [str(result.scores.get("preset"))] if parts[-1:] == [str(result.scores.get("preset"))] else []
        name = "/".join(parts)
        if root.parent == Path("scores") and is_checkpoint(place) and not _is_of(result, place):
            continue  # another model of the same name
        twin = found.get(name)
        if twin is not None and twin[1].scores.get("model_fingerprint") != result.scores.get("model_fingerprint"):
            raise InputError(f"{result.folder}: scores of another model than in {twin[1].folder}. Fix: delete one.")
        if twin is None or len(twin[1].scores["tasks"]) < len(result.scores["tasks"]):
            of = parts[: len(parts) - len(said)]
            found[name] = ("/".join(of if of and _A_RUN.match(of[-1]) else of[:-1]), result)
    return list(found.values())


def _is_of(result: Result, checkpoint: Path) -> bool:
    return bool(result.scores.get("model_fingerprint") == checkpoint_fingerprint(checkpoint))


def load_arm(text: str, preset: str | None = None) -> Arm:
    """Read `NAME=PATTERN` or `PATTERN`; a pattern is a folder or a glob such as `runs/exp2/seed-*`, one run each.

    A folder of several runs (seeds scored by one command, say) is split into them. What a glob finds that is no folder,
    or the scores of a run that it finds too, is passed over.
    """
    name, _, pattern = text.rpartition("=")
    places = sorted(Path().glob(pattern)) if not Path(pattern).is_absolute() else _absolute(pattern)
    if not places:
        raise InputError(f"{pattern}: nothing there. Fix: a run, a score folder, or NAME=runs/exp2/seed-*.")
    folders = [place for place in places if place.is_dir()] or places
    runs = [run for place in folders for run in load_runs(place, preset)]
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
                f"{other.folder}: scored as {other.protocol}, {first.folder} as {first.protocol}. Fix: score alike."
            )
        for task in set(first.scores["tasks"]) & set(other.scores["tasks"]):
            mine, theirs = (r.scores["tasks"][task].get("data_sha256") for r in (first, other))
            if mine != theirs and (said := _limits(first, other, task)):
                raise InputError(f"{said}. Fix: score both with the same --limit, or without.")
            if mine != theirs:
                raise InputError(
                    f"{other.folder}: other questions of {task} than in {first.folder}. Fix: the same data."
                )


def _limits(first: Result, other: Result, task: str) -> str:
    """Return how a try on a part of the questions and another result differ; empty where both are of one size."""
    rows = [result.scores["tasks"][task] for result in (other, first)]
    if rows[0].get("limit") == rows[1].get("limit"):
        return ""
    parts = [
        f"{row.get('n') or 0:,}" + (f" of {row.get('of') or 0:,}" if row.get("limit") else " (all)") for row in rows
    ]
    return f"{other.folder}: scored on {parts[0]} questions of {task}, {first.folder} on {parts[1]}"


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
                raise InputError(
                    f"{result.folder}: other questions of {task} than in {arms[0][0].folder}. "
                    "Fix: both scored on one --data-root."
                )
        rows.append(np.stack([_values(frame, metric) for frame in frames]))
    if not len(first):
        raise InputError(f"{arms[0][0].folder}: no answer of {task} has a published key. Fix: another task.")
    return Values(rows, subject_Q.reshape(-1).astype(np.int64), [str(s) for s in subjects], first["item"].to_list())


def _task_frame(result: Result, task: str) -> pl.DataFrame:
    return result.answers.filter((pl.col("task") == task) & (pl.col("label") != "")).sort("item")


def _values(frame: pl.DataFrame, metric: str) -> Floats:
    if metric in ("accuracy", "macro"):
        return (frame["prediction"] == frame["label"]).to_numpy().astype(float)
    if metric == "gold_probability":
        logprob = frame.select(pl.col("^logprob_.$")).to_numpy().astype(float)
        letters = LETTERS[: logprob.shape[1]]
        if odd := [label for label in frame["label"] if len(label) != 1 or label not in letters]:
            raise InputError(
                f"metric '{metric}': the answers hold no log-probability of '{excerpt(odd[0], 20)}'. "
                "Fix: another --metric."
            )
        index = [letters.index(label) for label in frame["label"]]
        # an option that a question does not have is missing, as is every option of a generated answer
        return np.nan_to_num(gold_probability(np.where(np.isnan(logprob), -np.inf, logprob), index))
    raise InputError(f"metric '{metric}': unknown.{nearest(metric, METRICS)}")
