"""Where a build reads and writes, and the lock on its output folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from steel_data.errors import InputError
from steel_data.recipe import Recipe


@dataclass(frozen=True)
class Places:
    """Where a build reads and writes."""

    data_root: Path
    out: Path
    cache: Path


def places(recipe: Recipe, data_root: Path | None, out: Path | None, cache: Path | None) -> Places:
    """Settle the folders: options, else environment, else recipe, else the defaults of DESIGN.md."""
    root = data_root or _environment("STEEL_DATA_ROOT")
    if root is None and recipe.data_root is not None:
        root = recipe.path.parent / recipe.data_root
    folder = out or Path("runs") / recipe.name / "mixture"
    return Places(root or recipe.path.parent, folder, cache or _environment("STEEL_CACHE") or folder.parent / ".cache")


def _environment(name: str) -> Path | None:
    value = os.environ.get(name)
    return Path(value) if value else None


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold the operating system's lock on an output folder; it ends with the process, however that ends."""
    from filelock import FileLock, Timeout

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out.parent / f".{out.name}.lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"{out}: another build is writing this folder. Right: wait for it, or another --out."
        ) from None
    except OSError as error:
        raise InputError(f"{out}: cannot be written: {error.strerror or error}. Right: a writable --out.") from None
    try:
        yield
    finally:
        lock.release()


def refuse_foreign_folder(out: Path) -> None:
    """Raise InputError where `out` holds something that is no mixture: it would be replaced."""
    if not out.exists():
        return
    if not out.is_dir():
        raise InputError(f"{out}: is a file. Right: a folder for --out.")
    names = {p.name for p in out.iterdir()}
    if names and "manifest.json" not in names:
        raise InputError(
            f"{out}: holds files that are no mixture ({min(names)}). Right: an empty or new folder for --out."
        )
