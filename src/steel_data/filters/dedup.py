"""Exact and near duplicates: keys in the map pass, clusters in the plan pass.

Exact: the same text up to Unicode width, case and blanks (a 64-bit hash; at 10 million rows the chance that any two
different texts collide is below 1e-5). Near: MinHash over character 5-grams (Broder 1997), 125 permutations in 25 bands
of 5: two texts of Jaccard similarity 0.75 meet in some band with probability 0.999, of 0.3 with 0.06. Every pair that
meets is then *verified* with the true Jaccard similarity of its 5-grams, so a band alone never drops a row. Characters
and not words, since Chinese has no blanks between words (word shingles find 29 % of the near-duplicates, these 99.9 %;
research/curation.md C1).

A cluster is a connected component of verified pairs; its best row (`keep`) stays. The rows that meet in a band are a
*bucket*. Each is compared with its best row; those unlike it among themselves with the best of them, and so on for at
most ROUNDS rounds, so that a template repeated 50,000 times costs 50,000 comparisons a round and not 1.25 billion.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from steel_data.errors import InputError
from steel_data.text import TextBatch, distinct, mix64

U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

SHINGLE = 5
BANDS, BAND_ROWS = 25, 5
VERSION = "dedup-1"  # of the keys
_SEED = 42  # of the permutations; not the recipe's: which rows are alike does not depend on the experiment
ROUNDS = 24  # how often what is left of a bucket, unlike its best rows so far, is compared with the best of the rest
_BATCH = 200_000  # rows whose shingles are held at once while pairs are verified (about 220 MB)


@dataclass(frozen=True, kw_only=True)
class Dedup:
    """Drop duplicates; of each cluster one row stays.

    near: also drop near-duplicates (default), not only equal texts.
    threshold: Jaccard similarity of character 5-grams from which two texts are near-duplicates. Default 0.75.
    keep: which row of a cluster stays: `first` (source order in the recipe, then file, then row) or `longest`.
    """

    near: bool = True
    threshold: float = 0.75
    keep: Literal["first", "longest"] = "first"

    def __post_init__(self) -> None:
        """Refuse a threshold that the bands cannot serve."""
        if not 0.5 <= self.threshold <= 1:
            raise InputError(f"filter 'dedup': threshold = {self.threshold}. Right: 0.5 to 1 (0.75 by default).")

    def compute(self, batch: TextBatch) -> dict[str, Any]:
        """Return the narrow columns of a chunk: `exact` (u64) and, for near-duplicates, `band_00` … `band_24` (u32)."""
        columns: dict[str, Any] = {"exact": batch.fingerprints()}
        if self.near:
            columns |= {f"band_{i:02d}": band for i, band in enumerate(bands(batch))}
        return columns


def bands(batch: TextBatch) -> list[U32]:
    """Return BANDS arrays (one hash a row): rows that share an entry of one of them may be near-duplicates."""
    from rensa import RMinHash

    if not batch.rows:
        return [np.zeros(0, np.uint32)] * BANDS
    hash_G, offset_R = batch.shingles(SHINGLE)
    digest = RMinHash.digest_matrix_from_flat_token_hashes(hash_G, offset_R.astype(np.uint64), BANDS * BAND_ROWS, _SEED)
    matrix = np.array(digest.to_rows(), dtype=np.uint64).reshape(batch.rows, BANDS, BAND_ROWS)
    folded = np.zeros((batch.rows, BANDS), np.uint64)
    for i in range(BAND_ROWS):
        folded = mix64(folded * np.uint64(0x9E3779B97F4A7C15) + matrix[:, :, i] + np.uint64(1))
    return [np.ascontiguousarray(folded[:, i]).astype(np.uint32) for i in range(BANDS)]


def exact_winners(exact: U64) -> I64:
    """Return for each row (best first) the index of the first row with the same key: itself where it stays."""
    order = np.argsort(exact, kind="stable")
    new = np.ones(len(order), bool)
    new[1:] = exact[order][1:] != exact[order][:-1]
    first = order[np.flatnonzero(new)] if len(order) else order
    winner = np.empty(len(order), np.int64)
    winner[order] = first[np.cumsum(new) - 1] if len(order) else first
    return winner


def near_winners(
    read_bands: Callable[[int], U32],
    read_texts: Callable[[I64], Sequence[str]],
    rows: int,
    threshold: float,
) -> I64:
    """Return for each of `rows` rows (best first) the row of its cluster that stays: itself, or the cluster's first.

    `read_bands(i)` gives band i of all rows; `read_texts(rows)` the texts of some, in the order asked. A cluster is a
    connected component of verified pairs.
    """
    root = np.arange(rows)
    waiting = np.full(rows, (1 << BANDS) - 1, np.uint32)  # bit i: not yet compared with all the best of its bucket i
    seen = np.zeros(0, np.int64)
    for _ in range(ROUNDS):
        found = [_star_pairs(read_bands(i), waiting, i, root) for i in range(BANDS)]
        pair = distinct(np.concatenate(found))
        pair = pair[~np.isin(pair, seen)]
        if not len(pair):
            break
        pairs = np.column_stack([pair // rows, pair % rows])
        root = _joined(root, pairs[verify(pairs, read_texts, threshold)])
        seen = np.concatenate([seen, pair])
    return root


def _star_pairs(band: U32, waiting: U32, i: int, root: I64) -> I64:
    """Return pairs (first row of a bucket, another of it that waits) as `first * rows + other`.

    Takes the rows out of `waiting` that need no further look: the first of each bucket, and those of its cluster.
    """
    rows = np.flatnonzero(waiting & np.uint32(1 << i))
    order = rows[np.argsort(band[rows], kind="stable")]
    new = np.ones(len(order), bool)
    new[1:] = band[order][1:] != band[order][:-1]
    first = order[np.flatnonzero(new)[np.cumsum(new) - 1]] if len(order) else order
    done = root[first] == root[order]
    waiting[order[done]] &= np.uint32(~(1 << i) & 0xFFFFFFFF)
    pair: I64 = first[~done] * len(root) + order[~done]
    return pair


def _joined(root: I64, pairs: I64) -> I64:
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
    """Return which pairs (shape (pairs, 2), sorted by the first) have a Jaccard similarity of at least `threshold`."""
    alike = np.zeros(len(pairs), bool)
    for start in range(0, len(pairs), _BATCH // 2):
        part = pairs[start : start + _BATCH // 2]
        rows, place = np.unique(part, return_inverse=True)
        sets = _shingle_sets(read_texts(rows))
        for k, (a, b) in enumerate(place.reshape(-1, 2).tolist()):
            alike[start + k] = _is_alike(sets[a], sets[b], threshold)
    return alike


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


def _is_alike(a: U32, b: U32, threshold: float) -> bool:
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
