"""How much of a build is work for several workers, where the input is one file?

    python bench/one_file.py [--megabytes 96] [--kind jsonl|parquet] [--workers 2] [--folder DIR]

Writes alpaca rows, half of them English, of sentences of the real instruct files in new order, builds language + length +
dedup once with one worker and once with several, each from a cold cache in a process of its own, and prints CPU-seconds
by pass: of the whole process, of its main thread alone (what no second core can take), and of the workers. Checks that
the mixtures are equal, byte for byte.
"""

import argparse
import importlib
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import orjson
import polars as pl

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "instruct"
FILES = {"en": ["alpaca_en_demo.json"], "zh": ["alpaca_zh_demo.json", "zh_alpaca_part00.json"]}
PASSES = ("prepare", "map_sources", "decide", "gather")
RECIPE = """
filters = [{{ use = "language", keep = ["zh", "en"] }}, {{ use = "length", min_chars = 10 }}, {{ use = "dedup" }}]
[source.a]
path = "rows.{}"
"""


def write(folder: Path, megabytes: int, kind: str) -> None:
    """Write `rows.jsonl`, as parquet where that is the kind, and the recipe."""
    random.seed(0)
    sentences: dict[str, list[str]] = {}
    for language, names in FILES.items():
        rows = [row for name in names for row in orjson.loads((SHARED / name).read_bytes())]
        parts = [part for row in rows for part in re.split(r"(?<=[。！？.!?\n])", row["output"] or "")]
        sentences[language] = [part for part in parts if len(part) > 8]
    size = 0
    with (folder / "rows.jsonl").open("wb") as file:
        while size < megabytes * 2**20:
            pool = sentences[random.choice(("en", "zh"))]
            answer = "".join(random.choices(pool, k=random.randint(2, 12)))
            size += file.write(
                orjson.dumps({"instruction": random.choice(pool), "input": "", "output": answer}) + b"\n"
            )
    if kind == "parquet":
        pl.read_ndjson(folder / "rows.jsonl").write_parquet(folder / "rows.parquet")
    (folder / "r.toml").write_text(RECIPE.format(kind))


def _used() -> tuple[float, float, float]:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime, time.thread_time(), children.ru_utime + children.ru_stime


def build(folder: Path, workers: int) -> None:
    """Build, and print what each pass took."""
    module: Any = importlib.import_module("steel_data.build")
    recipe = importlib.import_module("steel_data.recipe.load").load(folder / "r.toml")
    print(f"{'imports':12} process {_used()[0]:6.2f}  main thread {_used()[1]:6.2f}  workers   0.00")

    def timed(name: str) -> None:
        function = getattr(module, name)

        def call(*args: Any, **options: Any) -> Any:
            before = _used()
            try:
                return function(*args, **options)
            finally:
                spent = [now - then for now, then in zip(_used(), before, strict=True)]
                print("{:12} process {:6.2f}  main thread {:6.2f}  workers {:6.2f}".format(name, *spent))

        setattr(module, name, call)

    for name in PASSES:
        timed(name)
    out, cache = folder / f"out-{workers}", folder / f"cache-{workers}"
    begin = time.perf_counter()
    made = module.build(recipe, data_root=folder, out=out, cache=cache, workers=workers)
    whole = "{:12} process {:6.2f}  main thread {:6.2f}  workers {:6.2f}".format("whole", *_used())
    print(f"{whole}  wall {time.perf_counter() - begin:.1f} s, {made.manifest['rows']:,} rows")


def main() -> None:
    """Write the rows, build twice, compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--megabytes", type=int, default=96)
    parser.add_argument("--kind", choices=("jsonl", "parquet"), default="jsonl")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)  # the number of workers of one build
    args = parser.parse_args()
    if args.one:
        build(args.folder, args.one)
        return
    with tempfile.TemporaryDirectory() as made:
        folder = args.folder or Path(made)
        write(folder, args.megabytes, args.kind)
        files = []
        for workers in (1, args.workers):
            print(f"{args.kind}, {args.megabytes} MB, {workers} worker{'s' * (workers > 1)}: CPU-seconds", flush=True)
            subprocess.run([sys.executable, __file__, "--folder", str(folder), "--one", str(workers)], check=True)
            out = folder / f"out-{workers}"
            files.append({p.relative_to(out): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()})
        print("equal, byte for byte" if files[0] == files[1] else "THE MIXTURES DIFFER")


if __name__ == "__main__":
    main()
