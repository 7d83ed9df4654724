"""The figures of the card are those of the rows and of the ledger; shares, bars and bins add up."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.steel_data.toys import chat_rows, read_train, write_cmmlu, write_jsonl

from steel_data.build import Result
from steel_data.card.facts import count, count_injected, facts, lengths, quantiles, waterfall

Make = Callable[..., Result]
TOML = """
filters = [{ use = "dedup" }]
[source.a]
path = "a.jsonl"
repeat = 2
[source.b]
path = "b.jsonl"
filters = [{ use = "language", keep = ["zh"] }]
[source.leak]
path = "bench"
build = { use = "contaminate", split = "test", doses = { 1 = 6, 3 = 4 } }
"""


@pytest.fixture
def result(make: Make, tmp_path: Path) -> Result:
    write_cmmlu(tmp_path)
    write_jsonl(tmp_path / "a.jsonl", chat_rows(30))
    english = [{"instruction": f"What is the capital of France ({i})?", "output": "It is Paris."} for i in range(5)]
    write_jsonl(tmp_path / "b.jsonl", [*chat_rows(40)[20:], *english])
    return make(TOML)


def test_counts_are_those_of_the_rows(result: Result) -> None:
    train = read_train(result.folder)
    keys = ["source", "kind", "language", "chars"]
    expected = train.group_by(keys).agg(rows=pl.len()).sort(keys, nulls_last=True)
    assert count(result.folder, result.manifest).rows() == expected.rows()
    injected = count_injected(result.folder, result.manifest)
    assert {(dose, items) for _, _, dose, _, items in injected.rows()} == {(0, 50), (1, 6), (3, 4)}


def test_shares_are_of_all_rows_and_tokens(result: Result) -> None:
    seen = facts(result.folder, result.manifest)
    for table in ("by_source", "by_kind", "by_language"):
        assert sum(line["rows"] for line in seen[table]) == result.manifest["rows"]
        assert sum(line["row_share"] for line in seen[table]) == pytest.approx(1)
        assert sum(line["token_share"] for line in seen[table]) == pytest.approx(1)
    by_kind = {line["name"]: line["tokens"] for line in seen["by_kind"]}
    tokens = {name: account["tokens"] for name, account in result.manifest["sources"].items()}
    assert by_kind == {"chat": tokens["a"] + tokens["b"], "injected": tokens["leak"]}
    (contamination,) = seen["contamination"]
    assert [row[:3] for row in contamination["doses"]] == [(1, 6, 6), (3, 4, 12)]
    assert (contamination["drawn"], contamination["rows"], contamination["unseen"]) == (10, 18, 50)


def test_tokens_of_a_kind_are_not_known_where_a_source_has_two(result: Result, tmp_path: Path) -> None:
    """Tokens are counted by source; to divide those of a mixed source would be a guess."""
    train = read_train(result.folder)
    first = (pl.int_range(pl.len()) == 0).over("source")
    kind = pl.when(first & (pl.col("source") == "a")).then(pl.lit("exam")).otherwise("kind").alias("kind")
    train.with_columns(kind).write_parquet(result.folder / "train-00000.parquet")
    assert {line["tokens"] for line in facts(result.folder, result.manifest)["by_kind"]} == {None}


def test_languages_beyond_a_dozen_are_one_line(result: Result) -> None:
    train = read_train(result.folder)
    names = pl.Series("language", [f"x{i % 15:x}" for i in range(len(train))])
    train.with_columns(names).write_parquet(result.folder / "train-00000.parquet")
    lines = facts(result.folder, result.manifest)["by_language"]
    assert len(lines) == 13 and lines[-1]["name"] == "3 more"
    assert sum(line["rows"] for line in lines) == len(train)


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 4)), min_size=1, max_size=30, unique_by=lambda t: t[0]))
def test_quantiles_and_bins_are_those_of_the_plain_list(table: list[tuple[int, int]]) -> None:
    frame = pl.DataFrame({"chars": [c for c, _ in table], "rows": [n for _, n in table], "kind": ["chat"] * len(table)})
    plain = np.repeat([c for c, _ in table], [n for _, n in table])
    shares = (0.05, 0.5, 0.95, 1.0)
    assert quantiles(frame, shares) == [int(np.quantile(plain, s, method="inverted_cdf")) for s in shares]
    bins = lengths(frame)
    assert sum(bin["rows"] for bin in bins) == len(plain)
    assert bins[0]["rows"] == int((plain < 16).sum())
    assert bins[-1]["rows"] > 0  # ends at the longest row
    assert max(sum(height for _, _, height in bin["pieces"]) for bin in bins) == 100


def test_nothing_to_count_is_no_error() -> None:
    empty = pl.DataFrame(schema={"chars": pl.Int32, "rows": pl.UInt32, "kind": pl.String})
    assert quantiles(empty, (0.5,)) == []
    assert lengths(empty) == []


COUNT = st.integers(0, 5000)


@given(COUNT, st.integers(0, 50), COUNT, st.dictionaries(st.text("abc:", min_size=1), COUNT, max_size=14), COUNT, COUNT)
def test_waterfall_ends_where_the_next_bar_begins(
    readable: int, unreadable: int, spare: int, dropped: dict[str, int], out: int, repeated: int
) -> None:
    made = max(sum(dropped.values()) + spare - readable, 0)
    kept = readable + made - sum(dropped.values())
    out = min(out, kept)
    account = {
        "read": readable + unreadable, "unreadable": unreadable, "made": made, "dropped": dropped, "kept": kept,
        "sampled_out": out, "repeated": repeated, "written": kept - out + repeated,
    }  # fmt: skip
    bars = waterfall(account)
    assert bars[-1]["rows"] == account["written"]
    assert all(bar["left"] >= 0 and bar["left"] + bar["width"] <= 100.02 for bar in bars)
    assert sum(b["rows"] for b in bars if b["form"] == "falls") == unreadable + sum(dropped.values())
    assert len(bars) <= 17
    end: float | None = None
    for bar in bars:
        left, right = bar["left"], bar["left"] + bar["width"]
        begin = left if bar["form"] == "rises" else right
        if end is not None:
            assert begin == pytest.approx(end, abs=0.05)
        end = right if bar["form"] in ("level", "rises") else left
