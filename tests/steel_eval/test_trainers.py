"""Runs of other trainers: what their files say, which weights they hold, each once."""

import json
import os
import pickle
import shutil
import zipfile

import orjson
import pytest
import torch
from tests.steel_eval import toys
from transformers import TrainingArguments

from steel_data.errors import InputError
from steel_eval.models import find_checkpoints, training_of, with_base
from steel_eval.trainers import planned_steps, step_of, trained_as

CARD = """---
library_name: peft
---
# sft

This model is a fine-tuned version of [/models/Qwen2.5-0.5B](https://huggingface.co//models/Qwen2.5-0.5B) on the identity, the alpaca_zh_demo and the exam datasets.

### Training hyperparameters

- learning_rate: 0.0001
- seed: 42
- num_epochs: 3.0
"""


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        name = name.replace("__", ".")
        (folder / name).write_text(value if isinstance(value, str) else json.dumps(value))
    return folder


def test_llamafactory(tmp_path):
    run = write(
        tmp_path / "sft", README__md=CARD, all_results__json={"epoch": 3.0, "train_loss": 1.2, "train_samples": 900},
        trainer_state__json={"global_step": 30, "epoch": 3.0}, trainer_log__jsonl="",
    )  # fmt: skip
    found = trained_as(run)
    assert found == {
        "trainer": "LLaMA-Factory", "step": 30, "epoch": 3.0, "seed": 42, "base": {"name": "/models/Qwen2.5-0.5B"},
        "train": {"learning_rate": 1e-4, "epochs": 3.0}, "data": ["identity", "alpaca_zh_demo", "exam"], "rows": 900,
    }  # fmt: skip
    inside = write(
        run / "checkpoint-20", trainer_state__json={"global_step": 20, "epoch": 2.0},
        adapter_config__json={"base_model_name_or_path": "Qwen/Qwen2.5-0.5B"},
    )  # fmt: skip
    found = trained_as(inside)
    assert (found["step"], found["epoch"], found["base"]) == (20, 2.0, {"name": "Qwen/Qwen2.5-0.5B"})
    assert found["train"]["learning_rate"] == 1e-4  # the run's


def test_llamafactory_yaml(tmp_path):
    run = write(
        tmp_path, training_args__yaml="model_name_or_path: /models/base\ndataset: a,b\nlearning_rate: 5.0e-05\n"
        "num_train_epochs: 2.0\nfinetuning_type: lora\nbf16: true\n",
    )  # fmt: skip
    found = trained_as(run)
    assert found["base"] == {"name": "/models/base"} and found["data"] == ["a", "b"]
    assert found["train"] == {"learning_rate": 5e-5, "epochs": 2.0, "method": "lora"}


def test_ms_swift(tmp_path):
    args = {"model": "Qwen/Qwen2.5-0.5B", "dataset": ["AI-ModelScope/alpaca-gpt4-data-zh#500", "own.jsonl"], "learning_rate": 1e-4,
            "num_train_epochs": 1, "train_type": "lora", "seed": 7, "per_device_train_batch_size": 2}  # fmt: skip
    inside = write(
        tmp_path / "v0-20260101-120000/checkpoint-9", trainer_state__json={"global_step": 9}, args__json=args
    )
    found = trained_as(inside)
    assert (found["trainer"], found["step"], found["seed"]) == ("ms-swift", 9, 7)
    assert found["data"] == args["dataset"] and found["train"]["micro_batch"] == 2


def test_the_plain_trainers_pickle_is_read(tmp_path):
    args = TrainingArguments(
        str(tmp_path), learning_rate=3e-4, num_train_epochs=4, gradient_accumulation_steps=8, seed=5
    )
    torch.save(args, tmp_path / "training_args.bin")
    write(tmp_path, trainer_state__json={"global_step": 12})
    found = trained_as(tmp_path)
    assert (found["trainer"], found["seed"], found["step"]) == ("Trainer", 5, 12)
    assert found["train"] == {"learning_rate": 3e-4, "epochs": 4, "micro_batch": 8, "accumulate": 8}


def test_nothing_of_a_pickle_is_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "run"),)

    with zipfile.ZipFile(tmp_path / "training_args.bin", "w") as archive:
        archive.writestr("training_args/data.pkl", pickle.dumps(Evil()))
    write(tmp_path, trainer_state__json={"global_step": 1})
    assert trained_as(tmp_path) == {"trainer": "Trainer", "step": 1}
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"global_step": "x", "epoch": null}', "\x00"])
def test_damaged_files_say_nothing(tmp_path, text):
    for name in (
        "trainer_state.json",
        "args.json",
        "adapter_config.json",
        "all_results.json",
        "README.md",
        "training_args.bin",
        "training_args.yaml",
    ):
        (tmp_path / name).write_text(text)
    assert "step" not in (trained_as(tmp_path) or {})
    assert step_of(tmp_path) is None


def test_what_scores_json_cannot_hold_is_not_said(tmp_path):
    """Found by bench/fuzz.py: a number of 400 digits is no float, and no number of JSON's that orjson writes."""
    huge = "1" + "0" * 400
    write(
        tmp_path,
        trainer_state__json=f'{{"global_step": {huge}, "max_steps": {huge}, "epoch": {huge}}}',
        args__json=f'{{"learning_rate": {huge}, "seed": {huge}, "model": "\\ud800", "num_train_epochs": 2}}',
        training_args__yaml="dataset: " + "[" * 100_000 + f"\nper_device_train_batch_size: {huge}\n",
    )
    found = trained_as(tmp_path)
    assert found["train"] == {"epochs": 2} and not {"step", "epoch", "seed", "base"} & found.keys()
    assert planned_steps(tmp_path) is None and orjson.dumps(found)


def run_of(tmp_path, steps=(5, 10), root=None, state=None):
    for step in steps:
        toys.save(tmp_path / f"run/checkpoint-{step}", seed=step)
        write(tmp_path / f"run/checkpoint-{step}", trainer_state__json={"global_step": step, "max_steps": 12})
    if root is not None:
        toys.save(tmp_path / "run", seed=root)
    if state is not None:
        write(tmp_path / "run", trainer_state__json={"global_step": state})
    return str(tmp_path / "run")


@pytest.mark.parametrize(
    ("root", "state", "steps"),
    [
        (None, None, [5, 10]),
        (12, 12, [5, 10, 12]),  # its last step, by trainer_state.json
        (10, 10, [5, 10]),  # the last checkpoint's weights: once
        (10, None, [5, 10]),  # the same, which only the bytes say
        (5, 12, [5, 10]),  # the best checkpoint was loaded in the end
        (12, None, [5, 10, 12]),  # as planned
    ],
)
def test_weights_in_the_root_are_the_last_step_and_there_once(tmp_path, root, state, steps):
    found, is_run = find_checkpoints(run_of(tmp_path, root=root, state=state))
    assert is_run and [c.step for c in found] == steps
    assert [c.name for c in found] == [f"checkpoint-{step}" for step in steps]


def test_weights_of_no_known_step_are_said(tmp_path, capsys):
    run = run_of(tmp_path, root=12)
    for file in (tmp_path / "run").rglob("trainer_state.json"):
        file.unlink()
    assert [c.step for c in find_checkpoints(run)[0]] == [5, 10]
    assert "of no known step, and not scored" in capsys.readouterr().err


def test_each_run_of_swift_has_its_own_last_step(tmp_path):
    for run, steps in (("v0-20260101", (2, 4)), ("v1-20260102", (3,))):
        for step in steps:
            toys.save(tmp_path / "out" / run / f"checkpoint-{step}", seed=step)
    toys.save(tmp_path / "out/v1-20260102", seed=9)
    write(tmp_path / "out/v1-20260102", trainer_state__json={"global_step": 6})
    names = [c.name for c in find_checkpoints(str(tmp_path / "out"))[0]]
    assert names == [
        "v0-20260101/checkpoint-2",
        "v0-20260101/checkpoint-4",
        "v1-20260102/checkpoint-3",
        "v1-20260102/checkpoint-6",
    ]


def test_weights_in_the_root_alone_have_their_step(tmp_path):
    toys.save(tmp_path / "run")
    write(tmp_path / "run", trainer_state__json={"global_step": 8})
    [(found, is_run)] = [find_checkpoints(str(tmp_path / "run"))]
    assert not is_run and [c.step for c in found] == [8]


def test_the_base_is_step_0(tmp_path):
    base = toys.save(tmp_path / "base", seed=99)
    run = run_of(tmp_path)
    with pytest.raises(InputError, match="is not said"):
        with_base(find_checkpoints(run)[0])
    write(tmp_path / "run", args__json={"model": "nowhere/at/all"})
    with pytest.raises(InputError, match="'nowhere/at/all' is not there"):
        with_base(find_checkpoints(run)[0])
    write(tmp_path / "run", args__json={"model": str(base)})
    found = with_base(find_checkpoints(run)[0])
    assert [(c.name, c.step) for c in found] == [("base", 0), ("checkpoint-5", 5), ("checkpoint-10", 10)]
    assert found[0].folder == base


def test_a_base_of_steel_brings_its_history(tmp_path):
    base = toys.save(tmp_path / "base")
    write(
        base,
        steel__json={"step": 3, "contamination": {"cmmlu": {"3": 7}}, "base": {"name": "x", "history": [{"step": 1}]}},
    )
    run = shutil.copytree(base, tmp_path / "run/checkpoint-2")
    (run / "steel.json").unlink()
    write(run, args__json={"model": str(base)})
    assert [earlier["step"] for earlier in training_of(run)["base"]["history"]] == [1, 3]
    write(base, steel__json="{")
    with pytest.raises(InputError, match="cannot be read"):
        training_of(run)
