"""One order decides every choice: smaller ones lie inside larger ones, and groups take turns."""

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from steel_data.selection.order import balanced, beginning, best_first


def keys(n: int) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 2**63, n, dtype=np.uint64)


@given(st.lists(st.sampled_from(["zh", "en", "", "ja"]), min_size=1, max_size=60), st.integers(1, 60))
def test_groups_take_turns_and_a_small_one_gives_what_it_has(names: list[str], asked: int) -> None:
    n = len(names)
    order = balanced(best_first(np.arange(n), keys(n)), pl.Series(names), np.ones(n, np.int64))
    assert sorted(order.tolist()) == list(range(n))
    taken = [names[i] for i in order[: min(asked, n)]]
    sizes, have = {g: names.count(g) for g in names}, {g: taken.count(g) for g in names}
    for one in have:
        for other in have:
            # nobody has two more than another that still has rows to give
            assert have[one] <= have[other] + 1 or have[other] == sizes[other]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 30)), min_size=1, max_size=50))
def test_balance_in_tokens_is_met_within_a_row(rows: list[tuple[str, int]]) -> None:
    size = np.array([tokens for _, tokens in rows])
    order = balanced(best_first(-size, keys(len(rows))), pl.Series([g for g, _ in rows]), size)
    total = {g: sum(t for name, t in rows if name == g) for g in "ab"}
    have = {"a": 0, "b": 0}
    for i in order.tolist():
        have[rows[i][0]] += rows[i][1]
        if all(have[g] < total[g] for g in "ab"):
            assert abs(have["a"] - have["b"]) <= 30


def test_within_a_group_the_best_come_first_and_ties_go_by_hash() -> None:
    order = balanced(best_first(np.array([1, 5, 3, 4]), keys(4)), pl.Series(["a", "a", "b", "b"]), np.ones(4, np.int64))
    assert order.tolist() == [1, 3, 2, 0]
    key = np.array([3, 1, 2], np.uint64)
    assert best_first(np.zeros(3), key).tolist() == [1, 2, 0]
    assert best_first(np.array([np.nan, 1, 2]), key).tolist() == [2, 1, 0]  # what has no rating comes last


def test_a_beginning_does_not_go_beyond_what_is_asked() -> None:
    assert [beginning(np.array([5, 5, 5]), asked) for asked in (4, 5, 14, 15)] == [0, 1, 2, 3]
