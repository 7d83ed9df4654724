"""One row, one answer, one template of others must not stop a command: each of these texts took from seconds to hours."""

import time
from pathlib import Path

import orjson
import polars as pl
import pytest

from steel_data.builders.exam import _OPENER
from steel_data.builders.identity import _PLACEHOLDER
from steel_data.errors import InputError
from steel_data.filters.alike import _CODE
from steel_data.filters.clean import clean
from steel_data.filters.quality import faults
from steel_eval.score.answers import extract
from steel_eval.trainers import _yaml
from steel_train.examples.template import _with_thought
from steel_train.examples.tokenizer import _check_variable

LISTS = ("A. 甲\nB. 乙\nC. 丙\nD. 丁\n", "A.甲 B.乙 C.丙\n", "\n\nA.x\nB.y\nC.z")
REPEATED = [list_ * 300 for list_ in LISTS]


def seconds(function, *given):
    began = time.process_time()
    function(*given)
    return time.process_time() - began


@pytest.mark.parametrize("before", ["", "选", "答案是", "我认为是", "The answer is ", "A错误，"])
@pytest.mark.parametrize("text", REPEATED, ids=range(len(REPEATED)))
def test_an_answer_that_lists_its_options_again_and_again(before, text):
    """Of each list that is taken out a line's end was left, and every pattern with blanks in it tried all of them."""
    assert seconds(extract, before + text + "吗", ("甲", "乙")) < 1


def row(answer):
    return {"messages": [{"role": "user", "content": "甲？"}, {"role": "assistant", "content": answer}], "kind": "chat"}


@pytest.mark.parametrize(
    "answer",
    [
        "好" + " " * 60_000 + "x\n",
        "<eos>" * 30_000 + "x<eos>",
        "\n<eos>" * 20_000 + "x>",
        "token。<eos>" * 9_000 + "x>",
    ],
    ids=["blanks", "tokens", "lines of tokens", "tokens are spoken of"],
)
def test_a_row_that_is_cleaned(answer):
    assert seconds(clean, row(answer)) < 1


@pytest.mark.parametrize(
    "answer", ["答案" + " " * 60_000 + "x", "![](" * 30_000, "token。<eos>" * 9_000 + "x>"], ids=["blanks", "pictures", "tokens"]
)  # fmt: skip
def test_a_row_that_is_looked_through_for_faults(answer):
    told = orjson.dumps(row(answer)["messages"]).decode()
    records = pl.DataFrame({"messages": [told], "kind": "exam", "note": None}, schema_overrides={"note": pl.String})
    assert seconds(faults, records) < 1


def test_parts_of_a_row():
    assert seconds(_CODE.findall, "中" * 60_000) < 1
    assert seconds(_PLACEHOLDER.search, "{{" + " " * 3_000) < 1
    assert seconds(_OPENER.fullmatch, "解答" * 20 + "x") < 1
    assert seconds(_with_thought, {"content": "<think>" + "\n" * 3_000}, "reasoning_content") < 1
    assert _with_thought({"content": " <think>\n\n甲\n</think>\n\n乙\n"}, "thinking") == {
        "reasoning_content": "甲", "content": "乙\n",
    }  # fmt: skip


def test_files_of_other_models(tmp_path):
    (tmp_path / "a.yaml").write_text("a: x" + " " * 40_000 + "y\nb: 'z' \n")
    assert seconds(_yaml, tmp_path / "a.yaml") < 1
    assert _yaml(tmp_path / "a.yaml")["b"] == "z"
    began = time.process_time()
    with pytest.raises(InputError, match="the chat template has no 'a'"):
        _check_variable("a", "{% x %}" + "{{" * 20_000, Path("r.toml"))
    assert time.process_time() - began < 1
