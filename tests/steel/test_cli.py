"""`steel`: every command of the three packages under one name, and the same function behind both."""

import json
import re
import shlex
from pathlib import Path

import click
import pytest
from tests.steel_data.toys import chat_rows, write_jsonl
from typer.main import get_command
from typer.testing import CliRunner

from steel.cli import PACKAGES, RENAMED, _name, app
from steel_data.engine import tell


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_every_command_of_the_packages_is_there_once_and_is_the_same_function() -> None:
    here = {_name(c): c.callback for c in app.registered_commands}
    assert len(here) == len(app.registered_commands)  # no name twice
    for package, commands in PACKAGES.items():
        for command in commands.registered_commands:
            own = _name(command)
            assert here[RENAMED.get((package, own), own)] is command.callback


AT_ONCE = [
    "build gone.toml", "plan gone.toml", "analyze gone", "check gone", "why gone x", "diff gone b", "fetch gone",
    "export gone --to alpaca", "encode gone.toml", "merge gone", "convert gone", "compare gone b", "check-scores gone",
    "report gone", "leak gone --base b --tasks cmmlu", "twins gone --out t", "study gone.toml",
    "rate gone.toml --by ifd --model m", "trial gone.toml", "audit gone --tasks cmmlu", "mix gone.toml", "chat gone",
    "export-model gone --to merged", "push gone --repo me/mine",
]  # fmt: skip


@pytest.mark.parametrize("line", AT_ONCE)
def test_what_takes_a_second_to_load_says_first_what_it_is_at(line: str, tmp_path, monkeypatch) -> None:
    """Before anything is imported: nothing there is found out only after that."""
    monkeypatch.chdir(tmp_path)
    for package in ("steel", "steel_data", "steel_eval", "steel_train"):  # as if this were a terminal
        monkeypatch.setattr(f"{package}.cli.tell_at_once", tell)
    done = CliRunner().invoke(app, line.split())
    assert done.exit_code and re.match("(reading|loading|looking at|fetching) ", done.stderr), done.output


def commands() -> list[tuple[str, click.Command]]:
    return [(name, command) for name, command in get_command(app).commands.items() if not command.hidden]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("name", "command"), commands(), ids=[name for name, _ in commands()])
def test_each_help_ends_with_an_example_that_is_a_command_line(name: str, command: click.Command) -> None:
    """Its own command, with options that there are and all that is needed."""
    (example,) = re.findall("^Example: (.*)$", command.epilog or "")
    steel, called, *arguments = shlex.split(example)
    assert (steel, called) == ("steel", name) and len(example) <= 78  # one line of a terminal
    command.make_context(name, arguments)


# what a command prints as a table can be had as data
TABLES = (
    "analyze",
    "audit",
    "build",
    "compare",
    "diff",
    "env",
    "leak",
    "mix",
    "plan",
    "power",
    "preflight",
    "recipes",
    "score",
    "study",
    "trial",
)


def test_what_prints_a_table_has_json() -> None:
    options = {name: {o for parameter in command.params for o in parameter.opts} for name, command in commands()}
    assert [name for name in TABLES if "--json" not in options[name]] == []


def test_version_is_one_line() -> None:
    assert run("--version").startswith("steel ")


def test_set_lays_a_value_over_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "chat.jsonl", chat_rows(6))
    (tmp_path / "r.toml").write_text('[source.chat]\npath = "chat.jsonl"\n')
    run("build", "r.toml", "--set", "source.chat.take=2", "--set", "name=small", "--workers", "1")
    manifest = json.loads((tmp_path / "runs/small/mixture/manifest.json").read_text())
    assert manifest["rows"] == 2 and manifest["recipe"]["source"]["chat"]["take"] == 2


def test_recipes_are_listed_by_the_name_that_build_takes() -> None:
    assert "@exp3" in json.loads(run("recipes", "--json"))
    assert "@exp3" in run("recipes")


def test_tables_are_printed_as_json_with_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "chat.jsonl", chat_rows(6))
    (tmp_path / "r.toml").write_text('[source.chat]\npath = "chat.jsonl"\n')
    # progress is told on stderr: only JSON is in the pipe
    planned = json.loads(CliRunner().invoke(app, ["plan", "r.toml", "--json", "--workers", "1"]).stdout)
    built = json.loads(CliRunner().invoke(app, ["build", "r.toml", "--json", "--workers", "1"]).stdout)
    assert planned["rows"] == built["rows"] == built["sources"]["chat"]["written"] == 6
    (power,) = json.loads(CliRunner().invoke(app, ["power", "--sets", "100", "--json"]).stdout)
    assert power["n"] == 100 and 0 < power["power"] < 1
