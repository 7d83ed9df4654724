"""What somebody has who begins a tutorial, small: rows, exams, a base model, a run of LLaMA-Factory, all toys.

The names are those of the real things, so that the tutorials' commands run here as they are written.
"""

import json
from pathlib import Path

CARD = """---
library_name: peft
---
# sft

This model is a fine-tuned version of [Qwen/Qwen2.5-0.5B](https://huggingface.co/Qwen/Qwen2.5-0.5B) on the chat dataset.

### Training hyperparameters

- learning_rate: 0.0001
- seed: 42
- num_epochs: 3.0
"""


def write_rows(folder: Path) -> None:
    """Write chat.json in the alpaca layout: Chinese rows, one twice, and an English one."""
    rows = [
        {"instruction": f"{place}的{thing}怎么样？", "input": "", "output": f"{place}的{thing}{word}，第{i}天去最好，记得带伞。"}
        for i, (place, thing, word) in enumerate(
            (p, t, w) for p in ("东山", "西河", "南湖", "北岭", "中原") for t in "茶鱼桥塔花路" for w in ("很有名", "不错", "一般", "少见")
        )
    ]  # fmt: skip
    english = {"instruction": "What is a kettle for?", "input": "", "output": "It boils water for the tea of everyone."}
    (folder / "chat.json").write_text(json.dumps([*rows, rows[0], english], ensure_ascii=False), encoding="utf-8")


def write_models(folder: Path) -> None:
    """Write a base of two layers, and an adapter of it as LLaMA-Factory leaves one: steps 500 and 1000."""
    import torch
    from peft import LoraConfig, get_peft_model
    from tests.steel_eval import toys

    name = "Qwen/Qwen2.5-0.5B"
    toys.save(folder / name)
    run = folder / "saves/Qwen2.5-0.5B/lora/sft"
    for place, step in ((run / "checkpoint-500", 500), (run, 1000)):
        base = toys.model(len(toys.tokenizer()))
        base.name_or_path = name
        torch.manual_seed(step)
        adapter = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
        adapter.peft_config["default"].base_model_name_or_path = name
        adapter.save_pretrained(place, save_embedding_layers=False)
        toys.tokenizer().save_pretrained(place)
        (place / "README.md").write_text(CARD, encoding="utf-8")
        (place / "trainer_state.json").write_text(json.dumps({"global_step": step, "epoch": step / 1000 * 3}))


def write_recipe(folder: Path) -> None:
    """Write the mine.toml of "filter and train", with few rows a step."""
    (folder / "mine.toml").write_text(
        """
[source.chat]
path = "chat.json"

[train]
model = "Qwen/Qwen2.5-0.5B"
epochs = 1
learning_rate = 2e-5
micro_batch = 4
accumulate = 2
""",
        encoding="utf-8",
    )


def furnish(folder: Path, tutorial: str) -> None:
    """Put into a folder what the reader of this tutorial has."""
    write_rows(folder)
    if tutorial == "my-own-filter":  # the one without torch
        return
    from tests.steel_eval import toys

    toys.benchmarks(folder / "data")
    write_models(folder)
    if tutorial == "gpus-and-cluster":
        write_recipe(folder)
