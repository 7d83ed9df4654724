"""Every row of a file, looked at once: columns, layouts by column names, roles, what cannot be read; and a sample.

What is told here is exact. The sample (all rows where there are few) is written as JSON lines, which the passes of a
build then go through: it is drawn by a hash of the row's number, evenly over the file and never in step with it.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import regex
import xxhash

from steel_data.analyze.find import Given
from steel_data.read.formats import read_chunks
from steel_data.read.rows import uncollected
from steel_data.row.text import mix64

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
PLACES = 3  # unreadable rows that are named
FIRST = 40  # rows kept of each set of columns, to look closer at
MOST_SETS = 2000  # of columns; rows that each have keys of their own are no table
OWN = ("…",)  # stands for the columns of rows beyond
MOST_COLUMNS = 500
_TYPES = {str: "text", list: "list", dict: "object", bool: "true/false", int: "number", float: "number"}
# Two rows that differ in these alone are one row twice
_NUMBERING = regex.compile(r"(?i)|.*(?:^|_)(?:id|idx|index|uid|uuid|no|row)|unnamed: \d+")
ROLE_KEYS = ("role", "from")


@dataclass
class Column:
    """One column: rows that have it, rows in which it holds something, of which type, and the characters of texts."""

    present: int = 0
    filled: int = 0
    types: Counter[str] = field(default_factory=Counter)
    chars: int = 0

    def add(self, other: "Column") -> None:
        """Take in what further rows hold."""
        self.present += other.present
        self.filled += other.filled
        self.types.update(other.types)
        self.chars += other.chars


@dataclass
class Look:
    """What some rows of one file are. `sets`: rows by their columns' names, in order of sight."""

    file: int
    rows: int = 0
    unreadable: int = 0
    places: list[tuple[int, str]] = field(default_factory=list)
    sets: Counter[tuple[str, ...]] = field(default_factory=Counter)
    first: dict[tuple[str, ...], list[dict[str, Any]]] = field(default_factory=dict)
    columns: dict[str, Column] = field(default_factory=dict)
    roles: Counter[str] = field(default_factory=Counter)
    hashes: U64 = field(default_factory=lambda: np.zeros(0, np.uint64))
    samples: list["Sample"] = field(default_factory=list)
    stretches: list["Stretch"] = field(default_factory=list)

    def add(self, other: "Look") -> None:
        """Take in what was seen of later rows of the file."""
        self.rows += other.rows
        self.unreadable += other.unreadable
        self.places = (self.places + other.places)[:PLACES]
        self.sets.update(other.sets)
        for names, rows in other.first.items():
            mine = self.first.setdefault(names, [])
            mine += rows[: FIRST - len(mine)]
        for name, column in other.columns.items():
            self.columns.setdefault(name, Column()).add(column)
        self.roles.update(other.roles)
        self.hashes = np.concatenate([self.hashes, other.hashes])
        self.samples += other.samples
        self.stretches += other.stretches


@dataclass
class Stretch:
    """One chunk, which a builder reads as a whole: its first row, and the sets of columns that stand in it."""

    first_row: int
    sets: set[tuple[str, ...]]


@dataclass(frozen=True)
class Sample:
    """Some sampled rows as JSON lines: of each its number in the file and the names of its columns."""

    path: Path
    row_R: I64
    sets_R: list[tuple[str, ...]]


@dataclass(frozen=True)
class LookTask:
    """Some chunks of one file, for one worker; of `step` rows one is sampled."""

    file: int
    given: Given
    chunks: tuple[int, ...]
    step: int
    folder: Path


def tasks(files: tuple[Given, ...], step: int, folder: Path) -> list[LookTask]:
    """Cut files into tasks: a chunk each where a worker can seek to it, else the whole file."""
    cut = []
    for i, given in enumerate(files):
        indices = tuple(chunk.index for chunk in given.scan.chunks)
        seekable = given.scan.compression == "none" and given.scan.format not in ("csv", "tsv")
        groups = [(index,) for index in indices] if seekable else [indices]
        cut += [LookTask(i, given, group, step, folder) for group in groups]
    return cut


def look(task: LookTask) -> Look:
    """Look at every row of a task and write its sample."""
    seen, numbers, sets = Look(task.file), [], []
    path = task.folder / f"{task.file:06d}-{task.chunks[0]:06d}.jsonl"
    with path.open("wb") as out, uncollected():
        for chunk, rows in read_chunks(task.given.path, task.given.scan, task.chunks):
            drawn = _drawn(task)
            hashes: list[int] = []
            seen.stretches.append(Stretch(chunk.first_row, set()))
            for raw in rows:
                seen.rows += 1
                row = raw.value
                if row is None:
                    seen.unreadable += 1
                    if len(seen.places) < PLACES:
                        seen.places.append((raw.row, raw.error or ""))
                    continue
                names = tuple(row)
                if names not in seen.sets and len(seen.sets) >= MOST_SETS:
                    names = OWN
                seen.sets[names] += 1
                seen.stretches[-1].sets.add(names)
                if len(first := seen.first.setdefault(names, [])) < FIRST:
                    first.append(row)
                hashes.append(_hash(row))
                _columns(seen, row)
                if drawn(raw.row):
                    out.write(orjson.dumps(row, option=orjson.OPT_NON_STR_KEYS) + b"\n")
                    numbers.append(raw.row)
                    sets.append(names)
            seen.hashes = np.concatenate([seen.hashes, np.array(hashes, np.uint64)])
    seen.samples = [Sample(path, np.array(numbers, np.int64), sets)] if numbers else []
    return seen


def _drawn(task: LookTask) -> Callable[[int], bool]:
    """Return a function that says of a row's number whether the row is sampled."""
    if task.step == 1:
        return lambda row: True
    salt = np.uint64(xxhash.xxh3_64_intdigest(task.given.name.encode("utf-8", "surrogatepass")))
    block, chosen = -1, np.zeros(0, bool)

    def drawn(row: int) -> bool:
        nonlocal block, chosen
        if row // 65536 != block:
            block = row // 65536
            number = np.arange(block * 65536, (block + 1) * 65536, dtype=np.uint64)
            chosen = mix64(number + salt) % np.uint64(task.step) == 0
        return bool(chosen[row % 65536])

    return drawn


def _hash(row: dict[str, Any]) -> int:
    """Return a hash of what a row says, numbers of the row aside."""
    said = {name: value for name, value in row.items() if not _is_numbering(name)}
    return xxhash.xxh3_64_intdigest(orjson.dumps(said or row, option=orjson.OPT_NON_STR_KEYS))


_numbering: dict[str, bool] = {}


def _is_numbering(name: str) -> bool:
    known = _numbering.get(name)
    if known is None:
        known = _numbering[name] = _NUMBERING.fullmatch(name) is not None
    return known


def _columns(seen: Look, row: dict[str, Any]) -> None:
    columns = seen.columns
    for name, value in row.items():
        column = columns.get(name)
        if column is None:
            if len(columns) >= MOST_COLUMNS:
                continue
            column = columns[name] = Column()
        column.present += 1
        kind = type(value)
        if kind is str:
            if not value or value.isspace():
                continue
            column.chars += len(value)
        elif value is None or value == [] or value == {} or value != value:
            continue
        elif kind is list and type(value[0]) is dict:
            for key in ROLE_KEYS:
                if key in value[0]:
                    seen.roles.update([str(turn.get(key)) for turn in value if type(turn) is dict])
                    break
        column.filled += 1
        column.types[_TYPES.get(kind, kind.__name__)] += 1
