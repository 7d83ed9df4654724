"""Exact and near duplicates: keys in the map pass, clusters in the plan pass.

Exact: the same text up to Unicode width, case and blanks (a 64-bit hash; at 10 million rows the chance that any two
different texts collide is below 1e-5). Near: MinHash over character 5-grams (Broder 1997), 125 permutations in 25 bands of
5: two texts of Jaccard similarity 0.75 meet in some band with probability 0.999, of 0.3 with 0.06. Every pair that meets is
then *verified* with the true Jaccard similarity of its 5-grams, so a band alone never drops a row. Characters and not
words, since Chinese has no blanks between words (word shingles find 29 % of the near-duplicates, these 99.9 %;
research/curation.md C1).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from steel_data.errors import InputError
from steel_data.text import TextBatch, mix64

U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

SHINGLE = 5
BANDS, BAND_ROWS = 25, 5
VERSION = "dedup-1"
_SEED = 42  # of the permutations; not the recipe's: which rows are alike does not depend on the experiment
_ROUNDS = 4  # how often the rest of a band's bucket that is unlike its first row is compared among itself
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
    parent = np.arange(rows)
    groups: list[I64] = []
    seen: set[bytes] = set()
    for i in range(BANDS):
        for group in _buckets(read_bands(i)):
            key = group.tobytes()
            if key not in seen:  # the same rows meet in most of their bands
                seen.add(key)
                groups.append(group)
    for _ in range(_ROUNDS):
        pairs = _star_pairs(groups, parent)
        if not len(pairs):
            break
        alike = verify(pairs, read_texts, threshold)
        for a, b in pairs[alike].tolist():
            _union(parent, a, b)
        groups = [rest for rest in (_unlike(group, parent) for group in groups) if len(rest) > 1]
    return np.array([_find(parent, row) for row in range(rows)], np.int64) if rows else parent


def _buckets(band: U32) -> list[I64]:
    """Return the groups (ascending row numbers) of two or more rows with one band hash."""
    order = np.argsort(band, kind="stable")
    values = band[order]
    starts = (
        np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]])) if len(order) else np.zeros(0, np.int64)
    )
    ends = np.append(starts[1:], len(order))
    return [order[s:e] for s, e in zip(starts.tolist(), ends.tolist(), strict=True) if e - s > 1]


def _star_pairs(groups: list[I64], parent: I64) -> I64:
    """Return the distinct pairs (first of group, other) that are not yet in one cluster, shape (pairs, 2)."""
    pairs = []
    for group in groups:
        root = _find(parent, int(group[0]))
        others = [row for row in group[1:].tolist() if _find(parent, row) != root]
        if others:
            pairs.append(np.column_stack([np.full(len(others), group[0]), np.array(others, np.int64)]))
    return np.unique(np.concatenate(pairs), axis=0) if pairs else np.zeros((0, 2), np.int64)


def _unlike(group: I64, parent: I64) -> I64:
    root = _find(parent, int(group[0]))
    return np.array([row for row in group[1:].tolist() if _find(parent, row) != root], np.int64)


def _find(parent: I64, row: int) -> int:
    while parent[row] != row:
        parent[row] = parent[parent[row]]
        row = int(parent[row])
    return row


def _union(parent: I64, a: int, b: int) -> None:
    a, b = _find(parent, a), _find(parent, b)
    parent[max(a, b)] = min(a, b)


def verify(pairs: I64, read_texts: Callable[[I64], Sequence[str]], threshold: float) -> npt.NDArray[np.bool_]:
    """Return which pairs (shape (pairs, 2), sorted by the first) have a true Jaccard similarity of at least `threshold`."""
    alike = np.zeros(len(pairs), bool)
    start = 0
    while start < len(pairs):
        stop = min(len(pairs), start + _BATCH // 2)
        part = pairs[start:stop]
        rows = np.unique(part)
        sets = _shingle_sets(read_texts(rows))
        place = {row: i for i, row in enumerate(rows.tolist())}
        for k, (a, b) in enumerate(part.tolist()):
            alike[start + k] = jaccard(sets[place[a]], sets[place[b]]) >= threshold
        start = stop
    return alike


def _shingle_sets(texts: Sequence[str], step: int = 4000) -> list[U32]:
    """Return each text's distinct 5-gram hashes, sorted (32 bits: for a verification, not for a key)."""
    sets: list[U32] = []
    for start in range(0, len(texts), step):
        hash_G, offset_R = TextBatch(list(texts[start : start + step])).shingles(SHINGLE)
        short = hash_G.astype(np.uint32)
        bounds = offset_R.tolist()
        sets += [np.unique(short[a:b]) for a, b in zip(bounds, bounds[1:], strict=False)]
    return sets


def jaccard(a: U32, b: U32) -> float:
    """Return the Jaccard similarity of two sets given as sorted distinct arrays (1 for two empty ones)."""
    if not len(a) and not len(b):
        return 1.0
    both = len(np.intersect1d(a, b, assume_unique=True))
    return both / (len(a) + len(b) - both)
