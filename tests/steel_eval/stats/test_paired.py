"""Statistics against hand-computed cases, published figures, and simulations of their error rates."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steel_eval.compare.print import power_row
from steel_eval.report.page import reference_results
from steel_eval.stats import paired as stats


def test_mcnemar_is_the_binomial_test():
    assert stats.mcnemar(0, 0) == 1
    assert stats.mcnemar(0, 5) == pytest.approx(2 / 32)
    assert stats.mcnemar(3, 9) == pytest.approx(2 * sum([1, 12, 66, 220]) / 2**12)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_does_not_care_which_is_called_a(b, c):
    assert stats.mcnemar(b, c) == stats.mcnemar(c, b)


def test_minimum_detectable_differences_of_the_published_sets():
    """evaluation.md E.2: CMMLU 1.43, C-Eval val 4.2, C-Eval test 1.4 points at 30 % discordance."""
    got = [round(100 * stats.minimum_detectable(n, 0.3), 2) for n in (11582, 1346, 12342)]
    assert got == [1.43, 4.18, 1.38]


def test_best_of_k_bias():
    """evaluation.md E.2: C-Eval val +1.2 points for 5 checkpoints, CMMLU +.34 / .52 for 5 and 10."""
    assert 100 * stats.best_of_k_bias(5, 1346, 0.3) == pytest.approx(1.2, abs=0.05)
    assert 100 * stats.best_of_k_bias(10, 1346, 0.3) == pytest.approx(1.65, abs=0.1)
    assert stats.best_of_k_bias(1, 1346, 0.3) == pytest.approx(0, abs=1e-6)


def test_wilson_stays_inside():
    assert stats.wilson(0, 10)[0] == 0
    assert stats.wilson(10, 10)[1] == 1
    low, high = stats.wilson(50, 100)
    assert (low, high) == (pytest.approx(0.4038, abs=1e-3), pytest.approx(0.5962, abs=1e-3))


@pytest.fixture
def few_draws(monkeypatch):
    """Simulations of error rates do not need the full number of bootstrap draws."""
    monkeypatch.setattr(stats, "DRAWS", 600)


def paired(generator, n=800, gain=0.0, subjects=8):
    """Right or wrong of two models that agree on most questions; B gains on `gain` of them in the mean."""
    ability = generator.random(n)
    a = generator.random(n) < 0.2 + 0.4 * ability
    b = np.where(generator.random(n) < 0.7, a, generator.random(n) < 0.2 + 0.4 * ability + gain / 0.3)
    return a.astype(float), b.astype(float), np.arange(n) % subjects


def test_the_bootstrap_interval_covers_the_truth(few_draws):
    generator = np.random.default_rng(0)
    covered = 0
    for i in range(150):
        a, b, subject = paired(generator, gain=0.03)
        low, high = stats.paired_bootstrap(b - a, subject, macro=False, seed=i)
        covered += low <= 0.03 <= high
    assert 0.89 <= covered / 150 <= 0.99


def test_macro_weighs_subjects_equally():
    change = np.array([1.0] * 10 + [0.0] * 90)
    subject = np.array([0] * 10 + [1] * 90)
    low, high = stats.paired_bootstrap(change, subject, macro=True)
    assert low == high == 0.5  # nothing varies within a subject
    assert stats.question_weights(subject, macro=True) @ change == pytest.approx(0.5)


def test_a_gain_in_one_subject_is_wide_by_cluster():
    change = np.concatenate([np.ones(50), np.zeros(450)])
    subject = np.repeat(np.arange(10), 50)
    low, _ = stats.paired_bootstrap(change, subject, macro=False)
    assert low > 0
    low, high = stats.cluster_bootstrap(change, subject, macro=False)
    assert low == 0
    assert high > 0.2


def arms(generator, seeds, seed_sd, n=400):
    """Two mixtures without a difference, whose seeds differ by `seed_sd` (a fraction)."""
    base = generator.random(n) * 0.5 + 0.2

    def draw():
        return np.stack(
            [(generator.random(n) < base + generator.normal(0, seed_sd)).astype(float) for _ in range(seeds)]
        )

    return draw(), draw(), np.arange(n) % 5


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_seeds_are_part_of_the_error(seeds, few_draws):
    """Mixtures without a difference, seeds 4 points apart: one checkpoint each would be called different far too often."""
    generator = np.random.default_rng(1)
    wrong_seeds = wrong_single = 0
    for i in range(150):
        a, b, subject = arms(generator, seeds, 0.04)
        wrong_seeds += stats.seeds_and_questions(a, b, subject, macro=False, seed=i).p < 0.05
        wrong_single += (
            stats.mcnemar(int(((a[0] == 1) & (b[0] == 0)).sum()), int(((a[0] == 0) & (b[0] == 1)).sum())) < 0.05
        )
    assert wrong_seeds / 150 <= 0.08
    assert wrong_single / 150 > 0.2


def test_seeds_find_a_difference_that_is_there():
    generator = np.random.default_rng(2)
    a, b, subject = arms(generator, 4, 0.005)
    found = stats.seeds_and_questions(a, np.minimum(b + (generator.random(b.shape) < 0.15), 1), subject, macro=False)
    assert found.p < 0.01
    assert found.low > 0


def test_one_seed_is_refused():
    with pytest.raises(ValueError, match="one seed says nothing"):
        stats.seeds_and_questions(np.ones((1, 4)), np.ones((3, 4)), np.zeros(4, int), macro=False)


def test_benjamini_hochberg_by_hand():
    assert stats.benjamini_hochberg([0.01, 0.02, 0.03, 0.5]) == pytest.approx([0.04, 0.04, 0.04, 0.5])
    assert stats.benjamini_hochberg([]) == []


def test_power():
    assert stats.power_of(0, 1e-4) == pytest.approx(0.05)
    row = power_row(0.02, 1346, 0.3, 1, 0)
    assert row["power"] < 0.3
    assert row["questions"] == pytest.approx(5887, abs=2)
    assert power_row(0.02, 11582, 0.3, 3, 0.01)["seeds"] == "8"
    assert power_row(0.01, 1346, 0.3, 3, 0.01)["seeds"] == "none suffices"


def test_published_results_have_source_and_protocol():
    table = reference_results()
    assert "Protocols differ" in table["warning"]
    assert len(table["result"]) == 22
    assert all(r["source"] and r["protocol"] for r in table["result"])
