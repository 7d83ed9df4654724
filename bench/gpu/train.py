"""Training end to end, the shapes of Qwen2.5-0.5B and 1.5B with random weights: tokens/s, MFU, memory, against TRL."""

import gc
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from bench.gpu.measure import device, first_line, gemm_rate, synchronise
from bench.train import MARKED, estimated, sample_mixture, session_for

STEPS, LEFT_OUT = 8, 3
SHAPES = {
    "0.5B": {"type": "qwen2", "hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14,
             "num_key_value_heads": 2, "intermediate_size": 4864, "tie_word_embeddings": True, "vocab_size": 151_936,
             "max_position_embeddings": 4096},
    "1.5B": {"type": "qwen2", "hidden_size": 1536, "num_hidden_layers": 28, "num_attention_heads": 12,
             "num_key_value_heads": 2, "intermediate_size": 8960, "tie_word_embeddings": True, "vocab_size": 151_936,
             "max_position_embeddings": 4096},
}  # fmt: skip
TINY = {"type": "qwen2", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "intermediate_size": 64, "tie_word_embeddings": True, "max_position_embeddings": 512}  # fmt: skip
# 256 rows a step: packed one pass of some 16,000 tokens, padded eight of 32 rows
ROOM = {"micro_batch": 32, "accumulate": 8, "max_length": 2048, "epochs": 500, "max_steps": STEPS}
PLAIN = {"plain TRL": False, "plain TRL, Liger": True}  # whether Liger's kernels are put in
WAYS = {
    "ours, TRL's head, packed": {"kernels": "auto", "packing": True},
    "ours, triton, packed": {"kernels": "triton", "packing": True},
    "ours, TRL's head, padded": {"kernels": "auto", "packing": False},
    "ours, triton, padded": {"kernels": "triton", "packing": False},
}


def world(run: Any) -> tuple[Path, Path]:
    """Return mixture and tokenizer: the pack's, or made here."""
    place = run.world if run.world.is_dir() else run.out / "world"
    if not (place / "mixture").is_dir():
        place.mkdir(parents=True, exist_ok=True)
        sample_mixture(place)
    return place / "mixture", place / "tokenizer"


def measure(run: Any) -> Iterator[dict[str, Any]]:
    mixture, tokenizer = world(run)
    rate = gemm_rate(8192 if not run.dry else 64)
    for name, shape in (SHAPES if not run.dry else {"tiny": TINY}).items():
        for way in (*WAYS, *PLAIN):
            if run.dry and "triton" in way:
                yield {"shape": name, "way": way, "skipped": "interpreted, it takes minutes"}
                continue
            try:
                if way in WAYS:
                    row = ours(run, mixture, tokenizer, shape, WAYS[way])
                else:
                    row = plain(run, mixture, tokenizer, shape, PLAIN[way])
                row["mfu_of_gemm"] = 6 * row["matrix_parameters"] * row["tokens_s"] / rate
                yield {"shape": name, "way": way, **row}
            except Exception as error:
                yield {"shape": name, "way": way, "skipped": first_line(error)}
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


class Clock:
    """The end of each step on the clock, the GPU waited for."""

    def __init__(self, trainer: Any) -> None:
        from transformers import TrainerCallback

        self.times: list[float] = []
        outer = self

        class Each(TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                synchronise()
                outer.times.append(time.perf_counter())

        trainer.add_callback(Each())

    def seconds(self, first: int) -> float:
        return self.times[-1] - self.times[first - 1]


def facts(model: Any) -> dict[str, Any]:
    """Return parameters, those in matrix products (a tied embedding counts once, as the head), and the peak of memory."""
    count = sum(p.numel() for p in model.parameters())
    peak = torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else None
    return {"parameters": count, "matrix_parameters": count, "peak_gb": peak}


def ours(run: Any, mixture: Path, tokenizer: Path, shape: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Train through steel's own session; return tokens/s, memory, loss, and what ran."""
    from steel_train.kernels.patch import report
    from steel_train.loop.metrics import Metrics
    from steel_train.models.load import Base, load_model

    room = ROOM if not run.dry else ROOM | {"micro_batch": 2, "accumulate": 2, "max_length": 128, "max_steps": 3}
    precision = "bf16" if torch.cuda.is_available() else "fp32"
    session = session_for(mixture, tokenizer, run.out / "work", model=shape, precision=precision, **room, **settings)
    session.folder.mkdir(exist_ok=True)
    (session.folder / "metrics.jsonl").unlink(missing_ok=True)
    session.resumed = None
    row: dict[str, Any] = {}
    if settings == WAYS["ours, TRL's head, packed"]:  # the estimate that `plan` gives before
        memory = estimated(session).memory
        row["estimated_gb"] = memory.peak / 1e9 if memory else None  # of a tiny model there is none
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with torch.device(device()):
        model = load_model(session.settings, session.config, session.recipe.path, session.packed, 1)
    trainer = session._trainer(model, Base("bench", "", ""), [])
    trainer._save_checkpoint = lambda *_: None  # gigabytes that nobody reads
    clock = Clock(trainer)
    trainer.train()
    lines = Metrics(session.folder).read()
    first = LEFT_OUT if not run.dry else 1
    tokens = sum(line["tokens"] for line in lines[first:])
    ran = {op: {k: v for k, v in counts.items() if v} for op, counts in report(trainer.model).items()}
    return {"tokens_s": tokens / clock.seconds(first), **facts(trainer.model), **row, "loss": lines[-1]["loss"],
            "attention": model.config._attn_implementation, "ran": ran}  # fmt: skip


def plain(run: Any, mixture: Path, tokenizer: Path, shape: dict[str, Any], liger: bool) -> dict[str, Any]:
    """Train with TRL's SFTTrainer as one writes it: bf16, the same rows a step, padded, no gradient checkpointing."""
    from datasets import load_dataset
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    data = load_dataset("parquet", data_files=str(mixture / "train-*.parquet"), split="train")
    loaded = AutoTokenizer.from_pretrained(tokenizer)
    loaded.chat_template, loaded.pad_token, loaded.eos_token = MARKED, "<|endoftext|>", "<|im_end|>"
    options = {key: value for key, value in shape.items() if key != "type"}
    options["vocab_size"] = max(options.get("vocab_size", 0), -(-len(loaded) // 64) * 64)
    config = AutoConfig.for_model(shape["type"], **options)
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    with torch.device(device()):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    steps = STEPS if not run.dry else 3
    arguments = SFTConfig(
        output_dir=str(run.out / "work/trl"), per_device_train_batch_size=ROOM["micro_batch"] if not run.dry else 2,
        gradient_accumulation_steps=ROOM["accumulate"] if not run.dry else 2, max_steps=steps, max_length=2048 if not run.dry else 128, bf16=cuda,
        gradient_checkpointing=False, logging_steps=1, save_strategy="no", report_to="none", disable_tqdm=True,
        assistant_only_loss=True, use_cpu=not cuda, learning_rate=2e-5, use_liger_kernel=liger,
    )  # fmt: skip
    rows = data.select_columns(["messages"]).shuffle(seed=1)
    trainer = SFTTrainer(model=model, args=arguments, train_dataset=rows, processing_class=loaded)
    clock = Clock(trainer)
    trainer.train()
    counts = [line["num_tokens"] for line in trainer.state.log_history if "num_tokens" in line]
    first = LEFT_OUT if not run.dry else 1
    tokens = counts[steps - 1] - counts[first - 1]
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    return {"tokens_s": tokens / clock.seconds(first), **facts(model), "loss": losses[-1],
            "attention": model.config._attn_implementation}  # fmt: skip
