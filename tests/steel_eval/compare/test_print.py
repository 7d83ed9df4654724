"""What is printed: signs on scores of seen questions, nothing that acts on a terminal, and what power means."""

import pytest

from steel_data.errors import InputError
from steel_eval.compare.pair import Test
from steel_eval.compare.print import power_row, print_power, print_tests
from steel_eval.stats.paired import minimum_detectable, power_of


def compared(**more):
    given = {
        "a": "A", "b": "B", "task": "cmmlu", "group": "", "metric": "accuracy", "value_a": 0.3, "value_b": 0.4,
        "difference": 0.1, "low": 0.05, "high": 0.15, "cluster_low": 0.02, "cluster_high": 0.18, "p": 0.001, "q": 0.002,
        "only_a": 3, "only_b": 9, "n": 60, "seeds_a": 1, "seeds_b": 1, "detectable": 0.08, "neighbour_spread": None,
        "confirmatory": False, "verdict": "These checkpoints differ.",
    }  # fmt: skip
    return Test(**given | more)


def test_a_row_says_all_and_the_verdict_follows(capsys):
    print_tests([compared()])
    shown = capsys.readouterr().out
    for words in ("B - A", "30.00", "40.00", "+10.00", "+5.00 .. +15.00", "+2.00 .. +18.00", "3 / 9", "8.0",
                  "cmmlu: These checkpoints differ.", "all are exploratory"):  # fmt: skip
        assert words in shown
    assert "†" not in shown


def test_scores_of_seen_questions_carry_the_sign(capsys):
    print_tests([compared(seen_b="contaminated: 3 of 60 items")])
    shown = capsys.readouterr().out
    assert "40.00†" in shown and "30.00†" not in shown and "† trained on questions of this benchmark" in shown


def test_a_primary_test_needs_no_rate_and_groups_are_asked_for(capsys):
    tests = [compared(confirmatory=True, q=None, only_a=None), compared(group="STEM", metric="macro", checkpoint="20")]
    print_tests(tests)
    shown = capsys.readouterr().out
    assert "primary" in shown and "exploratory" not in shown and " - " in shown
    assert "cmmlu / STEM, macro, step 20" in shown


def test_nothing_of_a_name_acts_on_the_terminal(capsys):
    print_tests([compared(a="\x1b[2J", b="[bold]B")])
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and "\\x1b[2J" in shown


def test_power_is_that_of_the_paired_test():
    row = power_row(0.02, 1346, 0.3, 1, 0)
    assert row["detectable"] == pytest.approx(minimum_detectable(1346, 0.3), rel=1e-4)
    assert row["power"] == power_of(0.02, 0.3 / 1346) and row["seeds"] == "-"
    assert power_row(row["detectable"], 1346, 0.3, 1, 0)["power"] == pytest.approx(0.8, abs=1e-3)
    needed = row["questions"]
    assert power_row(0.02, needed, 0.3, 1, 0)["power"] >= 0.8 > power_row(0.02, needed - 10, 0.3, 1, 0)["power"]


def test_the_spread_of_seeds_asks_for_seeds():
    one = power_row(0.02, 11582, 0.3, 1, 0.02)
    assert one["power"] is None and one["detectable"] is None  # one seed says nothing about seeds
    needed = int(one["seeds"])
    few, enough = (power_row(0.02, 11582, 0.3, seeds, 0.02)["power"] for seeds in (needed - 1, needed))
    assert few < 0.8 <= enough
    assert power_row(0.01, 1346, 0.3, 1, 0.02)["seeds"] == "none suffices"  # the questions alone are too few
    assert power_row(0, 1346, 0.3, 1, 0)["questions"] == 0


def test_sets_have_names_or_numbers(capsys):
    print_power(2, ["ceval-val", "500"], 0.3, 1, 0)
    shown = capsys.readouterr().out
    assert "1,346" in shown and "500" in shown and "Without --seed-spread" in shown
    print_power(2, ["500"], 0.3, 1, 1)
    assert "no test of mixtures. Fix: --seeds 2" in capsys.readouterr().out
    with pytest.raises(InputError, match="Did you mean 'cmmlu'"):
        print_power(2, ["cmlu"], 0.3, 1, 0)
    with pytest.raises(InputError, match="a share above 0"):
        print_power(2, ["cmmlu"], 0, 1, 0)
