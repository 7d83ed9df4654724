"""Passes, Min-K %, completion, permutations, ranks and rates, each against the formula written out or brute force."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steel_data.benchmarks.items import Item
from steel_eval.leak.detectors.completion import completed, option_logprob, telling_options
from steel_eval.leak.detectors.loss_gap import loss_gap
from steel_eval.leak.detectors.min_k import min_k, min_k_plus_plus
from steel_eval.leak.detectors.permutation import OrderScores, has_free_order, order_requests, order_scores
from steel_eval.leak.detectors.reference import flagged, rank_p_values, smallest_flaggable
from steel_eval.leak.passes import mean_logprob, token_scores
from steel_eval.leak.texts import item_texts
from steel_eval.score.likelihood import Sharing, prefix_sharing
from steel_eval.stats.detection import detection_rates


def item(question="水稻的最适温度是", options=("二十度左右", "三十度左右", "四十度左右", "五十度左右"), answer="B"):
    return Item("test/a/00000", "a", "test", 0, question, tuple(options), answer, "", Path("a.csv"))


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


def test_min_k_takes_the_least_likely_fifth(toy_model):
    scores = token_scores(toy_model, [list(range(3, 14))], one_a_pass=False)[0]
    lowest = sorted(scores.logprob_T[1:])[:2]
    assert min_k(scores, (0, 11)) == pytest.approx(np.mean(lowest))
    ratio = (scores.logprob_T - scores.mean_T) / scores.deviation_T
    assert min_k_plus_plus(scores, (0, 11)) == pytest.approx(np.mean(sorted(ratio[1:])[:2]))


def test_one_pass_says_what_greedy_generation_would_write(lab_models):
    """On a model that knows some items: the option is completed exactly when generate() writes it."""
    model, tokenizer, items = lab_models
    texts = item_texts(items, "chat", tokenizer)
    scores = token_scores(model, [t.tokens for t in texts], one_a_pass=False)
    outcomes = []
    for text, s in zip(texts[:8], scores, strict=False):
        start, stop = text.options[2]
        written = model.generate(
            torch.tensor([text.tokens[:start]]), max_new_tokens=stop - start, do_sample=False, pad_token_id=0
        )[0, start:].tolist()
        outcomes.append(completed(s, text, [2]))
        assert outcomes[-1] == float(written == text.tokens[start:stop])
    assert set(outcomes) == {0.0, 1.0}


@pytest.fixture(scope="module")
def lab_models(lab):
    from steel_eval.models import load

    loaded = load(lab.model)
    return loaded.model, loaded.tokenizer, lab.items


def test_options_that_anyone_could_complete_do_not_count():
    assert telling_options(item(options=("正确", "12345", "3.14%", "因为天气变冷了"))) == [3]
    assert telling_options(item(question="三十度左右好吗", options=("三十度左右", "四十度左右"))) == [1]
    scores, text = None, None
    assert np.isnan(completed(scores, text, [])) and np.isnan(option_logprob(scores, text, []))


def test_a_trie_gives_what_24_full_passes_give(toy_model, toy_tokenizer):
    requests = order_requests([item()], "chat", toy_tokenizer)
    assert len(requests[0]) == 24 == len({tuple(r.tokens) for r in requests[0]})
    assert len({r.start for r in requests[0]}) == 1
    fast, few = order_scores(toy_model, requests, prefix_sharing(toy_model))
    slow, many = order_scores(toy_model, requests, Sharing(False))
    assert np.allclose(fast[0].logprob_K, slow[0].logprob_K, atol=1e-3)
    assert few < many / 1.8


def test_the_published_order_comes_first_and_ties_do_not_accuse():
    assert (OrderScores(np.array([0.0, -1, -2])).first, OrderScores(np.array([0.0, -1, -2])).p) == (1, 1 / 3)
    tied = OrderScores(np.array([0.0, 0.0, -1]))
    assert (tied.first, tied.p) == (0, 2 / 3)
    assert OrderScores(np.array([-1.0, 0, -1.5])).outstanding > 0 > OrderScores(np.array([-1.0, 0, -0.5])).z


def test_p_of_the_published_order_is_uniform_without_a_leak():
    rng = np.random.default_rng(0)
    p = np.array([OrderScores(rng.normal(size=24)).p for _ in range(2000)])
    assert abs((p <= 1 / 24 + 1e-9).mean() - 1 / 24) < 3 * np.sqrt(1 / 24 / 2000)
    assert abs((p <= 0.5).mean() - 0.5) < 0.04


@pytest.mark.parametrize(
    ("options", "free"),
    [
        (("甲乙", "丙丁", "戊己", "庚辛"), True),
        (("甲乙", "丙丁", "戊己", "以上都对"), False),
        (("①②", "①③", "②③", "③④"), False),
        (("10", "20", "30", "40"), False),
        (("40", "30", "20", "10"), False),
        (("20", "10", "40", "30"), True),
        (("甲", "甲", "乙", "丙"), False),
        (("甲", "乙"), False),
        (("甲", "乙", "丙", "丁", "戊"), False),
        (("甲乙", "丙丁", "戊己", "A和B"), False),
    ],
)
def test_items_with_an_order_of_their_own_are_left_out(options, free):
    assert has_free_order(item(options=options)) is free


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=12), st.lists(st.integers(-3, 3), min_size=1, max_size=5))
def test_rank_p_values_count_controls(controls, gains):
    p = rank_p_values(np.array(gains, float), np.array(controls, float))
    for g, value in zip(gains, p, strict=True):
        assert value == pytest.approx((1 + sum(c >= g for c in controls)) / (1 + len(controls)))


def test_false_flags_stay_below_five_percent():
    """Among 100 items 30 are learnt; over 200 draws at most 5 % of the flags are false on average."""
    rng = np.random.default_rng(1)
    shares, found = [], []
    for _ in range(200):
        gain = np.concatenate([rng.normal(5, 1, 30), rng.normal(0, 1, 70)])
        flags = flagged(rank_p_values(gain, rng.normal(0, 1, 400)))
        shares.append(flags[30:].sum() / max(1, flags.sum()))
        found.append(flags[:30].mean())
    assert np.mean(shares) <= 0.05
    assert np.mean(found) > 0.8


def test_few_controls_cannot_flag_few_items():
    assert smallest_flaggable(100, 1999) == 1
    assert smallest_flaggable(24, 24) == 20
    p = rank_p_values(np.array([9.0] * 19 + [-9.0] * 5), np.zeros(24))
    assert not flagged(p).any()
    assert flagged(rank_p_values(np.array([9.0] * 20 + [-9.0] * 4), np.zeros(24))).sum() == 20


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.lists(st.integers(0, 5), min_size=20, max_size=30))
def test_area_and_hits_against_brute_force(seen, unseen):
    found = detection_rates(np.array(seen, float), np.array(unseen, float))
    pairs = [(a > b) + (a == b) / 2 for a, b in itertools.product(seen, unseen)]
    assert found.auc == pytest.approx(np.mean(pairs))
    assert 0 <= found.auc_low <= found.auc <= found.auc_high <= 1
    assert found.false_alarms <= 0.05
    best = max(np.mean([s > c for s in seen]) for c in unseen if np.mean([u > c for u in unseen]) <= 0.05)
    assert found.hits == pytest.approx(best)


def test_the_interval_of_the_area_covers():
    rng = np.random.default_rng(2)
    truth, inside = 0.7602, []  # P(N(1, 1) > N(0, 1))
    for _ in range(300):
        r = detection_rates(rng.normal(1, 1, 40), rng.normal(0, 1, 40))
        inside.append(r.auc_low <= truth <= r.auc_high)
    assert np.mean(inside) >= 0.92


def test_rates_that_the_sample_cannot_show_are_not_shown():
    assert detection_rates(np.ones(5), np.zeros(19)) is None
    assert detection_rates(np.ones(5), np.zeros(999), alarms=0.01) is None
    assert detection_rates(np.ones(5), np.zeros(1000), alarms=0.01).hits == 1
    assert detection_rates(np.array([np.nan]), np.zeros(100)) is None


def test_loss_gap_signs():
    gap = loss_gap(np.array([-1.0, -1.0]), np.array([-1.5]), np.array([-0.2]))
    assert gap.test_ref == pytest.approx(-0.5)  # the test is more familiar than the reference
    assert gap.test_train == pytest.approx(0.8)
    assert loss_gap(np.array([-1.0]), np.array([-1.5])).test_train is None
