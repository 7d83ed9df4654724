"""Exact and near duplicates: keys in the map pass, clusters in the plan pass.

Exact: the same conversation as it is, by its id: code and formulas differ by a letter, a blank or a case. Near: MinHash
over character 5-grams (Broder 1997), 125 permutations in 25 bands of 5: two texts of Jaccard similarity 0.75 meet in
some band with probability 0.999, of 0.3 with 0.06. Every pair that meets is then *verified*, turn by turn: the question
and the answer must both be alike, so that a shared system prompt, passage or template makes no duplicates. Two turns
are alike when the true Jaccard similarity of their 5-grams is at least the threshold; of short ones (SHORT), which one
letter can turn into another question, when nearly all characters follow in the same order and all that looks like code
or a formula is the same. Characters and not words, since Chinese has no blanks between words (word shingles find 29 %
of the near-duplicates, these 99.9 %; research/curation.md C1).

A cluster is a connected component of verified pairs; its best row (`keep`) stays. The rows that meet in a band are a
*bucket*, best first. Each is compared with the bucket's first, then with the WINDOW rows before it as far as they are
not of one cluster yet, so that a template repeated 50,000 times costs a million looks and not 1.25 billion. Most pairs
of a bucket are unlike (any two English texts share some 5-grams): the lowest bits of the 125 minima, which agree in
(1 + similarity) / 2 of all places (b-bit MinHash, Li and König 2010), turn nearly all of them away before a text is
read.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from steel_data.benchmarks.index import TURN
from steel_data.engine import in_threads
from steel_data.errors import InputError
from steel_data.row.text import TextBatch, distinct, mix64, normalise, with_places

U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
Rows = npt.NDArray[np.signedinteger[Any]]  # numbers of rows, of the smallest type that holds them

SHINGLE = 5
BANDS, BAND_ROWS = 25, 5
MINIMA = BANDS * BAND_ROWS
NEAR_KEYS = [*(f"band_{i:02d}" for i in range(BANDS)), "bits_0", "bits_1"]  # the columns of `near_keys`
VERSION = "dedup-3"  # of the keys
_SEED = 42  # of the permutations; not the recipe's: which rows are alike does not depend on the experiment
WINDOW = 24  # rows of its bucket, right before it, with which a row is compared
_PART = 1000  # rows whose minima are made at once
SHORT = 64  # characters: below it a turn is compared letter by letter
# What a letter changes in a short text: words that touch a sign of code or mathematics or hold a digit, indentation.
_CODE = re.compile(r"[\w.]*[(){}\[\]=<>+*/^\\|&%$#@~\d²³¹⁰-₟][\w.(){}\[\]=<>+*/^\\|&%$#@~-]*|\n[ \t]+(?=\S)")
_BLOCK = 2**20  # rows looked at at once
_BATCH, _CHARS = 100_000, 10_000_000  # pairs verified at once, and characters whose shingles are held (100 MB)


@dataclass(frozen=True, kw_only=True)
class Dedup:
    """Drop duplicates; of each cluster one row stays.

    on: what must be alike: `all` (default: question and answer, turn by turn), the `question` or the `answer` alone.
    near: also drop near-duplicates (default), not only equal texts.
    threshold: Jaccard similarity of character 5-grams from which two texts are near-duplicates. Default 0.75.
    keep: which row of a cluster stays: `first` (source order in the recipe, then file, then row), `longest`, or a list
      of sources: a row of the first of them before one of the next, of those not named last; else as `first`.
    """

    compares: ClassVar[Literal["rows"]] = "rows"

    on: Literal["all", "question", "answer"] = "all"
    near: bool = True
    threshold: float = 0.75
    keep: Literal["first", "longest"] | list[str] = "first"

    def __post_init__(self) -> None:
        """Refuse a threshold that the bands cannot serve."""
        if not 0.5 <= self.threshold <= 1:
            raise InputError(f"filter 'dedup': threshold = {self.threshold}. Fix: 0.5 to 1 (0.75 by default).")


def near_keys(batch: TextBatch) -> dict[str, Any]:
    """Return `band_00` … `band_24` (u32) and `bits_0`, `bits_1` (u64), one entry a row.

    Rows that share an entry of a band may be near-duplicates; the bits are the lowest ones of the minima.
    """
    hash_G, offset_R = batch.shingles(SHINGLE)
    parts = [_minima(hash_G, offset_R[start : start + _PART + 1]) for start in range(0, batch.rows, _PART)]
    matrix = np.concatenate([np.zeros((0, MINIMA), np.uint32), *parts])
    folded = np.zeros((batch.rows, BANDS), np.uint64)
    for i in range(BAND_ROWS):
        folded = mix64(folded * np.uint64(0x9E3779B97F4A7C15) + matrix[:, i::BAND_ROWS] + np.uint64(1))
    bits = np.packbits((matrix & np.uint32(1)).astype(np.uint8), axis=1)  # filled up with 0 to 128
    words = np.ascontiguousarray(bits).view("<u8").astype(np.uint64)
    keys: dict[str, Any] = {f"band_{i:02d}": folded[:, i].astype(np.uint32) for i in range(BANDS)}
    return keys | {f"bits_{i}": np.ascontiguousarray(words[:, i]) for i in range(2)}


def _minima(hash_G: U64, offset_R: I64) -> U32:
    """Return the minima of some rows, shape (rows, MINIMA): of a few, since rensa hands them out as Python integers."""
    from rensa import RMinHash

    mine = hash_G[offset_R[0] : offset_R[-1]]
    own = (offset_R - offset_R[0]).astype(np.uint64)
    digest = RMinHash.digest_matrix_from_flat_token_hashes(mine, own, MINIMA, _SEED)
    return np.array(digest.to_rows(), dtype=np.uint32).reshape(len(own) - 1, MINIMA)


def exact_winners(exact: U64) -> Rows:
    """Return for each row (best first) the index of the first row with the same key: itself where it stays."""
    winner = np.arange(len(exact), dtype=rows_kind(len(exact)))
    held = np.sort(exact)
    repeated = distinct(held[1:][held[1:] == held[:-1]])
    del held
    if not len(repeated):
        return winner
    found = []  # the rows of repeated keys, which are few
    for start in range(0, len(exact), _BLOCK):
        block = exact[start : start + _BLOCK]
        place = np.minimum(np.searchsorted(repeated, block), len(repeated) - 1)
        found.append(start + np.flatnonzero(repeated[place] == block))
    alike = np.concatenate(found)
    order = alike[np.argsort(exact[alike], kind="stable")]
    new = np.ones(len(order), bool)
    new[1:] = exact[order[1:]] != exact[order[:-1]]
    winner[order] = order[np.flatnonzero(new)][np.cumsum(new) - 1]
    return winner


def rows_kind(rows: int) -> type[np.signedinteger[Any]]:
    """Return the smallest of the types in which rows are numbered."""
    return np.int32 if rows < 2**31 else np.int64


def near_winners(
    read_key: Callable[[str], npt.NDArray[Any]],
    read_texts: Callable[[I64], Sequence[str]],
    rows: int,
    threshold: float,
    workers: int = 1,
) -> Rows:
    """Return for each of `rows` rows (best first) the row of its cluster that stays: itself, or the cluster's first.

    `read_key(name)` gives a column of `near_keys` for all rows; `read_texts(rows)` the texts of some, in that order; it
    is asked twice at most, for all pairs at once, so what it returns had better not lie in memory.
    The bands are sorted on `workers` threads.
    """
    bits = np.empty((rows, 2), np.uint64)
    for i in range(2):
        bits[:, i] = read_key(f"bits_{i}")
    least = _least_agreement(threshold)
    root: Rows = np.arange(rows, dtype=rows_kind(rows))
    judged = np.zeros(0, np.int64)
    for pairs_of in (_first_pairs, _window_pairs):
        bands = (read_key(f"band_{i:02d}") for i in range(BANDS))
        found: list[I64] = list(in_threads(partial(pairs_of, bits=bits, least=least, root=root), bands, workers))
        pair = np.setdiff1d(distinct(np.concatenate(found)), judged, assume_unique=True)
        judged = pair
        pairs = np.column_stack([pair // max(rows, 1), pair % max(rows, 1)])
        root = _joined(root, pairs[verify(pairs, read_texts, threshold)])
    return root


def _least_agreement(threshold: float) -> int:
    """Return in how many of the lowest bits two texts at the threshold agree at least, but for one pair in 30,000."""
    share = (1 + threshold) / 2
    return math.floor(MINIMA * share - 4 * math.sqrt(MINIMA * share * (1 - share)))


def _alike_bits(a: I64, b: I64, bits: U64, least: int) -> npt.NDArray[np.bool_]:
    differing = np.bitwise_count(bits[a] ^ bits[b]).sum(axis=1)
    alike: npt.NDArray[np.bool_] = differing <= MINIMA - least
    return alike


def _buckets(band: U32) -> tuple[I64, U32]:
    """Return the rows that share their key with another row, bucket by bucket and best first, and the keys of those."""
    packed = with_places(band)
    key = packed.view(np.uint32)[1::2]
    inside = np.zeros(len(band), bool)
    same = key[1:] == key[:-1]
    inside[1:] = same
    inside[:-1] |= same
    shared = packed[inside]
    return (shared & np.uint64(2**32 - 1)).astype(np.int64), (shared >> np.uint64(32)).astype(np.uint32)


def _first_pairs(band: U32, bits: U64, least: int, root: Rows) -> I64:
    """Return pairs (first row of a bucket, another of it) that may be alike, as `first * rows + other`."""
    order, key = _buckets(band)
    new = np.ones(len(order), bool)
    new[1:] = key[1:] != key[:-1]
    first = order[np.flatnonzero(new)[np.cumsum(new) - 1]] if len(order) else order
    first, other = first[~new], order[~new]
    alike = _alike_bits(first, other, bits, least)
    pair: I64 = first[alike] * len(root) + other[alike]
    return pair


def _window_pairs(band: U32, bits: U64, least: int, root: Rows) -> I64:
    """Return pairs of rows at most WINDOW places apart in a bucket, of two clusters so far, that may be alike."""
    order, key = _buckets(band)
    at = np.arange(len(order))
    found = [np.zeros(0, np.int64)]
    for apart in range(1, WINDOW + 1):
        at = at[at + apart < len(order)]
        at = at[key[at] == key[at + apart]]
        a, b = order[at], order[at + apart]
        open_pair = root[a] != root[b]
        a, b = a[open_pair], b[open_pair]
        alike = _alike_bits(a, b, bits, least)
        found.append(a[alike] * len(root) + b[alike])
    return np.concatenate(found)


def _joined(root: Rows, pairs: I64) -> Rows:
    """Return the first row of each row's component, once the rows of each pair are in one component.

    Roots are hooked onto the smaller one and paths cut short until nothing changes (Shiloach and Vishkin 1982).
    """
    root = root.copy()
    while True:
        a, b = root[pairs[:, 0]], root[pairs[:, 1]]
        apart = a != b
        if not apart.any():
            return root
        np.minimum.at(root, np.maximum(a, b)[apart], np.minimum(a, b)[apart])
        while (root[root] != root).any():
            root = root[root]


def verify(pairs: I64, read_texts: Callable[[I64], Sequence[str]], threshold: float) -> npt.NDArray[np.bool_]:
    """Return which pairs (shape (pairs, 2), sorted by the first) are alike, turn by turn; TURN stands between turns."""
    asked = distinct(pairs.reshape(-1))
    texts = read_texts(asked)  # of all pairs at once: in their order, each batch would need nearly every chunk again
    parts = [pairs[start : start + _BATCH] for start in range(0, len(pairs), _BATCH)]
    return np.array([alike for part in parts for alike in _verified(part, asked, texts, threshold)], bool)


def _verified(pairs: I64, asked: I64, texts: Sequence[str], threshold: float) -> list[bool]:
    """Return which of some pairs are alike, all their 5-grams in memory at once; half at a time where they are many."""
    rows, place = np.unique(pairs, return_inverse=True)
    found = [texts[at] for at in np.searchsorted(asked, rows).tolist()]
    if len(pairs) > 1 and sum(map(len, found)) > _CHARS:
        del found
        middle = len(pairs) // 2
        halves = pairs[:middle], pairs[middle:]
        return [alike for half in halves for alike in _verified(half, asked, texts, threshold)]
    turns = [text.split(TURN) for text in found]
    sets = _shingle_sets([turn for row in turns for turn in row])
    first = np.cumsum([0, *map(len, turns)])
    return [
        len(turns[a]) == len(turns[b])
        and all(
            one == two or _is_alike(one, two, sets[first[a] + t], sets[first[b] + t], threshold)
            for t, (one, two) in enumerate(zip(turns[a], turns[b], strict=True))
        )
        for a, b in place.reshape(-1, 2).tolist()
    ]


def _shingle_sets(texts: Sequence[str], step: int = 4000) -> list[U32]:
    """Return each text's distinct 5-gram hashes, sorted (32 bits: for a verification, not for a key)."""
    sets: list[U32] = []
    for start in range(0, len(texts), step):
        hash_G, offset_R = TextBatch(list(texts[start : start + step])).shingles(SHINGLE)
        row_G = np.repeat(np.arange(len(offset_R) - 1, dtype=np.uint64), np.diff(offset_R))
        pair = distinct((row_G << np.uint64(32)) | (hash_G & np.uint64(0xFFFFFFFF)))
        bounds = np.searchsorted(pair, np.arange(1, len(offset_R) - 1, dtype=np.uint64) << np.uint64(32))
        sets += np.split(pair.astype(np.uint32), bounds)
    return sets


def _is_alike(one: str, two: str, a: U32, b: U32, threshold: float) -> bool:
    """Return whether two turns that differ are alike; `a` and `b` are their 5-grams."""
    if min(len(one), len(two)) < SHORT:
        if _CODE.findall(one) != _CODE.findall(two):
            return False
        return SequenceMatcher(None, normalise(one), normalise(two), autojunk=False).ratio() >= (1 + threshold) / 2
    small, large = sorted((len(a), len(b)))
    return small >= threshold * large and jaccard(a, b) >= threshold


def jaccard(a: U32, b: U32) -> float:
    """Return the Jaccard similarity of two sets given as sorted distinct arrays (1 for two empty ones)."""
    if not len(a) and not len(b):
        return 1.0
    both = np.concatenate([a, b])
    both.sort(kind="stable")  # merges two sorted runs
    shared = int((both[1:] == both[:-1]).sum())
    return shared / (len(a) + len(b) - shared)
