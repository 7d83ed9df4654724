"""The commands hand on what they are given."""

from tests.steel_train.conftest import write_recipe
from typer.testing import CliRunner

from steel_train.cli import app


def test_encode_makes_examples_with_the_recipe_as_it_is_changed(tmp_path, shared_mixture):
    recipe, out = str(write_recipe(tmp_path, shared_mixture)), str(tmp_path / "run")
    options = [recipe, "--mixture", str(shared_mixture), "--out", out]
    done = CliRunner().invoke(app, ["encode", *options, "--set", "train.loss=all"])
    assert done.exit_code == 0, done.output
    _, tokens, learnt = (int(word.replace(",", "")) for word in done.output.split() if word[0].isdigit())
    assert learnt == tokens - 80, "of each row all but the first token"
    refused = CliRunner().invoke(app, ["encode", *options, "--workers", "0"])
    assert refused.exit_code == 2
