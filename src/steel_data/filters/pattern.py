"""Regular expressions over the text, by the library `regex` (apart: one filter a file).

It knows Unicode classes (`\\p{Han}`) and bounds the time.
"""

from dataclasses import dataclass, field
from typing import Any

import polars as pl

from steel_data.errors import InputError, excerpt

SECONDS = 5.0  # for one pattern on one row: a pattern that backtracks without end must not hang a night's build


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """Drop rows by what their text contains.

    drop: regular expressions; a row in which one is found is dropped.
    require: regular expressions; a row in which one is missing is dropped.
    """

    drop: list[str] = field(default_factory=list)
    require: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Refuse a pattern that does not compile, or a filter without any."""
        import regex

        if not self.drop and not self.require:
            raise InputError("filter 'pattern': neither drop nor require given. Fix: drop = [\"…\"].")
        for pattern in [*self.drop, *self.require]:
            try:
                regex.compile(pattern)
            except regex.error as error:
                raise InputError(
                    f"filter 'pattern': {excerpt(pattern)!r} is no regular expression: {error}. "
                    "Fix: `\\\\` before a character that is meant as such."
                ) from None

    def compute(self, texts: list[str]) -> dict[str, Any]:
        """Return `pattern`: the reason each text falls by (`pattern:drop[i]`, `pattern:require[i]`), or None."""
        import regex

        rules = [(f"pattern:drop[{i}]", regex.compile(p), True) for i, p in enumerate(self.drop)]
        rules += [(f"pattern:require[{i}]", regex.compile(p), False) for i, p in enumerate(self.require)]
        reasons: list[str | None] = []
        for text in texts:
            try:
                hits = (name for name, rule, bad in rules if (rule.search(text, timeout=SECONDS) is not None) == bad)
                reasons.append(next(hits, None))
            except TimeoutError:
                raise InputError(
                    f"filter 'pattern': no answer in {SECONDS:g} s on the text {excerpt(text, 40)!r}. "
                    "Fix: a simpler pattern."
                ) from None
        return {"pattern": pl.Series(reasons, dtype=pl.String)}

    def verdict(self) -> pl.Expr:
        """Return the reason of the drop, or null."""
        return pl.col("pattern")
