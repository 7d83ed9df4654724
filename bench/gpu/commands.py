"""The commands themselves, as a user gives them: do they end well on this device, and does it score as a CPU does?"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import Any

import polars as pl
import torch

ROOT = Path(__file__).resolve().parents[2]


def chains(dry: bool) -> list[dict[str, list[str]]]:
    """Return what is given, by its name in the table: chains that run side by side, each in its order."""
    steps = 60 if not dry else 2
    few = ["--limit", "2"] if dry else []
    step, half = (f"run/checkpoints/step-{n:06d}" for n in (steps, steps // 2))
    tasks, data = ["--tasks", "cmmlu"], ["--data", "data"]
    score = ["steel_eval", "score", step, *tasks, *data, *few]
    arms = [f"--set=search.{key}={n}" for key, n in {"tokens": 4000, "runs": 4, "centre": 2}.items()]
    trained = {
        "train": [
            "steel_train", "run", f"{ROOT}/recipes/tiny.toml", "--data-root", "data", "--out", "run",
            f"--set=train.max_steps={steps}", f"--set=train.save_every={steps // 2}",
        ],
        "score": [*score, "--dtype", "float32", "--out", "on-device"],
        "score on a CPU": [*score, "--dtype", "float32", "--device", "cpu", "--out", "on-cpu"],
        "score, bfloat16": [*score, "--dtype", "bfloat16", "--out", "bfloat16"],
        "score, written answers": [
            "steel_eval", "score", step, *tasks, *data, "--preset", "steel", "--limit", "2", "--max-new-tokens", "16", "--out", "written",
        ],
        "report": ["steel_eval", "report", "on-device", "--out", "report.html"],
        "leak": ["steel_eval", "leak", step, "--base", half, *tasks, *data, "--permute", "20", *few, "--out", "leak"],
    }  # fmt: skip
    study = [
        "steel_eval", "study", f"{ROOT}/recipes/study-demo.toml", *data, "--out", "study",
        f"--set=train.max_steps={steps}", "--set=train.micro_batch=16", *few,
    ]  # fmt: skip
    mix = ["steel_eval", "mix", f"{ROOT}/recipes/mix-english.toml", *data, "--out", "mix", *arms]
    return [trained, {"study": study}, {"mix": mix}]


def measure(run: Any) -> Iterator[dict[str, Any]]:
    folder = run.out / "commands"
    folder.mkdir(parents=True, exist_ok=True)
    yield given(folder, "sample", ["steel_data", "sample", "data"])
    side_by_side = chains(run.dry)
    with ThreadPoolExecutor(len(side_by_side) if not run.dry else 1) as pool:
        ended: Queue[dict[str, Any]] = Queue()
        for chain in side_by_side:
            pool.submit(follow, folder, chain, ended)
        for _ in range(sum(map(len, side_by_side))):
            yield ended.get()
    yield {"check": "float32 scores, here and on a CPU", **apart(folder / "on-device", folder / "on-cpu", 1e-3)}
    if torch.cuda.is_available():
        yield {"check": "bfloat16 scores, and float32 on a CPU", **apart(folder / "bfloat16", folder / "on-cpu", 0.2)}


def follow(folder: Path, chain: dict[str, list[str]], ended: Any) -> None:
    """Give the commands of a chain one after another."""
    for name, words in chain.items():
        ended.put(given(folder, name, words))


def given(folder: Path, name: str, words: list[str]) -> dict[str, Any]:
    """Give one command; return how it ended."""
    started = time.monotonic()
    with (folder / f"{name}.log").open("w") as log:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", *words], cwd=folder, env=os.environ | {"PYTHONUTF8": "1"},
            stdout=log, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        log.write(done.stderr)
    said = {} if done.returncode == 0 else {"said": (done.stderr.strip().splitlines() or [""])[-1][:300]}
    return {"check": name, "pass": done.returncode == 0, "seconds": time.monotonic() - started, **said}


def apart(one: Path, other: Path, bound: float) -> dict[str, Any]:
    """Return how far the log-probabilities (nats) of two folders of scores lie apart, and the share of like answers."""
    tables = [pl.read_parquet(next(folder.rglob("answers.parquet"))) for folder in (one, other)]
    both = tables[0].join(tables[1], on=["task", "subject", "item"], suffix="_other")
    numbers = [name for name in tables[0].columns if name.startswith("logprob_")]
    largest = max(float((both[name] - both[f"{name}_other"]).abs().max()) for name in numbers)  # type: ignore[arg-type]
    same = float((both["prediction"] == both["prediction_other"]).mean())  # type: ignore[arg-type]
    return {
        "questions": len(both), "same_answers": same, "largest_difference": largest,
        "pass": len(both) == len(tables[0]) == len(tables[1]) and largest < bound,
    }  # fmt: skip
