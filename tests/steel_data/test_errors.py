"""One line a fault, whatever another library says or does not say."""

import os
import subprocess
import sys

import pytest

from steel_data.errors import excerpt, first_line, nearest, one_line, run_command, visible


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("first\nsecond"), "first"),
        (ValueError(""), "ValueError"),
        (ValueError(), "ValueError"),
        (KeyError("\n \n"), "'\\n \\n'"),
        (RuntimeError("  \n"), "RuntimeError"),
        (OSError("a sentence."), "a sentence"),
        (ValueError("\x1b[2Jgone"), "\\x1b[2Jgone"),
    ],
)
def test_the_first_line_of_any_exception(error, line):
    assert first_line(error) == line


def test_it_is_cut():
    assert first_line(ValueError("x" * 500)) == "x" * 159 + "…"
    assert first_line(ValueError("x" * 500), 80) == "x" * 79 + "…"


def test_what_comes_from_data_is_safe_in_a_terminal():
    assert excerpt("a\rb\u202ec") == one_line("a\rb\u202ec") == "a\\rb\\u202ec"


def test_a_full_width_blank_is_text_but_an_escape_in_what_a_mixture_stores() -> None:
    """The evidence in dropped/ is part of a mixture's bytes: its form must not change."""
    assert visible("甲\u3000乙\n") == "甲\u3000乙\n"
    assert one_line("甲\u3000乙\n") == "甲\u3000乙\\n"
    assert excerpt("甲\u3000乙\n") == "甲\\u3000乙\\n"


def test_the_nearest_known_word():
    assert nearest("lenght", ["length", "language"]) == " Did you mean 'length'? Known: language, length."
    assert nearest("x", []) == ""


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            OSError(28, "No space left on device", "/m/a\x1b[2J"),
            "/m/a\\x1b[2J: No space left on device. Fix: room on",
        ),
        (OSError(30, "Read-only file system", "/m"), "/m: Read-only file system. Fix: a place that can be written."),
        (OSError(24, "Too many open files"), "Too many open files. Fix: a higher limit of open files (ulimit -n)."),
        (MemoryError(), "out of memory. Fix: more of it, or fewer --workers"),
    ],
)
def test_what_the_machine_lacks_is_one_line(error, line, capsys):
    def fails():
        raise error

    with pytest.raises(SystemExit) as ended:
        run_command(fails)
    assert ended.value.code == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"error: {line}")


def test_another_error_of_the_system_is_our_bug():
    def fails():
        raise FileNotFoundError(2, "No such file or directory", "/m")

    with pytest.raises(FileNotFoundError):
        run_command(fails)


def test_a_terminal_without_chinese_shows_marks():
    code = "from steel_data.errors import run_command; run_command(lambda: print('一a'))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=False, env={**os.environ, "PYTHONIOENCODING": "cp1252"}
    )
    assert (done.returncode, done.stdout.strip()) == (0, b"?a")
