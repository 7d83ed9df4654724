"""Requests to one bucket (extra `s3`): repeated while they may yet come through, counted, and else told in one line.

The client is obstore's. It is told to repeat nothing: here each try is one request, whoever counts them, and a write
that is made under a condition can be looked at again when its answer was lost. Address and keys are those of the
environment (AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID …, roles of a machine), else of ~/.aws/credentials.
"""

import os
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable
from configparser import ConfigParser
from configparser import Error as ConfigError
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache as memo
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from steel_data.errors import InputError, first_line, missing_extra

Answer = TypeVar("Answer")

TRIES, FIRST_TRIES = 10, 3  # of a request; before the address has ever answered it is most likely a wrong one
PAUSE, LONGEST_PAUSE = 0.1, 10.0  # seconds before the second try, twice as many before each further one, at most
PIECE = 32 * 2**20  # bytes asked for at once: a chunk of a file is one request
_LARGE = 8 * 2**20  # bytes from which on a write has time
_PASSING = {408, 409, 425, 429, 500, 502, 503, 504}  # 409: two conditional writes at once
# Elsewhere than in the environment of a process, these say who it is.
_IDENTITY = (
    "AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_SKIP_SIGNATURE",
)  # fmt: skip
_OF_THE_MACHINE = ("//169.254.169.254/", "//169.254.170.2/", "//[fd00:ec2::254]/")  # asked for a machine's role


class OtherVersionError(Exception):
    """An object is of another version than the one that was asked for, or there where none may be."""


@dataclass(frozen=True)
class Seen:
    """What a store says of an object: its size in bytes, and its ETag, which other contents do not have."""

    size: int
    tag: str


@dataclass(frozen=True)
class Got:
    """Bytes of an object (those asked for), and what the store says of the whole."""

    data: memoryview
    seen: Seen


@dataclass(frozen=True)
class Listing:
    """What stands under a prefix: objects by key, and, where only one level was asked for, the prefixes below it."""

    objects: dict[str, Seen]
    prefixes: frozenset[str] = frozenset()


class Bucket:
    """A bucket, by its name. `asked` counts the requests of this process by kind, and those `again`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.asked: Counter[str] = Counter()

    def list(self, prefix: str, deep: bool = True) -> Listing:
        """Return what stands under `prefix/` ('': everything), all of it or one level: a request a thousand objects."""
        import obstore

        def ask(client: Any) -> Listing:
            if deep:
                found = {o["path"]: _seen(o) for some in obstore.list(client, prefix or None) for o in some}
                self.asked["LIST"] += len(found) // 1000
                return Listing(found)
            level = obstore.list_with_delimiter(client, prefix or None)
            return Listing({o["path"]: _seen(o) for o in level["objects"]}, frozenset(level["common_prefixes"]))

        return self._asked("LIST", prefix, ask)

    def get(self, key: str, start: int = 0, end: int | None = None, tag: str = "") -> Got | None:
        """Return an object's bytes from `start` to `end` (as far as there are any), None where there is no object.

        tag: of the version that is meant. Raises OtherVersionError where the object is another.
        """
        import obstore

        options: Any = {"if_match": tag} if tag else {}
        if end is not None:
            options["range"] = (start, end)

        def ask(client: Any) -> Got:
            answer = obstore.get(client, key, options=options)
            return Got(memoryview(answer.bytes()), _seen(answer.meta))

        with suppress(FileNotFoundError):
            return self._asked("GET", key, ask)
        return None

    def put(self, key: str, data: bytes | Path, over: str | None = None) -> str:
        """Write an object whole by one request, and return its ETag.

        over: the tag of the version that it may replace, '' for none; None: whatever is there. Raises OtherVersionError
        where that does not hold. (A try whose answer was lost may have written what the next one finds there.)
        """
        import obstore

        mode: Any = "overwrite" if over is None else {"e_tag": over} if over else "create"
        large = isinstance(data, Path) and data.stat().st_size > _LARGE

        def ask(client: Any) -> str:
            return str(obstore.put(client, key, data, mode=mode, use_multipart=False)["e_tag"])

        return self._asked("PUT", key, ask, large)

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; what is not there is no error."""
        import obstore

        some = sorted(keys)
        for at in range(0, len(some), 1000):
            part = some[at : at + 1000]
            self._asked("DELETE", part[0], partial(obstore.delete, paths=part))

    def _asked(self, kind: str, key: str, ask: Callable[[Any], Answer], large: bool = False) -> Answer:
        """Return what a request answers, tried again while what hinders it may pass.

        Raises FileNotFoundError for an object that is not there, OtherVersionError, and InputError for all else.
        """
        client = _client(self.name, _environment(), large)
        from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

        where = f"s3://{self.name}/{key}".rstrip("/")
        for n in count(1):
            self.asked[kind] += 1
            try:
                answer = ask(client)
            except (FileNotFoundError, BaseError, ValueError) as error:
                fault = _Fault.of(error)
                if fault.status:
                    _answering.add(_address())
                if fault.code == "NoSuchBucket":
                    raise InputError(f"s3://{self.name}: no such bucket at {_address()}. Fix: one that is.") from None
                if isinstance(error, FileNotFoundError):
                    raise
                if isinstance(error, AlreadyExistsError | PreconditionError):
                    raise OtherVersionError(where) from None
                if not fault.passes or n >= (TRIES if _address() in _answering else FIRST_TRIES):
                    raise fault.told(kind, where, n) from None
                self.asked["again"] += 1
                time.sleep(min(PAUSE * 2 ** (n - 1), LONGEST_PAUSE) * random.uniform(0.5, 1.0))
            else:
                _answering.add(_address())
                return answer
        raise AssertionError("the loop ends by return or raise")


@memo
def bucket(name: str) -> Bucket:
    """Return the bucket of a name, one for this process."""
    return Bucket(name)


def _seen(meta: Any) -> Seen:
    return Seen(int(meta["size"]), str(meta["e_tag"] or ""))


@dataclass(frozen=True)
class _Fault:
    """What a client's exception says: the status of an answer (0: there was none), the store's word for it, a line."""

    status: int
    code: str
    line: str

    @classmethod
    def of(cls, error: Exception) -> "_Fault":
        text = str(error)
        status = re.search(r"status code: (\d{3})", text)
        code = re.search(r"<Code>(\w+)</Code>", text)
        if any(place in text for place in (*_OF_THE_MACHINE, os.environ.get("AWS_METADATA_ENDPOINT", "\0"))):
            return cls(401, "NoCredentials", "")
        if "redirect without LOCATION" in text:
            return cls(301, "PermanentRedirect", "")
        ours = isinstance(error, ValueError) or not (status or "HTTP error" in text or "rror decoding" in text)
        line = re.sub(r"^.*?(?=HTTP error|Server returned)", "", first_line(error, 1000).partition(": <?xml")[0])
        return cls(int(status[1]) if status else -1 if ours else 0, code[1] if code else "", line[:160])

    @property
    def passes(self) -> bool:
        """Whether the same request may come through a moment later."""
        return self.status == 0 or self.status in _PASSING or self.code in ("RequestTimeout", "SlowDown")

    def told(self, kind: str, where: str, tries: int) -> InputError:
        """Return the error for a request that came to nothing."""
        if self.code == "NoCredentials":
            return InputError(
                f"{where}: no credentials are set, and this machine has no role. Fix: AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or a profile in ~/.aws/credentials (AWS_PROFILE)."
            )
        said = " ".join(part for part in (str(self.status) if self.status > 0 else "", self.code) if part) or self.line
        if self.status in (401, 403):
            right = {"GET": "s3:GetObject", "PUT": "s3:PutObject", "DELETE": "s3:DeleteObject", "LIST": "s3:ListBucket"}
            return InputError(
                f"{where}: {kind} is refused ({said}). Fix: keys (AWS_ACCESS_KEY_ID …) that are right and may "
                f"{right[kind]} there."
            )
        if self.status in (301, 307, 308):
            return InputError(f"{where}: the bucket is in another region ({said}). Fix: AWS_REGION.")
        if self.passes:
            times = f"{tries} times over" if tries > 1 else "once"
            state = f"answered {said}" if self.status else f"did not answer ({said})"
            return InputError(
                f"{where}: {_address()} {state}, {times}. Fix: AWS_ENDPOINT_URL, or try again later; what is done is "
                "kept."
            )
        return InputError(f"{where}: {kind} failed: {said}. Fix: what {_address()} says to it.")


_answering: set[str] = set()  # addresses that have answered this process


def _address() -> str:
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "Amazon S3"


def _environment() -> tuple[str, ...]:
    """Return what of the environment decides on a client: a process that changes it gets another one."""
    return tuple(f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("AWS_"))


@memo
def _client(name: str, environment: tuple[str, ...], large: bool) -> Any:
    """Return obstore's client. Raises InputError where the extra is missing, and for settings that make none."""
    refuse_without_client(f"s3://{name}")
    from obstore.store import S3Store

    # a read is given up when nothing comes for a while; a write sends all before anything comes
    patience = {"timeout": "30m"} if large else {"timeout": "5m", "read_timeout": "20s"}
    options: Any = {"allow_http": _address().startswith("http://"), "connect_timeout": "5s", **patience}
    try:
        return S3Store(
            name,
            client_options=options,
            retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=1)},
            **_profile(),
        )
    except Exception as error:
        raise InputError(f"s3://{name}: {first_line(error)}. Fix: the variables AWS_….") from None


def refuse_without_client(where: str) -> None:
    """Raise InputError where the extra `s3` is missing."""
    try:
        import obstore  # noqa: F401
    except ImportError as error:
        why = missing_extra(error) or f"its client cannot be imported: {first_line(error)}. Fix: its package obstore."
        raise InputError(f"{where}: {why}") from None


def _profile() -> dict[str, Any]:
    """Return keys and region of the profile that AWS_PROFILE names, where the environment does not say who we are."""
    found: dict[str, Any] = {}
    profile = os.environ.get("AWS_PROFILE") or "default"
    for variable, file, section, names in (
        ("AWS_SHARED_CREDENTIALS_FILE", "credentials", profile, _OF_CREDENTIALS),
        ("AWS_CONFIG_FILE", "config", profile if profile == "default" else f"profile {profile}", {"region": "region"}),
    ):
        if file == "credentials" and any(os.environ.get(name) for name in _IDENTITY):
            continue
        if file == "config" and (os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")):
            continue
        parser = ConfigParser(interpolation=None)
        with suppress(ConfigError, OSError, UnicodeDecodeError, RuntimeError):  # RuntimeError: no home
            parser.read(os.environ.get(variable) or Path.home() / ".aws" / file, encoding="utf-8")
            found |= {
                ours: parser[section][theirs] for theirs, ours in names.items() if parser.has_option(section, theirs)
            }
    return found


_OF_CREDENTIALS = {
    "aws_access_key_id": "access_key_id", "aws_secret_access_key": "secret_access_key",
    "aws_session_token": "session_token",
}  # fmt: skip
