"""JSON keeps what orjson alone would lose in silence: digits of long integers, and the first of two equal keys."""

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steel_data.builders.chat import chat
from steel_data.row.json_text import TwiceError, from_json, is_doubtful, json_bytes, to_json
from steel_data.row.record import record_id

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES, st.booleans(), st.sampled_from([None, 1]))
def test_a_value_comes_back_as_it_was(value: object, plain: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=plain, indent=indent)
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return
    if "\\ud" in text.lower() and json.loads(text) != value:
        return
    try:
        assert from_json(text) == value
        assert from_json(to_json(value)) == value
    except orjson.JSONDecodeError:
        assert "\\ud" in text.lower()


@given(st.text(alphabet='ab": \\\n', max_size=6), st.integers(0, 3), st.sampled_from(["", " ", "\n\t"]))
def test_a_key_that_an_object_holds_twice_is_never_passed_over(text: str, before: int, blank: str) -> None:
    word = json.dumps(text)
    inner = "".join(f"{json.dumps(str(i))}:{word}," for i in range(before))
    with pytest.raises(TwiceError, match="twice in one object"):
        from_json(f'[{{{inner}"k"{blank}:{word},"\\u006b":{word}}}]')


def test_what_is_plain_is_believed() -> None:
    rows = [{"a": 'say "x": y', "b": [1, 2.5, "12345"]}, {"a": "2024-01-01", "n": 123456789012345678}]
    assert not any(is_doubtful(orjson.dumps(row), row) for row in rows)


def test_integers_of_any_length_keep_their_digits_wherever_they_stand() -> None:
    number = 10**30 + 1
    call = {"role": "assistant", "tool_calls": [{"name": "f", "arguments": {"id": number, "of": 10**400}}]}
    tools = [{"name": "f", "parameters": {"maximum": number}}]
    asked = {"role": "user", "content": number}
    (record,) = chat(
        {
            "messages": [asked, call, {"role": "tool", "content": "1"}, {"role": "assistant", "content": "2"}],
            "tools": tools,
        }
    )
    assert isinstance(record, dict)
    assert record["messages"][0]["content"] == str(number)
    assert record["messages"][1]["tool_calls"][0]["function"]["arguments"] == f'{{"id":{number},"of":{10**400}}}'
    assert str(number).encode() in json_bytes(record["tools"])
    other = {
        **record,
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"maximum": number + 1}}}],
    }
    assert len(record_id(record)) == 32 and record_id(record) != record_id(other)
    assert from_json("9" * 9999) == "9" * 9999  # Python makes no integer of so many


@pytest.mark.parametrize(
    ("value", "error"), [({"a": "\ud800"}, TypeError), ({"a": "\ud800", "b": 10**30}, UnicodeEncodeError)]
)
def test_what_is_no_unicode_is_refused(value: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        to_json(value)


def test_a_call_with_one_argument_twice_is_a_reason() -> None:
    row = {
        "conversations": [
            {"from": "human", "value": "?"},
            {"from": "function_call", "value": '{"name": "f", "arguments": {"a": 1, "a": 2}}'},
        ]
    }
    assert str(chat(row)).startswith("twice: the key 'a' twice in one object")


@pytest.mark.parametrize(
    "deep", ["[" * 5000 + "9" * 25, "[" * 1015 + "1e999" + "]" * 1015, "[" * 1015 + "9" * 25 + "]" * 1015]
)
def test_what_is_nested_too_deeply_for_the_exact_parser_is_no_json(deep: str) -> None:
    """Found by bench/fuzz.py in a dataset_info.json: Python's parser, asked for the long number, raised RecursionError."""
    with pytest.raises(orjson.JSONDecodeError):
        from_json(deep)
