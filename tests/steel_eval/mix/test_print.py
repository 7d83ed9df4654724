"""What is said of a rank comparison and of a confirmation: only an interval above zero affirms."""

import pytest

from steel_eval.mix.print import confirmed_words, rank_words


@pytest.mark.parametrize(("low", "said"), [(0.2, "may speak for"), (-0.1, "is not shown to speak for")])
def test_a_proxy_may_speak_where_the_interval_is_above_zero(low, said):
    found = {"arms": list("abcdef"), "spearman": 0.83, "low": low, "high": 0.97}
    assert rank_words(found).startswith(f"The proxy {said} the model: 6 arms trained as both, Spearman +0.83")


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(0.1, 0.3, "is confirmed"), (-0.1, 0.3, "is not confirmed"), (-0.3, -0.1, "is refuted: it is worse")],
)
def test_fresh_seeds_confirm_refute_or_neither(low, high, said):
    found = {"all": {"value": 0.1, "low": low, "high": high, "p": 0.04}, "seeds": {"proposal": [1, 2, 3]}}
    assert f"With 3 fresh seeds the gain {said}" in confirmed_words(found)
    assert confirmed_words({"all": None}).startswith("Not confirmed")
