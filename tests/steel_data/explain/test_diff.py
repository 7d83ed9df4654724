"""`diff`: each kind of change is told apart, the books balance, and a recipe's plan equals the mixture built from it."""

from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from tests.steel_data.toys import chat_rows, write_cmmlu, write_jsonl

from steel_data.build import Result
from steel_data.errors import InputError
from steel_data.explain.diff import (
    CHANGES,
    Diff,
    Where,
    books,
    compare,
    diff,
    merged,
    narrow,
    print_diff,
    sample,
    totals,
)

Make = Callable[..., Result]
ROWS = chat_rows(80)
TRAIN = "[train]\nepochs = 2\nmicro_batch = 4\naccumulate = 1\n"
BASE = '[source.a]\npath = "a.jsonl"\n[source.b]\npath = "b.jsonl"\n'


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_jsonl(tmp_path / "a.jsonl", ROWS[:30])
    write_jsonl(tmp_path / "b.jsonl", ROWS[30:50])
    return tmp_path


def of(found: Diff) -> dict[str, int]:
    """Return the totals that are not 0."""
    return {change: n for change, n in found.totals.items() if n}


def test_each_change_is_told_apart(make: Make, data: Path) -> None:
    before = make(BASE, name="one").folder
    edited = {**ROWS[4], "output": ROWS[4]["output"] + "（改过）"}
    # a new line on top moves all others down; row 4 is edited in place, row 29 is gone; b's first row goes to c
    write_jsonl(data / "a.jsonl", [{"instruction": "新的一行？", "output": "是的"}, *ROWS[:4], edited, *ROWS[5:29]])
    write_jsonl(data / "b.jsonl", ROWS[31:50])
    write_jsonl(data / "c.jsonl", [ROWS[30]])
    after = make(BASE + 'repeat = 2\n[source.c]\npath = "c.jsonl"\n', name="two").folder
    found = diff(before, after)
    # the edited row is neither at its place nor the same text: removed and added, as is the row that is gone
    assert of(found) == {"elsewhere": 47, "moved": 1, "removed": 2, "added": 2, "repeated": 19}
    book = found.by["source"]
    assert (book["a"].before, book["a"].removed, book["a"].added, book["a"].after) == (30, 2, 2, 30)
    assert (book["b"].out, book["b"].repeats, book["b"].after) == (1, 19, 38)
    assert (book["c"].before, book["c"].into, book["c"].after) == (0, 1, 1)
    moved = next(example for example in found.examples if example.change == "moved")
    assert (moved.source_a, moved.source_b) == ("b", "c")
    assert (
        moved.text_a == moved.text_b and moved.text_a is not None and moved.text_a.startswith(ROWS[30]["instruction"])
    )


def test_an_edit_in_place_is_a_change_with_both_texts(make: Make, data: Path) -> None:
    before = make(BASE, name="one").folder
    write_jsonl(data / "a.jsonl", [*ROWS[:4], {**ROWS[4], "output": "完全不同的回答"}, *ROWS[5:30]])
    found = diff(before, make(BASE, name="two").folder)
    assert of(found) == {"same": 49, "changed": 1}
    (example,) = found.examples
    assert example.text_a is not None and example.text_b is not None
    assert example.text_a.endswith(ROWS[4]["output"]) and example.text_b.endswith("完全不同的回答")
    assert found.things == ("contents of the input a.jsonl",)
    assert found.by["kind"]["chat"].changed == 1


def test_a_recipe_not_built_equals_the_mixture_built_of_it(make: Make, data: Path) -> None:
    write_cmmlu(data)
    toml = (
        'filters = [{ use = "dedup" }]\n' + BASE + "take = 11\nrepeat = 3\n"
        '[source.leak]\npath = "bench"\nbuild = { use = "contaminate", share = 0.5, doses = [1, 3] }\n' + TRAIN
    )
    built = make(toml, name="one").folder
    where = Where(data, data / "cache")
    found = diff(data / "one.toml", built, where)
    assert of(found) == {"same": 30 + 11 + 30}
    assert (found.recipe, found.things) == ((), ())
    assert (found.a.tokens, found.a.size) == (found.b.tokens, found.b.size)
    assert found.a.tokens_by_source == found.b.tokens_by_source
    assert found.a.tokens_by_language == found.b.tokens_by_language
    assert found.a.steps() == found.b.steps() and found.a.steps()[0] == -(-found.b.size // 4) * 2
    written = {p: p.stat().st_mtime_ns for p in data.rglob("*") if "cache" not in p.parts}
    other = diff(built, data / "one.toml", where)
    assert of(other) == of(found)
    assert {p: p.stat().st_mtime_ns for p in data.rglob("*") if "cache" not in p.parts} == written


def test_two_recipes_name_keys_and_warn_of_two_causes(make: Make, data: Path) -> None:
    (data / "one.toml").write_text(BASE + TRAIN, encoding="utf-8")
    (data / "two.toml").write_text(
        'extends = "one.toml"\n[source.a]\ntake = 10\n[source.b]\nrepeat = 2\n', encoding="utf-8"
    )
    found = diff(data / "one.toml", data / "two.toml", Where(data, data / "cache"))
    assert [change.line() for change in found.recipe] == ["source.a.take: (not there) -> 10", "source.b.repeat: 1 -> 2"]
    assert found.things == ("take of a", "repeat of b")
    assert of(found) == {"same": 30, "removed": 20, "repeated": 20}
    text = printed(found)
    assert (
        "warning: 2 things differ, so no difference in scores can be laid to one of them: take of a; repeat of b"
        in text
    )
    assert "rows: 50 -> 50 (+0)" in text
    assert "optimiser steps: 26 -> 26" in text
    assert "removed, only in A (records: 20), for example" in text


def test_what_is_neither_is_refused(make: Make, data: Path) -> None:
    with pytest.raises(InputError, match="neither a mixture folder nor a recipe"):
        diff(data / "a.jsonl", data / "b.jsonl")
    with pytest.raises(InputError, match="no finished mixture"):
        diff(data, data)


def printed(found: Diff) -> str:
    out = Console(width=200, record=True, file=StringIO(), highlight=False)
    print_diff(found, out)
    return out.export_text()


def test_print_makes_texts_harmless_and_shows_where_they_differ(make: Make, data: Path) -> None:
    long = "很长的开头。" * 60
    write_jsonl(data / "a.jsonl", [{"instruction": "问", "output": long + "\x1b[31m甲"}])
    before = make(BASE, name="one").folder
    write_jsonl(data / "a.jsonl", [{"instruction": "问", "output": long + "[red]\u202e乙"}])
    text = printed(diff(before, make(BASE, name="two").folder))
    assert "\x1b" not in text and "\u202e" not in text
    assert "开头。\\x1b[31m甲" in text and "开头。[red]\\u202e乙" in text


def side(rows: list[tuple[Any, ...]]) -> pl.DataFrame:
    """Return a side of records (source, file, row, text, copies, language)."""
    schema = {
        "source": pl.String,
        "file": pl.String,
        "row": pl.Int64,
        "id": pl.String,
        "n": pl.Int64,
        "language": pl.String,
    }
    frame = pl.DataFrame(
        [(s, f, r, f"{t:032x}"[::-1], n, lang) for s, f, r, t, n, lang in rows], schema=schema, orient="row"
    )
    at = pl.int_range(pl.len()).alias("at")
    return merged(narrow(frame.with_columns(at, kind=pl.lit("chat"))))


RECORD = st.tuples(
    st.sampled_from("ab"), st.sampled_from(["f", "g"]), st.integers(0, 3), st.integers(1, 6), st.integers(1, 3),
    st.sampled_from(["zh", "en"]),
)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(one=st.lists(RECORD, max_size=12), two=st.lists(RECORD, max_size=12))
def test_law_of_the_books(one: list[Any], two: list[Any]) -> None:
    """Every row of both sides is in the books once, whatever repeats, collides or moves."""
    a, b = side(one), side(two)
    compared = compare(a, b)
    assert compared["n_a"].sum() == sum(r[4] for r in one) and compared["n_b"].sum() == sum(r[4] for r in two)
    assert len(compared.filter(pl.col("at_a").is_not_null())) == len(a) == compared["at_a"].drop_nulls().n_unique()
    assert len(compared.filter(pl.col("at_b").is_not_null())) == len(b) == compared["at_b"].drop_nulls().n_unique()
    for column in ("source", "language", "kind"):
        for name, k in books(compared, column).items():
            assert k.after == k.before - k.removed + k.added - k.out + k.into + k.repeats, (column, name)
            assert min(k.removed, k.added, k.changed, k.out, k.into, k.before, k.after) >= 0
    counts = totals(compared)
    assert sum(counts[change] for change in CHANGES) == len(compared)
    back = totals(compare(b, a))
    assert (back["same"], back["removed"], back["added"]) == (counts["same"], counts["added"], counts["removed"])
    assert totals(compare(a, a))["same"] == len(a)


def test_examples_are_the_same_each_time() -> None:
    rows = [("a", "f", i, i, 1, "zh") for i in range(1, 60)]
    chosen = [sample(compare(side(rows), side(some)), "removed", 3)["text"].to_list() for some in ([], rows[:9])]
    assert len(chosen[0]) == 3 and chosen[0] == sorted(chosen[0])
    assert chosen == [
        sample(compare(side(rows), side(some)), "removed", 3)["text"].to_list() for some in ([], rows[:9])
    ]
