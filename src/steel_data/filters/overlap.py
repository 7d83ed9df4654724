"""Decontamination: does a row hold an item of a benchmark?

Containment of the item in one turn of the row, over token 3-grams (Han characters are tokens), each
weighted by its rarity among the items (log(items / items with it)), so that "下列说法正确的是" weighs next to nothing.

1. The 3-grams of a turn are looked up in the index of all questions; items of which near half the weight is there are
   candidates. A question of common 3-grams only is looked for by its options.
2. Of a candidate, the weighted share of its question that the turn holds is its *containment*. An option is there where
   70 % of its 3-grams are; the options are a set, their order and labels are free.
3. With three quarters of its options in the same turn (or 60 % of the weight of all of them: edited ones) the item is
   there; its score is the containment of the question, or of question and options together where that is more. Without
   them a question of 8 tokens or more still scores, unless options of another kind follow it ("same stem, other
   options" is another item). A shorter question does not, except one that has no options and is a whole turn.
4. Little evidence is looked at closely (`stands_near`): a question that is a run of numbers must stand there as a
   run; options of less than 12 tokens in all, or that the question itself names, must follow it, since "2" is in any
   long text.

The score is compared with the threshold in the plan pass, so that another threshold recomputes nothing.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl

from steel_data.benchmarks.index import (
    F64,
    GRAM,
    TURN,
    Bool,
    Index,
    keyed,
    spans,
    unit_grams,
    unit_tokens,
    units,
)
from steel_data.errors import InputError
from steel_data.row.text import I64, U64, TextBatch, distinct, grams, normalise

FLOOR = 0.5  # of containment; the lowest threshold that the attribute can serve
VERSION = "overlap-3"
_OPTION = 0.7  # of an option's 3-grams
_OPTIONS = 0.75  # of an item's options
_ALL_OPTIONS = 0.6  # of the weight of all options' 3-grams together: options that were edited
_WEAK_OPTIONS = 12  # tokens of all options together, below which they must follow the question closely
_REACH = 4  # times the length of an item, within which its options follow its question
_PLACE = 8  # characters at the end of a question by which its place is found
_LABEL = re.compile(r"(?:^|[\s(（])([A-J])\s*[.、:：．)）]", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Decontaminate:
    """Drop rows that hold an item of a benchmark.

    benchmarks: names of benchmarks under the data root: folders or zips as published (their val and test splits), or
      files (jsonl, JSON, parquet, csv) of question, options, answer.
    threshold: containment of the item (0.5 to 1) from which a row is dropped. Default 0.7.
    """

    compares: ClassVar[Literal["benchmarks"]] = "benchmarks"

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


# The close look at little evidence


def stands_near(turn_T: U64, index: Index, item: int, with_options: bool) -> bool:
    """Return whether the question stands in a turn (its token hashes) and its options follow it closely.

    A question of numbers must be there as a whole run; of another, the place is where most of its 3-grams end.
    """
    batch = TextBatch([index.questions[item], *index.options[item]])
    hash_T, part_T, _ = unit_tokens(batch, batch.end_R)
    question_T, options = hash_T[part_T == 0], [hash_T[part_T == p] for p in range(1, batch.rows)]
    ends = _runs(turn_T, question_T) + len(question_T) if index.digits_I[item] else _ends(turn_T, question_T)
    if not with_options:
        return len(ends) > 0
    for end in ends.tolist():
        window_T = turn_T[end : end + _REACH * len(hash_T)]
        near = sum(not len(option_T) or len(_runs(window_T, option_T)) > 0 for option_T in options)
        if near >= _OPTIONS * len(options):
            return True
    return False


def _ends(turn_T: U64, question_T: U64) -> I64:
    """Return where (places in the turn) a question that is there in large part ends."""
    n = min(GRAM, len(question_T))
    hits = np.flatnonzero(np.isin(_ngrams(turn_T, n), _ngrams(question_T, n)))
    if not len(hits):
        return hits
    ends = hits[np.append(np.diff(hits) > 1, True)]
    before = np.searchsorted(hits, ends, side="right") - np.searchsorted(hits, ends - 2 * len(question_T))
    found: I64 = ends[before >= 0.8 * before.max()] + n
    return found


def _ngrams(hash_T: U64, n: int) -> U64:
    return grams(hash_T, np.zeros(len(hash_T), np.int64), n)[0] if n else np.zeros(0, np.uint64)


def _runs(turn_T: U64, wanted_T: U64) -> I64:
    """Return where the whole run `wanted_T` begins in `turn_T`."""
    if not len(wanted_T):
        return np.zeros(0, np.int64)
    return np.flatnonzero(_ngrams(turn_T, len(wanted_T)) == _ngrams(wanted_T, len(wanted_T)))


def stands_without_options(turn: str, index: Index, item: int) -> bool:
    """Return whether a question that a turn holds counts although its options were not found there as tokens."""
    question, options = index.questions[item], index.options[item]
    if _is_spelt_otherwise(turn, question, options):
        return True
    if index.weak_I[item]:
        return not options and normalise(turn).strip() == normalise(question).strip()
    return not options or not _asks_with_options(turn, question, len(options))


def _is_spelt_otherwise(turn: str, question: str, options: tuple[str, ...]) -> bool:
    """Return whether the options follow the question, compared as letters and digits whatever parts them.

    So `G g L I` is `Gg LI`, and `①5米` (which NFKC makes `15米`) holds `5米`.
    """
    asked, *offered = (_letters(text) for text in (question, *options))
    length = len(asked) + sum(map(len, offered))
    if not offered or len(asked) < _PLACE or length - len(asked) < _PLACE:
        return False
    text = _letters(turn)
    place = text.rfind(asked[-_PLACE:])
    window = text[place + _PLACE : place + _PLACE + _REACH * length]
    return place >= 0 and sum(option in window for option in offered) >= _OPTIONS * len(offered)


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, normalise(text)))


def _asks_with_options(turn: str, question: str, options: int) -> bool:
    """Return whether options of some sort follow the place where the question stands in a turn.

    Labels (A. B. C.) beyond those of the question itself, or as many further lines as the item has options.
    """
    lines = turn.split("\n")
    hash_G, line_G = TextBatch(lines).token_grams(GRAM)
    mine = np.isin(hash_G, TextBatch([question]).token_grams(GRAM)[0])
    held, there = np.bincount(line_G[mine], minlength=len(lines)), np.bincount(line_G, minlength=len(lines))
    where = np.flatnonzero((held > 0) & ((held >= 0.3 * held.max()) | (held >= 0.5 * there)))
    if not len(where):
        return False
    last = int(where[-1])
    labels = set(_LABEL.findall("\n".join(lines[last:])))
    if {"A", "B"} <= labels and len(labels) > len(set(_LABEL.findall(question))):
        return True
    return sum(1 for line in lines[last + 1 :] if line.strip()) >= options
