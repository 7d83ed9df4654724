"""The lock on a prefix of objects: an object beside it that says who builds there and until when, written only over
the version that was read (conditional PUT).

A lease is renewed while its holder lives and runs out by itself when it does not. It is given back by writing that it
is over, never by removing it: a removal cannot be made to depend on whose it is. Clocks of machines that share a prefix
must agree to within GRACE.
"""

import json
import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from steel_data.errors import BusyError, InputError, excerpt
from steel_data.store.bucket import Bucket, OtherVersionError
from steel_data.store.listings import split
from steel_data.store.names import told

SECONDS = 120.0  # that a lease lasts; renewed four times within it
GRACE = 15.0  # by which clocks may differ


class Lease:
    """The lease of this process on a prefix. `lost` when another may have it."""

    def __init__(self, out: Path) -> None:
        self.out = out
        where, key = split(out)
        if not key:
            raise InputError(f"{told(out)}: is a whole bucket. Fix: s3://bucket/folder.")
        above, _, name = key.rpartition("/")
        self._bucket: Bucket = where
        self._key = f"{above}/.{name}.lock".lstrip("/")
        self._mine = uuid4().hex
        self._tag: str | None = None
        self._until = 0.0

    @property
    def lost(self) -> bool:
        """Whether it is over: given back, run out, or another's."""
        return self._tag is None or time.time() >= self._until

    def take(self) -> str:
        """Take it, and return ''; where another has it, who and until when."""
        held, tag = self._read()
        if tag and time.time() < float(held["until"]) + GRACE:
            return _who(held)
        return "" if self._write(tag) else _who(self._read()[0])

    def renew(self) -> None:
        """Let it last from now on. Raises OtherVersionError where another has taken it."""
        assert self._tag is not None
        if not self._write(self._tag):
            self._tag = None
            raise OtherVersionError(self._key)

    def give_back(self) -> None:
        """Say that it is over; where another has it, nothing."""
        if self._tag is not None:
            self._write(self._tag, ends=True)
            self._tag = None

    def _write(self, over: str, ends: bool = False) -> bool:
        """Write it over a version ('': where there is none), or that it is over; return whether it is ours."""
        until = 0.0 if ends else time.time() + SECONDS
        said = {"holder": f"{platform.node()}, process {os.getpid()}", "until": until, "lease": self._mine}
        data = json.dumps(said).encode()
        try:
            self._tag = self._bucket.put(self._key, data, over=over)
        except OtherVersionError:
            # the answer to a try of ours may have been lost, and the next one met what it wrote
            held, tag = self._read()
            if held.get("lease") != self._mine or held.get("until") != until:
                return False
            self._tag = tag
        self._until = until
        return True

    def _read(self) -> tuple[dict[str, Any], str]:
        """Return what stands there, and its tag ('' for nothing); what is not a lease of ours is one that is over."""
        got = self._bucket.get(self._key)
        if got is None:
            return {"until": 0}, ""
        with suppress(ValueError, TypeError, KeyError, RecursionError):
            held = json.loads(bytes(got.data))
            return {"holder": str(held["holder"]), "until": float(held["until"]), "lease": held["lease"]}, got.seen.tag
        return {"until": 0}, got.seen.tag


def _who(held: dict[str, Any]) -> str:
    until = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(float(held["until"])))
    return f"{excerpt(str(held.get('holder')), 120)}, until {until}"


_held: dict[Path, Lease] = {}


@contextmanager
def leased(out: Path, wait: bool = False) -> Iterator[None]:
    """Hold the lease on a prefix, renewed by a thread of its own; it ends with the block, or runs out.

    `wait`: until who holds it is done; else that is an InputError, which says who and until when.
    """
    lease = Lease(out)
    while holder := lease.take():
        if not wait:
            raise BusyError(
                f"{told(out)}: another build is writing there: {holder}, which it puts off while it runs. Fix: wait "
                "for it (should it be dead: until then), or another --out."
            )
        time.sleep(min(SECONDS / 10, 5))
    over = threading.Event()
    renewing = threading.Thread(target=_renew, args=(lease, over), daemon=True)
    renewing.start()
    _held[out] = lease
    try:
        yield
    finally:
        del _held[out]
        over.set()
        renewing.join()
        with suppress(InputError):  # it runs out
            lease.give_back()


def _renew(lease: Lease, over: threading.Event) -> None:
    while not over.wait(SECONDS / 4):
        try:
            lease.renew()
        except OtherVersionError:
            return
        except InputError:
            continue  # the store does not answer: until it has run out, try on


def refuse_lost(out: Path) -> None:
    """Raise InputError where the lease on a prefix, which this process took, may be another's by now."""
    if out in _held and _held[out].lost:
        raise InputError(
            f"{told(out)}: its lease has run out while this build could not renew it, and another build may be writing "
            "there. Fix: run again; what is done is kept."
        )
