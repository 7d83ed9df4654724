"""How many rows per CPU-second do the curation steps do?  `python bench/curation_steps.py [--rows N] [--profile STEP]`

Language, exact and near dedup, decontamination, one after another on the same rows: the real instruct files (against CMMLU and C-Eval)
and generated rows of known truth (1 % exact duplicates, 10 % near ones of 0.5 to 2 % character edits, 0.5 % contamination; against the
sample's benchmarks). Then the whole map and plan pass of a recipe over the generated rows on disk, with peak memory.
"""

import argparse
import cProfile
import pstats
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import orjson
import polars as pl
import xxhash

from steel_data.benchmarks.index import TURN, Index, build_index
from steel_data.filters import language
from steel_data.filters.dedup import exact_winners, near_keys, near_winners
from steel_data.filters.overlap import overlap
from steel_data.passes.map import map_sources
from steel_data.passes.plan import decide
from steel_data.passes.prepare import prepare
from steel_data.recipe.load import load
from steel_data.recipe.places import places
from steel_data.row.table import texts_of
from steel_data.row.text import TextBatch
from steel_data.sample.write import write_sample

Made = TypeVar("Made")
CHUNK = 8000  # rows; a chunk of 16 MB of alpaca rows has about 15,000
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
REAL = """
[source.plain]
path = ["instruct/alpaca_*.json", "instruct/zh_*.json*", "instruct/infinity*.jsonl"]
build = { use = "chat" }
[source.gpteacher]
path = "instruct/en_gpteacher_*.json"
build = { use = "chat", layout = "alpaca", columns = { prompt = "instruction", query = "input", response = "response" } }
[source.gsm8k]
path = "instruct/en_gsm8k_train.jsonl"
build = { use = "chat", layout = "alpaca", columns = { prompt = "question", response = "answer" } }
"""


def real_rows(data: Path) -> list[str]:
    """Return the text views of all instruct files of the real data, turns separated by TURN."""
    return [text for texts in rows_by_file(data).values() for text in texts]


def rows_by_file(data: Path) -> dict[str, list[str]]:
    """Return the text views of the real instruct files by file, turns separated by TURN."""
    rows: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "real.toml"
        file.write_text(REAL, encoding="utf-8")
        recipe = load(file)
        where = places(recipe, data, Path(folder) / "out", Path(folder) / "cache")
        for source in map_sources(prepare(recipe, where), 1):
            for chunk in source.chunks:
                texts = texts_of(pl.read_parquet(chunk.stages[-1].records), TURN)
                rows.setdefault(source.files[chunk.file].rpartition("/")[2], []).extend(texts)
    return rows


class Clock:
    """CPU-seconds by step; `profile` names a step whose hot spots are printed."""

    def __init__(self, profile: str | None) -> None:
        self.seconds: dict[str, float] = {}
        self.profile = profile

    def run(self, step: str, work: Callable[[], Made]) -> Made:
        profile = cProfile.Profile() if step == self.profile else None
        began = time.process_time()
        made = profile.runcall(work) if profile else work()
        self.seconds[step] = time.process_time() - began
        if profile:
            pstats.Stats(profile).sort_stats("tottime").print_stats(15)
        return made

    def print(self, rows: int) -> None:
        for step, seconds in [*self.seconds.items(), ("all of these", sum(self.seconds.values()))]:
            print(f"  {step:32s} {seconds:8.2f} CPU-s {rows / max(seconds, 1e-9):12,.0f} rows/CPU-s")


class Outcome:
    """What four_steps found: labels, the winner of each row's cluster, overlap scores."""

    labels: list[str]
    winner: npt.NDArray[np.int64]
    score: npt.NDArray[np.float32]


def four_steps(rows: list[str], index: Index, clock: Clock) -> Outcome:
    """Run the steps as the map and plan passes do, on all rows; the batches are shared."""
    parts = [rows[i : i + CHUNK] for i in range(0, len(rows), CHUNK)]
    language.fasttext_language("load the model")
    out = Outcome()
    batches = clock.run("normalise (shared)", lambda: [TextBatch(part) for part in parts])
    both = list(zip(parts, batches, strict=True))
    out.labels = clock.run("language", lambda: [label for p, b in both for label in language.detect(p, b)[0]])
    keys = clock.run("dedup keys", lambda: [{"exact": _exact(p), **near_keys(b)} for p, b in both])
    column = {name: np.concatenate([key[name] for key in keys]) for name in keys[0]}
    out.winner = clock.run("dedup clusters", lambda: _clusters(rows, column))
    found = clock.run("decontamination", lambda: [overlap(p, index, b) for p, b in both])
    out.score = np.concatenate([f["overlap_score"] for f in found])
    return out


def _exact(rows: list[str]) -> npt.NDArray[np.uint64]:
    return np.array([xxhash.xxh3_64_intdigest(row.encode()) for row in rows], np.uint64)


def _clusters(rows: list[str], column: dict[str, npt.NDArray[np.uint32]]) -> npt.NDArray[np.int64]:
    exact = exact_winners(column["exact"])
    alone = np.flatnonzero(exact == np.arange(len(rows)))
    near = near_winners(
        lambda name: column[name][alone], lambda some: [rows[j] for j in alone[some].tolist()], len(alone), 0.75
    )
    winner = exact.copy()
    winner[alone] = alone[near]
    return winner


def generated(count: int, index: Index, seed: int = 0) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Return rows and their truth: -1 base row, -2 contaminated, else the base row of which it is a copy."""
    rng = np.random.default_rng(seed)
    rows = _chinese(rng, count * 3 // 4) + _english(rng, count - count * 3 // 4)
    rows = [rows[i] for i in rng.permutation(count).tolist()]
    truth = np.full(count, -1)
    late = rng.permutation(np.arange(count // 2, count))
    exact, near, dirty = np.split(
        late[: count // 100 + count // 10 + count // 200], [count // 100, count // 100 + count // 10]
    )
    truth[exact] = rng.integers(0, count // 2, len(exact))
    truth[near] = rng.integers(0, count // 2, len(near))
    truth[dirty] = -2
    for i in exact.tolist():
        rows[i] = rows[truth[i]]
    for i in near.tolist():
        rows[i] = _edited(rng, rows[truth[i]])
    for i, item in zip(dirty.tolist(), rng.integers(0, len(index.names), len(dirty)).tolist(), strict=True):
        options = [f"{a}. {o}" for a, o in zip("ABCD", index.options[item], strict=False)]
        rows[i] = "\n".join([index.questions[item], *options]) + f"{TURN}{'ABCD'[i % 4]}"
    return rows, truth


def _chinese(rng: np.random.Generator, count: int) -> list[str]:
    size = np.clip(rng.lognormal(5.3, 0.7, count), 12, 3000).astype(np.int64)
    han = np.arange(0x4E00, 0x4E00 + 3500)
    weight = 1 / (np.arange(len(han)) + 20)
    code = rng.choice(han, int(size.sum()), p=weight / weight.sum()).astype(np.uint32)
    mark = rng.random(len(code))
    code[mark < 0.08] = ord("，")
    code[mark < 0.03] = ord("。")
    code[mark < 0.005] = ord("\n")
    text, end = code.tobytes().decode("utf-32-le"), np.cumsum(size)
    turn = size // 5 + 1
    starts = (end - size).tolist()
    return [
        f"{text[a : a + t]}{TURN}{text[a + t : b]}" for a, t, b in zip(starts, turn.tolist(), end.tolist(), strict=True)
    ]


def _english(rng: np.random.Generator, count: int) -> list[str]:
    stems = [
        "act",
        "be",
        "call",
        "do",
        "end",
        "form",
        "give",
        "hold",
        "in",
        "just",
        "know",
        "look",
        "make",
        "name",
        "of",
        "part",
        "read",
        "set",
        "turn",
        "use",
        "very",
        "work",
    ]
    ends = [
        "",
        "s",
        "ed",
        "ing",
        "er",
        "ly",
        "al",
        "ness",
        "ment",
        "tion",
        "able",
        "ive",
        "ful",
        "less",
        "ous",
        "y",
        "ish",
        "ward",
        "like",
        "ship",
        "dom",
    ]
    words = np.array([a + b for a in stems for b in ends])
    weight = 1 / (np.arange(len(words)) + 5)
    size = np.clip(rng.lognormal(4.0, 0.6, count), 5, 500).astype(np.int64)
    picks = words[rng.choice(len(words), int(size.sum()), p=weight / weight.sum())].tolist()
    ends_at = np.cumsum(size)
    spans = zip((ends_at - size).tolist(), ends_at.tolist(), strict=True)
    return [f"{' '.join(picks[a : (a + b) // 2])}?{TURN}{' '.join(picks[(a + b) // 2 : b])}." for a, b in spans]


def _edited(rng: np.random.Generator, text: str) -> str:
    """Drop, replace or double 0.5 to 2 % of the characters (one at least)."""
    chars = list(text)
    many = max(1, round(rng.uniform(0.005, 0.02) * len(chars)))
    for place in rng.choice(len(chars), many, replace=False).tolist():
        if chars[place] != TURN:
            chars[place] = ["", "的", chars[place] * 2][rng.integers(3)]
    return "".join(chars)


def quality(rows: list[str], truth: npt.NDArray[np.int64], out: Outcome) -> None:
    """Print recall and collateral on generated rows."""
    lost = out.winner != np.arange(len(rows))
    dirty = truth == -2
    copies = [out.winner[i] == out.winner[t] for i, t in enumerate(truth.tolist()) if t >= 0]
    flagged = out.score >= 0.7
    print(
        f"  duplicates found {np.mean(copies):.2%} of {len(copies):,}; base rows dropped {(lost & (truth == -1)).sum():,}"
    )
    print(
        f"  contamination found {flagged[dirty].mean():.2%} of {dirty.sum():,}; other rows flagged {(flagged & ~dirty).sum():,}"
    )


RECIPE = """
filters = [
  {{ use = "language", keep = ["zh", "en"] }},
  {{ use = "decontaminate", benchmarks = ["cmmlu", "ceval"] }},
  {{ use = "dedup" }},
]
[source.rows]
path = "rows.jsonl"
build = {{ use = "chat" }}
"""


def passes(rows: list[str], root: Path, clock: Clock) -> None:
    """Run the map and the plan pass over the rows as alpaca jsonl, in this process."""
    with (root / "rows.jsonl").open("wb") as stream:
        for row in rows:
            user, _, assistant = row.partition(TURN)
            stream.write(orjson.dumps({"instruction": user, "input": "", "output": assistant}) + b"\n")
    file = root / "bench.toml"
    file.write_text(RECIPE.format(), encoding="utf-8")
    recipe = load(file)
    prepared = clock.run("prepare (scan)", lambda: prepare(recipe, places(recipe, root, root / "out", root / "cache")))
    mapped = clock.run("map pass", lambda: map_sources(prepared, 1))
    clock.run("plan pass", lambda: decide(recipe, mapped))
    clock.run("map pass again (nothing to do)", lambda: map_sources(prepared, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=SHARED, help="the folder of real data")
    parser.add_argument("--rows", type=int, default=200_000, help="generated rows")
    parser.add_argument("--profile", help="print the hot spots of this step")
    options = parser.parse_args()
    if (options.data / "instruct").is_dir():
        rows = real_rows(options.data)
        clock = Clock(options.profile)
        print(f"{len(rows):,} real instruct rows, {sum(map(len, rows)) / len(rows):.0f} characters on average")
        out = four_steps(rows, build_index(("cmmlu", "ceval"), options.data), clock)
        clock.print(len(rows))
        print(f"  duplicates {(out.winner != np.arange(len(rows))).sum():,}, contaminated {(out.score >= 0.7).sum():,}")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_sample(root)
        index = build_index(("cmmlu", "ceval"), root)
        rows, truth = generated(options.rows, index)
        print(f"{len(rows):,} generated rows, {sum(map(len, rows)) / len(rows):.0f} characters on average")
        clock = Clock(options.profile)
        quality(rows, truth, four_steps(rows, index, clock))
        clock.print(len(rows))
        clock = Clock(options.profile)
        passes(rows, root, clock)
        clock.print(len(rows))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of this process {peak:,.0f} MB (all generated rows and their arrays are held at once)")


if __name__ == "__main__":
    main()
