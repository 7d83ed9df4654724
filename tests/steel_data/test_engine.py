"""Tasks in processes: results in the order of the tasks, errors raised here, a killed process said in words."""

import contextlib
import io
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from multiprocessing import connection
from pathlib import Path

import pytest
from tests.waiting import until

from steel_data import engine
from steel_data.engine import Local, held, in_threads, run, start, tell_at_once
from steel_data.errors import InputError


def place(job):
    return job, os.getpid(), os.environ.get("TOLD")


def tell():
    os.environ["TOLD"] = "yes"


def refuse(job, bad):
    if job == bad:
        raise InputError(f"job {job}: wrong")
    return job


ROOT = Path(__file__).parents[2]


def killed(job):
    assert multiprocessing.parent_process() is not None, "a task of several workers ran in the main process"
    os.kill(os.getpid(), signal.SIGKILL)


def in_an_interpreter_of_its_own(call):
    """Run the engine on tasks that end their process where they could not end the tests; return (stdout, stderr)."""
    code = f"from pathlib import Path\nfrom steel_data.engine import run\nfrom tests.steel_data import test_engine as t\n{call}"
    paths = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.stdout, done.stderr


def test_results_come_in_the_order_of_the_jobs_from_processes_that_were_begun():
    found = run(place, [3, 1, 2], 2, begin=tell)
    assert [job for job, _, _ in found] == [3, 1, 2]
    assert os.getpid() not in {process for _, process, _ in found}
    assert {told for _, _, told in found} == {"yes"}
    assert {process for _, process, _ in run(place, [1, 2], 1)} == {os.getpid()}


def test_an_error_of_a_job_is_raised_as_it_is():
    for workers in (1, 2):
        with pytest.raises(InputError, match="job 2: wrong"):
            run(partial(refuse, bad=2), [1, 2, 3], workers)


def refuse_or_sleep(job):
    refuse(job, bad=0)
    time.sleep(job)


def test_after_an_error_no_command_waits_for_tasks_whose_results_nobody_takes():
    """A pattern without end took 5 s a chunk: the line was there at once, the prompt after all chunks had their turn."""
    _, said = in_an_interpreter_of_its_own("run(t.refuse_or_sleep, [0, 600, 600, 600], 2)")  # has less than 600 s
    assert "InputError: job 0: wrong" in said


def test_a_killed_process_is_an_error_in_words():
    _, said = in_an_interpreter_of_its_own("run(t.killed, [1, 2], 2)")
    message = r"InputError: 1: its worker process was ended by the system with signal 9.*2 of 2 tasks are left"
    assert re.search(message, said), said


class Said:
    """What was written to stderr so far, asked for while other threads write."""

    def __init__(self, capsys):
        self.capsys, self.text = capsys, ""

    def __call__(self, pattern):
        self.text += self.capsys.readouterr().err
        return re.search(pattern, self.text, re.MULTILINE)


def test_without_a_terminal_a_line_tells_now_and_then_how_far_it_is(capsys, monkeypatch):
    monkeypatch.setattr(engine, "TELL_EVERY", 0.05)
    said = Said(capsys)
    with engine.progress("step-000100", 1_000, "questions", done=400) as advance:
        advance(300)
        until(lambda: said(r"^step-000100: 700 of 1,000 questions, [0-9,.]+/s, 0:0\d:\d\d left$"))
    with engine.progress("clean", None, "tokens") as advance:
        advance(1_200)
        until(lambda: said(r"^clean: 1,200 tokens, [0-9,]+/s, 0:0\d:\d\d so far$"))
    capsys.readouterr()
    monkeypatch.setattr(engine, "TELL_EVERY", 30.0)
    with engine.progress("short", 10) as advance:
        advance(10)
    assert capsys.readouterr().err == ""


def test_the_line_comes_also_where_nothing_goes_on_and_where_nothing_can_be_counted(capsys, monkeypatch):
    """One long step must not look like a command that hangs."""
    monkeypatch.setattr(engine, "TELL_EVERY", 0.05)
    said = Said(capsys)
    with engine.progress("train", 4, "runs"), engine.progress("plan", None):
        until(lambda: said(r"^train: 0 of 4 runs, 0:0\d:\d\d so far$") and said(r"^plan: 0:0\d:\d\d so far$"))
    capsys.readouterr()
    time.sleep(0.2)
    assert capsys.readouterr().err == ""  # and ends with the block


def test_lines_go_where_they_went_when_it_began_whatever_stands_for_stderr_meanwhile(capsys, monkeypatch):
    """A training in this process writes to a log of its own; what follows it does not."""
    monkeypatch.setattr(engine, "TELL_EVERY", 0.05)
    log, said = io.StringIO(), Said(capsys)
    with engine.progress("train", 4, "runs"), contextlib.redirect_stderr(log):
        until(lambda: said("^train: 0 of 4 runs"))
    assert log.getvalue() == ""


BARS = """
import sys, time
from steel_data.engine import progress, tell
with progress("runs", 2, "runs") as outer:
    with progress("[b]step[/b]", 100, "questions") as inner:
        inner(40)
        sys.stdin.readline()
    tell("one done")
    outer(1)
with progress("check dropped rows", 1_204_743) as far:
    far(200_000)
    sys.stdin.readline()
"""


@pytest.mark.skipif(os.name != "posix", reason="a terminal of POSIX")
def test_on_a_terminal_there_is_a_bar_for_each_block_and_lines_stand_above(tmp_path: Path) -> None:
    import pty

    master, terminal = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80", "TERM": "xterm"}
    started = subprocess.Popen([sys.executable, "-c", BARS], stdin=subprocess.PIPE, stderr=terminal, env=environment)
    os.close(terminal)
    late = threading.Timer(300, started.kill)
    late.start()
    said, awaited = b"", [b"40 of 100", b"200,000 of 1,204,743"]
    with contextlib.suppress(OSError):  # the end, on Linux
        while part := os.read(master, 4096):
            said += part
            if awaited and b"/s" in said.partition(awaited[0])[2]:
                del awaited[0]
                started.stdin.write(b"\n")  # it goes on
                started.stdin.flush()
    os.close(master)
    late.cancel()
    started.stdin.close()
    assert started.wait() == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said.decode())
    assert re.search(
        r"runs +━+ 0 of 2 runs, 0:0\d:\d\d so far *\r\n\[b\]step\[/b\] [━╸╺]+ 40 of 100 questions, [0-9.]+/s", text
    )
    assert "one done\r\n" in text
    assert max(map(len, re.split(r"[\r\n]+", text))) <= 80
    assert re.search(r"check dropped rows [━╸╺]+ 200,000 of 1,204,743 rows, [0-9,.]+/s, 0:\d\d:\d\d left *\r", text)


def test_threads_give_results_in_order_and_run_only_a_little_ahead():
    taken = []

    def items():
        for item in range(9):
            taken.append(item)
            yield item

    results = in_threads(lambda item: (item, threading.get_ident()), items(), 2)
    assert next(results)[0] == 0
    assert len(taken) <= 3  # what is not asked for waits unread
    assert [item for item, _ in results] == list(range(1, 9))
    assert {thread for _, thread in in_threads(lambda item: (item, threading.get_ident()), [1, 2], 1)} == {
        threading.get_ident()
    }


def test_an_error_in_a_thread_is_raised_as_it_is():
    for workers in (1, 2):
        with pytest.raises(InputError, match="job 2: wrong"):
            list(in_threads(partial(refuse, bad=2), range(5), workers))


def killed_once(job):
    assert multiprocessing.parent_process() is not None, "a task of several workers ran in the main process"
    number, folder = job
    mark = folder / str(number)
    if number == 2 and not mark.exists():
        mark.write_text("tried")
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_task_whose_process_is_killed_is_done_again_by_fewer(tmp_path):
    out, said = in_an_interpreter_of_its_own(
        f"told = []\ntasks = [(i, Path({str(tmp_path)!r})) for i in range(5)]\n"
        "print(run(t.killed_once, tasks, 2, told.append), told)"
    )
    assert out == "[0, 1, 2, 3, 4] [0, 1, 2, 3, 4]\n", said  # each told once, in order
    (line,) = said.splitlines()
    assert "--workers 2: a worker process was ended by the system with signal 9" in line and "1 at a time" in line


def ends_itself(job):
    assert multiprocessing.parent_process() is not None, "a task of several workers ran in the main process"
    os._exit(3)


def test_a_process_that_ends_itself_is_told_by_its_status():
    _, said = in_an_interpreter_of_its_own("run(t.ends_itself, ['second job', 'third'], 2)")
    assert re.search(r"InputError: second job: its worker process ended itself with status 3", said), said


def fills_memory(job):
    raise MemoryError


def test_a_task_without_memory_is_told_as_one(capsys):
    with pytest.raises(InputError, match="had no memory left, even with nothing beside it"):
        run(fills_memory, [1, 2], 2)
    assert "1 at a time" in capsys.readouterr().err


def test_without_dev_shm_one_process_does_all_and_says_so(monkeypatch, capsys, tmp_path):
    def refused(*_, **__):
        raise FileNotFoundError(2, "No such file or directory")  # what Python says without /dev/shm

    monkeypatch.setattr(engine, "ProcessPoolExecutor", refused)
    monkeypatch.setattr(engine, "_SHM", tmp_path / "none")
    assert [process for _, process, _ in run(place, [1, 2], 2)] == [os.getpid()] * 2
    assert "one process does all" in capsys.readouterr().err


def test_what_is_short_for_a_while_is_an_error_and_no_reason_to_do_the_tasks_here():
    """A task may end its process, or fill it: the one that has the results must not be it."""
    few = "import os, resource\nfew = len(os.listdir('/proc/self/fd')) + {}\n"
    for more in (1, 8):  # refused when the pool is made, and when a process is started
        _, said = in_an_interpreter_of_its_own(
            f"{few.format(more)}resource.setrlimit(resource.RLIMIT_NOFILE, (few, few))\nrun(t.killed, [1, 2], 2)"
        )
        assert re.search(r"InputError: worker processes cannot be started: Too many open files", said), said


def test_maps_inside_held_share_their_processes_which_end_with_it():
    here = Local(2)
    with held(here):
        start(here, "steel_data.files", 2)
        first = {process for _, process, _ in here.map(place, range(40))}
        assert {process for _, process, _ in here.map(place, range(40))} | first != {os.getpid()}
        assert len({process for _, process, _ in here.map(place, range(40))} | first) <= 2
        with pytest.raises(InputError, match="job 2: wrong"):  # ends them; the next map has new ones
            here.map(partial(refuse, bad=2), [1, 2, 3])
        assert here.map(partial(refuse, bad=0), [1, 2, 3]) == [1, 2, 3]
    assert not multiprocessing.active_children()


def test_no_more_processes_start_than_there_are_tasks():
    many = Local(50)
    with held(many):
        assert sorted(job for job, _, _ in many.map(place, [1, 2])) == [1, 2]
        assert len(multiprocessing.active_children()) <= 2


def killed_first(job):
    assert multiprocessing.parent_process() is not None, "a task of several workers ran in the main process"
    number, folder = job
    if number == 0 and not (folder / "mark").exists():
        (folder / "mark").write_text("tried")
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_process_may_fall_while_tasks_are_handed_over(tmp_path):
    out, said = in_an_interpreter_of_its_own(
        f"from steel_data.engine import Local, held\nhere = Local(2)\ntasks = [(i, Path({str(tmp_path)!r})) for i in range(400)]\n"
        "with held(here):\n    here.map(t.place, [1, 2])\n    print(here.map(t.killed_first, tasks) == list(range(400)))"
    )
    assert out == "True\n" and "1 at a time" in said, said


def test_memory_is_an_amount_and_bounds_the_processes():
    assert [engine.bytes_of(text) for text in ("4GB", "512mb", "1.5 GiB", "700000000")] == [
        4 * 10**9, 512 * 10**6, 15 * 10**8, 7 * 10**8,
    ]  # fmt: skip
    for text in ("", "much", "-1GB", "4 PB", "1e9"):
        with pytest.raises(InputError, match=r"is no amount of memory\. Fix: 4GB or 512MB\."):
            engine.bytes_of(text)
    assert [Local(8, memory).workers for memory in (None, 10**8, 10**9, 4 * 10**9, 10**12)] == [8, 1, 1, 6, 8]


ASLEEP = """
import sys, time
from steel_data.engine import run
from steel_data.errors import run_command

def task(n):
    open(f"{sys.argv[1]}/{n}", "w").close()
    time.sleep(600)

if __name__ == "__main__":
    run_command(lambda: run(task, list(range(4)), 2))
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_while_a_process_starts_is_not_lost_and_does_not_reach_it() -> None:
    with pytest.raises(KeyboardInterrupt), engine._deaf_to_interrupts():
        os.kill(os.getpid(), signal.SIGINT)
        code = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))"
        assert subprocess.check_output([sys.executable, "-c", code], text=True) == "True\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C reaches all processes of a terminal on POSIX only")
def test_ctrl_c_is_one_line_and_ends_all_processes(tmp_path: Path) -> None:
    """A terminal sends it to every process: none of the workers may print a traceback, or work on."""
    script = tmp_path / "asleep.py"
    script.write_text(ASLEEP)
    (tmp_path / "begun").mkdir()
    started = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "begun")],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    until(lambda: any((tmp_path / "begun").iterdir()))
    os.killpg(started.pid, signal.SIGINT)
    said = started.communicate(timeout=300)[1]
    assert said == "interrupted; run the same command again to go on\n" and started.returncode == 130


@pytest.mark.parametrize("terminal", [True, False])
def test_what_a_command_is_at_is_said_at_once_to_who_waits_and_no_fault_comes_second(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    tell_at_once("reading r.toml")
    assert capsys.readouterr().err == ("reading r.toml\n" if terminal else "")


def test_of_many_processes_of_torchrun_one_says_what_all_are_at(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(engine, "TELL_EVERY", 0.05)
    for rank in ("0", "1", "7"):
        monkeypatch.setenv("RANK", rank)
        engine.tell("loading")
        said = Said(capsys)
        with engine.progress("map", 9):  # no terminal here: lines
            if rank == "0":
                until(lambda said=said: said(r"\Aloading\nmap: 0 of 9 rows, "))
            else:
                time.sleep(0.3)
        assert rank == "0" or (not said(".") and said.text == "")


FALLS = """
import os, signal, time
from multiprocessing.context import SpawnProcess
from steel_data.engine import Local, held, start
begin, begun = SpawnProcess.start, []
def begin_and_fall(process):
    begin(process)
    begun.append(process)
    if len(begun) == 2:  # not yet in the pool's list
        os.kill(begun[0].pid, signal.SIGKILL)
        time.sleep(2)
SpawnProcess.start = begin_and_fall
"""


@pytest.mark.parametrize(
    "call",
    [
        "print(run(t.place, [1, 2, 3, 4], 2)[3][0])",
        "with held(here := Local(3)):\n    start(here, 'steel_data.files', 3)\n    print(here.map(t.place, [1, 2, 4])[2][0])",
        "with held(here := Local(2)):\n    start(here, 'steel_data.files', 2)\nprint(4)",
    ],
)
def test_a_process_that_falls_while_another_is_started_keeps_nobody_waiting(call):
    """A build hung for a quarter hour: the pool waited for a process that it had not ended (bench/chaos.py found it)."""
    out, err = in_an_interpreter_of_its_own(FALLS + call)
    assert out == "4\n" and "Traceback" not in err, err


def half_told(job):
    """Write half of the second job's result, the first time, and fall; or (`error`) be ended so by the first's error."""
    number, folder, error = job
    half = folder / "half"
    if number == 0:
        if error:
            raise InputError("job 0: wrong")
        until(half.exists)
    elif not half.exists():
        if error:
            until((folder / "known").exists)

        def write_half(self, whole):
            os.write(self._handle, bytes(whole)[: len(whole) // 2])
            half.touch()
            time.sleep(600 if error else 0)
            os.kill(os.getpid(), signal.SIGKILL)

        connection.Connection._send = write_half
    return number


ENDS_LATE = """
from concurrent.futures import ProcessPoolExecutor as Pool
shutdown = Pool.shutdown
def shutdown_late(pool, **how):
    if error:
        (folder / "known").touch()
        t.until((folder / "half").exists)
    shutdown(pool, **how)
Pool.shutdown = shutdown_late
print(run(t.half_told, [(i, folder, error) for i in (0, 1)], 2))
"""


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
@pytest.mark.parametrize("error", [False, True])
def test_half_a_result_keeps_nobody_waiting(error, tmp_path):
    """A chunk's is megabytes. The pool waited for the rest, which this process too could have written, it thought."""
    out, said = in_an_interpreter_of_its_own(f"folder, error = Path({str(tmp_path)!r}), {error}{ENDS_LATE}")
    last = said.splitlines()[-1]
    assert (last == "steel_data.errors.InputError: job 0: wrong") if error else (out == "[0, 1]\n"), said


LOCKED = """
import os, signal
from concurrent.futures.process import _ExecutorManagerThread as Thread
join = Thread.join_executor_internals
def fall_and_join(thread):
    process = list(thread.processes.values())[{}]  # one of the two has the lock of what they take their tasks from
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    join(thread)
Thread.join_executor_internals = fall_and_join
print(run(t.place, [1, 2], 2)[1][0])
"""


def test_a_process_that_falls_when_all_is_done_keeps_nobody_waiting():
    for number in (0, 1):
        out, said = in_an_interpreter_of_its_own(LOCKED.format(number))
        assert out == "2\n", said
