"""What is checked before any training, and the changes of `--set`."""

import pytest
from tests.steel_eval.mix.sources import RECIPE, SEARCH, world

from steel_data.engine import Local
from steel_data.errors import InputError
from steel_eval.mix.search import prepare_search


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (
            SEARCH.replace("3000", "900_000"),
            r"tokens = 900,000: the recipe's share of '\w+' .* Fix: tokens = \d+ or less",
        ),
        (SEARCH + "bounds = { exam = [0.9, 1.0], chat = [0.3, 0.5] }\n", "no mixture lies within bounds"),
        (
            SEARCH.replace("3000", "9_000") + "max_repeat = 1\nbounds = { chat = [0.7, 0.9] }\n",
            "its data are too few.*chat 0 to",
        ),
        (
            SEARCH.replace('held_out = ["chat", "exam"]', 'tasks = ["own_test.jsonl"]'),
            "no such benchmark|its split is 'test'",
        ),
        ("", r"\[search\]: is missing"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_training(tmp_path, search, message):
    path = world(tmp_path, RECIPE, search)
    with pytest.raises(InputError, match=message):
        prepare_search(path, None, tmp_path / "out", Local())


def test_rows_are_not_held_out_of_a_source_that_selects(tmp_path):
    """Those that are drawn for it would be chosen from first: what is measured would not be what an arm lacks."""
    selecting = RECIPE.replace('path = "exam.jsonl"', 'path = "exam.jsonl"\nselect = { by = "longest", rows = 200 }')
    path = world(tmp_path, selecting, SEARCH)
    with pytest.raises(InputError, match=r"measure: source 'exam' selects its rows, after those .* Fix: measure"):
        prepare_search(path, None, tmp_path / "out", Local())
    world(tmp_path, selecting, SEARCH.replace('["chat", "exam"]', '["chat"]'))
    assert prepare_search(path, None, tmp_path / "out", Local()).pool.held == {"chat": 30}


def test_arms_take_the_seeds_of_the_recipes_own_runs_in_turn(tmp_path):
    """Most of what two runs differ by is their seed: between arms of one it is no noise."""
    search = prepare_search(world(tmp_path), None, tmp_path / "out", Local())
    assert [search.in_turn(i) for i in range(1, 6)] == [search.seed(1), search.seed(2)] * 2 + [search.seed(1)]
