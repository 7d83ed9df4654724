"""The four numbers of an accuracy, and the rest of the accounting, on answers counted by hand."""

import math

import numpy as np
import polars as pl
import pytest

from steel_eval.score.accounting import gold_probability, in_words, predict, summarise


def answers(rows: list[tuple[str, str, str]]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "task": ["cmmlu"] * len(rows), "subject": [r[0] for r in rows], "item": [f"test/x/{i}" for i in range(len(rows))],
            "label": [r[1] for r in rows], "prediction": [r[2] for r in rows], "options": [4] * len(rows),
            **{f"logprob_{c}": [float(i) for i in range(len(rows))] for c in "ABCD"},
            "gold_probability": [0.25] * len(rows), "gold_bits_per_byte": [1.0] * len(rows),
        }
    )  # fmt: skip


def test_ten_answers_by_hand():
    """Agronomy: 4 of 6 right, 1 unreadable. Virology: 1 of 4 right, 1 unreadable."""
    rows = [("agronomy", "A", p) for p in ("A", "A", "A", "A", "B", "")] + [
        ("virology", "B", p) for p in ("B", "A", "C", "")
    ]
    scores = summarise(answers(rows), "cmmlu")
    assert scores["accuracy"] == 0.5
    assert scores["stderr"] == pytest.approx(math.sqrt(0.25 / 9))
    assert scores["macro"] == pytest.approx((4 / 6 + 1 / 4) / 2)
    assert (scores["n"], scores["invalid"]) == (10, 2)
    assert scores["accuracy_on_valid"] == 5 / 8
    assert scores["expected_if_guessed"] == pytest.approx((5 + 2 * 0.25) / 10)
    assert scores["letters"]["label"] == {"A": 6, "B": 4}
    assert scores["letters"]["always"] == 0.6
    assert scores["groups"]["Other"]["n"] == 6
    assert scores["groups"]["STEM"]["accuracy"] == 0.25


def test_only_unreadable_answers():
    scores = summarise(answers([("agronomy", "A", "")]), "cmmlu")
    assert (scores["accuracy"], scores["accuracy_on_valid"], scores["expected_if_guessed"]) == (0, None, 0.25)


def test_a_guess_is_worth_one_in_its_own_options():
    """Unread: a question of 2, one of 3 and one of 5 options; read: one right, one wrong."""
    rows = answers([("agronomy", "A", p) for p in ("", "", "", "A", "B")]).with_columns(
        options=pl.Series([2, 3, 5, 4, 4])
    )
    assert summarise(rows, "cmmlu")["expected_if_guessed"] == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 5) / 5)


def test_unpublished_answers_give_no_score():
    scores = summarise(answers([("law", "", "A"), ("law", "", "")]), "ceval", published=False)
    assert scores["accuracy"] is None
    assert scores["subjects"] == {}
    assert (scores["n"], scores["invalid"]) == (2, 1)


def test_predictions():
    rows = np.array([[-1, -2, -3, -4], [-2, -1, -1, -4], [-1, np.nan, -1, -1], [-3, -2, -np.inf, -np.inf]], float)
    assert predict(rows) == ["A", "B", "", "B"]  # the first of equals; NaN is never a prediction; two options


def test_gold_probability_is_a_share_of_the_options():
    rows = np.log(np.array([[0.1, 0.2, 0.3, 0.4], [0.02, 0.02, 0.02, 0.02]]))
    assert gold_probability(rows, [2, 0]) == pytest.approx([0.3, 0.25])
    assert np.isnan(gold_probability(rows, [-1, 0])[0])


@pytest.mark.parametrize(
    ("right", "said"),
    [(400, "above chance level (25.0 %)"), (250, "not shown to differ from chance level"), (150, "below chance level")],
)
def test_an_accuracy_is_said_with_its_interval_against_chance_level(right, said):
    row = {"accuracy": right / 1000, "n": 1000, "letters": {"label": dict.fromkeys("ABCD", 250)}}
    words = in_words("cmmlu", row)
    assert words.startswith(f"cmmlu: {right / 10:.1f} % of 1,000 questions right (95 % interval ") and said in words
    assert in_words("cmmlu", {"accuracy": None, "n": 5}) == ""
    assert "chance" not in in_words("own", {**row, "letters": {}})


def test_chance_is_that_of_the_options_however_few_letters_are_right():
    """Two questions whose answers are A and B have four options all the same."""
    row = {"accuracy": 0.0, "n": 2, "letters": {"label": {"A": 1, "B": 1}}, "chance": 0.25}
    assert "chance level (25.0 %)" in in_words("cmmlu", row)
