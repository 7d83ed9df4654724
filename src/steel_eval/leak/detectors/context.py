"""CoDeC: does it help a model to read other items of the benchmark first? (apart: a detector)

Examples of a benchmark that it never saw teach a model how its items look, and the next one becomes likelier; who has
learnt an item by heart knows more than they can tell, and is disturbed. Published score of a benchmark: the share of
its items whose mean log-probability falls when samples of the same benchmark stand before them (Zawalski et al. 2025,
arXiv 2510.27055). An item's own score here is that fall, in nats a token of question and options.

Access: log-probabilities of the item's tokens, alone and in context. Cost: a second pass of the item and what stands
before it. Items of one subject have the same samples before them (an item among them, or near one of them, has a second
set), so that a token trie holds each set once: three samples before 24 items a subject were 0.9 times the tokens of the
first pass (what the items share is read once too), not four times.

Where this differs from the paper. Samples are drawn from all measured items of the subject, tested and controls alike,
so that who was tested changes nobody's context, and the exchange test stays exact; the paper draws them from the
benchmark. The share alone is no finding, as no bare level is: it differs between models and benchmarks that none saw
(arXiv 2606.03305 found CoDeC coarse, and wrong where distributions shift), so it too is compared with the base and the
controls.
"""

from collections.abc import Sequence

import numpy as np
import xxhash
from numpy.typing import NDArray

from steel_data.benchmarks.clusters import cluster_names
from steel_data.benchmarks.items import Item
from steel_eval.ask.trie import Request
from steel_eval.leak.texts import ItemText

Floats = NDArray[np.float64]


def samples(items: Sequence[Item], most: int) -> list[tuple[int, ...]]:
    """Return for each item the numbers of those that stand before it: at most `most` of its subject, none near it.

    The first by a hash of their names are one set and the next as many the other; an item takes the first set that it
    is neither in nor near. Empty where its subject has too few.
    """
    names, by_subject = cluster_names(items), dict[str, list[int]]()
    for i, item in enumerate(items):
        by_subject.setdefault(item.subject, []).append(i)
    found: list[tuple[int, ...]] = [()] * len(items)
    for mine in by_subject.values():
        order = sorted(mine, key=lambda i: xxhash.xxh3_64_intdigest(f"context\x1f{items[i].item}".encode()))
        size = min(most, len(order) // 2)
        for i in mine:
            sets = [tuple(order[:size]), tuple(order[size : 2 * size])]
            found[i] = next((s for s in sets if names[i] not in {names[other] for other in s}), ())
    return found


def in_context(
    texts: Sequence[ItemText], before: Sequence[Sequence[int]], longest: int, bos: int | None
) -> list[Request | None]:
    """Return for each item its tokens behind the texts of `before`, scored where the item stands; None without room.

    `longest`: tokens of the model's context; samples that are too long for it are left out, the last first. `bos`: a
    text that begins with this token, and has it nowhere else, loses it where another stands before it.
    """
    plain = [text.tokens[1:] if _begins(text.tokens, bos) else text.tokens for text in texts]
    requests: list[Request | None] = []
    for text, own, others in zip(texts, plain, before, strict=True):
        cut = len(text.tokens) - len(own)
        first, stop = max(1, text.item[0]) - cut, text.item[1] - cut
        sets = ([texts[others[0]].tokens, *(plain[k] for k in others[1:n])] for n in range(len(others), 0, -1))
        joined = ([token for part in parts for token in part] for parts in sets)
        context = next((c for c in joined if len(c) + len(own) <= longest), None)
        requests.append(None if context is None else Request([*context, *own[:stop]], len(context) + first))
    return requests


def _begins(tokens: Sequence[int], bos: int | None) -> bool:
    return bos is not None and tokens[0] == bos and bos not in tokens[1:]


def lost(alone_I: Floats, summed_I: Floats, requests: Sequence[Request | None]) -> tuple[Floats, Floats]:
    """Return by how much each item's mean log-probability falls in context (nats a token), and 1 where it falls.

    `alone_I`: the mean without context; `summed_I`: the sum in context. NaN where an item has no context.
    """
    size_I = np.array([np.nan if r is None else len(r.tokens) - r.start for r in requests], np.float64)
    fall_I = alone_I - summed_I / size_I
    return fall_I, np.where(np.isnan(fall_I), np.nan, (fall_I > 0).astype(np.float64))
