"""A search over really trained models where the best share is known: `python bench/mix_trained.py OUT [--seeds 3]`.

Invented facts, each a row of its own: as many in source `one` as in source `two`, and a source of noise. What is measured
asks seven facts of `one` for three of `two`, in other words than the rows that teach them, so that `one` deserves the larger
share and noise none. Printed: the verdict of each seed's search, its regret against the best mixture of a dense grid (each
trained too), the noise floor, and how many of 20 fresh mixtures lie in their 90 % prediction intervals. Resumable.
"""

import argparse
import json
import random
from pathlib import Path

import numpy as np

from steel_eval.arms import Job
from steel_eval.mix.choose import Observed, choose
from steel_eval.mix.design import Floats, scatter
from steel_eval.mix.results import Run, surface_of
from steel_eval.mix.search import Planned, Search, make_arm, prepare_search, run_design, train_planned

FACTS = 300  # of each source
HAN = "天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏闰余成岁律吕调阳云腾致雨露结为霜"
RECIPE = """
seed = 5
[source.one]
path = "one.jsonl"
[source.two]
path = "two.jsonl"
[source.noise]
path = "noise.jsonl"
[source.quiz]
path = "quiz.jsonl"
repeat = 2
[mix]
sources = { one = 0.32, two = 0.32, noise = 0.32, quiz = 0.04 }
[train]
model = { type = "qwen2", hidden_size = 96, num_hidden_layers = 2, num_attention_heads = 4, num_key_value_heads = 2, intermediate_size = 256, vocab_size = 600, max_position_embeddings = 256, tie_word_embeddings = true }
epochs = 1
learning_rate = 3e-3
micro_batch = 16
accumulate = 1
max_length = 64
[search]
vary = ["one", "two", "noise"]
measure = { held_out = ["quiz"] }
max_repeat = 60
"""


def write_world(root: Path) -> None:
    rng = random.Random(0)
    name = lambda n: "".join(rng.choice(HAN) for _ in range(n))  # noqa: E731
    facts = {source: [(name(3), name(2)) for _ in range(FACTS)] for source in ("one", "two")}
    rows = {s: [(f"{who}住在哪里？", f"{who}住在{place}。") for who, place in of] for s, of in facts.items()}
    rows["noise"] = [(f"说说{name(3)}。", name(8)) for _ in range(FACTS)]
    asked = facts["one"][:210] + facts["two"][:90]
    rows["quiz"] = [(f"请问，{who}的家在什么地方？", f"{who}住在{place}。") for who, place in asked]
    for source, of in rows.items():
        lines = [json.dumps({"instruction": q, "output": a}, ensure_ascii=False) for q, a in of]
        (root / f"{source}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def trained(search: Search, name: str, share_NK: Floats, first_seed: int) -> list[Run]:
    planned = []
    for i, share_K in enumerate(share_NK):
        arm = make_arm(search, f"{name}-{i:02d}", share_K, [first_seed + i])
        planned.append(Planned("design", Job(arm, first_seed + i), share_K))
    return train_planned(search, planned)


def values(runs: list[Run]) -> Floats:
    return np.array([run.measured.value["quiz"] for run in runs])


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--tokens", type=int, default=120_000)
    arguments.add_argument("--runs", type=int, default=12)
    arguments.add_argument("--grid", type=int, default=28, help="mixtures of the dense grid")
    arguments.add_argument("--workers", type=int, default=2)
    said = arguments.parse_args()
    said.out.mkdir(parents=True, exist_ok=True)
    write_world(said.out)
    grid = None
    for seed in range(1, said.seeds + 1):
        recipe = said.out / f"search-{seed}.toml"
        more = f"seed = {seed}\ntokens = {said.tokens}\nruns = {said.runs}\n"
        recipe.write_text(RECIPE + more, encoding="utf-8")
        search = prepare_search(recipe, None, said.out / f"search-{seed}", said.workers)
        if grid is None:
            share_NK = scatter(search.space, 6, 99)[: said.grid]
            grid = (share_NK, values(trained(search, "grid", share_NK, 50_000)))
        runs = run_design(search)
        surface = surface_of(search.pool, search.space, search.settings, runs)
        centre_N = np.array([run.kind == "centre" for run in runs])
        found = choose(search.space, Observed(np.array([r.share for r in runs]), values(runs), centre_N), seed)
        assert found is not None
        fresh_NK = scatter(search.space, 5, 1000 + seed)[:20]
        fresh_N = values(trained(search, "fresh", fresh_NK, 60_000 + 100 * seed))
        held = np.abs(fresh_N - found.fit.predict(fresh_NK)) <= found.fit.half_width(fresh_NK)
        best = values(trained(search, "best", found.best[None].repeat(3, 0), 70_000 + 100 * seed)).mean()
        # the grid's lowest single run is flattered by its noise: its surface's lowest value is compared as well
        print(
            f"seed {seed}: {surface['verdict']}, shares {np.round(found.best, 3)}, gain {found.gain.value:.4f} "
            f"({found.gain.low:.4f} to {found.gain.high:.4f}); three runs there {best:.4f}, lowest of the grid "
            f"{grid[1].min():.4f} at {np.round(grid[0][grid[1].argmin()], 3)}, own {values(runs)[centre_N].mean():.4f}, "
            f"noise floor {found.noise:.4f}; {int(held.sum())} of {len(held)} fresh mixtures in their intervals"
        )


if __name__ == "__main__":
    main()
