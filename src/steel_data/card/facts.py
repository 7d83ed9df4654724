"""What a data card says, read from a mixture folder: counts from narrow columns, and the few rows that are shown.

Files are read one at a time and only the columns that are asked for, so memory does not grow with the mixture.
Everything is chosen by keyed hash or by place, so that the same mixture gives the same card.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from steel_data.mixture.rows import Place, Row, rows_at
from steel_data.row.table import UNREADABLE

SAMPLES = 3  # conversations a source
EXAMPLES = 2  # dropped rows a reason
_MOST_SAMPLES = 90  # in all, so that a recipe with hundreds of sources still gets a card that opens
_MOST_REASONS = 40


@dataclass(frozen=True)
class Reason:
    """One reason for drops: the step, rows by source, and examples."""

    name: str
    step: str
    by_source: dict[str, int]
    examples: tuple[Row, ...]

    @property
    def rows(self) -> int:
        """Rows dropped for this reason in all sources."""
        return sum(self.by_source.values())


@dataclass(frozen=True)
class Facts:
    """What was counted and chosen.

    counts: source, kind, language, chars, rows (one line each that occurs); injected: benchmark, source, dose, form,
    items (dose 0: unseen); reasons: the largest first.
    """

    counts: pl.DataFrame
    samples: dict[str, tuple[Row, ...]]
    reasons: tuple[Reason, ...]
    injected: pl.DataFrame


def read_facts(folder: Path, manifest: dict[str, Any]) -> Facts:
    """Read what the card shows of a written mixture."""
    names = list(manifest["sources"])
    counts, chosen = _count(folder, manifest, max(1, min(SAMPLES, _MOST_SAMPLES // max(len(names), 1))))
    chosen = {name: chosen.get(name, []) for name in names[:_MOST_SAMPLES]}
    rows = rows_at(folder, [place for places in chosen.values() for place in places])
    samples = {name: tuple(rows[place] for place in places) for name, places in chosen.items()}
    return Facts(counts, samples, _reasons(folder, manifest), _injected(folder, manifest))


def _count(folder: Path, manifest: dict[str, Any], samples: int) -> tuple[pl.DataFrame, dict[str, list[Place]]]:
    """Return the counts, and the places (file, row) of each source's first rows that are no repeats.

    The mixture's order is a keyed hash of the ids already: the first rows of a source are a random sample of it.
    """
    keys = ["source", "kind", "language", "chars"]
    schema = {"source": pl.String, "kind": pl.String, "language": pl.String, "chars": pl.Int32, "rows": pl.UInt32}
    counts = pl.DataFrame(schema=schema)
    chosen: dict[str, list[Place]] = {}
    for name in manifest["output"]:
        frame = pl.read_parquet(folder / name, columns=[*keys, "copy"], glob=False)
        new = frame.group_by(keys).agg(pl.len().cast(pl.UInt32).alias("rows"))
        counts = pl.concat([counts, new]).group_by(keys).agg(pl.col("rows").sum())
        first = (
            frame.with_row_index("at").filter(pl.col("copy") == 0).group_by("source").agg(pl.col("at").head(samples))
        )
        for source, places in first.iter_rows():
            have = chosen.setdefault(source, [])
            have += [(name, at) for at in places[: samples - len(have)]]
    return counts.sort(keys, nulls_last=True), chosen


def _reasons(folder: Path, manifest: dict[str, Any]) -> tuple[Reason, ...]:
    """Return the reasons of the ledger with examples from dropped/, the same ones every time."""
    by_source: dict[str, dict[str, int]] = {}
    for source, account in manifest["sources"].items():
        fallen = {**account["dropped"], **({UNREADABLE: account["unreadable"]} if account["unreadable"] else {})}
        for reason, rows in fallen.items():
            by_source.setdefault(reason, {})[source] = rows
    ordered = sorted(by_source, key=lambda reason: (-sum(by_source[reason].values()), reason))
    chosen = _examples(folder, manifest, set(ordered[:_MOST_REASONS]))
    found = rows_at(folder, [place for places in chosen.values() for place in places])
    reasons = []
    for name in ordered:
        rows = tuple(found[place] for place in chosen.get(name, ()))
        reasons.append(Reason(name, rows[0]["step"] if rows else "", by_source[name], rows))
    return tuple(reasons)


def _examples(folder: Path, manifest: dict[str, Any], wanted: set[str]) -> dict[str, list[Place]]:
    """Return reason -> places of the dropped rows with the smallest hashes of their number in dropped/."""
    best = pl.DataFrame(schema={"reason": pl.String, "hash": pl.UInt64, "file": pl.String, "at": pl.UInt32})
    start = 0
    for name, entry in manifest["dropped_files"].items():
        frame = pl.read_parquet(folder / name, columns=["reason"], glob=False).with_row_index("at")
        hashes = mixed(np.arange(start, start + len(frame), dtype=np.uint64), manifest["seed"])
        frame = frame.with_columns(hash=pl.Series(hashes), file=pl.lit(name)).filter(
            pl.col("reason").is_in(list(wanted))
        )
        best = pl.concat([best, frame.select(best.columns)]).sort("hash").group_by("reason").head(EXAMPLES)
        start += entry["rows"]
    places: dict[str, list[Place]] = {}
    for reason, file, at in best.sort("reason", "hash").select("reason", "file", "at").iter_rows():
        places.setdefault(reason, []).append((file, at))
    return places


def mixed(numbers: npt.NDArray[np.uint64], seed: int) -> npt.NDArray[np.uint64]:
    """Return a hash of each number (the finaliser of splitmix64, Steele, Lea and Flood 2014); it wraps around."""
    z = numbers + np.uint64(seed & (2**64 - 1)) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _injected(folder: Path, manifest: dict[str, Any]) -> pl.DataFrame:
    keys = ["benchmark", "source", "dose", "form"]
    frames = [pl.read_parquet(folder / name, columns=keys, glob=False) for name in manifest["truth"]]
    if not frames:
        return pl.DataFrame(schema=[*keys, "items"])
    return pl.concat(frames).group_by(keys).agg(items=pl.len()).sort(keys, nulls_last=True)


def quantiles(frame: pl.DataFrame, shares: tuple[float, ...]) -> list[int]:
    """Return the lower quantiles of `chars`, weighted by `rows`; [] for no rows. Rows without a length are left out."""
    by_length = frame.drop_nulls("chars").group_by("chars").agg(pl.col("rows").sum()).sort("chars")
    if not len(by_length):
        return []
    reached = by_length["rows"].cum_sum().to_numpy()
    at = [int(np.searchsorted(reached, max(1, np.ceil(share * reached[-1])))) for share in shares]
    lengths = by_length["chars"].to_list()
    return [lengths[i] for i in at]


def length_bins(frame: pl.DataFrame) -> list[tuple[str, dict[str, int]]]:
    """Return (label, kind -> rows) for bins of `chars` that double: `<16`, `16–31`, …, up to the longest row."""
    have = frame.drop_nulls("chars").with_columns(
        bin=pl.col("chars").clip(lower_bound=8).cast(pl.Float64).log(2).add(1e-9).floor().cast(pl.Int32) - 3
    )
    if not len(have):
        return []
    table: list[tuple[str, dict[str, int]]] = []
    for i in range(int(have["bin"].max()) + 1):  # type: ignore[arg-type]
        label = "< 16" if i == 0 else f"{2 ** (i + 3):,}–{2 ** (i + 4) - 1:,}"
        by_kind = have.filter(pl.col("bin") == i).group_by("kind").agg(pl.col("rows").sum()).sort("kind")
        table.append((label, dict(by_kind.iter_rows())))
    return table
