"""One validator for all ways into a mixture: what is no record, and what conversation cannot be trained on."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steel_data.benchmarks.layouts import layouts as exam_layouts
from steel_data.builders.chat import chat
from steel_data.builders.chat import layouts as chat_layouts
from steel_data.builders.exam import exam
from steel_data.builders.identity import builtin
from steel_data.row.faults import record_fault

ASK, SAY = {"role": "user", "content": "问"}, {"role": "assistant", "content": "答"}
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
PAIR = {"prompt": [ASK], "chosen": [SAY], "rejected": [{**SAY, "content": "坏"}]}


@pytest.mark.parametrize(
    ("messages", "fault"),
    [
        ([], "empty"),
        ([ASK], "roles: the last turn is user"),
        ([SAY, ASK], "roles: turn 0 is assistant, first"),
        ([ASK, ASK, SAY], "roles: turn 1 is user, behind user"),
        ([ASK, {**SAY, "content": " \n"}], "empty"),
        ([ASK, {**SAY, "mood": "x"}], "record: a message with 'mood'. Known: content, loss, name,"),
        ([ASK, {**SAY, "content": 1}], "record: a record without messages"),
        ([ASK, {"role": "assistant"}], "record: a record without messages"),
        ({"0": ASK}, "record: a record without messages"),
        ([{**ASK, "role": "human"}, SAY], "record: a message of role 'human'. Known: assistant"),
        ([ASK, {**SAY, "loss": 1}], "record: a message whose loss is 1. Fix: true or false"),
        ([ASK, {**SAY, "reasoning_content": ["想"]}], "record: a message whose reasoning_content is ['想']"),
        ([{**ASK, "reasoning_content": "想"}, SAY], "record: a message of role 'user' with reasoning_content"),
        ([ASK, {**SAY, "tool_calls": "f()"}], "record: a message whose tool_calls are 'f()'"),
        ([ASK, {**SAY, "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}], "record: a message whose tool_calls"),
        ([ASK, {**SAY, "tool_calls": [{**CALL, "index": 0}]}], "record: a message whose tool_calls are"),
    ],
)  # fmt: skip
def test_a_conversation_that_is_none_is_told_why(messages: Any, fault: str) -> None:
    said = record_fault({"messages": messages})
    assert said is not None and said.startswith(fault)


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ({"mesages": []}, "a record with 'mesages'. Did you mean 'messages'?"),
        ({"kind": "talk"}, "a record of kind 'talk'. Known: chat, exam"),
        ({"kind": "preference"}, "a record of kind 'preference' with messages"),
        ({"chosen": [SAY]}, "a record with both messages and chosen. Fix: one form of row"),
        ({"kind": "kto"}, "a record of kind 'kto' with messages"),
        ({"label": True}, "a record with both messages and label"),
        ({"language": "cn"}, "a record of a language that there is not: no language 'cn'. Did you mean 'zh'?"),
        ({"meta": {"a": 1}}, "a record whose meta is {'a': 1}. Fix: a text"),
        ({"note": "\ud800"}, "a record whose note is"),
        ({"dose": "3"}, "a record whose dose is '3'. Fix: a number"),
        ({"dose": True}, "a record whose dose is True"),
        ({"tools": "f"}, "a record whose tools are 'f'. Fix: a list of objects, or its JSON"),
        ({"tools": [1]}, "a record whose tools are [1]"),
    ],
)
def test_every_key_has_its_type(keys: dict[str, Any], fault: str) -> None:
    said = record_fault({"messages": [ASK, SAY], **keys})
    assert said is not None and said.startswith(f"record: {fault}")


def test_a_pair_is_two_conversations() -> None:
    assert record_fault(PAIR) is record_fault({**PAIR, "kind": "preference"}) is None
    assert record_fault({**PAIR, "rejected": []}) == "empty"
    assert record_fault({**PAIR, "rejected": [ASK]}) == "roles: turn 1 is user, behind user"
    assert str(record_fault({**PAIR, "kind": "chat"})).startswith("record: a record of kind 'chat' with prompt")


def test_a_judged_answer_is_a_conversation_with_a_label() -> None:
    judged = {"prompt": [ASK], "completion": [SAY], "label": False}
    assert record_fault(judged) is record_fault({**judged, "kind": "kto"}) is None
    assert record_fault({**judged, "completion": []}) == "empty"
    assert record_fault({**judged, "completion": [ASK]}) == "roles: turn 1 is user, behind user"
    for change, fault in (
        ({"label": None}, "a record with completion, without label. Fix: label, true for a good answer"),
        ({"label": 1}, "a record whose label is 1. Fix: true or false"),
        ({"kind": "preference"}, "a record of kind 'preference' with prompt, completion"),
        ({"chosen": [SAY]}, "a record with both prompt, completion and chosen"),
    ):
        assert str(record_fault({**judged, **change})).startswith(f"record: {fault}")


def test_what_is_right_has_no_fault() -> None:
    whole = {
        "kind": "chat",
        "language": "zh",
        "dose": None,
        "meta": "{}",
        "tools": '[{"name": "f"}]',
        "language_score": 1,
    }
    called = {**SAY, "content": "", "tool_calls": [CALL], "loss": False, "reasoning_content": "想"}
    result = {"role": "tool", "content": "", "tool_call_id": "1", "name": "f"}
    assert record_fault({"messages": [ASK, called, result, SAY], **whole}) is None


def test_every_builder_of_ours_makes_records_without_fault() -> None:
    made = [record for name, layout in chat_layouts().items() for record in chat(orjson.loads(layout.row), layout=name)]
    made += [record for layout in exam_layouts() for record in exam(orjson.loads(layout.row))]
    made += builtin(name="小钢", team="小组", date="2026")
    assert [record_fault(record) for record in made] == [None] * len(made)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "x", "user", "assistant", "chat"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "x"]), inner),
    max_leaves=6,
)
keys = st.sampled_from(
    [
        "messages",
        "prompt",
        "chosen",
        "rejected",
        "completion",
        "label",
        "tools",
        "kind",
        "language",
        "dose",
        "meta",
        "x",
    ]
)


@given(st.dictionaries(keys, values))
def test_nothing_makes_it_stumble(record: dict[str, Any]) -> None:
    assert record_fault(record) is None or isinstance(record_fault(record), str)
