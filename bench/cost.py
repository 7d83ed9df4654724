"""What does a build cost by pass, and what would ten million, a hundred million and a thousand million rows cost?

    python bench/cost.py [--rows 50_000,200_000] [--workers 1,2,ray] [--rate 0.04] [--folder DIR]

Builds bench/scale.py's generated rows in each size and with each number of workers, from a cold cache. Of each pass:
seconds by the clock, CPU-seconds of the main process and of its workers, bytes read and written (page cache included),
files opened in the cache ("requests": what an object store would be asked for). `ray`: a cluster of two nodes of one
processor each on this machine, whose CPU-seconds are not seen from here. The model: of each pass a line a + b * rows of
CPU-seconds through the smallest and the largest build with the first number of workers, and one of the part that the
main thread does alone, from the last number. From it a simulation (tasks to whichever worker is free first) tells
seconds by the clock. Both are checked against all builds, and extended. `--rate`: US dollars an hour for a virtual CPU.
"""

import argparse
import heapq
import importlib
import json
import math
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import scale

ROOT = Path(__file__).resolve().parents[1]
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


@contextmanager
def workers_of(word: str) -> Iterator[Any]:
    """Yield what `build` takes as workers: so many, or a cluster of two nodes."""
    if word != "ray":
        yield int(word)
        return
    sys.path.append(str(ROOT))
    nodes: Any = importlib.import_module("tests.nodes")
    with nodes.a_cluster() as cluster, nodes.another(cluster):
        for _ in range(30):  # Ray's own processes go on starting for some seconds: a cluster is there before a build
            if psutil.cpu_percent(1) < 20:
                break
        yield importlib.import_module("steel_data.cluster").executor(f"ray:{cluster.address}", 1)


def build(folder: Path, word: str) -> None:
    """Build, and print what each pass took as JSON."""
    with workers_of(word) as workers:
        told = timed_build(folder, word, workers)
    print(json.dumps(told))


def timed_build(folder: Path, word: str, workers: Any) -> dict[str, Any]:
    """Build, and return what each pass took."""
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
    cache, out = folder / f"cache-{word}", folder / f"out-{word}"
    begun = time.monotonic()
    module.build(recipe, data_root=folder / "data", out=out, cache=cache, workers=workers)
    length = time.monotonic() - begun
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
    size = sum(p.stat().st_size for p in out.rglob("*") if p.is_file())
    cpu = whole["main"] + whole["workers"]
    return {"passes": spent, "cache": files, "out": size, "seconds": length, "cpu": cpu}


def measured(rows: int, workers: list[str], folder: Path | None) -> dict[str, dict[str, Any]]:
    """Return, of each number of workers, what a build of so many rows took."""
    with tempfile.TemporaryDirectory(dir=folder) as made:
        place = Path(made)
        scale.write(place, rows)
        scale.recipe(place, 20, 0.8)
        found: dict[str, dict[str, Any]] = {}
        for count in workers:
            command = [sys.executable, __file__, "--one", count, "--folder", str(place)]
            (told,), peaks = scale.watched(command)
            for name, part in told["passes"].items():
                part |= {"tree_MB": peaks.tree.get(name, 0) / 1e6, "main_MB": peaks.main.get(name, 0) / 1e6}
            found[count] = told
            show(rows, count, found[count])
        return found


def show(rows: int, workers: str, took: dict[str, Any]) -> None:
    """Print what a build took."""
    print(f"\n{rows:,} rows, {workers} workers: {took['seconds']:.0f} s, {took['cpu']:.1f} CPU-s, "
          f"output {took['out'] / rows:.0f} bytes a row")  # fmt: skip
    print(f"  {'pass':<9}{'seconds':>9}{'main CPU-s':>11}{'of it alone':>12}{'workers':>9}{'us a row':>10}{'bytes a row':>13}"
          f"{'peak MB: main':>15}{'tree':>7}")  # fmt: skip
    for name, part in took["passes"].items():
        print(f"  {name:<9}{part['seconds']:>9.2f}{part['main']:>11.2f}{part['thread']:>12.2f}{part.get('workers', 0):>9.2f}"
              f"{1e6 * cost(part) / rows:>10.1f}{part['bytes'] / rows:>13.0f}{part['main_MB']:>15.0f}{part['tree_MB']:>7.0f}")  # fmt: skip
    for kind, (count, size) in took["cache"].items():
        print(f"  cache/{kind:<12}{count:>7,} files{size / rows:>9.0f} bytes a row")


def cost(part: dict[str, float]) -> float:
    """Return the CPU-seconds of a pass."""
    return part["main"] + part.get("workers", 0)


@dataclass
class Model:
    """Lines over rows, by pass: CPU-seconds, and those of them that the main thread does alone; tasks of map a row."""

    cost: dict[str, tuple[float, float]]
    alone: dict[str, tuple[float, float]]
    tasks: float

    def cpu(self, name: str, rows: int) -> float:
        """Return the CPU-seconds of a pass."""
        base, slope = self.cost[name]
        return base + slope * rows

    def seconds(self, name: str, rows: int, workers: int) -> float:
        """Return the seconds by the clock of a pass: its tasks go to whoever is free first; the rest to one thread."""
        whole = self.cpu(name, rows)
        if workers == 1:
            return whole
        base, slope = self.alone[name]
        alone = min(max(base + slope * rows, 0.0), whole)
        tasks = math.ceil(self.tasks * rows) if name == "map" else 8 * workers  # threads share by small pieces
        free = [0.0] * workers
        for _ in range(tasks):
            heapq.heappushpop(free, free[0] + (whole - alone) / tasks)
        return alone + max(free)


def model_of(found: dict[int, dict[str, dict[str, Any]]]) -> Model:
    """Return lines through the smallest and the largest size; through the only one and nothing where there is one."""
    small, large = min(found), max(found)
    first, *_, last = [word for word in found[small] if word != "ray"] * 2

    def line(low: float, high: float) -> tuple[float, float]:
        slope = (high - low) / (large - small) if large > small and high > low else low / small
        return (low - slope * small if large > small else 0.0), slope

    a, b = found[small], found[large]
    names = a[first]["passes"]
    return Model(
        {n: line(cost(a[first]["passes"][n]), cost(b[first]["passes"][n])) for n in names},
        {n: line(a[last]["passes"][n]["thread"], b[last]["passes"][n]["thread"]) for n in names},
        b[first]["cache"]["records"][0] / large,
    )


def extend(found: dict[int, dict[str, dict[str, Any]]], rate: float) -> None:
    """Print the model, how far it is from each build, and what it says of SIZES."""
    small, large = min(found), max(found)
    first = next(iter(found[small]))
    a, b = found[small][first], found[large][first]
    model = model_of(found)
    grown = {name: b["passes"][name]["main_MB"] - a["passes"][name]["main_MB"] for name in a["passes"]}
    memory = grown["plan"] / max(large - small, 1) * 1e6
    print("\nmodel: CPU-seconds = a + b * million rows")
    for name, (base, slope) in model.cost.items():
        print(f"  {name:<9} a {base:>6.2f}  b {slope * 1e6:>8.2f}  of it alone {model.alone[name][1] * 1e6:>8.2f}")
    if large > small:
        rows = max(large - small, 1) / 1e6
        print(
            "  main process at its peak, bytes a row more: "
            + ", ".join(f"{n} {mb / rows:.0f}" for n, mb in grown.items())
        )
    print("\ncheck: each build without start-up, and the model")
    print(f"  {'rows':>12}{'workers':>9}{'CPU-s':>9}{'model':>9}{'':>8}{'seconds':>10}{'simulated':>11}")
    for rows, by_workers in found.items():
        for word, took in by_workers.items():
            own, told = sum(cost(part) for part in took["passes"].values()), sum(model.cpu(n, rows) for n in model.cost)
            count = 2 if word == "ray" else int(word)
            clock = sum(part["seconds"] for part in took["passes"].values())
            simulated = sum(model.seconds(name, rows, count) for name in model.cost)
            of_cpu = f"{'-':>9}{'-':>9}{'':>8}" if word == "ray" else f"{own:>9.1f}{told:>9.1f}{_off(told, own):>8}"
            print(f"  {rows:>12,}{word:>9}{of_cpu}{clock:>10.1f}{simulated:>11.1f}{_off(simulated, clock):>8}")
    files = sum(count for count, _ in b["cache"].values()) / large
    shuffle = b["cache"]["records"][1] / large
    print(f"\n{'rows':>14}{'map CPU-h':>11}{'plan CPU-h':>12}{'gather CPU-h':>14}{'plan GB':>9}{'cache TB':>10}"
          f"{'shuffle TB':>12}{'requests':>12}{'hours':>8}{'machines':>10}{'US$':>9}  binds")  # fmt: skip
    for rows in SIZES:
        hours = {name: model.cpu(name, rows) / 3600 for name in model.cost}
        plan_gb = memory * rows / 1e9 if large > small else math.nan
        machines = max(1, min(64, round(hours["map"] / CORES / 2)))  # so that map takes two hours
        # plan was seen on two cores alone: no more are counted
        busy = {"prepare": CORES * machines, "map": CORES * machines, "plan": 2, "gather": CORES}
        wall = {name: model.seconds(name, rows, busy[name]) / 3600 for name in model.cost}
        binds = "memory of plan" if plan_gb > MACHINE_GB else max(wall, key=lambda name: wall[name])
        total = sum(wall.values())
        price = rate * CORES * (machines * (wall["map"] + wall["prepare"]) + wall["plan"] + wall["gather"])
        cache = sum(size for _, size in b["cache"].values()) / large * rows / 1e12
        print(f"{rows:>14,}{hours['map']:>11.1f}{hours['plan']:>12.2f}{hours['gather']:>14.2f}{plan_gb:>9.1f}{cache:>10.2f}"
              f"{shuffle * rows / 1e12:>12.2f}{files * rows * 3:>12,.0f}{total:>8.1f}{machines:>10}{price:>9,.2f}  {binds}")  # fmt: skip
    print(f"machines of {CORES} virtual CPUs and {MACHINE_GB} GB at {rate} US$ a virtual CPU and hour; requests: each file of the "
          "cache is written once and read at most twice")  # fmt: skip


def _off(told: float, own: float) -> str:
    return f"({100 * (told / own - 1):+.0f} %)"


def main() -> None:
    """Build in each size, and say what it costs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="50_000,200_000")
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--rate", type=float, default=0.04)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)  # the number of workers of one build
    args = parser.parse_args()
    if args.one:
        build(args.folder, args.one)
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    workers = args.workers.split(",")
    if workers[0] == "ray":
        parser.error("--workers: the model is made from builds here. Fix: --workers 1,2,ray.")
    extend({int(rows): measured(int(rows), workers, args.folder) for rows in args.rows.split(",")}, args.rate)


if __name__ == "__main__":
    main()
