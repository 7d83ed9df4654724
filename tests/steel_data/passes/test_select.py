"""Sampling, budgets and language targets: exact row counts, tokens from below, shares within one row, nested samples."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st
from tests.steel_data.passes.narrow import recipe, source

from steel_data.errors import InputError
from steel_data.passes.plan import Plan, decide
from steel_data.passes.select import Pool, choose, held_first, keyed_hashes, take_rows, without_held
from steel_data.recipe.load import Mix
from steel_data.row.table import packed

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
        sources=LANGUAGES,
        source=np.array([LANGUAGES.index(language) for _, language in units], np.int64),
        copy=np.zeros(len(units), np.int64),
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
    with pytest.raises(InputError, match=r"the injected rows alone are 5"):
        choose(Mix(budget_rows=4), p, "r")
    with pytest.raises(InputError, match="injected rows hold 50 tokens of 'zh', more than its share"):
        choose(Mix(languages={"zh": 1.0}, budget_tokens=40), p, "r")


def test_a_shortfall_states_the_largest_feasible_budget(tmp_path: Path) -> None:
    p = pool([(10, "zh")] * 30 + [(10, "en")] * 5)
    with pytest.raises(InputError, match=r"needs 80 tokens of 'en', but there are 50\. Fix: budget_tokens = 250 or"):
        choose(Mix(languages={"zh": 0.8, "en": 0.2}, budget_tokens=400), p, "r.toml")
    assert tokens_of(p, choose(Mix(languages={"zh": 0.8, "en": 0.2}, budget_tokens=250), p, "r")) == {
        "zh": 200,
        "en": 50,
        "ja": 0,
    }


def taken(tmp_path: Path, tokens: list[int], **target: int) -> list[int]:
    ids = pl.Series([f"{i:032x}" for i in range(len(tokens))])
    mapped = source(tmp_path / str(target), "a", [], **target)
    return take_rows(recipe(tmp_path), mapped, np.arange(len(tokens)), ids, np.array(tokens)).tolist()


def test_take_tokens_takes_whole_rows_and_never_more_than_asked(tmp_path: Path) -> None:
    """Of rows of ten tokens: 30 is met exactly by three, 29 by two; 100 is all there is, 101 more."""
    tokens = [10] * 10
    sizes = {asked: len(taken(tmp_path, tokens, take_tokens=asked)) for asked in (9, 10, 29, 30, 31, 99, 100)}
    assert sizes == {9: 0, 10: 1, 29: 2, 30: 3, 31: 3, 99: 9, 100: 10}
    with pytest.raises(InputError, match=r"take_tokens = 101, but 100 are left .* Fix: take_tokens = 100 or less"):
        taken(tmp_path, tokens, take_tokens=101)


def test_take_is_exact_and_a_smaller_one_lies_in_a_larger(tmp_path: Path) -> None:
    few, many = (taken(tmp_path, [10] * 50, take=n) for n in (5, 20))
    assert (len(few), len(many)) == (5, 20)
    assert set(few) < set(many)
    assert set(many) - set(few) != set(range(5, 20))  # by hash, not from the beginning
    assert set(taken(tmp_path, [10] * 50, take_tokens=200)) == set(many)  # the same queue
    with pytest.raises(InputError, match=r"take = 51 rows, but 50 are left after filters and dedup\. Fix: take = 50"):
        taken(tmp_path, [10] * 50, take=51)


def units(plan: Plan) -> list[tuple[str, int]]:
    return list(zip(plan.frame["id"].gather(plan.record), plan.copy.tolist(), strict=True))


def test_repeats_and_doses_are_copies_counted_from_zero(tmp_path: Path) -> None:
    injected = [{"kind": "injected", "dose": 3}, {"kind": "injected", "dose": 1}]
    sources = [source(tmp_path, "a", [{}, {}], repeat=2), source(tmp_path, "leak", injected)]
    found = units(decide(recipe(tmp_path), sources))
    assert sorted(found) == [
        ("a00", 0), ("a00", 1), ("a01", 0), ("a01", 1), ("leak00", 0), ("leak00", 1), ("leak00", 2), ("leak01", 0),
    ]  # fmt: skip


def test_a_budget_that_leaves_copy_one_calls_it_copy_zero(tmp_path: Path) -> None:
    for seed in range(8):
        mapped = [source(tmp_path / str(seed), "a", [{}] * 6, repeat=3)]
        found = units(decide(recipe(tmp_path, mix=Mix(budget_rows=7), seed=seed), mapped))
        assert len(found) == 7
        for name in {name for name, _ in found}:
            copies = sorted(copy for other, copy in found if other == name)
            assert copies == list(range(len(copies)))


def test_the_order_is_the_seeds_and_not_the_sources(tmp_path: Path) -> None:
    orders = []
    for i, (seed, names) in enumerate([(1, "ab"), (1, "ba"), (2, "ab")]):
        mapped = [source(tmp_path / str(i), name, [{}] * 20) for name in names]
        orders.append([name for name, _ in units(decide(recipe(tmp_path, seed=seed), mapped))])
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2]) != orders[0]


def by_source(counts: dict[str, int], copies: int = 1, injected: int = 0) -> Pool:
    """Records of 10 tokens each, `copies` units a record."""
    names = list(counts)
    source = np.repeat(np.arange(len(names)), [counts[n] for n in names])
    record, copy = np.repeat(np.arange(len(source)), copies), np.tile(np.arange(copies), len(source))
    return Pool(
        key=np.random.default_rng(0).integers(0, 2**63, len(record), dtype=np.uint64), record=record,
        tokens=np.full(len(record), 10), languages=["zh"], language=np.zeros(len(record), np.int64), sources=names,
        source=source[record], copy=copy, fixed_rows=injected, fixed_tokens={"zh": 10 * injected},
    )  # fmt: skip


@given(st.floats(0.05, 0.95), st.floats(0.05, 0.95), st.integers(100, 1000))
def test_sources_have_their_shares_and_only_what_must_differ_does(one: float, two: float, budget: int) -> None:
    """Two mixtures of other shares: of each source the smaller part lies inside the larger one."""
    p = by_source({"chat": 100, "exam": 100})
    taken = {}
    for share in (one, two):
        chosen = choose(Mix(sources={"chat": share, "exam": 1 - share}, budget_tokens=budget), p, "r")
        tokens = np.bincount(p.source[chosen], minlength=2) * 10
        assert (np.array([share, 1 - share]) * budget - tokens < 10 + 1e-6).all() and tokens.sum() <= budget
        taken[share] = set(chosen.tolist())
    few, many = sorted((one, two))
    chat = {s: {u for u in taken[s] if u < 100} for s in taken}
    assert chat[few] <= chat[many] and taken[many] - chat[many] <= taken[few] - chat[few]


def test_a_source_repeats_only_as_often_as_its_share_needs() -> None:
    p = by_source({"chat": 100, "exam": 10}, copies=3)
    chosen = choose(Mix(sources={"chat": 0.75, "exam": 0.25}, budget_tokens=1000), p, "r")
    exam = np.bincount(p.record[chosen][p.source[chosen] == 1] - 100, minlength=10)
    assert sorted(exam) == [2] * 5 + [3] * 5  # 25 units of 10 rows
    assert set(p.copy[chosen][p.source[chosen] == 0]) == {0}
    with pytest.raises(
        InputError, match=r"needs 400 tokens of 'exam', but there are 300\. Fix: budget_tokens = 750 or"
    ):
        choose(Mix(sources={"chat": 0.6, "exam": 0.4}, budget_tokens=1000), p, "r")
    assert len(choose(Mix(sources={"chat": 0.6, "exam": 0.4}), p, "r")) == 75


def test_injected_rows_stand_beside_the_sources_shares() -> None:
    p = by_source({"chat": 100, "exam": 100}, injected=20)
    chosen = choose(Mix(sources={"chat": 0.5, "exam": 0.5}, budget_tokens=1000), p, "r")
    assert np.bincount(p.source[chosen]).tolist() == [40, 40]
    assert len(choose(Mix(sources={"chat": 0.5, "exam": 0.5}, budget_rows=60), p, "r")) == 40
    with pytest.raises(InputError, match=r"the injected rows alone are 200"):
        choose(Mix(sources={"chat": 0.5, "exam": 0.5}, budget_tokens=100), p, "r")


def test_rows_held_out_are_the_same_whatever_else_is_taken(tmp_path: Path) -> None:
    ids = pl.Series([f"{i:032x}" for i in range(50)])
    here = source(tmp_path, "chat", [{}], hold_out=8)
    rows = np.arange(50)
    left = without_held(recipe(tmp_path), here, rows, ids)
    order = held_first(42, ids, rows)
    assert set(rows) - set(left) == set(order[:8]) and (np.diff(left) > 0).all()
    assert held_first(42, ids, np.setdiff1d(rows, order[:3])).tolist() == order[3:].tolist()
    everything = source(tmp_path, "all", [{}], hold_out=50)
    with pytest.raises(InputError, match=r"hold_out = 50 rows, but 50 are taken\. Fix: hold_out = 49"):
        without_held(recipe(tmp_path), everything, rows, ids)


@given(st.lists(st.tuples(st.integers(0, 2**128 - 1), st.integers(0, 120)), max_size=30), st.integers(-(2**63), 2**63))
def test_packed_ids_have_the_keyed_hashes_of_their_texts(units: list[tuple[int, int]], seed: int) -> None:
    """Those of packed ids are made many at once; another hash would be another mixture."""
    texts = pl.Series([f"{number:032x}" for number, _ in units], dtype=pl.String)
    rows, copy = np.arange(len(units)), np.array([c for _, c in units], np.int64)
    for purpose in ("take", "hold", "select", "mix", "order"):
        found = keyed_hashes(purpose, seed, texts.to_frame("id").select(packed(pl.col("id"))).to_series(), rows, copy)
        told = [f"{purpose}/{text}/{c}".encode() for text, (_, c) in zip(texts, units, strict=True)]
        assert found.tolist() == [xxhash.xxh3_64_intdigest(one, seed & (2**64 - 1)) for one in told]


def test_rows_of_one_id_stand_in_the_order_of_source_file_and_row(tmp_path: Path) -> None:
    """Their hashes are equal; the source's name decides before its place in the recipe."""
    rows = [{"id": f"{i % 3:032x}", "origin_row": 9 - i} for i in range(9)]
    plan = decide(recipe(tmp_path), [source(tmp_path, "b", rows), source(tmp_path, "a", rows[:3])])
    told = plan.frame[plan.record].select("id", "source", "origin_row").rows()
    for i in range(3):
        mine = [(source, row) for id_, source, row in told if id_ == f"{i:032x}"]
        assert mine == [(1, 9 - i), (0, 3 - i), (0, 6 - i), (0, 9 - i)]
    assert [id_ for id_, _, _ in told] == sorted((id_ for id_, _, _ in told), key=[t[0] for t in told].index)
