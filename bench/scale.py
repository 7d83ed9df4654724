"""How much memory and time does a build of N rows take, and does a changed threshold recompute anything?

    python bench/scale.py [--rows 5_000_000] [--workers 2] [--memory 1GB] [--folder DIR] [--keep]

Writes generated Chinese chat rows as JSON lines (5 % near copies and 2 % exact copies of rows anywhere before them, a
benchmark of 2,000 items of which some are quoted), builds language + length + decontaminate + dedup, and prints the peak
memory of the whole process tree by pass (proportional set sizes on Linux, so that a page which processes share counts
once; resident sizes elsewhere), CPU seconds, and what a second build with other thresholds adds to the cache. `--keep`:
work in --folder itself, use what is there, and leave it.
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import psutil

PASSES = {"prepare": "prepare", "map_sources": "map", "decide": "plan", "_write": "gather"}  # of steel_data.build
SYLLABLES = "山水火土金木人口手足日月云雨风雪花草树鸟鱼虫马牛羊犬车船桥路门窗灯书笔纸墨琴棋画茶酒饭菜衣布针线刀斧犁锄田园村城国家学校医院工厂商店银行邮局"
SAMPLE = 50_000  # rows that may be copied
FORMS = (
    "请解释{}和{}的关系。",
    "为什么{}会影响{}？",
    "写一段关于{}与{}的说明。",
    "比较{}和{}的不同。",
    "怎样用{}改进{}？",
)


def words(rng: np.random.Generator, count: int) -> np.ndarray:
    letters = np.array(list(SYLLABLES))
    return np.array(["".join(letters[rng.integers(0, len(letters), n)]) for n in rng.integers(2, 5, count)])


def write(folder: Path, rows: int) -> None:
    """Write the rows in files of 250,000, and the benchmark."""
    rng = np.random.default_rng(0)
    lexicon = words(rng, 60_000)
    (folder / "data/bench/test").mkdir(parents=True)
    with (folder / "data/bench/test/all.csv").open("w", encoding="utf-8") as file:
        file.write(",Question,A,B,C,D,Answer\n")
        questions = []
        for i in range(2_000):
            w = lexicon[rng.integers(0, len(lexicon), 12)]
            questions.append(f"关于{w[0]}在{w[1]}中的{w[2]}，下列说法正确的是{w[3]}还是{w[4]}")
            file.write(f"{i},{questions[-1]},{w[5]}{w[6]},{w[7]}{w[8]},{w[9]},{w[10]}{w[11]},{'ABCD'[i % 4]}\n")
    # a sample of all rows so far, so that a copy and its row lie as far apart as rows do
    kept: list[tuple[str, str]] = []
    spare = np.random.default_rng(1)
    for start in range(0, rows, 250_000):
        count = min(250_000, rows - start)
        lengths = rng.integers(6, 60, count)
        picks = lexicon[rng.integers(0, len(lexicon), int(lengths.sum()) + 2 * count)]
        kind = rng.random(count)
        turns = (spare.random(count) * np.arange(start + 1, start + count + 1)).astype(int)  # algorithm R (Vitter 1985)
        at = 0
        with (folder / f"data/part-{start // 250_000:03d}.jsonl").open("wb") as file:
            for i in range(count):
                own = picks[at : at + lengths[i] + 2]
                at += int(lengths[i]) + 2
                question = FORMS[i % len(FORMS)].format(own[0], own[1])
                answer = "，".join("".join(own[j : j + 4]) for j in range(2, len(own), 4)) + "。"
                if kind[i] < 0.02 and kept:
                    question, answer = kept[i % len(kept)]
                elif kind[i] < 0.07 and kept:
                    question, old = kept[i % len(kept)]
                    answer = old[:-1] + "吧。"
                elif kind[i] < 0.0702:
                    question = questions[i % len(questions)]
                elif len(kept) < SAMPLE:
                    kept.append((question, answer))
                elif turns[i] < SAMPLE:
                    kept[turns[i]] = (question, answer)
                file.write(orjson.dumps({"instruction": question, "input": "", "output": answer}) + b"\n")


def recipe(folder: Path, min_chars: int, threshold: float) -> Path:
    path = folder / "scale.toml"
    path.write_text(
        f"""
        filters = [
            {{ use = "decontaminate", benchmarks = ["bench"] }},
            {{ use = "dedup", threshold = {threshold} }},
        ]
        [source.chat]
        path = "part-*.jsonl"
        filters = [{{ use = "language", keep = ["zh"] }}, {{ use = "length", min_chars = {min_chars} }}]
        """,
        encoding="utf-8",
    )
    return path


def memory_of(process: psutil.Process) -> int:
    """Return the bytes of a process, shared pages divided among their users where the system says so."""
    return int(process.memory_full_info().pss) if sys.platform == "linux" else int(process.memory_info().rss)


def private_of(process: psutil.Process) -> int:
    """Return the bytes that a process alone has, where the system says so.

    Libraries that many processes share are not its own, nor are pages that it gave back and that nobody needed yet.
    """
    if sys.platform != "linux":
        return int(process.memory_info().rss)
    lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()[1:]
    told = {line.split()[0]: int(line.split()[1]) for line in lines}
    return 1024 * (told["Anonymous:"] - told["LazyFree:"])


def begins(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with a line on stdout before it that says which pass begins."""

    def call(*args: Any, **options: Any) -> Any:
        print(json.dumps({"begins": name}), flush=True)
        return function(*args, **options)

    return call


def build(folder: Path, workers: int, memory: str | None) -> None:
    """Build, and say which pass begins."""
    module: Any = importlib.import_module("steel_data.build")
    cluster = importlib.import_module("steel_data.cluster")
    engine = importlib.import_module("steel_data.engine")
    for name, label in PASSES.items():
        setattr(module, name, begins(label, getattr(module, name)))
    executor = cluster.executor("local", workers, None if memory is None else engine.bytes_of(memory))
    recipe = importlib.import_module("steel_data.recipe.load").load(folder / "scale.toml")
    module.build(recipe, data_root=folder / "data", out=folder / "mixture", workers=executor)


@dataclass
class Peaks:
    """Bytes at most, by pass: of the process tree, shared pages once, and private ones of its main process."""

    tree: dict[str, int] = field(default_factory=dict)
    main: dict[str, int] = field(default_factory=dict)


def watched(command: list[str]) -> tuple[list[dict[str, Any]], Peaks]:
    """Run a command that prints lines of JSON; return those that do not say which pass begins, and the peaks by pass."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    peaks, now, done, told = Peaks(), ["start"], threading.Event(), []

    def watch() -> None:
        tree, took = psutil.Process(process.pid), 0.0
        while not done.wait(max(0.1, 20 * took)):  # a look at twenty processes takes a tenth of a second
            begun = time.monotonic()
            try:
                own = private_of(tree)
                others = sum(memory_of(member) for member in [tree, *tree.children(recursive=True)])
            except (psutil.Error, OSError):
                continue
            finally:
                took = time.monotonic() - begun
            peaks.main[now[0]] = max(peaks.main.get(now[0], 0), own)
            peaks.tree[now[0]] = max(peaks.tree.get(now[0], 0), others)

    thread = threading.Thread(target=watch)
    thread.start()
    assert process.stdout is not None
    for line in process.stdout:
        said = json.loads(line)
        if "begins" in said:
            now[0] = said["begins"]
        else:
            told.append(said)
    status = process.wait()
    done.set()
    thread.join()
    if status:
        raise SystemExit(f"build failed with status {status}")
    return told, peaks


def run(folder: Path, workers: int, memory: str | None) -> tuple[float, float, Peaks]:
    """Build and return (seconds, CPU seconds of the tree, peaks by pass)."""
    command = [sys.executable, __file__, "--one", "--folder", str(folder), "--workers", str(workers)]
    command += [] if memory is None else ["--memory", memory]
    before, start = os.times(), time.monotonic()
    _, peaks = watched(command)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return time.monotonic() - start, cpu, peaks


def cached(folder: Path) -> set[str]:
    return {p.as_posix() for p in (folder / ".cache").rglob("*.parquet")}


def main() -> None:
    """Write the rows, build twice, and say what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--memory", help="as that of `build`")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        build(given.folder, given.workers, given.memory)
        return
    with nullcontext(given.folder) if given.keep else tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        if not (folder / "data").exists():
            write(folder, given.rows)
        bound = f", --memory {given.memory}" if given.memory else ""
        print(f"{given.rows:,} rows, {given.workers} workers{bound}")
        print(
            f"{'build':<18}{'seconds':>10}{'CPU s':>10}{'rows/CPU s':>12}{'new files':>11}  peak MB by pass: tree (main)"
        )
        have = cached(folder)
        for label, chars, threshold in (("first", 20, 0.8), ("other thresholds", 40, 0.7)):
            recipe(folder, chars, threshold)
            seconds, cpu, peaks = run(folder, given.workers, given.memory)
            now = cached(folder)
            by_pass = ", ".join(
                f"{name} {peak / 1e6:.0f} ({peaks.main[name] / 1e6:.0f})" for name, peak in peaks.tree.items()
            )
            print(
                f"{label:<18}{seconds:>10.1f}{cpu:>10.1f}{given.rows / cpu:>12,.0f}{len(now - have):>11,}  {by_pass}",
                flush=True,
            )
            have = now


if __name__ == "__main__":
    main()
