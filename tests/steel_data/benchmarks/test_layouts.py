"""Every published layout by its miniature: what it becomes, and that no fault of a row makes another item of it."""

import json
from typing import Any

import pytest

from steel_data.benchmarks.item_rows import ExamItem, read_item, read_question
from steel_data.benchmarks.layouts import Layout, layouts, options_inside
from steel_data.builders.exam import exam

REASONS = {
    "columns", "no-question", "not-choice", "placeholder", "no-answer", "bad-answer", "bad-field", "answer-names-no-option",
}  # fmt: skip
ALL = [pytest.param(layout, id=layout.name) for layout in layouts()]


def row_of(layout: Layout) -> dict[str, Any]:
    row: dict[str, Any] = json.loads(layout.row)
    return row


def item_of(row: dict[str, Any]) -> tuple[str, tuple[str, ...], str]:
    item = read_item(row)
    assert isinstance(item, ExamItem), item
    return item.question, tuple([text for _, text in item.options]), item.key


@pytest.mark.parametrize("layout", ALL)
def test_every_miniature_is_built_as_the_table_says(layout: Layout) -> None:
    records = exam(row_of(layout), style="answer-only", preset="plain")
    assert isinstance(records, list), records
    assert [turn["content"] for turn in records[0]["messages"]] == [layout.asks, layout.says]
    assert layout.source.startswith("https://")


@pytest.mark.parametrize("layout", [param for param in ALL if param.values[0].options != "question"])
def test_a_benchmark_asks_the_very_same(layout: Layout) -> None:
    asked = read_question(row_of(layout))
    assert not isinstance(asked, str), asked
    assert (asked.question, asked.options) == item_of(row_of(layout))[:2]


@pytest.mark.parametrize("layout", ALL)
def test_a_key_missing_doubled_or_of_another_type_never_makes_another_item(layout: Layout) -> None:
    """A passage or a last option that is not there leaves no trace, and an empty option is none: left out here."""
    row = row_of(layout)
    base = item_of(row)
    for name, value in row.items():
        option = name.removeprefix("option_").upper() in ("A", "B", "C", "D", "E")
        wrong: list[Any] = [[], {}, [value], [value, value], {"x": value}, *([] if option else [True])]
        changed = [row | {name: other} for other in wrong]
        changed += [row | {name: str(value)}] if isinstance(value, int) else []  # a text is no place
        changed += [{name.swapcase(): "zzz", **row}, {**row, name.swapcase(): "zzz"}]
        if name not in ("passage", "article", "context", "text", "option_d", "D"):
            changed.append({column: kept for column, kept in row.items() if column != name})
            changed += [] if option else [row | {name: other} for other in (None, " ", float("nan"))]
        for other in changed:
            item = read_item(other)
            if isinstance(item, str):
                assert item.split(": ")[0] in REASONS
            else:
                assert item_of(other) == base, other


METALS = {"A": "iron", "B": "tin", "C": "lead"}
OBJECTS = [{"text": text, "label": label} for label, text in METALS.items()]


@pytest.mark.parametrize(
    "options",
    [
        METALS,
        {"a": "iron", "b": "tin", "c": "lead"},
        {"(A)": "iron", "(B)": "tin", "(C)": "lead"},
        dict(reversed(METALS.items())),
        {**METALS, "D": None, "E": None, "note": None},  # a struct of parquet
        list(METALS.values()),
        OBJECTS,
        OBJECTS[::-1],  # labels count, not places
        [{"key": label, "value": text} for label, text in METALS.items()],
        [{label: text} for label, text in METALS.items()],
        {"text": list(METALS.values()), "label": list(METALS)},
        {"text": ["tin", "iron", "lead"], "label": ["B", "A", "C"]},
        json.dumps(METALS),
        str(METALS),
        ["A. iron", "B. tin", "C. lead"],
    ],
)
def test_options_in_every_shape_are_the_same_options(options: Any) -> None:
    assert item_of({"question": "q", "options": options, "answer": "B"}) == ("q", ("iron", "tin", "lead"), "B")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"A": "x", "B": "y", "D": "z"}, "columns: option C is missing"),
        ({"A": "x", "a": "y"}, "not-choice: two options have the label A"),
        ([{"text": "x", "label": "A"}, {"text": "y", "label": None}], "not-choice: an option has no label"),
        ({"right": "x", "wrong": "y"}, "not-choice: the options are no list"),
        ({"1": "x", "3": "y"}, "not-choice: the options have the labels 1, 3"),
        ("x, y", "not-choice: the options are no list"),
        ("[x, y", "not-choice: the options are no list"),
    ],
)
def test_options_that_may_be_others_are_none(options: Any, reason: str) -> None:
    found = read_item({"question": "q", "options": options, "answer": "A"})
    assert isinstance(found, str) and found.startswith(reason)


def test_numbers_are_places_where_the_layout_counts() -> None:
    choices = {"question": "q", "choices": ["1", "2", "3"]}
    assert item_of({**choices, "answer": 1})[2] == item_of({**choices, "answer": [1]})[2] == "B"
    assert read_item({**choices, "answer": 3}) == "answer-names-no-option: 3"  # not the option of that text
    doubt = "bad-answer: 1 is the place of one option (from 0) and the text of another; write the letter"
    assert read_item({**choices, "answer": "1"}) == doubt
    for key in (1, [1]):
        assert read_item({"question": "q", "options": ["1", "2", "3"], "answer": key}) == doubt


def test_keys_that_contradict_each_other_are_both_named() -> None:
    row = {"question": "q", "options": METALS, "answer_idx": "B", "answer": "lead"}
    assert read_item(row) == read_question(row) == "bad-answer: answer_idx says B and answer says C"
    assert item_of(row | {"answer": "tin"})[2] == item_of(row | {"answer_idx": None, "answer": "tin"})[2] == "B"


def test_a_passage_stands_before_the_question_once() -> None:
    row = {"question": "Who mends carts?", "options": METALS, "answer": "A"}
    text = "Ma mends carts."
    for column in ("article", "passage", "context", "material", "Passage", "材料"):
        assert item_of(row | {column: text})[0] == f"{text}\nWho mends carts?"
    for nothing in (None, "", " \n", float("nan"), "无", "N/A"):
        assert item_of(row | {"article": nothing})[0] == "Who mends carts?"
    assert item_of(row | {"article": text, "context": text})[0] == f"{text}\nWho mends carts?"
    assert item_of(row | {"article": text, "question": f"{text}\nWho?"})[0] == f"{text}\nWho?"
    assert item_of(row | {"text": "Read. Who mends carts? A. iron"})[0] == "Who mends carts?"  # the prompt as a whole
    assert read_item(row | {"article": text, "context": "Other."}) == "columns: two passages, in article and context"
    assert read_item(row | {"article": [text]}) == "bad-field: a list where a text belongs"
    assert read_item(row | {"article": "见图"}) == "placeholder: article is '见图'"
    columns: dict[str, str | list[str]] = {"question": "q", "options": "o", "answer": "k", "passage": "p"}
    mapped = read_item({"q": "Who?", "o": ["x", "y"], "k": "A", "p": text}, columns)
    assert isinstance(mapped, ExamItem) and mapped.question == f"{text}\nWho?"


def test_a_free_question_keeps_its_passage() -> None:
    row = {"passage": "六个磨坊。", "question": "几个？", "options": None, "label": None, "answer": "6"}
    asked = read_question(row)
    assert not isinstance(asked, str) and (asked.question, asked.answer) == ("六个磨坊。\n几个？", "6")


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("Choose. \nA. was doing  B. would  do C. had done  D. do\n", ("was doing", "would  do", "had done", "do")),
        ("选（ ）\nA、东\nB、西\nC、南", ("东", "西", "南")),
        ("分为 A、B 两组（ ）\nA．东\nB．西\nC．南", ("东", "西", "南")),
        ("1. 一\nA. x B. y C. z\n2. 二\nA. u B. v C. w", None),  # two questions
        ("A. x\nB. y\nD. z", None),
        ("选\nA. x\nB. y\nC. z\n根据上文再答。", None),  # what follows is no option
        ("6*7?", None),
    ],
)
def test_options_inside_the_question(text: str, taken: tuple[str, ...] | None) -> None:
    found = options_inside(text)
    assert (found and tuple([option for _, option in found[1]])) == taken
    assert found is None or found[0] == text[: len(found[0])]


def test_a_row_whose_options_are_nowhere_says_what_it_has() -> None:
    assert read_item({"question": "6*7?", "answer": "42"}) == (
        "columns: no column of options is known and none stand in the question; the row has question, answer"
    )


@pytest.mark.parametrize(
    ("names", "key", "texts", "letter"),
    [
        (["choice0", "choice1", "choice2"], 0, ["铁", "铜", "金"], "A"),
        (["choice0", "choice1", "choice2"], "2", ["铁", "铜", "金"], "C"),
        (["option1", "option2", "option3"], 1, ["铁", "铜", "金"], "A"),  # the number is the column's, from 0 or from 1
        (["option1", "option2", "option3"], 3, ["铁", "铜", "金"], "C"),
        (["option1", "option2", "option3"], 0, ["铁", "铜", "金"], ""),  # no column has it
        (["option1", "option2", "option3"], 1, ["3", "1", "2"], "B"),  # an option's text
        (["one", "two", "three"], 1, ["铁", "铜", "金"], ""),
    ],
)
def test_a_number_as_key_is_the_column_that_ends_in_it(names, key, texts, letter):
    row = {"q": "哪个最硬", "k": key, **dict(zip(names, texts, strict=True))}
    found = read_item(row, {"question": "q", "options": names, "answer": "k"})
    assert (found.key if isinstance(found, ExamItem) else "") == letter
