"""Three toy sources: who is larger, sums, and noise; a model of one small layer; and surfaces made by hand."""

import json
import random

import numpy as np

from steel_eval.arms import Job, RunArm
from steel_eval.mix.design import choose_arms
from steel_eval.mix.measure import ArmResult
from steel_eval.mix.pool import Pool
from steel_eval.mix.results import Run

RECIPE = """
seed = 3
[source.chat]
path = "chat.jsonl"
[source.exam]
path = "exam.jsonl"
[source.noise]
path = "noise.jsonl"
[train]
model = { type = "qwen2", hidden_size = 32, num_hidden_layers = 1, num_attention_heads = 2, num_key_value_heads = 2, intermediate_size = 64, vocab_size = 400, max_position_embeddings = 256, tie_word_embeddings = true }
epochs = 1
learning_rate = 3e-3
schedule = "constant"
micro_batch = 8
accumulate = 1
max_length = 128
"""
SEARCH = """
[search]
tokens = 3000
runs = 5
centre = 2
measure = { held_out = ["chat", "exam"] }
"""


def rows(kind, n, seed=0):
    rng, out = random.Random(f"{kind}{seed}"), []
    for i in range(n):
        a, b = rng.randrange(30), rng.randrange(30)
        if kind == "chat":
            out.append((f"请问第{i}回甲{a}和乙{b}谁大？", "甲大。" if a > b else "乙大。"))
        elif kind == "exam":
            out.append((f"第{i}题，{a}加{b}等于几？", f"答案是{a % 7}{b % 3}。"))
        else:
            out.append((f"随便说{i}。", "".join(rng.choice("天地玄黄宇宙洪荒日月盈昃") for _ in range(8))))
    return [{"instruction": question, "output": answer} for question, answer in out]


def write(root, name, found):
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in found)
    (root / f"{name}.jsonl").write_text(text + "\n", encoding="utf-8")


def world(root, recipe=RECIPE, search=SEARCH, n=300):
    """Write sources and `r.toml` to a folder; return the recipe's path."""
    for kind in ("chat", "exam", "noise"):
        write(root, kind, rows(kind, n))
    (root / "r.toml").write_text(recipe + search, encoding="utf-8")
    return root / "r.toml"


def pool(**changes):
    """Return a pool of which only the numbers are used."""
    own = {"chat": 0.5, "exam": 0.3, "code": 0.2}
    facts = {
        "tables": {"source": {n: {"path": f"{n}.jsonl"} for n in own}, "train": {}}, "kind": "source", "vary": tuple(own),
        "own": own, "there": {"chat": 500_000, "exam": 300_000, "code": 200_000}, "copies": dict.fromkeys(own, 4),
        "total": 1_000_000, "injected": 0, "held": {}, "held_folder": None, "notes": (),
    } | changes  # fmt: skip
    return Pool(**facts)


def measured_runs(of, space, folder, truth, noise=0.0, runs=12, centre=4):
    """Return runs of which measure m has `truth[m]` of the shares, and noise; 40 items each."""
    rng = np.random.default_rng(5)
    share_NK = np.vstack([np.tile(space.own, (centre, 1)), choose_arms(space, runs, 1)])
    out = []
    for i, share_K in enumerate(share_NK):
        kind = "centre" if i < centre else "design"
        name = "centre" if i < centre else f"arm-{i - centre + 1:02d}"
        value = {m: float(f(share_K[None])[0] + noise * rng.standard_normal()) for m, f in truth.items()}
        items = {m: v + rng.standard_normal(40) * 0.01 for m, v in value.items()}
        above = {m: np.abs(rng.standard_normal(40)) for m in value}
        job = Job(RunArm(name, folder / "r.toml", folder / name), 1000 + i)
        out.append(Run(kind, name, 1000 + i, of.shares(share_K), share_K, ArmResult(job, value, items, above)))
    return out
