"""What steel itself has written, told by what it writes: a glob over data must not read it as data.

A folder is ours by the file that is written last into it (a mixture, an export, examples, a run, scores), a file of the
cache by its place, a shard that lies alone by its name and columns. What merely has such a name is the user's.
"""

import json
import re
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

from steel_data.store.reading import opened

# The file that says what a folder is -> the keys that it holds.
_MARKS = {
    "manifest.json": ("content_sha256", "recipe_sha256", "sources"),
    "export.json": ("rows", "left_out", "contamination"),
    "examples.json": ("key", "per_unit"),
    "run.json": ("identity", "versions"),
    "scores.json": ("model_fingerprint", "tasks"),
}
_CACHED = re.compile(r"/(?:records|attributes|index|scans|test_splits)/[0-9a-f]{2}/[0-9a-f]{32}\.(?:parquet|npz|json)$")
# folders and files on their way to their name, marks of parts, locks, and what fetch has not finished
_UNFINISHED = re.compile(r"\..+\.(?:new|old|parts|lock)|\..+\.[0-9a-f]{8}\.tmp|\.steel-fetch")
_SHARD = re.compile(r"(?:train|part)-\d{5}\.parquet|truth\.parquet")
_COLUMNS = (
    {"id", "copy", "source", "language_score", "origin_file", "origin_row"},
    {"benchmark", "item", "dose", "form", "subject", "source"},
)


def places_of_output(paths: Iterable[Path], root: Path) -> dict[Path, Path | None]:
    """Return of each path the folder (or lone file) of steel's output that it belongs to, None where it is the user's.

    Folders are looked at up to `root`, which is one of them where a path lies in it; each is looked at once.
    """
    is_marked = cache(_is_marked)
    return {path: _place_of(path, root, is_marked) for path in paths}


def _place_of(path: Path, root: Path, is_marked: Callable[[Path], bool]) -> Path | None:
    if found := _CACHED.search(path.as_posix()):
        return Path(path.as_posix()[: found.start()])
    for folder in path.parents:
        if is_marked(folder):
            return folder
        if folder == root:
            break
        if _UNFINISHED.fullmatch(folder.name):
            return folder
    if _UNFINISHED.fullmatch(path.name) or (_SHARD.fullmatch(path.name) and _is_shard(path)):
        return path
    return None


def _is_marked(folder: Path) -> bool:
    for name, keys in _MARKS.items():
        try:
            with opened(folder / name) as file:
                held = json.load(file)
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(held, dict) and all(key in held for key in keys):
            return True
    return False


def _is_shard(path: Path) -> bool:
    import polars as pl

    try:
        with opened(path) as file:
            columns = set(pl.read_parquet_schema(file))
    except (OSError, pl.exceptions.PolarsError):
        return False
    return any(wanted <= columns for wanted in _COLUMNS)
