"""Columns of a raw row that its builder does not read: which of them hold something, and what that would have meant.

Whoever makes a record of a raw row says so row by row (`unread`); the counts (`count`) are of rows, so they are the
same however rows are cut into chunks. `meaning.toml` has the columns that change what a row means.
"""

import re
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any, Literal

import orjson

# What programs write where there is nothing.
_NOTHING = frozenset(("", "[]", "{}", "null", "None", "nan", "NaN"))
_TRUTHS = frozenset(("true", "false", "0", "1"))
_LONG = 20  # characters of a text that is no tag
_SENTENCE = re.compile(r"[。！？；，、\n]|[.!?;,](?:\s|\Z)")


@dataclass(frozen=True)
class Meaning:
    """One entry of meaning.toml, which says what the fields are."""

    columns: tuple[str, ...]
    when: Literal["filled", "said", "text", "truth"]
    means: str
    word: Mapping[str, str] = field(default_factory=dict)
    once: bool = False

    def has(self, name: str) -> bool:
        """Return whether a column is one of the entry's."""
        return any(fnmatchcase(name.strip().lower(), pattern) for pattern in self.columns)

    def holds(self, value: Any) -> bool:
        """Return whether a cell that holds something holds what the entry is about."""
        return _HOLDS[self.when](value)


@dataclass(frozen=True)
class Unread:
    """Of one column that was not read: in how many rows it holds something, in how many what changes their meaning."""

    rows: int
    telling: int

    def changes(self, meaning: Meaning) -> bool:
        """Return whether the column changes what rows mean: a truth in every row, of the others one that tells."""
        return self.telling == self.rows if meaning.when == "truth" else self.telling > 0


@cache
def meanings() -> tuple[Meaning, ...]:
    """Return the entries of meaning.toml in order."""
    table = tomllib.loads(files("steel_data.row").joinpath("meaning.toml").read_text(encoding="utf-8"))
    return tuple(Meaning(**{**entry, "columns": tuple(entry["columns"])}) for entry in table.values())


@lru_cache(maxsize=4096)
def meaning_of(name: str) -> Meaning | None:
    """Return what a column of this name would mean, or None."""
    return next((meaning for meaning in meanings() if meaning.has(name)), None)


def holds(value: Any) -> bool:
    """Return whether a cell holds something: not null, NaN, blanks, or lists and objects of nothing else."""
    kind = type(value)
    if kind is str:
        return not value.isspace() if len(value) > _LONG else value.strip() not in _NOTHING
    if kind is list or kind is tuple:
        return any(map(holds, value))
    if kind is dict:
        return any(map(holds, value.values()))
    return value is not None and value == value


def unread(row: Mapping[str, Any], read: Collection[str]) -> str | None:
    """Return which columns of `row` hold something and are not among those that were `read`, None for none.

    It is a JSON object {name: whether what it holds changes what the row means}, for `count`.
    """
    return unread_among(row, left_over(tuple(row), frozenset(read)))


@lru_cache(maxsize=4096)  # the rows of a file mostly have the same columns
def left_over(columns: tuple[str, ...], read: frozenset[str]) -> tuple[tuple[str, Meaning | None], ...]:
    """Return the columns that were not read, each with what it would mean beside those that were."""
    left = []
    for name in columns:
        if name not in read:
            meaning = meaning_of(name)
            is_remark = meaning is not None and meaning.once and any(map(meaning.has, read))
            left.append((name, None if is_remark else meaning))
    return tuple(left)


def unread_among(row: Mapping[str, Any], left: Iterable[tuple[str, Meaning | None]]) -> str | None:
    """Return what `unread` returns, for columns that `left_over` gave."""
    found = [
        (name, meaning is not None and meaning.holds(value)) for name, meaning in left if holds(value := row.get(name))
    ]
    return _told(tuple(found)) if found else None


@lru_cache(maxsize=4096)
def _told(found: tuple[tuple[str, bool], ...]) -> str:
    return orjson.dumps(dict(found)).decode()


def count(rows: Mapping[str, int]) -> dict[str, Unread]:
    """Return the columns, by name, of texts that `unread` returned, each with the number of rows that it stands for."""
    found: dict[str, list[int]] = {}
    for text, many in rows.items():
        for name, tells in orjson.loads(text).items():
            of = found.setdefault(name, [0, 0])
            of[0] += many
            of[1] += many * tells
    return {name: Unread(*found[name]) for name in sorted(found)}


def added(counts: Iterable[Mapping[str, Unread]]) -> dict[str, Unread]:
    """Return several counts as one."""
    found: dict[str, Unread] = {}
    for name, unread in ((name, unread) for one in counts for name, unread in one.items()):
        before = found.get(name, Unread(0, 0))
        found[name] = Unread(before.rows + unread.rows, before.telling + unread.telling)
    return dict(sorted(found.items()))


def _is_filled(value: Any) -> bool:
    return value is True or not isinstance(value, bool | int | float)


def _is_said(value: Any) -> bool:
    if isinstance(value, str):
        return not value.isascii() or len(value.split(None, 1)) > 1
    return isinstance(value, list | tuple | dict)


def _is_text(value: Any) -> bool:
    if isinstance(value, dict | list | tuple):
        return any(map(_is_text, value.values() if isinstance(value, dict) else value))
    return _is_said(value) and (len(value.strip()) >= _LONG or _SENTENCE.search(value) is not None)


def _is_truth(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in _TRUTHS
    return isinstance(value, bool | int | float) and value in (0, 1)


_HOLDS = {"filled": _is_filled, "said": _is_said, "text": _is_text, "truth": _is_truth}


class Watched(dict[str, Any]):
    """A raw row that notes which of its columns are read: what a builder of the user's looked at.

    Asking for the names reads nothing. A library that takes the cells without asking the row (orjson) is not seen: of a
    row of which nothing was read, all is taken for read.
    """

    def __init__(self, row: Mapping[str, Any]) -> None:
        super().__init__(row)
        self._names = frozenset(row)
        self._seen: set[str] = set()

    @property
    def read(self) -> frozenset[str]:
        """The columns that were read."""
        return self._names & self._seen or self._names

    def _all(self) -> None:
        self._seen.update(self.keys())

    def __iter__(self) -> Iterator[str]:
        """Yield the names; that it is here makes `{**row}` and `dict(row)` ask for each cell."""
        return super().__iter__()

    def __getitem__(self, name: str) -> Any:
        """Return a cell."""
        self._seen.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """Return a cell, or the default."""
        self._seen.add(name)
        return super().get(name, default)

    def pop(self, name: str, *default: Any) -> Any:
        """Return a cell and take it out."""
        self._seen.add(name)
        return super().pop(name, *default)

    def items(self) -> Any:
        """Return all cells with their names."""
        self._all()
        return super().items()

    def values(self) -> Any:
        """Return all cells."""
        self._all()
        return super().values()

    def copy(self) -> dict[str, Any]:
        """Return a plain dict of all cells."""
        return dict(self.items())

    def __or__(self, other: Any) -> Any:
        """Return a plain dict of all cells and others."""
        return self.copy() | other

    def __ror__(self, other: Any) -> Any:
        """Return a plain dict of others and all cells."""
        return other | self.copy()

    def __repr__(self) -> str:
        """Return all cells as text."""
        return repr(self.copy())
