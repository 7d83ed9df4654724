"""A recipe's faults are found before a row is read, and each error names the place and the nearest known word."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steel_data.errors import InputError
from steel_data.recipe.load import load, merge, to_toml

SOURCE = '[source.a]\npath = "a.jsonl"\n'
IDENTITY = 'build = { use = "identity", name = "S", team = "T" }\n'
INJECT = '[source.a]\npath = "b"\nbuild = { use = "contaminate", share = 0.5 }\n'


def write(folder: Path, text: str, name: str = "r.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("sed = 1\n" + SOURCE, r"r\.toml: unknown key 'sed'\. Did you mean 'seed'\? Known: "),
        ("[source.a]\npaht = 'x'\n", r"\[source\.a\]: unknown key 'paht'\. Did you mean 'path'\?"),
        ("[mix]\nbudget = 3\n" + SOURCE, r"\[mix\]: unknown key 'budget'"),
        (SOURCE + "take = '200'\n", r"\[source\.a\]: take = '200': no whole number. Fix: a whole number"),
        (SOURCE + "take = -1\n", r"take = -1: too small. Fix: 0 or more"),
        (SOURCE + "repeat = 0\n", "repeat = 0"),
        (SOURCE + "take = 1\ntake_tokens = 2\n", "take and take_tokens are both given"),
        ("seed = 'x'\n" + SOURCE, "seed = 'x'"),
        (
            SOURCE + 'build = { use = "chatt" }\n',
            r"no built-in 'chatt'\. Did you mean 'chat'\? Known: chat, contaminate",
        ),
        (SOURCE + "build = { }\n", "use is missing"),
        (SOURCE + 'build = { use = "exam", stile = "x" }\n', r"no option of 'exam' 'stile'\. Did you mean 'style'\?"),
        (SOURCE + 'build = { use = "exam", style = "cot" }\n', "style = 'cot'"),
        (
            SOURCE + 'filters = [{ use = "langauge" }]\n',
            r"filters\[0\]: no built-in 'langauge'\. Did you mean 'language'",
        ),
        (SOURCE + 'filters = [{ use = "language" }]\n', "option 'keep' of 'language' is missing"),
        (SOURCE + 'filters = [{ use = "language", keep = "zh" }]\n', "keep = 'zh'"),
        (SOURCE + 'filters = [{ use = "pattern", drop = ["("] }]\n', "is no regular expression"),
        (SOURCE + 'filters = [{ use = "dedup", threshold = 0.1 }]\n', "threshold = 0.1. Fix: 0.5 to 1"),
        (SOURCE + 'filters = [{ use = "none:fun" }]\n', "no module 'none'"),
        (SOURCE + 'filters = [{ use = "own:lnog" }]\n', r"no function 'lnog' in own\. Did you mean 'long'\?"),
        (
            SOURCE + 'filters = [{ use = "own:long", char = 3 }]\n',
            r"no option of 'own:long' 'char'\. Did you mean 'chars'\?",
        ),
        (SOURCE + 'filters = [{ use = "own:long", chars = "3" }]\n', "chars = '3'"),
        (SOURCE + 'filters = [{ use = "leaves:f" }]\n', "leaves.py cannot be imported: SystemExit: 0"),
        (SOURCE + 'filters = [{ use = "broken:f" }]\n', "broken.py cannot be imported: ZeroDivisionError"),
        ("[source.a]\n", "path is missing"),
        ("[source.a]\npath = 'a'\nbuild = { use = ['chat'] }\n", r"use is missing\. Fix"),
        (SOURCE + 'filters = [{ use = ":" }]\n', "no module ''"),
        ('[source.a]\npath = "a\\u0000b"\n', "holds a zero byte"),
        ('extends = "a\\u0000b"\n', "holds a zero byte"),
        (f"a = {'[' * 5000}", "not valid TOML"),
        (f"seed = {'9' * 5000}", "not valid TOML"),
        ("", r"no \[source\.…\] left"),
        (SOURCE + "take = 0\n", r"no \[source\.…\] left"),
        (SOURCE + "[mix]\nlanguages = { zh = 0.8, en = 0.1 }\n", r"languages sum to 0\.9"),
        (SOURCE + "[mix]\nbudget_rows = 1\nbudget_tokens = 2\n", "budget_rows and budget_tokens"),
        (SOURCE + "[mix]\nsources = { a = 0.8 }\n", r"sources sum to 0\.8"),
        (SOURCE + "[mix]\nsources = { a = 0.5, b = 0.5 }\n", r"no source 'b' that can have a share\. Known: a\."),
        (
            SOURCE + '[source.b]\npath = "b"\n[mix]\nsources = { a = 1 }\n',
            "no share of 'b'. Fix: b = 0 leaves it out",
        ),
        (SOURCE + "[mix]\nsources = { a = 1 }\nlanguages = { zh = 1 }\n", "languages and sources are both given"),
        (INJECT + "hold_out = 3\n", "hold_out cannot stand on an injected source"),
        (INJECT + "take = 3\n", "take cannot stand on an injected source"),
        (INJECT + 'filters = [{ use = "dedup" }]\n', "filters cannot stand on an injected source"),
        (INJECT + "repeat = 3\n", r"repeat cannot stand on an injected source. Fix: doses = \[3\]"),
        ("[source.a\n", "not valid TOML"),
        ('name = "a/b"\n' + SOURCE, "cannot be a folder"),
        ('extends = "nowhere.toml"\n', "no such recipe"),
        ('extends = "r.toml"\n', r"extends itself: r\.toml -> r\.toml"),
        (SOURCE + 'dataset = "x"\n[source.b]\npath = ["a", "b"]\ndataset = "x"\n', "dataset without one path"),
        (
            '[source.a]\npath = "x"\nbuild = { use = "identity", name = "S", team = "T", path = "y" }\n',
            "path stands twice",
        ),
    ],
)
def test_faults_are_one_line_with_place_and_remedy(tmp_path: Path, toml: str, message: str) -> None:
    (tmp_path / "own.py").write_text("def long(record, *, chars: int = 3):\n    return record\n", encoding="utf-8")
    (tmp_path / "broken.py").write_text("1 / 0\n", encoding="utf-8")
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit(0)\n", encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        load(write(tmp_path, toml))
    assert "\n" not in str(caught.value)
    assert "r.toml" in str(caught.value) or "nowhere.toml" in str(caught.value)


def test_longer_cycle_is_named(tmp_path: Path) -> None:
    write(tmp_path, 'extends = "b.toml"\n', "a.toml")
    write(tmp_path, 'extends = "a.toml"\n', "b.toml")
    with pytest.raises(InputError, match=r"a\.toml -> b\.toml -> a\.toml"):
        load(tmp_path / "a.toml")


def test_extends_merges_tables_and_replaces_the_rest(tmp_path: Path) -> None:
    write(
        tmp_path,
        'name = "base"\nseed = 1\nfilters = [{ use = "dedup" }]\n[train]\nepochs = 3\nlearning_rate = 2e-5\n'
        '[source.a]\npath = "a.jsonl"\nmeta = ["x", "y"]\n[source.b]\npath = "b.jsonl"\n'
        'build = { use = "exam", style = "answer-only" }\n',
        "base.toml",
    )
    child = write(
        tmp_path,
        'extends = "base.toml"\nfilters = []\n[train]\nepochs = 1\n[source.a]\nmeta = ["z"]\n[source.b]\ntake = 0\n'
        '[source.c]\nbuild = { use = "identity", name = "S", team = "T" }\n',
        "child.toml",
    )
    recipe = load(child)
    assert recipe.name == "child"  # never inherited
    assert recipe.seed == 1
    assert recipe.filters == ()
    assert recipe.train == {"epochs": 1, "learning_rate": 2e-5}
    assert [s.name for s in recipe.sources] == ["a", "c"]
    assert recipe.source("a").table.meta == ["z"]
    assert recipe.source("a").table.path == "a.jsonl"


def test_a_builder_is_merged_with_its_like_and_replaced_by_another(tmp_path: Path) -> None:
    base = '[source.a]\npath = "a.jsonl"\nbuild = { use = "exam", style = "answer-only", preset = "plain" }\n'
    write(tmp_path, base, "base.toml")
    for build, options in (
        ('{ style = "explain-first" }', {"style": "explain-first", "preset": "plain"}),
        ('{ use = "exam", style = "explain-first" }', {"style": "explain-first", "preset": "plain"}),
        ('{ use = "chat" }', {}),
    ):
        child = write(tmp_path, f'extends = "base.toml"\n[source.a]\nbuild = {build}\n')
        bound = load(child).source("a").builder.options
        assert {key: bound[key] for key in options} == options
        assert options or "preset" not in bound


def test_another_builder_inherits_no_options(tmp_path: Path) -> None:
    write(tmp_path, '[source.a]\npath = "a"\nbuild = { use = "exam", style = "answer-only" }\n', "base.toml")
    child = write(tmp_path, 'extends = "base.toml"\n[source.a]\nbuild = { use = "chat" }\n')
    assert load(child).source("a").builder.use == "chat"


def test_seed_reaches_the_steps_that_ask_for_it(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def half(record, *, seed: int):\n    return record\n", encoding="utf-8")
    recipe = load(write(tmp_path, "seed = 7\n" + SOURCE + 'filters = [{ use = "own:half" }]\n'))
    assert recipe.sources[0].filters[0].options == {"seed": 7}


def test_custom_modules_of_two_folders_do_not_mix(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "own.py").write_text(f"def name(record):\n    return '{name}'\n", encoding="utf-8")
        write(tmp_path / name, SOURCE + 'filters = [{ use = "own:name" }]\n')
    first, second = (load(tmp_path / name / "r.toml").sources[0].filters[0] for name in ("one", "two"))
    assert (first.function()({}), second.function()({})) == ("one", "two")
    assert first.source_sha256 != second.source_sha256


TABLE = st.recursive(
    st.integers(), lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3), max_leaves=8
)


@given(st.dictionaries(st.sampled_from("abc"), TABLE), st.dictionaries(st.sampled_from("abc"), TABLE))
def test_merge_laws(base: dict, over: dict) -> None:
    assert merge(base, {}) == base
    assert merge({}, over) == over
    merged = merge(base, over)
    assert merge(merged, over) == merged
    assert set(merged) == set(base) | set(over)


PLAIN = st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.text(max_size=12))
TREE = st.recursive(
    PLAIN,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=6), TREE, max_size=5))
def test_a_recipe_written_as_toml_reads_back_as_it_was(tables: dict[str, Any]) -> None:
    text = to_toml(tables)
    assert tomllib.loads(text) == tables
    assert all(c == "\n" or c.isprintable() for c in text)


def test_nothing_invisible_is_written() -> None:
    text = to_toml({"b": "x\u202e\x1b[31m", "c": "中文"})
    assert text == 'b = "x\\u202e\\u001b[31m"\nc = "中文"\n'
