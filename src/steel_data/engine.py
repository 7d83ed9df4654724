"""Run tasks on local processes, in order of submission, and say how far they are.

Processes are spawned, never forked (Windows, macOS, and polars' threads). A worker watches its parent and ends with it,
so that a killed build leaves no orphans behind.
"""

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

from steel_data.errors import InputError

TELL_EVERY = 30.0  # seconds between two lines of progress, where there is no terminal

Task = TypeVar("Task")
Result = TypeVar("Result")


def run(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    workers: int,
    on_done: Callable[[Result], None] = lambda _: None,
    begin: Callable[[], None] | None = None,
) -> list[Result]:
    """Return `[function(task) for task in tasks]`, on `workers` processes where that is more than one.

    The order of results is that of the tasks, whichever ends first; the first error is raised and the rest cancelled.
    `begin` is called once in each process before its first task; like `function` it must be importable. Raises
    InputError where a process was killed, which is nearly always for want of memory.
    """
    if workers <= 1 or len(tasks) <= 1:
        results = []
        for task in tasks:
            results.append(function(task))
            on_done(results[-1])
        return results
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        min(workers, len(tasks)), mp_context=context, initializer=_begin, initargs=(begin,)
    ) as pool:
        futures = [pool.submit(function, task) for task in tasks]
        try:
            results = []
            for future in futures:
                results.append(future.result())
                on_done(results[-1])
            return results
        except BrokenProcessPool:
            raise InputError(
                f"--workers {workers}: a process was killed, out of memory? "
                "Right: a smaller number; what is done is kept."
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _begin(begin: Callable[[], None] | None) -> None:
    _end_with_parent()
    if begin is not None:
        begin()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    # One worker a core is the plan; polars must not start a thread for every core in each of them.
    os.environ.setdefault("POLARS_MAX_THREADS", "1")


@contextmanager
def progress(label: str, total: int, unit: str = "rows", done: int = 0) -> Iterator[Callable[[int], None]]:
    """Yield `advance(n)`: a bar with rate and time left on a terminal, elsewhere a line every half minute, on stderr.

    `done` of `total` were done before, and say nothing of the rate.
    """
    if total <= done:
        yield lambda _: None
        return
    if not sys.stderr.isatty():
        yield _in_lines(label, total, unit, done)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(),
        TextColumn(f"{{task.completed:,}}/{{task.total:,}} {unit}"), TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total, completed=done, rate="")

        def advance(rows: int) -> None:
            bar.advance(task, rows)
            speed = bar.tasks[0].speed
            bar.update(task, rate=f"{speed:,.{_places(speed)}f} {unit}/s" if speed else "")

        yield advance


def _in_lines(label: str, total: int, unit: str, done: int) -> Callable[[int], None]:
    """Return an `advance` that tells how far it is, where half a minute has gone by since it last did."""
    began = told = time.monotonic()
    at = done

    def advance(n: int) -> None:
        nonlocal at, told
        at, now = at + n, time.monotonic()
        if now - told >= TELL_EVERY and at > done:
            told, rate = now, (at - done) / (now - began)
            left = timedelta(seconds=round((total - at) / rate))
            tell(f"{label}: {at:,} of {total:,} {unit}, {rate:,.{_places(rate)}f}/s, {left} left")

    return advance


def _places(rate: float) -> int:
    return 0 if rate >= 10 else 2


def tell(line: str) -> None:
    """Write a line of progress to stderr: stdout holds results only."""
    sys.stderr.write(line + "\n")
