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
from steel_data.engine import progress
from steel_data.errors import InputError
from steel_data.filters.overlap import best_items

if TYPE_CHECKING:
    import polars as pl


THRESHOLD = 0.7  # of containment: the default of the filter `decontaminate`
_BATCH = 4_000  # rows
_PLACES = 10
MOST_TEXTS = 3


@dataclass
class Held:
    """One question in a mixture.

    `dose`: copies that the injector put there, 0 where nothing declares it; `rows`: training rows that hold it, copies
    counted; `places`: the first ten of them (`source: file:row`); `texts`: what the first three of these say.
    """

    dose: int = 0
    rows: int = 0
    places: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)


def mixture_overlap(mixture: Path, items: Sequence[Item], threshold: float = THRESHOLD) -> dict[str, Held]:
    """Return an entry for each item that the mixture holds, by the item's name. A mixture is a folder of parquet files.

    Raises InputError where there are none, or columns other than a mixture's.
    """
    import polars as pl

    index = index_of([item.item for item in items], list(items))
    twins: dict[str, list[str]] = {}
    for item in items:
        twins.setdefault(cluster_key(item), []).append(item.item)
    equal = {name: names for names in twins.values() for name in names}
    found: dict[str, Held] = {}
    frames = {file: pl.scan_parquet(file) for file in mixture_files(mixture)}
    for file, frame in frames.items():
        missing = {"messages", "source", "origin_file", "origin_row"} - set(frame.collect_schema().names())
        if missing:
            raise InputError(f"{file}: no column {sorted(missing)[0]}. Right: a mixture of conversations.")
    total = sum(frame.select(pl.len()).collect().item() for frame in frames.values())
    with progress(f"looking for {len(items):,} questions", total) as advance:
        for frame in frames.values():
            rows = frame.select("messages", "source", "origin_file", "origin_row").collect()
            for part in rows.iter_slices(_BATCH):
                for names, text, place in _matches(part, index, threshold):
                    for twin in {twin for name in names for twin in equal[name]}:
                        _add(found.setdefault(twin, Held()), text, place)
                advance(len(part))
    return {item.item: found[item.item] for item in items if item.item in found}


def _add(entry: Held, text: str, place: str) -> None:
    entry.rows += 1
    if len(entry.places) < _PLACES and place not in entry.places:
        entry.places.append(place)
        if len(entry.texts) < MOST_TEXTS:
            entry.texts.append(text)


def mixture_files(mixture: Path) -> list[Path]:
    """Return the files of a mixture's rows, in order. Raises InputError where there are none."""
    files = sorted(mixture.glob("train-*.parquet"))
    if not files:
        raise InputError(f"{mixture}: no train-*.parquet here. Right: the folder that `steel_data build` wrote.")
    return files


def row_text(row: dict[str, Any]) -> str:
    """Return all that is said in a row, as decontamination reads it."""
    return TURN.join(t for m in row["messages"] or [] for t in (m.get("reasoning_content"), m["content"]) if t)


def _matches(part: "pl.DataFrame", index: Index, threshold: float) -> Iterator[tuple[list[str], str, str]]:
    """Yield the items that each row holds (several where they cannot be told apart), its text, and its origin."""
    rows = part.to_dicts()
    texts = [row_text(row) for row in rows]
    for number, score, names in best_items(texts, index):
        if score >= threshold:
            row = rows[number]
            yield names, texts[number].replace(TURN, "\n"), f"{row['source']}: {row['origin_file']}:{row['origin_row']}"
