"""Length: bounds in characters or tokens, both included."""

import polars as pl
import pytest

from steel_data.errors import InputError
from steel_data.filters.length import Length

FRAME = pl.DataFrame({"chars": [0, 9, 10, 20, 21], "tokens": [0, 5, 6, 12, 40]})


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        (Length(min_chars=10), [2, 3, 4]),
        (Length(max_chars=20), [0, 1, 2, 3]),
        (Length(min_chars=10, max_chars=20), [2, 3]),
        (Length(min_tokens=6, max_tokens=12), [2, 3]),
        (Length(min_chars=9, max_tokens=6), [1, 2]),
    ],
)
def test_bounds_are_included(settings: Length, kept: list[int]) -> None:
    why = FRAME.select(settings.verdict().alias("why"))["why"]
    assert [i for i, reason in enumerate(why) if reason is None] == kept


def test_the_reason_says_which_end() -> None:
    why = FRAME.select(Length(min_chars=10, max_tokens=12).verdict().alias("why"))["why"]
    assert why.to_list() == ["length:too-short", "length:too-short", None, None, "length:too-long"]


def test_a_row_without_text_counts_as_undecided() -> None:
    frame = pl.DataFrame({"chars": [None], "tokens": [None]}, schema={"chars": pl.Int32, "tokens": pl.Int32})
    assert frame.select(Length(min_chars=1).verdict().alias("why"))["why"].to_list() == [None]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "no bound given"),
        ({"min_chars": 10, "max_chars": 9}, "min_chars = 10 is above max_chars = 9"),
        ({"min_tokens": 2, "max_tokens": 1}, "min_tokens = 2 is above max_tokens = 1"),
        ({"min_chars": -1}, "min_chars = -1"),
    ],
)
def test_bounds_that_keep_nothing_or_everything_are_refused(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=f"filter 'length': {message}"):
        Length(**wrong)
