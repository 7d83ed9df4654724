"""The runs themselves: each trains a small model from the shared base on its own draw, and is measured on all items.

The texts of the rows, which of their tokens are learnt, the draw of the items and every score are the packages' own
(Encoder, contaminate, leak.measure); only the training loop is here, because 64 runs have five minutes: AdamW, one pass,
steps of 1,024 tokens, cosine. A run takes one thread and leaves one file of scores; no weights are kept.
"""

import json
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench.truth_pool.design import Plan
from numpy.typing import NDArray

from steel_data.benchmarks.items import Item
from steel_data.builders.contaminate import contaminate, draw, records
from steel_eval.leak.measure import Measured, Texts, choose_permuted, measure
from steel_eval.leak.texts import item_texts
from steel_eval.models import Loaded
from steel_train.examples.encode import Encoder
from steel_train.examples.tokenizer import load_tokenizer

TOKENS, STEP, RATE = 100_000, 1_024, 1e-3
PERMUTED = 24  # seen items, and as many unseen ones, whose options are permuted
ALTERED = {"answer-only": 0.5, "edited": 0.25, "shuffled": 0.25}
SHAPES = {
    "1.6M": {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 384},
    "0.5M": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 192},
}  # fmt: skip


@dataclass
class Rows:
    """Rows as tokens, and which of them are learnt."""

    ids: list[NDArray[np.int32]]
    learnt: list[NDArray[np.bool_]]

    def only(self, first: int, last: int) -> "Rows":
        """Return the rows from `first` to before `last`."""
        return Rows(self.ids[first:last], self.learnt[first:last])

    def save(self, file: Path) -> None:
        """Write the rows as one compressed file."""
        np.savez_compressed(
            file, ids=np.concatenate(self.ids).astype(np.uint16), learnt=np.packbits(np.concatenate(self.learnt)),
            ends=np.cumsum([len(r) for r in self.ids]),
        )  # fmt: skip

    @classmethod
    def load(cls, file: Path) -> "Rows":
        """Read what `save` wrote."""
        found = np.load(file)
        ids, cuts = found["ids"].astype(np.int32), found["ends"][:-1]
        learnt = np.unpackbits(found["learnt"])[: len(ids)].astype(bool)
        return cls(np.split(ids, cuts), np.split(learnt, cuts))


def new_model(name: str, vocabulary: int) -> Any:
    """Return a small Qwen2 with random weights, the same each time."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    shape = {**SHAPES[name], "max_position_embeddings": 1024, "tie_word_embeddings": True}
    return Qwen2ForCausalLM(Qwen2Config(vocab_size=vocabulary, **shape))


def save_half(model: Any, file: Path) -> None:
    """Write the weights in half precision: what travels has a limit, and every run starts from the same numbers."""
    from safetensors.torch import save_file

    save_file({n: p.detach().half().contiguous() for n, p in model.named_parameters()}, str(file))


def load_base(name: str, folder: Path, vocabulary: int) -> Any:
    """Return the base that all runs of a model start from."""
    from safetensors.torch import load_file

    model = new_model(name, vocabulary)
    weights = {n: w.float() for n, w in load_file(str(folder / f"base-{name}.safetensors")).items()}
    model.load_state_dict(weights, strict=False)
    model.tie_weights()
    return model


def train(model: Any, rows: Rows, seed: int, rate: float = RATE) -> dict[str, float]:
    """Train on all rows once, in an order of `seed`, and say how long it took (CPU seconds) and the last losses (nats)."""
    begun, generator = time.process_time(), np.random.default_rng(seed)
    steps: list[list[int]] = [[]]
    filled = 0
    for i in generator.permutation(len(rows.ids)):
        if filled + len(rows.ids[i]) > STEP and steps[-1]:
            steps.append([])
            filled = 0
        steps[-1].append(int(i))
        filled += len(rows.ids[i])
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    model.train()
    losses = []
    for number, step in enumerate(steps):
        warm = min(1.0, (number + 1) / max(1.0, 0.03 * len(steps)))
        for group in optimizer.param_groups:
            group["lr"] = rate * warm * 0.5 * (1 + math.cos(math.pi * number / len(steps)))
        count = sum(int(rows.learnt[i].sum()) for i in step)
        step.sort(key=lambda i: len(rows.ids[i]))
        total = 0.0
        for at in range(0, len(step), 4):
            total += _backward(model, rows, step[at : at + 4], count)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(total)
    return {"cpu_s": time.process_time() - begun, "loss": float(np.mean(losses[-10:])), "steps": len(steps)}


def _backward(model: Any, rows: Rows, members: list[int], count: int) -> float:
    longest = max(len(rows.ids[i]) for i in members)
    ids_BT = torch.zeros((len(members), longest), dtype=torch.long)
    there_BT, learnt_BT = torch.zeros_like(ids_BT), torch.zeros_like(ids_BT, dtype=torch.bool)
    for b, i in enumerate(members):
        n = len(rows.ids[i])
        ids_BT[b, :n] = torch.from_numpy(rows.ids[i].astype(np.int64))
        there_BT[b, :n] = 1
        learnt_BT[b, :n] = torch.from_numpy(rows.learnt[i])
    hidden_BTD = model.model(input_ids=ids_BT, attention_mask=there_BT, use_cache=False).last_hidden_state
    # the head only where something is learnt
    logits_KV = model.lm_head(hidden_BTD[:, :-1][learnt_BT[:, 1:]])
    loss = torch.nn.functional.cross_entropy(logits_KV, ids_BT[:, 1:][learnt_BT[:, 1:]], reduction="sum") / count
    loss.backward()
    return loss.item()


@dataclass
class World:
    """What all runs share. `tokens`: of a run."""

    folder: Path
    items: list[Item]
    rows: Rows
    tokenizer: Any
    tokens: int = TOKENS

    @classmethod
    def load(cls, folder: Path, dry: bool = False) -> "World":
        """Read the folder that `prepare` wrote. `dry`: so little of it that a run takes seconds and means nothing."""
        said = json.loads((folder / "items.json").read_text(encoding="utf-8"))
        items = [
            Item(item=i["item"], subject=i["subject"], split="test", row=n, question=i["question"], options=tuple(i["options"]),
                 answer=i["answer"], explanation="", file=Path("cmmlu"))
            for n, i in enumerate(said[:: 12 if dry else 1])
        ]  # fmt: skip
        tokenizer = load_tokenizer(str(folder / "tokenizer"), str(folder))
        return cls(folder, items, Rows.load(folder / "rows.npz"), tokenizer, TOKENS // 12 if dry else TOKENS)


@dataclass
class Drawn:
    """A run's draw, (I,) each: copies of an item in the run's rows, its form, and whether it is of the run's benchmark."""

    dose_I: NDArray[np.int64]
    form_I: list[str]
    inside_I: NDArray[np.bool_]
    injected: Rows


def drawn(plan: Plan, world: World) -> Drawn:
    """Draw the run's benchmark, items, doses and forms by its seed; return them with the injected rows."""
    count = len(world.items)
    inside_I = np.zeros(count, bool)
    inside_I[np.random.default_rng(plan.seed).permutation(count)[: plan.size]] = True
    if not plan.doses:
        return Drawn(np.zeros(count, np.int64), [""] * count, inside_I, Rows([], []))
    mine = [item for item, inside in zip(world.items, inside_I, strict=True) if inside]
    length = np.mean([len(t.tokens) for t in item_texts(mine, "chat", world.tokenizer)])
    room = plan.share * world.tokens / len(plan.doses)
    most = len(mine) // (2 * len(plan.doses))
    doses = {str(d): min(most, max(1, int(room / length / d))) for d in plan.doses}
    style = ALTERED if plan.altered else "answer-only"
    settings = contaminate(benchmark="cmmlu", doses=doses, style=style, seed=plan.seed)  # type: ignore[arg-type]
    draws = draw(mine, settings)
    encoder = Encoder(world.tokenizer, 1024)
    made = encoder.encode([{"messages": r["messages"]} for r in records(draws, "cmmlu", settings) if r["messages"]])
    rows, seen = Rows([], []), [d for d in draws if d.dose]
    for d, encoded in zip(seen, made, strict=True):
        for _ in range(d.dose):
            rows.ids.append(encoded.examples[0].ids)
            rows.learnt.append(encoded.examples[0].learnt)
    place = {item.item: n for n, item in enumerate(world.items)}
    dose_I, form_I = np.zeros(count, np.int64), [""] * count
    for d in seen:
        dose_I[place[d.item.item]], form_I[place[d.item.item]] = d.dose, d.form
    return Drawn(dose_I, form_I, inside_I, rows)


def mixture_of(plan: Plan, its: Drawn, world: World) -> Rows:
    """Return a run's rows: the injected ones, and ordinary ones up to the run's tokens, with the mask of the run's loss."""
    ids, learnt = list(its.injected.ids), list(its.injected.learnt)
    left = world.tokens - sum(map(len, ids))
    for row, mask in zip(world.rows.ids, world.rows.learnt, strict=True):
        if len(row) > left:
            break
        ids.append(row)
        learnt.append(mask)
        left -= len(row)
    if plan.loss == "all":  # as `[train] loss = "all"` has it; prepare.py compares
        learnt = [np.arange(len(row)) > 0 for row in ids]
    return Rows(ids, learnt)


def measured(model: Any, world: World, dose_I: NDArray[np.int64], permuted: int) -> Measured:
    """Measure a model on all items; `permuted` seen and as many unseen ones also in all orders of their options."""
    model.eval()
    texts = Texts(
        world.items, choose_permuted(world.items, (dose_I > 0).astype(np.int64), permuted), "chat", world.tokenizer
    )
    return measure(Loaded(model, world.tokenizer, "", 1024, world.folder), texts)


def do_run(plan: Plan | str, world: World, out: Path) -> str:
    """Train and measure one run (a model's name: its base alone) and write its file; return a line about it."""
    torch.set_num_threads(1)
    begun, wall = time.process_time(), time.monotonic()
    model = load_base(plan if isinstance(plan, str) else plan.model, world.folder, len(world.tokenizer))
    its, said = None, {"steps": 0, "loss": 0.0}
    if isinstance(plan, str):
        found = measured(model, world, np.zeros(len(world.items), np.int64), len(world.items))
    else:
        its = drawn(plan, world)
        rows = mixture_of(plan, its, world)
        said = train(model, rows, plan.seed)
        found = measured(model, world, its.dose_I, PERMUTED)
    name = file_of(plan)
    about = {"plan": None if isinstance(plan, str) else vars(plan), **said, "cpu_s": time.process_time() - begun}
    if its is not None:
        about["injected"] = sum(map(len, its.injected.ids)) / sum(map(len, rows.ids))
    write(out / name, about, found, its)
    return f"{name}: {about['cpu_s']:.0f} CPU s, {time.monotonic() - wall:.0f} s, loss {said['loss']:.3f}"


def file_of(plan: Plan | str) -> str:
    """Return the name of a run's file of results."""
    return f"{plan}-base.npz" if isinstance(plan, str) else f"{plan.name}.npz"


def write(file: Path, about: dict[str, Any], found: Measured, its: Drawn | None) -> None:
    """Write scores in half the digits, and the draw; a file is there whole or not at all."""
    arrays: dict[str, Any] = {f"score {name}": value.astype(np.float32) for name, value in found.scores.items()}
    if its is not None:
        arrays |= {"dose": its.dose_I.astype(np.uint8), "form": np.array(its.form_I), "inside": its.inside_I}
    part = file.with_suffix(f".{os.getpid()}.part")
    with part.open("wb") as stream:
        np.savez_compressed(stream, about=np.array(json.dumps(about)), right=found.right_I.astype(np.float32), **arrays)
    part.rename(file)
