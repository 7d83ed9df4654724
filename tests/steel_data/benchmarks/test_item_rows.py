"""Questions as benchmarks ask them: every form of options and key, and what is refused because it may mean two things.

What the exam builder takes from the same rows stands in tests/steel_data/builders/test_exam.py.
"""

from typing import Any

import pytest

from steel_data.benchmarks.item_rows import Question, read_item, read_question

WANTED = Question("1+1=？", ("1", "2", "3", "4"), "B", "")
LETTERS = {"A": "1", "B": "2", "C": "3", "D": "4"}
TEXTS = list(LETTERS.values())


@pytest.mark.parametrize(
    "row",
    [
        {"": "0", "Question": "1+1=？", **LETTERS, "Answer": " b"},
        {" QUESTION ": "1+1=？", **{k.lower(): v for k, v in LETTERS.items()}, "ANSWER": "B"},
        {"question": "1+1=？", "choices": TEXTS, "answer": 1},
        {"question": "1+1=？", "options": TEXTS, "answer": "2"},
        {"question": "1+1=？", "options": LETTERS, "answer": "B"},
        {"question": "1+1=？", "options": {**LETTERS, "E": None, "F": " "}, "answer": "B"},
        {"question": "1+1=？", "options": dict(reversed(LETTERS.items())), "answer": "（B）"},
        {"question": "1+1=？", "options": {"text": TEXTS, "label": list("ABCD")}, "answer": "B"},
        {"question": "1+1=？", "options": [{"label": k, "text": v} for k, v in LETTERS.items()], "answer": "B"},
        {"question": "1+1=？", "choices": [{"text": t} for t in TEXTS], "answer": 1.0},
        {"question": "1+1=？", "choices": {"text": TEXTS, "label": ["1", "2", "3", "4"]}, "answerKey": "2"},
        {"question": "1+1=？", "options": [1, 2, 3, 4], "answer": "B"},
        {"question": "1+1=？", "options": [*TEXTS, None, ""], "answer": "B"},
        {"query": "1+1=？", "options": TEXTS, "correct_option": 1},
        {"q_main": "1+1=？", **{f"option_{k.lower()}": v for k, v in LETTERS.items()}, "std_ans": "", "answer": "B"},
    ],
)
def test_every_layout_is_one_question(row: dict[str, Any]) -> None:
    assert read_question(row) == WANTED


@pytest.mark.parametrize(
    ("options", "answer", "letter"),
    [
        (["甲", "乙", "丙"], 2, "C"),  # an index from 0
        (["10", "20", "30"], 2, "C"),  # 2 is no option's text
        ([5, 6, 7], 6, "B"),  # a text: there is no seventh option
        (["0", "1", "2"], 1, "B"),  # both meanings are the same option
        (["1", "2", "3"], 1, None),
        ([3, 2, 0], 0, None),
        (["1", "2", "3"], "1", "A"),  # a text is never an index
        (["甲", "乙"], "0", "0"),  # nor here: from 0 or from 1, nobody knows
        (["甲", "乙"], True, "True"),
    ],
)
def test_a_number_is_an_index_only_where_it_cannot_be_an_options_text(
    options: list[Any], answer: Any, letter: str | None
) -> None:
    found = read_question({"question": "q", "options": options, "answer": answer})
    if letter is None:
        assert isinstance(found, str) and found.startswith(f"bad-answer: {answer} is the place of one option")
    else:
        assert isinstance(found, Question) and found.answer == letter
    # MMLU's own layout counts from 0, whatever its options say; and so does the exam builder
    if isinstance(answer, int) and not isinstance(answer, bool) and answer < len(options):
        mmlu = read_question({"question": "q", "choices": options, "answer": answer})
        assert isinstance(mmlu, Question) and mmlu.answer == "ABC"[answer]


def test_a_key_that_is_no_single_option_stays_as_it_is_written() -> None:
    def answer(key: Any) -> str:
        found = read_question({"question": "q", "options": ["none", "add", "y"], "answer": key})
        assert isinstance(found, Question)
        return found.answer

    assert [answer(k) for k in ("none", "C", "E", "AB", "bca", None, "", ["B"], "以上皆非")] == [
        "A", "C", "E", "AB", "bca", "", "", "B", "以上皆非",
    ]  # fmt: skip


def test_null_and_empty_options_are_absent_and_one_between_others_keeps_its_place() -> None:
    for empty in (None, "", " ", float("nan")):
        found = read_question({"question": "q", "A": "x", "B": "y", "C": empty, "D": empty, "answer": "A"})
        assert isinstance(found, Question) and found.options == ("x", "y")
    found = read_question({"question": "q", "A": "x", "B": None, "C": "z", "answer": "C"})
    assert isinstance(found, Question) and (found.options, found.answer) == (("x", "", "z"), "C")


def test_free_answers_are_json_only() -> None:
    row = {"question": "6*7?", "answer": 42, "options": None}
    assert read_question(row) == Question("6*7?", (), "42", "")
    assert read_question({"question": "6*7?", "answer": " 42"}) == Question("6*7?", (), " 42", "")
    assert isinstance(read_question({"question": "6*7?", "answer": "42"}, free=False), str)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (
            {"question": "q", "A": "x", "B": "y", "D": "z", "answer": "A"},
            "column C is missing; the row has question, A",
        ),
        ({"question": "q", "B": "x", "C": "y", "answer": "B"}, "column A is missing"),
        ({"question": "q", "A": "x", "answer": "A"}, "column B is missing"),
        ({"question": None, "options": ["x", "y"], "answer": "A"}, "no-question"),
        ({"frage": "q", "options": ["x", "y"]}, "columns: no exam layout fits; the row has frage, options"),
        ({"question": "q", "options": "x, y"}, "not-choice: the options are no list"),
        ({"question": ["q"], "options": ["x", "y"]}, "bad-field: a list where a text belongs"),
        ({"question": "q", "options": [["x"], "y"]}, "bad-field: a list where a text belongs"),
    ],
)
def test_what_is_no_question_says_why(row: dict[str, Any], reason: str) -> None:
    found = read_question(row)
    assert isinstance(found, str) and found.startswith(reason)


def test_the_exam_builder_reads_options_as_an_object_too() -> None:
    item = read_item({"question": "q", "options": {"B": "y", "A": "x", "D": "z", "C": None}, "answer": "D"})
    assert not isinstance(item, str)
    assert (item.options, item.key, item.notes) == ((("A", "x"), ("B", "y"), ("D", "z")), "D", ("option-gap",))


@pytest.mark.parametrize(
    "mark", ["A.{}", "A．{}", "A、{}", "A: {}", "(A) {}", "（A）{}", "A){}", "【A】{}", "a. {}", " A. {}"]
)
def test_a_label_that_every_option_carries_is_taken_off_once(mark: str) -> None:
    texts = {"A": "铁 ", "B": "铜", "C": "B族钢"}
    row = {"question": "q", "answer": "A.铁"}
    carried = {
        label: mark.replace("A", label).replace("a", label.lower()).format(text) for label, text in texts.items()
    }
    for options in (carried, list(carried.values())):
        item = read_item({**row, "options": options})
        assert not isinstance(item, str)
        assert (item.options, item.key) == (tuple(texts.items()), "A")  # else every character stays
        assert item.notes == ("labels-inside", "key-rewritten")
        asked = read_question({**row, "options": options})
        assert not isinstance(asked, str) and asked.options == tuple(texts.values())


@pytest.mark.parametrize(
    "options",
    [
        ["A.铁", "铜", "C.铝"],
        ["A.", "B.", "C."],  # letters in a figure
        ["A、B", "B、C", "C、A"],  # pairs of letters
        ["A点", "B点", "C点"],
        ["A 的质量大", "B 的质量大", "C 的质量大"],
        ["A. x", "B. x", "C. x"],
        ["1.5", "2.5", "3.5"],
        ["A.M.", "P.M.", "noon"],
    ],
)
def test_what_may_be_the_options_own_text_stays(options: list[str]) -> None:
    item = read_item({"question": "q", "options": options, "answer": "B"})
    assert not isinstance(item, str)
    assert ([text for _, text in item.options], item.key, item.notes) == (options, "B", ())


def test_labels_in_a_list_count_in_any_order_and_those_of_other_options_are_a_fault() -> None:
    """Exams that were printed in two columns were copied line by line: A, C, B, D. The key names the printed label."""
    row = {"question": "q", "options": ["(A)iron", "(C)tin", "(B)lead", "(D)wax"], "answer": "B"}
    item, asked = read_item(row), read_question(row)
    assert not isinstance(item, str) and not isinstance(asked, str)
    assert dict(item.options)[item.key] == "lead" and item.notes == ("labels-inside",)
    assert (asked.options, asked.answer) == (("iron", "lead", "tin", "wax"), "B")
    assert read_item({**row, "answer": 1}) == "bad-field: option B carries the label C"  # a place, or a label's?
    columns = {"question": "q", "A": "B.铜", "B": "A.铁", "C": "C.铝", "answer": "A"}
    assert read_item(columns) == read_question(columns) == "bad-field: option A carries the label B"


def test_one_option_that_has_lost_its_label_is_no_doubt_where_three_others_have_theirs() -> None:
    row = {"question": "q", "options": ["(A)iron", "tin", "(C)lead", "(D)wax"], "answer": "C"}
    item = read_item(row)
    assert not isinstance(item, str) and [text for _, text in item.options] == ["iron", "tin", "lead", "wax"]


def test_letters_of_a_layout_whose_keys_are_sets_stand_in_order() -> None:
    row: dict[str, Any] = {"statement": "q", "option_list": LETTERS}
    for key in (["C", "A"], "CA", "C、A"):
        item = read_item({**row, "answer": key})
        assert not isinstance(item, str) and (item.key, item.form) == ("AC", "several")
    assert read_item({**row, "answer": "ADA"}) == "bad-answer: ADA names an option twice"
    item = read_item({"q_main": "q", "option_a": "x", "option_b": "y", "std_ans": "BA"})  # WanJuan: two sub-questions
    assert not isinstance(item, str) and (item.key, item.form) == ("BA", "sequence")


def test_a_question_without_words_and_a_key_of_two_options_are_refused() -> None:
    """The first of two equal options was taken for the key, and an empty question was asked."""
    equal = {"question": "q", "options": ["x", "x", "y"]}
    assert read_question(equal | {"answer": "x"}) == "bad-answer: 'x' is the text of two options"
    assert read_question(equal | {"answer": "y"}) == Question("q", ("x", "x", "y"), "C", "")
    assert read_question(equal | {"answer": "B"}) == Question("q", ("x", "x", "y"), "B", "")
    assert read_question(equal | {"question": " \n", "answer": "B"}) == "no-question: its text is empty"
