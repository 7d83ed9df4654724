"""Parts on machines that know nothing of one another, and the build that finishes them: the same bytes, or a refusal."""

import hashlib
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.steel_data.toys import chat_rows, write_cmmlu, write_jsonl

from steel_data.__main__ import main
from steel_data.build import Result
from steel_data.engine import Local
from steel_data.errors import InputError
from steel_data.parts import Share, build_part, finish
from steel_data.passes.cache import versions
from steel_data.recipe.load import Recipe, load
from steel_data.recipe.places import Places

TOML = """
filters = [{ use = "decontaminate", benchmarks = ["bench"] }, { use = "dedup" }]
[source.a]
path = "?.jsonl"
[source.who]
build = { use = "identity", name = "S", team = "T" }
[source.leak]
path = "bench"
build = { use = "contaminate", benchmark = "bench", split = "test", share = 0.5, doses = [1, 3] }
"""
Make = Callable[..., Result]


@pytest.fixture
def world(tmp_path: Path) -> tuple[Recipe, Places]:
    rows = chat_rows(60)
    for i in range(4):
        write_jsonl(tmp_path / f"{i}.jsonl", [{**row, "input": str(k % 9)} for k, row in enumerate(rows[i * 12 :])])
    write_cmmlu(tmp_path)
    (tmp_path / "r.toml").write_text(TOML, encoding="utf-8")
    return load(tmp_path / "r.toml"), Places(tmp_path, tmp_path / "parts" / "mixture", tmp_path / "shared")


def bytes_of(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_parts_in_any_order_and_twice_make_the_bytes_of_a_plain_build(
    world: tuple[Recipe, Places], make: Make, tmp_path: Path
) -> None:
    recipe, where = world
    plain = make(TOML)
    done = [build_part(recipe, where, Share(k, 3), Local()) for k in (3, 1, 1, 2)]
    assert sum(done[1:]) - done[1] + done[0] == 4  # each task is some part's
    records = {path: path.stat().st_mtime_ns for path in (where.cache / "records").rglob("*.parquet")}
    result = finish(recipe, where, Local())
    assert bytes_of(result.folder) == bytes_of(plain.folder)
    after = {path: path.stat().st_mtime_ns for path in (where.cache / "records").rglob("*.parquet")}
    assert records.items() <= after.items()  # nothing of theirs was done again
    assert [path.name for path in where.out.parent.iterdir() if path.name.endswith("parts")] == []
    assert not finish(recipe, where, Local()).fresh  # again: verified


def test_a_part_that_never_came_is_named(world: tuple[Recipe, Places]) -> None:
    recipe, where = world
    with pytest.raises(InputError, match="no part has come"):
        finish(recipe, where, Local())
    build_part(recipe, where, Share(2, 4), Local())
    with pytest.raises(InputError, match=r"of 4 parts 3 never came: 1, 3, 4\. Fix: run build --part 1/4"):
        finish(recipe, where, Local())


def test_parts_of_unlike_recipes_inputs_or_numbers_are_refused(world: tuple[Recipe, Places], tmp_path: Path) -> None:
    recipe, where = world
    build_part(recipe, where, Share(1, 2), Local())
    other = load(tmp_path / "r.toml", ["seed=7"])
    build_part(other, where, Share(2, 2), Local())
    with pytest.raises(InputError, match="part 2/2 is of another recipe"):
        finish(recipe, where, Local())
    with pytest.raises(InputError, match="part 1/2 is of another recipe"):
        finish(other, where, Local())
    build_part(recipe, where, Share(2, 2), Local())
    build_part(recipe, where, Share(3, 3), Local())
    with pytest.raises(InputError, match="parts of /2 and /3 have come"):
        finish(recipe, where, Local())
    write_jsonl(tmp_path / "0.jsonl", chat_rows(3))
    with pytest.raises(InputError, match="part 1/2 is of other inputs"):
        finish(recipe, where, Local())


def test_a_damaged_mark_is_as_if_it_had_not_come(world: tuple[Recipe, Places]) -> None:
    recipe, where = world
    build_part(recipe, where, Share(1, 1), Local())
    (mark,) = where.out.parent.glob(".mixture.parts/*.json")
    mark.write_text(mark.read_text(encoding="utf-8").replace("a", "b", 1), encoding="utf-8")
    with pytest.raises(InputError, match="no part has come"):
        finish(recipe, where, Local())


def test_a_cache_that_the_parts_did_not_share_is_told(
    world: tuple[Recipe, Places], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, where = world
    build_part(recipe, where, Share(1, 1), Local())
    finish(recipe, Places(where.data_root, where.out, tmp_path / "elsewhere"), Local())
    assert "4 chunks that the parts made are not there" in capsys.readouterr().err


def test_a_bound_that_no_part_can_keep_to_is_refused(world: tuple[Recipe, Places]) -> None:
    with pytest.raises(InputError, match=r"--memory 1MB: a part of a build takes 500MB at least\. Fix: --memory 500MB"):
        build_part(*world, Share(1, 2), Local(1, 1_000_000))


def test_a_folder_that_the_build_will_refuse_is_refused_by_its_parts(world: tuple[Recipe, Places]) -> None:
    recipe, where = world
    where.out.mkdir(parents=True)
    (where.out / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="holds files that are no mixture"):
        build_part(recipe, where, Share(1, 2), Local())
    assert not where.cache.exists()


class Elsewhere:
    """Tasks that run in a folder of their own, as those on other machines do."""

    workers = 2

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def map(
        self, function: Callable[[Any], Any], tasks: Sequence[Any], on_done: Callable[[Any], None] = lambda _: None
    ) -> list[Any]:
        found = []
        for task in tasks:
            with chdir(self.folder):
                found.append(function(task))
            on_done(found[-1])
        return found


def test_a_part_on_machines_with_folders_of_their_own_fills_the_cache_of_this_one(
    world: tuple[Recipe, Places], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, where = world
    monkeypatch.chdir(tmp_path)
    (tmp_path / "node").mkdir()
    near = Places(where.data_root, Path("parts/mixture"), Path("shared"))
    build_part(recipe, near, Share(1, 1), Elsewhere(tmp_path / "node"))
    assert list((tmp_path / "node").iterdir()) == []
    finish(recipe, near, Elsewhere(tmp_path / "node"))
    assert "are not there" not in capsys.readouterr().err


def test_each_refusal_is_one_line_and_status_2(
    world: tuple[Recipe, Places], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The commands themselves, as a scheduler gives them."""
    where = world[1]

    def build(*options: str) -> tuple[int, str]:
        places = ["--data-root", str(tmp_path), "--out", str(where.out), "--cache", str(where.cache)]
        words = ["build", str(tmp_path / "r.toml"), *places, "--workers", "1", *options]
        monkeypatch.setattr(sys, "argv", ["steel-data", *words])
        status = 0
        try:
            main()
        except SystemExit as ended:
            status = int(ended.code or 0)
        return status, capsys.readouterr().err

    def refused(said: str, *options: str) -> None:
        status, err = build(*options)
        assert (status, err.count("\n")) == (2, 1)
        assert re.match(f"error: .*{said}.* Fix: ", err)

    refused("0/2: is no part", "--part", "0/2")
    refused("no part has come", "--finish")
    assert build("--part", "2/2")[0] == 0
    refused("of 2 parts 1 never came: 1", "--finish")
    assert build("--part", "1/2", "--set", "seed=7")[0] == 0
    refused("part 1/2 is of another recipe", "--finish")
    assert build("--part", "1/2")[0] == build("--part", "1/3")[0] == 0
    refused("parts of /2 and /3 have come", "--finish")
    (mark,) = where.out.parent.glob(".mixture.parts/*-of-*3.json")
    mark.unlink()
    of_another = {**versions(), "polars": "0.1"}
    monkeypatch.setattr("steel_data.passes.prepare.versions", lambda: of_another)
    refused("part 1/2 is of other versions of steel or its libraries", "--finish")
    monkeypatch.undo()
    refused("are each a build of its own", "--finish", "--part", "1/2")
    assert build("--finish")[0] == 0


@given(st.integers(-3, 99), st.integers(-3, 99))
def test_a_part_is_one_of_n(k: int, n: int) -> None:
    text = f"{k}/{n}"
    if 1 <= k <= n:
        assert Share.read(text) == Share(k, n)
    else:
        with pytest.raises(InputError, match=r"Fix: 1/8 to 8/8"):
            Share.read(text)


@pytest.mark.parametrize("text", ["", "3", "3/", "a/b", "1.5/2", "1/2/3", "١/٢", "0/0", "9999999/9999999"])
def test_another_word_is_no_part(text: str) -> None:
    with pytest.raises(InputError, match=r"is no part\. Fix: 1/8 to 8/8"):
        Share.read(text)
