"""What may be asked of a mixture, and what an answer is made of."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import polars as pl

from steel_data.mixture.rows import Row, joined_text, squeezed

ORIGIN = re.compile(r"(.+):(\d+)")


Verdict = Literal["kept", "dropped", "unreadable", "sampled out"]
_ID = re.compile(r"[0-9a-f]{8,32}")
_ITEM = re.compile(r"(?:([^/]+)/)?((?:dev|val|test|train)/[^/]+/\d{5,})")


@dataclass(frozen=True)
class Place:
    """Where one copy of a row stands in the mixture: file and row in it (from 0)."""

    file: str
    at: int
    copy: int


@dataclass(frozen=True)
class Witness:
    """The other side of a drop: a row's id or an item's name, its text, and where that one is."""

    id: str
    text: str
    where: str


@dataclass(frozen=True)
class Found:
    """One record that a query means. `row` has the mixture's columns; `why` says what sampling left it out."""

    verdict: Verdict
    row: Row
    places: tuple[Place, ...] = ()
    passed: tuple[str, ...] = ()
    witness: Witness | None = None
    why: str = ""


@dataclass(frozen=True)
class Answer:
    """What `why` found. `total`: how many records fit; `found`: the first of them; `notes`: what else is to be said."""

    query: str
    meant: Literal["origin", "id", "item", "text"]
    total: int
    found: tuple[Found, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Again:
    """With what sampled-out rows are recomputed: the recipe (None: the manifest's), and where its data lies."""

    recipe: Path | None = None
    data_root: Path | None = None
    cache: Path | None = None
    workers: int = 1


@dataclass(frozen=True)
class Query:
    """One reading of a query: origin_file and origin_row, the beginning of an id, benchmark and item, or text."""

    text: str
    meant: Literal["origin", "id", "item", "text"]
    parts: tuple[str, ...] = field(default=())

    def condition(self, schema: pl.Schema, loose: bool = False) -> pl.Expr:
        """Return the rows that are meant, as an expression over a file of this schema."""
        if self.meant == "origin":
            return _is_file(self.parts[0]) & (pl.col("origin_row") == int(self.parts[1]))
        if self.meant == "id":
            return pl.col("id").str.starts_with(self.parts[0])
        if self.meant == "item":
            benchmark, item = self.parts
            name = pl.col("item") == item
            name &= (pl.col("benchmark") == benchmark) if benchmark else pl.lit(True)
            if "witness_id" not in schema:
                return name
            witness = pl.col("witness_id")
            return name | (witness == f"{benchmark}/{item}" if benchmark else witness.str.ends_with(f"/{item}"))
        text = joined_text(schema)
        error = pl.col("error") if "error" in schema else pl.lit(None, pl.String)
        if loose:
            wanted = pl.select(squeezed(pl.lit(self.text))).item()
            return squeezed(text).str.contains(wanted, literal=True) | squeezed(error).str.contains(
                wanted, literal=True
            )
        return text.str.contains(self.text, literal=True) | error.str.contains(self.text, literal=True)


def _is_file(name: str) -> pl.Expr:
    return (pl.col("origin_file") == name) | pl.col("origin_file").str.ends_with(f"/{name}")


def readings(text: str, manifest: Row) -> list[Query]:
    """Return what a query may mean, most special first: only a short id may also be text."""
    query = text.strip()
    match = ORIGIN.fullmatch(query)
    if match and _known_file(manifest, name := match[1].replace("\\", "/")):
        return [Query(text, "origin", (name, match[2]))]
    if match := _ITEM.fullmatch(query):
        return [Query(text, "item", (match[1] or "", match[2]))]
    as_id = [Query(text, "id", (query.lower(),))] if _ID.fullmatch(query.lower()) else []
    return as_id if len(query) >= 16 and as_id else [*as_id, Query(text, "text")]


def _known_file(manifest: Row, name: str) -> bool:
    files = [*manifest["inputs"], "builtin:identity"]
    return any(file == name or file.endswith(f"/{name}") for file in files)


def steps(recipe: Row, row: Row) -> tuple[str, ...]:
    """Return the steps that a row passed, in order of decision (of a dropped row those before its step)."""
    table = recipe.get("source", {}).get(row["source"], {})
    build = (table.get("build") or {}).get("use", "chat")
    if row["kind"] == "injected":
        return (build, "an injected row bypasses every filter")
    uses = [step["use"] for step in [*table.get("filters", []), *recipe.get("filters", [])]]
    late = ("decontaminate", "dedup")
    ordered = [build, *(use for use in uses if use not in late), *(use for name in late for use in uses if use == name)]
    if row.get("reason") is not None:
        return tuple(ordered[: ordered.index(row["step"])]) if row["step"] in ordered else ()
    sampling = [f"{key} = {table[key]:,}" for key in ("take", "take_tokens") if key in table]
    sampling += [f"select by {table['select']['by']}"] if "select" in table else []
    return tuple(ordered + sampling + (["[mix]"] if recipe.get("mix") else []))


def account_of(manifest: dict[str, Any]) -> str:
    """Return how many rows were sampled out, by source."""
    return ", ".join(f"{n} {a['sampled_out']:,}" for n, a in manifest["sources"].items() if a["sampled_out"])
