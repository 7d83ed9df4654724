"""Recipes by name: `@exp3` is the shipped one unless a file bears the name."""

from pathlib import Path

import pytest

from steel_data.errors import InputError
from steel_data.recipe.load import load
from steel_data.recipe.shipped import found, shipped


def test_a_name_is_the_shipped_recipe_and_a_wrong_one_names_the_nearest() -> None:
    assert found(Path("@exp3")) == shipped()["exp3"]
    with pytest.raises(InputError, match=r"@exq3: .*Did you mean 'exp3'"):
        found(Path("@exq3"))


def test_a_file_of_the_name_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("@exp3").write_text('[source.identity]\nbuild = { use = "identity", name = "a", team = "b" }\n')
    assert [s.name for s in load("@exp3").sources] == ["identity"]


def test_data_of_a_shipped_recipe_are_looked_for_where_one_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load("@exp1").data_root == str(tmp_path)


def test_a_recipe_extends_a_shipped_one(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('extends = "@exp2"\nseed = 7\n')
    recipe = load(tmp_path / "mine.toml")
    assert recipe.seed == 7 and recipe.name == "mine" and "infinity" in [s.name for s in recipe.sources]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("mix.budgt_rows=3", "Did you mean 'budget_rows'"),
        ("seed", "Fix: --set train.epochs=1"),
        ("seed=[", "Fix: --set train.epochs=1"),
        ("seed=word", "no whole number"),
    ],
)
def test_a_change_that_means_nothing_is_refused(tmp_path: Path, change: str, says: str) -> None:
    (tmp_path / "r.toml").write_text('[source.x]\npath = "x.jsonl"\n')
    with pytest.raises(InputError, match=says.replace("(", r"\(")):
        load(tmp_path / "r.toml", [change])


def test_changes_are_laid_over_in_order_and_a_plain_word_needs_no_quotes(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('[source.x]\npath = "x.jsonl"\n')
    recipe = load(tmp_path / "r.toml", ["train.model=Qwen/Qwen2.5-0.5B", "train.epochs=1", "train.epochs=2"])
    assert recipe.train == {"model": "Qwen/Qwen2.5-0.5B", "epochs": 2}


def test_what_a_change_breaks_is_told_by_the_change_and_what_the_file_breaks_by_the_file(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('[source.x]\npath = "x.jsonl"\n')
    with pytest.raises(InputError, match=r"^--set seed=3 --set mix\.sed=3: \S+r\.toml \[mix\]: unknown key 'sed'"):
        load(tmp_path / "r.toml", ["seed=3", "mix.sed=3"])
    with pytest.raises(InputError, match=r"^--set source\.x\.take=0: \S+r\.toml: no \[source.…\] left"):
        load(tmp_path / "r.toml", ["source.x.take=0"])
    (tmp_path / "r.toml").write_text('sed = 1\n[source.x]\npath = "x.jsonl"\n')
    with pytest.raises(InputError, match=r"^\S+r\.toml: unknown key 'sed'"):
        load(tmp_path / "r.toml", ["mix.sed=3"])
