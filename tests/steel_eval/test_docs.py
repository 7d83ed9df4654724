"""The pages on scoring name every command, option and preset of steel_eval."""

from pathlib import Path

import pytest
import typer

from steel_eval.ask.prompts import preset_names
from steel_eval.cli import app

DOCS = Path(__file__).resolve().parents[2] / "docs"
TEXT = "\n".join(
    (DOCS / f"{page}.md").read_text(encoding="utf-8") for page in ("scoring", "contamination", "mix", "select")
)
COMMANDS = typer.main.get_command(app).commands


@pytest.mark.parametrize("name", preset_names())
def test_presets_are_documented(name):
    assert f"`{name}`" in TEXT


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_commands_and_options_are_documented(name):
    assert f"python -m steel_eval {name}" in TEXT
    for parameter in COMMANDS[name].params:
        for option in parameter.opts:
            if option.startswith("--") and option not in ("--help", "--data", "--effect", "--sets"):
                assert option in TEXT, option
