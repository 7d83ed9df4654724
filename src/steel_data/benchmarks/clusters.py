"""Which items of benchmarks are one: whoever has seen one has as good as seen the others.

Two items are *near* where they share much rare text: the Jaccard similarity of their token 3-grams (question and
options, whatever their order), each 3-gram weighted by its rarity among the items (log of items over holders), is at
least 0.4. On CMMLU and C-Eval that joins rewordings, items that differ in one word, and families of items over one
pattern, and keeps apart what shares a stem such as 下列说法正确的是 only. Items of equal normalised question and set of
options are near too, however short. Clusters are the connected components.

Legend of array suffixes: _G one n-gram of an item, _L one link (pair of items), _I one item.
"""

from collections.abc import Sequence

import numpy as np
import regex

from steel_data.benchmarks.index import COMMON, F64, GRAM, unit_tokens
from steel_data.benchmarks.items import Item
from steel_data.row.text import I64, TextBatch, grams, normalise

NEAR = 0.4


def cluster_key(item: Item) -> str:
    """Return what equal items have in common: the normalised question and the set of normalised options."""
    parts = [_plain(item.question), *sorted({_plain(option) for option in item.options})]
    return "\x1f".join(parts)


def _plain(text: str) -> str:
    return regex.sub(r"[\s\p{P}]+", "", normalise(text)) or normalise(text).strip()


def cluster_names(items: Sequence[Item]) -> list[str]:
    """Return the cluster of each item, in order: its smallest `cluster_key`, so the order of the items means nothing.

    All items that matter must be given at once: two items may be near through a third.
    """
    keys = [cluster_key(item) for item in items]
    leader = list(range(len(items)))

    def find(i: int) -> int:
        while leader[i] != i:
            leader[i] = leader[leader[i]]
            i = leader[i]
        return i

    first: dict[str, int] = {}
    links = [(first.setdefault(key, i), i) for i, key in enumerate(keys)]
    for a, b in [*links, *near_pairs(items)]:
        leader[find(a)] = find(b)
    smallest: dict[int, str] = {}
    for i, key in enumerate(keys):
        root = find(i)
        smallest[root] = min(key, smallest.get(root, key))
    return [smallest[find(i)] for i in range(len(items))]


def near_pairs(items: Sequence[Item]) -> list[tuple[int, int]]:
    """Return the pairs of near items, by their places, the smaller first.

    3-grams that more than `COMMON` items hold link nothing: they are worth little, and would make most of the pairs.
    """
    if len(items) < 2:
        return []
    gram_G, item_G = _grams_of(items)
    held = np.bincount(gram_G)
    weight = np.log((len(items) + 1) / np.maximum(held, 1))
    total_I = np.bincount(item_G, weights=weight[gram_G], minlength=len(items))
    left_L, right_L, shared_L = _links(gram_G, item_G, held, weight)
    pair, inverse_L = np.unique(left_L * len(items) + right_L, return_inverse=True)
    shared = np.bincount(inverse_L, weights=shared_L, minlength=len(pair))
    left, right = pair // len(items), pair % len(items)
    near = shared >= NEAR * (total_I[left] + total_I[right] - shared)
    return list(zip(left[near].tolist(), right[near].tolist(), strict=True))


def _grams_of(items: Sequence[Item]) -> tuple[I64, I64]:
    """Return the distinct (n-gram, item) pairs, n-grams numbered from 0, in order of n-grams, then items.

    An option of fewer than three tokens is its whole run.
    """
    texts = [text for item in items for text in (item.question, *item.options)]
    item_P = np.repeat(np.arange(len(items)), [1 + len(item.options) for item in items])
    batch = TextBatch(texts)
    tokens = unit_tokens(batch, batch.end_R)
    runs = [grams(tokens.hash_T, tokens.piece_T, n, places=True) for n in range(1, GRAM + 1)]
    size_P = np.zeros(len(texts), np.int64)
    for n, (_, at_G) in enumerate(runs, 1):
        size_P[tokens.unit_T[at_G]] = n
    mine = [size_P[tokens.unit_T[at_G]] == n for n, (_, at_G) in enumerate(runs, 1)]
    hash_G = np.concatenate([hash_G[held] for (hash_G, _), held in zip(runs, mine, strict=True)])
    part_G = np.concatenate([tokens.unit_T[at_G[held]] for (_, at_G), held in zip(runs, mine, strict=True)])
    _, number_G = np.unique(hash_G, return_inverse=True)
    pair = np.unique(number_G.astype(np.int64) * len(items) + item_P[part_G])
    return pair // len(items), pair % len(items)


def _links(gram_G: I64, item_G: I64, held: I64, weight: F64) -> tuple[I64, I64, F64]:
    """Return for each n-gram of 2 to COMMON items every pair of them, and the n-gram's weight."""
    start = np.searchsorted(gram_G, np.arange(len(held)))
    none = np.zeros(0, np.int64)
    lefts, rights, weights = [none], [none], [np.zeros(0)]
    for size in range(2, COMMON + 1):
        mine = np.flatnonzero(held == size)
        members = item_G[start[mine][:, None] + np.arange(size)]
        a, b = np.triu_indices(size, 1)
        lefts.append(members[:, a].ravel())
        rights.append(members[:, b].ravel())
        weights.append(np.repeat(weight[mine], len(a)))
    return np.concatenate(lefts), np.concatenate(rights), np.concatenate(weights)
