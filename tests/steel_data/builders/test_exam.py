"""The exam builder: the Steel-LLM formats byte for byte, every odd case by name, and the laws."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steel_data.benchmarks.item_rows import NO_OPTION
from steel_data.builders.exam import STYLES, exam, load_wording
from steel_data.errors import InputError


def wanjuan(**fields: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": "x1",
        "q_type": "单选题",
        "q_main": "钢的主要成分是（ ）",
        "option_a": "铁",
        "option_b": "铜",
        "option_c": "铝",
        "option_d": "锌",
        "option_e": "",
        "std_ans": "A",
        "answer": "",
        "answer_detail": "钢是铁碳合金，以铁为主。\n故选：A。",
        "grade": "高中",
        "major": "化学",
        "keypoint": None,
    }
    return row | fields


def written(row: dict[str, Any], **options: Any) -> tuple[str, str, list[str]]:
    records = exam(row, **options)
    assert isinstance(records, list), records
    (record,) = records
    assert record["kind"] == "exam"
    user, assistant = record["messages"]
    assert (user["role"], assistant["role"]) == ("user", "assistant")
    return user["content"], assistant["content"], record["note"].split(",") if "note" in record else []


def reason(row: Any, **options: Any) -> str:
    out = exam(row, **options)
    assert isinstance(out, str), out
    return out


OPTIONS = "钢的主要成分是（ ）\nA. 铁\nB. 铜\nC. 铝\nD. 锌\n"


@pytest.mark.parametrize(
    ("style", "user", "assistant"),
    [
        (
            "answer-first",
            f"以下是一道单选题:\n{OPTIONS}请给出答案。\n",
            "A。钢是铁碳合金，以铁为主。\n故选：A。",
        ),
        (
            "explain-first",
            f"以下是一道单选题:\n{OPTIONS}请先给出解释再给出答案。\n",
            "钢是铁碳合金，以铁为主。\n答案为A",
        ),
        ("answer-only", f"以下是一道单选题:\n{OPTIONS}请给出答案。\n", "A。"),
    ],
)
def test_steel_formats_byte_for_byte(style: Any, user: str, assistant: str) -> None:
    assert written(wanjuan(), style=style) == (user, assistant, [])


def test_steel_keeps_stray_blanks_and_newlines() -> None:
    row = wanjuan(q_main=" 题\n", option_a="铁 \n", q_type="多选题 ", answer_detail="\n理由 \n故选 A")
    user, assistant, _ = written(row, style="explain-first")
    assert user == "以下是一道多选题 :\n 题\n\nA. 铁 \n\nB. 铜\nC. 铝\nD. 锌\n请先给出解释再给出答案。\n"
    assert assistant == "\n理由 \n答案为A"
    user, assistant, _ = written(row)
    assert user.startswith("以下是一道单选题:\n 题\n\nA. 铁 \n\nB.")  # answer-first says 单选题 whatever the item is
    assert assistant == "A。\n理由 \n故选 A"


def test_explain_first_appends_where_there_is_nothing_to_cut() -> None:
    assert written(wanjuan(answer_detail="以铁为主。"), style="explain-first")[1] == "以铁为主。答案为A"


def test_explain_first_cuts_from_the_first_conclusion_and_notes_lost_reasoning() -> None:
    detail = "甲。故选项B错误，" + "因为铜不是钢的主要成分" * 5 + "。故选：A。"
    _, assistant, notes = written(wanjuan(answer_detail=detail), style="explain-first")
    assert assistant == "甲。答案为A"
    assert notes == ["cut-midway"]
    _, plain, notes = written(wanjuan(answer_detail=detail), style="explain-first", preset="plain")
    assert plain.startswith("甲。故选项B错误") and plain.endswith("\n答案：A") and notes == []


@pytest.mark.parametrize(
    ("fields", "start", "notes"),
    [
        ({"option_e": "锡", "std_ans": "E"}, "E。", ["option-e"]),
        ({"option_e": "锡", "option_f": "铅", "std_ans": "F"}, "F。", ["option-e"]),
        ({"option_b": " \n", "std_ans": "C"}, "C。", ["option-gap"]),
        ({"option_c": None, "option_d": float("nan")}, "A。", []),
        ({"std_ans": "AC"}, "AC。", ["several-answers"]),
        ({"std_ans": "A,C"}, "AC。", ["several-answers", "key-rewritten"]),
        ({"std_ans": "A、C"}, "AC。", ["several-answers", "key-rewritten"]),
        ({"std_ans": "ＡＣ"}, "AC。", ["several-answers", "key-rewritten"]),
        ({"std_ans": "ac"}, "AC。", ["several-answers", "key-rewritten"]),
        ({"std_ans": ["A", "C"]}, "AC。", ["several-answers", "key-rewritten"]),
        ({"std_ans": "（A）"}, "A。", ["key-rewritten"]),
        ({"std_ans": " A\n"}, "A。", []),
        ({"std_ans": "ADA"}, "ADA。", ["sequence"]),
        ({"std_ans": "CA"}, "CA。", ["sequence"]),
        ({"std_ans": "AA"}, "AA。", ["sequence"]),
        ({"std_ans": "铜"}, "B。", ["key-rewritten"]),
        ({"std_ans": "", "answer": "B"}, "B。", ["key-in-answer"]),
        ({"std_ans": None, "answer": "B"}, "B。", ["key-in-answer"]),
        ({"std_ans": "略", "answer": "B"}, "B。", ["key-in-answer"]),
        ({"std_ans": "F", "answer": "B"}, "B。", ["key-in-answer"]),
        ({"std_ans": "C", "answer": "C"}, "C。", []),
        ({"option_a": 3, "option_b": 2.5, "option_c": 0, "std_ans": "2.5"}, "B。", ["key-rewritten"]),
        ({"option_a": "BAD", "option_b": "GOOD", "std_ans": "BAD"}, "A。", ["key-rewritten"]),
        ({"option_a": "有", "option_b": "无", "option_c": "", "option_d": "", "std_ans": "B"}, "B。", []),
        ({"q_main": 2024}, "A。", []),
        ({"answer_detail": "故选：A"}, "A。故选：A", ["only-conclusion"]),
        ({"answer_detail": "$$\\text{A}$$"}, "A。$$\\text{A}$$", ["only-conclusion"]),
    ],
)
def test_odd_rows_kept(fields: dict[str, Any], start: str, notes: list[str]) -> None:
    _, assistant, found = written(wanjuan(**fields))
    assert assistant.startswith(start)
    assert found == notes


@pytest.mark.parametrize("pair", [("正确", "错误"), ("对", "错"), ("√", "×"), ("对", "不对"), ("True", "False")])
@pytest.mark.parametrize(
    ("word", "letter"), [("B", "B"), ("错", "B"), ("×", "B"), ("正确", "A"), ("√", "A"), (True, "A")]
)
def test_true_false_items(pair: tuple[str, str], word: Any, letter: str) -> None:
    row = wanjuan(option_a=pair[0], option_b=pair[1], option_c="", option_d="", std_ans=word, q_type="")
    _, assistant, notes = written(row, style="answer-only")
    assert assistant == f"{letter}。"
    assert "true-false" in notes
    assert written(row, style="explain-first")[0].startswith("以下是一道判断题:\n")


@pytest.mark.parametrize(
    ("key", "word"), [("A", "单选题"), ("AB", "多选题"), ("BAA", "选择题")], ids=["single", "several", "sequence"]
)
def test_missing_type_is_supplied_where_it_is_written(key: str, word: str) -> None:
    for kind in ("", None, " "):
        user, _, notes = written(wanjuan(q_type=kind, std_ans=key), style="explain-first")
        assert user.startswith(f"以下是一道{word}:\n") and "type-supplied" in notes
        assert "type-supplied" not in written(wanjuan(q_type=kind, std_ans=key))[2]


@pytest.mark.parametrize(("key", "word"), [("AC", "多选题"), ("BAA", "选择题")])
def test_a_question_of_several_letters_is_worded_as_the_post_does_or_called_what_it_is_or_dropped(
    key: str, word: str
) -> None:
    row = wanjuan(std_ans=key)  # whose own q_type says 单选题
    for style in ("answer-first", "answer-only", "explain-first"):
        user, answer, notes = written(row, style=style)
        assert user.startswith("以下是一道单选题:\n")
        named = written(row, style=style, several="named")
        assert named == (user.replace("单选题", word, 1), answer, notes)
        assert str(exam(row, style=style, several="drop")) == f"several-answers: {key}"
    assert written(wanjuan(std_ans=key, q_type="不定项"), style="explain-first", several="named")[0][5:8] == "不定项"
    for several in ("named", "drop"):  # one letter: byte for byte the same
        assert exam(wanjuan(), several=several) == exam(wanjuan())
    assert exam(row, preset="plain", several="named") == exam(row, preset="plain")  # names no type
    with pytest.raises(InputError, match=r"build\.several: unknown word 'name'\. Did you mean 'named'"):
        exam(row, several="name")  # type: ignore[arg-type]


@pytest.mark.parametrize("missing", ["", None, float("nan"), " \n"])
def test_missing_explanation(missing: Any) -> None:
    row = wanjuan(answer_detail=missing)
    assert written(row)[1:] == ("A。", ["no-explanation"])
    assert written(row, style="answer-only")[1:] == ("A。", [])
    assert written(row, preset="plain")[1:] == ("A", ["no-explanation"])  # no dangling line
    assert reason(row, style="explain-first").split(": ")[0] == "no-explanation"


@pytest.mark.parametrize(
    "text", ["略", "略．", "（略）", "无", "暂无", "见解析", "N/A", "N\\A", "答案请写在答题卡上", " 无 。"]
)
def test_placeholder_explanation_is_no_explanation(text: str) -> None:
    row = wanjuan(answer_detail=text)
    assert written(row)[1:] == ("A。", ["placeholder-explanation"])
    assert reason(row, style="explain-first").split(": ")[0] == "no-explanation"


@pytest.mark.parametrize(
    "text",
    [
        "故选：A",
        "故选A。",
        "解：故选：A",
        "【解答】故选A",
        "  \n故选：A，其余不必看",
        "A",
        "$$\\rm A$$",
        "解：略．故选A",
    ],
)
def test_explain_first_needs_more_than_a_conclusion(text: str) -> None:
    assert reason(wanjuan(answer_detail=text), style="explain-first").split(": ")[0] == "no-explanation"


@pytest.mark.parametrize("text", ["用向量法.", "8个", "甲姓黄，乙姓张。", "无数个。"])
def test_a_short_explanation_is_one(text: str) -> None:
    assert written(wanjuan(answer_detail=text), style="explain-first")[1] == f"{text}答案为A"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"option_a": "", "option_b": "", "option_c": "", "option_d": ""}, "not-choice: 0 option(s)"),
        ({"option_b": "", "option_c": None, "option_d": " "}, "not-choice: 1 option(s)"),
        ({"q_main": " "}, "no-question"),
        ({"q_main": None}, "no-question"),
        ({"std_ans": ""}, "no-answer"),
        ({"std_ans": "略", "answer": "见解析"}, "no-answer"),
        ({"std_ans": None, "answer": float("nan")}, "no-answer"),
        ({"std_ans": "F"}, "answer-names-no-option: F"),
        ({"std_ans": "E"}, "answer-names-no-option: E"),
        ({"std_ans": "AE"}, "answer-names-no-option: AE"),
        ({"std_ans": "大约三成"}, "bad-answer: 大约三成"),
        ({"std_ans": 3}, "bad-answer: 3"),
        ({"std_ans": "C", "answer": "B"}, "bad-answer: std_ans says C and answer says B"),
        ({"std_ans": {"a": 1}}, "bad-answer: a dict where a text belongs"),
        ({"std_ans": "正确"}, "bad-answer: 正确"),
        ({"option_c": "略"}, "placeholder: option C is '略'"),
        ({"option_a": "见图．"}, "placeholder: option A is '见图．'"),
        ({"q_main": ["a"]}, "bad-field: a list where a text belongs"),
        ({"option_b": {"text": "x"}}, "bad-field: a dict where a text belongs"),
    ],
)
def test_rows_that_make_no_record(fields: dict[str, Any], expected: str) -> None:
    assert reason(wanjuan(**fields)) == expected


def test_a_reason_stays_on_one_line() -> None:
    assert "\n" not in reason(wanjuan(std_ans="是\n否\x1b[31m"))


CEVAL = {
    "id": 0,
    "question": "1+1=？",
    "A": "1",
    "B": "2",
    "C": "3",
    "D": "4",
    "answer": "B",
    "explanation": "1. 相加得2。",
}
CMMLU = {"": "0", "Question": "1+1=？", "A": "1", "B": "2", "C": "3", "D": "4", "Answer": "B"}
LOGIQA = {"context": "背景。", "query": "1+1=？", "options": ["1", "2", "3", "4"], "correct_option": 1}
MMLU = {"question": "1+1=？", "subject": "x", "choices": ["1", "2", "3", "4"], "answer": 1}
ARC = {
    "id": "q",
    "question": "1+1=？",
    "choices": {"text": ["1", "2", "3", "4"], "label": ["A", "B", "C", "D"]},
    "answerKey": "B",
}
OPENBOOK = {"question_stem": "1+1=？", "choices": ARC["choices"], "answerKey": "B"}
ARC_JSONL = {
    "question": {"stem": "1+1=？", "choices": [{"text": t, "label": x} for x, t in zip("1234", "1234", strict=True)]},
    "answerKey": "2",
}
OWN = {"frage": "1+1=？", "wahl": ["1", "2", "3", "4"], "loesung": "B", "warum": "相加得2。", "art": "速算题"}
OWN_COLUMNS = {"question": "frage", "options": "wahl", "answer": "loesung", "explanation": "warum", "type": "art"}


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        (CEVAL, None), (CMMLU, None), (LOGIQA, None), (MMLU, None), (ARC, None), (OPENBOOK, None), (ARC_JSONL, None),
        (OWN, OWN_COLUMNS), ({"question": "1+1=？", "options": ["1", "2", "3", "4"], "answer": "B"}, None),
        ({"q": "1+1=？", "1": "1", "2": "2", "3": "3", "4": "4", "k": "B"},
         {"question": "q", "options": ["1", "2", "3", "4"], "answer": "k"}),
    ],
    ids=["ceval", "cmmlu", "logiqa", "mmlu", "arc", "openbookqa", "arc-jsonl", "columns-list", "own", "columns-each"],
)  # fmt: skip
def test_layouts(row: dict[str, Any], columns: Any) -> None:
    user, assistant, notes = written(row, style="answer-only", columns=columns)
    question = "背景。\n1+1=？" if row is LOGIQA else "1+1=？"
    assert user == f"以下是一道单选题:\n{question}\nA. 1\nB. 2\nC. 3\nD. 4\n请给出答案。\n"
    assert assistant == "B。"
    assert ("labels-renamed" in notes) == (row is ARC_JSONL)


def test_columns_bring_explanation_and_type() -> None:
    user, assistant, _ = written(OWN, style="explain-first", columns=OWN_COLUMNS)
    assert user.startswith("以下是一道速算题:\n") and assistant == "相加得2。答案为B"


def test_a_row_of_no_layout_says_what_it_has() -> None:
    assert reason({"instruction": "a", "output": "b"}) == (
        "columns: no exam layout fits; the row has instruction, output"
    )
    assert reason(["a"]) == "columns: the row is a list, not an object"
    assert reason({"a": 1}, columns=OWN_COLUMNS) == "columns: the row has no 'frage'; it has a"


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"preset": "stel"}, "Did you mean 'steel'?"),
        ({"style": "answer-frist"}, "Did you mean 'answer-first'?"),
        ({"style": {"answer-first": 0.5}}, "sum to 0.5"),
        ({"style": {"answer-first": 0.5, "explain": 0.5}}, "unknown style 'explain'"),
        ({"style": {"answer-first": 1.5, "answer-only": -0.5}}, "no share"),
        ({"style": {"answer-first": float("nan"), "answer-only": 1}}, "no share"),
        ({"style": {"answer-first": True}}, "no share"),
        ({"style": {}}, "sum to 0"),
        ({"columns": {"question": "q", "options": "o"}}, "'answer' is missing"),
        ({"columns": {"question": "q", "options": "o", "answr": "a"}}, "Did you mean 'answer'?"),
        ({"columns": {"question": ["q"], "options": "o", "answer": "a"}}, "build.columns.question"),
        ({"columns": {"question": "q", "options": ["o"], "answer": "a"}}, "build.columns.options"),
    ],
)
def test_bad_options_are_told_whatever_the_row(options: dict[str, Any], part: str) -> None:
    with pytest.raises(InputError) as caught:
        exam({}, **options)
    assert part in str(caught.value)


def styles_of(shares: Any, seed: int = 42, n: int = 3000) -> list[str]:
    names = {"A。": "answer-only", "A。理由": "answer-first", "理由答案为A": "explain-first"}
    return [
        names[written(wanjuan(q_main=f"题{i}", answer_detail="理由"), style=shares, seed=seed)[1]] for i in range(n)
    ]


def test_shares_are_kept_nested_and_seeded() -> None:
    small = styles_of({"answer-first": 0.5, "explain-first": 0.2, "answer-only": 0.3})
    counts = Counter(small)
    for style, share in {"answer-first": 0.5, "explain-first": 0.2, "answer-only": 0.3}.items():
        assert abs(counts[style] / len(small) - share) < 0.03
    large = styles_of({"answer-only": 0.25, "explain-first": 0.4, "answer-first": 0.35})  # order means nothing
    assert all(b == "explain-first" for a, b in zip(small, large, strict=True) if a == "explain-first")
    assert styles_of({"explain-first": 1.0, "answer-first": 0}, n=50) == ["explain-first"] * 50
    assert styles_of({"answer-first": 0.5, "answer-only": 0.5}, seed=1, n=99) != styles_of(
        {"answer-first": 0.5, "answer-only": 0.5}, seed=2, n=99
    )


def test_style_depends_on_question_and_options_only() -> None:
    shares: Any = {"answer-first": 0.5, "answer-only": 0.5}
    for i in range(50):
        one = written(wanjuan(q_main=f"题{i}", answer_detail="甲"), style=shares)[1]
        other = written(wanjuan(q_main=f"题{i}", answer_detail="乙", id="other"), style=shares)[1]
        assert (one == "A。") == (other == "A。")


@pytest.mark.parametrize("preset", ["steel", "steel-en", "plain", "plain-en"])
def test_every_wording_writes_every_style(preset: str) -> None:
    detail = (
        "Steel is mostly iron. Therefore, the correct answer is A."
        if preset.endswith("en")
        else "钢以铁为主。故选：A。"
    )
    row = wanjuan(answer_detail=detail)
    seen = set()
    for style in STYLES:
        user, assistant, notes = written(row, style=style, preset=preset)
        assert notes == [] and "{" not in user + assistant
        assert "A. 铁\nB. 铜\nC. 铝\nD. 锌\n" in user
        seen.add(assistant)
        if style == "explain-first":
            assert "故选" not in assistant and "Therefore" not in assistant  # the conclusion is said once
    assert len(seen) == 3
    assert set(load_wording(preset).user) == set(load_wording(preset).assistant) == set(STYLES)


def test_english_wording_names_the_form_in_english() -> None:
    assert written(wanjuan(), preset="steel-en")[0].startswith("Here is a single-choice question:\n钢的")


def test_plain_strips() -> None:
    user, assistant, _ = written(wanjuan(q_main=" 题\n", option_a="铁 \n", answer_detail="\n因\n"), preset="plain")
    assert user == "题\nA. 铁\nB. 铜\nC. 铝\nD. 锌\n答案：" and assistant == "A\n因"


def test_placeholder_options_are_in_the_form_they_are_looked_up_in() -> None:
    assert all(word.strip() == word for word in NO_OPTION)


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["A", "AC", "略", "故选：A", "正确"])
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner), max_leaves=8
)
names = st.sampled_from([*wanjuan(), *CEVAL, *CMMLU, *LOGIQA, *ARC, *OPENBOOK, "stem"])


@given(
    row=st.dictionaries(names, values) | values | st.fixed_dictionaries({}, optional=dict.fromkeys(wanjuan(), scalars)),
    style=st.sampled_from([*STYLES, {"answer-first": 0.5, "explain-first": 0.3, "answer-only": 0.2}]),
    preset=st.sampled_from(["steel", "plain", "steel-en"]),
    columns=st.none() | st.just(OWN_COLUMNS),
)
def test_law_any_row_is_a_record_or_a_reason(row: Any, style: Any, preset: str, columns: Any) -> None:
    out = exam(row, style=style, preset=preset, columns=columns)
    if isinstance(out, str):
        assert out.split(": ")[0] in {
            "columns", "no-question", "not-choice", "placeholder", "no-answer", "answer-names-no-option", "bad-answer",
            "bad-field", "no-explanation",
        }  # fmt: skip
    else:
        user, assistant, _ = written(row, style=style, preset=preset, columns=columns)
        assert user.strip() and assistant.strip()


SHARED = Path(os.environ.get("STEEL_SHARED_DATA", Path(__file__).resolve().parents[4] / "shared" / "data")) / "exam"


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no real data in {SHARED} (STEEL_SHARED_DATA names it)")
@pytest.mark.parametrize(
    ("file", "style", "expected"),
    [
        ("gaokao_2010_2017", "answer-first", {"kept": 749, "not-choice": 533}),
        ("gaokao_2010_2017", "explain-first", {"kept": 749, "not-choice": 533}),
        ("tal_ch_train", "answer-first", {"kept": 2992, "not-choice": 6, "placeholder": 2}),
        ("tal_ch_train", "explain-first", {"kept": 2957, "not-choice": 6, "placeholder": 2, "no-explanation": 35}),
        ("jecqa_kd_multi", "answer-only", {"kept": 999, "no-answer": 1}),
        ("jecqa_kd_multi", "explain-first", {"no-explanation": 999, "no-answer": 1}),
    ],
)
def test_real_exam_files(file: str, style: Any, expected: dict[str, int]) -> None:
    counts: Counter[str] = Counter()
    for line in (SHARED / f"{file}.jsonl").read_bytes().splitlines():
        out = exam(orjson.loads(line), style=style)
        counts[out.split(": ")[0] if isinstance(out, str) else "kept"] += 1
    assert counts == expected
