"""Finished output appears under its name whole or not at all: write to a temporary name, then rename."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from steel_data.errors import InputError


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it gets the name when the block ends well and is removed when not.

    An OSError (full or read-only disk) becomes an InputError that names the place.
    """
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written: {error.strerror or error}. Right: a writable disk with room."
        ) from error
    finally:
        temporary.unlink(missing_ok=True) if path.parent.is_dir() else None


def atomic_write(path: Path, data: bytes) -> None:
    """Write a whole file at once."""
    with atomic(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """Yield a new folder beside `folder`; it takes its place whole when the block ends well and is removed when not.

    An OSError (full or read-only disk) becomes an InputError that names the place.
    """
    fresh, old = (folder.with_name(f".{folder.name}.{state}") for state in ("new", "old"))
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        fresh.mkdir(parents=True)
        yield fresh
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written: {error.strerror or error}. Right: a writable disk with room."
        ) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
