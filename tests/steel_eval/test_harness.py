"""Our model class inside lm-eval: the same answers as its own, prefixes shared, its command line passed through."""

import copy
import json

import polars as pl
import pytest
import torch
import yaml
from lm_eval.api.instance import Instance
from tests.steel_eval import oracle, toys
from typer.testing import CliRunner

from steel_data.errors import InputError
from steel_eval.__main__ import main
from steel_eval.cli import app
from steel_eval.harness import SteelLM, lm_eval_command
from steel_eval.score.results import ANSWER_COLUMNS


def ask(kind: str, *arguments: tuple) -> list[Instance]:
    return [Instance(kind, {}, a, i) for i, a in enumerate(arguments)]


@pytest.fixture(scope="module")
def both(toy_model, toy_tokenizer):
    ours = SteelLM(pretrained=toy_model, tokenizer=toy_tokenizer, batch_size=2, device="cpu", dtype="float32")
    return ours, oracle.hflm(toy_model, toy_tokenizer, 2)


def test_loglikelihood_of_any_task_shares_prefixes(both):
    ours, theirs = both
    stem = "以下是关于农学的单项选择题。" * 8
    asked = ask(
        "loglikelihood",
        *[(stem + f"第{i}题", end) for i in range(6) for end in ("甲乙丙", "丁", " D", "丁戊")],
        ("", "空"),
    )
    mine, other = ours.loglikelihood(asked, disable_tqdm=True), theirs.loglikelihood(asked, disable_tqdm=True)
    assert [v for v, _ in mine] == pytest.approx([v for v, _ in other], abs=1e-4)
    assert [g for _, g in mine] == [g for _, g in other]
    assert ours.forwarded_tokens < 24 * len(ours.tok_encode(stem)) / 6


def test_rolling_loglikelihood(both):
    asked = ask("loglikelihood_rolling", ("水稻的最适温度是三十度。" * 3,), ("甲" * 900,), ("A",))
    mine = both[0].loglikelihood_rolling(asked, disable_tqdm=True)
    assert mine == pytest.approx(both[1].loglikelihood_rolling(asked, disable_tqdm=True), abs=1e-2, rel=1e-5)


def test_too_long_contexts_are_cut_as_lm_eval_cuts_them(toy_model, toy_tokenizer):
    asked = ask("loglikelihood", ("甲乙丙丁" * 50, " A"), ("甲乙丙丁" * 50, "长" * 5))
    short = {"pretrained": toy_model, "tokenizer": toy_tokenizer, "device": "cpu", "max_length": 40}
    mine, other = SteelLM(**short).loglikelihood(asked, True), oracle.HFLM(**short).loglikelihood(asked, True)
    assert [v for v, _ in mine] == pytest.approx([v for v, _ in other], abs=1e-4)


def test_generation_is_lm_evals(both):
    asked = ask("generate_until", ("答案是：", {"until": ["。"], "max_gen_toks": 8}))
    assert both[0].generate_until(asked, True) == both[1].generate_until(asked, True)


@pytest.fixture
def own_task(tmp_path):
    """A multiple-choice and a generation task in lm-eval's own YAML, over local files."""
    rows = [{"q": f"第{i}题", "choices": ["甲", "乙乙", "丙"], "gold": i % 3} for i in range(6)]
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps(r, ensure_ascii=False) for r in rows), encoding="utf-8")
    shared = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "t.jsonl")}},
        "test_split": "test",
    }
    mc = {
        "task": "toy_mc",
        "output_type": "multiple_choice",
        "doc_to_text": "{{q}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{gold}}",
    }
    gen = {
        "task": "toy_gen",
        "output_type": "generate_until",
        "doc_to_text": "{{q}}",
        "doc_to_target": "甲",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 4},
    }
    for task in (mc, gen):
        (tmp_path / f"{task['task']}.yaml").write_text(
            yaml.safe_dump(shared | task, allow_unicode=True), encoding="utf-8"
        )
    return tmp_path


@pytest.mark.slow
def test_the_command_line_is_passed_through(own_task, toy_checkpoint, capsys):
    rest = ["--include_path", str(own_task), "--tasks", "toy_mc,toy_gen", "--device", "cpu", "--batch_size", "4"]
    for model in ("steel", "hf"):
        lm_eval_command(
            [
                "--model",
                model,
                "--model_args",
                f"pretrained={toy_checkpoint},dtype=float32",
                *rest,
                "--output_path",
                str(own_task / model),
            ]
        )
    values = [json.loads(next((own_task / m).rglob("results_*.json")).read_text())["results"] for m in ("steel", "hf")]
    assert values[0] == values[1]


def score(checkpoint, out, *rest):
    arguments = ["score", str(checkpoint), "--out", str(out), "--device", "cpu", *map(str, rest)]
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
    return json.loads((out / "scores.json").read_text())


@pytest.mark.slow
def test_a_task_of_lm_eval_joins_the_scores(own_task, toy_checkpoint, toy_data, tmp_path, monkeypatch):
    asked = ["--tasks", "cmmlu,toy_mc,toy_gen", "--data", toy_data, "--include-path", own_task]
    scores = score(toy_checkpoint, tmp_path / "o", *asked)
    assert set(scores["tasks"]) == {"cmmlu", "toy_mc", "toy_gen"}
    assert scores["tasks"]["toy_mc"]["stderr"] > 0
    answers = pl.read_parquet(tmp_path / "o/answers.parquet").filter(pl.col("task") == "toy_mc")
    assert len(answers) == 6
    assert (answers["prediction"] == answers["label"]).mean() == scores["tasks"]["toy_mc"]["accuracy"]
    # a second time nothing is asked: the results are in the store
    monkeypatch.setattr("lm_eval.simple_evaluate", None)
    assert score(toy_checkpoint, tmp_path / "o", *asked)["tasks"] == scores["tasks"]
    monkeypatch.undo()
    (own_task / "t.jsonl").write_text((own_task / "t.jsonl").read_text().replace("第0题", "第零题"))
    kept = (tmp_path / "o/store.jsonl").read_bytes().count(b"\n")
    score(toy_checkpoint, tmp_path / "o", *asked)
    assert (tmp_path / "o/store.jsonl").read_bytes().count(b"\n") == kept + 2  # of other questions: asked anew
    with pytest.raises(InputError, match="neither data here nor an lm-eval task"):
        score(toy_checkpoint, tmp_path / "o", "--tasks", "nonsense")


@pytest.mark.slow
def test_tasks_that_only_write_can_be_reported(own_task, toy_checkpoint, tmp_path):
    score(toy_checkpoint, tmp_path / "o", "--tasks", "toy_gen", "--include-path", own_task, "--limit", 4)
    answers = pl.read_parquet(tmp_path / "o/answers.parquet")
    assert answers.columns == ANSWER_COLUMNS and len(answers) == 4 and answers["prediction"].null_count() == 0
    page = tmp_path / "report.html"
    result = CliRunner().invoke(app, ["report", str(tmp_path / "o"), "--out", str(page)], catch_exceptions=False)
    assert result.exit_code == 0 and "toy_gen" in page.read_text(encoding="utf-8")


def test_letters_that_merge_with_the_context_are_scored_apart_and_counted(toy_model, toy_tokenizer):
    """HFLM would score the empty rest of each, and the adapter crashed on it."""
    merging = copy.deepcopy(toy_tokenizer)
    merging.add_tokens(["：A", "：B"])
    asked = ask("loglikelihood", *[("答案：", letter) for letter in "AB"], ("题目", "甲"))
    model = toys.model(len(merging))
    ours = SteelLM(pretrained=model, tokenizer=merging, device="cpu")
    values = [v for v, _ in ours.loglikelihood(asked, disable_tqdm=True)]
    context = merging("答案", add_special_tokens=False)["input_ids"]
    logits = torch.log_softmax(model(torch.tensor([context])).logits[0, -1], -1)
    assert values[:2] == pytest.approx(logits[merging.convert_tokens_to_ids(["：A", "：B"])].tolist(), abs=1e-4)
    assert ours.merged == 1 and values[0] != values[1]


def test_an_input_error_is_one_line_and_status_2(monkeypatch, capsys, toy_data):
    monkeypatch.setattr(
        "sys.argv", ["steel_eval", "score", "nowhere/at/all", "--tasks", "cmmlu", "--data", str(toy_data)]
    )
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("error: nowhere/at/all: no such folder")
