"""Results of units (one subject under one checkpoint, preset and data) in an append-only file.

A key (results.key_of) is the hash of everything the result depends on, so a checkpoint overwritten in place is new, and
two folders with equal weights share results. A line is `checksum json`; a line cut short by a crash fails its checksum
and is ignored (the unit is scored again). Processes append under an operating system's lock, which a kill releases. A
line may be a part `of` a unit, kept while it is made; `compact` takes those of finished units out again.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import xxhash
from filelock import FileLock

from steel_data.errors import InputError
from steel_data.files import atomic

Entry = dict[str, Any]  # a unit's results, with its key


@dataclass
class Store:
    """A file of units. `get` finds what was there at opening and what this process or others added; reading is lazy."""

    path: Path
    _offset: int = 0
    _last: bytes = b""  # the line before the offset: where another stands there, the file was compacted
    _units: dict[str, Entry] = field(default_factory=dict)
    _there: set[str] = field(default_factory=set)  # keys of the lines before the offset
    _replaced: int = 0  # of these lines, by later ones
    damaged: int = 0

    def get(self, key: str) -> Entry | None:
        """Return a stored unit, None where there is none. Looks for lines that others appended meanwhile."""
        if key not in self._units:
            self._read()
        return self._units.get(key)

    def kept(self, key: str, make: Callable[[], Mapping[str, Any]]) -> Entry:
        """Return what is stored under a key; else what `make` gives, as it is then on disk."""
        found = self.get(key)
        return self.put(key, make()) if found is None else found

    def put(self, key: str, unit: Mapping[str, Any]) -> Entry:
        """Append a unit, make sure that it is on disk, and return it as it reads there.

        Raises InputError where the file cannot be written.
        """
        body = orjson.dumps({"key": key, **unit}, option=orjson.OPT_SERIALIZE_NUMPY)
        line = xxhash.xxh3_64_hexdigest(body).encode() + b" " + body + b"\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self.path}.lock"), self.path.open("ab") as stream:
                if stream.tell() and not self._ends_whole():
                    line = b"\n" + line  # behind a line that a crash cut short
                stream.write(line)
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot be written: {error.strerror or error}. Fix: a disk with room."
            ) from error
        entry: Entry = orjson.loads(body)
        self._units[key] = entry
        return entry

    def compact(self) -> None:
        """Take out of the file what nothing reads any more: parts of finished units, and what a later line replaced.

        The new file is renamed into place whole, under the lock: what other processes append comes before or after.
        Raises InputError where it cannot be written.
        """
        if not self.path.is_file():
            return
        with FileLock(f"{self.path}.lock"):
            self._read()
            spent = {key for key in self._there if self._units[key].get("of") in self._units}
            if not spent and not self._replaced:
                return  # the whole file is read only where there is something to take out
            newest: dict[str | int, int] = {}  # a line that cannot be read stays as it is
            with self.path.open("rb") as stream:
                for number, line in enumerate(stream):
                    unit = _unit(line)
                    newest[number if unit is None else unit["key"]] = number
            kept = {number for key, number in newest.items() if key not in spent}
            with self.path.open("rb") as stream, atomic(self.path) as fresh, fresh.open("wb") as out:
                out.writelines(line for number, line in enumerate(stream) if number in kept)
                out.flush()
                os.fsync(out.fileno())
        for key in spent:
            del self._units[key]
        self._begin_again()

    def _ends_whole(self) -> bool:
        with self.path.open("rb") as stream:
            stream.seek(-1, 2)
            return stream.read(1) == b"\n"

    def _read(self) -> None:
        if not self.path.is_file():
            return
        with self.path.open("rb") as stream:
            stream.seek(self._offset - len(self._last))
            if stream.read(len(self._last)) != self._last:
                self._begin_again()  # compacted meanwhile
                stream.seek(0)
            for line in stream:
                if not line.endswith(b"\n"):
                    break  # another process may still be writing it
                self._offset, self._last = self._offset + len(line), line
                unit = _unit(line)
                if unit is None:
                    self.damaged += bool(line.strip())
                else:
                    self._replaced += unit["key"] in self._there
                    self._there.add(unit["key"])
                    self._units[unit["key"]] = unit

    def _begin_again(self) -> None:
        """Forget where lines stand, not what they hold: the file is another one now."""
        self._offset, self._last, self._replaced = 0, b"", 0
        self._there.clear()


def _unit(line: bytes) -> Entry | None:
    """Return the unit that a line holds; None where it is not whole."""
    checksum, _, body = line.rstrip(b"\n").partition(b" ")
    if not body or checksum.decode(errors="replace") != xxhash.xxh3_64_hexdigest(body):
        return None
    unit: Entry = orjson.loads(body)
    return unit
