"""Verification of pairs says exactly what difflib and sets of 5-grams say, however it gets there."""

from difflib import SequenceMatcher

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steel_data.filters import alike
from steel_data.filters.alike import alike_pairs
from steel_data.row.text import TextBatch, normalise

TURN = "\x1e"
# few letters and long runs of them: what repeats is where a bound could be wrong
TURNS = st.builds(
    lambda parts: "".join(part * count for part, count in parts),
    st.lists(
        st.tuples(st.sampled_from(["a", "Ab", "好", "春天来了", " ", "x=1", "\n  ", "ﬁ", "。"]), st.integers(1, 40)),
        max_size=6,
    ),
)


def plain(one: str, two: str, threshold: float) -> bool:
    """The definition: of two turns that differ, by letters where one is short, else by their sets of 5-grams."""
    if one == two:
        return True
    if min(len(one), len(two)) < alike.SHORT:
        if alike._CODE.findall(one) != alike._CODE.findall(two):
            return False
        return SequenceMatcher(None, normalise(one), normalise(two), autojunk=False).ratio() >= (1 + threshold) / 2
    a, b = (set(TextBatch([turn]).shingles(5)[0].astype(np.uint32).tolist()) for turn in (one, two))
    return len(a & b) / len(a | b) >= threshold if a | b else True


def verified(texts: list[str], pairs: list[tuple[int, int]], threshold: float, workers: int = 1) -> list[bool]:
    array = np.array(pairs, np.int64).reshape(-1, 2)
    asked = np.unique(array)
    return alike_pairs(array, asked, [texts[i] for i in asked], threshold, TURN, workers).tolist()


@given(st.lists(st.tuples(TURNS, TURNS), min_size=1, max_size=8), st.sampled_from([0.5, 0.75, 0.8, 1.0]))
@settings(max_examples=300, deadline=None)
def test_turns_are_alike_as_defined(turns: list[tuple[str, str]], threshold: float) -> None:
    texts = [turn for pair in turns for turn in pair]
    pairs = [(2 * i, 2 * i + 1) for i in range(len(turns))]
    assert verified(texts, pairs, threshold) == [plain(one, two, threshold) for one, two in turns]


@given(st.lists(TURNS, min_size=2, max_size=2), st.integers(0, 60), st.sampled_from([0.5, 0.75, 0.9]))
@settings(max_examples=300, deadline=None)
def test_an_edit_of_a_turn_is_judged_as_defined(ends: list[str], cut: int, threshold: float) -> None:
    """What the two share at the beginning or the end may settle it without a comparison of all."""
    one, two = "".join(ends), ends[0] + "，" + ends[1][cut:]
    assert verified([one, two], [(0, 1)], threshold) == [plain(one, two, threshold)]


def test_every_turn_must_be_alike() -> None:
    question, other = "请介绍一下长城的历史和修建它的人们", "请介绍一下长城的历史和修建它的人"
    answer = "长城始建于春秋战国时期，" * 8
    texts = [
        TURN.join(turns)
        for turns in ([question, answer], [other, answer], [question], [question, "不知道"], [question, answer + "。"])
    ]
    assert verified(texts, [(0, i) for i in range(1, 5)], 0.75) == [True, False, False, True]


def test_batches_of_any_size_and_any_threads_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    base = ["".join(map(chr, rng.integers(0x4E00, 0x4F00, 150))) for _ in range(10)]
    texts = [turn[: 150 - 13 * k] for turn in base for k in range(5)]
    pairs = [(i, j) for i in range(0, 50, 5) for j in range(i + 1, i + 5)]
    whole = verified(texts, pairs, 0.8)
    assert 0 < sum(whole) < len(whole)
    for name, most in (("_PAIRS", 3), ("_CHARS", 200)):
        monkeypatch.setattr(alike, name, most)
        assert verified(texts, pairs, 0.8, workers=3) == whole
    assert verified(texts, [], 0.8) == []
