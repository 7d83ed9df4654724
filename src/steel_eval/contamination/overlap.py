"""Train-side overlap: which items stand in the mixture, how often, and in which rows?

Access: the training data. Cost: no forward pass; one reading of the mixture. The only detector whose finding is a
proof: the rows are named. Method: the question stands in a turn, edited or not, with its options, as a whole turn or
alone where it is long, as decontamination has it (steel_data.filters.overlap). Blind to paraphrase and translation, and
of several items in one turn only the best is named, with those that are equal to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from steel_data.benchmarks.clusters import cluster_key
from steel_data.benchmarks.index import TURN, index_of
from steel_data.benchmarks.items import Item
from steel_data.engine import progress
from steel_data.errors import InputError
from steel_data.filters.overlap import best_items
from steel_data.mixture.rows import count, files, rows, schema
from steel_data.row.record import TURNS, turns_of

THRESHOLD = 0.7  # of the score: the default of the filter `decontaminate`
_BATCH = 4_000  # rows
_PLACES = 10
MOST_TEXTS = 3
_COLUMNS = ("source", "origin_file", "origin_row")


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

    Rows of every form are read: conversations, pairs (both answers), answers that are judged.

    Raises InputError where there are none, or columns other than a mixture's.
    """
    index = index_of([item.item for item in items], list(items))
    twins: dict[str, list[str]] = {}
    for item in items:
        twins.setdefault(cluster_key(item), []).append(item.item)
    equal = {name: names for names in twins.values() for name in names}
    found: dict[str, Held] = {}
    names = files(mixture)
    there = set(schema(mixture, names[0]))
    bodies = [column for column in TURNS if column in there]
    missing = set(_COLUMNS) - there or ({"messages"} if not bodies else set())
    if missing:
        raise InputError(f"{mixture / names[0]}: no column {min(missing)}. Fix: a mixture that `build` wrote.")
    stream = rows(mixture, names, [*bodies, *_COLUMNS])
    with progress(f"looking for {len(items):,} questions", count(mixture, names)) as advance:
        while part := list(islice(stream, _BATCH)):
            texts = [row_text(row) for row in part]
            for number, score, held in best_items(texts, index):
                if score >= threshold:
                    row, text = part[number], texts[number].replace(TURN, "\n")
                    for twin in {twin for name in held for twin in equal[name]}:
                        place = f"{row['source']}: {row['origin_file']}:{row['origin_row']}"
                        _add(found.setdefault(twin, Held()), text, place)
            advance(len(part))
    return {item.item: found[item.item] for item in items if item.item in found}


def _add(entry: Held, text: str, place: str) -> None:
    entry.rows += 1
    if len(entry.places) < _PLACES and place not in entry.places:
        entry.places.append(place)
        if len(entry.texts) < MOST_TEXTS:
            entry.texts.append(text)


def row_text(row: dict[str, Any]) -> str:
    """Return all that is said in a row, as decontamination reads it: of a pair the rejected answer too."""
    turns = row["messages"] if row.get("messages") is not None else turns_of(row, rejected=True)
    return TURN.join(t for m in turns for t in (m.get("reasoning_content"), m["content"]) if t)
