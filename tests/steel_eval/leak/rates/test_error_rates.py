"""Rates and false alarms on made-up scores: equal to the one-seed formulas, intervals that cover, levels that hold."""

import numpy as np
import pytest

from steel_eval.leak.rates.error_rates import Scores, error_rates, share_interval
from steel_eval.leak.rates.false_alarms import benchmark_alarms, benchmark_test, item_alarms, whole_benchmark
from steel_eval.stats.detection import detection_rates
from steel_eval.stats.effects import Items, dose_response


def scores(gain, dose, cluster=None, form=None):
    gain = np.atleast_2d(np.asarray(gain, float))
    n = gain.shape[1]
    cluster = np.arange(n) if cluster is None else cluster
    form = np.array(["answer-only"] * n if form is None else form)
    return Scores("d", gain, gain, np.asarray(dose), form, np.asarray(cluster))


def test_one_seed_is_the_formula_of_one_model():
    rng = np.random.default_rng(0)
    gain = np.round(np.concatenate([rng.normal(0, 1, 60), rng.normal(0.8, 1, 40)]), 1)  # with ties
    row = error_rates(scores(gain, [0] * 60 + [3] * 40))[0]
    alone = detection_rates(gain[60:], gain[:60])
    assert (row.dose, row.form, row.seen, row.unseen, row.seeds) == (3, "all", 40, 60, 1)
    assert row.auc.value == pytest.approx(alone.auc)
    assert row.auc.low == pytest.approx(alone.auc_low, abs=0.02) and row.auc.high == pytest.approx(
        alone.auc_high, abs=0.02
    )
    assert row.hits_5.value == pytest.approx(alone.hits)
    assert row.hits_5.low <= alone.hits_low + 0.01  # the cut is an estimate too
    assert row.hits_1 is None


def test_one_per_cent_needs_a_thousand_unseen_items():
    rng = np.random.default_rng(1)
    gain = rng.normal(0, 1, 1020)
    gain[:20] += 9
    assert error_rates(scores(gain, [1] * 20 + [0] * 1000))[0].hits_1.value == 1
    assert error_rates(scores(gain[:-1], [1] * 20 + [0] * 999))[0].hits_1 is None
    assert error_rates(scores(gain[:39], [1] * 20 + [0] * 19))[0].hits_5 is None
    assert error_rates(scores(gain[:20], [1] * 20)) == []


def test_doses_and_forms_are_told_apart():
    gain = np.r_[np.zeros(20), np.full(5, 1.0), np.full(5, -1.0), np.full(4, 2.0)]
    form = [""] * 20 + ["text"] * 5 + ["edited"] * 5 + ["text"] * 4
    rows = {(r.dose, r.form): r for r in error_rates(scores(gain, [0] * 20 + [1] * 10 + [9] * 4, form=form))}
    assert set(rows) == {(1, "all"), (1, "edited"), (1, "text"), (9, "all"), (9, "text")}
    assert [rows[k].auc.value for k in ((1, "text"), (1, "edited"), (1, "all"), (9, "all"))] == [1, 0, 0.5, 1]
    assert rows[1, "text"].hits_5.value == 1 and rows[1, "edited"].hits_5.value == 0
    assert rows[1, "text"].hits_5.low < 0.6 and rows[1, "edited"].hits_5.high > 0.4  # five items show little


def test_scores_of_different_models_are_not_mixed():
    """The second seed's scale is shifted by 100: each seed by itself is perfect, and so is their mean."""
    one = np.r_[np.linspace(0, 1, 40), np.linspace(2, 3, 10)]
    row = error_rates(scores([one, one + 100], [0] * 40 + [1] * 10))[0]
    assert row.auc.value == 1 == row.hits_5.value
    assert row.auc.by_seed == [1, 1]


def test_items_without_the_score_are_left_out():
    gain = np.r_[np.zeros(30), np.ones(10)]
    gain[[0, 35]] = np.nan
    row = error_rates(scores(gain, [0] * 30 + [1] * 10))[0]
    assert (row.seen, row.unseen, row.auc.value) == (9, 29, 1)


def simulated(rng, seeds=3, clusters=(60, 60), size=2):
    """Gains with parts of cluster, item, seed, and item in seed; seen ones shifted by 1 and by the seed."""
    cluster = np.repeat(np.arange(sum(clusters)), size)
    seen = cluster < clusters[0]
    fixed = rng.normal(0, 0.6, sum(clusters))[cluster] + rng.normal(0, 0.5, len(cluster))
    gain = fixed + rng.normal(0, 0.6, (seeds, len(cluster))) + seen * (1 + rng.normal(0, 0.15, (seeds, 1)))
    return scores(gain, seen.astype(int), cluster)


@pytest.mark.slow
def test_intervals_cover_the_truth_over_clusters_and_seeds():
    rng = np.random.default_rng(2)
    big = [error_rates(simulated(rng, 60, (400, 400)))[0] for _ in range(12)]
    area, hits = (np.mean([getattr(r, name).value for r in big]) for name in ("auc", "hits_5"))
    rows = [error_rates(simulated(rng))[0] for _ in range(400)]
    in_area = np.mean([r.auc.low <= area <= r.auc.high for r in rows])
    in_hits = np.mean([r.hits_5.low <= hits <= r.hits_5.high for r in rows])
    assert 0.92 <= in_area <= 0.995 and 0.92 <= in_hits <= 0.995, (in_area, in_hits)


def test_seeds_that_disagree_widen_the_interval():
    rng = np.random.default_rng(3)
    gain = rng.normal(0, 1, (3, 200))
    shifted = gain + (np.arange(200) < 100) * np.array([[0.0], [1.0], [3.0]])
    alike = gain + (np.arange(200) < 100) * 1.3
    dose = np.r_[np.ones(100, int), np.zeros(100, int)]
    wide, narrow = (error_rates(scores(g, dose))[0] for g in (shifted, alike))
    assert wide.auc.high - wide.auc.low > 2 * (narrow.auc.high - narrow.auc.low)
    assert wide.hits_5.high - wide.hits_5.low > 2 * (narrow.hits_5.high - narrow.hits_5.low)


def test_twins_add_nothing():
    """Every item three times, as one cluster: the interval is that of the items once."""
    rng = np.random.default_rng(4)
    gain = np.r_[rng.normal(0, 1, 60), rng.normal(1, 1, 60)]
    dose = np.repeat([0, 1], 60)
    once = error_rates(scores(gain, dose))[0]
    thrice = error_rates(scores(np.repeat(gain, 3), np.repeat(dose, 3), np.repeat(np.arange(120), 3)))[0]
    for name in ("auc", "hits_5"):
        a, b = getattr(once, name), getattr(thrice, name)
        assert b.high - b.low == pytest.approx(a.high - a.low, rel=0.1)


def test_all_hits_and_no_hits_keep_an_interval():
    assert share_interval(1.0, 0.0, 1.959964, (20, 3))[0] < 0.9
    assert share_interval(0.0, 0.0, 1.959964, (20, 3))[1] > 0.1
    assert share_interval(0.5, 1e-9, 1.959964, (20, 3))[1] - 0.5 > 0.1  # 60 answers at most


SUBJECTS = np.repeat(np.arange(6), 40)


def test_levels_hold_where_items_are_exchangeable():
    rng = np.random.default_rng(5)
    shift = np.arange(6)[SUBJECTS] * 3.0  # subjects differ a lot
    s = scores(rng.normal(0, 1, (6, 240)) + shift, np.zeros(240, int))
    items = {r.controls: r for r in item_alarms(s, SUBJECTS, "unseen")}
    sets = {r.controls: r for r in benchmark_alarms(s, SUBJECTS, "unseen")}
    assert abs(items["same subjects"].rate - 0.05) < 0.03 and items["same subjects"].tested == 6 * 120
    assert sets["same subjects"].tests == 36 and sets["same subjects"].subjects == 6
    assert sets["same subjects"].low <= 0.05 <= sets["same subjects"].high
    assert sets["same subjects"].raised <= sets["same subjects"].rate
    # controls from elsewhere: nothing holds the level, and that is what is reported
    assert sets["other subjects"].rate > 0.5
    assert items["other subjects"].rate > 0.1
    assert sets["other subjects"].high - sets["other subjects"].low > 0.2  # six subjects, however many seeds


def test_the_test_is_that_of_leak():
    rng = np.random.default_rng(6)
    gain, tested = rng.normal(0, 1, 240), rng.random(240) < 0.4
    p, excess = benchmark_test(gain, tested, SUBJECTS, np.arange(240))
    row = dose_response(np.zeros((1, 240)), gain[None], Items(tested.astype(np.int64), SUBJECTS, np.arange(240)))[0]
    assert (p, excess) == (row.p, pytest.approx(row.effect))


def test_a_whole_null_benchmark_is_tested_by_its_doses():
    rng = np.random.default_rng(7)
    dose = np.tile([0, 1, 3], 80)
    row = whole_benchmark(scores(rng.normal(0, 1, (10, 240)), dose), SUBJECTS)[0]
    assert (row.tests, row.controls) == (10, "the other dose") and row.rate <= 0.2
    seen = whole_benchmark(scores(rng.normal(0, 1, (4, 240)) + (dose > 0), dose), SUBJECTS)[0]
    assert seen.rate == 1 == seen.raised


def test_too_few_items_make_no_rate():
    s = scores(np.zeros(19), np.zeros(19, int))
    assert benchmark_alarms(s, np.zeros(19, int), "unseen") == []
    assert item_alarms(s, np.zeros(19, int), "unseen") == []
    few = scores(np.arange(45.0), np.zeros(45, int))
    row = benchmark_alarms(few, np.repeat(np.arange(9), 5), "unseen")[0]
    assert row.subjects == 2  # four subjects of five items together, and the other five


def test_twins_are_never_parted():
    """Equal items as tested and control are no comparison: a split that parts one cannot be tested (Items refuses)."""
    rng = np.random.default_rng(8)
    s = scores(np.repeat(rng.normal(0, 1, (5, 60)), 2, axis=1), np.zeros(120, int), np.repeat(np.arange(60), 2))
    across = np.tile([0, 1], 60)  # every twin in another subject
    for subject in (np.zeros(120, int), across):
        rows = benchmark_alarms(s, subject, "unseen")
        assert rows[0].tests == 5 * rows[0].subjects
    assert benchmark_test(s.gain_SI[0], np.arange(120) < 61, np.zeros(120, int), s.cluster_I) is None
