"""A boolean is no number, in any table of a recipe and in any option of a step."""

import importlib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from steel_data.errors import InputError
from steel_data.explain.forecast import optimiser_steps
from steel_data.recipe.load import load
from steel_data.recipe.strict import Table, has_boolean

TABLES = (
    "steel_data.recipe.load", "steel_data.recipe.selection", "steel_train.settings", "steel_eval.mix.settings",
    "steel_eval.study.settings", "steel_eval.trial.settings",
)  # fmt: skip


def tables() -> list[type[BaseModel]]:
    found = {o for name in TABLES for o in vars(importlib.import_module(name)).values() if isinstance(o, type)}
    return sorted(
        (o for o in found if issubclass(o, BaseModel) and o not in (BaseModel, Table)), key=lambda o: o.__name__
    )


def test_no_key_of_a_number_takes_true() -> None:
    assert len(tables()) > 12
    taken: list[tuple[str, str, Any]] = []
    for table in tables():
        assert issubclass(table, Table), f"{table.__name__} is not strict"
        for key, field in table.model_fields.items():
            kind = str(field.rebuild_annotation())
            if "bool" in kind or not ("int" in kind or "float" in kind):
                continue
            for value in (True, [True], {"zh": False}):
                try:
                    table.model_validate({key: value})
                except ValidationError as error:
                    if any(fault["loc"][:1] == (key,) for fault in error.errors()):
                        continue
                taken.append((table.__name__, key, value))
    assert taken == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('[mix]\nlanguages = { zh = true, en = 0.5 }', "languages holds true or false. Fix: a number."),
        ('[source.a]\npath = "x"\nfilters = [{ use = "dedup", threshold = true }]', "threshold holds true or false. Fix: a number."),
        ('[source.a]\npath = "x"\nfilters = [{ use = "length", min_chars = true }]', "min_chars = True"),
        ('[source.a]\npath = "x"\nrepeat = true', "repeat = True"),
    ],
)  # fmt: skip
def test_where_a_boolean_stands_is_told(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "r.toml").write_text(
        line + ("" if "[source.a]" in line else '\n[source.a]\npath = "x"'), encoding="utf-8"
    )
    with pytest.raises(InputError) as error:
        load(tmp_path / "r.toml")
    assert said in str(error.value)


@pytest.mark.parametrize("key", ["epochs", "micro_batch", "accumulate"])
def test_no_steps_are_counted_by_a_boolean(key: str) -> None:
    assert optimiser_steps({key: True}, 10, 100) == (None, f"{key} = True in [train]")
    assert "packed" not in optimiser_steps({"packing": True, "max_length": True}, 10, 100)[1]


def test_booleans_are_found_however_deep() -> None:
    assert has_boolean({"a": [1, {"b": False}]}) and not has_boolean({"a": [1, {"b": "true"}]})


def test_keys_that_begin_as_types_do_are_named_in_a_fault(tmp_path: Path) -> None:
    """pydantic puts the types of a union among the keys; `str` and `float` are taken out of them, `stories` stays."""
    (tmp_path / "r.toml").write_text('[source.stories]\npath = "x"\ntake = "many"\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"\[source\.stories\]: take = 'many'"):
        load(tmp_path / "r.toml")
    (tmp_path / "r.toml").write_text('[strength.a]\npath = "x"\n', encoding="utf-8")
    with pytest.raises(InputError, match="unknown key 'strength'"):
        load(tmp_path / "r.toml")
