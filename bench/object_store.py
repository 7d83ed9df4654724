"""Is a build from and to a bucket the one in folders, byte for byte, whatever the store and the machine do meanwhile?

    python bench/object_store.py [--errors 100] [--kills 4] [--seed 0]
    python bench/object_store.py --recipe bench/real_builds/exp2-like.toml --data ../shared/data

An S3 server (moto) runs in this process; builds are processes of their own. First the recipe (without one: a small one,
over generated rows) is built in folders. Then from and to a bucket, again and again from an empty cache, while every
k-th request fails in one of five ways (500, 503, a connection that breaks before the request is done, after it, in the
middle of the answer), until so many have failed; and so often with SIGKILL at a random moment, and the build started
again when the lease has run out. Whatever a reader finds meanwhile must be whole. Prints what was tried, what the last
build asked for, and what was lost.
"""

import argparse
import hashlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src"), str(ROOT / "bench")]

import chaos  # noqa: E402
from tests.steel_data.store.server import Lab, Server  # noqa: E402

from steel_data.store.bucket import Bucket  # noqa: E402

# a lease of seconds: a killed build's is waited for
BUILD = (
    "import sys; from steel_data.store import lease; lease.SECONDS, lease.GRACE = 8, 0; "
    "from steel_data.__main__ import main; sys.argv[0] = 'steel'; main()"
)


def started(*options: str) -> subprocess.Popen[bytes]:
    """Start a build."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", BUILD, "build", *options]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)


def sha256(files: dict[str, bytes]) -> str:
    """Return one hash over names and bytes, as chaos.py's of a folder."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(name.encode() + b"\0" + files[name] + b"\0")
    return digest.hexdigest()


def is_whole_or_none(held: dict[str, bytes]) -> bool:
    """Whether there is no manifest, or one whose files are there, byte for byte."""
    if "manifest.json" not in held:
        return True
    manifest = json.loads(held["manifest.json"])
    files = {**manifest["output"], **manifest["dropped_files"], **manifest["truth"]}
    return all(hashlib.sha256(held.get(name, b"")).hexdigest() == entry["sha256"] for name, entry in files.items())


def cpu() -> float:
    """Return the CPU-seconds of all builds so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Build in folders, then against the server."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--errors", type=int, default=100)
    parser.add_argument("--kills", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        recipe, data = args.recipe, args.data
        if recipe is None or data is None:
            chaos.write(folder, rng)
            recipe, data = folder / "r.toml", folder
        server = Server()
        lab = Lab(server, Bucket("lab"))
        os.environ.update(
            AWS_ENDPOINT_URL=server.address, AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b", NO_PROXY="127.0.0.1",
            STEEL_SCRATCH=str(folder / "scratch"),
        )  # fmt: skip
        urllib.request.urlopen(urllib.request.Request(f"{server.address}/lab", method="PUT")).close()
        common = [str(recipe), "--workers", str(args.workers)]
        before, start = cpu(), time.monotonic()
        local = started(*common, "--data-root", str(data), "--out", str(folder / "mix"), "--cache", str(folder / "c"))
        said = local.communicate()[1]
        if local.returncode:
            raise SystemExit(f"the build in folders failed: {said.decode()}")
        length, expected = time.monotonic() - start, chaos.sha256(folder / "mix", ("**/*",))
        print(f"in folders: {cpu() - before:.1f} CPU-s, {length:.0f} s, SHA-256 {expected[:16]}", flush=True)
        size = 0
        for path in sorted(p for p in data.rglob("*") if p.is_file() and folder / "mix" not in p.parents):
            if not {"c", "scratch", "mix"} & {*path.relative_to(data).parts[:1]}:
                lab.bucket.put(f"data/{path.relative_to(data).as_posix()}", path)
                size += path.stat().st_size

        def far(n: int) -> list[str]:
            places = (("data-root", "data"), ("out", "mix"), ("cache", f"cache{n}"))
            return [*common, *(word for o, p in places for word in (f"--{o}", f"s3://lab/{p}"))]

        lost, builds, failed, tracebacks = 0, 0, Counter[str](), 0

        def check(status: int, said: str) -> None:
            nonlocal lost, builds, tracebacks
            builds += 1
            tracebacks += "Traceback" in said
            if status or sha256(lab.held("mix")) != expected:
                lost += 1
                print(f"build {builds}: status {status}: {said[-400:]}", flush=True)

        def run(n: int) -> tuple[int, str]:
            process = started(*far(n))
            said = process.communicate()[1].decode(errors="replace")
            return process.returncode, said

        server.asked.clear()
        before, start = cpu(), time.monotonic()
        check(*run(0))
        asked = Counter(a.kind + (" 404" if a.status == "404" else "") for a in server.asked)
        inputs = sum(a.bytes for a in server.asked if a.kind == "GET" and a.key.startswith("data/"))
        print(f"in a bucket: {cpu() - before:.1f} CPU-s, {time.monotonic() - start:.0f} s, {dict(asked)},", flush=True)
        print(f"  {inputs:,} bytes of ranges of inputs, of {size:,} bytes there", flush=True)
        n = 0
        while failed.total() < args.errors:
            n += 1
            lab.bucket.delete([key for key in lab.bucket.list("mix").objects if rng.random() < 0.5])
            server.fail(rng.randint(3, 12))
            server.failed.clear()
            done = run(n)
            server.fail(0)
            failed += server.failed
            check(*done)
        killed = half = 0
        for _ in range(args.kills):
            n += 1
            server.fail(rng.choice([0, 11]))
            process = started(*far(n))
            time.sleep(rng.uniform(0.2, 1.2) * length)
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                killed += 1
            process.communicate()
            server.fail(0)
            half += not is_whole_or_none(lab.held("mix"))
            for _ in range(40):  # until the dead one's lease has run out
                done = run(n)
                if done[0] == 0 or "another build" not in done[1]:
                    break
                time.sleep(1)
            check(*done)
        left = list((folder / "scratch").iterdir()) if (folder / "scratch").is_dir() else []
    print(
        f"{builds} builds; failed requests: {dict(failed)} = {failed.total()}; killed: {killed}; half-written mixtures "
        f"found: {half}; tracebacks: {tracebacks}; mixtures lost or other: {lost}; folders of copies left: {len(left)}"
    )
    if lost or half or tracebacks:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
