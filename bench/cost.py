"""What does a build cost by pass, and what would ten million, a hundred million and a thousand million rows cost?

    python bench/cost.py [--rows 50_000,200_000] [--workers 1,2] [--rate 0.04] [--folder DIR]

Builds bench/scale.py's generated rows in each size and with each number of workers, from a cold cache. Of each pass:
CPU-seconds of the main process and of its workers, bytes read and written (page cache included), files opened in the
cache ("requests": what an object store would be asked for). A line a + b * rows through the smallest and the largest
build with the first number of workers is the model; it is checked against all builds, and extended. `--rate`: US dollars
an hour for one virtual CPU.
"""

import argparse
import importlib
import json
import math
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import scale

SIZES = (10_000_000, 100_000_000, 1_000_000_000)
CORES, MACHINE_GB = 16, 64  # of one machine of the extension


def _used() -> dict[str, float]:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    io = {
        line.split(b":")[0].decode(): int(line.split()[1]) for line in Path("/proc/self/io").read_bytes().splitlines()
    }
    return {
        "seconds": time.monotonic(), "main": own.ru_utime + own.ru_stime, "thread": time.thread_time(),
        "workers": children.ru_utime + children.ru_stime, "bytes": io["rchar"] + io["wchar"],
        "resident": psutil.Process().memory_info().rss / 1e6,
    }  # fmt: skip


def build(folder: Path, workers: int) -> None:
    """Build, and print what each pass took as JSON."""
    module: Any = importlib.import_module("steel_data.build")
    recipe = importlib.import_module("steel_data.recipe.load").load(folder / "scale.toml")
    spent: dict[str, dict[str, float]] = {}

    def timed(name: str) -> None:
        function = scale.begins(scale.PASSES[name], getattr(module, name))

        def call(*args: Any, **options: Any) -> Any:
            before = _used()
            try:
                return function(*args, **options)
            finally:
                now = _used()
                spent[scale.PASSES[name]] = {key: now[key] - before[key] for key in now} | {"resident": now["resident"]}

        setattr(module, name, call)

    for name in scale.PASSES:
        timed(name)
    cache = folder / f"cache-{workers}"
    begun = time.monotonic()
    module.build(recipe, data_root=folder / "data", out=folder / f"out-{workers}", cache=cache, workers=workers)
    spent["map"]["workers"] += (
        spent["prepare"].pop("workers") + _used()["workers"] - sum(part.get("workers", 0) for part in spent.values())
    )  # those that end with the block are counted when they end
    whole = _used()
    sizes = {
        kind.name: [p.stat().st_size for p in kind.rglob("*") if p.is_file()]
        for kind in cache.iterdir()
        if kind.is_dir()
    }
    files = {kind: [len(held), sum(held)] for kind, held in sizes.items()}
    out = sum(p.stat().st_size for p in (folder / f"out-{workers}").rglob("*") if p.is_file())
    told = {"passes": spent, "cache": files, "out": out, "seconds": time.monotonic() - begun}
    print(json.dumps(told | {"cpu": whole["main"] + whole["workers"]}))


def measured(rows: int, workers: list[int], folder: Path | None) -> dict[int, dict[str, Any]]:
    """Return, of each number of workers, what a build of so many rows took."""
    with tempfile.TemporaryDirectory(dir=folder) as made:
        place = Path(made)
        scale.write(place, rows)
        scale.recipe(place, 20, 0.8)
        found = {}
        for count in workers:
            command = [sys.executable, __file__, "--one", str(count), "--folder", str(place)]
            (told,), peaks = scale.watched(command)
            for name, part in told["passes"].items():
                part |= {"tree_MB": peaks.tree.get(name, 0) / 1e6, "main_MB": peaks.main.get(name, 0) / 1e6}
            found[count] = told
            show(rows, count, found[count])
        return found


def show(rows: int, workers: int, took: dict[str, Any]) -> None:
    """Print what a build took."""
    print(f"\n{rows:,} rows, {workers} workers: {took['seconds']:.0f} s, {took['cpu']:.1f} CPU-s, "
          f"output {took['out'] / rows:.0f} bytes a row")  # fmt: skip
    print(f"  {'pass':<9}{'main CPU-s':>11}{'of it alone':>12}{'workers':>9}{'us a row':>10}{'bytes a row':>13}"
          f"{'peak MB: main':>15}{'tree':>7}")  # fmt: skip
    for name, part in took["passes"].items():
        print(f"  {name:<9}{part['main']:>11.2f}{part['thread']:>12.2f}{part.get('workers', 0):>9.2f}"
              f"{1e6 * cost(part) / rows:>10.1f}{part['bytes'] / rows:>13.0f}{part['main_MB']:>15.0f}{part['tree_MB']:>7.0f}")  # fmt: skip
    for kind, (count, size) in took["cache"].items():
        print(f"  cache/{kind:<12}{count:>7,} files{size / rows:>9.0f} bytes a row")


def cost(part: dict[str, float]) -> float:
    """Return the CPU-seconds of a pass."""
    return part["main"] + part.get("workers", 0)


def extend(found: dict[int, dict[int, dict[str, Any]]], rate: float) -> None:
    """Print the model, how far it is from each build, and what it says of SIZES."""
    first = min(next(iter(found.values())))
    small, large = min(found), max(found)
    a, b = found[small][first], found[large][first]
    slope, base = {}, {}
    for name in a["passes"]:
        per_row = (cost(b["passes"][name]) - cost(a["passes"][name])) / max(large - small, 1)
        slope[name] = per_row if large > small and per_row > 0 else cost(a["passes"][name]) / small
        base[name] = cost(a["passes"][name]) - slope[name] * small if large > small else 0.0
    grown = {name: b["passes"][name]["main_MB"] - a["passes"][name]["main_MB"] for name in a["passes"]}
    memory = grown["plan"] / max(large - small, 1) * 1e6
    print("\nmodel: CPU-seconds = a + b * million rows")
    for name in slope:
        print(f"  {name:<9} a {base[name]:>6.2f}  b {slope[name] * 1e6:>8.2f}")
    if large > small:
        rows = max(large - small, 1) / 1e6
        print(
            "  main process at its peak, bytes a row more: "
            + ", ".join(f"{n} {mb / rows:.0f}" for n, mb in grown.items())
        )
    print("\ncheck: CPU-seconds of each build, and of the model")
    for rows, by_workers in found.items():
        for count, took in by_workers.items():
            own = sum(cost(part) for part in took["passes"].values())
            told = sum(base[name] + slope[name] * rows for name in slope)
            print(f"  {rows:>12,} rows, {count} workers: {own:8.1f} {told:8.1f} ({100 * (told / own - 1):+.0f} %)")
    files = sum(count for count, _ in b["cache"].values()) / large
    shuffle = b["cache"]["records"][1] / large
    print(f"\n{'rows':>14}{'map CPU-h':>11}{'plan CPU-h':>12}{'gather CPU-h':>14}{'plan GB':>9}{'cache TB':>10}"
          f"{'shuffle TB':>12}{'requests':>12}{'hours':>8}{'machines':>10}{'US$':>9}  binds")  # fmt: skip
    for rows in SIZES:
        hours = {name: (base[name] + slope[name] * rows) / 3600 for name in slope}
        plan_gb = memory * rows / 1e9 if large > small else math.nan
        machines = max(1, min(64, round(hours["map"] / CORES / 2)))  # so that map takes two hours
        wall = {
            "map": hours["map"] / CORES / machines, "plan": hours["plan"] / 2,  # two of its threads are busy
            "gather": hours["gather"] / CORES, "prepare": hours["prepare"] / CORES / machines,
        }  # fmt: skip
        binds = "memory of plan" if plan_gb > MACHINE_GB else max(wall, key=lambda name: wall[name])
        total = sum(wall.values())
        price = rate * CORES * (machines * (wall["map"] + wall["prepare"]) + wall["plan"] + wall["gather"])
        cache = sum(size for _, size in b["cache"].values()) / large * rows / 1e12
        print(f"{rows:>14,}{hours['map']:>11.1f}{hours['plan']:>12.2f}{hours['gather']:>14.2f}{plan_gb:>9.1f}{cache:>10.2f}"
              f"{shuffle * rows / 1e12:>12.2f}{files * rows * 3:>12,.0f}{total:>8.1f}{machines:>10}{price:>9,.2f}  {binds}")  # fmt: skip
    print(f"machines of {CORES} virtual CPUs and {MACHINE_GB} GB at {rate} US$ a virtual CPU and hour; requests: each file of the "
          "cache is written once and read at most twice")  # fmt: skip


def main() -> None:
    """Build in each size, and say what it costs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="50_000,200_000")
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--rate", type=float, default=0.04)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)  # the number of workers of one build
    args = parser.parse_args()
    if args.one:
        build(args.folder, args.one)
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    workers = [int(count) for count in args.workers.split(",")]
    extend({int(rows): measured(int(rows), workers, args.folder) for rows in args.rows.split(",")}, args.rate)


if __name__ == "__main__":
    main()
