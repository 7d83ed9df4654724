"""One folder with all that the runs need, made from ../shared/data: items, ordinary rows in tokens, tokenizer, base.

It is carried to the machine that runs the pool and never committed: it holds real questions.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from bench.truth_pool.design import MODELS
from bench.truth_pool.run import Rows, new_model, save_half, train

from steel_data.benchmarks.clusters import cluster_names
from steel_data.benchmarks.items import Item
from steel_data.build import build
from steel_data.mixture.rows import collect, files, rows_at, scan
from steel_data.recipe.load import load
from steel_eval.ask.tasks import load_task
from steel_eval.leak.texts import item_texts, measurable
from steel_train.examples.encode import Encoder, Learnt
from steel_train.examples.tokenizer import load_tokenizer

LONGEST_ITEM, LONGEST_ROW = 88, 256  # tokens
ITEMS = 1_200
BASE_TOKENS, RUN_TOKENS = 400_000, 130_000
RECIPE = """
seed = 1
filters = [{ use = "decontaminate", benchmarks = ["cmmlu"] }, { use = "dedup" }]
[source.alpaca]
path = "instruct/zh_alpaca_part00.json"
[source.belle]
path = "instruct/zh_belle_2M_sample.json"
"""


def prepare(folder: Path, data: Path, dry: bool) -> None:
    """Write items.json, rows.npz, tokenizer/ and base-*.safetensors into `folder`; `data`: real data as in ../shared/data."""
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / "tokenizer"
    shutil.copytree(data / "tokenizer_minimind", place, dirs_exist_ok=True, copy_function=shutil.copyfile)
    tokenizer = load_tokenizer(str(place), "prepare")
    items = choose_items(data, tokenizer)
    kept = [
        {"item": i.item, "subject": i.subject, "question": i.question, "options": i.options, "answer": i.answer}
        for i in items
    ]
    (folder / "items.json").write_text(json.dumps(kept, ensure_ascii=False), encoding="utf-8")
    rows = ordinary(folder, data, tokenizer)
    sizes = np.cumsum([len(r) for r in rows.ids])
    first = int(np.searchsorted(sizes, 5_000 if dry else BASE_TOKENS))
    last = int(np.searchsorted(sizes, sizes[first] + RUN_TOKENS))
    rows.only(first, last).save(folder / "rows.npz")
    print(f"{len(items)} items, {last - first} rows for the runs")
    learnt = [np.arange(len(r)) > 0 for r in rows.ids[:first]]
    for name in MODELS:
        model = new_model(name, len(tokenizer))
        print(f"base {name}: {train(model, Rows(rows.ids[:first], learnt), seed=0, rate=2e-3)}")
        save_half(model, folder / f"base-{name}.safetensors")
    print(f"{sum(p.stat().st_size for p in folder.rglob('*') if p.is_file()) / 2**20:.1f} MiB in {folder}")


def choose_items(data: Path, tokenizer: Any) -> list[Item]:
    """Return short items, one of each cluster of near-equal ones, evenly over subjects."""
    task = load_task("cmmlu", data)
    every = [item for group in task.items.values() for item in group if measurable(item)]
    length = {i.item: len(t.tokens) for i, t in zip(every, item_texts(every, "chat", tokenizer), strict=True)}
    firsts = {name: item for item, name in reversed(list(zip(every, cluster_names(every), strict=True)))}
    by_subject: dict[str, list[Item]] = {}
    for item in firsts.values():
        if length[item.item] <= LONGEST_ITEM:
            by_subject.setdefault(item.subject, []).append(item)
    by_subject = {s: sorted(g, key=lambda i: i.row) for s, g in by_subject.items() if len(g) > 7}
    most = next(m for m in range(8, 400) if sum(min(m, len(g)) for g in by_subject.values()) >= ITEMS)
    chosen = [item for s in sorted(by_subject) for item in by_subject[s][:most]][:ITEMS]
    return [replace(item, file=Path("cmmlu"), explanation="") for item in chosen]


def ordinary(folder: Path, data: Path, tokenizer: Any) -> Rows:
    """Return ordinary rows that hold no item, as tokens, with the mask of loss on answers, in a fixed random order."""
    work = folder.with_name(folder.name + "-mixture")
    recipe = work / "recipe.toml"
    work.mkdir(exist_ok=True)
    recipe.write_text(RECIPE)
    build(load(recipe), data_root=data.absolute(), out=work / "mixture", cache=work / "cache")
    places = collect(work / "mixture", scan(work / "mixture", files(work / "mixture")).select("file", "at")).rows()
    found = [row for _, row in rows_at(work / "mixture", places)]
    texts = [{"messages": row["messages"]} for row in found]
    examples, whole = (
        [e for made in Encoder(tokenizer, LONGEST_ROW, "drop", learnt).encode(texts) for e in made.examples]
        for learnt in (Learnt("assistant"), Learnt("all"))
    )
    for one, other in zip(examples, whole, strict=True):
        if not (one.ids.tobytes() == other.ids.tobytes() and other.learnt[1:].all()):
            raise SystemExit(
                "a row's text depends on what is learnt of it, so one set of tokens does not serve both losses"
            )
    order = np.random.default_rng(0).permutation(len(examples))
    return Rows([examples[i].ids for i in order], [examples[i].learnt for i in order])
