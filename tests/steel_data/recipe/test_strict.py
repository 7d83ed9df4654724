"""A boolean is no number, in any table of a recipe and in any option of a step."""

import importlib
import math
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from steel_data.errors import InputError
from steel_data.explain.forecast import optimiser_steps
from steel_data.recipe.load import load
from steel_data.recipe.steps import BUILDERS, FILTERS, WITH_FILES, bind_builder, bind_filter, option_types
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
            for value in (True, [True], {"zh": False}, math.nan, [math.inf]):
                try:
                    table.model_validate({key: value})
                except ValidationError as error:
                    if any(fault["loc"][:1] == (key,) for fault in error.errors()):
                        continue
                taken.append((table.__name__, key, value))
    assert taken == []


def test_no_option_of_a_step_takes_true_for_a_number(tmp_path: Path) -> None:
    needed = {"language": {"keep": ["zh"]}, "decontaminate": {"benchmarks": ["ceval"]}, "identity": {"name": "A", "team": "B"},
              "contaminate": {"benchmark": "ceval", "split": "test", "doses": [1]}}  # fmt: skip
    steps = [(use, target, True) for use, target in (BUILDERS | WITH_FILES).items()]
    steps += [(use, target, False) for use, target in FILTERS.items()]
    asked = 0
    for use, target, builds in steps:
        module, _, name = target.partition(":")
        for option, (kind, _) in option_types(getattr(importlib.import_module(module), name)).items():
            if "bool" in str(kind) or not ("int" in str(kind) or "float" in str(kind)):
                continue
            for value in (True, [True], {"1": True}, {"answer-only": True}, math.nan):
                table, asked = {"use": use, **needed.get(use, {}), option: value}, asked + 1
                with pytest.raises(InputError, match=rf"^w.*: {option}.* = .*\. (Fix: .*|.*Known: .*)\.$") as error:
                    if builds:
                        bind_builder("w", table, tmp_path, 1, has_path=target in WITH_FILES.values())
                    else:
                        bind_filter("w", table, tmp_path, 1)
                assert "\n" not in str(error.value) and "True" not in str(error.value)
    assert asked > 50


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("[train]\nepochs = true", "[train]: epochs = true: no whole number. Fix: a whole number."),
        ("[train]\nmodel = 'm'\nlora = { dropout = true }", "[train.lora]: dropout = true: no number. Fix: a number."),
        ("[train]\nseeds = [1, true]", "[train]: seeds.1 = true: no whole number. Fix: a whole number."),
        ("[train]\nlearning_rate = inf", "[train]: learning_rate = inf: not finite. Fix: a finite number."),
        ("[train]\nepoch = 1", "[train]: unknown key 'epoch'. Did you mean 'epochs'?"),
        ("[eval]\nshots = true", "[eval]: shots = true: no whole number. Fix: a whole number."),
        ("[search]\nruns = true", "[search]: runs = true: no whole number. Fix: a whole number."),
        ("[trial]\ntokens = true", "[trial]: tokens = true: no whole number. Fix: a whole number."),
    ],
)
def test_a_build_refuses_what_training_and_scoring_would(tmp_path: Path, table: str, said: str) -> None:
    file = tmp_path / "r.toml"
    file.write_text(f'{table}\n[source.a]\npath = "x"\n', encoding="utf-8")
    with pytest.raises(InputError) as error:
        load(file)
    assert str(error.value).startswith(f"{file} {said}")
    name, _, lines = table.partition("]\n")
    file.write_text('[source.a]\npath = "x"\n', encoding="utf-8")
    changes = [f"{name[1:]}.{line.replace(' = ', '=', 1)}" for line in lines.splitlines()]
    with pytest.raises(InputError) as error:  # by --set, in the same words
        load(file, changes)
    assert str(error.value).startswith(f"--set {' --set '.join(changes)}: {file} {said}")


def test_what_is_missing_in_a_table_of_others_hinders_no_build(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('[train]\nepochs = 1\n[source.a]\npath = "x"\n', encoding="utf-8")
    assert load(tmp_path / "r.toml").train == {"epochs": 1}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('[mix]\nlanguages = { zh = true, en = 0.5 }', "languages = { zh = true, en = 0.5 }: no number. Fix: a number."),
        ('[source.a]\npath = "x"\nfilters = [{ use = "dedup", threshold = true }]', "threshold = true: no number. Fix: a number."),
        ('[source.a]\npath = "x"\nfilters = [{ use = "length", min_chars = true }]', "min_chars = true: no whole number. Fix: a whole number."),
        ('[source.a]\npath = "x"\nrepeat = true', "repeat = true: no whole number. Fix: a whole number."),
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
