"""Tasks in processes: results in the order of the tasks, errors raised here, a killed process said in words."""

import os
import signal
import time
from functools import partial

import pytest

from steel_data import engine
from steel_data.engine import run
from steel_data.errors import InputError


def place(job):
    return job, os.getpid(), os.environ.get("TOLD")


def tell():
    os.environ["TOLD"] = "yes"


def refuse(job, bad):
    if job == bad:
        raise InputError(f"job {job}: wrong")
    return job


def killed(job):
    os.kill(os.getpid(), signal.SIGKILL)


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


def test_a_killed_process_is_an_error_in_words():
    with pytest.raises(InputError, match="--workers 2: a process was killed"):
        run(killed, [1, 2], 2)


def test_without_a_terminal_a_line_tells_now_and_then_how_far_it_is(capsys, monkeypatch):
    monkeypatch.setattr(engine, "TELL_EVERY", 0.0)
    with engine.progress("step-000100", 1_000, "questions", done=400) as advance:
        advance(0)
        time.sleep(0.02)
        advance(300)
    said = capsys.readouterr().err
    assert said.startswith("step-000100: 700 of 1,000 questions, ") and "/s, 0:00:00 left" in said
    monkeypatch.setattr(engine, "TELL_EVERY", 30.0)
    with engine.progress("short", 10) as advance:
        advance(10)
    assert capsys.readouterr().err == ""
