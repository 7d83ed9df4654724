"""Many runs side by side, until all are done or the time is over; what is done is kept, wherever it was done.

A process a run, forked from one that has imported everything, each with one thread. The results are packed into one file
at the end, and a folder that holds such a file goes on from it.
"""

import multiprocessing
import tarfile
import time
import traceback
from multiprocessing.process import BaseProcess
from pathlib import Path

from bench.truth_pool.design import MODELS, Plan, plans
from bench.truth_pool.run import World, do_run, file_of, load_base

PACK = "pool.tar"


def work(folder: Path, out: Path, workers: int, end: float, most: int | None, dry: bool) -> int:
    """Do what is left until `end` (time.monotonic); return 0 if nothing is left, 3 if the time was too short, 1 where a run failed."""
    begun = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    unpack(out)
    every: list[Plan | str] = [plan for model in MODELS for plan in (model, *plans(model))]
    left = [plan for plan in every if not (out / file_of(plan)).is_file()][:most]
    world = World.load(folder, dry)
    load_base(MODELS[-1], folder, len(world.tokenizer))  # what it imports is imported once
    context = multiprocessing.get_context("fork")
    busy: dict[BaseProcess, tuple[Plan | str, float]] = {}
    took: dict[str, float] = {}  # the longest run of each model
    failed = 0
    print(f"{len(left)} runs to do, {workers} side by side", flush=True)
    while busy or left:
        now = time.monotonic()
        for process in [p for p in busy if not p.is_alive()]:
            plan, at = busy.pop(process)
            took[_model(plan)] = max(took.get(_model(plan), 0.0), now - at)
            failed += not (out / file_of(plan)).is_file()
        if now > end:
            break
        # what could not end in time is not begun, except at the beginning, when nobody knows
        while left and len(busy) < workers and (not took or now + _longest(took, left[0]) <= end):
            process = context.Process(target=_one, args=(left[0], world, out))
            process.start()
            busy[process] = (left.pop(0), now)
        if not busy:
            break
        time.sleep(0.1)
    for process in busy:
        process.terminate()
        process.join()
    done = pack(out)
    size = (out / PACK).stat().st_size / 2**20
    print(f"{done} of {len(every)} runs, {size:.1f} MiB in {out / PACK}, {time.monotonic() - begun:.0f} s")
    return 1 if failed else 3 if done < len(every) else 0


def unpack(out: Path) -> None:
    """Lay the packed results of earlier calls side by side again."""
    if (out / PACK).is_file():
        with tarfile.open(out / PACK) as packed:
            packed.extractall(out, filter="data")


def pack(out: Path) -> int:
    """Put all results into one file and remove the single ones; return how many there are."""
    files = sorted(out.glob("*.npz"))
    part = out / (PACK + ".part")
    with tarfile.open(part, "w") as packed:
        for file in files:
            packed.add(file, file.name)
    part.rename(out / PACK)
    for file in (*files, *out.glob("*.part")):
        file.unlink()
    return len(files)


def _model(plan: Plan | str) -> str:
    return plan if isinstance(plan, str) else plan.model


def _longest(took: dict[str, float], plan: Plan | str) -> float:
    """Return how long a run may take: as the longest of its model, or, before one has ended, of any."""
    return took.get(_model(plan), max(took.values()))


def _one(plan: Plan | str, world: World, out: Path) -> None:
    try:
        print(do_run(plan, world, out), flush=True)
    except Exception:
        traceback.print_exc()
        raise SystemExit(1) from None
