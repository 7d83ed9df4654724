"""Arms: recipes made of one recipe, which hold from wherever they lie, with one tokenizer, trained to a log."""

import json
import time
from contextlib import nullcontext

import pytest
from tests.steel_eval import toys
from tests.waiting import until

from steel_data import engine
from steel_data.errors import InputError
from steel_data.recipe.load import load
from steel_eval import arms
from steel_eval.arms import (
    Job,
    RunArm,
    carry_steps,
    followed,
    made_arm,
    portable_tables,
    train_job,
    trained_on,
    with_source,
)

RECIPE = """
seed = 3
filters = [{ use = "own_steps:short" }]
[source.chat]
path = "chat.jsonl"
[train]
model = { type = "qwen2", hidden_size = 16, num_hidden_layers = 1, num_attention_heads = 2, num_key_value_heads = 2, intermediate_size = 32, vocab_size = 300 }
chat_template = "turns.jinja"
seeds = [1]
epochs = 2
micro_batch = 8
accumulate = 1
[eval]
tasks = ["cmmlu"]
"""


@pytest.fixture
def folder(tmp_path):
    lines = [{"instruction": f"请回答第{i}题。", "output": f"答案是{i}。" * 4} for i in range(40)]
    (tmp_path / "chat.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    (tmp_path / "turns.jinja").write_text(toys.CHAT)
    (tmp_path / "own_steps.py").write_text("def short(record):\n    return record\n")
    (tmp_path / "r.toml").write_text(RECIPE, encoding="utf-8")
    return tmp_path


def test_an_arms_recipe_holds_from_anywhere_its_own_steps_with_it(folder):
    recipe = load(folder / "r.toml")
    tables = portable_tables(recipe)
    assert tables["train"]["chat_template"] == str(folder / "turns.jinja") and "eval" not in tables
    carry_steps(recipe, folder / "out/recipes")
    arm = made_arm("half", with_source(tables, "chat", {"take": 20}), folder / "out", folder)
    assert load(arm.recipe).name == "half" and arm.seeds == [folder / "out/half/seed-1"]
    assert recipe.merged["source"]["chat"] == {"path": "chat.jsonl"}  # the recipe itself is not touched


@pytest.mark.slow
def test_a_seed_is_trained_to_a_log_and_a_failure_names_it(folder):
    recipe = load(folder / "r.toml")
    tables = portable_tables(recipe)
    carry_steps(recipe, folder / "out/recipes")
    pool = made_arm("pool", tables, folder / "out", folder)
    tables["train"]["tokenizer"] = trained_on(pool, tables)
    arm = made_arm("one", tables, folder / "out", folder)
    assert "finished; step-" in train_job(Job(arm, 1), folder)
    assert "its last checkpoint is whole" in train_job(Job(arm, 1), folder)
    tables["train"]["learning_rate"] = 1e30
    bad = made_arm("bad", tables, folder / "out", folder)
    with pytest.raises(InputError, match=r"arm bad, seed 1: .* is not a number .*seed-1\.log"):
        train_job(Job(bad, 1), folder)


def test_what_trainings_say_is_told_once_and_nothing_of_an_earlier_time(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(engine, "TELL_EVERY", 0.05)
    before, under_way, to_come = (Job(RunArm("clean", tmp_path / "r.toml", tmp_path / "clean"), i) for i in (1, 2, 3))
    (tmp_path / "clean").mkdir()
    before.log.write_text("finished; step-000009\n", encoding="utf-8")
    with followed([before, under_way, to_come]):
        under_way.log.write_text("step 1/9  loss 4.2\nstep 2/9  loss \x1b[31m3.1\n", encoding="utf-8")
        said: list[str] = []
        until(lambda: said.append(capsys.readouterr().err) or any(said))
        time.sleep(0.3)  # it looks again, some times
    assert "".join(said) + capsys.readouterr().err == "clean, seed 2: step 2/9  loss \\x1b[31m3.1\n"


def test_of_many_trainings_some_are_told_at_a_time(tmp_path, monkeypatch):
    tell = []
    monkeypatch.setattr(arms, "now_and_then", lambda say: tell.append(say) or nullcontext())
    jobs = [Job(RunArm("clean", tmp_path / "r.toml", tmp_path / "clean"), i) for i in range(9)]
    (tmp_path / "clean").mkdir()
    with followed(jobs):
        for job in jobs:
            job.log.write_text("step 1/9\n", encoding="utf-8")
        assert [len(list(tell[0]())) for _ in range(4)] == [4, 4, 1, 0]
