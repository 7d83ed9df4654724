"""The one exception class for what a user can put right.

Every command prints an `InputError` as one line and exits with status 2; any other exception is our bug and keeps its
traceback. The form of a message: **where: what is wrong. What would be right.**
"""

from collections.abc import Iterable
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
    cut = text if len(text) <= length else text[: length - 1] + "…"
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in cut)
