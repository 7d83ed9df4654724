"""The commands: each says what it does, takes what it names, and ends as the others do."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.steel_data.toys import chat_rows, write_jsonl
from typer.testing import CliRunner

from steel_data.build import Result
from steel_data.cli import app

COMMANDS = sorted(c.name or c.callback.__name__ for c in app.registered_commands)
WANTED = {"build", "plan", "check", "show", "why", "diff", "export", "fetch", "sample"}


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_commands_of_the_contract_are_there() -> None:
    assert set(COMMANDS) >= WANTED


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_option_says_what_it_is(command: str) -> None:
    found = next(c for c in app.registered_commands if (c.name or c.callback.__name__) == command)
    assert len((found.callback.__doc__ or "").strip()) > 20
    assert "Usage" in run(command, "--help")


def test_an_unknown_option_is_status_2() -> None:
    done = CliRunner().invoke(app, ["build", "r.toml", "--worker", "2"])
    assert done.exit_code == 2


def test_a_recipe_goes_through_plan_build_check_show_and_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "a.jsonl", chat_rows(12))
    (tmp_path / "r.toml").write_text('[source.a]\npath = "a.jsonl"\n', encoding="utf-8")
    assert "12" in run("plan", "r.toml")
    folder = tmp_path / "runs/r/mixture"
    assert "12 rows" in run("build", "r.toml", "--workers", 1)
    built = (folder / "manifest.json").stat().st_mtime_ns
    run("build", "r.toml", "--workers", 1)
    assert (folder / "manifest.json").stat().st_mtime_ns == built  # verified, not built again
    assert run("check", folder)
    assert "user" in run("show", folder)
    run("export", folder, "--to", "messages", "--out", tmp_path / "out")
    assert any((tmp_path / "out").rglob("*.jsonl"))


def test_show_why_and_diff_are_data_too(make: Callable[..., Result], tmp_path: Path) -> None:
    rows = chat_rows(5)
    write_jsonl(tmp_path / "a.jsonl", [*rows, rows[0]])
    folder = make('filters = [{ use = "dedup", near = false }]\n[source.a]\npath = "a.jsonl"\n').folder

    def said(*arguments: str) -> str:
        return run(*arguments, "--json")

    kept = [json.loads(line) for line in said("show", str(folder), "-n", "3").splitlines()]
    assert len(kept) == 3 and all(row["source"] == "a" and row["messages"] for row in kept)
    (fallen,) = (json.loads(line) for line in said("show", str(folder), "--dropped").splitlines())
    assert fallen["reason"] == "dedup:exact"
    answer = json.loads(said("why", str(folder), kept[0]["id"]))
    assert answer["total"] == 1 and answer["found"][0]["verdict"] == "kept"
    same = json.loads(said("diff", str(folder), str(folder)))
    assert (
        same["a"]["rows"] == same["b"]["rows"] == 5 and same["recipe"] == [] and same["by"]["source"]["a"]["after"] == 5
    )


def test_a_part_is_data_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "a.jsonl", chat_rows(5))
    (tmp_path / "r.toml").write_text('[source.a]\npath = "a.jsonl"\n', encoding="utf-8")
    said = run("build", "r.toml", "--workers", 1, "--part", "1/1", "--json")
    assert json.loads(said) == {"part": "1/1", "recipe": "r", "tasks": 1}
