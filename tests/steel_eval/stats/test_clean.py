"""The clean score: it holds what it claims to hold, and one leaked subject does not spoil the others."""

import numpy as np
import pytest

from steel_eval.stats.clean import clean_score
from steel_eval.stats.effects import Items


@pytest.mark.parametrize("with_reference", [False, True])
def test_the_clean_score_covers_what_the_model_would_have_scored(with_reference):
    """The same luck with and without the effect: the truth is known item by item."""
    rng = np.random.default_rng(7)
    inside, widths = [], []
    for _ in range(250):
        subject = np.repeat(np.arange(5), 40)
        dose = np.concatenate([rng.permutation([0] * 20 + [10] * 20) for _ in range(5)])
        ease = rng.beta(0.5, 1, size=200)
        would_have = (rng.random(200) < ease).astype(float)
        reference = np.where(rng.random(200) < 0.92, would_have, 1 - would_have)
        score = np.where(dose > 0, 1.0, would_have)
        found = clean_score(score, Items(dose, subject, np.arange(200)), reference if with_reference else None)
        inside.append(found.low <= would_have.mean() <= found.high)
        widths.append(found.high - found.low)
        assert found.reported > found.clean
    assert 0.92 <= np.mean(inside) <= 0.99
    assert np.mean(widths) < (0.09 if with_reference else 0.15)


def test_subjects_without_unseen_items_are_pooled():
    items = Items(np.array([1, 1, 0, 0, 0, 0]), np.array([0, 0, 1, 1, 1, 1]), np.arange(6))
    found = clean_score(np.array([1.0, 1, 0, 1, 0, 1]), items)
    assert found.clean == pytest.approx(0.5)
    with pytest.raises(ValueError, match="unseen clusters"):
        clean_score(np.ones(2), Items(np.array([1, 0]), np.zeros(2, int), np.arange(2)))


def test_a_sample_without_variance_still_gets_an_interval():
    """All unseen items answered as the reference answers them does not mean that all items would be."""
    items = Items(np.array([1, 0] * 10), np.zeros(20, int), np.arange(20))
    same = np.tile([1.0, 0.0], 10)
    found = clean_score(same, items, same)
    assert found.low < found.clean < found.high


def leaky(rng, *, subjects=17, size=60, share=0.2, level=0.0, whole=0, runs=3):
    """Return a contaminated run's scores, items, `runs` clean runs and one more; `whole`: subjects seen wholly."""
    subject = np.repeat(np.arange(subjects), size)
    ease = np.clip(rng.beta(1, 2, subjects * size) + 0.13 * rng.normal(size=subjects)[subject], 0.02, 0.98)
    seen = np.concatenate([rng.permutation(size) < share * size for _ in range(subjects)]) | (subject < whole)
    clean = (
        np.array([rng.random(len(ease)) < np.clip(ease + level * rng.normal(), 0, 1) for _ in range(runs + 2)]) * 1.0
    )
    return np.where(seen, 1.0, clean[0]), Items(seen * 1, subject, np.arange(len(ease))), clean[2:], clean[1], clean[0]


@pytest.mark.parametrize(("level", "share"), [(0.0, 0.2), (0.01, 0.2), (0.03, 0.2), (0.0, 0.6)])
def test_the_interval_holds_a_further_clean_run(level, share):
    """Over items alone it held the score of a clean run in 26 to 73 %; runs may also differ in level (`level`)."""
    rng = np.random.default_rng(8)
    held, narrow = [], []
    for _ in range(200):
        score, items, runs, other, _ = leaky(rng, level=level, share=share)
        wide, alone = clean_score(score, items, None, runs), clean_score(score, items)
        assert (wide.runs, alone.runs) == (3, 0) and wide.clean == alone.clean
        held.append(wide.low <= other.mean() <= wide.high)
        narrow.append(alone.low <= other.mean() <= alone.high)
    assert 0.92 <= np.mean(held) <= 0.995
    assert np.mean(narrow) < 0.9


@pytest.mark.parametrize("whole", [1, 3])
def test_a_subject_that_was_seen_wholly_spoils_no_other(whole):
    """A leaked subject file: its pooling threw all strata away, -2.45 points with 0.2 % covered."""
    rng = np.random.default_rng(9)
    held, error = [], []
    for _ in range(200):
        score, items, _, _, own = leaky(rng, subjects=34, size=40, share=0.3, whole=whole)
        found = clean_score(score, items)
        assert found.thin == whole
        held.append(found.low <= own.mean() <= found.high)
        error.append(found.clean - own.mean())
    assert abs(np.mean(error)) < 0.004
    assert 0.92 <= np.mean(held) <= 0.995


def test_one_clean_run_says_nothing_of_runs():
    score, items, runs, _, _ = leaky(np.random.default_rng(10))
    assert clean_score(score, items, runs[0], runs[:1]).runs == 0
