"""Ten minutes on a GPU: are the kernels right there, are they faster than others', what does training reach end to end?

    make gpu-pack                        here, with a network: runs/gpu/pack.tar.xz, all that a bare CUDA machine lacks
    make gpu                             there, without one: runs/gpu/results.jsonl as it goes, runs/gpu/gpu.md at the end
    python -m bench.gpu --dry            every code path at tiny sizes on a CPU, in a minute; its numbers mean nothing

Each part runs in a process of its own with a time limit of its own, so that one which hangs or dies costs its own rows
only; whatever is left at the deadline is not begun. A line of the results is one JSON object: `part`, then what that
part measured. Nothing here takes a number from anywhere but a measurement of this run.
"""

import argparse
import importlib
import itertools
import json
import multiprocessing
import os
import signal
import sys
import tarfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# part -> seconds it may take; with unpacking they come to less than 600, since those of BESIDE run side by side
PARTS = {
    "machine": 25, "train": 200, "resume": 100, "correct": 130, "memory": 200, "commands": 230, "layers": 40, "score": 30,
    "head": 60,
}  # fmt: skip
BESIDE = ("resume", "correct", "memory", "commands")  # these time nothing


@dataclass(frozen=True)
class Run:
    """One run of the bench: where it writes, whether it is the dry one, and the clock's end (time.monotonic)."""

    out: Path
    dry: bool
    end: float

    @property
    def world(self) -> Path:
        """Mixture and tokenizer that the pack brought."""
        return self.out / "packages" / "world"

    def write(self, part: str, **row: object) -> None:
        """Append one line of results at once, so that it is there whatever happens next."""
        with (self.out / "results.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"part": part, **row}, ensure_ascii=False) + "\n")


def unpack(run: Run) -> None:
    """Put the packages of the pack, where there is one, before those of the machine."""
    pack, place = run.out / "pack.tar.xz", run.out / "packages"
    if pack.is_file() and not run.dry:
        with tarfile.open(pack) as archive:
            archive.extractall(place, filter="data")
        sys.path.insert(0, str(place))
    for folder in (ROOT / "src", ROOT):
        sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:3] if pack.is_file() else sys.path[:2])


def one(run: Run, name: str) -> None:
    """Run one part in this (fresh, forked) process; what it cannot do is a row, too."""
    os.setsid()  # so that what the part starts can be ended with it
    started = time.monotonic()
    try:
        module = importlib.import_module(f"bench.gpu.{name}")
        for row in module.measure(run):
            run.write(name, **row)
    except Exception as error:
        run.write(name, failed=f"{type(error).__name__}: {error}"[:500], trace=traceback.format_exc()[-2000:])
    run.write(name, finished=True, seconds=round(time.monotonic() - started, 1))


def limited(run: Run, seconds: dict[str, float]) -> None:
    """Run these parts side by side, each for so long at most; they come with the shortest first."""
    # forked, so that torch is imported once; nothing has touched CUDA before the fork
    fork = multiprocessing.get_context("fork").Process
    processes = {name: fork(target=one, args=(run, name)) for name in seconds}
    started = time.monotonic()
    for process in processes.values():
        process.start()
    try:
        for name, process in processes.items():
            process.join(max(started + seconds[name] - time.monotonic(), 0))
            if process.is_alive():
                run.write(name, failed=f"ended after its {seconds[name]:.0f} s")
                os.killpg(process.pid or 0, signal.SIGKILL)
            elif process.exitcode:
                run.write(name, failed=f"died with status {process.exitcode}")
    finally:  # also where we are ended ourselves: nothing goes on alone
        for process in processes.values():
            if process.is_alive():
                os.killpg(process.pid or 0, signal.SIGKILL)
            process.join()


def main() -> int:
    """Run the parts; return 0 if none of them failed or found an op wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "runs/gpu")
    parser.add_argument("--only", default=",".join(PARTS), help="Parts, with commas between them.")
    parser.add_argument("--seconds", type=float, default=590, help="After so long, no part is begun.")
    parser.add_argument("--dry", action="store_true", help="Tiny sizes on a CPU: does every part run?")
    options = parser.parse_args()
    run = Run(options.out.resolve(), options.dry, time.monotonic() + options.seconds)
    run.out.mkdir(parents=True, exist_ok=True)
    (run.out / "results.jsonl").unlink(missing_ok=True)
    if run.dry:
        os.environ |= {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    unpack(run)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    import torch  # noqa: F401 - once, for all parts
    import transformers  # noqa: F401

    asked = options.only.split(",")
    for beside, names in itertools.groupby(asked, lambda name: name in BESIDE):
        # dry, one after another: on two cores they would take as long
        for together in [list(names)] if beside and not run.dry else [[name] for name in names]:
            left = run.end - time.monotonic()
            if left < 5:
                for name in together:
                    run.write(name, failed="no time was left for it")
                continue
            limited(run, {name: min(PARTS[name] if not run.dry else 300, left) for name in together})
    from bench.gpu.table import page, wrong

    text = page(run.out / "results.jsonl", run.dry)
    (run.out / "gpu.md").write_text(text, encoding="utf-8")
    print(text)
    return int(wrong(run.out / "results.jsonl"))


if __name__ == "__main__":
    sys.exit(main())
