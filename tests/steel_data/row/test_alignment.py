"""Edits are counted as the textbook's table counts them, and texts are compared by what they say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steel_data.row.alignment import beginning, edits, letters, nearest, position, shared, stands, stretches

words = st.text("abc", max_size=9)


def table(pattern: str, text: str, anywhere: bool) -> list[int]:
    """Return the last row of the matrix of Levenshtein distances: of the whole pattern, ending at each place."""
    column = list(range(len(pattern) + 1))
    last = [column[-1]]
    for place, char in enumerate(text, 1):
        new = [0 if anywhere else place]
        for i, other in enumerate(pattern):
            new.append(min(column[i + 1] + 1, new[i] + 1, column[i] + (other != char)))
        column = new
        last.append(column[-1])
    return last


@given(words, words)
def test_edits_are_levenshteins(one: str, two: str) -> None:
    assert edits(one, two) == table(one, two, anywhere=False)[-1]


@given(words.filter(bool), st.text("abc", max_size=20))
def test_the_nearest_stretch_needs_the_fewest_edits(pattern: str, text: str) -> None:
    changed, start, end = nearest(pattern, text)
    assert changed == min(table(pattern, text, anywhere=True))
    assert edits(pattern, text[start:end]) == changed


@given(words.filter(bool), st.text("abc", max_size=20), st.integers(0, 3))
def test_no_stretch_within_the_edits_is_missed(pattern: str, text: str, most: int) -> None:
    fewest = min(table(pattern, text, anywhere=True))
    found = stretches(pattern, text, min(most, len(pattern) - 1))
    assert bool(found) == (fewest <= min(most, len(pattern) - 1))
    assert all(edits(pattern, text[beginning(pattern, text, end) : end]) == changed for changed, end in found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ａ． 铁，\nB、铜", "|铁|铜"), ("$H_{2}O$", "h2o"), ("2，8，-6", "2 8 6"), ("①5米", "1 5米"), ("a|b", "ab"),
        ("It is, e.g., red", "itis|gred"), ("", ""), ("____。", ""),
    ],
)  # fmt: skip
def test_letters_are_what_a_text_says(text: str, expected: str) -> None:
    assert letters(text) == expected


def test_a_number_is_whole() -> None:
    assert stands("2", letters("1，2，3")) and not stands("2", "12 23") and stands("铁", "生铁块")


def test_letters_lead_back_to_the_text() -> None:
    text = "（1） 水，火 和 A. 土。"
    assert [text[: position(text, end)][-1] for end in range(2, len(letters(text)))] == [*"水火和A"]


def test_what_item_and_text_share_is_a_span_of_each() -> None:
    item = "宋代汝窑瓷器的天青釉色主要来自哪种元素\n铁\n铜\n钴\n锰"
    text = "铁器时代以后，请看：宋代汝窑瓷的天青釉色，主要来自哪种元素？ A. 铜 B. 铁 C. 锰 D. 钴。谢谢，多讲几句。"
    of_item, of_text = shared(item, text) or (slice(0), slice(0))
    assert item[of_item] == item
    assert text[of_text].startswith("宋代汝窑瓷的天青") and text[of_text].endswith("D. 钴")
    assert shared(item, "与此无关的一段话") is None and shared("", text) is None
