"""The cache of the map pass: files addressed by what determines them, so that nothing is computed twice.

Every address holds a fingerprint of steel_data's own source: changed code reuses no file of the old.
"""

import hashlib
import json
from functools import cache as memo
from pathlib import Path
from typing import Any

import polars as pl

from steel_data.files import atomic


@memo
def code_version() -> str:
    """Return a fingerprint of steel_data's own source: changed code reuses no file of the old."""
    root = Path(__file__).parents[1]  # the package, every module of it
    digest = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.suffix in (".py", ".toml", ".json")):
        if "sample" not in path.relative_to(root).parts:
            digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def key_of(*parts: Any) -> str:
    """Return the address of what these JSON-like parts determine."""
    return hashlib.sha256(json.dumps([code_version(), *parts], sort_keys=True, default=str).encode()).hexdigest()


def place_of(cache: Path, key: str, kind: str) -> Path:
    """Return the file of an address; `kind` is "records", "attributes" or "index" (of a benchmark)."""
    return cache / kind / key[:2] / f"{key[2:34]}.{'npz' if kind == 'index' else 'parquet'}"


def write_frame(place: Path, frame: pl.DataFrame) -> None:
    """Write a file of the cache, whole or not at all."""
    with atomic(place) as temporary:
        frame.write_parquet(temporary, compression="lz4", statistics=False)
