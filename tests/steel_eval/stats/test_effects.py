"""The study's statistics on answers whose true effect is known: coverage, size, exactness, and what must not matter."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steel_eval.stats import effects
from steel_eval.stats.effects import Items, clean_score, contrast, dose_response, randomisation_test


def study(rng, *, effect=0.0, seeds=(3, 3), subjects=6, size=40, spread=0.0, twins=0.0):
    """Return clean (S, Q), injected (S, Q) and items. A share `twins` of the clusters has two items that answer alike.

    `effect`: added to the chance of items of dose 1 (twice of dose 3); `spread`: how much the effect varies by seed.
    """
    dose, subject, cluster, ease, number = [], [], [], [], -1
    for g in range(subjects):
        doses = rng.permutation(np.repeat([0, 0, 1, 3], size // 4))
        for d in doses:
            p, copies = rng.uniform(0.1, 0.7), 2 if rng.random() < twins else 1
            number += 1
            for _ in range(copies):
                dose.append(d)
                subject.append(g)
                cluster.append(number)
                ease.append(p)
    items = Items(np.array(dose), np.array(subject), np.array(cluster))
    gain_Q = effect * np.select([items.dose == 1, items.dose == 3], [1, 2], 0)

    def arm(n, gains):
        rows = []
        for _ in range(n):
            chance_Q = np.clip(np.array(ease) + gains * (1 + (spread * rng.normal() / max(effect, 1e-9))), 0, 1)
            luck_C = rng.random(len(np.unique(items.cluster)))  # twins share their luck
            rows.append((luck_C[items.cluster] < chance_Q).astype(float))
        return np.array(rows)

    return arm(seeds[0], 0 * gain_Q), arm(seeds[1], gain_Q), items


def test_a_known_effect_is_found_and_covered():
    """95 % intervals hold the truth about 95 times of 100, with clusters and with an effect that differs by seed."""
    rng = np.random.default_rng(1)
    inside, estimates = [], []
    for _ in range(150):
        effects_, _, _ = dose_of_two(rng, effect=0.15, spread=0.05, twins=0.3)
        inside += [e.low <= truth <= e.high for e, truth in zip(effects_, (0.15, 0.30), strict=True)]
        estimates.append([e.effect for e in effects_])
    assert np.allclose(np.mean(estimates, 0), (0.15, 0.30), atol=0.02)
    assert 0.92 <= np.mean(inside) <= 1


def dose_of_two(rng, **changes):
    """Effects of dose 1 and 3 without their tests: those take longer and have tests of their own."""
    clean_SQ, injected_SQ, items = study(rng, **changes)
    draws, effects.DRAWS = effects.DRAWS, 19
    try:
        rows = dose_response(clean_SQ, injected_SQ, items)
    finally:
        effects.DRAWS = draws
    return rows[:2], rows[2], items


def test_intervals_without_clusters_would_be_too_short():
    rng = np.random.default_rng(2)
    clean_SQ, injected_SQ, items = study(rng, effect=0.2, twins=1.0, seeds=(1, 1))
    apart = Items(items.dose, items.subject, np.arange(len(items.dose)))
    together, parted = (dose_response(clean_SQ, injected_SQ, i)[0] for i in (items, apart))
    assert together.effect == parted.effect
    assert together.high - together.low > 1.2 * (parted.high - parted.low)
    assert not together.seeds_counted


def test_an_effect_that_differs_by_seed_widens_the_interval():
    rng = np.random.default_rng(3)
    calm, wild = (np.mean([e.high - e.low for e in dose_of_two(rng, effect=0.2, spread=s)[0]]) for s in (0, 0.3))
    assert wild > 2 * calm


def test_the_test_keeps_its_size_under_the_null(monkeypatch):
    """At most 5 % false alarms (binomial error allowed for), though items differ and twins answer alike."""
    monkeypatch.setattr(effects, "DRAWS", 199)
    rng = np.random.default_rng(4)
    p = []
    for _ in range(400):
        clean_SQ, injected_SQ, items = study(rng, twins=0.5, seeds=(1, 1), subjects=3, size=24)
        kept = items.dose != 3
        change = (injected_SQ - clean_SQ)[0][kept]
        p.append(randomisation_test(change, items.only(kept), (items.dose[kept] == 1) * 1.0, 0)[0])
    assert np.mean(np.array(p) <= 0.05) <= 0.05 + 2.6 * np.sqrt(0.05 * 0.95 / 400)
    assert np.mean(np.array(p) <= 0.2) >= 0.1  # and it is not merely timid


def test_a_real_effect_is_significant_and_grows_with_the_dose():
    rows = dose_response(*study(np.random.default_rng(5), effect=0.2))
    one, three, trend = rows
    assert (one.dose, three.dose, trend.dose) == (1, 3, None)
    assert 0 < one.effect < three.effect
    assert three.p < 0.001 and trend.p < 0.001
    assert three.seen > three.unseen
    assert one.items == 60


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=4, max_size=8), st.integers(1, 3), st.randoms())
def test_exact_p_is_the_share_of_all_assignments(values, seen, random):
    """Against brute force over all permutations of the doses."""
    score = np.array([1.0] * seen + [0.0] * (len(values) - seen))
    random.shuffle(values)
    change = np.array(values, float)
    items = Items((score * 1).astype(int), np.zeros(len(values), int), np.arange(len(values)))
    p, exact = randomisation_test(change, items, score)
    centred = change - change.mean()
    real = score @ centred
    every = [sum(centred[i] for i in chosen) for chosen in itertools.combinations(range(len(values)), seen)]
    above = np.mean([s >= real - 1e-9 for s in every])
    below = np.mean([s <= real + 1e-9 for s in every])
    assert exact
    assert p == pytest.approx(min(1, 2 * min(above, below)))


def test_drawn_p_agrees_with_exact_p(monkeypatch):
    rng = np.random.default_rng(6)
    change = rng.normal(size=14)
    items = Items(np.array([0, 1] * 7), np.repeat([0, 1], 7), np.arange(14))
    score = (items.dose > 0) * 1.0
    p, exact = randomisation_test(change, items, score)
    monkeypatch.setattr(effects, "EXACT_UP_TO", 0)
    drawn, drawn_exact = randomisation_test(change, items, score)
    assert (exact, drawn_exact) == (True, False)
    assert drawn == pytest.approx(p, abs=0.02)


def test_the_real_assignment_is_one_of_those_it_is_compared_with(monkeypatch):
    """Drawn, no other is as extreme as the real one: p is what one in 1 + draws is, and never 0 (Phipson and Smyth)."""
    monkeypatch.setattr(effects, "DRAWS", 99)
    items = Items(np.repeat([0, 1], 30), np.zeros(60, int), np.arange(60))
    p, exact = randomisation_test(np.repeat([0.0, 1.0], 30) + np.arange(60) / 1e6, items, (items.dose > 0) * 1.0)
    assert (p, exact) == (pytest.approx(2 / 100), False)  # two-sided


def test_three_doses_are_enumerated_too():
    items = Items(np.array([0, 1, 3, 0]), np.zeros(4, int), np.arange(4))
    score = np.log2(1.0 + items.dose)
    change = np.array([0.0, 1.0, 2.0, 0.0])  # the order of the doses: the most extreme of 12 assignments
    p, exact = randomisation_test(change, items, score)
    assert exact and p == pytest.approx(2 / 12)


def test_clusters_of_different_size_never_change_places():
    """One pair seen, single items unseen: the draw could not have done otherwise, so there is nothing to test."""
    items = Items(np.array([1, 1, 0, 0]), np.zeros(4, int), np.array([0, 0, 1, 2]))
    assert randomisation_test(np.array([1.0, 1, 0, 0]), items, (items.dose > 0) * 1.0) == (1.0, True)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(-2, 2), st.floats(0.1, 3))
def test_subject_shifts_do_not_matter_and_scale_does(seed, shift, scale):
    """What changes all items of a subject alike (the form, the subject's ease) is not memory."""
    rng = np.random.default_rng(seed)
    subject = np.repeat(np.arange(4), 10)
    dose = np.tile([0, 0, 0, 1, 1], 8)
    change = rng.normal(size=40)
    weight = contrast((dose > 0) * 1.0, subject)
    moved = scale * change + shift * subject
    assert weight @ moved == pytest.approx(scale * (weight @ change), abs=1e-9)
    assert abs(weight.sum()) < 1e-9


def test_a_parted_cluster_and_a_missing_control_are_refused():
    with pytest.raises(ValueError, match="several doses"):
        Items(np.array([0, 1]), np.zeros(2, int), np.zeros(2, int))
    with pytest.raises(ValueError, match="no control"):
        contrast(np.array([1.0, 1.0, 0.0]), np.array([0, 0, 1]))


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
