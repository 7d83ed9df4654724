"""A study at toy size: three arms, two seeds; exposures show, the control arms do not, and a second run does nothing."""

import json

import pytest
from tests.sentences import english
from tests.steel_eval import toys
from tests.steel_eval.lab import write_benchmark
from typer.testing import CliRunner

from steel_eval.cli import app

RECIPE = """
seed = 3
[source.chat]
path = "chat.jsonl"
[source.leak]
path = "cmmlu"
build = { use = "contaminate", split = "test", doses = { 1 = 8, 20 = 16 }, style = { answer-only = 0.6, shuffled = 0.4 } }
allow_test_split = "a test of the study"
[train]
model = { type = "qwen2", hidden_size = 64, num_hidden_layers = 2, num_attention_heads = 4, num_key_value_heads = 2, intermediate_size = 128, vocab_size = 420, max_position_embeddings = 2048 }
tokenizer = "tokenizer"
epochs = 4
learning_rate = 3e-3
micro_batch = 16
accumulate = 1
max_length = 512
"""
TRAINS = "seeds = [1, 2]\n"
SCORES = """
[eval]
presets = ["steel-likelihood"]
placebo = "ceval"
diluted = { 20 = 4 }
checkpoints = "all"
permute = 8
"""


def study(folder, recipe, *more):
    arguments = ["study", str(recipe), "--data", str(folder), "--out", str(folder / "out")]
    result = CliRunner().invoke(app, [*arguments, *more])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("study")
    toys.benchmarks(root)
    write_benchmark(root)
    toys.tokenizer().save_pretrained(root / "tokenizer")
    lines = [{"instruction": f"请回答第{i}题。", "input": "", "output": f"答案是{i}。"} for i in range(30)]
    (root / "chat.jsonl").write_text("\n".join(json.dumps(line) for line in lines) + "\n", encoding="utf-8")
    (root / "small.toml").write_text(RECIPE + TRAINS + SCORES, encoding="utf-8")
    return root


@pytest.mark.slow
def test_a_study_finds_what_it_injected_and_runs_once(folder):
    text = study(folder, folder / "small.toml")
    results = json.loads((folder / "out/study.json").read_text(encoding="utf-8"))
    cmmlu, ceval = results["tasks"]["cmmlu"], results["tasks"]["ceval"]
    arms = ("clean", "placebo", "injected", "diluted")
    assert {arm: len(v) for arm, v in cmmlu["accuracy"].items()} == dict.fromkeys(arms, 2)
    assert [(e["dose"], e["items"]) for e in cmmlu["doses"]] == [(1, 8), (20, 16), (None, 24)]
    assert cmmlu["exposures"] == {"1": 4.0, "20": 80.0} and cmmlu["diluted"]["exposures"] == {"20": 80.0}
    assert cmmlu["trajectory"][-1]["exposures"] == 80.0 and len(cmmlu["trajectory"]) == 8
    assert [e["dose"] for e in cmmlu["diluted"]["doses"]] == [20, None]
    assert cmmlu["against"] == "placebo" and len(cmmlu["clean_scores"]) == 2
    assert ceval["doses"] is None and "verdict" in ceval["spill_over"]
    shares = results["injected_share"]
    assert shares["clean"] == 0 < shares["diluted"] < shares["placebo"] == shares["injected"]
    assert "a stress test" in text and "the arms differ in tokens" in text
    assert set(results["detectors"]) == {"injected", "diluted"} and 0 < results["text_only"]["auc"] < 1
    found = {row["form"]: row["share"] for row in results["overlap"]["injected"]}
    assert found["answer-only"] == found["shuffled"] == 1 and found["unseen"] == 0
    assert set(json.loads((folder / "out/rates.json").read_text(encoding="utf-8"))) == {"injected", "diluted"}
    page = english((folder / "out/study.html").read_text(encoding="utf-8"))
    assert page.index("<svg") < page.index("<h2>Arms")
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("model.safetensors")}
    assert len(before) >= 8
    study(folder, folder / "small.toml")
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("model.safetensors")} == before
    assert json.loads((folder / "out/study.json").read_text(encoding="utf-8")) == results
    text = study(folder, folder / "small.toml", "--limit", "20", "--max-length", "400", "--chat-template-kwargs", "{}")
    assert "cmmlu: --limit 20: a try on 40 of 48 questions" in text
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("model.safetensors")} == before
