"""The benchmark index in the cache, so that it is built once for all workers and all builds on the same benchmarks."""

from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import orjson

from steel_data.files import atomic
from steel_data.filters.overlap_index import Index, build_index

_LISTS = ("names", "questions", "options", "key_sizes")  # kept as JSON, all else as arrays


@lru_cache(maxsize=4)
def stored_index(place: Path, benchmarks: tuple[str, ...], data_root: Path) -> Index:
    """Return the index of some benchmarks: from the file `place` where it is there, else built and written to it.

    `place` must be an address of the benchmarks' contents and of the code that reads them (`cache.key_of`).
    """
    stored = _read(place)
    if stored is None:
        # not build_index's own memory, which goes by the folder alone: its files may have changed since
        stored = build_index.__wrapped__(benchmarks, data_root)
        _write(place, stored)
    return stored


def _write(place: Path, index: Index) -> None:
    lists = {name: getattr(index, name) for name in _LISTS}
    arrays = {f.name: getattr(index, f.name) for f in fields(index) if f.name not in _LISTS}
    arrays["bitmap"] = np.packbits(index.bitmap)
    text = np.frombuffer(orjson.dumps(lists), np.uint8)
    with atomic(place) as temporary, temporary.open("wb") as stream:
        np.savez(stream, lists=text, **arrays)


def _read(place: Path) -> Index | None:
    """Return the stored index, or None where there is none or it is damaged."""
    if not place.is_file():
        return None
    try:
        with place.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            values = {name: stored[name] for name in stored.files}
    except (BadZipFile, ValueError, EOFError):
        return None
    lists = orjson.loads(values.pop("lists").tobytes())
    lists |= {"options": [tuple(o) for o in lists["options"]], "key_sizes": tuple(lists["key_sizes"])}
    values["bitmap"] = np.unpackbits(values["bitmap"]).astype(bool)
    return Index(**values, **lists)
