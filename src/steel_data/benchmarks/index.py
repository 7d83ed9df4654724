"""The items of benchmarks as token n-grams, and the way back from an n-gram to items; the index on disk.

An item has *parts*: its question (part 0) and its options. A part is the set of its token 3-grams; one of fewer than
three tokens is its whole run, hashed as a 1- or 2-gram; one of signs only (→, ∅) has none. Option labels (`A.`) are no
tokens, and no n-gram goes over one: `A. 绿林 B. 黄巾` are two options, not a part of the option `绿林、黄巾`. What
lies between two labels is a *piece*.

Legend of array suffixes: _I one entry an item, _P one a part, _G one an n-gram of a part, _K one a distinct n-gram,
_T one a token, _U one a unit (a turn of a row).

An index is kept in the cache, so that it is built once for all workers and all builds on the same benchmarks.
"""

from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import orjson

from steel_data.benchmarks.items import Item, benchmark_files, benchmark_name, published_part, read_items
from steel_data.files import kept
from steel_data.row.text import (
    BORDER,
    HAN,
    HANGUL,
    I64,
    KANA,
    LATIN,
    SPACE,
    U64,
    TextBatch,
    distinct,
    grams,
    mix64,
    normalise,
)

Bool = npt.NDArray[np.bool_]
F64 = npt.NDArray[np.float64]

GRAM = 3
SHORT = 8  # tokens; a question below this says too little by itself
COMMON = 48  # an n-gram in more items than this makes no candidates
TURN = "\x1e"  # between the turns of a row (the text view has a line break there); a blank to the normaliser
_BITS = 22
_AFTER_LABEL = np.array([ord(c) for c in ".、:)"], np.uint32)  # as the normaliser writes them


@dataclass(frozen=True)
class Index:
    """All items' parts, the distinct n-grams with their rarity, and the items that each rare one leads to."""

    names: list[str]  # `cmmlu/test/agronomy/00012`
    questions: list[str]
    options: list[tuple[str, ...]]
    length_I: I64  # tokens of the question
    weak_I: Bool  # the question proves nothing without its options: short, or made of n-grams that many items share
    digits_I: Bool  # the question is a run of numbers
    part_I: I64  # parts of item i: part_I[i] to part_I[i + 1], the question first
    size_P: I64  # n of the part's n-grams (0: a part without tokens)
    told_P: Bool  # the question itself holds all n-grams of the part, so that finding them proves nothing
    start_P: I64  # n-grams of part p: start_P[p] to start_P[p + 1]
    hash_G: U64
    weight_G: F64
    key_K: U64  # the n-grams that lead to items, sorted
    weight_K: F64
    start_K: I64
    holder_K: I64  # items of key k: holder_K[start_K[k] : start_K[k + 1]]
    rare_I: F64  # summed weight of the keys that lead to the item
    key_sizes: tuple[int, ...]  # which n the keys have
    bitmap: Bool

    @property
    def texts(self) -> list[str]:
        """Question and options of each item, the evidence."""
        return ["\n".join([q, *o]) for q, o in zip(self.questions, self.options, strict=True)]

    @property
    def unmatchable(self) -> int:
        """How many items have a question without any token and can never be found."""
        return int((self.length_I == 0).sum())

    def find(self, hash_T: U64) -> tuple[I64, I64]:
        """Return where `hash_T` has an entry that leads to items: positions in `hash_T`, and the keys' places.

        A bitmap of 4 million bits turns away nearly all entries before the binary search.
        """
        if not len(self.key_K) or not len(hash_T):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        maybe = np.flatnonzero(self.bitmap[hash_T & np.uint64((1 << _BITS) - 1)])
        place = np.minimum(np.searchsorted(self.key_K, hash_T[maybe]), len(self.key_K) - 1)
        same = self.key_K[place] == hash_T[maybe]
        return maybe[same], place[same]


def overlap_files(benchmarks: list[str], data_root: Path) -> list[Path]:
    """Return the files that the index is made of (they are inputs of the build)."""
    return sorted({file for name in benchmarks for _, file in _scored(name, data_root)})


def _scored(name: str, data_root: Path) -> list[tuple[str, Path]]:
    files = benchmark_files(name, data_root)
    scored = [(split, file) for split, file in files if split in ("val", "test")]
    return scored or files  # a benchmark with neither is a file, or one of dev/train only: then all of it counts


@lru_cache(maxsize=4)
def build_index(benchmarks: tuple[str, ...], data_root: Path) -> Index:
    """Read the benchmarks and index their items (once a process)."""
    names: list[str] = []
    items: list[Item] = []
    for benchmark in benchmarks:
        some = read_items(_scored(benchmark, data_root))
        published_part(benchmark, some)
        name = benchmark_name(benchmark)
        names += [f"{name}/{item.item}" for item in some]
        items += some
    return index_of(names, items)


def index_of(names: list[str], items: list[Item]) -> Index:
    """Index items under the given names."""
    texts = [text for item in items for text in (item.question, *item.options)]
    part_I = np.cumsum([0, *(1 + len(item.options) for item in items)], dtype=np.int64)
    item_P = np.repeat(np.arange(len(items)), np.diff(part_I))
    tokens_P, size_P, hash_G, part_G, told_G = _parts(texts, item_P)
    key, inverse_G = np.unique(hash_G, return_inverse=True)
    pair = distinct(inverse_G * max(len(items), 1) + item_P[part_G]) if len(items) else np.zeros(0, np.int64)
    held_by = np.bincount(pair // max(len(items), 1), minlength=len(key))
    weight = np.log((len(items) + 1) / np.maximum(held_by, 1)) + 1e-3
    length_I = tokens_P[part_I[:-1]]
    rare_G = held_by[inverse_G] <= COMMON
    question_G = part_G == part_I[item_P[part_G]]
    any_rare_I = np.bincount(item_P[part_G], weights=question_G & rare_G, minlength=len(items)) > 0
    weak_I = (length_I < SHORT) | ~any_rare_I
    leads_G = rare_G & (question_G | ~any_rare_I[item_P[part_G]])
    lead = distinct(inverse_G[leads_G] * max(len(items), 1) + item_P[part_G][leads_G])
    place, holder = (lead // max(len(items), 1), lead % max(len(items), 1))
    used = distinct(place)
    bitmap = np.zeros(1 << _BITS, bool)
    bitmap[key[used] & np.uint64((1 << _BITS) - 1)] = True
    return Index(
        names=names,
        questions=[item.question for item in items],
        options=[item.options for item in items],
        length_I=length_I,
        weak_I=weak_I,
        digits_I=_digits([item.question for item in items]),
        part_I=part_I,
        size_P=size_P,
        told_P=np.bincount(part_G, weights=~told_G, minlength=len(texts)) == 0,
        start_P=np.searchsorted(part_G, np.arange(len(texts) + 1)),
        hash_G=hash_G,
        weight_G=weight[inverse_G],
        key_K=key[used],
        weight_K=weight[used],
        start_K=np.searchsorted(place, np.append(used, len(key))),
        holder_K=holder,
        rare_I=np.bincount(holder, weights=weight[place], minlength=len(items)).astype(np.float64),
        key_sizes=tuple(np.unique(size_P[part_G[leads_G]]).tolist()),
        bitmap=bitmap,
    )


def _parts(texts: list[str], item_P: I64) -> tuple[I64, I64, U64, I64, Bool]:
    """Return each part's tokens and size; the distinct n-grams of all parts, the part of each, and whether the item's
    question holds it, in order of parts.
    """
    batch = TextBatch(texts)
    hash_T, unit_T, piece_T = unit_tokens(batch, end_U=batch.end_R)
    tokens_P = np.bincount(unit_T, minlength=len(texts))
    size_P = np.minimum(_longest_piece(unit_T, piece_T, len(texts)), GRAM)
    is_question_P = np.concatenate([[True], item_P[1:] != item_P[:-1]]) if len(item_P) else np.zeros(0, bool)
    hashes, parts, told = [], [], []
    for n in range(1, GRAM + 1):
        hash_G, part_G = unit_grams(hash_T, unit_T, piece_T, n)
        asked_G = is_question_P[part_G]
        asked = distinct(keyed(hash_G[asked_G], item_P[part_G[asked_G]]))
        mine = size_P[part_G] == n
        hash_G, part_G, told_G = hash_G[mine], part_G[mine], asked_G[mine].copy()
        option = np.flatnonzero(~told_G)
        if len(asked):
            wanted = keyed(hash_G[option], item_P[part_G[option]])
            told_G[option] = asked[np.minimum(np.searchsorted(asked, wanted), len(asked) - 1)] == wanted
        hashes.append(hash_G)
        parts.append(part_G)
        told.append(told_G)
    hash_G, part_G, told_G = np.concatenate(hashes), np.concatenate(parts), np.concatenate(told)
    # by part, then by 40 bits of the hash: enough to tell the n-grams of one part apart, and one sort instead of two
    place_G = (part_G.astype(np.uint64) << np.uint64(40)) | (hash_G >> np.uint64(24))
    order = np.argsort(place_G)
    new = np.ones(len(order), bool)
    new[1:] = place_G[order][1:] != place_G[order][:-1]
    order = order[new]
    return tokens_P, size_P, hash_G[order], part_G[order], told_G[order]


def _digits(questions: list[str]) -> Bool:
    """Return which questions are numbers and signs, but for three letters or characters at most."""
    few = np.flatnonzero(TextBatch(questions).counts(HAN, KANA, HANGUL, LATIN) <= 3)  # all of these are letters
    found = np.zeros(len(questions), bool)
    for i in few.tolist():
        text = normalise(questions[i])
        found[i] = any(c.isdigit() for c in text) and sum(c.isalpha() for c in text) <= 3
    return found


def units(batch: TextBatch) -> tuple[I64, I64]:
    """Return where each unit (turn) of a batch ends in `code_C`, and its row."""
    end_U = np.flatnonzero((batch.code_C == 0) | (batch.code_C == ord(TURN)))
    return end_U, np.searchsorted(batch.end_R, end_U)


def _longest_piece(unit_T: I64, piece_T: I64, units: int) -> I64:
    """Return the tokens of each unit's longest piece."""
    longest_U = np.zeros(units, np.int64)
    if len(piece_T):
        first = np.flatnonzero(np.concatenate([[True], piece_T[1:] != piece_T[:-1]]))
        np.maximum.at(longest_U, unit_T[first], np.diff(np.append(first, len(piece_T))))
    return longest_U


def unit_grams(hash_T: U64, unit_T: I64, piece_T: I64, n: int) -> tuple[U64, I64]:
    """Return the hashes of all runs of `n` tokens inside a piece, and the unit of each."""
    hash_G, at_G = grams(hash_T, piece_T, n, places=True)
    return hash_G, unit_T[at_G]


def unit_tokens(batch: TextBatch, end_U: I64) -> tuple[U64, I64, I64]:
    """Return the hashes of a batch's tokens without option labels (A. B、 (C)), the unit of each, and its piece.

    Pieces are numbered through the batch: a unit begins one, and so does a label. A label would else stand for an
    option of one letter, and the same options under other labels would differ.
    """
    hash_T, _ = batch.tokens
    place_T = batch.token_places
    code_C, class_C = batch.code_C, batch.class_C
    letter_T = (code_C[place_T] >= ord("a")) & (code_C[place_T] <= ord("j"))
    at = np.flatnonzero(letter_T)
    place = place_T[at]
    before, after = class_C[place - 1], code_C[np.minimum(place + 1, len(code_C) - 1)]
    free = (place == 0) | (before == SPACE) | (before == BORDER) | (code_C[place - 1] == ord("("))
    blank = class_C[np.minimum(place + 1, len(code_C) - 1)] == SPACE
    after = np.where(blank, code_C[np.minimum(place + 2, len(code_C) - 1)], after)
    kept_T = np.ones(len(hash_T), bool)
    kept_T[at[free & np.isin(after, _AFTER_LABEL)]] = False
    label_T = np.cumsum(~kept_T)[kept_T]
    place_T = place_T[kept_T]
    start_U = np.searchsorted(place_T, np.concatenate([[0], end_U]))
    unit_T = np.repeat(np.arange(len(end_U)), np.diff(start_U))
    return hash_T[kept_T], unit_T, unit_T + label_T


def keyed(hash_G: U64, owner_G: I64) -> U64:
    """Return hashes of (owner, n-gram) pairs: two owners' equal n-grams differ."""
    return mix64(hash_G + (owner_G.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15))


def spans(start: I64, stop: I64) -> tuple[I64, I64]:
    """Return all integers of the half-open ranges one after another, and the range of each."""
    size = stop - start
    owner = np.repeat(np.arange(len(size)), size)
    return np.arange(len(owner)) - np.repeat(np.cumsum(size) - size, size) + start[owner], owner


_LISTS = ("names", "questions", "options", "key_sizes")  # kept as JSON, all else as arrays


@lru_cache(maxsize=4)
def stored_index(place: Path, benchmarks: tuple[str, ...], data_root: Path) -> Index:
    """Return the index of some benchmarks: from the file `place` where it is there, else built and written to it.

    `place` must be an address of the benchmarks' contents and of the code that reads them (`passes.cache.key_of`).
    """
    # not build_index's own memory, which goes by the folder alone: its files may have changed since
    return kept(place, lambda: build_index.__wrapped__(benchmarks, data_root), _write, _read)


def _write(place: Path, index: Index) -> None:
    lists = {name: getattr(index, name) for name in _LISTS}
    arrays = {f.name: getattr(index, f.name) for f in fields(index) if f.name not in _LISTS}
    arrays["bitmap"] = np.packbits(index.bitmap)
    text = np.frombuffer(orjson.dumps(lists), np.uint8)
    with place.open("wb") as stream:
        np.savez(stream, lists=text, **arrays)


def _read(place: Path) -> Index:
    with place.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
        values = {name: stored[name] for name in stored.files}
    lists = orjson.loads(values.pop("lists").tobytes())
    lists |= {"options": [tuple(o) for o in lists["options"]], "key_sizes": tuple(lists["key_sizes"])}
    values["bitmap"] = np.unpackbits(values["bitmap"]).astype(bool)
    return Index(**values, **lists)
