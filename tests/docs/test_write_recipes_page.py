"""docs/recipes.md is what the code says, says something of every key, and every example in it is right."""

from pathlib import Path

import pytest
from docs.write_recipes_page import EXAMPLES, docstring_options, options, page, type_words

from steel_data.errors import InputError
from steel_data.recipe.load import Mix, RecipeTables, Source, load
from steel_data.recipe.selection import Select
from steel_data.recipe.steps import BUILDERS, FILTERS

ROOT = Path(__file__).parents[2]
STEPS = {**BUILDERS, **FILTERS}
# what a step needs besides the option that is tried
NEEDED = {
    "identity": {"name": '"小钢"', "team": '"炼钢小组"'},
    "contaminate": {"share": "0.5"},
    "language": {"keep": '["zh"]'},
    "pattern": {"drop": '["x"]'},
    "decontaminate": {"benchmarks": '["ceval"]'},
}


def target(name):
    module, _, attribute = STEPS[name].partition(":")
    return getattr(__import__(module, fromlist=[attribute]), attribute)


def test_committed_page_is_the_generated_one():
    committed = (ROOT / "docs/recipes.md").read_text(encoding="utf-8")
    assert committed == page(), "renew it: python docs/write_recipes_page.py > docs/recipes.md"


@pytest.mark.parametrize(("table", "model"), [("", RecipeTables), ("source", Source), ("select", Select), ("mix", Mix)])
def test_every_key_of_a_table_is_described(table, model):
    assert set(EXAMPLES[table]) == set(model.model_fields)
    for key, field in model.model_fields.items():
        assert field.description, key
    assert "Undefined" not in page()


@pytest.mark.parametrize("name", STEPS)
def test_every_option_of_a_step_is_described(name):
    rows = options(target(name))
    if name == "identity":
        from steel_data.builders.identity import identity

        rows = list({row[0]: row for row in [*options(identity), *rows]}.values())
    assert {row[0] for row in rows} == set(EXAMPLES[name])
    for key, kind, _, meaning in rows:
        assert len(meaning) > 10, key
        assert "any" not in kind, key


def sources():
    yield from ((table, key) for table in ("", "source", "select", "mix") for key in EXAMPLES[table])
    yield from ((step, key) for step in STEPS for key in EXAMPLES[step])


def recipe_with(table, key):
    """A recipe that holds one example."""
    line = f"{key} = {EXAMPLES[table][key]}"
    path, file = 'path = "*.jsonl"', '[source.a]\npath = "*.jsonl"\n'
    if table == "":
        return line + "\n" if key == "source" else f"{line}\n{file}"
    if table == "mix":
        return f'{file}[source.b]\npath = "b"\n[mix]\n{line}\n'
    if table == "select":
        by = {"target": "dsir", "model": "ifd"}.get(key, "random")
        given = {"by": f'"{by}"', "rows": "10", key: EXAMPLES[table][key]}
        if key == "tokens":
            given.pop("rows")
        return f"[source.a]\n{path}\nselect = {{ {', '.join(f'{k} = {v}' for k, v in given.items())} }}\n"
    if table == "source":
        return "[source.a]\n" + (f"{line}\n" if key == "path" else f"{path}\n{line}\n")
    given = {**NEEDED.get(table, {}), key: EXAMPLES[table][key]}
    if key == "doses":  # a table of doses says how many items there are
        given.pop("share")
    use = f'{{ use = "{table}", ' + ", ".join(f"{k} = {v}" for k, v in given.items()) + " }"
    if table in FILTERS:
        return f"filters = [{use}]\n{file}"
    no_path = table == "identity" and key != "replace"
    return f"[source.a]\nbuild = {use}\n" + ("" if no_path else f"{path}\n")


@pytest.mark.parametrize(("table", "key"), list(sources()))
def test_every_example_loads(table, key, tmp_path):
    (tmp_path / "base.toml").write_text('[source.b]\npath = "b"\n')
    (tmp_path / "r.toml").write_text(recipe_with(table, key), encoding="utf-8")
    assert load(tmp_path / "r.toml").sources


def test_an_example_of_nonsense_would_be_noticed(tmp_path):
    (tmp_path / "r.toml").write_text('filters = [{ use = "dedup", treshold = 0.8 }]\n[source.a]\npath = "x"\n')
    with pytest.raises(InputError, match="Did you mean 'threshold'"):
        load(tmp_path / "r.toml")


def test_docstring_lines():
    text = "Does it.\n\n    a: first\n      goes on\n    b_c, d: second\n\n    Raises: never."
    import inspect

    assert docstring_options(inspect.cleandoc(text)) == {"a": "first goes on", "b_c": "second", "d": "second"}


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (str | list[str] | None, "text or list of text"),
        (dict[str, float], "table of number"),
        (tuple[str, ...], "list of text"),
        (bool, "`true` or `false`"),
    ],
)
def test_types_in_the_words_of_toml(hint, words):
    assert type_words(hint) == words
