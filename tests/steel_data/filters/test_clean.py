"""Clean: what is put right, what stays as it is, and what a build says of the rows that changed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.steel_data.toys import read_dropped, read_train, write_jsonl

from steel_data.build import Result
from steel_data.filters.clean import clean

Make = Callable[..., Result]


def cleaned(answer: str, question: str = "你好", **options: bool) -> tuple[str, str | None]:
    """The answer after cleaning, and the note."""
    record = {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
    result = clean(record, **options)
    assert isinstance(result, dict)
    return result["messages"][1]["content"], result.get("note")


@pytest.mark.parametrize(("answer", "right", "note"), [
    ("x &lt; 3 &amp; y&nbsp;&gt; 2", "x < 3 & y > 2", "clean:entities"),
    ("it&#39;s &ldquo;so&rdquo;", "it's “so”", "clean:entities"),
    ("&lt; `&lt;`\n```\n&lt;\n```", "< `&lt;`\n```\n&lt;\n```", "clean:entities"),
    ("好的。<|im_end|>", "好的。", "clean:residue"),
    ("好的</s>\n<|endoftext|>", "好的", "clean:residue"),
    ("2\n\nHuman:", "2", "clean:residue"),
    ("a\r\nb \n\n\n\nc\u200b\xa0d  ", "a\nb\n\nc d", "clean:whitespace"),
    (" \n  def f():\n      pass\n\n", "  def f():\n      pass", "clean:whitespace"),
    ("  好", "好", "clean:whitespace"),
    ("a\n```\nx \n\n\n\ny\n```\n\n\n\nb", "a\n```\nx \n\n\n\ny\n```\n\nb", "clean:whitespace"),
    ("a&nbsp;\n好。<|im_end|>\n", "a\n好。", "clean:entities,clean:residue,clean:whitespace"),
])  # fmt: skip
def test_what_is_put_right(answer: str, right: str, note: str) -> None:
    assert cleaned(answer) == (right, note)
    assert cleaned(answer, entities=False, residue=False, whitespace=False) == (answer, None)
    assert cleaned(right) == (right, None), "a second time changes nothing"


@pytest.mark.parametrize(("question", "answer"), [
    ("How does one write < in HTML?", "Write &lt;"),
    ("Which token ends a turn?", "The token <|im_end|>"),
    ("2 < 3?", "a  b\n    c\n\n　　d"),
])  # fmt: skip
def test_what_stays_as_it_is(question: str, answer: str) -> None:
    assert cleaned(answer, question) == (answer, None)


def test_reasoning_and_both_answers_of_a_pair_are_cleaned_and_tools_are_not() -> None:
    turn: dict[str, Any] = {"role": "assistant", "content": "a ", "reasoning_content": "&lt; "}
    tool = {"role": "tool", "content": "&lt; "}
    result = clean({"prompt": [{"role": "user", "content": "q "}, tool], "chosen": [turn], "rejected": [turn]})
    right = {"role": "assistant", "content": "a", "reasoning_content": "<"}
    assert isinstance(result, dict)
    assert result["prompt"] == [{"role": "user", "content": "q"}, tool]
    assert result["chosen"] == result["rejected"] == [right]


def test_a_build_counts_what_changed_and_drops_what_is_left_without_text(make: Make, tmp_path: Path) -> None:
    rows = [("一加一？", "x &lt; 2"), ("二加二？", "四"), ("三加三？", "<|im_end|>"), ("四加四？", "<p>八</p>&nbsp;")]
    write_jsonl(tmp_path / "a.jsonl", [{"instruction": q, "output": a} for q, a in rows])
    source = '[source.a]\npath = "a.jsonl"\nfilters = [{ use = "clean" }, { use = "quality", checks = ["mojibake"] }]\n'
    result = make(source)
    account = result.manifest["sources"]["a"]
    assert account["dropped"] == {"clean:empty": 1}
    assert account["notes"] == {"clean:entities": 2, "clean:whitespace": 1, "quality:html": 1}
    answers = {
        row["messages"][0]["content"]: row["messages"][1]["content"] for row in read_train(result.folder).to_dicts()
    }
    assert answers == {"一加一？": "x < 2", "二加二？": "四", "四加四？": "<p>八</p>"}
    plain = make(source.replace('use = "clean"', 'use = "clean", entities = false'), "plain")
    assert plain.manifest["content_sha256"] != result.manifest["content_sha256"], "an option is part of the key"
    assert read_dropped(result.folder)["reason"].to_list() == ["clean:empty"]
