"""Both languages: every sentence that people read has its Chinese form, and a finished sentence finds it."""

import os
import subprocess
import sys

import pytest
from tests.sentences import of_code, of_headings, of_help, of_templates

from steel_data import chinese as module
from steel_data.chinese import catalogue, chinese, heading, language, say, take_lang
from steel_data.errors import InputError


def test_no_sentence_of_the_pages_is_missing():
    assert len(of_templates()) > 250
    assert sorted(text for text in of_templates() if text not in catalogue()) == []


def test_no_help_is_missing():
    assert len(of_help()) > 150
    assert sorted(text for text in of_help() if text not in catalogue()) == []


@pytest.mark.parametrize("arguments", [["--help"], ["build", "--help"], ["score", "--help"], ["power", "--help"]])
def test_help_is_in_chinese_where_it_is_asked_for(arguments):
    done = subprocess.run(
        [sys.executable, "-m", "steel", "--lang", "zh", *arguments], capture_output=True, text=True, encoding="utf-8", check=True,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip
    assert "用法：" in done.stdout and "选项：" in done.stdout and "显示此帮助并退出。" in done.stdout
    assert "Options:" not in done.stdout and "default:" not in done.stdout


# words of data structures, not of people, that stand in the functions which write sentences
NO_SENTENCES = {
    "cannot-tell", "not-measurable", "sampled_out", "shots_dropped", "expected_if_guessed", "sampled out", "raw rows", " looked at",
    "answer-inside", "lm-eval", "equal-options", "equal-wrong-options", "merged-options", "no-passage", "no-picture", "nothing-to-choose", "left_out",
    "audit.html", "audit.html.j2", "audit.json", "its sources hold no rows",
}  # fmt: skip
# pieces that stand in longer sentences of the catalogue, which are looked up whole
PIECES = {
    " A build keeps {}{} ({})", " of {} sampled", ", and loses most to {} ({})", "; {} cannot be read",
    "{} Nothing can be built of it: {}.", "could not have been seen: {}", "{}, and keeps none", "Its score does not show that items were seen: {}",
    "Error rates of these detectors on a model of this kind ({}): ", "measured on {}", "{}{} (docs/contamination.md). {}",
    "{}{} (docs/contamination.md). The nearest that was measured, {}", "{}: at 5 % false alarms finds {}; {}", "{} accused falsely: {}",
    "of no known layout, ", "{} {}with columns {}",
    "A build would make {}{} rows and {}{} tokens.", "at most ", "{} on {}", ", and {} more", "injected with dose {}, form {}", "kept: {} row {} ({} row {}){}", "not drawn (dose 0)", "{}/{}: {} by source {}",
    "warning: {} things differ, so no difference in scores can be laid to one of them: ", "passed before", "bold yellow", " and {} more", "not read from {}: {}{}, of {} rows{}", "up to date, verified", "{}: {}; content {}; see card.html there",
    "{}; most frequent difference: ours {}, fastText {}, {}", "Sampled: {}. Exact, over all rows: {}.", "unreadable: {}; the first:",
    "{} of {} rows, one in {}, drawn by a hash of its number", "{} {} what an earlier one says, in every column but ids.",
    "languages (of characters): {}{}", "roles (turns): {}{}", "rows by their user turns: {}{}",
    ", read a sample of {}; counts are scaled up", "layout: {} (rows batched as they come: {})", ", price {} to {}",
    "packed, no padding, proven when the run starts", "padding {} of all positions", "estimate on {} x {}: {}{}",
    ", {} in context.", "cost for each model: {} tokens in single passes, {} in tries", "before any is flagged.",
    "- more than there are: none can be flagged.", "flagged: with {} controls, {} items at least must beat every control ",
    "loss gap test - reference: {} nats a token, of {} {}.",
    "loss gap test - train ({} ordinary rows): {} nats a token, of {} {}. {} than there: {}.",
}  # fmt: skip


def test_no_sentence_of_the_verdicts_is_missing():
    assert len(of_code()) > 120
    assert sorted(text for text in of_code() - of_headings() - NO_SENTENCES - PIECES if text not in catalogue()) == []


def test_no_heading_of_a_table_is_missing(monkeypatch):
    monkeypatch.setenv("STEEL_LANG", "zh")
    named = {text for text in of_headings() if "{}" not in text} - {"name", "AUC"}
    assert len(named) > 70
    assert sorted(text for text in named if heading(text) == text) == []
    assert say("chars") == "chars"  # which may be a source's name


def test_as_many_places_as_the_english_sentence_has():
    for english, said in catalogue().items():
        if "{}" in english:
            places = english.count("{}")
            assert said.format(*("x" * places)) and said.count("{}") in (0, places), english


@pytest.mark.parametrize(
    ("english", "said"),
    [
        ("58 rows and 3,209 tokens are in the mixture, of 161 rows read.", "读入 161 行，混合数据含 58 行、3,209 个 token。"),
        ("cmmlu: 30.0 % of 1,000 questions right (95 % interval 27.2 to 32.9), above chance level (25.0 %).",
         "cmmlu：1,000 题答对 30.0 %（95% 置信区间 27.2 至 32.9），高于随机水平（25.0 %）。"),
        ("exp4 is better than exp2 by 2.1 points (95 % interval 0.8 to 3.4), seeds included; exploratory, p 0.01, false discovery rate 0.02.",
         "exp4 优于 exp2，高 2.1 个百分点（95% 置信区间 0.8 至 3.4），已计入种子差异；探索性检验，p 0.01，错误发现率 0.02。"),
        ("yes (false alarms: at most 5 in 100). It was trained on rows that hold them; the model shows it too (set-level p 0.003, one-sided).",
         "见过（误报率：至多 5%）。训练用到了含有这些题目的行；模型也表现出来（集合层面 p 0.003，单侧）。"),
        ("tuned on cmmlu: 40 questions of this benchmark were put into its training data, as its recipe declares (30 of them once, "
         "10 of them 3 times). The score is not one of ability.",
         "tuned（cmmlu）：该基准的 40 道题按配方声明放入了训练数据（其中 30 道一次，其中 10 道 3 次）。该得分不反映能力。"),
        ("These checkpoints differ: that of B is better than that of A by 30.8 points (95 % interval 23.3 to 39.2); exploratory, p 1.5e-11, "
         "false discovery rate 4.4e-11. Whether the mixtures do is not shown: one seed in an arm; three seeds of each would say.",
         "两个检查点有差异：B 的优于 A 的，高 30.8 个百分点（95% 置信区间 23.3 至 39.2）；探索性检验，p 1.5e-11，错误发现率 4.4e-11。"
         "混合数据是否有差异尚不可知：每组只有一个种子；各训三个种子方可判断。"),
        ("injected: 60.0% of the tokens are injected: a stress test, not a dilution", "injected：60.0% 的 token 是注入的：属于压力测试，不是稀释"),
        ("The arms differ in steps (1, 2).", "各组的步数不同（1, 2）。"),
        ("The arms differ in weight_decay (1, 2).", "各组的 weight_decay 不同（1, 2）。"),
        ("cmmlu: accuracy goes from 50.0 % at step 10 to 87.5 % at step 20", "cmmlu：准确率从第 10 步的 50.0 % 到第 20 步的 87.5 %"),
        ("tuned on cmmlu: 100 % of the answers are one letter.", "tuned（cmmlu）：100 % 的答案是同一个字母。"),
    ],
)  # fmt: skip
def test_a_finished_sentence_finds_its_chinese_form(english, said):
    assert chinese(english) == said


@pytest.mark.parametrize(
    "text", ["", "12.5", "我是中文", "dedup:near", "runs/exp3/mixture", "No such sentence anywhere."]
)
def test_what_the_catalogue_does_not_know_stays(text, monkeypatch):
    monkeypatch.setenv("STEEL_LANG", "zh")
    assert chinese(text) is None and say(text) == text


@pytest.mark.parametrize(
    ("variables", "found"),
    [({}, "en"), ({"LANG": "C"}, "en"), ({"LANG": "zh_CN.UTF-8"}, "zh"), ({"LANG": "de_DE"}, "en"), ({"LC_ALL": "C", "LANG": "zh_CN"}, "en"),
     ({"STEEL_LANG": "zh", "LC_ALL": "C"}, "zh"), ({"STEEL_LANG": "en", "LANG": "zh_CN"}, "en")],
)  # fmt: skip
def test_the_language_is_what_is_asked_for_else_the_locale_s(variables, found, monkeypatch):
    for name in ("STEEL_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert language() == found


def test_lang_is_taken_wherever_it_stands(monkeypatch):
    monkeypatch.setenv("STEEL_LANG", "en")
    assert take_lang(["build", "--lang", "zh", "r.toml"]) == ["build", "r.toml"] and language() == "zh"
    assert take_lang(["build", "--lang=en", "--", "--lang"]) == ["build", "--", "--lang"] and language() == "en"
    with pytest.raises(InputError, match="no such language"):
        take_lang(["build", "--lang", "cn"])
    assert module.LANGUAGES == ("en", "zh")
