"""How much memory and time does a build of N rows take, and does a changed threshold recompute anything?

    python bench/scale.py [--rows 5_000_000] [--workers 2] [--folder DIR]

Writes generated Chinese chat rows (5 % near copies, 2 % exact copies, a benchmark of 2,000 items of which some are
quoted) as JSON lines, builds language + length + decontaminate + dedup, and prints the peak memory of the whole process
tree (proportional set sizes on Linux, so that a page which processes share counts once; resident sizes elsewhere), CPU
seconds, and what a second build with other thresholds adds to the cache.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import orjson
import psutil

SYLLABLES = "山水火土金木人口手足日月云雨风雪花草树鸟鱼虫马牛羊犬车船桥路门窗灯书笔纸墨琴棋画茶酒饭菜衣布针线刀斧犁锄田园村城国家学校医院工厂商店银行邮局"
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
    kept: list[tuple[str, str]] = []
    for start in range(0, rows, 250_000):
        count = min(250_000, rows - start)
        lengths = rng.integers(6, 60, count)
        picks = lexicon[rng.integers(0, len(lexicon), int(lengths.sum()) + 2 * count)]
        kind = rng.random(count)
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
                elif len(kept) < 50_000:
                    kept.append((question, answer))
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


def run(folder: Path, workers: int) -> tuple[float, float, float]:
    """Build and return (seconds, CPU seconds of the tree, peak resident GB of the tree)."""
    command = [sys.executable, "-m", "steel_data", "build", str(folder / "scale.toml"), "--data-root",
               str(folder / "data"), "--out", str(folder / "mixture"), "--workers", str(workers)]  # fmt: skip
    before, start = os.times(), time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peak = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        tree = psutil.Process(process.pid)
        while not done.wait(0.1):
            try:
                members = [tree, *tree.children(recursive=True)]
                peak = max(peak, sum(memory_of(m) for m in members))
            except psutil.Error:
                continue

    thread = threading.Thread(target=watch)
    thread.start()
    status = process.wait()
    done.set()
    thread.join()
    if status:
        raise SystemExit(f"build failed with status {status}")
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return time.monotonic() - start, cpu, peak / 1e9


def cached(folder: Path) -> set[str]:
    return {p.as_posix() for p in (folder / ".cache").rglob("*.parquet")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        write(folder, given.rows)
        print(f"{given.rows:,} rows, {given.workers} workers")
        print(f"{'build':<28}{'seconds':>10}{'CPU s':>10}{'rows/CPU s':>12}{'peak GB':>10}{'new files':>11}")
        have: set[str] = set()
        for label, chars, threshold in (("first", 20, 0.8), ("other thresholds", 40, 0.7)):
            recipe(folder, chars, threshold)
            seconds, cpu, peak = run(folder, given.workers)
            now = cached(folder)
            print(
                f"{label:<28}{seconds:>10.1f}{cpu:>10.1f}{given.rows / cpu:>12,.0f}{peak:>10.2f}{len(now - have):>11,}"
            )
            have = now


if __name__ == "__main__":
    main()
