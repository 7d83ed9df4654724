"""The cache of the passes: files addressed by what determines them, so that nothing is computed twice.

Every address holds the versions of steel_data's own source and of the libraries that can change a result: what other
code has made is not found again, and what no build has used for a season is swept away. Every file checks itself: a
table has a checksum of all its bytes in its own footer, what was seen of an input one beside its value, the index is a
zip. What fails is made again.
"""

import mmap
import re
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache as memo
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import polars as pl
import xxhash

from steel_data import __version__
from steel_data.files import address, kept
from steel_data.row.table import read_columns, write_columns
from steel_data.store.listings import under
from steel_data.store.names import is_far

FORMAT = 1
UNUSED_DAYS = 90  # after which a file is swept away
_UNFINISHED_SECONDS = 600  # a temporary file that has not grown for so long is a killed build's
_PACKAGES = ("polars", "pyarrow", "numpy", "fasttext-community", "rensa", "regex", "tokenizers")
_SUFFIX = {"records": "parquet", "attributes": "parquet", "index": "npz", "scans": "json", "test_splits": "json"}
_OURS = re.compile(r"\.?[0-9a-f]{32}\.(?:parquet|npz|json)(\.[0-9a-f]{8}\.tmp)?")
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
            found[package] = _instead(package)
    return found


def _instead(package: str) -> str:
    """Return what stands in for a package that is absent: of two that are imported by one name, the other."""
    try:
        return f"fasttext-predict {version('fasttext-predict')}" if package == "fasttext-community" else "absent"
    except PackageNotFoundError:
        return "absent"


def key_of(*parts: Any) -> str:
    """Return the address of what these parts (JSON's types) determine, made by this code."""
    return address(versions(), *parts)


def place_of(cache: Path, key: str, kind: Kind) -> Path:
    """Return the file of an address; `index` is that of a benchmark, `scans` and `test_splits` are of input files."""
    return cache / kind / key[:2] / f"{key[2:34]}.{_SUFFIX[kind]}"


def kept_frame(
    place: Path, make: Callable[[], pl.DataFrame], columns: list[str] | None = None, look: bool = True
) -> pl.DataFrame:
    """Return the table kept in a file of the cache (all columns or some), or what `make` makes and leaves there.

    look: False where it is known not to be there.
    """

    def read(there: Path) -> pl.DataFrame:
        _check(there)
        return read_columns(there, columns)

    return kept(place, make, write_frame, read, look)


def made_sure(place: Path, make: Callable[[], pl.DataFrame], look: bool = True) -> None:
    """Make a table and leave it in a file of the cache, unless it is there whole; it is not decoded."""

    def whole(there: Path) -> pl.DataFrame:
        _check(there)
        return pl.DataFrame()

    kept(place, make, write_frame, whole, look)


def write_frame(place: Path, frame: pl.DataFrame) -> None:
    """Write a table with a checksum of the whole file in its footer's metadata, which readers of parquet pass by."""
    write_columns(place, frame, compression="lz4", statistics=False, metadata={_SEAL.decode(): _OPEN.decode()})
    digest, at = _digest(place)
    with place.open("r+b") as stream:
        stream.seek(at)
        stream.write(digest)


_SEAL, _OPEN = b"steel_xxh3_128", b"0" * 32  # the checksum is that of the file with _OPEN where it stands itself


def _digest(place: Path) -> tuple[bytes, int]:
    """Return the checksum of a file, 32 hex digits, and where in the file it belongs. Raises ValueError without one."""
    with place.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as held:
        found = held.rfind(_SEAL)
        if found < 0:
            raise ValueError(f"{place}: holds no checksum")
        at = found + len(_SEAL) + 2  # between them stand a field's type and the length of the text
        digest = xxhash.xxh3_128()
        with memoryview(held) as whole:
            for part in (whole[:at], _OPEN, whole[at + len(_OPEN) :]):
                digest.update(part)
                del part  # no view may outlive the map
        return digest.hexdigest().encode(), at


def _check(place: Path) -> None:
    """Raise ValueError where a table of the cache is not byte for byte what was written."""
    digest, at = _digest(place)
    with place.open("rb") as stream:
        stream.seek(at)
        if stream.read(len(digest)) != digest:
            raise ValueError(f"{place}: not what was written")


def is_absent(cache: Path, place: Path) -> bool:
    """Whether a cache in a bucket held no such file when it was listed: once a kind, for a thousand files a request."""
    return is_far(cache) and place not in under(cache / place.relative_to(cache).parts[0])


def sweep(cache: Path) -> int:
    """Remove what no build has used for UNUSED_DAYS, and what a killed build was writing; return how many files.

    In a bucket that is for a rule of the bucket to do: what is in use is not written there.
    """
    if is_far(cache):
        return 0
    now, removed = time.time(), 0
    for kind in _SUFFIX:
        for path in (cache / kind).glob("*/*"):
            known = _OURS.fullmatch(path.name)  # whatever else somebody keeps there is theirs
            allowed = _UNFINISHED_SECONDS if known and known[1] else UNUSED_DAYS * 86_400
            with suppress(OSError):  # another build's that is finished meanwhile; a cache that may only be read
                if known and now - path.stat().st_mtime > allowed:
                    path.unlink()
                    removed += 1
    return removed
