"""Data selection with importance resampling (DSIR, Xie et al. 2023, arXiv 2302.03169).

Features: unigrams and bigrams of words (row/text.py: a Han character, or a run of other letters), hashed into 10,000
buckets. A row's weight is the likelihood of its features under the target's bag of n-grams over that under the raw
rows'; rows are resampled without replacement by the Gumbel top-k trick. Two things are ours. The noise is a keyed hash
of the row's id, so that the choice is the same whatever runs it and a smaller one lies inside a larger one. And a tenth
of the target's bag is the raw rows' own: a development set is small, and without that a row of n-grams that are rare
everywhere would look like the target (the authors add 1e-8 to each bucket, of millions of documents). Logarithms are
summed as whole numbers of 2^-20, so that no order of sums matters.

Legend of array suffixes: _R one entry a row, _G one an n-gram, _B one a bucket.
"""

from collections.abc import Iterable
from tempfile import TemporaryFile

import numpy as np
import numpy.typing as npt

from steel_data.row.table import texts_of
from steel_data.row.text import TextBatch
from steel_data.selection.candidates import F64, I64, Candidates

BUCKETS = 10_000
_RAW = 0.1  # share of the raw rows' bag in the target's
_UNIT = 2.0**20
_PART_CHARS = 1_000_000  # of one TextBatch


def importance(candidates: Candidates, target: Iterable[str]) -> F64:
    """Return the log importance weight of each row (R)."""
    wanted_B = np.zeros(BUCKETS, np.int64)
    for bucket_G, _ in _features(list(target)):
        wanted_B += np.bincount(bucket_G, minlength=BUCKETS)
    raw_B = np.zeros(BUCKETS, np.int64)
    sizes: list[tuple[I64, I64]] = []  # rows of the frame, n-grams of each
    with TemporaryFile() as aside:
        for rows, texts in candidates.read(texts_of):
            place = 0
            for bucket_G, count_R in _features(texts):
                raw_B += np.bincount(bucket_G, minlength=BUCKETS)
                aside.write(bucket_G.tobytes())
                sizes.append((rows[place : place + len(count_R)], count_R))
                place += len(count_R)
        ratio_B = (wanted_B / max(int(wanted_B.sum()), 1)) / (np.maximum(raw_B, 1) / max(int(raw_B.sum()), 1))
        whole_B = np.rint(np.log((1 - _RAW) * ratio_B + _RAW) * _UNIT).astype(np.int64)
        weight_R = np.zeros(len(candidates.ids), np.int64)
        aside.seek(0)
        for rows, count_R in sizes:
            bucket_G = np.frombuffer(aside.read(2 * int(count_R.sum())), np.uint16)
            reached = np.concatenate([[0], np.cumsum(whole_B[bucket_G])])
            end_R = np.cumsum(count_R)
            weight_R[rows] = reached[end_R] - reached[end_R - count_R]
    return weight_R / _UNIT


def gumbel(key_R: npt.NDArray[np.uint64]) -> F64:
    """Return standard Gumbel noise, made of keyed hashes."""
    uniform_R = ((key_R >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return -np.log(-np.log(uniform_R))


def _features(texts: list[str]) -> Iterable[tuple[npt.NDArray[np.uint16], I64]]:
    """Yield, part by part, the buckets of all rows' n-grams one after another, and how many each row has."""
    start = chars = 0
    for end, text in enumerate(texts, start=1):
        chars += len(text)
        if chars < _PART_CHARS and end < len(texts):
            continue
        batch = TextBatch(texts[start:end])
        hash_T, offset_R = batch.tokens
        count_R = np.diff(offset_R)
        pair_G, row_G = batch.token_grams(2)
        row = np.concatenate([np.repeat(np.arange(batch.rows), count_R), row_G])
        bucket = (np.concatenate([hash_T, pair_G]) % np.uint64(BUCKETS)).astype(np.uint16)
        order = np.argsort(row, kind="stable")
        yield bucket[order], np.bincount(row, minlength=batch.rows).astype(np.int64)
        start, chars = end, 0
