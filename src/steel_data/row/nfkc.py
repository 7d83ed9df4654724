"""Unicode's form NFKC in linear time (apart: it needs no arrays).

unicodedata orders a run of combining marks by neighbours, in the square of its length: of one row of a megabyte of them
it takes ten minutes.
"""

import itertools
import unicodedata

import regex

_FEW = 1_000  # characters: below it nothing takes long
_MARKS = regex.compile(r"\p{M}{100,}+")  # that follow one another, as in no language


def nfkc(text: str) -> str:
    """Return what `unicodedata.normalize("NFKC", text)` does."""
    return unicodedata.normalize("NFKC", _MARKS.sub(_ordered, text) if len(text) > _FEW else text)


def _ordered(run: "regex.Match[str]") -> str:
    """Return marks taken apart and in canonical order: by class, between those of class 0, which stay."""
    apart = "".join([unicodedata.normalize("NFKD", mark) for mark in run.group()])
    parts = itertools.groupby(apart, lambda mark: unicodedata.combining(mark) > 0)
    return "".join([m for moves, part in parts for m in (sorted(part, key=unicodedata.combining) if moves else part)])
