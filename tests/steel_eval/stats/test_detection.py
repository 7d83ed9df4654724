"""Area under the curve and hits against brute force; over seeds: nothing is mixed, disagreement widens, twins add nothing."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steel_eval.stats.detection import alarm_cuts, area, detection_rates, hit_rate, share_interval


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


def over_seeds(gain, seen, cluster=None):
    """Return area and hits at 5 % of gains (S, I)."""
    gain, seen = np.atleast_2d(gain), np.asarray(seen, bool)
    cluster = np.arange(gain.shape[1]) if cluster is None else cluster
    cuts = alarm_cuts(gain[:, ~seen], cluster[~seen], 0.05)
    return area(gain, seen, ~seen, cluster), hit_rate(gain[:, seen], cluster[seen], cuts)


def test_scores_of_different_models_are_not_mixed():
    """The second seed's scale is shifted by 100: each seed by itself is perfect, and so is their mean."""
    one = np.r_[np.linspace(0, 1, 40), np.linspace(2, 3, 10)]
    auc, hits = over_seeds([one, one + 100], [0] * 40 + [1] * 10)
    assert auc.value == 1 == hits.value
    assert auc.by_seed == [1, 1]


def test_seeds_that_disagree_widen_the_interval():
    rng = np.random.default_rng(3)
    gain, seen = rng.normal(0, 1, (3, 200)), np.arange(200) < 100
    wide = over_seeds(gain + seen * np.array([[0.0], [1.0], [3.0]]), seen)
    narrow = over_seeds(gain + seen * 1.3, seen)
    for a, b in zip(wide, narrow, strict=True):
        assert a.high - a.low > 2 * (b.high - b.low)


def test_twins_add_nothing():
    """Every item three times, as one cluster: the interval is that of the items once."""
    rng = np.random.default_rng(4)
    gain, seen = np.r_[rng.normal(0, 1, 60), rng.normal(1, 1, 60)], np.arange(120) >= 60
    once = over_seeds(gain, seen)
    thrice = over_seeds(np.repeat(gain, 3), np.repeat(seen, 3), np.repeat(np.arange(120), 3))
    for a, b in zip(once, thrice, strict=True):
        assert b.high - b.low == pytest.approx(a.high - a.low, rel=0.1)


def test_at_most_five_per_cent_of_the_unseen_exceed_the_cut():
    unseen = np.array([[*range(40)], [*range(0, -40, -1)]], float)
    cuts = alarm_cuts(unseen, np.arange(40), 0.05)
    assert cuts.real_S.tolist() == [37, -2]  # two of forty lie above
    assert (alarm_cuts(unseen, np.arange(40), 0.01).real_S == unseen.max(1)).all()
    assert cuts.drawn_BS.shape == (500, 2) and len(np.unique(cuts.drawn_BS[:, 0])) > 3


def test_all_hits_and_no_hits_keep_an_interval():
    assert share_interval(1.0, 0.0, 1.959964, clusters=20, seeds=3)[0] < 0.9
    assert share_interval(0.0, 0.0, 1.959964, clusters=20, seeds=3)[1] > 0.1
    assert share_interval(0.5, 1e-9, 1.959964, clusters=20, seeds=3)[1] - 0.5 > 0.1  # 60 answers at most
