"""`plan` shows the first rows and the report, writes no example, and stops at a fault."""

import pytest
from tests.steel_train.conftest import write_recipe

from steel_data.errors import InputError
from steel_data.recipe.load import load
from steel_train.examples.prepare import learnt
from steel_train.preflight.costs import parse_devices
from steel_train.preflight.plan import plan_training
from steel_train.settings import read_settings


def test_a_plan_shows_rows_steps_and_price_and_leaves_no_examples(tmp_path, shared_mixture, capsys):
    recipe, out = write_recipe(tmp_path, shared_mixture), tmp_path / "run"
    plan_training(recipe, shared_mixture, out, None, parse_devices("4090x2", "2.5/h"), 0)
    said = capsys.readouterr().out
    assert "»" in said and "rows 80" in said
    assert "steps 10 of 16 rows" in said, "two devices are two processes"
    assert "estimate on 2 x 4090" in said and "price" in said
    assert {p.name for p in out.iterdir()} - {".tokenizer.lock"} == {"tokenizer"}


def test_a_plan_that_cannot_run_ends_in_the_fault(tmp_path, shared_mixture, capsys):
    recipe = write_recipe(tmp_path, shared_mixture, max_length="8")
    with pytest.raises(InputError, match="no row is left to learn from"):
        plan_training(recipe, shared_mixture, tmp_path / "run", None, None, 1)
    assert "fault: no row is left" in capsys.readouterr().out


def test_a_plan_shows_what_is_learnt_of_each_source(tmp_path, shared_mixture, capsys):
    """Of one source the whole text: its learnt tokens are all but one a row, and the mark » stands before the question."""
    recipe = load(write_recipe(tmp_path, shared_mixture), ["source.chat.loss=all"])
    plan_training(recipe, shared_mixture, tmp_path / "run", None, None, 1)
    said = capsys.readouterr().out
    counts = {
        line.split()[0]: [int(x.replace(",", "")) for x in line.split()[1:4]]
        for line in said.splitlines()
        if line.lstrip().startswith(("chat ", "identity "))
    }
    examples, tokens, labels = counts["chat"]
    assert labels == tokens - examples
    assert counts["identity"][2] < counts["identity"][1] - counts["identity"][0]


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_the_whole_text_of_judged_answers_is_not_learnt(tmp_path, shared_mixture, method):
    recipe = load(write_recipe(tmp_path, shared_mixture), ["source.chat.loss=all"])
    with pytest.raises(InputError, match=r"\[source.chat\]: loss = 'all' does nothing with method = '" + method):
        learnt(recipe, read_settings({**recipe.train, "method": method}, recipe.path))
