"""Run tasks on local processes or threads, in order of submission, and say how far they are.

Processes are spawned, never forked (Windows, macOS, and polars' threads). A worker watches its parent and ends with it,
so that a killed build leaves no orphans behind.
"""

import ctypes
import errno
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from importlib import import_module
from multiprocessing import connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO, TypeVar

from steel_data.errors import InputError, excerpt, first_line, is_spokesman, visible
from steel_data.store.names import is_far

_SHM = Path("/dev/shm")  # what Linux makes locks between processes of
PROCESS_BYTES = 300_000_000  # that a process takes which maps a chunk of 16 MiB (bench/scale.py: 150 to 310 MB)
_LOOK_EVERY = 1.0  # seconds between two looks at whether a process fell that nobody told of
TELL_EVERY = 30.0  # seconds between two lines of progress, where there is no terminal

if TYPE_CHECKING:
    from rich.progress import Progress

_bars: "Progress | None" = None  # on the terminal now

Task = TypeVar("Task")
Result = TypeVar("Result")


class Executor(Protocol):
    """Where tasks run. All work that is cut into tasks goes through `map`."""

    @property
    def workers(self) -> int:
        """How many tasks run at once."""

    def map(
        self, function: Callable[[Task], Result], tasks: Iterable[Task], on_done: Callable[[Result], None] = ...
    ) -> list[Result]:
        """Return `[function(task) for task in tasks]`; `on_done` sees each result in that order.

        Where tasks run on other machines, each is taken of `tasks` when there is room for it: not all lie in memory.
        `function` must be importable where the tasks run. The first error is raised and the rest cancelled.
        """


@dataclass
class Local:
    """Processes of this machine: see `run`. Each `map` has its own; inside `held` all of them share some.

    memory: bytes that all of them and this process together keep to; then there are fewer of them than `workers`.
    """

    workers: int = 1
    memory: int | None = None
    _holding: bool = field(default=False, compare=False, repr=False)
    _pool: ProcessPoolExecutor | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Take as many processes as half of the memory has room for: this process takes the other half."""
        if self.memory is not None:
            self.workers = min(self.workers, max(self.memory // 2 // PROCESS_BYTES, 1))

    def map(
        self,
        function: Callable[[Task], Result],
        tasks: Iterable[Task],
        on_done: Callable[[Result], None] = lambda _: None,
    ) -> list[Result]:
        """Return the results in the order of the tasks, on `workers` processes."""
        tasks = list(tasks)
        self._begin(len(tasks) > 1)
        pool, self._pool = self._pool, None
        result = run(function, tasks, self.workers, on_done, pool=pool)  # an error, or a fallen process, ends the pool
        if pool is not None and not (pool._broken or pool._shutdown_thread):
            self._pool = pool
        return result

    def start(self, module: str, processes: int) -> None:
        """Start processes, where `held` holds them: they import `module` while this one goes on."""
        self._begin(processes > 1)
        if self._pool is not None:
            with suppress(BrokenProcessPool):  # one fell meanwhile: the next map finds it out
                for _ in range(min(processes, self.workers)):
                    _submitted(self._pool, import_module, module)

    def _begin(self, several: bool) -> None:
        if several and self._holding and self._pool is None and self.workers > 1:
            self._pool = _pool(self.workers, None)  # each process is started when there is a task for it


@contextmanager
def held(executor: Executor) -> Iterator[None]:
    """Let the maps of a block share the processes of this machine, where the executor's are those; end them with it."""
    if not isinstance(executor, Local):
        yield
        return
    executor._holding = True
    try:
        yield
    finally:
        pool, executor._pool, executor._holding = executor._pool, None, False
        if pool is not None:
            _end(pool)


def start(executor: Executor, module: str, processes: int) -> None:
    """Let at most so many processes of this machine, where `held` holds them, begin to import a module."""
    if isinstance(executor, Local):
        executor.start(module, processes)


def bytes_of(text: str) -> int:
    """Return the bytes that `4GB`, `512MB` or a plain number means. Raises InputError."""
    match = re.fullmatch(r"\s*([0-9]{1,15})(?:[.]([0-9]{1,3}))?\s*([KMGT]?)I?B?\s*", text.upper())
    if match is None:
        raise InputError(f"--memory {text}: is no amount of memory. Fix: 4GB or 512MB.")
    return int(float(f"{match[1]}.{match[2] or 0}") * 1000 ** " KMGT".index(match[3] or " "))


def threads(executor: Executor) -> int:
    """Return how many threads this process may use beside the tasks: as many as it has workers of its own."""
    return executor.workers if isinstance(executor, Local) else os.cpu_count() or 1


def reached(executor: Executor, path: Path) -> Path:
    """Return a path as tasks have to name it: those on other machines run in folders of their own."""
    return path if isinstance(executor, Local) or is_far(path) else path.absolute()


def run(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    workers: int,
    on_done: Callable[[Result], None] = lambda _: None,
    begin: Callable[[], None] | None = None,
    pool: ProcessPoolExecutor | None = None,
) -> list[Result]:
    """Return `[function(task) for task in tasks]`, on `workers` processes where that is more than one.

    The order of results is that of the tasks, whichever ends first; the first error is raised and the rest cancelled or
    ended.
    `begin` is called once in each process before its first task; like `function` it must be importable. `pool`: one of
    processes that run already; it is left running unless one of them falls or a task fails. Where the system ends a
    process, nearly always for want of memory, what is not done is done again by half as many. Raises InputError, which
    names the task (its `str`), where one that worked alone was ended too, and where no process can be started.
    """
    found: dict[int, Result] = {}
    told = 0

    def keep(i: int, result: Result) -> None:
        nonlocal told
        found[i] = result
        while told in found:
            on_done(found[told])
            told += 1

    processes = workers if len(tasks) > 1 else 1
    while workers > 1 and len(tasks) > 1 and len(found) < len(tasks):
        left = {i: task for i, task in enumerate(tasks) if i not in found}
        given, pool = pool, None
        mine = given or _pool(min(processes, len(left)), begin)
        if mine is None:
            break
        ending = _in_pool(mine, function, left, keep)
        if len(found) == len(tasks):
            if given is None and not ending:
                _end(mine)
            break
        if processes == 1 and len(found) == len(tasks) - len(left):
            raise InputError(
                f"{excerpt(str(tasks[told]))}: its worker process {ending}, even with nothing beside it; "
                f"{len(left):,} of {len(tasks):,} tasks are left. Fix: more memory; what is done is kept."
            )
        processes = max(processes // 2, 1)
        undone = f"{len(tasks) - len(found):,} of {len(tasks):,} tasks are left"
        tell(f"--workers {workers}: a worker process {ending}; {undone} and go on with {processes} at a time")
    for i in range(len(tasks)):
        if i not in found:
            keep(i, function(tasks[i]))
    return [found[i] for i in range(len(tasks))]


def _pool(processes: int, begin: Callable[[], None] | None) -> ProcessPoolExecutor | None:
    """Return a pool of processes; None, once a line has said so, where this system can never have one.

    What is short for a while (open files, room in /dev/shm, memory) is no reason to do the tasks in this process, which
    they may fill or end: that is an InputError.
    """
    context = multiprocessing.get_context("spawn")
    try:
        return ProcessPoolExecutor(processes, mp_context=context, initializer=_begin, initargs=(begin,))
    except (ImportError, NotImplementedError) as error:  # a Python without semaphores
        why: Exception = error
    except OSError as error:
        if not _without_semaphores(error):
            raise _cannot_start(error) from None
        why = error
    tell(f"worker processes cannot be had here ({first_line(why, 60)}; no /dev/shm?): one process does all")
    return None


def _without_semaphores(error: OSError) -> bool:
    """Whether there is nothing that locks between processes could be made of: no call for it, or no /dev/shm."""
    usable = sys.platform != "linux" or (_SHM.is_dir() and os.access(_SHM, os.W_OK | os.X_OK))
    return error.errno == errno.ENOSYS or not usable


def _cannot_start(error: OSError) -> InputError:
    return InputError(
        f"worker processes cannot be started: {error.strerror or first_line(error)}. "
        "Fix: --workers 1, or more of what is short (open files: ulimit -n; processes: ulimit -u; room in /dev/shm)."
    )


def _submitted(pool: ProcessPoolExecutor, function: Callable[[Task], Result], task: Task) -> Future[Result]:
    """Submit a task, for which a process may be started. Raises InputError where it cannot."""
    try:
        with _deaf_to_interrupts():
            return pool.submit(function, task)
    except OSError as error:
        raise _cannot_start(error) from None


def _in_pool(
    pool: ProcessPoolExecutor,
    function: Callable[[Task], Result],
    tasks: dict[int, Task],
    keep: Callable[[int, Result], None],
) -> str:
    """Hand the result of each task to `keep`, in order, and return ''.

    Where a process was ended, the pool is shut down, `keep` has all results that there are, and what came of the
    process is returned.
    """
    futures: dict[int, Future[Result]] = {}
    try:
        for i, task in tasks.items():  # a process may fall before all are handed over
            futures[i] = _submitted(pool, function, task)
        for i, future in futures.items():
            while not wait([future], _LOOK_EVERY).done:
                if any(process.exitcode for process in list((pool._processes or {}).values())):
                    raise BrokenProcessPool  # the pool has not seen it: it waits for the rest of a result
            keep(i, future.result())
    except (BrokenProcessPool, MemoryError) as error:
        processes = _end(pool, at_once=isinstance(error, BrokenProcessPool))
        for i, future in futures.items():
            if future.done() and not future.cancelled() and future.exception() is None:
                keep(i, future.result())
        return "had no memory left" if isinstance(error, MemoryError) else _ending(processes)
    except BaseException:
        _end(pool, at_once=True)  # else the command goes on until tasks are done whose results nobody takes
        raise
    return ""


def _end(pool: ProcessPoolExecutor, at_once: bool = False) -> Sequence[multiprocessing.process.BaseProcess]:
    """End a pool and return its processes, which finish what they are at, or do not (`at_once`).

    What a process leaves that was ended in the midst of something keeps the pool's thread, and with it this process,
    without end: half a result, of which the rest is waited for as long as somebody could write it, and that is this
    process too; a lock, without which the others do not hear that they are to end; and one that was just being started
    when another fell is known to nobody else.
    """
    processes = list((pool._processes or {}).values())
    alive = [process.sentinel for process in processes]
    results: Any = pool._result_queue
    thread: Any = pool._executor_manager_thread
    pool.shutdown(wait=False, cancel_futures=True)
    while alive:
        if at_once or any(process.exitcode for process in processes):
            for process in processes:
                process.terminate()
        gone = connection.wait(alive, _LOOK_EVERY)
        alive = [sentinel for sentinel in alive if sentinel not in gone]
    results._writer.close()
    if thread is not None:
        thread.join()
    return processes


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach: a terminal sends it to all, and each would print a traceback.

    They inherit that it is blocked. One that comes meanwhile is told to this process afterwards, not lost.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "pthread_sigmask"):
        yield
        return
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))  # another thread may be sent it
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, before)
    if pressed:
        signal.raise_signal(signal.SIGINT)


def _ending(processes: Sequence[multiprocessing.process.BaseProcess]) -> str:
    """Say how the process was ended that fell first: the others were told to end (SIGTERM) because of it."""
    codes = [process.exitcode for process in processes if process.exitcode]
    code = next((code for code in codes if code != -signal.SIGTERM), -signal.SIGTERM)
    if code > 0:
        return f"ended itself with status {code}"
    return f"was ended by the system with signal {-code}, which is nearly always for want of memory"


def release() -> None:
    """Give memory that is free back to the system: what large arrays leave behind, the C library keeps."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another library than GNU's
            ctypes.CDLL(None).malloc_trim(0)


def in_threads(function: Callable[[Task], Result], items: Iterable[Task], workers: int) -> Iterator[Result]:
    """Yield `function(item)` for each item, in their order, made on `workers` threads where that is more than one.

    For work that lets go of the interpreter (numpy's sorting, polars, pyarrow): it needs no start-up, and nothing is
    copied. `items` are taken in the caller's thread, one more than there are threads ahead of what was yielded; so many
    results are in memory. The first error is raised and the rest cancelled.
    """
    if workers <= 1:
        yield from map(function, items)
        return
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


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
def progress(label: str, total: int | None, unit: str = "rows", done: int = 0) -> Iterator[Callable[[int], None]]:
    """Yield `advance(n)`: a bar with rate and time left on a terminal, elsewhere a line every half minute, on stderr.

    `done` of `total` were done before, and say nothing of the rate. `total` None: nobody knows how many there will be,
    or there is nothing to count. The line comes whether or not anything went on since the last.
    """
    if total is not None and total <= done:
        yield lambda _: None
    elif not sys.stderr.isatty():
        with _in_lines(label, total, unit, done) as advance:
            yield advance
    elif multiprocessing.parent_process() is not None or not is_spokesman():
        yield lambda _: None  # one bar on a terminal, that of the process which waits for this one
    else:
        with _in_a_bar(label, total, unit, done) as advance:
            yield advance


@contextmanager
def _in_a_bar(label: str, total: int | None, unit: str, done: int) -> Iterator[Callable[[int], None]]:
    """Show a bar, below those of the blocks around this one."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
    from rich.table import Column
    from rich.text import Text

    class Far(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(task.fields["far"]())

    global _bars
    console, one_line = Console(file=sys.stderr), Column(no_wrap=True, overflow="ellipsis")
    bar = BarColumn(20 if console.width >= 100 else 6)  # at 80 columns the numbers need the rest of the line
    columns = (TextColumn("{task.description}", markup=False), bar, Far(one_line))
    # the stream of now: another may stand in its place while the block runs, such as the log of a training
    with nullcontext(_bars) if _bars else Progress(*columns, console=console, transient=True) as bars:
        outer, _bars = _bars, bars
        began, at = time.monotonic(), done
        far = lambda: _far(at, total, unit, done, time.monotonic() - began)  # noqa: E731
        task = bars.add_task(visible(label), total=total, completed=done, far=far)

        def advance(n: int) -> None:
            nonlocal at
            at += n
            bars.update(task, completed=at)

        try:
            yield advance
        finally:
            _bars = outer
            bars.remove_task(task)


@contextmanager
def _in_lines(label: str, total: int | None, unit: str, done: int) -> Iterator[Callable[[int], None]]:
    """Say every half minute how far it is."""
    began, at = time.monotonic(), done

    def advance(n: int) -> None:
        nonlocal at
        at += n

    with now_and_then(lambda: [f"{label}: {_far(at, total, unit, done, time.monotonic() - began)}"]):
        yield advance


def _far(at: int, total: int | None, unit: str, done: int, seconds: float) -> str:
    """Return how far something is: `700 of 1,000 rows, 12/s, 0:00:25 left`; without a rate, how long it has taken."""
    rate = (at - done) / seconds if seconds else 0.0
    parts = []
    if total is not None or at:
        parts.append(f"{at:,} {unit}" if total is None else f"{at:,} of {total:,} {unit}")
    if rate:
        parts.append(f"{rate:,.{0 if rate >= 10 else 2}f}/s")
    if rate and total is not None:
        parts.append(f"{timedelta(seconds=round((total - at) / rate))} left")
    else:
        parts.append(f"{timedelta(seconds=round(seconds))} so far")
    return ", ".join(parts)


@contextmanager
def now_and_then(say: Callable[[], Iterable[str]]) -> Iterator[None]:
    """Write the lines that `say` returns to stderr, every half minute while the block runs."""
    over, stream = threading.Event(), sys.stderr

    def teller() -> None:
        while not over.wait(TELL_EVERY):
            for line in say():
                _write(line, stream)

    thread = threading.Thread(target=teller, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def tell(line: str) -> None:
    """Write a line of progress to stderr: stdout holds results only."""
    _write(line, sys.stderr)


def tell_at_once(line: str) -> None:
    """Say on a terminal what a command is at before it has looked at anything.

    Elsewhere nobody waits, and the first line had better be what is wrong: a fault is one line.
    """
    if sys.stderr.isatty():
        tell(line)


def _write(line: str, stream: TextIO) -> None:
    if is_spokesman():
        stream.write(visible(line) + "\n")
