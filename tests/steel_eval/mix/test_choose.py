"""Worlds of which the truth is known: the best mixture is found where there is one, and none is named where there is not.

bench/mix_worlds.py does the same over 200 worlds of each kind; docs/results/mix.md has its figures.
"""

from functools import cache

import numpy as np
import pytest
from bench.mix_worlds import KINDS, space_of, world

from steel_eval.mix.choose import Observed, choose
from steel_eval.mix.design import choose_arms, make_space

WORLDS = 12


@cache
def worlds(kind):
    return [world(kind, seed, 3, 12, 4) for seed in range(WORLDS)]


@pytest.mark.parametrize("kind", KINDS)
def test_intervals_hold_new_runs(kind):
    assert 0.83 <= np.mean([w["held"] for w in worlds(kind)]) <= 0.95


def test_no_winner_on_a_flat_surface():
    assert sum(w["named"] for w in worlds("flat")) <= 1


@pytest.mark.parametrize("kind", ["clear optimum", "interaction"])
def test_the_best_mixture_is_near_the_true_one_and_the_regret_below_the_noise(kind):
    """In units of one run's noise: what is named is never worse than the recipe's own by more than that."""
    found = worlds(kind)
    assert np.mean([w["best"] for w in found]) < 0.3
    assert sum(w["named"] for w in found) >= WORLDS // 2
    assert max(w["regret"] for w in found if w["named"]) < 1


def observed(space, loss, noise=0.0, runs=12):
    share_NK = np.vstack([np.tile(space.own, (4, 1)), choose_arms(space, runs, 1)])
    value_N = loss(share_NK) + noise * np.random.default_rng(2).standard_normal(len(share_NK))
    return Observed(share_NK, value_N, np.arange(len(share_NK)) < 4)


SPACE = make_space("r", {"a": 0.4, "b": 0.4, "c": 0.2}, {}, dict.fromkeys("abc", 1.0))


def test_the_pull_keeps_what_does_not_matter_as_it_is():
    found = choose(SPACE, observed(SPACE, lambda w: -5 * np.log(w[:, 0]), 0.5))
    assert found.named and found.best[0] > 0.75
    assert found.best[1] / found.best[2] == pytest.approx(2, rel=0.3)


def test_the_region_holds_what_is_not_shown_worse():
    found = choose(SPACE, observed(SPACE, lambda w: 40 * (w[:, 0] - 0.5) ** 2, 0.05))
    low, high = found.region[:, 0]
    assert low < 0.5 < high and high - low < 0.25 and found.room < 0.5


def test_a_gain_below_the_noise_of_one_run_is_no_reason_to_change():
    space = make_space("r", {"a": 0.5, "b": 0.5}, {}, {"a": 1.0, "b": 1.0})
    many = observed(space, lambda w: -0.3 * np.log(w[:, 0]), 0.0, runs=60)
    noisy = Observed(many.share, many.value + np.resize([1.0, -1.0], 64) * np.where(many.centre, 1, 0.01), many.centre)
    found = choose(space, noisy)
    assert found.gain.value < found.noise and not found.named


def test_too_few_arms_say_nothing():
    few = observed(SPACE, lambda w: w[:, 0], runs=2)
    assert choose(SPACE, few) is None
    assert space_of(np.random.default_rng(0), 3).own.sum() == pytest.approx(1)
