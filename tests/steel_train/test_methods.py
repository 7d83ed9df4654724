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

from steel_data.build import build
from steel_data.errors import InputError
from steel_data.recipe.load import load
from steel_train.loop.dpo import dpo_loss
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
    assert found.tolist() == pytest.approx(expected, abs=1e-6)


def test_dpo_raises_the_margin_and_keeps_its_reference(tmp_path):
    from steel_train.run import run

    save_model(tmp_path / "base")
    pairs = [
        {"conversations": [{"from": "human", "value": f"第{i}题？"}],
         "chosen": {"from": "gpt", "value": f"好答案{i}"}, "rejected": {"from": "gpt", "value": "不知道" * (1 + i % 3)}}
        for i in range(24)
    ]  # fmt: skip
    (tmp_path / "pairs.json").write_text(json.dumps(pairs, ensure_ascii=False), encoding="utf-8")
    table = {**BASIC, "method": '"dpo"', "micro_batch": 2, "accumulate": 2, "epochs": 6, "log_every": 1}
    recipe = tmp_path / "dpo.toml"
    recipe.write_text(
        '[source.pairs]\npath = "pairs.json"\n[train]\nmodel = "base"\n'
        + "\n".join(f"{k} = {v}" for k, v in table.items()),
        encoding="utf-8",
    )
    mixture = build(load(recipe), out=tmp_path / "mixture", cache=tmp_path / "cache").folder
    run(recipe, mixture, tmp_path / "run", None)
    found = losses(tmp_path / "run")
    assert found[0] == pytest.approx(np.log(2), abs=1e-4)  # the policy is the reference before the first step
    assert found[-1] < 0.4
    assert np.load(tmp_path / "run" / "reference.npy").shape == (48,)


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
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        found[count] = losses(folder / "run")
    assert len(found[1]) == len(found[2])
    assert np.allclose(found[1], found[2], rtol=1e-5)
