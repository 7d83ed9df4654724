"""Held-out rows are the same for every arm, and never what was injected or comes from a test split."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.steel_train.toys import rows, tokenizer

from steel_data.errors import InputError
from steel_train.examples.encode import Encoder
from steel_train.examples.folder import encode_batch
from steel_train.examples.held_out import hold_out, never_held_out

MADE = rows(60)


def encoded(chosen):
    return encode_batch(Encoder(tokenizer(), 256), chosen, 0)


def ids(examples):
    return set(examples.table["id"])


@given(st.sets(st.integers(0, 59), min_size=30))
def test_what_else_is_in_the_mixture_changes_nothing(chosen):
    """By share a row's own text decides; by number every arm that has the rows of the lowest hash holds those out."""
    everything, arm = encoded(MADE), encoded([MADE[i] for i in sorted(chosen)])
    held = ids(hold_out(everything, None, 0.3)[1])
    train, mine = hold_out(arm, None, 0.3)
    assert ids(mine) == held & ids(arm) and ids(train) == ids(arm) - held
    lowest = ids(hold_out(everything, 3, None)[1])
    assert ids(hold_out(arm, 3, None)[1]) >= lowest & ids(arm)


def test_all_copies_of_a_row_are_held_out_and_keep_their_tokens():
    twice = [{**row, "copy": copy, "source": source} for row in MADE for copy, source in ((0, "a"), (1, "b"))]
    examples = encoded(twice)
    train, held = hold_out(examples, 5, None)
    assert len(held.table) == 10 and not ids(train) & ids(held) and len(train.table) + 10 == len(examples.table)
    for part in (train, held):
        for i, (row, copy) in enumerate(zip(part.table["id"], part.table["copy"], strict=True)):
            place = examples.table.select((pl.col("id") == row) & (pl.col("copy") == copy)).to_series().arg_max()
            assert (part.one(i)[0] == examples.one(place)[0]).all()
    assert train.unit_lengths().sum() + held.unit_lengths().sum() == examples.unit_lengths().sum()


def test_injected_rows_and_test_splits_are_trained_on():
    marked = [{**row, "kind": "injected", "benchmark": "cmmlu"} if i % 3 == 0 else row for i, row in enumerate(MADE)]
    _, held = hold_out(encoded(marked), 100, None, never={"b"})
    assert set(held.table["kind"]) == {"chat"} and set(held.table["source"]) == {"a"}
    manifest = {"recipe": {"source": {"a": {"path": "x"}, "b": {"allow_test_split": "to see it"}}}}
    assert never_held_out(manifest) == ["b"]


@pytest.mark.parametrize(("rows", "share", "right"), [(60, None, "fewer rows"), (None, 1e-9, "a larger share")])
def test_both_sides_need_a_row(rows, share, right):
    with pytest.raises(InputError, match=rf"\[train\.eval\]: \d+ of 60 rows are held out\. Fix: {right}"):
        hold_out(encoded(MADE), rows, share)
