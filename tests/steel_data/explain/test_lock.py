"""`build --locked`: the manifest is the lock, and what differs from it is named with its source."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.steel_data.toys import chat_rows, write_cmmlu, write_jsonl
from typer.testing import CliRunner

from steel_data.build import Result
from steel_data.cli import app
from steel_data.engine import Local
from steel_data.errors import InputError
from steel_data.explain.lock import verify_lock
from steel_data.recipe.load import load
from steel_data.recipe.places import Places

TOML = """
filters = [{ use = "decontaminate", benchmarks = ["bench"] }, { use = "dedup" }]
[source.a]
path = "a*.jsonl"
filters = [{ use = "own_steps:short" }]
[source.b]
path = "b.jsonl"
take = 5
"""
MODULE = "def short(record):\n    return record\n"


@pytest.fixture
def built(make: Callable[..., Result], tmp_path: Path) -> Path:
    rows = chat_rows(60)
    write_jsonl(tmp_path / "a1.jsonl", rows[:20])
    write_jsonl(tmp_path / "a2.jsonl", rows[20:40])
    write_jsonl(tmp_path / "b.jsonl", rows[40:])
    write_cmmlu(tmp_path)
    (tmp_path / "own_steps.py").write_text(MODULE, encoding="utf-8")
    return make(TOML).folder


def lock(tmp_path: Path, toml: str = TOML) -> str:
    """Return what the locked build says: nothing where all is as it was."""
    recipe = tmp_path / "r.toml"
    recipe.write_text(toml, encoding="utf-8")
    try:
        verify_lock(load(recipe), Places(tmp_path, tmp_path / "out/r/mixture", tmp_path / "cache"), Local(2))
    except InputError as error:
        return str(error)
    return ""


def test_unchanged_inputs_pass_and_nothing_is_written(built: Path, tmp_path: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in built.parent.rglob("*")}
    assert lock(tmp_path) == ""
    assert lock(tmp_path, TOML + "[train]\nepochs = 2\n") == "", "training settings do not change a mixture"
    assert {p: p.stat().st_mtime_ns for p in built.parent.rglob("*")} == before


def test_a_changed_file_is_named_with_source_and_checksums(built: Path, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a2.jsonl", chat_rows(21))
    said = lock(tmp_path)
    assert "source a: a2.jsonl changed, " in said
    assert "(20 -> 21 rows)" in said
    assert " -> " in said.partition("changed, ")[2][:30]
    assert (built / "manifest.json").is_file(), "the mixture stays"


def test_files_added_or_gone_are_named(built: Path, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a3.jsonl", chat_rows(3))
    assert "source a: a3.jsonl is new (" in lock(tmp_path)
    (tmp_path / "a3.jsonl").unlink()
    (tmp_path / "a1.jsonl").unlink()
    assert "source a: a1.jsonl is gone (was " in lock(tmp_path)
    (tmp_path / "b.jsonl").unlink()
    assert "[source.b]: path = 'b.jsonl': no such file" in lock(tmp_path)


def test_benchmark_recipe_and_module_are_named(built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (tmp_path / "bench/test/subject_0.csv").open("a", encoding="utf-8") as file:
        file.write("20,新题,一,二,三,四,A\n")
    (tmp_path / "own_steps.py").write_text(MODULE + "# edited\n", encoding="utf-8")
    said = lock(tmp_path, TOML.replace("take = 5", "take = 6"))
    assert "3 things differ, first: a benchmark of decontaminate: bench/test/subject_0.csv changed" in said
    lines = capsys.readouterr().err.splitlines()
    assert lines[1] == "differs: recipe, source.b.take: 5 -> 6"
    assert lines[2].startswith("differs: module of 'own_steps:short' ")


def test_versions_and_damage_are_named(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from steel_data.passes.prepare import versions

    monkeypatch.setattr("steel_data.passes.prepare.versions", lambda: {**versions(), "polars": "9.9"})
    assert "version of polars " in lock(tmp_path)
    monkeypatch.undo()
    (built / "train-00000.parquet").write_bytes(b"damaged")
    assert "its bytes are not those that the manifest names" in lock(tmp_path)


def test_the_same_meaning_in_other_words_is_said_to_be_just_that(built: Path, tmp_path: Path) -> None:
    assert "written otherwise with the same meaning" in lock(tmp_path, TOML.replace("take = 5", "take = 5\nrepeat = 1"))


def test_without_a_manifest_it_says_what_to_do_and_makes_nothing(built: Path, tmp_path: Path) -> None:
    shutil.rmtree(built)
    said = lock(tmp_path)
    assert "so nothing is locked. Fix: `steel build " in said
    assert not built.exists()


def test_the_command_exits_with_2(built: Path, tmp_path: Path) -> None:
    options = ["--out", str(built), "--cache", str(tmp_path / "cache"), "--locked"]
    done = CliRunner().invoke(app, ["build", str(tmp_path / "r.toml"), *options])
    assert done.exit_code == 0 and "up to date, verified" in done.output
    for option, value, said in (
        ("--engine", "spark", "no such engine"),
        ("--memory", "much", "is no amount of memory"),
    ):
        asked = ["build", str(tmp_path / "r.toml"), *options, option, value]
        with pytest.raises(InputError, match=said):  # no option is passed over beside it
            CliRunner().invoke(app, asked, catch_exceptions=False)
    os.utime(tmp_path / "b.jsonl")  # touched, not changed
    assert CliRunner().invoke(app, ["build", str(tmp_path / "r.toml"), *options]).exit_code == 0
    write_jsonl(tmp_path / "b.jsonl", chat_rows(2))
    done = CliRunner().invoke(app, ["build", str(tmp_path / "r.toml"), *options])
    assert isinstance(done.exception, InputError)  # __main__ turns it into status 2
