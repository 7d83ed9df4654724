"""A trie of orders against full passes; p of the published order; which items have an order of their own."""

from pathlib import Path

import numpy as np
import pytest

from steel_data.benchmarks.items import Item
from steel_eval.leak.detectors.permutation import OrderScores, has_free_order, order_requests, order_scores
from steel_eval.score.likelihood import Sharing, prefix_sharing


def item(question="水稻的最适温度是", options=("二十度左右", "三十度左右", "四十度左右", "五十度左右"), answer="B"):
    return Item("test/a/00000", "a", "test", 0, question, tuple(options), answer, "", Path("a.csv"))


def test_a_trie_gives_what_24_full_passes_give(toy_model, toy_tokenizer):
    requests = order_requests([item()], "chat", toy_tokenizer)
    assert len(requests[0]) == 24 == len({tuple(r.tokens) for r in requests[0]})
    assert len({r.start for r in requests[0]}) == 1
    fast = order_scores(toy_model, requests, prefix_sharing(toy_model))
    slow = order_scores(toy_model, requests, Sharing(False))
    few, many = (sum(s.tokens for s in side) for side in (fast, slow))
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
