"""Decontamination: does a row hold an item of a benchmark?

An item stands in one turn of the row, edited or not. Both are compared as letters alone, so that width, case, blanks,
punctuation, marks of formulas and other labels are no edits. It is there in one of three ways:

1. *With its options*: its question stands there, and three quarters of its options follow it closely, in any order,
   each with a quarter of its letters changed at most (or all together with a tenth). In an option that is mostly a
   number no digit may differ.
2. *As a whole turn*: its question is the turn. A term (鼓室: three tokens or fewer) is no question, and needs its
   options.
3. *Alone*: its question, of 20 tokens or more (Han characters, words), stands anywhere, to its end, where it asks, and
   no other options go with it, for "same stem, other options" is another item. A shorter question alone is no
   evidence: any text on the topic may say "贝多芬的第九交响曲是".

The score is 1 less two for each edit a letter, of the question or of question and options together, whichever is more:
an edit spoils two pairs of letters. The default threshold, 0.7, is an edit in seven letters. The score is compared in
the plan pass, so that another threshold recomputes nothing.

A summary of a passage, or another question on it, is no copy of an item that asks about it: for ways 2 and 3 what the
item asks must stand behind the passage, up to 80 letters away. A passage is what several items begin with, or all lines
of a question but the last, from 200 characters.

Turns are looked at where an index of n-grams leads: token 3-grams, but pairs of words, since one changed letter breaks
three 3-grams of words. A question that many items share (下列说法正确的是) is looked for by its options, and never
counts without them.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl

from steel_data.benchmarks.index import TURN, Index, spans, unit_grams, unit_tokens, units
from steel_data.errors import InputError
from steel_data.row.alignment import (
    BAR,
    beginning,
    edits,
    fewest,
    fewest_of_all,
    letters,
    nearest,
    remembered,
    stands,
    stretches,
)
from steel_data.row.text import I64, TextBatch, distinct

FLOOR = 0.5  # the lowest threshold that the attribute can serve
VERSION = "overlap-5"
ALONE = 20  # tokens of a question that no text holds by chance
WORD = 3  # tokens up to which a question is a term (鼓室) rather than a question
_LEAD = 0.3  # of the weight of an item's n-grams, from which a turn is looked at
_CHANGED = 0.15  # edits a letter, up to which a question is looked for
_OPTIONS = 0.75  # of an item's options
_EDITED = 0.1  # edits a letter of all options together, where fewer are whole
_ASKS = 8  # letters at the end of a question, where it asks
_BETWEEN = 80  # letters between a passage and what is asked of it ("Answer the question.")
_REACH = 3  # times the letters of the options, within which they follow their question

Places = dict[str, list[tuple[int, int, int]]]


@dataclass(frozen=True, kw_only=True)
class Decontaminate:
    """Drop rows that hold an item of a benchmark.

    benchmarks: names of benchmarks under the data root: folders or zips as published (their val and test splits), or
      files (jsonl, JSON, parquet, csv) of question, options, answer.
    threshold: score (0.5 to 1) from which a row is dropped: 1 is a copy, 0.7 one edit in seven letters. Default 0.7.
    """

    compares: ClassVar[Literal["benchmarks"]] = "benchmarks"

    benchmarks: list[str]
    threshold: float = 0.7

    def __post_init__(self) -> None:
        """Refuse an empty list and a threshold that the attribute cannot serve."""
        if not self.benchmarks:
            raise InputError("filter 'decontaminate': benchmarks is empty. Fix: benchmarks = [\"ceval\"].")
        if not FLOOR <= self.threshold <= 1:
            raise InputError(f"filter 'decontaminate': threshold = {self.threshold}. Fix: {FLOOR} to 1.")

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

    Several have it where items differ in signs only.
    """
    if not texts or not index.names:
        return
    batch = batch or TextBatch(texts)
    unit_U, item_U, row_U = _candidates(batch, index)
    first_R = np.searchsorted(row_U, np.arange(len(texts)))
    best: dict[int, tuple[tuple[float, float], list[int]]] = {}
    before, turn, folded = -1, "", ""
    for unit, item in zip(unit_U.tolist(), item_U.tolist(), strict=True):
        row = int(row_U[unit])
        if unit != before:
            seen: Places = {}
            before, turn = unit, texts[row].replace("\0", " ").split(TURN)[unit - int(first_R[row])]
            folded = letters(turn)
        score = _score((turn, folded), index, item, seen)
        if score[0] >= FLOOR:
            held = best.setdefault(row, (score, []))
            if score > held[0]:
                best[row] = held = (score, [])
            if score == held[0]:
                held[1].append(item)
    for row, (found, items) in best.items():
        yield row, found[0], [index.names[i] for i in sorted(set(items))]


def _candidates(batch: TextBatch, index: Index) -> tuple[I64, I64, I64]:
    """Return (unit, item) pairs where the unit has enough of what leads to the item; and the row of each unit."""
    end_U, row_U = units(batch)
    tokens = unit_tokens(batch, end_U)
    keys, items, many = max(len(index.key_K), 1), len(index.names), max(len(index.rare_L), 1)
    pairs = [np.zeros(0, np.int64)]
    for n in index.key_sizes:
        hash_G, unit_G = unit_grams(tokens, n)
        at, key = index.find(hash_G, n)
        pairs.append(unit_G[at] * keys + key)
    pair = distinct(np.concatenate(pairs))  # an n-gram counts once a turn
    unit, key = pair // keys, pair % keys
    at, owner = spans(index.start_K[key], index.start_K[key + 1])
    both, inverse = np.unique(unit[owner] * many + index.holder_K[at], return_inverse=True)
    found = np.bincount(inverse, weights=index.weight_K[key[owner]], minlength=len(both))
    unit, lead = both // many, both % many
    family = index.family_I[np.minimum(lead // 2, items - 1)]
    enough = found >= np.where((lead < 2 * items) & (family < 0), _LEAD, _LEAD / 2) * index.rare_L[lead]
    unit, lead, family = unit[enough], lead[enough], family[enough]
    passage, alone = lead >= 2 * items, (lead < 2 * items) & (family < 0)
    here = unit[passage] * many + lead[passage] - 2 * items  # the passages that are there
    told = (lead < 2 * items) & (family >= 0) & np.isin(unit * many + family, here)
    at, owner = spans(index.start_F[here % many], index.start_F[here % many + 1])
    pair = np.concatenate(
        [unit[alone | told] * items + lead[alone | told] // 2, (here // many)[owner] * items + index.vague_F[at]]
    )
    pair = distinct(pair)
    return pair // items, pair % items, row_U


def _score(text: tuple[str, str], index: Index, item: int, seen: Places) -> tuple[float, float]:
    """Return how surely a turn (as it is, and its letters) holds an item, and how much of the whole item it holds.

    `seen` has where in the turn passages stand, and gets this item's.

    Both are 1 for a copy and less two for each edit a letter, since an edit spoils two pairs of letters; (0, 0) where
    the turn does not hold the item.
    """
    turn, folded = text
    question = remembered(index.questions[item])
    options = [option for option in map(remembered, index.options[item]) if option]
    size, offered = len(question), sum(map(len, options))
    best, alone = (0.0, 0.0), 0.0
    others = False  # options that are not the item's
    tokens = int(index.length_I[item])
    passage, most = int(index.passage_I[item]), max(1, int(_CHANGED * size))
    if passage:
        own = remembered(index.questions[item][passage:])
        places = _behind_passage(remembered(index.questions[item][:passage]), own, folded, seen)
    else:
        places = [(changed, start, end, False) for changed, start, end in stretches(question, folded, most)]
    for changed, start, end, asked in places:
        if changed > most:
            continue
        if changed and tokens < ALONE and _digits(folded[start:end]) != _digits(question):
            continue
        after = folded[end : end + _REACH * (offered + len(options))]
        spoilt = _spoilt_options(options, after) if options else None
        if spoilt is not None:
            together = 1 - 2 * (changed + spoilt) / (size + offered)
            best = max(best, (max(1 - 2 * changed / size, together), together))
        elif passage and not asked:
            continue
        elif options and (
            BAR in folded[:start] or after.count(BAR) > 1 or (after and _lines_after(turn, end) == len(options))
        ):
            others = True
        elif passage or _ends_as(question, folded[max(end - 2 * _ASKS, 0) : end + _ASKS]):
            alone = max(alone, 1 - 2 * changed / size)
    if best[0] or index.shared_I[item] or others or not size:
        return best
    if tokens >= ALONE and alone == 1:
        return alone, 0.0
    whole = 4 * abs(len(folded) - size) <= size and (tokens > WORD or not index.options[item])
    if whole and (not passage or any(asked for *_, asked in places)) and _digits(folded) == _digits(question):
        best = max(best, (1 - 2 * edits(question, folded) / size, 0.0))
    return max(best, (alone, 0.0)) if tokens >= ALONE else best


def _behind_passage(passage: str, asks: str, folded: str, seen: Places) -> list[tuple[int, int, int, bool]]:
    """Return (edits, start, end, asked) of the places of a passage, with what is asked of it or without.

    What is missing counts as edits. `seen` has the places of passages in this text, and gets this one's.
    """
    if passage not in seen:
        seen[passage] = stretches(passage, folded, max(1, int(_CHANGED * len(passage))))
    places, between = [], _BETWEEN if len(asks) >= _ASKS else 0
    for changed, start, end in seen[passage]:
        behind, most = folded[end : end + between + 2 * len(asks)], len(asks) // 4
        least = fewest(asks, behind)
        more, further = nearest(asks, behind, least) if least <= most else (len(asks), 0)
        asked = more <= most
        places.append((changed + more, start, end + further * asked, asked))
    return places


def _ends_as(question: str, text: str) -> bool:
    """Return whether a text has the end of a question, where it asks."""
    return nearest(question[-_ASKS:], text)[0] <= _ASKS // 4


def _spoilt_options(options: list[str], text: str) -> int | None:
    """Return the edits by which an item's options stand in a text; None where they do not.

    An option stands between two labels, not across one. What triples of letters tell is asked first.
    """
    offered, parts = sum(map(len, options)), text.split(BAR)
    edited = [option for option in options if not stands(option, text)]
    bounds = dict(zip(edited, fewest_of_all(edited, parts), strict=True))
    near = [
        [(0, option)]
        if option not in bounds
        else [(fewest(option, text), text)]
        if BAR in option
        else sorted(zip(bounds[option], parts, strict=True))
        for option in options
    ]
    spoilt = [at_least for (at_least, _), *_ in near]
    for i in range(-1, len(options)):
        if i >= 0:
            spoilt[i] = _spoilt(options[i], near[i])
        absent = sum(1 for edited, option in zip(spoilt, options, strict=True) if 4 * edited > len(option))
        if absent > (1 - _OPTIONS) * len(options) and sum(spoilt) > _EDITED * offered:
            return None
    return sum(spoilt)


def _digits(text: str) -> str:
    return "".join(filter(str.isdigit, text))


def _spoilt(option: str, parts: list[tuple[int, str]]) -> int:
    """Return the edits by which an option stands in one of some parts, and all its letters where it does not.

    Each part has the edits that it needs at least. Of an option that is a number for a third or more, a changed digit
    makes another option.
    """
    size = least = len(option)
    number = 3 * len(_digits(option)) >= size
    for bound, part in parts:
        if bound >= least:
            break
        changed, end = _changed(option, part, bound, number)
        if changed < least and not (number and _digits(part[beginning(option, part, end) : end]) != _digits(option)):
            least = changed
    return least


def _changed(option: str, part: str, least: int, ended: bool) -> tuple[int, int]:
    """Return what `nearest` does, the end only where it is asked for; mostly the whole part is the option, edited."""
    near = not ended and abs(len(option) - len(part)) <= least <= len(option) // 8
    if near and edits(option, part) == least:
        return least, 0
    return nearest(option, part, least)


def _lines_after(turn: str, end: int) -> int:
    """Return how many lines with text follow the line in which the first `end` letters of a turn end."""
    lines = turn.split("\n")
    places = np.cumsum([len(line) + 1 for line in lines]) - 1
    here = bisect_left(places, end, key=lambda place: len(letters(turn[:place])))
    return sum(1 for line in lines[here + 1 :] if line.strip())
