"""Every mixture of a search can be built: inside its bounds, of what the data suffice for, summing to 1."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steel_data.errors import InputError
from steel_eval.mix.design import choose_arms, fitted, make_space, scatter

OWN = {"chat": 0.6, "exam": 0.3, "identity": 0.1}
PLENTY = dict.fromkeys(OWN, 9.0)


@given(st.lists(st.floats(0.02, 1.0), min_size=2, max_size=8), st.integers(0, 99))
def test_every_mixture_lies_in_its_space(weights, seed):
    own = {f"s{i}": w / sum(weights) for i, w in enumerate(weights)}
    space = make_space("r", own, {}, dict.fromkeys(own, 1.0))
    share_NK = scatter(space, 4, seed)
    assert np.allclose(share_NK.sum(1), 1, atol=1e-9)
    assert (share_NK >= space.low - 1e-12).all() and (share_NK <= space.high + 1e-12).all()
    assert (space.low <= space.own + 1e-9).all() and (space.own <= space.high + 1e-9).all()


def test_by_default_a_share_goes_from_a_third_to_three_times():
    space = make_space("r", OWN, {}, PLENTY)
    assert space.low.tolist() == pytest.approx([0.2, 0.1, 0.1 / 3])
    assert space.high.tolist() == pytest.approx([1 - 0.1 - 0.1 / 3, 1 - 0.2 - 0.1 / 3, 0.3])  # what the others leave
    assert space.words == "chat 0.2 to 0.867, exam 0.1 to 0.767, identity 0.0333 to 0.3"


def test_bounds_and_what_the_data_suffice_for_cut_it():
    space = make_space("r", OWN, {"exam": (0.0, 0.5)}, {**PLENTY, "identity": 0.12})
    assert space.low[1] == 0 and space.high[1:].tolist() == pytest.approx([0.5, 0.12])


@pytest.mark.parametrize(
    ("bounds", "most", "message"),
    [
        (
            {"exam": (0.7, 0.9), "chat": (0.5, 0.9)},
            {},
            r"r: no mixture lies within bounds: the shares sum to at least 1\.23",
        ),
        (
            dict.fromkeys(OWN, (0.0, 0.3)),
            {},
            r"at most 0\.9, not to 1 \(chat 0 to 0\.3, exam 0 to 0\.3, identity 0 to 0\.3\)",
        ),
        (
            {"exam": (0.4, 0.6)},
            {"exam": 0.35},
            r"exam cannot have a share of 0\.4 or more: its data are too few\. Fix: .* exam 0 to 0\.35",
        ),
        ({"exam": (0.6, 0.4)}, {}, "its bounds are the wrong way round"),
    ],
)
def test_bounds_that_admit_nothing_state_what_is_feasible(bounds, most, message):
    with pytest.raises(InputError, match=message):
        make_space("r", OWN, bounds, PLENTY | most)


def test_fewer_arms_are_the_first_of_more_and_none_stands_twice():
    space = make_space("r", OWN, {}, PLENTY)
    many_NK = choose_arms(space, 16, seed=3)
    assert np.array_equal(choose_arms(space, 7, seed=3), many_NK[:7])
    assert len(np.unique(many_NK.round(6), axis=0)) == 16
    assert not np.array_equal(choose_arms(space, 7, seed=4), many_NK[:7])


def test_arms_reach_both_ends_of_every_source():
    space = make_space("r", OWN, {}, PLENTY)
    share_NK = choose_arms(space, 12, seed=1)
    assert (share_NK.min(0) < space.low * 1.3).all() and (share_NK.max(0) > 0.8 * space.high).all()


def test_factors_shrink_alike_where_no_bound_is_met():
    space = make_space("r", OWN, dict.fromkeys(OWN, (0.0, 1.0)), PLENTY)
    assert fitted(np.array([[2.0, 1.0, 1.0]]), space)[0].tolist() == pytest.approx([0.5, 0.25, 0.25])
