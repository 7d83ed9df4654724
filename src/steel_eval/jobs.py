"""Jobs that train or score a model, side by side: processes of this machine, or tasks on a cluster, by one seam.

On a cluster a job gets one processor and, where there are GPUs, one GPU; its machine must have the same steel, torch
and transformers as this one. Folders must be named so that every machine finds them (`engine.reached`).
"""

import os
from collections.abc import Callable, Sequence
from functools import cache, partial
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeVar

from steel_data.cluster import Ray
from steel_data.engine import Executor, Local, progress
from steel_data.passes import cache as passes

Task = TypeVar("Task")
Result = TypeVar("Result")
_PACKAGES = ("torch", "transformers", "safetensors", "peft", "accelerate", "trl", "lm-eval")
# A machine that is gone holds its locks on a shared disk until the server misses it (NFSv4: 90 seconds).
LEASE_SECONDS = 180.0
_cluster = False  # whether this process does jobs of a cluster


def side_by_side(
    executor: Executor,
    function: Callable[[Task], Result],
    jobs: Sequence[Task],
    on_done: Callable[[Result], None] = lambda _: None,
    what: str = "jobs",
) -> list[Result]:
    """Return `[function(job) for job in jobs]`; `on_done` sees each result in that order.

    Each of several processes of this machine has its share of the cores. `what`: the name of its progress. Raises
    InputError as the executor does.
    """
    work: Callable[[Task], Result] = function
    if isinstance(executor, Ray):
        executor, work = executor.of_models(versions), partial(_on_cluster, function, Path.cwd())
    elif executor.workers > 1 and len(jobs) > 1:
        work = partial(_on_its_share, function, executor.workers)
    with progress(what, len(jobs), "runs") as advance:

        def done(result: Result) -> None:
            on_done(result)
            advance(1)

        return executor.map(work, jobs, done)


def by_itself(executor: Executor) -> bool:
    """Whether jobs run one after another in this process, which has all cores."""
    return isinstance(executor, Local) and executor.workers == 1


def patience() -> float:
    """Return for how many seconds a folder may be locked by a machine of the cluster that is gone; 0 elsewhere."""
    return LEASE_SECONDS if _cluster else 0.0


@cache
def versions() -> dict[str, str]:
    """Return the versions that can change what is trained or scored; whether torch is built for a GPU is left out."""
    found = dict(passes.versions())
    for package in _PACKAGES:
        try:
            found[package] = version(package).partition("+")[0]
        except PackageNotFoundError:
            found[package] = "absent"
    for package in ("steel_train", "steel_eval"):
        root, digest = Path(__file__).parents[1] / package, sha256()
        for path in sorted(p for p in root.rglob("*") if p.suffix in (".py", ".toml", ".json")):
            digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
        found[package] = digest.hexdigest()[:16]
    return found


def _on_its_share(function: Callable[[Task], Result], workers: int, job: Task) -> Result:
    _share(workers)
    return function(job)


def _on_cluster(function: Callable[[Task], Result], here: Path, job: Task) -> Result:
    global _cluster
    _cluster = True
    if here.is_dir():  # a base, a tokenizer may be named from where the command was given
        os.chdir(here)
    _share(os.cpu_count() or 1)
    return function(job)


def _share(workers: int) -> None:
    import torch

    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
