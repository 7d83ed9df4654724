"""Option completion: would greedy decoding go on with the item's options? (apart: a detector)

Given the question and the options so far, is the next option what it would write?

Access: log-probabilities of the text's tokens. Cost: one forward pass an item, shared with the other detectors of that
pass: the four prompts "question, options so far" are prefixes of one text, so agreement of the text with the argmax at
every token of an option is what four greedy generations would have told. After the n-gram completion of Xu et al. 2024
(benbench, arXiv 2404.18824). What any reader could complete is left out: short options, and numbers.
"""

from collections.abc import Sequence

import numpy as np
import regex

from steel_data.benchmarks.items import Item
from steel_eval.leak.passes import TokenScores
from steel_eval.leak.texts import ItemText

SHORTEST = 4  # characters


def telling_options(item: Item) -> list[int]:
    """Return the options whose completion says something: four characters or more, not a number or formula alone."""
    return [
        i for i, o in enumerate(item.options)
        if len(o.strip()) >= SHORTEST and regex.search(r"\p{Han}|[A-Za-z]{4}", o) and o not in item.question
    ]  # fmt: skip


def completed(scores: TokenScores, text: ItemText, which: Sequence[int]) -> float:
    """Return 1 where greedy decoding writes at least one of the options `which` in full, else 0. NaN without options.

    An option's first token may begin before the option (a blank merged with it) and is then part of it.
    """
    if not which:
        return float("nan")
    return float(any(scores.greedy_T[slice(*text.options[i])].all() for i in which))


def option_logprob(scores: TokenScores, text: ItemText, which: Sequence[int]) -> float:
    """Return the mean log-probability of the tokens of the options `which` (nats a token): the same without a cut."""
    if not which:
        return float("nan")
    return float(np.concatenate([scores.logprob_T[slice(*text.options[i])] for i in which]).mean())
