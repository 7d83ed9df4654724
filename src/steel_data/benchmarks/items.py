"""Benchmarks: one item type, read from the published layouts; and which splits are known tests.

Layouts (found by looking, never by name): a folder with `<split>/<subject>[_<split>].csv` (CMMLU, C-Eval with a header,
hendrycks' MMLU without one), also below a further `data/` folder; or one jsonl file of `question`, optional `options`,
`answer`. An item's name is `{split}/{subject}/{row:05d}`, the same in mixture, truth file and answers.
"""

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import orjson

from steel_data.errors import InputError, nearest

LETTERS = "ABCDEFGHIJ"
SPLITS = ("dev", "val", "test", "train")


@dataclass(frozen=True, slots=True)
class Item:
    """One question. `options`: empty for free answers. `answer`: a letter or free text, empty where unpublished."""

    item: str
    subject: str
    split: str
    row: int
    question: str
    options: tuple[str, ...]
    answer: str
    explanation: str
    file: Path


def benchmark_name(name_or_path: str) -> str:
    """Return the short name of a benchmark: `cmmlu` for `data/cmmlu`, `own` for `own.jsonl`."""
    path = Path(name_or_path)
    return path.stem if path.suffix else path.name


def benchmark_files(name_or_path: str, data_root: Path, split: str | None = None) -> list[tuple[str, Path]]:
    """Return (split, file) of a benchmark's published files, sorted. `split=None`: every split there is.

    Raises InputError where the folder, the split or the file is missing.
    """
    root = data_root / name_or_path
    if root.is_file():
        return [(split or split_of(root.stem) or "test", root)]
    if not root.is_dir():
        known = [p.name for p in data_root.iterdir() if p.is_dir()] if data_root.is_dir() else []
        raise InputError(f"{root}: no such benchmark folder or file.{nearest(name_or_path, known)}")
    if not any((root / s).is_dir() for s in SPLITS) and (root / "data").is_dir():
        root = root / "data"
    there = [s for s in SPLITS if (root / s).is_dir()]
    if split is not None and split not in there:
        raise InputError(f"{root}: no split '{split}' here.{nearest(split, there)}")
    files = [(s, f) for s in ([split] if split else there) for f in sorted((root / s).glob("*.csv"))]
    if not files:
        raise InputError(
            f"{root}: no <split>/<subject>.csv files. Right: {root.name}/test/<subject>.csv, or a jsonl file."
        )
    return files


def read_benchmark(name_or_path: str, data_root: Path, split: str | None = None) -> list[Item]:
    """Read a benchmark's items in file order: a folder under `data_root` in its published layout, or a jsonl file."""
    return read_items(benchmark_files(name_or_path, data_root, split))


def read_items(files: list[tuple[str, Path]]) -> list[Item]:
    """Read the items of some (split, file) of a benchmark, in that order."""
    items: list[Item] = []
    for split, file in files:
        items += _read_csv(file, split) if file.suffix == ".csv" else _read_jsonl(file, split)
    return items


def subject_of(stem: str) -> str:
    """Return a file stem without its `_dev`, `_val`, `_test` ending."""
    return re.sub(r"_(dev|val|test)$", "", stem)


def split_of(stem: str) -> str | None:
    """Return the split that a file stem ends in, or None."""
    match = re.search(r"(?:^|[_.-])(dev|val|test|train)$", stem)
    return match.group(1) if match else None


def _read_csv(file: Path, split: str) -> list[Item]:
    # csv and not polars: fields hold \r\n, quotes and commas that must come through byte for byte.
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.reader(stream))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file}: not a readable UTF-8 CSV file: {error}.") from error
    if not rows:
        return []
    names = [name.strip().lower() for name in rows[0]]
    if "question" in names:
        missing = [c for c in "abcd" if c not in names]
        if missing:
            raise InputError(f"{file}: column {missing[0].upper()} is missing. Header: {','.join(rows[0])}.")
        column = {name: i for i, name in enumerate(names)}
        body = rows[1:]
    elif len(names) == 6:  # hendrycks' MMLU: no header
        column = {name: i for i, name in enumerate(["question", "a", "b", "c", "d", "answer"])}
        body = rows
    else:
        raise InputError(f"{file}: no column 'question'. Header: {','.join(rows[0])}.")
    subject = subject_of(file.stem)
    option_names = [letter.lower() for letter in LETTERS if letter.lower() in column]
    items = []
    for i, row in enumerate(row for row in body if row):
        if len(row) < max(column.values()) + 1:
            raise InputError(f"{file}: data row {i} has {len(row)} fields, the header {len(names)}.")
        items.append(
            Item(
                item=f"{split}/{subject}/{i:05d}",
                subject=subject,
                split=split,
                row=i,
                question=row[column["question"]],
                options=tuple(row[column[name]] for name in option_names),
                answer=row[column["answer"]].strip() if "answer" in column else "",
                explanation=row[column["explanation"]] if "explanation" in column else "",
                file=file,
            )
        )
    return items


def _read_jsonl(file: Path, split: str) -> list[Item]:
    subject = subject_of(file.stem)
    items: list[Item] = []
    for number, line in enumerate(file.read_bytes().splitlines()):
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
            question = row["question"]
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise InputError(f"{file}: line {number + 1}: not a JSON object with 'question': {error}.") from error
        options = tuple(str(o) for o in (row.get("options") or ()))
        items.append(
            Item(
                item=f"{split}/{subject}/{len(items):05d}",
                subject=subject,
                split=split,
                row=len(items),
                question=str(question),
                options=options,
                answer=_letter(row.get("answer"), options),
                explanation=str(row.get("explanation") or ""),
                file=file,
            )
        )
    return items


def _letter(answer: object, options: tuple[str, ...]) -> str:
    """Turn an option's text into its letter; leave letters and free text."""
    text = "" if answer is None else str(answer)
    if not options or text.strip().upper() in LETTERS[: len(options)]:
        return text.strip().upper() if options else text
    return LETTERS[options.index(text)] if text in options else text


def subjects(items: Iterable[Item]) -> dict[str, list[Item]]:
    """Group items by subject, subjects sorted, items in file order."""
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(item.subject, []).append(item)
    return dict(sorted(groups.items()))
