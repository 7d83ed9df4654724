"""On every build, the proof that deciding languages by script first costs nothing: agreement with plain fastText.

Up to SAMPLE rows are drawn by keyed hash of their ids (so the same ones for any number of workers), over all records
with a text whose language no builder declared, dropped ones included. Each one's `language` is compared with the first
label of fastText's lid.176 on the same text, without a threshold.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from steel_data.filters.language import fasttext_language
from steel_data.passes.plan import Plan
from steel_data.row.table import first_half, own_words_of
from steel_data.row.text import mix64

I64 = npt.NDArray[np.int64]
SAMPLE = 1_000  # fastText takes as long for them as all else that a small build does with its languages
_BLOCK = 2**19  # rows looked at at once
_SHOWN = 5  # differences kept, the most frequent ones


Pairs = Counter[tuple[str, str]]  # what we say and what fastText says -> rows


@dataclass(frozen=True)
class Drawn:
    """The rows of one chunk that were drawn, by their places in it, and the languages that we say of them."""

    pos: I64
    ours: list[str | None]


class LanguageCheck:
    """The comparison: it says which rows of each chunk were drawn, and is told what came of them."""

    def __init__(self, plan: Plan, seed: int) -> None:
        rows = _drawn(plan, seed)
        told = plan.rows.at(rows, "chunk", "pos", "language")
        self._chunk, self._pos = told["chunk"].to_numpy(), told["pos"].to_numpy()
        self._ours = told["language"].cast(pl.String).to_list()
        self._pairs = Pairs()

    def drawn(self, place: int) -> Drawn:
        """Return the drawn rows of a chunk."""
        first, end = np.searchsorted(self._chunk, [place, place + 1]).tolist()
        return Drawn(self._pos[first:end].astype(np.int64), self._ours[first:end])

    def add(self, pairs: Pairs) -> None:
        """Take what `compared` has found."""
        self._pairs += pairs

    def result(self) -> dict[str, Any]:
        """Return `rows` compared, how many `agree`, and the most frequent `differences` (ours, fasttext, rows)."""
        differ = [(pair, n) for pair, n in self._pairs.items() if pair[0] != pair[1]]
        most = sorted(differ, key=lambda entry: (-entry[1], entry[0]))[:_SHOWN]
        return {
            "rows": self._pairs.total(),
            "agree": self._pairs.total() - sum(n for _, n in differ),
            "differences": [{"ours": a, "fasttext": b, "rows": n} for (a, b), n in most],
        }


def compared(drawn: Drawn, records: pl.DataFrame) -> Pairs:
    """Compare the drawn rows of a chunk, of which `records` holds messages, tools and declared languages."""
    pairs = Pairs()
    if len(drawn.pos):
        mine = records.select("messages", "tools", "language")[drawn.pos]
        for ours, text, told in zip(drawn.ours, own_words_of(mine), mine["language"], strict=True):
            if told is None:
                pairs[str(ours), fasttext_language(text)[0]] += 1
    return pairs


def _drawn(plan: Plan, seed: int) -> Any:
    """Return rows of the plan, ascending: of SAMPLE distinct texts the first row each."""
    best_key, best = np.zeros(0, np.uint64), np.zeros(0, np.int64)  # block by block: few are held at once
    for start in range(0, len(plan.rows), _BLOCK):
        ids = plan.rows.column("id")[start : start + _BLOCK]
        text = ids.to_frame("id").select(first_half(pl.col("id"))).to_series().drop_nulls().to_numpy()
        key = mix64(text ^ np.uint64(seed & (2**64 - 1)))  # an id is a hash already: mixing keys it by the seed
        rows = np.concatenate([best, start + np.flatnonzero(ids.is_not_null().to_numpy())])
        best_key, first = np.unique(np.concatenate([best_key, key]), return_index=True)
        best_key, best = best_key[:SAMPLE], rows[first[:SAMPLE]]
    return np.sort(best)


def agreement(check: dict[str, Any]) -> str:
    """Return the check as one line."""
    if not check["rows"]:
        return "language: no row to compare with plain fastText"
    tenths = check["agree"] * 1000 // check["rows"]  # rounded down: 100 % means all of them
    line = f"language agrees with plain fastText on {tenths / 10:.1f} % of {check['rows']:,} sampled rows"
    if not check["differences"]:
        return line
    most = check["differences"][0]
    return f"{line}; most frequent difference: ours {most['ours']}, fastText {most['fasttext']}, {most['rows']:,}"
