import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from steel_data.recipe.toml import to_toml

PLAIN = st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.text(max_size=12))
TREE = st.recursive(
    PLAIN,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=6), TREE, max_size=5))
def test_reads_back_as_it_was(table: dict[str, Any]) -> None:
    assert tomllib.loads(to_toml(table)) == table


def test_tables_become_sections_and_long_lists_several_lines() -> None:
    filters = [{"use": "decontaminate", "benchmarks": ["ceval", "cmmlu"]}, {"use": "length", "max_chars": 4000}]
    filters += [{"use": "pattern", "drop": ["作为一个人工智能语言模型"]}]
    text = to_toml({"seed": 42, "source": {"a b": {"take": 200_000, "build": {"use": "chat"}, "filters": filters}}})
    assert text.splitlines()[:4] == ["seed = 42", "", '[source."a b"]', "take = 200_000"]
    assert '    { use = "length", max_chars = 4000 },' in text.splitlines()
    assert 'build = { use = "chat" }' in text.splitlines()


def test_none_is_left_out_and_nothing_invisible_is_written() -> None:
    assert to_toml({"a": None, "b": "x\u202e\x1b[31m"}) == 'b = "x\\u202e\\u001b[31m"\n'
