"""Error rates of a crossed pool: found is what was seen, and who saw nothing is accused as often as it is said."""

import numpy as np
import pytest

from steel_eval.leak.rates.pooled import pooled_rates
from steel_eval.stats.effects import Items


def pool(rng, gain, runs=8, shift=0.0):
    dose = 3 * (rng.random((runs, 400)) < 0.05).astype(np.int64)
    subject = np.arange(400) // 40
    change = rng.normal(size=(runs, 400)) + shift * rng.normal(size=10)[subject] + gain * (dose > 0)
    return change, dose, Items(np.zeros(400, np.int64), subject, np.arange(400))


def rates(change, dose, items):
    return {(r.what, r.controls): r for r in pooled_rates("reference runs: item", change, dose, items)}


def test_what_was_seen_is_found_and_what_was_not_is_accused_at_the_rate():
    found = rates(*pool(np.random.default_rng(0), 2.0))
    assert found["AUC", "unseen"].value == pytest.approx(0.92, abs=0.04) and len(found["AUC", "unseen"].by_seed) == 8
    hits = found["hits at 5 %", "unseen"]
    assert 0.5 < hits.low < hits.value < hits.high < 0.8 and hits.dose == 3
    for what in ("items accused", "benchmarks accused"):
        for side in ("same subjects", "other subjects"):
            rate = found[what, side]
            assert rate.low <= 0.05 <= rate.high and rate.n > 70, (what, side)


def test_nothing_to_find_is_not_found():
    found = rates(*pool(np.random.default_rng(1), 0.0))
    assert found["AUC", "unseen"].low <= 0.5 <= found["AUC", "unseen"].high
    assert found["hits at 5 %", "unseen"].low <= 0.05 <= found["hits at 5 %", "unseen"].high


def test_a_subject_that_shifted_is_accused_beside_other_subjects_only():
    found = rates(*pool(np.random.default_rng(2), 0.0, shift=1.0))
    assert found["benchmarks accused", "other subjects"].value > 0.2
    assert found["benchmarks accused", "same subjects"].low <= 0.05
    assert found["benchmarks accused", "other subjects"].subjects == 10


def test_items_without_a_reference_are_left_out():
    change, dose, items = pool(np.random.default_rng(3), 2.0)
    change[:, :40] = np.nan
    found = rates(change, dose, items)
    assert found["AUC", "unseen"].n == (dose[:, 40:] > 0).sum()
