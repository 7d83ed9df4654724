"""An S3 server in this process (moto) that counts what it is asked, and fails when it is told to."""

import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steel_data.store.bucket import Bucket

FAULTS = ("500", "503", "reset", "lost", "cut")


@dataclass(frozen=True)
class Asked:
    """A request: LIST, GET, PUT or DELETE, of which key, which bytes, and what was answered."""

    kind: str
    key: str
    span: tuple[int, int] | None
    status: str

    @property
    def bytes(self) -> int:
        return self.span[1] - self.span[0] + 1 if self.span else 0


class Server:
    """`fail(every, kinds)`: every k-th request from now on fails, in turn as one of FAULTS.

    lost: it is done, and its answer never comes. cut: half of the answer's body comes.
    """

    def __init__(self) -> None:
        from moto.server import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Quiet(WSGIRequestHandler):
            def log(self, type: str, message: str, *args: Any) -> None:
                pass

        self._moto = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()
        self.asked: list[Asked] = []
        self.failed: Counter[str] = Counter()
        self._every, self._kinds, self._n = 0, FAULTS, 0
        self.answer: Callable[[str, str], str | None] = lambda kind, key: None  # a status and code instead of an answer
        self._server = make_server("127.0.0.1", 0, self._app, threaded=True, request_handler=Quiet)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def fail(self, every: int, kinds: tuple[str, ...] = FAULTS) -> None:
        self._every, self._kinds, self._n = every, kinds, 0

    def forget(self) -> None:
        self.fail(0)
        self.answer = lambda kind, key: None
        self.asked.clear()
        self.failed.clear()

    def count(self) -> Counter[str]:
        return Counter(asked.kind for asked in self.asked)

    def _app(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        kind, key = _kind(environ), "/".join(environ["PATH_INFO"].split("/")[2:])
        with self._lock:
            self._n += 1
            fault = (
                self._kinds[self._n // self._every % len(self._kinds)]
                if self._every and self._n % self._every == 0
                else ""
            )
            self.failed[fault] += bool(fault)
        status: list[str] = []
        if fault == "reset":
            return self._drop(environ, kind, key)
        instead = {"500": "500 InternalError", "503": "503 SlowDown"}.get(fault) or self.answer(kind, key)
        if instead:
            self._note(environ, kind, key, instead)
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start(instead, [("Content-Type", "application/xml")])
            return [f"<Error><Code>{instead.partition(' ')[2]}</Code></Error>".encode()]

        def begin(line: str, headers: Any, *more: Any) -> Any:
            status.append(line)
            return (lambda _: None) if fault == "lost" else start(line, headers, *more)

        body = b"".join(self._moto(environ, begin))
        self._note(environ, kind, key, status[0])
        if fault == "lost":
            return self._drop(environ, kind, key)
        return self._halved(environ, body) if fault == "cut" and len(body) > 1 else [body]

    def _note(self, environ: dict[str, Any], kind: str, key: str, status: str) -> None:
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", environ.get("HTTP_RANGE", ""))
        with self._lock:
            self.asked.append(Asked(kind, key, (int(match[1]), int(match[2])) if match else None, status[:3]))

    def _drop(self, environ: dict[str, Any], kind: str, key: str) -> list[bytes]:
        _reset(environ)
        raise ConnectionError("dropped")

    def _halved(self, environ: dict[str, Any], body: bytes) -> Iterator[bytes]:
        yield body[: len(body) // 2]
        _reset(environ)
        raise ConnectionError("cut")


def _reset(environ: dict[str, Any]) -> None:
    connection = environ["werkzeug.socket"]
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.shutdown(socket.SHUT_RDWR)


def _kind(environ: dict[str, Any]) -> str:
    method, query = environ["REQUEST_METHOD"], environ["QUERY_STRING"]
    if method == "GET" and "list-type" in query:
        return "LIST"
    return "DELETE" if method == "POST" and "delete" in query else str(method)


@dataclass(frozen=True)
class Lab:
    """A bucket with nothing in it, and its server."""

    server: Server
    bucket: Bucket

    @property
    def root(self) -> Path:
        return Path(f"s3://{self.bucket.name}")

    def upload(self, folder: Path, prefix: str) -> Path:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.bucket.put(f"{prefix}/{path.relative_to(folder).as_posix()}", path)
        return self.root / prefix

    def held(self, prefix: str) -> dict[str, bytes]:
        """Return what stands under a prefix, by name."""
        found = {}
        for key in self.bucket.list(prefix).objects:
            got = self.bucket.get(key)
            assert got is not None
            found[key.removeprefix(f"{prefix}/")] = bytes(got.data)
        return found
