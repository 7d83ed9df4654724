"""Decontamination: does a row hold an item of a benchmark?

Containment of the item in one turn of the row, over token 3-grams (Han characters are tokens; `steel_data.text`), each
weighted by its rarity among the items (log(items / items with it)), so that "下列说法正确的是" weighs next to nothing.

1. The 3-grams of a turn are looked up in the index of all questions; items of which near half the weight is there are
   candidates. A question of common 3-grams only is looked for by its options.
2. Of a candidate, the weighted share of its question that the turn holds is its *containment*. An option is there where
   70 % of its 3-grams are; the options are a set, their order and labels are free.
3. With three quarters of its options in the same turn (or 60 % of the weight of all of them: edited ones) the item is
   there; its score is the containment of the question, or of question and options together where that is more. Without
   them a question of 8 tokens or more still scores, unless options of another kind follow it ("same stem, other
   options" is another item). A shorter question does not, except one that has no options and is a whole turn.
4. Little evidence is looked at closely (`overlap_close`): a question that is a run of numbers must stand there as a
   run; options of less than 12 tokens in all, or that the question itself names, must follow it, since "2" is in any
   long text.

The score is compared with the threshold in the plan pass, so that another threshold recomputes nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from steel_data.errors import InputError
from steel_data.filters.overlap_close import stands_near, stands_without_options
from steel_data.filters.overlap_index import (
    F64,
    GRAM,
    TURN,
    Bool,
    Index,
    build_index,
    keyed,
    overlap_files,
    spans,
    unit_grams,
    unit_tokens,
    units,
)  # fmt: skip
from steel_data.text import I64, TextBatch, distinct

__all__ = ["TURN", "Decontaminate", "Index", "best_items", "build_index", "overlap", "overlap_files"]

FLOOR = 0.5  # of containment; the lowest threshold that the attribute can serve
VERSION = "overlap-3"
_OPTION = 0.7  # of an option's 3-grams
_OPTIONS = 0.75  # of an item's options
_ALL_OPTIONS = 0.6  # of the weight of all options' 3-grams together: options that were edited
_WEAK_OPTIONS = 12  # tokens of all options together, below which they must follow the question closely


@dataclass(frozen=True, kw_only=True)
class Decontaminate:
    """Drop rows that hold an item of a benchmark.

    benchmarks: names of benchmark folders under the data root (their val and test splits), or jsonl files of question,
      optional options, answer.
    threshold: containment of the item (0.5 to 1) from which a row is dropped. Default 0.7.
    """

    benchmarks: list[str]
    threshold: float = 0.7

    def __post_init__(self) -> None:
        """Refuse an empty list and a threshold that the attribute cannot serve."""
        if not self.benchmarks:
            raise InputError("filter 'decontaminate': benchmarks is empty. Right: benchmarks = [\"ceval\"].")
        if not FLOOR <= self.threshold <= 1:
            raise InputError(f"filter 'decontaminate': threshold = {self.threshold}. Right: {FLOOR} to 1.")

    def verdict(self) -> pl.Expr:
        """Return the reason of the drop (`decontaminate:cmmlu`), or null."""
        return pl.when(pl.col("overlap_score") >= self.threshold).then(
            pl.lit("decontaminate:") + pl.col("overlap_item").str.extract(r"^([^/]+)/")
        )


def overlap(texts: list[str], index: Index, batch: TextBatch | None = None) -> dict[str, Any]:
    """Return for each text `overlap_score` (0: no item found) and `overlap_item` (the best item's name, or null).

    `texts` are text views whose turns are separated by `TURN`; `batch` is theirs where the caller has it.
    """
    score_R = np.zeros(len(texts), np.float32)
    best: list[str | None] = [None] * len(texts)
    for row, score, names in best_items(texts, index, batch):
        score_R[row], best[row] = score, names[0]
    return {"overlap_score": score_R, "overlap_item": pl.Series(best, dtype=pl.String)}


def best_items(
    texts: list[str], index: Index, batch: TextBatch | None = None
) -> Iterator[tuple[int, float, list[str]]]:
    """Yield for each text that holds an item its number, the score, and all items that have it, in the index's order.

    Several have it where items differ in signs, or one's question is a part of the other's.
    """
    if not texts or not index.names:
        return
    chunk = _Chunk(texts, batch or TextBatch(texts), index)
    unit, item, held = chunk.candidates()
    score = chunk.scores(unit, item, held)
    row = chunk.row_U[unit]
    order = np.lexsort((item, -score, row))
    edges = np.flatnonzero(np.diff(row[order])) + 1
    for mine in np.split(order, edges) if len(order) else ():
        best = float(score[mine[0]])
        if best >= FLOOR:
            ties = dict.fromkeys(item[mine[score[mine] == score[mine[0]]]].tolist())
            yield int(row[mine[0]]), best, [index.names[i] for i in ties]


class _Chunk:
    """Some rows while they are looked at: their turns' tokens, and what of the index is found in them."""

    def __init__(self, texts: list[str], batch: TextBatch, index: Index) -> None:
        self.texts, self.index = texts, index
        self.end_U, self.row_U = units(batch)
        self.hash_T, self.unit_T, self.piece_T = unit_tokens(batch, self.end_U)
        self.start_U = np.searchsorted(self.unit_T, np.arange(len(self.end_U) + 1))
        self.first_U = np.searchsorted(self.row_U, np.arange(len(texts)))  # of each row

    def candidates(self) -> tuple[I64, I64, F64]:
        """Return (unit, item) pairs where the unit may hold the item, and how far it holds the question."""
        index, many = self.index, len(self.index.names)
        pairs: list[I64] = []
        for n in index.key_sizes:
            hash_G, unit_G = unit_grams(self.hash_T, self.unit_T, self.piece_T, n)
            at, key = index.find(hash_G)
            pairs.append(unit_G[at] * len(index.key_K) + key)
        every: I64 = np.concatenate([*pairs, np.zeros(0, np.int64)])
        pair = distinct(every)  # an n-gram counts once a turn
        unit, key = pair // max(len(index.key_K), 1), pair % max(len(index.key_K), 1)
        at, owner = spans(index.start_K[key], index.start_K[key + 1])
        both, inverse = np.unique(unit[owner] * many + index.holder_K[at], return_inverse=True)
        found = np.bincount(inverse, weights=index.weight_K[key[owner]], minlength=len(both))
        unit, item = both // many, both % many
        enough = found >= FLOOR * 0.8 * index.rare_I[item]
        unit, item = unit[enough], item[enough]
        self._look_into(unit)
        question = index.part_I[item]
        held = self._held(unit, question)
        enough = held >= FLOOR
        return unit[enough], item[enough], held[enough]

    def _look_into(self, unit: I64) -> None:
        """Collect the distinct n-grams of some units."""
        mine = np.zeros(len(self.end_U), bool)
        mine[unit] = True
        looked = mine[self.unit_T]
        tokens = self.hash_T[looked], self.unit_T[looked], self.piece_T[looked]
        self.there = distinct(np.concatenate([keyed(*unit_grams(*tokens, n)) for n in range(1, GRAM + 1)]))

    def _found(self, unit: I64, part: I64) -> tuple[Bool, I64, I64]:
        """Return for each n-gram of each (unit, part) whether the unit has it, its pair, and its place in the index."""
        at, owner = spans(self.index.start_P[part], self.index.start_P[part + 1])
        wanted = keyed(self.index.hash_G[at], unit[owner])
        if not len(self.there):
            return np.zeros(len(at), bool), owner, at
        place = np.minimum(np.searchsorted(self.there, wanted), len(self.there) - 1)
        return self.there[place] == wanted, owner, at

    def _held(self, unit: I64, part: I64) -> F64:
        """Return the weighted share of each part that its unit holds (0 for a part without tokens)."""
        found, owner, at = self._found(unit, part)
        weight = self.index.weight_G[at]
        whole = np.bincount(owner, weights=weight, minlength=len(unit))
        return np.bincount(owner, weights=weight * found, minlength=len(unit)) / np.maximum(whole, 1e-9)

    def scores(self, unit: I64, item: I64, held: F64) -> F64:
        """Return the score of each candidate pair (0 where the rules say that it is another item)."""
        index = self.index
        options = index.part_I[item + 1] - index.part_I[item] - 1
        part, owner = spans(index.part_I[item] + 1, index.part_I[item + 1])
        found, gram, at = self._found(unit[owner], part)
        size = np.bincount(gram, minlength=len(part))
        hits = np.bincount(gram, weights=found, minlength=len(part))
        there = hits >= _OPTION * size  # an option of signs only cannot speak against the match
        matched = np.bincount(owner, weights=there, minlength=len(item))
        weight = index.weight_G[at]
        options_whole = np.bincount(owner[gram], weights=weight, minlength=len(item))
        options_held = np.bincount(owner[gram], weights=weight * found, minlength=len(item))
        question_whole = self._question_weight(item)
        together = (held * question_whole + options_held) / np.maximum(question_whole + options_whole, 1e-9)
        with_options = (matched >= _OPTIONS * options) | (options_held >= _ALL_OPTIONS * options_whole)
        with_options &= options > 0
        score = np.where(with_options, np.maximum(held, together), held)
        tokens = np.bincount(owner, weights=size + index.size_P[part] - 1, minlength=len(item))
        told = np.bincount(owner, weights=index.told_P[part] & (size > 0), minlength=len(item)) > 0
        weak = (with_options & (told | (tokens < _WEAK_OPTIONS))) | index.digits_I[item]
        for k in np.flatnonzero(weak).tolist():
            tokens_T = self.hash_T[self.start_U[unit[k]] : self.start_U[unit[k] + 1]]
            near = stands_near(tokens_T, index, int(item[k]), bool(with_options[k]))
            with_options[k] &= near
            score[k] *= near or not index.digits_I[item[k]]
        for k in np.flatnonzero(~with_options & (score > 0)).tolist():
            score[k] *= stands_without_options(self._turn(int(unit[k])), index, int(item[k]))
        return score

    def _question_weight(self, item: I64) -> F64:
        part = self.index.part_I[item]
        at, owner = spans(self.index.start_P[part], self.index.start_P[part + 1])
        return np.bincount(owner, weights=self.index.weight_G[at], minlength=len(item)).astype(np.float64)

    def _turn(self, unit: int) -> str:
        row = int(self.row_U[unit])
        return self.texts[row].replace("\0", " ").split(TURN)[unit - int(self.first_U[row])]
