"""Which rows two mixtures share, and what became of the others: on narrow columns, by joins, no Python per row.

A row is the same as another by its text first (its id), by its place second: so a line inserted at the top of a file
changes one row and not all below it. In this order: same text at the same origin; same text elsewhere in the source;
same text in another source (moved); another text at the same origin (changed); the rest was removed or added.
"""

from dataclasses import dataclass

import polars as pl

ORIGIN = ["source", "file", "row"]
CHANGES = ("same", "elsewhere", "moved", "changed", "removed", "added")


def narrow(frame: pl.DataFrame) -> pl.DataFrame:
    """Return one row a record: source, file, row, text (u64 of the id), kind, language, n (copies), at (a place).

    `frame` has source, file, row, id, kind, language, n, at. 64 bits of the id tell 10 million texts apart but for a
    chance of 3e-6.
    """
    text = pl.col("id").str.slice(0, 16).str.decode("hex").bin.reinterpret(dtype=pl.UInt64, endianness="big")
    words = pl.col("source", "file", "kind", "language").cast(pl.Categorical)
    return frame.select(words, pl.col("row").cast(pl.Int64), pl.col("n", "at").cast(pl.UInt32), text=text)


def merged(parts: list[pl.DataFrame]) -> pl.DataFrame:
    """Return the parts as one frame in which copies of a record are one row."""
    whole = pl.concat(parts, rechunk=True)
    parts.clear()
    rest = [pl.col("n").sum(), pl.col("at").min(), pl.col("kind").first(), pl.col("language").first()]
    return whole.group_by([*ORIGIN, "text"]).agg(rest).sort("at")


def compare(a: pl.DataFrame, b: pl.DataFrame) -> pl.DataFrame:
    """Return one row a record of either side, `change` (one of CHANGES) and the columns of both sides (`_a`, `_b`).

    Columns: change, text, and source, language, kind, n, at of each side; null (n: 0) on the side that lacks it.
    """
    found = []
    for change, keys in (
        ("same", [*ORIGIN, "text"]),
        ("elsewhere", ["source", "text"]),
        ("moved", ["text"]),
        ("changed", ORIGIN),
    ):
        pairs, a, b = _pair(a, b, keys)
        found.append(_labelled(pairs, change))
    found.append(_labelled(_sided(a, "_a"), "removed"))
    found.append(_labelled(_sided(b, "_b"), "added"))
    return pl.concat(found, how="diagonal").with_columns(pl.col("n_a", "n_b").fill_null(0))


def _pair(a: pl.DataFrame, b: pl.DataFrame, keys: list[str]) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Return pairs of equal keys, each row in at most one, and the rows of both sides that found no partner."""
    numbered = [
        side.with_columns(turn=pl.int_range(pl.len(), dtype=pl.UInt32).over(keys)) if len(keys) < 4 else side
        for side in (a, b)
    ]
    on = keys if len(keys) == 4 else [*keys, "turn"]  # a record's whole key occurs once
    one, two = numbered
    right = two.select(*on, *(pl.col(c).alias(f"{c}_b") for c in two.columns if c != "turn"))
    pairs = one.join(right, on=on, how="inner").drop("turn", strict=False)
    pairs = pairs.rename({c: f"{c}_a" for c in a.columns})
    rest = [
        mine.join(other.select(on), on=on, how="anti", maintain_order="left").drop("turn", strict=False)
        for mine, other in ((one, two), (two, one))
    ]
    return pairs, rest[0], rest[1]


def _sided(side: pl.DataFrame, suffix: str) -> pl.DataFrame:
    return side.rename({c: f"{c}{suffix}" for c in side.columns})


def _labelled(frame: pl.DataFrame, change: str) -> pl.DataFrame:
    text = next(c for c in ("text_b", "text_a") if c in frame.columns)
    columns = [f"{c}_{s}" for s in "ab" for c in ("source", "language", "kind", "n", "at")]
    there = [c for c in columns if c in frame.columns]
    return frame.select(*there, text=pl.col(text), change=pl.lit(change, pl.Enum(CHANGES)))


@dataclass
class Books:
    """What became of the rows of one source, language or kind. `after = before - removed + added - out + in + repeats`.

    In rows of the mixture, so a record that is repeated counts as often as it stands there. `changed`: other text at
    the same origin. `out`, `into`: rows that are in another group on the other side. `repeats`: more or fewer copies.
    """

    before: int = 0
    removed: int = 0
    added: int = 0
    changed: int = 0
    out: int = 0
    into: int = 0
    repeats: int = 0
    after: int = 0


def books(compared: pl.DataFrame, column: str) -> dict[str, Books]:
    """Return the books by `source`, `language` or `kind`."""
    one, two = f"{column}_a", f"{column}_b"
    sums = compared.group_by(one, two, "change").agg(
        pl.col("n_a", "n_b").cast(pl.Int64).sum(), least=pl.min_horizontal("n_a", "n_b").cast(pl.Int64).sum()
    )
    groups: dict[str, Books] = {}
    for a, b, change, n_a, n_b, least in sums.sort(pl.all().cast(pl.String)).iter_rows():
        old = groups.setdefault(a if a is not None else "-", Books()) if change != "added" else Books()
        new = groups.setdefault(b if b is not None else "-", Books()) if change != "removed" else Books()
        old.before += n_a
        new.after += n_b
        if change == "removed":
            old.removed += n_a
        elif change == "added":
            new.added += n_b
        elif a == b:
            old.changed += least if change == "changed" else 0
            old.repeats += n_b - n_a
        else:
            old.out += n_a
            new.into += n_b
    return dict(sorted(groups.items(), key=lambda kv: (-max(kv[1].before, kv[1].after), kv[0])))


def totals(compared: pl.DataFrame) -> dict[str, int]:
    """Return how many records each change concerns, and `repeated`: in both, but with another number of copies."""
    counts = dict(compared.group_by("change").len().iter_rows())
    repeated = compared.filter((pl.col("n_a") != pl.col("n_b")) & (pl.col("n_a") > 0) & (pl.col("n_b") > 0))
    return {**{change: counts.get(change, 0) for change in CHANGES}, "repeated": len(repeated)}


def sample(compared: pl.DataFrame, change: str, number: int) -> pl.DataFrame:
    """Return a few records of one change (or `repeated`): those of the smallest ids, so the same ones each time."""
    if change == "repeated":
        mine = compared.filter((pl.col("n_a") != pl.col("n_b")) & (pl.col("n_a") > 0) & (pl.col("n_b") > 0))
    else:
        mine = compared.filter(pl.col("change") == change)
    return mine.bottom_k(number, by=["text", "at_a", "at_b"]).sort("text", "at_a", "at_b")
