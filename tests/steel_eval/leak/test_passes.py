"""Token log-probabilities and their moments are those of the model's own distribution; filling changes nothing."""

import numpy as np
import pytest
import torch
from tests.steel_eval import toys

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


def test_logits_of_a_model_in_16_bits_are_made_in_float32():
    """In bfloat16 a logit of 20 moves in steps of 0.125: letters tie, and a log-probability is off by as much."""
    texts = [list(range(10, 60))]
    exact = toys.model(hidden_size=64, initializer_range=1.0).bfloat16()
    found = token_scores(exact, texts, one_a_pass=False)[0].logprob_T[1:]
    with torch.no_grad():
        states_TD = exact.model(input_ids=torch.tensor(texts)).last_hidden_state[0, :-1]
        log_TV = torch.log_softmax(states_TD.float() @ exact.lm_head.weight.float().T, -1)
        narrow_TV = torch.log_softmax(exact(input_ids=torch.tensor(texts)).logits[0, :-1].float(), -1)
    expected, rounded = (x.gather(-1, torch.tensor(texts[0][1:])[:, None])[:, 0].numpy() for x in (log_TV, narrow_TV))
    assert np.allclose(found, expected, atol=1e-3)
    assert not np.allclose(rounded, expected, atol=1e-2)  # what stood there before
