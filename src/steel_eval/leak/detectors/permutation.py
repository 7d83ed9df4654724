"""Option permutation: who has memorised an item finds its published order of options the likeliest.

Access: log-probabilities of the prompt's tokens. Cost: k! = 24 texts an item, but one token trie holds them all: 24
forward passes by count, 2.6 times fewer tokens (tokens are counted and printed). Source: Ni et al. 2024 (arXiv
2409.01790). Scenario a: the published order is the likeliest of all. Scenario b (the training data may hold another
order): some order sticks out.

Where this differs from the paper. Natural order (以上都对 last, ascending numbers) is likely without any leak: items
that depend on their order are left out and the rest is compared with the base. A tie counts against a leak. Scenario
b of the paper calls an isolation forest's outliers leaked, by fixed thresholds; these flag a quarter or more of pure
noise. Here it is a number without a threshold, compared with the base and the controls like every other.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import regex
from numpy.typing import NDArray

from steel_data.benchmarks.items import LETTERS, Item
from steel_eval.ask.trie import Request, make_plan
from steel_eval.leak.texts import Forms, item_texts, of_each
from steel_eval.score.likelihood import Sharing, score_plan

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


_MOST = 4  # options: five have 120 orders
_REFERS = regex.compile(
    r"以上|上述|以下|都对|都不|均|皆|[①②③④⑤]|\b[A-D]\s*[和与、及]\s*[A-D]\b|of the above|both [A-D]"
)
_EPSILON = 1e-6  # nats; equal texts in one trie differ by rounding only


@dataclass(frozen=True)
class OrderScores:
    """Log-probabilities (K,) of an item's options part in each of its k! orders; the published order is first.

    `tokens`: how many went through the model for them.
    """

    logprob_K: NDArray[np.float64]
    tokens: int = 0

    @property
    def p(self) -> float:
        """Return the share of orders at least as likely as the published one: at least 1/k!, uniform for no leak."""
        return float((self.logprob_K >= self.logprob_K[0] - _EPSILON).mean())

    @property
    def first(self) -> float:
        """Scenario a: 1 where the published order is the single likeliest."""
        return float(self.p * len(self.logprob_K) < 1.5)

    @property
    def z(self) -> float:
        """Return how far the published order stands above the others, in their standard deviations."""
        return _outstanding(self.logprob_K[0], self.logprob_K[1:])

    @property
    def outstanding(self) -> float:
        """Scenario b: how far the likeliest order, whichever it is, stands above the others."""
        best = int(self.logprob_K.argmax())
        return _outstanding(self.logprob_K[best], np.delete(self.logprob_K, best))


def _outstanding(value: float, others: NDArray[np.float64]) -> float:
    return float((value - others.mean()) / max(float(others.std(ddof=1)), 1e-9))


def has_free_order(item: Item) -> bool:
    """Return whether an item's options could stand in any order: three or four, all different, none of which speaks of
    others, no sorted numbers.
    """
    options = [o.strip() for o in item.options]
    if not 3 <= len(options) <= _MOST or len(set(options)) < len(options):
        return False
    if any(_REFERS.search(o) for o in options):
        return False
    numbers = [regex.search(r"-?\d+(\.\d+)?", o) for o in options]
    values = [float(m[0]) for m in numbers if m]
    return len(values) < len(options) or (values != sorted(values) and values != sorted(values, reverse=True))


def order_requests(items: Sequence[Item], forms: Forms, tokenizer: "PreTrainedTokenizerBase") -> list[list[Request]]:
    """Return for each item one request an order: the text up to the last option, scored from behind the question.

    Each order is encoded as a whole, never in pieces, so tokens that merge across options are right.
    """
    every, form_of = [], []
    for item, form in zip(items, of_each(forms, len(items)), strict=True):
        gold = LETTERS.index(item.answer)
        for order in itertools.permutations(range(len(item.options))):
            options = tuple(item.options[i] for i in order)
            every.append(replace(item, options=options, answer=LETTERS[order.index(gold)]))
            form_of.append(form)
    texts = iter(item_texts(every, forms if isinstance(forms, str) else tuple(form_of), tokenizer))
    out = []
    for item in items:
        mine = [next(texts) for _ in itertools.permutations(item.options)]
        shared = _shared([t.tokens for t in mine])
        out.append([Request(t.tokens[: t.options[-1][1]], max(1, min(shared, t.options[0][0]))) for t in mine])
    return out


def _shared(rows: Sequence[Sequence[int]]) -> int:
    columns = zip(*rows, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda column: len(set(column)) == 1, columns))


def order_scores(
    model: "PreTrainedModel", requests: Sequence[Sequence[Request]], sharing: Sharing
) -> list[OrderScores]:
    """Return the items' scores in all orders."""
    out = []
    for mine in requests:  # one trie an item: between items nothing is shared but the template's first words
        result = score_plan(model, make_plan(mine), mine, sharing)
        out.append(OrderScores(result.logprob, result.forwarded_tokens))
    return out
