"""`[eval]` of a study: checked before anything is built, with the nearest known word."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from steel_data.errors import InputError
from steel_eval.cli import app
from steel_eval.study.settings import read_study_settings

RECIPE = Path("r.toml")


def test_options_win_over_the_recipe_and_defaults_fill_the_rest():
    found = read_study_settings({"tasks": ["cmmlu"], "shots": 5}, RECIPE, {"shots": 0, "placebo": None})
    assert (found.tasks, found.shots, found.placebo) == (["cmmlu"], 0, None)
    assert found.presets == ["steel-likelihood", "lm-eval"] and found.detectors


@pytest.mark.parametrize("option", ["--base", "--tokenizer", "--revision", "--trust-remote-code"])
def test_what_the_recipe_says_of_a_model_is_no_option(option):
    """A study trains its own models: an option that was passed over in silence would be taken for heeded."""
    values = [] if option == "--trust-remote-code" else ["elsewhere"]
    result = CliRunner().invoke(app, ["study", "r.toml", option, *values])
    assert isinstance(result.exception, InputError)
    assert str(result.exception).startswith(f"study {option}") and "a study trains its own models" in str(
        result.exception
    )


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"taks": ["cmmlu"]}, r"r.toml \[eval\]: unknown key 'taks'. Did you mean 'tasks'"),
        ({"tasks": "cmmlu"}, r"tasks = 'cmmlu': no list. Fix: a list."),
        ({"tasks": []}, "tasks = .*too few. Fix: 1 or more"),
        ({"presets": ["lm-eval", "lm-eval"]}, "one stands twice"),
        ({"diluted": {"10": 0}}, "diluted.10 = 0"),
        ({"checkpoints": "some"}, "checkpoints = 'some'"),
        ({"permute": -1}, "permute = -1"),
        ({"limit": 0}, "limit = 0"),
        ({"max_length": 1}, "max_length = 1"),
        ({"thinking": "maybe"}, "thinking = 'maybe'"),
    ],
)
def test_a_wrong_key_is_one_line(table, message):
    with pytest.raises(InputError, match=message) as caught:
        read_study_settings(table, RECIPE, {})
    assert "\n" not in str(caught.value)
