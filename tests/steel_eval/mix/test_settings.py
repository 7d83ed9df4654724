"""`[search]` is checked before anything is built, with the nearest known word."""

from pathlib import Path

import pytest

from steel_data.errors import InputError
from steel_eval.mix.settings import read_search

HELD = {"measure": {"held_out": ["exam"]}}


def test_defaults_fill_what_the_recipe_does_not_say():
    found = read_search(HELD, Path("r.toml"))
    assert (found.centre, found.max_repeat, found.runs, found.sequential) == (4, 4, None, False)
    assert (found.measure.unit, found.measure.sign, found.measure.names) == ("loss", 1, ["exam"])
    tasks = read_search({"measure": {"tasks": ["ceval"], "metric": "accuracy"}}, Path("r.toml")).measure
    assert (tasks.unit, tasks.sign, tasks.preset) == ("accuracy", -1, "steel-likelihood")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, r"r\.toml \[search\]: is missing\. Fix: at least measure"),
        ({"runs": 3}, "measure is missing"),
        (HELD | {"run": 3}, "unknown key 'run'. Did you mean 'runs'"),
        ({"measure": {"held_ou": ["exam"]}}, r"\[search\.measure\]: unknown key 'held_ou'. Did you mean 'held_out'"),
        ({"measure": {}}, "one of held_out and tasks is needed"),
        ({"measure": {"held_out": ["a"], "tasks": ["b"]}}, "one of held_out and tasks is needed"),
        ({"measure": {"held_out": ["a", "a"]}}, "one stands twice"),
        ({"measure": {"tasks": ["a"], "metric": "f1"}}, r"\[search\.measure\]: metric = 'f1'"),
        (HELD | {"centre": 1}, "centre = 1"),
        (HELD | {"vary": ["a"]}, "two names or more, each once"),
        (HELD | {"bounds": {"exam": [0.1]}}, r"bounds\.exam = \[0\.1\]"),
        (HELD | {"bounds": {"exam": [0.1, 1.2]}}, r"bounds\.exam\.1 = 1\.2"),
        (HELD | {"tokens": "many"}, "tokens = 'many'"),
    ],
)
def test_a_wrong_key_is_one_line(table, message):
    with pytest.raises(InputError, match=message) as caught:
        read_search(table, Path("r.toml"))
    assert "\n" not in str(caught.value)
