"""Turns of every published writing become messages; what a message has no place for is a reason, never left out."""

import orjson
import pytest
from tests.steel_data.builders.test_chat import CALL, QA, TOOL, openai, said

from steel_data.builders.chat import chat
from steel_data.row.record import record_id


@pytest.mark.parametrize(
    "turns",
    [
        [{"human": "问", "assistant": "答"}],
        [{"Human": "问", "Assistant": "答"}],
        [{"input": "问", "output": "答", "system": ""}],
        [["问", "答"]],
        ["问", "答"],
        openai(("User", "问"), ("ASSISTANT", "答")),
        *(openai(("human", "问"), (name, "答")) for name in ("chatgpt", "bing", "bard", "model", "bot", "GPT", "moss")),
    ],
)
def test_turns_of_every_writing(turns: list) -> None:
    assert said({"conversations": turns}) == QA


def test_texts_in_a_list_are_never_joined() -> None:
    assert chat({"instruction": "推荐", "output": ["甲", "乙"]}) == "content: a list of 2 where one text belongs"
    assert chat({"instruction": ["一", "二"], "output": "甲"}) == "content: a list of 2 where one text belongs"
    assert chat({"messages": openai(("user", "问"), ("assistant", ["甲", "乙"]))}) == (
        "content: a list of 2 where one text belongs"
    )
    parts = [{"type": "text", "text": "答"}, {"type": "text", "text": "案"}]
    assert said({"messages": openai(("user", "问"), ("assistant", parts))})[1] == ("assistant", "答案")


def answered(**turn: object) -> list | str:
    return chat({"messages": [{"role": "user", "content": "问"}, {"role": "assistant", **turn}]})


@pytest.mark.parametrize(
    "turn",
    [
        {"content": "答", "reasoning_content": "想"},
        {"content": "答", "reasoning": "想"},
        {"content": "答", "thinking": "想"},
        {"content": "<think>想</think>答"},
        {"content": "<think>\n想\n</think>\n\n答"},
        {"content": "想\n</think>\n\n答"},  # the template had opened the tag
        {"content": "<think>想</think>答", "reasoning_content": "想"},
    ],
)
def test_thoughts_of_every_writing(turn: dict) -> None:
    made = answered(**turn)
    assert isinstance(made, list)
    assert made[0]["messages"][1] == {"role": "assistant", "content": "答", "reasoning_content": "想"}


@pytest.mark.parametrize(
    ("turn", "reason"),
    [
        ({"content": "<think>想"}, "think: not closed"),
        ({"content": "<think>\n\n</think>\n\n答"}, "think: empty"),
        ({"content": "<think>想</think>答", "thinking": "别的"}, "think: one in the text and another beside it"),
        ({"content": "答", "thinking": "甲", "reasoning": "乙"}, "think: 2 unlike thoughts in one turn"),
        ({"content": "<think>想</think>"}, "empty"),
    ],
)
def test_thoughts_that_cannot_be_learnt(turn: dict, reason: str) -> None:
    assert answered(**turn) == reason


@pytest.mark.parametrize("spelt", ["arguments", "parameters"])
@pytest.mark.parametrize("text", [True, False])
def test_arguments_under_either_name(spelt: str, text: bool) -> None:
    given = '{"city":"杭州"}' if text else {"city": "杭州"}
    made = answered(content="", tool_calls=[{"name": "weather", spelt: given}])
    assert isinstance(made, list) or made == "roles: the last turn is tool"
    assert made[0]["messages"][1]["tool_calls"] == [CALL]


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ({"name": "f", "args": {"x": 1}}, "tools: a call with 'args' where arguments belong"),
        ({"name": "f", "arguments": [1]}, "tools: arguments that are no object; [1]"),
        ({"name": "f", "arguments": '"{}"'}, 'tools: arguments that are no object; "{}"'),
        (
            {"name": "f", "arguments": {"a": 1}, "parameters": {"b": 1}},
            "tools: a call with both arguments and parameters",
        ),
        ({"name": "", "arguments": {}}, "tools: a call without a name"),
        ({"type": "code_interpreter", "function": {"name": "f"}}, "tools: a call of type code_interpreter"),
    ],
)
def test_a_call_that_is_not_understood_is_never_an_empty_one(call: dict, reason: str) -> None:
    made = answered(content="", tool_calls=[call])
    assert isinstance(made, str) and made.startswith(reason)


def test_names_and_ids_of_tools_travel_along() -> None:
    calls = [{"id": i, "type": "function", "function": {"name": "w", "arguments": "{}"}} for i in ("c1", "c2")]
    row = {
        "messages": [
            {"role": "user", "content": "问"},
            {"role": "assistant", "content": "", "tool_calls": calls},
            {"role": "tool", "tool_call_id": "c2", "name": "w", "content": "30"},
            {"role": "tool", "tool_call_id": "c1", "content": "33"},
            {"role": "assistant", "content": "答"},
        ]
    }
    (record,) = chat(row)
    assert isinstance(record, dict)
    assert record["messages"][2] == {"role": "tool", "content": "30", "name": "w", "tool_call_id": "c2"}
    other = orjson.loads(orjson.dumps(record))
    other["messages"][2]["tool_call_id"] = "c1"
    assert record_id(other) != record_id(record)


@pytest.mark.parametrize(
    "row",
    [
        {"messages": openai(*QA), "image": "sheep.png"},
        {"messages": openai(("user", "<image>几只"), ("assistant", "答"))},
        {"messages": [{"role": "user", "content": "几只", "images": ["a.png"]}, openai(*QA)[1]]},
    ],
)
def test_pictures_are_said(row: dict) -> None:
    made = chat(row)
    assert isinstance(made, str) and made.startswith("media: ")
    assert said({"messages": openai(("user", "`<image>` 是什么标签"), ("assistant", "答"))})


@pytest.mark.parametrize(
    ("turn", "ids"),
    [
        ({"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "杭州"}}'}, 0),
        ({"from": "function_call", "value": '[{"name": "weather", "arguments": "{\\"city\\": \\"杭州\\"}"}]'}, 0),
        ({"role": "assistant", "content": None, "tool_calls": [{"id": "c1", **CALL}]}, 1),
        ({"role": "assistant", "tool_calls": [{"name": "weather", "arguments": {"city": "杭州"}}]}, 0),
        (
            {"role": "assistant", "content": "", "function_call": {"name": "weather", "arguments": '{"city": "杭州"}'}},
            0,
        ),
    ],
)
def test_tool_calls_of_every_kind_become_one(turn: dict, ids: int) -> None:
    row = {
        "conversations": [
            {"from": "human", "value": "天气"},
            turn,
            {"from": "observation", "value": "晴"},
            {"from": "gpt", "value": "晴天"},
        ],
        "tools": '[{"name": "weather", "parameters": {}}]',
    }
    (record,) = chat(row)
    assert isinstance(record, dict)
    expected = {**CALL, "id": "c1"} if ids else CALL
    assert record["messages"][1] == {"role": "assistant", "content": "", "tool_calls": [expected]}
    assert record["messages"][2] == {"role": "tool", "content": "晴"}
    assert record["tools"] == [TOOL]


def test_reasoning_and_loss_are_kept() -> None:
    row = {
        "messages": [
            {"role": "user", "content": "一加一"},
            {"role": "assistant", "content": "3", "weight": 0},
            {"role": "user", "content": "再想"},
            {"role": "assistant", "content": "2", "reasoning_content": "1+1", "loss": True, "mood": "x"},
        ]
    }
    (record,) = chat(row)
    assert isinstance(record, dict)
    assert record["messages"][1] == {"role": "assistant", "content": "3", "loss": False}
    assert record["messages"][3] == {"role": "assistant", "content": "2", "reasoning_content": "1+1", "loss": True}


def test_numbers_are_their_digits() -> None:
    assert said({"instruction": 1, "input": 2.5, "output": 0}) == [("user", "1\n2.5"), ("assistant", "0")]
    made = chat({"instruction": "真?", "output": True})  # true, True, yes or 真: nobody knows
    assert made == "content: true where text belongs"
