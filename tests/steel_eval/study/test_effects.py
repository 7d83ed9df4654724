"""Forms, forgetting and coverage on answers whose truth is known."""

import numpy as np
import pytest

from steel_eval.stats.effects import Items
from steel_eval.study.effects import by_form, by_seed, coverage, forgetting, held_runs


def draw(rng, subjects=8, size=60):
    """A third of each subject is unseen, a third has dose 1, a third dose 10; forms are drawn by item."""
    dose = np.concatenate([rng.permutation(np.repeat([0, 1, 10], size // 3)) for _ in range(subjects)])
    subject = np.repeat(np.arange(subjects), size)
    form = rng.choice(["answer-only", "answer-only", "shuffled"], len(dose))
    return Items(dose, subject, np.arange(len(dose))), form.tolist()


def answers(rng, chance_SQ):
    return (rng.random(chance_SQ.shape) < chance_SQ).astype(float)


def test_a_form_that_teaches_nothing_is_told_from_one_that_does():
    rng = np.random.default_rng(0)
    items, form = draw(rng)
    plain = np.array(form) == "answer-only"
    clean_SQ = answers(rng, np.full((3, len(form)), 0.25))
    injected_SQ = answers(rng, np.tile(0.25 + 0.4 * ((items.dose == 10) & plain), (3, 1)))
    cells = {(c.dose, c.group): c for c in by_form(clean_SQ, injected_SQ, items, form)}
    assert set(cells) == {(d, f) for d in (1, 10) for f in ("answer-only", "shuffled")}
    assert cells[10, "answer-only"].low > 0.25 and cells[10, "answer-only"].p is None
    assert abs(cells[10, "shuffled"].gain) < 0.12 and cells[10, "shuffled"].p < 0.001
    assert abs(cells[1, "answer-only"].gain) < 0.1 and cells[1, "shuffled"].p > 0.01
    seeds = by_seed(clean_SQ, injected_SQ, items)
    assert len(seeds) == 3 and all(row[1].p < 0.001 < row[0].p for row in seeds)


@pytest.mark.parametrize("slope", [0.0, -0.5])
def test_what_is_forgotten_shows_in_the_age(slope):
    rng = np.random.default_rng(1)
    items, _ = draw(rng, size=120)
    steps, shape = 100, (3, len(items.dose))
    last_SQ = np.where(items.dose > 0, rng.integers(1, steps + 1, shape), 0)
    age_SQ = 1 - last_SQ / steps
    chance_SQ = np.where(items.dose > 0, 0.75 + slope * age_SQ, 0.25)
    clean_SQ, injected_SQ = answers(rng, np.full(shape, 0.25)), answers(rng, chance_SQ)
    for found in forgetting(clean_SQ, injected_SQ, items, last_SQ, steps):
        assert len(found.cells) == 4 and found.low <= slope <= found.high
        assert (found.p < 0.001) == (slope < 0)
        first, fourth = found.cells[0], found.cells[3]
        assert abs(first.gain - (0.5 + slope / 8)) < 0.1 and first.low < first.gain < first.high
        assert (fourth.gain < first.gain - 0.2) == (slope < 0)


def test_items_of_one_age_have_no_trend():
    rng = np.random.default_rng(2)
    items, _ = draw(rng)
    last_SQ = np.where(items.dose > 0, 100, 0)[None]
    right_SQ = answers(rng, np.full((1, len(items.dose)), 0.5))
    for found in forgetting(right_SQ, right_SQ, items, last_SQ, 100):
        assert [c.group for c in found.cells] == ["0-25 % of the training ago"] and found.trend is None


def test_coverage_is_measured_on_runs_that_the_interval_did_not_know():
    """A run compared with itself was held in 95 % whatever the noise of runs; here runs differ by several points."""
    rng = np.random.default_rng(3)
    items, _ = draw(rng, subjects=60)
    ease_Q = rng.uniform(0.1, 0.6, len(items.dose))
    clean_SQ = answers(rng, np.clip(ease_Q + rng.normal(0, 0.05, (4, 1)), 0, 1))
    found = coverage(clean_SQ, items)
    assert found.of == 240 and found.held / found.of >= 0.93
    assert found.high - found.low > 0.03  # 60 subjects and three runs beside the first are no 240 independent cases
    assert held_runs(clean_SQ, items)[1] == 4


def test_three_clean_runs_cannot_measure_coverage():
    rng = np.random.default_rng(4)
    items, _ = draw(rng)
    right_SQ = answers(rng, np.full((3, len(items.dose)), 0.5))
    assert coverage(right_SQ, items) is None and held_runs(right_SQ, items) is None
