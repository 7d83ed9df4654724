"""The surface against what is known: exact coefficients, refits without an arm, intervals that hold as often as they say."""

import numpy as np
import pytest

from steel_eval.mix.design import choose_arms, make_space, scatter
from steel_eval.mix.surface import averaged, doubling, features, fit, process

OWN = {"chat": 0.5, "exam": 0.3, "code": 0.2}
SPACE = make_space("r", OWN, {}, dict.fromkeys(OWN, 1.0))
SHARE = np.vstack([np.tile(SPACE.own, (4, 1)), choose_arms(SPACE, 12, 1)])
NOISE = np.random.default_rng(0).standard_normal((200, len(SHARE)))


@pytest.mark.parametrize("form", ["log-linear", "quadratic"])
def test_a_surface_of_its_own_form_is_found_again(form):
    truth_P = np.arange(1.0, 1 + features(form, SPACE.own, SHARE).shape[1])
    found = fit(form, SPACE.own, SHARE, features(form, SPACE.own, SHARE) @ truth_P)
    assert found.coefficient == pytest.approx(truth_P, abs=1e-6) and found.spread < 1e-8


def test_leave_one_out_is_what_refits_without_the_arm_say():
    value_N = NOISE[0]
    found = fit("log-linear", SPACE.own, SHARE, value_N)
    for arm in range(len(SHARE)):
        rest = np.arange(len(SHARE)) != arm
        without = fit("log-linear", SPACE.own, SHARE[rest], value_N[rest])
        assert found.error[arm] == pytest.approx(value_N[arm] - without.predict(SHARE[arm])[0])
        assert found.out_of_sample()[arm] == pytest.approx(without.half_width(SHARE[arm])[0])


def test_nine_of_ten_intervals_hold_a_new_run():
    new_NK = scatter(SPACE, 4, 9)
    rng = np.random.default_rng(1)
    held = []
    for noise_N in NOISE:
        found = fit("log-linear", SPACE.own, SHARE, noise_N)
        held.append(np.abs(rng.standard_normal(16) - found.predict(new_NK)) <= found.half_width(new_NK))
    assert 0.88 <= np.mean(held) <= 0.92


def test_doubling_is_the_coefficient_of_a_source_and_what_the_others_lose():
    """A loss of -ln(share of exam + ...) alone: each doubling of exam lowers it by nearly ln 2, others barely matter."""
    value_N = -features("log-linear", SPACE.own, SHARE)[:, 2]
    change_K, error_K = doubling(fit("log-linear", SPACE.own, SHARE, value_N))
    assert change_K[1] == pytest.approx(-np.log(2) / 1.1)
    assert change_K[0] == pytest.approx(np.log(2) / 1.1 * 0.5 / (1 - 0.5))  # exam shrinks as chat grows
    assert (error_K < 1e-8).all()


def test_intervals_of_doubling_hold_the_truth_as_often_as_they_say():
    from scipy.stats import t

    truth_K, _ = doubling(fit("log-linear", SPACE.own, SHARE, -features("log-linear", SPACE.own, SHARE)[:, 2]))
    held = []
    for noise_N in NOISE:
        found = fit("log-linear", SPACE.own, SHARE, noise_N - features("log-linear", SPACE.own, SHARE)[:, 2])
        change_K, error_K = doubling(found)
        held.append(np.abs(change_K - truth_K) <= t.ppf(0.95, found.freedom) * error_K)
    assert 0.86 <= np.mean(held) <= 0.94


def test_too_few_or_equal_arms_make_no_surface():
    assert fit("log-linear", SPACE.own, SHARE[:6], NOISE[0, :6]) is None
    assert fit("quadratic", SPACE.own, SHARE[4:12], NOISE[0, :8]) is None
    assert fit("log-linear", SPACE.own, np.tile(SPACE.own, (12, 1)), NOISE[0, :12]) is None


def test_the_process_follows_what_no_form_has_and_flattens_over_noise():
    wave_N = np.sin(12 * SHARE[:, 1])
    found = process(SPACE.own, SHARE, wave_N)
    assert np.sqrt(np.mean(found.error**2)) < 0.8 * wave_N.std()
    flat = process(SPACE.own, SHARE, NOISE[3])
    assert np.ptp(flat.predict(scatter(SPACE, 6, 2))) < np.ptp(NOISE[3]) / 2


def test_products_that_the_arms_do_not_show_are_shrunk_away():
    """A surface of logarithms alone is found as by the log-linear fit, with intervals a little wider."""
    value_N = NOISE[1] - 3 * features("log-linear", SPACE.own, SHARE)[:, 2]
    found, straight = (
        averaged("second-order", SPACE.own, SHARE, value_N, None),
        fit("log-linear", SPACE.own, SHARE, value_N),
    )
    assert np.abs(found.predict(SHARE) - straight.predict(SHARE)).max() < straight.spread
    wider = found.half_width(SHARE) / straight.half_width(SHARE)
    assert wider.min() > 0.95 and wider.max() < 1.6


def test_an_interaction_is_followed_and_its_difference_covered():
    """Where two sources need each other, the log-linear surface is wrong by more than its own intervals admit."""
    product = lambda w: -120 * w[:, 0] * w[:, 1]  # noqa: E731
    new_NK = scatter(SPACE, 5, 9)
    truth_N = product(new_NK) - product(SPACE.own[None])
    held, held_straight = [], []
    for noise_N in NOISE[:40]:
        value_N = product(SHARE) + noise_N
        for of, surface in (
            (held, averaged("second-order", SPACE.own, SHARE, value_N, None)),
            (held_straight, fit("log-linear", SPACE.own, SHARE, value_N)),
        ):
            change_N, error_N = surface.difference(new_NK, SPACE.own)
            of.append(np.abs(change_N - truth_N) <= 2.2 * error_N)
    assert np.mean(held) > 0.85 and np.mean(held_straight) < 0.7


def test_too_few_arms_have_no_products_either():
    assert averaged("second-order", SPACE.own, SHARE[:6], NOISE[0, :6], None) is None


SEED = np.arange(len(SHARE)) % 4


def test_what_runs_of_one_seed_share_is_no_noise_between_mixtures():
    """Differences are seen as sharply as if the seeds had no effect; one more run, of a new seed, is not."""
    of_seed_N = np.array([2.0, -1.0, -2.0, 1.0])[SEED]
    known, blind, without = (
        averaged("second-order", SPACE.own, SHARE, value_N, seed_N)
        for value_N, seed_N in ((NOISE[1] + of_seed_N, SEED), (NOISE[1] + of_seed_N, None), (NOISE[1], SEED))
    )
    at_N = [surface.difference(SHARE[4:], SPACE.own)[1].mean() for surface in (known, blind, without)]
    assert at_N[0] < 0.75 * at_N[1] and at_N[0] < 1.35 * at_N[2]
    assert known.of_seed == pytest.approx(of_seed_N, abs=1.2) and np.ptp(known.of_seed) > 2
    assert known.half_width(SHARE).mean() > 1.3 * without.half_width(SHARE).mean()


@pytest.mark.parametrize("shared", [0.0, 0.5, 0.75])
def test_nine_of_ten_intervals_hold_a_run_of_a_new_seed(shared):
    new_NK = scatter(SPACE, 4, 9)
    rng, held = np.random.default_rng(1), []
    for noise_N in NOISE[:60]:
        value_N = np.sqrt(shared) * rng.standard_normal(4)[SEED] + np.sqrt(1 - shared) * noise_N
        found = averaged("second-order", SPACE.own, SHARE, value_N, SEED)
        held.append(np.abs(rng.standard_normal(16) - found.predict(new_NK)) <= found.half_width(new_NK))
    assert 0.85 <= np.mean(held) <= 0.97


def test_seeds_of_their_own_have_no_effect():
    """Where each arm has another seed than all others, the log-linear surface is the least-squares fit."""
    alone = averaged("log-linear", SPACE.own, SHARE, NOISE[2], np.arange(len(SHARE)))
    plain = fit("log-linear", SPACE.own, SHARE, NOISE[2])
    assert alone.coefficient == pytest.approx(plain.coefficient) and alone.seeds == 0
    assert alone.half_width(SHARE) == pytest.approx(plain.half_width(SHARE))
