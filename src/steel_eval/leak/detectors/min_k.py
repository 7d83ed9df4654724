"""Min-K % and Min-K %++: a seen text's least likely tokens are less unlikely. (apart: a detector)

Access: log-probabilities of the text's tokens (Min-K %++: over the whole vocabulary). Cost: one forward pass a text,
shared with the other detectors of that pass. Sources: Shi et al. 2023 (arXiv 2310.16789); Zhang et al. 2024 (arXiv
2404.02936). Near chance on benchmarks by themselves (arXiv 2410.18966): here as baselines, and only as the change from
the base.
"""

import math

import numpy as np
from numpy.typing import NDArray

from steel_eval.leak.passes import TokenScores

SHARE = 0.2


def min_k(scores: TokenScores, span: tuple[int, int], share: float = SHARE) -> float:
    """Return the mean log-probability of the least likely `share` of a stretch's tokens (at least one), in nats."""
    return _lowest(scores.logprob_T[max(1, span[0]) : span[1]], share)


def min_k_plus_plus(scores: TokenScores, span: tuple[int, int], share: float = SHARE) -> float:
    """Return the mean of the lowest `share` of (log p - mean) / deviation, both under the model's own distribution.

    Where the model is certain (deviation below 1e-4) the ratio is set to 0: it says nothing there, and would drown
    the others.
    """
    part = slice(max(1, span[0]), span[1])
    deviation_T = scores.deviation_T[part]
    gap_T = scores.logprob_T[part] - scores.mean_T[part]
    ratio_T = np.divide(gap_T, deviation_T, out=np.zeros_like(gap_T), where=deviation_T > 1e-4)
    return _lowest(ratio_T, share)


def _lowest(values_T: NDArray[np.float64], share: float) -> float:
    count = max(1, math.ceil(share * len(values_T)))
    return float(np.partition(values_T, count - 1)[:count].mean())
