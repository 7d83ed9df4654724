from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st
from tests.steel_data.toys import chat_rows, read_dropped, read_train, write_cmmlu, write_jsonl

from steel_data.build import Result
from steel_data.card.facts import length_bins, quantiles, read_facts

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


def _build(make: Make, root: Path) -> Result:
    write_cmmlu(root)
    write_jsonl(root / "a.jsonl", chat_rows(30))
    english = [{"instruction": f"What is the capital of France ({i})?", "output": "It is Paris."} for i in range(5)]
    write_jsonl(root / "b.jsonl", [*chat_rows(40)[20:], *english])
    with (root / "b.jsonl").open("a", encoding="utf-8") as file:
        file.write("{broken\n")
    return make(TOML)


def test_counts_are_those_of_the_rows(make: Make, tmp_path: Path) -> None:
    result = _build(make, tmp_path)
    facts = read_facts(result.folder, result.manifest)
    train = read_train(result.folder)
    keys = ["source", "kind", "language", "chars"]
    expected = train.group_by(keys).agg(rows=pl.len()).sort(keys, nulls_last=True)
    assert facts.counts.rows() == expected.rows()
    assert {(d, n) for _, _, d, _, n in facts.injected.rows()} == {(0, 50), (1, 6), (3, 4)}


def test_samples_are_first_rows_and_no_repeats(make: Make, tmp_path: Path) -> None:
    result = _build(make, tmp_path)
    facts = read_facts(result.folder, result.manifest)
    train = read_train(result.folder).filter(pl.col("copy") == 0)
    for source, rows in facts.samples.items():
        assert [row["id"] for row in rows] == train.filter(pl.col("source") == source)["id"].to_list()[:3]


def test_every_reason_of_the_ledger_has_its_rows_and_examples(make: Make, tmp_path: Path) -> None:
    result = _build(make, tmp_path)
    facts = read_facts(result.folder, result.manifest)
    dropped = read_dropped(result.folder)
    counts = dict(dropped.group_by("reason").len().iter_rows())
    assert {reason.name: reason.rows for reason in facts.reasons} == counts
    assert {"unreadable", "dedup:exact", "language:en", "contaminate:not-drawn"} == set(counts)
    for reason in facts.reasons:
        assert len(reason.examples) == min(2, reason.rows)
        assert all(row["reason"] == reason.name and row["step"] == reason.step for row in reason.examples)
    assert [r.rows for r in facts.reasons] == sorted((r.rows for r in facts.reasons), reverse=True)


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 4)), min_size=1, max_size=30, unique_by=lambda t: t[0]))
def test_quantiles_and_bins_are_those_of_the_plain_list(table: list[tuple[int, int]]) -> None:
    frame = pl.DataFrame({"chars": [c for c, _ in table], "rows": [n for _, n in table], "kind": ["chat"] * len(table)})
    plain = np.repeat([c for c, _ in table], [n for _, n in table])
    shares = (0.05, 0.5, 0.95, 1.0)
    assert quantiles(frame, shares) == [int(np.quantile(plain, s, method="inverted_cdf")) for s in shares]
    bins = length_bins(frame)
    assert sum(sum(kinds.values()) for _, kinds in bins) == len(plain)
    assert bins[0][1].get("chat", 0) == int((plain < 16).sum())
    assert bins[-1][1]  # ends at the longest row


def test_nothing_to_count_is_no_error() -> None:
    empty = pl.DataFrame(schema={"chars": pl.Int32, "rows": pl.UInt32, "kind": pl.String})
    assert quantiles(empty, (0.5,)) == []
    assert length_bins(empty) == []
