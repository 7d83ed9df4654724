"""How fast is `run` against plain TRL, how near is the memory estimate, how long does the pre-flight take?

    python bench/train.py [MIXTURE TOKENIZER] [--only speed|memory|preflight]

Without a mixture, one is built from the generated sample. Speeds are tokens per CPU-second (one thread), so a loaded
machine does not tell; the trainers take turns, and ratios are medians over the rounds.
"""

import ctypes
import itertools
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

ROUNDS, STEPS, ACCUMULATE = 3, 4, 2
MODEL = {
    "type": "qwen2", "hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 512, "max_position_embeddings": 2048, "tie_word_embeddings": True,
}  # fmt: skip
SIZES = ((128, 4, 4), (320, 6, 8), (512, 8, 8))  # hidden, layers, heads
LENGTH = 1024
# ChatML with marks of what is generated: TRL needs them for assistant_only_loss
MARKED = """{%- for message in messages -%}
{%- if message.role == 'assistant' -%}{{- '<|im_start|>assistant\\n' -}}
{%- generation -%}{{- message.content + '<|im_end|>' -}}{%- endgeneration -%}{{- '\\n' -}}
{%- else -%}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}{%- endif -%}
{%- endfor -%}{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"""


def sample_mixture(folder):
    """Build the demo recipe's mixture from the generated sample; returns (mixture, tokenizer folder)."""
    from steel_data.build import build
    from steel_data.mixture.rows import files, rows
    from steel_data.recipe.load import load
    from steel_data.row.record import text_view
    from steel_data.sample import write_sample
    from steel_train.examples.tokenizer import train_tokenizer

    write_sample(folder / "data", scale=0.2)
    recipe = Path(__file__).parent.parent / "recipes" / "demo.toml"
    text = recipe.read_text(encoding="utf-8")
    text = text.replace("take = 500", "take = 100").replace("1 = 30, 3 = 10", "1 = 6, 3 = 2")
    (folder / "demo.toml").write_text(text, encoding="utf-8")
    build(load(folder / "demo.toml"), data_root=folder / "data", out=folder / "mixture")
    mixture = folder / "mixture"
    train_tokenizer(map(text_view, rows(mixture, files(mixture))), 6_400, folder / "tokenizer")
    return mixture, folder / "tokenizer"


def conversations(mixture, tokenizer):
    """Build beside a mixture one of its rows joined, 2 to 24 at a time (130 to 1,600 tokens of the sample's 65).

    Returns (mixture, tokenizer folder).
    """
    from steel_data.build import build
    from steel_data.mixture.rows import files, rows
    from steel_data.recipe.load import load

    folder = mixture.parent
    given = [row["messages"] for row in rows(mixture, files(mixture)) if len(row["messages"]) % 2 == 0]
    left, lines = iter(given), []
    for joined in itertools.cycle((2, 4, 8, 12, 24)):
        turns = [turn for messages in itertools.islice(left, joined) for turn in messages]
        if not turns:
            break
        lines.append(json.dumps({"messages": turns}, ensure_ascii=False) + "\n")
    (folder / "joined.jsonl").write_text("".join(lines), encoding="utf-8")
    (folder / "joined.toml").write_text('[source.joined]\npath = "joined.jsonl"\n', encoding="utf-8")
    build(load(folder / "joined.toml"), data_root=folder, out=folder / "conversations")
    return folder / "conversations", tokenizer


def session_for(mixture, tokenizer, folder, model=MODEL, **settings):
    """Return a Session of a run over the mixture, as `run` makes it."""
    from steel_train.examples.prepare import prepare
    from steel_train.loop.session import Session
    from steel_train.say import quiet
    from steel_train.settings import Settings

    class Recipe:
        name, seed, path, train, sources = "bench", 1, folder / "bench.toml", {}, ()

    folder.mkdir(parents=True, exist_ok=True)
    quiet()
    base = {"max_length": LENGTH, "epochs": 1, "precision": "fp32", "log_every": 1}
    base |= {"max_steps": STEPS, "accumulate": ACCUMULATE}
    chosen = Settings(model=model, tokenizer=str(tokenizer), chat_template="chatml", **{**base, **settings})
    return Session(prepare(Recipe, chosen, folder, mixture, None), folder / "run", 1)


def estimated(session):
    """Return the pre-flight's report on a session."""
    from steel_train.models.dtypes import uses_bf16
    from steel_train.preflight.inspect import Question, inspect

    prepared = session.prepared
    asked = Question(
        prepared.examples, session.schedule, session.settings, prepared.tokenizer, session.config, session.folder,
        uses_bf16(session.settings), own=session.own,
    )  # fmt: skip
    return inspect(asked)


class Clock:
    """CPU-seconds of the steps after the first (which warms up)."""

    def __init__(self, trainer):
        from transformers import TrainerCallback

        self.times = []
        outer = self

        class Each(TrainerCallback):
            def on_step_end(self, args, state, control, **_):
                outer.times.append(time.process_time())

        trainer.add_callback(Each())

    def seconds(self):
        return self.times[-1] - self.times[0]


def ours(session):
    """Return tokens per CPU-second of `run`."""
    from steel_train.models.load import describe_base, load_model

    shutil.rmtree(session.folder, ignore_errors=True)
    session.folder.mkdir()
    session.resumed = None
    model = load_model(session.settings, session.config, session.recipe.path, session.packed, 1)
    trainer = session._trainer(model, describe_base(model, session.settings, session.recipe.path), [])
    clock = Clock(trainer)
    trainer.train()
    lines = [json.loads(line) for line in (session.folder / "metrics.jsonl").read_text().splitlines()]
    return sum(line["tokens"] for line in lines[1:]) / clock.seconds()


def plain_trl(mixture, tokenizer, config, checkpointing):
    """Return tokens per CPU-second of TRL's SFTTrainer with its defaults (float32; same masks, same batch sizes)."""
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    data = load_dataset("parquet", data_files=str(mixture / "train-*.parquet"), split="train")
    rows = data.select_columns(["messages"]).shuffle(seed=1).select(range(min(len(data), 8 * ACCUMULATE * STEPS)))
    loaded = AutoTokenizer.from_pretrained(tokenizer)
    loaded.chat_template, loaded.pad_token, loaded.eos_token = MARKED, "<|endoftext|>", "<|im_end|>"
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    arguments = SFTConfig(
        output_dir=tempfile.mkdtemp(), per_device_train_batch_size=8, gradient_accumulation_steps=ACCUMULATE,
        max_steps=STEPS,
        max_length=LENGTH, bf16=False, gradient_checkpointing=checkpointing, logging_steps=1, save_strategy="no",
        report_to="none", disable_tqdm=True, assistant_only_loss=True, use_cpu=True, learning_rate=2e-5,
    )  # fmt: skip
    trainer = SFTTrainer(model=model, args=arguments, train_dataset=rows, processing_class=loaded)
    clock = Clock(trainer)
    trainer.train()
    counts = [line["num_tokens"] for line in trainer.state.log_history if "num_tokens" in line]
    return (counts[STEPS - 1] - counts[0]) / clock.seconds()


def speed(mixture, tokenizer, folder):
    """Compare tokens per CPU-second."""
    padded = session_for(mixture, tokenizer, folder / "padded", packing=False)
    packed = session_for(mixture, tokenizer, folder / "packed", packing=True)
    ways = {
        "TRL, its defaults": lambda: plain_trl(mixture, tokenizer, padded.config, True),
        "TRL, no gradient checkpointing": lambda: plain_trl(mixture, tokenizer, padded.config, False),
        "run, padded": lambda: ours(padded),
        "run, packed": lambda: ours(packed),
    }
    found = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            found[name].append(way())
    table = Table("trainer", "tokens per CPU-second", "against TRL's defaults", "against TRL without checkpointing")
    base, fair = (found[name] for name in list(ways)[:2])
    for name, values in found.items():
        ratios = [statistics.median(v / b for v, b in zip(values, other, strict=True)) for other in (base, fair)]
        table.add_row(name, f"{statistics.median(values):,.0f}", *(f"{ratio:.2f}x" for ratio in ratios))
    return table


def resident(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) * 1024


def one_memory(mixture, tokenizer, folder, size):
    """Print estimated and measured peak of one model in this (fresh) process."""
    from steel_train.models.load import describe_base, load_model

    hidden, layers, heads = SIZES[size]
    shape = {"hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads}
    session = session_for(mixture, tokenizer, folder, {**MODEL, **shape, "intermediate_size": 4 * hidden}, max_steps=3)
    report = estimated(session)
    session.resumed = None
    session.folder.mkdir(exist_ok=True)
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what was freed before must not hide what is needed now
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    model = load_model(session.settings, session.config, session.recipe.path, session.packed, 1)
    trainer = session._trainer(model, describe_base(model, session.settings, session.recipe.path), [])
    trainer.train()
    peak = resident("VmHWM") - before
    print(json.dumps({"parameters": report.parameters, "estimate": report.memory.peak, "measured": peak}))


def memory(mixture, tokenizer, folder):
    """Compare the estimate with the growth of resident memory, one process a model."""
    table = Table("parameters", "estimate, MB", "measured, MB", "estimate / measured")
    for size in range(len(SIZES)):
        command = [sys.executable, __file__, str(mixture), str(tokenizer), "--one", str(size)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        ratio = found["estimate"] / found["measured"]
        sizes = (f"{found[key] / 1e6:,.0f}" for key in ("estimate", "measured"))
        table.add_row(f"{found['parameters'] / 1e6:.1f} M", *sizes, f"{ratio:.2f}")
    return table


def preflight(mixture, tokenizer, folder, rows=1_000_000):
    """Time the pre-flight of a million rows (the mixture's own, repeated)."""
    import polars as pl

    from steel_train.preflight.costs import parse_devices
    from steel_train.preflight.plan import plan_training

    big = folder / "big"
    big.mkdir()
    one = pl.concat([pl.read_parquet(f) for f in sorted(mixture.glob("train-*.parquet"))])
    for i in range(-(-rows // len(one))):
        one.write_parquet(big / f"train-{i:05d}.parquet")
    manifest = json.loads((mixture / "manifest.json").read_text())
    manifest |= {"rows": rows, "output": {}, "dropped_files": {}, "truth": {}}
    (big / "manifest.json").write_text(json.dumps(manifest))
    recipe = folder / "big.toml"
    shape = {**MODEL, "hidden_size": 1024, "num_hidden_layers": 24}
    table = ", ".join(f"{k} = {json.dumps(v)}" for k, v in shape.items())
    train = f'[train]\nmodel = {{ {table} }}\ntokenizer = "{tokenizer}"\nchat_template = "chatml"\n'
    recipe.write_text(f'[source.x]\npath = "none"\n{train}')
    start = time.monotonic(), time.process_time()
    plan_training(recipe, big, folder / "plan", None, parse_devices("a100x8", "10/h"), 0)
    result = Table("pre-flight", "rows", "seconds", "CPU-seconds")
    result.add_row(
        "24 layers of 1,024", f"{rows:,}", f"{time.monotonic() - start[0]:.1f}", f"{time.process_time() - start[1]:.1f}"
    )
    return result


def main():
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("mixture", nargs="?", type=Path)
    parser.add_argument("tokenizer", nargs="?", type=Path)
    parser.add_argument("--only", choices=("speed", "memory", "preflight"))
    parser.add_argument("--one", type=int)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        mixture, tokenizer = options.mixture, options.tokenizer
        if mixture is None:
            mixture, tokenizer = sample_mixture(folder)
        mixture, tokenizer = mixture.absolute(), tokenizer.absolute()
        if options.one is not None:
            one_memory(mixture, tokenizer, folder, options.one)
            return
        for question in (speed, memory, preflight):
            if options.only in (None, question.__name__):
                Console().print(question(mixture, tokenizer, folder))


if __name__ == "__main__":
    main()
