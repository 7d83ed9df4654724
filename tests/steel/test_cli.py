"""`steel`: every command of the three packages under one name, and the same function behind both."""

import ast
import json
import re
import shlex
from pathlib import Path

import click
import pytest
import typer
from tests.chinese_page import SENTENCE
from tests.steel_data.toys import chat_rows, write_cmmlu, write_jsonl
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


SRC = Path(__file__).parents[2] / "src"
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


def test_what_people_are_told_to_type_begins_with_steel() -> None:
    """One word for one thing: an error that says `python -m steel_data …` names a command that no help shows."""
    told = []
    for path in SRC.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        documented = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        texts = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and id(n) not in documented]
        told += [text for text in texts if re.search(r"python -m steel|`steel_\w+ [a-z]", str(text))]
    assert [text for text in told if "lm_eval" not in text] == []


def said_next() -> list[tuple[str, list[str], set[str]]]:
    """Return each command line that is said to come next: where, its words, as far as they are known, its options."""
    found = []
    for path in sorted(SRC.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "command":
                words = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
                if not words:  # another function of this name
                    continue
                options = {f"--{keyword.arg}".replace("_", "-") for keyword in node.keywords if keyword.arg}
                found.append((f"{path.name}:{node.lineno}", words, options))
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "print_next":
                for arg in node.args:
                    if isinstance(arg, ast.Constant):
                        words = shlex.split(arg.value)
                        assert words[0] == "steel"
                        found.append((f"{path.name}:{node.lineno}", words[1:2], {w for w in words if w[:2] == "--"}))
    return found


def test_what_is_said_to_come_next_is_a_command_with_options_that_it_has() -> None:
    options = {name: {o for parameter in command.params for o in parameter.opts} for name, command in commands()}
    assert len(said_next()) > 20
    for where, (name, *words), named in said_next():
        assert name in options, where
        assert {*named, *(word for word in words if word.startswith("--"))} <= options[name], where


def test_what_comes_next_can_be_typed_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what the command itself was given: a folder with a blank, `--set`, a data root."""
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "my data/chat.jsonl", [*chat_rows(6), chat_rows(1)[0]])
    (tmp_path / "r.toml").write_text('filters = [{ use = "dedup" }]\n[source.chat]\npath = "chat.jsonl"\n')
    given = "--data-root", "my data", "--set", 'name="my mixture"'
    lines = [
        run("plan", "r.toml", *given, "--workers", 1),
        run("build", "r.toml", *given, "--workers", 1),
        run("why", "runs/my mixture/mixture", "chat.jsonl:6"),
        run("diff", "runs/my mixture/mixture", "r.toml", "--data-root", "my data"),
        run("analyze", "my data/chat.jsonl", "--workers", 1),
        run("export", "runs/my mixture/mixture", "--to", "alpaca"),
    ]
    steps = [typed(step) for line in lines for step in line.splitlines()[-1].removeprefix("Next: ").split("; ")]
    assert [step[0] for step in steps] == ["build", "show", "open", "why", "show", "build", "analyze", "score"]
    assert steps[0] == ["build", "r.toml", *given] and steps[1] == ["show", "runs/my mixture/mixture"]
    run(*steps[0], "--workers", 1)
    assert "kept: chat" in run(*steps[3])


def test_in_chinese_no_english_sentence_is_left_on_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data and names aside; errors and progress stay English."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STEEL_LANG", "zh")
    rows = [{**row, "更多": "x"} for row in chat_rows(6)]
    write_jsonl(tmp_path / "chat.jsonl", [*rows, rows[0]])
    write_cmmlu(tmp_path)
    (tmp_path / "r.toml").write_text(
        'filters = [{ use = "dedup" }]\n[source.chat]\npath = "chat.jsonl"\n[source.leak]\npath = "bench"\n'
        'build = { use = "contaminate", split = "test", doses = { 1 = 6, 3 = 4 } }\nallow_test_split = "a try"\n'
        "[train]\nepochs = 3\nmicro_batch = 2\naccumulate = 1\n"
    )
    mixture = "runs/r/mixture"
    lines = [
        "plan r.toml --workers 1", "build r.toml --workers 1", f"why {mixture} chat.jsonl:0", f"why {mixture} chat.jsonl:6",
        "analyze chat.jsonl --workers 1", f"export {mixture} --to alpaca", f"diff {mixture} r.toml", "power --sets 100",
        f"why {mixture} nowhere", f"why {mixture} bench/test/subject_0/00000",
    ]  # fmt: skip
    left = {line: [said for said in run(*line.split()).splitlines() if SENTENCE.search(said)] for line in lines}
    assert {line: said for line, said in left.items() if said} == {}


def typed(step: str) -> list[str]:
    """Return the command line, without `steel`, that begins a step: the longest that the command takes."""
    steel, *words = shlex.split(step.rstrip("."))
    assert steel == "steel"
    of = dict(commands())[words[0]]
    for end in range(len(words), 0, -1):
        try:
            of.make_context(words[0], words[1:end])
        except typer.BadParameter.__base__:  # UsageError, of the click that typer brings
            continue
        return words[:end]
    raise AssertionError(step)


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
