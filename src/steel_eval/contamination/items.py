"""Which questions a training mixture holds, and in which rows: declared by its injector, or found by overlap.

Declared questions stand in `truth.parquet` and, copy by copy, in the rows of kind `injected`. Others are looked for in
all rows (overlap.py), about 13,000 rows a CPU second, so what is found is kept in a file addressed by the mixture's
rows, the questions and the code: a second report does not read the mixture again.
"""

import os
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from difflib import SequenceMatcher
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

import orjson

from steel_data.benchmarks.clusters import cluster_key
from steel_data.benchmarks.items import Item
from steel_data.errors import InputError
from steel_data.files import address, kept, source_sha256
from steel_data.filters.overlap import best_items
from steel_data.mixture.manifest import damaged, read_manifest
from steel_eval.contamination.overlap import MOST_TEXTS, THRESHOLD, Held, mixture_overlap
from steel_eval.models import training_of

TELLING = 16  # letters of a question that proves something without its options
MOST_PLACES = 10  # training rows that are named for a question; more are counted
MOST_CHARS = 700  # of a row's text
MOST_WHOLE = 20_000  # of an injected row, in which a question is looked for
# what decides which questions are found
_CODE = (
    "steel_data.benchmarks.clusters", "steel_data.benchmarks.index", "steel_data.filters.overlap",
    "steel_data.mixture.rows", "steel_data.row.alignment", "steel_data.row.text", "steel_eval.contamination.overlap",
    __name__,
)  # fmt: skip


@dataclass(frozen=True)
class Mixture:
    """A finished mixture on disk; its folder says which."""

    folder: Path
    manifest: dict[str, Any] = field(compare=False)

    @property
    def content(self) -> str:
        """Return the checksum of its rows."""
        return str(self.manifest.get("content_sha256"))

    @property
    def declared(self) -> dict[str, dict[str, int]]:
        """Return benchmark -> dose -> items, as the manifest declares."""
        found: dict[str, dict[str, int]] = self.manifest.get("contamination") or {}
        return found


def open_mixture(folder: Path) -> Mixture:
    """Read a mixture's manifest. Raises InputError where there is none."""
    return Mixture(folder, read_manifest(folder))


def nearby_mixture(folder: Path) -> Path | None:
    """Return the mixture of the run that a checkpoint or score folder belongs to: `mixture/` in it or above it."""
    for place in (folder.absolute(), folder.resolve()):  # a link belongs to the run that it stands in first
        for parent in [place, *place.parents][:5]:
            if (parent / "mixture" / "manifest.json").is_file():
                return parent / "mixture"
    return None


def card_of(folder: Path, mixture: Path | None = None) -> Path | None:
    """Return the data card of what a checkpoint was trained on: of `mixture`, by default of the one of its run."""
    place = mixture or nearby_mixture(folder)
    return place and place / "card.html"


def contamination_of(folder: Path) -> Any:
    """Return what a run's mixture declares (benchmark -> dose -> items); None where nothing says so."""
    if "contamination" in (said := training_of(folder) or {}):
        return said["contamination"]
    place = nearby_mixture(folder)
    return open_mixture(place).declared if place is not None else None


def declared_items(mixture: Mixture, benchmark: str, names: Collection[str]) -> dict[str, Held]:
    """Return what the injector put into a mixture of these questions, by their names, from the injected rows.

    What it left out stands in none. Raises InputError for a damaged file.
    """
    import polars as pl

    if benchmark not in mixture.declared:
        return {}
    rows = _rows(mixture, (pl.col("kind") == "injected") & (pl.col("benchmark") == benchmark), "item", "dose", "copy")
    first = pl.col("copy") == 0
    found = rows.group_by("item", maintain_order=True).agg(
        pl.col("dose").filter(first).sum(), pl.len(), pl.col("place").unique().sort().head(MOST_PLACES),
        pl.col("text").filter(first).head(1),
    )  # fmt: skip
    wanted = set(names)
    return {item: Held(*told) for item, *told in found.iter_rows() if item in wanted}


def seen_items(mixture: Mixture, items: Sequence[Item]) -> dict[str, Held]:
    """Return which of these questions the injected rows of a mixture hold, by their text, whatever their names there.

    Another edition of a benchmark has other questions under the same names. Raises InputError for a damaged file.
    """
    import polars as pl

    if not mixture.declared or not items:
        return {}
    rows = _rows(mixture, pl.col("kind") == "injected", "benchmark", "item", "dose", "copy", chars=MOST_WHOLE)
    first = pl.col("copy") == 0
    groups = rows.group_by("benchmark", "item", maintain_order=True).agg(
        pl.col("dose").filter(first).sum(), pl.len(), pl.col("place").unique().sort().head(MOST_PLACES),
        pl.col("text").filter(first).head(1),
    )  # fmt: skip
    named = {item.item: item for item in items}
    held: dict[str, Held] = {}
    for _, name, dose, count, places, texts in groups.iter_rows():
        for one in _said_in(texts[0] if texts else "", name, named, items):
            entry = held.get(one, Held())
            both = sorted({*entry.places, *places})[:MOST_PLACES]
            shown = [*entry.texts, *(text[:MOST_CHARS] for text in texts)][:1]
            held[one] = Held(entry.dose + dose, entry.rows + count, both, shown)
    by_text: dict[str, str] = {cluster_key(named[name]): name for name in held}
    for item in items:  # whoever saw one saw its equal
        if item.item not in held and (twin := by_text.get(cluster_key(item))):
            held[item.item] = held[twin]
    return {item.item: held[item.item] for item in items if item.item in held}


def _said_in(text: str, name: str, named: dict[str, Item], items: Sequence[Item]) -> list[str]:
    """Return the questions whose text an injected row holds: the one of its name, else the others that it is like."""
    plain = _plain(text)
    if name in named and _is_in(named[name], plain):
        return [name]
    index, equal = _index(tuple(items))
    for _, score, found in best_items([text], index):
        whole = [twin for one in found for twin in equal[one]] if score >= THRESHOLD else []
        if proved := [one for one in whole if _proves(named[one], [plain])]:
            return proved
    return [name] if name in named and _is_like(named[name], plain) else []


def _is_in(item: Item, plain: str) -> bool:
    return _plain(item.question) in plain and _proves(item, [plain])


def _is_like(item: Item, plain: str) -> bool:
    """Whether half of a question stands in one piece in a row of its own name, with half of its options: an edited
    form."""
    question = _plain(item.question)
    size = SequenceMatcher(None, plain, question, autojunk=False).find_longest_match().size
    return 2 * size >= len(question) and _has_options(item, [plain])


def _has_options(item: Item, rows: Sequence[str]) -> bool:
    options = [o for o in map(_plain, item.options) if o]
    return not options or any(2 * sum(option in row for option in options) >= len(options) for row in rows)


def _proves(item: Item, rows: Sequence[str]) -> bool:
    return len(_plain(item.question)) >= TELLING or _has_options(item, rows)


def _plain(text: str) -> str:
    import regex

    from steel_data.row.text import normalise

    return str(regex.sub(r"[\s\p{P}]+", "", normalise(text)))


@lru_cache(maxsize=4)
def _index(items: tuple[Item, ...]) -> tuple[Any, dict[str, list[str]]]:
    """Return the index of questions, and the names of those that are equal to each."""
    from steel_data.benchmarks.index import index_of

    twins: dict[str, list[str]] = {}
    for item in items:
        twins.setdefault(cluster_key(item), []).append(item.item)
    equal = {name: names for names in twins.values() for name in names}
    return index_of([item.item for item in items], list(items)), equal


def found_items(mixture: Mixture, items: Sequence[Item]) -> dict[str, Held]:
    """Return which of these questions a mixture's rows hold, by name: what is kept of an earlier search, else searched.

    Raises InputError for a mixture whose bytes are not those of its manifest, or without conversations (preference
    rows).
    """
    if not items:
        return {}
    search = cache(partial(_search, mixture, items))
    questions = [[i.item, i.question, *i.options] for i in items]
    key = address("held", source_sha256(*_CODE), mixture.manifest["output"], questions)
    root = Path(os.environ.get("STEEL_CACHE") or mixture.folder.parent / ".cache")  # as the build's own
    try:
        return kept(root / "held" / key[:2] / f"{key[2:34]}.json", search, _write, _read)
    except InputError:  # of the search: once more; of a place that cannot be written: the next report searches again
        return search()


def _write(file: Path, found: dict[str, Held]) -> None:
    file.write_bytes(orjson.dumps({name: asdict(entry) for name, entry in found.items()}))


def _read(file: Path) -> dict[str, Held]:
    return {name: Held(**entry) for name, entry in orjson.loads(file.read_bytes()).items()}


def _search(mixture: Mixture, items: Sequence[Item]) -> dict[str, Held]:
    faults = damaged(mixture.folder, {"output": mixture.manifest["output"]})
    if faults:
        raise InputError(f"{faults[0]}. Fix: the mixture as it was built.")
    whole = mixture_overlap(mixture.folder, items)
    return {n: replace(h, texts=[t[:MOST_CHARS] for t in h.texts]) for n, h in whole.items()}


def with_texts(mixture: Mixture, found: dict[str, Held]) -> dict[str, Held]:
    """Return the same with the texts of the first rows of each question. Raises InputError for a damaged file."""
    import polars as pl

    wanted = sorted({place for entry in found.values() for place in entry.places[:MOST_TEXTS]})
    if not wanted:
        return found
    rows = _rows(mixture, pl.col("place").is_in(wanted) & (pl.col("copy") == 0), "copy")
    texts = dict(rows.select("place", "text").iter_rows())
    return {n: replace(h, texts=[texts[p] for p in h.places[:MOST_TEXTS] if p in texts]) for n, h in found.items()}


def _rows(mixture: Mixture, which: Any, *columns: str, chars: int = MOST_CHARS) -> Any:
    """Return these columns of the rows that a condition holds for, with `place` and the beginning of the `text`."""
    import polars as pl

    from steel_data.mixture.rows import collect, joined_text, scan, schema

    folder, files = mixture.folder, list(mixture.manifest["output"])
    text = joined_text(schema(folder, files[0])).str.slice(0, chars)
    place = pl.format("{}: {}:{}", "source", "origin_file", "origin_row")
    told = scan(folder, files).with_columns(place=place).filter(which).select(*columns, "place", text=text)
    return collect(folder, told)
