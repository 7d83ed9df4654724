"""Finished output appears under its name whole or not at all: write to a temporary name, then rename."""

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
