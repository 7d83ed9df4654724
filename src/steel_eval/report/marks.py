"""The warning label of every score in a report: what the mixtures hold of its questions, and the clean score then.

Declared questions are read from the mixture's injected rows. Others are those that `leak` found, else those that the
mixture's rows turn out to hold. The clean score comes from the questions that a run did not see.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from steel_data.benchmarks.clusters import cluster_names
from steel_data.benchmarks.items import Item
from steel_data.errors import InputError, first_line, nearest
from steel_eval.ask.tasks import Task, data_sha256, limited, load_task, parse_name
from steel_eval.compare.runs import Arm, Result, check_alike, values_of
from steel_eval.contamination.items import (
    Mixture,
    declared_items,
    found_items,
    nearby_mixture,
    open_mixture,
    seen_items,
    with_texts,
)
from steel_eval.contamination.label import NOT_LOOKED, CleanEstimate, Mark, declared_of, mark_of_scores
from steel_eval.contamination.overlap import Held
from steel_eval.stats.clean import clean_score
from steel_eval.stats.effects import Floats, Items

Marks = dict[str, list[list[Mark]]]  # task -> arm -> run


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where to look: `DIR` or `NAME=DIR` of mixtures and of `leak` outputs; the questions; whether to read mixtures.

    `data` None: the folder `data`, if there is one.
    """

    mixtures: Sequence[str] = ()
    leaks: Sequence[str] = ()
    data: Path | None = None
    search: bool = True


def find_marks(arms: Sequence[Arm], sources: Sources) -> Marks:
    """Return the label of each task, arm and run (its last checkpoint), with clean estimates.

    Raises InputError for a named mixture, `leak` output or data folder that is not there, or belongs to no arm.
    """
    if sources.data is not None and not sources.data.is_dir():
        raise InputError(f"--data {sources.data}: no such folder. Fix: one that holds cmmlu/, ceval/ … as published.")
    mixtures = {name: open_mixture(place) for name, place in by_arm("--mixture", sources.mixtures, arms).items()}
    leaks = by_arm("--leak", sources.leaks, arms)
    for place in leaks.values():
        if not any(place.glob("*/items.parquet")):
            raise InputError(f"--leak {place}: no <task>/items.parquet here. Fix: what `leak --out` wrote.")
    look = _Look(mixtures, leaks, sources.data or Path("data"), sources.search)
    marks: Marks = {}
    for task in sorted({task for arm in arms for run in arm.runs for r in run for task in r.scores["tasks"]}):
        of_task = [[look.mark(arm.name, _last(run, task), task) for run in arm.runs] for arm in arms]
        marks[task] = with_estimates(arms, task, of_task, look.questions(task))
    return marks


def by_arm(option: str, given: Sequence[str], arms: Sequence[Arm]) -> dict[str, Path]:
    """Read `NAME=DIR` or `DIR`; without a name a mixture is for the arms trained on it, else for the only arm."""
    known = [arm.name for arm in arms]
    found: dict[str, Path] = {}
    for text in given:
        name, _, folder = text.rpartition("=")
        place = Path(folder)
        if not place.is_dir():
            raise InputError(f"{option} {text}: no such folder. Fix: {option} NAME=DIR.")
        names = [name] if name else known
        if not name and len(known) > 1:
            content = open_mixture(place).content if option == "--mixture" else None
            names = [arm.name for arm in arms if content in [_content(run[-1]) for run in arm.runs]]
        if not names:
            raise InputError(f"{option} {text}: of which of the arms? Fix: {option} NAME={folder}.")
        if name and name not in known:
            raise InputError(f"{name}: no arm of this report.{nearest(name, known)}")
        found |= dict.fromkeys(names, place)
    return found


def _content(result: Result) -> str:
    """Return the checksum of the mixture that a checkpoint says it was trained on, "" where it says nothing."""
    training = result.scores.get("training") or {}
    return str((training.get("mixture") or {}).get("content_sha256") or "")


def _last(run: Sequence[Result], task: str) -> Result | None:
    """Return a run's last checkpoint that was scored on a task."""
    return next((r for r in reversed(run) if task in r.scores["tasks"]), None)


@dataclass
class _Look:
    """What a report may look at. Seeds of one mixture share what is read."""

    mixtures: dict[str, Mixture]  # by arm, as named
    leaks: dict[str, Path]
    data: Path
    search: bool
    declared: Any = field(default_factory=lambda: cache(declared_items))
    seen: Any = field(default_factory=lambda: cache(seen_items))
    found: Any = field(default_factory=lambda: cache(found_items))
    tasks: dict[str, Task | None] = field(default_factory=dict)

    def mark(self, arm: str, result: Result | None, task: str) -> Mark:
        """Return the label of one run on one task, without estimates."""
        if result is None:
            return Mark(task, 0, None)
        mark = mark_of_scores(result.scores, task)
        names = result.answers.filter(pl.col("task") == task)["item"].to_list()
        mixture = self._mixture(arm, result)
        if isinstance(mixture, Mixture):
            doses = declared_of(mixture.declared, task)
            if doses and result.scores["tasks"][task].get("by") == "lm-eval":
                return replace(mark, declared=doses, looked=f"{NOT_LOOKED}: lm-eval names its questions otherwise")
            try:
                held = self._declared_by(mixture, result, task, tuple(names))
            except InputError as error:
                if arm in self.mixtures:
                    raise
                mixture = str(error)
            else:
                if held is None:
                    return replace(mark, looked=f"{NOT_LOOKED}: the questions are not at hand (--data {self.data})")
                counts = dict(sorted(Counter(entry.dose for entry in held.values()).items()))
                mark = replace(mark, n=mark.n or len(names), declared=counts, counted=True, held=held)
        if isinstance(mixture, str) and mark.declared:
            return replace(mark, looked=f"{NOT_LOOKED}: {mixture}")  # which are declared is not known
        return self._with_undeclared(mark, arm, result, mixture)

    def _declared_by(
        self, mixture: Mixture, result: Result, task: str, names: tuple[str, ...]
    ) -> dict[str, Held] | None:
        """Return the declared questions, by their texts where these are at hand.

        Else by their names, if the scores counted just so many by text; None where they did not.
        """
        try:
            scored = self._scored(task, result)
        except InputError:
            held: dict[str, Held] = self.declared(mixture, parse_name(task)[0], names)
            counted = (result.scores.get("declared_items") or {}).get(task)
            mine = {str(dose): n for dose, n in Counter(entry.dose for entry in held.values()).items()}
            return held if counted in (None, mine) else None
        found: dict[str, Held] = self.seen(mixture, tuple(scored))
        return found

    def _with_undeclared(self, mark: Mark, arm: str, result: Result, mixture: Mixture | str) -> Mark:
        """Return the label with the undeclared questions that `leak` or the rows of the mixture show."""
        known = mark.held or {}
        file = self.leaks[arm] / mark.task.replace("/", "_") / "items.parquet" if arm in self.leaks else None
        if file is not None and file.is_file():
            found, asked = _of_leak(file, result, mark.task)
            found = {name: entry for name, entry in found.items() if name not in known}
            if isinstance(mixture, Mixture):
                found = with_texts(mixture, found)
            few = f"looked for among {asked:,} of {mark.n:,} only" if asked < mark.n else ""
            return replace(mark, held=known | found, looked=few if asked else f"{NOT_LOOKED}: by that `leak` either")
        if isinstance(mixture, str) or not self.search:
            return replace(mark, looked=f"{NOT_LOOKED}: {mixture if isinstance(mixture, str) else '--no-overlap'}")
        try:
            undeclared = [item for item in self._scored(mark.task, result) if item.item not in known]
            return replace(mark, held=known | self.found(mixture, tuple(undeclared)), looked="")
        except InputError as error:
            return replace(mark, looked=f"{NOT_LOOKED}: {error}")

    def _mixture(self, arm: str, result: Result) -> Mixture | str:
        """Return what a run was trained on, or in words why that is not at hand."""
        content = _content(result)
        if arm in self.mixtures:
            mixture = self.mixtures[arm]
            if content not in ("", mixture.content):
                raise InputError(
                    f"--mixture {arm}={mixture.folder}: not what {arm} was trained on. "
                    f"Fix: the mixture with content {content[:16]}."
                )
            return mixture
        place = nearby_mixture(result.folder)
        if place is None:
            return "no mixture at hand (--mixture)"
        try:
            mixture = open_mixture(place)
        except InputError as error:
            return str(error)
        # another trainer's run says nothing of its mixture: what scoring found beside the checkpoint must agree
        same = content == mixture.content if content else result.scores.get("contamination") == mixture.declared
        return mixture if same else "the mixture beside the scores is not the one that was trained on (--mixture)"

    def _task(self, name: str) -> Task | None:
        if name not in self.tasks:
            try:
                self.tasks[name] = load_task(name, self.data)
            except (InputError, OSError):
                self.tasks[name] = None
        return self.tasks[name]

    def questions(self, task: str) -> list[Item]:
        """Return the questions of a task, [] where they are not at hand."""
        loaded = self._task(task)
        return [item for group in loaded.items.values() for item in group] if loaded else []

    def _scored(self, task: str, result: Result) -> list[Item]:
        """Return the questions that were scored. Raises InputError with the reason why they are not at hand."""
        loaded = self._task(task)
        if loaded is None:
            raise InputError(f"its questions are not at hand (--data {self.data})")
        loaded = limited(loaded, result.scores["tasks"][task].get("limit") or None)
        subjects = set(result.answers.filter(pl.col("task") == task)["subject"].to_list())
        mine = {s: sha for s, sha in loaded.subject_sha256.items() if s in subjects}
        if set(mine) != subjects or data_sha256(mine) != result.scores["tasks"][task].get("data_sha256"):
            raise InputError("the questions in --data are not those that were scored")
        return [item for subject in sorted(subjects) for item in loaded.items[subject]]


def _of_leak(file: Path, result: Result, task: str) -> tuple[dict[str, Held], int]:
    """Return the questions that a `leak` output found in the mixture, and how many of the scored ones it looked for."""
    scored = result.answers.filter(pl.col("task") == task).select("item")
    names = ("item", "rows_in_mixture", "training_rows")
    try:
        frame = pl.read_parquet(file, columns=list(names), glob=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise InputError(f"{file}: not what `leak` writes: {first_line(error)}. Fix: leak again.") from error
    item, rows, places = (frame.schema[name] for name in names)
    fits = (item == pl.String, rows.is_integer() or rows == pl.Null, places in (pl.List(pl.String), pl.List(pl.Null)))
    if not all(fits) or frame["item"].null_count():
        name = names[fits.index(False)] if not all(fits) else "item"
        raise InputError(f"{file}: not what `leak` writes: column {name} holds {frame.schema[name]}. Fix: leak again.")
    looked: Any = frame.drop_nulls("rows_in_mixture").join(scored, on="item", how="semi")
    rows = looked.filter(pl.col("rows_in_mixture") > 0).iter_rows()
    return {item: Held(0, n, list(places or []), []) for item, n, places in rows}, len(looked)


@dataclass(frozen=True)
class _Asked:
    """A question's cluster of near-equal ones, and what guessing gives on it (NaN: not known)."""

    cluster: str
    chance: float


def with_estimates(
    arms: Sequence[Arm], task: str, marks: Sequence[Sequence[Mark]], items: Sequence[Item]
) -> list[list[Mark]]:
    """Return one task's labels (arm by arm, run by run) with the clean estimate of each contaminated run.

    `items`: the task's questions, to tell which are near; [] where they are not at hand. References are the arms that
    declare none of the questions and were not found to hold any.
    """
    if not any(mark.contaminated for of_arm in marks for mark in of_arm):
        return [list(of_arm) for of_arm in marks]
    asked = {
        item.item: _Asked(name, 1 / len(item.options) if item.options else np.nan)
        for item, name in zip(items, cluster_names(items), strict=True)
    }
    references = [
        (arm, of_arm[0]) for arm, of_arm in zip(arms, marks, strict=True)
        if all(m.n and m.declared is not None and not m.contaminated for m in of_arm)
    ]  # fmt: skip
    return [
        [_estimated(_last(run, task), mark, references, asked) for run, mark in zip(arm.runs, of_arm, strict=True)]
        for arm, of_arm in zip(arms, marks, strict=True)
    ]


def _estimated(
    result: Result | None, mark: Mark, references: Sequence[tuple[Arm, Mark]], asked: dict[str, _Asked]
) -> Mark:
    if result is None or not mark.contaminated or mark.held is None:
        return mark
    if mark.inherited:
        return replace(mark, no_estimate="which questions its base saw is not known")
    values = values_of([[result]], mark.task, "accuracy")
    if not values.items:
        return replace(mark, no_estimate="its questions have no key here")
    items = _items(values.items, values.subject_Q, mark.held, asked)
    estimates, why = [], ""
    try:
        estimates.append(_estimate(values.arms[0][0], items, None, ""))
    except ValueError as error:
        why = str(error).partition(":")[0]
    chance_Q = np.array([asked[name].chance if name in asked else np.nan for name in values.items])
    for arm, its in references:
        chosen = [_last(run, mark.task) or run[-1] for run in arm.runs]
        try:
            check_alike([result, *chosen])
            both = values_of([[result], chosen], mark.task, "accuracy")
        except (InputError, KeyError):
            continue  # another protocol or other questions: no reference
        try:
            estimates.append(_estimate(both.arms[0][0], items, both.arms[1], f"{arm.name} ({its.short()})", chance_Q))
        except ValueError:
            continue
        break
    return replace(mark, estimates=estimates, no_estimate="" if estimates else why)


def _items(names: Sequence[str], subject_Q: "np.ndarray", held: dict[str, Held], asked: dict[str, _Asked]) -> Items:
    """Return doses (undeclared questions: their rows), subjects and clusters; an item near a seen one is seen."""
    cluster_Q = np.unique([asked[name].cluster if name in asked else name for name in names], return_inverse=True)[
        1
    ].reshape(-1)
    dose_Q = np.array([held[name].dose or held[name].rows if name in held else 0 for name in names], np.int64)
    highest_C = np.zeros(cluster_Q.max(initial=-1) + 1, np.int64)
    np.maximum.at(highest_C, cluster_Q, dose_Q)
    return Items(highest_C[cluster_Q], subject_Q, cluster_Q.astype(np.int64))


def _estimate(
    score_Q: Floats, items: Items, clean_SQ: Floats | None, name: str, chance_Q: Floats | None = None
) -> CleanEstimate:
    chance = None if chance_Q is None or np.isnan(chance_Q).any() else chance_Q
    found = clean_score(score_Q, items, None if clean_SQ is None else clean_SQ.mean(0), clean_SQ, chance)
    low, clean, high = (min(1.0, max(0.0, v)) for v in (found.low, found.clean, found.high))
    return CleanEstimate(clean, low, high, found.unseen_items, name, found.runs, found.guessing)
