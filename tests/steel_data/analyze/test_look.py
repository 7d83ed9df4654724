"""What is told of every row: exact counts, whatever the format, the chunks and the sample."""

import json

import numpy as np
import polars as pl
import pytest
from tests.steel_data.toys import chat_rows, write_jsonl

from steel_data.analyze.find import find
from steel_data.analyze.look import Look, look, tasks


def looked(path, folder, step=1):
    folder.mkdir(exist_ok=True)
    found = find([str(path)], folder / "cache")
    whole = Look(0)
    for task in tasks(found.files, step, folder):
        whole.add(look(task))
    return whole


def sampled(seen):
    rows = [json.loads(line) for sample in seen.samples for line in sample.path.read_text("utf-8").splitlines()]
    return rows, [int(n) for sample in seen.samples for n in sample.row_R]


def test_columns_say_how_full_they_are_and_of_which_type(tmp_path):
    rows = [{"a": "xx", "b": None}, {"a": " ", "b": []}, {"a": "xxxx", "b": [1], "c": True}, {"a": 3, "b": {"k": 1}}]
    columns = looked(write_jsonl(tmp_path / "rows.jsonl", rows), tmp_path / "w").columns
    assert {name: (c.present, c.filled, c.chars) for name, c in columns.items()} == {
        "a": (4, 3, 6), "b": (4, 2, 0), "c": (1, 1, 0),
    }  # fmt: skip
    assert dict(columns["a"].types) == {"text": 2, "number": 1}
    assert dict(columns["b"].types) == {"list": 1, "object": 1}


@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet", "csv"])
def test_every_format_gives_the_same_columns_and_rows(suffix, tmp_path):
    frame, path = pl.DataFrame(chat_rows(30)).drop("input"), tmp_path / f"rows.{suffix}"
    {"jsonl": frame.write_ndjson, "json": frame.write_json, "parquet": frame.write_parquet, "csv": frame.write_csv}[
        suffix
    ](path)
    seen = looked(path, tmp_path / "w")
    assert (seen.rows, dict(seen.sets)) == (30, {("instruction", "output"): 30})
    assert sampled(seen) == (frame.to_dicts(), list(range(30)))


def test_unreadable_rows_are_counted_and_the_first_are_named(tmp_path):
    lines = ['{"a": 1}', "{broken", '{"a": 2}', "[1]", "3", "x"]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n")
    seen = looked(tmp_path / "rows.jsonl", tmp_path / "w")
    assert (seen.rows, seen.unreadable, [row for row, _ in seen.places]) == (6, 4, [1, 3, 4])
    assert seen.places[0][1].startswith("line 2: broken JSON")
    assert sampled(seen) == ([{"a": 1}, {"a": 2}], [0, 2])


def test_roles_are_counted_as_they_stand_in_the_file(tmp_path):
    turns = [{"from": "human", "value": "a"}, {"from": "narrator", "value": "b"}]
    seen = looked(
        write_jsonl(tmp_path / "rows.jsonl", [{"conversations": turns}, {"conversations": turns[:1]}]), tmp_path / "w"
    )
    assert dict(seen.roles) == {"human": 2, "narrator": 1}


def test_rows_that_differ_in_their_numbers_alone_are_equal(tmp_path):
    rows = [{"id": i, "row_idx": -i, "text": "a"} for i in range(3)] + [{"id": 0, "row_idx": 0, "text": "b"}]
    seen = looked(write_jsonl(tmp_path / "rows.jsonl", rows), tmp_path / "w")
    assert len(np.unique(seen.hashes)) == 2
    seen = looked(write_jsonl(tmp_path / "keys.jsonl", [{"a": "x"}, {"b": "x"}]), tmp_path / "v")
    assert len(np.unique(seen.hashes)) == 2


def test_a_sample_is_spread_evenly_and_not_in_step_with_the_rows(tmp_path):
    """Of a file in which two languages take turns, every second row would be one of them only."""
    rows = [{"n": i} for i in range(20_000)]
    seen = looked(write_jsonl(tmp_path / "rows.jsonl", rows), tmp_path / "w", step=10)
    _, numbers = sampled(seen)
    assert seen.rows == 20_000
    assert 1_800 < len(numbers) < 2_200
    assert 0.45 < sum(n % 2 for n in numbers) / len(numbers) < 0.55
    assert 0.45 < sum(n < 10_000 for n in numbers) / len(numbers) < 0.55
    (tmp_path / "v").mkdir()
    assert sampled(looked(tmp_path / "rows.jsonl", tmp_path / "v", step=10))[1] == numbers


def test_rows_that_have_keys_of_their_own_do_not_fill_the_memory(tmp_path):
    seen = looked(write_jsonl(tmp_path / "rows.jsonl", [{f"k{i}": "x"} for i in range(3000)]), tmp_path / "w")
    assert (len(seen.sets), len(seen.columns), sum(seen.sets.values())) == (2001, 500, 3000)
