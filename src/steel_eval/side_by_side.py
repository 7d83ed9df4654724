"""A function over many jobs in processes side by side: two cores score two tiny models at the price in time of one."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TypeVar

from steel_data.errors import InputError

Job = TypeVar("Job")
Result = TypeVar("Result")


def each(function: Callable[[Job], Result], jobs: Sequence[Job], workers: int) -> list[Result]:
    """Return `function(job)` for every job, in order; `workers` above 1: in so many processes, each with its cores.

    `function` must be importable (a module's own, or a `functools.partial` of one). The first exception of a job is
    raised here. Raises InputError where a process was killed, which is nearly always for want of memory.
    """
    if workers == 1 or len(jobs) < 2:
        return [function(job) for job in jobs]
    threads = max(1, (os.cpu_count() or 1) // workers)
    pool = ProcessPoolExecutor(
        min(workers, len(jobs)), mp_context=get_context("spawn"), initializer=_take_cores, initargs=(threads,)
    )
    try:
        with pool:
            return list(pool.map(function, jobs))
    except BrokenProcessPool:
        raise InputError(
            f"--workers {workers}: a process was killed, out of memory? Right: a smaller number; what is done is kept."
        ) from None


def _take_cores(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
