"""The cache of the passes: files addressed by what determines them, so that nothing is computed twice.

Every address holds the versions of steel_data's own source and of the libraries that can change a result: what other
code has made is not found again.
"""

from collections.abc import Callable
from functools import cache as memo
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import polars as pl

from steel_data import __version__
from steel_data.files import address, kept

FORMAT = 1
_PACKAGES = ("polars", "pyarrow", "numpy", "fasttext-community", "rensa", "regex", "tokenizers")
_SUFFIX = {"records": "parquet", "attributes": "parquet", "index": "npz", "scans": "json", "test_splits": "json"}
Kind = Literal["records", "attributes", "index", "scans", "test_splits"]


@memo
def code_version() -> str:
    """Return a fingerprint of steel_data's own source and of the model that it ships."""
    root = Path(__file__).parents[1]  # the package, every module of it
    digest = sha256()
    for path in sorted(p for p in root.rglob("*") if p.suffix in (".py", ".toml", ".json", ".ftz")):
        if "sample" not in path.relative_to(root).parts:
            digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


@memo
def versions() -> dict[str, str]:
    """Return the versions that can change a mixture's bytes."""
    found = {"steel-lab": __version__, "code": code_version()[:16], "format": str(FORMAT)}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def key_of(*parts: Any) -> str:
    """Return the address of what these parts (JSON's types) determine, made by this code."""
    return address(versions(), *parts)


def place_of(cache: Path, key: str, kind: Kind) -> Path:
    """Return the file of an address; `index` is that of a benchmark, `scans` and `test_splits` are of input files."""
    return cache / kind / key[:2] / f"{key[2:34]}.{_SUFFIX[kind]}"


def kept_frame(place: Path, make: Callable[[], pl.DataFrame], columns: list[str] | None = None) -> pl.DataFrame:
    """Return the table kept in a file of the cache (all columns or some), or what `make` makes and leaves there."""
    return kept(place, make, _write, lambda there: pl.read_parquet(there, columns=columns, glob=False))


def made_sure(place: Path, make: Callable[[], pl.DataFrame]) -> None:
    """Make a table and leave it in a file of the cache, unless that is there; it is not read."""
    kept(place, make, _write, lambda there: pl.DataFrame())


def _write(place: Path, frame: pl.DataFrame) -> None:
    frame.write_parquet(place, compression="lz4", statistics=False)
