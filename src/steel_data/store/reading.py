"""Files and objects opened alike; of an object only the ranges that are read are asked for, and some bytes ahead."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from steel_data.errors import InputError
from steel_data.store.bucket import PIECE, Got, OtherVersionError
from steel_data.store.listings import found, known, remember, split
from steel_data.store.names import is_far, told

AHEAD = 2**20, 2**24  # bytes asked for by a reader that goes on and on: at first, and at most


def opened(path: Path) -> io.BufferedReader:
    """Open a file or an object to be read. Raises FileNotFoundError where it is not there."""
    return cast(io.BufferedReader, _Reader(path)) if is_far(path) else path.open("rb")


def pieces(path: Path, start: int, end: int) -> Iterator[memoryview]:
    """Yield the bytes of an object from `start` to `end`, which it must have, asking for these and no others."""
    for at in range(start, end, PIECE):
        yield _got(path, at, min(at + PIECE, end)).data


def _got(path: Path, start: int, end: int) -> Got:
    """Return some bytes of the version that is known. Raises InputError where the object is another, or is gone."""
    there, key = split(path)
    of = known(path)
    try:
        got = there.get(key, start, end, of.tag if of is not None else "")
    except OtherVersionError:
        got = None
    if got is None:
        raise InputError(f"{told(path)}: changed since it was listed. Fix: run again when nothing writes to it.")
    if of is None:
        remember({path: got.seen})
    return got


class _Reader(io.RawIOBase):
    """An object as a file that is read and sought in."""

    _begun: tuple[Path, str, bytes] | None = None  # the object begun last, its version, its beginning: looked at thrice

    def __init__(self, path: Path) -> None:
        version = found(path)
        self._path, self._size, self._tag = path, version.size, version.tag
        self._at = 0
        self._held: bytes | memoryview = b""
        self._from = 0  # where that begins
        self._ahead = AHEAD[0]

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place; nothing is asked for."""
        self._at = max(offset + (0, self._at, self._size)[whence], 0)
        return self._at

    def tell(self) -> int:
        """Return the place."""
        return self._at

    def readinto(self, into: Any) -> int:
        """Fill a buffer as far as there are bytes."""
        room = memoryview(into).cast("B")
        done = 0
        while done < len(room) and self._at < self._size:
            if not self._from <= self._at < self._from + len(self._held):
                self._fetch(len(room) - done)
            at = self._at - self._from
            part = self._held[at : at + len(room) - done]
            room[done : done + len(part)] = part
            done, self._at = done + len(part), self._at + len(part)
        return done

    def _fetch(self, wanted: int) -> None:
        """Hold what stands at the place: what is wanted, if that is much, else more the longer one reads on."""
        begun = _Reader._begun
        if self._at == 0 and begun is not None and begun[:2] == (self._path, self._tag):
            self._held, self._from = begun[2], 0
            return
        goes_on = 0 < self._at == self._from + len(self._held)
        self._ahead = min(self._ahead * 2, AHEAD[1]) if goes_on else AHEAD[0]
        end = min(self._at + (wanted if wanted > AHEAD[0] else self._ahead), self._size)
        self._held, self._from = _got(self._path, self._at, end).data, self._at
        if self._at == 0:
            _Reader._begun = self._path, self._tag, bytes(self._held[: AHEAD[0]])
