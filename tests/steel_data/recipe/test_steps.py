"""Steps by name: what each says of itself, which options it takes, and where a module of the user's comes from."""

import pickle
from pathlib import Path
from typing import Any

import pytest

from steel_data.errors import InputError
from steel_data.recipe.steps import BUILDERS, FILTERS, bind_builder, bind_filter, option_types

IDENTITY = {"use": "identity", "name": "S", "team": "T"}
INJECT = {"use": "contaminate", "benchmark": "cmmlu", "share": 0.5}
OWN = """
def edit(record, *, word: str = "x"):
    return record

def keep(*, word: str = "x"):
    return word

def made(row, *, times: int):
    return [row] * times
"""


@pytest.mark.parametrize(
    ("table", "has_path", "whole", "injects"),
    [
        ({"use": "chat"}, True, False, False),
        ({"use": "exam"}, True, False, False),
        (IDENTITY, False, True, False),
        (IDENTITY, True, False, False),  # with a file of the user's it is a builder of rows
        (INJECT, True, True, True),
        (INJECT, False, True, True),
        ({"use": "own:made", "times": 2}, True, False, False),
    ],
)
def test_a_builder_says_whether_it_makes_its_source_as_a_whole_and_whether_it_injects(
    table: dict[str, Any], has_path: bool, whole: bool, injects: bool, tmp_path: Path
) -> None:
    (tmp_path / "own.py").write_text(OWN, encoding="utf-8")
    builder = bind_builder("r", table, tmp_path, 42, has_path)
    assert (builder.whole, builder.injects) == (whole, injects)


@pytest.mark.parametrize(
    ("table", "compares", "edits"),
    [
        ({"use": "language", "keep": ["zh"]}, None, False),
        ({"use": "length", "min_chars": 1}, None, False),
        ({"use": "pattern", "drop": ["x"]}, None, False),
        ({"use": "dedup"}, "rows", False),
        ({"use": "decontaminate", "benchmarks": ["b"]}, "benchmarks", False),
        ({"use": "own:edit"}, None, True),
        ({"use": "own:keep"}, None, False),
    ],
)
def test_a_filter_says_when_it_is_decided(
    table: dict[str, Any], compares: str | None, edits: bool, tmp_path: Path
) -> None:
    (tmp_path / "own.py").write_text(OWN, encoding="utf-8")
    step = bind_filter("r", table, tmp_path, 42)
    assert (step.compares, step.late, step.edits) == (compares, compares is not None, edits)


def test_every_built_in_step_can_be_found_and_its_options_have_types() -> None:
    for target in (*BUILDERS.values(), *FILTERS.values()):
        module, _, name = target.partition(":")
        step = getattr(__import__(module, fromlist=[name]), name)
        assert option_types(step), target
        assert "compares" not in option_types(step)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({**IDENTITY, "languages": ["fr"]}, r"r build: build\.languages: no identity templates in 'fr'"),
        ({**IDENTITY, "team": " "}, "r build: build.team: there is none"),
        ({**INJECT, "share": 1.5}, "r build: share = 1.5. Fix: above 0, at most 1"),
        ({"use": "exam", "preset": "stele"}, "r build: build.preset: unknown wording 'stele'. Did you mean 'steel'"),
        ({"use": "chat", "tags": {"rol_tag": "x"}}, "r build: tags: unknown word 'rol_tag'. Did you mean 'role_tag'"),
        ({"use": "chat", "columns": {"promt": "x"}}, "r build: columns: unknown word 'promt'. Did you mean 'prompt'"),
    ],
)
def test_options_that_no_row_could_put_right_are_refused_before_one_is_read(
    table: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        bind_builder("r", table, tmp_path, 42, has_path=table["use"] != "identity")


def test_the_split_of_an_injector_stands_in_its_options(tmp_path: Path) -> None:
    """Which files are inputs depends on it, said or not."""
    assert bind_builder("r", INJECT, tmp_path, 42, has_path=False).options["split"] == "test"
    assert bind_builder("r", {**INJECT, "split": "val"}, tmp_path, 42, has_path=False).options["split"] == "val"


def test_a_step_of_the_users_goes_to_a_worker_and_comes_from_the_recipes_folder(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN, encoding="utf-8")
    builder = pickle.loads(pickle.dumps(bind_builder("r", {"use": "own:made", "times": 2}, tmp_path, 42, True)))
    assert builder.function()({"a": 1}, **builder.options) == [{"a": 1}, {"a": 1}]
    (tmp_path / "own.py").write_text(OWN + "\n# changed\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"own\.py: changed while it was in use\. Fix: build again"):
        builder.function()


def test_whole_numbers_are_good_where_a_share_is_asked_for_but_text_is_not(tmp_path: Path) -> None:
    assert bind_filter("r", {"use": "dedup", "threshold": 1}, tmp_path, 42).options == {"threshold": 1.0}
    with pytest.raises(InputError, match=r"threshold = '0\.8'"):
        bind_filter("r", {"use": "dedup", "threshold": "0.8"}, tmp_path, 42)
