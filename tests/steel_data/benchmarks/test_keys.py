"""Keys as people write them: letters, or a reason; never other letters than the ones that are meant."""

from typing import Any

import pytest

from steel_data.benchmarks.keys import NO_TEXT, bare, read_key

METALS = (("A", "铁"), ("B", "铜"), ("C", "铝"), ("D", "锡"))


@pytest.mark.parametrize(
    ("letters", "written"),
    [
        ("A", ["A", "a", "Ａ", " A\n", "(A)", "（Ａ）", "A。", "Ⓐ", "A\u200b", "<p>A</p>", "<b>A</b><br/>", "A&nbsp;", "$\\text{A}$"]),
        ("A", ["【答案】A", "【答案】 A", "答案：A", "答案:（A）", "答案是A", "正确答案为 A。", "选A", "应选A", "故选A", "故选：A。", "因此选择A", "A项", "选项A"]),
        ("A", ["Answer: A", "The answer is (A).", "the correct option is A", "Option A"]),
        ("A", ["A.铁", "A．铁", "A、铁", "A：铁", "A 铁", "A铁", "(A) 铁", "A. 铁。", "答案：A.铁", "<p>A.铁</p>", "铁", "答案：铁", "A.铁，A"[:3]]),
        ("AC", ["AC", "ac", "ＡＣ", "A,C", "A，C。", "A、C", "A;C", "A；C", "A+C", "A＋C", "A和C", "A与C", "A and C", "A&amp;C", "A C", "A\nC"]),
        ("AC", ["(A)(C)", '["A","C"]', "['A', 'C']", '[\\"A\\",\\"C\\"]', "故选AC", "A.铁;C.铝", "A.铁C.铝", "A项和C项", "<p>A</p><p>C</p>"]),
        ("AC", [["A", "C"], ["A.铁", "C"], ["A", "。", "C"], ["铁", "铝"]]),
        ("CA", ["CA", "C、A", ["C", "A"]]),
        ("ADA", ["ADA"]),
    ],
)  # fmt: skip
def test_a_key_in_every_form_is_its_letters(letters: str, written: list[Any]) -> None:
    assert {str(value): read_key(value, METALS) for value in written} == {
        str(value): (letters, "") for value in written
    }


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("", "no-answer"),
        ("略", "no-answer"),
        ("答案：略", "no-answer"),
        ("<p></p>", "no-answer"),
        ("【答案】", "no-answer"),
        ([], "no-answer"),
        ("E", "answer-names-no-option: E"),
        ("答案：E", "answer-names-no-option: E"),
        ("AE", "answer-names-no-option: AE"),
        ("A.铜", "bad-answer: A.铜 names A and has the text of B"),
        ("A.铁块", "bad-answer: A.铁块"),
        ("A.铁 C.铜", "bad-answer: A.铁 C.铜 names AC and has the text of B"),
        ("不选A", "bad-answer: 不选A"),
        ("答案不是A", "bad-answer: 答案不是A"),
        ("A或C", "bad-answer: A或C"),
        ("A or C", "bad-answer: A or C"),
        ("A-C", "bad-answer: A-C may be two options or all between them"),
        ("A~C", "bad-answer: A~C"),
        ("bad", "bad-answer: bad"),  # a word, though its letters are options
        ("pap", "bad-answer: pap"),
        ("Add", "bad-answer: Add"),
        (["A", "A"], "bad-answer: the list names A twice"),
        (["A", None], "bad-answer: a list of other things than texts"),
        ({"A": 1}, "bad-answer: a dict where a text belongs"),
        (True, "bad-answer: True"),
        (1, "bad-answer: 1"),
    ],
)
def test_what_is_no_key_says_why(written: Any, reason: str) -> None:
    assert read_key(written, METALS) == ("", reason)


def test_an_options_text_of_letters_may_not_pass_for_letters() -> None:
    elements = (("A", "C"), ("B", "H"), ("C", "O"), ("D", "N"))
    assert read_key("A,C", elements) == ("AC", "")
    assert read_key("B. H", elements) == ("B", "")
    assert read_key("A.C", elements) == ("", "bad-answer: A.C may be letters or a letter with its option's text")


def test_own_labels_count_before_ours() -> None:
    assert read_key("2", METALS[:2], {"1": "A", "2": "B"}) == ("B", "")
    assert read_key("1, 2", METALS[:2], {"1": "A", "2": "B"}) == ("AB", "")
    assert read_key("G", METALS[:2], {"F": "A", "G": "B"}) == ("B", "")
    assert read_key("A", METALS[:2], {"F": "A", "G": "B"}) == ("", "answer-names-no-option: A")  # F is the first


def test_words_for_true_and_false_need_two_such_options() -> None:
    pair = (("A", "正确"), ("B", "错误"))
    assert [read_key(word, pair)[0] for word in ("×", "答案：错", True, "F")] == ["B", "B", "A", "B"]
    assert read_key("×", METALS) == ("", "bad-answer: ×")


def test_a_long_key_is_read_in_no_time() -> None:
    for text in ("答案" + " " * 50_000 + "x", "[" * 50_000, "故" * 50_000, "A," * 50_000 + "x", "<p" * 20_000):
        assert read_key(text, METALS)[0] == ""


def test_placeholder_words_are_in_the_form_they_are_looked_up_in() -> None:
    assert all(bare(word) == word for word in NO_TEXT)
