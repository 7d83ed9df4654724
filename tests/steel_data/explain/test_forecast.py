"""What `plan` promises: bounds that hold, estimates that are marked, exact numbers that are those of the build."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.steel_data.toys import chat_rows, write_cmmlu, write_jsonl

from steel_data.build import Result, build
from steel_data.explain.forecast import forecast, optimiser_steps
from steel_data.recipe.load import load

RECIPE = """
filters = [{ use = "dedup" }]
[source.a]
path = "a*.jsonl"
repeat = 2
filters = [{ use = "length", min_chars = 16 }]
[source.few]
path = "b.jsonl"
take = 5
[source.leak]
path = "bench"
build = { use = "contaminate", share = 0.5, doses = [1, 3] }
[train]
epochs = 2
micro_batch = 4
accumulate = 2
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    rows = chat_rows(90)
    write_jsonl(tmp_path / "a1.jsonl", [*rows[:50], *rows[:9]])
    write_jsonl(tmp_path / "a2.jsonl", rows[40:80])
    write_jsonl(tmp_path / "b.jsonl", rows[80:])
    write_cmmlu(tmp_path)
    (tmp_path / "r.toml").write_text(RECIPE, encoding="utf-8")
    return tmp_path / "r.toml"


def test_exact_is_what_build_makes_and_the_estimate_bounds_it(recipe: Path, tmp_path: Path) -> None:
    options = {"data_root": None, "cache": tmp_path / "cache"}
    guess = forecast(load(recipe), **options)
    exact = forecast(load(recipe), exact=True, **options)
    made = build(load(recipe), out=tmp_path / "out", cache=tmp_path / "cache").manifest
    assert exact.rows == made["rows"]
    assert exact.tokens == made["tokens"]
    assert {s.name: s.rows for s in exact.sources} == {n: a["written"] for n, a in made["sources"].items()}
    assert exact.steps == -(-made["rows"] // 8) * 2
    bounds = {s.name: s for s in guess.sources}
    for name, account in made["sources"].items():
        assert bounds[name].rows >= account["written"]
        assert bounds[name].read == account["read"]
    assert not bounds["a"].exact and bounds["leak"].exact
    assert bounds["leak"].rows == made["sources"]["leak"]["written"]
    assert bounds["few"].rows == 5
    assert (guess.sign, exact.sign) == ("≤ ", "")
    assert guess.steps is not None and guess.steps >= exact.steps
    assert abs(sum(exact.languages.values()) - 1) < 1e-9


def test_a_sample_without_a_row_that_passes_proves_nothing(tmp_path: Path) -> None:
    english = [{"instruction": f"Say {i}.", "output": "This is an English answer of some length."} for i in range(30)]
    for i in range(3):
        write_jsonl(tmp_path / f"a{i}.jsonl", english[i * 10 : i * 10 + 10])
    write_jsonl(tmp_path / "b.jsonl", chat_rows(20))
    toml = '[source.a]\npath = "PATH"\nfilters = [{ use = "language", keep = ["zh"] }]\n'
    options = {"data_root": None, "cache": tmp_path / "cache"}
    for path, rows in (("*.jsonl", 50), ("a?.jsonl", 0)):  # three files are looked at: the fourth may hold anything
        (tmp_path / "r.toml").write_text(toml.replace("PATH", path), encoding="utf-8")
        assert forecast(load(tmp_path / "r.toml"), **options).rows == rows


def test_plan_writes_no_mixture(recipe: Path, tmp_path: Path) -> None:
    forecast(load(recipe), data_root=None, cache=tmp_path / "cache")
    assert not (tmp_path / "runs").exists()


def test_targets_cut_the_estimate(make: Callable[..., Result], tmp_path: Path) -> None:
    english = [
        {"instruction": f"Name {i} good things about rain.", "output": "It waters plants. " * 3} for i in range(40)
    ]
    write_jsonl(tmp_path / "a.jsonl", [*chat_rows(60), *english])
    toml = '[source.a]\npath = "a.jsonl"\n[mix]\nlanguages = { zh = 0.8, en = 0.2 }\n'
    (tmp_path / "m.toml").write_text(toml, encoding="utf-8")
    guess = forecast(load(tmp_path / "m.toml"), data_root=None, cache=tmp_path / "cache")
    made = make(toml).manifest
    assert guess.languages == {"zh": 0.8, "en": 0.2}
    assert abs(guess.tokens - made["tokens"]) <= 0.05 * made["tokens"]
    assert guess.sign == "≈ "
    assert abs(guess.rows - made["rows"]) <= 0.05 * made["rows"]


@pytest.mark.parametrize(
    ("train", "steps"),
    [
        ({}, None),
        ({"epochs": 3}, 48),  # 1,000 rows by 64: 16 steps an epoch
        ({"epochs": 1, "micro_batch": 1, "accumulate": 1}, 1000),
        ({"epochs": 0.5, "micro_batch": 10, "accumulate": 1}, 50),
        ({"epochs": 1, "packing": True, "max_length": 1000, "micro_batch": 1, "accumulate": 10}, 10),
    ],
)
def test_optimiser_steps(train: dict[str, object], steps: int | None) -> None:
    assert optimiser_steps(train, rows=1000, tokens=100_000)[0] == steps
