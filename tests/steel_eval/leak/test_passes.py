"""Token log-probabilities and their moments are those of the model's own distribution; filling changes nothing."""

import numpy as np
import pytest
import torch

from steel_eval.leak.passes import mean_logprob, token_scores


def test_moments_are_those_of_the_models_own_distribution(toy_model):
    ids = [5, 9, 300, 41, 7]
    scores = token_scores(toy_model, [ids], one_a_pass=False)[0]
    with torch.no_grad():
        log_TV = torch.log_softmax(toy_model(input_ids=torch.tensor([ids])).logits[0].double(), -1)
    p_TV = log_TV.exp()
    mean = (p_TV * log_TV).sum(-1)
    deviation = (p_TV * (log_TV - mean[:, None]) ** 2).sum(-1).sqrt()
    for t in range(1, 5):
        assert scores.logprob_T[t] == pytest.approx(float(log_TV[t - 1, ids[t]]), abs=1e-4)
        assert scores.mean_T[t] == pytest.approx(float(mean[t - 1]), abs=1e-4)
        assert scores.deviation_T[t] == pytest.approx(float(deviation[t - 1]), abs=1e-3)
        assert bool(scores.greedy_T[t]) == (int(log_TV[t - 1].argmax()) == ids[t])
    assert np.isnan(scores.logprob_T[0]) and not scores.greedy_T[0]
    assert mean_logprob(scores, (0, 5)) == pytest.approx(float(np.mean(scores.logprob_T[1:])))


def test_filling_changes_nothing(toy_model):
    texts = [list(range(10, 10 + n)) for n in (3, 20, 7, 2)]
    together, alone = (token_scores(toy_model, texts, one_a_pass=one) for one in (False, True))
    for a, b, ids in zip(together, alone, texts, strict=True):
        assert len(a.logprob_T) == len(ids)
        assert np.allclose(a.logprob_T, b.logprob_T, atol=1e-4, equal_nan=True)
