"""Budgets and language targets: exact row counts, tokens from below, shares within one row, nested samples."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steel_data.errors import InputError
from steel_data.passes.select import Pool, choose
from steel_data.recipe.load import Mix

LANGUAGES = ["zh", "en", "ja"]
UNIT = st.tuples(st.integers(1, 50), st.sampled_from(LANGUAGES))


def pool(units: list[tuple[int, str]], fixed: dict[str, int] | None = None, fixed_rows: int = 0) -> Pool:
    rng = np.random.default_rng(len(units))
    return Pool(
        key=rng.integers(0, 2**63, len(units), dtype=np.uint64),
        record=np.arange(len(units)),
        tokens=np.array([tokens for tokens, _ in units], np.int64),
        languages=LANGUAGES,
        language=np.array([LANGUAGES.index(language) for _, language in units], np.int64),
        fixed_rows=fixed_rows,
        fixed_tokens=fixed or {},
    )


def tokens_of(p: Pool, chosen: np.ndarray) -> dict[str, int]:
    return {lang: int(p.tokens[chosen][p.language[chosen] == i].sum()) for i, lang in enumerate(LANGUAGES)}


@given(st.lists(UNIT, min_size=1, max_size=60), st.data())
def test_row_budgets_are_exact_and_nested(units: list[tuple[int, str]], data: st.DataObject) -> None:
    small = data.draw(st.integers(1, len(units)))
    large = data.draw(st.integers(small, len(units)))
    p = pool(units)
    few, many = (set(choose(Mix(budget_rows=n), p, "r").tolist()) for n in (small, large))
    assert (len(few), len(many)) == (small, large)
    assert few <= many


@given(st.lists(UNIT, min_size=1, max_size=60), st.data())
def test_token_budgets_are_met_from_below_by_less_than_a_row(units: list[tuple[int, str]], data: st.DataObject) -> None:
    total = sum(tokens for tokens, _ in units)
    budget = data.draw(st.integers(1, total))
    p = pool(units)
    reached = int(p.tokens[choose(Mix(budget_tokens=budget), p, "r")].sum())
    assert budget - 50 < reached <= budget
    with pytest.raises(InputError, match=f"budget_tokens = {total} or less"):
        choose(Mix(budget_tokens=total + 1), p, "r")


@given(st.lists(UNIT, min_size=4, max_size=80), st.sampled_from([0.1, 0.5, 0.8]), st.booleans(), st.data())
def test_language_targets(units: list[tuple[int, str]], share: float, budget: bool, data: st.DataObject) -> None:
    units = [*units, (5, "zh"), (5, "en")]
    there = {lang: sum(t for t, own in units if own == lang) for lang in ("zh", "en")}
    largest = min(int(there["zh"] / share), int(there["en"] / (1 - share)))
    wanted = data.draw(st.integers(1, largest)) if budget else None
    p = pool(units)
    mix = Mix(languages={"zh": share, "en": 1 - share}, budget_tokens=wanted)
    got = tokens_of(p, choose(mix, p, "r"))
    total = wanted or largest
    assert got["ja"] == 0
    assert share * total - 51 < got["zh"] <= share * total + 1e-6
    assert (1 - share) * total - 51 < got["en"] <= (1 - share) * total + 1e-6


@given(st.lists(UNIT, min_size=10, max_size=80), st.data())
def test_rows_and_languages_together_are_exact_in_rows(units: list[tuple[int, str]], data: st.DataObject) -> None:
    units = [*units, *[(10, "zh"), (10, "en")] * 10]
    p = pool(units)
    mix = {"zh": 0.5, "en": 0.5}
    most = len(choose(Mix(languages=mix), p, "r"))
    rows = data.draw(st.integers(2, most))
    chosen = choose(Mix(languages=mix, budget_rows=rows), p, "r")
    assert len(chosen) == rows
    got = tokens_of(p, chosen)
    assert abs(got["zh"] - got["en"]) <= 100  # one row of each


def test_injected_rows_count_towards_the_budget() -> None:
    p = pool([(10, "zh")] * 20, fixed={"zh": 50}, fixed_rows=5)
    assert len(choose(Mix(budget_rows=12), p, "r")) == 7
    assert int(p.tokens[choose(Mix(budget_tokens=100), p, "r")].sum()) == 50
    with pytest.raises(InputError, match="the injected rows alone are 5"):
        choose(Mix(budget_rows=4), p, "r")
    with pytest.raises(InputError, match="injected rows hold 50 tokens of 'zh', more than its share"):
        choose(Mix(languages={"zh": 1.0}, budget_tokens=40), p, "r")


def test_a_shortfall_states_the_largest_feasible_budget(tmp_path: Path) -> None:
    p = pool([(10, "zh")] * 30 + [(10, "en")] * 5)
    with pytest.raises(InputError, match=r"needs 80 tokens of 'en', but there are 50\. Right: budget_tokens = 250 or"):
        choose(Mix(languages={"zh": 0.8, "en": 0.2}, budget_tokens=400), p, "r.toml")
    assert tokens_of(p, choose(Mix(languages={"zh": 0.8, "en": 0.2}, budget_tokens=250), p, "r")) == {
        "zh": 200,
        "en": 50,
        "ja": 0,
    }
