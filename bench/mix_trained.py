"""A search over really trained models where the best share is known: `python bench/mix_trained.py OUT [--seeds 3]`.

Invented facts, `who:where`: as many in source `one` as in source `two`, and a source of noise, in which who is where changes.
What is measured asks seven facts of `one` for three of `two`: the best mixture has as little noise as may be, and more of
`one`. Printed: the verdict of each seed's search, its regret against the best mixture of a dense grid (each trained too), the
noise floor, and how many of 20 mixtures of the grid lie in the search's 90 % prediction intervals; and whether two sources
that hold the same rows are refused. Resumable.
"""

import argparse
import json
import random
from pathlib import Path

import numpy as np

from steel_data.engine import Local
from steel_data.errors import InputError
from steel_data.files import address
from steel_eval.arms import Job
from steel_eval.mix.choose import Observed, choose
from steel_eval.mix.design import Floats, scatter
from steel_eval.mix.results import Run, surface_of
from steel_eval.mix.search import Planned, Search, make_arm, prepare_search, run_design, train_planned

NEW = 20  # mixtures of the grid that each search, which has not seen them, foretells
SEEDS = [50_000, 50_001, 50_002, 50_003]
FACTS, ROWS, TOLD = 40, 600, 8  # facts of each source, rows, facts told in a row
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
model = { type = "qwen2", hidden_size = 96, num_hidden_layers = 2, num_attention_heads = 4, num_key_value_heads = 2, intermediate_size = 256, vocab_size = 800, max_position_embeddings = 256, tie_word_embeddings = true }
epochs = 1
learning_rate = 3e-3
micro_batch = 4
accumulate = 1
max_length = 64
[search]
vary = ["one", "two", "noise"]
measure = { held_out = ["quiz"] }
max_repeat = 60
"""


def write_world(root: Path) -> None:
    """Write the sources: rows of `who:where` pairs; in `noise` who is where is drawn anew each time."""
    rng = random.Random(0)
    han = [chr(code) for code in range(0x4E10, 0x4E10 + 4 * FACTS)]
    rng.shuffle(han)
    names, places = han[: 3 * FACTS], han[3 * FACTS :]
    fact = {who: f"{who}:{rng.choice(places)}" for who in names}
    one, two, noise = (names[i * FACTS : (i + 1) * FACTS] for i in range(3))
    tell = {
        "one": lambda: fact[rng.choice(one)],
        "two": lambda: fact[rng.choice(two)],
        "noise": lambda: f"{rng.choice(noise)}:{rng.choice(places)}",
        "quiz": lambda: fact[rng.choice(one if rng.random() < 0.7 else two)],
    }
    for source, told in tell.items():
        rows = [{"instruction": "谁在哪？", "output": "；".join(told() for _ in range(TOLD))} for _ in range(ROWS)]
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        (root / f"{source}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def trained(search: Search, name: str, share_NK: Floats, seeds: list[list[int]]) -> list[Run]:
    """Train mixtures, each with its own list of seeds."""
    planned = []
    for i, (share_K, mine) in enumerate(zip(share_NK, seeds, strict=True)):
        arm = make_arm(search, f"{name}-{i:02d}", share_K, mine)
        planned += [Planned("design", Job(arm, seed), share_K) for seed in mine]
    return train_planned(search, planned)


def values(runs: list[Run]) -> Floats:
    return np.array([run.measured.value["quiz"] for run in runs])


class Grid:
    """The dense grid: mixtures with four seeds in turn; its lowest by what they differ from the recipe's own mixture."""

    def __init__(self, search: Search, count: int) -> None:
        self.search = search
        self.share_NK = scatter(search.space, 6, 99)[:count]
        self.value_N = values(trained(search, "grid", self.share_NK, [[SEEDS[i % 4]] for i in range(count)]))
        own_S = values(trained(search, "own", search.space.own[None], [SEEDS]))
        self.low_K = self.share_NK[(self.value_N - np.resize(own_S, count)).argmin()]
        self.low_S = values(trained(search, "lowest", self.low_K[None], [SEEDS]))
        self.own = float((own_S - self.low_S).mean())

    def regret(self, name: str, share_K: Floats) -> float:
        """Return how much worse a mixture is than the grid's lowest, over the four seeds."""
        name = f"{name}-{address(share_K.tolist())[:8]}"
        return float((values(trained(self.search, name, share_K[None], [SEEDS])) - self.low_S).mean())


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--tokens", type=int, default=12_000)
    arguments.add_argument("--runs", type=int, default=12)
    arguments.add_argument("--grid", type=int, default=28, help="mixtures of the dense grid")
    arguments.add_argument("--workers", type=int, default=2)
    said = arguments.parse_args()
    said.out.mkdir(parents=True, exist_ok=True)
    write_world(said.out)
    first = None
    for seed in range(1, said.seeds + 1):
        recipe = said.out / f"search-{seed}.toml"
        more = f"seed = {seed}\ntokens = {said.tokens}\nruns = {said.runs}\n"
        recipe.write_text(RECIPE + more, encoding="utf-8")
        search = prepare_search(recipe, None, said.out / f"search-{seed}", Local(said.workers))
        first = first or Grid(search, said.grid)
        runs = run_design(search)
        surface = surface_of(search.pool, search.space, search.settings, runs)
        centre_N = np.array([run.kind == "centre" for run in runs])
        seen = Observed(np.array([r.share for r in runs]), values(runs), centre_N, np.array([r.seed for r in runs]))
        found = choose(search.space, seen, seed)
        assert found is not None
        fresh_NK, fresh_N = first.share_NK[:NEW], first.value_N[:NEW]
        held = np.abs(fresh_N - found.fit.predict(fresh_NK)) <= found.fit.half_width(fresh_NK)
        best = first.regret(f"best-{seed}", found.best)
        regret = best if surface["proposal"] else first.own
        print(
            f"seed {seed}: {surface['verdict']} ({surface['why']}), shares {np.round(found.best, 3)}, gain "
            f"{found.gain.value:.4f} ({found.gain.low:.4f} to {found.gain.high:.4f}), regret {regret:.4f} (of the recipe's "
            f"own {first.own:.4f}, of the surface's best {best:.4f}), noise floor {found.noise:.4f}; {int(held.sum())} of "
            f"{len(held)} new mixtures in their intervals; lowest of the grid {np.round(first.low_K, 3)}", flush=True
        )  # fmt: skip
    try:
        twins = said.out / "twins.toml"
        twins.write_text(RECIPE.replace('"noise.jsonl"', '"one.jsonl"') + "tokens = 12_000\n", encoding="utf-8")
        prepare_search(twins, None, said.out / "twins", Local())
        print("two sources of the same rows: not refused")
    except InputError as error:
        print(f"two sources of the same rows: {error}")


if __name__ == "__main__":
    main()
