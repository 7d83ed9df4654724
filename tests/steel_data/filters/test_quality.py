"""Quality: each check finds its fault, and leaves alone the sound rows that look most like it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest
from tests.steel_data.toys import write_jsonl

from steel_data.build import Result
from steel_data.errors import InputError
from steel_data.filters.quality import CHECKS, Quality, faults, sampled
from steel_data.row.table import table

Make = Callable[..., Result]
SCHEMA = {"messages": pl.String, "kind": pl.String, "note": pl.String}


def found(*bodies: Any, kind: str = "chat") -> list[list[str]]:
    """What the checks find in each of some rows: lists of messages, pairs, or (question, answer)."""
    messages = [chat(*body) if isinstance(body, tuple) else body for body in bodies]
    records = pl.DataFrame(
        {"messages": [orjson.dumps(m).decode() for m in messages], "kind": kind, "note": None}, schema_overrides=SCHEMA
    )
    return [[name for name, is_found in row.items() if is_found] for row in faults(records).to_dicts()]


def chat(question: str, answer: str, **more: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer, **more}]


def pair(chosen: str, rejected: str) -> dict[str, Any]:
    question, good = chat("你好", chosen)
    return {"prompt": [question], "chosen": [good], "rejected": [{"role": "assistant", "content": rejected}]}


SOUND = [
    # template-residue: talk about tokens, headings, struck text, dialogues that were asked for, code
    ("What does <|im_end|> mean?", "The token <|im_end|> ends a turn."),
    ("写接口文档", "### Request:\nGET /a\n### Response:\n200"),
    ("Correct it", "<s>old</s>\nnew, <s>older</s>"),
    ("写一段用户与助手的对话", "Human: 你好\nAssistant: 你好！"),
    ("How do I print it?", "Use `print('</s>')`:\n```\n[INST] {x} [/INST]\n```"),
    ("Pipe it", "xs <|> ys |> List.map f <| zs"),
    ("## Instructions", "### Instructions:\nStir."),
    # think-residue: asked for
    ("Put your reasoning between <think> and </think>.", "<think>1+1</think>2"),
    # image-in-text: Markdown and HTML asked for
    ("How does one link a picture in Markdown?", "![alt](cat.png)"),
    ("写一个 HTML 页面", '<img src="cat.png">'),
    ("数组取反", "if (![1, 2].includes(x)) return"),
    # mojibake: accents, quotes after accents, uncommon characters, talk about encodings
    ("Écris", "Âge, SÃO PAULO, « essayé », “a essayé”…, naïve’"),
    ("用锛子和銆做例子", "锛是一种木工工具。"),
    ("为什么出现锟斤拷？", "这是编码错误：U+FFFD 被当作 GBK 解码。"),
    ("天气", "今天烫烫的。"),
    # html: asked for, formulas, code, generics, back ticks
    ("写一个网页", "<p>你好</p><br>&nbsp;"),
    ("若 $a<b$ 且 $b<p>c$", "$a <p> b$ 成立，x<y 且 y>z"),
    ("Print it", 'for (;;) {\n  out.println("<br>");\n  List<p> x = y;\n}'),
    ("Say it", "水是 H<sub>2</sub>O，用 `<p>` 和 `&nbsp;`"),
    ("AT&T", "R&D; Q&A; a && b; &circle;"),
]


@pytest.mark.parametrize("row", SOUND, ids=[question for question, _ in SOUND])
def test_sound_rows_are_left_alone(row: tuple[str, str]) -> None:
    assert found(row) == [[]]


@pytest.mark.parametrize("answer", [
    "北京。<|im_end|>", "北京。\n<|im_end|>\n<|im_start|>user\n上海呢？", "[INST] 你好 [/INST] 你好", "好的。</s>", "<s>好的。",
    "好的<end_of_turn>", "Sure.<|eot_id|>", "Sure.<|endoftext|>Next question", "好的。<｜end▁of▁sentence｜>", "A\n### Response:\nB",
    "好。\n\nHuman: 还有呢？\n\nAssistant: 没有了。", "### Instruction:\n写诗", "Assistant: Sure.",
])  # fmt: skip
def test_template_residue(answer: str) -> None:
    assert found(("首都是哪里？", answer)) == [["template-residue"]]


def test_template_tokens_at_the_end_of_an_answer_count_even_where_tokens_are_spoken_of() -> None:
    assert found(("What is a token?", "A token is a piece of a word.<|im_end|>")) == [["template-residue"]]


def test_template_residue_in_a_prompt_and_in_the_rejected_answer() -> None:
    prompt = (
        "Below is an instruction that describes a task. Write a response.\n\n### Instruction:\nAdd.\n\n### Response:"
    )
    assert found((prompt, "2")) == [["template-residue"]]
    assert found(pair("好。", "坏。<|im_end|>"), kind="preference") == [["template-residue"]]


def test_think_residue_in_answers_and_in_reasoning_only() -> None:
    thinks = [
        ("1+1", "<think>\n1\n</think>\n2"),
        ("1+1", "so 2</think>2"),
        chat("1+1", "2", reasoning_content="<think>1"),
    ]
    assert found(*thinks) == [["think-residue"]] * 3
    assert found([{"role": "system", "content": "Answer in </think> style"}, *chat("1+1", "</think>2")]) == [[]]


def test_equal_answers_of_a_pair_whatever_the_blanks_around_them() -> None:
    assert found(pair("好", "好 \n"), pair("Good", "good"), kind="preference") == [["same-answers"], []]
    calls = pair("", "")
    calls["chosen"][0]["tool_calls"] = [{"name": "a", "arguments": {}}]
    assert found(calls, kind="preference") == [[]]


EXAM = "以下是一道单选题:\n一加一？\nA. 1\nB. 2\nC. 3\nD. 4\n请给出答案。\n"
EXPLAIN = "以下是一道单选题:\n一加一？\nA. 1\nB. 2\nC. 3\nD. 4\n请先给出解释再给出答案。\n"


@pytest.mark.parametrize(("question", "answer"), [
    (EXAM, "B。一加一得三。故选C。"),
    (EXAM, "D。所以 $$12$$（人）， 故选择：$$\\text{C}$$．"),
    (EXAM, "B。B、C正确。\n故选： BD。"),
    (EXAM, "AB。略。故选：A、C"),
    (EXPLAIN, "一加一得三，所以答案是C。答案为B"),
    ("1+1?\nA. 1\nB. 2\nAnswer:", "B\nIt is one, so the correct answer is A."),
    ("1+1?\nA. 1\nB. 2\nReason first, then answer.", "Therefore, the answer is (A).\nAnswer: B"),
])  # fmt: skip
def test_a_conclusion_against_the_key(question: str, answer: str) -> None:
    assert found((question, answer), kind="exam") == [["contradicts-key"]]
    assert found((question, answer)) == [[]], "only exam rows have a key"


@pytest.mark.parametrize(("question", "answer"), [
    (EXAM, "B。一加一得二，故选B。"),
    (EXAM, "B。故选项A错误，故C项错误；A、C不选；所以选B"),
    (EXAM, "AC。故选：A、C。"),
    (EXAM, "AC。1. 故选：A。\n2. 见上。"),  # of two sub-questions one concludes
    (EXAM, "ADA。4. 故选A。5. 故选D。6. 故选A。"),
    (EXAM, "B。甲故选AB两点，乙选C。"),
    (EXPLAIN, "A．一得三，错误；B．对。答案为B"),
    ("1+1?\nA. 1\nB. 2\nAnswer:", "B\nThe answer is A plus B, so the answer is a number."),
    ("1+1?", "My own wording without a key: 故选C"),
])  # fmt: skip
def test_explanations_that_agree_or_say_nothing(question: str, answer: str) -> None:
    assert found((question, answer), kind="exam") == [[]]


@pytest.mark.parametrize("question", [
    "描述这张图。\n![](https://x.org/a.png?w=1)", "描述：![图][1]", "看图 <image>\n这是什么？", "<img src='a.png'> 是什么？",
    "<|vision_start|><|image_pad|><|vision_end|>这是什么？", "data:image/png;base64,iVBOR 是什么？",
])  # fmt: skip
def test_pictures_left_out_of_the_text(question: str) -> None:
    assert found((question, "一只猫。")) == [["image-in-text"]]


@pytest.mark.parametrize("answer", [
    "机���学习", "你好".encode().decode("latin-1"), "你好".encode().decode("cp1252", "ignore") + "ä½ å¥½", "a fiancÃ©", "25Â°C",
    "donâ€™t", "锟斤拷锟斤拷", "烫烫烫烫", "屯屯屯屯", "你好，世界。".encode().decode("gb18030", "ignore"),
    "我们的学校是很大的，有很多学生".encode().decode("gb18030", "replace"),
])  # fmt: skip
def test_mojibake(answer: str) -> None:
    assert found(("说点什么", answer)) == [["mojibake"]]


@pytest.mark.parametrize("answer", [
    "<p>你好。</p>", "第一行<br>第二行", "第一行<br/>第二行", "a&nbsp;b", "若 x &lt; 3", "Tom &amp; Jerry", "it&#39;s", "&#x4F60;好",
    '<div class="a">好</div>', "<strong>重点</strong>", "故选A．\n<p>设$$x &lt; 2$$", "<b>bold</b>",
])  # fmt: skip
def test_html_left_over(answer: str) -> None:
    assert found(("说点什么", answer)) == [["html"]]


def test_what_tools_and_system_say_is_no_html_of_the_row() -> None:
    question, answer = chat("天气？", "晴。")
    tool = {"role": "tool", "content": "<p>晴</p>&nbsp;<|im_end|>\ufffd"}
    assert found(
        [{"role": "system", "content": "用 <br> 换行"}, question, {**answer, "content": "查"}, tool, answer]
    ) == [[]]


def test_the_first_check_that_is_on_is_the_reason_and_the_others_are_notes() -> None:
    frame = faults(pl.DataFrame({
        "messages": [orjson.dumps(chat("a", text)).decode() for text in ("<p>\ufffd</p>![](a)", "<p>b</p>", "c")] + [None],
        "kind": "chat", "note": None,
    }, schema_overrides=SCHEMA))  # fmt: skip
    some = Quality(checks=["html", "mojibake"])
    assert frame.select(some.verdict()).to_series().to_list() == ["quality:mojibake", "quality:html", None, None]
    assert frame.select(some.notes()).to_series().to_list() == ["quality:image-in-text", None, None, None]
    assert frame.select(Quality().verdict()).to_series().to_list()[0] == "quality:image-in-text"
    assert frame.select(Quality().notes()).to_series().to_list() == [None] * 4
    assert frame.select(Quality(checks=[]).verdict()).to_series().to_list() == [None] * 4
    assert frame.select(Quality(checks=[]).notes()).to_series().to_list()[1:] == ["quality:html", None, None]


def test_a_conclusion_that_the_exam_builder_cut_off_is_known_by_its_note(make: Make, tmp_path: Path) -> None:
    row = {
        "q_main": "一加一？",
        "option_a": "1",
        "option_b": "2",
        "std_ans": "B",
        "answer_detail": "数一数手指便知道。故选A",
    }
    write_jsonl(tmp_path / "a.jsonl", [row, {**row, "q_main": "零加二？", "answer_detail": "数一数手指便知道。故选B"}])
    source = '[source.a]\npath = "a.jsonl"\nbuild = { use = "exam", style = "explain-first" }\n'
    account = make(f'{source}filters = [{{ use = "quality" }}]\n').manifest["sources"]["a"]
    assert account["dropped"] == {"quality:contradicts-key": 1}


def test_a_check_that_there_is_not_is_refused() -> None:
    with pytest.raises(InputError, match=r"no check 'htm'.*html"):
        Quality(checks=["htm"])


def test_no_row_and_rows_without_messages() -> None:
    assert faults(pl.DataFrame(schema=SCHEMA)).shape == (0, len(CHECKS))
    assert faults(pl.DataFrame({name: [None] for name in SCHEMA}, schema=SCHEMA)).row(0) == (False,) * len(CHECKS)


def test_a_sample_is_drawn_by_the_hash_that_an_id_is() -> None:
    """The same rows whatever chunk they stand in; a larger share holds the smaller one; what has no id is not looked at."""
    text = '[{"role":"user","content":"问"},{"role":"assistant","content":"<p>答</p>"}]'
    rows = [{"id": f"{i:02x}{'0' * 30}", "messages": text, "kind": "chat"} for i in range(256)]
    records = table([*rows, {"kind": "chat"}])
    for share, looked in ((1.0, 256), (0.5, 128), (0.25, 64)):
        found = sampled(records, share).to_list()
        assert found == ["html"] * looked + [None] * (257 - looked)
    assert sampled(records[100:120], 0.42).to_list() == sampled(records, 0.42).to_list()[100:120]


def test_what_is_left_is_counted_without_the_filter_too(make: Make, tmp_path: Path) -> None:
    rows = [{"instruction": f"问{i}", "output": "<p>答</p>" if i < 3 else "答"} for i in range(8)]
    write_jsonl(tmp_path / "a.jsonl", rows)
    source = '[source.a]\npath = "a.jsonl"\n'
    without, asked = make(source), make(source + 'filters = [{ use = "quality" }]\n', name="asked")
    assert without.manifest["quality"]["a"] == {"rows": 8, "found": {**dict.fromkeys(CHECKS, 0), "html": 3}}
    assert "| `html` | 0 | 3 | `a` 3 |" in (without.folder / "card.md").read_text(encoding="utf-8")
    assert asked.manifest["quality"]["a"] == {"rows": 5, "found": dict.fromkeys(CHECKS, 0)}
    assert "| `html` | 3 | 0 |  |" in (asked.folder / "card.md").read_text(encoding="utf-8")
