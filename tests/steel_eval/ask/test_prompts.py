"""Presets byte for byte: golden texts, and lm-eval's against lm-eval itself."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from tests.steel_eval import oracle

from steel_data.benchmarks.items import Item
from steel_data.errors import InputError
from steel_eval.ask.prompts import build_prompts, load_preset, preset_names, subject_name, subject_table

Q = Item(
    "test/agronomy/00000",
    "agronomy",
    "test",
    0,
    "水稻属于____。 ",
    ("禾本科", "豆科", "菊科", "{X}科"),
    "A",
    "",
    Path(),
)
S = Item(
    "dev/agronomy/00000", "agronomy", "dev", 0, "小麦是____。", ("粮食", "水果", "蔬菜", "花"), "B", "1. 略。", Path()
)
OPTIONS_S = "A. 粮食\nB. 水果\nC. 蔬菜\nD. 花"
OPTIONS_Q = "A. 禾本科\nB. 豆科\nC. 菊科\nD. {X}科"

GOLDEN = {
    ("lm-eval", "cmmlu"): f"以下是关于农学的单项选择题，请直接给出正确答案的选项。\n\n小麦是____。\n{OPTIONS_S}\n答案： B\n\n水稻属于____。\n{OPTIONS_Q}\n答案：",
    ("lm-eval", "ceval"): f"以下是中国关于agronomy的单项选择题，请选出其中的正确答案。\n\n小麦是____。\n{OPTIONS_S}\n答案： B\n\n水稻属于____。\n{OPTIONS_Q}\n答案：",
    ("cmmlu", "cmmlu"): f"以下是关于农学的单项选择题，请直接给出正确答案的选项。\n\n题目：小麦是____。\n{OPTIONS_S}\n答案是：B\n\n题目：水稻属于____。 \n{OPTIONS_Q}\n答案是：",
    ("cmmlu-cot", "cmmlu"): f"以下是关于农学的单项选择题，请分析并选出正确答案。\n\n题目：小麦是____。\n{OPTIONS_S}\n答案是：B\n\n题目：水稻属于____。 \n{OPTIONS_Q}\n逐步分析并给出答案选项。",
    ("ceval", "ceval"): f"以下是中国关于agronomy考试的单项选择题，请选出其中的正确答案。\n\n小麦是____。\n{OPTIONS_S}\n答案：B\n\n水稻属于____。 \n{OPTIONS_Q}\n答案：",
    ("ceval-cot", "ceval"): f"以下是中国关于agronomy考试的单项选择题，请选出其中的正确答案。\n\n小麦是____。\n{OPTIONS_S}\n答案：让我们一步一步思考，\n1. 略。\n所以答案是B。\n\n水稻属于____。 \n{OPTIONS_Q}\n答案：让我们一步一步思考，\n1.",
    ("opencompass", "ceval"): f"以下是中国关于agronomy考试的单项选择题，请选出其中的正确答案。\n小麦是____。\n{OPTIONS_S}\n答案: \nB\n\n\n\n\n以下是中国关于agronomy考试的单项选择题，请选出其中的正确答案。\n水稻属于____。 \n{OPTIONS_Q}\n答案: \n",
    ("opencompass", "cmmlu"): f"以下是关于农学的单项选择题，请直接给出正确答案的选项。\n题目：小麦是____。\n{OPTIONS_S}\n答案是: B\n\n\n\n\n以下是关于农学的单项选择题，请直接给出正确答案的选项。\n题目：水稻属于____。 \n{OPTIONS_Q}\n答案是: ",
    ("cloze", "cmmlu"): "题目：小麦是____。\n答案：水果\n\n题目：水稻属于____。\n答案：",
}  # fmt: skip
CHATS = {
    ("steel", "cmmlu"): f"以下是一道单选题:\n水稻属于。 \n\n{OPTIONS_Q}\n请给出答案。\n",
    ("steel", "ceval"): f"以下是一道单选题:\n水稻属于( ) \n\n{OPTIONS_Q}\n请给出答案。\n",
    ("steel-explain", "cmmlu"): f"以下是一道单选题:\n水稻属于。 \n\n{OPTIONS_Q}\n请先给出解释再给出答案。\n",
    ("ceval-chat", "ceval"): f"水稻属于____。 \n{OPTIONS_Q}\n答案：",
    ("opencompass-cot", "cmmlu"): "请回答以下关于农学的单项选择题, 你回答的最后一行**必须**是以下格式 '答案: $选项' (不带引号), 其中选项是ABCD之一. "
    "请在回答之前一步步思考.\n\n水稻属于____。 \n\nA) 禾本科\nB) 豆科\nC) 菊科\nD) {X}科",
}  # fmt: skip


@pytest.mark.parametrize(("preset", "benchmark"), GOLDEN)
def test_golden_text_with_one_example(preset, benchmark):
    prompt = build_prompts(load_preset(preset, benchmark), benchmark, "agronomy", [Q], [S])[0]
    assert prompt.text() == GOLDEN[preset, benchmark]


@pytest.mark.parametrize(("preset", "benchmark"), CHATS)
def test_golden_question_as_a_turn(preset, benchmark):
    prompt = build_prompts(load_preset(preset, benchmark), benchmark, "agronomy", [Q], [])[0]
    assert prompt.messages()[-1] == {"role": "user", "content": CHATS[preset, benchmark]}


def test_the_official_chat_form_has_the_header_as_system_and_examples_as_turns():
    prompt = build_prompts(load_preset("ceval-chat", "ceval"), "ceval", "law", [Q], [S])[0]
    roles = [m["role"] for m in prompt.messages()]
    assert roles == ["system", "user", "assistant", "user"]
    assert prompt.messages()[0]["content"] == "以下是中国关于法学考试的单项选择题，请选出其中的正确答案。"
    assert prompt.messages()[2]["content"] == "B"


def test_every_preset_has_a_golden_text():
    golden = {name for name, _ in [*GOLDEN, *CHATS]} | {"steel-likelihood"}  # the wording of `steel`
    assert golden == set(preset_names())


def test_letters_follow_with_or_without_a_blank():
    continuations = {
        n: build_prompts(load_preset(n, "cmmlu"), "cmmlu", "agronomy", [Q], [])[0].continuations
        for n in ("lm-eval", "cmmlu", "cloze")
    }
    assert continuations["lm-eval"] == (" A", " B", " C", " D")
    assert continuations["cmmlu"] == ("A", "B", "C", "D")
    assert continuations["cloze"] == Q.options


def test_data_in_braces_is_never_read_as_a_template():
    item = replace(Q, question="集合{a, b}与{subject}")
    assert (
        "集合{a, b}与{subject}"
        in build_prompts(load_preset("cmmlu", "cmmlu"), "cmmlu", "agronomy", [item], [])[0].text()
    )


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(InputError, match="Did you mean 'lm-eval'"):
        load_preset("lmeval", "cmmlu")


@pytest.mark.parametrize(("benchmark", "pattern"), [("cmmlu", "cmmlu/cmmlu_*.yaml"), ("ceval", "ceval/ceval-valid_*.yaml"), ("mmlu", "mmlu/default/mmlu_*.yaml")])  # fmt: skip
def test_every_header_of_lm_eval(benchmark, pattern):
    preset = load_preset("lm-eval", benchmark)
    seen = set()
    for file in oracle.TASKS.glob(pattern):
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
        if "dataset_name" in config:
            subject = config["dataset_name"]
            assert preset.header.format(subject=subject_name(benchmark, subject)) == config["description"]
            seen.add(subject)
    assert seen == set(subject_table()[benchmark])


@pytest.mark.parametrize("shots", [0, 1])
@pytest.mark.parametrize(("benchmark", "file"), [("cmmlu", "cmmlu/cmmlu_agronomy.yaml"), ("ceval", "ceval/ceval-valid_law.yaml"), ("mmlu", "mmlu/default/mmlu_anatomy.yaml")])  # fmt: skip
def test_the_prompt_is_lm_evals_own(benchmark, file, shots):
    test, dev = [Q], [S]
    if benchmark == "mmlu":  # its answers are numbers
        test, dev = [replace(Q, answer=0)], [replace(S, answer=1)]
    theirs = oracle.instances(oracle.task(file, test, dev, shots, capital=benchmark == "cmmlu"))
    subject = {"cmmlu": "agronomy", "ceval": "law", "mmlu": "anatomy"}[benchmark]
    ours = build_prompts(load_preset("lm-eval", benchmark), benchmark, subject, [Q], [S][:shots])[0]
    assert [i.args for i in theirs[:4]] == [(ours.text(), c) for c in ours.continuations]


def test_groups_are_those_of_the_authors():
    table = subject_table()
    assert sum("Hard" in s["groups"] for s in table["ceval"].values()) == 8
    assert sum("China specific" in s["groups"] for s in table["cmmlu"].values()) == 15
    assert {name: len(t) for name, t in table.items()} == {"ceval": 52, "cmmlu": 67, "mmlu": 57}
