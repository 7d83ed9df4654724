"""Arms are equal in steps, and in trainable tokens as near as whole rows allow."""

import pytest

from steel_data.errors import InputError
from steel_eval.trial.arms import batches, best_steps, equal_arms

LEARNT = {"random": 40, "long": 95, "short": 17}  # trainable tokens of a row


def counted(other: int = 50):
    def count(name: str, rows: int) -> tuple[int, int]:
        return rows + other, rows * LEARNT[name] + 30 * other

    return count


def test_long_rows_make_no_arm_larger() -> None:
    sized = equal_arms("r", list(LEARNT), 40_000, 8, 5_000, counted())
    assert len({size.steps for size in sized.values()}) == 1
    for size in sized.values():
        assert size.rows == size.steps * size.per_step == size.selected + 50
        assert size.tokens == pytest.approx(40_000, rel=0.02)
    assert sized["long"].per_step >= 8
    assert sized["short"].per_step > 3 * sized["long"].per_step


def test_what_cannot_be_equal_is_refused() -> None:
    with pytest.raises(InputError, match=r"arm 'random' would need .* there are 500. Fix: tokens = \d+ or less"):
        equal_arms("r", list(LEARNT), 40_000, 8, 500, counted())
    with pytest.raises(InputError, match="less than two steps of 64"):
        equal_arms("r", ["long"], 1_600, 64, 5_000, counted(0))
    with pytest.raises(InputError, match="nearly the same rows"):
        equal_arms("r", ["random"], 39_000, 8, 1_000, counted(0))


def test_shared_rows_that_are_the_whole_arm_are_refused() -> None:
    """It asked for -2 rows."""
    with pytest.raises(
        InputError, match=r"the 50 rows that all arms share have 1,5\d\d already\. Fix: tokens = 3\d\d\d or more"
    ):
        equal_arms("r", list(LEARNT), 1_400, 8, 5_000, counted())
    with pytest.raises(InputError, match="less than two steps"):  # nothing is shared
        equal_arms("r", list(LEARNT), 12, 8, 5_000, counted(0))


def test_a_step_is_divided_into_equal_passes() -> None:
    assert batches(24, 8) == {"micro_batch": 8, "accumulate": 3}
    assert batches(26, 8) == {"micro_batch": 2, "accumulate": 13}
    assert batches(5, 8) == {"micro_batch": 5, "accumulate": 1}


def test_fewer_steps_are_taken_where_whole_rows_then_come_nearer() -> None:
    assert best_steps([400, 640], 100) == 80  # 100 steps of 4 and 6 rows: 7 % apart; 80 of 5 and 8: not at all
    assert best_steps([200, 400], 100) == 100
    assert best_steps([5, 7], 2) == 2
