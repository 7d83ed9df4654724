"""False alarms on made-up scores: levels hold where items are exchangeable, and nothing is compared with its twin."""

import numpy as np
import pytest

from steel_eval.leak.rates.error_rates import Scores
from steel_eval.leak.rates.false_alarms import benchmark_alarms, benchmark_test, item_alarms, whole_benchmark
from steel_eval.leak.rates.table import BENCHMARKS, RAISED
from steel_eval.stats.effects import Items, dose_response

SUBJECTS = np.repeat(np.arange(6), 40)


def scores(gain, subject, dose=0, cluster=None):
    gain = np.atleast_2d(np.asarray(gain, float))
    n = gain.shape[1]
    items = Items(np.zeros(n, int) + dose, subject, np.arange(n) if cluster is None else cluster)
    return Scores("d", gain, gain, items, np.array([""] * n))


def by_controls(rates, what):
    return {rate.controls: rate for rate in rates if rate.what == what}


def test_levels_hold_where_items_are_exchangeable():
    rng = np.random.default_rng(5)
    s = scores(rng.normal(0, 1, (6, 240)) + SUBJECTS * 3.0, SUBJECTS)  # subjects differ a lot
    items = {rate.controls: rate for rate in item_alarms(s, "unseen")}
    sets = list(benchmark_alarms(s, "unseen"))
    accused, raised = (by_controls(sets, what) for what in (BENCHMARKS, RAISED))
    same, other = accused["same subjects"], accused["other subjects"]
    assert abs(items["same subjects"].value - 0.05) < 0.03 and items["same subjects"].n == 6 * 120
    assert (same.n, same.subjects, same.of) == (36, 6, "unseen")
    assert same.low <= 0.05 <= same.high
    assert raised["same subjects"].value <= same.value
    # controls from elsewhere: nothing holds the level, and that is what is reported
    assert other.value > 0.5 and items["other subjects"].value > 0.1
    assert other.high - other.low > 0.2  # six subjects, however many seeds


def test_the_test_is_that_of_leak():
    rng = np.random.default_rng(6)
    gain, tested = rng.normal(0, 1, 240), rng.random(240) < 0.4
    p, excess = benchmark_test(gain, tested, SUBJECTS, np.arange(240))
    row = dose_response(np.zeros((1, 240)), gain[None], Items(tested.astype(np.int64), SUBJECTS, np.arange(240)))[0]
    assert (p, excess) == (row.p, pytest.approx(row.effect))


def test_a_whole_null_benchmark_is_tested_by_its_doses():
    rng = np.random.default_rng(7)
    dose = np.tile([0, 1, 3], 80)
    accused, _ = whole_benchmark(scores(rng.normal(0, 1, (10, 240)), SUBJECTS, dose))
    assert (accused.n, accused.controls, accused.of) == (10, "the other dose", "nulls") and accused.value <= 0.2
    seen = list(whole_benchmark(scores(rng.normal(0, 1, (4, 240)) + (dose > 0), SUBJECTS, dose)))
    assert [(rate.what, rate.value) for rate in seen] == [(BENCHMARKS, 1), (RAISED, 1)]
    fallen = list(whole_benchmark(scores(rng.normal(0, 1, (4, 240)) - (dose > 0), SUBJECTS, dose)))
    assert [rate.value for rate in fallen] == [1, 0]  # a fall is an alarm too, in the direction of no leak


def test_too_few_items_make_no_rate():
    s = scores(np.zeros(19), np.zeros(19, int))
    assert [*benchmark_alarms(s, "unseen"), *item_alarms(s, "unseen")] == []
    few = scores(np.arange(45.0), np.repeat(np.arange(9), 5))
    assert next(benchmark_alarms(few, "unseen")).subjects == 2  # four subjects of five items, and the other five


def test_twins_are_never_parted():
    """Equal items as tested and control are no comparison: a split that parts one cannot be tested (Items refuses)."""
    rng = np.random.default_rng(8)
    gain = np.repeat(rng.normal(0, 1, (5, 60)), 2, axis=1)
    across = np.tile([0, 1], 60)  # every twin in another subject
    for subject in (np.zeros(120, int), across):
        rate = by_controls(
            benchmark_alarms(scores(gain, subject, 0, np.repeat(np.arange(60), 2)), "unseen"), BENCHMARKS
        )
        assert rate["same subjects"].n == 5 * rate["same subjects"].subjects
    twins = np.repeat(np.arange(60), 2)
    assert benchmark_test(gain[0], np.arange(120) < 61, np.zeros(120, int), twins) is None
