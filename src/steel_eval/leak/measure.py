"""All model-side scores of one checkpoint on a set of items. Higher always means "rather seen".

Legend: I items, K orders of an item's options.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from steel_data.benchmarks.items import LETTERS, Item
from steel_eval.ask.trie import Request, make_plan
from steel_eval.leak.detectors import completion, min_k
from steel_eval.leak.detectors.context import in_context, lost, samples
from steel_eval.leak.detectors.frequency import dc_pdd, token_frequency, zlib_ratio
from steel_eval.leak.detectors.permutation import has_free_order, order_requests, order_scores
from steel_eval.leak.passes import AskedTokens, TokenScores, mean_logprob, token_scores
from steel_eval.leak.texts import Forms, ItemText, item_texts, letter_tokens, of_each
from steel_eval.score.likelihood import Sharing, prefix_sharing, score_plan

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from steel_eval.models import Loaded


Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
SINGLE = 8  # measures of the single pass, the first ones
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
    Measure("zlib", "log-probs + base", "same"),
    Measure("dc-pdd", "log-probs + base", "same"),
    Measure("min-k % 20", "log-probs + base", "same"),
    Measure("min-k %++ 20", "full vocabulary + base", "same"),
    Measure("option completion: greedy", "log-probs + base", "same"),
    Measure("option completion: log-prob", "log-probs + base", "same"),
    Measure("permutation a: published first", "log-probs + base", "k! (trie)"),
    Measure("permutation a: z of published", "log-probs + base", "same"),
    Measure("permutation b: z of the likeliest", "log-probs + base", "same"),
)
IN_CONTEXT = (  # only where it is asked for (`Texts.context`), and never part of the set-level test
    Measure("codec: confidence lost", "log-probs + base", "1 and samples"),
    Measure("codec: share disturbed", "log-probs + base", "same"),
)


@dataclass(frozen=True)
class Texts:
    """Items (see texts.measurable) that several checkpoints are measured on, the numbers of those that are permuted,
    and the tokenizer that writes them: for a base without a chat template it is the tuned model's. `context`: so many
    other items stand before each for CoDeC; 0: it is not measured.
    """

    items: Sequence[Item]
    permuted: Sequence[int]
    form: Forms
    tokenizer: "PreTrainedTokenizerBase"
    context: int = 0


@dataclass(frozen=True)
class Measured:
    """Scores (I,) by the name of their measure, NaN where an item has none, and what they cost.

    `right_I`: 1 where the key's letter is the likeliest of the options', else 0 (NaN where letters are not one token).
    `tokens_I`: tokens of an item's single pass. `trie_I`: tokens forwarded for its orders (0: not permuted).
    `orders_IK`: log-probabilities of the orders, the published one first; NaN where there are none. `context_tokens`:
    tokens forwarded for all items in context.
    """

    scores: dict[str, Floats]
    right_I: Floats
    tokens_I: Ints
    trie_I: Ints
    orders_IK: Floats
    context_tokens: int = 0

    @property
    def pass_tokens(self) -> int:
        """Return the tokens of all single passes."""
        return int(self.tokens_I.sum())

    @property
    def trie_tokens(self) -> int:
        """Return the tokens of all tries of orders."""
        return int(self.trie_I.sum())


def choose_permuted(items: Sequence[Item], side_I: Ints, most: int) -> list[int]:
    """Return at most `most` items of each side (doses; tested or control) whose order is free, by a fixed draw.

    Every checkpoint gets the same.
    """
    free_I = np.array([has_free_order(item) for item in items], bool)
    generator = np.random.default_rng(0)
    sides = [np.flatnonzero(free_I & (side_I == side)) for side in np.unique(side_I)]
    return sorted(i for side in sides for i in generator.permutation(side)[:most].tolist())


def measure(loaded: "Loaded", texts: Texts) -> Measured:
    """Score items under a checkpoint; the permuted ones also in all orders."""
    items, model = texts.items, loaded.model
    sharing = prefix_sharing(model)
    single = item_texts(items, texts.form, texts.tokenizer)
    most = max((len(item.options) for item in items), default=0)
    letters = _letters(texts, most) if most else None
    asked = None if letters is None else AskedTokens([t.answer[0] for t in single], letters)
    passes = token_scores(model, [t.tokens for t in single], not sharing.ok, asked)
    values = np.full((len(items), len(MEASURES)), np.nan)
    frequency = token_frequency([t.tokens[slice(*t.item)] for t in single])
    for i, (item, text, its) in enumerate(zip(items, single, passes, strict=True)):
        values[i, :SINGLE] = _of_pass(item, text, its, frequency)
    orders_IK = np.full((len(items), ORDERS), np.nan)
    trie_I = np.zeros(len(items), np.int64)
    form_of = texts.form if isinstance(texts.form, str) else tuple(texts.form[i] for i in texts.permuted)
    requests = order_requests([items[i] for i in texts.permuted], form_of, texts.tokenizer)
    for i, s in zip(texts.permuted, order_scores(model, requests, sharing), strict=True):
        values[i, SINGLE:] = s.first, s.z, s.outstanding
        orders_IK[i, : len(s.logprob_K)] = s.logprob_K
        trie_I[i] = s.tokens
    scores = {m.name: np.ascontiguousarray(values[:, k]) for k, m in enumerate(MEASURES)}
    read = 0
    if texts.context:
        fallen, read = _in_context(loaded, texts, single, values[:, 0], sharing)
        scores |= fallen
    right_I = np.array([_right(item, s) for item, s in zip(items, passes, strict=True)], np.float64)
    return Measured(scores, right_I, np.array([len(t.tokens) for t in single], np.int64), trie_I, orders_IK, read)


def _in_context(
    loaded: "Loaded", texts: Texts, single: Sequence[ItemText], alone_I: Floats, sharing: Sharing
) -> tuple[dict[str, Floats], int]:
    """Return the scores of IN_CONTEXT beside what the items have alone, and the tokens that were forwarded."""
    before = samples(texts.items, texts.context)
    requests = in_context(single, before, loaded.max_length, texts.tokenizer.bos_token_id)
    asked = [(i, request) for i, request in enumerate(requests) if request is not None]
    summed_I, read = np.full(len(requests), np.nan), 0
    if asked:
        some: list[Request] = [request for _, request in asked]
        found = score_plan(loaded.model, make_plan(some), some, sharing)
        summed_I[[i for i, _ in asked]] = found.logprob
        read = found.forwarded_tokens
    return dict(zip((m.name for m in IN_CONTEXT), lost(alone_I, summed_I, requests), strict=True)), read


def _letters(texts: Texts, most: int) -> list[int] | None:
    """Return the tokens of the answers' letters; None where a form has none, or another than the others."""
    firsts = dict(zip(reversed(of_each(texts.form, len(texts.items))), reversed(texts.items), strict=True))
    found = [letter_tokens(item, most, form, texts.tokenizer) for form, item in firsts.items()]
    return found[0] if all(letters == found[0] for letters in found) else None


def _right(item: Item, scores: TokenScores) -> float:
    """Return whether the key is likelier than every other option's letter; NaN where that was not asked."""
    if not len(scores.asked_K):
        return float("nan")
    of_option = scores.asked_K[: len(item.options)]
    key = LETTERS.index(item.answer)
    return float((np.delete(of_option, key) < of_option[key]).all())


def _of_pass(item: Item, text: ItemText, scores: TokenScores, frequency: dict[int, float]) -> tuple[float, ...]:
    which = completion.telling_options(item)
    return (
        mean_logprob(scores, text.item),
        mean_logprob(scores, text.answer),
        zlib_ratio(scores, text.item, "\n".join((item.question, *item.options))),
        dc_pdd(scores, text.item, text.tokens, frequency),
        min_k.min_k(scores, text.item),
        min_k.min_k_plus_plus(scores, text.item),
        completion.completed(scores, text, which),
        completion.option_logprob(scores, text, which),
    )
