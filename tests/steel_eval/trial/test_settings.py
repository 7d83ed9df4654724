"""`[trial]` is checked before anything is built: sizes are the trial's, both random draws are always there."""

from pathlib import Path

import pytest

from steel_data.errors import InputError
from steel_data.recipe.load import load
from steel_eval.trial.settings import read_trial

GOOD = 'tokens = 1000\narms = { long = { by = "longest" } }\nmeasure = { held_out = ["a"] }\n'


def read(folder: Path, trial: str, more: str = ""):
    (folder / "r.toml").write_text(f'[source.a]\npath = "a.jsonl"\n{more}\n[trial]\n{trial}', encoding="utf-8")
    return read_trial(load(folder / "r.toml"))


def test_random_draws_are_always_among_the_arms(tmp_path: Path) -> None:
    settings, source, arms = read(tmp_path, GOOD + 'balance = "source"\n')
    assert (source, settings.seeds) == ("a", [1, 2, 3])
    assert list(arms) == ["random", "balanced-random", "long"]
    assert arms["balanced-random"] == {"by": "random", "within": "source"}


def test_recipes_are_compared_with_the_one_they_stand_in(tmp_path: Path) -> None:
    trial = GOOD.replace(
        'arms = { long = { by = "longest" } }', "recipes = { few = { source = { a = { take = 3 } } } }"
    )
    settings, source, selects = read(tmp_path, trial, '[source.b]\npath = "b"\n[mix]\nlanguages = { zh = 1.0 }')
    assert (source, selects, settings.pairs) == ("", {}, [("few", "own")])


@pytest.mark.parametrize(
    ("trial", "more", "said"),
    [
        (GOOD.replace("tokens = 1000\n", ""), "", "tokens is missing"),
        (GOOD + "seed = 1\n", "", "unknown key 'seed'.*seeds"),
        (GOOD + "seeds = [1, 2]\n", "", "seeds"),
        (GOOD + "seeds = [1, 2, 2]\n", "", "a seed stands twice"),
        (GOOD.replace('by = "longest"', 'by = "longest", rows = 5'), "", r"\[trial.arms.long\]: rows and tokens are the trial's"),
        (GOOD.replace("longest", "largest"), "", r"\[trial.arms.long\]: by = 'largest'"),
        (GOOD.replace("longest", "dsir"), "", r"\[trial.arms.long\]: .*no target|compares with a target"),
        (GOOD.replace("long =", "random ="), "", "'random' is always there"),
        (GOOD, '[source.b]\npath = "b"', "Fix: source = one of a, b"),
        (GOOD + 'recipes = { few = "few.toml" }', "", "one of arms and recipes is needed"),
        (GOOD.replace('arms = { long = { by = "longest" } }', ""), "", "one of arms and recipes is needed"),
        (GOOD.replace('arms = { long = { by = "longest" } }', 'recipes = { own = "few.toml" }'), "", "'own' is always"),
        (GOOD + 'source = "c"\n', "", "no source 'c' to select from"),
        (GOOD, "[mix]\nbudget_rows = 5", "would cut what the arms select"),
    ],
)  # fmt: skip
def test_refusals(tmp_path: Path, trial: str, more: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read(tmp_path, trial, more)
