"""Train-side overlap: which items stand in the mixture, how often, and in which rows?

Access: the training data. Cost: no forward pass; one reading of the mixture. The only detector whose finding is a
proof: the rows are named. Method: rarity-weighted containment of token 3-grams, as decontamination uses it
(steel_data.filters.overlap). Blind to paraphrase and translation, and of several items in one turn only the best is
named, with those equal to it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from steel_data.benchmarks import Item
from steel_data.item_clusters import cluster_key
from steel_data.errors import InputError
from steel_data.filters.overlap import TURN, overlap
from steel_data.filters.overlap_index import Index, index_of

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

    files = sorted(mixture.glob("train-*.parquet"))
    if not files:
        raise InputError(f"{mixture}: no train-*.parquet here. Right: the folder that `steel_data build` wrote.")
    index = index_of([item.item for item in items], list(items))
    twins: dict[str, list[str]] = {}
    for item in items:
        twins.setdefault(cluster_key(item), []).append(item.item)
    equal = {name: names for names in twins.values() for name in names}
    found: dict[str, Found] = {}
    for file in files:
        frame = pl.scan_parquet(file)
        missing = {"messages", "source", "origin_file", "origin_row"} - set(frame.collect_schema().names())
        if missing:
            raise InputError(f"{file}: no column {sorted(missing)[0]}. Right: a mixture of conversations.")
        rows = frame.select("messages", "source", "origin_file", "origin_row").collect()
        for part in rows.iter_slices(_BATCH):
            for name, score, place in _matches(part, index, threshold):
                for twin in equal[name]:
                    entry = found.setdefault(twin, Found())
                    entry.rows += 1
                    entry.best = max(entry.best, score)
                    if len(entry.places) < _PLACES and place not in entry.places:
                        entry.places.append(place)
    return found


def _matches(part: "pl.DataFrame", index: Index, threshold: float) -> Iterator[tuple[str, float, str]]:
    """Yield the item that each row holds, its score, and the row's origin."""
    rows = part.to_dicts()
    texts = [
        TURN.join(t for m in row["messages"] or [] for t in (m.get("reasoning_content"), m["content"]) if t)
        for row in rows
    ]
    result = overlap(texts, index)
    for row, score, name in zip(rows, result["overlap_score"].tolist(), result["overlap_item"], strict=True):
        if name is not None and score >= threshold:
            yield name, score, f"{row['source']}: {row['origin_file']}:{row['origin_row']}"
