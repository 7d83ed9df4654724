"""Ratings of rows by a model, as `python -m steel_eval rate` leaves them beside the cache: found by row id, never
mixed.

A rating depends on the row's conversation (its id), the model (its fingerprint) and how it is made (VERSION). So each
model has a folder of its own, `ratings/ifd-<fingerprint>`, to which files of rows are only added: what a killed command
has rated is there, and another recipe on the same cache finds it too.
"""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import polars as pl

from steel_data.errors import InputError, one_line
from steel_data.files import atomic, atomic_write
from steel_data.recipe.selection import Select
from steel_data.store.names import is_far

VERSION = 1
_ABOUT, _PREFIX = "model.json", 16


@dataclass(frozen=True)
class RatingStore:
    """The ratings of one kind by one model. `model`: its name, for people; `fingerprint`: what it is."""

    folder: Path
    by: str
    model: str
    fingerprint: str

    def read(self) -> pl.DataFrame:
        """Return `id` and `rating` (rds: `vector`, float16 of unit length as bytes) of all rows rated so far."""
        columns = {"id": pl.String, **({"vector": pl.Binary} if self.by == "rds" else {"rating": pl.Float64})}
        parts = [read_part(part, columns) for part in sorted(self.folder.glob("part-*.parquet"))]
        return pl.concat([pl.DataFrame(schema=columns), *parts]).unique("id", maintain_order=True)

    def of(self, ids: list[str]) -> list[float | None]:
        """Return the ratings of rows by id, None of one that is not rated (rds: of all, it compares with a target)."""
        names = tuple(sorted(part.name for part in self.folder.glob("part-*.parquet")))
        known = {} if self.by == "rds" else _known(self, names)
        return [known.get(one) for one in ids]

    def add(self, frame: pl.DataFrame) -> None:
        """Add ratings of further rows: they are there whole or not at all."""
        numbers = [int(part.stem.partition("-")[2]) for part in self.folder.glob("part-*.parquet")]
        number = max(numbers, default=-1) + 1  # not how many there are: a damaged one may have been removed
        with atomic(self.folder / f"part-{number:05d}.parquet") as place:
            frame.write_parquet(place, compression="zstd")

    def target(self, key: str) -> Path:
        """Return the file of a target's vectors (rds)."""
        return self.folder / f"target-{key}.parquet"


def read_part(place: Path, columns: Mapping[str, Any]) -> pl.DataFrame:
    """Return these columns of a file of ratings. Raises InputError for a damaged one, or one of other types."""
    try:
        frame = pl.read_parquet(place, glob=False)
        unlike = [name for name, kind in columns.items() if frame.schema.get(name) != kind]
        if not unlike and "vector" in columns:
            sizes = frame["vector"].bin.size().drop_nulls().unique().to_list()
            unlike = ["vector"] * (len(sizes) > 1 or any(size % 2 or not size for size in sizes))
        fault = f"no column '{unlike[0]}' as `rate` writes it" if unlike else ""
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        fault = one_line(str(error))
    if fault:
        raise InputError(
            f"{place}: is damaged ({fault}). Fix: remove the file and run `rate` again, which rates its rows anew."
        )
    return frame.select(list(columns))


@lru_cache(maxsize=4)
def _known(store: RatingStore, parts: tuple[str, ...]) -> dict[str, float | None]:
    """Return the ratings by id, read once for all chunks; `parts`: the files that were there."""
    return dict(store.read().select("id", "rating").iter_rows()) if parts else {}


def open_store(cache: Path, by: str, model: str, fingerprint: str) -> RatingStore:
    """Return the store of a model, made where there is none; its damaged description is written again."""
    folder = cache / "ratings" / f"{by}-{fingerprint[:_PREFIX]}"
    about = {"by": by, "model": model, "fingerprint": fingerprint, "version": VERSION}
    if _said(folder / _ABOUT) is None:
        atomic_write(folder / _ABOUT, json.dumps(about).encode())
    return RatingStore(folder, by, model, fingerprint)


def _said(about: Path) -> dict[str, Any] | None:
    """Return what a store says of itself; None where there is nothing, or it is damaged."""
    try:
        said = json.loads(about.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    keys = ("by", "model", "fingerprint")
    return said if isinstance(said, dict) and all(isinstance(said.get(key), str) for key in keys) else None


def find_store(where: str, select: Select, cache: Path, recipe: Path) -> RatingStore:
    """Return the ratings that a recipe's `select` means.

    Raises InputError, naming the command that makes them, where there are none; naming the models that have rated,
    where the recipe means another one or does not say which.
    """
    stores = []
    command = rate_command(select, recipe)
    for about in sorted((cache / "ratings").glob(f"{select.by}-*/{_ABOUT}")):
        said = _said(about)
        if said is None:
            raise InputError(
                f"{about}: is damaged, so whose ratings lie beside it is not known. Fix: `{command}` of the model that "
                "made them, which writes it again and rates nothing twice; or remove its folder."
            )
        if said.get("version") == VERSION:
            stores.append(RatingStore(about.parent, said["by"], said["model"], said["fingerprint"]))
    here = ", with a --cache that is no bucket" if is_far(cache) else ""
    if not stores:
        raise InputError(
            f'{where}: select by = "{select.by}" needs ratings, and none are in {cache}. Fix: `{command}`{here}.'
        )
    shown = ", ".join(f"'{store.model}' ({store.fingerprint[:8]})" for store in stores)
    mine = stores if select.model is None else [store for store in stores if _is_named(store, select.model)]
    if not mine:
        raise InputError(
            f"{where}: select means ratings of '{select.model}', and those that are there are of another model: "
            f"{shown}. "
            f'Fix: `{command}`, or model = "{stores[0].model}".'
        )
    if len(mine) > 1:
        raise InputError(
            f'{where}: select: {len(mine)} models have rated: {shown}. Fix: model = "{mine[0].fingerprint[:8]}", by '
            "name or by the beginning of a fingerprint."
        )
    return mine[0]


def rate_command(select: Select, recipe: Path) -> str:
    """Return the command that makes the ratings."""
    model = shlex.quote(select.model) if select.model else "DIR"
    return f"steel rate {shlex.quote(str(recipe))} --by {select.by} --model {model}"


def _is_named(store: RatingStore, model: str) -> bool:
    bare = model.rstrip("/\\").replace("\\", "/").rpartition("/")[2]
    return bare == store.model or model == store.model or (len(model) >= 8 and store.fingerprint.startswith(model))
