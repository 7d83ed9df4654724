"""Finished output appears under its name whole or not at all: write to a temporary name, then rename."""

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from steel_data.errors import BusyError, InputError, first_line
from steel_data.store.names import is_far, told

T = TypeVar("T")
_DAY = 86_400


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it gets the name when the block ends well and is removed when not.

    Of an object in a bucket the temporary file lies in the folder for copies, and the name is given by one request. An
    OSError (full or read-only disk) becomes an InputError that names the place.
    """
    if is_far(path):
        from steel_data.store.copies import written

        with written(path) as temporary:
            yield temporary
        return
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written: {error.strerror or error}. Fix: a writable disk with room."
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

    Where `folder` is a symbolic link, that is the folder which it points to: the link stays. Under a prefix of a bucket
    its manifest is written last (`copies.replaced_prefix`). An OSError (full or read-only disk) becomes an InputError
    that names the place.
    """
    if is_far(folder):
        from steel_data.store.copies import replaced_prefix
        from steel_data.store.lease import refuse_lost

        with replaced_prefix(folder, "manifest.json", partial(refuse_lost, folder)) as fresh:
            yield fresh
        return
    folder = linked_to(folder)
    fresh, old = _beside(folder)
    put_right(folder)
    try:
        fresh.mkdir(parents=True)
        yield fresh
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written: {error.strerror or error}. Fix: a writable disk with room."
        ) from error
    finally:
        put_right(folder)


def put_right(folder: Path) -> None:
    """Put right what a `replaced_folder` left that was ended in its midst; who writes the folder must hold its lock.

    What stood there before stands there again where nothing took its place, and goes where something did.
    """
    if is_far(folder):
        return
    folder = linked_to(folder)
    fresh, old = _beside(folder)
    if old.exists() and not folder.exists():
        with suppress(OSError):  # a disk that may only be read: whoever writes will say so
            old.rename(folder)
    else:
        shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(fresh, ignore_errors=True)


def _beside(folder: Path) -> tuple[Path, Path]:
    """Return where a folder is written, and where the one before it lies while it gives up its name."""
    return folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")


def linked_to(path: Path) -> Path:
    """Return the place that a path names, symbolic links and `..` followed; nothing need be there. An object is itself.

    Raises InputError for links in a circle, and for a path without a name (`/`): beside it nothing can be written.
    """
    if is_far(path):
        if len(path.parts) < 3:
            raise InputError(f"{told(path)}: is a whole bucket. Fix: s3://bucket/folder.")
        return path
    try:
        place = path.resolve()
    except (OSError, RuntimeError) as error:
        raise InputError(f"{path}: leads nowhere: {first_line(error)}. Fix: another folder.") from None
    if not place.name:
        raise InputError(f"{path}: is no folder that can be replaced. Fix: a folder of its own.")
    return place


@contextmanager
def locked(out: Path, wait: bool = False) -> Iterator[None]:
    """Hold the operating system's lock on an output folder; it ends with the process, however that ends.

    Of a prefix in a bucket: a lease, which runs out by itself. `wait`: until who holds it is done; else that is
    `BusyError`, an InputError.
    """
    if is_far(out):
        from steel_data.store.lease import leased

        with leased(out, wait):
            yield
        return
    from filelock import FileLock, Timeout

    place = linked_to(out)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(place.parent / f".{place.name}.lock")
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        raise BusyError(f"{out}: another build is writing this folder. Fix: wait for it, or another --out.") from None
    except OSError as error:
        raise InputError(f"{out}: cannot be written: {error.strerror or error}. Fix: a writable --out.") from None
    try:
        yield
    finally:
        lock.release()


def refuse_foreign_folder(out: Path) -> None:
    """Raise InputError where `out` holds something that is no mixture: it would be replaced.

    Under a prefix of a bucket a build that was ended while it wrote leaves files of a mixture without a manifest.
    """
    if is_far(out):
        from steel_data.store.listings import files, folders

        names = {name for name in (*files(out), *folders(out)) if not _MIXTURE.fullmatch(name)}
        if names and "manifest.json" not in files(out):
            raise InputError(
                f"{told(out)}: holds objects that are no mixture ({min(names)}). Fix: a prefix of its own for --out."
            )
        return
    if not out.exists():
        return
    if not out.is_dir():
        raise InputError(f"{out}: is a file. Fix: a folder for --out.")
    names = {p.name for p in out.iterdir()}
    if names and "manifest.json" not in names:
        raise InputError(
            f"{out}: holds files that are no mixture ({min(names)}). Fix: an empty or new folder for --out."
        )


_MIXTURE = re.compile(r"train-\d{5,}\.parquet|truth\.parquet|dropped|card\.(?:md|html)|manifest\.json")


def address(*parts: Any) -> str:
    """Return the 64 hex digits that these parts (JSON's types, in any order of a table's keys) determine."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def kept(
    place: Path, make: Callable[[], T], write: Callable[[Path, T], object], read: Callable[[Path], T], look: bool = True
) -> T:
    """Return what an earlier call left in the file `place`; else make it, leave it there, and return it.

    The name of `place` must hold all that `make` depends on (`address`, `source_sha256`). A file that `read` fails on,
    for whatever reason, is made again: it is ours, and nothing of the user's is lost. look: False where it is known not
    to be there, or not to be believed.
    """
    there = present(place) if look else None
    if there is not None:
        try:
            with suppress(OSError):  # of others, or on a disk that may only be read
                if time.time() - there.stat().st_mtime > _DAY:
                    os.utime(there)  # in use: see `passes.cache.sweep`
            return read(there)
        except Exception:
            there.unlink(missing_ok=True)
    made = make()
    with atomic(place) as temporary:
        write(temporary, made)
    return made


def present(place: Path) -> Path | None:
    """Return a file of the cache, or a copy of its object; None where there is none."""
    if is_far(place):
        from steel_data.store.copies import present as copied

        return copied(place)
    return place if place.exists() else None


def write_sealed(place: Path, value: Any) -> None:
    """Write a value of JSON's types together with a checksum of itself."""
    place.write_text(json.dumps({"value": value, "sha256": address(value)}), encoding="utf-8")


def read_sealed(place: Path) -> Any:
    """Return what `write_sealed` wrote. Raises ValueError, KeyError or TypeError where a byte of it is another."""
    held = json.loads(place.read_text(encoding="utf-8"))
    if held["sha256"] != address(held["value"]):
        raise ValueError(f"{place}: not what was written")
    return held["value"]


def source_sha256(*modules: str) -> str:
    """Return a hash over the source of modules, by their full names: other code's results are not this code's.

    None of them is imported. Raises ModuleNotFoundError for one that is not there.
    """
    digest = hashlib.sha256()
    for name in modules:
        found = find_spec(name)
        if found is None or found.origin is None:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        digest.update(Path(found.origin).read_bytes() + b"\0")
    return digest.hexdigest()


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, or of an object. Raises FileNotFoundError where it is not there."""
    from steel_data.store.reading import opened

    with opened(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
