"""Which questions a training mixture holds, and in which rows: declared by its injector, or found by overlap.

Declared questions stand in `truth.parquet` and, copy by copy, in the rows of kind `injected`. Others are looked for in
all rows (overlap.py), about 13,000 rows a CPU second, so what is found is kept in a file addressed by the mixture's
content, the questions and the code: a second report does not read the mixture again.
"""

import os
import shutil
import sys
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from steel_data.benchmarks.items import Item
from steel_data.errors import InputError
from steel_data.files import atomic_write, source_sha256
from steel_data.mixture.manifest import damaged, read_manifest
from steel_data.row.display import one_line
from steel_eval.models import training_of

TELLING = 16  # tokens (Han: characters) of a question that proves something without its options
MOST_PLACES = 10  # training rows that are named for a question; more are counted
MOST_TEXTS = 3  # of them with their text, for questions that nobody declared
MOST_CHARS = 700  # of a text
_SPEED = 13_000  # rows a CPU second, for the estimate of the time left


@dataclass(frozen=True)
class Held:
    """One question in a mixture.

    `dose`: copies that the injector put there, 0 where nothing declares it; `rows`: training rows that hold it, copies
    counted; `places`: the first of them (`source: file:row`); `texts`: what the first of these say, shortened.
    """

    dose: int
    rows: int
    places: list[str]
    texts: list[str]


@dataclass(frozen=True)
class Mixture:
    """A finished mixture on disk."""

    folder: Path
    manifest: dict[str, Any]

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


def declared_counts(mixture: Mixture, benchmark: str, names: Collection[str]) -> dict[int, int] | None:
    """Return dose -> how many of these questions of a benchmark have it; None where truth.parquet is not there.

    Reads no training row, so that scoring can afford it.
    """
    import polars as pl

    if benchmark not in mixture.declared:
        return {}
    files = [mixture.folder / name for name in mixture.manifest.get("truth") or {}]
    if not files or not all(file.is_file() for file in files):
        return None
    truth = pl.concat([pl.read_parquet(file, glob=False).select("benchmark", "item", "dose") for file in files])
    mine = truth.filter((pl.col("benchmark") == benchmark) & (pl.col("dose") > 0) & pl.col("item").is_in(list(names)))
    doses = mine.group_by("item").agg(pl.col("dose").sum())  # two injectors may have drawn the same question
    return dict(doses.group_by("dose").len().sort("dose").iter_rows())


def declared_items(mixture: Mixture, benchmark: str, names: Collection[str]) -> dict[str, Held]:
    """Return what the injector put into a mixture of these questions, from the injected rows themselves.

    What it left out stands in none. Raises InputError for a damaged file.
    """
    import polars as pl

    from steel_data.mixture.rows import collect, joined_text, scan

    wanted, frames = set(names), []
    mine = (pl.col("kind") == "injected") & (pl.col("benchmark") == benchmark)
    for name in mixture.manifest["output"] if benchmark in mixture.declared else ():
        lazy = scan(mixture.folder, name)
        first = pl.col("copy") == 0
        text = pl.when(first).then(joined_text(lazy.collect_schema()).str.slice(0, MOST_CHARS)).alias("text")
        rows = lazy.filter(mine).select("item", pl.when(first).then("dose").alias("dose"), _place(), text)
        frames.append(collect(mixture.folder / name, rows))
    if not frames:
        return {}
    items = pl.concat(frames).group_by("item", maintain_order=True)
    found = items.agg(pl.col("dose").sum(), pl.len(), pl.col("place").unique(), pl.col("text").drop_nulls())
    return {
        item: Held(dose, rows, sorted(places)[:MOST_PLACES], texts[:1])
        for item, dose, rows, places, texts in found.iter_rows()
        if item in wanted
    }


def _place() -> Any:
    import polars as pl

    return pl.format("{}: {}:{}", "source", "origin_file", "origin_row").alias("place")


def found_items(mixture: Mixture, items: Sequence[Item], label: str) -> dict[str, Held]:
    """Return which of these questions a mixture's rows hold, by name, looked up in the cache first.

    `label` names the questions in the line of progress. Raises InputError for a mixture whose bytes are not those of
    its manifest, or without conversations (preference rows).
    """
    from steel_eval.contamination.overlap import mixture_overlap

    if not items:
        return {}
    kept = _cache_file(mixture, items)
    if kept.is_file():
        with suppress(orjson.JSONDecodeError, TypeError, OSError):  # a damaged file: look again
            return {name: Held(**entry) for name, entry in orjson.loads(kept.read_bytes()).items()}
    faults = damaged(mixture.folder, {"output": mixture.manifest["output"]})
    if faults:
        raise InputError(f"{faults[0]}. Right: the mixture as it was built.")
    rows = int(mixture.manifest.get("rows") or 0)
    what = one_line(f"looking for questions of {label} in {rows:,} rows of {mixture.folder}")
    with ticking(what, rows / _SPEED):
        overlaps = mixture_overlap(mixture.folder, items)
        whole = with_texts(mixture, {name: Held(0, f.rows, f.places, []) for name, f in overlaps.items()}, None)
        borne_out = _borne_out([item for item in items if item.item in whole], whole)
        found = {name: _shortened(entry) for name, entry in whole.items() if name in borne_out}
    with suppress(InputError):  # a read-only place: the next report looks again
        atomic_write(kept, orjson.dumps({name: asdict(entry) for name, entry in found.items()}))
    return found


def _borne_out(items: Sequence[Item], found: dict[str, Held]) -> set[str]:
    """Return the questions that their rows prove: a short one needs half of its options in one of them.

    Among the few hundred questions of one task 下列说法错误的是 is rare, so overlap may take it for a finding.
    """
    from steel_data.benchmarks.index import index_of

    length_I = index_of([item.item for item in items], list(items)).length_I
    proved = set()
    for item, length in zip(items, length_I.tolist(), strict=True):
        options = [o for o in map(_plain, item.options) if o]
        rows = [_plain(text) for text in found[item.item].texts]
        held = any(2 * sum(option in row for option in options) >= len(options) for row in rows)
        if length >= TELLING or held or not options or not rows:
            proved.add(item.item)
    return proved


def _plain(text: str) -> str:
    import regex

    from steel_data.row.text import normalise

    return str(regex.sub(r"[\s\p{P}]+", "", normalise(text)))


def _shortened(entry: Held) -> Held:
    return replace(entry, texts=[text[:MOST_CHARS] for text in entry.texts])


def with_texts(mixture: Mixture, found: dict[str, Held], chars: int | None = MOST_CHARS) -> dict[str, Held]:
    """Return the same with the texts of the first rows of each question, cut to so many characters."""
    import polars as pl

    from steel_data.mixture.rows import collect, joined_text, scan

    wanted = sorted({place for entry in found.values() for place in entry.places[:MOST_TEXTS]})
    texts: dict[str, str] = {}
    for name in mixture.manifest["output"] if wanted else ():
        lazy = scan(mixture.folder, name)
        text = joined_text(lazy.collect_schema()).str.slice(0, chars)
        rows = lazy.filter(_place().is_in(wanted) & (pl.col("copy") == 0)).select(_place(), text.alias("text"))
        texts |= dict(collect(mixture.folder / name, rows).iter_rows())
    return {
        name: Held(h.dose, h.rows, h.places, [texts[p] for p in h.places[:MOST_TEXTS] if p in texts])
        for name, h in found.items()
    }


def _cache_file(mixture: Mixture, items: Sequence[Item]) -> Path:
    """Return the file of what is found: in STEEL_CACHE, else `.cache` beside the mixture, as the build's own."""
    from steel_data.passes.cache import key_of

    code = source_sha256("steel_eval.contamination.overlap", __name__)
    questions = [[i.item, i.question, *i.options] for i in items]
    key = key_of("held", code, mixture.content, mixture.manifest["output"], questions)
    root = Path(os.environ.get("STEEL_CACHE") or mixture.folder.parent / ".cache")
    return root / "held" / key[:2] / f"{key[2:34]}.json"


@contextmanager
def ticking(what: str, seconds: float) -> Iterator[None]:
    """Show on a terminal's stderr what is being done and for how long; nothing where there is no terminal."""
    if not sys.stderr.isatty():
        yield
        return
    done, start = threading.Event(), time.monotonic()

    def tick() -> None:
        while not done.wait(0.5):
            spent = f"{time.monotonic() - start:.0f} s (about {max(1, seconds):.0f} s of one free core)"
            wide = shutil.get_terminal_size().columns - len(spent) - 3  # a line that wraps cannot be written over
            sys.stderr.write(f"\r{what[: max(0, wide)]}: {spent}\x1b[K")
            sys.stderr.flush()

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        sys.stderr.write("\r\x1b[K")


def contamination_of(folder: Path) -> Any:
    """Return what the run's mixture declares (benchmark -> dose -> items); None where nothing says so."""
    if "contamination" in (said := training_of(folder) or {}):
        return said["contamination"]
    place = nearby_mixture(folder)
    return open_mixture(place).declared if place is not None else None
