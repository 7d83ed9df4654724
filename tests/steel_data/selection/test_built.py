"""A recipe that selects: the same bytes every time, books that balance, and whoever asks is told why."""

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from tests.steel_data.toys import chat_rows, read_train, write_cmmlu, write_jsonl

from steel_data.build import Result
from steel_data.errors import InputError
from steel_data.explain.query import Again
from steel_data.explain.why import ask
from steel_data.mixture.check import find_faults
from steel_data.selection.ratings import open_store

Make = Callable[..., Result]


def recipe(select: str, more: str = "") -> str:
    return f'[source.a]\npath = "*.jsonl"\nmeta = ["input"]\nselect = {{ {select} }}\n{more}\n'


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = chat_rows(120)
    write_jsonl(tmp_path / "one.jsonl", rows[:70])
    write_jsonl(tmp_path / "two.jsonl", rows[70:])
    write_cmmlu(tmp_path, subjects=1, items=4, split="val")
    return tmp_path


@pytest.mark.parametrize(
    "by", ["random", "longest", "length", "duplicates-last", 'dsir", target = "bench/val', 'random", within = "source']
)
def test_fewer_rows_lie_inside_more_and_books_balance(make: Make, data: Path, by: str) -> None:
    few, many = (make(recipe(f'by = "{by}", rows = {n}'), name=f"r{n}") for n in (10, 30))
    small, large = read_train(few.folder), read_train(many.folder)
    assert (len(small), len(large)) == (10, 30)
    assert set(small["id"]) < set(large["id"])
    account = few.manifest["sources"]["a"]
    assert (account["kept"], account["sampled_out"], account["written"]) == (120, 110, 10)
    said = few.manifest["selections"]["a"]
    assert (said["of"], said["rows"], said["by"]) == (120, 10, by.partition('"')[0])
    assert "10 of 120 rows" in (few.folder / "card.md").read_text(encoding="utf-8")
    assert find_faults(few.folder, few.manifest) == []


def test_bytes_depend_on_neither_workers_nor_names(make: Make, data: Path) -> None:
    table = recipe('by = "dsir", rows = 20, target = "bench/val"')
    one = make(table, name="one", cache=data / "c1")
    two = make(table, name="two", cache=data / "c2", workers=2)
    assert one.manifest["content_sha256"] == two.manifest["content_sha256"]
    assert one.manifest["output"] == two.manifest["output"]


def test_the_order_is_take_then_hold_out_then_select_then_repeat(make: Make, data: Path) -> None:
    taken = set(read_train(make('[source.a]\npath = "*.jsonl"\ntake = 40\nhold_out = 5\n', name="t").folder)["id"])
    assert len(taken) == 35
    more = "take = 40\nhold_out = 5\nrepeat = 2"
    train = read_train(make(recipe('by = "longest", rows = 8', more)).folder)
    assert len(train) == 16
    assert set(train["id"]) < taken
    assert sorted(train.filter(copy=0)["rating"]) == sorted(train.filter(copy=1)["rating"])
    with pytest.raises(InputError, match="select rows = 36, but 35 are left"):
        make(recipe('by = "longest", rows = 36', more), name="x")
    with pytest.raises(InputError, match="budget_rows = 20, but there are 16"):
        make(recipe('by = "longest", rows = 8', f"{more}\n[mix]\nbudget_rows = 20"), name="y")


def test_why_says_rating_and_rank(make: Make, data: Path) -> None:
    result = make(recipe('by = "longest", rows = 10'))
    written = read_train(result.folder)
    assert written["rating"].null_count() == 0
    out = next(i for i in range(70) if i not in set(written.filter(origin_file="one.jsonl")["origin_row"]))
    (found,) = ask(result.folder, f"one.jsonl:{out}", Again(data_root=data, cache=data / "cache")).found
    assert found.verdict == "sampled out"
    head, _, rank = found.why.rpartition("number ")
    assert head.startswith("select by longest of source a chooses the first 10 of 120 (rows = 10); it is rated ")
    assert 10 < int(rank) <= 120
    assert found.row["rating"] == float(head.rpartition("rated ")[2].rstrip(", "))


def test_a_mixture_by_ratings_names_the_model_and_is_made_anew_for_another(make: Make, data: Path) -> None:
    table = recipe('by = "perplexity", rows = 10, model = "base"')
    with pytest.raises(InputError, match="needs ratings, and none are in"):
        make(table)
    ids = read_train(make('[source.a]\npath = "*.jsonl"\n', name="all").folder)["id"].to_list()
    store = open_store(data / "cache", "perplexity", "base", "a" * 32)
    store.add(pl.DataFrame({"id": ids, "rating": [float(i) for i in range(120)]}))
    result = make(table)
    assert set(read_train(result.folder)["id"]) == set(ids[:10])
    assert result.manifest["ratings"] == {"a": {"by": "perplexity", "model": "base", "fingerprint": "a" * 32}}
    assert "perplexity by base" in (result.folder / "card.md").read_text(encoding="utf-8")
    other = open_store(data / "cache", "perplexity", "other", "b" * 32)
    other.add(pl.DataFrame({"id": ids, "rating": [float(-i) for i in range(120)]}))
    assert not make(table).fresh
    again = make(recipe('by = "perplexity", rows = 10, model = "other"'))
    assert again.fresh
    assert set(read_train(again.folder)["id"]) == set(ids[-10:])


OWN = """
import polars as pl

def hard(record, *, least):
    rating = record["rating"]
    return record if rating is None or rating >= least else "too-easy"

def not_absurd(*, most):
    return pl.col("rating").is_null() | (pl.col("rating") <= most)
"""


def test_filters_of_ones_own_see_the_ratings(make: Make, data: Path) -> None:
    """As a function and as an expression; ratings that changed since are looked at anew."""
    (data / "own.py").write_text(OWN, encoding="utf-8")
    ids = read_train(make('[source.a]\npath = "*.jsonl"\n', name="all").folder)["id"].to_list()
    filters = 'filters = [{ use = "own:hard", least = 30.0 }, { use = "own:not_absurd", most = 99.0 }]'
    table = recipe('by = "perplexity", rows = 5', filters)
    store = open_store(data / "cache", "perplexity", "base", "a" * 32)
    store.add(pl.DataFrame({"id": ids[:110], "rating": [float(i) for i in range(110)]}))
    with pytest.raises(InputError, match="10 of 80 rows have no perplexity rating"):
        make(table)  # what is not rated is judged by nobody
    store.add(pl.DataFrame({"id": ids[110:], "rating": [float(i) for i in range(110, 120)]}))
    result = make(table, workers=2)
    assert set(read_train(result.folder)["id"]) == set(ids[30:35])
    reasons = result.manifest["sources"]["a"]["dropped"]
    assert (reasons["too-easy"], reasons["own:not_absurd"]) == (30, 20)


def test_without_a_model_that_selects_a_filter_sees_no_rating(make: Make, data: Path) -> None:
    (data / "own.py").write_text(OWN, encoding="utf-8")
    filters = 'filters = [{ use = "own:hard", least = 30.0 }, { use = "own:not_absurd", most = 9.0 }]'
    assert make(recipe('by = "longest", rows = 5', filters)).manifest["sources"]["a"]["kept"] == 120


def test_a_target_that_changes_makes_the_mixture_anew(make: Make, data: Path) -> None:
    table = recipe('by = "dsir", rows = 10, target = "bench/val"')
    first = make(table)
    name = "bench/val/subject_0.csv"
    assert first.manifest["inputs"][name]["sha256"]
    write_cmmlu(data, subjects=1, items=5, split="val")
    assert make(table).fresh
    with pytest.raises(InputError, match="is a test split"):
        make(recipe('by = "dsir", rows = 10, target = "bench/test"'))


@pytest.mark.parametrize(
    ("select", "more", "said"),
    [
        ('by = "random"', "", "needs one of rows and tokens"),
        ('by = "random", rows = 1, tokens = 1', "", "rows and tokens are both given"),
        ('by = "random", rows = 20', "take = 10", "chooses rows = 20 of what take leaves, which is 10"),
        ('by = "dsir", rows = 1', "", "compares with a target, and none is given"),
        ('by = "random", rows = 1, within = "subject"', "", r'Fix: meta = \["input", "subject"\]'),
        ('by = "random", rows = 1, row = 2', "", "unknown key 'row'"),
        ('by = "random", rows = 1, model = "m"', "", "needs no model"),
        ('by = "best", rows = 1', "", "not known. Known: dsir, duplicates-last"),
    ],
)  # fmt: skip
def test_contradictions_are_refused_before_a_row_is_read(
    make: Make, tmp_path, select: str, more: str, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        make(recipe(select, more))


def test_a_recipe_that_extends_selects_otherwise(make: Make, data: Path) -> None:
    (data / "base.toml").write_text(recipe('by = "dsir", rows = 5, target = "bench/val"'), encoding="utf-8")
    result = make('extends = "base.toml"\n[source.a]\nselect = { by = "longest", tokens = 200 }\n')
    assert json.dumps(result.manifest["recipe"]["source"]["a"]["select"]) == '{"by": "longest", "tokens": 200}'
