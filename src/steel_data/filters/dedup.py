"""Exact and near duplicates: keys in the map pass, clusters in the plan pass.

Exact: the same conversation as it is, by its id: code and formulas differ by a letter, a blank or a case. Near: MinHash
over character 5-grams (Broder 1997), 125 permutations in 25 bands of 5: two texts of Jaccard similarity 0.75 meet in
some band with probability 0.999, of 0.3 with 0.06. Every pair that meets is then *verified*, turn by turn: the question
and the answer must both be alike, so that a shared system prompt, passage or template makes no duplicates. Two turns
are alike when the true Jaccard similarity of their 5-grams is at least the threshold; of short ones, which one
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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from steel_data.benchmarks.index import TURN
from steel_data.engine import in_threads
from steel_data.errors import InputError
from steel_data.filters.alike import SHINGLE, alike_pairs
from steel_data.row.text import TextBatch, distinct, mix64, ranges, with_places

U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
Rows = npt.NDArray[np.signedinteger[Any]]  # numbers of rows, of the smallest type that holds them

# Calls `look(band, its key, bits_0)` for each band, wherever that is, and yields what it returns, in the bands' order.
OverBands = Callable[[Callable[[int, U32, U64], Any]], Iterator[Any]]


def band_name(band: int) -> str:
    """Return the name of a band's column."""
    return f"band_{band:02d}"


BANDS, BAND_ROWS = 25, 5
MINIMA = BANDS * BAND_ROWS
BITS = ["bits_0", "bits_1"]
NEAR_KEYS = [*(band_name(i) for i in range(BANDS)), *BITS]  # the columns of `near_keys`
VERSION = "dedup-3"  # of the keys
_SEED = 42  # of the permutations; not the recipe's: which rows are alike does not depend on the experiment
WINDOW = 24  # rows of its bucket, right before it, with which a row is compared
_PART = 1000  # rows whose minima are made at once


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
    keys: dict[str, Any] = {band_name(i): folded[:, i].astype(np.uint32) for i in range(BANDS)}
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
    for order, _ in _buckets(exact):
        order = order[np.argsort(exact[order], kind="stable")]  # few: rows that share half of their key
        new = _begins(exact[order])
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
    over_bands: OverBands | None = None,
) -> Rows:
    """Return for each of `rows` rows (best first) the row of its cluster that stays: itself, or the cluster's first.

    `read_key(name)` gives a column of `near_keys` for all rows, to several threads at once. `read_texts(rows)` gives
    the texts of some, in that order; it is asked twice at most, for all pairs at once, so what it returns had better
    not lie in memory. `workers` threads. `over_bands`: what looks through the bands instead of these threads; then
    `read_key` is asked for the bits alone.
    """
    over_bands = over_bands or partial(_in_threads, read_key, workers)
    most = MINIMA - _least_agreement(threshold)
    crowds = np.zeros((BANDS, (rows + 7) // 8), np.uint8)  # a bit for each row that meets two others in a band

    def first() -> Iterator[I64]:
        for band, (pair, crowd) in enumerate(over_bands(partial(_first_pairs, most=most))):
            crowds[band] = crowd
            yield pair

    pair = _met(first(), read_key, rows, most)
    root: Rows = np.arange(rows, dtype=rows_kind(rows))
    root = _joined(root, _verified(pair, read_texts, rows, threshold, workers))
    if crowds.any():
        more = over_bands(partial(_window_pairs, most=most, crowds=crowds, root=root))
        pair = np.setdiff1d(_met(more, read_key, rows, most), pair, assume_unique=True)
        root = _joined(root, _verified(pair, read_texts, rows, threshold, workers))
    return root


def _in_threads(
    read_key: Callable[[str], npt.NDArray[Any]], workers: int, look: Callable[[int, U32, U64], Any]
) -> Iterator[Any]:
    """Yield what is found in each band, of which half of the bits are in memory meanwhile."""
    bits = read_key("bits_0")
    yield from in_threads(lambda band: look(band, read_key(band_name(band)), bits), range(BANDS), workers)


def _met(found: Iterator[I64], read_key: Callable[[str], npt.NDArray[Any]], rows: int, most: int) -> I64:
    """Return the pairs (`first * rows + other`, sorted) that are `found` in some band and alike by their bits."""
    pair = np.zeros(0, np.int64)
    # joined one after another: alike rows meet in nearly every band, and all together were 25 times as many pairs
    for more in found:
        pair = distinct(np.concatenate([pair, more]))
    a, b = pair // max(rows, 1), pair % max(rows, 1)
    differing = _differing(a, b, read_key("bits_0")) + _differing(a, b, read_key("bits_1"))
    return pair[differing <= most]


def _verified(pair: I64, read_texts: Callable[[I64], Sequence[str]], rows: int, threshold: float, workers: int) -> I64:
    """Return those of some pairs that are alike, shape (pairs, 2)."""
    pairs = np.column_stack([pair // max(rows, 1), pair % max(rows, 1)])
    asked = distinct(pairs.reshape(-1))
    texts = read_texts(asked)  # of all pairs at once: in their order, each batch would need nearly every chunk again
    return pairs[alike_pairs(pairs, asked, texts, threshold, TURN, workers)]


def _least_agreement(threshold: float) -> int:
    """Return in how many of the lowest bits two texts at the threshold agree at least, but for one pair in 30,000."""
    share = (1 + threshold) / 2
    return math.floor(MINIMA * share - 4 * math.sqrt(MINIMA * share * (1 - share)))


def _differing(a: I64, b: I64, bits: U64) -> npt.NDArray[np.uint8]:
    differing: npt.NDArray[np.uint8] = np.bitwise_count(bits[a] ^ bits[b])
    return differing


def _buckets(key: U32 | U64) -> Iterator[tuple[I64, U32]]:
    """Yield the rows that share their key with another row, bucket by bucket and best first, and the keys of those.

    Of a key of 64 bits only the upper half is looked at. Where there are many rows, those of a range of keys at a time:
    a sixteenth of them is in memory.
    """
    for rows in ranges(key):
        packed = with_places((key[rows] >> (8 * key.dtype.itemsize - 32)).astype(np.uint32), rows)
        inside = np.zeros(len(rows), bool)
        same = packed[1:] >> 32 == packed[:-1] >> 32
        inside[1:] = same
        inside[:-1] |= same
        shared = packed[inside]
        yield (shared & np.uint64(2**32 - 1)).astype(np.int64), (shared >> 32).astype(np.uint32)


def _begins(key: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return at which entries of a sorted array another value begins."""
    new = np.ones(len(key), bool)
    new[1:] = key[1:] != key[:-1]
    return new


def _first_pairs(_: int, key: U32, bits: U64, most: int) -> tuple[I64, npt.NDArray[np.uint8]]:
    """Return pairs (first row of a bucket, another of it) that may be alike, as `first * rows + other`.

    Beside them a bit for each row: whether it is one of three or more in a bucket.
    """
    found = [np.zeros(0, np.int64)]
    crowd = np.zeros(len(key), bool)
    for order, own in _buckets(key):
        new = _begins(own)
        start = np.flatnonzero(new)
        size = np.diff(start, append=len(order))
        crowd[order[np.repeat(size > 2, size)]] = True
        first, other = np.repeat(order[start], size - 1), order[~new]
        alike = _differing(first, other, bits) <= most
        found.append(first[alike] * len(key) + other[alike])
    return distinct(np.concatenate(found)), np.packbits(crowd)


def _window_pairs(band: int, key: U32, bits: U64, most: int, crowds: npt.NDArray[np.uint8], root: Rows) -> I64:
    """Return pairs of rows at most WINDOW places apart in a bucket, of two clusters so far, that may be alike.

    Only rows of `crowds` are looked at: what is to be said of a bucket of two is said.
    """
    found = [np.zeros(0, np.int64)]
    crowd = np.flatnonzero(np.unpackbits(crowds[band], count=len(key)))
    for place, own in _buckets(key[crowd]):
        order = crowd[place]
        at = np.arange(len(order))
        for apart in range(1, WINDOW + 1):
            at = at[at + apart < len(order)]
            at = at[own[at] == own[at + apart]]
            a, b = order[at], order[at + apart]
            open_pair = root[a] != root[b]
            a, b = a[open_pair], b[open_pair]
            alike = _differing(a, b, bits) <= most
            found.append(a[alike] * len(key) + b[alike])
    return distinct(np.concatenate(found))


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
