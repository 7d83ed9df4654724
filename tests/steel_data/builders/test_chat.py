"""The builder chat: every published layout gives messages; what cannot become a conversation gives its reason."""

import os
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steel_data.builders.chat import chat, columns_read, layouts, recognised
from steel_data.errors import InputError
from steel_data.read.formats import read_chunks, scan_file
from steel_data.row.record import conversation_fault, record_id

SHARED = Path(os.environ.get("STEEL_SHARED_DATA") or Path(__file__).parents[4] / "shared" / "data")


def said(row: dict, **options: object) -> list:
    """Return the (role, content) pairs of the one record."""
    made = chat(row, **options)  # type: ignore[arg-type]
    assert isinstance(made, list) and len(made) == 1, made
    assert made[0]["kind"] == "chat" and record_id(made[0])
    return [(message["role"], message["content"]) for message in made[0]["messages"]]


def turns(*pairs: tuple[str, object]) -> list[dict]:
    return [{"from": who, "value": what} for who, what in pairs]


def openai(*pairs: tuple[str, object]) -> list[dict]:
    return [{"role": who, "content": what} for who, what in pairs]


QA = [("user", "问"), ("assistant", "答")]


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "问", "input": "", "output": "答"},
        {"instruction": "问", "input": None, "output": "答", "id": 7},
        {"instruction": "问", "output": "答", "system": "", "history": [], "tools": "[]", "images": []},
        {"instruction": "", "input": "问", "output": "答"},
        {"conversations": turns(("human", "问"), ("gpt", "答")), "label": {}},
        {"conversations": openai(("user", "问"), ("assistant", "答"))},
        {"conversations": orjson.dumps(turns(("human", "问"), ("gpt", "答"))).decode()},
        {"messages": openai(("user", "问"), ("assistant", "答")), "system": None},
        {
            "messages": [
                {**turn, "tool_calls": None, "loss": None} for turn in openai(("user", "问"), ("assistant", "答"))
            ]
        },
        {"messages": openai(("user", [{"type": "text", "text": "问"}]), ("assistant", ["答"]))},
    ],
)
def test_layouts_are_recognised(row: dict) -> None:
    assert said(row) == QA


TOLD = [name for name, layout in layouts().items() if not layout.said]  # by their columns


@pytest.mark.parametrize("name", TOLD)
def test_every_published_layout_is_recognised_by_its_columns(name: str) -> None:
    row = orjson.loads(layouts()[name].row)
    assert recognised(row) == name
    (record,) = chat(row)
    assert isinstance(record, dict)
    asked = [{"role": "user", "content": "问"}]
    if record["kind"] == "preference":
        assert record == {
            "prompt": asked, "chosen": [{"role": "assistant", "content": "好"}],
            "rejected": [{"role": "assistant", "content": "坏"}], "kind": "preference",
            **({"note": "best-and-worst"} if "responses" in layouts()[name].columns else {}),
        }  # fmt: skip
    else:
        thought = {"reasoning_content": "想"} if "想" in layouts()[name].row else {}
        assert record["messages"] == [*asked, {"role": "assistant", "content": "答", **thought}]
    assert chat(row, layout=name) == [record]


@pytest.mark.parametrize("name", TOLD)
def test_a_layout_with_a_column_missing_or_of_another_type_is_another_layout_or_a_reason(name: str) -> None:
    row = orjson.loads(layouts()[name].row)
    for column in layouts()[name].needs:
        without = {key: value for key, value in row.items() if key != column}
        assert recognised(without) != name
        for odd in (None, "", 7, {"x": 1}, [[1, 2, 3]], [None, None]):
            made = chat({**row, column: odd})
            assert isinstance(made, str) or made[0]["kind"] in ("chat", "preference"), (column, odd)
            if isinstance(made, list) and column not in ("meta_instruction", "id", "reasoning_content"):
                turns = made[0].get("messages") or [*made[0]["prompt"], *made[0]["chosen"], *made[0]["rejected"]]
                assert odd == 7 or any(m["content"] == "7" for m in turns), (column, odd, made)


def test_functions_beside_the_messages_are_tools() -> None:
    row = {"messages": openai(*QA), "functions": [{"name": "weather", "parameters": {}}]}
    (record,) = chat(row)
    assert isinstance(record, dict) and record["tools"] == [TOOL]


def test_trim_cuts_a_greeting_and_an_open_question() -> None:
    row = {"messages": openai(("system", "s"), ("assistant", "您好"), *QA, ("user", "再问"))}
    assert str(chat(row)).startswith("roles: turn 1 is assistant")
    assert said(row, trim=True) == [("system", "s"), *QA]
    assert chat({"messages": openai(("user", "问"))}, trim=True) == "empty"
    assert said({"messages": openai(*QA)}, trim=True) == QA


@pytest.mark.parametrize("name", TOLD)
def test_the_columns_that_are_read_are_those_that_change_the_record(name: str) -> None:
    row = orjson.loads(layouts()[name].row)
    read = columns_read(tuple({**row, "extra": 1, "score": 2}), {})
    assert read <= set(row) and "extra" not in read
    for column in row.keys() - read:
        assert chat({**row, column: "other"}) == chat(row)


def test_text_is_untouched_and_alpaca_parts_are_joined_by_one_line_break() -> None:
    assert said({"instruction": " a\n", "input": "\tb ", "output": "c\r\n "}) == [
        ("user", " a\n\n\tb "),
        ("assistant", "c\r\n "),
    ]


def test_history_and_system_come_first() -> None:
    row = {"instruction": "三", "input": "", "output": "3", "system": "数", "history": [["一", "1"], ["二", 2]]}
    assert said(row) == [
        ("system", "数"),
        ("user", "一"),
        ("assistant", "1"),
        ("user", "二"),
        ("assistant", "2"),
        ("user", "三"),
        ("assistant", "3"),
    ]


def test_a_system_turn_comes_before_a_system_column() -> None:
    row = {"conversations": turns(("system", "甲"), ("human", "问"), ("gpt", "答")), "system": "乙"}
    assert said(row) == [("system", "甲"), *QA]
    row["conversations"] = row["conversations"][1:]
    assert said(row) == [("system", "乙"), *QA]


@pytest.mark.parametrize(
    ("columns", "row"),
    [
        ({"prompt": "question", "response": "answer"}, {"question": "问", "answer": "答"}),
        ({"response": "response"}, {"instruction": "问", "input": "", "response": "答"}),
        ({"query": ""}, {"instruction": "问", "input": "not this", "output": "答"}),
        ({"messages": "dialog"}, {"dialog": turns(("human", "问"), ("gpt", "答"))}),
        ({"prompt": "q", "response": "a"}, {"q": "问", "a": "答", "messages": "not this"}),
        ({"response": "chosen"}, {"instruction": "问", "chosen": "答", "rejected": "not this"}),
    ],
)
def test_columns_say_what_is_what(columns: dict, row: dict) -> None:
    assert said(row, columns=columns) == QA


def test_tags_say_who_is_who() -> None:
    row = {"conversations": [{"who": "客户", "what": "问"}, {"who": "坐席", "what": "答"}]}
    tags = {"role_tag": "who", "content_tag": "what", "user_tag": "客户", "assistant_tag": "坐席"}
    assert said(row, tags=tags) == QA
    assert said({"conversations": turns(("U", "问"), ("gpt", "答"))}, tags={"user_tag": "U"}) == QA
    with pytest.raises(InputError, match="tags: unknown word 'user'"):
        chat(row, tags={"user": "客户"})
    with pytest.raises(InputError, match="columns: unknown word 'instruction'"):
        chat(row, columns={"instruction": "q"})


CALL = {"type": "function", "function": {"name": "weather", "arguments": '{"city":"杭州"}'}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {}}}


@pytest.mark.parametrize(
    "row",
    [
        {
            "conversations": turns(("human", "问")),
            "chosen": turns(("gpt", "好"))[0],
            "rejected": turns(("gpt", "坏"))[0],
        },
        {"prompt": "问", "chosen": "好", "rejected": "坏"},
        {
            "prompt": openai(("user", "问")),
            "chosen": openai(("assistant", "好")),
            "rejected": openai(("assistant", "坏")),
        },
        {
            "chosen": openai(("user", "问"), ("assistant", "好")),
            "rejected": openai(("user", "问"), ("assistant", "坏")),
        },
        {"instruction": "问", "input": "", "chosen": "好", "rejected": "坏"},
    ],
)
def test_preference_rows(row: dict) -> None:
    assert chat(row) == [
        {
            "prompt": [{"role": "user", "content": "问"}],
            "chosen": [{"role": "assistant", "content": "好"}],
            "rejected": [{"role": "assistant", "content": "坏"}],
            "kind": "preference",
        }
    ]
    renamed = {{"chosen": "a", "rejected": "b"}.get(key, key): value for key, value in row.items()}
    assert chat(renamed, columns={"chosen": "a", "rejected": "b"}) == chat(row)
    assert chat({**row, "system": "s"})[0]["prompt"][0] == {"role": "system", "content": "s"} or "prompt" not in row


def test_the_prompt_of_whole_conversations_ends_before_the_answers_differ() -> None:
    shared = [("system", "s"), ("user", "一"), ("assistant", "1"), ("user", "二")]
    row = {"chosen": openai(*shared, ("assistant", "2")), "rejected": openai(*shared, ("assistant", "3"))}
    (record,) = chat(row)
    assert isinstance(record, dict)
    assert record["prompt"] == openai(*shared) and record["chosen"] == openai(("assistant", "2"))
    same = chat({"chosen": row["chosen"], "rejected": row["chosen"]})
    assert isinstance(same, list) and same[0]["prompt"] == openai(*shared)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({}, "columns: neither messages, nor conversations"),
        ({"question": "问", "answer": "答"}, "columns: neither messages"),
        (
            {"instruction": "问", "outptu": "答"},
            "columns: no column 'output'. Did you mean 'outptu'? Row has: instruction, outptu.",
        ),
        ({"conversations": []}, "empty"),
        ({"conversations": None}, "empty"),
        ({"messages": ""}, "empty"),
        ({"instruction": "", "input": "", "output": "答"}, "empty"),
        ({"instruction": "问", "output": ""}, "empty"),
        ({"instruction": "问", "output": None}, "empty"),
        ({"instruction": "问", "output": float("nan")}, "empty"),
        ({"instruction": "问", "output": " \n\u3000"}, "empty"),
        ({"instruction": "问", "output": "答", "history": [["", "x"]]}, "empty"),
        ({"instruction": "问", "output": "答", "history": [["x"]]}, "columns: 'history' is not a list"),
        ({"instruction": "问", "output": "答", "history": "text"}, "columns: 'history' is not a list"),
        ({"instruction": "问", "output": {"a": 1}}, "content: an object where text belongs"),
        ({"conversations": "text"}, "columns: not a list of turns"),
        ({"conversations": {"from": "human"}}, "columns: not a list of turns"),
        ({"conversations": ["text"]}, "roles: turn 0 is not an object"),
        ({"conversations": [None]}, "roles: turn 0 is not an object"),
        ({"conversations": turns(("gpt", "您好"), ("human", "问"), ("gpt", "答"))}, "roles"),
        ({"conversations": turns(("human", "问"), ("gpt", "答"), ("human", "再问"))}, "roles"),
        ({"conversations": turns(("human", "问"), ("human", "问"), ("gpt", "答"))}, "roles"),
        ({"conversations": turns(("human", "问"), ("system", "x"), ("gpt", "答"))}, "roles"),
        ({"conversations": turns(("human", "问"), ("narrator", "答"))}, "roles: turn 1 has 'narrator'"),
        ({"conversations": turns(("human", "问"), (None, "答"))}, "roles: turn 1 has no 'role'"),
        ({"conversations": [{"from": ["human"], "value": "x"}]}, "roles: turn 0 has '['human']'"),
        ({"conversations": [{"value": "x"}]}, "roles: turn 0 has no 'role'"),
        (
            {"messages": openai(("user", [{"type": "image_url", "image_url": "x"}]), ("assistant", "答"))},
            "media: a part of type",
        ),
        ({"instruction": "问", "output": "答", "images": ["a.png"]}, "media: column 'images'"),
        ({"conversations": turns(("human", "问"), ("function_call", "not json"))}, "tools: a call that is not JSON"),
        (
            {"conversations": turns(("human", "问"), ("function_call", '{"arguments": 1}'))},
            "tools: a call without a name",
        ),
        (
            {"conversations": turns(("human", "问"), ("function_call", '{"name": "f", "arguments": "{"}'))},
            "tools: arguments that are not JSON",
        ),
        (
            {"messages": [{"role": "user", "content": "x", "tool_calls": [CALL]}]},
            "roles: a tool call in a turn of user",
        ),
        ({"messages": openai(*QA), "tools": "not json"}, "tools: not JSON"),
        ({"messages": openai(*QA), "tools": [1]}, "tools: not a list of objects"),
        ({"messages": [openai(*QA)[0], {**openai(*QA)[1], "weight": 0.5}]}, "loss: 0.5 where 0 or 1 belongs"),
        ({"prompt": "问", "chosen": "", "rejected": "坏"}, "empty"),
        ({"prompt": "问", "chosen": "好", "rejected": None}, "empty"),
        ({"prompt": "", "chosen": "好", "rejected": "坏"}, "empty"),
        ({"chosen": openai(*QA), "rejected": openai(("user", "别的"), ("assistant", "坏"))}, "roles"),
        ({"chosen": "好", "rejected": "坏"}, "columns: no column 'instruction'"),
    ],
)
def test_bad_rows_give_their_reason(row: dict, reason: str) -> None:
    made = chat(row)
    assert isinstance(made, str) and made.startswith(reason), made
    assert made.isprintable() and len(made) < 300


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            {"columns": {"prompt": "instrction"}},
            "columns: no column 'instrction'. Did you mean 'instruction'? Row has: instruction, output.",
        ),
        ({"columns": {"system": "sys"}}, "columns: no column 'sys'."),
        ({"layout": "sharegpt"}, "columns: no column 'conversations'."),
        ({"layout": "preference"}, "columns: no column 'chosen'."),
        (
            {"tags": {"role_tag": "who"}, "layout": "messages", "columns": {"messages": "output"}},
            "columns: not a list of turns",
        ),
    ],
)
def test_what_was_said_and_does_not_fit(options: dict, reason: str) -> None:
    made = chat({"instruction": "问", "output": "答"}, **options)
    assert isinstance(made, str) and made.startswith(reason), made


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["human", "gpt", "user"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["from", "value", "role", "content", "tool_calls", "name", "type", "text"]), inner
        )
    ),
    max_leaves=12,
)
KEYS = st.sampled_from(
    [
        "conversations",
        "messages",
        "instruction",
        "input",
        "output",
        "system",
        "history",
        "tools",
        "chosen",
        "rejected",
        "prompt",
    ]
)


@given(st.dictionaries(KEYS, JSON, max_size=5))
def test_any_row_gives_a_sound_record_or_a_reason(row: dict) -> None:
    made = chat(row)
    if isinstance(made, str):
        assert made.split(": ")[0] in ("columns", "empty", "roles", "media", "content", "tools", "think", "loss")
        return
    (record,) = made
    messages = record.get("messages") or [*record["prompt"], *record["chosen"]]
    assert conversation_fault(messages) is None
    assert all(type(message["content"]) is str for message in messages)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "options", "counts"),
    [
        ("instruct/zh_alpaca_part00.json", {}, {"chat": 10_015, "empty": 6}),
        ("instruct/zh_belle_2M_sample.json", {}, {"chat": 1000}),
        ("instruct/zh_medical_sharegpt_1k.jsonl", {}, {"chat": 1000}),
        ("instruct/infinity_instruct_2_real_records.jsonl", {}, {"chat": 2}),
        ("instruct/en_gpteacher_codegen-instruct.json", {"columns": {"response": "response"}}, {"chat": 4535}),
        ("instruct/en_gsm8k_train.jsonl", {"columns": {"prompt": "question", "response": "answer"}}, {"chat": 7473}),
        ("instruct/ja_jcommonsenseqa_valid.json", {}, {"columns": 1119}),
        ("ruozhiba/ruozhiba_qa_half.jsonl", {}, {"chat": 709}),
        ("dpo/dpo_zh_demo.json", {}, {"preference": 300}),
        ("dpo/dpo_en_demo.json", {}, {"preference": 300}),
    ],
)
def test_real_rows(name: str, options: dict, counts: dict) -> None:
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"{path} is not there (the real data of ../shared/data, or STEEL_SHARED_DATA)")
    scan = scan_file(path, 2**20)
    found: dict[str, int] = {}
    for _, rows in read_chunks(path, scan, range(len(scan.chunks))):
        for row in rows:
            assert row.value is not None, row.error
            made = chat(row.value, **options)
            kind = made.split(": ")[0] if isinstance(made, str) else made[0]["kind"]
            found[kind] = found.get(kind, 0) + 1
    assert found == counts
