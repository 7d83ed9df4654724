"""The rows that may be chosen, and the groups that they stand in (apart: the ways of choosing read it, passes make it).

Legend of array suffixes: _R one entry a row.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import polars as pl

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
View = Callable[[pl.DataFrame], list[Any]]


@dataclass(frozen=True)
class Candidates:
    """R rows of a source, in order of file and row.

    `key_R`: keyed hash of each row's id, which breaks ties; `read(view)` yields, chunk by chunk, which rows lie there
    and what `view` makes of their records (`messages`, `tools`, `meta`).
    """

    where: str  # recipe and source, for errors
    ids: pl.Series
    key_R: npt.NDArray[np.uint64]
    tokens_R: I64
    language: pl.Series
    file: pl.Series  # names
    read: Callable[[View], Iterator[tuple[I64, list[Any]]]]

    def all(self, view: View) -> list[Any]:
        """Return what `view` makes of every row's record, in order."""
        out: list[Any] = [None] * len(self.ids)
        for rows, found in self.read(view):
            for row, value in zip(rows.tolist(), found, strict=True):
                out[row] = value
        return out


def groups(candidates: Candidates, within: str | None, meta: tuple[str, ...]) -> pl.Series | None:
    """Return the group of each row as a text (null: the row does not say), None for one group."""
    if within is None:
        return None
    if within == "language":
        return candidates.language.cast(pl.String)
    if within == "source" and "source" not in meta:
        return candidates.file

    def column(records: pl.DataFrame) -> list[str | None]:
        return [_said(text, within) for text in records["meta"]]

    return pl.Series(candidates.all(column), dtype=pl.String)


def _said(meta: str | None, name: str) -> str | None:
    value = orjson.loads(meta).get(name) if meta else None
    if value is None or value == "":
        return None
    return value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
