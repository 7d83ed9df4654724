"""The one exception class for what a user can put right, and how every command ends.

Every command prints an `InputError` as one line and exits with status 2; any other exception is our bug and keeps its
traceback. The form of a message: **where: what is wrong. What would be right.**
"""

import sys
from collections.abc import Callable, Iterable
from difflib import get_close_matches


class InputError(Exception):
    """Something the user can put right: a recipe, a path, a data file, a full disk."""


def nearest(word: str, known: Iterable[str], show_known: bool = True) -> str:
    """Return the tail of a message about an unknown word: ` Did you mean 'language'? Known: dedup, language.`"""
    words = sorted(str(k) for k in known)
    close = get_close_matches(word, words, n=1, cutoff=0.6)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    listing = f" Known: {', '.join(words)}." if show_known and words else ""
    return hint + listing


def excerpt(text: str, length: int = 80) -> str:
    """Return `text` on one line, at most `length` characters, control characters made visible (safe in a terminal)."""
    return _visible(text if len(text) <= length else text[: length - 1] + "…")


def first_line(error: BaseException, length: int = 160) -> str:
    """Return what an exception of another library says in its first line; its type where it says nothing."""
    lines = str(error).strip().splitlines()
    return excerpt(lines[0] if lines else type(error).__name__, length).rstrip(".")


def _visible(text: str) -> str:
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def run_command(command: Callable[[], object]) -> None:
    """Run a command line. `command` imports what it needs itself, so that an error there is told like any other."""
    try:
        command()
    except InputError as error:
        # what comes from data or a path may hold control characters: nothing of it reaches the terminal raw
        sys.stderr.write(f"error: {_visible(str(error))}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; run the same command again to go on\n")
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()  # `… | head` closes the pipe: no fault
        sys.exit(0)
