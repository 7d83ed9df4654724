"""What is made ready before a run is what the run takes; what cannot be is said before."""

import pytest
from tests.steel_train.conftest import write_recipe

from steel_data.errors import InputError
from steel_train.run import encode, run


def test_a_run_takes_what_was_encoded_for_it(tmp_path, shared_mixture, capsys):
    recipe, out = write_recipe(tmp_path, shared_mixture, max_steps="1"), tmp_path / "run"
    encode(recipe, shared_mixture, out, None, workers=1)
    assert "80 rows" in capsys.readouterr().out
    assert sorted(p.name for p in out.iterdir() if p.suffix != ".lock") == ["examples", "tokenizer"]
    before = (out / "examples/tokens.bin").stat().st_ino
    run(recipe, shared_mixture, out)
    assert (out / "examples/tokens.bin").stat().st_ino == before and (out / "result.json").is_file()


def test_a_seed_that_the_recipe_has_not_is_refused(tmp_path, shared_mixture):
    with pytest.raises(InputError, match=r"--seed 7: not among \[train\] seeds. Fix: one of \[1, 2\]"):
        run(write_recipe(tmp_path, shared_mixture, seeds="[1, 2]"), shared_mixture, tmp_path / "run", only_seed=7)
