"""All scores of a checkpoint: each is its detector's, NaN where an item has none, and its cost is counted."""

from dataclasses import replace

import numpy as np
import pytest
from tests.steel_eval import toys

from steel_eval.leak.detectors.completion import telling_options
from steel_eval.leak.detectors.min_k import min_k
from steel_eval.leak.measure import MEASURES, Texts, choose_permuted, measure
from steel_eval.leak.passes import mean_logprob, token_scores
from steel_eval.leak.texts import item_texts
from steel_eval.models import load


@pytest.fixture(scope="module")
def found(lab, toy_checkpoint):
    items = [*lab.items[:3], replace(lab.items[3], options=("1", "2", "3"), answer="A")]
    loaded = load(toy_checkpoint)
    texts = Texts(items, [1], "chat", toys.tokenizer())
    return loaded, texts, measure(loaded, texts)


def test_every_measure_has_a_score_an_item(found):
    loaded, texts, measured = found
    assert list(measured.scores) == [m.name for m in MEASURES]
    rendered = item_texts(texts.items, "chat", texts.tokenizer)
    passes = token_scores(loaded.model, [t.tokens for t in rendered], one_a_pass=False)
    for name, score, part in (("loss gap: item", mean_logprob, "item"), ("reference difference: answer", mean_logprob, "answer"),
                              ("min-k % 20", min_k, "item")):  # fmt: skip
        expected = [score(s, getattr(t, part)) for s, t in zip(passes, rendered, strict=True)]
        assert measured.scores[name] == pytest.approx(expected), name


def test_what_an_item_does_not_have_is_nan(found):
    _, texts, measured = found
    assert not telling_options(texts.items[3])  # numbers: anyone could go on
    assert np.isnan(measured.scores["option completion: greedy"]).tolist() == [False, False, False, True]
    for name in (m.name for m in MEASURES if m.name.startswith("permutation")):
        assert np.isnan(measured.scores[name]).tolist() == [True, False, True, True], name
    assert (~np.isnan(measured.orders_IK)).sum(1).tolist() == [0, 24, 0, 0]


def test_the_cost_is_counted(found):
    _, _, measured = found
    assert measured.pass_tokens == measured.tokens_I.sum() > 0
    assert measured.trie_I[[0, 2, 3]].tolist() == [0, 0, 0]
    assert measured.tokens_I[1] < measured.trie_tokens < 24 * measured.tokens_I[1]


def test_the_draw_for_permutations_is_fixed_and_by_side(lab):
    items = [replace(item, options=("10", "20", "30", "40")) if k < 4 else item for k, item in enumerate(lab.items)]
    side = np.array([0] * 24 + [3] * 24)
    chosen = choose_permuted(items, side, 5)
    assert chosen == choose_permuted(items, side, 5) == sorted(chosen)
    assert [sum(side[i] == s for i in chosen) for s in (0, 3)] == [5, 5]
    assert not set(chosen) & {0, 1, 2, 3}  # an order of their own
    assert len(choose_permuted(items, side, 100)) == 44 and choose_permuted(items, side, 0) == []
