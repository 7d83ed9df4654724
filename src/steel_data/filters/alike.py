"""Which pairs of texts are near-duplicates, turn by turn: the verification of what met in a band (filters/dedup.py).

Equal turns are not cut into 5-grams, what a bound settles is not counted, and thousands of pairs are counted at once.

Legend of array suffixes: _T one entry a turn that is looked at, _G one a 5-gram, _P one a pair of turns.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import partial
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from steel_data.engine import in_threads
from steel_data.row.text import TextBatch, normalise

U32 = npt.NDArray[np.uint32]
I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

SHINGLE = 5
SHORT = 64  # characters: below it a turn is compared letter by letter
# What a letter changes in a short text: words that touch a sign of code or mathematics or hold a digit, indentation.
_CODE = re.compile(
    r"(?:(?<![\w.])[\w.]*)?[(){}\[\]=<>+*/^\\|&%$#@~\d²³¹⁰-₟][\w.(){}\[\]=<>+*/^\\|&%$#@~-]*|\n[ \t]+(?=\S)"
)
_SIGN = re.compile(r"[(){}\[\]=<>+*/^\\|&%$#@~\d²³¹⁰-₟]|\n[ \t]")  # without one of these there is nothing of that
_PAIRS, _CHARS = 2_000, 2_000_000  # pairs verified at once, and characters whose 5-grams are held (20 MB)


@dataclass(frozen=True)
class _Batch:
    """Some pairs, as places in `texts`."""

    pairs: I64  # (P, 2)
    texts: list[str]


def alike_pairs(pairs: I64, asked: I64, texts: Sequence[str], threshold: float, turn: str, workers: int = 1) -> Bool:
    """Return which pairs (shape (P, 2), sorted by the first) are alike, in threads.

    `asked`: the distinct members of the pairs, ascending, whose `texts` are read a batch at a time; `turn` stands
    between the turns of a text.
    """
    batches = _batches(pairs, asked, texts)
    found = in_threads(partial(_alike, threshold=threshold, turn=turn), batches, workers)
    return np.concatenate([np.zeros(0, bool), *found])


def _batches(pairs: I64, asked: I64, texts: Sequence[str]) -> Iterator[_Batch]:
    """Yield the pairs in parts of few characters."""
    for start in range(0, len(pairs), _PAIRS):
        part = pairs[start : start + _PAIRS]
        rows, place = np.unique(part, return_inverse=True)
        found = [texts[at] for at in np.searchsorted(asked, rows).tolist()]
        yield from _halved(_Batch(place.reshape(-1, 2), found))


def _halved(batch: _Batch) -> Iterator[_Batch]:
    """Yield a batch, in halves as long as it has too many characters."""
    if len(batch.pairs) == 1 or sum(map(len, batch.texts)) <= _CHARS:
        yield batch
        return
    middle = len(batch.pairs) // 2
    for half in (batch.pairs[:middle], batch.pairs[middle:]):
        rows, place = np.unique(half, return_inverse=True)
        yield from _halved(_Batch(place.reshape(-1, 2), [batch.texts[row] for row in rows.tolist()]))


def _alike(batch: _Batch, threshold: float, turn: str) -> Bool:
    """Return which pairs are alike: as many turns, each of them equal, or alike by letters, or by 5-grams."""
    turns = [text.split(turn) for text in batch.texts]
    alike = np.ones(len(batch.pairs), bool)
    long: dict[str, int] = {}  # each long turn that is not settled, and its place
    compared: list[tuple[int, int, int]] = []  # a pair, and the places of two turns of it
    for p, (a, b) in enumerate(batch.pairs.tolist()):
        one, two = turns[a], turns[b]
        differ = [(x, y) for x, y in zip(one, two, strict=False) if x != y]
        alike[p] = len(one) == len(two) and all(
            _alike_by_letters(x, y, threshold) for x, y in differ if min(len(x), len(y)) < SHORT
        )
        if alike[p]:
            for x, y in differ:
                if min(len(x), len(y)) >= SHORT:
                    compared.append((p, long.setdefault(x, len(long)), long.setdefault(y, len(long))))
    if compared:
        pair_P, a_P, b_P = np.array(compared, np.int64).T
        alike[pair_P[~_alike_by_grams(list(long), a_P, b_P, threshold)]] = False
    return alike


def _alike_by_letters(one: str, two: str, threshold: float) -> bool:
    """Return whether nearly all characters follow in the same order, and all that looks like code is the same."""
    if (_SIGN.search(one) or _SIGN.search(two)) and _CODE.findall(one) != _CODE.findall(two):
        return False
    a, b = normalise(one), normalise(two)
    least, both = (1 + threshold) / 2, len(a) + len(b)
    run = max(_shared_start(a, b), _shared_start(a[::-1], b[::-1]))
    if run and 2.0 * run / both >= least:  # a longest common block is as long at least
        return True
    matcher = SequenceMatcher(None, a, b, autojunk=False)
    return matcher.real_quick_ratio() >= least and matcher.quick_ratio() >= least and matcher.ratio() >= least


def _shared_start(a: str, b: str) -> int:
    """Return how many characters at the beginning are the same."""
    low, high = 0, min(len(a), len(b))
    if a[:high] == b[:high]:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if a[:middle] == b[:middle] else (low, middle)
    return low


def _alike_by_grams(turns: list[str], a_P: I64, b_P: I64, threshold: float) -> Bool:
    """Return of which pairs of turns the Jaccard similarity of the 5-grams reaches the threshold."""
    gram_G, start_T = shingle_sets(turns)
    size_T = np.diff(start_T)
    small_P, large_P = np.minimum(size_T[a_P], size_T[b_P]), np.maximum(size_T[a_P], size_T[b_P])
    alike = small_P >= threshold * large_P
    at = np.flatnonzero(alike)
    sizes = np.stack([size_T[a_P[at]], size_T[b_P[at]]], axis=1).reshape(-1)
    starts = np.stack([start_T[a_P[at]], start_T[b_P[at]]], axis=1).reshape(-1)
    end = np.cumsum(sizes)
    both = gram_G[np.repeat(starts - (end - sizes), sizes) + np.arange(end[-1] if len(end) else 0)]
    border = np.append(0, end[1::2])
    for first, last in pairwise(border.tolist()):
        both[first:last].sort()
    same = np.zeros(len(both) + 1, np.int64)
    same[2:] = np.cumsum(both[1:] == both[:-1])
    # equal neighbours between the first and the last of a pair: those across a border are left out
    shared = same[border[1:]] - same[np.minimum(border[:-1] + 1, border[1:])]
    whole = sizes[::2] + sizes[1::2] - shared
    alike[at] = np.where(whole > 0, shared, 1) / np.maximum(whole, 1) >= threshold
    return alike


def shingle_sets(texts: list[str]) -> tuple[U32, I64]:
    """Return the distinct 5-gram hashes of each text, sorted, one text after another, and where each begins (T + 1).

    32 bits each: for a verification, not for a key.
    """
    hash_G, start_T = TextBatch(texts).shingles(SHINGLE)
    gram_G = hash_G.astype(np.uint32)
    for first, last in pairwise(start_T.tolist()):  # a few hundred each: all at once takes several times as long
        gram_G[first:last].sort()
    new = np.ones(len(gram_G), bool)
    new[1:] = gram_G[1:] != gram_G[:-1]
    new[start_T[:-1][start_T[:-1] < len(gram_G)]] = True
    return gram_G[new], np.append(0, np.cumsum(new))[start_T]
