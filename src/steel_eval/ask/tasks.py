"""Benchmarks as tasks: which split is scored, with which examples, from a folder, a zip or parquet files.

A task is named `cmmlu`, `ceval-test` (another split), `cmmlu/agronomy` (one subject). C-Eval is scored on `val`; its
test answers are not published, so `ceval-test` gives a submission file and never a score, even where a file carries
some key.
"""

import hashlib
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import orjson

from steel_data.benchmarks.items import (
    LETTERS,
    SPLITS,
    Item,
    benchmark_files,
    benchmark_name,
    read_benchmark,
    split_of,
    subject_of,
    subjects,
)
from steel_data.errors import InputError, excerpt, nearest
from steel_eval.ask.prompts import subject_table

# The split that a benchmark is scored on where the task's name does not say.
_SCORED_SPLIT = {"ceval": "val"}
_OURS = ("ceval", "cmmlu")
_UNPUBLISHED = {("ceval", "test")}


@dataclass(frozen=True)
class Task:
    """The questions of one benchmark split, by subject.

    `data_sha256` covers questions and examples of the subjects present.
    """

    name: str
    benchmark: str
    split: str
    items: dict[str, list[Item]]
    examples: dict[str, list[Item]]
    missing: list[str]
    published: bool  # whether the answers are public: else only a submission file is written
    data_sha256: str
    subject_sha256: dict[str, str]


def is_local(name: str, data: Path) -> bool:
    """Return whether a task's name stands for data under `data` (else it is for lm-eval). InputError:

    ours, but not there.
    """
    benchmark, split, subject = parse_name(name)
    there = _exists(benchmark, data)
    # these names are ours: silently asking the hub for other files than those of --data would score other questions
    if not there and (benchmark in _OURS or subject):
        layout = f"{benchmark}/{split or _SCORED_SPLIT.get(benchmark, 'test')}/<subject>.csv"
        raise InputError(
            f"{data}: no {benchmark} here. Right: --data with {layout} (or {benchmark}.zip, .parquet, .jsonl)."
        )
    return there


def _exists(benchmark: str, data: Path) -> bool:
    return any((data / f"{benchmark}{suffix}").exists() for suffix in ("", ".zip", ".jsonl", ".parquet"))


def load_task(name: str, data: Path) -> Task:
    """Read a task.

    Raises InputError for a missing folder, split, subject or column, or a label that is no option's letter.
    """
    benchmark, split, subject = parse_name(name)
    split = split or _SCORED_SPLIT.get(benchmark, "test")
    every = _read(benchmark, data, {split, "dev"})
    items = subjects(item for item in every if item.split == split)
    if not items:
        raise InputError(
            f"{data / benchmark}: no questions of split '{split}'. Found: {sorted({i.split for i in every})}."
        )
    known = set(subject_table().get(benchmark, {})) or set(items)
    if subject is not None:
        if subject not in items:
            raise InputError(f"{name}: subject '{subject}' is not there.{nearest(subject, items)}")
        items = {subject: items[subject]}
    published = (benchmark, split) not in _UNPUBLISHED
    examples = subjects(item for item in every if item.split == "dev" and split != "dev" and item.subject in items)
    for item in [*_flat(items.values()), *_flat(examples.values())]:
        _check(item, labelled=published or item.split != split)
    sha = {s: _sha256([*items[s], *examples.get(s, [])]) for s in items}
    return Task(
        name=name, benchmark=benchmark_name(benchmark), split=split, items=items, examples=examples,
        published=published, missing=sorted(known - set(items)) if subject is None else [],
        data_sha256=data_sha256(sha), subject_sha256=sha,
    )  # fmt: skip


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
    place = f"{item.file}: data row {item.row}"
    if not 2 <= len(item.options) <= len(LETTERS):
        raise InputError(f"{place}: {len(item.options)} options. Right: 2 to {len(LETTERS)}.")
    letters = LETTERS[: len(item.options)]
    if labelled and (len(item.answer) != 1 or item.answer not in letters):
        raise InputError(f"{place}: the answer '{excerpt(item.answer, 20)}' is none of {', '.join(letters)}.")


def _sha256(items: list[Item]) -> str:
    # of what is read, not of the file's bytes: the same questions from CSV, zip or parquet are the same data
    rows = [[i.item, i.question, list(i.options), i.answer, i.explanation] for i in items]
    return hashlib.sha256(orjson.dumps(rows)).hexdigest()


def _read(benchmark: str, data: Path, splits: set[str]) -> list[Item]:
    folder, archive = data / benchmark, data / f"{benchmark}.zip"
    if folder.is_dir() and any(folder.rglob("*.parquet")) and not any(folder.rglob("*.csv")):
        return _read_parquet(sorted(folder.rglob("*.parquet")), splits)
    if not folder.exists() and archive.is_file():
        return _read_zip(archive, benchmark, splits)
    if not folder.exists() and (single := data / f"{benchmark}.jsonl").is_file():
        return read_benchmark(single.name, data)
    if not folder.exists() and (single := data / f"{benchmark}.parquet").is_file():
        return _read_parquet([single], splits)
    there = {split for split, _ in benchmark_files(benchmark, data)}
    return [item for split in sorted(there & splits) for item in read_benchmark(benchmark, data, split)]


def _read_zip(archive: Path, benchmark: str, splits: set[str]) -> list[Item]:
    """Read the CSV files of a published zip (`[folder/]split/subject.csv`), through a temporary folder."""
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary) / benchmark
        try:
            with zipfile.ZipFile(archive) as zipped:
                for name in zipped.namelist():
                    path = PurePosixPath(name)
                    # only the last two parts are used: nothing can be written outside the temporary folder
                    if path.suffix == ".csv" and path.parent.name in splits and not name.startswith("__MACOSX"):
                        (root / path.parent.name).mkdir(parents=True, exist_ok=True)
                        (root / path.parent.name / path.name).write_bytes(zipped.read(name))
        except zipfile.BadZipFile as error:
            raise InputError(f"{archive}: not a readable zip file: {error}.") from error
        if not root.is_dir():
            raise InputError(f"{archive}: holds no split/subject.csv. Right: {benchmark}/test/<subject>.csv inside.")
        return read_benchmark(benchmark, Path(temporary))


def _read_parquet(files: list[Path], splits: set[str]) -> list[Item]:
    """Read parquet files as the hubs publish them:

    `<subject>/<split>-00000-of-00001.parquet`, or a `subject` column.
    """
    import polars

    items: list[Item] = []
    count: dict[tuple[str, str], int] = {}
    for file in files:
        words = file.stem.replace("validation", "val").split("-")
        split = next((w for w in words if w in SPLITS), None) or split_of(file.stem) or "test"
        if split not in splits:
            continue
        for row in polars.read_parquet(file).iter_rows(named=True):
            row = {name.lower(): value for name, value in row.items()}
            subject = str(row.get("subject") or (file.parent.name if len(words) > 1 else subject_of(file.stem)))
            number = count[subject, split] = count.get((subject, split), -1) + 1
            items.append(_parquet_item(row, subject, split, number, file))
    return items


def _parquet_item(row: dict[str, Any], subject: str, split: str, number: int, file: Path) -> Item:
    options = row.get("choices") or row.get("options") or [row[c.lower()] for c in LETTERS if c.lower() in row]
    answer = row.get("answer")
    if "question" not in row or not options:
        raise InputError(f"{file}: no columns question and A.. (or choices). Columns: {', '.join(row)}.")
    return Item(
        item=f"{split}/{subject}/{number:05d}", subject=subject, split=split, row=number, question=str(row["question"]),
        options=tuple(str(o) for o in options), explanation=str(row.get("explanation") or ""), file=file,
        answer=LETTERS[answer] if isinstance(answer, int) and 0 <= answer < len(LETTERS) else str(answer or "").strip(),
    )  # fmt: skip
