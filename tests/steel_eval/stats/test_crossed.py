"""A crossed pool: the gain comes out unbiased, its test does not err more often than it says, and references see nothing."""

import numpy as np
import pytest

from steel_eval.stats.crossed import exchange_test, pool_gains, run_test, unseen_mean

RUNS, ITEMS, SUBJECTS = 8, 120, 6


def world(seed: int, gain: float, share: float = 0.1, dose: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of runs of unlike level on items of unlike difficulty, (R, I); who saw what; subjects."""
    generator = np.random.default_rng(seed)
    subject_I = np.repeat(np.arange(SUBJECTS), ITEMS // SUBJECTS)
    dose_RI = dose * (generator.random((RUNS, ITEMS)) < share)
    score_RI = (
        generator.normal(size=(RUNS, 1)) + 2 * generator.normal(size=ITEMS) + 0.5 * generator.normal(size=(RUNS, ITEMS))
    )
    return score_RI + gain * (dose_RI > 0), dose_RI.astype(np.int64), subject_I


def test_the_gain_is_found_though_runs_and_items_differ_far_more():
    found = [pool_gains(*world(seed, 0.3), np.arange(ITEMS))[0] for seed in range(12)]
    assert abs(np.mean([f.gain.value for f in found]) - 0.3) < 0.03
    assert sum(f.gain.low <= 0.3 <= f.gain.high for f in found) >= 10
    assert max(f.p for f in found) < 0.01


def test_without_an_effect_one_in_twenty_pools_is_accused():
    p = np.array([exchange_p(seed) for seed in range(120)])
    assert (p <= 0.05).mean() < 0.05 + 2.6 * np.sqrt(0.05 * 0.95 / 120)
    assert 0.35 < p.mean() < 0.65  # one-sided, and neither side preferred


def exchange_p(seed: int) -> float:
    score_RI, dose_RI, subject_I = world(seed, 0.0)
    return exchange_test(score_RI, dose_RI > 0, np.ones_like(dose_RI, bool), subject_I, np.arange(ITEMS), seed)


def test_an_item_set_that_became_less_likely_is_no_leak():
    assert exchange_test(*_labels(-0.5), np.arange(ITEMS)) > 0.9
    assert exchange_test(*_labels(0.5), np.arange(ITEMS)) < 0.001


def _labels(gain: float) -> tuple[np.ndarray, ...]:
    score_RI, dose_RI, subject_I = world(1, gain)
    return score_RI, dose_RI > 0, np.ones_like(dose_RI, bool), subject_I


def test_each_dose_is_compared_with_unseen_pairs_only():
    score_RI, dose_RI, subject_I = world(2, 0.0, share=0.2, dose=1)
    dose_RI[:, ::2] *= 10  # every second item is seen ten times by whoever sees it
    score_RI = score_RI + 3.0 * (dose_RI == 10)
    one, ten = pool_gains(score_RI, dose_RI, subject_I, np.arange(ITEMS))
    assert (one.dose, ten.dose) == (1, 10)
    assert abs(one.gain.value) < 0.25 and abs(ten.gain.value - 3.0) < 0.25
    assert one.pairs == int((dose_RI == 1).sum())


def test_items_that_were_drawn_as_one_change_places_as_one():
    score_RI, dose_RI, subject_I = world(3, 0.0)
    cluster_I = np.arange(ITEMS) // 2
    dose_RI[:, 1::2] = dose_RI[:, ::2]
    pair_RI = np.repeat(np.random.default_rng(0).normal(size=(RUNS, ITEMS // 2)), 2, axis=1)
    p = [exchange_test(score_RI * 0 + s * pair_RI, dose_RI > 0, dose_RI >= 0, subject_I, cluster_I) for s in (1, -1)]
    assert p[0] + p[1] == pytest.approx(1, abs=0.02)  # two mirrored tests of one fixed number


def test_a_run_is_no_reference_for_itself_nor_for_what_it_saw():
    score_RI = np.array([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0], [9.0, 9.0, 9.0]])
    dose_RI = np.array([[0, 0, 0], [0, 3, 1], [0, 0, 1]])
    assert unseen_mean(score_RI, dose_RI, without=2).tolist() == [1.5, 1.0, 1.0]
    assert unseen_mean(score_RI, dose_RI).tolist() == [4.0, 5.0, 1.0]
    assert np.isnan(unseen_mean(score_RI[1:], dose_RI[1:])[2])


def test_two_runs_are_no_pool():
    score_RI, dose_RI, subject_I = world(4, 0.0)
    with pytest.raises(ValueError, match="2 runs"):
        pool_gains(score_RI[:2], dose_RI[:2], subject_I, np.arange(ITEMS))
    with pytest.raises(ValueError, match="no run saw some"):
        pool_gains(score_RI, np.tile(dose_RI.max(1, keepdims=True), (1, ITEMS)), subject_I, np.arange(ITEMS))


def test_a_run_s_own_test_is_exact_one_sided_and_bound_to_subjects():
    generator = np.random.default_rng(5)
    subject, cluster = np.arange(120) // 20, np.arange(120) // 2  # clusters of two
    p = []
    for _ in range(400):
        tested = np.repeat(generator.random(60) < 0.3, 2)
        gain = 3 * generator.normal(size=6)[subject] + np.repeat(generator.normal(size=60), 2)
        p.append(run_test(gain, tested, subject, cluster, draws=199))
    assert 0.02 <= np.mean(np.array(p) <= 0.05) <= 0.08
    assert run_test(gain + tested, tested, subject, cluster) < 0.01
    assert run_test(gain - tested, tested, subject, cluster) > 0.9  # what fell was not seen
    assert run_test(np.where(tested, np.nan, gain), tested, subject, cluster) == 1
