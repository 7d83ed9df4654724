"""What is checked before any training, and the changes of `--set`."""

import pytest
from tests.steel_eval.mix.sources import RECIPE, SEARCH, world

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
        prepare_search(path, None, tmp_path / "out", 1)
