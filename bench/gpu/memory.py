"""What fits on a card: the peak of memory of LoRA, QLoRA and 8-bit AdamW on random bases, against what `plan` says before.

The base is written to disk in bfloat16 and loaded as a user's is, so that 4-bit loading is met too. A pass has some
1,300 tokens; peak is of what PyTorch allocates.
"""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from bench.gpu.measure import device, first_line, in_a_process
from bench.gpu.train import SHAPES, TINY, world
from bench.train import estimated, session_for

STEPS = 6
BASES = {
    "7B": {"type": "qwen2", "hidden_size": 3584, "num_hidden_layers": 28, "num_attention_heads": 28,
           "num_key_value_heads": 4, "intermediate_size": 18_944, "tie_word_embeddings": False, "vocab_size": 152_064,
           "max_position_embeddings": 4096},
    "1.5B": SHAPES["1.5B"],
}  # fmt: skip
LORA: dict[str, Any] = {"method": "lora"}
FORMS: dict[str, dict[str, Any]] = {
    "LoRA": LORA,
    "QLoRA, NF4": {**LORA, "lora": {"quantize": "nf4"}},
    "all weights, bf16, 8-bit AdamW": {"dtype": "bfloat16", "optimizer": "adamw_8bit"},
    "all weights, float32, AdamW": {},
}
ASKED = {"1.5B": tuple(FORMS), "7B": ("QLoRA, NF4", "LoRA", "all weights, bf16, 8-bit AdamW")}


def measure(run: Any) -> Iterator[dict[str, Any]]:
    mixture, tokenizer = in_a_process(world, run)  # whose threads would not outlive a fork
    for name, shape in (BASES if not run.dry else {"tiny": TINY}).items():
        base = run.out / "work" / f"base-{name}"
        started = time.monotonic()
        in_a_process(write_base, base, shape)
        yield {"base": name, "form": "the base written", "seconds": time.monotonic() - started}
        for form in ASKED[name] if not run.dry else FORMS:
            try:
                yield {"base": name, "form": form, **in_a_process(peak, run, base, mixture, tokenizer, FORMS[form])}
            except Exception as error:
                yield {"base": name, "form": form, "skipped": first_line(error)}
        shutil.rmtree(base)


def write_base(folder: Path, shape: dict[str, Any]) -> None:
    """Write a random model of a shape in bfloat16."""
    from transformers import AutoConfig, AutoModelForCausalLM

    options = {key: value for key, value in shape.items() if key != "type"}
    options["vocab_size"] = options.get("vocab_size", 6_464)
    torch.manual_seed(0)
    with torch.device(device()):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(shape["type"], **options), dtype=torch.bfloat16)
    model.save_pretrained(folder)


def peak(run: Any, base: Path, mixture: Path, tokenizer: Path, form: dict[str, Any]) -> dict[str, Any]:
    """Train some steps; return the peak of memory, the estimate and the loss."""
    from steel_train.loop.metrics import Metrics
    from steel_train.models.load import Base

    room = {"micro_batch": 2, "accumulate": 12, "max_length": 2048, "epochs": 500, "max_steps": STEPS}
    if run.dry:
        room |= {"accumulate": 1, "max_length": 128, "max_steps": 3}
    precision = {} if torch.cuda.is_available() else {"precision": "fp32" if "dtype" not in form else "auto"}
    settings = {"packing": True, "gradient_checkpointing": True, "precision": "auto", **precision, **form}
    session = session_for(mixture, tokenizer, run.out / "work" / "memory", model=str(base), **room, **settings)
    session.folder.mkdir(exist_ok=True)
    (session.folder / "metrics.jsonl").unlink(missing_ok=True)
    session.resumed = None
    memory = estimated(session).memory
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    started = time.monotonic()
    model = session._load()
    loaded = time.monotonic() - started
    trainer = session._trainer(model, Base("bench", "", ""), [])
    trainer._save_checkpoint = lambda *_: None
    trainer.train()
    lines = Metrics(session.folder).read()
    return {"peak_gb": torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else None,
            "estimated_gb": memory.peak / 1e9 if memory else None,
            "tokens": lines[-1]["tokens"], "loaded_s": loaded, "loss": lines[-1]["loss"]}  # fmt: skip
