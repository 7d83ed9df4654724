"""Is anything lost when processes are killed at random moments?

    python bench/chaos.py [--of build,train,score,study,mix] [--kills 20] [--in-a-row 1] [--seed 0] [--workers 2] [--folder DIR]

Does each thing once undisturbed. Then, again and again from nothing, its main process or one of its workers gets SIGKILL
at a random moment; a main process that fell is started once more, and killed again where kills come `--in-a-row`. What is
left in the end must be, byte for byte, what the undisturbed one left (the mixture; weights and metrics; scores and answers;
the study's or the search's results), and nothing half-written may lie beside a mixture. Prints what was killed, how often,
and what was lost. All but `build` need torch.
"""

import argparse
import hashlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import orjson
import psutil

RECIPE = """
filters = [{ use = "language", keep = ["zh"] }, { use = "length", min_chars = 10 }, { use = "dedup" }]
[source.a]
path = "part*.jsonl"
"""
TRAIN = """
[train]
model = { type = "qwen2", hidden_size = 32, num_hidden_layers = 1, num_attention_heads = 2, num_key_value_heads = 2, intermediate_size = 64, vocab_size = 400, max_position_embeddings = 512, tie_word_embeddings = true }
epochs = 1
learning_rate = 3e-3
micro_batch = 8
accumulate = 1
max_length = 128
"""
SEARCH = """
[source.b]
path = "part4.jsonl"
[search]
tokens = 6000
runs = 4
centre = 2
measure = { held_out = ["a", "b"] }
"""
STUDY = """
seeds = [1, 2]
[source.leak]
path = "cmmlu"
build = { use = "contaminate", split = "test", doses = { 1 = 6, 20 = 12 } }
allow_test_split = "to see that a study that was killed goes on"
[eval]
presets = ["steel-likelihood"]
placebo = "ceval"
permute = 4
"""
LETTERS = "山水火土金木人口手足日月云雨风雪花草树鸟鱼虫马牛羊犬车船桥路门窗灯书笔纸墨琴棋画茶酒饭菜"


@dataclass(frozen=True)
class Victim:
    """What is killed: its command line by the folder it writes to, and the files of that which must be the same."""

    command: Callable[[Path], list[str]]
    files: tuple[str, ...]
    workers: bool


def write(folder: Path, rng: random.Random) -> None:
    """Write six files of 400 rows, a tenth of them copies, two benchmarks, and the recipes."""
    rows: list[dict[str, str]] = []
    for _ in range(2400):
        if rows and rng.random() < 0.1:
            rows.append(rng.choice(rows))
        else:
            said = ["".join(rng.choices(LETTERS, k=rng.randint(12, 90))) for _ in range(2)]
            rows.append({"instruction": f"请解释{said[0]}。", "output": f"{said[1]}。"})
    for i in range(6):
        part = b"\n".join(map(orjson.dumps, rows[i * 400 : (i + 1) * 400]))
        (folder / f"part{i}.jsonl").write_bytes(part + b"\n")
    for place, header in (
        ("cmmlu/{}/agronomy", ",Question,A,B,C,D,Answer"),
        ("ceval/{}/law_{}", "id,question,A,B,C,D,answer"),
    ):
        for split in ("test", "dev", "val"):
            path = folder / (place.format(split, split) + ".csv")
            path.parent.mkdir(parents=True, exist_ok=True)
            texts = [",".join("".join(rng.choices(LETTERS, k=8)) for _ in range(5)) for _ in range(30)]
            lines = [f"{i},{text},{rng.choice('ABCD')}" for i, text in enumerate(texts)]
            path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    small = RECIPE.replace("part*", "part0")
    (folder / "r.toml").write_text(RECIPE)
    (folder / "train.toml").write_text(small + TRAIN + "save_every = 8\n")
    (folder / "study.toml").write_text(small + TRAIN + STUDY)
    (folder / "mix.toml").write_text(small + TRAIN + SEARCH)


def victims(folder: Path, workers: int) -> dict[str, Victim]:
    """Return what can be killed, by name."""
    count = ["--workers", str(workers)]

    def module(name: str, *arguments: object) -> list[str]:
        return [sys.executable, "-m", name, *map(str, arguments)]

    return {
        "build": Victim(
            lambda out: module("steel_data", "build", folder / "r.toml", "--data-root", folder, "--out", out / "mixture", *count),
            ("mixture/**/*",), workers > 1,
        ),
        "train": Victim(
            lambda out: module("steel_train", "run", folder / "train.toml", "--data-root", folder, "--out", out),
            ("checkpoints/*/*.safetensors", "mixture/manifest.json"), False,
        ),
        "score": Victim(
            lambda out: module("steel_eval", "score", folder / "trained", "--tasks", "cmmlu,ceval", "--data", folder, "--shots", "1", "--out", out),
            ("*/scores.json", "*/answers.parquet", "curve.json"), False,
        ),
        "study": Victim(
            lambda out: module("steel_eval", "study", folder / "study.toml", "--data", folder, "--out", out, *count),
            ("study.json", "rates.json"), workers > 1,
        ),
        "mix": Victim(
            lambda out: module("steel_eval", "mix", folder / "mix.toml", "--data", folder, "--out", out, *count),
            ("surface.json",), workers > 1,
        ),
    }  # fmt: skip


def sha256(folder: Path, files: tuple[str, ...]) -> str:
    """Return one hash over the names and bytes of files of a folder, whose own name does not count; "" without any."""
    digest, own = hashlib.sha256(), str(folder).encode()
    there = sorted({path for pattern in files for path in folder.glob(pattern) if path.is_file()})
    for path in there:
        held = path.read_bytes()
        held = held.replace(own, b"OUT") if path.suffix == ".json" else held
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + held + b"\0")
    return digest.hexdigest() if there else ""


def started(command: list[str]) -> subprocess.Popen[bytes]:
    """Start a command."""
    environment = {"OMP_NUM_THREADS": "1"} | os.environ
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)


def killed(process: subprocess.Popen[bytes], victim: str, rng: random.Random) -> bool:
    """Kill a command's main process, or one of its workers as soon as it has any; return whether there was one."""
    try:
        while process.poll() is None:
            main = psutil.Process(process.pid)
            children = [c for c in main.children() if "spawn_main" in " ".join(c.cmdline())]
            if victim == "main process" or children:
                (main if victim == "main process" else rng.choice(children)).kill()
                return True
            time.sleep(0.02)
    except psutil.Error:
        pass
    return False


def main() -> None:
    """Do, kill, do again, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--of", default="build", help="which, with commas: build, train, score, study, mix")
    parser.add_argument("--kills", type=int, default=20, help="of each")
    parser.add_argument("--in-a-row", type=int, default=1, help="of a main process, before it is left alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    lost = False
    print(f"{'of':<8}{'killed':<14}{'times':>8}{'failed':>9}{'tracebacks':>13}{'lost or other':>16}{'left behind':>14}")
    with tempfile.TemporaryDirectory(dir=args.folder) as made:
        folder = Path(made)
        write(folder, random.Random(args.seed))
        known = victims(folder, args.workers)
        if "score" in args.of:
            started(known["train"].command(folder / "trained")).communicate()
        for name in args.of.split(","):
            lost = tried(name, known[name], folder, args) or lost
    if lost:
        raise SystemExit(1)


def tried(name: str, victim: Victim, folder: Path, args: argparse.Namespace) -> bool:
    """Kill one thing again and again, print a line for each kind of process; return whether anything was lost."""
    rng = random.Random(f"{args.seed}/{name}")
    start = time.monotonic()
    whole = started(victim.command(folder / f"{name}-whole"))
    said = whole.communicate()[1]
    if whole.returncode:
        raise SystemExit(f"the undisturbed {name} failed: {said.decode(errors='replace')[-400:]}")
    length, expected = time.monotonic() - start, sha256(folder / f"{name}-whole", victim.files)
    counts = {target: [0, 0, 0, 0, 0] for target in ("main process", *(["worker"] if victim.workers else []))}
    number = done = 0
    while done < args.kills:
        target, out = list(counts)[number % len(counts)], folder / f"{name}-{number}"
        found = counts[target]
        row = args.in_a_row if target == "main process" else 1
        for _ in range(row):
            process = started(victim.command(out))
            time.sleep(rng.uniform(0.1, length))
            found[0] += killed(process, target, rng)
            done += 1
            said = process.communicate()[1]
            found[2] += b"Traceback" in said
            if target == "worker":  # the whole must come through
                found[1] += process.returncode != 0
        if target == "main process":
            process = started(victim.command(out))
            said = process.communicate()[1]
            found[1] += process.returncode != 0
            found[2] += b"Traceback" in said
        if process.returncode:
            print(f"  {name} {number}: {said.decode(errors='replace').strip()[-300:]}")
        found[3] += sha256(out, victim.files) != expected
        left = [p.name for p in out.rglob("*") if p.name.endswith((".new", ".old")) and p.is_dir()]
        found[4] += bool(left)
        number += 1
    for target, (times, *faults) in counts.items():
        print(f"{name:<8}{target:<14}{times:>8}{faults[0]:>9}{faults[1]:>13}{faults[2]:>16}{faults[3]:>14}", flush=True)
    return any(sum(found[1:]) for found in counts.values())


if __name__ == "__main__":
    main()
