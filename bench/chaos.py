"""Is anything lost when processes are killed at random moments?

    python bench/chaos.py [--of build,train,score,study,mix] [--kills 20] [--in-a-row 1] [--at time|changes]
        [--seed 0] [--workers 2] [--folder DIR]

Does each thing once undisturbed. Then, again and again from nothing, its main process or one of its workers gets SIGKILL
at a random moment; a main process that fell is started once more, and killed again where kills come `--in-a-row`. What is
left in the end must be, byte for byte, what the undisturbed one left (the mixture; weights and metrics; scores and answers;
the study's or the search's results), and nothing half-written may lie beside a mixture. Moments are uniform in time, so
that few of them fall into what takes milliseconds; with `--at changes` a main process falls before a random one of the
changes that it makes to its folder (a file opened to be written, a rename, a removal), and a mixture is built over an older
one. Prints what was killed, how often, how far that was, and what was lost; then the folder is kept. All but `build` need
torch.
"""

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
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


# Runs a module and counts the changes that its main process makes below a folder; before the last-th it is killed. With 0
# it writes in the end how many there were.
HOOK = """
import atexit, os, runpy, signal, sys
folder, said, last = sys.argv[1], sys.argv[2], int(sys.argv[3])
count = 0
def hook(event, arguments):
    global count
    if event == "open":
        ours = arguments[2] & (os.O_WRONLY | os.O_RDWR) and str(arguments[0]).startswith(folder)
    elif event in ("os.remove", "os.rmdir"):  # of a tree: names below an open folder
        ours = arguments[1] > 2 or str(arguments[0]).startswith(folder)
    else:
        ours = event in ("os.rename", "os.mkdir", "os.link") and str(arguments[0]).startswith(folder)
    count += bool(ours)
    if ours and count == last:
        os.kill(os.getpid(), signal.SIGKILL)
if not last:
    atexit.register(lambda: open(said, "w").write(str(count)))
sys.addaudithook(hook)
sys.argv[:] = sys.argv[4:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


@dataclass(frozen=True)
class Victim:
    """What is killed.

    command: its module and arguments, by the folder that it writes to; files: those that must be the same in the end;
    stages: how far it is, the last first, by what is there in the folder.
    """

    command: Callable[[Path], list[str]]
    files: tuple[str, ...]
    stages: dict[str, str]
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
    (folder / "study.toml").write_text(small + "take = 150\n" + TRAIN + STUDY)
    (folder / "mix.toml").write_text(small + TRAIN + SEARCH)


def victims(folder: Path, workers: int) -> dict[str, Victim]:
    """Return what can be killed, by name."""
    count = ["--workers", str(workers)]
    arms = {"trained": "*/seed-*/result.json", "training": "*/seed-*.log", "built": "*/mixture", "begun": "*"}

    def words(*arguments: object) -> list[str]:
        return list(map(str, arguments))

    return {
        "build": Victim(
            lambda out: words("steel_data", "build", folder / "r.toml", "--data-root", folder, "--out", out / "mixture", *count),
            ("mixture/**/*",),
            {"renamed": ".mixture.old", "written": ".mixture.new/card.html", "gathered": ".mixture.new", "mapped": ".cache/records", "prepared": ".cache"},
            workers > 1,
        ),
        "train": Victim(
            lambda out: words("steel_train", "run", folder / "train.toml", "--data-root", folder, "--out", out),
            ("checkpoints/*/*.safetensors", "mixture/manifest.json"),
            {"saved": "checkpoints/step-*", "begun to train": "run.json", "built": "mixture", "begun": "*"}, False,
        ),
        "score": Victim(
            lambda out: words("steel_eval", "score", folder / "trained", "--tasks", "cmmlu,ceval", "--data", folder, "--shots", "1", "--out", out),
            ("*/scores.json", "*/answers.parquet", "curve.json"),
            {"scored": "*/scores.json", "begun": "*"}, False,
        ),
        "study": Victim(
            lambda out: words("steel_eval", "study", folder / "study.toml", "--data", folder, "--out", out, *count),
            ("study.json", "rates.json"), {"measured": "detectors/*", "scored": "*/seed-*/scores/*", **arms}, workers > 1,
        ),
        "mix": Victim(
            lambda out: words("steel_eval", "mix", folder / "mix.toml", "--data", folder, "--out", out, *count),
            ("surface.json",), {"measured": "*/seed-*/held-out", **arms}, workers > 1,
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


def started(words: list[str], folder: Path | None = None, last: int = 0) -> subprocess.Popen[bytes]:
    """Start a module with arguments. folder: where its changes are counted; last: before which of them it is killed."""
    hook = ["-m"] if folder is None else ["-c", HOOK, str(folder), f"{folder}.changes", str(last)]
    environment = {"OMP_NUM_THREADS": "1"} | os.environ
    return subprocess.Popen(
        [sys.executable, *hook, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment
    )


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


def ended(process: subprocess.Popen[bytes], patience: float) -> str:
    """Return what a command says on stderr until it ends; it and its workers are ended where it does not."""
    try:
        return process.communicate(timeout=patience)[1].decode(errors="replace")
    except subprocess.TimeoutExpired:
        for one in [*psutil.Process(process.pid).children(recursive=True), process]:
            one.kill()
        return process.communicate()[1].decode(errors="replace") + f"\nhangs: no end within {patience:.0f} s"


def main() -> None:
    """Do, kill, do again, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--of", default="build", help="which, with commas: build, train, score, study, mix")
    parser.add_argument("--kills", type=int, default=20, help="of each")
    parser.add_argument("--in-a-row", type=int, default=1, help="of a main process, before it is left alone")
    parser.add_argument("--at", choices=["time", "changes"], default="time", help="of what moments are uniform")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    lost = False
    print(f"{'of':<8}{'killed':<14}{'times':>8}{'failed':>9}{'tracebacks':>13}{'lost or other':>16}{'left behind':>14}")
    folder = Path(tempfile.mkdtemp(dir=args.folder)).resolve()
    write(folder, random.Random(args.seed))
    known = victims(folder, args.workers)
    if "score" in args.of:
        started(known["train"].command(folder / "trained")).communicate()
    for name in args.of.split(","):
        lost = tried(name, known[name], folder, args) or lost
    if lost:
        raise SystemExit(f"what was lost is kept in {folder}")
    shutil.rmtree(folder)


def tried(name: str, victim: Victim, folder: Path, args: argparse.Namespace) -> bool:
    """Kill one thing again and again, print a line for each kind of process; return whether anything was lost."""
    rng, by_changes = random.Random(f"{args.seed}/{name}"), args.at == "changes"
    whole = folder / f"{name}-whole"
    if by_changes:
        older(name, victim, whole)
    start = time.monotonic()
    process = started(victim.command(whole), whole if by_changes else None)
    said = process.communicate()[1]
    if process.returncode:
        raise SystemExit(f"the undisturbed {name} failed: {said.decode(errors='replace')[-400:]}")
    length, expected = time.monotonic() - start, sha256(whole, victim.files)
    changes = int(whole.with_name(f"{name}-whole.changes").read_text()) if by_changes else 0
    patience = 120 + 20 * length
    workers = ["worker"] if victim.workers and not by_changes else []
    counts = {target: [0, 0, 0, 0, 0] for target in ("main process", *workers)}
    stages, number, done = Counter[str](), 0, 0
    while done < args.kills:
        target, out = list(counts)[number % len(counts)], folder / f"{name}-{number}"
        found, wrong = counts[target], [0, 0, 0, 0]  # as after the times
        if by_changes:
            older(name, victim, out)
        for _ in range(args.in_a_row if target == "main process" else 1):
            if by_changes:
                process = started(victim.command(out), out, rng.randint(1, changes))
            else:
                process = started(victim.command(out))
                time.sleep(rng.uniform(0.1, length))
                fell = killed(process, target, rng)
            said = ended(process, patience)
            fell = process.returncode == -signal.SIGKILL if by_changes else fell
            found[0] += fell
            if target == "main process":
                stages[stage(out, victim) if fell else "too late"] += 1
            done += 1
            wrong[1] += "Traceback" in said
            if target == "worker":  # the whole must come through
                wrong[0] += process.returncode != 0
        if target == "main process":
            process = started(victim.command(out))
            said = ended(process, patience)
            wrong[0] += process.returncode != 0
            wrong[1] += "Traceback" in said
        wrong[2] += sha256(out, victim.files) != expected
        wrong[3] += any(p.name.endswith((".new", ".old")) and p.is_dir() for p in out.rglob("*"))
        if any(wrong):
            print(f"  {out}: {said.strip()[-600:]}", flush=True)
        else:
            shutil.rmtree(out, ignore_errors=True)
        found[1:] = [a + b for a, b in zip(found[1:], wrong, strict=True)]
        number += 1
    for target, (times, *faults) in counts.items():
        print(f"{name:<8}{target:<14}{times:>8}{faults[0]:>9}{faults[1]:>13}{faults[2]:>16}{faults[3]:>14}", flush=True)
    reached = ", ".join(f"{name} {stages[name]}" for name in ("nothing", *reversed(victim.stages), "too late"))
    print(f"  undisturbed {length:.1f} s, {changes} changes; how far the main process was: {reached}", flush=True)
    return any(sum(found[1:]) for found in counts.values())


def older(name: str, victim: Victim, out: Path) -> None:
    """Where a mixture is built: put another one in its place, made with a cache of its own."""
    if name == "build":
        started([*victim.command(out), "--set", "seed=7", "--cache", str(out / "older")]).communicate()


def stage(out: Path, victim: Victim) -> str:
    """Return how far a command is by what is there."""
    return next((name for name, pattern in victim.stages.items() if any(out.glob(pattern))), "nothing")


if __name__ == "__main__":
    main()
