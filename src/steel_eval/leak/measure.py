"""All model-side scores of one checkpoint on a set of items. Higher always means "rather seen".

Legend: I items, K orders of an item's options.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from steel_data.benchmarks.items import Item
from steel_eval.leak.detectors import completion, min_k
from steel_eval.leak.detectors.permutation import order_requests, order_scores
from steel_eval.leak.passes import TokenScores, mean_logprob, token_scores
from steel_eval.leak.texts import Form, ItemText, item_texts
from steel_eval.score.likelihood import prefix_sharing

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from steel_eval.models import Loaded


Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
ORDERS = 24  # of four options, the most that are permuted


@dataclass(frozen=True)
class Measure:
    """What a table says of one score."""

    name: str
    access: str
    passes: str  # forward passes an item and model; "same": those of the line above


MEASURES = (
    Measure("loss gap: item", "log-probs + base", "1"),
    Measure("reference difference: answer", "log-probs + base", "same"),
    Measure("min-k % 20", "log-probs + base", "same"),
    Measure("min-k %++ 20", "full vocabulary + base", "same"),
    Measure("option completion: greedy", "log-probs + base", "same"),
    Measure("option completion: log-prob", "log-probs + base", "same"),
    Measure("permutation a: published first", "log-probs + base", "k! (trie)"),
    Measure("permutation a: z of published", "log-probs + base", "same"),
    Measure("permutation b: z of the likeliest", "log-probs + base", "same"),
)


@dataclass(frozen=True)
class Measured:
    """Scores (I,) by the name of their measure, NaN where an item has none, and what they cost.

    `tokens_I`: tokens of an item's single pass. `trie_I`: tokens forwarded for its orders (0: not permuted).
    `orders_IK`: log-probabilities of the orders, the published one first; NaN where there are none.
    """

    scores: dict[str, Floats]
    tokens_I: Ints
    trie_I: Ints
    orders_IK: Floats

    @property
    def pass_tokens(self) -> int:
        """Return the tokens of all single passes."""
        return int(self.tokens_I.sum())

    @property
    def trie_tokens(self) -> int:
        """Return the tokens of all tries of orders."""
        return int(self.trie_I.sum())


def measure(
    loaded: "Loaded", items: Sequence[Item], permuted: Sequence[int], form: Form, tokenizer: "PreTrainedTokenizerBase"
) -> Measured:
    """Score items (see texts.measurable) under a checkpoint; those numbered `permuted` also in all orders.

    `tokenizer` makes the texts: for a base without a chat template it is the tuned model's.
    """
    sharing = prefix_sharing(loaded.model)
    texts = item_texts(items, form, tokenizer)
    passes = token_scores(loaded.model, [t.tokens for t in texts], one_a_pass=not sharing.ok)
    rows = np.array([_of_pass(i, t, s) for i, t, s in zip(items, texts, passes, strict=True)]).reshape(-1, 6)
    of_orders = np.full((len(items), 3), np.nan)
    orders_IK = np.full((len(items), ORDERS), np.nan)
    trie_I = np.zeros(len(items), np.int64)
    requests = order_requests([items[i] for i in permuted], form, tokenizer)
    for i, s in zip(permuted, order_scores(loaded.model, requests, sharing)[0], strict=True):
        of_orders[i] = s.first, s.z, s.outstanding
        orders_IK[i, : len(s.logprob_K)] = s.logprob_K
        trie_I[i] = s.tokens
    values = np.concatenate([rows, of_orders], 1)
    scores = {m.name: np.ascontiguousarray(values[:, k]) for k, m in enumerate(MEASURES)}
    return Measured(scores, np.array([len(t.tokens) for t in texts], np.int64), trie_I, orders_IK)


def _of_pass(item: Item, text: ItemText, scores: TokenScores) -> tuple[float, ...]:
    which = completion.telling_options(item)
    return (
        mean_logprob(scores, text.item),
        mean_logprob(scores, text.answer),
        min_k.min_k(scores, text.item),
        min_k.min_k_plus_plus(scores, text.item),
        completion.completed(scores, text, which),
        completion.option_logprob(scores, text, which),
    )
