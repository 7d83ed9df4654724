"""Benchmarks as tasks: which split is scored, with which examples.

A task is named `cmmlu`, `ceval-test` (another split), `cmmlu/agronomy` (one subject). C-Eval is scored on `val`, as
published results are. The answers of its test split came out on 27 July 2025 (README of github.com/hkust-nlp/ceval):
files with a key are scored, older ones without give a submission file and no score.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import orjson
import xxhash

from steel_data.benchmarks.items import (
    LETTERS,
    SPLITS,
    Item,
    benchmark_files,
    benchmark_name,
    benchmark_path,
    published_part,
    read_items,
    subjects,
)
from steel_data.errors import InputError, excerpt, nearest
from steel_eval.ask.prompts import subject_table

# The split that a benchmark is scored on where the task's name does not say.
_SCORED_SPLIT = {"ceval": "val"}
_OURS = ("ceval", "cmmlu")
_KEY_CAME_LATER = {("ceval", "test")}  # copies from before have no key, or somebody else's


@dataclass(frozen=True)
class Task:
    """The questions of one benchmark split, by subject.

    `data_sha256` covers questions and examples of the subjects present. `limit`: of each subject so many questions at
    most, of `whole` in all (see `limited`); None: all.
    """

    name: str
    benchmark: str
    split: str
    items: dict[str, list[Item]]
    examples: dict[str, list[Item]]
    missing: list[str]
    published: bool  # whether the questions have a key: else only a submission file is written
    data_sha256: str
    subject_sha256: dict[str, str]
    part: tuple[int, int] | None = None  # questions here and published, where they differ
    limit: int | None = None
    whole: int = 0


@dataclass(frozen=True)
class Foreign:
    """Tasks of lm-eval: with how many examples (None: their own number), from which folder of YAML beside its own, and
    how many questions of each (None: all).
    """

    tasks: Sequence[str]
    shots: int | None = None
    include: Path | None = None
    limit: int | None = None


def limited(task: Task, limit: int | None) -> Task:
    """Return the task with `limit` questions of each subject: those whose texts have the smallest hashes, in order.

    The text decides, so the 10 of `--limit 10` are among the 20 of `--limit 20`, whatever the file's order. The data's
    checksums are those of what is left: no result of a part is taken for one of the whole, or of another part. A task
    that loses nothing stays as it is.
    """
    if limit is None or all(len(items) <= limit for items in task.items.values()):
        return task
    items = {}
    for subject, whole in task.items.items():
        first = sorted(
            whole, key=lambda i: (xxhash.xxh3_64_hexdigest("\n".join([i.question, *i.options]).encode()), i.row)
        )
        chosen = {id(item) for item in first[:limit]}
        items[subject] = [item for item in whole if id(item) in chosen]
    sha = {s: _sha256([*items[s], *task.examples.get(s, [])]) for s in items}
    return replace(
        task, items=items, data_sha256=data_sha256(sha), subject_sha256=sha, limit=limit,
        whole=sum(map(len, task.items.values())),
    )  # fmt: skip


def is_local(name: str, data: Path) -> bool:
    """Return whether a task's name stands for data under `data` (else it is for lm-eval).

    Raises InputError for one of ours that is not there.
    """
    benchmark, split, subject = parse_name(name)
    there = benchmark_path(benchmark, data) is not None
    # these names are ours: silently asking the hub for other files than those of --data would score other questions
    if not there and (benchmark in _OURS or subject):
        layout = f"{benchmark}/{split or _SCORED_SPLIT.get(benchmark, 'test')}/<subject>.csv"
        raise InputError(
            f"{data}: no {benchmark} here. Fix: --data with {layout} (or {benchmark}.zip, .parquet, .jsonl)."
        )
    return there


def load_task(name: str, data: Path) -> Task:
    """Read a task.

    Raises InputError for a missing folder, split, subject or column, or a label that is no option's letter.
    """
    benchmark, split, subject = parse_name(name)
    split = split or _SCORED_SPLIT.get(benchmark, "test")
    files = benchmark_files(benchmark, data)
    every = read_items((part, file) for part, file in files if part in (split, "dev"))
    part = published_part(benchmark, every)
    items = subjects(item for item in every if item.split == split)
    if not items:
        raise InputError(
            f"{data / benchmark}: no questions of split '{split}'. "
            f"Fix: one of {', '.join(sorted({part for part, _ in files}))}."
        )
    known = set(subject_table().get(benchmark, {})) or set(items)
    if subject is not None:
        if subject not in items:
            raise InputError(f"{name}: subject '{subject}' is not there.{nearest(subject, items)}")
        items = {subject: items[subject]}
    published = (benchmark, split) not in _KEY_CAME_LATER or any(item.answer for item in _flat(items.values()))
    examples = subjects(item for item in every if item.split == "dev" and split != "dev" and item.subject in items)
    for item in [*_flat(items.values()), *_flat(examples.values())]:
        _check(item, labelled=published or item.split != split)
    sha = {s: _sha256([*items[s], *examples.get(s, [])]) for s in items}
    return Task(
        name=name, benchmark=benchmark_name(benchmark), split=split, items=items, examples=examples,
        published=published, missing=sorted(known - set(items)) if subject is None else [],
        data_sha256=data_sha256(sha), subject_sha256=sha,
        part=part.get(split) if subject is None else None,
    )  # fmt: skip


def key_may_be_another(task: Task) -> bool:
    """Return whether a task's key could be of somebody else than its authors, who gave theirs later."""
    return task.published and (task.benchmark, task.split) in _KEY_CAME_LATER


def data_sha256(subject_sha256: Mapping[str, str]) -> str:
    """Return the checksum of a task's data from those of its subjects."""
    return hashlib.sha256("".join(f"{s} {subject_sha256[s]}\n" for s in sorted(subject_sha256)).encode()).hexdigest()


def parse_name(name: str) -> tuple[str, str | None, str | None]:
    """Return benchmark, split and subject of a task's name; None for what it does not say."""
    benchmark, _, subject = name.partition("/")
    stem, _, split = benchmark.rpartition("-")
    if stem and split in SPLITS:
        return stem, split, subject or None
    return benchmark, None, subject or None


def _flat(groups: Iterable[list[Item]]) -> list[Item]:
    return [item for group in groups for item in group]


def _check(item: Item, labelled: bool) -> None:
    place = f"{item.file}: data row {item.row} of {item.split}/{item.subject}"
    if not 2 <= len(item.options) <= len(LETTERS):
        raise InputError(f"{place}: {len(item.options)} options. Fix: 2 to {len(LETTERS)}.")
    letters = LETTERS[: len(item.options)]
    if labelled and (len(item.answer) != 1 or item.answer not in letters):
        raise InputError(
            f"{place}: the answer '{excerpt(item.answer, 20)}' is no option. Fix: one of {', '.join(letters)}."
        )


def _sha256(items: list[Item]) -> str:
    # of what is read, not of the file's bytes: the same questions from CSV, zip or parquet are the same data
    rows = [[i.item, i.question, list(i.options), i.answer, i.explanation] for i in items]
    return hashlib.sha256(orjson.dumps(rows)).hexdigest()
