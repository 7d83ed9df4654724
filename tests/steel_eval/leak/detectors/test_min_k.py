"""Min-K % and Min-K %++ against the formula written out."""

import numpy as np
import pytest

from steel_eval.leak.detectors.min_k import min_k, min_k_plus_plus
from steel_eval.leak.passes import token_scores


def test_min_k_takes_the_least_likely_fifth(toy_model):
    scores = token_scores(toy_model, [list(range(3, 14))], one_a_pass=False)[0]
    lowest = sorted(scores.logprob_T[1:])[:2]
    assert min_k(scores, (0, 11)) == pytest.approx(np.mean(lowest))
    ratio = (scores.logprob_T - scores.mean_T) / scores.deviation_T
    assert min_k_plus_plus(scores, (0, 11)) == pytest.approx(np.mean(sorted(ratio[1:])[:2]))
