"""The one exception class for what a user can put right, and how every command ends.

Every command prints an `InputError` as one line and exits with status 2; any other exception is our bug and keeps its
traceback. The form of a message: **where: what is wrong. What would be right.**
"""

import errno
import os
import re
import signal
import sys
import threading
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from difflib import get_close_matches


class InputError(Exception):
    """Something the user can put right: a recipe, a path, a data file, a full disk."""


class BusyError(InputError):
    """Another process writes the folder."""


def nearest(word: str, known: Iterable[str], show_known: bool = True) -> str:
    """Return the tail of a message about an unknown word: ` Did you mean 'language'? Known: dedup, language.`"""
    words = sorted(str(k) for k in known)
    close = get_close_matches(word, words, n=1, cutoff=0.6)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    listing = f" Known: {', '.join(words)}." if show_known and words else ""
    return hint + listing


# Control and format characters (escape sequences, right-to-left overrides, tags), surrogates, private use, separators
_ACTING = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
_KEPT = "\n\t\u200c\u200d"  # joiners stay: emoji and Indic scripts are made with them


def visible(text: str) -> str:
    r"""Return `text` with characters that are not seen, but act, as escapes: `\x1b`, `\u202e`. Newline and tab stay."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in _KEPT or unicodedata.category(c) not in _ACTING else repr(c)[1:-1] for c in text
    )


def one_line(text: str) -> str:
    """Return `text` visible and on one line (names, paths, reasons)."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def excerpt(text: str, length: int = 80) -> str:
    """Return `text` on one line, at most `length` characters before what is not printable became escapes.

    Excerpts stand in dropped/, as part of a mixture's bytes: here blanks other than the plain one are escapes too.
    """
    cut = text if len(text) <= length else text[: length - 1] + "…"
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in cut)


def first_line(error: BaseException, length: int = 160) -> str:
    """Return what an exception of another library says in its first line; its type where it says nothing."""
    lines = str(error).strip().splitlines()
    return excerpt(lines[0] if lines else type(error).__name__, length).rstrip(".")


# What the machine lacks or forbids, wherever it shows: no room, no right to write, too many open files.
_MACHINE = {
    errno.ENOSPC: "Fix: room on that disk.",
    errno.EDQUOT: "Fix: room within the quota.",
    errno.EFBIG: "Fix: a disk and a limit (ulimit -f) that let files be as large.",
    errno.EROFS: "Fix: a place that can be written.",
    errno.EACCES: "Fix: a place that you may read and write.",
    errno.EPERM: "Fix: a place that you may read and write.",
    errno.EMFILE: "Fix: a higher limit of open files (ulimit -n).",
    errno.ENFILE: "Fix: a higher limit of open files.",
    errno.ENAMETOOLONG: "Fix: a shorter name.",
    errno.ELOOP: "Fix: links that do not lead in a circle.",
    errno.ENOMEM: "Fix: more memory, or fewer --workers.",
}


# What is missing, by the name that is imported, and the extra of steel-lab that brings it.
_EXTRAS = {
    "torch": "train,eval", "transformers": "train,eval", "peft": "train,eval", "safetensors": "train,eval",
    "datasets": "train,eval", "accelerate": "train", "trl": "train", "lm_eval": "eval", "scipy": "eval",
    "sklearn": "eval", "vllm": "vllm", "ray": "ray", "starlette": "ui", "uvicorn": "ui", "modelscope": "modelscope",
    "obstore": "s3",
}  # fmt: skip


def missing_extra(error: ImportError) -> str | None:
    """Return in one line which package is not installed and what brings it; None where steel's extras do not."""
    name = (error.name or "").partition(".")[0]
    if not isinstance(error, ModuleNotFoundError) or name not in _EXTRAS:
        return None
    return f'{name} is not installed. Fix: pip install "steel-lab[{_EXTRAS[name]}]".'


_FAR = re.compile(r"\bs3:/(?=[^/])")  # pathlib's form of s3://…


PATIENCE = 4.0  # seconds that a command has to end in after Ctrl-C


class Interrupted(SystemExit):
    """A command that was told to end and did so in good order. `code`: its exit status; `what`: what it did last."""

    def __init__(self, what: str, code: int) -> None:
        super().__init__(code)
        self.what = what


def run_command(command: Callable[[], object]) -> None:
    """Run a command line. `command` imports what it needs itself, so that an error there is told like any other."""
    for stream in (sys.stdout, sys.stderr):  # where a terminal has no Chinese: a mark instead of a crash
        with suppress(AttributeError, ValueError):
            stream.reconfigure(errors="replace" if stream is sys.stdout else "backslashreplace")  # type: ignore[union-attr]
    try:
        with _ended_in_time(), _no_interrupt_lost():
            command()
    except BrokenPipeError:
        sys.stderr.close()  # `… | head` closes the pipe: no fault
        sys.exit(0)
    except BaseException as error:
        last = _interruption(error) or _explanation(error)
        if last is None:
            raise
        line, status = last
        sys.stderr.write(line)
        sys.exit(status)


def _interruption(error: BaseException) -> tuple[str, int] | None:
    """Return the last line and the exit status of a command that was told to end, None of any other."""
    if isinstance(error, Interrupted):
        what, status = error.what, int(error.code or 0)
    elif _is_of_interrupt(error):
        what, status = "interrupted", 130
    else:
        return None
    with suppress(ValueError):  # another thread than the main one
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # once more while Python itself ends: at once, without a traceback
    return _last_line(what), status


def _is_of_interrupt(error: BaseException | None) -> bool:
    """Whether Ctrl-C stands behind an error: typer makes an exit status of it, others what they make of any error."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


@contextmanager
def _ended_in_time() -> Iterator[None]:
    """End the process where Ctrl-C has not after PATIENCE: it computes outside of Python, or waits for a thread.

    What it was at is lost as by a kill, which all that is kept outlasts. A command that takes Ctrl-C for something else
    has a handler of its own (`train`, `chat`, `ui`) and is let alone.
    """
    if os.name != "posix" or threading.current_thread() is not threading.main_thread():
        yield
        return
    heard, told = os.pipe()
    os.set_blocking(told, False)
    state = "at work"

    def watch() -> None:
        while number := os.read(heard, 1):
            ends = signal.getsignal(signal.SIGINT) in (signal.default_int_handler, signal.SIG_DFL)
            if number[0] == signal.SIGINT and ends:
                time.sleep(PATIENCE)
                if state == "at work":
                    shown = "\x1b[?25h\n" if sys.stderr.isatty() else ""  # the cursor, which a bar hides
                    os.write(2, f"{shown}{_last_line('interrupted')}".encode())
                if state != "over":
                    os._exit(130)
        os.close(heard)

    before = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
        state = "over"
    except BaseException as error:
        state = "told" if _is_of_interrupt(error) else "over"
        raise
    finally:
        if state == "over":
            signal.set_wakeup_fd(before)
            os.close(told)


def is_spokesman() -> bool:
    """Whether this process speaks: of those that torchrun starts, which all would say the same, the first one."""
    return os.environ.get("RANK", "0") == "0"


def _last_line(what: str) -> str:
    """Return the line that ends a command which was told to."""
    return f"{what}; run the same command again to go on\n" if is_spokesman() else ""


@contextmanager
def _no_interrupt_lost() -> Iterator[None]:
    """Send Ctrl-C again where it came while Python could not raise it: in what is called when an object goes."""
    before = sys.unraisablehook
    again = threading.Timer(0.1, signal.raise_signal, [signal.SIGINT])

    def hook(lost: "sys.UnraisableHookArgs") -> None:
        if not isinstance(lost.exc_value, KeyboardInterrupt):
            before(lost)
        elif again.ident is None:
            again.start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before
        again.cancel()  # a library may lose it and raise it too


def _explanation(error: BaseException) -> tuple[str, int] | None:
    """Return the last line and the exit status for what its user or the machine can put right, None for our bugs."""
    if isinstance(error, InputError):
        # what comes from data or a path may hold control characters: nothing of it reaches the terminal raw
        return f"error: {_FAR.sub('s3://', one_line(str(error)))}\n", 2
    if isinstance(error, MemoryError):
        return "error: out of memory. Fix: more of it, or fewer --workers; what is done is kept.\n", 2
    if isinstance(error, ImportError) and (said := missing_extra(error)) is not None:
        return f"error: {said}\n", 2
    if isinstance(error, OSError) and error.errno in _MACHINE:
        where = f"{error.filename}: " if error.filename else ""
        return one_line(f"error: {where}{error.strerror or error}. {_MACHINE[error.errno]}") + "\n", 2
    return None
