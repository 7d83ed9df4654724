"""Train-side overlap: which items stand in the mixture, how often, and in which rows?

Access: the training data. Cost: no forward pass; one reading of the mixture. The only detector whose finding is a
proof: the rows are named. Method: rarity-weighted containment of token 3-grams, as decontamination uses it
(steel_data.filters.overlap). Blind to paraphrase and translation, and of several items in one turn only the best is
named, with those that are equal to it or have its score.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steel_data.benchmarks.clusters import cluster_key
from steel_data.benchmarks.index import TURN, Index, index_of
from steel_data.benchmarks.items import Item
from steel_data.errors import InputError
from steel_data.filters.overlap import best_items

if TYPE_CHECKING:
    import polars as pl


THRESHOLD = 0.7  # of containment: the default of the filter `decontaminate`
_BATCH = 4_000  # rows
_PLACES = 10


@dataclass
class Found:
    """Where one item stands: `rows` counts copies too; `places` are the first ten, `source: file:row`."""

    rows: int = 0
    best: float = 0.0
    places: list[str] = field(default_factory=list)


def mixture_overlap(mixture: Path, items: Sequence[Item], threshold: float = THRESHOLD) -> dict[str, Found]:
    """Return an entry for each item that the mixture holds, by the item's name. A mixture is a folder of parquet files.

    Raises InputError where there are none, or columns other than a mixture's.
    """
    import polars as pl

    index = index_of([item.item for item in items], list(items))
    twins: dict[str, list[str]] = {}
    for item in items:
        twins.setdefault(cluster_key(item), []).append(item.item)
    equal = {name: names for names in twins.values() for name in names}
    found: dict[str, Found] = {}
    for file in mixture_files(mixture):
        frame = pl.scan_parquet(file)
        missing = {"messages", "source", "origin_file", "origin_row"} - set(frame.collect_schema().names())
        if missing:
            raise InputError(f"{file}: no column {sorted(missing)[0]}. Right: a mixture of conversations.")
        rows = frame.select("messages", "source", "origin_file", "origin_row").collect()
        for part in rows.iter_slices(_BATCH):
            for names, score, place in _matches(part, index, threshold):
                for twin in sorted({twin for name in names for twin in equal[name]}):
                    entry = found.setdefault(twin, Found())
                    entry.rows += 1
                    entry.best = max(entry.best, score)
                    if len(entry.places) < _PLACES and place not in entry.places:
                        entry.places.append(place)
    return found


def mixture_files(mixture: Path) -> list[Path]:
    """Return the files of a mixture's rows, in order. Raises InputError where there are none."""
    files = sorted(mixture.glob("train-*.parquet"))
    if not files:
        raise InputError(f"{mixture}: no train-*.parquet here. Right: the folder that `steel_data build` wrote.")
    return files


def row_text(row: dict[str, Any]) -> str:
    """Return all that is said in a row, as decontamination reads it."""
    return TURN.join(t for m in row["messages"] or [] for t in (m.get("reasoning_content"), m["content"]) if t)


def _matches(part: "pl.DataFrame", index: Index, threshold: float) -> Iterator[tuple[list[str], float, str]]:
    """Yield the items that each row holds (several where they cannot be told apart), their score, the row's origin."""
    rows = part.to_dicts()
    for number, score, names in best_items([row_text(row) for row in rows], index):
        if score >= threshold:
            row = rows[number]
            yield names, score, f"{row['source']}: {row['origin_file']}:{row['origin_row']}"
