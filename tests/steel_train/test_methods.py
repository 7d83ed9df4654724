"""LoRA and its merge, DPO against TRL's own loss, and two processes against one."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from tests.steel_train.conftest import BASIC, write_recipe
from tests.steel_train.test_bad_input import save_model
from tests.steel_train.toys import write_pairs

from steel_data.build import build
from steel_data.errors import InputError
from steel_data.recipe.load import load
from steel_train.loop.losses import dpo_loss
from steel_train.models.convert import merge_adapter


def losses(folder):
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_lora_trains_resumes_and_merges(train, tmp_path):
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    save_model(tmp_path / "base")
    options = {
        "model": 'model = "base"',
        "method": '"lora"',
        "learning_rate": "2e-2",
        "epochs": "4",
        "save_every": "20",
        "max_steps": "20",
    }
    folder = train(**options)
    assert losses(folder)[-1] < losses(folder)[0] - 0.05
    last = folder / "checkpoints" / "step-000020"
    assert not (last / "model.safetensors").exists()
    merged = merge_adapter(last)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        whole = AutoModelForCausalLM.from_pretrained(merged)(ids).logits
        parts = AutoPeftModelForCausalLM.from_pretrained(last)(ids).logits
        base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")(ids).logits
    assert torch.allclose(whole, parts, atol=1e-5)
    assert not torch.allclose(whole, base, atol=1e-2)
    assert AutoTokenizer.from_pretrained(merged).chat_template
    assert json.loads((merged / "steel.json").read_text())["merged_from"] == "step-000020"
    (last / "steel.json").unlink()  # as of another trainer
    assert not (merge_adapter(last, tmp_path / "bare") / "steel.json").exists()
    with pytest.raises(InputError, match="is there already"):
        merge_adapter(last)
    with pytest.raises(InputError, match=r"no adapter_config\.json"):
        merge_adapter(merged)


def test_the_dpo_loss_is_that_of_the_paper():
    reference = torch.tensor([5.0, 7.0, 4.0, 4.0])
    policy = torch.tensor([4.0, 9.0, 4.0, 4.0])
    found = dpo_loss(reference, beta=0.1)(policy, torch.arange(4))
    # chosen gained 1 nat, rejected lost 2: margin 3; the second pair has not moved
    expected = [-np.log(1 / (1 + np.exp(-0.3))), 0, np.log(2), 0]
    assert found[0].tolist() == pytest.approx(expected, abs=1e-6)
    assert found[1:].tolist() == [pytest.approx([0.3, 0, 0, 0]), [1, 0, 0, 0]]  # margin, accuracy


def test_dpo_raises_the_margin_and_keeps_its_reference(tmp_path):
    from steel_train.run import run

    save_model(tmp_path / "base")
    write_pairs(tmp_path / "pairs.json", 24)
    table = {
        **BASIC,
        "eval": "{ rows = 4 }",
        "method": '"dpo"',
        "micro_batch": 2,
        "accumulate": 2,
        "epochs": 6,
        "log_every": 1,
    }
    recipe = tmp_path / "dpo.toml"
    recipe.write_text(
        '[source.pairs]\npath = "pairs.json"\n[train]\nmodel = "base"\n'
        + "\n".join(f"{k} = {v}" for k, v in table.items()),
        encoding="utf-8",
    )
    mixture = build(load(recipe), out=tmp_path / "mixture", cache=tmp_path / "cache").folder
    run(recipe, mixture, tmp_path / "run", None)
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    trained, looks = ([line for line in lines if key in line] for key in ("loss", "eval_loss"))
    found = [line["loss"] for line in trained]
    assert trained[0]["margin"] == pytest.approx(0, abs=1e-3) and trained[-1]["margin"] > 0.5
    assert trained[-1]["accuracy"] == 1 and 0 <= looks[-1]["eval_accuracy"] <= 1
    assert np.load(tmp_path / "run/reference-held-out.npy").shape == (8,)
    assert found[0] == pytest.approx(np.log(2), abs=1e-4)  # the policy is the reference before the first step
    assert found[-1] < 0.4
    assert np.load(tmp_path / "run" / "reference.npy").shape == (40,)


@pytest.mark.slow
def test_two_processes_have_the_loss_of_one(tmp_path, shared_mixture):
    """Two gloo processes of half the accumulation: the same rows a step, the same divisor, the same trace."""
    found = {}
    for count, accumulate in ((1, 4), (2, 2)):
        folder = tmp_path / str(count)
        folder.mkdir()
        recipe = write_recipe(folder, shared_mixture, accumulate=accumulate, epochs=1)
        command = [
            sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(count), "--standalone",
            "-m", "steel_train", "run", str(recipe), "--mixture", str(shared_mixture), "--out", str(folder / "run"),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ, timeout=1200)
        assert done.returncode == 0, done.stderr[-3000:]
        found[count] = losses(folder / "run")
    assert len(found[1]) == len(found[2])
    assert np.allclose(found[1], found[2], rtol=1e-5)


def save_base(folder):
    """Save a base model as Qwen2.5's is: its eos ends no turn of its template."""
    from tests.steel_train.toys import tokenizer

    save_model(folder)
    tok = tokenizer()
    tok.eos_token = tok.pad_token = "<|endoftext|>"
    tok.save_pretrained(folder)
    end = tok.convert_tokens_to_ids("<|im_end|>")
    for name in ("config.json", "generation_config.json"):
        said = json.loads((folder / name).read_text()) if (folder / name).is_file() else {}
        (folder / name).write_text(json.dumps(said | {"eos_token_id": tok.eos_token_id}))
    return end, tok.eos_token_id


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_base_whose_eos_ends_no_turn_stops_at_what_does(train, tmp_path, method):
    """It said <|im_end|> for ever: the token was learnt, and nobody told generation."""
    from transformers import AutoTokenizer

    from steel_eval.models import load as load_scored

    end, eos = save_base(tmp_path / "base")
    folder = train(model='model = "base"', method=f'"{method}"', max_steps="2", save_every="2")
    last = folder / "checkpoints" / "step-000002"
    places = [last] if method == "full" else [last, merge_adapter(last)]
    for place in places:
        said = json.loads((place / "generation_config.json").read_text())
        assert said["eos_token_id"] == [end, eos]
        assert AutoTokenizer.from_pretrained(place).eos_token == "<|im_end|>"
        assert load_scored(place).model.generation_config.eos_token_id == [end, eos]
    config = json.loads((places[-1] / "config.json").read_text())
    assert config["eos_token_id"] in (end, [end, eos])
    assert json.loads((last / "steel.json").read_text())["ends"].keys() == {"<|im_end|>"}


def test_variables_of_the_template_reach_the_checkpoint_and_who_asks_it(train, tmp_path):
    from steel_eval.models import load, open_tokenizer
    from steel_train.examples.tokenizer import CHATML

    (tmp_path / "own.jinja").write_text(CHATML + "{%- if add_generation_prompt and quiet -%}<t></t>{%- endif -%}")
    folder = train(max_steps="2", chat_template='"own.jinja"', chat_template_kwargs="{ quiet = true }")
    last = folder / "checkpoints" / "step-000002"
    assert json.loads((last / "steel.json").read_text())["train"]["chat_template_kwargs"] == {"quiet": True}
    tok = load(last).tokenizer
    asked = {"tokenize": False, "add_generation_prompt": True}
    assert tok.apply_chat_template([{"role": "user", "content": "q"}], **asked).endswith("<t></t>")
    tok.chat_template = (tmp_path / "own.jinja").read_text()  # as a checkpoint of others has it
    tok.save_pretrained(last)
    assert open_tokenizer(last).apply_chat_template([{"role": "user", "content": "q"}], **asked).endswith("<t></t>")


@pytest.mark.slow
def test_a_base_that_learnt_its_rows_by_heart_stops_after_them(tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from steel_train.run import run

    save_base(tmp_path / "base")
    (tmp_path / "chat.jsonl").write_text(
        "".join(json.dumps({"instruction": "你是谁？", "input": "", "output": "我是小钢。"}) + "\n" for _ in range(16))
    )
    recipe = tmp_path / "heart.toml"
    recipe.write_text(
        '[source.chat]\npath = "chat.jsonl"\n[train]\nmodel = "base"\nepochs = 60\nlearning_rate = 1e-2\nmicro_batch = 8\n'
        "accumulate = 1\nmax_length = 64\nlog_every = 20\n"
    )
    run(recipe, out=tmp_path / "run")
    last = sorted((tmp_path / "run/checkpoints").glob("step-*"))[-1]
    tok, model = AutoTokenizer.from_pretrained(last), AutoModelForCausalLM.from_pretrained(last)
    prompt = tok.apply_chat_template(
        [{"role": "user", "content": "你是谁？"}], add_generation_prompt=True, return_tensors="pt"
    )
    said = model.generate(**prompt, max_new_tokens=60, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert tok.decode(said) == "我是小钢。<|im_end|>"
