"""Small mixtures byte for byte: what a change of the code does to data cannot slip by.

A difference that is meant: `python tests/golden/renew.py`, read the diff, commit it with the change (and CHANGELOG.md).
"""

import json
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from tests.golden.renew import HERE, RECIPES, outputs
from tests.steel_data.toys import Elsewhere

from steel_data.recipe.load import load
from steel_data.recipe.steps import BUILDERS, FILTERS


def test_every_builder_and_filter_takes_part():
    recipes = [load(HERE / f"{name}.toml") for name in RECIPES]
    steps = {step.use for r in recipes for s in r.sources for step in (s.builder, *s.filters, *r.filters)}
    assert {*BUILDERS, *FILTERS} <= steps
    assert {use for use in steps if ":" in use} == {
        "golden_steps:faq",
        "golden_steps:polite",
        "golden_steps:not_secret",
    }


def count_reads(monkeypatch):
    """Return how often each parquet file is read, counted from now on."""
    reads = Counter()

    def counted(read):
        def run(source, *args, **options):
            reads[source] += 1
            return read(source, *args, **options)

        return run

    for name in ("read_parquet", "scan_parquet"):
        monkeypatch.setattr(pl, name, counted(getattr(pl, name)))
    return reads


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("recipe", RECIPES)
def test_mixture_is_the_expected_one(recipe, workers, tmp_path, monkeypatch):
    if workers == 2 and recipe != "golden":
        pytest.skip("one recipe with two processes is enough")
    reads = count_reads(monkeypatch)
    found = outputs(recipe, tmp_path, workers)
    assert workers == 2 or max(n for file, n in reads.items() if (tmp_path / "cache") in Path(file).parents) <= 2
    assert sorted(found) == sorted(file.name for file in (HERE / "expected" / recipe).iterdir())
    for name, content in found.items():
        expected = (HERE / "expected" / recipe / name).read_bytes()
        # decoded, so that pytest shows the line that differs
        assert content.decode().splitlines() == expected.decode().splitlines(), (
            f"{recipe}/{name}: see the module's docstring"
        )
        assert content == expected


@pytest.mark.parametrize("recipe", RECIPES)
def test_tasks_that_run_elsewhere_make_the_same(recipe, tmp_path):
    """Whatever a task is told goes through a pickle, as it does to a cluster."""
    for name, content in outputs(recipe, tmp_path, Elsewhere()).items():
        assert content == (HERE / "expected" / recipe / name).read_bytes(), f"{recipe}/{name}"


def test_expected_files_say_what_the_recipe_says():
    """The files were read by a person once; these are the facts to see in them."""
    rows = [
        json.loads(line) for line in (HERE / "expected/golden/train.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    dropped = (HERE / "expected/golden/dropped.jsonl").read_text(encoding="utf-8")
    assert [r["messages"][1]["content"] for r in rows if r["source"] == "first" and r["origin_row"] == 5] == ["A。"]
    assert len({r["item"] for r in rows if r.get("dose") == 3}) == 3
    for reason in (
        "rude",
        "language:ja",
        "length:too-short",
        "pattern:drop[0]",
        "dedup:near",
        "decontaminate:own",
        "unreadable",
    ):
        assert f'"reason": "{reason}"' in dropped
    for reason in ("exam:not-choice", "exam:no-answer", "contaminate:not-drawn", "chat:roles", "identity:empty"):
        assert f'"reason": "{reason}"' in dropped
    truth = (HERE / "expected/golden/truth.jsonl").read_text(encoding="utf-8")
    assert truth.count('"dose": 0') == 6
    # equal items share their dose: 00000 and 00005 of each subject have the same question and options
    dose = {(t := json.loads(line))["item"]: t["dose"] for line in truth.splitlines()}
    assert all(dose[f"test/{subject}/00000"] == dose[f"test/{subject}/00005"] for subject in ("crafts", "places"))
