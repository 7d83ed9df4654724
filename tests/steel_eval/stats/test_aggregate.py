"""The set-level test: its size under the null and under a shifted subject, its power, its direction."""

import numpy as np
import pytest

from steel_eval.stats import aggregate
from steel_eval.stats.aggregate import normal_scores, set_test
from steel_eval.stats.effects import Items


def rejected(monkeypatch, *, gain=0.0, shift=0.0, twins=False, sets=120):
    """The share of tests at 5 % that call 90 of 180 items seen; `shift`: of the first subject, of which most are tested."""
    monkeypatch.setattr(aggregate, "DRAWS", 99)
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(sets):
        subject, cluster = np.repeat(np.arange(6), 30), np.arange(180) // (2 if twins else 1)
        tested = np.concatenate([rng.permutation(15 if twins else 30) for _ in range(6)])
        share = np.where(np.arange(6) == 0, 0.9, 0.5).repeat(15 if twins else 30)
        tested = (tested < share * (15 if twins else 30)).repeat(2 if twins else 1)
        noise = rng.normal(size=(180, 8)) @ (0.5 * rng.normal(size=(8, 8)) + np.eye(8))
        score = (noise[cluster] if twins else noise) + shift * (subject == 0)[:, None]
        score[:, :3] += gain * tested[:, None]
        score[rng.random(score.shape) < 0.1] = np.nan
        hits += set_test(score, Items(tested * 1, subject, cluster), seed=hits).p <= 0.05
    return hits / sets


@pytest.mark.parametrize("setting", [{}, {"shift": 2.0}, {"twins": True}])
def test_innocent_sets_are_accused_in_at_most_5_of_100(monkeypatch, setting):
    """Also where one subject moved as a whole: pooled, its AUC alone accused 100 % of such sets."""
    assert rejected(monkeypatch, **setting) <= 0.05 + 2.3 * np.sqrt(0.05 * 0.95 / 120)


def test_what_few_of_the_scores_show_is_found(monkeypatch):
    assert rejected(monkeypatch, gain=0.5) > 0.6


def test_items_that_became_less_likely_are_not_accused(monkeypatch):
    assert rejected(monkeypatch, gain=-0.6, sets=60) <= 0.05


def test_one_outlier_rules_nothing():
    score = normal_scores(np.array([[1.0], [2.0], [1e9], [np.nan]]))
    assert score[2, 0] < 1.5 and score[3, 0] == 0 and score[1, 0] == pytest.approx(0)


def test_without_a_control_nothing_is_tested():
    with pytest.raises(ValueError, match="no control"):
        set_test(np.zeros((4, 2)), Items(np.array([1, 1, 0, 0]), np.array([0, 0, 1, 1]), np.arange(4)))
