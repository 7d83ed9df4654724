"""A two-layer model that has learnt half of a toy benchmark by heart, the base it came from, and its mixture."""

import random
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
import pytest
import torch
from tests.steel_eval import toys

from steel_data.benchmarks.items import Item
from steel_eval.ask.tasks import load_task
from steel_eval.leak.texts import item_texts

CHARACTERS = sorted({c for c in "".join(toys.CORPUS) if "一" <= c <= "鿿"})
SUBJECTS = ("agronomy", "ethnology")
SIZE = 24  # items a subject


@dataclass
class Lab:
    """Everything that `leak` needs; `seen`: names of the items that were learnt (the even ones of each subject)."""

    data: Path
    base: Path
    model: Path
    mixture: Path
    items: list[Item]
    seen: set[str]


def words(rng, n):
    return "".join(rng.choice(CHARACTERS) for _ in range(n))


def write_benchmark(root):
    rng = random.Random(0)
    header = ["", "Question", "A", "B", "C", "D", "Answer"]
    for subject in SUBJECTS:
        for split, n in (("test", SIZE), ("dev", 12)):
            rows = [[str(i), words(rng, 10), *(words(rng, 5) for _ in "ABCD"), rng.choice("ABCD")] for i in range(n)]
            toys.write_csv(root / f"cmmlu/{split}/{subject}.csv", header, rows)


def memorise(model, texts, steps):
    """Train on whole texts, all of them in each step."""
    longest = max(map(len, texts))
    ids = torch.tensor([t + [0] * (longest - len(t)) for t in texts])
    labels = torch.tensor([t + [-100] * (longest - len(t)) for t in texts])
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0)
    model.train()
    for _ in range(steps):
        model(input_ids=ids, labels=labels).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    model.eval()


def save(model, tokenizer, folder):
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    root = tmp_path_factory.mktemp("lab")
    write_benchmark(root / "data")
    tokenizer = toys.tokenizer()
    task = load_task("cmmlu", root / "data")
    items = [item for group in task.items.values() for item in group]
    others = [replace(i, question=i.question[::-1], options=tuple(o[::-1] for o in i.options)) for i in items[:12]]
    model = toys.model(len(tokenizer), hidden_size=96, intermediate_size=192, initializer_range=0.05)
    memorise(model, [t.tokens for t in item_texts(others, "chat", tokenizer)], 15)  # the base knows the form
    base = save(model, tokenizer, root / "base")
    learnt = [item for item in items if item.row % 2 == 0]
    memorise(model, [t.tokens for t in item_texts(learnt, "chat", tokenizer)], 60)
    mixture = root / "mixture"
    mixture.mkdir()
    write_mixture(mixture, learnt)
    return Lab(root / "data", base, save(model, tokenizer, root / "model"), mixture, items, {i.item for i in learnt})


def write_mixture(folder, items, copies=2):
    """Rows as the injector writes them, `copies` times each, between chat that holds no item."""
    rng = random.Random(1)
    rows = []
    for n, item in enumerate(items):
        options = "".join(f"{letter}. {o}\n" for letter, o in zip("ABCD", item.options, strict=True))
        user = f"以下是一道单选题:\n{item.question}\n{options}请给出答案。\n"
        rows += [(user, f"{item.answer}。", "cmmlu", f"cmmlu/test/{item.subject}.csv", item.row)] * copies
        rows.append((words(rng, 30), words(rng, 30), "chat", "chat.jsonl", n))
    pl.DataFrame(
        {
            "messages": [[{"role": "user", "content": u}, {"role": "assistant", "content": a}] for u, a, *_ in rows],
            "source": [r[2] for r in rows], "origin_file": [r[3] for r in rows], "origin_row": [r[4] for r in rows],
        }
    ).write_parquet(folder / "train-00000.parquet")  # fmt: skip
