"""`plan` shows the first rows and the report, writes no example, and stops at a fault."""

import pytest
from tests.steel_train.conftest import write_recipe

from steel_data.errors import InputError
from steel_train.preflight.costs import parse_devices
from steel_train.preflight.plan import plan_training


def test_a_plan_shows_rows_steps_and_price_and_leaves_no_examples(tmp_path, shared_mixture, capsys):
    recipe, out = write_recipe(tmp_path, shared_mixture), tmp_path / "run"
    plan_training(recipe, shared_mixture, out, None, parse_devices("4090x2", "2.5/h"), 0)
    said = capsys.readouterr().out
    assert "»" in said and "rows 80" in said
    assert "steps 10 of 16 rows" in said, "two devices are two processes"
    assert "estimate on 2 x 4090" in said and "price" in said
    assert sorted(p.name for p in out.iterdir()) == ["tokenizer"]


def test_a_plan_that_cannot_run_ends_in_the_fault(tmp_path, shared_mixture, capsys):
    recipe = write_recipe(tmp_path, shared_mixture, max_length="8")
    with pytest.raises(InputError, match="no row is left to learn from"):
        plan_training(recipe, shared_mixture, tmp_path / "run", None, None, 1)
    assert "fault: no row is left" in capsys.readouterr().out
