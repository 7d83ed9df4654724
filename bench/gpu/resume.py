"""Killed and run again = uninterrupted, on this device; and sixty steps in Triton against sixty in torch."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from bench.gpu.train import TINY, world

from steel_data.files import sha256_of

SMALL = TINY | {"hidden_size": 512, "num_hidden_layers": 4, "num_attention_heads": 8, "intermediate_size": 1536}


def measure(run: Any) -> Iterator[dict[str, Any]]:
    mixture, tokenizer = world(run)
    shape = SMALL if torch.cuda.is_available() else TINY
    steps = 12 if not run.dry else 4
    whole, again = (train(run, name, mixture, tokenizer, shape, steps, "auto") for name in ("whole", "killed"))
    # side by side: starting took 25 s of each on a virtual machine
    runs = {
        k: train(run, k, mixture, tokenizer, shape, 60, k) for k in ("torch", "triton") if torch.cuda.is_available()
    }
    beside = [start(recipe) for recipe in (whole, *runs.values())]
    process = start(again)
    half = again.with_suffix("") / "checkpoints" / f"step-{steps // 2:06d}"
    while not half.is_dir() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for one in (start(again), *beside):
        wait(one)
    sums = [
        sha256_of(r.with_suffix("") / "checkpoints" / f"step-{steps:06d}" / "model.safetensors") for r in (whole, again)
    ]
    lines = [losses(r.with_suffix("")) for r in (whole, again)]
    yield {"check": f"SIGKILL after step {steps // 2} of {steps}, run again", "pass": sums[0] == sums[1],
           "weights_equal": sums[0] == sums[1], "losses_equal": lines[0] == lines[1]}  # fmt: skip
    if runs:
        a, b = (losses(recipe.with_suffix("")) for recipe in runs.values())
        apart = max(abs(x - y) / abs(x) for x, y in zip(a, b, strict=True))
        yield {"check": "60 steps, triton against torch", "largest_relative_difference": apart, "pass": apart < 2e-2}


def train(run: Any, name: str, mixture: Path, tokenizer: Path, shape: dict[str, Any], steps: int, kernels: str) -> Path:
    """Write a recipe whose run is the folder of its name."""
    table = ", ".join(f"{key} = {json.dumps(value)}" for key, value in shape.items())
    recipe = run.out / "resume" / f"{name}.toml"
    recipe.parent.mkdir(parents=True, exist_ok=True)
    recipe.write_text(
        f'[source.x]\npath = "none"\n[train]\nmodel = {{ {table} }}\ntokenizer = "{tokenizer}"\nchat_template = "chatml"\n'
        f"max_steps = {steps}\nmicro_batch = 4\naccumulate = 2\nmax_length = 256\nepochs = 50\nlog_every = 1\n"
        f'save_every = {max(1, steps // 4)}\nlearning_rate = 1e-3\nkernels = "{kernels}"\n',
        encoding="utf-8",
    )
    recipe.with_suffix(".mixture").write_text(str(mixture))
    return recipe


def start(recipe: Path) -> Any:
    """Start `steel_train run` on it."""
    mixture = recipe.with_suffix(".mixture").read_text()
    command = [sys.executable, "-W", "ignore", "-m", "steel_train", "run", str(recipe)]
    env = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    log = recipe.with_suffix(".log").open("a")
    return subprocess.Popen(
        [*command, "--mixture", mixture, "--out", str(recipe.with_suffix(""))], stdout=log, stderr=log, env=env
    )


def wait(process: Any) -> None:
    """Wait for it, and raise what it said last if it failed."""
    if process.wait():
        raise RuntimeError(f"{process.args[6]}: status {process.returncode}, see its log")


def losses(folder: Path) -> list[float]:
    """Return the losses of all logged steps."""
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
