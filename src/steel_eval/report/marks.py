"""Find the warning label of every score in a report: mixtures, `leak` outputs, questions, clean estimates."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from steel_data.benchmarks.items import Item
from steel_data.errors import InputError, first_line, nearest
from steel_eval.ask.tasks import Task, data_sha256, load_task, parse_name
from steel_eval.compare.runs import Arm, Result
from steel_eval.contamination.items import (
    Held,
    Mixture,
    declared_items,
    found_items,
    nearby_mixture,
    open_mixture,
    with_texts,
)
from steel_eval.contamination.label import NOT_LOOKED, Mark, declared_of, mark_of_scores
from steel_eval.report.clean_score import with_estimates

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
        raise InputError(f"--data {sources.data}: no such folder. Right: one that holds cmmlu/, ceval/ … as published.")
    finder = _Finder(arms, sources)
    tasks = sorted({task for arm in arms for run in arm.runs for r in run for task in r.scores["tasks"]})
    marks: Marks = {}
    for task in tasks:
        of_task = [[finder.mark(arm, run, task) for run in arm.runs] for arm in arms]
        marks[task] = with_estimates(arms, task, of_task, finder.items(task))
    return marks


def last_scored(run: Sequence[Result], task: str) -> Result | None:
    """Return a run's last checkpoint that was scored on a task."""
    return next((r for r in reversed(run) if task in r.scores["tasks"]), None)


@dataclass
class _Finder:
    """What has been read so far, so that seeds of one mixture share it."""

    arms: Sequence[Arm]
    sources: Sources
    named: dict[str, Mixture] = field(init=False)
    leaks: dict[str, Path] = field(init=False)
    tasks: dict[str, Task | str] = field(default_factory=dict)  # or why its questions are not at hand
    held: dict[tuple[str, str, str], dict[str, Held]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.named = {n: open_mixture(d) for n, d in _by_arm("--mixture", self.sources.mixtures, self._whose).items()}
        self.leaks = _by_arm("--leak", self.sources.leaks, self._any)
        for name in [*self.named, *self.leaks]:
            if name not in [arm.name for arm in self.arms]:
                raise InputError(f"{name}: no arm of this report.{nearest(name, [a.name for a in self.arms])}")
        for place in self.leaks.values():
            if not any(place.glob("*/items.parquet")):
                raise InputError(f"--leak {place}: no <task>/items.parquet here. Right: what `leak --out` wrote.")

    def _whose(self, place: Path) -> list[str]:
        """Return the arms that a mixture without a name is for: those trained on its content."""
        content = open_mixture(place).content
        return [a.name for a in self.arms if content in map(_content, _lasts(a))] or self._any(place)

    def _any(self, _place: Path) -> list[str]:
        return [self.arms[0].name] if len(self.arms) == 1 else []

    def items(self, task: str) -> list[Item]:
        """Return the questions of a task, [] where they are not at hand."""
        loaded = self._load(task)
        return [] if isinstance(loaded, str) else [item for group in loaded.items.values() for item in group]

    def _load(self, task: str) -> Task | str:
        if task not in self.tasks:
            data = self.sources.data or Path("data")
            try:
                self.tasks[task] = load_task(task, data)
            except (InputError, OSError):
                self.tasks[task] = f"its questions are not at hand (--data {data})"
        return self.tasks[task]

    def mark(self, arm: Arm, run: Sequence[Result], task: str) -> Mark:
        """Return the label of one run on one task, without estimates."""
        result = last_scored(run, task)
        if result is None:
            return Mark(task, 0, None)
        mark = mark_of_scores(result.scores, task)
        mixture = self._mixture(arm, result)
        if isinstance(mixture, Mixture):
            declared = declared_of(mixture.declared, task)
            foreign = result.scores["tasks"][task].get("by") == "lm-eval"
            if declared and (foreign or parse_name(task)[0] not in mixture.declared):
                return replace(mark, declared=declared, looked=f"{NOT_LOOKED}: lm-eval names its questions otherwise")
            try:
                mark = self._declared(mark, result, mixture)
            except InputError as error:
                if arm.name in self.named:
                    raise
                mixture = str(error)
        if isinstance(mixture, str) and mark.declared:
            return replace(mark, looked=f"{NOT_LOOKED}: {mixture}")  # which are declared is not known
        return self._search(mark, arm, result, mixture)

    def _declared(self, mark: Mark, result: Result, mixture: Mixture) -> Mark:
        """Return the label with the declared questions one by one. Raises InputError for a damaged mixture."""
        names = result.answers.filter(pl.col("task") == mark.task)["item"].to_list()
        benchmark = parse_name(mark.task)[0]
        held = self._read(mixture, mark.task, "", lambda: declared_items(mixture, benchmark, names))
        counts: dict[int, int] = {}
        for dose in sorted(entry.dose for entry in held.values()):
            counts[dose] = counts.get(dose, 0) + 1
        return replace(mark, n=mark.n or len(names), declared=counts, counted=True, held=held)

    def _search(self, mark: Mark, arm: Arm, result: Result, mixture: Mixture | str) -> Mark:
        """Return the label with the undeclared questions that `leak` or the rows of the mixture show."""
        known = mark.held or {}
        leak = self.leaks.get(arm.name)
        file = leak / mark.task.replace("/", "_") / "items.parquet" if leak else None
        if file is not None and file.is_file():
            found, asked = _of_leak(file, result, mark.task)
            found = {name: entry for name, entry in found.items() if name not in known}
            if isinstance(mixture, Mixture):
                found = with_texts(mixture, found)
            few = f"looked for among {asked:,} of {mark.n:,} only" if asked < mark.n else ""
            return replace(mark, held=known | found, looked=few if asked else f"{NOT_LOOKED}: by that `leak` either")
        if not isinstance(mixture, Mixture):
            return replace(mark, looked=f"{NOT_LOOKED}: {mixture}")
        if not self.sources.search:
            return replace(mark, looked=f"{NOT_LOOKED}: --no-overlap")
        items = self._questions(mark.task, result)
        if isinstance(items, str):
            return replace(mark, looked=f"{NOT_LOOKED}: {items}")
        undeclared = [item for item in items if item.item not in known]
        sha = str(result.scores["tasks"][mark.task].get("data_sha256"))
        try:
            found = self._read(mixture, mark.task, sha, lambda: found_items(mixture, undeclared, mark.task))
        except InputError as error:
            return replace(mark, looked=f"{NOT_LOOKED}: {error}")
        return replace(mark, held=known | found, looked="")

    def _read(self, mixture: Mixture, task: str, what: str, read: Callable[[], dict[str, Held]]) -> dict[str, Held]:
        key = (str(mixture.folder), task, what)
        if key not in self.held:
            self.held[key] = read()
        return self.held[key]

    def _mixture(self, arm: Arm, result: Result) -> Mixture | str:
        """Return what a run was trained on, or in words why that is not at hand."""
        content = _content(result)
        if arm.name in self.named:
            mixture = self.named[arm.name]
            if content not in ("", mixture.content):
                raise InputError(
                    f"--mixture {arm.name}={mixture.folder}: not what {arm.name} was trained on. "
                    f"Right: the mixture with content {content[:16]}."
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

    def _questions(self, task: str, result: Result) -> list[Item] | str:
        """Return the questions that were scored, or in words why they are not at hand."""
        loaded = self._load(task)
        if isinstance(loaded, str):
            return loaded
        subjects = set(result.answers.filter(pl.col("task") == task)["subject"].to_list())
        mine = {s: sha for s, sha in loaded.subject_sha256.items() if s in subjects}
        if set(mine) != subjects or data_sha256(mine) != result.scores["tasks"][task].get("data_sha256"):
            return "the questions in --data are not those that were scored"
        return [item for subject in sorted(subjects) for item in loaded.items[subject]]


def _lasts(arm: Arm) -> list[Result]:
    return [run[-1] for run in arm.runs]


def _content(result: Result) -> str:
    """Return the checksum of the mixture that a checkpoint says it was trained on, "" where it says nothing."""
    training = result.scores.get("training") or {}
    return str((training.get("mixture") or {}).get("content_sha256") or "")


def _by_arm(option: str, given: Sequence[str], whose: Callable[[Path], list[str]]) -> dict[str, Path]:
    """Read `NAME=DIR` or `DIR`; `whose` names the arms of a folder that comes without a name."""
    found: dict[str, Path] = {}
    for text in given:
        name, _, folder = text.rpartition("=")
        place = Path(folder)
        if not place.is_dir():
            raise InputError(f"{option} {text}: no such folder. Right: {option} NAME=DIR.")
        names = [name] if name else whose(place)
        if not names:
            raise InputError(f"{option} {text}: of which of the arms? Right: {option} NAME={folder}.")
        found |= dict.fromkeys(names, place)
    return found


def _of_leak(file: Path, result: Result, task: str) -> tuple[dict[str, Held], int]:
    """Return the questions that a `leak` output found in the mixture, and how many of the scored ones it looked for."""
    scored = result.answers.filter(pl.col("task") == task).select("item")
    try:
        frame = pl.read_parquet(file, columns=["item", "rows_in_mixture", "training_rows"])
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{file}: not what `leak` writes: {first_line(error)}.") from error
    looked: Any = frame.drop_nulls("rows_in_mixture").join(scored, on="item", how="semi")
    rows = looked.filter(pl.col("rows_in_mixture") > 0).iter_rows()
    return {item: Held(0, n, list(places or []), []) for item, n, places in rows}, len(looked)
