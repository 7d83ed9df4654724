"""Every fault of a recipe is one line of one form: where, what is wrong, what would be right."""

import ast
import re
from pathlib import Path

import pytest

from steel_data.errors import InputError
from steel_data.recipe.first_fault import shown
from steel_data.recipe.load import load
from steel_eval.mix.settings import read_search
from steel_eval.study.settings import read_study_settings
from steel_train.settings import read_settings

SRC = Path(__file__).parents[3] / "src"
SOURCE = '[source.a]\npath = "x"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed = 'a'\n" + SOURCE, ": seed = 'a': no whole number. Fix: a whole number."),
        ("[source.a]\npath = 5\n", " [source.a]: path = 5: no text. Fix: a text in quotes or a list."),
        ("[source]\na = 5\n", ": source.a = 5: no table. Fix: a table."),
        (SOURCE + "select = { rows = 5 }\n", " [source.a.select]: by is missing. Fix: by = \"random\"."),
        (SOURCE + "select = { by = 'random', row = 5 }\n", " [source.a.select]: unknown key 'row'. Did you mean 'rows'?"),
        (SOURCE + "select = { by = 'randon', rows = 5 }\n", " [source.a.select]: by = 'randon': not known. Did you mean 'random'?"),
        (SOURCE + "select = { by = 'random' }\n", " [source.a.select]: select needs one of rows and tokens."),
        (SOURCE + "take = 1\ntake_tokens = 2\n", " [source.a]: take and take_tokens are both given."),
        (SOURCE + "[mix]\nlanguages = { zh = 2 }\n", " [mix]: languages.zh = 2: too large. Fix: 1 or less."),
        (SOURCE + "filters = [{ use = 'length', min_chars = '5' }]\n", " [source.a] filters[0]: min_chars = '5': no whole number. Fix: a whole number."),
        (SOURCE + "filters = [{ use = 'dedup', on = 'al' }]\n", " [source.a] filters[0]: on = 'al': not known. Did you mean 'all'?"),
    ],
)  # fmt: skip
def test_one_form_for_all_tables(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "r.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as error:
        load(file)
    assert str(error.value).startswith(f"{file}{said}")


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (lambda file: read_settings({"epochs": 1}, file), '[train]: model is missing. Fix: model = "Qwen/Qwen2.5-0.5B",'),
        (lambda file: read_settings({"model": "m", "eval": {"shots": -1}}, file), "[train.eval]: shots = -1: too small. Fix: 0 or more."),
        (lambda file: read_search({"runs": 1}, file), '[search]: measure is missing. Fix: measure = { held_out = ["exam"] }.'),
        (lambda file: read_study_settings({"tasks": ["a", "a"]}, file, {}), "[eval]: tasks = ['a', 'a']: one stands twice. Fix: each once."),
        (lambda file: read_study_settings({}, file, {"limit": 0}), "[eval]: limit = 0: too small. Fix: more than 0."),
    ],
)  # fmt: skip
def test_training_and_scoring_word_theirs_alike(read, said: str) -> None:
    with pytest.raises(InputError) as error:
        read(Path("r.toml"))
    assert str(error.value).startswith(f"r.toml {said}")


def test_each_refusal_of_a_table_says_what_would_be_right() -> None:
    tables = [path for path in SRC.rglob("*.py") if "recipe.strict import" in path.read_text(encoding="utf-8")]
    said = []
    for path in tables:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Raise)
                and isinstance(node.exc, ast.Call)
                and "ValueError" in ast.unparse(node.exc.func)
            ):
                said.append(ast.unparse(node.exc))
    assert len(said) > 25
    assert [text for text in said if "Fix: " not in text and "{str(error)" not in text] == []


def test_values_stand_as_a_recipe_writes_them() -> None:
    assert shown({"a": [True, 1.5], "b": "x"}) == "{ a = [true, 1.5], b = 'x' }"
    assert re.fullmatch(r"'x{78}…", shown("x" * 500))
