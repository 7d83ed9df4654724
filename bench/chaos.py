"""Is anything lost when processes of a build are killed at random moments?

    python bench/chaos.py [--kills 20] [--seed 0] [--workers 2] [--folder DIR]

Builds generated data of some files once undisturbed. Then, again and again from an empty cache, the build's main process
or one of its workers gets SIGKILL at a random moment; a main process that fell is started once more. The SHA-256 over
the whole mixture folder must be that of the undisturbed build, and nothing half-written may lie beside it. Prints what
was killed, how often, and what was lost.
"""

import argparse
import hashlib
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import orjson
import psutil

RECIPE = """
filters = [{ use = "language", keep = ["zh"] }, { use = "length", min_chars = 10 }, { use = "dedup" }]
[source.a]
path = "part*.jsonl"
"""


def write(folder: Path, rng: random.Random) -> None:
    """Write six files of 400 rows, a tenth of them copies, and the recipe."""
    letters = "山水火土金木人口手足日月云雨风雪花草树鸟鱼虫马牛羊犬车船桥路门窗灯书笔纸墨琴棋画茶酒饭菜"
    rows: list[dict[str, str]] = []
    for _ in range(2400):
        if rows and rng.random() < 0.1:
            rows.append(rng.choice(rows))
        else:
            said = ["".join(rng.choices(letters, k=rng.randint(12, 90))) for _ in range(2)]
            rows.append({"instruction": f"请解释{said[0]}。", "output": f"{said[1]}。"})
    for i in range(6):
        part = b"\n".join(map(orjson.dumps, rows[i * 400 : (i + 1) * 400]))
        (folder / f"part{i}.jsonl").write_bytes(part + b"\n")
    (folder / "r.toml").write_text(RECIPE)


def sha256(folder: Path) -> str:
    """Return one hash over the names and bytes of all files of a folder."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def started(folder: Path, name: str, workers: int) -> subprocess.Popen[bytes]:
    """Start a build into a folder and a cache of its own."""
    command = [sys.executable, "-m", "steel_data", "build", str(folder / "r.toml"), "--data-root", str(folder)]
    command += ["--workers", str(workers), "--out", str(folder / name / "mixture")]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def killed(process: subprocess.Popen[bytes], victim: str) -> bool:
    """Kill the build's main process or one of its workers; return whether there was one."""
    try:
        children = [c for c in psutil.Process(process.pid).children() if "spawn_main" in " ".join(c.cmdline())]
        target = psutil.Process(process.pid) if victim == "main process" else random.choice(children)
        target.kill()
    except (psutil.Error, IndexError):
        return False
    return process.poll() is None or victim == "main process"


def main() -> None:
    """Build, kill, build again, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    random.seed(args.seed)
    tried = {victim: [0, 0, 0, 0] for victim in ("main process", "worker")}
    with tempfile.TemporaryDirectory(dir=args.folder) as made:
        folder = Path(made)
        write(folder, rng)
        start = time.monotonic()
        if started(folder, "whole", args.workers).wait():
            raise SystemExit("the undisturbed build failed")
        length, expected = time.monotonic() - start, sha256(folder / "whole/mixture")
        for i in range(args.kills):
            victim, name = list(tried)[i % 2], f"killed{i}"
            process = started(folder, name, args.workers)
            time.sleep(rng.uniform(0.1, length))
            counts = tried[victim]
            counts[0] += killed(process, victim)
            said = process.communicate()[1].decode(errors="replace")
            if victim == "worker":  # the build itself must come through
                counts[1] += process.returncode != 0
            elif started(folder, name, args.workers).wait():
                counts[1] += 1
            counts[2] += "Traceback" in said
            mixture = folder / name / "mixture"
            counts[3] += not mixture.is_dir() or sha256(mixture) != expected
            left = [p.name for p in (folder / name).iterdir() if p.name.endswith((".new", ".old"))]
            if left:
                print(f"left behind by kill {i}: {left}")
    print(f"{'killed':<14}{'times':>8}{'builds failed':>16}{'tracebacks':>13}{'mixtures lost or other':>25}")
    for victim, counts in tried.items():
        print(f"{victim:<14}{counts[0]:>8}{counts[1]:>16}{counts[2]:>13}{counts[3]:>25}")
    if any(sum(counts[1:]) for counts in tried.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
