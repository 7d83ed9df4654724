"""Training end to end, the shapes of Qwen2.5-0.5B and 1.5B with random weights: tokens/s, MFU, memory, against TRL."""

import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from bench.gpu.measure import device, first_line, gemm_rate, in_a_process, synchronise
from bench.train import MARKED, conversations, estimated, sample_mixture, session_for

STEPS, LEFT_OUT = 12, 4
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
# rows of a step: conversations packed lie in two passes of some 10,000 tokens, padded in four of 8 rows; the sample's
# short rows packed in one of 16,000, padded in eight of 32
ROOM = {
    "conversations": {"micro_batch": 8, "accumulate": 4},
    "short rows": {"micro_batch": 32, "accumulate": 8},
}  # fmt: skip
COMMON = {"max_length": 2048, "epochs": 500, "max_steps": STEPS}
PLAIN = {"plain TRL": False, "plain TRL, Liger": True}  # whether Liger's kernels are put in
WAYS = {
    "ours, TRL's head, packed": {"kernels": "auto", "packing": True},
    "ours, triton, packed": {"kernels": "triton", "packing": True},
    "ours, TRL's head, padded": {"kernels": "auto", "packing": False},
    "ours, triton, padded": {"kernels": "triton", "packing": False},
}
PACKED = tuple(way for way in WAYS if "packed" in way)
# what is asked first decides most: the time may end before the rest
ASKED = (
    ("0.5B", "conversations", (*PACKED, *reversed(PLAIN))), ("1.5B", "conversations", (*PACKED, *reversed(PLAIN))),
    ("0.5B", "short rows", PACKED), ("0.5B", "conversations", tuple(way for way in WAYS if way not in PACKED)),
)  # fmt: skip


def world(run: Any) -> tuple[Path, Path]:
    """Return mixture and tokenizer: the pack's, or made here."""
    place = run.world if run.world.is_dir() else run.out / "world"
    if not (place / "mixture").is_dir():
        place.mkdir(parents=True, exist_ok=True)
        conversations(*sample_mixture(place))
    return place / "mixture", place / "tokenizer"


def measure(run: Any) -> Iterator[dict[str, Any]]:
    short, tokenizer = in_a_process(world, run)  # whose threads would not outlive a fork
    mixtures = {"short rows": short, "conversations": short.with_name("conversations")}
    rate = in_a_process(gemm_rate, 8192 if not run.dry else 64)
    for name, rows, ways in ASKED if not run.dry else [("tiny", rows, ways) for _, rows, ways in ASKED[1:]]:
        shape = SHAPES.get(name, TINY)
        for way in ways:
            about = {"shape": name, "rows": rows, "way": way}
            if run.dry and "triton" in way:
                yield {**about, "skipped": "interpreted, it takes minutes"}
                continue
            try:
                asked = run, mixtures[rows], tokenizer, shape
                if way in WAYS:
                    row = in_a_process(ours, *asked, ROOM[rows] | WAYS[way])
                else:
                    row = in_a_process(plain, *asked, ROOM[rows], PLAIN[way])
                row["mfu_of_gemm"] = 6 * row["matrix_parameters"] * row["tokens_s"] / rate
                yield {**about, **row}
            except Exception as error:
                yield {**about, "skipped": first_line(error)}


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

    def speed(self, tokens: list[int], first: int) -> dict[str, float]:
        """Return the median of tokens/s of the steps from `first` (0: the first step) on, and the seconds of the slowest.

        The median, since Triton compiles a kernel again for a pass whose length is a multiple of 16, once in a run.
        """
        took = [end - begin for begin, end in zip(self.times[first - 1 :], self.times[first:], strict=False)]
        rates = [count / seconds for count, seconds in zip(tokens[first:], took, strict=True)]
        return {"tokens_s": statistics.median(rates), "slowest_step_s": max(took)}


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

    room = COMMON | settings
    if run.dry:
        room |= {"micro_batch": 2, "accumulate": 2, "max_length": 128, "max_steps": 3}
    precision = "bf16" if torch.cuda.is_available() else "fp32"
    session = session_for(mixture, tokenizer, run.out / "work", model=shape, precision=precision, **room)
    session.folder.mkdir(exist_ok=True)
    (session.folder / "metrics.jsonl").unlink(missing_ok=True)
    session.resumed = None
    row: dict[str, Any] = {}
    if settings["kernels"] == "auto":  # the estimate that `plan` gives before
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
    speed = clock.speed([line["tokens"] for line in lines], LEFT_OUT if not run.dry else 1)
    ran = {op: {k: v for k, v in counts.items() if v} for op, counts in report(trainer.model).items()}
    return {**speed, "tokens_a_step": lines[-1]["tokens"], **facts(trainer.model), **row, "loss": lines[-1]["loss"],
            "attention": model.config._attn_implementation, "ran": ran}  # fmt: skip


def plain(
    run: Any, mixture: Path, tokenizer: Path, shape: dict[str, Any], room: dict[str, int], liger: bool
) -> dict[str, Any]:
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
        output_dir=str(run.out / "work/trl"), per_device_train_batch_size=room["micro_batch"] if not run.dry else 2,
        gradient_accumulation_steps=room["accumulate"] if not run.dry else 2, max_steps=steps, max_length=2048 if not run.dry else 128, bf16=cuda,
        gradient_checkpointing=False, logging_steps=1, save_strategy="no", report_to="none", disable_tqdm=True,
        assistant_only_loss=True, use_cpu=not cuda, learning_rate=2e-5, use_liger_kernel=liger,
    )  # fmt: skip
    rows = data.select_columns(["messages"]).shuffle(seed=1)
    trainer = SFTTrainer(model=model, args=arguments, train_dataset=rows, processing_class=loaded)
    clock = Clock(trainer)
    trainer.train()
    counts = [line["num_tokens"] for line in trainer.state.log_history if "num_tokens" in line]
    tokens = [int(b - a) for a, b in zip([0, *counts], counts, strict=False)]
    speed = clock.speed(tokens[:steps], LEFT_OUT if not run.dry else 1)
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    return {**speed, "tokens_a_step": tokens[steps - 1], **facts(model), "loss": losses[-1],
            "attention": model.config._attn_implementation}  # fmt: skip
