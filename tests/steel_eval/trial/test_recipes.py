"""Whole recipes as arms: equal steps and trainable tokens, the trial's training, the same rows held out."""

from pathlib import Path

import pytest
from tests.steel_eval.mix.sources import RECIPE, world

from steel_data.engine import Local
from steel_data.errors import InputError
from steel_data.recipe.load import load
from steel_eval.trial.command import _prepared, _recipes_sized, trial_command
from steel_eval.trial.recipes import arms_recipes

TRIAL = '[trial]\ntokens = {}\nmeasure = {{ held_out = ["exam"] }}\n[trial.recipes]\n{}\n'


def recipe(folder: Path, recipes: str, tokens: int = 3000) -> Path:
    small = RECIPE.replace('[source.noise]\npath = "noise.jsonl"\n', "").replace("hidden_size = 32", "hidden_size = 16")
    return world(folder, small, TRIAL.format(tokens, recipes), n=200)


def sized(path: Path):
    trial = _prepared(load(path), path.parent, path.parent / "out")
    return _recipes_sized(trial)


def test_an_arm_of_few_rows_sees_them_again_and_takes_as_many_steps(tmp_path: Path) -> None:
    arms, sizes = sized(recipe(tmp_path, "few = { source = { chat = { take = 20 } } }"))
    assert list(sizes) == ["own", "few"] and sizes["own"].steps == sizes["few"].steps
    assert sizes["few"].rows < sizes["own"].rows and abs(sizes["few"].tokens / sizes["own"].tokens - 1) < 0.1
    train = load(arms["few"].recipe).train
    assert train["max_steps"] == sizes["few"].steps and train["seeds"] == [1, 2, 3]
    seen = train["max_steps"] * train["micro_batch"] * train["accumulate"]
    assert train["epochs"] * sizes["few"].rows >= seen > sizes["few"].rows


def test_another_recipe_brings_its_data_and_is_trained_as_this_one(tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text(
        'seed = 3\n[source.chat]\npath = "noise.jsonl"\n[source.exam]\npath = "exam.jsonl"\n'
        '[train]\nmodel = "some/model"\n',
        encoding="utf-8",
    )
    arms, _ = sized(recipe(tmp_path, 'other = "other.toml"'))
    found = load(arms["other"].recipe)
    assert found.source("chat").table.paths == ["noise.jsonl"] and found.train["model"]["hidden_size"] == 16
    assert found.source("exam").table.hold_out == 20


@pytest.mark.parametrize(
    ("recipes", "said"),
    [
        ("few = { source = { exam = { take = 50 } } }", "rows of 'exam' cannot be held out: recipes.few builds it"),
        ("few = { source = { chatt = { take = 50 } } }", "recipes.few: .*chatt"),
        ('few = "few.toml"', "recipes.few: .*few.toml"),
        ('leak = { source = { again = { path = "exam.jsonl" } } }', "held out stand in arm 'leak' too"),
    ],
)
def test_refusals(tmp_path: Path, recipes: str, said: str) -> None:
    path = recipe(tmp_path, recipes)
    with pytest.raises(InputError, match=said):
        sized(path)


def test_laid_over_tables_keep_what_they_do_not_name(tmp_path: Path) -> None:
    path = recipe(tmp_path, 'x = { source = { chat = { build = { use = "chat", columns = { query = "q" } } } } }')
    found = arms_recipes(load(path), load(path).trial["recipes"])["x"]
    assert found.source("chat").builder.options["columns"] == {"query": "q"} and found.source("exam").table.paths


@pytest.mark.slow
def test_a_trial_of_recipes_is_trained_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = recipe(tmp_path, "few = { source = { chat = { take = 20 } } }", tokens=1200)
    trial_command(path, tmp_path, tmp_path / "out", Local(), ())
    said = capsys.readouterr()
    assert said.err.index("will mostly not be seen") < said.err.index("few, seed 1")
    page = (tmp_path / "out/trial.html").read_text(encoding="utf-8")
    assert "Every recipe against this one" in page and "random" not in page
