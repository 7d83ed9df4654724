"""What a build and a forecast say on the terminal beside their tables."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.steel_data.toys import chat_rows, write_jsonl

from steel_data.build import Result
from steel_data.explain.forecast import forecast
from steel_data.print import _first_comment, print_build, print_forecast
from steel_data.recipe.load import load


def test_columns_that_nobody_reads_are_named(
    make: Callable[..., Result], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the rows in which they hold something, where that is not all of them; no more than twelve."""
    many = {f"more-{i:02d}": "x" for i in range(11)}
    rows = [{**row, "id": i, "topic": "x" if i else "", **many} for i, row in enumerate(chat_rows(5))]
    write_jsonl(tmp_path / "a.jsonl", rows)
    print_build(make('[source.a]\npath = "a.jsonl"\n'))
    said = capsys.readouterr().out
    assert "  not read from a: 'id', 'more-00', " in said and "'more-10' and 1 more, of 5 rows\n" in said
    write_jsonl(tmp_path / "a.jsonl", [{**row, "topic": "x" if i else ""} for i, row in enumerate(chat_rows(5))])
    found = forecast(load(tmp_path / "r.toml"), data_root=tmp_path, cache=tmp_path / "cache")
    print_forecast(found, "steel build r.toml")
    said = capsys.readouterr().out
    assert "  not read from a: 'topic' (4), of 5 rows looked at\n" in said
    assert said.endswith(" tokens.\nNext: steel build r.toml builds the mixture.\n")


def test_a_recipe_is_described_by_the_first_sentence_of_its_comment(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("# One thing,\n# said here. And more.\n\n# not this\nseed = 1\n")
    assert _first_comment(tmp_path / "r.toml") == "One thing, said here"


def test_names_from_data_and_recipe_do_not_act_on_the_terminal(
    make: Callable[..., Result], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{**row, "\x1b[2Jtopic\u202e": "x"} for row in chat_rows(5)]
    write_jsonl(tmp_path / "a.jsonl", [*rows, {"instruction": "x", "output": ""}])
    print_build(make('[source."a\\u001b[31m"]\npath = "a.jsonl"\n'))
    print_forecast(forecast(load(tmp_path / "r.toml"), data_root=tmp_path, cache=tmp_path / "cache"))
    said = capsys.readouterr().out
    assert "\x1b" not in said and "\u202e" not in said
    assert said.count("\\x1b[2Jtopic\\u202e") == 2 and "a\\x1b[31m" in said


def test_a_build_ends_with_what_came_out_and_what_to_do(
    make: Callable[..., Result], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = chat_rows(5)
    write_jsonl(tmp_path / "a.jsonl", [*rows, *rows[:2]])
    print_build(make('filters = [{ use = "dedup", near = false }]\n[source.a]\npath = "a.jsonl"\n'))
    last, following = capsys.readouterr().out.splitlines()[-2:]
    assert last.startswith("5 rows and ") and " tokens are in the mixture, of 7 rows read." in last
    assert "2 rows were dropped, most of them for dedup:exact (2)." in last and following.startswith(
        "Next: steel show "
    )


def test_a_build_on_a_known_test_split_says_so_and_why(
    make: Callable[..., Result], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_jsonl(tmp_path / "cmmlu/test/a.jsonl", chat_rows(5))
    print_build(make('[source.a]\npath = "cmmlu/test/*.jsonl"\nallow_test_split = "to look at it\\u001b[31m"\n'))
    said = capsys.readouterr().out
    assert "a known test split is training data here: a (to look at it\\x1b[31m)\n" in said and "\x1b" not in said
