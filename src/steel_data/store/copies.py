"""Objects copied to a folder of this machine, and files written to a bucket, each whole or not at all.

A process and the workers that it starts share a folder for copies (`scratch`), which is removed at the end: nothing in
it outlives what it was copied for, so nothing in it can be out of date. It lies where temporary files do, or in
STEEL_SCRATCH.
"""

import hashlib
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from steel_data.errors import InputError
from steel_data.store.bucket import Seen
from steel_data.store.listings import remember, split, tree
from steel_data.store.names import is_far, told
from steel_data.store.reading import pieces

SIDE_BY_SIDE = 8  # requests of one process at once
_LARGE = 2**24  # bytes from which on files are written one after another: each is in memory
_HERE = "STEEL_SCRATCH_HERE"  # tells the workers that a process starts
_PREFIX, _LOCK = "steel-scratch-", ".lock"
_JUST_MADE = 60  # seconds within which a folder of copies may not have its lock yet


@contextmanager
def scratch(*places: Path) -> Iterator[None]:
    """Keep copies of objects in a folder of this block's own, which workers started in it share; remove it at the end.

    Where none of the places is in a bucket, there is none.
    """
    if not any(is_far(place) for place in places):
        yield
        return
    global _own
    before, given = _own, os.environ.get(_HERE)
    with _folder() as folder:
        _own, os.environ[_HERE] = folder, str(folder)
        try:
            yield
        finally:
            _own = before
            if given is None:
                del os.environ[_HERE]
            else:
                os.environ[_HERE] = given


@contextmanager
def _folder() -> Iterator[Path]:
    """Yield a new folder, locked while this process lives; those of dead processes are removed."""
    from filelock import FileLock

    parent = os.environ.get("STEEL_SCRATCH")
    try:
        if parent:
            Path(parent).mkdir(parents=True, exist_ok=True)
        made = TemporaryDirectory(prefix=_PREFIX, dir=parent, ignore_cleanup_errors=True)
    except OSError as error:
        raise InputError(
            f"{parent}: cannot be written: {error.strerror}. Fix: STEEL_SCRATCH, a disk with room."
        ) from None
    with made as name:
        folder = Path(name)
        with FileLock(folder / _LOCK):
            _sweep(folder.parent, folder)
            yield folder


def _sweep(parent: Path, mine: Path) -> None:
    from filelock import FileLock, Timeout

    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError, Timeout):  # another user's, or somebody's who lives
            if folder != mine and time.time() - folder.stat().st_mtime > _JUST_MADE:
                with FileLock(folder / _LOCK, timeout=0):
                    pass
                shutil.rmtree(folder, ignore_errors=True)


_own: Path | None = None
_to_the_end = ExitStack()


def _here() -> Path:
    """Return the folder for copies: this process's own, or that of the one whose worker it is."""
    global _own
    if _own is None and multiprocessing.parent_process() is not None and _HERE in os.environ:
        return Path(os.environ[_HERE])
    if _own is None:  # for as long as it lives
        import atexit

        _own = _to_the_end.enter_context(_folder())
        atexit.register(_to_the_end.close)
        os.environ[_HERE] = str(_own)
    return _own


def _place_here(path: Path) -> Path:
    return _here() / "objects" / Path(*path.parts[1:])


# Copies here


def present(path: Path) -> Path | None:
    """Return a copy of an object; None where there is none. It is asked for at once, not looked for beforehand."""
    copy = _place_here(path)
    if copy.exists():
        return copy
    there, key = split(path)
    got = there.get(key)
    if got is None:
        return None
    _put_down(copy, [got.data])
    return copy


def copy_of(path: Path) -> Path:
    """Return a file, or a copy of an object. Raises FileNotFoundError where there is none."""
    there = present(path) if is_far(path) else path
    if there is None:
        raise FileNotFoundError(2, "no such object", told(path))
    return there


def bring(paths: Iterable[Path]) -> None:
    """Copy objects here, several at once; files, what is here already, and what is nowhere are passed over."""
    wanted = [path for path in dict.fromkeys(paths) if is_far(path) and not _place_here(path).exists()]
    _side_by_side(present, wanted)


def _put_down(copy: Path, data: Iterable[bytes | memoryview]) -> None:
    copy.parent.mkdir(parents=True, exist_ok=True)
    temporary = copy.with_name(f".{copy.name}.{uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("wb") as stream:
            for some in data:
                stream.write(some)
        temporary.replace(copy)
    except OSError as error:
        raise InputError(
            f"{copy.parent}: a copy cannot be written: {error.strerror or error}. Fix: STEEL_SCRATCH, a disk with room."
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def _side_by_side(function: Callable[[Path], object], paths: Iterable[Path]) -> None:
    """Call a function for each of some paths, on threads; the first error is raised."""
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        for _ in pool.map(function, paths):
            pass


def brought(folder: Path, objects: Mapping[Path, Seen] | None = None) -> Path:
    """Return a folder here that holds some objects under a prefix (None: all), as they are now. A folder is itself.

    Raises InputError where one of them changes meanwhile, and where all are asked for and there are none.
    """
    if not is_far(folder):
        return folder
    if objects is None and not (objects := tree(folder)):
        raise InputError(f"{told(folder)}: nothing is there. Fix: the place that `build` wrote.")
    known = sorted([told(path), one.size, one.tag] for path, one in objects.items())
    address = hashlib.sha256(repr((told(folder), known)).encode()).hexdigest()[:32]
    here = _here() / "folders" / address / folder.name
    if here.is_dir():
        return here
    remember(objects)
    new = here.with_name(f".{here.name}.new")

    def fetch(path: Path) -> None:
        _put_down(new / path.relative_to(folder), pieces(path, 0, objects[path].size))

    new.mkdir(parents=True, exist_ok=True)
    _side_by_side(fetch, objects)
    new.rename(here)
    return here


@contextmanager
def told_as(copy: Path, place: Path) -> Iterator[None]:
    """Let errors in this block name the place that was copied, where they name the copy."""
    try:
        yield
    except InputError as error:
        if copy == place:
            raise
        raise type(error)(str(error).replace(str(copy), told(place))) from None


def is_copy(path: Path) -> bool:
    """Whether a file is a copy of this process: gone with it, so that nothing need be remembered of it."""
    return _own is not None and path.is_relative_to(_own)


def copied_alone(folder: Path, name: str) -> Path:
    """Return a folder here that holds this one object of a prefix as it is now, if it is there. A folder is itself."""
    if not is_far(folder):
        return folder
    here = _here() / "folders" / uuid4().hex / folder.name
    here.mkdir(parents=True)
    there, prefix = split(folder)
    if (got := there.get(f"{prefix}/{name}")) is not None:
        _put_down(here / name, [got.data])
    return here


# Writing


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """Yield a temporary file; when the block ends well it becomes the object, by one request, and stays as its copy."""
    copy = _place_here(path)
    copy.parent.mkdir(parents=True, exist_ok=True)
    temporary = copy.with_name(f".{copy.name}.{uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        there, key = split(path)
        there.put(key, temporary)
        temporary.replace(copy)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replaced_prefix(folder: Path, last: str, before_last: Callable[[], None]) -> Iterator[Path]:
    """Yield a folder here; when the block ends well, what is in it takes the place of what is under a prefix.

    Whoever reads sees the old whole, or none, or the new one: an object `last`, without which there is none, is removed
    before the first of the others is written, and written after them. What the old one had besides is removed then.
    `before_last` may raise before each of the two steps that others see.
    """
    with TemporaryDirectory(dir=_here(), ignore_cleanup_errors=True) as name:
        fresh = Path(name) / folder.name
        fresh.mkdir()
        yield fresh
        there, prefix = split(folder)
        new = {f"{prefix}/{file.relative_to(fresh).as_posix()}": file for file in fresh.rglob("*") if file.is_file()}
        old = set(there.list(prefix).objects)
        end = f"{prefix}/{last}"
        before_last()
        if end in old:
            there.delete([end])

        def put(key: Path) -> None:
            there.put(key.as_posix(), new[key.as_posix()])

        small = {key for key, file in new.items() if file.stat().st_size < _LARGE} - {end}
        _side_by_side(put, map(Path, sorted(small)))
        for key in sorted(new.keys() - small - {end}):
            put(Path(key))
        before_last()
        there.put(end, new[end])
        if old - new.keys():
            there.delete(old - new.keys())


def removed(folder: Path) -> None:
    """Remove all objects under a prefix."""
    there, prefix = split(folder)
    if keys := there.list(prefix).objects:
        there.delete(keys)
