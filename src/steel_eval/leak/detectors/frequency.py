"""zlib and DC-PDD: a text is not surprising because it is common; divide that out. (apart: two detectors of one idea)

Access: log-probabilities of the text's tokens. Cost: one forward pass an item, shared with the other detectors of that
pass. zlib (Carlini et al. 2021, arXiv 2012.07805): log-probability over the text's size when compressed. DC-PDD (Zhang
et al. 2024, arXiv 2409.14781): at the first place of each token its probability times the surprise of its frequency in
a reference corpus, at most 0.01, and the mean of these. Reference here are the items that are measured: tested and
controls together, the same for model and base; no other corpus is at hand. Both are baselines, near chance on
exchangeable items, and only their change from the base is judged.
"""

import math
import zlib
from collections import Counter
from collections.abc import Sequence

import numpy as np

from steel_eval.leak.passes import TokenScores

CAP = 0.01  # of DC-PDD, as published


def zlib_ratio(scores: TokenScores, span: tuple[int, int], text: str) -> float:
    """Return the log-probability of a stretch over the bytes that zlib makes of its text (nats a byte)."""
    total = float(np.nansum(scores.logprob_T[max(1, span[0]) : span[1]]))
    return total / len(zlib.compress(text.encode()))


def token_frequency(texts: Sequence[Sequence[int]]) -> dict[int, float]:
    """Return each token's share of all, smoothed by one."""
    counts = Counter(token for text in texts for token in text)
    total = sum(counts.values()) + len(counts)
    return {token: (n + 1) / total for token, n in counts.items()}


def dc_pdd(scores: TokenScores, span: tuple[int, int], tokens: Sequence[int], frequency: dict[int, float]) -> float:
    """Return the mean of min(0.01, p(token) x log(1 / frequency)) over the first place of each token of a stretch."""
    first = {tokens[t]: t for t in reversed(range(max(1, span[0]), span[1]))}
    if not first:
        return float("nan")
    values = [min(CAP, math.exp(scores.logprob_T[t]) * -math.log(frequency[token])) for token, t in first.items()]
    return float(np.mean(values))
