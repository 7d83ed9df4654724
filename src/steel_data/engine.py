"""Run tasks on local processes, in order of submission, with a progress bar where somebody can see it.

Processes are spawned, never forked (Windows, macOS, and polars' threads). A worker watches its parent and ends with it,
so that a killed build leaves no orphans behind.
"""

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from steel_data.errors import InputError

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
def progress(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yield `advance(n)`, which moves a bar with rate and time left; without a terminal it does nothing."""
    if total <= 0 or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(),
        TextColumn("{task.completed:,}/{task.total:,} rows"), TextColumn("{task.fields[rate]}"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total, rate="")

        def advance(rows: int) -> None:
            bar.advance(task, rows)
            speed = bar.tasks[0].speed
            bar.update(task, rate=f"{speed:,.0f} rows/s" if speed else "")

        yield advance


def tell(line: str) -> None:
    """Write a line of progress to stderr: stdout holds results only."""
    sys.stderr.write(line + "\n")
