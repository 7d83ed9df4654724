"""Is one recipe one mixture, byte for byte, whichever way it is built? And is a cluster as fast as this machine?

    python bench/engines.py                                          # generated rows: a minute
    python bench/engines.py --data ../shared/data --recipe bench/real_builds/all-like.toml bench/real_builds/dpo-like.toml
    python bench/engines.py --megabytes 96 --ways local-2,ray --rounds 3    # needs ../shared/data

Builds in every way, each from an empty cache, in processes of their own: here with 1, 2 and 4 workers; in three parts side
by side, and what finishes them; on a Ray cluster of two nodes of one processor each, and on one of which a node is killed
half-way; from and to a bucket (an S3 server, moto, in this process), which also fails every seventh request; on Ray from
and to a bucket. Prints of each way one SHA-256 over names and bytes of all files of the mixture (its manifest and dropped
rows included), CPU-seconds of all processes but this one and the S3 server in it, seconds, and what was done again: tasks
on Ray, requests that failed in a bucket. With --rounds, all ways are gone through so often, and the last lines compare
each way with the first. Exits with 1 where a build failed or a hash is another.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src"), str(ROOT / "bench")]

import chaos  # noqa: E402
import object_store  # noqa: E402
import one_file  # noqa: E402
from tests import nodes  # noqa: E402
from tests.steel_data.store.server import Lab, Server  # noqa: E402

from steel_data.cluster import executor  # noqa: E402
from steel_data.store.bucket import Bucket  # noqa: E402


class Meter(threading.Thread):
    """Adds up the CPU-seconds of all processes below this one, of which some live for seconds and nobody waits for."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._seen: dict[tuple[int, float], float] = {}
        self.start()

    def run(self) -> None:
        while True:
            self.seconds()
            time.sleep(0.2)

    def seconds(self) -> float:
        for process in psutil.Process().children(recursive=True):
            try:
                with process.oneshot():
                    used = process.cpu_times()
                    self._seen[process.pid, process.create_time()] = used.user + used.system
            except psutil.Error:
                pass
        return sum(list(self._seen.values()))


@dataclass
class World:
    """What is built, and where: a folder, and buckets and clusters once they are asked for."""

    folder: Path
    recipe: Path
    data: Path
    stack: ExitStack
    meter: Meter
    records: int = 0  # files of them in the cache when all is mapped
    _lab: Lab | None = None
    _cluster: Any = None
    said: list[str] = field(default_factory=list)
    begun: tuple[float, float] = (0.0, 0.0)  # CPU-seconds and seconds when a build began
    spent: tuple[float, float] = (0.0, 0.0)  # of it

    @property
    def lab(self) -> Lab:
        """A bucket that holds the data under `data/`."""
        if self._lab is None:
            server = Server()
            os.environ.update(
                AWS_ENDPOINT_URL=server.address, AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b",
                NO_PROXY="127.0.0.1", STEEL_SCRATCH=str(self.folder / "scratch"),
            )  # fmt: skip
            urllib.request.urlopen(urllib.request.Request(f"{server.address}/lab", method="PUT")).close()
            self._lab = Lab(server, Bucket("lab"))
            self._lab.upload(self.data, "data")
        return self._lab

    @property
    def cluster(self) -> Any:
        """A cluster of one node; its processes know the bucket."""
        if self._cluster is None:
            assert self.lab
            self._cluster = self.stack.enter_context(nodes.a_cluster())
        return self._cluster

    @contextmanager
    def two_nodes(self) -> Iterator[tuple[str, Any]]:
        """Give a cluster of two nodes, as `--engine` takes it, and the second of them."""
        with nodes.another(self.cluster) as second:
            executor(f"ray:{self.cluster.address}", 1)  # this process too, which asks what was done again
            yield f"ray:{self.cluster.address}", second

    def places(self, far: bool) -> list[str]:
        """Return the options of a build's places, which are empty."""
        if far:
            self.lab.bucket.delete([key for key in self.lab.bucket.list("").objects if not key.startswith("data/")])
            return [word for o, p in FAR for word in (f"--{o}", f"s3://lab/{p}")]
        for name in ("mixture", "cache"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        out, cache = str(self.folder / "mixture"), str(self.folder / "cache")
        return ["--data-root", str(self.data), "--out", out, "--cache", cache]

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        """Start a build."""
        path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, "-c", object_store.BUILD, "build", str(self.recipe), *options]
        return subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}
        )

    def begin(self) -> None:
        """Let the clocks start: what a build needs is there."""
        self.begun = (self.meter.seconds(), time.monotonic())

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for a build, and note what it took, and what it says where it fails or is surprised."""
        said = process.communicate()[1].decode(errors="replace")
        self.spent = (self.meter.seconds() - self.begun[0], time.monotonic() - self.begun[1])
        if process.returncode or "Traceback" in said:
            self.said.append(f"status {process.returncode}: {said[-600:]}")

    def sha256(self, far: bool) -> str:
        """Return one hash over the mixture."""
        if far:
            return object_store.sha256(self.lab.held("mix"))
        return chaos.sha256(self.folder / "mixture", ("**/*",))

    def mapped(self) -> int:
        """Return how many files of records the cache in a folder has."""
        return len(list((self.folder / "cache/records").rglob("*.parquet")))


FAR = (("data-root", "data"), ("out", "mix"), ("cache", "cache"))


def local(workers: int) -> Callable[[World], str]:
    """Build here."""

    def build(world: World) -> str:
        world.end(world.start(*world.places(False), "--workers", str(workers)))
        world.records = world.mapped()
        return ""

    return build


def parts(world: World) -> str:
    """Build in three parts side by side, and finish."""
    where = [*world.places(False), "--workers", "1"]
    for part in [world.start(*where, "--part", f"{k}/3") for k in (1, 2, 3)]:
        world.end(part)
    world.end(world.start(*where, "--finish"))
    return ""


def again() -> int:
    """Return how many attempts at tasks, beyond the first, the cluster knows of."""
    import ray

    time.sleep(1.5)  # machines tell once a second
    return sum(event.attempt_number > 0 for event in ray._private.state.state._get_all_task_events())


def cluster(kill: bool = False, far: bool = False) -> Callable[[World], str]:
    """Build on two nodes; take one away when half of the chunks are mapped."""

    def build(world: World) -> str:
        with world.two_nodes() as (engine, second):
            before = again()
            world.begin()
            process = world.start(*world.places(far), "--engine", engine)
            if kill:
                while process.poll() is None and world.mapped() < world.records / 2:
                    time.sleep(0.05)
                world.cluster.remove_node(second, allow_graceful=False)
            world.end(process)
            world.records = world.records or world.mapped()
            return f"{again() - before} tasks"

    return build


def bucket(errors: bool) -> Callable[[World], str]:
    """Build from and to a bucket, with two workers."""

    def build(world: World) -> str:
        where = world.places(True)
        world.lab.server.forget()
        world.lab.server.fail(7 if errors else 0)
        world.end(world.start(*where, "--workers", "2"))
        failed = world.lab.server.failed.total()
        world.lab.server.fail(0)
        return f"{failed} requests"

    return build


WAYS: dict[str, tuple[bool, Callable[[World], str]]] = {  # whether the mixture lies in a bucket, and how it is built
    "local-1": (False, local(1)),
    "local-2": (False, local(2)),
    "local-4": (False, local(4)),
    "parts": (False, parts),
    "ray": (False, cluster()),
    "ray-killed": (False, cluster(kill=True)),
    "s3": (True, bucket(errors=False)),
    "s3-errors": (True, bucket(errors=True)),
    "ray-s3": (True, cluster(far=True)),
}


def compare(world: World, ways: list[str], rounds: int) -> bool:
    """Build in all ways, print a line of each, and return whether all mixtures are one."""
    hashes, used = set(), {way: list[tuple[float, float]]() for way in ways}
    print(f"{world.recipe.name}\n{'way':12} {'SHA-256':16} {'CPU s':>7} {'s':>6}  done again", flush=True)
    for way in ways * rounds:
        far, build = WAYS[way]
        if way.startswith("ray"):
            assert world.cluster  # it goes on idling beside all later ways
        world.begin()
        done_again = build(world)
        cpu, wall = world.spent
        used[way].append(world.spent)
        found = world.sha256(far)
        hashes.add(found)
        print(f"{way:12} {found[:16]:16} {cpu:7.1f} {wall:6.1f}  {done_again}", flush=True)
    for way in ways[1:] if rounds > 1 else ():
        pairs = [[b / a for a, b in zip(*both, strict=True)] for both in zip(used[ways[0]], used[way], strict=True)]
        cpu, wall = (statistics.median(ratios) for ratios in zip(*pairs, strict=True))
        print(f"{way} against {ways[0]}, median of {rounds}: {cpu:.2f} of its CPU-seconds, {wall:.2f} of its seconds")
    for line in world.said:
        print(line)
    one = len(hashes) == 1 and "" not in hashes and not world.said
    print("one mixture, byte for byte" if one else "NOT ONE MIXTURE", flush=True)
    return one


def main() -> None:
    """Build each recipe in all ways."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, nargs="+", default=[])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--megabytes", type=int, default=0, help="one file of so much instead, as bench/one_file.py's")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--rounds", type=int, default=1)
    args = parser.parse_args()
    ways = args.ways.split(",")
    if unknown := set(ways) - {*WAYS}:
        parser.error(f"no such way: {', '.join(unknown)}")
    one, meter = True, Meter()
    with tempfile.TemporaryDirectory() as made:
        (Path(made) / "data").mkdir()
        recipes, data = args.recipe, args.data
        if not recipes or data is None:
            data = Path(made) / "data"
            if args.megabytes:
                one_file.write(data, args.megabytes, "jsonl")
            else:
                chaos.write(data, Random(0))
            recipes = [data / "r.toml"]
        for i, recipe in enumerate(recipes):
            folder = Path(made) / str(i)
            folder.mkdir()
            with ExitStack() as stack:
                one &= compare(World(folder, recipe, data, stack, meter), ways, args.rounds)
    sys.exit(not one)


if __name__ == "__main__":
    main()
