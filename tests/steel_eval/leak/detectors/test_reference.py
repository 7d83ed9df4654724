"""Ranks among controls, by counting; false flags stay below five per cent."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steel_eval.leak.detectors.reference import flagged, rank_p_values, smallest_flaggable


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
