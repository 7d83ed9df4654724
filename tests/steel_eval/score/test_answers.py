"""The extractor against answers labelled before it was written; the frozen half gives the reported figures."""

import json
import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steel_eval.score.answers import extract

SETS = {
    file.stem: [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    for file in sorted((Path(__file__).parent / "answers").glob("*.jsonl"))
}
LABELLED = [row for rows in SETS.values() for row in rows]


def read(row) -> str:
    found = extract(row["text"], row["options"], row["finished"])
    return found.letter or found.outcome


@pytest.mark.parametrize("row", [r for r in LABELLED if r["half"] == "open"], ids=lambda r: r["text"][:20])
def test_open_half(row):
    assert read(row) == row["want"]


def figures(rows) -> tuple[float, float, float]:
    """Precision and recall of letters, and the share of all outcomes that is right."""
    said = [(read(r), r["want"]) for r in rows]
    letters = [(a, b) for a, b in said if a in "ABCD"]
    wanted = [(a, b) for a, b in said if b in "ABCD"]
    return (
        sum(a == b for a, b in letters) / len(letters),
        sum(a == b for a, b in wanted) / len(wanted),
        sum(a == b for a, b in said) / len(said),
    )


@pytest.mark.parametrize("name", SETS)
def test_frozen_half_keeps_the_reported_figures(name):
    precision, recall, outcomes = figures([r for r in SETS[name] if r["half"] == "frozen"])
    assert precision >= 0.98
    assert recall >= 0.95
    assert outcomes >= 0.96


def test_the_sets_are_large_and_half_of_each_frozen():
    for rows in SETS.values():
        assert len(rows) >= 200
        assert sum(r["half"] == "frozen" for r in rows) == len(rows) / 2


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("C。因为题干中强调的是时间顺序，只有这一项符合。", "answer-first"),
        ("题干中强调的是时间顺序，只有一项符合，故选C。", "explain-first"),
        ("答案：C", "answer-only"),
    ],
)
def test_what_came_first(text, order):
    assert extract(text).order == order


def test_known_faults_of_other_harnesses():
    """OpenCompass: 故选A missed for want of a comma, 只有B不正确 read as B's being right; Let's think read as L."""
    assert extract("故选A").letter == "A"
    assert extract("Let's think").outcome == "ambiguous"
    assert (extract("").outcome, extract("").letter) == ("empty", None)  # Steel-LLM's script fails on an empty answer


def test_more_options_are_known_only_where_they_exist():
    assert extract("答案：E", n_options=5).letter == "E"
    assert extract("答案：E", n_options=4).outcome == "ambiguous"


@given(st.text(max_size=200), st.booleans())
def test_any_text_gives_one_outcome_and_never_an_error(text, finished):
    found = extract(text, ("甲", "乙"), finished)
    assert (found.outcome == "letter") == (found.letter in {*"ABCD"})
    assert found.rule


@given(st.sampled_from("ABCD"), st.sampled_from(["答案是{}", "故选{}。", "{}", "正确答案：{}", "（{}）"]))
def test_every_letter_is_read_alike(letter, form):
    assert extract(form.format(letter)).letter == letter


@pytest.mark.parametrize("letter", "ABCD")
@pytest.mark.parametrize(
    "form",
    [
        "不选{}", "答案不是{}", "{}错误", "排除{}", "{} is wrong", "The answer is not {}.", "不应选{}。", "{}项不正确",
        "答案不可能是{}", "It cannot be {}.", "如果选{}", "除了{}", "{}、不符合题意", "{}: false",
    ],
)  # fmt: skip
def test_what_is_denied_is_no_answer(form, letter):
    assert extract(form.format(letter)).letter is None
    other = "ABCD"[("ABCD".index(letter) + 1) % 4]
    assert extract(f"{form.format(letter)}。所以答案是{other}。").letter == other


@pytest.mark.parametrize("tag", ["think", "thinking", "thought", "reasoning"])
def test_what_is_thought_is_not_said(tag):
    assert extract(f"<{tag}>先看A，答案是A吧</{tag}>\n答案是C").letter == "C"
    assert extract(f"先看A，答案是A吧</{tag}>\n答案是C").letter == "C"  # the template had opened it
    assert extract(f"<{tag}>答案是A").outcome == "truncated"
    assert extract(f"<{tag}>答案是A</{tag}>").outcome == "empty"


@pytest.mark.parametrize(
    "piece",
    ["A ", "选A或", "如果选A，", "<think>", "\n", "A.x\nB.y\n", "\\boxed{", "答案是", "不", "【答案】", "A错误", "<a"],
)
def test_time_is_linear(piece):
    """100,000 characters of `A A A` took over a minute."""
    text = piece * (20_000 // len(piece))
    began = time.process_time()
    extract(text + "A")
    once = time.process_time() - began
    began = time.process_time()
    extract(text * 4 + "A")
    assert time.process_time() - began < 12 * once + 0.5


SAYS = [
    "A", "B ", "c", "选", "选择", "答案", "是", "为", "：", "\n", " ", "不", "如果", "，", "。", "(", "**", "\\boxed{", "}", "option ", "The answer is ",
    "is wrong", "当选", "正确", "错误", "的一项", "第一项", "而是", "</think>", "<think>", "A.x\nB.y\nC.z\n", "A.甲 B.乙 C.丙\n", "其实", "我觉得",
]  # fmt: skip


@given(st.lists(st.sampled_from(SAYS), min_size=1, max_size=7), st.lists(st.sampled_from(SAYS), max_size=3))
@settings(max_examples=60, deadline=None)
def test_whatever_is_repeated_takes_linear_time(piece, before):
    """A list of options, said 200 times after 选, took three seconds; 400 times half a minute."""
    text = "".join(before) + "".join(piece) * 250
    began = time.process_time()
    extract(text, ("甲", "乙"))
    assert time.process_time() - began < 1.5, len(text)


@given(st.lists(st.sampled_from(SAYS), max_size=9))
def test_what_was_read_is_read_again(pieces):
    """The letter alone, and the answer in the words of an answer, are that letter."""
    if letter := extract("".join(pieces)).letter:
        assert extract(letter).letter == extract(f"答案是{letter}").letter == letter


AGAINST = """我不认为选C|我不同意答案是A|不建议选A|避免选A|拒绝选A|岂能选A|何来选A一说|难道选B吗？|答案是A吗？|答案怎么可能是B|A以外都可以|没有选项是A
A这个选项有问题|B是干扰项|B并不正确|D应当排除|A与题意不符|A项与史实不符|A不应该选|A太绝对|A项说法过于绝对，不选|A是假的|A为假命题|A（×）|答案：A（错误）|选A会被扣分
I don't think it's A|I doubt the answer is C|Is the answer A?|Avoid option B|Anything but C|the wrong answer is A|B must be wrong|D does not fit|<THINK>A</THINK>"""
FOR = """B:不可能是A，只能是B|A:答案无疑是A|C:无非就是C|A:我认为就是A吧|B:毫无疑问，B！|C:没错，选C|B:答案是A？不，答案是B。|B:我选A，不，应该选B|C:别犹豫，选C
C:【答案】C【解析】选A的同学忽略了条件，B不对。|D:题目问不正确的，所以选D|A:选A的原因是它最符合题意|C:I'm sure it's C|B:<THINK>A</THINK>\nB"""


@pytest.mark.parametrize("text", re.split(r"[|\n]", AGAINST))
def test_what_speaks_against_an_option_or_asks_is_no_letter(text):
    """A short text with one letter in it was taken for that letter, whatever it said of it."""
    assert extract(text).letter is None


@pytest.mark.parametrize("text", re.split(r"\||\n(?=[A-D]:)", FOR))
def test_words_of_doubt_that_affirm_are_no_denial(text):
    letter, _, said = text.partition(":")
    assert extract(said).letter == letter
