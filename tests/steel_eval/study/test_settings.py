"""`[eval]` of a study: checked before anything is built, with the nearest known word."""

from pathlib import Path

import pytest

from steel_data.errors import InputError
from steel_eval.study.settings import read_study_settings

RECIPE = Path("r.toml")


def test_options_win_over_the_recipe_and_defaults_fill_the_rest():
    found = read_study_settings({"tasks": ["cmmlu"], "shots": 5}, RECIPE, {"shots": 0, "placebo": None})
    assert (found.tasks, found.shots, found.placebo) == (["cmmlu"], 0, None)
    assert found.presets == ["steel-likelihood", "lm-eval"] and found.detectors


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"taks": ["cmmlu"]}, r"r.toml \[eval\]: unknown key 'taks'. Did you mean 'tasks'"),
        ({"tasks": "cmmlu"}, r"tasks = 'cmmlu': input should be a valid list"),
        ({"tasks": []}, "tasks = .*at least 1"),
        ({"presets": ["lm-eval", "lm-eval"]}, "one stands twice"),
        ({"diluted": {"10": 0}}, "diluted.10 = 0"),
        ({"checkpoints": "some"}, "checkpoints = 'some'"),
        ({"permute": -1}, "permute = -1"),
    ],
)
def test_a_wrong_key_is_one_line(table, message):
    with pytest.raises(InputError, match=message) as caught:
        read_study_settings(table, RECIPE, {})
    assert "\n" not in str(caught.value)
