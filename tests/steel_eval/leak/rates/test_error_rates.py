"""Rates on made-up scores: equal to the one-seed formulas, doses and forms apart, intervals that cover."""

import numpy as np
import pytest

from steel_eval.leak.rates.error_rates import Scores, error_rates
from steel_eval.leak.rates.table import ALONE, AUC
from steel_eval.stats.detection import detection_rates
from steel_eval.stats.effects import Items

FIVE, ONE = "hits at 5 %", "hits at 1 %"


def scores(gain, dose, cluster=None, form=None):
    gain = np.atleast_2d(np.asarray(gain, float))
    n = gain.shape[1]
    cluster = np.arange(n) if cluster is None else cluster
    form = np.array(["answer-only"] * n if form is None else form)
    return Scores("d", gain, gain, Items(np.asarray(dose), np.zeros(n, int), np.asarray(cluster)), form)


def rows(s):
    """Return (dose, form) -> what -> rate."""
    found = {}
    for rate in error_rates(s):
        found.setdefault((rate.dose, rate.form), {})[rate.what] = rate
    return found


def first(*of):
    return next(iter(rows(scores(*of)).values()))


def test_one_seed_is_the_formula_of_one_model():
    rng = np.random.default_rng(0)
    gain = np.round(np.concatenate([rng.normal(0, 1, 60), rng.normal(0.8, 1, 40)]), 1)  # with ties
    row = first(gain, [0] * 60 + [3] * 40)
    alone = detection_rates(gain[60:], gain[:60])
    auc, hits = row[AUC], row[FIVE]
    assert (auc.dose, auc.form, auc.of, auc.n, auc.unseen, len(auc.by_seed)) == (3, "all", "seen", 40, 60, 1)
    assert (auc.value, hits.value) == (pytest.approx(alone.auc), pytest.approx(alone.hits))
    assert (auc.low, auc.high) == (pytest.approx(alone.auc_low, abs=0.02), pytest.approx(alone.auc_high, abs=0.02))
    assert hits.low <= alone.hits_low + 0.01  # the cut is an estimate too
    assert ONE not in row and row[ALONE].value == auc.value


def test_one_per_cent_needs_a_thousand_unseen_items():
    rng = np.random.default_rng(1)
    gain = rng.normal(0, 1, 1020)
    gain[:20] += 9
    assert first(gain, [1] * 20 + [0] * 1000)[ONE].value == 1
    assert ONE not in first(gain[:-1], [1] * 20 + [0] * 999)
    assert set(first(gain[:39], [1] * 20 + [0] * 19)) == {AUC, ALONE}
    assert rows(scores(gain[:20], [1] * 20)) == {}


def test_doses_and_forms_are_told_apart():
    gain = np.r_[np.zeros(20), np.full(5, 1.0), np.full(5, -1.0), np.full(4, 2.0)]
    form = [""] * 20 + ["text"] * 5 + ["edited"] * 5 + ["text"] * 4
    found = rows(scores(gain, [0] * 20 + [1] * 10 + [9] * 4, form=form))
    assert list(found) == [(1, "all"), (1, "edited"), (1, "text"), (9, "all"), (9, "text")]
    assert [found[k][AUC].value for k in ((1, "text"), (1, "edited"), (1, "all"), (9, "all"))] == [1, 0, 0.5, 1]
    text, edited = found[1, "text"][FIVE], found[1, "edited"][FIVE]
    assert (text.value, edited.value) == (1, 0)
    assert text.low < 0.6 and edited.high > 0.4  # five items show little


def test_items_without_the_score_are_left_out():
    gain = np.r_[np.zeros(30), np.ones(10)]
    gain[[0, 35]] = np.nan
    auc = first(gain, [0] * 30 + [1] * 10)[AUC]
    assert (auc.n, auc.unseen, auc.value) == (9, 29, 1)


def simulated(rng, seeds=3, clusters=(60, 60), size=2):
    """Gains with parts of cluster, item, seed, and item in seed; seen ones shifted by 1 and by the seed."""
    cluster = np.repeat(np.arange(sum(clusters)), size)
    seen = cluster < clusters[0]
    fixed = rng.normal(0, 0.6, sum(clusters))[cluster] + rng.normal(0, 0.5, len(cluster))
    gain = fixed + rng.normal(0, 0.6, (seeds, len(cluster))) + seen * (1 + rng.normal(0, 0.15, (seeds, 1)))
    return gain, seen.astype(int), cluster


@pytest.mark.slow
def test_intervals_cover_the_truth_over_clusters_and_seeds():
    rng = np.random.default_rng(2)
    big = [first(*simulated(rng, 60, (400, 400))) for _ in range(12)]
    found = [first(*simulated(rng)) for _ in range(400)]
    for what in (AUC, FIVE):
        truth = np.mean([row[what].value for row in big])
        assert 0.92 <= np.mean([row[what].low <= truth <= row[what].high for row in found]) <= 0.995, what
