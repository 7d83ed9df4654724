"""Edits are counted as the textbook's table counts them, and texts are compared by what they say."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steel_data.row.alignment import (
    LONG,
    beginning,
    edits,
    fewest,
    fewest_of_all,
    letters,
    nearest,
    position,
    shared,
    stands,
    stretches,
)

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
    changed, end = nearest(pattern, text)
    assert fewest(pattern, text) <= changed == min(table(pattern, text, anywhere=True))
    assert edits(pattern, text[beginning(pattern, text, end) : end]) == changed
    for least in (fewest(pattern, text), changed):  # what is behind the first such stretch needs no look
        assert nearest(pattern, text, least) == (changed, end)


@given(st.lists(words, max_size=3), st.lists(st.text("abc", max_size=20), max_size=3))
def test_the_fewest_of_all_are_those_of_each(patterns: list[str], texts: list[str]) -> None:
    assert fewest_of_all(patterns, texts) == [[fewest(p, text) for text in texts] for p in patterns]


@given(st.integers(0, 2**32))
def test_edits_far_apart_are_told_one_by_one(seed: int) -> None:
    """Also where one of the pieces that lie between them recurs."""
    draw = random.Random(seed)
    one = "".join(draw.choices("abcdefghij", k=60))
    two = list(one)
    for at in draw.sample(range(60), 3):
        two[at] = draw.choice(["", "x", two[at] + "y"])
    assert edits(one, "".join(two)) == table(one, "".join(two), anywhere=False)[-1]


@given(words.filter(bool), st.text("abc", max_size=20), st.integers(0, 3))
def test_no_stretch_within_the_edits_is_missed(pattern: str, text: str, most: int) -> None:
    least = min(table(pattern, text, anywhere=True))
    found = stretches(pattern, text, min(most, len(pattern) - 1))
    assert bool(found) == (least <= min(most, len(pattern) - 1))
    assert all(edits(pattern, text[start:end]) == changed for changed, start, end in found)


def passage(draw: random.Random, size: int = 3 * LONG) -> str:
    return "".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=size))


def changed_at(text: str, share: float, draw: random.Random) -> str:
    return "".join(draw.choice(["q", "", c + "q"]) if draw.random() < share else c for c in text)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.05, 0.1])
def test_long_texts_are_compared_piece_by_piece_to_the_same_end(share: float) -> None:
    draw = random.Random(share)
    text = passage(draw)
    other = changed_at(text, share, draw)
    least = table(text, other, anywhere=False)[-1]
    assert least <= edits(text, other) <= 1.1 * least
    [(changed, start, end)] = stretches(text, "zz" * 300 + other + "yy" * 300, len(text) * 3 // 20)
    assert least <= changed <= 1.1 * least
    assert abs(start - 600) < 3 and abs(end - 600 - len(other)) < 3


def test_a_long_text_is_found_after_a_part_of_it_and_twice() -> None:
    draw = random.Random(1)
    text = passage(draw)
    copies = [changed_at(text, 0.03, draw) for _ in range(2)]
    most = len(text) // 8
    assert len(stretches(text, text[:500] + "zz" * 50 + copies[0], most)) == 1
    assert len(stretches(text, copies[0] + "zz" * 50 + copies[1], most)) == 2


def test_a_part_of_a_long_text_or_another_is_no_copy() -> None:
    draw = random.Random(2)
    text = passage(draw)
    for other in (text[:500] + passage(draw), passage(draw) + text[400:], passage(draw), text[:300], ""):
        assert stretches(text, other, len(text) // 8) == []


def test_pieces_that_recur_spoil_nothing() -> None:
    # a table's rows are alike: its pieces stand at several places
    text = passage(random.Random(3), LONG) + "thecellisempty" * 60 + passage(random.Random(4), LONG)
    other = text[:100] + text[104:700] + "q" + text[700:]
    assert edits(text, other) == 5
    assert [changed for changed, _, _ in stretches(text, other, 100)] == [5]
    assert edits("ab" * 100, "q" + "ab" * 100 + "q") == edits("ab" * 100, "q" + ("ab" * 100)[:-1]) == 2
    twice = passage(random.Random(5), 3 * LONG) + "thelastrowofthetableistwicetherethisisit" * 2
    assert [changed for changed, *_ in stretches(twice, "7" + twice[1:200] + twice[201:], 100)] == [2]
    # of the last pieces but one the first place is 42 letters too early
    again = (
        passage(random.Random(6), LONG)
        + "howtofinishbothprojectsatthesametimeornone"
        + "howtofinishbothprojects"
        + "zuv"
    )
    assert [changed for changed, *_ in stretches(again, again[:90] + "7" + again[91:], 48)] == [1]


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
