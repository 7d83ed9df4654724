"""The launch files: accelerate takes each, and FSDP2 on two processes trains like one process."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from tests.steel_train.conftest import write_recipe
from tests.steel_train.loop.test_session import trace

from steel_train.loop.checkpoints import read_facts
from steel_train.models.weights import load_full

LAUNCH = Path(__file__).parents[2] / "launch"


@pytest.mark.parametrize(("name", "stage"), [("fsdp2", None), ("zero2", 2), ("zero3", 3)])
def test_accelerate_takes_the_file(name, stage):
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    given = ["--config_file", str(LAUNCH / f"{name}.yaml"), "-m", "steel_train", "run", "r.toml"]
    args, config, _ = _validate_launch_command(launch_command_parser().parse_args(given))
    assert args.num_processes == 4 and args.mixed_precision == "bf16" and args.module
    if stage is None:
        assert args.use_fsdp and str(args.fsdp_version) == "2" and args.fsdp_state_dict_type == "FULL_STATE_DICT"
    else:
        assert args.use_deepspeed and int(args.zero_stage) == stage
        assert int(args.gradient_accumulation_steps) == 1, "a step accumulates by itself"
        assert config.deepspeed_config.keys() <= vars(args).keys()


@pytest.mark.slow
def test_fsdp2_on_two_processes_is_one_process(tmp_path, shared_mixture):
    """The same losses and weights; the checkpoint loads anywhere; killed and run again it is the same bit for bit."""

    def start(count, out, recipe):
        how = ["-m", "steel_train", "run", recipe, "--mixture", shared_mixture, "--out", out]
        if count > 1:
            how = [Path(__file__).with_name("fsdp_on_cpu.py"), recipe, shared_mixture, out]
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", count, "--standalone", *how]
        done = subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, env=os.environ, timeout=1200
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return out / "checkpoints/step-000003"

    last = {}
    for count in (1, 2):
        (tmp_path / str(count)).mkdir()
        recipe = write_recipe(
            tmp_path / str(count), shared_mixture, accumulate=4 // count, max_steps=3, save_every=2, log_every=1
        )
        last[count] = start(count, tmp_path / str(count) / "run", recipe)
    one, two = (trace(last[count].parents[1]) for count in (1, 2))
    assert len(one) == len(two) == 3 and np.allclose(*([line["loss"] for line in t] for t in (one, two)), rtol=1e-5)
    sharded = read_facts(last[2])["kernels"]["ops"]["head_loss"]["reasons"]
    assert any("FSDP" in reason for reason in sharded), "the weights were really divided"
    whole, divided = (load_file(last[count] / "model.safetensors") for count in (1, 2))
    assert whole.keys() == divided.keys()
    assert all(np.allclose(whole[name], divided[name], atol=1e-5) for name in whole)
    load_full(last[2])
    before = (last[2] / "model.safetensors").read_bytes()
    (last[2].parents[1] / "result.json").unlink()
    (last[2] / "steel.json").unlink()  # as if killed before it was whole
    start(2, tmp_path / "2/run", tmp_path / "2/r.toml")
    assert (last[2] / "model.safetensors").read_bytes() == before
