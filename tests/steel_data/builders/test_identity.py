"""The identity builder: our own templates are complete, distinct and consistent; a user's template file is filled."""

import os
import re
import unicodedata
from itertools import combinations
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steel_data.builders.identity import LANGUAGES, builtin, identity
from steel_data.errors import InputError
from steel_data.row.record import Record, conversation_fault, record_id, text_view

STEEL: dict[str, Any] = {"name": "Steel-LLM", "team": {"zh": "Steel-LLM团队", "en": "the Steel-LLM team"}}
HAN = re.compile(r"[\u4e00-\u9fff]")


def own(language: str, **options: Any) -> list[Record]:
    return builtin(**{**STEEL, **options}, languages=(language,))


def test_one_record_as_it_is() -> None:
    assert own("zh")[0] == {
        "messages": [
            {"role": "user", "content": "你是谁？"},
            {"role": "assistant", "content": "我是Steel-LLM，由Steel-LLM团队开发的人工智能助手。"},
        ],
        "kind": "identity",
        "language": "zh",
    }
    assert own("en")[0]["messages"][1]["content"] == "I'm Steel-LLM, an AI assistant developed by the Steel-LLM team."


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("date", [None, "2025-01"])
def test_enough_of_every_form(language: str, date: str | None) -> None:
    records = own(language, date=date)
    first = ["".join(m["content"] for m in r["messages"] if m["role"] == "user") for r in records]
    form = {re.sub(r"[\W_]", "", unicodedata.normalize("NFKC", text)).casefold() for text in first}
    assert len(form) == len(records)  # no question twice, not even with other punctuation
    turns = [sum(m["role"] == "user" for m in r["messages"]) for r in records]
    assert sum(n == 1 for n in turns) >= 100
    assert sum(n > 1 for n in turns) >= 15
    assert sum(r["messages"][0]["role"] == "system" for r in records) >= 3
    answers = [m["content"] for r in records for m in r["messages"] if m["role"] == "assistant"]
    assert len(set(answers)) > 0.95 * len(answers)


@pytest.mark.parametrize("language", LANGUAGES)
def test_records_are_sound(language: str) -> None:
    records = own(language, date="2025-01")
    assert len({record_id(r) for r in records}) == len(records)
    for record in records:
        assert conversation_fault(record["messages"]) is None
        assert "{{" not in text_view(record)
        assert all(m["content"] == m["content"].strip() for m in record["messages"])
    text = "\n".join(map(text_view, records))
    assert "2025-01" in text and "Steel-LLM" in text
    share = len(HAN.findall(text)) / len(text)
    assert share > 0.5 if language == "zh" else share < 0.05


@pytest.mark.parametrize(
    "options", [STEEL, {"name": "一个名字特别特别长的语言模型", "team": "名字也特别特别长的某某大学自然语言处理实验室"}]
)
def test_no_two_records_are_near_duplicates(options: dict[str, Any]) -> None:
    grams = []
    for text in map(text_view, builtin(**options, date="2025年1月")):
        grams.append({text[i : i + 5] for i in range(max(1, len(text) - 4))})
    assert max(len(a & b) / len(a | b) for a, b in combinations(grams, 2)) < 0.8


def test_without_a_date_nothing_speaks_of_one() -> None:
    for language in LANGUAGES:
        with_date, without = own(language, date="2025-01"), own(language)
        assert [r for r in with_date if "2025-01" not in text_view(r)] == without
        assert len(with_date) - len(without) >= 3


@pytest.mark.parametrize(("name", "word"), [("Qwen-Steel", "qwen"), ("豆包小助手", "豆包"), ("ChatGPT-zh", "chatgpt")])
def test_a_model_does_not_deny_itself(name: str, word: str) -> None:
    for record in builtin(name=name, team="某实验室"):
        users = [
            m["content"].casefold().replace(name.casefold(), "") for m in record["messages"] if m["role"] == "user"
        ]
        assert not any(word in text for text in users), text_view(record)
    assert len(builtin(name=name, team="某实验室")) < len(builtin(name="某模型", team="某实验室"))


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"name": ""}, "build.name: there is none"),
        ({"team": " "}, "build.team: there is none"),
        ({"name": {"zh": "钢"}}, "build.name.en"),
        ({"languages": ("zh", "fr")}, "no identity templates in 'fr'"),
    ],
)
def test_bad_options(options: dict[str, Any], part: str) -> None:
    with pytest.raises(InputError, match=re.escape(part)):
        builtin(**{**STEEL, **options})


def filled(instruction: str, output: str, **options: Any) -> list[str]:
    records = identity({"instruction": instruction, "input": "", "output": output}, **{**STEEL, **options})
    assert isinstance(records, list)
    (record,) = records
    assert record["kind"] == "identity"
    return [m["content"] for m in record["messages"]]


def test_fields_of_a_template_file() -> None:
    assert filled("你是谁", "我是{{name}}，{{ author }}（{{team}}）所作。") == [
        "你是谁",
        "我是Steel-LLM，Steel-LLM团队（Steel-LLM团队）所作。",
    ]
    assert filled("Hi {{NAME}}", "By {{author}}, {{date}}.", date="2025") == [
        "Hi Steel-LLM",
        "By the Steel-LLM team, 2025.",
    ]


def test_literal_replacement_longest_first_and_once() -> None:
    replace = {"EmoLLM": "Steel-LLM", "EmoLLM团队": "钢铁团队", "钢铁": "不该出现", "<AUTHOR>": "{{team}}"}
    assert filled("谁制作了你？", "我是EmoLLM，由EmoLLM团队即<AUTHOR>开发。", replace=replace) == [
        "谁制作了你？",
        "我是Steel-LLM，由钢铁团队即Steel-LLM团队开发。",
    ]


def test_system_turns_and_several_turns_are_filled_too() -> None:
    row = {
        "messages": [
            {"role": "system", "content": "你是{{name}}。"},
            {"role": "user", "content": "你是谁"},
            {"role": "assistant", "content": "{{name}}"},
            {"role": "user", "content": "谁做的"},
            {"role": "assistant", "content": "{{author}}"},
        ]
    }
    records = identity(row, **STEEL)
    assert isinstance(records, list)
    assert text_view(records[0]) == "你是Steel-LLM。\n你是谁\nSteel-LLM\n谁做的\nSteel-LLM团队"


@pytest.mark.parametrize(
    "left",
    ["<AUTHOR>", "<NAME>", "<your name>", "<MODEL_NAME>", "<作者>", "{{company}}", "{{}}", "[作者]", "【名字】",
     "[NAME]", "[Your Name]", "${name}", "{author}", "%NAME%"],
)  # fmt: skip
def test_a_placeholder_left_over_is_an_error(left: str) -> None:
    with pytest.raises(InputError) as caught:
        filled("谁制作了你？", f"{left} 制作了我。")
    assert f"placeholder {left} is left over" in str(caught.value) and "制作了我" in str(caught.value)
    assert filled("谁制作了你？", f"{left} 制作了我。", replace={left: "我们"})[1] == "我们 制作了我。"
    assert filled("谁制作了你？", f"{left} 制作了我。", replace={left: left})[1] == f"{left} 制作了我。"


@pytest.mark.parametrize(
    "text", ["写<b>粗体</b>", "见[1]", "a < b, c > d", "{x}", "集合{1}", "50%的人", "【提示】", "<p>", "[链接](x)"]
)
def test_ordinary_text_is_no_placeholder(text: str) -> None:
    assert filled("问", text)[1] == text


def test_a_date_that_is_not_given_is_asked_for() -> None:
    with pytest.raises(InputError, match='Fix: `date = "…"`'):
        filled("何时发布", "{{date}}")


def test_a_value_that_looks_like_a_field_is_not_filled_again() -> None:
    assert filled("你是谁", "{{name}}", name="{{team}}")[1] == "{{team}}"


def test_empty_key_of_replace() -> None:
    with pytest.raises(InputError, match="empty text"):
        filled("a", "b", replace={"": "x"})


def test_rows_that_are_no_conversation_keep_the_reason_of_chat() -> None:
    assert isinstance(identity({"a": 1}, **STEEL), str)


plain = st.text(alphabet="甲乙丙 ab\n{}<", max_size=12)
cells = st.none() | st.integers() | plain | st.lists(plain, max_size=2)


@given(st.dictionaries(st.sampled_from(["instruction", "input", "output", "messages", "conversations"]), cells))
def test_law_any_row_is_records_or_a_reason_or_names_its_placeholder(row: dict[str, Any]) -> None:
    try:
        out = identity(row, **STEEL)
    except InputError as error:
        assert "placeholder" in str(error)
        return
    assert isinstance(out, str) or all(r["kind"] == "identity" for r in out)


SHARED = Path(os.environ.get("STEEL_SHARED_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))
EMO = SHARED / "self_cognition" / "self_cognition_EmoLLM.json"


@pytest.mark.shared
@pytest.mark.skipif(not EMO.is_file(), reason=f"no real data in {SHARED} (STEEL_SHARED_DATA names it)")
def test_the_file_that_steel_llm_adapted() -> None:
    rows = orjson.loads(EMO.read_bytes())
    replace = {"EmoLLM团队": "Steel-LLM团队", "EmoLLM": "Steel-LLM", "中文领域心理健康助手": "人工智能助手"}
    bad = []
    for number, row in enumerate(rows):
        try:
            identity(row, **STEEL, replace=replace)
        except InputError as error:
            assert "<AUTHOR>" in str(error)
            bad.append(number)
    assert len(rows) == 85 and len(bad) == 2
    made = [identity(row, **STEEL, replace={**replace, "<AUTHOR>": "{{team}}"}) for row in rows]
    text = "\n".join(text_view(r) for records in made if isinstance(records, list) for r in records)
    assert "Emo" not in text and "AUTHOR" not in text and text.count("Steel-LLM") > 100
