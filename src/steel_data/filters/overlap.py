"""Decontamination: does a row hold an item of a benchmark?

Containment of the item in the row, over token 3-grams (Han characters are tokens; `steel_data.text`), each weighted by its
rarity among the items (log(items / items with it)), so that "下列说法正确的是" weighs next to nothing. Stages:

1. A row's 3-grams are looked up in the index of all questions; items of which half the weight may be there are candidates.
   Questions too short or too common for that are found as whole token runs.
2. A candidate is checked in full: weighted containment of the question, and how many of its options stand in the row, as
   a set: their order is free.
3. Verdict. With three quarters of its options the question counts by its containment. Without them a question of 8 tokens
   or more still does, unless options of another kind follow it in the row ("same stem, other options" is another item); a
   shorter question does not, except one that has no options and is the whole of a turn.

The score is the containment; plan compares it with the threshold, so that another threshold recomputes nothing.
"""

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from steel_data.benchmarks import Item, benchmark_name, read_benchmark
from steel_data.errors import InputError
from steel_data.text import TextBatch, mix64, normalise

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

GRAM = 3
SHORT = 8  # tokens; a question below this says too little by itself
FLOOR = 0.5  # of containment; the lowest threshold that the attribute can serve
COMMON = 48  # a 3-gram in more items than this makes no candidates
VERSION = "overlap-1"
TURN = "\x1e"  # between the turns of a row (the text view has a line break there)
_LABEL = re.compile(r"(?:^|[\s(（])([A-E])\s*[.、:：．)）]", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Decontaminate:
    """Drop rows that hold an item of a benchmark.

    benchmarks: names of benchmark folders under the data root (their val and test splits), or jsonl files of question,
      optional options, answer.
    threshold: containment of the question (0.5 to 1) from which a row is dropped. Default 0.7.
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


@dataclass(frozen=True)
class Index:
    """All items' questions and options as token 3-grams, and the way back from a 3-gram to items."""

    names: list[str]  # `cmmlu/test/agronomy/00012`
    texts: list[str]  # question and options, the evidence
    length: I64  # tokens of the question
    question: list[U64]  # distinct 3-grams of the question
    weight: list[npt.NDArray[np.float64]]  # of each of them
    options: list[list[U64]]  # of each option: distinct 3-grams, or the one hash of a shorter one
    option_sizes: list[list[int]]  # 3, or the token count of a shorter option
    keys: U64  # the rare 3-grams, sorted
    holders: I64  # items of keys[k]: holders[starts[k]:starts[k+1]]
    starts: I64
    rare_weight: npt.NDArray[np.float64]  # summed weight of an item's rare 3-grams
    key_weight: npt.NDArray[np.float64]
    whole: dict[int, dict[int, list[int]]]  # token count -> hash of the whole question -> items

    @property
    def unmatchable(self) -> int:
        """How many items have no token at all and can never be found."""
        return int((self.length == 0).sum())


def overlap_files(benchmarks: list[str], data_root: Path) -> list[Path]:
    """Return the files that the index is made of (they are inputs of the build)."""
    return sorted({item.file for name in benchmarks for item in _items(name, data_root)})


def _items(name: str, data_root: Path) -> list[Item]:
    items = read_benchmark(name, data_root)
    scored = [item for item in items if item.split in ("val", "test")]
    return scored or items  # a benchmark with neither is a file, or one of dev/train only: then all of it counts


@lru_cache(maxsize=4)
def build_index(benchmarks: tuple[str, ...], data_root: Path) -> Index:
    """Read the benchmarks and index their items (once a process; about 60,000 items a second)."""
    items = [(benchmark_name(name), item) for name in benchmarks for item in _items(name, data_root)]
    question_batch = TextBatch([item.question for _, item in items])
    length = np.diff(question_batch.tokens[1])
    question = _distinct_by_row(*question_batch.token_grams(GRAM), len(items))
    option_texts = [option for _, item in items for option in item.options]
    options, sizes = _option_grams(option_texts, [len(item.options) for _, item in items])
    grams = np.concatenate([*question, np.zeros(0, np.uint64)])
    owner = np.repeat(np.arange(len(items)), [len(q) for q in question])
    key, inverse, count = np.unique(grams, return_inverse=True, return_counts=True)
    weight_of = np.log((len(items) + 1) / count) + 1e-3
    weight = np.split(weight_of[inverse], np.cumsum([len(q) for q in question])[:-1]) if items else []
    rare = count <= COMMON
    order = np.argsort(inverse, kind="stable")
    order = order[rare[inverse[order]]]
    rare_weight = np.bincount(owner[order], weights=weight_of[inverse[order]], minlength=len(items))
    return Index(
        names=[f"{name}/{item.item}" for name, item in items],
        texts=["\n".join([item.question, *item.options]) for _, item in items],
        length=length,
        question=question,
        weight=weight,
        options=options,
        option_sizes=sizes,
        keys=key[rare],
        holders=owner[order],
        starts=np.concatenate([np.zeros(1, np.int64), np.cumsum(count[rare])]),
        rare_weight=rare_weight,
        key_weight=weight_of[rare],
        whole=_whole_questions(question_batch, length, question, weight),
    )


def _distinct_by_row(hash_G: U64, row_G: I64, rows: int) -> list[U64]:
    bounds = np.searchsorted(row_G, np.arange(rows + 1)).tolist()
    return [np.unique(hash_G[a:b]) for a, b in zip(bounds, bounds[1:], strict=False)]


def _option_grams(texts: list[str], counts: list[int]) -> tuple[list[list[U64]], list[list[int]]]:
    batch = TextBatch(texts)
    tokens = np.diff(batch.tokens[1])
    grams = {n: _distinct_by_row(*batch.token_grams(n), len(texts)) for n in (1, 2, GRAM)}
    sizes = [int(min(n, GRAM)) for n in tokens.tolist()]
    flat = [grams[n][i] if n else np.zeros(0, np.uint64) for i, n in enumerate(sizes)]
    bounds = np.concatenate([[0], np.cumsum(counts)]).tolist()
    spans = list(zip(bounds, bounds[1:], strict=False))
    return [flat[a:b] for a, b in spans], [sizes[a:b] for a, b in spans]


def _whole_questions(
    batch: TextBatch, length: I64, question: list[U64], weight: list[npt.NDArray[np.float64]]
) -> dict[int, dict[int, list[int]]]:
    """Index by their whole token run the questions that rare 3-grams cannot find: short ones, and common stems."""
    whole: dict[int, dict[int, list[int]]] = {}
    hash_T, offset_R = batch.tokens
    for i, count in enumerate(length.tolist()):
        common = len(weight[i]) > 0 and float(weight[i].max()) < np.log((len(length) + 1) / COMMON)
        if 0 < count and (count < SHORT or common):
            whole.setdefault(count, {}).setdefault(_run_hash(hash_T[offset_R[i] : offset_R[i + 1]]), []).append(i)
    return whole


def _run_hash(run: U64) -> int:
    value = np.zeros(1, np.uint64)
    for entry in run:
        value = value * np.uint64(0x9E3779B97F4A7C15) + entry
    return int(mix64(value)[0])


def overlap(texts: list[str], index: Index) -> dict[str, Any]:
    """Return for each text `overlap_score` (0: no item found) and `overlap_item` (the best item's name, or null).

    `texts` are text views whose turns are separated by `TURN`.
    """
    batch = TextBatch(texts)
    hash_G, row_G = batch.token_grams(GRAM)
    score = np.zeros(len(texts), np.float32)
    best: list[str | None] = [None] * len(texts)
    candidates = _candidates(index, hash_G, row_G) | _whole_candidates(index, batch)
    seen: _Row | None = None
    for row, item in sorted(candidates):
        if seen is None or seen.number != row:
            seen = _Row(row, texts[row])
        found = _containment(index, item, seen)
        if found >= FLOOR and found > score[row]:
            score[row], best[row] = found, index.names[item]
    return {"overlap_score": score, "overlap_item": pl.Series(best, dtype=pl.String)}


def _candidates(index: Index, hash_G: U64, row_G: I64) -> set[tuple[int, int]]:
    """Return (row, item) pairs where the row holds near half of the item's rare weight."""
    hit, place = find(index.keys, hash_G)
    if not len(hit):
        return set()
    pair = np.unique(np.column_stack([row_G[hit], place]), axis=0)  # a 3-gram counts once a row
    row, key = pair[:, 0], pair[:, 1]
    many = index.starts[key + 1] - index.starts[key]
    at = np.repeat(index.starts[key], many) + (np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many))
    both, inverse = np.unique(np.repeat(row, many) * len(index.names) + index.holders[at], return_inverse=True)
    found = np.bincount(inverse, weights=np.repeat(index.key_weight[key], many))
    enough = found >= FLOOR * 0.8 * index.rare_weight[both % len(index.names)]
    return {(int(b) // len(index.names), int(b) % len(index.names)) for b in both[enough]}


def _whole_candidates(index: Index, batch: TextBatch) -> set[tuple[int, int]]:
    pairs: set[tuple[int, int]] = set()
    for length, table in index.whole.items():
        hash_G, row_G = batch.token_grams(length)
        keys = np.sort(np.fromiter(table, np.uint64, len(table)))
        hit, place = find(keys, hash_G)
        for value, row in zip(keys[place].tolist(), row_G[hit].tolist(), strict=True):
            pairs.update((row, item) for item in table[value])
    return pairs


def find(keys: U64, hash_G: U64) -> tuple[I64, I64]:
    """Return where `hash_G` has an entry of the sorted `keys`: positions in `hash_G`, and the keys' places.

    A bitmap of 4 million bits turns away nearly all entries before the binary search.
    """
    if not len(keys) or not len(hash_G):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    mask = np.uint64((1 << 22) - 1)
    bitmap = np.zeros(1 << 22, bool)
    bitmap[keys & mask] = True
    maybe = np.flatnonzero(bitmap[hash_G & mask])
    place = np.minimum(np.searchsorted(keys, hash_G[maybe]), len(keys) - 1)
    same = keys[place] == hash_G[maybe]
    return maybe[same], place[same]


class _Row:
    """What is looked at in one row: its turns and their lines, and its token runs without option labels."""

    def __init__(self, number: int, text: str) -> None:
        self.number = number
        self.turns = [turn.split("\n") for turn in text.split(TURN)]
        self.batch = TextBatch([_LABEL.sub("\n", text)])
        self._runs: dict[int, U64] = {}

    def runs(self, size: int) -> U64:
        """Return the distinct runs of `size` tokens."""
        if size not in self._runs:
            self._runs[size] = np.unique(self.batch.token_grams(size)[0])
        return self._runs[size]

    @cached_property
    def line_grams(self) -> list[list[U64]]:
        """The 3-grams of each line of each turn."""
        grams = []
        for lines in self.turns:
            hash_G, row_G = TextBatch(lines).token_grams(GRAM)
            grams.append(_distinct_by_row(hash_G, row_G, len(lines)))
        return grams

    def asks_with_options(self, question: U64, own_labels: int, options: int) -> bool:
        """Return whether options of some sort follow the place where the question stands in this row.

        Labels (A. B. C.) beyond those of the question itself, or as many further lines in that turn as the item has options.
        """
        held = [[int(np.isin(question, grams).sum()) for grams in turn] for turn in self.line_grams]
        best = max((max(turn, default=0) for turn in held), default=0)
        for lines, turn in zip(self.turns, held, strict=True):
            where = [i for i, count in enumerate(turn) if count and count >= 0.3 * best]
            if not where:
                continue
            tail = lines[where[-1] + 1 :]
            labels = set(_LABEL.findall("\n".join([lines[where[-1]], *tail])))
            if {"A", "B"} <= labels and len(labels) > own_labels:
                return True
            if sum(1 for line in tail if line.strip()) >= options:
                return True
        return False


def _containment(index: Index, item: int, row: _Row) -> float:
    """Return how far the row holds the item (0 where the rules say that it is another item)."""
    grams, weight = index.question[item], index.weight[item]
    # A question of one or two tokens has no 3-gram and is a candidate only as a whole.
    held = float(weight[np.isin(grams, row.runs(GRAM))].sum() / weight.sum()) if len(grams) else 1.0
    if held < FLOOR:
        return 0.0
    options = index.options[item]
    matched = sum(_holds(option, size, row) for option, size in zip(options, index.option_sizes[item], strict=True))
    if options and matched >= 0.75 * len(options):
        return held
    question = index.texts[item].split("\n")[0]
    if index.length[item] < SHORT:
        whole = normalise(index.texts[item]).strip()
        return held if not options and any(normalise("\n".join(t)).strip() == whole for t in row.turns) else 0.0
    own_labels = len(set(_LABEL.findall(question)))
    return 0.0 if options and row.asks_with_options(grams, own_labels, len(options)) else held


def _holds(option: U64, size: int, row: _Row) -> bool:
    """Return whether an option stands in the row: 70 % of its 3-grams, or a short one as a whole run."""
    if not size:
        return True  # an option of signs only (→, ∅) cannot speak against the match
    return bool(np.isin(option, row.runs(size)).mean() >= 0.7)
