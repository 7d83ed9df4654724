"""Every published layout with one key missing, doubled or of another type: a reason, or what the row still says."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from steel_data.benchmarks.item_rows import ExamItem, read_item
from steel_data.benchmarks.layouts import layouts as exam_layouts
from steel_data.builders.chat import chat, columns_read, layouts
from steel_data.read.formats import read_whole
from steel_data.row.record import turns_of

Path_ = tuple[str | int, ...]
CHAT = {name: json.loads(layout.row) for name, layout in layouts().items()}
EXAM = {layout.name: json.loads(layout.row) for layout in exam_layouts()}
NOTHING: list[Any] = [None, "", [], {}]
ODD: list[Any] = [*NOTHING, 7, 7.5, True, ["甲", "乙"], [["甲"]], [None], {"x": 1}, [{"x": 1}], ["甲"]]
# A row without one of these keys is a row of another layout, or says the same without it.
STILL = {
    "swift-rejected-response": {"rejected_response": "chat"},
    "swift-rejected-messages": {"rejected_messages": "chat"},
    "swift-query-rejected": {"rejected_response": "chat"},
    "alpaca": {"input": "chat"},
    "orca-pairs": {"system": "preference"},
    "coig-exam": {"textbox_q_context": "chat"},
    "moss": {"Inner Thoughts": "chat", "Commands": "chat", "Tool Responses": "chat"},
    "xtuner": {"system": "chat"},
}
REASONS = {"columns", "content", "empty", "roles", "media", "think", "tools", "kto", "ranking"}


def places(value: Any, at: Path_ = ()) -> Iterator[Path_]:
    """Yield where the keys of a row stand, at any depth."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        if isinstance(value, dict):
            yield (*at, key)
        yield from places(inner, (*at, key))


def changed(row: dict[str, Any], place: Path_, *value: Any) -> dict[str, Any]:
    """Return the row with another value at a place, or without the key."""
    row = copy.deepcopy(row)
    inside: Any = row
    for key in place[:-1]:
        inside = inside[key]
    inside.pop(place[-1])
    if value:
        inside[place[-1]] = value[0]
    return row


def texts(made: Any) -> list[str]:
    record = made[0]
    turns = turns_of(record.get("messages") or record, rejected=True)
    return [text for turn in turns for text in (turn["content"], turn.get("reasoning_content")) if text]


def says(value: Any) -> list[str]:
    """Return the texts that a row may hold for an odd value: a number's digits, the text or texts of a list."""
    if isinstance(value, list):
        return [text for text in value if isinstance(text, str)]
    return [str(value)] if isinstance(value, int | float) and not isinstance(value, bool) else []


def read(name: str) -> set[str]:
    return {*columns_read(tuple(CHAT[name]), {"layout": name}), *layouts()[name].needs}


@pytest.mark.parametrize("name", CHAT)
def test_a_conversation_without_one_key_is_a_reason_or_says_the_same(name: str) -> None:
    row, whole = CHAT[name], chat(CHAT[name], layout=name)
    for place in places(row):
        options = {"layout": name} if layouts()[name].said else {}
        made, key = chat(changed(row, place), **options), place[-1]
        if key in STILL.get(name, {}):
            assert made[0]["kind"] == STILL[name][str(key)] and set(texts(made)) <= set(texts(whole)), place
        elif place[0] in read(name) and key != "model":
            assert isinstance(made, str) and made.partition(": ")[0] in REASONS, (place, made)
        else:
            assert texts(made) == texts(whole), place


@pytest.mark.parametrize("name", CHAT)
def test_a_conversation_with_a_key_of_another_type_is_a_reason_or_says_what_is_there(name: str) -> None:
    row, whole = CHAT[name], texts(chat(CHAT[name], layout=name))
    own = [text for text in json.dumps(row, ensure_ascii=False).split('"') if text]
    for place in places(row):
        for odd in ODD:
            made = chat(changed(row, place, odd), layout=name)
            if isinstance(made, str):
                assert made.partition(": ")[0] in REASONS and place[0] in read(name), (place, odd, made)
                continue
            for text in texts(made):
                said = [one for one in says(odd) if text == one or text.endswith("\n" + one)]
                assert text in whole or text in own or said, (place, odd, text)
            if texts(made) == whole and place[0] in read(name) and odd not in NOTHING:
                is_beside = name.startswith(("ranking", "ultrafeedback", "kto"))  # a score, a name, a verdict
                assert is_beside or place == ("id",), (place, odd)


def test_true_and_false_are_no_text() -> None:
    assert chat({"instruction": "问", "output": False}) == "content: false where text belongs"


@pytest.mark.parametrize("name", [*CHAT, *EXAM])
@pytest.mark.parametrize("form", ["jsonl", "json"])
def test_a_row_that_holds_a_key_twice_cannot_be_read(name: str, form: str, tmp_path: Path) -> None:
    """Whichever of the two values is meant, nobody knows: at any depth, in lines as in an array."""
    row = {**CHAT, **EXAM}[name]
    plain = json.dumps(row, ensure_ascii=False)
    doubled = []
    for place in places(row):
        marked = json.dumps(changed(row, place, "\0"), ensure_ascii=False)
        key = json.dumps(place[-1], ensure_ascii=False)
        assert marked.count(f'{key}: "\\u0000"') == 1
        doubled.append(marked.replace(f'{key}: "\\u0000"', f'{key}: "一", {key}: "二"'))
    rows = [plain, *doubled]
    file = tmp_path / f"a.{form}"
    file.write_text("\n".join(rows) if form == "jsonl" else "[" + ",\n".join(rows) + "]", encoding="utf-8")
    found = list(read_whole(file))
    assert [raw.value for raw in found] == [row] + [None] * len(doubled)
    assert all("twice in one object" in str(raw.error) for raw in found[1:])


def item(row: dict[str, Any]) -> ExamItem | str:
    return read_item(row)


@pytest.mark.parametrize("name", EXAM)
def test_a_question_with_a_key_of_another_type_is_a_reason_or_says_what_is_there(name: str) -> None:
    row, whole = EXAM[name], item(EXAM[name])
    assert isinstance(whole, ExamItem)
    own = [*dict(whole.options).values(), *json.dumps(row, ensure_ascii=False).split('"')]
    for place in places(row):
        for odd in ODD:
            made = item(changed(row, place, odd))
            if isinstance(made, str):
                continue
            assert made.key == whole.key, (place, odd)
            for label, text in made.options:
                assert text in own or text in says(odd), (place, odd)
                assert dict(whole.options).get(label, text) == text or text in says(odd), (place, odd)
            asked = [line for line in made.question.split("\n") if line not in whole.question]
            assert set(asked) <= set(says(odd)), (place, odd)


OPTIONS = ["(A)铁", "(B)木", "(C)铜", "(D)蜡"]


@pytest.mark.parametrize(
    ("options", "key", "reason"),
    [
        (OPTIONS[1:], "B", "bad-field: the options carry the labels B, C, D"),
        (OPTIONS[:1] + OPTIONS[2:], "C", "bad-field: the options carry the labels A, C, D"),
        ([True, "木", "铜"], "A", "bad-field: a bool where a text belongs"),
        ([{"text": "铁", "label": "A"}, {"text": "木", "label": 7}], "A", "not-choice: the options have the labels A, 7"),
        ([{"text": "铁", "label": "A"}, {"text": "木", "label": ["B"]}], "A", "bad-field: a list as an option's label"),
        ([{"text": "铁", "label": True}, {"text": "木", "label": False}], "A", "bad-field: a bool as an option's label"),
        ('{"A": "铁", "B": "木", "A": "铜"}', "A", "bad-field: the key 'A' twice in one object"),
        ("{'A': '铁', 'B': '木', 'A': '铜'}", "A", "bad-field: the key 'A' twice in one object"),
        (["铁", "木"], {"x": 1}, "bad-answer: a dict where a text belongs"),
    ],
)  # fmt: skip
def test_options_and_keys_that_may_mean_another_are_a_reason(options: Any, key: Any, reason: str) -> None:
    assert str(item({"question": "下列能导电的是", "options": options, "answer": key})).startswith(reason)


def test_what_looks_nearly_like_labels_stays_text() -> None:
    for options in (["A. Einstein", "N. Bohr", "E. Fermi"], ["I. x", "II. x", "I and II"], [True, False]):
        made = item({"question": "谁？", "options": options, "answer": "A"})
        assert isinstance(made, ExamItem) and [text for _, text in made.options] == [str(o) for o in options]
    roman = [{"text": t, "label": label} for t, label in (("铁", "I"), ("木", "II"), ("铜", "III"))]
    made = item({"question": "哪个？", "options": roman, "answer": "II"})
    assert isinstance(made, ExamItem) and made.key == "B"


def test_a_key_of_another_type_beside_a_readable_one_is_a_reason() -> None:
    row = {**EXAM["MedQA"], "answer_idx": {"x": 1}}
    assert item(row) == "bad-answer: a dict where a text belongs"
    assert isinstance(item({**row, "answer_idx": None}), ExamItem)
