"""The length of a row in characters or tokens, never in "words" (apart: one filter a file).

Chinese has no blanks to count between.
"""

from dataclasses import dataclass

import polars as pl

from steel_data.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Length:
    """Keep rows whose text (all turns together) is within bounds, borders included.

    min_chars, max_chars: bounds in characters (code points), as in the column `chars`.
    min_tokens, max_tokens: bounds in tokens of the recipe's tokenizer (or of the fixed estimate, see `tokenizer`).
    """

    min_chars: int | None = None
    max_chars: int | None = None
    min_tokens: int | None = None
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        """Refuse bounds that keep everything or nothing."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        if not given:
            raise InputError("filter 'length': no bound given. Fix: min_chars = 10.")
        for name, value in given.items():
            if value < 0:
                raise InputError(f"filter 'length': {name} = {value}. Fix: 0 or more.")
        for unit in ("chars", "tokens"):
            low, high = given.get(f"min_{unit}"), given.get(f"max_{unit}")
            if low is not None and high is not None and low > high:
                raise InputError(
                    f"filter 'length': min_{unit} = {low} is above max_{unit} = {high}. Fix: the smaller one as min."
                )

    def verdict(self) -> pl.Expr:
        """Return the reason of the drop, or null: `length:too-short`, `length:too-long`."""
        bounds = (("chars", self.min_chars, self.max_chars), ("tokens", self.min_tokens, self.max_tokens))
        short, long = pl.lit(False), pl.lit(False)
        for column, low, high in bounds:
            short = short | (pl.col(column) < low) if low is not None else short
            long = long | (pl.col(column) > high) if high is not None else long
        return pl.when(short).then(pl.lit("length:too-short")).when(long).then(pl.lit("length:too-long"))
